//! The store of 0.9 under test, on the same Redis as the other one.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use actix_session::{
    storage::{
        Changes, CommitError, Committed, End, LoadError, Opened, Record, RedisActorSessionStore,
        Rotated, SaveError, SessionKey, SessionStore, Terms, UpdateError,
    },
    testing::ManualClock,
};
use actix_web::cookie::{Key, time::Duration};

use super::{Dump, Redis, TestStore};

/// A part of a Redis, through actors.
pub(crate) struct RedisActor {
    store: OneEachThread,
    redis: Redis,
}

impl TestStore for RedisActor {
    type Store = OneEachThread;

    async fn start() -> Self {
        let redis = <Redis as TestStore>::start().await;
        let store = OneEachThread {
            url: servers::RedisServer::shared_url().unwrap(),
            prefix: redis.prefix.clone(),
            clock: redis.clock().clone(),
        };
        Self { store, redis }
    }

    fn store(&self) -> Self::Store {
        self.store.clone()
    }

    fn clock(&self) -> &ManualClock {
        self.redis.clock()
    }

    fn key(&self) -> &Key {
        self.redis.key()
    }

    async fn dump(&self) -> Dump {
        self.redis.dump().await
    }
}

/// Makes a store for each worker, as applications do: it stays on the thread that made it.
#[derive(Clone)]
pub(crate) struct OneEachThread {
    url: String,
    prefix: String,
    clock: ManualClock,
}

type State = HashMap<String, String>;

impl OneEachThread {
    fn here(&self) -> Rc<RedisActorSessionStore> {
        thread_local! {
            static MADE: RefCell<HashMap<String, Rc<RedisActorSessionStore>>> = RefCell::default();
        }
        MADE.with_borrow_mut(|made| {
            let store = made.entry(self.prefix.clone());
            Rc::clone(store.or_insert_with(|| Rc::new(self.make())))
        })
    }

    fn make(&self) -> RedisActorSessionStore {
        let prefix = self.prefix.clone();
        RedisActorSessionStore::builder(&self.url)
            .cache_keygen(move |key| format!("{prefix}{key}"))
            .clock(self.clock.clone())
            .build()
    }
}

impl SessionStore for OneEachThread {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        self.here().load(key).await
    }

    async fn save(&self, state: State, ttl: &Duration) -> Result<SessionKey, SaveError> {
        self.here().save(state, ttl).await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        self.here().update(key, state, ttl).await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        self.here().update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.here().delete(key).await
    }

    async fn open(&self, key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
        self.here().open(key, terms).await
    }

    async fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(SessionKey, End), CommitError> {
        self.here().create(changes, terms).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Committed, CommitError> {
        self.here().commit(key, base, changes, terms).await
    }

    async fn rotate(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Rotated, CommitError> {
        self.here().rotate(key, base, changes, terms).await
    }
}
