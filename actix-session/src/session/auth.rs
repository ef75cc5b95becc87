//! The principal that a session belongs to, and when it authenticated.

use std::time::{Duration, SystemTime};

use super::{
    Session, SessionLoginError, StaleAuthenticationError, errors::Stale, lifecycle::own_time,
    unloaded,
};
use crate::{
    changes::{LoginChange, TtlChange},
    clock::Millis,
    random,
};

/// The maximum length of a principal, in bytes.
const LONGEST_PRINCIPAL: usize = 1024;

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
        }
    }

    /// Sets a label for the device, for a list of the user's devices. Only the first 256 characters
    /// are kept.
    pub fn device(mut self, label: impl Into<String>) -> Self {
        let label: String = label.into();
        self.device = Some(label.chars().take(256).collect());
        self
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

    /// Sets how long the session lives without activity, instead of the configured time.
    /// [`Session::set_ttl`] does the same, and says what holds. Values outside 1 ms to 400 days are
    /// clamped.
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
    pub fn idle(mut self, limit: actix_web::cookie::time::Duration) -> Self {
        self.idle = Some(own_time(limit));
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
    pub fn absolute(mut self, limit: actix_web::cookie::time::Duration) -> Self {
        self.absolute = Some(own_time(limit));
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
        Ok(())
    }

    fn made(self, at: Millis, id: u128) -> LoginChange {
        LoginChange {
            principal: self.principal,
            at,
            proven: self.proven.filter(|proven| *proven < at),
            device: self.device,
            id,
            span: self.absolute,
            keep_times: self.keep_times,
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
    /// # Errors
    /// The principal is empty, or longer than 1024 bytes.
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
    /// The principal is empty, or longer than 1024 bytes; or the authentication is older than the
    /// absolute timeout, and the user must sign in again at the identity provider.
    pub fn login_with(&self, login: Login) -> Result<(), SessionLoginError> {
        login.check().map_err(SessionLoginError)?;
        let (id, epoch) = (random::u128(), random::u64());
        let (id, epoch) = (
            id.map_err(SessionLoginError)?,
            epoch.map_err(SessionLoginError)?,
        );
        let at = self.now();
        let mut pending = self.lock();
        pending.writable().map_err(SessionLoginError)?;
        let idle = login.idle.map(TtlChange::Set);
        let login = login.made(at, id);
        let keeps = login.keep_times && pending.principal() == Some(&*login.principal);
        let limit = login.span.or_else(|| pending.absolute(keeps));
        if let (Some(proven), Some(limit)) = (login.proven, limit)
            && proven + limit <= login.at
        {
            return Err(SessionLoginError(anyhow::anyhow!(
                "the authentication is older than the absolute timeout: the user must sign in \
                 again at the identity provider"
            )));
        }
        pending.login(login, idle, epoch);
        Ok(())
    }

    /// Records that the user has proven again who they are, and renews the session key.
    ///
    /// The absolute timeout starts again, the login's own if it has one.
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
        let at = self.now();
        let mut pending = self.lock();
        pending.writable().map_err(SessionLoginError)?;
        if pending.is_unloaded() && pending.principal().is_none() {
            drop(pending);
            unloaded::warn();
            return Err(SessionLoginError(unloaded::error()));
        }
        if pending.principal().is_none() {
            return Err(SessionLoginError(anyhow::anyhow!(
                "nobody is logged in: call `login` once the user has proven who they are"
            )));
        }
        pending.reauthenticated(at);
        Ok(())
    }

    /// When the user last authenticated: at the login, or by
    /// [`reauthenticated`](Self::reauthenticated).
    pub fn authenticated_at(&self) -> Option<SystemTime> {
        let at = self.read().authenticated_at();
        at.map(Millis::to_system_time)
    }

    /// Fails unless the user authenticated within `max_age`. Call it before changing passwords,
    /// addresses and second factors (ASVS 5.0, 7.5.1 and 7.5.3).
    ///
    /// # Errors
    /// The authentication is older (as a response, a 403), or nobody is logged in (a 401). Send the
    /// user to a page that calls [`reauthenticated`](Self::reauthenticated).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use actix_session::Session;
    ///
    /// async fn change_address(session: Session) -> actix_web::Result<&'static str> {
    ///     session.require_recent_authentication(Duration::from_secs(300))?;
    ///     // ...
    ///     Ok("changed")
    /// }
    /// # actix_web::web::to(change_address);
    ///
    /// let session = Session::new();
    /// let refused = session.require_recent_authentication(Duration::from_secs(300));
    /// assert!(refused.unwrap_err().is_anonymous());
    /// ```
    pub fn require_recent_authentication(
        &self,
        max_age: Duration,
    ) -> Result<(), StaleAuthenticationError> {
        let pending = self.read();
        let Some(at) = pending.authenticated_at() else {
            let why = if pending.is_unloaded() {
                Stale::NotLoaded
            } else {
                Stale::Anonymous
            };
            return Err(StaleAuthenticationError(why));
        };
        drop(pending);
        if at + Millis::from(max_age) > self.now() {
            return Ok(());
        }
        Err(StaleAuthenticationError(Stale::TooOld))
    }

    /// The principal that is logged in.
    pub fn principal(&self) -> Option<String> {
        self.read().principal().map(str::to_owned)
    }
}
