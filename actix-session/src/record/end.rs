//! When a record ends, and what a read has made of that.

use super::{Metadata, Record};
use crate::{clock::Millis, contract::End};

impl Record {
    /// This record with the end that its store keeps for it, for stores that override
    /// [`open`](crate::storage::SessionStore::open):
    /// [`Session::remaining`](crate::Session::remaining) tells it.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use actix_session::storage::{Opened, Record};
    ///
    /// let record = Record::decode(r#"{"v":1,"state":{}}"#.to_owned())?;
    /// let ends = SystemTime::now() + Duration::from_secs(60);
    /// let opened = Opened::Live(record.ending_at(ends));
    /// # let _ = opened;
    /// # Ok::<(), actix_session::storage::DecodeError>(())
    /// ```
    #[must_use]
    pub fn ending_at(self, end: impl Into<End>) -> Self {
        // Whether the store has just extended it, nobody says: it counts as if.
        self.with_end(Some(end.into().millis())).extended()
    }

    pub(crate) fn end(&self) -> Option<Millis> {
        self.end
    }

    /// The idle end that the record itself says, or else its store.
    pub(crate) fn idle_end(&self) -> Option<Millis> {
        let own = self.unusual_times().and_then(|metadata| metadata.idle_end);
        own.or(self.end)
    }

    pub(crate) fn with_end(self, end: Option<Millis>) -> Self {
        Self { end, ..self }
    }

    /// The store takes no writes, so that a read could not extend the record.
    pub(crate) fn not_extended(mut self) -> Self {
        self.kept_end = true;
        self
    }

    /// Whether a read that was to extend the record has left its end as it is.
    pub(crate) fn has_kept_end(&self) -> bool {
        self.kept_end
    }

    /// The read that found the record has moved its end.
    pub(crate) fn extended(mut self) -> Self {
        self.extended = true;
        self
    }

    pub(crate) fn is_extended(&self) -> bool {
        self.extended
    }

    /// Whether the record is past its absolute end, its own or the policy's.
    #[inline]
    pub(crate) fn is_over(&self, now: Millis, absolute: Option<Millis>) -> bool {
        // Most records have neither.
        !(absolute.is_none() && self.is_plain()) && self.is_past(now, absolute)
    }

    fn is_past(&self, now: Millis, absolute: Option<Millis>) -> bool {
        let Some(metadata) = self.times() else {
            return false;
        };
        let end = metadata
            .absolute_end
            .or_else(|| absolute.map(|span| metadata.since() + span));
        end.is_some_and(|end| end <= now)
    }

    fn unusual_times(&self) -> Option<&Metadata> {
        if self.is_plain() {
            return None;
        }
        self.times()
    }

    pub(crate) fn absolute_end(&self) -> Option<Millis> {
        self.unusual_times()?.absolute_end
    }
}
