//! Sessions in the hands of an operator.

use std::fmt;

use super::{
    ListedSession, NextPage, SessionHandle, SessionList, SessionManager, SessionManagerError,
};
use crate::storage::{SessionIndex, upkeep::Counts};

/// Lists and ends sessions for whoever runs the application: admin pages, support, tools.
///
/// It acts on any session, whoever asks. So keep it apart from what users reach: handlers that act
/// for a user take the [`SessionManager`], which asks whose session it is.
///
/// [`SessionManager::operator`] makes one that has a middleware's settings, and
/// [`of_store`](Self::of_store) one for a tool. Clones share one store.
///
/// # Examples
/// ```
/// use actix_session::{SessionManagerError, SessionOperator};
///
/// /// Ends what began with a password, now that passkeys are required.
/// async fn end_old_logins(
///     operator: &SessionOperator,
///     user: &str,
/// ) -> Result<(), SessionManagerError> {
///     let mut list = operator.list(user).await?;
///     loop {
///         let next = list.next_page();
///         for session in list {
///             if session.method() == Some("password") {
///                 operator.end(&session).await?;
///             }
///         }
///         // A list has up to 50 sessions.
///         let Some(next) = next else { return Ok(()) };
///         list = operator.list_page(user, next, 50).await?;
///     }
/// }
/// # let _ = end_old_logins;
/// ```
#[derive(Clone)]
pub struct SessionOperator(SessionManager);

/// How much a store holds: see [`SessionOperator::stats`].
///
/// # Examples
/// ```
/// use actix_session::{SessionOperator, storage::MemorySessionStore};
///
/// # actix_web::rt::System::new().block_on(async {
/// let operator = SessionOperator::of_store(&MemorySessionStore::new());
/// assert_eq!(operator.stats().await?.live(), Some(0));
/// # Ok::<(), actix_session::SessionManagerError>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStats(Counts);

impl SessionStats {
    /// How many sessions there are that have not expired, at most: it counts some of what is kept beside
    /// them, too. In an SQL database, that is what renewals and endings left in the last minute; in
    /// memory, what has just expired; in both, each principal that has logged in under
    /// [`OverLimit::Refuse`](crate::config::OverLimit::Refuse), and what a list of ended sessions holds.
    ///
    /// With logins at an [`Upstream`](crate::Upstream), it is far too high: each user and each session
    /// there counts until the session's longest life is over, a year and more without an absolute
    /// timeout. So does each of its logouts, for ten minutes and more.
    pub const fn live(&self) -> Option<u64> {
        self.0.live
    }

    /// How many sessions belong to somebody, expired ones included until they are swept.
    pub const fn of_principals(&self) -> Option<u64> {
        self.0.owned
    }

    /// How much has expired, and waits to be swept.
    pub const fn expired(&self) -> Option<u64> {
        self.0.expired
    }
}

impl SessionManager {
    /// The operator of the same sessions.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionManager, storage::MemorySessionStore};
    ///
    /// let operator = SessionManager::of_store(&MemorySessionStore::new()).operator();
    /// # let _ = operator;
    /// ```
    pub fn operator(&self) -> SessionOperator {
        SessionOperator(self.clone())
    }
}

impl SessionOperator {
    /// Makes an operator from a store alone, for tools: see [`SessionManager::of_store`].
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionOperator, storage::MemorySessionStore};
    ///
    /// let operator = SessionOperator::of_store(&MemorySessionStore::new());
    /// # let _ = operator;
    /// ```
    pub fn of_store(store: &impl SessionIndex) -> Self {
        SessionManager::of_store(store).operator()
    }

    /// Lists a principal's live sessions, as [`SessionManager::list`] does.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionOperator, storage::MemorySessionStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let operator = SessionOperator::of_store(&MemorySessionStore::new());
    /// for session in operator.list("user-42").await? {
    ///     println!("{} since {:?}", session.handle(), session.logged_in_at());
    /// }
    /// # Ok::<(), actix_session::SessionManagerError>(()) }).unwrap();
    /// ```
    pub async fn list(&self, principal: &str) -> Result<SessionList, SessionManagerError> {
        self.0.list(principal).await
    }

    /// Lists the sessions that follow a list, as [`SessionManager::list_page`] does.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    ///
    /// # Examples
    /// See [`SessionOperator`].
    pub async fn list_page(
        &self,
        principal: &str,
        page: NextPage,
        limit: usize,
    ) -> Result<SessionList, SessionManagerError> {
        self.0.list_page(principal, page, limit).await
    }

    /// Counts a principal's live sessions.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionOperator, storage::MemorySessionStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let operator = SessionOperator::of_store(&MemorySessionStore::new());
    /// assert_eq!(operator.count("user-42").await?, 0);
    /// # Ok::<(), actix_session::SessionManagerError>(()) }).unwrap();
    /// ```
    pub async fn count(&self, principal: &str) -> Result<usize, SessionManagerError> {
        self.0.count(principal).await
    }

    /// The live session that a handle names. A handle is a digest of the principal and the session, so
    /// that no store finds one by the handle alone.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionHandle, SessionManagerError, SessionOperator};
    ///
    /// async fn began(
    ///     operator: &SessionOperator,
    ///     principal: &str,
    ///     handle: &SessionHandle,
    /// ) -> Result<Option<std::time::SystemTime>, SessionManagerError> {
    ///     let found = operator.find(principal, handle).await?;
    ///     Ok(found.map(|session| session.logged_in_at()))
    /// }
    /// # let _ = began;
    /// ```
    pub async fn find(
        &self,
        principal: &str,
        handle: &SessionHandle,
    ) -> Result<Option<ListedSession>, SessionManagerError> {
        let live = self.0.find(principal, handle).await?;
        let terms = self.0.terms();
        Ok(live.map(|live| self.0.listed(&live, &terms)))
    }

    /// Ends a session, whoever it belongs to, and returns whether it was still there.
    ///
    /// # Errors
    /// The store fails, or does not answer in time: the session may be alive.
    ///
    /// # Examples
    /// See [`SessionOperator`].
    pub async fn end(&self, session: &ListedSession) -> Result<bool, SessionManagerError> {
        self.0.revoke(session.principal(), &session.handle()).await
    }

    /// Ends all sessions of a principal, as [`SessionManager::revoke_all`] does, and returns how many
    /// there were.
    ///
    /// # Errors
    /// The store fails, or does not answer in time: some sessions may be alive. It is safe to repeat
    /// this.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionOperator, storage::MemorySessionStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let operator = SessionOperator::of_store(&MemorySessionStore::new());
    /// let ended = operator.end_principal("user-42").await?;
    /// println!("{ended} sessions have ended");
    /// # Ok::<(), actix_session::SessionManagerError>(()) }).unwrap();
    /// ```
    pub async fn end_principal(&self, principal: &str) -> Result<u64, SessionManagerError> {
        self.0.revoke_all(principal).await
    }

    /// Erases a principal, as [`SessionManager::erase`] does.
    ///
    /// # Errors
    /// The store fails, or does not answer in time: something may be left. It is safe to repeat this.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionOperator, storage::MemorySessionStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let operator = SessionOperator::of_store(&MemorySessionStore::new());
    /// operator.erase("user-42").await?;
    /// # Ok::<(), actix_session::SessionManagerError>(()) }).unwrap();
    /// ```
    pub async fn erase(&self, principal: &str) -> Result<u64, SessionManagerError> {
        self.0.erase(principal).await
    }

    /// Counts what the store holds, as far as it knows without a look at all of it. SQL stores count
    /// by their indexes, which takes time in proportion to the number of sessions, and occupies one of
    /// the store's connections as long. A memory store knows how many live; Redis keeps no such numbers.
    ///
    /// # Errors
    /// The store fails, or does not answer within a minute.
    ///
    /// # Examples
    /// See [`SessionStats`].
    pub async fn stats(&self) -> Result<SessionStats, SessionManagerError> {
        let terms = self.0.terms();
        let counts = self.0.0.index.0.counts(&terms).await;
        self.0.told(counts).map(SessionStats)
    }

    /// Deletes what has expired, and returns how much that was. `None`: the store's server does so by
    /// itself (Redis).
    ///
    /// No request ever sees what has expired, swept or not: sweeping only makes room.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionOperator, storage::MemorySessionStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let operator = SessionOperator::of_store(&MemorySessionStore::new());
    /// assert_eq!(operator.sweep().await?, Some(0));
    /// # Ok::<(), actix_session::SessionManagerError>(()) }).unwrap();
    /// ```
    pub async fn sweep(&self) -> Result<Option<u64>, SessionManagerError> {
        let terms = self.0.terms();
        self.0.told(self.0.0.index.0.sweep_all(&terms).await)
    }
}

/// Does not show the store: its address may contain a password.
impl fmt::Debug for SessionOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionOperator").finish_non_exhaustive()
    }
}
