//! SQL with named parameters, written once for all databases.

use std::borrow::Cow;

use crate::{
    clock::Millis,
    protocol::Mark,
    record::{Record, Version, version_prefix},
};

/// A parameter of a statement: `:name` in its template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Param {
    Id,
    Now,
    Expect,
    Prefix,
    Whole,
    State,
    Revision,
    Principal,
    Created,
    Authenticated,
    Ttl,
    AbsoluteEnd,
    Expires,
    Target,
    Flag,
    MovedAt,
    MarkEnd,
    IdleEnd,
    Absolute,
    Batch,
}

const PARAMS: [(&str, Param); 20] = [
    ("id", Param::Id),
    ("now", Param::Now),
    ("expect", Param::Expect),
    ("prefix", Param::Prefix),
    ("whole", Param::Whole),
    ("state", Param::State),
    ("revision", Param::Revision),
    ("principal", Param::Principal),
    ("created", Param::Created),
    ("authenticated", Param::Authenticated),
    ("ttl", Param::Ttl),
    ("absolute_end", Param::AbsoluteEnd),
    ("expires", Param::Expires),
    ("target", Param::Target),
    ("flag", Param::Flag),
    ("moved_at", Param::MovedAt),
    ("mark_end", Param::MarkEnd),
    ("idle_end", Param::IdleEnd),
    ("absolute", Param::Absolute),
    ("batch", Param::Batch),
];

/// What is bound to a parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Text(Option<&'a str>),
    Int(Option<i64>),
    Bytes(Option<&'a [u8]>),
}

/// How a database writes a parameter, given its number from 1 on.
pub(crate) type Placeholder = fn(Param, usize) -> String;

/// A statement as its database takes it, and what is bound in which order.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) params: Vec<Param>,
}

impl Statement {
    pub(crate) fn new(template: &str, placeholder: Placeholder) -> Self {
        let mut sql = String::with_capacity(template.len());
        let mut params = Vec::new();
        let mut parts = template.split(':');
        sql.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let length = part
                .find(|c: char| !c.is_ascii_lowercase() && c != '_')
                .unwrap_or(part.len());
            let (name, rest) = part.split_at(length);
            let param = PARAMS
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, param)| *param)
                .expect("the templates are constants, and each is made in a test");
            params.push(param);
            sql.push_str(&placeholder(param, params.len()));
            sql.push_str(rest);
        }
        Self { sql, params }
    }
}

/// The values of one call. Those that its statements do not name stay as they are.
#[derive(Debug, Default)]
pub(crate) struct Values<'a> {
    pub(crate) id: &'a str,
    pub(crate) now: i64,
    pub(crate) expect: Option<i64>,
    pub(crate) prefix: Option<&'a [u8]>,
    pub(crate) whole: Option<&'a [u8]>,
    pub(crate) row: NewRow<'a>,
    pub(crate) expires: Option<i64>,
    pub(crate) mark: MarkColumns<'a>,
    pub(crate) idle_end: i64,
    pub(crate) absolute: Option<i64>,
    pub(crate) batch: i64,
}

/// The columns that a record fills.
#[derive(Debug, Default)]
pub(crate) struct NewRow<'a> {
    state: Option<&'a [u8]>,
    revision: Option<i64>,
    principal: Option<Cow<'a, str>>,
    created: i64,
    authenticated: Option<i64>,
    ttl: Option<i64>,
    absolute_end: Option<i64>,
}

/// The columns that a mark fills.
#[derive(Debug, Default)]
pub(crate) struct MarkColumns<'a> {
    pub(crate) target: Option<&'a str>,
    flag: Option<String>,
    moved_at: Option<i64>,
    pub(crate) end: i64,
}

impl Values<'_> {
    pub(crate) fn of(&self, param: Param) -> Value<'_> {
        let row = &self.row;
        match param {
            Param::Id => Value::Text(Some(self.id)),
            Param::Now => Value::Int(Some(self.now)),
            Param::Expect => Value::Int(self.expect),
            Param::Prefix => Value::Bytes(self.prefix),
            Param::Whole => Value::Bytes(self.whole),
            Param::State => Value::Bytes(row.state),
            Param::Revision => Value::Int(row.revision),
            Param::Principal => Value::Text(row.principal.as_deref()),
            Param::Created => Value::Int(Some(row.created)),
            Param::Authenticated => Value::Int(row.authenticated),
            Param::Ttl => Value::Int(row.ttl),
            Param::AbsoluteEnd => Value::Int(row.absolute_end),
            Param::Expires => Value::Int(self.expires),
            Param::Target => Value::Text(self.mark.target),
            Param::Flag => Value::Text(self.mark.flag.as_deref()),
            Param::MovedAt => Value::Int(self.mark.moved_at),
            Param::MarkEnd => Value::Int(Some(self.mark.end)),
            Param::IdleEnd => Value::Int(Some(self.idle_end)),
            Param::Absolute => Value::Int(self.absolute),
            Param::Batch => Value::Int(Some(self.batch)),
        }
    }
}

impl Param {
    /// What databases that want to know are told.
    pub(crate) fn kind(self) -> Value<'static> {
        match self {
            Self::Id | Self::Principal | Self::Target | Self::Flag => Value::Text(None),
            Self::Prefix | Self::Whole | Self::State => Value::Bytes(None),
            _ => Value::Int(None),
        }
    }
}

impl<'a> NewRow<'a> {
    pub(crate) fn of(record: &'a Record, now: Millis) -> Self {
        let facts = record.facts();
        let auth = facts.and_then(|facts| facts.auth.as_ref());
        Self {
            state: record.as_text().map(str::as_bytes),
            revision: revision(&record.version()),
            principal: record.principal().map(principal_column),
            created: number(facts.map_or(now, |facts| facts.created)),
            authenticated: auth.map(|auth| number(auth.at)),
            ttl: facts.and_then(|facts| facts.ttl).map(number),
            absolute_end: record.absolute_end().map(number),
        }
    }
}

impl<'a> MarkColumns<'a> {
    pub(crate) fn of(mark: &'a Mark, end: Millis) -> Self {
        Self {
            target: Some(&mark.target),
            flag: mark.encode().get(..1).map(str::to_owned),
            moved_at: Some(number(mark.made_at)),
            end: number(end),
        }
    }
}

/// Milliseconds as a column holds them: far from overflow, so that databases may add.
pub(crate) fn number(time: Millis) -> i64 {
    const FAR: i64 = 1 << 61;
    time.0.clamp(-FAR, FAR)
}

/// The commit id that a version names; none where the whole text is what counts.
pub(crate) fn revision(version: &Version) -> Option<i64> {
    let Version::Prefix(prefix) = version else {
        return None;
    };
    let empty = version_prefix(0);
    let start = empty.find('0').unwrap_or_default();
    let commit = u64::from_str_radix(prefix.get(start..start + 16)?, 16).ok()?;
    (version_prefix(commit) == *prefix).then_some(commit.cast_signed())
}

/// A principal as its column holds it. What no index of every database takes is shown as a digest.
pub(crate) fn principal_column(principal: &str) -> Cow<'_, str> {
    if principal.len() <= 255 && !principal.contains('\0') {
        return Cow::Borrowed(principal);
    }
    Cow::Owned(format!("sha256:{}", digest(principal)))
}

/// SHA-256 in 43 characters of URL-safe base64.
pub(crate) fn digest(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_and_bound_in_their_order() {
        let statement = Statement::new(
            "UPDATE t SET state = :state WHERE id = :id AND expires > :now",
            |_, number| format!("${number}"),
        );
        assert_eq!(
            statement.sql,
            "UPDATE t SET state = $1 WHERE id = $2 AND expires > $3"
        );
        assert_eq!(statement.params, [Param::State, Param::Id, Param::Now]);
    }

    #[test]
    fn a_revision_is_the_commit_id_and_nothing_else() {
        for commit in [1, 0xabcd, u64::MAX] {
            let version = Version::Prefix(version_prefix(commit));
            assert_eq!(revision(&version), Some(commit.cast_signed()));
        }
        for text in [
            "",
            "{\"v\":1,\"f\":\"zz",
            "{\"v\":2,\"f\":\"0000000000000001.",
        ] {
            assert_eq!(revision(&Version::Prefix(text.into())), None, "{text}");
        }
        let whole = Version::Whole(version_prefix(1));
        assert_eq!(revision(&whole), None);
    }

    #[test]
    fn a_principal_that_no_index_takes_is_a_digest() {
        assert_eq!(principal_column("alice"), "alice");
        for principal in ["x".repeat(256), "a\0b".to_owned()] {
            assert!(principal_column(&principal).starts_with("sha256:"));
        }
        assert_ne!(principal_column("a\0b"), principal_column("a\0c"));
    }
}
