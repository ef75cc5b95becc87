//! Waiting for the end of a session.

use super::{Session, errors::SessionEndedError, unloaded};
use crate::live::{SessionEnded, Waits, pair};

/// Those who wait for the end of a session, until the middleware has handed them to the store.
#[derive(Default)]
pub(crate) struct Waiting {
    /// For that of the record that was loaded.
    now: Vec<Waits>,
    /// For that of the record that this request leaves.
    later: Vec<Waits>,
}

impl Session {
    /// Gives something to await that resolves when this session ends: for sockets and streams that
    /// must not outlive it (ASVS 5.0, 7.4.1). Call it in the handler; then it is independent of the
    /// request.
    ///
    /// It resolves when the session has been purged or logged out, revoked or expired, on whatever
    /// server, and when it becomes another person's (but for the exceptions below). A renewal, as by a
    /// login or a new password, goes on. For a session that this request makes or clears it begins with
    /// the commit (the response's or that of [`save`](Self::save)), and resolves at once if none is made.
    /// Waiting extends nothing.
    ///
    /// # How soon
    /// Within one process, at once. Between processes, at once over Redis and PostgreSQL, whose
    /// messages carry ids, never keys. An expiry is found when it is due. What nobody tells (a row
    /// deleted by hand, an old server) is found by looking, each
    /// [`ended_lease`](crate::config::SessionMiddlewareBuilder::ended_lease) (5 s), and twelve times less
    /// often while the back end is known to tell (PostgreSQL: twice in each
    /// [`renewal_grace`](crate::config::SessionMiddlewareBuilder::renewal_grace) at least). A store that
    /// fails ends nothing.
    ///
    /// # Exceptions
    /// In a custom store that keeps no redirects, with a compare-and-set of its own or with the five
    /// published methods alone, a renewal ends it too. With cookie-stored sessions it knows what the list
    /// of ended sessions knows, and so no expiry, neither by the idle timeout nor by the absolute one.
    /// [`remaining`](Self::remaining) says when the latter is over, so that you can stop then.
    ///
    /// # Errors
    /// There is no middleware, the request has been answered, the session could not be loaded
    /// ([`is_degraded`](Self::is_degraded)), or nobody has loaded it
    /// ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)); or sessions live in cookies and there
    /// is no list of ended sessions.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    /// use actix_web::{HttpResponse, web::Bytes};
    /// use futures_util::{StreamExt as _, stream};
    ///
    /// /// Server-sent events that stop when the session ends.
    /// async fn events(session: Session) -> actix_web::Result<HttpResponse> {
    ///     let ended = session.ended()?;
    ///     let ticks = stream::unfold((), |()| async {
    ///         actix_web::rt::time::sleep(std::time::Duration::from_secs(1)).await;
    ///         Some((Ok::<_, actix_web::Error>(Bytes::from("data: tick\n\n")), ()))
    ///     });
    ///     Ok(HttpResponse::Ok()
    ///         .content_type("text/event-stream")
    ///         .streaming(ticks.take_until(ended)))
    /// }
    /// # actix_web::web::to(events);
    /// ```
    pub fn ended(&self) -> Result<SessionEnded, SessionEndedError> {
        let mut pending = self.lock();
        pending.writable().map_err(SessionEndedError)?;
        if pending.is_unloaded() {
            drop(pending);
            unloaded::warn();
            return Err(SessionEndedError(unloaded::error()));
        }
        if pending.degraded {
            return Err(SessionEndedError(anyhow::anyhow!(
                "the store has failed, so nobody knows whose session this is"
            )));
        }
        let is_present = pending.shows_present();
        let endings = pending.endings();
        endings.check_ends_are_known().map_err(SessionEndedError)?;
        let (ended, waits) = pair();
        let waker = endings.wait(waits, is_present);
        drop(pending);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(ended)
    }

    /// Those who wait for the end of the record that was loaded.
    pub(crate) fn take_waiting(&self) -> Vec<Waits> {
        self.lock().endings().waiting(|waiting| &mut waiting.now)
    }

    /// Those who wait for the end of the record that this request leaves, if the session goes on from
    /// there already.
    pub(crate) fn take_waiting_for_present(&self) -> Vec<Waits> {
        let mut pending = self.lock();
        if !pending.shows_present() {
            return Vec::new();
        }
        pending.endings().waiting(|waiting| &mut waiting.later)
    }

    /// Those who wait for the end of the record that this request leaves.
    pub(crate) fn take_waiting_for_later(&self) -> Vec<Waits> {
        self.lock().endings().waiting(|waiting| &mut waiting.later)
    }
}

impl Waiting {
    pub(super) fn add(&mut self, waits: Waits, is_present: bool) {
        let all = if is_present {
            &mut self.now
        } else {
            &mut self.later
        };
        all.push(waits);
    }

    /// Whether somebody waits for the end of what was loaded.
    pub(super) fn is_asked(&self) -> bool {
        !self.now.is_empty()
    }
}
