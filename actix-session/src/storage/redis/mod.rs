//! Sessions in Redis or Valkey.
//!
//! | file | |
//! | --- | --- |
//! | `mod.rs` | the store, and the features that add to it |
//! | `builder.rs` | its settings |
//! | `address.rs` | URLs, and the servers that they name |
//! | `tls/` | certificates, for each kind of build |
//! | `naming.rs` | how a session key becomes the name of a record |
//! | `index.rs`, `backend/index.rs` | which sessions are whose, and what a step changes in that |
//! | `slots.rs` | a cluster's hash slots, and keys drawn for one of them |
//! | `backend.rs` | the protocol's atomic steps, as commands and scripts |
//! | `backend/across.rs` | renewals across the slots of a cluster |
//! | `backend/read.rs` | reads, and the extensions that ride on them |
//! | `script.rs` | the Lua scripts, and what their answers mean |
//! | `answer.rs` | reads these answers |
//! | `ends.rs` | ends of sessions, as servers tell them |
//! | `conn/` | connections to each topology, and whether a command was refused or lost |
//! | `pool.rs`, `no_pool.rs` | connections of the application's own pool |
//! | `actor.rs` | the store of 0.9, on the same parts |
//! | `fake.rs` | for tests: a server that answers what a test wants |

#[cfg(feature = "redis-actor-session")]
pub(crate) mod actor;
mod address;
mod answer;
mod backend;
mod builder;
mod conn;
mod ends;
#[cfg(test)]
mod fake;
mod index;
mod naming;
#[cfg(feature = "redis-pool")]
mod pool;
#[cfg(not(feature = "redis-pool"))]
#[path = "no_pool.rs"]
mod pool;
mod script;
mod slots;
#[cfg_attr(
    any(feature = "redis-session-rustls", feature = "redis-session-native-tls"),
    path = "tls/connect.rs"
)]
#[cfg_attr(
    not(any(feature = "redis-session-rustls", feature = "redis-session-native-tls")),
    path = "tls/none.rs"
)]
mod tls;
#[cfg(any(feature = "redis-session-rustls", feature = "redis-session-native-tls"))]
#[cfg_attr(feature = "redis-session-rustls", path = "tls/rustls.rs")]
#[cfg_attr(not(feature = "redis-session-rustls"), path = "tls/system.rs")]
mod tls_provider;

use std::{fmt, sync::Arc};

pub use self::builder::RedisSessionStoreBuilder;
#[cfg(test)]
pub(crate) use self::slots::slot;
use self::{backend::Executor, index::Indexing, naming::Keygen};
use super::{SessionIndex as _, StoreIndex, backend::shared_store};
use crate::{
    clock::{Millis, SharedClock},
    contract::Terms,
    error::CommitError,
    key::SessionKey,
    live::hub::Hub,
    protocol::{Backend, Drawn, Name, Reply, Step, Stored},
    record::Record,
};

/// Keeps sessions in Redis (6.2 or newer) or Valkey: on one server, on the master that Sentinel
/// names, in a cluster, or wherever a pool of yours is connected to.
///
/// Each commit, renewal and ending is one script, so it is atomic. A load takes one round trip,
/// even if it extends the record's life. A commit takes one more.
///
/// The store makes connections when it needs them, one for each worker, and replaces them when they
/// break. Every wait is bounded ([`connect_timeout`], [`command_timeout`]).
///
/// If Redis loses an ending that it has acknowledged (by a failover before replication, or with
/// `appendfsync everysec`), the session is back. [`wait_for_replicas`] makes that less likely.
///
/// # Examples
/// ```no_run
/// use actix_session::{SessionMiddleware, storage::RedisSessionStore};
/// use actix_web::{App, HttpServer, cookie::Key};
///
/// # async fn run() -> anyhow::Result<()> {
/// let store = RedisSessionStore::new("redis://127.0.0.1:6379").await?;
/// let secret_key = Key::generate();
///
/// HttpServer::new(move || {
///     App::new().wrap(SessionMiddleware::new(store.clone(), secret_key.clone()))
/// })
/// .bind(("127.0.0.1", 8080))?
/// .run()
/// .await?;
/// # Ok(())
/// # }
/// ```
///
/// # Addresses
/// | URL | names |
/// | --- | --- |
/// | `redis://[user:password@]host[:port][/database]` | one server |
/// | `redis+sentinel://[user:password@]host[:port],.../master[/database]` | the master that these sentinels know by this name. User and password are for the data servers; set those for the sentinels with [`sentinel_login`]. |
/// | `redis+cluster://[user:password@]host[:port],...` | a cluster, by some of its nodes |
/// | `redis+unix:///path[?db=database&user=...&pass=...]` | one server, by its socket |
///
/// With `rediss` instead of `redis`, all connections use TLS, including those to sentinels. That
/// needs the feature `redis-session-rustls-ring` or `redis-session-native-tls`; with both, `rustls` is
/// used. `redis-session-rustls` is the former without `ring`, for programs that have another provider
/// of cryptography for `rustls`. Set your own certificates with [`tls_ca`] and [`tls_client`]. Percent-encode characters in
/// users and passwords that have a meaning in URLs.
///
/// # Cluster
/// A record and the redirect that its renewal leaves lie in one slot, and a renewal draws a new key
/// whose record falls into the old one's slot, or into that of the user's other sessions. With
/// [`hashed_keys`], what the key ends with says in which slot its record lies. If a [`cache_keygen`]
/// hides the key, or the two slots differ, a renewal takes more than one step: it writes the new record
/// under a name that nobody knows, then replaces the old one by compare-and-set, and last notes whose
/// session it is.
///
/// [`connect_timeout`]: RedisSessionStoreBuilder::connect_timeout
/// [`command_timeout`]: RedisSessionStoreBuilder::command_timeout
/// [`wait_for_replicas`]: RedisSessionStoreBuilder::wait_for_replicas
/// [`sentinel_login`]: RedisSessionStoreBuilder::sentinel_login
/// [`tls_ca`]: RedisSessionStoreBuilder::tls_ca
/// [`tls_client`]: RedisSessionStoreBuilder::tls_client
/// [`cache_keygen`]: RedisSessionStoreBuilder::cache_keygen
/// [`hashed_keys`]: RedisSessionStoreBuilder::hashed_keys
#[derive(Clone)]
pub struct RedisSessionStore {
    executor: Executor,
    keygen: Keygen,
    clock: SharedClock,
    /// Whoever waits for the end of a session.
    hub: Arc<Hub>,
}

impl RedisSessionStore {
    /// Starts from the default settings, for the servers that a URL names.
    pub fn builder(connection_string: impl Into<String>) -> RedisSessionStoreBuilder {
        RedisSessionStoreBuilder::to_url(connection_string.into())
    }

    /// Starts from the default settings, for a cluster. The `redis://` or `rediss://` URLs of some
    /// of its nodes are enough.
    ///
    /// # Examples
    /// ```no_run
    /// use actix_session::storage::RedisSessionStore;
    ///
    /// # async fn run() -> anyhow::Result<()> {
    /// let store = RedisSessionStore::builder_cluster(["redis://a:7000", "redis://b:7000"])
    ///     .build()
    ///     .await?;
    /// # let _ = store; Ok(())
    /// # }
    /// ```
    pub fn builder_cluster<U: Into<String>>(
        urls: impl IntoIterator<Item = U>,
    ) -> RedisSessionStoreBuilder {
        RedisSessionStoreBuilder::to_cluster(urls.into_iter().map(Into::into).collect())
    }

    /// Starts from the default settings, for the master that the sentinels at these URLs know by
    /// this name.
    ///
    /// User and password in a URL are for that sentinel. Set those for the data servers with the
    /// builder.
    ///
    /// # Examples
    /// ```no_run
    /// use actix_session::storage::RedisSessionStore;
    ///
    /// # async fn run() -> anyhow::Result<()> {
    /// let sentinels = ["redis://a:26379", "redis://b:26379", "redis://c:26379"];
    /// let store = RedisSessionStore::builder_sentinel(sentinels, "mymaster")
    ///     .password("of the data servers")
    ///     .build()
    ///     .await?;
    /// # let _ = store; Ok(())
    /// # }
    /// ```
    pub fn builder_sentinel<U: Into<String>>(
        urls: impl IntoIterator<Item = U>,
        master: impl Into<String>,
    ) -> RedisSessionStoreBuilder {
        let urls = urls.into_iter().map(Into::into).collect();
        RedisSessionStoreBuilder::to_sentinel(urls, master.into())
    }

    /// Connects to the servers that a URL names.
    ///
    /// # Errors
    /// The URL cannot be parsed, or the server does not answer.
    pub async fn new(connection_string: impl Into<String>) -> Result<Self, anyhow::Error> {
        Self::builder(connection_string).build().await
    }

    /// What can be known of a URL without the server.
    pub(in crate::storage) fn parse(url: &str) -> anyhow::Result<()> {
        let address = address::Address::Url(url.to_owned());
        address.resolve(&address::Access::default()).map(drop)
    }
}

#[cfg(feature = "redis-pool")]
impl RedisSessionStore {
    /// Starts from the default settings, for a pool of yours.
    ///
    /// Each command borrows a connection. Before that, `deadpool` pings the connection, which costs
    /// one more round trip.
    pub fn builder_pooled(pool: impl Into<deadpool_redis::Pool>) -> RedisSessionStoreBuilder {
        let pool = pool::Pool::new(pool.into());
        RedisSessionStoreBuilder::to(address::Address::Pool(pool))
    }

    /// Takes connections from a pool of yours. If its server does not answer within five seconds, a warning
    /// says so, and requests ask it again.
    ///
    /// # Errors
    /// The server belongs to a cluster, and names are invalid for one.
    ///
    /// # Examples
    /// ```no_run
    /// use actix_session::storage::RedisSessionStore;
    /// use deadpool_redis::{Config, Runtime};
    ///
    /// # async fn run() -> anyhow::Result<()> {
    /// let config = Config::from_url("redis://127.0.0.1:6379");
    /// let pool = config.create_pool(Some(Runtime::Tokio1))?;
    /// let store = RedisSessionStore::new_pooled(pool).await?;
    /// # let _ = store; Ok(())
    /// # }
    /// ```
    pub async fn new_pooled(pool: impl Into<deadpool_redis::Pool>) -> Result<Self, anyhow::Error> {
        Self::builder_pooled(pool).build().await
    }
}

/// Shows nothing of the address, which may hold a password.
impl fmt::Debug for RedisSessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSessionStore").finish_non_exhaustive()
    }
}

impl Backend for RedisSessionStore {
    const REMOTE: bool = true;
    const FORGETS_OWNERS: bool = true;

    async fn run(&self, step: &Step, terms: &Terms) -> Result<Reply, anyhow::Error> {
        let indexing = Indexing::of(step, &*self.keygen);
        let reply = self.executor.run(step, &indexing, terms).await?;
        self.hub.after(step, &reply);
        Ok(reply)
    }

    async fn insert_note(
        &self,
        at: &str,
        new: Record,
        until: Millis,
        terms: &Terms,
    ) -> Result<Reply, anyhow::Error> {
        self.executor.insert_note(at, &new, until, terms).await
    }

    async fn read_note(&self, at: &str, terms: &Terms) -> Result<Stored, anyhow::Error> {
        self.executor.read_note(at, terms).await
    }

    async fn look(&self, at: &str, terms: &Terms) -> Result<Stored, anyhow::Error> {
        self.executor.look(at, terms).await
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
        self.executor.set_ttl(at, ttl, &self.own_terms()).await
    }

    fn spares_writes(&self) -> bool {
        self.executor.spares_writes()
    }

    fn write_has_failed(&self) {
        self.executor.write_has_failed();
    }

    fn name(&self, key: &SessionKey) -> Name {
        (self.keygen)(key.as_ref()).into()
    }

    fn draw_key(&self, beside: Option<&str>, owner: Option<&str>) -> Result<Drawn, CommitError> {
        let has_slots = self.executor.has_slots();
        naming::draw_key(&*self.keygen, has_slots, beside, owner)
    }

    fn clock(&self) -> &SharedClock {
        &self.clock
    }

    fn ends(&self) -> Option<(Arc<Hub>, StoreIndex)> {
        Some((Arc::clone(&self.hub), self.index()))
    }
}

shared_store!(RedisSessionStore);

/// Reads a script's answer.
#[cfg(fuzzing)]
pub(crate) fn answer(value: redis::Value, terms: &Terms) -> anyhow::Result<Reply> {
    answer::reply(value, terms)
}

/// Checks an address, without connecting.
#[cfg(fuzzing)]
pub(crate) fn check_address(url: &str) -> anyhow::Result<()> {
    let address = address::Address::Url(url.to_owned());
    address.resolve(&address::Access::default()).map(drop)
}
