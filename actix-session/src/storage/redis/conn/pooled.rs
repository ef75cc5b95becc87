//! One job on a connection that a pool lends.

use std::{pin::pin, sync::Arc, time::Duration};

use redis::{
    RedisError,
    aio::{ConnectionLike as _, MultiplexedConnection},
};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{
    super::pool::{self, Pool},
    Job, Outcome, Timeouts, is_spent, refusal,
    role::{self, Asking},
};

#[derive(Clone)]
pub(super) struct Pooled {
    pool: Pool,
    timeouts: Timeouts,
    asking: Arc<Asking>,
}

impl Pooled {
    pub(super) fn new(pool: Pool, timeouts: Timeouts) -> Self {
        Self {
            pool,
            timeouts,
            asking: Asking::later(),
        }
    }

    /// Does a job once, on a connection that nobody else uses meanwhile. A read asks now and then whether
    /// the server is a replica by now.
    ///
    /// # Errors
    /// The job was refused, or the pool gave no connection.
    pub(super) async fn once(&self, job: &Job<'_>, until: Instant) -> Result<Outcome, RedisError> {
        let lent = self.lend(job).await?;
        let since = lent.since;
        let outcome = if job.looks && self.asking.is_due() {
            // What is rare is on the heap.
            Box::pin(self.once_asking(lent, job)).await
        } else {
            self.over(lent, job).await
        };
        if outcome.as_ref().is_err_and(refusal::is_not_here) {
            Box::pin(self.leave_for_master(since, until)).await;
        }
        outcome
    }

    async fn lend(&self, job: &Job<'_>) -> Result<Lent, RedisError> {
        // Whoever waits for a connection may get an older one than is known then.
        let since = self.pool.era();
        let connection = self.pool.lend(job.may_wait(self.timeouts.connect)).await?;
        Ok(Lent {
            connection,
            pool: self.pool.clone(),
            since,
        })
    }

    /// Does it, and again if the server is a replica and a new connection leads to a master.
    async fn once_asking(&self, lent: Lent, job: &Job<'_>) -> Result<Outcome, RedisError> {
        let (connection, since) = (lent.handle(), lent.since);
        let doing = self.over(lent, job);
        let asking = self.asking.along(connection, self.timeouts, doing);
        let (is_replica, outcome) = asking.await;
        if !is_replica {
            return outcome;
        }
        let until = Instant::now() + role::SOON;
        match self.leave_for_master(since, until).await {
            Some(true) => {}
            Some(false) => {
                self.asking.do_without();
                return outcome;
            }
            None => return outcome,
        }
        // From the pool, whose hooks may choose a database or a user.
        match timeout(self.timeouts.command, self.lend(job)).await {
            Ok(Ok(lent)) => self.over(lent, job).await,
            Ok(Err(_)) | Err(_) => outcome,
        }
    }

    /// Leaves all connections of an era once a new one leads to a master. Until then they serve reads.
    async fn leave_for_master(&self, since: u64, until: Instant) -> Option<bool> {
        let (pool, timeouts) = (self.pool.clone(), self.timeouts);
        let looking = async move {
            if pool.era() != since {
                return true;
            }
            let Ok(connection) = pool.open().await else {
                return false;
            };
            let is_worth_it = role::is_worth_leaving_for(connection, timeouts).await;
            if is_worth_it {
                pool.leave(since);
            }
            is_worth_it
        };
        self.asking.look(timeouts, until, looking).await
    }

    /// Does a job on a connection. If the answer is late, the pool may lend another in its place.
    async fn over(&self, lent: Lent, job: &Job<'_>) -> Result<Outcome, RedisError> {
        let mut connection = lent.handle();
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
        lent.give_back();
        outcome
    }
}

/// A connection that the pool has lent.
struct Lent {
    connection: pool::Lent,
    pool: Pool,
    /// The era in which it was asked for.
    since: u64,
}

impl Lent {
    fn handle(&self) -> MultiplexedConnection {
        MultiplexedConnection::clone(&self.connection)
    }

    /// Gives it back to its pool, unless it has been left.
    fn give_back(self) {
        if self.pool.era() == self.since {
            drop(self.connection);
        } else {
            self.discard();
        }
    }

    /// Closes it.
    fn discard(self) {
        pool::discard(self.connection);
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
            lent.discard();
        }
    }

    fn give_back(&mut self) {
        if let Some(lent) = self.lent.take() {
            lent.give_back();
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
            Err(_) => lent.discard(),
        }
    }
}

/// Gives a connection back to its pool once the server has done what it was asked before. If that
/// takes long, the server may block the connection, which is closed.
async fn give_back(lent: Lent, patience: Duration) {
    let mut connection = lent.handle();
    let ping = redis::cmd("PING");
    match timeout(patience, connection.req_packed_command(&ping)).await {
        Ok(Ok(_)) => lent.give_back(),
        Ok(Err(_)) | Err(_) => lent.discard(),
    }
}
