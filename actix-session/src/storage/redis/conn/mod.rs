//! One way to run a command on any topology: a server, a pool, a master that Sentinel names, or a
//! cluster.
//!
//! Only this folder decides what may have happened to a command. *Refused* (an error) means that
//! it was not carried out and never will be: there was no connection to send it on, or the server
//! answered an error (`MOVED`, `ASK`, `CLUSTERDOWN`, `READONLY`, `LOADING`, `OOM`, ...; a server
//! decides all of these before a script's first write). Any other failure is *lost*.
//! The client library repeats nothing on its own: this folder repeats refusals that pass, and the
//! protocol repeats steps whose answer was lost.

mod cluster;
mod job;
mod last_failure;
mod line;
mod link;
mod pooled;
mod refusal;
mod role;
mod sentinel;
mod ways;

use std::{
    io,
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::future::{Either, select};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, RedisError, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

pub(crate) use self::job::Job;
pub(super) use self::refusal::{is_forbidden, is_of_a_cluster};
#[cfg(feature = "redis-pool")]
pub(super) use self::refusal::{of_connecting, without_room};
use self::{
    cluster::Cluster,
    last_failure::LastFailure,
    link::{Link, Source},
    pooled::Pooled,
    sentinel::{Sentinel, Watched},
    ways::Ways,
};
use super::pool::Pool;
use crate::error::Contended;

/// How long to wait before a refusal that passes is tried again: short beside a failover.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// How many connections of a pool a job tries if they lead to a replica.
const POOL_TRIES: u32 = 3;

#[derive(Clone)]
pub(crate) struct Connections {
    topology: Topology,
    /// For endings and renewals that wait for replicas.
    waiting: Option<(Ways, Replicas)>,
    command_timeout: Duration,
}

/// What [`Connections`] are made to.
pub(crate) enum Target {
    Server(ConnectionInfo),
    Sentinel {
        nodes: Vec<ConnectionInfo>,
        master: String,
        /// Everything but the address.
        data: ConnectionInfo,
    },
    Cluster(Vec<ConnectionInfo>),
    Pool(Pool),
}

#[derive(Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    pub(crate) command: Duration,
}

/// How many replicas must have an ending or a renewal, and how long to wait for them.
#[derive(Clone, Copy)]
pub(crate) struct Replicas {
    pub(crate) count: u32,
    pub(crate) timeout: Duration,
}

/// What became of a command that was not refused.
pub(crate) enum Outcome {
    Value(Value),
    /// The connection broke or the time was up: the command may have been carried out.
    Lost(RedisError),
}

impl Connections {
    /// Makes no connection yet.
    ///
    /// # Errors
    /// The client library cannot connect to an address of this kind.
    pub(crate) fn new(
        target: &Target,
        timeouts: Timeouts,
        replicas: Option<Replicas>,
    ) -> Result<Self, RedisError> {
        let topology = Topology::of(target, timeouts)?;
        let waiting = match replicas {
            None => None,
            Some(replicas) => {
                let command = timeouts.command + replicas.timeout;
                let timeouts = Timeouts {
                    command,
                    ..timeouts
                };
                Some((Ways::beside(&topology, target, timeouts)?, replicas))
            }
        };
        Ok(Self {
            topology,
            waiting,
            command_timeout: timeouts.command,
        })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.topology, Topology::Cluster(_))
    }

    /// Does a job, and again while it is refused for a reason that passes.
    ///
    /// # Errors
    /// The job was refused.
    pub(crate) async fn run(&self, job: &Job<'_>) -> Result<Outcome, RedisError> {
        let deadline = crate::clock::deadline(self.command_timeout);
        self.run_until(job, deadline).await
    }

    async fn run_until(&self, job: &Job<'_>, deadline: Instant) -> Result<Outcome, RedisError> {
        match &self.waiting {
            Some((ways, replicas)) if job.ends => {
                let job = job.waiting_for(*replicas);
                Box::pin(ways.run_until(&job, deadline)).await
            }
            _ => self.topology.run_until(job, deadline).await,
        }
    }

    /// Does a job that may be repeated freely, and a read in the same round trip, before it. Returns
    /// the answers to both; `None` if the read's is not known, since the slot is being moved.
    ///
    /// # Errors
    /// The job was refused, or its answer was lost.
    pub(crate) async fn repeatable_after(
        &self,
        before: &Cmd,
        job: Job<'_>,
    ) -> Result<(Option<Value>, Value), RedisError> {
        job::apart(self.repeat_or_read(&job.after(before)).await?)
    }

    /// Does a job that may be repeated freely, while there is time.
    ///
    /// A broken connection is noticed only when it is used, so the first repeat comes at once and
    /// on a new one. A command that took too long is not repeated: its time is up.
    ///
    /// # Errors
    /// The job was refused, or its answer was lost.
    pub(crate) async fn repeatable(&self, job: &Job<'_>) -> Result<Value, RedisError> {
        let deadline = crate::clock::deadline(self.command_timeout);
        let mut repeats = 0;
        loop {
            let error = match self.run_until(job, deadline).await? {
                Outcome::Value(value) => return Ok(value),
                Outcome::Lost(error) => error,
            };
            // An application's own connections may have given up before.
            let is_over = Instant::now() >= deadline;
            if is_over && (repeats > 0 || error.is_timeout()) {
                return Err(error);
            }
            if repeats > 0 {
                sleep(RETRY_PAUSE).await;
            }
            repeats += 1;
        }
    }

    /// Does a job that may be repeated freely. If it only reads, and the answer is late, another
    /// connection is asked as well, and the first answer counts.
    ///
    /// # Errors
    /// The job was refused, or its answer was lost.
    pub(crate) async fn repeat_or_read(&self, job: &Job<'_>) -> Result<Value, RedisError> {
        let late = Notify::new();
        let told = if job.reads { job.telling(&late) } else { *job };
        let first = pin!(self.repeatable(&told));
        match select(first, pin!(late.notified())).await {
            Either::Left((answer, _)) => answer,
            // What is rare is on the heap.
            Either::Right((_, first)) => either(first, Box::pin(self.repeatable(job))).await,
        }
    }
}

/// The first answer. If the job that began first ends without one, the time of both is up.
pub(super) async fn either<T, E>(
    first: impl Future<Output = Result<T, E>> + Unpin,
    second: impl Future<Output = Result<T, E>> + Unpin,
) -> Result<T, E> {
    match select(first, second).await {
        Either::Left((answer, _)) | Either::Right((answer @ Ok(_), _)) => answer,
        Either::Right((Err(_), first)) => first.await,
    }
}

impl Outcome {
    /// The answer; a lost one is an error to whoever decides nothing by it.
    fn answered(self) -> Result<Value, RedisError> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Lost(error) => Err(error),
        }
    }
}

#[derive(Clone)]
enum Topology {
    Server(Link),
    Sentinel(Watched),
    Cluster(Cluster),
    Pool(Pooled),
}

impl Topology {
    fn of(target: &Target, timeouts: Timeouts) -> Result<Self, RedisError> {
        let link = |source| Link::new(source, timeouts);
        Ok(match target {
            Target::Server(info) => Self::Server(link(Source::Server(Client::open(info.clone())?))),
            Target::Sentinel {
                nodes,
                master,
                data,
            } => {
                let sentinel = Sentinel::new(nodes, master.clone(), data.clone(), timeouts)?;
                Self::Sentinel(Watched::new(sentinel, timeouts))
            }
            Target::Cluster(seeds) => Self::Cluster(Cluster::new(seeds, timeouts)?),
            Target::Pool(pool) => Self::Pool(Pooled::new(pool.clone(), timeouts)),
        })
    }

    /// Other connections to the same servers.
    fn beside(&self, target: &Target, timeouts: Timeouts) -> Result<Self, RedisError> {
        match self {
            Self::Sentinel(watched) => Ok(Self::Sentinel(watched.beside(timeouts))),
            _ => Self::of(target, timeouts),
        }
    }

    async fn run_until(&self, job: &Job<'_>, deadline: Instant) -> Result<Outcome, RedisError> {
        let mut tries = 0;
        loop {
            // On the heap: whatever waits for a command would hold the largest of these, and a load
            // waits at several depths.
            let outcome = match self {
                Self::Server(link) => Box::pin(link.once_at_master(job, deadline)).await,
                Self::Sentinel(watched) => Box::pin(watched.once(job)).await,
                Self::Cluster(cluster) => Box::pin(cluster.run(*job, deadline)).await,
                Self::Pool(pooled) => Box::pin(pooled.once(job, deadline)).await,
            };
            tries += 1;
            match outcome {
                Err(error)
                    if self.passes(&error, tries)
                        && is_time_left(job.tries_until(&error, deadline)) =>
                {
                    sleep(RETRY_PAUSE).await;
                }
                Err(error) => {
                    let error = self.explained(error);
                    return Box::pin(self.or_last_known(job, error)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// A refusal, with what to change if the address is that of another topology.
    fn explained(&self, error: RedisError) -> RedisError {
        match self {
            Self::Server(_) | Self::Pool(_) => refusal::of_a_cluster(error),
            Self::Sentinel(_) | Self::Cluster(_) => error,
        }
    }

    /// If no master has been found, a read is served from the last one that was known.
    async fn or_last_known(&self, job: &Job<'_>, error: RedisError) -> Result<Outcome, RedisError> {
        match self {
            Self::Sentinel(watched) if sentinel::is_without_master(&error) => {
                let known = Box::pin(watched.read_elsewhere(job)).await;
                known.map(Outcome::Value).ok_or(error)
            }
            _ => Err(error),
        }
    }

    /// Whether the reason for a refusal passes, so that another try is worthwhile.
    fn passes(&self, error: &RedisError, tries: u32) -> bool {
        match self {
            // The cluster has tried already.
            Self::Cluster(_) => false,
            _ if refusal::is_not_now(error) => true,
            // The connection broke while it was being made. If nobody is there, that is the answer.
            Self::Server(_) | Self::Pool(_) if error.kind() == ErrorKind::Io => {
                !error.is_connection_refusal()
            }
            // If the name leads to another server now, a new connection finds it.
            Self::Server(_) => refusal::is_not_here(error) && tries == 1,
            // The application may have given back an old one meanwhile.
            Self::Pool(_) => refusal::is_not_here(error) && tries < POOL_TRIES,
            // Sentinel is about to name another master, or has done so.
            Self::Sentinel(_) => {
                let is_replaced = refusal::is_unreplicated(error) && tries == 1;
                is_replaced || sentinel::is_without_master(error)
            }
        }
    }
}

impl Timeouts {
    /// How long a connection may hold an answer back before others are used as well: less than the
    /// half second after which connections of the application's give up by themselves, by default.
    fn patience(self) -> Duration {
        self.command / 5 * 2
    }

    /// How to connect. Jobs have a timer of their own.
    fn connecting(self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect))
            .set_response_timeout(None)
    }

    /// Waits for an answer, and tells if it is late. One timer does for both.
    async fn bound(
        self,
        mut doing: Pin<&mut impl Future<Output = Result<Outcome, RedisError>>>,
        late: impl FnOnce(),
    ) -> Result<Outcome, RedisError> {
        if let Ok(outcome) = timeout(self.patience(), &mut doing).await {
            return outcome;
        }
        late();
        // What is rare is on the heap.
        let left = Box::pin(timeout(self.command - self.patience(), doing));
        left.await.unwrap_or_else(|_| Ok(Outcome::Lost(too_late())))
    }
}

/// Whether another try would begin before this time is over. Whoever waits beyond it could not report
/// the refusal any more.
fn is_time_left(until: Instant) -> bool {
    Instant::now() + RETRY_PAUSE < until
}

/// Tells an answer, a refusal and silence apart.
fn judge(answer: Result<Value, RedisError>) -> Result<Outcome, RedisError> {
    match answer {
        Ok(Value::ServerError(error)) => Err(refusal::unwrapped(error.into())),
        Ok(value) => Ok(Outcome::Value(value)),
        Err(error) if is_refusal(&error) => Err(refusal::unwrapped(error)),
        Err(error) => Ok(Outcome::Lost(error)),
    }
}

/// Whether the server has answered that it does not do it.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// A refusal as the store's error: contended, if all would have been well a moment later.
pub(super) fn failure(error: RedisError) -> anyhow::Error {
    let passes = refusal::is_not_now(&error);
    let error = anyhow::Error::from(error);
    if passes {
        error.context(Contended)
    } else {
        error
    }
}

/// Whether a failure of a store is a server's refusal.
pub(super) fn refused(error: &anyhow::Error) -> Option<&RedisError> {
    let error = error.downcast_ref::<RedisError>();
    error.filter(|error| is_refusal(error))
}

/// Whether a failure of a store is that there was no connection for now.
pub(super) fn is_without_room(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<RedisError>();
    error.is_some_and(refusal::is_without_room)
}

/// Whether a cluster has put a job off, since not all of its keys have been moved yet.
pub(super) fn is_put_off(error: &anyhow::Error) -> bool {
    refused(error).is_some_and(refusal::is_put_off)
}

/// Whether no server was found that takes writes.
pub(super) fn has_no_master(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<RedisError>();
    error.is_some_and(sentinel::is_without_master)
}

/// Whether the connection must not be used again.
fn is_spent(outcome: &Result<Outcome, RedisError>) -> bool {
    matches!(outcome, Ok(Outcome::Lost(_)))
}

/// Asks something that decides nothing, on a connection of its own.
async fn question(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    timeouts: Timeouts,
) -> Result<Value, RedisError> {
    let asking = connection.req_packed_command(command);
    let answer = timeout(timeouts.command, asking).await;
    judge(answer.unwrap_or_else(|_| Err(too_late())))?.answered()
}

fn too_late() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
