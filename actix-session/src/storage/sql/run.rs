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

use super::{
    Limits,
    database::{Database, Verdict, verdict},
};
use crate::{error::Contended, random};

/// How often something that changes nothing is asked before its failure is told.
const READS: u32 = 3;

/// A pool, and what is known about it.
pub(crate) struct Connections<D: Database> {
    pool: Pool<D>,
    limits: Limits,
    /// Writers on a database that takes one at a time wait here in line: its own way of waiting is
    /// to try again, which lets the unlucky starve.
    turns: Arc<Semaphore>,
    /// After a lost connection so many others are asked for a sign of life before they are used.
    suspects: AtomicU32,
}

/// A connection that is closed unless it is given back: in the midst of something, only its end
/// tells the server to forget that, and a pool would wait for the rest of the answer.
pub(crate) struct Held<D: Database> {
    connection: Option<PoolConnection<D>>,
    _turn: Option<OwnedSemaphorePermit>,
}

/// Why something was not done, or may not have been.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) verdict: Verdict,
    pub(crate) error: anyhow::Error,
    /// The time was up.
    late: bool,
}

impl<D: Database> Held<D> {
    pub(crate) fn get(&mut self) -> Result<&mut D::Connection, Error> {
        // Only giving it back takes it out, and that takes the whole.
        self.connection.as_deref_mut().ok_or(Error::PoolClosed)
    }

    pub(crate) fn give_back(mut self) {
        self.connection = None;
    }
}

impl<D: Database> Drop for Held<D> {
    fn drop(&mut self) {
        match self.connection.take() {
            // Its worker ends what was begun; and with its last connection a database in memory ends.
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
            error: anyhow::anyhow!("the session database did not answer in time ({doing})"),
            late: true,
        }
    }

    pub(crate) fn of<D: Database>(error: Error) -> Self {
        let verdict = verdict::<D>(&error);
        Self::with::<D>(error, verdict)
    }

    fn with<D: Database>(error: Error, verdict: Verdict) -> Self {
        let told = error.to_string();
        let is_missing = ["no such table", "does not exist", "doesn't exist"];
        let hint = if is_missing.iter().any(|words| told.contains(words)) {
            "; has the store's `migrate` run?"
        } else {
            ""
        };
        let context = format!("the {} session store failed{hint}", D::NAME);
        Self {
            verdict,
            error: anyhow::Error::from(error).context(context),
            late: false,
        }
    }
}

impl<D: Database> Connections<D> {
    pub(crate) fn new(pool: Pool<D>, limits: Limits) -> Self {
        Self {
            pool,
            limits,
            turns: Arc::new(Semaphore::new(1)),
            suspects: AtomicU32::new(0),
        }
    }

    pub(crate) fn pool(&self) -> &Pool<D> {
        &self.pool
    }

    /// A connection that works as far as anybody knows.
    ///
    /// # Errors
    /// Nothing was done.
    pub(crate) async fn hold(&self, writes: bool) -> Result<Held<D>, Failure> {
        let limit = self.limits.connect;
        let deadline = Instant::now() + limit;
        let turn = if D::LOCAL && writes {
            let turn = timeout(limit, Arc::clone(&self.turns).acquire_owned()).await;
            let turn = turn.map_err(|_| Failure::late("waiting to write", Verdict::Refused))?;
            turn.ok()
        } else {
            None
        };
        let mut held = Held {
            connection: None,
            _turn: turn,
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let connection = match timeout(left, self.pool.acquire()).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => return Err(no_connection::<D>(error)),
                Err(_) => return Err(Failure::late("connecting", Verdict::Refused)),
            };
            held.connection = Some(connection);
            if self.is_good(&mut held).await {
                return Ok(held);
            }
            if let Some(connection) = held.connection.take() {
                drop(connection.detach());
            }
        }
    }

    /// Asks a suspect for a sign of life.
    async fn is_good(&self, held: &mut Held<D>) -> bool {
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

    /// Ends a use of a connection: gives it back where it is good for more.
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
                    Verdict::Again | Verdict::Refused => held.give_back(),
                }
                Err(failure)
            }
        }
    }

    fn suspect(&self) {
        self.suspects.store(self.pool.size(), Ordering::Relaxed);
    }

    /// How long a statement may take; one of this process cannot be interrupted.
    pub(crate) async fn bounded<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if D::LOCAL {
            return Some(work.await);
        }
        timeout(self.limits.command, work).await.ok()
    }
}

/// Without a connection nothing was done.
fn no_connection<D: Database>(error: Error) -> Failure {
    let verdict = match verdict::<D>(&error) {
        Verdict::Again => Verdict::Again,
        Verdict::Refused | Verdict::Lost => Verdict::Refused,
    };
    Failure::with::<D>(error, verdict)
}

/// Decides whether something that failed is done again, and waits a little before.
pub(crate) struct Attempts {
    deadline: Instant,
    failed: u32,
}

impl Attempts {
    /// Attempts within most of a budget, so that the rest is left for telling.
    pub(crate) fn within(budget: Duration) -> Self {
        Self {
            deadline: Instant::now() + budget * 3 / 4,
            failed: 0,
        }
    }

    /// # Errors
    /// It is not done again: the failure stands.
    pub(crate) async fn again(
        &mut self,
        failure: Failure,
        repeatable: bool,
    ) -> Result<(), Failure> {
        self.failed += 1;
        let in_time = Instant::now() < self.deadline;
        let again = match failure.verdict {
            Verdict::Again => in_time,
            Verdict::Lost => repeatable && in_time && !failure.late && self.failed < READS,
            Verdict::Refused => false,
        };
        if !again {
            return Err(failure.contended());
        }
        tracing::debug!(error = %failure.error, "a statement on sessions is repeated");
        let most = (500_u64 << self.failed.min(6)).min(20_000);
        let jitter = random::u64().map_or(0, |n| n % most);
        sleep(Duration::from_micros(jitter)).await;
        Ok(())
    }
}

impl Failure {
    /// What could have worked but for others is told as such.
    fn contended(mut self) -> Self {
        if self.verdict == Verdict::Again {
            self.error = self.error.context(Contended);
        }
        self
    }
}
