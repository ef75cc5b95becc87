//! Connections of a pool that the application made.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool::managed::Manager as _;
use deadpool_redis::{Connection, PoolError, TimeoutType, Timeouts};
use redis::{ErrorKind, RedisError, aio::MultiplexedConnection};
use tokio::{runtime::Handle, time::timeout};

use super::conn;
use crate::{measure, sync::lock, to_the_end::ToTheEnd};

/// Connections that led to a replica are left together at most so often.
const LEAVE_AGAIN: Duration = Duration::from_secs(1);

/// How long the pool may look at a connection for nobody.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Pool {
    pool: deadpool_redis::Pool,
    left: Arc<Left>,
}

/// When all connections were left, since they led to a replica.
#[derive(Default)]
struct Left {
    /// Counts how often. Those that are in use then are closed when they come back.
    era: AtomicU64,
    last: Mutex<Option<Instant>>,
}

/// A connection that the pool has lent. It goes back when dropped.
pub(super) type Lent = Connection;

impl Pool {
    pub(super) fn new(pool: deadpool_redis::Pool) -> Self {
        Self {
            pool,
            left: Arc::default(),
        }
    }

    /// Lends a connection. The pool looks at it first, and closes it if it is told to stop meanwhile: so this
    /// goes on for a while if nobody waits for it any more.
    pub(super) async fn lend(&self, limit: Duration) -> Result<Lent, RedisError> {
        let message = "the pool gave no connection";
        if self.era() > 0 {
            self.close_left();
        }
        let pool = self.pool.clone();
        // Whoever has given up waits no longer in line than whoever has not.
        let waiting = pool.timeouts();
        let waiting = Timeouts {
            wait: Some(waiting.wait.map_or(limit, |own| own.min(limit))),
            ..waiting
        };
        let getting = async move {
            match pool.timeout_get(&waiting).await {
                Err(PoolError::NoRuntimeSpecified) => pool.get().await,
                got => got,
            }
        };
        let getting = ToTheEnd::new(getting, |getting| {
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(timeout(LOOK, getting));
            }
        });
        match measure::waited("redis", timeout(limit, getting)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error))) => Err(conn::of_connecting(error)),
            Ok(Err(PoolError::Timeout(TimeoutType::Wait))) | Err(_) => Err(all_in_use()),
            Ok(Err(error)) => Err((ErrorKind::Io, message, error.to_string()).into()),
        }
    }

    /// Opens a connection beside those that the pool has.
    pub(super) async fn open(&self) -> Result<MultiplexedConnection, RedisError> {
        self.pool.manager().create().await
    }

    pub(super) fn era(&self) -> u64 {
        self.left.era.load(Ordering::Acquire)
    }

    /// Leaves all connections of an era: they lead to the wrong server. Others may have done so already.
    pub(super) fn leave(&self, since: u64) {
        let mut last = lock(&self.left.last);
        let is_known = last.is_some_and(|last| last.elapsed() < LEAVE_AGAIN);
        if is_known || self.era() != since {
            return;
        }
        *last = Some(Instant::now());
        self.left.era.fetch_add(1, Ordering::AcqRel);
        drop(last);
        self.close_left();
    }

    /// Closes what nobody uses and was opened before: what the application had lent then comes back later.
    fn close_left(&self) {
        let last = *lock(&self.left.last);
        if let Some(last) = last {
            drop(self.pool.retain(|_, metrics| metrics.created > last));
        }
    }
}

fn all_in_use() -> RedisError {
    let message = "the pool gave no connection in time";
    conn::without_room(message, "all of them are in use".to_owned())
}

/// Closes a connection instead of giving it back.
pub(super) fn discard(connection: Lent) {
    drop(Connection::take(connection));
}
