//! The builder of the middleware.

use std::{
    panic::{RefUnwindSafe, UnwindSafe},
    sync::Arc,
    time::SystemTime,
};

use actix_web::{
    cookie::{Key, SameSite},
    dev::ServiceRequest,
};

use super::{
    ConfigError, Configuration, CookieContentSecurity, Loading, OldCookie, OnLoadError,
    SessionLifecycle, SessionPolicy, TtlExtensionPolicy, WireFormat,
};
use crate::{
    AnyDuration, SessionEvent, SessionMiddleware, SessionObserver,
    clock::{Clock, Millis, SharedClock},
    contract::ExtendOnRead,
    event,
    observe::Observed,
    storage::SessionStore,
};

/// The settings of a [`SessionMiddleware`]. [`SessionMiddleware::builder`] creates the builder.
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
    pub(super) configuration: Configuration,
    /// A policy has set the timeouts.
    has_policy: bool,
}

/// As published. What the settings hold of the application's own answers for itself.
impl<Store: SessionStore + UnwindSafe> UnwindSafe for SessionMiddlewareBuilder<Store> {}
impl<Store: SessionStore + RefUnwindSafe> RefUnwindSafe for SessionMiddlewareBuilder<Store> {}

impl<Store: SessionStore> SessionMiddlewareBuilder<Store> {
    pub(crate) fn new(store: Store, key: Key) -> Self {
        Self {
            store,
            configuration: Configuration::new(key),
            has_policy: false,
        }
    }

    /// Sets the cookie's name; `id` by default.
    pub fn cookie_name(mut self, name: String) -> Self {
        self.configuration.cookie.name = name;
        self
    }

    /// Sets the cookie's `Secure` attribute, with which browsers send the cookie only over `https`.
    /// `true` by default.
    pub fn cookie_secure(mut self, secure: bool) -> Self {
        self.configuration.cookie.secure = secure;
        self
    }

    /// Sets how long sessions and their cookies live; [`BrowserSession`](super::BrowserSession) by
    /// default.
    ///
    /// After [`policy`](Self::policy), the timeouts are the policy's: this sets only whether the cookie outlives
    /// the browser, and, with
    /// [`AtMostEvery`](super::TtlExtensionPolicy::AtMostEvery), how often an extension is written.
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
        let terms = &mut self.configuration.terms;
        terms.extend = match extension {
            TtlExtensionPolicy::AtMostEvery(interval) => ExtendOnRead::AtMostEvery(interval.into()),
            _ if self.has_policy => ExtendOnRead::Always,
            TtlExtensionPolicy::OnEveryRequest => ExtendOnRead::Always,
            TtlExtensionPolicy::OnStateChanges => ExtendOnRead::Never,
        };
        if !self.has_policy {
            terms.ttl = ttl.into();
        }
        self
    }

    /// Sets the cookie's `SameSite` attribute; `Lax` by default.
    pub fn cookie_same_site(mut self, same_site: SameSite) -> Self {
        self.configuration.cookie.same_site = same_site;
        self
    }

    /// Sets the cookie's `Path` attribute; `/` by default. It is the path that the browser asks for:
    /// behind a proxy that takes a prefix away, the one with the prefix.
    pub fn cookie_path(mut self, path: String) -> Self {
        self.configuration.cookie.path = path;
        self
    }

    /// Sets the cookie's `Domain` attribute. By default there is none, and the cookie is for the
    /// host that set it, without its subdomains.
    pub fn cookie_domain(mut self, domain: Option<String>) -> Self {
        self.configuration.cookie.domain = domain;
        self
    }

    /// Sets how the cookie's content is secured; [`CookieContentSecurity::Private`] by default.
    ///
    /// A cookie that was secured in the other way is not opened: changing this logs everybody out.
    pub fn cookie_content_security(mut self, content_security: CookieContentSecurity) -> Self {
        self.configuration.content_security = content_security;
        self
    }

    /// Sets the cookie's `HttpOnly` attribute, with which scripts cannot read the cookie. `true` by
    /// default.
    pub fn cookie_http_only(mut self, http_only: bool) -> Self {
        self.configuration.cookie.http_only = http_only;
        self
    }

    /// Sets older secret keys that still open cookies, for a planned key rotation. If one of them
    /// opens a cookie, the response carries the cookie sealed with the builder's own key.
    ///
    /// Rotate a key before it has sealed 2^32 private cookies: [`secret_key`](super::secret_key) says
    /// how soon that is. If a key has leaked, remove it instead of listing it here: as long as it is
    /// listed, whoever has it can make cookies.
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

    /// Sets the cookie's `Partitioned` attribute (CHIPS). A page that several sites embed then has
    /// a separate session in each of them. Browsers require `Secure` with it, and `SameSite=None`
    /// for embedded pages. `false` by default.
    pub fn cookie_partitioned(mut self, partitioned: bool) -> Self {
        self.configuration.cookie.partitioned = partitioned;
        self
    }

    /// Also reads cookies of this name, which the same keys sealed under it. Use it to change the
    /// cookie's name without logging anybody out: the response moves the session to the current
    /// name and removes the old cookie. If a live cookie of the current name came, the old one is
    /// not looked up.
    ///
    /// A browser drops a cookie only if the response names its path and domain. If these have
    /// changed since, pass an [`OldCookie`] that has the old ones. Otherwise the old cookie stays,
    /// and a session that is stored in it comes back after a logout.
    ///
    /// An old cookie may also have the present name, with another domain or path: that is how a
    /// site drops the `Domain` of its cookie. A request does not tell such cookies apart. Each
    /// response to a visitor with a session then sets the cookie and removes the old one, which
    /// takes one more store command; so take the old cookie out again once all of its sessions have
    /// ended.
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

    /// Lets clients that keep no cookies, such as mobile apps and command lines, carry their session
    /// in a header field of this name.
    ///
    /// A request that brings the field, be it empty, uses it alone:
    ///
    /// - Its value is the session's. A response that would set a cookie has the new value in the same
    ///   field, and one that would remove it has the field with an empty value. Such responses have no
    ///   `Set-Cookie`.
    /// - A client begins with an empty value. From then on it sends the last value that a response
    ///   had, and an empty one again after an empty one.
    /// - The session cookie of the same request is not read, and an event and a log line say that it came.
    ///
    /// All other requests use the cookie. The values are sealed as cookies are, but for another
    /// purpose: neither opens as the other, so that no script gets the value of an `HttpOnly` cookie
    /// by asking for the header. They are bound to the names of both. The client must keep its value
    /// as it would keep a password. No browser adds the field by itself, hence a request that has it
    /// cannot be forged from another site. The `Debug` output of a request shows it, which hides only cookies
    /// and `Authorization`: do not log that.
    ///
    /// Several fields count as several cookies do. Name and value together have at most 4,096 octets,
    /// as in a cookie. `Vary` names the field. For scripts of other origins, CORS must allow it
    /// (`Access-Control-Allow-Headers`) and show it (`Access-Control-Expose-Headers`).
    ///
    /// The name must not be one that HTTP, browsers or proxies use: [`try_build`](Self::try_build)
    /// refuses it, and [`build`](Self::build) leaves the header out.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Session, SessionMiddleware, storage::MemorySessionStore};
    /// use actix_web::{App, cookie::Key, test, web};
    ///
    /// async fn login(session: Session) -> actix_web::Result<&'static str> {
    ///     session.login("user-42")?;
    ///     Ok("welcome")
    /// }
    ///
    /// # actix_web::rt::System::new().block_on(async {
    /// # let secret_key = Key::generate();
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .header("X-Session")
    ///     .try_build()?;
    /// let app = App::new().wrap(middleware).route("/login", web::post().to(login));
    /// let app = test::init_service(app).await;
    ///
    /// let request = test::TestRequest::post().uri("/login").insert_header(("X-Session", ""));
    /// let response = test::call_service(&app, request.to_request()).await;
    /// assert!(!response.headers().get("X-Session").unwrap().is_empty());
    /// assert!(response.headers().get("Set-Cookie").is_none());
    /// # Ok::<(), actix_session::config::ConfigError>(()) }).unwrap();
    /// ```
    pub fn header(mut self, name: impl Into<String>) -> Self {
        self.configuration.header = Some(name.into());
        self
    }

    /// Applies the hardened settings. The cookie is named `__Host-id` (a name that was set before
    /// gets the prefix), and it is `Secure`, `HttpOnly` and `SameSite=Strict`, for the whole host
    /// and no other. If several live sessions come with a request, none is used. A record has at
    /// most 64 KiB. Settings that follow override these.
    ///
    /// Under `Strict`, visitors who follow a link from another site arrive logged out, and stay so if
    /// the page that they arrive at makes a session: its cookie replaces theirs (the cookbook says what
    /// to do). If that is a problem, set `Lax` afterwards (NIST SP 800-63B-4, 5.1.1 allows both).
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
        if let Some(name) = cookie.name.strip_prefix("__Http-") {
            cookie.name = format!("__Host-Http-{name}");
        } else if !cookie.name.starts_with("__Host-") {
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

    /// Sets the idle and absolute timeouts of a [`SessionPolicy`]. Whether the cookie outlives the
    /// browser stays as it is, and so does an interval in which extensions are written
    /// ([`AtMostEvery`](super::TtlExtensionPolicy::AtMostEvery)): before or after this,
    /// [`session_lifecycle`](Self::session_lifecycle) sets them.
    ///
    /// Sessions keep the absolute end that they got: [`absolute_timeout`](Self::absolute_timeout) says
    /// until when.
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
        let terms = &mut self.configuration.terms;
        terms.ttl = policy.idle().map_or(absolute, Millis::from);
        if !matches!(terms.extend, ExtendOnRead::AtMostEvery(_)) {
            terms.extend = ExtendOnRead::Always;
        }
        terms.absolute = Some(absolute);
        self.has_policy = true;
        self
    }

    /// Sets the format that stores write; [`WireFormat::V1`] by default.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let builder = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate());
    /// use actix_session::config::WireFormat;
    ///
    /// // As long as old servers run beside this one, or may come back.
    /// let middleware = builder.wire_format(WireFormat::V0_11).build();
    /// # let _ = middleware;
    /// ```
    pub fn wire_format(mut self, format: WireFormat) -> Self {
        self.configuration.terms.format = format;
        self
    }

    /// Sets whether signed cookie-stored sessions of actix-session 0.11 and older are accepted;
    /// `false` by default.
    ///
    /// Their signature does not cover the cookie's name. If users influence the value of any other
    /// signed cookie, that value can pass for a session. Accept such sessions only as long as they
    /// live. (Stores on the server always accept such signatures: there the value must be the key
    /// of a live record.) Under [`WireFormat::V0_11`] they are accepted in any case, since that format
    /// writes them.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{
    ///     SessionMiddleware, config::CookieContentSecurity, storage::CookieSessionStore,
    /// };
    /// # use actix_web::cookie::Key;
    ///
    /// let middleware = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate())
    ///     .cookie_content_security(CookieContentSecurity::Signed)
    ///     .accept_unbound_signatures(true)
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn accept_unbound_signatures(mut self, accept: bool) -> Self {
        self.configuration.accepts_unbound = accept;
        self
    }

    /// Sets the absolute timeout: how long a session may live, however busy it is. It counts from
    /// the creation, or from the last [`login`](crate::Session::login) or
    /// [`reauthenticated`](crate::Session::reauthenticated). By default there is none. A longer one
    /// than 100 years is shortened to that.
    ///
    /// A session keeps the absolute end that it got. So a changed timeout counts for new sessions, and
    /// for others from their next login, re-authentication or [`clear`](crate::Session::clear). If it is
    /// to count for all at once, end those that live.
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
    pub fn absolute_timeout(mut self, limit: impl AnyDuration) -> Self {
        self.configuration.terms.absolute = Some(limit.signed().into());
        self
    }

    /// Declares that servers with actix-session 0.11 or older share the store. They may drop or
    /// copy a session's metadata, so an absolute timeout, lists of a user's sessions and a limit on them
    /// ([`max_sessions`](Self::max_sessions)) are best effort under [`WireFormat::V0_11`]. Whose sessions
    /// were all ended once (`revoke_all`) is logged in here only by logins of servers with this version.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, config::WireFormat, storage::MemorySessionStore};
    /// # use actix_web::cookie::{Key, time::Duration};
    /// let builder = || {
    ///     SessionMiddleware::builder(MemorySessionStore::new(), Key::generate())
    ///         .wire_format(WireFormat::V0_11)
    ///         .absolute_timeout(Duration::hours(12))
    /// };
    /// assert!(builder().try_build().is_err());
    /// assert!(builder().mixed_fleet().try_build().is_ok());
    /// ```
    pub fn mixed_fleet(mut self) -> Self {
        self.configuration.mixed_fleet = true;
        self
    }

    /// Sets the date until which cookie-stored sessions without times are accepted, as
    /// actix-session 0.11 and older made them. Without a date they are always accepted, and each
    /// start logs a warning: a copy of such a cookie never expires. While old servers run, they make
    /// such cookies of ours: the date must be later than the last of them.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let builder = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate());
    /// use std::time::{Duration, SystemTime};
    ///
    /// // January 1, 2027.
    /// let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600);
    /// let middleware = builder.legacy_cookies_until(date).build();
    /// # let _ = middleware;
    /// ```
    pub fn legacy_cookies_until(mut self, date: SystemTime) -> Self {
        self.configuration.untimed_until = Some(date.into());
        self
    }

    /// Sets what happens if the store fails to load a session; [`OnLoadError::Fail`] by default.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let builder = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate());
    /// use actix_session::config::OnLoadError;
    ///
    /// let middleware = builder.on_load_error(OnLoadError::Anonymous).build();
    /// # let _ = middleware;
    /// ```
    pub fn on_load_error(mut self, policy: OnLoadError) -> Self {
        self.configuration.on_load_error = policy;
        self
    }

    /// Loads a session when the request first asks for it, not before the handler.
    ///
    /// A request that never asks costs no store command, and is served while the store is down. It
    /// extends no session either: for the idle timeout, only requests that load are activity.
    ///
    /// The [`Session`](crate::Session) extractor loads it. If that fails, the response is the 500 or 503
    /// of [`OnLoadError::Fail`], whatever the handler answered. [`get_session`], which guards,
    /// middlewares and other extractors (those of `actix-identity` too) use, cannot wait: it loads
    /// the session of a store that [opens at once](SessionStore::opens_at_once), in memory or in the
    /// cookie (without a list of ended sessions). With other stores, name the requests that need it in
    /// [`load_when`](Self::load_when).
    /// Otherwise such a session is *not loaded*: [`get`](crate::Session::get) and the updates return
    /// an error, [`contains_key`](crate::Session::contains_key),
    /// [`entries`](crate::Session::entries) and [`principal`](crate::Session::principal) show what the
    /// request itself has set, and changes are committed to what is stored then. The first time, a warning says so.
    ///
    /// [`get_session`]: crate::SessionExt::get_session
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .lazy()
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn lazy(mut self) -> Self {
        if let Loading::BeforeTheHandler = self.configuration.loading {
            self.configuration.loading = Loading::Lazy(None);
        }
        self
    }

    /// Loads sessions [lazily](Self::lazy), except for the requests that `load_when` names: theirs
    /// are loaded before anything else runs.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     // Guards there look into the session.
    ///     .load_when(|req| req.path().starts_with("/members/"))
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn load_when<F>(mut self, load_when: F) -> Self
    where
        F: Fn(&ServiceRequest) -> bool + Send + Sync + 'static,
    {
        self.configuration.loading = Loading::Lazy(Some(Arc::new(load_when)));
        self
    }

    /// Names the requests that are no activity: they extend no session, and refresh no cookie. It is
    /// asked before the load.
    ///
    /// Use it for what a page asks by itself, while nobody need be in front of it: how long the
    /// session still lives ([`Session::remaining`](crate::Session::remaining)), whether there is
    /// mail. Otherwise an open page keeps its session alive for ever.
    ///
    /// What such a request changes is written, and the session ends when it would have, or sooner if
    /// the change says so (a `clear`, a shorter `set_ttl`); a longer time of its own counts from the
    /// next extension. A renewal keeps the end too. A login, a re-authentication and a new session
    /// begin a new time, as ever, and what needs a new cookie sets it. If the state is stored in the
    /// cookie, a change sets a cookie with the same end. A store of five methods takes a time to live
    /// with each change, so that there a change extends. Redis is asked for the end in the round trip
    /// of the read, under [`WireFormat::V0_11`] in one more.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .quiet_when(|req| req.path() == "/session/remaining")
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn quiet_when<F>(mut self, quiet_when: F) -> Self
    where
        F: Fn(&ServiceRequest) -> bool + Send + Sync + 'static,
    {
        self.configuration.quiet_when = Some(Arc::new(quiet_when));
        self
    }

    /// Sets how often the store is asked whether a session still lives, while somebody awaits
    /// [`Session::ended`](crate::Session::ended): 5 seconds by default, from 10 milliseconds to a day.
    /// While the back end is known to tell by itself, it is asked twelve times less often; PostgreSQL,
    /// which does not tell renewals, twice in each [`renewal_grace`](Self::renewal_grace) at least. If
    /// the store does not answer, it is asked again within a second.
    ///
    /// An answer that a session is gone is told after a quarter of a second, in which the reason may
    /// still come.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// use std::time::Duration;
    ///
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate())
    ///     .ended_lease(Duration::from_secs(1))
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn ended_lease(mut self, lease: impl AnyDuration) -> Self {
        self.configuration.ended_lease = lease.unsigned();
        self
    }

    /// Sets how long a renewal leaves a redirect, so that requests in flight still find the new
    /// record; 60 seconds by default, 400 days at most; less than a second counts as one. It must cover the
    /// longest handler, with the body that it waits for: the changes of a request that outlives it are lost, and its purge removes the
    /// cookie alone. Cookie-stored sessions with a list of ended sessions keep 60 seconds.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let builder = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate());
    /// use std::time::Duration;
    ///
    /// let middleware = builder.renewal_grace(Duration::from_secs(300)).build();
    /// # let _ = middleware;
    /// ```
    pub fn renewal_grace(mut self, grace: impl AnyDuration) -> Self {
        self.configuration.terms.grace = grace.signed().into();
        self
    }

    /// Sets the time limit for all that a request asks of the store on its way out; 3 seconds by default,
    /// a day at most. If other requests keep changing the session until then, the response is a 503; if the
    /// store does not answer, it is a 500.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let builder = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate());
    /// use std::time::Duration;
    ///
    /// let middleware = builder.commit_budget(Duration::from_secs(1)).build();
    /// # let _ = middleware;
    /// ```
    pub fn commit_budget(mut self, budget: impl AnyDuration) -> Self {
        self.configuration.terms.budget = budget.unsigned();
        self
    }

    /// Sets the time limit for loading the session, however many cookies came; 3 seconds by default.
    /// Beyond it the load fails ([`on_load_error`](Self::on_load_error)).
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// let builder = SessionMiddleware::builder(MemorySessionStore::new(), secret_key);
    /// let builder = builder.load_budget(Duration::from_secs(1));
    /// # let _ = builder;
    /// ```
    pub fn load_budget(mut self, budget: impl AnyDuration) -> Self {
        self.configuration.load_budget = budget.unsigned();
        self
    }

    /// Sets the maximum size of a session's record, in octets as the store keeps it; 16 MiB by
    /// default, 64 KiB under [`strict`](Self::strict).
    ///
    /// A commit that would exceed it fails with an error that names both sizes
    /// ([`StateTooLarge`](crate::storage::StateTooLarge)): the response is a 500, nothing is
    /// written, and the session stays as it was. A record that is already larger can still be read
    /// and made smaller. Cookies have a limit of their own, the 4,096 octets of browsers.
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

    /// Takes the principal from an entry that the application sets, a JSON string: so an application
    /// that does not call [`login`](crate::Session::login) has its sessions listed, ended and limited
    /// all the same.
    ///
    /// For `actix-identity`, the entry is `actix_identity.user_id`, and no handler changes.
    ///
    /// - Setting the entry to another value than the one that was loaded is a login: the session is
    ///   renewed, and starts empty if it was another principal's. Setting it to any value and renewing
    ///   the session is one, too.
    /// - Setting it to the value that it has is activity, and nothing else: it undoes no logout.
    /// - Removing it logs the user out.
    /// - `login` sets it. `modify` on it runs once.
    /// - It must be a string of 1 to 1,024 bytes. Any other value, such as a number, is kept, but names
    ///   nobody: it logs the user out, the session is in no list, and the first time a warning says so.
    ///   (`null` names nobody without a warning.) If users have numbers, set the number's text.
    ///
    /// If another program has written the entry, the entry counts, and not what the library knew. The
    /// first request that loads such a session puts it on the list, which is a write;
    /// its login counts as older than every revocation. Nobody knows when the user has proven who they are:
    /// such a session is at [`Level::Zero`](crate::Level::Zero) until they do so again.
    ///
    /// In an application that calls `login`, set this from the first login on: a session without
    /// the entry is nobody's from then on, and whoever logs in next finds what it holds.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .principal_entry("actix_identity.user_id")
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn principal_entry(mut self, name: impl Into<String>) -> Self {
        let name: String = name.into();
        self.configuration.terms.principal_entry = Some(name.into());
        self
    }

    /// Has an observer told what happens to sessions: logins, renewals, ends, refused cookies. It can
    /// neither delay nor break a request. The last call counts.
    ///
    /// The manager that [`SessionMiddleware::manager`] makes tells the same observer.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let builder = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate());
    /// use actix_session::SessionObserver;
    ///
    /// let observer = SessionObserver::new(|event| println!("{event:?}"));
    /// let middleware = builder.observer(&observer).build();
    /// # let _ = middleware;
    /// ```
    pub fn observer(mut self, observer: &SessionObserver) -> Self {
        self.configuration.observed = Observed::by(observer.clone());
        self
    }

    /// Has a closure told what happens to sessions: [`observer`](Self::observer) with an observer, and
    /// so with a thread, of its own.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate())
    ///     .on_event(|event| println!("{event:?}"))
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn on_event(self, observe: impl FnMut(SessionEvent) + Send + 'static) -> Self {
        self.observer(&SessionObserver::new(observe))
    }

    /// Limits how many sessions a principal may have at once (ASVS 5.0, 7.1.2); by default any number.
    ///
    /// It counts sessions that [`login`](crate::Session::login) made, and holds for parallel logins. Under
    /// [`WireFormat::V0_11`] it is best effort ([`mixed_fleet`](Self::mixed_fleet)).
    /// Each login reads the list of the principal's sessions, and under [`OverLimit::Refuse`](super::OverLimit::Refuse) takes a
    /// lock on the principal: two to five more round trips. Other requests do not notice.
    ///
    /// A limit of zero is invalid, and counts as one. Sessions that were there before a limit was set end with the next
    /// login, under `EvictOldest`.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionMiddleware, config::OverLimit, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .max_sessions(3, OverLimit::EvictOldest)
    ///     .build();
    /// # let _ = middleware;
    /// ```
    #[cfg(feature = "_backend")]
    pub fn max_sessions(mut self, most: usize, over: super::OverLimit) -> Self
    where
        Store: crate::storage::SessionIndex,
    {
        self.configuration.cap = Some(crate::middleware::cap::Cap {
            most,
            over,
            index: self.store.index(),
        });
        self
    }

    /// Sets the source of time, for tests. Give the store the same clock.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionMiddleware, storage::MemorySessionStore, testing::ManualClock};
    /// # use actix_web::cookie::Key;
    ///
    /// let clock = ManualClock::new();
    /// let store = MemorySessionStore::builder().clock(clock.clone()).build();
    /// let middleware = SessionMiddleware::builder(store, Key::generate())
    ///     .clock(clock.clone())
    ///     .build();
    /// # let _ = middleware;
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.configuration.clock = SharedClock::new(clock);
        self
    }

    /// Builds the middleware, and refuses invalid settings.
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

    /// Builds the middleware.
    ///
    /// Invalid settings that would break every request are clamped or left out: timeouts and TTLs of zero
    /// or less become a second; what is too long becomes the longest that is valid; an interval that is
    /// not shorter than the TTL becomes half of it; the grace, the lease,
    /// [`max_state_size`](Self::max_state_size) and [`max_sessions`](Self::max_sessions) become the
    /// nearest that is valid; and a header that is no header and a reserved
    /// [`principal_entry`](Self::principal_entry) count as not set. Other invalid settings are kept, a time
    /// limit of zero among them, in which no server answers. The first time, a warning says what to change;
    /// [`try_build`](Self::try_build) returns an error instead.
    #[must_use]
    pub fn build(self) -> SessionMiddleware<Store> {
        if let Err(error) = self.configuration.check() {
            event::invalid_setting(&error);
        }
        SessionMiddleware::from_parts(self.store, self.configuration.clamped())
    }
}

/// Does not show the keys.
impl<Store: SessionStore> std::fmt::Debug for SessionMiddlewareBuilder<Store> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionMiddlewareBuilder")
            .field("cookie", &self.configuration.cookie)
            .finish_non_exhaustive()
    }
}
