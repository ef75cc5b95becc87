//! A master that Sentinel names.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, Value,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout},
};

use super::{
    Job, Link, Outcome, Source, Timeouts, question, refusal,
    role::{DO_WITHOUT, text},
};
use crate::sync::lock;

/// How often the sentinels are asked, while the master is used, whether it still is the master. A former
/// one takes writes for some ten seconds more, until the sentinels make a replica of it: all of these are
/// lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long a job waits for that if nobody has asked for a while.
const SOON: Duration = Duration::from_millis(100);

/// For how long no sentinel is believed that names a former master.
const OUT_OF_DATE: Duration = Duration::from_secs(10);

/// The master, and the server that was the last one.
#[derive(Clone)]
pub(super) struct Watched {
    sentinel: Arc<Sentinel>,
    master: Link,
    last: LastKnown,
    /// When a search has ended in vain, unless a master was found since.
    in_vain: Arc<Mutex<Option<Instant>>>,
}

/// The server to which a sentinel has led last.
type LastKnown = Arc<Mutex<Option<(ConnectionAddr, Link)>>>;

impl Watched {
    pub(super) fn new(sentinel: Sentinel, timeouts: Timeouts) -> Self {
        let sentinel = Arc::new(sentinel);
        Self {
            last: Arc::clone(&sentinel.last),
            master: Link::new(Source::Sentinel(Arc::clone(&sentinel)), timeouts),
            sentinel,
            in_vain: Arc::default(),
        }
    }

    /// Other connections to the same master.
    pub(super) fn beside(&self, timeouts: Timeouts) -> Self {
        let source = Source::Sentinel(Arc::clone(&self.sentinel));
        Self {
            master: Link::new(source, timeouts),
            ..self.clone()
        }
    }

    /// How to connect to the server to which a sentinel has led last.
    pub(super) fn client(&self) -> Option<Client> {
        let last = lock(&self.last);
        last.as_ref().and_then(|(_, link)| link.client())
    }

    /// Does a job once.
    ///
    /// # Errors
    /// The job was refused, or there is no master.
    pub(super) async fn once(&self, job: &Job<'_>) -> Result<Outcome, RedisError> {
        if self.is_in_vain()
            && let Some(value) = Box::pin(self.read_at_last_known(job)).await
        {
            return Ok(Outcome::Value(value));
        }
        self.ask_again().await;
        let outcome = self.master.once(job).await;
        match &outcome {
            Ok(_) => *lock(&self.in_vain) = None,
            // Its replicas may follow another one.
            Err(error) if refusal::is_unreplicated(error) => self.sentinel.leave(),
            Err(_) => {}
        }
        outcome.map_err(|error| match error.kind() {
            ErrorKind::Io => nobody(&error),
            _ => error,
        })
    }

    /// Finds out whether the sentinels name another master by now: while jobs go on, or else before the
    /// first one after a while.
    async fn ask_again(&self) {
        let idle = self.sentinel.asked_ago();
        if idle < ASK_AGAIN {
            return;
        }
        if idle < 3 * ASK_AGAIN {
            self.sentinel.note_asked();
            let sentinel = Arc::clone(&self.sentinel);
            tokio::spawn(async move { sentinel.look().await });
            return;
        }
        // It goes on if that takes longer: a look that is given up has found nothing out.
        let sentinel = Arc::clone(&self.sentinel);
        let looking = tokio::spawn(async move { sentinel.look_for_all().await });
        // Whoever gets no answer in time uses the master that is known.
        let _ = timeout(SOON, looking).await;
    }

    /// Reads from the last known server, and from there at once for a while.
    pub(super) async fn read_elsewhere(&self, job: &Job<'_>) -> Option<Value> {
        if !self.is_in_vain() {
            tracing::warn!(
                "no sentinel leads to a master: sessions are read from the last known server, and \
                 changes fail"
            );
            *lock(&self.in_vain) = Some(Instant::now());
        }
        self.read_at_last_known(job).await
    }

    async fn read_at_last_known(&self, job: &Job<'_>) -> Option<Value> {
        if !job.reads {
            return None;
        }
        let known = lock(&self.last).as_ref().map(|(_, link)| link.clone());
        match known?.once(job).await {
            Ok(Outcome::Value(value)) => Some(value),
            Ok(Outcome::Lost(_)) | Err(_) => None,
        }
    }

    fn is_in_vain(&self) -> bool {
        lock(&self.in_vain).is_some_and(|at| at.elapsed() < DO_WITHOUT)
    }
}

/// Whether the server that was found is not the master, or none was.
pub(super) fn is_without_master(error: &RedisError) -> bool {
    refusal::is_not_here(error) || error.kind() == ErrorKind::MasterNameNotFoundBySentinel
}

fn nobody(error: &RedisError) -> RedisError {
    let message = "no sentinel leads to a master";
    let kind = ErrorKind::MasterNameNotFoundBySentinel;
    (kind, message, error.to_string()).into()
}

/// Asks all sentinels at once, and follows the first that leads to a master: one of them may be
/// frozen, cut off, or out of date.
pub(super) struct Sentinel {
    nodes: Vec<Client>,
    master: String,
    /// Everything about the master but its address.
    data: ConnectionInfo,
    timeouts: Timeouts,
    last: LastKnown,
    /// The master that was replaced last, and when that was noticed.
    former: Mutex<Option<(ConnectionAddr, Instant)>>,
    /// When the sentinels have said last which server is the master.
    asked: Mutex<Option<Instant>>,
    turn: AsyncMutex<()>,
    /// Grows whenever the connections that are open lead to a former master.
    era: AtomicU64,
}

impl Sentinel {
    pub(super) fn new(
        nodes: &[ConnectionInfo],
        master: String,
        data: ConnectionInfo,
        timeouts: Timeouts,
    ) -> Result<Self, RedisError> {
        let nodes = nodes.iter().cloned().map(Client::open);
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            master,
            data,
            timeouts,
            last: LastKnown::default(),
            former: Mutex::default(),
            asked: Mutex::default(),
            turn: AsyncMutex::default(),
            era: AtomicU64::new(0),
        })
    }

    /// Connects to the present master.
    pub(super) async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let found = timeout(self.timeouts.connect, self.search(config)).await;
        found.unwrap_or_else(|_| Err((ErrorKind::Io, "no sentinel led to a master in time").into()))
    }

    async fn search(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let searches = self.nodes.iter().map(|node| self.through(node, config));
        let mut searches: FuturesUnordered<_> = searches.collect();
        let mut last = RedisError::from((ErrorKind::EmptySentinelList, "no sentinel is named"));
        while let Some(found) = searches.next().await {
            match found {
                Ok(connection) => return Ok(connection),
                // What a master says that will take a connection in a moment counts most.
                Err(_) if refusal::is_not_now(&last) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connections of an earlier era are not used any further.
    pub(super) fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    fn leave(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
    }

    /// Long ago, if a master has never been known.
    fn asked_ago(&self) -> Duration {
        let asked = *lock(&self.asked);
        asked.map_or(Duration::MAX, |at| at.elapsed())
    }

    fn note_asked(&self) {
        *lock(&self.asked) = Some(Instant::now());
    }

    /// One job looks, and the others that begin meanwhile wait for it.
    async fn look_for_all(&self) {
        let _turn = self.turn.lock().await;
        if self.asked_ago() >= ASK_AGAIN {
            self.look().await;
            self.note_asked();
        }
    }

    /// Leaves the master that is known if most sentinels name another one. A single one may be cut off.
    async fn look(&self) {
        let Some(known) = lock(&self.last).as_ref().map(|(known, _)| known.clone()) else {
            return;
        };
        let config = self.timeouts.connecting();
        let asking = self.nodes.iter().map(|node| self.named_by(node, &config));
        let mut asking: FuturesUnordered<_> = asking.collect();
        let mut votes: HashMap<String, usize> = HashMap::new();
        while let Some(named) = asking.next().await {
            let Ok(named) = named else { continue };
            let count = votes.entry(named.addr().to_string()).or_default();
            *count += 1;
            if *count * 2 <= self.nodes.len() {
                continue;
            }
            // Nobody waits for those that are frozen.
            if *named.addr() != known {
                tracing::info!("the sentinels name another Redis master: it is used from now on");
                *lock(&self.former) = Some((known, Instant::now()));
                self.leave();
            } else if self.is_former(&known) {
                // It is the master again.
                *lock(&self.former) = None;
            }
            return;
        }
    }

    fn is_former(&self, master: &ConnectionAddr) -> bool {
        let former = lock(&self.former);
        former
            .as_ref()
            .is_some_and(|(former, at)| former == master && at.elapsed() < OUT_OF_DATE)
    }

    /// How to connect to the master that a sentinel names.
    async fn named_by(
        &self,
        node: &Client,
        config: &AsyncConnectionConfig,
    ) -> Result<ConnectionInfo, RedisError> {
        let mut sentinel = node
            .get_multiplexed_async_connection_with_config(config)
            .await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let answer = question(&mut sentinel, &ask, self.timeouts).await?;
        let (host, port) = address(answer).ok_or_else(|| {
            let message = "a sentinel knows no master of this name";
            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, message))
        })?;
        Ok(at(&self.data, host, port))
    }

    async fn through(
        &self,
        node: &Client,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let client = Client::open(self.named_by(node, config).await?)?;
        let found = client.get_connection_info().addr().clone();
        if self.is_former(&found) {
            return Err((ErrorKind::Io, "a sentinel named a former master").into());
        }
        let connecting = client.get_multiplexed_async_connection_with_config(config);
        let mut master = connecting.await.map_err(refusal::of_connecting)?;
        // A sentinel that was cut off names the former master.
        match question(&mut master, &redis::cmd("ROLE"), self.timeouts).await {
            Ok(Value::Array(role)) if text(role.first()) == Some("slave") => {
                Err((ErrorKind::Io, "a sentinel named a replica as the master").into())
            }
            _ => {
                self.remember(found, client);
                Ok(master)
            }
        }
    }

    fn remember(&self, address: ConnectionAddr, client: Client) {
        self.note_asked();
        let mut last = lock(&self.last);
        if last.as_ref().is_none_or(|(known, _)| *known != address) {
            let link = Link::new(Source::Server(client), self.timeouts);
            *last = Some((address, link));
        }
    }
}

fn address(answer: Value) -> Option<(String, u16)> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let host = text(parts.first())?.to_owned();
    let port = text(parts.get(1))?.parse().ok()?;
    Some((host, port))
}

/// How to connect to another address in the same way.
pub(super) fn at(like: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let addr = match like.addr() {
        ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    like.clone().set_addr(addr)
}
