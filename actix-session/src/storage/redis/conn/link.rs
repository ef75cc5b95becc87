//! Connections to one server: one for each runtime, made when needed, replaced when broken.
//!
//! A connection's driver is a task of the runtime that made it. Sharing one between workers would
//! let it die with one of them, and would wake two threads for each command.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio::{
    runtime::{Handle, Id},
    sync::Mutex as AsyncMutex,
    task::AbortHandle,
};

use super::{Job, Limits, Outcome, sentinel::Sentinel};
use crate::sync::lock;

#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

/// Where a connection leads.
pub(super) enum Source {
    Server(Client),
    /// Whichever server is the master at the moment of connecting.
    Sentinel(Sentinel),
}

struct Inner {
    source: Source,
    config: AsyncConnectionConfig,
    runtimes: Mutex<HashMap<Id, Arc<Place>>>,
}

/// A runtime's connection. Whoever finds none makes it, while others wait.
struct Place {
    connection: AsyncMutex<Option<Numbered>>,
    /// How many attempts to connect have failed.
    failures: AtomicU64,
    /// Ends with the runtime, and then forgets the place.
    watcher: Mutex<Option<AbortHandle>>,
}

#[derive(Clone)]
struct Numbered {
    number: u64,
    connection: MultiplexedConnection,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(watcher) = lock(&self.watcher).take() {
            watcher.abort();
        }
    }
}

impl Link {
    pub(super) fn new(source: Source, limits: Limits) -> Self {
        Self(Arc::new(Inner {
            source,
            config: limits.config(),
            runtimes: Mutex::default(),
        }))
    }

    /// Does a job once.
    ///
    /// # Errors
    /// It was definitely not done: there is no connection, or the server refused.
    pub(super) async fn once(&self, job: Job<'_>) -> Result<Outcome, RedisError> {
        let place = self.place();
        let mut held = self.connection(&place).await?;
        let outcome = job.over(&mut held.connection).await;
        if is_over(&outcome) {
            forget(&place, held.number).await;
        }
        outcome
    }

    fn place(&self) -> Arc<Place> {
        let id = Handle::current().id();
        if let Some(place) = self.places().get(&id) {
            return Arc::clone(place);
        }
        // Made outside of the lock: on a runtime that is shutting down the watcher is dropped at
        // once, and takes the lock itself.
        let made = Arc::new(Place {
            connection: AsyncMutex::new(None),
            failures: AtomicU64::new(0),
            watcher: Mutex::new(Some(self.forget_with_runtime(id))),
        });
        Arc::clone(self.places().entry(id).or_insert(made))
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Id, Arc<Place>>> {
        lock(&self.0.runtimes)
    }

    /// A task that is dropped with the runtime, and then drops the runtime's connection.
    fn forget_with_runtime(&self, id: Id) -> AbortHandle {
        struct Forget(std::sync::Weak<Inner>, Id);

        impl Drop for Forget {
            fn drop(&mut self) {
                if let Some(inner) = self.0.upgrade() {
                    let place = Link(inner).places().remove(&self.1);
                    drop(place);
                }
            }
        }

        let forget = Forget(Arc::downgrade(&self.0), id);
        let watch = async move {
            let _forget = forget;
            std::future::pending::<()>().await;
        };
        tokio::spawn(watch).abort_handle()
    }

    async fn connection(&self, place: &Place) -> Result<Numbered, RedisError> {
        let failures = place.failures.load(Ordering::Relaxed);
        let mut held = place.connection.lock().await;
        if let Some(held) = &*held {
            return Ok(held.clone());
        }
        if place.failures.load(Ordering::Relaxed) != failures {
            // Who has waited for an attempt that failed does not wait for one more.
            return Err((ErrorKind::Io, "connecting to Redis failed a moment ago").into());
        }
        let connecting = self.0.source.connect(&self.0.config);
        let connection = connecting.await.inspect_err(|_| {
            place.failures.fetch_add(1, Ordering::Relaxed);
        })?;
        let made = Numbered {
            number: next_number(),
            connection,
        };
        *held = Some(made.clone());
        Ok(made)
    }
}

impl Source {
    async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        match self {
            Self::Server(client) => {
                client
                    .get_multiplexed_async_connection_with_config(config)
                    .await
            }
            Self::Sentinel(sentinel) => sentinel.connect(config).await,
        }
    }
}

/// Whether the connection is of no use any more: it broke, or leads to a server that was a master
/// once.
pub(super) fn is_over(outcome: &Result<Outcome, RedisError>) -> bool {
    match outcome {
        Ok(Outcome::Value(_)) => false,
        Ok(Outcome::Lost(_)) => true,
        Err(error) => error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly),
    }
}

fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Drops a broken connection, unless somebody has replaced it already.
async fn forget(place: &Place, number: u64) {
    let mut held = place.connection.lock().await;
    if held.as_ref().is_some_and(|held| held.number == number) {
        *held = None;
    }
}
