//! Sessions in Redis or Valkey.

#[cfg(feature = "redis-actor-session")]
pub(crate) mod actor;
mod address;
mod builder;
mod conn;
mod naming;
mod scripts;
mod slots;
mod steps;
#[cfg_attr(
    not(any(feature = "redis-session-rustls", feature = "redis-session-native-tls")),
    path = "no_tls.rs"
)]
mod tls;

use std::fmt;

pub use self::builder::RedisSessionStoreBuilder;
use self::{naming::Keygen, steps::Steps};
use super::shared::shared_store;
use crate::{
    clock::{Millis, SharedClock},
    contract::Terms,
    error::CommitError,
    key::SessionKey,
    protocol::{Backend, Name, Op, Reply, Slot},
};

/// Keeps sessions in Redis (6.2 or newer) or Valkey: one server, a master that Sentinel names, a cluster,
/// or whatever a pool of yours is connected to.
///
/// Each commit, renewal and ending is one script, hence atomic. A load is one round trip, with or
/// without an extension of the record's life; a commit is one more.
///
/// Connections are made when needed, one for each worker, and replaced when they break; every wait
/// is bounded ([`connect_timeout`], [`command_timeout`]). What Redis acknowledged and then loses
/// (a failover before replication, `appendfsync everysec`) can bring an ended session back:
/// [`wait_for_replicas`] narrows that.
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
/// | URL | |
/// | --- | --- |
/// | `redis://[user:password@]host[:port][/database]` | one server |
/// | `redis+sentinel://[user:password@]host[:port],.../master[/database]` | the master that Sentinel names; user and password are the data servers' ([`sentinel_login`] has the sentinels') |
/// | `redis+cluster://[user:password@]host[:port],...` | a cluster, of which some nodes are named |
///
/// `rediss` instead of `redis` is TLS to all of them, sentinels included, with the feature
/// `redis-session-rustls` or `redis-session-native-tls` (where both are on, `rustls` does it). Certificates of
/// your own: [`tls_ca`], [`tls_client`]. Characters with a meaning in URLs are percent-encoded in users and
/// passwords.
///
/// # Cluster
/// A record and the mark that its renewal leaves lie in one slot, and the new key of a renewal is drawn so
/// that its record falls into the old one's. Where [`cache_keygen`] or [`hashed_keys`] hides the key, a
/// renewal takes two steps: the new record first, under a name that nobody knows, then one
/// compare-and-set on the old one.
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
    steps: Steps,
    keygen: Keygen,
    clock: SharedClock,
}

impl RedisSessionStore {
    /// Settings other than the default ones, for what a URL names.
    pub fn builder(connection_string: impl Into<String>) -> RedisSessionStoreBuilder {
        RedisSessionStoreBuilder::to_url(connection_string.into())
    }

    /// Settings for a cluster. A few of its nodes are enough, as `redis://` or `rediss://` URLs.
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

    /// Settings for the master of this name, which the sentinels at these URLs watch.
    ///
    /// User and password in a URL are for that sentinel; those of the data servers are settings.
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

    /// Connects to what a URL names.
    ///
    /// # Errors
    /// The URL is none, or the server does not answer.
    pub async fn new(connection_string: impl Into<String>) -> Result<Self, anyhow::Error> {
        Self::builder(connection_string).build().await
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

    async fn run(&self, op: &Op, terms: &Terms) -> Result<Reply, anyhow::Error> {
        self.steps.run(op, terms).await
    }

    async fn look(&self, at: &str, terms: &Terms) -> Result<Slot, anyhow::Error> {
        self.steps.look(at, terms).await
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
        self.steps.set_ttl(at, ttl, &self.own_terms()).await
    }

    fn name(&self, key: &SessionKey) -> Name {
        (self.keygen)(key.as_ref())
    }

    fn draw_key(&self, beside: Option<&str>) -> Result<(SessionKey, Name), CommitError> {
        let beside = beside.filter(|_| self.steps.has_slots());
        naming::draw_key(&*self.keygen, beside)
    }

    fn own_terms(&self) -> Terms {
        Terms {
            now: self.clock.now(),
            ..Terms::default()
        }
    }
}

shared_store!(RedisSessionStore);

/// What a script's answer means.
#[cfg(fuzzing)]
pub(crate) fn answer(value: redis::Value, terms: &Terms) -> anyhow::Result<Reply> {
    steps::reply(value, terms)
}

/// Whether an address is understood.
#[cfg(fuzzing)]
pub(crate) fn check_address(url: &str) -> anyhow::Result<()> {
    let address = address::Address::Url(url.to_owned());
    address.resolve(&address::Access::default()).map(drop)
}
