//! Connections, time limits, and what becomes of errors.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection as _, Error, Pool, pool::PoolConnection};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};

use super::database::{Database, Limits, Verdict, verdict};
use crate::{clock, error::Contended, random};

/// How often a repeatable statement is run if the connection is lost each time.
const MAX_ATTEMPTS: u32 = 3;

/// A pool, and what is known about its connections.
pub(crate) struct Connections<D: Database> {
    pool: Pool<D>,
    limits: Limits,
    /// Writers wait here in line if the database takes one at a time. SQLite itself waits by trying
    /// again, which lets the unlucky starve.
    writer: Arc<Semaphore>,
    /// How many connections may be dead, since another one was lost: each is pinged before its next
    /// use.
    suspects: AtomicU32,
}

/// A connection that is closed unless it is given back. In the middle of a statement, only closing
/// it makes the server give up; in the pool, the rest of the answer would still have to be read.
pub(crate) struct Held<D: Database> {
    connection: Option<PoolConnection<D>>,
    _turn: Option<OwnedSemaphorePermit>,
}

/// Why something was not done, or may not have been.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) verdict: Verdict,
    pub(crate) error: anyhow::Error,
    /// The time limit has passed.
    late: bool,
}

impl<D: Database> Held<D> {
    pub(crate) fn get(&mut self) -> Result<&mut D::Connection, Error> {
        // It is missing only after `give_back`, which consumes the whole.
        self.connection.as_deref_mut().ok_or(Error::PoolClosed)
    }

    pub(crate) fn give_back(mut self) {
        self.connection = None;
    }
}

impl<D: Database> Drop for Held<D> {
    fn drop(&mut self) {
        match self.connection.take() {
            // Its worker thread finishes the statement. Closing the last connection would delete a
            // database in memory.
            Some(connection) if D::LOCAL => drop(connection),
            Some(connection) => drop(connection.detach()),
            None => {}
        }
    }
}

impl Failure {
    fn late(doing: &str, verdict: Verdict) -> Self {
        Self {
            verdict,
            error: anyhow::anyhow!("the session database did not answer in time: {doing}"),
            late: true,
        }
    }

    pub(crate) fn of<D: Database>(error: Error) -> Self {
        let verdict = verdict::<D>(&error);
        Self::with::<D>(error, verdict)
    }

    fn with<D: Database>(error: Error, verdict: Verdict) -> Self {
        let context = format!("the {} session store failed", D::NAME);
        Self {
            verdict,
            error: anyhow::Error::from(error).context(context),
            late: false,
        }
    }

    /// The error for the application, with a hint if the table is missing.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self.verdict {
            Verdict::NoTable => self
                .error
                .context("the session table may be missing: call the store's `migrate`"),
            _ => self.error,
        }
    }

    /// Marks the error if only other requests caused it.
    fn contended(mut self) -> Self {
        if self.verdict == Verdict::Again {
            self.error = self.error.context(Contended);
        }
        self
    }
}

impl<D: Database> Connections<D> {
    pub(crate) fn new(pool: Pool<D>, limits: Limits) -> Self {
        Self {
            pool,
            limits,
            writer: Arc::new(Semaphore::new(1)),
            suspects: AtomicU32::new(0),
        }
    }

    pub(crate) fn pool(&self) -> &Pool<D> {
        &self.pool
    }

    /// Takes a connection that is not known to be dead.
    ///
    /// # Errors
    /// Nothing was done.
    pub(crate) async fn hold(&self, writes: bool) -> Result<Held<D>, Failure> {
        let limit = self.limits.connect;
        let deadline = clock::deadline(limit);
        let mut held = Held {
            connection: None,
            _turn: self.wait_to_write(writes).await?,
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let connection = match timeout(left, self.pool.acquire()).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => return Err(no_connection::<D>(error)),
                Err(_) => return Err(Failure::late("connecting", Verdict::Refused)),
            };
            held.connection = Some(connection);
            if self.is_alive(&mut held).await {
                return Ok(held);
            }
            if let Some(connection) = held.connection.take() {
                drop(connection.detach());
            }
        }
    }

    /// Waits for the turn to write, if the database takes one writer at a time.
    async fn wait_to_write(&self, writes: bool) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        if !D::LOCAL || !writes {
            return Ok(None);
        }
        let turn = Arc::clone(&self.writer).acquire_owned();
        match timeout(self.limits.connect, turn).await {
            Ok(turn) => Ok(turn.ok()),
            Err(_) => Err(Failure::late("waiting to write", Verdict::Refused)),
        }
    }

    /// Pings a connection that may be dead.
    async fn is_alive(&self, held: &mut Held<D>) -> bool {
        if D::LOCAL || self.suspects.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let Ok(connection) = held.get() else {
            return false;
        };
        let answered = timeout(self.limits.command, connection.ping()).await;
        let less = |suspects: u32| suspects.checked_sub(1);
        let _ = self
            .suspects
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        matches!(answered, Ok(Ok(())))
    }

    /// Ends the use of a connection, and gives it back unless it may be broken.
    pub(crate) fn settle<T>(
        &self,
        held: Held<D>,
        result: Option<Result<T, Error>>,
    ) -> Result<T, Failure> {
        let Some(result) = result else {
            self.suspect();
            return Err(Failure::late("a statement", Verdict::Lost));
        };
        match result {
            Ok(value) => {
                held.give_back();
                Ok(value)
            }
            Err(error) => {
                let failure = Failure::of::<D>(error);
                match failure.verdict {
                    Verdict::Lost => self.suspect(),
                    Verdict::Again | Verdict::Refused | Verdict::NoTable => held.give_back(),
                }
                Err(failure)
            }
        }
    }

    fn suspect(&self) {
        self.suspects.store(self.pool.size(), Ordering::Relaxed);
    }

    /// Limits how long a statement may take. In a database in this process none can be interrupted.
    pub(crate) async fn bounded<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if D::LOCAL {
            return Some(work.await);
        }
        timeout(self.limits.command, work).await.ok()
    }
}

/// Without a connection, nothing was done.
fn no_connection<D: Database>(error: Error) -> Failure {
    let verdict = match verdict::<D>(&error) {
        Verdict::Again => Verdict::Again,
        Verdict::Refused | Verdict::NoTable | Verdict::Lost => Verdict::Refused,
    };
    Failure::with::<D>(error, verdict)
}

/// Decides whether a failed statement is tried again, and waits a little before that.
pub(crate) struct Attempts {
    deadline: Instant,
    failed: u32,
}

impl Attempts {
    /// Allows attempts within most of a budget, so that there is time left to report a failure.
    pub(crate) fn within(budget: Duration) -> Self {
        Self {
            deadline: clock::deadline(budget / 4 * 3),
            failed: 0,
        }
    }

    /// Returns if another attempt is due.
    ///
    /// # Errors
    /// The failure is final.
    pub(crate) async fn again(
        &mut self,
        failure: Failure,
        repeatable: bool,
    ) -> Result<(), Failure> {
        self.failed += 1;
        let in_time = Instant::now() < self.deadline;
        let again = match failure.verdict {
            Verdict::Again => in_time,
            Verdict::Lost => repeatable && in_time && !failure.late && self.failed < MAX_ATTEMPTS,
            Verdict::Refused | Verdict::NoTable => false,
        };
        if !again {
            return Err(failure.contended());
        }
        tracing::debug!(error = %failure.error, "a statement of the session store is tried again");
        let most = (500_u64 << self.failed.min(6)).min(20_000);
        let jitter = random::u64().map_or(0, |n| n % most);
        sleep(Duration::from_micros(jitter)).await;
        Ok(())
    }
}
