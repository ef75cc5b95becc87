//! What the middleware asks of a store, and what the store answers.

mod stamp;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    clock::Millis,
    handed::{Handed, handed},
    key::SessionKey,
    record::{Metadata, MetadataKeys, Place, Record, WireFormat},
};

pub(crate) use self::stamp::Stamp;

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
/// assert!(!terms.extends());
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
}

/// Whether reading a record extends its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExtendOnRead {
    Never,
    Always,
    /// Only if the last extension is at least this long ago.
    AtMostEvery(Millis),
}

/// The time limit for all attempts of one commit together.
pub(crate) const BUDGET: Duration = Duration::from_secs(3);
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
        }
    }
}

impl Terms {
    /// Sets the idle timeout.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.into();
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
            Some(Handed { keys, format }) => Self {
                keys,
                format,
                ..own
            },
            None => own,
        }
    }

    /// What a wrapper of the five methods does not hand on.
    pub(crate) fn handed(&self) -> Handed {
        Handed {
            keys: self.keys.clone(),
            format: self.format,
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

    /// The current time, by the middleware's clock.
    pub fn now(&self) -> SystemTime {
        self.now.to_system_time()
    }

    /// The idle timeout of sessions without a TTL of their own.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl.0.unsigned_abs())
    }

    /// Whether reading a record extends its life.
    pub fn extends(&self) -> bool {
        self.extend != ExtendOnRead::Never
    }

    /// Whether reading a record that ends at `end` extends it now.
    pub(crate) fn extends_at(&self, record: &Record, end: Millis) -> bool {
        match self.extend {
            ExtendOnRead::Never => false,
            ExtendOnRead::Always => true,
            ExtendOnRead::AtMostEvery(interval) => self.end(record) - end >= interval,
        }
    }

    /// Whether opening a record on these terms has moved its end. A record in a cookie is to be
    /// sealed anew for that.
    pub(crate) fn have_extended(&self, record: &Record) -> bool {
        match (self.extend, record.end()) {
            (ExtendOnRead::Never, _) => false,
            (ExtendOnRead::AtMostEvery(_), Some(end)) if record.is_in_cookie() => {
                self.extends_at(record, end)
            }
            (ExtendOnRead::AtMostEvery(_), Some(_)) => record.is_extended(),
            // Stores that name no end extend each time.
            (ExtendOnRead::Always, _) | (ExtendOnRead::AtMostEvery(_), None) => true,
        }
    }

    /// The end of a record that is written or extended now.
    pub(crate) fn end(&self, record: &Record) -> Millis {
        record
            .times()
            .map_or(self.now + self.ttl, |metadata| self.end_of(metadata))
    }

    pub(crate) fn end_of(&self, metadata: &Metadata) -> Millis {
        let idle = self.now + metadata.ttl.unwrap_or(self.ttl);
        let absolute = self.absolute.map(|span| metadata.since() + span);
        let cap = metadata.absolute_end.or(absolute);
        cap.map_or(idle, |cap| cap.min(idle))
    }

    /// Whether nothing says since when the absolute timeout of a record counts. The first sight is
    /// written down.
    pub(crate) fn must_date(&self, record: &Record) -> bool {
        self.absolute.is_some() && record.is_undated()
    }

    /// Whether a record is past its absolute end.
    pub(crate) fn is_over(&self, record: &Record) -> bool {
        record.is_over(self.now, self.absolute)
    }
}

/// What [`SessionStore::open`](crate::storage::SessionStore::open) found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Opened {
    /// The record of a live session.
    Live(Record),

    /// The key was renewed this long ago. The new one may still be on its way to the browser.
    Moved(Duration),

    /// There is no record: it never existed, it ended or it expired.
    Nothing,

    /// A record that cannot be decoded, or that a newer version wrote. The store leaves it as it
    /// is.
    Unreadable,
}

impl Opened {
    /// What was found, once its metadata have been proven.
    pub(crate) fn proven(self, terms: &Terms) -> Self {
        match self {
            Self::Live(record) => Self::Live(record.proven(Place::Unnamed, terms.keys.as_ref())),
            found => found,
        }
    }
}

/// When a session ends unless something extends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    at: Millis,
    /// The session has a TTL of its own; `None` if the store does not say.
    own_ttl: Option<bool>,
}

impl End {
    /// When this record ends.
    pub(crate) fn of(record: &Record, at: Millis) -> Self {
        Self {
            at,
            own_ttl: Some(record.has_own_ttl()),
        }
    }

    /// When a stored record ends: as its store has said, or else by the terms.
    pub(crate) fn of_stored(record: &Record, terms: &Terms) -> Self {
        let end = record.end().unwrap_or_else(|| terms.end(record));
        Self::of(record, end)
    }

    pub(crate) fn millis(self) -> Millis {
        self.at
    }

    pub(crate) fn has_own_ttl(self) -> Option<bool> {
        self.own_ttl
    }

    /// The end as a point in time.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use actix_session::storage::End;
    ///
    /// let end = End::from(SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    /// assert_eq!(end.at(), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    /// ```
    pub fn at(self) -> SystemTime {
        self.at.to_system_time()
    }
}

impl From<SystemTime> for End {
    fn from(at: SystemTime) -> Self {
        Self {
            at: at.into(),
            own_ttl: None,
        }
    }
}

/// For cookie stores with a list of ended sessions: the pending work that ends the older values of
/// a session after a renewal or a `clear`.
///
/// The middleware ends them once the new cookie is known to fit. Stores whose key only names the
/// state return [`Older::none`]. Wrappers return what they received.
///
/// # Examples
/// ```
/// use actix_session::storage::Older;
///
/// assert_eq!(format!("{:?}", Older::none()), "Older(false)");
/// ```
#[derive(Default)]
pub struct Older(Option<Pin<Box<dyn Future<Output = anyhow::Result<bool>>>>>);

impl Older {
    /// Nothing is left to end.
    pub fn none() -> Self {
        Self(None)
    }

    /// Runs `end` once the new cookie is known to fit. `false` means that another request has ended
    /// the session meanwhile.
    pub(crate) fn ended_by(end: impl Future<Output = anyhow::Result<bool>> + 'static) -> Self {
        Self(Some(Box::pin(end)))
    }

    /// Ends the older values. `false` means that another request has ended the session, and the new
    /// cookie must not be sent.
    pub(crate) async fn end(self) -> anyhow::Result<bool> {
        match self.0 {
            Some(end) => end.await,
            None => Ok(true),
        }
    }
}

/// Shows only whether there is something to end.
impl fmt::Debug for Older {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Older").field(&self.0.is_some()).finish()
    }
}

/// The outcome of a commit.
///
/// Only a store whose key is the state returns a key: a late response must not hand out the new key
/// of another request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Committed {
    /// The changes are saved, and the key is current.
    Saved(End),

    /// The key is current, and there was nothing to save; but the store takes no writes at present,
    /// so that the record keeps its end. The cookie is not sent again.
    NotExtended,

    /// The key is the state, and this is its new value. [`Older`] ends the old one.
    NewValue(SessionKey, End, Older),

    /// Another request has renewed the key; the changes went to the new record.
    Forwarded,

    /// The session has ended. Nothing was written, and the record stays deleted.
    Gone,
}

/// The outcome of a renewal.
#[derive(Debug)]
#[non_exhaustive]
pub enum Rotated {
    /// The session has a new key, or the request's own changes have become a new session. If the
    /// key is the state, [`Older`] ends the old value; a store on the server has ended the old key
    /// in the same step.
    Rotated(SessionKey, End, Older),

    /// Another request has renewed the key; this one starts no session.
    Moved,

    /// The session has ended; this request starts no session.
    Gone,
}
