//! What a store is asked, and what it answers.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    time::{Duration, SystemTime},
};

use crate::{
    changes::Stamp,
    clock::Millis,
    key::SessionKey,
    record::{Metadata, Record, WireFormat},
};

/// The state of a session, as published: entry names and JSON texts.
pub(crate) type SessionState = HashMap<String, String>;

/// The terms on which a store reads and writes records: the time, the times to live and the
/// format that the middleware's configuration asks for.
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
    /// How many octets a record may have.
    pub(crate) max_state: usize,
}

/// Whether reading a record extends its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExtendOnRead {
    Never,
    Always,
    /// Unless that has been done so shortly before.
    AtMostEvery(Millis),
}

/// How long all attempts of one commit may take together.
pub(crate) const BUDGET: Duration = Duration::from_secs(3);
/// How long a renewal leaves its mark.
pub(crate) const GRACE: Millis = Millis::secs(60);
/// How large a record may become: far more than any session needs, and what every back end takes.
pub(crate) const MAX_STATE: usize = 16 << 20;

impl Default for Terms {
    /// One day to live, no absolute limit, no extension by reading, the system's clock.
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
        }
    }
}

impl Terms {
    /// Sets the idle time to live.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Sets the present time.
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

    /// Sets the format that is written.
    #[must_use]
    pub fn with_format(mut self, format: WireFormat) -> Self {
        self.format = format;
        self
    }

    /// The present time, by the middleware's clock.
    pub fn now(&self) -> SystemTime {
        self.now.to_system_time()
    }

    /// The idle time to live of a session that has none of its own.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl.0.unsigned_abs())
    }

    /// Whether reading a record extends its life.
    pub fn extends(&self) -> bool {
        self.extend != ExtendOnRead::Never
    }

    /// Whether a record that ends then is to be extended now.
    pub(crate) fn extends_at(&self, record: &Record, end: Millis) -> bool {
        match self.extend {
            ExtendOnRead::Never => false,
            ExtendOnRead::Always => true,
            ExtendOnRead::AtMostEvery(interval) => self.end(record) - end >= interval,
        }
    }

    pub(crate) fn stamp(&self, commit: u64, fresh_id: u128) -> Stamp {
        Stamp {
            commit,
            fresh_id,
            now: self.now,
            absolute: self.absolute,
            format: self.format,
            max_state: self.max_state,
            idle_ttl: None,
            new_id: false,
            keep_idle: false,
        }
    }

    /// When a record ends that is written or extended now.
    pub(crate) fn end(&self, record: &Record) -> Millis {
        record
            .metadata()
            .map_or(self.now + self.ttl, |metadata| self.end_of(metadata))
    }

    pub(crate) fn end_of(&self, metadata: &Metadata) -> Millis {
        let idle = self.now + metadata.ttl.unwrap_or(self.ttl);
        let absolute = self.absolute.map(|span| metadata.since() + span);
        let cap = metadata.absolute_end.or(absolute);
        cap.map_or(idle, |cap| cap.min(idle))
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

    /// The key was renewed so long ago; the newer one may be on its way to the browser.
    Moved(Duration),

    /// No record: it never was, it ended, or its time is up.
    Nothing,

    /// A record that cannot be decoded, or that a newer version wrote. It is left as it is.
    Unreadable,
}

/// When a session ends unless something extends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End(pub(crate) Millis);

impl End {
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
        self.0.to_system_time()
    }
}

impl From<SystemTime> for End {
    fn from(at: SystemTime) -> Self {
        Self(at.into())
    }
}

/// What has yet to be ended once the new cookie is known to fit: the values of a cookie-stored
/// session from before a renewal or a `clear`, where a list on the server ends them.
///
/// The middleware runs it. [`Older::none`] is the right one for every store whose key only names
/// the state. A wrapper hands on what it got.
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
    /// There is nothing left to end.
    pub fn none() -> Self {
        Self(None)
    }

    /// Runs once the new cookie is known to fit; `false` says that the session was ended by
    /// somebody else meanwhile.
    pub(crate) fn ended_by(end: impl Future<Output = anyhow::Result<bool>> + 'static) -> Self {
        Self(Some(Box::pin(end)))
    }

    /// Ends it. `false`: somebody else was faster, and the new cookie must not be sent.
    pub(crate) async fn end(self) -> anyhow::Result<bool> {
        match self.0 {
            Some(end) => end.await,
            None => Ok(true),
        }
    }
}

/// Shows whether there is something to end.
impl fmt::Debug for Older {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Older").field(&self.0.is_some()).finish()
    }
}

/// What became of a commit.
///
/// Only a store whose key is the state answers with a key: a late answer must not hand out
/// somebody's new one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Committed {
    /// Saved, and the key is current.
    Saved(End),

    /// The key is the state, and this is the new one. [`Older`] ends the one before.
    NewValue(SessionKey, End, Older),

    /// The key was renewed by another request; the changes went where it led.
    Forwarded,

    /// The session ended; nothing was written, and nothing came back.
    Gone,
}

/// What became of a renewal.
#[derive(Debug)]
#[non_exhaustive]
pub enum Rotated {
    /// Renewed, or a session of the request's own changes made. [`Older`] ends what a key that is
    /// the state itself came from; a store on the server has done so in the same step.
    Rotated(SessionKey, End, Older),

    /// Another request renewed the key; this one makes no session.
    Moved,

    /// The session ended; this request makes none.
    Gone,
}
