//! The way in: which cookies open, and what they lead to.

use std::{future::Future, iter, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Parts, commit::limit, decide::COOKIE_IN_FLIGHT, lazy::LATE};
use crate::{
    boxed::boxed,
    clock::deadline,
    contract::{Opened, Terms},
    cookie::jar::{Candidate, Candidates, Fields},
    error::LoadError,
    event::Refusal,
    key::SessionKey,
    measure::{self, timed},
    observe::SessionEventKind,
    record::{Owner, Record},
    storage::SessionStore,
};

/// The maximum number of verified values that are looked up.
const MAX_LOOKUPS: usize = 4;

/// What a request carried.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) loaded: Loaded,
    /// The other keys that verified; a purge ends them too.
    pub(crate) others: Vec<SessionKey>,
    /// Those of the others that lead to nothing.
    pub(crate) vacant: Vec<SessionKey>,
    /// A value came under the current name, valid or not.
    pub(crate) cookie_came: bool,
    /// The session is carried in the header field of its own, and the response does the same.
    pub(crate) by_header: bool,
    /// Indices of the old cookies that the request carried.
    pub(crate) old_cookies: Vec<usize>,
    /// The value should be sealed again: its key, its name or its MAC is old.
    pub(crate) stale: bool,
    /// The load has extended the session.
    pub(crate) extended: bool,
    /// The request extends no session, whatever it does.
    pub(crate) quiet: bool,
    /// What was saved before the response needs a cookie, be the request quiet.
    pub(crate) owes_cookie: bool,
    /// Several live sessions came, and the configuration allows only one.
    pub(crate) ambiguous: bool,
    /// The store failed, and the request is served without a session.
    pub(crate) degraded: bool,
    /// The store was not asked.
    pub(crate) unopened: bool,
}

/// What the key in use leads to.
#[derive(Debug, Default)]
pub(crate) enum Loaded {
    /// No key came.
    #[default]
    None,
    Live(SessionKey, Record),
    /// The key was renewed this long ago.
    Moved(SessionKey, Duration),
    /// The key leads to no usable record.
    Lost(SessionKey),
    /// There is no record under the key, and no redirect.
    Vacant(SessionKey),
}

impl Loaded {
    pub(crate) fn key(&self) -> Option<&SessionKey> {
        match self {
            Self::None => None,
            Self::Live(key, _) | Self::Moved(key, _) | Self::Lost(key) | Self::Vacant(key) => {
                Some(key)
            }
        }
    }

    fn duplicate(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Live(key, record) => Self::Live(key.duplicate(), record.clone()),
            Self::Moved(key, age) => Self::Moved(key.duplicate(), *age),
            Self::Lost(key) => Self::Lost(key.duplicate()),
            Self::Vacant(key) => Self::Vacant(key.duplicate()),
        }
    }

    /// The base of the request's changes.
    pub(crate) fn record(&self) -> Option<&Record> {
        match self {
            Self::Live(_, record) => Some(record),
            Self::None | Self::Moved(..) | Self::Lost(_) | Self::Vacant(_) => None,
        }
    }
}

impl Incoming {
    /// Whose session the one in use is.
    pub(crate) fn principal(&self) -> Option<&str> {
        self.loaded.record()?.principal()
    }

    /// The same with all that an index knows of it.
    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::of_metadata(self.loaded.record()?.metadata()?)
    }

    /// All that verified, the one in use first, and whether they may lead to a session.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&SessionKey, bool)> {
        let leads = !matches!(self.loaded, Loaded::Vacant(_));
        let in_use = self.loaded.key().map(|key| (key, leads));
        let others = self.others.iter().map(|key| (key, true));
        let vacant = self.vacant.iter().map(|key| (key, false));
        in_use.into_iter().chain(others).chain(vacant)
    }

    /// # Errors
    /// The store fails. What is left is a request without a session, which can still end those whose
    /// keys it carried.
    pub(crate) async fn load<S: SessionStore>(
        parts: &Parts<S>,
        fields: Fields<'_>,
        quiet: bool,
    ) -> Result<Self, (LoadError, Self)> {
        let (mut incoming, candidates) = Self::find(parts, fields);
        incoming.quiet = quiet || parts.configuration.terms.keeps_end();
        if candidates.is_empty() {
            return Ok(incoming);
        }
        // Apart, so that requests without a session carry no room for it.
        boxed(|| incoming.look_up_all(parts, candidates)).await
    }

    #[allow(
        clippy::manual_async_fn,
        reason = "a block uses what it captures where it lies"
    )]
    fn look_up_all<S: SessionStore>(
        mut self,
        parts: &Parts<S>,
        candidates: Candidates,
    ) -> impl Future<Output = Result<Self, (LoadError, Self)>> {
        async move {
            let terms = &parts.terms(self.quiet);
            let time = Time::of(parts);
            let mut candidates = candidates.into_iter();
            let mut index = 0;
            while let Some(candidate) = candidates.next() {
                // A neighbouring host may have planted an old cookie, and one that could not be
                // removed keeps coming.
                let superseded = candidate.is_old && matches!(self.loaded, Loaded::Live(..));
                if index >= MAX_LOOKUPS || superseded {
                    self.others.push(candidate.key);
                } else {
                    match open(&parts.store, &candidate.key, terms, time).await {
                        Ok(opened) => self.take(parts, candidate, opened.proven(terms), terms),
                        Err(error) => {
                            let rest = candidates.map(|candidate| candidate.key);
                            self.others.extend(iter::once(candidate.key).chain(rest));
                            return Err((error, self.degraded()));
                        }
                    }
                }
                index += 1;
            }
            if self.ambiguous {
                self.use_none();
            }
            let live = self.loaded.record();
            self.extended = live.is_some_and(|record| terms.have_extended(record));
            // A request without changes writes it by the first key, as it seals the cookie.
            self.stale |= live.is_some_and(Record::is_by_previous_key);
            Ok(self)
        }
    }

    /// What the cookies say by themselves: all that verified may lead to a session.
    pub(crate) fn unopened<S>(parts: &Parts<S>, fields: Fields<'_>) -> Self {
        let (mut incoming, candidates) = Self::find(parts, fields);
        incoming.others = candidates.into_iter().map(|it| it.key).collect();
        incoming.unopened = true;
        incoming
    }

    fn find<S>(parts: &Parts<S>, fields: Fields<'_>) -> (Self, Candidates) {
        let found = parts.cookies.find(fields, parts.writes_old_mac());
        let incoming = Self {
            cookie_came: found.came,
            by_header: found.by_header,
            old_cookies: found.others,
            ..Self::default()
        };
        (incoming, found.candidates)
    }

    /// The request goes on from a record that it has left itself, perhaps under another key. What it
    /// saved was activity.
    pub(crate) fn after_save(&self, value: Option<SessionKey>, record: Record) -> Self {
        let had_own_ttl = self.loaded.record().is_some_and(Record::has_own_ttl);
        let (is_new, has_own_ttl) = (value.is_some(), record.has_own_ttl());
        let came = self.loaded.key().map(SessionKey::duplicate);
        let mut others: Vec<_> = self.others.iter().map(SessionKey::duplicate).collect();
        // A purge ends the value that came, too.
        let (key, replaced) = match value {
            Some(value) => (Some(value), came),
            None => (came, None),
        };
        others.extend(replaced);
        Self {
            others,
            // The cookie has to carry the new value, or to lose its age.
            stale: self.stale || is_new || (had_own_ttl && !has_own_ttl),
            owes_cookie: self.owes_cookie || is_new || had_own_ttl != has_own_ttl,
            extended: true,
            loaded: key.map_or(Loaded::None, |key| Loaded::Live(key, record)),
            ..self.duplicate()
        }
    }

    pub(crate) fn duplicate(&self) -> Self {
        let others = self.others.iter().map(SessionKey::duplicate);
        Self {
            loaded: self.loaded.duplicate(),
            others: others.collect(),
            vacant: self.vacant.iter().map(SessionKey::duplicate).collect(),
            old_cookies: self.old_cookies.clone(),
            ..*self
        }
    }

    /// The store failed, and the request is served without a session.
    fn degraded(mut self) -> Self {
        self.use_none();
        self.degraded = true;
        self
    }

    /// Of several live sessions, any could be the right one: none is used.
    fn use_none(&mut self) {
        match std::mem::take(&mut self.loaded) {
            Loaded::None => {}
            Loaded::Vacant(key) => self.vacant.push(key),
            Loaded::Live(key, _) | Loaded::Moved(key, _) | Loaded::Lost(key) => {
                self.others.push(key);
            }
        }
        self.stale = false;
    }

    /// Uses the first live session. Before there is one, a redirect counts more than a missing
    /// record.
    fn take<S>(&mut self, parts: &Parts<S>, candidate: Candidate, opened: Opened, terms: &Terms) {
        let (loaded, stale) = led_to(parts, candidate, opened, terms);
        if let Loaded::None = self.loaded {
            (self.loaded, self.stale) = (loaded, stale);
            return;
        }
        let better = match (&self.loaded, &loaded) {
            (Loaded::Live(..), Loaded::Live(key, _)) => {
                parts.observed().refused(Refusal::Duplicate, Some(key));
                self.ambiguous |= parts.configuration.one_live_cookie;
                false
            }
            (_, Loaded::Live(..)) => true,
            (Loaded::Lost(_) | Loaded::Vacant(_), Loaded::Moved(..)) => true,
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
            Loaded::Vacant(key) => self.vacant.push(key),
            Loaded::Live(key, _) | Loaded::Moved(key, _) | Loaded::Lost(key) => {
                self.others.push(key);
            }
        }
    }
}

/// The time limit for all that a request asks on its way in, however many cookies came.
#[derive(Clone, Copy)]
struct Time {
    /// For the store.
    deadline: Instant,
    /// When whatever is still under way is given up.
    limit: Instant,
}

impl Time {
    /// `None` if the store never waits.
    fn of<S: SessionStore>(parts: &Parts<S>) -> Option<Self> {
        let budget = parts.configuration.load_budget;
        (!parts.store.opens_at_once()).then(|| Self {
            deadline: deadline(budget),
            limit: limit(budget),
        })
    }

    /// The terms for what is asked now.
    fn left(self, terms: &Terms) -> Terms {
        Terms {
            budget: self.deadline.saturating_duration_since(Instant::now()),
            ..terms.clone()
        }
    }
}

async fn open<S: SessionStore>(
    store: &S,
    key: &SessionKey,
    terms: &Terms,
    time: Option<Time>,
) -> Result<Opened, LoadError> {
    match time {
        None => timed("open", store.open(key, terms)).await,
        Some(time) => boxed(|| open_in_time(store, key, terms, time)).await,
    }
}

async fn open_in_time<S: SessionStore>(
    store: &S,
    key: &SessionKey,
    terms: &Terms,
    time: Time,
) -> Result<Opened, LoadError> {
    let terms = time.left(terms);
    let opened = timeout_at(time.limit, timed("open", store.open(key, &terms))).await;
    opened.unwrap_or_else(|_| Err(LoadError::Other(anyhow::anyhow!(LATE))))
}

/// What a verified value leads to, and whether the cookie has to be sealed again.
fn led_to<S>(
    parts: &Parts<S>,
    candidate: Candidate,
    opened: Opened,
    terms: &Terms,
) -> (Loaded, bool) {
    let Candidate {
        key,
        unbound,
        stale,
        ..
    } = candidate;
    let refused = unbound && !parts.writes_old_mac() && !parts.accepts_unbound;
    let loaded = match opened {
        // A value whose MAC does not cover the cookie's name may be another cookie's. If it is the
        // state itself, not just a key, that would be a forgery.
        Opened::Live(record) if refused && record.is_in_cookie() => {
            parts.observed().refused(Refusal::Unbound, Some(&key));
            return (Loaded::None, false);
        }
        Opened::Live(record) if is_too_old(parts, &record, terms) => {
            parts.observed().refused(Refusal::UnknownKey, Some(&key));
            Loaded::Lost(key)
        }
        Opened::Live(record) => {
            measure::loaded();
            Loaded::Live(key, record)
        }
        Opened::Moved(age) => {
            if age >= COOKIE_IN_FLIGHT {
                parts
                    .observed()
                    .tell(SessionEventKind::KeyReused, Some(&key), None);
            }
            Loaded::Moved(key, age)
        }
        Opened::Nothing => {
            parts.observed().refused(Refusal::UnknownKey, Some(&key));
            // Another cookie's value is no key of ours, so there is nothing to end.
            if unbound {
                return (Loaded::None, false);
            }
            Loaded::Vacant(key)
        }
        Opened::Unreadable => {
            parts.observed().refused(Refusal::Unreadable, Some(&key));
            Loaded::Lost(key)
        }
    };
    (loaded, stale)
}

/// Whether a record is past its absolute end, which a store of the application's own may not have
/// checked; or a cookie-stored one without times, and those are no longer accepted.
fn is_too_old<S>(parts: &Parts<S>, record: &Record, terms: &Terms) -> bool {
    let until = parts.configuration.untimed_until;
    let untimed = record.is_in_cookie() && record.end().is_none();
    terms.is_over(record) || (untimed && until.is_some_and(|until| until <= terms.now))
}
