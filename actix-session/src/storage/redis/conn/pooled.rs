//! One job on a connection that a pool lends.

use std::io;

use redis::RedisError;
use tokio::time::timeout;

use super::{
    super::pool::{self, Pool},
    Job, Outcome, Timeouts, is_spent,
};

#[derive(Clone)]
pub(super) struct Pooled {
    pub(super) pool: Pool,
    pub(super) timeouts: Timeouts,
}

impl Pooled {
    /// Does a job once, on a connection that nobody else uses meanwhile.
    ///
    /// # Errors
    /// The job was refused, or the pool gave no connection.
    pub(super) async fn once(&self, job: Job<'_>) -> Result<Outcome, RedisError> {
        let mut connection = self.pool.lend(self.timeouts.connect).await?;
        let done = timeout(self.timeouts.command, job.over(&mut connection)).await;
        let outcome = done.unwrap_or_else(|_| {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            Ok(Outcome::Lost(late.into()))
        });
        if is_spent(&outcome) {
            pool::discard(connection);
        }
        outcome
    }
}
