//! A store that fails on command.

use std::{
    collections::HashMap,
    future::{Future, pending},
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::cookie::time::Duration as CookieDuration;
use tokio::time::sleep;

use crate::{
    changes::Changes,
    contract::{Committed, End, Opened, Rotated, SessionState, Terms},
    error::{CommitError, LoadError, OutcomeUnknown, SaveError, UpdateError},
    key::SessionKey,
    live::Watch,
    record::Record,
    storage::SessionStore,
    sync::lock,
};

/// A store around another one that fails, waits or loses answers when a test says so.
///
/// Clones share the faults. A middleware calls `Open`, `Create`, `Commit`, `Rotate` and `Delete`;
/// `Load`, `Save`, `Update` and `UpdateTtl` are called inside a store of five methods alone. Managers
/// and `max_sessions` go by the index of the store inside: no fault reaches them, and no call of theirs
/// is among [`calls`](Self::calls).
///
/// It never [opens at once](SessionStore::opens_at_once), whatever it wraps, since a fault may wait.
/// So under [`lazy`], name the requests whose guards or middlewares ask for the session in [`load_when`].
///
/// [`lazy`]: crate::config::SessionMiddlewareBuilder::lazy
/// [`load_when`]: crate::config::SessionMiddlewareBuilder::load_when
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory-session")]
/// # actix_web::rt::System::new().block_on(async {
/// use actix_session::{
///     Session, SessionMiddleware,
///     storage::MemorySessionStore,
///     testing::{Fault, FaultyStore, StoreCall, TestClient},
/// };
/// use actix_web::{
///     App, HttpResponse, cookie::Key, http::StatusCode, test, test::TestRequest, web,
/// };
///
/// let store = FaultyStore::new(MemorySessionStore::new());
/// let middleware = SessionMiddleware::new(store.clone(), Key::generate());
/// let visit = async |session: Session| {
///     session.insert("n", 1)?;
///     Ok::<_, actix_web::Error>(HttpResponse::Ok())
/// };
/// let app = test::init_service(App::new().wrap(middleware).default_service(web::to(visit))).await;
///
/// let client = TestClient::new(&app);
///
/// store.next(StoreCall::Create, Fault::Fail);
/// let failed = client.send(TestRequest::get()).await;
/// assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
/// assert!(client.cookie("id").is_none(), "no cookie of a session that is not there");
///
/// let served = client.send(TestRequest::get()).await;
/// assert_eq!(served.status(), StatusCode::OK);
/// assert_eq!(store.calls(), [StoreCall::Create, StoreCall::Create]);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct FaultyStore<S> {
    inner: S,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    calls: Vec<StoreCall>,
    always: HashMap<StoreCall, Fault>,
    next: Vec<(StoreCall, Fault)>,
}

/// What goes wrong with a call of a [`FaultyStore`].
///
/// # Examples
/// See [`FaultyStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It fails, and nothing is done.
    Fail,
    /// It is done, and its answer is lost: the caller gets an error and cannot know.
    LoseAnswer,
    /// It is done after this time.
    Delay(Duration),
    /// It is never done and never answered.
    Hang,
}

/// A method of a [`SessionStore`] that can fail.
///
/// # Examples
/// See [`FaultyStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreCall {
    /// [`SessionStore::load`]
    Load,
    /// [`SessionStore::save`]
    Save,
    /// [`SessionStore::update`]
    Update,
    /// [`SessionStore::update_ttl`]
    UpdateTtl,
    /// [`SessionStore::delete`]
    Delete,
    /// [`SessionStore::open`]
    Open,
    /// [`SessionStore::create`]
    Create,
    /// [`SessionStore::commit`]
    Commit,
    /// [`SessionStore::rotate`]
    Rotate,
}

impl<S> FaultyStore<S> {
    /// Wraps a store, which does not fail until a test says so.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            told: Arc::default(),
        }
    }

    /// The store inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The next call of this method meets this fault. Several faults of one method come one after the
    /// other.
    pub fn next(&self, call: StoreCall, fault: Fault) {
        lock(&self.told).next.push((call, fault));
    }

    /// From now on every call of this method meets this fault.
    pub fn always(&self, call: StoreCall, fault: Fault) {
        lock(&self.told).always.insert(call, fault);
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        let mut told = lock(&self.told);
        told.next.clear();
        told.always.clear();
    }

    /// The calls since this was asked last, with those that met a fault.
    pub fn calls(&self) -> Vec<StoreCall> {
        std::mem::take(&mut lock(&self.told).calls)
    }

    fn fault(&self, call: StoreCall) -> Option<Fault> {
        let mut told = lock(&self.told);
        told.calls.push(call);
        match told.next.iter().position(|(next, _)| *next == call) {
            Some(first) => Some(told.next.remove(first).1),
            None => told.always.get(&call).copied(),
        }
    }

    async fn through<T, E>(
        &self,
        call: StoreCall,
        answer: impl Future<Output = Result<T, E>>,
        error: impl FnOnce(anyhow::Error) -> E,
    ) -> Result<T, E> {
        match self.fault(call) {
            None => answer.await,
            Some(Fault::Fail) => Err(error(anyhow::anyhow!("a test lets `{call:?}` fail"))),
            Some(Fault::LoseAnswer) => {
                answer.await?;
                Err(error(OutcomeUnknown.into()))
            }
            Some(Fault::Delay(span)) => {
                sleep(span).await;
                answer.await
            }
            Some(Fault::Hang) => pending().await,
        }
    }
}

impl<S: SessionStore> SessionStore for FaultyStore<S> {
    async fn load(&self, key: &SessionKey) -> Result<Option<SessionState>, LoadError> {
        let answer = self.inner.load(key);
        self.through(StoreCall::Load, answer, LoadError::Other)
            .await
    }

    async fn save(
        &self,
        state: SessionState,
        ttl: &CookieDuration,
    ) -> Result<SessionKey, SaveError> {
        let answer = self.inner.save(state, ttl);
        self.through(StoreCall::Save, answer, SaveError::Other)
            .await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: SessionState,
        ttl: &CookieDuration,
    ) -> Result<SessionKey, UpdateError> {
        let answer = self.inner.update(key, state, ttl);
        self.through(StoreCall::Update, answer, UpdateError::Other)
            .await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &CookieDuration) -> anyhow::Result<()> {
        let answer = self.inner.update_ttl(key, ttl);
        self.through(StoreCall::UpdateTtl, answer, |error| error)
            .await
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        let answer = self.inner.delete(key);
        self.through(StoreCall::Delete, answer, |error| error).await
    }

    async fn open(&self, key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
        let answer = self.inner.open(key, terms);
        self.through(StoreCall::Open, answer, LoadError::Other)
            .await
    }

    async fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(SessionKey, End), CommitError> {
        let answer = self.inner.create(changes, terms);
        self.through(StoreCall::Create, answer, CommitError::of_store)
            .await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Committed, CommitError> {
        let answer = self.inner.commit(key, base, changes, terms);
        self.through(StoreCall::Commit, answer, CommitError::of_store)
            .await
    }

    async fn rotate(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Rotated, CommitError> {
        let answer = self.inner.rotate(key, base, changes, terms);
        self.through(StoreCall::Rotate, answer, CommitError::of_store)
            .await
    }

    fn knows_ends(&self) -> bool {
        self.inner.knows_ends()
    }

    async fn watch(&self, key: &SessionKey, watch: Watch, terms: &Terms) {
        self.inner.watch(key, watch, terms).await;
    }
}

#[cfg(feature = "_backend")]
impl<S: crate::storage::SessionIndex> crate::storage::SessionIndex for FaultyStore<S> {
    fn index(&self) -> crate::storage::StoreIndex {
        self.inner.index()
    }
}
