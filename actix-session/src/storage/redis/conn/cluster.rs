//! A cluster: which node has a slot, and what to do if it no longer has it.
//!
//! The client library's own driver cannot follow `ASK` with its repeats switched off. With them
//! on, it repeats commands whose outcome is unknown.

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
    time::{Instant, sleep, timeout},
};

use super::{
    super::slots::{SLOTS, slot},
    Job, LastFailure, Link, Outcome, RETRY_PAUSE, Source, Timeouts, is_time_left, refusal,
    sentinel,
};
use crate::{random, sync};

#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    /// The nodes that the application named.
    seeds: Vec<Arc<Node>>,
    /// Everything but the address.
    like: ConnectionInfo,
    timeouts: Timeouts,
    map: RwLock<Map>,
    refreshing: AsyncMutex<()>,
    /// Looks at the cluster.
    looks: LastFailure,
    /// An answer was lost: the map may be out of date.
    suspect: AtomicBool,
}

/// Which node has which slot, as far as this process knows.
#[derive(Default)]
struct Map {
    version: u64,
    /// By slot. Empty before the first refresh.
    owners: Vec<Option<Arc<Node>>>,
    /// Those that were named since then because they take slots over.
    taking_over: Nodes,
}

struct Node {
    address: Address,
    link: Link,
}

type Address = (String, u16);
type Nodes = HashMap<Address, Arc<Node>>;

impl Cluster {
    pub(super) fn new(seeds: &[ConnectionInfo], timeouts: Timeouts) -> Result<Self, RedisError> {
        let none = || RedisError::from((ErrorKind::InvalidClientConfig, "no node is named"));
        let like = seeds.first().ok_or_else(none)?.clone();
        let nodes = seeds.iter().map(|seed| Node::new(seed, timeouts));
        Ok(Self(Arc::new(Inner {
            seeds: nodes.collect::<Result<_, _>>()?,
            like,
            timeouts,
            map: RwLock::default(),
            refreshing: AsyncMutex::new(()),
            looks: LastFailure::default(),
            suspect: AtomicBool::new(false),
        })))
    }

    /// Does a job at the node of its record, and repeats it while it is refused for a reason that
    /// passes, until the deadline, or until the job's own.
    pub(super) async fn run(
        &self,
        mut job: Job<'_>,
        deadline: Instant,
    ) -> Result<Outcome, RedisError> {
        let slot = slot(job.at());
        let mut node = self.first_node_for(&job, slot, deadline).await?;
        let mut followed = 0;
        loop {
            let error = match node.link.once(&job).await {
                Ok(outcome) => {
                    self.suspect_if_lost(&outcome);
                    return Ok(outcome);
                }
                Err(error) if !is_time_left(job.tries_until(&error, deadline)) => {
                    return Err(error);
                }
                Err(error) => error,
            };
            match Redirection::after(&error) {
                Redirection::Moved => {
                    pause_between_nodes(&mut followed).await;
                    node = self.redirected(&error, &node)?;
                    self.learn(slot, &node);
                    job.asking = false;
                }
                Redirection::Ask => {
                    pause_between_nodes(&mut followed).await;
                    node = self.redirected(&error, &node)?;
                    self.keep(&node);
                    job.asking = true;
                }
                Redirection::Wait if !job.moves_on_after(&error) => sleep(RETRY_PAUSE).await,
                Redirection::Search => {
                    sleep(RETRY_PAUSE).await;
                    node = self.look_for(slot).await?;
                    job.asking = false;
                }
                Redirection::Wait | Redirection::Final => return Err(error),
            }
        }
    }

    /// The node to ask first, once one can be asked which it is.
    async fn first_node_for(
        &self,
        job: &Job<'_>,
        slot: u16,
        deadline: Instant,
    ) -> Result<Arc<Node>, RedisError> {
        loop {
            match self.first_node(slot).await {
                Err(error)
                    if refusal::is_not_now(&error)
                        && is_time_left(job.tries_until(&error, deadline)) =>
                {
                    sleep(RETRY_PAUSE).await;
                }
                found => return found,
            }
        }
    }

    async fn first_node(&self, slot: u16) -> Result<Arc<Node>, RedisError> {
        let suspect = self.0.suspect.swap(false, Ordering::Relaxed);
        if let (false, Some(node)) = (suspect, self.map().owner(slot)) {
            return Ok(node);
        }
        self.look_for(slot).await
    }

    fn suspect_if_lost(&self, outcome: &Outcome) {
        if matches!(outcome, Outcome::Lost(_)) {
            self.0.suspect.store(true, Ordering::Relaxed);
        }
    }

    /// Asks for the owner of a slot. If nobody answers, the present map may still be right.
    async fn look_for(&self, slot: u16) -> Result<Arc<Node>, RedisError> {
        let looked = self.refresh().await;
        if let Some(node) = self.map().owner(slot) {
            return Ok(node);
        }
        looked?;
        let message = "no node of the cluster has the slot";
        Err((ErrorKind::ClusterConnectionNotFound, message).into())
    }

    fn redirected(&self, error: &RedisError, from: &Node) -> Result<Arc<Node>, RedisError> {
        let address = error.redirect_node().and_then(|(address, _)| {
            let (host, port) = address.rsplit_once(':')?;
            Some((host.to_owned(), port.parse().ok()?))
        });
        let unreadable = || {
            RedisError::from((
                ErrorKind::Parse,
                "a redirection of the cluster has no valid address",
            ))
        };
        let (host, port) = address.ok_or_else(unreadable)?;
        self.node(from.beside(host, port))
    }

    fn learn(&self, slot: u16, node: &Arc<Node>) {
        if let Some(owner) = self.map_mut().owners.get_mut(usize::from(slot)) {
            *owner = Some(Arc::clone(node));
        }
    }

    /// Keeps the connections to a node that has no slot yet, as far as this process knows.
    fn keep(&self, node: &Arc<Node>) {
        let mut map = self.map_mut();
        let kept = map.taking_over.entry(node.address.clone());
        kept.or_insert_with(|| Arc::clone(node));
    }

    /// The node at an address, with the connections that it has already.
    fn node(&self, address: Address) -> Result<Arc<Node>, RedisError> {
        self.made(&mut self.known(), address)
    }

    fn made(&self, known: &mut Nodes, (host, port): Address) -> Result<Arc<Node>, RedisError> {
        let address = (host.clone(), port);
        if let Some(node) = known.get(&address) {
            return Ok(Arc::clone(node));
        }
        let node = Node::new(&sentinel::at(&self.0.like, host, port), self.0.timeouts)?;
        known.insert(address, Arc::clone(&node));
        Ok(node)
    }

    /// How to connect to each node that is known.
    pub(super) fn clients(&self) -> Vec<redis::Client> {
        let known = self.known();
        known
            .values()
            .filter_map(|node| node.link.client())
            .collect()
    }

    /// Every known node, including the ones that the application named.
    fn known(&self) -> Nodes {
        let map = self.map();
        let mut nodes: Vec<_> = self.0.seeds.iter().collect();
        nodes.extend(map.owners.iter().flatten());
        nodes.extend(map.taking_over.values());
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

    /// Asks which node has which slot, or waits for a job that asks already, but never longer than
    /// one look may take.
    async fn refresh(&self) -> Result<(), RedisError> {
        let Timeouts { connect, command } = self.0.timeouts;
        let looked = timeout(connect.saturating_add(command), self.refresh_once());
        let late = "no node of the cluster has answered in time";
        looked
            .await
            .unwrap_or_else(|_| Err((ErrorKind::Io, late).into()))
    }

    async fn refresh_once(&self) -> Result<(), RedisError> {
        let (version, looks) = (self.version(), &self.0.looks);
        let failed = looks.count();
        let _alone = self.0.refreshing.lock().await;
        if self.version() != version {
            return Ok(());
        }
        // A job that has waited for a look that failed does not wait for another.
        if let Some(error) = looks.since(failed) {
            return Err(error);
        }
        self.look().await.inspect_err(|error| looks.note(error))
    }

    async fn look(&self) -> Result<(), RedisError> {
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
            // A node that knows all slots knows enough, so nobody waits for a frozen one.
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
        map.taking_over.clear();
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

/// One redirection follows a slot that has moved, and another one a slot that is on the move. With more of
/// them the nodes do not agree yet, and are left alone for a moment.
async fn pause_between_nodes(followed: &mut u32) {
    *followed += 1;
    if *followed > 2 {
        let jitter = random::u64().map_or(0, |n| n % 500);
        let jitter = u32::try_from(jitter).unwrap_or_default();
        sleep(RETRY_PAUSE / 2 + RETRY_PAUSE * jitter / 1_000).await;
    }
}

/// Where a refusal leads.
enum Redirection {
    /// This node has the slot now.
    Moved,
    /// This node is taking the slot over, and has this key already.
    Ask,
    /// To the same node, a moment later.
    Wait,
    /// Another node may have the slot.
    Search,
    /// Nowhere.
    Final,
}

impl Redirection {
    fn after(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => Self::Moved,
            ErrorKind::Server(ServerErrorKind::Ask) => Self::Ask,
            _ if refusal::is_not_now(error) => Self::Wait,
            _ if refusal::is_not_here(error) => Self::Search,
            // With `Io` there was no connection, so nothing was sent.
            ErrorKind::Server(ServerErrorKind::ClusterDown) | ErrorKind::Io => Self::Search,
            _ => Self::Final,
        }
    }
}

impl Map {
    fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        self.owners.get(usize::from(slot)).cloned().flatten()
    }
}

impl Node {
    fn new(info: &ConnectionInfo, timeouts: Timeouts) -> Result<Arc<Self>, RedisError> {
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                (host.clone(), *port)
            }
            _ => {
                let message = "the address of a cluster's node must have a host and a port";
                return Err((ErrorKind::InvalidClientConfig, message).into());
            }
        };
        let client = Client::open(info.clone())?;
        let link = Link::new(Source::Server(client), timeouts);
        Ok(Arc::new(Self { address, link }))
    }

    /// An address that this node has named. Without a host, it is on this node's own.
    fn beside(&self, host: String, port: u16) -> Address {
        let host = if host.is_empty() || host == "?" {
            self.address.0.clone()
        } else {
            host
        };
        (host, port)
    }

    /// The only node of a cluster is this one. It may have a name for itself by which it cannot be
    /// reached from here.
    async fn or_own(&self, mut shares: Vec<Share>) -> Vec<Share> {
        let only = shares
            .first()
            .map(|share| (share.owner.clone(), share.id.clone()));
        let Some((owner, id)) = only.filter(|(owner, _)| *owner != self.address) else {
            return shares;
        };
        let is_only = |share: &Share| share.is_alone && share.owner == owner;
        // A replica that has just begun to copy is not named yet.
        if shares.iter().all(is_only) && self.may_be(&id).await {
            for share in &mut shares {
                share.owner = self.address.clone();
            }
        }
        shares
    }

    /// Whether this is the node with that id, or does not say.
    async fn may_be(&self, id: &Value) -> bool {
        let mut ask = redis::cmd("CLUSTER");
        ask.arg("MYID");
        match self.link.once(&Job::command("", &ask)).await {
            Ok(Outcome::Value(Value::BulkString(own))) => match id {
                Value::BulkString(id) => own == *id,
                _ => true,
            },
            _ => true,
        }
    }

    /// Which node has which slots, as this one sees it.
    async fn shares(&self) -> Result<Vec<Share>, RedisError> {
        let mut ask = redis::cmd("CLUSTER");
        ask.arg("SLOTS");
        match self.link.once(&Job::command("", &ask)).await? {
            Outcome::Value(Value::Array(shares)) => {
                let shares = shares.into_iter();
                let shares = shares
                    .filter_map(|share| Share::read(share, self))
                    .collect();
                Ok(self.or_own(shares).await)
            }
            Outcome::Value(_) => Err((
                ErrorKind::Parse,
                "the answer to CLUSTER SLOTS must be a list",
            )
                .into()),
            Outcome::Lost(error) => Err(error),
        }
    }
}

/// A range of slots and its master.
struct Share {
    first: usize,
    last: usize,
    owner: Address,
    /// The master's id.
    id: Value,
    /// The master has no replicas.
    is_alone: bool,
}

impl Share {
    fn width(&self) -> usize {
        self.last + 1 - self.first
    }

    /// `[first, last, [host, port, ...], replicas ...]`.
    fn read(value: Value, named_by: &Node) -> Option<Self> {
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
            owner: named_by.beside(host, port),
            id: master.get(2).cloned().unwrap_or(Value::Nil),
            is_alone: parts.len() == 3,
        })
    }
}

#[cfg(test)]
mod tests;
