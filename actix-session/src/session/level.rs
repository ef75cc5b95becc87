//! What a user has proven, and what handlers ask of it.

use super::{AuthRefusal, Session, SessionAuthError};
use crate::{AnyDuration, Level, clock::Millis, record::Lowered};

/// How many characters of a demand's reason are kept.
const LONGEST_REASON: usize = 256;

impl Session {
    /// Fails unless the user has proven who they are at this level or a higher one, within `max_age`.
    ///
    /// Call it before what is sensitive: changes of passwords, addresses and second factors (ASVS
    /// 5.0, 7.5.1 and 7.5.3). Neither activity nor a renewal makes a proof recent. To ask for a level
    /// however long ago it was shown, pass [`Duration::MAX`](std::time::Duration::MAX).
    ///
    /// # Errors
    /// [`SessionAuthError`] has the [reason](SessionAuthError::reason): nobody is logged in (as a
    /// response, a 401); the level was not shown, was shown too long ago, or an authentication has
    /// been [demanded](Self::demand_reauth) since (a 403). Send the user to a page that calls
    /// [`reauthenticated_at_level`](Self::reauthenticated_at_level).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use actix_session::{AuthRefusal, Level, Session};
    /// use actix_web::{HttpResponse, web};
    ///
    /// // A script reads the reason in the response.
    /// async fn delete_account(session: Session) -> actix_web::Result<&'static str> {
    ///     session.require_auth(Level::Two, Duration::from_secs(300))?;
    ///     // ...
    ///     Ok("deleted")
    /// }
    ///
    /// // A page sends the user where the reason says.
    /// async fn account(session: Session) -> HttpResponse {
    ///     let asked = session.require_auth(Level::One, Duration::from_secs(3600));
    ///     let page = match asked.map_err(|error| error.reason()) {
    ///         Ok(()) => return HttpResponse::Ok().body("your account"),
    ///         Err(AuthRefusal::Anonymous) => "/login",
    ///         Err(_) => "/confirm-your-password",
    ///     };
    ///     HttpResponse::SeeOther().insert_header(("Location", page)).finish()
    /// }
    /// # let _ = (web::post().to(delete_account), web::get().to(account));
    /// ```
    pub fn require_auth(
        &self,
        level: Level,
        max_age: impl AnyDuration,
    ) -> Result<(), SessionAuthError> {
        let max_age = max_age.unsigned();
        let now = self.now();
        let pending = self.read();
        let auth = pending.auth();
        let unloaded = pending.is_unloaded();
        drop(pending);
        let refused = |reason, demand: Option<&str>| SessionAuthError {
            reason,
            level,
            demand: demand.map(str::to_owned),
        };
        let Some(auth) = auth else {
            let reason = if unloaded {
                AuthRefusal::NotLoaded
            } else {
                AuthRefusal::Anonymous
            };
            return Err(refused(reason, None));
        };
        match (auth.shown_at(level), auth.demand()) {
            (Some(at), _) if at + Millis::from(max_age) > now => Ok(()),
            (Some(_), _) => Err(refused(AuthRefusal::TooOld, None)),
            (None, None) => Err(refused(AuthRefusal::LevelTooLow, None)),
            (None, demand) => Err(refused(AuthRefusal::Demanded, demand)),
        }
    }

    /// Fails unless the user authenticated within `max_age`: [`require_auth`](Self::require_auth) at
    /// [`Level::One`].
    ///
    /// # Errors
    /// As there.
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
        max_age: impl AnyDuration,
    ) -> Result<(), SessionAuthError> {
        self.require_auth(Level::One, max_age)
    }

    /// The highest level that the user has shown in this session, however long ago, and that nobody
    /// has taken back. `None` if nobody is logged in, or the session is [not
    /// loaded](Session#not-loaded).
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Level, Session};
    ///
    /// let session = Session::new();
    /// assert_eq!(session.level(), None);
    /// session.login("user-42")?;
    /// assert_eq!(session.level(), Some(Level::One));
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn level(&self) -> Option<Level> {
        let auth = self.read().auth();
        auth.map(|auth| auth.level())
    }

    /// Takes back what was proven above this level, say when a second factor is removed. Only an
    /// authentication raises the level again.
    ///
    /// The user stays logged in, under the same key. If a parallel request renews the session, this
    /// reaches the renewed one. Levels that were shown later than this call stay, and so do those of an
    /// authentication that has begun before it and commits after it. [`Level::Zero`] takes back all that
    /// was shown before this call, as [`demand_reauth`](Self::demand_reauth) does. If nobody is logged in,
    /// or this request sees no higher level, nothing happens.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Level, Login, Session};
    ///
    /// # let session = Session::new();
    /// session.login_with(Login::new("user-42").level(Level::Two))?;
    /// session.lower_level(Level::One);
    /// assert_eq!(session.level(), Some(Level::One));
    /// session.lower_level(Level::Two);
    /// assert_eq!(session.level(), Some(Level::One));
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn lower_level(&self, to: Level) {
        self.lower(to, String::new());
    }

    /// Demands a new authentication, say after a login from another country, or because a password
    /// has been found in a leak. Until then, [`require_auth`](Self::require_auth) fails at every
    /// level, whatever was proven before.
    ///
    /// It holds until somebody authenticates: neither activity nor a renewal answers it, and if a
    /// parallel request renews the session, it reaches the renewed one. An authentication that was
    /// later than this call has answered it. If nobody is logged in, nothing happens. (With
    /// cookie-stored sessions the last response wins, so that one in flight can undo it.)
    ///
    /// The reason is for the application: [`reauth_demand`](Self::reauth_demand) returns it. Only its
    /// first 256 characters are kept. It is in no response of this library; whoever can read a
    /// signed cookie-stored session reads it.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use actix_session::{AuthRefusal, Level, Session};
    ///
    /// # let session = Session::new();
    /// session.login("user-42")?;
    /// session.demand_reauth("a login from another country");
    /// let refused = session.require_auth(Level::One, Duration::MAX).unwrap_err();
    /// assert_eq!(refused.reason(), AuthRefusal::Demanded);
    /// session.reauthenticated()?;
    /// assert!(session.require_auth(Level::One, Duration::MAX).is_ok());
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn demand_reauth(&self, reason: impl Into<String>) {
        let reason: String = reason.into();
        let reason = if reason.is_empty() {
            "unspecified".to_owned()
        } else {
            reason.chars().take(LONGEST_REASON).collect()
        };
        self.lower(Level::Zero, reason);
    }

    /// Why the user must authenticate again, if that has been [demanded](Self::demand_reauth) and
    /// they have not.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.login("user-42")?;
    /// assert_eq!(session.reauth_demand(), None);
    /// session.demand_reauth("a leaked password");
    /// assert_eq!(session.reauth_demand().as_deref(), Some("a leaked password"));
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn reauth_demand(&self) -> Option<String> {
        let auth = self.read().auth();
        auth.and_then(|auth| auth.demand().map(str::to_owned))
    }

    fn lower(&self, to: Level, reason: String) {
        let at = self.now();
        self.change(|pending| pending.lower(Lowered { to, at, reason }));
    }
}
