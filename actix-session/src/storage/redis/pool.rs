//! Connections of a pool that the application made.

use std::time::Duration;

use deadpool_redis::{Connection, PoolError, TimeoutType};
use redis::{ErrorKind, RedisError};
use tokio::time::timeout;

use super::conn;
use crate::measure;

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
        match measure::waited("redis", timeout(limit, self.0.get())).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error))) => Err(conn::of_connecting(error)),
            Ok(Err(PoolError::Timeout(TimeoutType::Wait))) | Err(_) => Err(all_in_use()),
            Ok(Err(error)) => Err((ErrorKind::Io, message, error.to_string()).into()),
        }
    }

    /// Closes the connections that nobody uses: they lead to the wrong server.
    pub(super) fn close_idle(&self) {
        drop(self.0.retain(|_, _| false));
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
