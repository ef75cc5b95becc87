//! Connections of a pool that the application made.

use std::time::Duration;

use deadpool_redis::{Connection, PoolError, TimeoutType};
use redis::{ErrorKind, RedisError};
use tokio::time::timeout;

#[derive(Clone)]
pub(crate) struct Pool(deadpool_redis::Pool);

/// A connection that the pool has lent. It goes back when dropped.
pub(super) type Lent = Connection;

impl Pool {
    pub(super) const fn new(pool: deadpool_redis::Pool) -> Self {
        Self(pool)
    }

    pub(super) async fn lend(&self, limit: Duration) -> Result<Lent, RedisError> {
        let message = "the pool gave no connection";
        match timeout(limit, self.0.get()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Timeout(TimeoutType::Wait))) | Err(_) => Err(all_in_use()),
            Ok(Err(error)) => Err((ErrorKind::Io, message, error.to_string()).into()),
        }
    }
}

fn all_in_use() -> RedisError {
    let message = "all connections of the pool are in use";
    (ErrorKind::Client, message).into()
}

/// Whether a pool gave no connection since all of them were in use.
pub(super) fn is_all_in_use(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Client
}

/// Closes a connection instead of giving it back.
pub(super) fn discard(connection: Lent) {
    drop(Connection::take(connection));
}
