//! The session table: its name, quoted and put into SQL.

use crate::digest;

/// The table that sessions are kept in, perhaps in a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    schema: Option<String>,
    name: String,
}

/// The table's name unless the builder sets another.
pub(crate) const DEFAULT_NAME: &str = "actix_sessions";

/// Leaves room for suffixes under PostgreSQL's limit of 63.
const MAX_NAME_LENGTH: usize = 48;

impl Table {
    /// Allows only letters, digits and underscores in names, so that no quoting can go wrong.
    pub(crate) fn new(schema: Option<String>, name: String) -> anyhow::Result<Self> {
        for name in schema.iter().chain([&name]) {
            check(name)?;
        }
        Ok(Self { schema, name })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// Fills the placeholders in the SQL of a database, such as `{table}` and `{by_expires}`.
    pub(crate) fn fill(&self, template: &str, quote: char) -> String {
        let quoted = |name: &str| format!("{quote}{name}{quote}");
        let index = |suffix: &str| quoted(&format!("{}_{suffix}", self.name));
        // SQLite takes the schema before the index's name, not before the table's.
        let schema = self.schema.as_deref().map(quoted);
        let prefix = schema.map_or_else(String::new, |schema| format!("{schema}."));
        template
            .replace("{table}", &self.quoted(quote, ""))
            .replace("{not_before}", &self.quoted(quote, "_not_before"))
            .replace("{bare}", &quoted(&self.name))
            .replace("{name}", &self.name)
            .replace("{channel}", &self.channel())
            .replace("{schema.}", &prefix)
            .replace("{bare_not_before}", &index("not_before"))
            .replace("{marks_by_end}", &index("marks_by_end"))
            .replace("{by_expires}", &index("by_expires"))
            .replace("{by_principal}", &index("by_principal"))
    }

    /// The channel on which ends of its sessions are told.
    pub(crate) fn channel(&self) -> String {
        let schema = self.schema.as_deref().unwrap_or_default();
        let digest = digest::hex(&format!("actix-session ends\0{schema}\0{}", self.name));
        format!("actix_session_{}", &digest[..32])
    }

    fn quoted(&self, quote: char, suffix: &str) -> String {
        let name = format!("{quote}{}{suffix}{quote}", self.name);
        match &self.schema {
            Some(schema) => format!("{quote}{schema}{quote}.{name}"),
            None => name,
        }
    }

    /// The number of an advisory lock on this table.
    pub(crate) fn lock_number(&self, purpose: &str) -> i64 {
        let table = self.quoted('"', "");
        let name = digest::base64(&format!("{purpose} {table}"));
        let bytes = name.as_bytes().iter().rev().take(10);
        bytes.fold(7, |sum: i64, byte| {
            sum.wrapping_mul(67).wrapping_add(i64::from(*byte))
        })
    }
}

impl Default for Table {
    fn default() -> Self {
        Self {
            schema: None,
            name: DEFAULT_NAME.to_owned(),
        }
    }
}

fn check(name: &str) -> anyhow::Result<()> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts_well = !name.starts_with(|c: char| c.is_ascii_digit());
    if name.is_empty()
        || name.len() > MAX_NAME_LENGTH
        || !starts_well
        || !name.chars().all(is_allowed)
    {
        anyhow::bail!(
            "{name:?} is not a valid name for a session table or schema: it must have 1 to \
             {MAX_NAME_LENGTH} ASCII letters, digits and underscores, and must not begin with a \
             digit"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_break_out_are_refused() {
        for name in [
            "",
            "a b",
            "a\"",
            "a;b",
            "a`",
            "1a",
            "ä",
            "a.b",
            &"a".repeat(49),
        ] {
            assert!(Table::new(None, name.into()).is_err(), "{name}");
            assert!(Table::new(Some(name.into()), "t".into()).is_err(), "{name}");
        }
        let table = Table::new(Some("web".into()), "Sessions_2".into()).unwrap();
        assert_eq!(table.quoted('"', ""), r#""web"."Sessions_2""#);
    }

    #[test]
    fn locks_differ_by_purpose_and_table() {
        let (one, two) = (Table::default(), Table::new(None, "other".into()).unwrap());
        assert_ne!(one.lock_number("sweep"), one.lock_number("migrate"));
        assert_ne!(one.lock_number("sweep"), two.lock_number("sweep"));
    }
}
