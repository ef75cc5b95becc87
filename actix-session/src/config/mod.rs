//! Settings of [`SessionMiddleware`].

mod error;
mod lifecycle;

use std::time::{Duration as StdDuration, SystemTime};

use actix_web::cookie::{Key, SameSite, time::Duration};

pub use self::error::ConfigError;
pub use self::lifecycle::{
    BrowserSession, PersistentSession, SessionLifecycle, TtlExtensionPolicy,
};
pub use crate::record::WireFormat;
use crate::{
    SessionMiddleware,
    clock::{Clock, Millis, SharedClock},
    storage::SessionStore,
};

/// The longest time that browsers keep a cookie: 400 days (RFC 6265bis, 5.5).
pub(crate) const LONGEST: Millis = Millis::secs(400 * 86_400);
/// The longest time that a store is asked to keep a state: 100 years.
const LONGEST_STATE: Millis = Millis::secs(100 * 365 * 86_400);
/// What a time to live of zero or less becomes.
const SHORTEST: Millis = Millis::secs(1);

/// How the content of the session cookie is secured.
///
/// Used by [`SessionMiddlewareBuilder::cookie_content_security`].
#[derive(Debug, Clone, Copy)]
pub enum CookieContentSecurity {
    /// Encrypted and authenticated (AES-256-GCM), bound to the cookie's name: nobody else can read
    /// or change it.
    Private,

    /// Signed (HMAC-SHA-256), bound to the cookie's name: nobody else can change it, and everybody
    /// who sees it can read it.
    Signed,
}

/// What happens to a request whose session cannot be loaded because the store fails.
///
/// Used by [`SessionMiddlewareBuilder::on_load_error`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLoadError {
    /// The response is an opaque 500, and the handler does not run: it never sees a session that
    /// is not known.
    #[default]
    Fail,

    /// The handler runs without a session, for reading, and no cookie is touched.
    ///
    /// [`Session::is_degraded`](crate::Session::is_degraded) tells it. Where it ends, renews, logs
    /// in or changes anything, the response is a 503 instead of its answer.
    Anonymous,
}

/// Settings of a [`SessionMiddleware`], made by [`SessionMiddleware::builder`].
///
/// # Examples
/// ```
/// use actix_session::{
///     SessionMiddleware,
///     config::{CookieContentSecurity, PersistentSession},
///     storage::MemorySessionStore,
/// };
/// use actix_web::cookie::{Key, SameSite, time::Duration};
///
/// # let secret_key = Key::generate();
/// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
///     .cookie_name("shop_session".to_owned())
///     .cookie_same_site(SameSite::Strict)
///     .cookie_content_security(CookieContentSecurity::Signed)
///     .session_lifecycle(PersistentSession::default().session_ttl(Duration::weeks(2)))
///     .build();
/// # let _ = middleware;
/// ```
#[must_use]
pub struct SessionMiddlewareBuilder<Store: SessionStore> {
    store: Store,
    configuration: Configuration,
}

impl<Store: SessionStore> SessionMiddlewareBuilder<Store> {
    pub(crate) fn new(store: Store, key: Key) -> Self {
        Self {
            store,
            configuration: Configuration::new(key),
        }
    }

    /// Sets the cookie's name; `id` by default.
    pub fn cookie_name(mut self, name: String) -> Self {
        self.configuration.cookie.name = name;
        self
    }

    /// Sets the cookie's `Secure` attribute: browsers then send it over `https` alone. `true` by
    /// default.
    pub fn cookie_secure(mut self, secure: bool) -> Self {
        self.configuration.cookie.secure = secure;
        self
    }

    /// Sets how long sessions and their cookies live; [`BrowserSession`] by default.
    pub fn session_lifecycle<S: Into<SessionLifecycle>>(mut self, session_lifecycle: S) -> Self {
        let (persistent, ttl, extension) = match session_lifecycle.into() {
            SessionLifecycle::BrowserSession(browser) => {
                (false, browser.state_ttl, browser.state_ttl_extension_policy)
            }
            SessionLifecycle::PersistentSession(session) => {
                (true, session.session_ttl, session.ttl_extension_policy)
            }
        };
        self.configuration.persistent = persistent;
        self.configuration.ttl = ttl.into();
        self.configuration.extend = matches!(extension, TtlExtensionPolicy::OnEveryRequest);
        self
    }

    /// Sets the cookie's `SameSite` attribute; `Lax` by default.
    pub fn cookie_same_site(mut self, same_site: SameSite) -> Self {
        self.configuration.cookie.same_site = same_site;
        self
    }

    /// Sets the cookie's `Path` attribute; `/` by default.
    pub fn cookie_path(mut self, path: String) -> Self {
        self.configuration.cookie.path = path;
        self
    }

    /// Sets the cookie's `Domain` attribute; none by default, so that the cookie is for the host
    /// that set it and not for its subdomains.
    pub fn cookie_domain(mut self, domain: Option<String>) -> Self {
        self.configuration.cookie.domain = domain;
        self
    }

    /// Sets how the cookie's content is secured; [`CookieContentSecurity::Private`] by default.
    pub fn cookie_content_security(mut self, content_security: CookieContentSecurity) -> Self {
        self.configuration.content_security = content_security;
        self
    }

    /// Sets the cookie's `HttpOnly` attribute: scripts cannot read the cookie then. `true` by
    /// default.
    pub fn cookie_http_only(mut self, http_only: bool) -> Self {
        self.configuration.cookie.http_only = http_only;
        self
    }

    /// Sets what stores write; [`WireFormat::V1`] by default.
    pub fn wire_format(mut self, format: WireFormat) -> Self {
        self.configuration.format = format;
        self
    }

    /// Accepts signed cookie-stored sessions of actix-session 0.11 and older; not by default.
    ///
    /// Their signature does not say for which cookie it was made: the value of any other signed
    /// cookie whose text a user influences can pass for a session. Accept them for as long as such
    /// sessions live, and no longer. (With stores on the server they are always accepted: there the
    /// value has to name a live record.)
    pub fn accept_unbound_signatures(mut self, accept: bool) -> Self {
        self.configuration.accepts_unbound = accept;
        self
    }

    /// Sets when a session ends at the latest, however busy it is; counted from its creation, or
    /// from the last [`login`](crate::Session::login) or
    /// [`reauthenticated`](crate::Session::reauthenticated). None by default.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::{Key, time::Duration};
    /// # let secret_key = Key::generate();
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .absolute_timeout(Duration::hours(12))
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn absolute_timeout(mut self, limit: Duration) -> Self {
        self.configuration.absolute = Some(limit.into());
        self
    }

    /// Says that servers of actix-session 0.11 or older share the store, so that an absolute timeout
    /// under [`WireFormat::V0_11`] is best effort: they may drop or copy the facts of a session.
    pub fn mixed_fleet(mut self) -> Self {
        self.configuration.mixed_fleet = true;
        self
    }

    /// Sets until when cookie-stored sessions without times are accepted, as actix-session 0.11 and
    /// older made them. Without it they always are, with a warning at each start: a copy of such a
    /// cookie never ends by itself.
    pub fn legacy_cookies_until(mut self, date: SystemTime) -> Self {
        self.configuration.untimed_until = Some(date.into());
        self
    }

    /// Sets what happens where the store fails to load a session; [`OnLoadError::Fail`] by default.
    pub fn on_load_error(mut self, policy: OnLoadError) -> Self {
        self.configuration.on_load_error = policy;
        self
    }

    /// Sets for how long requests that came before a renewal can still find what it led to; 60
    /// seconds by default. It has to cover the longest handler.
    pub fn renewal_grace(mut self, grace: Duration) -> Self {
        self.configuration.grace = grace.into();
        self
    }

    /// Sets how long all attempts of one commit may take together; 3 seconds by default. Past it
    /// the response is a 503.
    pub fn commit_budget(mut self, budget: StdDuration) -> Self {
        self.configuration.budget = budget;
        self
    }

    /// Sets where the time comes from, for tests; the store should have the same clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.configuration.clock = SharedClock::new(clock);
        self
    }

    /// Finishes the settings, and refuses those that cannot do what they say.
    ///
    /// # Errors
    /// [`ConfigError`] says what to change.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, config::PersistentSession, storage::MemorySessionStore};
    /// # use actix_web::cookie::{Key, time::Duration};
    /// # let secret_key = Key::generate();
    /// let ten_years = PersistentSession::default().session_ttl(Duration::weeks(520));
    /// let refused = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .session_lifecycle(ten_years)
    ///     .try_build()
    ///     .unwrap_err();
    /// assert!(refused.to_string().contains("400 days"));
    /// ```
    pub fn try_build(self) -> Result<SessionMiddleware<Store>, ConfigError> {
        self.configuration.check()?;
        Ok(self.build())
    }

    /// Finishes the settings.
    ///
    /// Times to live of zero or less, and beyond 400 days, are clamped, with a warning.
    #[must_use]
    pub fn build(self) -> SessionMiddleware<Store> {
        SessionMiddleware::from_parts(self.store, self.configuration.clamped())
    }
}

/// Shows nothing of the keys.
impl<Store: SessionStore> std::fmt::Debug for SessionMiddlewareBuilder<Store> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionMiddlewareBuilder")
            .field("cookie", &self.configuration.cookie)
            .finish_non_exhaustive()
    }
}

/// All settings, as the builder was told.
#[derive(Clone)]
pub(crate) struct Configuration {
    pub(crate) cookie: CookieAttributes,
    pub(crate) key: Key,
    pub(crate) content_security: CookieContentSecurity,
    /// The cookie has a `Max-Age`.
    pub(crate) persistent: bool,
    pub(crate) ttl: Millis,
    pub(crate) extend: bool,
    pub(crate) absolute: Option<Millis>,
    pub(crate) grace: Millis,
    pub(crate) budget: StdDuration,
    pub(crate) format: WireFormat,
    pub(crate) accepts_unbound: bool,
    pub(crate) mixed_fleet: bool,
    pub(crate) untimed_until: Option<Millis>,
    pub(crate) on_load_error: OnLoadError,
    pub(crate) clock: SharedClock,
}

#[derive(Debug, Clone)]
pub(crate) struct CookieAttributes {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) domain: Option<String>,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: SameSite,
}

impl Configuration {
    fn new(key: Key) -> Self {
        Self {
            cookie: CookieAttributes {
                name: "id".to_owned(),
                path: "/".to_owned(),
                domain: None,
                secure: true,
                http_only: true,
                same_site: SameSite::Lax,
            },
            key,
            content_security: CookieContentSecurity::Private,
            persistent: false,
            ttl: Millis::secs(86_400),
            extend: false,
            absolute: None,
            grace: crate::storage::terms::GRACE,
            budget: crate::storage::terms::BUDGET,
            format: WireFormat::V1,
            accepts_unbound: false,
            mixed_fleet: false,
            untimed_until: None,
            on_load_error: OnLoadError::Fail,
            clock: SharedClock::default(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let longest = if self.persistent {
            LONGEST
        } else {
            LONGEST_STATE
        };
        let possible = |ttl: Millis| ttl > Millis::ZERO && ttl <= longest;
        if !possible(self.ttl) {
            return Err(ConfigError::Ttl);
        }
        if self.absolute.is_some_and(|limit| limit <= Millis::ZERO) {
            return Err(ConfigError::AbsoluteTimeout);
        }
        if self.absolute.is_some() && self.format == WireFormat::V0_11 && !self.mixed_fleet {
            return Err(ConfigError::MixedFleet);
        }
        Ok(())
    }

    fn clamped(mut self) -> Self {
        let longest = if self.persistent {
            LONGEST
        } else {
            LONGEST_STATE
        };
        self.ttl = clamp(self.ttl, longest);
        self.absolute = self.absolute.map(|limit| clamp(limit, LONGEST_STATE));
        self.grace = self.grace.clamp(SHORTEST, LONGEST);
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
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            tracing::warn!(
                given_ms = ttl.0,
                used_ms = clamped.0,
                "a session's time to live is more than zero, and no more than 400 days for a \
                 persistent cookie: browsers keep none for longer"
            );
        });
    }
    clamped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_times_are_clamped() {
        let with = |persistent, ttl: Duration| {
            let configuration = Configuration {
                persistent,
                ttl: ttl.into(),
                ..Configuration::new(Key::generate())
            };
            configuration.clamped().ttl
        };
        assert_eq!(with(true, Duration::ZERO), SHORTEST);
        assert_eq!(with(true, Duration::seconds(-5)), SHORTEST);
        assert_eq!(with(true, Duration::days(4_000)), LONGEST);
        assert_eq!(with(true, Duration::MAX), LONGEST);
        assert_eq!(with(false, Duration::milliseconds(1_500)), Millis(1_500));
        assert!(with(false, Duration::MAX).0 > 0);
    }
}
