//! The store that 0.9 had: built without waiting, with one connection for each worker, behind an actor.

use std::fmt;

use actix::{Actor, Addr, Context, Handler, Message, ResponseFuture, Supervised, Supervisor};
use anyhow::Context as _;

use super::{RedisSessionStoreBuilder, naming, steps::Steps};
use crate::{
    clock::{Clock, Millis, SharedClock},
    contract::Terms,
    error::CommitError,
    key::SessionKey,
    protocol::{Backend, Name, Op, Reply, Slot},
    storage::shared::shared_store,
};

/// Keeps sessions in Redis, with the interface that this store had in 0.9: it is built without waiting, and
/// where the application is built, once for each worker.
///
/// It does all that [`RedisSessionStore`](crate::storage::RedisSessionStore) does, over the same connections, which a supervised actor holds
/// here; prefer the other one in new code, which tells at the start whether Redis is there.
///
/// # Panics
/// Building one panics outside of an Actix system: the actor runs in it.
///
/// # Examples
/// ```no_run
/// use actix_session::{SessionMiddleware, storage::RedisActorSessionStore};
/// use actix_web::{App, HttpResponse, HttpServer, cookie::Key, web};
///
/// # async fn run() -> std::io::Result<()> {
/// let secret_key = Key::generate();
/// let redis_connection_string = "127.0.0.1:6379";
/// HttpServer::new(move || {
///     App::new()
///         .wrap(SessionMiddleware::new(
///             RedisActorSessionStore::new(redis_connection_string),
///             secret_key.clone(),
///         ))
///         .default_service(web::to(|| async { HttpResponse::Ok() }))
/// })
/// .bind(("127.0.0.1", 8080))?
/// .run()
/// .await
/// # }
/// ```
pub struct RedisActorSessionStore {
    actor: Addr<RedisActor>,
    has_slots: bool,
    keygen: Box<dyn Fn(&str) -> String>,
    clock: SharedClock,
}

/// Settings of a [`RedisActorSessionStore`].
#[must_use]
pub struct RedisActorSessionStoreBuilder {
    connection_string: String,
    keygen: Box<dyn Fn(&str) -> String>,
    clock: SharedClock,
}

impl RedisActorSessionStore {
    /// Settings other than the default ones, for the server at `host:port` (or any address that
    /// [`RedisSessionStore`](crate::storage::RedisSessionStore) takes).
    pub fn builder<S: Into<String>>(connection_string: S) -> RedisActorSessionStoreBuilder {
        RedisActorSessionStoreBuilder {
            connection_string: connection_string.into(),
            keygen: Box::new(str::to_owned),
            clock: SharedClock::default(),
        }
    }

    /// A store on the server at `host:port`, which need not be up yet.
    pub fn new<S: Into<String>>(connection_string: S) -> Self {
        Self::builder(connection_string).build()
    }
}

impl RedisActorSessionStoreBuilder {
    /// Sets how a session key becomes the name of its record.
    ///
    /// Different keys must get different names.
    pub fn cache_keygen<F>(mut self, keygen: F) -> Self
    where
        F: Fn(&str) -> String + 'static,
    {
        self.keygen = Box::new(keygen);
        self
    }

    /// Sets the clock for absolute ends; the middleware should have the same.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Starts the actor, which connects when the first request needs it.
    ///
    /// An address that is none is logged here, and is the error of every request.
    #[must_use]
    pub fn build(self) -> RedisActorSessionStore {
        let url = if self.connection_string.contains("://") {
            self.connection_string
        } else {
            format!("redis://{}", self.connection_string)
        };
        let steps = connect(url, &*self.keygen).map_err(|error| {
            let error = format!("{error:#}");
            tracing::error!(error, "this session store cannot work");
            error
        });
        RedisActorSessionStore {
            has_slots: steps.as_ref().is_ok_and(Steps::has_slots),
            actor: Supervisor::start(|_| RedisActor { steps }),
            keygen: self.keygen,
            clock: self.clock,
        }
    }
}

fn connect(url: String, keygen: &dyn Fn(&str) -> String) -> anyhow::Result<Steps> {
    let steps = RedisSessionStoreBuilder::to_url(url).unconnected()?.steps;
    if steps.has_slots() {
        naming::check_for_cluster(keygen)?;
    }
    Ok(steps)
}

/// Shows nothing of the address, which may hold a password.
impl fmt::Debug for RedisActorSessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisActorSessionStore")
            .finish_non_exhaustive()
    }
}

/// Shows nothing of the address, which may hold a password.
impl fmt::Debug for RedisActorSessionStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisActorSessionStoreBuilder")
            .finish_non_exhaustive()
    }
}

/// Holds the connections. The supervisor starts it again if it stops; there is nothing to restore then, since
/// connections are made when needed.
struct RedisActor {
    /// Or why there is none.
    steps: Result<Steps, String>,
}

/// A step, with what it is done under.
struct Do(Task, Terms);

enum Task {
    Run(Op),
    Look(Name),
    SetTtl(Name, Millis),
}

impl Message for Do {
    type Result = anyhow::Result<Reply>;
}

impl Actor for RedisActor {
    type Context = Context<Self>;
}

impl Supervised for RedisActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        tracing::warn!("the actor that holds the connections to Redis was started again");
    }
}

impl Handler<Do> for RedisActor {
    type Result = ResponseFuture<anyhow::Result<Reply>>;

    fn handle(&mut self, Do(task, terms): Do, _: &mut Self::Context) -> Self::Result {
        let steps = self.steps.clone();
        Box::pin(async move {
            let steps = steps.map_err(anyhow::Error::msg)?;
            match task {
                Task::Run(op) => steps.run(&op, &terms).await,
                Task::Look(at) => Ok(Reply::Found(steps.look(&at, &terms).await?)),
                Task::SetTtl(at, ttl) => {
                    steps.set_ttl(&at, ttl, &terms).await?;
                    Ok(Reply::Done)
                }
            }
        })
    }
}

impl RedisActorSessionStore {
    /// # Errors
    /// The task was definitely not done.
    async fn ask(&self, task: Task, terms: &Terms) -> anyhow::Result<Reply> {
        match self.actor.send(Do(task, terms.clone())).await {
            Ok(answer) => answer,
            // The actor was stopped with the task in its hands, or before that.
            Err(error) => {
                tracing::debug!(%error, "the actor that holds the connections to Redis is gone");
                Ok(Reply::Lost)
            }
        }
    }

    async fn found(&self, task: Task, terms: &Terms) -> anyhow::Result<Slot> {
        match self.ask(task, terms).await? {
            Reply::Found(slot) => Ok(slot),
            _ => anyhow::bail!("the actor that holds the connections to Redis is gone"),
        }
    }
}

impl Backend for RedisActorSessionStore {
    const REMOTE: bool = true;

    async fn run(&self, op: &Op, terms: &Terms) -> Result<Reply, anyhow::Error> {
        self.ask(Task::Run(op.clone()), terms).await
    }

    async fn look(&self, at: &str, terms: &Terms) -> Result<Slot, anyhow::Error> {
        self.found(Task::Look(at.to_owned()), terms).await
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
        let task = Task::SetTtl(at.to_owned(), ttl);
        match self.ask(task, &self.own_terms()).await? {
            Reply::Done => Ok(()),
            _ => Err(anyhow::Error::msg("its connections are gone")).context("no answer of Redis"),
        }
    }

    fn name(&self, key: &SessionKey) -> Name {
        (self.keygen)(key.as_ref())
    }

    fn draw_key(&self, beside: Option<&str>) -> Result<(SessionKey, Name), CommitError> {
        let beside = beside.filter(|_| self.has_slots);
        naming::draw_key(&*self.keygen, beside)
    }

    fn own_terms(&self) -> Terms {
        Terms {
            now: self.clock.now(),
            ..Terms::default()
        }
    }
}

shared_store!(local RedisActorSessionStore);
