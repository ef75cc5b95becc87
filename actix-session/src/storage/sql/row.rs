//! A record and a redirect as columns: how they are written, and how they are read.

use std::borrow::Cow;

use crate::{
    clock::Millis,
    digest,
    protocol::{Redirect, Stored},
    record::{Record, Version, version_prefix},
    storage::index::Listed,
};

/// The columns that a record fills.
#[derive(Debug, Default)]
pub(crate) struct RecordColumns<'a> {
    pub(crate) state: Option<&'a [u8]>,
    pub(crate) revision: Option<i64>,
    pub(crate) epoch: Option<i64>,
    pub(crate) session_id: Option<[u8; 16]>,
    pub(crate) principal: Option<Cow<'a, str>>,
    /// The name of the principal's mark, if they were erased: what makes a record asks for it.
    pub(crate) erased: Option<String>,
    pub(crate) created: i64,
    pub(crate) logged_in: Option<i64>,
    pub(crate) authenticated: Option<i64>,
    pub(crate) ttl: Option<i64>,
    pub(crate) absolute_end: Option<i64>,
}

/// The columns that a redirect fills.
#[derive(Debug, Default)]
pub(crate) struct RedirectColumns<'a> {
    pub(crate) target: Option<&'a str>,
    pub(crate) flag: Option<String>,
    pub(crate) moved_at: Option<i64>,
    pub(crate) end: i64,
}

impl<'a> RecordColumns<'a> {
    /// Without a key to prove it, what a record claims counts, as in every index.
    pub(crate) fn of(record: &'a Record, now: Millis) -> Self {
        let metadata = record.times();
        let auth = metadata.and_then(|metadata| metadata.auth.as_deref());
        Self {
            state: record.as_text().map(str::as_bytes),
            revision: revision(&record.version()),
            epoch: Some(record.epoch().cast_signed()).filter(|epoch| *epoch != 0),
            session_id: metadata.map(|metadata| metadata.id.to_be_bytes()),
            principal: auth.map(|auth| principal_column(&auth.principal)),
            erased: None,
            created: number(metadata.map_or(now, |metadata| metadata.created)),
            logged_in: auth.map(|auth| number(auth.login())),
            authenticated: auth.map(|auth| number(auth.at)),
            ttl: metadata.and_then(|metadata| metadata.ttl).map(number),
            absolute_end: record.absolute_end().map(number),
        }
    }
}

impl<'a> RedirectColumns<'a> {
    /// A tombstone: a redirect to no name.
    pub(crate) fn of_tombstone(end: Millis) -> Self {
        Self {
            target: Some(""),
            end: number(end),
            ..Self::default()
        }
    }

    pub(crate) fn of(redirect: &'a Redirect, end: Millis) -> Self {
        Self {
            target: Some(redirect.target.as_str()),
            flag: redirect.encode().get(..1).map(str::to_owned),
            moved_at: Some(number(redirect.made_at)),
            end: number(end),
        }
    }
}

/// Milliseconds as a column holds them: far from overflow, so that databases can add.
pub(crate) fn number(time: Millis) -> i64 {
    const MAX_MILLIS: i64 = 1 << 61;
    time.0.clamp(-MAX_MILLIS, MAX_MILLIS)
}

/// The commit id that a version names; `None` if the version is the whole text.
pub(crate) fn revision(version: &Version) -> Option<i64> {
    let Version::Prefix(prefix) = version else {
        return None;
    };
    let empty = version_prefix(0);
    let start = empty.find('0').unwrap_or_default();
    let commit = u64::from_str_radix(prefix.get(start..start + 16)?, 16).ok()?;
    (version_prefix(commit) == *prefix).then_some(commit.cast_signed())
}

/// What a digest in the column of principals begins with, and how many characters follow.
const DIGEST: (&str, usize) = ("sha256:", 43);

/// A principal, or its digest if some database's index could not hold it, or if it looks like the
/// digest of another one.
pub(crate) fn principal_column(principal: &str) -> Cow<'_, str> {
    if principal.len() <= 255 && !principal.contains('\0') && !is_digest(principal) {
        return Cow::Borrowed(principal);
    }
    Cow::Owned([DIGEST.0, &digest::base64(principal)].concat())
}

fn is_digest(column: &str) -> bool {
    let is_of_digests = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    column
        .strip_prefix(DIGEST.0)
        .is_some_and(|it| it.len() == DIGEST.1 && it.bytes().all(is_of_digests))
}

/// What a query found: a row, or something that cannot be one.
#[derive(Debug)]
pub(crate) enum Found {
    Row(Row),
    /// A column has a value of the wrong type.
    Garbage,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) expires: i64,
    pub(crate) moved_to: Option<String>,
    pub(crate) moved_flag: Option<String>,
    pub(crate) moved_at: Option<i64>,
    pub(crate) epoch: Option<i64>,
}

/// A row of a principal's session.
#[derive(Debug)]
pub(crate) struct ListedRow {
    pub(crate) at: String,
    pub(crate) session_id: Vec<u8>,
    pub(crate) login: i64,
    pub(crate) found: Found,
}

impl ListedRow {
    /// `None` if the id is damaged.
    pub(crate) fn listed(self) -> Option<Listed> {
        let id = u128::from_be_bytes(self.session_id.try_into().ok()?);
        Some(Listed {
            id,
            login: Millis(self.login),
            at: self.at.into(),
            reserved: false,
            found: stored(Some(self.found)),
        })
    }
}

/// What the row of a name means.
pub(crate) fn stored(found: Option<Found>) -> Stored {
    match found {
        None => Stored::Nothing,
        Some(Found::Garbage) => Stored::Unreadable,
        Some(Found::Row(row)) if row.moved_to.is_some() => stored_redirect(&row),
        Some(Found::Row(row)) => stored_record(row),
    }
}

#[cfg(fuzzing)]
pub(crate) fn slot_of(row: Row) -> Stored {
    stored(Some(Found::Row(row)))
}

/// A redirect that cannot be read leads nowhere, nor does a tombstone.
fn stored_redirect(row: &Row) -> Stored {
    let text = row.moved_to.as_ref().and_then(|target| {
        let (flag, moved_at) = (row.moved_flag.as_ref()?, row.moved_at?);
        Some(format!("{flag}|{moved_at}|{target}"))
    });
    // A flag that contained a separator would change the target.
    let redirect = text.and_then(|text| Redirect::decode(&text));
    let redirect =
        redirect.filter(|redirect| Some(redirect.target.as_str()) == row.moved_to.as_deref());
    redirect.map_or(Stored::Nothing, Stored::Redirect)
}

fn stored_record(row: Row) -> Stored {
    let text = row.state.and_then(|bytes| String::from_utf8(bytes).ok());
    let record = text.and_then(|text| Record::decode(text).ok());
    record.map_or(Stored::Unreadable, |record| {
        let epoch = row.epoch.map(i64::cast_unsigned);
        Stored::Record(
            record
                .with_epoch_beside(epoch)
                .with_end(Some(Millis(row.expires))),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // A name that looks like the column of another one is not that one.
        for principal in ["x".repeat(256), "erased\0YQ".to_owned()] {
            let column = principal_column(&principal).into_owned();
            assert_ne!(principal_column(&column), column);
        }
        // Rows that are there keep their names.
        for name in [
            "sha256:",
            "sha256:abc",
            &format!("sha256:{}", "=".repeat(43)),
        ] {
            assert_eq!(principal_column(name), name);
        }
    }
}
