//! Changes to a session as a whole: clear, renew, set the TTL, end.

use super::{Pending, Session, SessionPurgeError};
use crate::{AnyDuration, changes::TtlChange, clock::Millis, random};

impl Session {
    /// Removes all entries and logs the user out. The session key stays.
    ///
    /// This also removes what parallel requests have committed. Requests in flight, which loaded
    /// the session before, write nothing when they commit later.
    /// If another request has renewed the session meanwhile, entries that others have set since this
    /// request loaded it stay; if it came with a key that a renewal had already replaced, all do.
    /// Whoever logs in next then has them, so log out by [`logout`](Self::logout) or `purge`. (In
    /// custom stores that keep no redirects, which [`purge`](Self::purge) names, such a `clear` is
    /// dropped: the user stays logged in.)
    ///
    /// The login's times end too. The configured absolute timeout then counts from the session's
    /// creation; if that was longer ago, the session ends, as by [`purge`](Self::purge). So does one whose
    /// record cannot be read, say since a later version has written it. (With
    /// cookie-stored sessions, a copy of the cookie still opens what it holds: `purge` says more.)
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.login("user-42")?;
    /// session.clear();
    /// assert_eq!(session.principal(), None);
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn clear(&self) {
        // If the random number generator fails, the time distinguishes epochs.
        let epoch = random::u64().unwrap_or_else(|_| self.now().0.unsigned_abs().max(1));
        self.change(|pending| pending.clear(epoch));
    }

    /// Gives the session a new key. The old one then opens nothing.
    ///
    /// Call it when a session gains rights, unless [`login`](Self::login) does so: a key that an
    /// attacker planted before must not open the session that is logged in. (With cookie-stored sessions,
    /// the old cookie still opens what it holds: [`purge`](Self::purge) says more.)
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// use actix_session::SessionStatus;
    ///
    /// session.insert("is_admin", true)?;
    /// session.renew();
    /// assert_eq!(session.status(), SessionStatus::Renewed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn renew(&self) {
        self.change(Pending::renew_named);
    }

    /// Sets how long this session lives without activity, instead of the configured time.
    ///
    /// Writes, renewals and reauthentication keep this time. It makes the cookie persistent, and the
    /// absolute timeout limits it. Values outside 1 ms to 400 days are clamped.
    ///
    /// The time belongs to the login: [`clear`](Self::clear), [`logout`](Self::logout),
    /// [`purge`](Self::purge) and any [`login`](Self::login) that does not set it again end it. Set it
    /// before or after `login` in the same request, or with [`Login::idle`](crate::Login::idle).
    /// [`reset_ttl`](Self::reset_ttl) takes it back. It makes no session by itself. The time that the
    /// session has already is no change, and no activity. If another request renews the session before the commit, the
    /// time is dropped, with an event: the renewed session keeps its own.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    /// use actix_web::cookie::time::Duration;
    ///
    /// async fn remember_me(session: Session) -> actix_web::Result<&'static str> {
    ///     session.login("user-42")?;
    ///     session.set_ttl(Duration::days(30));
    ///     Ok("see you next month")
    /// }
    /// # actix_web::web::to(remember_me);
    /// ```
    pub fn set_ttl(&self, ttl: impl AnyDuration) {
        let ttl = TtlChange::Set(own_time(ttl.signed()));
        self.change(|pending| pending.set_ttl(ttl));
    }

    /// Takes back the session's own time ([`set_ttl`](Self::set_ttl),
    /// [`Login::idle`](crate::Login::idle)): the configured one counts again, and the cookie ends
    /// as configured.
    ///
    /// A login's absolute timeout stays.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    ///
    /// async fn forget_me(session: Session) -> &'static str {
    ///     session.reset_ttl();
    ///     "your session ends when you close the browser"
    /// }
    /// # actix_web::web::to(forget_me);
    /// ```
    pub fn reset_ttl(&self) {
        self.change(|pending| pending.set_ttl(TtlChange::Reset));
    }

    /// Ends the session: the middleware deletes the record, even if renewals have moved it to
    /// another key, and removes the cookie. A request in flight cannot bring the session back.
    ///
    /// Three kinds of store cannot keep this promise. With cookie-stored sessions, a copy of the cookie opens
    /// until it expires, unless there is a list of ended sessions (`CookieSessionStore::with_revocation`).
    /// Custom stores with a compare-and-set of their own, or with the five published methods alone, keep no
    /// redirects: a purge by a key that a renewal has replaced ends nothing, and the session lives on under
    /// its new key. With the five alone, a request in flight can bring the session back, too.
    ///
    /// Entries set afterwards start a new session under a new key.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    ///
    /// async fn logout(session: Session) -> actix_web::Result<&'static str> {
    ///     session.purge();
    ///     session.insert("flash", "Goodbye!")?;
    ///     Ok("logged out")
    /// }
    /// # actix_web::web::to(logout);
    /// ```
    pub fn purge(&self) {
        self.change(Pending::purge);
    }

    /// Ends the session, as [`purge`](Self::purge) does.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.login("user-42")?;
    /// session.logout();
    /// assert_eq!(session.principal(), None);
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn logout(&self) {
        self.purge();
    }

    /// Ends the session at once, and returns when the store has done it.
    ///
    /// The middleware carries out a [`purge`](Self::purge) once the handler has answered, and as
    /// far as possible if the handler panics or is dropped. Call `purge_now` if you must be
    /// certain; `purge` says which stores cannot be. As with [`save`](Self::save), nobody must
    /// block the request's own thread meanwhile.
    ///
    /// # Errors
    /// The store failed, the request has been answered, or there is no middleware. If the store
    /// failed, the session may still live, and the middleware tries again once the handler has
    /// answered. Whoever calls this while another call waits gets the same answer.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    ///
    /// async fn delete_account(session: Session) -> actix_web::Result<&'static str> {
    ///     session.purge_now().await?;
    ///     Ok("nobody is logged in any more")
    /// }
    /// # actix_web::web::to(delete_account);
    /// ```
    pub async fn purge_now(&self) -> Result<(), SessionPurgeError> {
        let asked = self.lock().ask_for_ending();
        let Some((answer, waker)) = asked else {
            return Err(unattached());
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        match answer.await {
            Ok(outcome) => outcome.map_err(|kept| SessionPurgeError(kept.into_anyhow())),
            Err(_) => Err(unattached()),
        }
    }
}

fn unattached() -> SessionPurgeError {
    SessionPurgeError(anyhow::anyhow!(
        "the session was not ended: `purge_now` must be called while a SessionMiddleware serves \
         the request"
    ))
}

/// A time of one session, between 1 ms and 400 days.
pub(super) fn own_time(span: actix_web::cookie::time::Duration) -> Millis {
    Millis::from(span).clamp(Millis(1), crate::config::LONGEST)
}
