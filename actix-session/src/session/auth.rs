//! The principal that a session belongs to, and when it authenticated.

use std::{net::IpAddr, time::SystemTime};

use super::{
    Session, SessionLoginError, lifecycle::own_time, pending::NamedLogin, unloaded,
    upstream::Upstream,
};
use crate::{
    AnyDuration, ClientAddress, Level,
    changes::{Before, LoginChange, TtlChange},
    clock::{LoginTime, Millis},
    error::{AuthenticatedTooLongAgo, NobodyLoggedIn},
    random,
    record::{LONGEST_PRINCIPAL, Origin},
};

/// A login: the principal, and what the application knows of the device and the authentication.
///
/// # Examples
/// ```
/// use actix_session::{Login, Session};
///
/// # let session = Session::new();
/// session.login_with(Login::new("user-42").device("Firefox on Linux"))?;
/// assert_eq!(session.principal().as_deref(), Some("user-42"));
/// # Ok::<(), actix_session::SessionLoginError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Login {
    principal: String,
    device: Option<String>,
    proven: Option<Millis>,
    idle: Option<Millis>,
    absolute: Option<Millis>,
    keep_times: bool,
    level: Level,
    origin: Option<Box<Origin>>,
    pub(super) upstream: Option<Upstream>,
}

impl Login {
    /// Creates a login of `principal`: a name that the application keeps for the same user forever.
    pub fn new(principal: impl Into<String>) -> Self {
        Self {
            principal: principal.into(),
            device: None,
            proven: None,
            idle: None,
            absolute: None,
            keep_times: false,
            level: Level::default(),
            origin: None,
            upstream: None,
        }
    }

    /// Sets a label for the device, for a list of the user's devices. Only the first 256 characters
    /// are kept.
    pub fn device(mut self, label: impl Into<String>) -> Self {
        let label: String = label.into();
        self.device = Some(label.chars().take(256).collect());
        self
    }

    /// Sets how the login began, for a list of the user's devices: `password`, `passkey`, or the name
    /// of an identity provider. Only the first 64 characters are kept.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Login, Session};
    ///
    /// # let session = Session::new();
    /// session.login_with(Login::new("user-42").method("passkey"))?;
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn method(mut self, label: impl Into<String>) -> Self {
        let label: String = label.into();
        self.origin().method = label.chars().take(64).collect();
        self
    }

    /// Sets the network that the login came from, for a list of the user's devices. The first 24 bits
    /// of an IPv4 address are kept, the first 48 of an IPv6 address, and the rest is not stored.
    ///
    /// Behind a proxy, pass the address that it names, not the proxy's.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Login, Session};
    /// use actix_web::HttpRequest;
    ///
    /// async fn login(session: Session, request: HttpRequest) -> actix_web::Result<()> {
    ///     let mut login = Login::new("user-42");
    ///     if let Some(peer) = request.peer_addr() {
    ///         login = login.address(peer.ip());
    ///     }
    ///     session.login_with(login)?;
    ///     Ok(())
    /// }
    /// # let _ = login;
    /// ```
    pub fn address(mut self, ip: IpAddr) -> Self {
        self.origin().address = Some(ClientAddress::network(ip));
        self
    }

    /// Sets the whole address that the login came from, as [`address`](Self::address) does with its
    /// network. It is personal data: keep it only if there is a reason to.
    pub fn full_address(mut self, ip: IpAddr) -> Self {
        self.origin().address = Some(ClientAddress::full(ip));
        self
    }

    fn origin(&mut self) -> &mut Origin {
        self.origin.get_or_insert_default()
    }

    /// Sets when an identity provider authenticated the user (`auth_time` in OpenID Connect), if
    /// that was before this call. The absolute timeout counts from then (ASVS 5.0, 7.6.1). A time
    /// in the future counts as now.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use actix_session::{Login, Session};
    ///
    /// # let session = Session::new();
    /// let auth_time = SystemTime::now() - Duration::from_secs(600);
    /// session.login_with(Login::new("user-42").authenticated_at(auth_time))?;
    /// assert!(session.authenticated_at().unwrap() <= SystemTime::now() - Duration::from_secs(599));
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn authenticated_at(mut self, at: SystemTime) -> Self {
        self.proven = Some(at.into());
        self
    }

    /// Sets how strongly the user has proven who they are; [`Level::One`] by default.
    /// [`Session::require_auth`] asks for it. [`Level::Zero`] is for users who are only remembered.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Level, Login, Session};
    ///
    /// # let session = Session::new();
    /// session.login_with(Login::new("user-42").level(Level::Two))?;
    /// assert_eq!(session.level(), Some(Level::Two));
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sets how long the session lives without activity, instead of the configured time.
    /// [`Session::set_ttl`] does the same, and says what holds. It makes the cookie persistent, so that
    /// the login outlives the browser. Values outside 1 ms to 400 days are clamped.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Login, Session};
    /// use actix_web::cookie::time::Duration;
    ///
    /// // 12 hours for everybody, by configuration; 30 days for whoever ticks the box.
    /// async fn login(session: Session, remember_me: bool) -> actix_web::Result<()> {
    ///     let mut login = Login::new("user-42");
    ///     if remember_me {
    ///         let month = Duration::days(30);
    ///         login = login.idle(month).absolute(month);
    ///     }
    ///     session.login_with(login)?;
    ///     Ok(())
    /// }
    /// # let _ = login(Session::new(), true);
    /// ```
    pub fn idle(mut self, limit: impl AnyDuration) -> Self {
        self.idle = Some(own_time(limit.signed()));
        self
    }

    /// Sets how long the session may live after the authentication, however busy it is, instead of
    /// the configured [`absolute_timeout`]. [`Session::reauthenticated`] counts it anew.
    ///
    /// It ends with the login, as an idle time of its own does. Values outside 1 ms to 400 days are
    /// clamped.
    ///
    /// [`absolute_timeout`]: crate::config::SessionMiddlewareBuilder::absolute_timeout
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Login, Session};
    /// use actix_web::cookie::time::Duration;
    ///
    /// # let session = Session::new();
    /// session.login_with(Login::new("an-administrator").absolute(Duration::hours(1)))?;
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn absolute(mut self, limit: impl AnyDuration) -> Self {
        self.absolute = Some(own_time(limit.signed()));
        self
    }

    /// Keeps the idle and absolute times that the same principal's session has of its own, unless
    /// this login sets them. The absolute one counts anew.
    ///
    /// For applications that call `login` when a user proves again who they are. Otherwise a login
    /// begins with the configured times, and so it does for another principal.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Login, Session};
    ///
    /// # let session = Session::new();
    /// # session.login("user-42")?;
    /// // The second factor, after a login with "remember me".
    /// session.login_with(Login::new("user-42").keep_times())?;
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn keep_times(mut self) -> Self {
        self.keep_times = true;
        self
    }

    fn check(&self) -> anyhow::Result<()> {
        let length = self.principal.len();
        anyhow::ensure!(
            (1..=LONGEST_PRINCIPAL).contains(&length),
            "a principal must have 1 to {LONGEST_PRINCIPAL} bytes, but this one has {length}"
        );
        match &self.upstream {
            Some(upstream) => upstream.check(),
            None => Ok(()),
        }
    }

    fn made(self, time: LoginTime, id: u128) -> LoginChange {
        let origin = Origin {
            upstream: self.upstream.map(|upstream| upstream.login()),
            ..self.origin.map(|origin| *origin).unwrap_or_default()
        };
        LoginChange {
            principal: self.principal,
            at: time.at,
            proven: time.proven(self.proven),
            device: self.device,
            id,
            span: self.absolute,
            keep_times: self.keep_times,
            level: self.level,
            demand: String::new(),
            origin: (origin != Origin::default()).then(|| origin.into()),
            by_entry: false,
        }
    }
}

/// Shows nothing: principals are personal data.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl Session {
    /// Logs a principal in: renews the session key, and records the principal and the time.
    ///
    /// The entries stay. If the session belonged to another principal, it starts empty instead.
    ///
    /// The *response* may still refuse the login: it is an empty 401 if the principal's sessions have been
    /// revoked meanwhile, and an empty 403 if there are as many as [`max_sessions`] allows, which
    /// [`save`](Self::save) tells inside the handler.
    ///
    /// [`max_sessions`]: crate::config::SessionMiddlewareBuilder::max_sessions
    ///
    /// # Errors
    /// The principal is empty, or longer than 1024 bytes; the operating system gives no random numbers; or
    /// the response has been sent.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    ///
    /// async fn login(session: Session) -> actix_web::Result<&'static str> {
    ///     // ... after the password has been verified
    ///     session.login("user-42")?;
    ///     Ok("welcome")
    /// }
    /// # actix_web::web::to(login);
    /// ```
    pub fn login(&self, principal: impl Into<String>) -> Result<(), SessionLoginError> {
        self.login_with(Login::new(principal))
    }

    /// Logs a principal in as [`login`](Self::login) does, with the details that the [`Login`] has.
    ///
    /// # Errors
    /// As there, and so for the names of the upstream; or the authentication is older than the absolute
    /// timeout, and the user must sign in again at the identity provider.
    ///
    /// # Examples
    /// See [`Login`].
    pub fn login_with(&self, login: Login) -> Result<(), SessionLoginError> {
        login.check().map_err(SessionLoginError)?;
        let (id, epoch) = (random::u128(), random::u64());
        let (id, epoch) = (
            id.map_err(SessionLoginError)?,
            epoch.map_err(SessionLoginError)?,
        );
        let clock = self.lock().clock();
        let time = clock.login_time(&login.principal);
        let mut pending = self.lock();
        pending.writable().map_err(SessionLoginError)?;
        let idle = login.idle.map(TtlChange::Set);
        let login = login.made(time, id);
        let keeps = login.keep_times && pending.principal() == Some(&*login.principal);
        let limit = login.span.or_else(|| pending.absolute(keeps));
        if let (Some(proven), Some(limit)) = (login.proven, limit)
            && proven + limit <= time.now
        {
            return Err(SessionLoginError(AuthenticatedTooLongAgo.into()));
        }
        pending.login_and_name(login, idle, epoch);
        Ok(())
    }

    /// Sets the entry that names the principal. Another one than before logs in.
    pub(super) fn set_principal(
        &self,
        entry: &str,
        principal: String,
        json: String,
    ) -> anyhow::Result<()> {
        let (id, epoch) = (random::u128()?, random::u64()?);
        let clock = self.lock().clock();
        let time = clock.login_time(&principal);
        let login = Login::new(principal).made(time, id);
        let mut pending = self.lock();
        pending.writable()?;
        pending.set_principal(NamedLogin {
            login,
            epoch,
            entry: entry.to_owned(),
            json,
            before: Before::default(),
            is_over: false,
            is_renewed: false,
        });
        Ok(())
    }

    /// Records that the user has proven again who they are, and renews the session key.
    ///
    /// The absolute timeout starts again, the login's own if it has one. The proof is of
    /// [`Level::One`]: [`reauthenticated_at_level`](Self::reauthenticated_at_level) records another.
    ///
    /// # Errors
    /// Nobody is logged in, or the session is not loaded
    /// ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)).
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// assert!(session.reauthenticated().is_err());
    /// session.login("user-42")?;
    /// assert!(session.reauthenticated().is_ok());
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn reauthenticated(&self) -> Result<(), SessionLoginError> {
        self.reauthenticated_at_level(Level::One)
    }

    /// Records that the user has proven again who they are, at this level, as
    /// [`reauthenticated`](Self::reauthenticated) does.
    ///
    /// Each level keeps the time at which it was last shown. So a password takes no second factor
    /// back that was shown before, and does not make it recent either. A
    /// [demand](Self::demand_reauth) is answered. Proofs that parallel requests record add up.
    ///
    /// # Errors
    /// Nobody is logged in, the session is not loaded
    /// ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)), or the level is [`Level::Zero`].
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Level, Session};
    ///
    /// # let session = Session::new();
    /// session.login("user-42")?;
    /// // ... after the second factor has been verified
    /// session.reauthenticated_at_level(Level::Two)?;
    /// assert_eq!(session.level(), Some(Level::Two));
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn reauthenticated_at_level(&self, level: Level) -> Result<(), SessionLoginError> {
        if level == Level::Zero {
            return Err(SessionLoginError(anyhow::anyhow!(
                "an authentication must be of level one or higher; to take levels back, call \
                 `lower_level`"
            )));
        }
        let at = self.now();
        let mut pending = self.lock();
        pending.writable().map_err(SessionLoginError)?;
        if pending.unloaded && pending.is_login_open() {
            drop(pending);
            unloaded::warn();
            return Err(SessionLoginError(unloaded::error()));
        }
        if pending.principal().is_none() {
            return Err(SessionLoginError(NobodyLoggedIn.into()));
        }
        pending.reauthenticated(at, level);
        Ok(())
    }

    /// When the user last authenticated, at whatever level: at the login, or by
    /// [`reauthenticated`](Self::reauthenticated). [`require_auth`](Self::require_auth) says whether
    /// that still counts. `None` if nobody is logged in, or the session is [not
    /// loaded](Session#not-loaded).
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// assert_eq!(session.authenticated_at(), None);
    /// session.login("user-42")?;
    /// assert!(session.authenticated_at().is_some());
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn authenticated_at(&self) -> Option<SystemTime> {
        let at = self.read().authenticated_at();
        at.map(Millis::to_system_time)
    }
}
