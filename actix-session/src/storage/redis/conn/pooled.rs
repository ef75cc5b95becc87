//! One job on a connection that a pool lends.

use std::{pin::pin, time::Duration};

use redis::{
    RedisError,
    aio::{ConnectionLike as _, MultiplexedConnection},
};
use tokio::{runtime::Handle, time::timeout};

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
        let mut lent = Unfinished {
            lent: Some(lent),
            patience: self.timeouts.patience(),
        };
        let late = || {
            lent.discard();
            job.is_late();
        };
        let outcome = self.timeouts.bound(doing, late).await;
        if is_spent(&outcome) {
            lent.discard();
        }
        drop(lent.lent.take());
        outcome
    }
}

/// A connection on which a job is under way. If whoever waits for it gives up, the connection goes back
/// to its pool once the server has done the job: it would be opened again otherwise.
struct Unfinished {
    lent: Option<Lent>,
    patience: Duration,
}

impl Unfinished {
    fn discard(&mut self) {
        if let Some(lent) = self.lent.take() {
            pool::discard(lent);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(lent) = self.lent.take() else {
            return;
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(give_back(lent, self.patience))),
            Err(_) => pool::discard(lent),
        }
    }
}

/// Gives a connection back to its pool once the server has done what it was asked before. If that
/// takes long, the server may block the connection, which is closed.
async fn give_back(lent: Lent, patience: Duration) {
    let mut connection = MultiplexedConnection::clone(&lent);
    let ping = redis::cmd("PING");
    match timeout(patience, connection.req_packed_command(&ping)).await {
        Ok(Ok(_)) => drop(lent),
        Ok(Err(_)) | Err(_) => pool::discard(lent),
    }
}
