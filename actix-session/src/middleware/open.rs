//! The way in: which cookies open, and what they lead to.

use std::time::Duration;

use actix_web::http::header::HeaderMap;

use super::Shared;
use crate::{
    cookie::read,
    event,
    record::Record,
    storage::{LoadError, Opened, SessionKey, SessionStore, Terms},
};

/// How many values that verify are looked up.
const LOOKED_UP: usize = 4;

/// What a request came with.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) loaded: Loaded,
    /// The other keys that verified; a purge ends them too.
    pub(crate) others: Vec<SessionKey>,
    /// A cookie of our name came, whatever was in it.
    pub(crate) cookie_came: bool,
    /// The value should be sealed anew: its MAC is of the old kind.
    pub(crate) stale: bool,
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
}

struct Candidate {
    key: SessionKey,
    unbound: bool,
}

impl Incoming {
    pub(crate) async fn load<S: SessionStore>(
        shared: &Shared<S>,
        headers: &HeaderMap,
        terms: &Terms,
    ) -> Result<Self, LoadError> {
        let name = &shared.wire_name;
        let values = read::values(headers, name);
        if values.is_empty() {
            let cookie_came = read::is_sent(headers, name);
            return Ok(Self {
                cookie_came,
                ..Self::default()
            });
        }
        let candidates = verified(shared, &values);
        let mut incoming = Self {
            cookie_came: true,
            ..Self::default()
        };
        for (index, candidate) in candidates.into_iter().enumerate() {
            if index >= LOOKED_UP {
                incoming.others.push(candidate.key);
                continue;
            }
            let (loaded, stale) = look_up(shared, candidate, terms).await?;
            incoming.take(loaded, stale);
        }
        Ok(incoming)
    }

    /// The first live session is used; before there is one, a mark counts more than nothing.
    fn take(&mut self, loaded: Loaded, stale: bool) {
        let better = match (&self.loaded, &loaded) {
            (Loaded::Live(..), Loaded::Live(key, _)) => {
                event::duplicate_cookie(key);
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

fn verified<S: SessionStore>(shared: &Shared<S>, values: &[String]) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::with_capacity(1);
    for value in values {
        let Some(unsealed) = shared.sealer.open(value) else {
            event::refused_cookie();
            continue;
        };
        let key = SessionKey::generated(unsealed.value);
        if !candidates.iter().any(|known| known.key == key) {
            candidates.push(Candidate {
                key,
                unbound: unsealed.unbound,
            });
        }
    }
    candidates
}

async fn look_up<S: SessionStore>(
    shared: &Shared<S>,
    candidate: Candidate,
    terms: &Terms,
) -> Result<(Loaded, bool), LoadError> {
    let Candidate { key, unbound } = candidate;
    let stale = unbound && !shared.writes_old_mac();
    let loaded = match shared.store.open(&key, terms).await? {
        // A value that says nothing of its cookie may be another cookie's: where it is not just
        // the name of a record but the state itself, that would be a forgery.
        Opened::Live(record) if stale && record.is_sealed() && !shared.accepts_unbound => {
            event::refused_unbound();
            return Ok((Loaded::None, false));
        }
        Opened::Live(record) if shared.is_too_old(&record, terms.now) => {
            event::unknown_key(&key);
            Loaded::Lost(key)
        }
        Opened::Live(record) => Loaded::Live(key, record),
        Opened::Moved(age) => Loaded::Moved(key, age),
        Opened::Nothing => {
            event::unknown_key(&key);
            Loaded::Lost(key)
        }
        Opened::Unreadable => {
            event::unreadable_record(&key);
            Loaded::Lost(key)
        }
    };
    // Another cookie's text names nothing of ours, so there is nothing to end under it either.
    match loaded {
        Loaded::Lost(_) if unbound => Ok((Loaded::None, false)),
        loaded => Ok((loaded, stale)),
    }
}
