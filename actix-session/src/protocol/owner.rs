//! Whose session a record was, and which sessions of one principal have ended together.

use crate::{
    clock::Millis,
    record::{Owner, Record},
};

/// Whose the record was that a step replaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum OwnerBefore {
    /// The same session of the same owner: an index changes only if the name does.
    Same,
    /// Nobody's, or another session, which leaves the index. Or the same session, and the index may have
    /// forgotten it.
    Other(Option<Box<Owner>>),
}

/// From when on a principal's sessions count: those that were logged in then or earlier have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotBefore {
    pub(crate) at: Millis,
    /// The ids of sessions that go on all the same.
    pub(crate) spared: Vec<u128>,
}

impl OwnerBefore {
    /// The id of the session that the record was, where that is known: not of nobody's.
    pub(crate) fn id(&self, new: &Record) -> Option<u128> {
        match self {
            Self::Same => Owner::of(new).map(|owner| owner.id),
            Self::Other(owner) => owner.as_ref().map(|owner| owner.id),
        }
    }

    pub(crate) fn of(stored: &Record, new: &Record) -> Self {
        let owner = |record: &Record| {
            let metadata = record.times()?;
            let auth = metadata.auth.as_deref()?;
            Some((metadata.id, auth.login()))
        };
        let same = owner(stored) == owner(new) && stored.principal() == new.principal();
        if same && !stored.has_derived_owner() {
            return match listed(stored) == listed(new) {
                true => Self::Same,
                false => Self::Other(None),
            };
        }
        let left = Owner::of(stored).filter(|_| !stored.has_derived_owner());
        Self::Other(left.map(Box::new))
    }
}

/// When the list of its owner was told of a record, if that was after the login.
fn listed(record: &Record) -> Option<Millis> {
    record.times()?.auth.as_deref()?.listed
}

impl NotBefore {
    /// Whether it ends a session.
    pub(crate) fn ends(&self, id: u128, login: Millis) -> bool {
        login <= self.at && !self.spared.contains(&id)
    }

    /// The same, if another mark may be kept in its place: one of a later time, by a clock that is ahead,
    /// may have ended more.
    pub(crate) fn ends_beside(&self, kept: Option<&Self>, id: u128, login: Millis) -> bool {
        self.ends(id, login) || kept.is_some_and(|kept| kept.ends(id, login))
    }

    /// This one after an earlier one: the later time counts, and its own exceptions alone.
    pub(crate) fn after(mut self, earlier: Option<&Self>) -> Self {
        self.at = earlier.map_or(self.at, |earlier| earlier.at.max(self.at));
        self
    }
}
