//! Sessions outside of their own requests: listed by principal, ended, opened.

mod error;
mod handle;
mod listed;
mod opened;
mod operator;
mod personal;
mod upstream;

use std::{fmt, sync::Arc};

pub use self::{
    error::SessionManagerError,
    handle::{InvalidSessionHandle, SessionHandle},
    listed::{ListedSession, NextPage, SessionList},
    opened::OpenedSession,
    operator::{SessionOperator, SessionStats},
    personal::ExportedSession,
    upstream::UpstreamNotice,
};
use crate::{
    EndReason, Session,
    clock::SharedClock,
    config::ENDED_LEASE,
    contract::Terms,
    error::CommitError,
    live::Looking,
    middleware::guard::on_worker,
    observe::{Observed, SessionEventKind},
    protocol::NotBefore,
    storage::{
        SessionIndex, StoreIndex,
        index::{After, By, EndAll, Live, Page},
    },
    to_the_end::ToTheEnd,
};

/// Does what must not stop halfway if whoever has asked for it goes away: it goes on, on the worker
/// that it has begun on.
async fn to_the_end<T: 'static>(work: impl Future<Output = T> + 'static) -> T {
    let finish = |work| {
        on_worker(async move { drop(work.await) });
    };
    ToTheEnd::new(work, finish).await
}

/// Lists, opens and ends the sessions of a principal: "your devices", "sign out everywhere".
///
/// Everything that it does names a principal, which the application takes from its own login
/// ([`Session::principal`]), never from a form. It can be application data: clones share one store,
/// and it is `Send` and `Sync`.
///
/// [`SessionMiddleware::manager`](crate::SessionMiddleware::manager) makes one that has the
/// middleware's settings.
///
/// An ended session fails its next load, and requests in flight find it gone when they commit (ASVS
/// 5.0, 7.4.1).
///
/// Await its methods in a tokio runtime. The manager goes to any thread, but what its methods return
/// stays on one: start a job with [`actix_web::rt::spawn`], not with `tokio::spawn`.
///
/// # Examples
/// ```
/// use actix_session::{Session, SessionManager};
/// use actix_web::{HttpResponse, web};
///
/// /// After a new password (ASVS 5.0, 7.4.3).
/// async fn sign_out_elsewhere(
///     session: Session,
///     sessions: web::Data<SessionManager>,
/// ) -> actix_web::Result<HttpResponse> {
///     let ended = sessions.revoke_others(&session).await?;
///     Ok(HttpResponse::Ok().body(format!("{ended} other sessions have ended")))
/// }
/// # actix_web::web::to(sign_out_elsewhere);
/// ```
#[derive(Clone)]
pub struct SessionManager(Arc<Inner>);

struct Inner {
    index: StoreIndex,
    terms: Terms,
    /// How ends are looked for, after a call too.
    looking: Looking,
    observed: Observed,
    /// The terms are those of a middleware, so that changes can be written.
    writes: bool,
}

impl SessionManager {
    /// Makes a manager from a store alone, for tools. It lists and ends sessions, and changes none: it
    /// does not know the settings that the application writes them with.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionManager, storage::MemorySessionStore};
    ///
    /// # actix_web::rt::System::new().block_on(async {
    /// let sessions = SessionManager::of_store(&MemorySessionStore::new());
    /// assert_eq!(sessions.count("user-42").await?, 0);
    /// # Ok::<(), actix_session::SessionManagerError>(()) }).unwrap();
    /// ```
    pub fn of_store(store: &impl SessionIndex) -> Self {
        let index = store.index();
        let terms = Terms::default();
        let looking = Looking {
            terms: Arc::new(terms.clone()),
            clock: index.0.clock().clone(),
            lease: ENDED_LEASE,
        };
        Self::new(index, terms, looking, Observed::default(), false)
    }

    pub(crate) fn of_middleware(
        index: StoreIndex,
        terms: Terms,
        looking: Looking,
        observed: Observed,
    ) -> Self {
        Self::new(index, terms, looking, observed, true)
    }

    fn new(
        index: StoreIndex,
        terms: Terms,
        looking: Looking,
        observed: Observed,
        writes: bool,
    ) -> Self {
        Self(Arc::new(Inner {
            index,
            terms,
            looking,
            observed,
            writes,
        }))
    }

    fn clock(&self) -> &SharedClock {
        &self.0.looking.clock
    }

    /// Lists a principal's live sessions, the latest login first. Looking at them extends none.
    ///
    /// A list has up to 50. [`first_page`](Self::first_page) takes another limit, and
    /// [`list_page`](Self::list_page) gives those that follow.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Session, SessionManager};
    /// use actix_web::web;
    ///
    /// async fn devices(
    ///     session: Session,
    ///     sessions: web::Data<SessionManager>,
    /// ) -> actix_web::Result<String> {
    ///     let principal = session.principal().unwrap_or_default();
    ///     let mut page = String::new();
    ///     for other in sessions.list(&principal).await? {
    ///         let badge = if other.is(&session) { " (this device)" } else { "" };
    ///         page += &format!("{}{badge}\n", other.device().unwrap_or("an unknown device"));
    ///     }
    ///     Ok(page)
    /// }
    /// # actix_web::web::to(devices);
    /// ```
    pub async fn list(&self, principal: &str) -> Result<SessionList, SessionManagerError> {
        self.first_page(principal, 50).await
    }

    /// The same, with up to `limit` sessions, and at least one.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    pub async fn first_page(
        &self,
        principal: &str,
        limit: usize,
    ) -> Result<SessionList, SessionManagerError> {
        self.page(principal, None, limit).await
    }

    /// Lists up to `limit` of the sessions that follow a list that was not complete.
    ///
    /// Each session that lives all the while is in exactly one list, unless it is logged in again between
    /// the two.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionManager, SessionManagerError};
    ///
    /// async fn count_slowly(
    ///     sessions: &SessionManager,
    ///     principal: &str,
    /// ) -> Result<usize, SessionManagerError> {
    ///     let mut list = sessions.list(principal).await?;
    ///     let mut count = list.len();
    ///     while let Some(next) = list.next_page() {
    ///         list = sessions.list_page(principal, next, 200).await?;
    ///         count += list.len();
    ///     }
    ///     Ok(count)
    /// }
    /// # let _ = count_slowly;
    /// ```
    pub async fn list_page(
        &self,
        principal: &str,
        page: NextPage,
        limit: usize,
    ) -> Result<SessionList, SessionManagerError> {
        self.page(principal, Some(page.0), limit).await
    }

    /// Counts a principal's live sessions.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    pub async fn count(&self, principal: &str) -> Result<usize, SessionManagerError> {
        let terms = self.terms();
        self.told(self.0.index.count(principal, &terms).await)
    }

    /// Ends one session of a principal, and returns whether there was such a session. One of
    /// another principal's is not found.
    ///
    /// Renewals by its own requests do not save it.
    ///
    /// # Errors
    /// The store fails, or does not answer in time: the session may be alive.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Session, SessionHandle, SessionManager};
    /// use actix_web::{HttpResponse, web};
    ///
    /// async fn end_device(
    ///     handle: web::Path<SessionHandle>,
    ///     session: Session,
    ///     sessions: web::Data<SessionManager>,
    /// ) -> actix_web::Result<HttpResponse> {
    ///     let principal = session.principal().unwrap_or_default();
    ///     Ok(if sessions.revoke(&principal, &handle).await? {
    ///         HttpResponse::NoContent().finish()
    ///     } else {
    ///         HttpResponse::NotFound().finish()
    ///     })
    /// }
    /// # actix_web::web::to(end_device);
    /// ```
    pub async fn revoke(
        &self,
        principal: &str,
        handle: &SessionHandle,
    ) -> Result<bool, SessionManagerError> {
        let (this, principal, handle) = (self.clone(), principal.to_owned(), handle.clone());
        to_the_end(async move {
            match this.find(&principal, &handle).await? {
                Some(live) => this.end_now(&principal, live).await,
                None => Ok(false),
            }
        })
        .await
    }

    /// Ends all sessions of a principal, and returns how many there were.
    ///
    /// It also ends what is not stored yet: a login that began before this call and commits later is
    /// refused (its response is a 401). A login that begins later passes.
    ///
    /// Once it has begun, it goes on to its end if its future is dropped, say because the client has gone;
    /// on a thread of an Actix server, that is. The same goes for whatever else a manager ends or
    /// commits.
    ///
    /// # Errors
    /// The store fails, or does not answer in time: some sessions may be alive. It is safe to repeat
    /// this.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionManager, SessionManagerError};
    ///
    /// async fn lock_account(
    ///     sessions: &SessionManager,
    ///     principal: &str,
    /// ) -> Result<(), SessionManagerError> {
    ///     let ended = sessions.revoke_all(principal).await?;
    ///     println!("{ended} sessions have ended");
    ///     Ok(())
    /// }
    /// # let _ = lock_account;
    /// ```
    pub async fn revoke_all(&self, principal: &str) -> Result<u64, SessionManagerError> {
        let ended = self.end_all(principal, Vec::new(), None).await?;
        Ok(ended.unwrap_or_default())
    }

    /// Ends all sessions of a request's principal but this one, and returns how many there were.
    ///
    /// This session goes on, even if the same request renews it or logs the principal in. Of logins in
    /// other requests the same holds as for [`revoke_all`](Self::revoke_all).
    ///
    /// # Errors
    /// [`is_gone`](SessionManagerError::is_gone): nobody is logged in, or this session has ended
    /// meanwhile, and nothing was done. Nothing was done either if the session is not loaded
    /// ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)) or could not be
    /// ([`Session::is_degraded`]): nobody knows which session to spare. Otherwise, as for
    /// [`revoke_all`](Self::revoke_all).
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Session, SessionManager};
    /// use actix_web::web;
    ///
    /// async fn new_password(
    ///     session: Session,
    ///     sessions: web::Data<SessionManager>,
    /// ) -> actix_web::Result<String> {
    ///     // ... after the new password has been stored
    ///     let ended = sessions.revoke_others(&session).await?;
    ///     Ok(format!("{ended} other sessions have ended"))
    /// }
    /// # actix_web::web::to(new_password);
    /// ```
    pub async fn revoke_others(&self, session: &Session) -> Result<u64, SessionManagerError> {
        let identity = session.identity().map_err(SessionManagerError::new)?;
        let identity = identity.ok_or_else(SessionManagerError::gone)?;
        let by = By {
            id: identity.ids.first().copied().unwrap_or_default(),
            login: identity.login,
            is_stored: !identity.is_new,
        };
        let ended = self.end_all(&identity.principal, identity.ids, Some(by));
        ended.await?.ok_or_else(SessionManagerError::gone)
    }

    /// Opens a session of a principal, to read or to change it: for sockets that outlive their
    /// request, and for jobs. `None`: there is no such session, or it is another principal's.
    ///
    /// Opening extends nothing: [`OpenedSession::extend`] does.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionHandle, SessionManager, SessionManagerError};
    ///
    /// async fn notify(
    ///     sessions: &SessionManager,
    ///     principal: &str,
    ///     handle: &SessionHandle,
    /// ) -> Result<bool, SessionManagerError> {
    ///     let Some(opened) = sessions.open(principal, handle).await? else {
    ///         return Ok(false);
    ///     };
    ///     opened.session().insert("notice", "your export is ready")?;
    ///     opened.commit().await?;
    ///     Ok(true)
    /// }
    /// # let _ = notify;
    /// ```
    pub async fn open(
        &self,
        principal: &str,
        handle: &SessionHandle,
    ) -> Result<Option<OpenedSession>, SessionManagerError> {
        let live = self.find(principal, handle).await?;
        Ok(live.map(|live| OpenedSession::new(self.clone(), principal.to_owned(), live)))
    }

    async fn page(
        &self,
        principal: &str,
        mut after: Option<After>,
        limit: usize,
    ) -> Result<SessionList, SessionManagerError> {
        let terms = self.terms();
        let limit = limit.max(1);
        let mut found = Vec::new();
        loop {
            let page = Page {
                after,
                limit: limit - found.len(),
            };
            let listed = self.0.index.0.list(principal, page, &terms).await;
            let (live, next) = self.told(listed)?;
            found.extend(live.iter().map(|live| self.listed(live, &terms)));
            after = next;
            if after.is_none() || found.len() >= limit {
                return Ok(SessionList::new(found, after));
            }
        }
    }

    fn listed(&self, live: &Live, terms: &Terms) -> ListedSession {
        let idle = self.0.writes.then_some(terms.ttl);
        ListedSession::new(live, terms, idle)
    }

    async fn find(
        &self,
        principal: &str,
        handle: &SessionHandle,
    ) -> Result<Option<Live>, SessionManagerError> {
        let is_meant = |live: &Live| SessionHandle::of(principal, live.id) == *handle;
        let terms = self.terms();
        let find = |live: Vec<Live>| live.into_iter().find(is_meant);
        self.told(self.0.index.each(principal, &terms, find).await)
    }

    async fn end(&self, principal: &str, live: Live) -> Result<bool, SessionManagerError> {
        let (this, principal) = (self.clone(), principal.to_owned());
        to_the_end(async move { this.end_now(&principal, live).await }).await
    }

    /// A session that was renewed longer ago than its redirect lives is looked up once more.
    async fn end_now(&self, principal: &str, live: Live) -> Result<bool, SessionManagerError> {
        let (terms, why) = (self.terms(), EndReason::Revoked);
        let (index, id) = (&self.0.index.0, live.id);
        let end = async |at| self.told(index.end(at, principal, id, None, why, &terms).await);
        let mut ended = end(live.at).await?;
        if !ended {
            let found = self.0.index.find(principal, id, &terms).await;
            if let Some(live) = self.told(found)? {
                ended = end(live.at).await?;
            }
        }
        if ended {
            self.tell(SessionEventKind::Ended(why), Some(principal));
        }
        Ok(ended)
    }

    async fn end_all(
        &self,
        principal: &str,
        spared: Vec<u128>,
        by: Option<By>,
    ) -> Result<Option<u64>, SessionManagerError> {
        let (this, principal) = (self.clone(), principal.to_owned());
        to_the_end(async move {
            let (terms, end) = (this.terms(), this.end_by(&principal, spared, by));
            let index = &this.0.index.0;
            let ended = this.told(index.end_all(&principal, end, &terms).await)?;
            if let Some(ended) = ended {
                this.tell(SessionEventKind::Revoked(ended), Some(&principal));
            }
            Ok(ended)
        })
        .await
    }

    /// The response shows no detail of a failure, so the log has to.
    fn told<T>(&self, answer: Result<T, CommitError>) -> Result<T, SessionManagerError> {
        if let Err(error) = &answer {
            self.0.observed.not_committed("manage", error);
        }
        Ok(answer?)
    }

    fn tell(&self, kind: SessionEventKind, principal: Option<&str>) {
        self.0.observed.tell(kind, None, principal);
    }

    fn end_by(&self, principal: &str, spared: Vec<u128>, by: Option<By>) -> EndAll {
        let clock = self.clock().clone();
        let at = clock.revocation_time(principal);
        EndAll {
            mark: NotBefore { at, spared },
            by,
            clock,
        }
    }

    /// The terms of a call made now, which extends nothing.
    fn terms(&self) -> Terms {
        self.extending_terms().quiet()
    }

    /// The terms of a call made now, which extends what a request would extend.
    fn extending_terms(&self) -> Terms {
        Terms {
            now: self.clock().now(),
            ..self.0.terms.clone()
        }
    }
}

/// Does not show the store: its address may contain a password.
impl fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManager").finish_non_exhaustive()
    }
}
