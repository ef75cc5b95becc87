//! Whose session a record is.

use super::{Metadata, Record};
use crate::clock::Millis;

/// What an index knows of a record that belongs to somebody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) principal: String,
    /// The session's id, whatever its key.
    pub(crate) id: u128,
    /// When `login` was called.
    pub(crate) login: Millis,
}

impl Owner {
    /// `None` if the record is nobody's.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        Self::of_metadata(record.times()?)
    }

    /// `None` if they are nobody's.
    pub(crate) fn of_metadata(metadata: &Metadata) -> Option<Self> {
        let auth = metadata.auth.as_deref()?;
        Some(Self {
            principal: auth.principal.clone(),
            id: metadata.id,
            login: auth.login(),
        })
    }

    /// Whether it is this session of this principal. Without a key to prove it, what a record claims
    /// counts, as in the index.
    pub(crate) fn is(&self, principal: &str, id: u128) -> bool {
        self.id == id && self.principal == principal
    }
}
