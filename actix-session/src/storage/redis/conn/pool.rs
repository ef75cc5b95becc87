//! A pool that the application has made.

use std::{io, time::Duration};

use deadpool_redis::{Connection, PoolError};
use redis::{ErrorKind, RedisError};
use tokio::time::timeout;

use super::{Job, Limits, Outcome, Way};

#[derive(Clone)]
pub(crate) struct Pool {
    pool: deadpool_redis::Pool,
    limits: Limits,
}

impl Pool {
    pub(crate) const fn new(pool: deadpool_redis::Pool) -> Self {
        let limits = Limits {
            connect: Duration::ZERO,
            command: Duration::ZERO,
        };
        Self { pool, limits }
    }

    pub(super) fn way(&self, limits: Limits) -> Way {
        let pool = self.pool.clone();
        Way::Pool(Self { pool, limits })
    }

    /// Does a job once, on a connection that nobody else has meanwhile.
    ///
    /// # Errors
    /// It was definitely not done: the pool gave no connection, or the server refused.
    pub(super) async fn once(&self, job: Job<'_>) -> Result<Outcome, RedisError> {
        let mut connection = self.connection().await?;
        let done = timeout(self.limits.command, job.over(&mut connection)).await;
        let outcome = done.unwrap_or_else(|_| {
            Ok(Outcome::Lost(
                io::Error::from(io::ErrorKind::TimedOut).into(),
            ))
        });
        if super::link::is_over(&outcome) {
            // Not to be given to anybody else.
            drop(Connection::take(connection));
        }
        outcome
    }

    async fn connection(&self) -> Result<Connection, RedisError> {
        match timeout(self.limits.connect, self.pool.get()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(error)) => Err((
                ErrorKind::Io,
                "the pool gave no connection",
                error.to_string(),
            )
                .into()),
            Err(_) => Err((ErrorKind::Io, "the pool gave no connection in time").into()),
        }
    }
}
