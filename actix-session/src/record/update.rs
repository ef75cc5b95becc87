//! What the published `update` leaves of a record's metadata.

use super::{Record, claim::Claim, known::Facts};

impl Record {
    /// This record, made from a map, in place of a stored one.
    ///
    /// A middleware behind the call has said all that it knows in the map. A program that calls the
    /// store itself may bring the reserved entry back as it got it, and the metadata stay; without
    /// that entry the session's times stay, and nobody is logged in any more.
    pub(crate) fn in_place_of(self, stored: &Self, is_program: bool) -> Self {
        if !is_program || self.metadata().is_some() {
            return self;
        }
        match self.written.claim.as_deref().map(Claim::as_text) {
            Some(claim) if stored.entry(None).as_deref() == Some(claim) => {
                self.with_facts_of(stored)
            }
            Some(_) => self,
            None => self.with_times_of(stored),
        }
    }

    fn with_facts_of(self, stored: &Self) -> Self {
        let Facts {
            commit, metadata, ..
        } = stored.written.facts().clone();
        let claim = stored.written.claim.clone();
        self.changed(|written| {
            written.claim = claim;
            if let Some(metadata) = metadata {
                written.know(commit, metadata);
            }
        })
    }

    fn with_times_of(self, stored: &Self) -> Self {
        let Some(mut metadata) = stored.metadata().cloned() else {
            return self;
        };
        let absolute_end = metadata.absolute_end;
        if metadata.auth.is_some() {
            metadata.clear(metadata.epoch);
        }
        metadata.absolute_end = absolute_end;
        self.changed(|written| written.know(stored.commit_id(), metadata))
    }
}
