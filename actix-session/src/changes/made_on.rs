//! How authors of stores apply changes.

use super::{
    Applied, ApplyError, Changes, forwarded_clear, onto, overwrite, overwrite_map, reduce,
    write_reduced, written,
};
use crate::{
    contract::{Stamp, Terms},
    error::CommitError,
    record::{Place, Record},
};

/// A request's changes, and the record that they were made on.
///
/// [`Changes::made_on`] makes it.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct MadeOn<'a> {
    changes: &'a Changes,
    base: Option<&'a Record>,
}

/// What changes make of a stored record.
#[derive(Debug)]
pub enum Merged {
    /// Write this record, if the stored one is still the one that the changes were merged into.
    /// Then answer [`Committed::Saved`](crate::storage::Committed::Saved).
    Write(Record),

    /// Write nothing, and answer [`Committed::Saved`](crate::storage::Committed::Saved): the session
    /// was cleared after the changes were made, or has them already.
    Unchanged,

    /// Write nothing, and answer [`Committed::Gone`](crate::storage::Committed::Gone): the session
    /// that the changes were made for no longer exists.
    Gone,
}

impl<'a> MadeOn<'a> {
    pub(super) fn new(changes: &'a Changes, base: Option<&'a Record>) -> Self {
        Self { changes, base }
    }

    /// Applies the changes to the stored record, for a commit.
    ///
    /// A changed entry replaces the stored one, [`Session::modify`](crate::Session::modify) runs on
    /// the stored value, and all other entries stay.
    ///
    /// # Errors
    /// A `modify` meets a value of another type, the record would be too large, or the random
    /// number generator fails.
    pub fn merge_into(self, stored: &Record, terms: &Terms) -> Result<Merged, CommitError> {
        self.merge_by(AS_TEXT, stored.clone(), terms)
    }

    /// The same for a store that takes maps.
    pub(crate) fn merge_into_map(
        self,
        stored: Record,
        terms: &Terms,
    ) -> Result<Merged, CommitError> {
        self.merge_by(overwrite_map, stored, terms)
    }

    fn merge_by(
        self,
        overwrite: Overwrite,
        stored: Record,
        terms: &Terms,
    ) -> Result<Merged, CommitError> {
        let Some(base) = self.base else {
            return Ok(Merged::Gone);
        };
        let stored = terms.prove(stored, Place::Unnamed);
        if base.is_from_before_clear(&stored) && self.changes.cleared.is_none() {
            self.changes.nothing_taken();
            return Ok(Merged::Unchanged);
        }
        let stamp = onto(&stored, terms)?;
        merged(overwrite(stored, self.changes, stamp))
    }

    /// Like [`merge_into`](Self::merge_into), for a record that the changes were not made on, or that
    /// may have them already because an answer was lost: sets or removes an entry only if it still
    /// has the value of the base.
    ///
    /// A `modify` runs in any case. (Behind the redirect of a login, the library's own stores refuse one
    /// whose entry has changed, and with it all changes of its request.) A `clear` removes the principal,
    /// and the entries that still have the values of the base; nothing else of its request is applied.
    ///
    /// # Errors
    /// As for [`merge_into`](Self::merge_into).
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::{Changes, Merged, Record, Terms};
    ///
    /// let base = Record::decode(r#"{"v":1,"state":{"a":1}}"#.to_owned())?;
    /// let stored = Record::decode(r#"{"v":1,"state":{"a":2}}"#.to_owned())?;
    /// let merged = Changes::default().made_on(&base).merge_guarded_into(&stored, &Terms::default())?;
    /// assert!(matches!(merged, Merged::Unchanged));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge_guarded_into(self, stored: &Record, terms: &Terms) -> Result<Merged, CommitError> {
        let Some(base) = self.base else {
            return Ok(Merged::Gone);
        };
        let stored = proven(stored, terms);
        if let Some(epoch) = self.changes.cleared {
            let stamp = onto(&stored, terms)?;
            let cleared = forwarded_clear(&stored, Some(base), epoch, stamp);
            return Ok(Merged::Write(cleared));
        }
        if base.is_from_before_clear(&stored) {
            self.changes.nothing_taken();
            return Ok(Merged::Unchanged);
        }
        let left = reduce(self.changes, &stored, Some(base));
        merged(write_reduced(&stored, &left, onto(&stored, terms)?))
    }

    /// The record to write under a new key, for a renewal. `stored` is what the old key leads to, if
    /// that is live.
    ///
    /// `None` means that there is nothing to write: the session has ended, and the changes may not
    /// become one of their own. Answer [`Rotated::Gone`](crate::storage::Rotated::Gone) then.
    ///
    /// # Errors
    /// As for [`merge_into`](Self::merge_into).
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::{Changes, Record, Terms};
    ///
    /// let base = Record::decode(r#"{"v":1,"state":{"a":1}}"#.to_owned())?;
    /// let stored = Record::decode(r#"{"v":1,"state":{"a":2}}"#.to_owned())?;
    /// let (changes, terms) = (Changes::default(), Terms::default());
    ///
    /// let renewed = changes.made_on(&base).renew(Some(&stored), &terms)?;
    /// assert_eq!(renewed.unwrap().to_map()["a"], "2");
    /// // The session has ended meanwhile, and nothing was set that could be one of its own.
    /// assert!(changes.made_on(&base).renew(None, &terms)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn renew(
        self,
        stored: Option<&Record>,
        terms: &Terms,
    ) -> Result<Option<Record>, CommitError> {
        self.renew_by(AS_TEXT, stored.cloned(), terms)
    }

    /// The same for a store that takes maps.
    pub(crate) fn renew_map(
        self,
        stored: Option<Record>,
        terms: &Terms,
    ) -> Result<Option<Record>, CommitError> {
        self.renew_by(overwrite_map, stored, terms)
    }

    fn renew_by(
        self,
        overwrite: Overwrite,
        stored: Option<Record>,
        terms: &Terms,
    ) -> Result<Option<Record>, CommitError> {
        let Self { changes, base } = self;
        changes.refuse_upstream()?;
        let Some((stored, base)) = stored.zip(base) else {
            changes.note_alone();
            let alone = changes
                .may_live_alone(base)
                .then(|| changes.alone(base).new_record(terms));
            return alone.transpose();
        };
        let stored = terms.prove(stored, Place::Unnamed);
        let Some(changes) = changes.to_renew(base, &stored) else {
            return Ok(None);
        };
        let stamp = onto(&stored, terms)?;
        written(overwrite(stored, &changes, stamp))
    }
}

/// How changes are applied: to a text, or to a map.
type Overwrite = fn(Record, &Changes, Stamp<'_>) -> Result<Applied, ApplyError>;

const AS_TEXT: Overwrite = |stored, changes, stamp| overwrite(&stored, changes, stamp);

/// What a store has decoded may have metadata that only the middleware's keys prove.
fn proven(stored: &Record, terms: &Terms) -> Record {
    terms.prove(stored.clone(), Place::Unnamed)
}

fn merged(applied: Result<Applied, ApplyError>) -> Result<Merged, CommitError> {
    match applied {
        Ok(Applied::Write(record)) => Ok(Merged::Write(record)),
        Ok(Applied::Nothing) => Ok(Merged::Unchanged),
        Ok(Applied::Gone) => Ok(Merged::Gone),
        Err(ApplyError(error)) => Err(CommitError::Serialization(error)),
    }
}
