//! One way to run a command, whatever stands behind it: a server, a pool, a master that Sentinel
//! names, a cluster.
//!
//! Here alone is decided what may have happened to a command. *Refused* (an error) means that it was
//! certainly not carried out: there was no connection to send it on, or the server answered an error
//! (`MOVED`, `ASK`, `CLUSTERDOWN`, `READONLY`, `LOADING`, `OOM`, ...; a server decides all of these
//! before a script's first write). Everything else that is no answer is *lost*. The client library
//! repeats nothing on its own; what is repeated is repeated here (a refusal that passes) or by the
//! protocol (a lost answer).

mod cluster;
mod link;
#[cfg_attr(not(feature = "redis-pool"), path = "no_pool.rs")]
mod pool;
mod sentinel;

use std::{future::Future, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, RedisError, ServerErrorKind,
    Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::time::{Instant, sleep};

pub(super) use self::pool::Pool;
use self::{
    cluster::Cluster,
    link::{Link, Source},
    sentinel::Sentinel,
};
use super::scripts::Call;

/// The pause before a refusal that passes is tried again: short beside a failover.
const PAUSE: Duration = Duration::from_millis(25);

/// What became of a command.
pub(crate) enum Outcome {
    Value(Value),
    /// The connection broke or the time was up: the command may have been carried out.
    Lost(RedisError),
}

/// How long things may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) command: Duration,
}

/// How many replicas are to have an ending or a renewal, and how long that is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Replicas {
    pub(crate) count: u32,
    pub(crate) limit: Duration,
}

/// A command, the record that it is about, and what else is wanted.
#[derive(Clone, Copy)]
struct Job<'a> {
    at: &'a str,
    command: &'a Cmd,
    /// Sent to a node that takes a slot over, and has to be told that.
    asking: bool,
    replicas: Option<Replicas>,
}

#[derive(Clone)]
pub(crate) struct Connections {
    way: Way,
    /// Where endings and renewals go that wait for replicas: whoever waits blocks a connection.
    waiting: Option<(Way, Replicas)>,
    command: Duration,
}

#[derive(Clone)]
enum Way {
    Server(Link),
    Sentinel(Link),
    Cluster(Cluster),
    #[cfg_attr(
        not(feature = "redis-pool"),
        allow(dead_code, reason = "no pool is built in")
    )]
    Pool(Pool),
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

impl Connections {
    /// Makes no connection yet.
    ///
    /// # Errors
    /// An address is none that can be connected to.
    pub(crate) fn new(
        target: &Target,
        limits: Limits,
        replicas: Option<Replicas>,
    ) -> Result<Self, RedisError> {
        let waiting = match replicas {
            None => None,
            Some(replicas) => {
                let command = limits.command + replicas.limit;
                let limits = Limits { command, ..limits };
                Some((Way::to(target, limits)?, replicas))
            }
        };
        Ok(Self {
            way: Way::to(target, limits)?,
            waiting,
            command: limits.command,
        })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.way, Way::Cluster(_))
    }

    /// Runs a script.
    ///
    /// # Errors
    /// It was definitely not carried out.
    pub(crate) async fn script(&self, call: &Call<'_>) -> Result<Outcome, RedisError> {
        self.by_hash_or_whole(call, &self.way, None).await
    }

    /// Runs a script that ends something: waits for replicas if that was asked for.
    ///
    /// # Errors
    /// It was definitely not carried out.
    pub(crate) async fn ending(&self, call: &Call<'_>) -> Result<Outcome, RedisError> {
        match &self.waiting {
            None => self.script(call).await,
            Some((way, replicas)) => self.by_hash_or_whole(call, way, Some(*replicas)).await,
        }
    }

    /// Runs a command about a record once.
    ///
    /// # Errors
    /// It was definitely not carried out: there is no connection, or the server refused.
    pub(crate) async fn command(&self, at: &str, command: &Cmd) -> Result<Outcome, RedisError> {
        let job = Job::new(at, command);
        self.run(&self.way, job).await
    }

    /// Runs a command that may be repeated freely.
    ///
    /// # Errors
    /// It was refused, or its answer was lost.
    pub(crate) async fn repeatable(&self, at: &str, command: &Cmd) -> Result<Value, RedisError> {
        repeat(|| self.command(at, command)).await
    }

    /// As [`repeatable`](Self::repeatable), for a script.
    ///
    /// # Errors
    /// It was refused, or its answer was lost.
    pub(crate) async fn repeatable_script(&self, call: &Call<'_>) -> Result<Value, RedisError> {
        repeat(|| self.script(call)).await
    }

    async fn by_hash_or_whole(
        &self,
        call: &Call<'_>,
        way: &Way,
        replicas: Option<Replicas>,
    ) -> Result<Outcome, RedisError> {
        let command = call.by_hash();
        let job = Job::new(call.at(), &command).waiting_for(replicas);
        match self.run(way, job).await {
            Err(error) if is(&error, ServerErrorKind::NoScript) => {
                let command = call.whole();
                let job = Job::new(call.at(), &command).waiting_for(replicas);
                self.run(way, job).await
            }
            outcome => outcome,
        }
    }

    /// Does a job, and again while it is refused for a reason that passes: nothing happened.
    async fn run(&self, way: &Way, job: Job<'_>) -> Result<Outcome, RedisError> {
        let deadline = Instant::now() + self.command;
        let mut tries = 0;
        loop {
            let outcome = match way {
                Way::Server(link) | Way::Sentinel(link) => link.once(job).await,
                Way::Cluster(cluster) => cluster.run(job, deadline).await,
                Way::Pool(pool) => pool.once(job).await,
            };
            tries += 1;
            match &outcome {
                Err(error) if way.passes(error, tries) && Instant::now() < deadline => {
                    sleep(PAUSE).await;
                }
                _ => return outcome,
            }
        }
    }
}

impl Way {
    fn to(target: &Target, limits: Limits) -> Result<Self, RedisError> {
        let link = |source| Link::new(source, limits);
        Ok(match target {
            Target::Server(info) => Self::Server(link(Source::Server(Client::open(info.clone())?))),
            Target::Sentinel {
                nodes,
                master,
                data,
            } => {
                let sentinel = Sentinel::new(nodes, master.clone(), data.clone(), limits)?;
                Self::Sentinel(link(Source::Sentinel(sentinel)))
            }
            Target::Cluster(seeds) => Self::Cluster(Cluster::new(seeds, limits)?),
            Target::Pool(pool) => pool.way(limits),
        })
    }

    /// Whether the reason of a refusal passes, so that it is worth another try.
    fn passes(&self, error: &RedisError, tries: u32) -> bool {
        match (self, error.kind()) {
            // The cluster has tried already.
            (Self::Cluster(_), _) => false,
            (_, ErrorKind::Server(ServerErrorKind::BusyLoading)) => true,
            // Where a name leads to another server now, a new connection finds it.
            (Self::Server(_) | Self::Pool(_), ErrorKind::Server(ServerErrorKind::ReadOnly)) => {
                tries == 1
            }
            // Sentinel is about to name another master, or has.
            (
                Self::Sentinel(_),
                ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
                | ErrorKind::Io
                | ErrorKind::MasterNameNotFoundBySentinel,
            ) => true,
            _ => false,
        }
    }
}

impl Limits {
    fn config(self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect))
            .set_response_timeout(Some(self.command))
    }
}

impl<'a> Job<'a> {
    const fn new(at: &'a str, command: &'a Cmd) -> Self {
        Self {
            at,
            command,
            asking: false,
            replicas: None,
        }
    }

    const fn waiting_for(self, replicas: Option<Replicas>) -> Self {
        Self { replicas, ..self }
    }

    /// Does the job on a connection.
    async fn over(self, connection: &mut impl ConnectionLike) -> Result<Outcome, RedisError> {
        let answer = if self.asking {
            asked(connection, self.command).await
        } else {
            connection.req_packed_command(self.command).await
        };
        let outcome = judge(answer)?;
        if let (Some(replicas), Outcome::Value(value)) = (self.replicas, &outcome)
            && is_done(value)
            && let Err(error) = wait(connection, replicas).await
        {
            return Ok(Outcome::Lost(error));
        }
        Ok(outcome)
    }
}

/// Both in one go, so that nobody's command comes between.
async fn asked(connection: &mut impl ConnectionLike, command: &Cmd) -> Result<Value, RedisError> {
    let mut both = redis::Pipeline::with_capacity(2);
    both.add_command(redis::cmd("ASKING"));
    both.add_command(command.clone());
    let mut answers = connection.req_packed_commands(&both, 0, 2).await?;
    answers
        .pop()
        .ok_or_else(|| (ErrorKind::Io, "a pipeline was answered by nothing").into())
}

/// Tells an answer from a refusal and from silence.
fn judge(answer: Result<Value, RedisError>) -> Result<Outcome, RedisError> {
    match answer {
        Ok(Value::ServerError(error)) => Err(error.into()),
        Ok(value) => Ok(Outcome::Value(value)),
        Err(error) if is_refusal(&error) => Err(error),
        Err(error) => Ok(Outcome::Lost(error)),
    }
}

/// Whether the server has answered that it does not do it.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

fn is(error: &RedisError, kind: ServerErrorKind) -> bool {
    error.kind() == ErrorKind::Server(kind)
}

/// Whether a script has changed something.
fn is_done(value: &Value) -> bool {
    matches!(value, Value::Array(parts) if parts.first() == Some(&Value::Int(3)))
}

/// Waits until replicas have what this connection has written. Too few of them are told to nobody but the
/// log, since it is done in any case.
///
/// # Errors
/// The connection broke meanwhile: the next master may know nothing of it, so that it is to be repeated there.
async fn wait(connection: &mut impl ConnectionLike, wanted: Replicas) -> Result<(), RedisError> {
    let mut wait = redis::cmd("WAIT");
    wait.arg(wanted.count)
        .arg(wanted.limit.as_millis().max(1).to_string());
    match judge(connection.req_packed_command(&wait).await) {
        Ok(Outcome::Lost(error)) => return Err(error),
        Ok(Outcome::Value(Value::Int(have))) if have >= i64::from(wanted.count) => {}
        Ok(Outcome::Value(have)) => tracing::warn!(
            wanted = wanted.count,
            ?have,
            "a session was ended or renewed, and too few replicas have it: a failover could undo it"
        ),
        Err(error) => tracing::warn!(
            %error,
            "a session was ended or renewed, and the server does not tell which replicas have it"
        ),
    }
    Ok(())
}

/// Runs what may be repeated freely.
///
/// A connection that broke since its last use is found out by using it, so the first repeat
/// is at once and on a new one. A command that took too long is not repeated: its time is up.
async fn repeat<F>(mut once: impl FnMut() -> F) -> Result<Value, RedisError>
where
    F: Future<Output = Result<Outcome, RedisError>>,
{
    match once().await? {
        Outcome::Value(value) => Ok(value),
        Outcome::Lost(error) if error.is_timeout() => Err(error),
        Outcome::Lost(_) => match once().await? {
            Outcome::Value(value) => Ok(value),
            Outcome::Lost(error) => Err(error),
        },
    }
}

/// A question that decides nothing, on a connection of its own.
async fn question(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<Value, RedisError> {
    match judge(connection.req_packed_command(command).await)? {
        Outcome::Value(value) => Ok(value),
        Outcome::Lost(error) => Err(error),
    }
}
