//! Redis under test: one server, a pool of connections, Sentinel, and a cluster.

use actix_session::{
    storage::{RedisSessionStore, RedisSessionStoreBuilder},
    testing::ManualClock,
};
use actix_web::cookie::Key;
use redis::{AsyncCommands as _, ScanOptions, aio::MultiplexedConnection};
use servers::{RedisSentinel, RedisServer};

use super::{Dump, PATIENCE, TestStore, random_name, shared};

/// A part of a Redis, under a prefix that nobody else has.
pub(crate) struct Redis {
    store: RedisSessionStore,
    pub(crate) connection: MultiplexedConnection,
    /// The other masters of a cluster.
    others: Vec<MultiplexedConnection>,
    pub(crate) prefix: String,
    clock: ManualClock,
    key: Key,
}

impl Redis {
    pub(crate) async fn at(url: &str) -> Self {
        Self::through(url, url).await
    }

    /// The store takes one way to the server, the test's own look another.
    pub(crate) async fn through(url: &str, own_url: &str) -> Self {
        let plain = |prefix: &str| named(RedisSessionStore::builder(url), prefix);
        Self::build(plain, &[own_url.to_owned()]).await
    }

    /// A store that is built for a prefix; the look goes to every master.
    async fn build(
        builder: impl FnOnce(&str) -> RedisSessionStoreBuilder,
        masters: &[String],
    ) -> Self {
        let prefix = format!("test:{}:", random_name());
        let clock = ManualClock::new();
        let store = builder(&prefix).clock(clock.clone()).build().await.unwrap();
        let mut others = Vec::new();
        for url in &masters[1..] {
            others.push(connect(url).await);
        }
        Self {
            store,
            connection: connect(&masters[0]).await,
            others,
            prefix,
            clock,
            key: Key::generate(),
        }
    }

    /// Another store of the same sessions, over another way to the server.
    pub(crate) async fn store_through(&self, url: &str) -> RedisSessionStore {
        let builder = named(RedisSessionStore::builder(url), &self.prefix);
        builder.clock(self.clock.clone()).build().await.unwrap()
    }

    /// Another store of the same sessions in the cluster.
    pub(crate) async fn store_in_cluster(&self) -> RedisSessionStore {
        let builder = RedisSessionStore::builder_cluster(shared::cluster_urls());
        let builder = patient(builder.key_prefix(&self.prefix));
        builder.clock(self.clock.clone()).build().await.unwrap()
    }

    pub(crate) fn is_cluster(&self) -> bool {
        !self.others.is_empty()
    }

    /// For a look at a server that was started again.
    pub(crate) async fn connect_again(&mut self, url: &str) {
        self.connection = connect(url).await;
    }

    /// The name of the only record.
    pub(crate) async fn only_name(&self) -> String {
        let mut names = self.names().await;
        names.retain(|name| !name.ends_with(":moved") && !is_beside(name));
        assert_eq!(names.len(), 1, "{names:?}");
        names.remove(0)
    }

    /// Takes away what says whose sessions there are, as 400 days without a step on it do.
    pub(crate) async fn forget_indexes(&self) {
        self.forget(":sessions").await;
    }

    /// How many entries there are in indexes, marks included.
    pub(crate) async fn indexed(&self) -> usize {
        let mut entries = 0;
        for master in std::iter::once(&self.connection).chain(&self.others) {
            for name in self.names_on(master).await {
                if name.ends_with(":sessions") {
                    let own: usize = master.clone().hlen(name).await.unwrap();
                    entries += own;
                }
            }
        }
        entries
    }

    /// Takes away what has such a name, as if its time were over.
    async fn forget(&self, suffix: &str) {
        for master in std::iter::once(&self.connection).chain(&self.others) {
            let mut names = self.names_on(master).await;
            names.retain(|name| name.ends_with(suffix));
            for name in names {
                let _: () = master.clone().del(name).await.unwrap();
            }
        }
    }

    /// The names under the prefix, redirects included.
    pub(crate) async fn names(&self) -> Vec<String> {
        self.names_on(&self.connection).await
    }

    async fn names_on(&self, master: &MultiplexedConnection) -> Vec<String> {
        let mut connection = master.clone();
        let options = ScanOptions::default()
            .with_pattern(format!("*{}*", self.prefix))
            .with_count(1_000);
        let mut names = Vec::new();
        let mut scan = connection.scan_options::<String>(options).await.unwrap();
        while let Some(name) = scan.next_item().await {
            names.push(name.unwrap());
        }
        // A scan may report a name twice.
        names.sort();
        names.dedup();
        names
    }
}

/// Whether a name is that of an epoch or of an index.
fn is_beside(name: &str) -> bool {
    name.ends_with(":cleared") || name.ends_with(":sessions")
}

/// The form of a key's name that 0.9 offered.
fn named(builder: RedisSessionStoreBuilder, prefix: &str) -> RedisSessionStoreBuilder {
    let prefix = prefix.to_owned();
    builder.cache_keygen(move |key| format!("{prefix}{key}"))
}

fn patient(builder: RedisSessionStoreBuilder) -> RedisSessionStoreBuilder {
    builder.command_timeout(PATIENCE).connect_timeout(PATIENCE)
}

pub(crate) async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

impl TestStore for Redis {
    type Store = RedisSessionStore;

    async fn start() -> Self {
        let url = RedisServer::shared_url().unwrap();
        let plain = |prefix: &str| patient(named(RedisSessionStore::builder(&url), prefix));
        Self::build(plain, std::slice::from_ref(&url)).await
    }

    fn store(&self) -> RedisSessionStore {
        self.store.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn key(&self) -> &Key {
        &self.key
    }

    /// The server's clock ends them.
    async fn pass_grace(&self) {
        self.clock.advance(std::time::Duration::from_secs(61));
        self.forget(":moved").await;
    }

    async fn dump(&self) -> Dump {
        let mut all = Vec::new();
        for master in std::iter::once(&self.connection).chain(&self.others) {
            let mut connection = master.clone();
            for name in self.names_on(master).await {
                if is_beside(&name) {
                    continue;
                }
                let text: Option<String> = connection.get(&name).await.unwrap();
                // A name may expire between the two commands.
                all.extend(text.map(|text| (name, text)));
            }
        }
        Dump::of(all)
    }
}

/// Another way to sessions in Redis.
macro_rules! redis_store {
    ($(#[$about:meta])* $name:ident, $start:expr) => {
        $(#[$about])*
        pub(crate) struct $name;

        impl $name {
            pub(crate) async fn start() -> Redis {
                $start.await
            }
        }
    };
}

redis_store!(
    /// The connections come from a pool of the application's.
    RedisPool,
    pooled()
);
redis_store!(
    /// Sentinel names the master.
    Sentinel,
    watched()
);
redis_store!(
    /// A cluster; new keys are drawn for the slot of the old ones.
    Cluster,
    clustered(|builder, prefix| builder.key_prefix(prefix))
);
redis_store!(
    /// A cluster in which a key cannot be drawn for a slot: a renewal takes two steps.
    HidingCluster,
    clustered(|builder, prefix| builder.key_prefix(prefix).cache_keygen(hidden))
);

/// A name that says nothing of the slot that it lies in, as far as drawing goes.
pub(crate) fn hidden(key: &str) -> String {
    key.chars().rev().collect()
}

async fn pooled() -> Redis {
    let url = RedisServer::shared_url().unwrap();
    let mut config = deadpool_redis::Config::from_url(&url);
    config.pool = Some(deadpool_redis::PoolConfig::new(4));
    let pool = config.create_pool(Some(deadpool_redis::Runtime::Tokio1));
    let builder = RedisSessionStore::builder_pooled(pool.unwrap());
    let plain = |prefix: &str| patient(builder.key_prefix(prefix));
    Redis::build(plain, &[url]).await
}

async fn watched() -> Redis {
    let shared = shared::sentinel();
    let master = format!("redis://127.0.0.1:{}", shared.master_port().unwrap());
    let urls = shared.sentinel_urls();
    let builder = RedisSessionStore::builder_sentinel(urls, RedisSentinel::MASTER);
    let plain = |prefix: &str| patient(builder.key_prefix(prefix));
    Redis::build(plain, &[master]).await
}

async fn clustered(
    name: impl FnOnce(RedisSessionStoreBuilder, &str) -> RedisSessionStoreBuilder,
) -> Redis {
    let urls = shared::cluster_urls();
    let builder = RedisSessionStore::builder_cluster(urls.clone());
    let named = |prefix: &str| patient(name(builder, prefix));
    Redis::build(named, &urls[..3]).await
}
