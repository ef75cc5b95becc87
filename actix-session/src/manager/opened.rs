//! A session that was opened outside of its own requests.

use std::{fmt, sync::Arc};

use super::{Inner, SessionHandle, SessionManager, SessionManagerError, to_the_end};
use crate::{
    Session, SessionEventKind,
    contract::{Committed, Terms},
    live::{self, SessionEnded, Watch},
    protocol::Name,
    session::{Served, Shown, Snapshot, Times},
    storage::index::Live,
};

/// A session of a principal that was opened outside of its own requests: see
/// [`SessionManager::open`].
///
/// # Examples
/// ```
/// use actix_session::{OpenedSession, SessionManagerError};
///
/// async fn add_to_basket(opened: OpenedSession) -> Result<(), SessionManagerError> {
///     opened.session().modify("basket", |items: Option<u32>| Some(items.unwrap_or(0) + 1))?;
///     opened.commit().await
/// }
/// # let _ = add_to_basket;
/// ```
pub struct OpenedSession {
    manager: SessionManager,
    principal: String,
    live: Live,
    session: Opened,
}

/// What a closure of the application's has captured goes with it: that may be the session's own handle.
struct Opened(Session);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.lock().finish();
    }
}

impl OpenedSession {
    pub(super) fn new(manager: SessionManager, principal: String, live: Live) -> Self {
        let inner = &manager.0;
        let served = Served {
            principal_entry: inner.terms.principal_entry.clone(),
            clock: manager.clock().clone(),
            times: Times::from(&manager.terms()),
            knows_ends: false,
        };
        let shown = Shown {
            record: Some(live.record.clone()),
            ..Shown::default()
        };
        let session = Session::of_request(Arc::new(served), shown).outside_of_requests();
        Self {
            manager,
            principal,
            live,
            session: Opened(session),
        }
    }

    /// The session as it was when it was opened, to read, and to change before
    /// [`commit`](Self::commit).
    ///
    /// [`save`](Session::save), [`take`](Session::take) and [`purge_now`](Session::purge_now) are for
    /// requests, and are errors here. After `purge_now`, as after [`purge`](Session::purge),
    /// [`commit`](Self::commit) ends the session.
    pub fn session(&self) -> &Session {
        &self.session.0
    }

    /// Resolves when this session ends, as [`Session::ended`] does: for sockets and jobs that go on.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{OpenedSession, Session};
    ///
    /// /// Sends messages for as long as the session lives.
    /// async fn feed(opened: OpenedSession, mut send: impl AsyncFnMut(&Session)) {
    ///     let ended = opened.ended();
    ///     while ended.reason().is_none() {
    ///         send(opened.session()).await;
    ///     }
    /// }
    /// # let _ = |opened| feed(opened, async |_: &Session| {});
    /// ```
    pub fn ended(&self) -> SessionEnded {
        let (ended, waits) = live::pair();
        let Inner { index, looking, .. } = &*self.manager.0;
        let known = looking.known(&self.live.record);
        let watch = Watch::new(waits, known, looking.clone());
        index.0.watch(self.live.at.clone(), watch);
        ended
    }

    /// Its name for the manager.
    pub fn handle(&self) -> SessionHandle {
        SessionHandle::of(&self.principal, self.live.id)
    }

    /// Extends the session by its idle timeout, or by its own TTL, as a request does that counts as
    /// activity: for a user who works over a socket alone. Nothing else extends the session here.
    ///
    /// The absolute end stays. Under
    /// [`AtMostEvery`](crate::config::TtlExtensionPolicy::AtMostEvery) this writes no more often than
    /// requests do: at most once an interval, or, for a TTL of the session's own, once half of that is
    /// over, if that is sooner. Renewals are followed, and nothing that has ended comes back. The
    /// browser's cookie stays as it is: a persistent one has its own end, which only a request moves.
    ///
    /// # Errors
    /// [`is_gone`](SessionManagerError::is_gone): the session has ended, or is another person's now.
    /// The manager was made from a store alone. Otherwise, the store fails or takes no writes.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{OpenedSession, SessionManagerError};
    ///
    /// /// Called for each message of the user's. `false`: the session has ended.
    /// async fn active(opened: &OpenedSession) -> Result<bool, SessionManagerError> {
    ///     match opened.extend().await {
    ///         Ok(()) => Ok(true),
    ///         Err(error) if error.is_gone() => Ok(false),
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// # let _ = active;
    /// ```
    pub async fn extend(&self) -> Result<(), SessionManagerError> {
        if !self.manager.0.writes {
            return Err(changes_nothing());
        }
        let mut extended = self.touch(self.live.at.clone()).await?;
        if matches!(extended, Committed::Gone)
            && let Some(live) = self.manager.find(&self.principal, &self.handle()).await?
        {
            // It was renewed longer ago than its redirect lives.
            extended = self.touch(live.at).await?;
        }
        match extended {
            Committed::Gone => Err(SessionManagerError::gone()),
            Committed::NotExtended => Err(SessionManagerError::new(anyhow::anyhow!(
                "the session was not extended: its store takes no writes at present"
            ))),
            _ => Ok(()),
        }
    }

    async fn touch(&self, at: Name) -> Result<Committed, SessionManagerError> {
        let terms = self.manager.extending_terms();
        let index = &self.manager.0.index.0;
        let touched = index.touch(at, &self.principal, self.live.id, &terms);
        self.manager.told(touched.await)
    }

    /// Commits what was changed, as a request of the session would: others' changes stay, and so does
    /// a logout. The session is not extended ([`extend`](Self::extend)): this is no activity of the
    /// user's.
    ///
    /// # Errors
    /// [`is_gone`](SessionManagerError::is_gone): the session has ended, or is another person's now.
    /// The changes need a cookie (a renewal, a login, entries after a `purge`, which ends the session all the
    /// same), make the record larger than
    /// [`max_state_size`](crate::config::SessionMiddlewareBuilder::max_state_size), or cannot be computed (a
    /// `modify` of a value of another type); or the manager was made from a store alone. Others kept changing
    /// the session until the time was up: as a response, it is a 503. Otherwise, the store fails; if its
    /// answer was lost, nobody knows what was done
    /// ([`is_outcome_unknown`](SessionManagerError::is_outcome_unknown)).
    pub async fn commit(self) -> Result<(), SessionManagerError> {
        let snapshot = self.session.0.lock().take_snapshot();
        let needs_cookie = snapshot.changes.renews() || snapshot.changes.login.is_some();
        if snapshot.purged {
            self.end().await?;
            let makes_another = needs_cookie || snapshot.changes.makes_session();
            return if makes_another {
                Err(needs_a_cookie())
            } else {
                Ok(())
            };
        }
        if needs_cookie {
            return Err(needs_a_cookie());
        }
        if snapshot.changes.leave_unchanged(&self.live.record) {
            return Ok(());
        }
        if !self.manager.0.writes {
            return Err(changes_nothing());
        }
        to_the_end(self.write(snapshot)).await
    }

    /// A session that was renewed longer ago than its redirect lives is looked up once more.
    async fn write(self, snapshot: Snapshot) -> Result<(), SessionManagerError> {
        let index = &self.manager.0.index.0;
        let terms: Terms = self.manager.terms();
        let answer = index.commit(&self.live, &snapshot.changes, &terms).await;
        let mut committed = self.manager.told(answer)?;
        if matches!(committed, Committed::Gone)
            && let Some(live) = self.manager.find(&self.principal, &self.handle()).await?
            && !is_behind_login(&self.live, &live, &terms)
        {
            let base = Live {
                record: self.live.record.clone(),
                ..live
            };
            let answer = index.commit(&base, &snapshot.changes, &terms).await;
            committed = self.manager.told(answer)?;
        }
        let logged_out = snapshot
            .changes
            .logged_out(committed.is_written(), Some(&self.principal));
        if logged_out.is_some() {
            let kind = SessionEventKind::LoggedOut;
            self.manager.tell(kind, logged_out.as_deref());
        }
        match committed {
            Committed::Gone if snapshot.changes.cleared.is_none() => {
                Err(SessionManagerError::gone())
            }
            _ => Ok(()),
        }
    }

    /// Ends the session, and returns whether it was still there.
    ///
    /// # Errors
    /// The store fails, or does not answer in time: the session may be alive.
    pub async fn end(self) -> Result<bool, SessionManagerError> {
        self.manager.end(&self.principal, self.live).await
    }
}

/// Whether the user has logged in to the session again, so lately that the login's redirect is still there:
/// what it has refused is not done past it.
fn is_behind_login(base: &Live, found: &Live, terms: &Terms) -> bool {
    let again = found.login().filter(|again| Some(*again) > base.login());
    again.is_some_and(|again| terms.now < again + terms.grace)
}

fn needs_a_cookie() -> SessionManagerError {
    SessionManagerError::new(anyhow::anyhow!(
        "a session that is opened outside of its requests cannot be renewed or logged in, nor become \
         another one: its cookie would have to change"
    ))
}

fn changes_nothing() -> SessionManagerError {
    SessionManagerError::new(anyhow::anyhow!(
        "a manager that was made from a store alone changes no session: take the middleware's \
         (`SessionMiddleware::manager`)"
    ))
}

/// Shows neither the principal nor the content.
impl fmt::Debug for OpenedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedSession")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
