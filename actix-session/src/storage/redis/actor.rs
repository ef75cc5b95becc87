//! The store of 0.9: built without waiting, with one connection for each worker, behind an actor.

use std::fmt;

use actix::{Actor, Addr, Context, Handler, Message, ResponseFuture, Supervised, Supervisor};
use anyhow::bail;

use super::{RedisSessionStoreBuilder, backend::Executor, index::Indexing, naming};
use crate::{
    clock::{Clock, Millis, SharedClock},
    contract::Terms,
    error::CommitError,
    key::SessionKey,
    protocol::{Backend, Drawn, Name, Reply, Step, Stored},
    storage::backend::shared_store,
};

/// Why a task was not done, or has no answer.
const GONE: &str = "the actor that holds the connections to Redis is gone";

/// Keeps sessions in Redis, with the interface that this store had in 0.9: build it inside the
/// closure of `HttpServer::new`, once for each worker and without waiting.
///
/// Requests are served as by [`RedisSessionStore`](crate::storage::RedisSessionStore), over the same
/// kind of connections, which a supervised actor holds. Prefer `RedisSessionStore` in new code: it
/// reports at the start if Redis does not answer, and has settings that are missing here (time limits,
/// a prefix, hashed keys, replicas to wait for).
///
/// It has no [`SessionIndex`](crate::storage::SessionIndex) of its own, since it stays on one thread: no
/// manager and no `max_sessions`. What it writes is in the index all the same: a `RedisSessionStore` on
/// the same server, with the same names, lists and ends it. For the same reason it is no list for
/// `CookieSessionStore::with_revocation`, and [`Session::ended`](crate::Session::ended) finds an end by
/// looking, within [`ended_lease`](crate::config::SessionMiddlewareBuilder::ended_lease).
///
/// # Panics
/// Building one outside an Actix system panics: the actor runs in that system.
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
    /// Starts from the default settings, for the server at `host:port` (or any address that
    /// [`RedisSessionStore`](crate::storage::RedisSessionStore) takes).
    pub fn builder<S: Into<String>>(connection_string: S) -> RedisActorSessionStoreBuilder {
        RedisActorSessionStoreBuilder {
            connection_string: connection_string.into(),
            keygen: Box::new(str::to_owned),
            clock: SharedClock::default(),
        }
    }

    /// Makes a store on the server at `host:port`, which need not be up yet.
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
        self.keygen = Box::new(move |key| keygen(&naming::whole(key)));
        self
    }

    #[cfg(test)]
    pub(super) fn keygen(&self) -> &dyn Fn(&str) -> String {
        &*self.keygen
    }

    /// Sets the clock for absolute timeouts. Give the middleware the same one.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Starts the actor, which connects when the first request needs it.
    ///
    /// If the address is invalid, this logs an error, and every request fails with it.
    #[must_use]
    pub fn build(self) -> RedisActorSessionStore {
        let url = if self.connection_string.contains("://") {
            self.connection_string
        } else {
            format!("redis://{}", self.connection_string)
        };
        let executor = connect(url, &*self.keygen).map_err(|error| {
            let error = format!("{error:#}");
            tracing::error!(
                error,
                "this session store has an invalid address: every request will fail"
            );
            error
        });
        RedisActorSessionStore {
            has_slots: executor.as_ref().is_ok_and(Executor::has_slots),
            actor: Supervisor::start(|_| RedisActor { executor }),
            keygen: self.keygen,
            clock: self.clock,
        }
    }
}

fn connect(url: String, keygen: &dyn Fn(&str) -> String) -> anyhow::Result<Executor> {
    let store = RedisSessionStoreBuilder::to_url(url).unconnected()?;
    if store.executor.has_slots() {
        naming::check_for_cluster(keygen)?;
    }
    Ok(store.executor.naming(keygen))
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

/// Holds the connections. If it stops, the supervisor starts it again. There is nothing to restore
/// then, since connections are made when needed.
struct RedisActor {
    /// The connections, or why there are none.
    executor: Result<Executor, String>,
}

/// A task, with the terms that hold for it.
struct Do(Task, Terms);

enum Task {
    Run(Step, Box<Indexing>),
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
        let executor = self.executor.clone();
        Box::pin(async move {
            let executor = executor.map_err(anyhow::Error::msg)?;
            match task {
                Task::Run(step, indexing) => executor.run(&step, &indexing, &terms).await,
                Task::Look(at) => Ok(Reply::Found(executor.look(&at, &terms).await?)),
                Task::SetTtl(at, ttl) => {
                    executor.set_ttl(&at, ttl, &terms).await?;
                    Ok(Reply::Done)
                }
            }
        })
    }
}

impl RedisActorSessionStore {
    /// # Errors
    /// The task was refused.
    async fn ask(&self, task: Task, terms: &Terms) -> anyhow::Result<Reply> {
        match self.actor.send(Do(task, terms.clone())).await {
            Ok(answer) => answer,
            // The actor stopped during the task, or before it.
            Err(error) => {
                tracing::debug!(%error, "{GONE}");
                Ok(Reply::Lost)
            }
        }
    }

    async fn found(&self, task: Task, terms: &Terms) -> anyhow::Result<Stored> {
        match self.ask(task, terms).await? {
            Reply::Found(stored) => Ok(stored),
            _ => bail!(GONE),
        }
    }
}

impl Backend for RedisActorSessionStore {
    const REMOTE: bool = true;
    const FORGETS_OWNERS: bool = true;

    async fn run(&self, step: &Step, terms: &Terms) -> Result<Reply, anyhow::Error> {
        let indexing = Box::new(Indexing::of(step, &*self.keygen));
        self.ask(Task::Run(step.clone(), indexing), terms).await
    }

    async fn look(&self, at: &str, terms: &Terms) -> Result<Stored, anyhow::Error> {
        self.found(Task::Look(at.into()), terms).await
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
        let task = Task::SetTtl(at.into(), ttl);
        match self.ask(task, &self.own_terms()).await? {
            Reply::Done => Ok(()),
            _ => bail!(GONE),
        }
    }

    fn name(&self, key: &SessionKey) -> Name {
        (self.keygen)(key.as_ref()).into()
    }

    fn draw_key(&self, beside: Option<&str>, owner: Option<&str>) -> Result<Drawn, CommitError> {
        naming::draw_key(&*self.keygen, self.has_slots, beside, owner)
    }

    fn clock(&self) -> &SharedClock {
        &self.clock
    }
}

shared_store!(local RedisActorSessionStore);
