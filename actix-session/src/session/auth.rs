//! Who a session belongs to.

use std::time::{Duration, SystemTime};

use super::{Session, SessionLoginError, StaleAuthenticationError};
use crate::{changes::LoginFact, clock::Millis, random};

/// How long a principal's name may be, in bytes.
const LONGEST_PRINCIPAL: usize = 1024;

/// A login: who it is, and what the application tells of the device.
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
}

impl Login {
    /// A login of this principal: a name that the application keeps for a user for ever.
    pub fn new(principal: impl Into<String>) -> Self {
        Self {
            principal: principal.into(),
            device: None,
            proven: None,
        }
    }

    /// Tells what the session is used on, for a list of the user's devices; at most 256 characters
    /// are kept.
    pub fn device(mut self, label: impl Into<String>) -> Self {
        let label: String = label.into();
        self.device = Some(label.chars().take(256).collect());
        self
    }

    /// Tells when an identity provider saw the proof of who it is (`auth_time` in OpenID Connect),
    /// where that was before this call. The absolute timeout counts from then (ASVS 5.0, 7.6.1). A
    /// time in the future counts as now.
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
}

/// Principals are personal data.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl Session {
    /// Logs a principal in: renews the key, and records who it is and when.
    ///
    /// The entries stay, unless the session was another principal's: then it starts empty.
    ///
    /// # Errors
    /// The principal is empty, or longer than 1024 bytes.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    ///
    /// async fn login(session: Session) -> actix_web::Result<&'static str> {
    ///     // ... after the password was found right
    ///     session.login("user-42")?;
    ///     Ok("welcome")
    /// }
    /// # actix_web::web::to(login);
    /// ```
    pub fn login(&self, principal: impl Into<String>) -> Result<(), SessionLoginError> {
        self.login_with(Login::new(principal))
    }

    /// As [`login`](Self::login), telling more of it.
    ///
    /// # Errors
    /// The principal is empty, or longer than 1024 bytes; or the proof is older than the absolute
    /// timeout, and the user has to sign in anew where it was given.
    pub fn login_with(&self, login: Login) -> Result<(), SessionLoginError> {
        let length = login.principal.len();
        if length == 0 || length > LONGEST_PRINCIPAL {
            return Err(SessionLoginError(anyhow::anyhow!(
                "a principal has 1 to {LONGEST_PRINCIPAL} bytes, and this one has {length}"
            )));
        }
        let (id, epoch) = (random::u128(), random::u64());
        let (id, epoch) = (
            id.map_err(SessionLoginError)?,
            epoch.map_err(SessionLoginError)?,
        );
        let mut pending = self.lock();
        pending.writable().map_err(SessionLoginError)?;
        let at = pending.now();
        let Login {
            principal,
            device,
            proven,
        } = login;
        let proven = proven.filter(|proven| *proven < at);
        if let (Some(proven), Some(limit)) = (proven, pending.absolute())
            && proven + limit <= at
        {
            return Err(SessionLoginError(anyhow::anyhow!(
                "the authentication is older than the absolute timeout: have the user sign in anew \
                 at the identity provider"
            )));
        }
        pending.login(
            LoginFact {
                principal,
                at,
                proven,
                device,
                id,
            },
            epoch,
        );
        Ok(())
    }

    /// Records that the principal has proven again who it is, and renews the key.
    ///
    /// The absolute timeout counts anew from now.
    ///
    /// # Errors
    /// Nobody is logged in.
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
        let mut pending = self.lock();
        pending.writable().map_err(SessionLoginError)?;
        if pending.principal().is_none() {
            return Err(SessionLoginError(anyhow::anyhow!(
                "nobody is logged in: call `login` where somebody proves who it is"
            )));
        }
        let at = pending.now();
        pending.reauthenticated(at);
        Ok(())
    }

    /// When it was last proven who is logged in: at the login, or by
    /// [`reauthenticated`](Self::reauthenticated).
    pub fn authenticated_at(&self) -> Option<SystemTime> {
        let at = self.lock().authenticated_at();
        at.map(Millis::to_system_time)
    }

    /// Lets somebody go on who has proven less than `max_age` ago who it is; for what changes
    /// passwords, addresses and second factors (ASVS 5.0, 7.5.1 and 7.5.3).
    ///
    /// # Errors
    /// The proof is older (as a response a 403), or nobody is logged in (a 401). Send the user to
    /// where [`reauthenticated`](Self::reauthenticated) is called.
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
        let pending = self.lock();
        let Some(at) = pending.authenticated_at() else {
            return Err(StaleAuthenticationError { anonymous: true });
        };
        if at + Millis::from(max_age) > pending.now() {
            return Ok(());
        }
        Err(StaleAuthenticationError { anonymous: false })
    }

    /// Who is logged in.
    pub fn principal(&self) -> Option<String> {
        self.lock().principal().map(str::to_owned)
    }
}
