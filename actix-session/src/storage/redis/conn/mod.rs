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
mod link;
mod pooled;
mod refusal;
mod sentinel;

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, RedisError, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::time::{Instant, sleep};

pub(crate) use self::job::Job;
use self::{
    cluster::Cluster,
    link::{Link, Source},
    pooled::Pooled,
    sentinel::Sentinel,
};
use super::pool::Pool;

/// How long to wait before a refusal that passes is tried again: short beside a failover.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

#[derive(Clone)]
pub(crate) struct Connections {
    topology: Topology,
    /// For endings and renewals that wait for replicas: waiting blocks a connection.
    waiting: Option<(Topology, Replicas)>,
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
        let waiting = match replicas {
            None => None,
            Some(replicas) => {
                let command = timeouts.command + replicas.timeout;
                let timeouts = Timeouts {
                    command,
                    ..timeouts
                };
                Some((Topology::of(target, timeouts)?, replicas))
            }
        };
        Ok(Self {
            topology: Topology::of(target, timeouts)?,
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
    pub(crate) async fn run(&self, mut job: Job<'_>) -> Result<Outcome, RedisError> {
        let mut topology = &self.topology;
        if let (true, Some((waiting, replicas))) = (job.ends, &self.waiting) {
            topology = waiting;
            job.replicas = Some(*replicas);
        }
        let deadline = crate::clock::deadline(self.command_timeout);
        let mut tries = 0;
        loop {
            let outcome = match topology {
                Topology::Server(link) | Topology::Sentinel(link) => link.once(job).await,
                Topology::Cluster(cluster) => cluster.run(job, deadline).await,
                Topology::Pool(pooled) => pooled.once(job).await,
            };
            tries += 1;
            match &outcome {
                Err(error) if topology.passes(error, tries) && Instant::now() < deadline => {
                    sleep(RETRY_PAUSE).await;
                }
                _ => return outcome,
            }
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
        job::apart(self.repeatable(job.after(before)).await?)
    }

    /// Does a job that may be repeated freely.
    ///
    /// A broken connection is noticed only when it is used, so the first repeat comes at once and
    /// on a new one. A command that took too long is not repeated: its time is up.
    ///
    /// # Errors
    /// The job was refused, or its answer was lost.
    pub(crate) async fn repeatable(&self, job: Job<'_>) -> Result<Value, RedisError> {
        match self.run(job).await? {
            Outcome::Value(value) => Ok(value),
            Outcome::Lost(error) if error.is_timeout() => Err(error),
            Outcome::Lost(_) => self.run(job).await?.answered(),
        }
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
    Sentinel(Link),
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
                Self::Sentinel(link(Source::Sentinel(sentinel)))
            }
            Target::Cluster(seeds) => Self::Cluster(Cluster::new(seeds, timeouts)?),
            Target::Pool(pool) => Self::Pool(Pooled {
                pool: pool.clone(),
                timeouts,
            }),
        })
    }

    /// Whether the reason for a refusal passes, so that another try is worthwhile.
    fn passes(&self, error: &RedisError, tries: u32) -> bool {
        match self {
            // The cluster has tried already.
            Self::Cluster(_) => false,
            _ if refusal::is_not_now(error) => true,
            // If the name leads to another server now, a new connection finds it.
            Self::Server(_) | Self::Pool(_) => refusal::is_not_here(error) && tries == 1,
            // Sentinel is about to name another master, or has done so.
            Self::Sentinel(_) => {
                refusal::is_not_here(error)
                    || matches!(
                        error.kind(),
                        ErrorKind::Io | ErrorKind::MasterNameNotFoundBySentinel
                    )
            }
        }
    }
}

impl Timeouts {
    fn config(self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect))
            .set_response_timeout(Some(self.command))
    }
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

/// Whether a failure of a store is a server's refusal.
pub(super) fn refused(error: &anyhow::Error) -> Option<&RedisError> {
    let error = error.downcast_ref::<RedisError>();
    error.filter(|error| is_refusal(error))
}

/// Whether a cluster has put a job off, since not all of its keys have been moved yet.
pub(super) fn is_put_off(error: &anyhow::Error) -> bool {
    refused(error).is_some_and(refusal::is_put_off)
}

/// Whether a replica has refused.
pub(super) fn is_from_replica(error: &anyhow::Error) -> bool {
    refused(error).is_some_and(refusal::is_not_here)
}

/// Whether the connection must not be used again: it broke, or leads to a replica.
fn is_spent(outcome: &Result<Outcome, RedisError>) -> bool {
    match outcome {
        Ok(Outcome::Value(_)) => false,
        Ok(Outcome::Lost(_)) => true,
        Err(error) => refusal::is_not_here(error),
    }
}

/// Asks something that decides nothing, on a connection of its own.
async fn question(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<Value, RedisError> {
    judge(connection.req_packed_command(command).await)?.answered()
}
