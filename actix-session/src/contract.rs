//! What the middleware asks of a store, and what the store answers.

mod answers;
mod stamp;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

pub use self::answers::{Committed, End, Older, Opened, Rotated};
use crate::{
    AnyDuration,
    clock::{Millis, deadline},
    handed::{Handed, handed},
    record::{Metadata, MetadataKeys, Place, PrincipalEntry, Record, WireFormat},
};

pub(crate) use self::stamp::{IdleEnd, Stamp};

/// The state of a session in its published form: entry names and JSON texts.
pub(crate) type SessionState = HashMap<String, String>;

/// The terms of a store call: the current time, the timeouts and the format that the middleware's
/// configuration asks for.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_session::storage::Terms;
///
/// let terms = Terms::default().with_ttl(Duration::from_secs(60));
/// assert_eq!(terms.ttl(), Duration::from_secs(60));
/// ```
///
/// A store that overrides [`open`](crate::storage::SessionStore::open) asks the terms what a record
/// means now. `ends` is when it ends as the store knows it:
/// ```
/// use actix_session::storage::{End, Opened, Record, Terms};
///
/// fn open(record: Record, ends: &mut End, terms: &Terms) -> Opened {
///     if ends.at() <= terms.now() || terms.is_over(&record) {
///         return Opened::Nothing;
///     }
///     if terms.extends(&record, *ends) {
///         *ends = terms.end(&record);
///     }
///     Opened::Live(record)
/// }
///
/// let record = Record::decode(r#"{"v":1,"state":{}}"#.to_owned())?;
/// let terms = Terms::default().with_extension(true);
/// let mut ends = End::from(terms.now() + std::time::Duration::from_secs(1));
/// assert!(matches!(open(record, &mut ends, &terms), Opened::Live(_)));
/// assert_eq!(ends.at(), terms.now() + terms.ttl());
/// # Ok::<(), actix_session::storage::DecodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Terms {
    pub(crate) now: Millis,
    pub(crate) ttl: Millis,
    pub(crate) absolute: Option<Millis>,
    pub(crate) extend: ExtendOnRead,
    pub(crate) budget: Duration,
    pub(crate) grace: Millis,
    pub(crate) format: WireFormat,
    /// The maximum size of a record, in octets.
    pub(crate) max_state: usize,
    /// They prove metadata that lie where an application can write.
    pub(crate) keys: Option<Arc<MetadataKeys>>,
    /// The entry that names the principal.
    pub(crate) principal_entry: Option<PrincipalEntry>,
}

/// Whether a request extends the life of the record that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExtendOnRead {
    Never,
    Always,
    /// Only if the last extension is at least this long ago.
    AtMostEvery(Millis),
    /// Never, and its changes do not either.
    Quiet,
}

/// The time limit for all attempts of one commit together.
pub(crate) const BUDGET: Duration = Duration::from_secs(3);
/// How much nearer a read brings an end at least, where it extends seldom.
const SHORTENED: Millis = Millis::secs(300);
/// How long a renewal leaves its redirect.
pub(crate) const GRACE: Millis = Millis::secs(60);
/// The maximum size of a record: far more than any session needs, yet accepted by every back end.
pub(crate) const MAX_STATE: usize = 16 << 20;

impl Default for Terms {
    /// A TTL of one day, no absolute timeout, no extension on read, the system's time.
    fn default() -> Self {
        Self {
            now: SystemTime::now().into(),
            ttl: Millis::secs(86_400),
            absolute: None,
            extend: ExtendOnRead::Never,
            budget: BUDGET,
            grace: GRACE,
            format: WireFormat::V1,
            max_state: MAX_STATE,
            keys: None,
            principal_entry: None,
        }
    }
}

impl Terms {
    /// Sets the idle timeout.
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl AnyDuration) -> Self {
        self.ttl = ttl.unsigned().into();
        self
    }

    /// Sets the current time.
    #[must_use]
    pub fn with_now(mut self, now: SystemTime) -> Self {
        self.now = now.into();
        self
    }

    /// Sets whether reading extends a record's life.
    #[must_use]
    pub fn with_extension(mut self, extend: bool) -> Self {
        self.extend = if extend {
            ExtendOnRead::Always
        } else {
            ExtendOnRead::Never
        };
        self
    }

    /// Sets the format in which records are written.
    #[must_use]
    pub fn with_format(mut self, format: WireFormat) -> Self {
        self.format = format;
        self
    }

    /// The terms of a store's own, for methods that get none.
    pub(crate) fn of_store(now: Millis) -> Self {
        let own = Self {
            now,
            ..Self::default()
        };
        match handed() {
            Some(Handed {
                keys,
                format,
                quiet,
                until,
                principal_entry,
                ..
            }) => Self {
                keys,
                format,
                principal_entry,
                budget: until.saturating_duration_since(Instant::now()),
                extend: if quiet {
                    ExtendOnRead::Quiet
                } else {
                    own.extend
                },
                ..own
            },
            None => own,
        }
    }

    /// The record in a map of the five methods, once its metadata have been proven.
    pub(crate) fn record_of(&self, state: SessionState) -> Record {
        self.prove(Record::from_map(state), Place::Unnamed)
    }

    /// A record once its metadata have been proven, and once it is known whose it is.
    pub(crate) fn prove(&self, record: Record, place: Place<'_>) -> Record {
        let proven = record.proven(place, self.keys.as_ref());
        match self.principal_entry.as_deref() {
            Some(entry) => proven.with_principal_in(entry, place, self.now),
            None => proven,
        }
    }

    /// What a wrapper of the five methods does not hand on.
    pub(crate) fn handed(&self) -> Handed {
        Handed {
            keys: self.keys.clone(),
            principal_entry: self.principal_entry.clone(),
            format: self.format,
            quiet: self.keeps_end(),
            grace: self.grace,
            until: deadline(self.budget),
            keeps_end: false,
            later: None,
            owner: None,
        }
    }

    /// The same terms for a call that extends the record, at most once an interval if there is one.
    pub(crate) fn touching(&self) -> Self {
        let extend = match self.extend {
            ExtendOnRead::Never => ExtendOnRead::Always,
            extend => extend,
        };
        Self {
            extend,
            ..self.clone()
        }
    }

    /// The same terms for a look that is no activity.
    pub(crate) fn quiet(&self) -> Self {
        Self {
            extend: ExtendOnRead::Quiet,
            ..self.clone()
        }
    }

    /// Whether a store does the same on these terms and on the others with what they write.
    pub(crate) fn write_alike(&self, others: &Self) -> bool {
        let same_keys = match (&self.keys, &others.keys) {
            (Some(keys), Some(others)) => Arc::ptr_eq(keys, others),
            (keys, others) => keys.is_none() && others.is_none(),
        };
        let entries = [self, others].map(|terms| terms.principal_entry.as_deref());
        let same_times = self.ttl == others.ttl && self.absolute == others.absolute;
        same_keys && same_times && entries[0] == entries[1] && self.format == others.format
    }

    /// The current time, by the middleware's clock, in whole milliseconds. Compare ends with this, and count
    /// them from a time that is as precise.
    pub fn now(&self) -> SystemTime {
        self.now.to_system_time()
    }

    /// The idle timeout of sessions without a TTL of their own.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl.0.unsigned_abs())
    }

    /// The time limit for all attempts of this call together.
    ///
    /// A store that finds the record changed reads it again, merges again and tries again, until this
    /// much time has passed since the call; then it answers
    /// [`CommitError::Contended`](crate::storage::CommitError::Contended). The middleware gives what is
    /// left of its own limit
    /// ([`commit_budget`](crate::config::SessionMiddlewareBuilder::commit_budget)).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use actix_session::storage::Terms;
    ///
    /// assert_eq!(Terms::default().budget(), Duration::from_secs(3));
    /// ```
    pub fn budget(&self) -> Duration {
        self.budget
    }

    /// When a record ends that is written or extended now: after its idle timeout, or at its
    /// absolute end if that comes first.
    ///
    /// The idle timeout is the session's own ([`Session::set_ttl`](crate::Session::set_ttl)) or else
    /// [`ttl`](Self::ttl). A store keeps this time, or the TTL until then, with each record that it
    /// writes, and answers it as the [`End`]; a change on terms that [keep the end](Self::keeps_end)
    /// writes it only if it comes before the end that the record has.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use actix_session::storage::{Record, Terms};
    ///
    /// let record = Record::decode(r#"{"v":1,"state":{}}"#.to_owned())?;
    /// let terms = Terms::default().with_ttl(Duration::from_secs(60));
    /// assert_eq!(terms.end(&record).at(), terms.now() + Duration::from_secs(60));
    /// # Ok::<(), actix_session::storage::DecodeError>(())
    /// ```
    pub fn end(&self, record: &Record) -> End {
        End::of(record, self.until(record))
    }

    /// Whether the request is quiet
    /// ([`quiet_when`](crate::config::SessionMiddlewareBuilder::quiet_when)): a commit on these terms
    /// writes its changes, and the record ends no later than before.
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::{End, Record, Terms};
    ///
    /// /// When a record ends that a commit writes.
    /// fn end(written: &Record, before: End, terms: &Terms) -> End {
    ///     let end = terms.end(written);
    ///     if terms.keeps_end() && before.at() < end.at() { before } else { end }
    /// }
    ///
    /// let (terms, record) = (Terms::default(), Record::decode(r#"{"v":1,"state":{}}"#.to_owned())?);
    /// let before = End::from(terms.now());
    /// assert_eq!(end(&record, before, &terms).at(), terms.now() + terms.ttl());
    /// # Ok::<(), actix_session::storage::DecodeError>(())
    /// ```
    pub fn keeps_end(&self) -> bool {
        self.extend == ExtendOnRead::Quiet
    }

    /// Whether a record is past its absolute end. It must not be opened then, changed or renewed,
    /// however long its idle timeout still is.
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::{Record, Terms};
    ///
    /// let record = Record::decode(r#"{"v":1,"state":{}}"#.to_owned())?;
    /// assert!(!Terms::default().is_over(&record), "nothing limits its life");
    /// # Ok::<(), actix_session::storage::DecodeError>(())
    /// ```
    pub fn is_over(&self, record: &Record) -> bool {
        record.is_over(self.now, self.absolute)
    }

    /// Whether a commit writes this record even without changes: the record that
    /// [`merge_into`](crate::storage::MadeOn::merge_into) returns.
    ///
    /// There is an absolute timeout, and nothing says since when it counts for this record, since an old
    /// server wrote it: it counts from the first sight. Or only a previous secret key proves what the
    /// library itself knows of the session, which would be lost once that key is taken out.
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::{Record, Terms};
    ///
    /// let record = Record::decode(r#"{"user":"\"ferris\""}"#.to_owned())?;
    /// assert!(!Terms::default().is_undated(&record), "nothing limits its life");
    /// # Ok::<(), actix_session::storage::DecodeError>(())
    /// ```
    pub fn is_undated(&self, record: &Record) -> bool {
        (self.absolute.is_some() && record.is_undated()) || self.is_by_previous_key(record)
    }

    fn is_by_previous_key(&self, record: &Record) -> bool {
        // What a store has decoded may not have been proven yet.
        let by_previous = || {
            self.prove(record.clone(), Place::Unnamed)
                .is_by_previous_key()
        };
        record.is_by_previous_key() || record.has_claim() && by_previous()
    }

    /// Whether reading a record extends its life now. `end` is when it ends so far.
    ///
    /// If so, its new end is [`end`](Self::end), which may be nearer than the present one if the
    /// time to live has become shorter. A store that does not know when its records end passes the
    /// present time, and extends them too often at worst.
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::{Record, Terms};
    ///
    /// let record = Record::decode(r#"{"v":1,"state":{}}"#.to_owned())?;
    /// let terms = Terms::default();
    /// assert!(!terms.extends(&record, terms.now()));
    /// assert!(terms.with_extension(true).extends(&record, Terms::default().now()));
    /// # Ok::<(), actix_session::storage::DecodeError>(())
    /// ```
    pub fn extends(&self, record: &Record, end: impl Into<End>) -> bool {
        self.extends_at(record, end.into().millis())
    }

    /// Whether reading a record may extend its life.
    pub(crate) fn extends_on_read(&self) -> bool {
        !matches!(self.extend, ExtendOnRead::Never | ExtendOnRead::Quiet)
    }

    /// Whether reading a record that ends at `end` extends it now.
    pub(crate) fn extends_at(&self, record: &Record, end: Millis) -> bool {
        match self.extend {
            ExtendOnRead::Never | ExtendOnRead::Quiet => false,
            ExtendOnRead::Always => true,
            ExtendOnRead::AtMostEvery(interval) => {
                // A session whose own TTL is hardly longer than the interval would end in use.
                let own = record.times().and_then(|metadata| metadata.ttl);
                let interval = own.map_or(interval, |own| interval.min(Millis(own.0 / 2)));
                // Near the absolute end an extension gains less than an interval. One of less than a
                // second is not worth a write: clocks differ by as much.
                let until = self.until(record);
                let gain = until - end;
                let since_last = self.idle_end(record.times()) - end;
                let is_due = since_last >= interval && gain >= interval.min(Millis::secs(1));
                // It was given much more time than there is by now, and not only by a clock that is ahead.
                is_due || end - until >= interval.max(SHORTENED)
            }
        }
    }

    /// Whether opening a record on these terms has moved its end. A record in a cookie is to be
    /// sealed anew for that.
    pub(crate) fn have_extended(&self, record: &Record) -> bool {
        if record.has_kept_end() {
            return false;
        }
        match (self.extend, record.end()) {
            (ExtendOnRead::Never | ExtendOnRead::Quiet, _) => false,
            (ExtendOnRead::AtMostEvery(_), Some(end)) if record.is_in_cookie() => {
                self.extends_at(record, end)
            }
            (ExtendOnRead::AtMostEvery(_), Some(_)) => record.is_extended(),
            // Stores that name no end extend each time.
            (ExtendOnRead::Always, _) | (ExtendOnRead::AtMostEvery(_), None) => true,
        }
    }

    /// When a record ends that is written over one that ended at `before`, if that is known.
    pub(crate) fn until_over(&self, record: &Record, before: Option<Millis>) -> Millis {
        let until = self.until(record);
        let kept = before.filter(|_| self.keeps_end());
        kept.map_or(until, |kept| kept.min(until))
    }

    /// Until when a store holds a record that is written over another and ends at `end`, and the end to
    /// answer. What these changes have ended, as a logout does past the absolute end of the creation, is
    /// written all the same: refused, the record before it would live on. No load opens it.
    pub(crate) fn until_written(&self, on: &Record, new: &Record, end: Millis) -> (Millis, Millis) {
        if end > self.now || self.is_over(on) || !self.is_over(new) {
            return (end, end);
        }
        (self.now + GRACE, self.now + Millis(1))
    }

    /// [`end`](Self::end) in milliseconds.
    pub(crate) fn until(&self, record: &Record) -> Millis {
        record
            .times()
            .map_or(self.now + self.ttl, |metadata| self.end_of(metadata))
    }

    /// When a session ends that is used now, but for its absolute end.
    fn idle_end(&self, metadata: Option<&Metadata>) -> Millis {
        let own = metadata.and_then(|metadata| metadata.ttl);
        self.now + own.unwrap_or(self.ttl)
    }

    pub(crate) fn end_of(&self, metadata: &Metadata) -> Millis {
        let idle = self.idle_end(Some(metadata));
        self.cap(metadata).map_or(idle, |cap| cap.min(idle))
    }

    /// When a record ends whatever its idle timeout is, if that is known.
    pub(crate) fn absolute_end_of(&self, record: &Record) -> Option<Millis> {
        record.times().and_then(|metadata| self.cap(metadata))
    }

    fn cap(&self, metadata: &Metadata) -> Option<Millis> {
        let absolute = self.absolute.map(|span| metadata.since() + span);
        metadata.absolute_end.or(absolute)
    }
}
