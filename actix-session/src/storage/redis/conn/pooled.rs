//! One job on a connection that a pool lends.

use std::pin::pin;

use redis::{RedisError, aio::MultiplexedConnection};

use super::{
    super::pool::{self, Lent, Pool},
    Job, Outcome, Timeouts, is_spent,
};

#[derive(Clone)]
pub(super) struct Pooled {
    pub(super) pool: Pool,
    pub(super) timeouts: Timeouts,
}

impl Pooled {
    /// Does a job once, on a connection that nobody else uses meanwhile. If the answer is late, the
    /// pool may lend another in its place.
    ///
    /// # Errors
    /// The job was refused, or the pool gave no connection.
    pub(super) async fn once(&self, job: &Job<'_>) -> Result<Outcome, RedisError> {
        let lent = self.pool.lend(self.timeouts.connect).await?;
        let mut connection = MultiplexedConnection::clone(&lent);
        let doing = pin!(job.over(&mut connection));
        let mut lent = Unfinished(Some(lent));
        let late = || {
            lent.discard();
            job.is_late();
        };
        let outcome = self.timeouts.bound(doing, late).await;
        if !is_spent(&outcome) {
            drop(lent.0.take());
        }
        outcome
    }
}

/// A connection that does not go back to its pool unless it is taken out: the server may block it.
struct Unfinished(Option<Lent>);

impl Unfinished {
    fn discard(&mut self) {
        if let Some(lent) = self.0.take() {
            pool::discard(lent);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.discard();
    }
}
