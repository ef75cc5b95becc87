//! The builder.

use std::time::{Duration as StdDuration, SystemTime};

use actix_web::cookie::{Key, SameSite, time::Duration};

use super::{
    ConfigError, Configuration, CookieContentSecurity, OldCookie, OnLoadError, SessionLifecycle,
    SessionPolicy, TtlExtensionPolicy, WireFormat,
};
use crate::{
    SessionMiddleware,
    clock::{Clock, Millis, SharedClock},
    contract::Extension,
    storage::SessionStore,
};

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

    /// Sets how long sessions and their cookies live; [`BrowserSession`](super::BrowserSession) by default.
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
        self.configuration.terms.ttl = ttl.into();
        self.configuration.terms.extend = match extension {
            TtlExtensionPolicy::OnEveryRequest => Extension::Always,
            TtlExtensionPolicy::OnStateChanges => Extension::Never,
            TtlExtensionPolicy::AtMostEvery(interval) => Extension::AtMostEvery(interval.into()),
        };
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

    /// Sets secret keys that still open cookies, for a planned rotation: the key that the builder was
    /// made with seals, and a cookie that one of these opened is sealed anew in the answer.
    ///
    /// A key that has leaked is removed, not listed here: for as long as it is listed, whoever has it
    /// can make cookies.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let (new_key, last_years_key) = (Key::generate(), Key::generate());
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), new_key)
    ///     .previous_keys([last_years_key])
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn previous_keys(mut self, keys: impl IntoIterator<Item = Key>) -> Self {
        self.configuration.previous_keys = keys.into_iter().collect();
        self
    }

    /// Sets the cookie's `Partitioned` attribute (CHIPS): a page embedded in others then has a
    /// session for each of them. Browsers want `Secure` with it, and `SameSite=None` for embedded
    /// pages. `false` by default.
    pub fn cookie_partitioned(mut self, partitioned: bool) -> Self {
        self.configuration.cookie.partitioned = partitioned;
        self
    }

    /// Reads cookies of this name too, sealed under it with the same keys, to change the cookie's
    /// name without logging anybody out. The answer moves the session to the present name and removes
    /// the old cookie, which is not looked at where a live one of the present name came.
    ///
    /// A browser drops a cookie only if it is told its path and domain: where those were others than
    /// they are now, say so with an [`OldCookie`]. Otherwise the old cookie stays, and a session that
    /// is stored in it comes back after a logout.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .strict()
    ///     .read_also("id")
    ///     .try_build()?;
    /// # let _ = middleware;
    /// # Ok::<(), actix_session::config::ConfigError>(())
    /// ```
    pub fn read_also(mut self, cookie: impl Into<OldCookie>) -> Self {
        self.configuration.read_also.push(cookie.into());
        self
    }

    /// The hardened settings: the cookie is named `__Host-id` (a name that was set before gets the
    /// prefix), `Secure`, `HttpOnly`, `SameSite=Strict`, for the whole host and no other; where a
    /// request comes with several live sessions none is used; and a record has 64 KiB at most. What is set later on the builder holds.
    ///
    /// Links from other sites find a visitor logged out under `Strict`; choose `Lax` after this if
    /// that matters more (NIST SP 800-63B-4, 5.1.1 allows both).
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// let contradiction = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .strict()
    ///     .cookie_secure(false)
    ///     .try_build()
    ///     .unwrap_err();
    /// assert!(contradiction.to_string().contains("__Host-"));
    /// ```
    pub fn strict(mut self) -> Self {
        let cookie = &mut self.configuration.cookie;
        if !cookie.name.starts_with("__Host-") {
            cookie.name = format!("__Host-{}", cookie.name.trim_start_matches("__Secure-"));
        }
        cookie.path = "/".to_owned();
        cookie.domain = None;
        cookie.secure = true;
        cookie.http_only = true;
        cookie.same_site = SameSite::Strict;
        self.configuration.one_live_cookie = true;
        self.configuration.terms.max_state = 64 * 1024;
        self
    }

    /// Sets the idle and absolute timeouts of a [`SessionPolicy`]. The cookie's kind stays.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, config::SessionPolicy, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .policy(&SessionPolicy::aal2())
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn policy(mut self, policy: &SessionPolicy) -> Self {
        let absolute = Millis::from(policy.absolute());
        self.configuration.terms.ttl = policy.idle().map_or(absolute, Millis::from);
        self.configuration.terms.extend = Extension::Always;
        self.configuration.terms.absolute = Some(absolute);
        self
    }

    /// Sets what stores write; [`WireFormat::V1`] by default.
    pub fn wire_format(mut self, format: WireFormat) -> Self {
        self.configuration.terms.format = format;
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
        self.configuration.terms.absolute = Some(limit.into());
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
        self.configuration.terms.grace = grace.into();
        self
    }

    /// Sets how long all attempts of one commit may take together; 3 seconds by default. Past it
    /// the response is a 503.
    pub fn commit_budget(mut self, budget: StdDuration) -> Self {
        self.configuration.terms.budget = budget;
        self
    }

    /// Sets how large a session's record may become, in octets of what the store keeps; 16 MiB by
    /// default, 64 KiB under [`strict`](Self::strict).
    ///
    /// A commit that would make it larger is an error that names both numbers
    /// ([`StateTooLarge`](crate::storage::StateTooLarge)): the response is a 500, nothing is
    /// written, and the session stays as it was. What is larger already can be read, and made
    /// smaller. A cookie has its own limit, the 4,096 octets of browsers.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .max_state_size(256 * 1024)
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn max_state_size(mut self, octets: usize) -> Self {
        self.configuration.terms.max_state = octets;
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
    /// Times to live of zero or less, and beyond 400 days, are clamped. What browsers refuse leaves
    /// as it was set. A warning names either, with what to change;
    /// [`try_build`](Self::try_build) makes an error of it.
    #[must_use]
    pub fn build(self) -> SessionMiddleware<Store> {
        if let Err(error) = self.configuration.check() {
            tracing::warn!(%error, "a session setting cannot do what it says");
        }
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
