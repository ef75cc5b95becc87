//! Our stores through other doors: a cluster, Sentinel, pools, a pooler, and actors.

use std::{future::pending, rc::Rc, sync::mpsc, thread, time::Duration};

use actix_session::{
    conformance,
    storage::{
        PostgresSessionStore, RedisActorSessionStore, RedisSessionStore, RedisSessionStoreBuilder,
        SessionStore,
    },
};
use actix_web::rt::System;
use futures_util::future::join_all;
use servers::{RedisSentinel, RedisServer};

use crate::{shared, stores::own_name};

/// No busy machine exceeds it.
const PATIENCE: Duration = Duration::from_secs(30);

fn own(builder: RedisSessionStoreBuilder) -> RedisSessionStoreBuilder {
    let builder = builder.command_timeout(PATIENCE).connect_timeout(PATIENCE);
    builder.key_prefix(own_name())
}

conformance!(
    redis_cluster,
    async |clock| {
        let builder = own(RedisSessionStore::builder_cluster(shared::cluster_urls()));
        builder.clock(clock).build().await.unwrap()
    },
    without a clock
);

// A key cannot be drawn for a slot there.
conformance!(
    redis_cluster_whose_names_hide_keys,
    async |clock| {
        let builder = RedisSessionStore::builder_cluster(shared::cluster_urls());
        let prefix = own_name();
        let hidden = move |key: &str| key.chars().rev().chain(prefix.chars()).collect();
        builder.cache_keygen(hidden).clock(clock).build().await.unwrap()
    },
    without a clock
);

conformance!(
    redis_cluster_with_hashed_keys,
    async |clock| {
        let builder = own(RedisSessionStore::builder_cluster(shared::cluster_urls()));
        builder.hashed_keys().clock(clock).build().await.unwrap()
    },
    without a clock
);

conformance!(
    redis_behind_sentinel,
    async |clock| {
        let urls = shared::sentinel().sentinel_urls();
        let builder = own(RedisSessionStore::builder_sentinel(urls, RedisSentinel::MASTER));
        builder.clock(clock).build().await.unwrap()
    },
    without a clock
);

const CONNECTIONS: usize = 4;

/// A connection ends with the runtime that has opened it, in the midst of what others ask for on it. Each
/// thread of the kit has a runtime of its own, so all are opened on one that stays.
fn opened(pool: deadpool_redis::Pool) -> deadpool_redis::Pool {
    let (opened, wait) = mpsc::channel();
    let shared = pool.clone();
    thread::spawn(move || {
        System::new().block_on(async move {
            let all = join_all((0..CONNECTIONS).map(|_| shared.get())).await;
            assert!(all.iter().all(Result::is_ok));
            drop(all);
            opened.send(()).unwrap();
            pending::<()>().await;
        });
    });
    wait.recv().unwrap();
    pool
}

conformance!(
    redis_pool,
    async |clock| {
        let mut config = deadpool_redis::Config::from_url(RedisServer::shared_url().unwrap());
        config.pool = Some(deadpool_redis::PoolConfig::new(CONNECTIONS));
        let pool = config.create_pool(Some(deadpool_redis::Runtime::Tokio1));
        let builder = own(RedisSessionStore::builder_pooled(opened(pool.unwrap())));
        builder.clock(clock).build().await.unwrap()
    },
    without a clock
);

/// The kit makes copies of a store, and this one cannot be copied.
#[derive(Clone)]
struct Actor(Rc<RedisActorSessionStore>);

impl SessionStore for Actor {
    actix_session::forward_store_methods!(self => self.0);
}

// It knows no owners.
conformance!(
    redis_actor,
    async |clock| {
        let prefix = own_name();
        let store = RedisActorSessionStore::builder(RedisServer::shared_url().unwrap())
            .cache_keygen(move |key| format!("{prefix}{key}"))
            .clock(clock)
            .build();
        Actor(Rc::new(store))
    },
    compare_and_set,
    without a clock
);

conformance!(postgres_behind_pgbouncer, async |clock| {
    let builder = PostgresSessionStore::builder(shared::pooled_url());
    let builder = builder.table(own_name()).clock(clock);
    builder.build().await.unwrap()
});
