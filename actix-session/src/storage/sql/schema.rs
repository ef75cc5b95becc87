//! The table, and the statements on it.

use super::{
    database::Database,
    statement::{Statement, digest},
};
use crate::record::version_prefix;

/// Where sessions are kept: a table, perhaps in a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    schema: Option<String>,
    table: String,
}

/// A table that other servers of this kind use unless told otherwise.
pub(crate) const TABLE: &str = "actix_sessions";

/// Leaves room for the endings of index names under PostgreSQL's limit of 63.
const LONGEST: usize = 48;

impl Place {
    /// Names are letters, digits and underscores, so that no quoting can go wrong.
    pub(crate) fn new(schema: Option<String>, table: String) -> anyhow::Result<Self> {
        for name in schema.iter().chain([&table]) {
            check(name)?;
        }
        Ok(Self { schema, table })
    }

    pub(crate) fn quoted(&self, quote: char) -> String {
        match &self.schema {
            Some(schema) => format!("{quote}{schema}{quote}.{quote}{}{quote}", self.table),
            None => format!("{quote}{}{quote}", self.table),
        }
    }

    pub(crate) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The number of an advisory lock on this table.
    pub(crate) fn lock(&self, purpose: &str) -> i64 {
        let name = self.lock_name(purpose);
        let bytes = name.as_bytes().iter().rev().take(10);
        bytes.fold(7, |sum: i64, byte| {
            sum.wrapping_mul(67).wrapping_add(i64::from(*byte))
        })
    }

    /// The name of an advisory lock on this table.
    pub(crate) fn lock_name(&self, purpose: &str) -> String {
        let place = self.quoted('"');
        format!("actix-session {}", digest(&format!("{purpose} {place}")))
    }

    /// Fills `{table}`, `{index:...}` and `{schema}` in the SQL of a database.
    pub(crate) fn fill(&self, template: &str, quote: char) -> String {
        let index = |name: &str| format!("{quote}{}_{name}{quote}", self.table);
        // SQLite names the schema with the index, not with the table.
        let prefix = self
            .schema
            .as_ref()
            .map_or_else(String::new, |schema| format!("{quote}{schema}{quote}."));
        template
            .replace("{table}", &self.quoted(quote))
            .replace("{bare}", &format!("{quote}{}{quote}", self.table))
            .replace("{schema.}", &prefix)
            .replace("{by_expires}", &index("by_expires"))
            .replace("{by_principal}", &index("by_principal"))
    }
}

impl Default for Place {
    fn default() -> Self {
        Self {
            schema: None,
            table: TABLE.to_owned(),
        }
    }
}

fn check(name: &str) -> anyhow::Result<()> {
    let is_usual = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts_well = !name.starts_with(|c: char| c.is_ascii_digit());
    if name.is_empty() || name.len() > LONGEST || !starts_well || !name.chars().all(is_usual) {
        anyhow::bail!(
            "{name:?} cannot name a session table or schema: use up to {LONGEST} ASCII letters, \
             digits and underscores, not a digit first"
        );
    }
    Ok(())
}

/// Every statement of a store, as its database takes it.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) probe: Statement,
    pub(crate) read: Statement,
    pub(crate) touch: Statement,
    pub(crate) set_end: Statement,
    pub(crate) replace: Statement,
    pub(crate) replace_whole: Statement,
    pub(crate) insert: Statement,
    pub(crate) move_away: Statement,
    pub(crate) move_away_whole: Statement,
    /// Moves and inserts at once, where the database can.
    pub(crate) rotate: Option<(Statement, Statement)>,
    pub(crate) end: Statement,
    pub(crate) sweep: Statement,
}

const FOREVER: i64 = i64::MAX;

const COLUMNS: &str = "state, expires, moved_to, moved_flag, moved_at, revision";

const LIVE: &str = "id = :id AND expires > :now";

const WRITE: &str = "state = :state, revision = :revision, principal = :principal, \
    created = :created, authenticated = :authenticated, ttl = :ttl, absolute_end = :absolute_end";

const NEW_COLUMNS: &str =
    "id, state, revision, principal, created, authenticated, ttl, absolute_end, expires";

const MARK: &str = "state = NULL, revision = NULL, principal = NULL, ttl = NULL, \
    authenticated = NULL, absolute_end = NULL, moved_to = :target, moved_flag = :flag, \
    moved_at = :moved_at, expires = :mark_end";

const NEW_VALUES: &str = ":target, :state, :revision, :principal, :created, :authenticated, :ttl, \
    :absolute_end, :expires";

impl Statements {
    pub(crate) fn new<D: Database>(place: &Place) -> Self {
        let quote = D::QUOTE;
        let make = |template: &str| Statement::new(&place.fill(template, quote), D::placeholder);
        let least = D::LEAST;
        // The session's own TTL and absolute end win over the policy's.
        let end = format!(
            "{least}(COALESCE(:now + ttl, :idle_end), COALESCE(absolute_end, \
             COALESCE(authenticated, created) + :absolute, {FOREVER}))"
        );
        let live = format!("{LIVE} AND moved_to IS NULL");
        let returning = if D::RETURNS {
            format!(" RETURNING {COLUMNS}")
        } else {
            String::new()
        };
        let replace = |compare: &str| {
            make(&format!(
                "UPDATE {{table}} SET {WRITE}, expires = COALESCE(:expires, expires) \
                 WHERE {live} AND {compare}"
            ))
        };
        let away =
            |compare: &str| format!("UPDATE {{table}} SET {MARK} WHERE {live} AND {compare}");
        let rotate = |compare: &str| {
            make(&format!(
                "WITH moved AS ({} RETURNING 1) INSERT INTO {{table}} ({NEW_COLUMNS}) \
                 SELECT {NEW_VALUES} FROM moved",
                away(compare)
            ))
        };
        // The prefix as well: a text that somebody wrote by hand kept the revision.
        let by_revision = format!(
            "revision = :expect AND substr(state, 1, {}) = :prefix",
            version_prefix(0).len()
        );
        let (by_revision, by_text) = (by_revision.as_str(), "state = :whole");
        Self {
            probe: make(&format!(
                "SELECT {NEW_COLUMNS}, {COLUMNS} FROM {{table}} WHERE id = ''"
            )),
            read: make(&format!("SELECT {COLUMNS} FROM {{table}} WHERE {LIVE}")),
            touch: make(&format!(
                "UPDATE {{table}} SET expires = {end} WHERE {live}{returning}"
            )),
            set_end: make(&format!(
                "UPDATE {{table}} SET expires = {least}(:idle_end, COALESCE(absolute_end, \
                 {FOREVER})) WHERE {live}"
            )),
            replace: replace(by_revision),
            replace_whole: replace(by_text),
            insert: make(&format!(
                "INSERT INTO {{table}} ({NEW_COLUMNS}) VALUES ({NEW_VALUES})"
            )),
            move_away: make(&away(by_revision)),
            move_away_whole: make(&away(by_text)),
            rotate: D::ROTATES_AT_ONCE.then(|| (rotate(by_revision), rotate(by_text))),
            end: make("DELETE FROM {table} WHERE id = :id AND moved_to IS NULL"),
            sweep: make(D::SWEEP),
        }
    }
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
            assert!(Place::new(None, name.into()).is_err(), "{name}");
            assert!(Place::new(Some(name.into()), "t".into()).is_err(), "{name}");
        }
        let place = Place::new(Some("web".into()), "Sessions_2".into()).unwrap();
        assert_eq!(place.quoted('"'), r#""web"."Sessions_2""#);
    }

    #[test]
    fn locks_differ_by_purpose_and_table() {
        let (one, two) = (Place::default(), Place::new(None, "other".into()).unwrap());
        assert_ne!(one.lock("sweep"), one.lock("migrate"));
        assert_ne!(one.lock("sweep"), two.lock("sweep"));
        // MySQL's names have up to 64 characters.
        assert!(one.lock_name("migrate").len() <= 64);
    }
}
