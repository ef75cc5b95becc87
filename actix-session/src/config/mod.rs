//! Settings of [`SessionMiddleware`](crate::SessionMiddleware).

mod builder;
pub(crate) mod error;
mod lifecycle;
mod old_cookie;
mod policy;
pub mod secret_key;

use std::{sync::Arc, time::Duration};

use actix_web::{cookie::Key, dev::ServiceRequest};

pub use self::builder::SessionMiddlewareBuilder;
pub use self::error::ConfigError;
pub use self::lifecycle::{
    BrowserSession, PersistentSession, SessionLifecycle, TtlExtensionPolicy,
};
pub use self::old_cookie::OldCookie;
pub use self::policy::SessionPolicy;
pub use crate::record::WireFormat;
use crate::{
    clock::{LONGEST_WAIT, Millis, SharedClock},
    contract::{BUDGET, ExtendOnRead, Terms},
    cookie::{attributes::CookieAttributes, header::header_name},
    live::Looking,
    middleware::cap::Cap,
    observe::Observed,
    record::RESERVED,
    sync::FirstTime,
};

/// How often to look for the end of a session that somebody waits for.
pub(crate) const ENDED_LEASE: Duration = Duration::from_secs(5);

/// Below this, looking would be all that a process does.
const SHORTEST_LEASE: Duration = Duration::from_millis(10);

/// The longest time that browsers keep a cookie: 400 days (RFC 6265bis, 5.5).
pub(crate) const LONGEST: Millis = Millis::secs(400 * 86_400);
/// The longest TTL that is asked of a store: 100 years.
const LONGEST_STATE: Millis = Millis::secs(100 * 365 * 86_400);
/// What a TTL of zero or less is raised to, and the shortest grace.
const SHORTEST: Millis = Millis::secs(1);
/// The smallest limit on a record that leaves room for an entry beside the metadata, in octets.
const SMALLEST: usize = 256;

/// How the content of the session cookie is secured.
///
/// Used by [`SessionMiddlewareBuilder::cookie_content_security`].
#[derive(Debug, Clone, Copy)]
pub enum CookieContentSecurity {
    /// Encrypted and authenticated (AES-256-GCM), and bound to the cookie's name: only the server
    /// can read or change it. One key seals at most 2^32 cookies: see [`secret_key`].
    Private,

    /// Signed (HMAC-SHA-256), and bound to the cookie's name (not under [`WireFormat::V0_11`]): only the
    /// server can change it, but whoever sees it can read it.
    Signed,
}

/// What happens to a request whose session cannot be loaded because the store fails.
///
/// Used by [`SessionMiddlewareBuilder::on_load_error`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLoadError {
    /// The response is an empty 500, or an empty 503 if the same request may succeed later (the store is
    /// busy). The handler does not run, so it never mistakes an unknown
    /// session for an empty one. (Under [`lazy`](SessionMiddlewareBuilder::lazy) it may, behind an
    /// `Option<Session>`; its answer is thrown away.)
    #[default]
    Fail,

    /// The handler runs with an empty session, for reading only, and the cookie is left as it is.
    ///
    /// [`Session::is_degraded`](crate::Session::is_degraded) reports this. If the handler changes,
    /// renews or ends the session, or logs in, the response is a 503 instead of the handler's.
    Anonymous,
}

/// What happens to a login of a principal who has as many sessions as are allowed.
///
/// Used by [`SessionMiddlewareBuilder::max_sessions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OverLimit {
    /// The login succeeds, and the sessions that were logged in first end. Of more parallel logins than the
    /// limit, the earlier ones are refused: the response is a 401. Two that one browser sends at the same
    /// moment, as by a double click, may end one session more than needed.
    EvictOldest,

    /// The login is refused: the response is a 403, and the session before it stays as it is.
    Refuse,
}

/// When a request's session is loaded.
#[derive(Clone, Default)]
pub(crate) enum Loading {
    #[default]
    BeforeTheHandler,
    /// When it is first asked for, but for requests that this names.
    Lazy(Option<Arc<When>>),
}

/// Which requests something is for.
pub(crate) type When = dyn Fn(&ServiceRequest) -> bool + Send + Sync;

impl Loading {
    pub(crate) fn is_lazy(&self, req: &ServiceRequest) -> bool {
        match self {
            Self::BeforeTheHandler => false,
            Self::Lazy(load_when) => load_when.as_ref().is_none_or(|load_when| !load_when(req)),
        }
    }
}

/// All settings, as made on the builder.
#[derive(Clone)]
pub(crate) struct Configuration {
    pub(crate) cookie: CookieAttributes,
    pub(crate) key: Key,
    pub(crate) previous_keys: Vec<Key>,
    /// Other names under which the cookie is read.
    pub(crate) read_also: Vec<OldCookie>,
    /// The header field that clients without cookies use.
    pub(crate) header: Option<String>,
    /// If several live cookies come, none is used.
    pub(crate) one_live_cookie: bool,
    pub(crate) content_security: CookieContentSecurity,
    /// The cookie has a `Max-Age`.
    pub(crate) persistent: bool,
    /// The terms of every store call, to which each call adds the current time.
    pub(crate) terms: Terms,
    /// The time limit for a load.
    pub(crate) load_budget: Duration,
    pub(crate) accepts_unbound: bool,
    pub(crate) mixed_fleet: bool,
    pub(crate) untimed_until: Option<Millis>,
    pub(crate) on_load_error: OnLoadError,
    pub(crate) loading: Loading,
    /// How many sessions a principal may have.
    pub(crate) cap: Option<Cap>,
    /// Which requests extend no session.
    pub(crate) quiet_when: Option<Arc<When>>,
    /// How often to look for the end of a session that somebody waits for.
    pub(crate) ended_lease: Duration,
    pub(crate) clock: SharedClock,
    pub(crate) observed: Observed,
}

impl Configuration {
    fn new(key: Key) -> Self {
        Self {
            cookie: CookieAttributes::default(),
            key,
            previous_keys: Vec::new(),
            read_also: Vec::new(),
            header: None,
            one_live_cookie: false,
            content_security: CookieContentSecurity::Private,
            persistent: false,
            terms: Terms::default(),
            load_budget: BUDGET,
            accepts_unbound: false,
            mixed_fleet: false,
            untimed_until: None,
            on_load_error: OnLoadError::Fail,
            loading: Loading::default(),
            cap: None,
            quiet_when: None,
            ended_lease: ENDED_LEASE,
            clock: SharedClock::default(),
            observed: Observed::default(),
        }
    }

    /// How ends are looked for, on these settings.
    pub(crate) fn looking(&self) -> Looking {
        Looking {
            terms: Arc::new(self.terms.clone()),
            clock: self.clock.clone(),
            lease: self.ended_lease,
        }
    }

    pub(crate) fn is_quiet(&self, req: &ServiceRequest) -> bool {
        let quiet_when = self.quiet_when.as_ref();
        quiet_when.is_some_and(|quiet_when| quiet_when(req))
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.cookie.check()?;
        for old in &self.read_also {
            old.check(&self.cookie)?;
        }
        let header = self.header.as_deref();
        if header.is_some_and(|name| header_name(name).is_none()) {
            return Err(ConfigError::Header);
        }
        self.check_times()?;
        if self.terms.format == WireFormat::V0_11 && self.cap.is_some() && !self.mixed_fleet {
            return Err(ConfigError::CapInMixedFleet);
        }
        if self.cap.as_ref().is_some_and(|cap| !cap.has_lists()) {
            return Err(ConfigError::CapWithoutLists);
        }
        if self.cap.as_ref().is_some_and(|cap| cap.most() == 0) {
            return Err(ConfigError::MaxSessions);
        }
        if self.terms.principal_entry.as_deref() == Some(RESERVED) {
            return Err(ConfigError::PrincipalEntry);
        }
        if self.terms.max_state < SMALLEST {
            return Err(ConfigError::MaxStateSize);
        }
        if self.terms.absolute.is_some()
            && self.terms.format == WireFormat::V0_11
            && !self.mixed_fleet
        {
            return Err(ConfigError::MixedFleet);
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        let terms = &self.terms;
        let longest = if self.persistent {
            LONGEST
        } else {
            LONGEST_STATE
        };
        let within = |span: Millis, longest| span > Millis::ZERO && span <= longest;
        if !within(terms.ttl, longest) {
            return Err(ConfigError::Ttl);
        }
        if terms.absolute.is_some_and(|span| span <= Millis::ZERO) {
            return Err(ConfigError::AbsoluteTimeout);
        }
        if let ExtendOnRead::AtMostEvery(interval) = terms.extend
            && !(Millis::ZERO <= interval && interval < terms.ttl)
        {
            return Err(ConfigError::Interval);
        }
        if !within(terms.grace, LONGEST) {
            return Err(ConfigError::RenewalGrace);
        }
        let is_budget = |span: Duration| !span.is_zero() && span <= LONGEST_WAIT;
        if !is_budget(terms.budget) {
            return Err(ConfigError::CommitBudget);
        }
        if !is_budget(self.load_budget) {
            return Err(ConfigError::LoadBudget);
        }
        if !(SHORTEST_LEASE..=LONGEST_WAIT).contains(&self.ended_lease) {
            return Err(ConfigError::EndedLease);
        }
        Ok(())
    }

    fn clamped(mut self) -> Self {
        let longest = if self.persistent {
            LONGEST
        } else {
            LONGEST_STATE
        };
        self.terms.ttl = clamp(self.terms.ttl, longest);
        self.terms.absolute = self.terms.absolute.map(|limit| clamp(limit, LONGEST_STATE));
        if let ExtendOnRead::AtMostEvery(interval) = &mut self.terms.extend
            && *interval >= self.terms.ttl
        {
            // Otherwise nothing would ever be extended.
            *interval = Millis(self.terms.ttl.0 / 2);
        }
        self.terms.grace = self.terms.grace.clamp(SHORTEST, LONGEST);
        self.terms.max_state = self.terms.max_state.max(SMALLEST);
        self.ended_lease = self.ended_lease.clamp(SHORTEST_LEASE, LONGEST_WAIT);
        self.cap = self.cap.map(Cap::at_least_one);
        // No handler can set it.
        self.terms
            .principal_entry
            .take_if(|name| **name == *RESERVED);
        self
    }
}

fn clamp(ttl: Millis, longest: Millis) -> Millis {
    let clamped = if ttl <= Millis::ZERO {
        SHORTEST
    } else {
        ttl.min(longest)
    };
    if clamped != ttl {
        static FIRST: FirstTime = FirstTime::new();
        if FIRST.is_now() {
            tracing::warn!(
                given_ms = ttl.0,
                used_ms = clamped.0,
                "a session's time to live must be longer than zero, and at most 400 days for a \
                 persistent cookie or 100 years for another one, and an absolute timeout at most 100 \
                 years: one was clamped"
            );
        }
    }
    clamped
}

#[cfg(test)]
mod tests;
