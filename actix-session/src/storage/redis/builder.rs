//! Settings of the Redis store.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context as _;

use super::{
    RedisSessionStore,
    address::{Access, Address},
    conn::{Connections, Limits, Replicas},
    naming::{Keygen, Naming, check_for_cluster},
    steps::Steps,
};
use crate::clock::{Clock, SharedClock};

/// Settings of a [`RedisSessionStore`].
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use actix_session::storage::RedisSessionStore;
///
/// # async fn run() -> anyhow::Result<()> {
/// let store = RedisSessionStore::builder("redis://127.0.0.1:6379")
///     .key_prefix("shop:")
///     .command_timeout(Duration::from_millis(500))
///     .build()
///     .await?;
/// # let _ = store; Ok(())
/// # }
/// ```
#[must_use]
pub struct RedisSessionStoreBuilder {
    address: Address,
    access: Access,
    limits: Limits,
    replicas: Option<Replicas>,
    naming: Naming,
    lazy: bool,
    clock: SharedClock,
}

impl RedisSessionStoreBuilder {
    fn to(address: Address) -> Self {
        Self {
            address,
            access: Access::default(),
            limits: Limits {
                connect: Duration::from_secs(2),
                command: Duration::from_secs(1),
            },
            replicas: None,
            naming: Naming::default(),
            lazy: false,
            clock: SharedClock::default(),
        }
    }

    pub(super) fn to_url(url: String) -> Self {
        Self::to(Address::Url(url))
    }

    pub(super) fn to_cluster(urls: Vec<String>) -> Self {
        Self::to(Address::Cluster(urls))
    }

    pub(super) fn to_sentinel(nodes: Vec<String>, master: String) -> Self {
        Self::to(Address::Sentinel { nodes, master })
    }

    /// Sets how a session key becomes the name of its record.
    ///
    /// Different keys must get different names. For a cluster, what is in braces decides where the record
    /// lies, as usual there; `build` refuses names with a `}` alone or an empty `{}`.
    pub fn cache_keygen<F>(mut self, keygen: F) -> Self
    where
        F: Fn(&str) -> String + 'static + Send + Sync,
    {
        self.naming.custom = Some(Arc::new(keygen) as Keygen);
        self
    }

    /// Puts a prefix before each name, whatever else makes the name.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.naming.prefix = prefix.into();
        self
    }

    /// Names records by the SHA-256 of the session key (or of what [`cache_keygen`](Self::cache_keygen)
    /// makes of it), in hexadecimal digits: who reads the server's memory, its files or its log learns no
    /// key that opens a session.
    ///
    /// Sessions that were stored under other names are not found any more.
    pub fn hashed_keys(mut self) -> Self {
        self.naming.hashed = true;
        self
    }

    /// Sets how long connecting may take; 2 seconds by default. For a pool: how long its connection is
    /// waited for.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect = limit;
        self
    }

    /// Sets how long a command may take; 1 second by default. A refusal that passes (a server that is
    /// loading its file, a cluster or Sentinel that is about to choose another master) is tried again within
    /// this time.
    pub fn command_timeout(mut self, limit: Duration) -> Self {
        self.limits.command = limit;
        self
    }

    /// Sets the user, instead of one in the URL.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.access.username = Some(username.into());
        self
    }

    /// Sets the password, instead of one in the URL.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.access.password = Some(password.into());
        self
    }

    /// Sets the number of the database, instead of one in the URL. A cluster has only 0.
    pub fn database(mut self, number: u32) -> Self {
        self.access.database = Some(i64::from(number));
        self
    }

    /// Sets the user, if any, and the password for the sentinels.
    pub fn sentinel_login(mut self, username: Option<String>, password: impl Into<String>) -> Self {
        self.access.sentinel = Some((username, password.into()));
        self
    }

    /// Trusts servers whose certificates these authorities (PEM, one or more) have signed, and no others.
    ///
    /// Needs a `rediss://` address.
    pub fn tls_ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.access.tls.ca = Some(pem.into());
        self
    }

    /// Shows a client certificate to the server: the certificate with its chain, and its key (PKCS#8), as
    /// PEM.
    ///
    /// Needs a `rediss://` address.
    pub fn tls_client(
        mut self,
        certificate_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Self {
        self.access.tls.client = Some((certificate_pem.into(), key_pem.into()));
        self
    }

    /// Does not connect in `build`: the application starts while Redis is down. Requests fail until it is
    /// up, and then don't, without a restart.
    pub fn lazy_connect(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Makes endings and renewals wait until `count` replicas have them, for at most `limit` (`WAIT`).
    ///
    /// Without it, a failover to a replica that had not got the news brings an ended session back. This
    /// narrows that window and does not close it: where too few replicas answer in time, the ending holds
    /// all the same, and a warning says so. It costs a second connection a worker, and one round trip.
    pub fn wait_for_replicas(mut self, count: u32, limit: Duration) -> Self {
        self.replicas = Some(Replicas { count, limit });
        self
    }

    /// Sets the clock for absolute ends; the middleware should have the same.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Connects, and asks the server whether it is there (unless told [`lazy_connect`](Self::lazy_connect)).
    ///
    /// A server that throws sessions away when its memory is full is warned about.
    ///
    /// # Errors
    /// The address or a certificate cannot be read, names don't suit a cluster, or the server does not
    /// answer.
    pub async fn build(self) -> Result<RedisSessionStore, anyhow::Error> {
        let lazy = self.lazy;
        let store = self.unconnected()?;
        if !lazy {
            store.steps.ping().await.context("Redis does not answer")?;
            store.steps.warn_if_it_evicts().await;
        }
        Ok(store)
    }

    /// The store, before its first connection.
    pub(super) fn unconnected(self) -> anyhow::Result<RedisSessionStore> {
        let target = self.address.resolve(&self.access)?;
        let connections = Connections::new(&target, self.limits, self.replicas)
            .context("no connection can be made to the Redis address")?;
        let keygen = self.naming.into_keygen();
        if connections.is_cluster() {
            check_for_cluster(&*keygen)?;
        }
        Ok(RedisSessionStore {
            steps: Steps::new(connections),
            keygen,
            clock: self.clock,
        })
    }
}

/// Shows nothing of the address, which may hold a password.
impl fmt::Debug for RedisSessionStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSessionStoreBuilder")
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "redis-pool")]
mod pooled {
    use super::{super::conn::Pool, Address, RedisSessionStore, RedisSessionStoreBuilder};

    impl RedisSessionStore {
        /// Settings for a pool of yours.
        ///
        /// Its connections are borrowed for one command each; `deadpool` asks each one for a sign of life before
        /// that, which is one more round trip.
        pub fn builder_pooled(pool: impl Into<deadpool_redis::Pool>) -> RedisSessionStoreBuilder {
            RedisSessionStoreBuilder::to(Address::Pool(Pool::new(pool.into())))
        }

        /// Takes connections from a pool of yours.
        ///
        /// # Errors
        /// The server does not answer.
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
        pub async fn new_pooled(
            pool: impl Into<deadpool_redis::Pool>,
        ) -> Result<Self, anyhow::Error> {
            Self::builder_pooled(pool).build().await
        }
    }
}
