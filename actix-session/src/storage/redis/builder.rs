//! Settings of the Redis store.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context as _;
use redis::{ConnectionAddr, ConnectionInfo, RedisError};
use tokio::time::{Instant, sleep};

use super::{
    RedisSessionStore,
    address::{Access, Address},
    backend::{Executor, is_in_cluster, warn_if_it_evicts},
    conn::{Connections, Replicas, Target, Timeouts, is_without_room},
    naming::{Keygen, Naming, check_for_cluster},
};
use crate::{
    AnyDuration,
    clock::{Clock, LONGEST_WAIT, SharedClock},
    duration::check_timeout,
};

const UNTRUSTED: &str = "the certificate of Redis is not accepted: `tls_ca` must have whatever signed it, and \
     the address must have a name that it is for. If neither can be had, end the address with `/#insecure`: then \
     nothing is verified (rustls needs the feature `tls-rustls-insecure` of the crate `redis` for that)";
const NOT_BUILT: &str = "for an address that ends with `#insecure`, turn on the feature `tls-rustls-insecure` of \
     the crate `redis` in the application, or use `redis-session-native-tls` alone";

/// How long a server may refuse connections that starts beside the program.
const START: Duration = Duration::from_secs(5);

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
    timeouts: Timeouts,
    replicas: Option<Replicas>,
    naming: Naming,
    lazy: bool,
    clock: SharedClock,
}

impl RedisSessionStoreBuilder {
    pub(super) fn to(address: Address) -> Self {
        Self {
            address,
            access: Access::default(),
            timeouts: Timeouts {
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
    /// Different keys must get different names. In a cluster, text in braces decides which slot the
    /// record lies in, as usual there. `build` refuses names with an empty `{}` or a brace that has
    /// no partner.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:6379")
    ///     .cache_keygen(|key| format!("shop-session-{key}"));
    /// # let _ = builder;
    /// ```
    pub fn cache_keygen<F>(mut self, keygen: F) -> Self
    where
        F: Fn(&str) -> String + 'static + Send + Sync,
    {
        self.naming.custom = Some(Arc::new(keygen) as Keygen);
        self
    }

    /// Puts a prefix before each name, whatever other settings say about names.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:6379")
    ///     .key_prefix("shop:");
    /// # let _ = builder;
    /// ```
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.naming.prefix = prefix.into();
        self
    }

    /// Names each record by the SHA-256 of its session key (or of what
    /// [`cache_keygen`](Self::cache_keygen) returns for it), in hexadecimal digits. Whoever reads
    /// the server's memory, files or log then learns no key that opens a session.
    ///
    /// In a cluster the last four characters of the key stand before the digest, in braces, so that keys can
    /// be drawn for a slot: the other sixty are as secret as a key.
    ///
    /// The store no longer finds sessions that it has stored under other names, and so none that was stored
    /// before the server became part of a cluster.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:6379")
    ///     .key_prefix("shop:")
    ///     .hashed_keys();
    /// # let _ = builder;
    /// ```
    pub fn hashed_keys(mut self) -> Self {
        self.naming.hashed = true;
        self
    }

    /// Sets how long connecting may take, or how long to wait for a connection from a pool: 2
    /// seconds by default, a day at most.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:6379")
    ///     .connect_timeout(std::time::Duration::from_millis(500));
    /// # let _ = builder;
    /// ```
    pub fn connect_timeout(mut self, limit: impl AnyDuration) -> Self {
        self.timeouts.connect = wait(limit);
        self
    }

    /// Sets how long a command may take: 1 second by default, a day at most.
    ///
    /// A command that is refused for a reason that passes, say while a server loads its file, is repeated
    /// for as long as the request's budget allows ([`commit_budget`], [`load_budget`]). Another master is
    /// looked for, in a cluster or with Sentinel, within this time.
    ///
    /// [`commit_budget`]: crate::config::SessionMiddlewareBuilder::commit_budget
    /// [`load_budget`]: crate::config::SessionMiddlewareBuilder::load_budget
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:6379")
    ///     .command_timeout(std::time::Duration::from_millis(500));
    /// # let _ = builder;
    /// ```
    pub fn command_timeout(mut self, limit: impl AnyDuration) -> Self {
        self.timeouts.command = wait(limit);
        self
    }

    /// Sets the user, in place of one in the URL.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:6379")
    ///     .username("shop")
    ///     .password("p@ss");
    /// # let _ = builder;
    /// ```
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.access.username = Some(username.into());
        self
    }

    /// Sets the password, in place of one in the URL. It need not be percent-encoded.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:6379")
    ///     .password("p@ss");
    /// # let _ = builder;
    /// ```
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.access.password = Some(password.into());
        self
    }

    /// Sets the number of the database, in place of one in the URL. A cluster has only 0.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:6379")
    ///     .database(1);
    /// # let _ = builder;
    /// ```
    pub fn database(mut self, number: u32) -> Self {
        self.access.database = Some(i64::from(number));
        self
    }

    /// Sets the user, if any, and the password for the sentinels.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379"];
    /// let builder = RedisSessionStore::builder_sentinel(sentinels, "master")
    ///     .sentinel_login(None, "p@ss");
    /// # let _ = builder;
    /// ```
    pub fn sentinel_login(mut self, username: Option<String>, password: impl Into<String>) -> Self {
        self.access.sentinel = Some((username, password.into()));
        self
    }

    /// Trusts only servers whose certificates were signed by these authorities (one or more, as
    /// PEM).
    ///
    /// The address must begin with `rediss://`.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("rediss://redis.example:6379")
    ///     .tls_ca(std::fs::read("/etc/redis/ca.pem")?);
    /// # let _ = builder;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tls_ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.access.tls.ca = Some(pem.into());
        self
    }

    /// Presents a client certificate to the server: the certificate with its chain, and its key
    /// (PKCS#8), both as PEM.
    ///
    /// The address must begin with `rediss://`.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_session::storage::RedisSessionStore;
    /// # use std::fs::read;
    /// let builder = RedisSessionStore::builder("rediss://redis.example:6379")
    ///     .tls_client(read("/etc/redis/client.pem")?, read("/etc/redis/client.key")?);
    /// # let _ = builder;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tls_client(
        mut self,
        certificate_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Self {
        self.access.tls.client = Some((certificate_pem.into(), key_pem.into()));
        self
    }

    /// Does not connect in `build`, so that the application can start while Redis is down. Requests
    /// fail until Redis is up, and then succeed without a restart.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// # actix_web::rt::System::new().block_on(async {
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:1"); // nobody listens there
    /// assert!(builder.lazy_connect().build().await.is_ok());
    /// # });
    /// ```
    pub fn lazy_connect(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Makes endings and renewals wait until `count` replicas have them, for at most `limit`
    /// (`WAIT`).
    ///
    /// Without this, a failover to a replica that has not received an ending brings the session
    /// back. This narrows that window but does not close it: if too few replicas answer in time,
    /// the ending holds on the master all the same, and a warning says so. However far a session has moved,
    /// its end waits once, and never for longer than half of what is left of the time limit
    /// ([`commit_budget`](crate::config::SessionMiddlewareBuilder::commit_budget)). It costs one round trip,
    /// and up to 16 more connections for each worker, made as they are needed.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:6379")
    ///     .wait_for_replicas(1, std::time::Duration::from_millis(200));
    /// # let _ = builder;
    /// ```
    pub fn wait_for_replicas(mut self, count: u32, limit: impl AnyDuration) -> Self {
        self.replicas = Some(Replicas {
            count,
            timeout: wait(limit),
        });
        self
    }

    /// Sets the clock for absolute timeouts. Give the middleware the same one.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::RedisSessionStore;
    /// let builder = RedisSessionStore::builder("redis://127.0.0.1:6379")
    ///     .clock(actix_session::testing::ManualClock::new());
    /// # let _ = builder;
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Connects and pings the server, unless [`lazy_connect`](Self::lazy_connect) is set. A server that
    /// refuses the connection has five seconds to start beside the program. If a pool's server does not
    /// answer, a warning says so, and requests ask it again.
    ///
    /// If the server turns out to belong to a cluster, the store follows the cluster, whatever the
    /// address begins with. It logs a warning if the server evicts sessions when its memory is full, or
    /// runs no scripts.
    ///
    /// # Errors
    /// The address or a certificate is invalid, names are invalid for a cluster, or the server does
    /// not answer.
    ///
    /// # Examples
    /// See [`RedisSessionStoreBuilder`].
    pub async fn build(self) -> Result<RedisSessionStore, anyhow::Error> {
        let lazy = self.lazy;
        let (target, parts) = self.into_parts()?;
        let store = parts.store_on(&target)?;
        if lazy {
            return Ok(store);
        }
        if let Err(error) = wait_for(&store.executor).await {
            if let Target::Pool(_) = target {
                tracing::warn!(%error, "Redis does not answer the pool of the session store yet");
                return Ok(store);
            }
            return Err(unanswered(error));
        }
        let info = store.executor.info().await;
        warn_if_it_evicts(&info);
        let has_slots =
            store.executor.meets_slots(&*parts.keygen(false)).await || is_in_cluster(&info);
        match target {
            Target::Server(node) if has_slots && has_port(&node) => {
                parts.store_in_cluster(node).await
            }
            Target::Server(_) | Target::Pool(_) if has_slots => parts.minding_slots(store),
            _ => Ok(store),
        }
    }

    /// The store, before its first connection.
    #[cfg(any(feature = "redis-actor-session", test))]
    pub(super) fn unconnected(self) -> anyhow::Result<RedisSessionStore> {
        let (target, parts) = self.into_parts()?;
        parts.store_on(&target)
    }

    fn into_parts(self) -> anyhow::Result<(Target, Parts)> {
        check_timeout("connect_timeout", self.timeouts.connect)?;
        check_timeout("command_timeout", self.timeouts.command)?;
        let target = self.address.resolve(&self.access)?;
        let parts = Parts {
            timeouts: self.timeouts,
            replicas: self.replicas,
            naming: self.naming,
            clock: self.clock,
        };
        Ok((target, parts))
    }
}

/// What a store is made of, whatever it is connected to.
struct Parts {
    timeouts: Timeouts,
    replicas: Option<Replicas>,
    naming: Naming,
    clock: SharedClock,
}

impl Parts {
    fn keygen(&self, has_slots: bool) -> Keygen {
        let naming = self.naming.clone();
        if has_slots {
            naming.into_keygen_with_slots()
        } else {
            naming.into_keygen()
        }
    }

    fn store_on(&self, target: &Target) -> anyhow::Result<RedisSessionStore> {
        let connections = Connections::new(target, self.timeouts, self.replicas)
            .context("the Redis address is invalid: no connection to it is possible")?;
        let keygen = self.keygen(connections.is_cluster());
        if connections.is_cluster() {
            check_for_cluster(&*keygen)?;
        }
        Ok(RedisSessionStore {
            executor: Executor::new(connections).naming(&*keygen),
            keygen,
            clock: self.clock.clone(),
            hub: Arc::default(),
        })
    }

    /// The store on the cluster that a server belongs to, by its address.
    async fn store_in_cluster(&self, node: ConnectionInfo) -> anyhow::Result<RedisSessionStore> {
        let store = self.store_on(&Target::Cluster(vec![node.clone()]))?;
        let Err(error) = store.executor.ping().await else {
            tracing::info!("this Redis belongs to a cluster: the session store follows it");
            return Ok(store);
        };
        tracing::warn!(
            %error,
            "this Redis belongs to a cluster whose nodes are not to be found: the store takes this server \
             for the only one. If there are others, the store's user must be allowed `CLUSTER SLOTS`, and \
             what it answers must be reachable from here"
        );
        self.minding_slots(self.store_on(&Target::Server(node))?)
    }

    /// A store on a server that has all slots of a cluster, or knows where they are.
    fn minding_slots(&self, store: RedisSessionStore) -> anyhow::Result<RedisSessionStore> {
        let keygen = self.keygen(true);
        check_for_cluster(&*keygen)?;
        tracing::info!(
            "this Redis has slots: the session store keeps in one what belongs together"
        );
        Ok(RedisSessionStore {
            executor: store.executor.in_slots().naming(&*keygen),
            keygen,
            ..store
        })
    }
}

/// Asks the server whether it is there. One that starts beside this program refuses connections at first.
async fn wait_for(executor: &Executor) -> Result<(), RedisError> {
    let start = Instant::now();
    loop {
        let answer = executor.ping().await;
        match &answer {
            Err(error) if error.is_connection_refusal() && start.elapsed() < START => {
                sleep(START / 25).await;
            }
            _ => return answer,
        }
    }
}

/// A server that is spoken to over TLS and does not speak it, or the other way round, waits or hangs up.
fn unanswered(error: RedisError) -> anyhow::Error {
    let (is_late, remedy) = (error.is_timeout(), of_tls(&error.to_string()));
    let error = anyhow::Error::from(error);
    let context = match remedy {
        Some(remedy) => remedy,
        None if is_late || is_without_room(&error) => {
            "Redis does not answer (if the port speaks TLS, the address must begin with `rediss`, or else \
             with `redis`)"
        }
        None => "Redis does not answer",
    };
    error.context(context)
}

/// What to change, by the words of the client library and of those for TLS: no error of theirs has a code.
/// An alert is the server's, and about the client's certificate.
fn of_tls(words: &str) -> Option<&'static str> {
    if words.contains("tls-rustls-insecure") {
        return Some(NOT_BUILT);
    }
    let is_about_servers = words.contains("certificate") && !words.contains("alert");
    is_about_servers.then_some(UNTRUSTED)
}

/// Whether a server of a cluster can be at that address.
fn has_port(server: &ConnectionInfo) -> bool {
    !matches!(server.addr(), ConnectionAddr::Unix(_))
}

/// How long to wait: not so long that a sum of two overflows, or that Redis refuses the number.
fn wait(limit: impl AnyDuration) -> Duration {
    limit.unsigned().min(LONGEST_WAIT)
}

/// Shows nothing of the address, which may hold a password.
impl fmt::Debug for RedisSessionStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSessionStoreBuilder")
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tls_refuses_is_told_with_the_remedy() {
        for words in [
            "invalid peer certificate: UnknownIssuer",
            "invalid peer certificate: certificate not valid for name \"a\"",
            "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed",
        ] {
            assert_eq!(of_tls(words), Some(UNTRUSTED), "{words}");
        }
        let refused = "Cannot create insecure client without tls-rustls-insecure feature";
        assert_eq!(of_tls(refused), Some(NOT_BUILT));
        for words in [
            "Connection refused (os error 111)",
            "received fatal alert: CertificateRequired",
            "error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required",
        ] {
            assert_eq!(of_tls(words), None, "{words}");
        }
    }

    #[actix_web::test]
    async fn no_length_of_time_overflows() {
        let most = Duration::MAX;
        let builder = RedisSessionStoreBuilder::to_url("redis://127.0.0.1:1".to_owned())
            .connect_timeout(most)
            .command_timeout(most)
            .wait_for_replicas(1, most);
        let store = builder.unconnected().unwrap();
        // Nobody listens there.
        assert!(store.executor.line().await.is_err());
    }
}
