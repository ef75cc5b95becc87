//! What happens to a session as a whole: it is cleared, renewed, given a time to live, or ended.

use std::task::Waker;

use tokio::sync::oneshot;

use super::{Session, SessionPurgeError};
use crate::{clock::Millis, random};

/// How a handler has the session ended before it answers: it asks, the middleware does it.
#[derive(Default)]
pub(crate) struct Purge {
    pub(crate) asked: Option<oneshot::Sender<anyhow::Result<()>>>,
    pub(crate) waker: Option<Waker>,
    /// A middleware is there to do it.
    pub(crate) attached: bool,
}

impl Purge {
    pub(crate) fn listen(&mut self, waker: &Waker) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            self.waker = Some(waker.clone());
        }
    }
}

impl Session {
    /// Removes all entries, and logs out. The key stays.
    ///
    /// What parallel requests committed before is removed too, and so is what those commit later
    /// that have loaded the session before.
    pub fn clear(&self) {
        // Without randomness an epoch is told from another by the time.
        let epoch = random::u64().unwrap_or_else(|_| self.lock().now().0.unsigned_abs().max(1));
        let mut pending = self.lock();
        pending.warn_if_finished();
        pending.clear(epoch);
    }

    /// Gives the session a new key; the old one opens nothing from then on.
    ///
    /// Call it where a session gains rights, unless [`login`](Self::login) does it: the key that
    /// an attacker may have planted before must not be the one that is logged in.
    pub fn renew(&self) {
        let mut pending = self.lock();
        pending.warn_if_finished();
        pending.renew();
    }

    /// Sets how long this session lives without activity, in place of the configured time.
    ///
    /// It is kept by writes and renewals, makes the cookie persistent, and is bounded by the
    /// absolute timeout. Times from 1 ms to 400 days count; others are clamped.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    /// use actix_web::cookie::time::Duration;
    ///
    /// async fn remember_me(session: Session) -> &'static str {
    ///     session.set_ttl(Duration::days(30));
    ///     "see you next month"
    /// }
    /// # actix_web::web::to(remember_me);
    /// ```
    pub fn set_ttl(&self, ttl: actix_web::cookie::time::Duration) {
        let ttl = Millis::from(ttl).clamp(Millis(1), crate::config::LONGEST);
        let mut pending = self.lock();
        pending.warn_if_finished();
        pending.set_ttl(ttl);
    }

    /// Ends the session: the record is deleted, under whatever key it is by then, and the cookie
    /// removed. A request in flight cannot bring it back.
    ///
    /// Entries that are set afterwards start a new session, under a new key.
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
        let mut pending = self.lock();
        pending.warn_if_finished();
        pending.purge();
    }

    /// Ends the session, as [`purge`](Self::purge) does.
    pub fn logout(&self) {
        self.purge();
    }

    /// Ends the session at once, and answers when the store has done it.
    ///
    /// [`purge`](Self::purge) is carried out when the handler has answered, and on the other ways
    /// out of it as far as that is possible; this is for those who must be sure.
    ///
    /// # Errors
    /// The store fails (the session may live still, and [`purge`](Self::purge) is tried again when
    /// the handler has answered), the request has been answered, or there is no middleware.
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
        let unattached = || {
            SessionPurgeError(anyhow::anyhow!(
                "no SessionMiddleware serves this session (any more): it was not ended"
            ))
        };
        let answer = {
            let mut pending = self.lock();
            pending.purge();
            let purge = pending.purge_requests();
            if !purge.attached {
                return Err(unattached());
            }
            let (ask, answer) = oneshot::channel();
            purge.asked = Some(ask);
            if let Some(waker) = &purge.waker {
                waker.wake_by_ref();
            }
            answer
        };
        match answer.await {
            Ok(result) => result.map_err(SessionPurgeError),
            Err(_) => Err(unattached()),
        }
    }
}
