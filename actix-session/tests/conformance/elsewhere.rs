//! Our stores through other doors: a cluster, Sentinel, pools, a pooler, and actors.

use std::{rc::Rc, time::Duration};

use actix_session::{
    conformance,
    storage::{
        PostgresSessionStore, RedisActorSessionStore, RedisSessionStore, RedisSessionStoreBuilder,
        SessionStore,
    },
};
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

conformance!(
    redis_pool,
    async |clock| {
        let mut config = deadpool_redis::Config::from_url(RedisServer::shared_url().unwrap());
        config.pool = Some(deadpool_redis::PoolConfig::new(4));
        let pool = config.create_pool(Some(deadpool_redis::Runtime::Tokio1));
        let builder = own(RedisSessionStore::builder_pooled(pool.unwrap()));
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
