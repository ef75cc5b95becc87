//! Connections: one for each runtime, made when needed, replaced when broken.
//!
//! A connection's driver is a task of the runtime that made it. Sharing one between workers would
//! let it die with one of them, and would wake two threads for each command.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
};
use tokio::{
    runtime::{Handle, Id},
    sync::Mutex as AsyncMutex,
    task::AbortHandle,
};

use super::scripts::Call;

/// What became of a command.
pub(crate) enum Outcome {
    Value(Value),
    /// The connection broke or the time was up: the command may have been carried out.
    Lost(RedisError),
}

#[derive(Clone)]
pub(crate) struct Connections(Arc<Inner>);

struct Inner {
    client: Client,
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
        let watcher = self
            .watcher
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = watcher.take() {
            watcher.abort();
        }
    }
}

impl Connections {
    pub(crate) fn new(client: Client, connect: Duration, command: Duration) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect))
            .set_response_timeout(Some(command));
        Self(Arc::new(Inner {
            client,
            config,
            runtimes: Mutex::default(),
        }))
    }

    /// Runs a script.
    ///
    /// # Errors
    /// It was definitely not carried out.
    pub(crate) async fn script(&self, call: &Call<'_>) -> Result<Outcome, RedisError> {
        match self.command(&call.by_hash()).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command(&call.whole()).await
            }
            outcome => outcome,
        }
    }

    /// Runs a command once.
    ///
    /// # Errors
    /// It was definitely not carried out: there is no connection, or the server refused.
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Outcome, RedisError> {
        let place = self.place();
        let mut held = self.connection(&place).await?;
        match held.connection.req_packed_command(command).await {
            Ok(Value::ServerError(error)) => Err(error.into()),
            Ok(value) => Ok(Outcome::Value(value)),
            Err(error) if is_refusal(&error) => Err(error),
            Err(error) => {
                forget(&place, held.number).await;
                Ok(Outcome::Lost(error))
            }
        }
    }

    /// Runs a command that may be repeated freely.
    ///
    /// A connection that broke since its last use is found out by using it, so the first repeat
    /// is at once and on a new one. A command that took too long is not repeated: its time is up.
    pub(crate) async fn repeatable(&self, command: &Cmd) -> Result<Value, RedisError> {
        match self.command(command).await? {
            Outcome::Value(value) => Ok(value),
            Outcome::Lost(error) if error.is_timeout() => Err(error),
            Outcome::Lost(_) => match self.command(command).await? {
                Outcome::Value(value) => Ok(value),
                Outcome::Lost(error) => Err(error),
            },
        }
    }

    /// As [`repeatable`](Self::repeatable), for a script.
    pub(crate) async fn repeatable_script(&self, call: &Call<'_>) -> Result<Value, RedisError> {
        match self.script(call).await? {
            Outcome::Value(value) => Ok(value),
            Outcome::Lost(error) if error.is_timeout() => Err(error),
            Outcome::Lost(_) => match self.script(call).await? {
                Outcome::Value(value) => Ok(value),
                Outcome::Lost(error) => Err(error),
            },
        }
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
        let places = self.0.runtimes.lock();
        places.unwrap_or_else(PoisonError::into_inner)
    }

    /// A task that is dropped with the runtime, and then drops the runtime's connection.
    fn forget_with_runtime(&self, id: Id) -> AbortHandle {
        struct Forget(std::sync::Weak<Inner>, Id);

        impl Drop for Forget {
            fn drop(&mut self) {
                if let Some(inner) = self.0.upgrade() {
                    let place = Connections(inner).places().remove(&self.1);
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
        let client = &self.0.client;
        let connecting = client.get_multiplexed_async_connection_with_config(&self.0.config);
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

/// Whether the server has answered that it does not do it.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}
