//! The way in: which cookies open, and what they lead to.

use std::time::Duration;

use actix_web::http::header::HeaderMap;

use super::Parts;
use crate::{
    clock::Millis,
    contract::{Opened, Terms},
    cookie::jar::Candidate,
    error::LoadError,
    event::{self, Refusal},
    key::SessionKey,
    record::Record,
    storage::SessionStore,
};

/// How many values that verify are looked up.
const MAX_LOOKUPS: usize = 4;

/// What a request came with.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) loaded: Loaded,
    /// The other keys that verified; a purge ends them too.
    pub(crate) others: Vec<SessionKey>,
    /// A cookie of our name came, whatever was in it.
    pub(crate) cookie_came: bool,
    /// Indices of the old cookies that the request carried.
    pub(crate) old_cookies: Vec<usize>,
    /// The value should be sealed anew: an older key, name or MAC opened it.
    pub(crate) stale: bool,
    /// Several live sessions came, and that is one too many.
    pub(crate) ambiguous: bool,
    /// The store failed, and the request is served without a session.
    pub(crate) degraded: bool,
}

/// What the key in use leads to.
#[derive(Debug, Default)]
pub(crate) enum Loaded {
    /// There is no key.
    #[default]
    None,
    Live(SessionKey, Record),
    /// It was renewed so long ago.
    Moved(SessionKey, Duration),
    /// It leads to nothing that can be used.
    Lost(SessionKey),
}

impl Loaded {
    pub(crate) fn key(&self) -> Option<&SessionKey> {
        match self {
            Self::None => None,
            Self::Live(key, _) | Self::Moved(key, _) | Self::Lost(key) => Some(key),
        }
    }

    /// The record that the request's changes are made on.
    pub(crate) fn record(&self) -> Option<&Record> {
        match self {
            Self::Live(_, record) => Some(record),
            Self::None | Self::Moved(..) | Self::Lost(_) => None,
        }
    }
}

impl Incoming {
    pub(crate) async fn load<S: SessionStore>(
        parts: &Parts<S>,
        headers: &HeaderMap,
        terms: &Terms,
    ) -> Result<Self, LoadError> {
        let found = parts.cookies.find(headers, parts.writes_old_mac());
        let mut incoming = Self {
            cookie_came: found.came,
            old_cookies: found.others,
            ..Self::default()
        };
        for (index, candidate) in found.candidates.into_iter().enumerate() {
            // A neighbour may have planted an old cookie; and one that could not be removed comes again
            // and again.
            let superseded = candidate.is_old && matches!(incoming.loaded, Loaded::Live(..));
            if index >= MAX_LOOKUPS || superseded {
                incoming.others.push(candidate.key);
                continue;
            }
            let (loaded, stale) = look_up(parts, candidate, terms).await?;
            let one_only = parts.configuration.one_live_cookie;
            incoming.take(loaded, stale, one_only);
        }
        if incoming.ambiguous {
            incoming.use_none();
        }
        Ok(incoming)
    }

    /// The store failed, and the request goes on without a session.
    pub(crate) fn degraded() -> Self {
        Self {
            degraded: true,
            ..Self::default()
        }
    }

    /// Whichever of several live sessions is the right one cannot be told.
    fn use_none(&mut self) {
        if let Loaded::Live(key, _) = std::mem::take(&mut self.loaded) {
            self.others.push(key);
        }
        self.stale = false;
    }

    /// The first live session is used; before there is one, a mark counts more than nothing.
    fn take(&mut self, loaded: Loaded, stale: bool, one_only: bool) {
        let better = match (&self.loaded, &loaded) {
            (Loaded::Live(..), Loaded::Live(key, _)) => {
                event::refused(Refusal::Duplicate, Some(key));
                self.ambiguous |= one_only;
                false
            }
            (Loaded::None, _) => true,
            (_, Loaded::Live(..)) => true,
            (Loaded::Lost(_), Loaded::Moved(..)) => true,
            _ => false,
        };
        let other = if better {
            self.stale = stale;
            std::mem::replace(&mut self.loaded, loaded)
        } else {
            loaded
        };
        match other {
            Loaded::None => {}
            Loaded::Live(key, _) | Loaded::Moved(key, _) | Loaded::Lost(key) => {
                self.others.push(key);
            }
        }
    }
}

async fn look_up<S: SessionStore>(
    parts: &Parts<S>,
    candidate: Candidate,
    terms: &Terms,
) -> Result<(Loaded, bool), LoadError> {
    let Candidate {
        key,
        unbound,
        stale,
        ..
    } = candidate;
    let refused = unbound && !parts.writes_old_mac() && !parts.accepts_unbound;
    let loaded = match parts.store.open(&key, terms).await? {
        // A value that says nothing of its cookie may be another cookie's: where it is not just
        // the name of a record but the state itself, that would be a forgery.
        Opened::Live(record) if refused && record.is_in_cookie() => {
            event::refused(Refusal::Unbound, Some(&key));
            return Ok((Loaded::None, false));
        }
        Opened::Live(record) if is_too_old(parts, &record, terms.now) => {
            event::refused(Refusal::UnknownKey, Some(&key));
            Loaded::Lost(key)
        }
        Opened::Live(record) => Loaded::Live(key, record),
        Opened::Moved(age) => Loaded::Moved(key, age),
        Opened::Nothing => {
            event::refused(Refusal::UnknownKey, Some(&key));
            Loaded::Lost(key)
        }
        Opened::Unreadable => {
            event::refused(Refusal::Unreadable, Some(&key));
            Loaded::Lost(key)
        }
    };
    // Another cookie's text names nothing of ours, so there is nothing to end under it either.
    match loaded {
        Loaded::Lost(_) if unbound => Ok((Loaded::None, false)),
        loaded => Ok((loaded, stale)),
    }
}

/// Whether a record is a cookie-stored one without times, and those are accepted no more.
fn is_too_old<S>(parts: &Parts<S>, record: &Record, now: Millis) -> bool {
    let until = parts.configuration.untimed_until;
    let untimed = record.is_in_cookie() && record.end().is_none();
    untimed && until.is_some_and(|until| until <= now)
}
