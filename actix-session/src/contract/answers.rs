//! What a store answers.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    time::{Duration, SystemTime},
};

use super::Terms;
use crate::{
    clock::Millis,
    key::SessionKey,
    record::{Place, Record},
};

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
            Self::Live(record) => Self::Live(terms.prove(record, Place::Unnamed)),
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
        let end = record.end().unwrap_or_else(|| terms.until(record));
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
/// a session after a renewal or a logout.
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
pub struct Older(Option<Pin<Box<dyn Future<Output = anyhow::Result<bool>> + Send>>>);

impl Older {
    /// Nothing is left to end.
    pub fn none() -> Self {
        Self(None)
    }

    /// Runs `end` once the new cookie is known to fit. `false` means that another request has ended
    /// the session meanwhile.
    pub(crate) fn ended_by(
        end: impl Future<Output = anyhow::Result<bool>> + Send + 'static,
    ) -> Self {
        Self(Some(Box::pin(end)))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
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

impl Committed {
    /// Whether the changes have gone to the record under the key that the request came with.
    pub(crate) fn is_written(&self) -> bool {
        matches!(self, Self::Saved(_) | Self::NewValue(..))
    }
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

impl Rotated {
    /// The new key.
    pub(crate) fn key(&self) -> Option<&SessionKey> {
        match self {
            Self::Rotated(key, ..) => Some(key),
            Self::Moved | Self::Gone => None,
        }
    }
}
