//! The store of 0.9 under test, on the same Redis as the other one.

use std::{cell::RefCell, collections::HashMap};

use actix_session::{
    storage::{RedisActorSessionStore, SessionStore},
    testing::ManualClock,
};
use actix_web::cookie::Key;

use super::{Dump, Redis, TestStore};

/// A part of a Redis, through actors.
pub(crate) struct RedisActor {
    store: OneEachThread,
    redis: Redis,
}

impl RedisActor {
    /// The same part of the Redis, through the other store.
    pub(crate) const fn redis(&self) -> &Redis {
        &self.redis
    }
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

impl OneEachThread {
    /// This thread's store. It is leaked, since futures borrow it; a test makes a few.
    fn here(&self) -> &'static RedisActorSessionStore {
        thread_local! {
            static MADE: RefCell<HashMap<String, &'static RedisActorSessionStore>> =
                RefCell::default();
        }
        MADE.with_borrow_mut(|made| {
            let store = made.entry(self.prefix.clone());
            *store.or_insert_with(|| Box::leak(Box::new(self.make())))
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
    actix_session::forward_store_methods!(self => self.here());
}
