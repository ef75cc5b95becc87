//! A cluster: which node has a slot, and what to do when it has it no more.
//!
//! Written here, and not left to the client library: its driver cannot follow `ASK` with its own
//! repeats switched off, and with them on it repeats commands whose outcome is unknown.

use std::{
    collections::HashMap,
    sync::{
        Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, ServerErrorKind, Value,
};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep},
};

use super::{
    super::slots::{SLOTS, slot},
    Job, Limits, Link, Outcome, PAUSE, Source, sentinel,
};
use crate::sync;

#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    /// The nodes that the application named.
    seeds: Vec<Arc<Node>>,
    /// Everything but the address.
    like: ConnectionInfo,
    limits: Limits,
    map: RwLock<Map>,
    refreshing: AsyncMutex<()>,
    /// An answer was lost: the map may be out of date.
    suspect: AtomicBool,
}

/// Which node has which slot, as far as known.
#[derive(Default)]
struct Map {
    version: u64,
    /// By slot; empty before the first look.
    owners: Vec<Option<Arc<Node>>>,
}

struct Node {
    address: Address,
    link: Link,
}

type Address = (String, u16);
type Nodes = HashMap<Address, Arc<Node>>;

impl Cluster {
    pub(super) fn new(seeds: &[ConnectionInfo], limits: Limits) -> Result<Self, RedisError> {
        let none = || RedisError::from((ErrorKind::InvalidClientConfig, "no node is named"));
        let like = seeds.first().ok_or_else(none)?.clone();
        let nodes = seeds.iter().map(|seed| Node::new(seed, limits));
        Ok(Self(Arc::new(Inner {
            seeds: nodes.collect::<Result<_, _>>()?,
            like,
            limits,
            map: RwLock::default(),
            refreshing: AsyncMutex::new(()),
            suspect: AtomicBool::new(false),
        })))
    }

    /// Does a job where its record is. Refusals that pass are tried again until the deadline.
    pub(super) async fn run(
        &self,
        mut job: Job<'_>,
        deadline: Instant,
    ) -> Result<Outcome, RedisError> {
        let slot = slot(job.at);
        if self.0.suspect.swap(false, Ordering::Relaxed) {
            // Nothing depends on its success: the map that is there may still be right.
            let _ = self.refresh(self.version()).await;
        }
        let mut node = self.owner(slot).await?;
        loop {
            let error = match node.link.once(job).await {
                Ok(Outcome::Lost(error)) => {
                    self.0.suspect.store(true, Ordering::Relaxed);
                    return Ok(Outcome::Lost(error));
                }
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let next = Next::after(&error);
            if matches!(next, Next::Fail) || Instant::now() >= deadline {
                return Err(error);
            }
            job.asking = match next {
                Next::Ask => true,
                Next::Wait => job.asking,
                _ => false,
            };
            match next {
                Next::Ask => node = self.redirected(&error, &node)?,
                Next::Moved => {
                    node = self.redirected(&error, &node)?;
                    self.learn(slot, &node);
                }
                Next::Wait => sleep(PAUSE).await,
                Next::Look | Next::Fail => {
                    sleep(PAUSE).await;
                    // Where nobody answers, the node that is known is tried again.
                    let _ = self.refresh(self.version()).await;
                    node = self.owner(slot).await?;
                }
            }
        }
    }

    async fn owner(&self, slot: u16) -> Result<Arc<Node>, RedisError> {
        if let Some(node) = self.map().owner(slot) {
            return Ok(node);
        }
        self.refresh(self.version()).await?;
        self.map().owner(slot).ok_or_else(|| {
            let told = "no node of the cluster has the slot";
            (ErrorKind::ClusterConnectionNotFound, told).into()
        })
    }

    fn redirected(&self, error: &RedisError, from: &Node) -> Result<Arc<Node>, RedisError> {
        let address = error.redirect_node().and_then(|(address, _)| {
            let (host, port) = address.rsplit_once(':')?;
            Some((host.to_owned(), port.parse().ok()?))
        });
        let unreadable = || RedisError::from((ErrorKind::Parse, "a redirection leads nowhere"));
        let (host, port) = address.ok_or_else(unreadable)?;
        self.node(from.beside(host, port))
    }

    fn learn(&self, slot: u16, node: &Arc<Node>) {
        if let Some(owner) = self.map_mut().owners.get_mut(usize::from(slot)) {
            *owner = Some(Arc::clone(node));
        }
    }

    /// The node at an address, with the connections that it has.
    fn node(&self, address: Address) -> Result<Arc<Node>, RedisError> {
        self.made(&mut self.known(), address)
    }

    fn made(&self, known: &mut Nodes, (host, port): Address) -> Result<Arc<Node>, RedisError> {
        let address = (host.clone(), port);
        if let Some(node) = known.get(&address) {
            return Ok(Arc::clone(node));
        }
        let node = Node::new(&sentinel::at(&self.0.like, host, port), self.0.limits)?;
        known.insert(address, Arc::clone(&node));
        Ok(node)
    }

    /// Every node that is known, the named ones too.
    fn known(&self) -> Nodes {
        let map = self.map();
        let mut nodes: Vec<_> = self.0.seeds.iter().collect();
        nodes.extend(map.owners.iter().flatten());
        // Neighbouring slots have one owner most of the time.
        nodes.dedup_by(|one, other| Arc::ptr_eq(one, other));
        let mut known = Nodes::new();
        for node in nodes {
            known
                .entry(node.address.clone())
                .or_insert_with(|| Arc::clone(node));
        }
        known
    }

    /// Asks who has which slot, unless somebody has done so since this version of the map.
    async fn refresh(&self, seen: u64) -> Result<(), RedisError> {
        let _alone = self.0.refreshing.lock().await;
        if self.version() != seen {
            return Ok(());
        }
        let known = self.known();
        let mut asked: FuturesUnordered<_> = known.values().map(|node| node.shares()).collect();
        let mut best: Result<Vec<Share>, RedisError> = Err((
            ErrorKind::ClusterConnectionNotFound,
            "no node of the cluster answers",
        )
            .into());
        while let Some(answer) = asked.next().await {
            let count = |shares: &[Share]| shares.iter().map(Share::width).sum::<usize>();
            match (answer, &best) {
                (Ok(shares), Ok(have)) if count(&shares) <= count(have) => {}
                (Ok(shares), _) => best = Ok(shares),
                (Err(error), Err(_)) => best = Err(error),
                (Err(_), Ok(_)) => {}
            }
            // Whoever knows all of them knows enough; nobody waits for a node that is frozen.
            if best.as_ref().is_ok_and(|have| count(have) == SLOTS) {
                break;
            }
        }
        drop(asked);
        self.install(&best?)
    }

    fn install(&self, shares: &[Share]) -> Result<(), RedisError> {
        let mut known = self.known();
        let mut owners = vec![None; SLOTS];
        for share in shares {
            let node = self.made(&mut known, share.owner.clone())?;
            if let Some(range) = owners.get_mut(share.first..=share.last) {
                range.fill(Some(node));
            }
        }
        let mut map = self.map_mut();
        map.version += 1;
        map.owners = owners;
        Ok(())
    }

    fn version(&self) -> u64 {
        self.map().version
    }

    fn map(&self) -> RwLockReadGuard<'_, Map> {
        sync::read(&self.0.map)
    }

    fn map_mut(&self) -> RwLockWriteGuard<'_, Map> {
        sync::write(&self.0.map)
    }
}

/// What a refusal leads to.
#[derive(Clone, Copy)]
enum Next {
    /// This node has the slot now.
    Moved,
    /// This node is taking the slot over, and has this key already.
    Ask,
    /// The same node, a moment later.
    Wait,
    /// Somebody else may have the slot.
    Look,
    Fail,
}

impl Next {
    fn after(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => Self::Moved,
            ErrorKind::Server(ServerErrorKind::Ask) => Self::Ask,
            ErrorKind::Server(ServerErrorKind::TryAgain | ServerErrorKind::BusyLoading) => {
                Self::Wait
            }
            ErrorKind::Server(
                ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly,
            )
            // No connection, hence nothing sent.
            | ErrorKind::Io => Self::Look,
            _ => Self::Fail,
        }
    }
}

impl Map {
    fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        self.owners.get(usize::from(slot)).cloned().flatten()
    }
}

impl Node {
    fn new(info: &ConnectionInfo, limits: Limits) -> Result<Arc<Self>, RedisError> {
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                (host.clone(), *port)
            }
            _ => {
                let told = "a cluster's node has a host and a port";
                return Err((ErrorKind::InvalidClientConfig, told).into());
            }
        };
        let client = Client::open(info.clone())?;
        let link = Link::new(Source::Server(client), limits);
        Ok(Arc::new(Self { address, link }))
    }

    /// An address that this node has told: without a host it means its own.
    fn beside(&self, host: String, port: u16) -> Address {
        let host = if host.is_empty() || host == "?" {
            self.address.0.clone()
        } else {
            host
        };
        (host, port)
    }

    /// Who has which slots, as this node sees it.
    async fn shares(&self) -> Result<Vec<Share>, RedisError> {
        let mut ask = redis::cmd("CLUSTER");
        ask.arg("SLOTS");
        match self.link.once(Job::new("", &ask)).await? {
            Outcome::Value(Value::Array(shares)) => Ok(shares
                .into_iter()
                .filter_map(|share| Share::read(share, self))
                .collect()),
            Outcome::Value(_) => Err((ErrorKind::Parse, "CLUSTER SLOTS is no list").into()),
            Outcome::Lost(error) => Err(error),
        }
    }
}

/// A range of slots and its master.
struct Share {
    first: usize,
    last: usize,
    owner: Address,
}

impl Share {
    fn width(&self) -> usize {
        self.last + 1 - self.first
    }

    /// `[first, last, [host, port, ...], replicas ...]`.
    fn read(value: Value, told_by: &Node) -> Option<Self> {
        let Value::Array(parts) = value else {
            return None;
        };
        let number = |value: Option<&Value>| match value {
            Some(Value::Int(number)) => usize::try_from(*number).ok(),
            _ => None,
        };
        let (first, last) = (number(parts.first())?, number(parts.get(1))?);
        let Some(Value::Array(master)) = parts.get(2) else {
            return None;
        };
        let host = match master.first() {
            Some(Value::BulkString(bytes)) => String::from_utf8(bytes.clone()).ok()?,
            _ => String::new(),
        };
        let port = u16::try_from(number(master.get(1))?).ok()?;
        (first <= last && last < SLOTS).then(|| Self {
            first,
            last,
            owner: told_by.beside(host, port),
        })
    }
}
