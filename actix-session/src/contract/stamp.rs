//! What a write brings along.

use std::sync::Arc;

use super::Terms;
use crate::{
    clock::Millis,
    record::{MetadataKeys, Place, WireFormat},
};

/// What a new record takes from neither the stored record nor the changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp<'a> {
    pub(crate) commit: u64,
    /// For a record that has no id yet.
    pub(crate) fresh_id: u128,
    pub(crate) now: Millis,
    /// The policy's cap on a session's whole life.
    pub(crate) absolute: Option<Millis>,
    pub(crate) format: WireFormat,
    /// How many octets the record may have, unless it had as many before.
    pub(crate) max_state: usize,
    /// The policy's idle TTL, if the record itself must say when it ends.
    pub(crate) idle_ttl: Option<Millis>,
    /// The session gets another id, which tells it from the older values of its cookie.
    pub(crate) new_id: bool,
    /// What becomes of the idle end that the record has.
    pub(crate) idle: IdleEnd,
    pub(crate) keys: Option<&'a Arc<MetadataKeys>>,
    /// Where the metadata will lie.
    pub(crate) place: Place<'a>,
    /// The older format keeps the epoch too.
    pub(crate) keeps_epoch: bool,
    /// What the record knows of itself stays even if it says no more than the defaults.
    pub(crate) keeps_entry: bool,
    /// The entry that names the principal.
    pub(crate) principal_entry: Option<&'a str>,
    /// The step that writes the record tells the list of its owner's sessions of it.
    pub(crate) lists: bool,
}

/// What a write makes of the idle end that the record itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdleEnd {
    Anew,
    Kept,
    /// The new one counts only if it comes first.
    NoLater,
}

impl Terms {
    pub(crate) fn stamp(&self, commit: u64, fresh_id: u128) -> Stamp<'_> {
        Stamp {
            commit,
            fresh_id,
            now: self.now,
            absolute: self.absolute,
            format: self.format,
            max_state: self.max_state,
            idle_ttl: None,
            new_id: false,
            idle: IdleEnd::Anew,
            keys: self.keys.as_ref(),
            place: Place::Unnamed,
            keeps_epoch: self.format != WireFormat::V0_11,
            keeps_entry: false,
            principal_entry: self.principal_entry.as_deref(),
            lists: false,
        }
    }
}
