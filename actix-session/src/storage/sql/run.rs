//! Connections, time limits, and what becomes of errors.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use sqlx::{Connection as _, Error, Pool, pool::PoolConnection};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{
    attempts::Search,
    database::{Database, Limits, Verdict, verdict},
    failure::Failure,
};
use crate::clock;

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
    /// Grows whenever the connections that are open turn out to be useless.
    era: AtomicU64,
    search: Search,
}

/// A connection that is closed unless it is given back. In the middle of a statement, only closing
/// it makes the server give up; in the pool, the rest of the answer would still have to be read.
pub(crate) struct Held<D: Database> {
    connection: Option<PoolConnection<D>>,
    /// It was opened in this era or later.
    era: u64,
    _turn: Option<OwnedSemaphorePermit>,
}

impl<D: Database> Held<D> {
    pub(crate) fn get(&mut self) -> Result<&mut D::Connection, Error> {
        // It is missing only after `give_back`, which consumes the whole.
        self.connection.as_deref_mut().ok_or(Error::PoolClosed)
    }

    fn give_back(mut self) {
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

impl<D: Database> Connections<D> {
    pub(crate) fn new(pool: Pool<D>, limits: Limits) -> Self {
        Self {
            pool,
            limits,
            writer: Arc::new(Semaphore::new(1)),
            suspects: AtomicU32::new(0),
            era: AtomicU64::new(0),
            search: Search::within(limits.connect),
        }
    }

    pub(crate) fn search(&self) -> &Search {
        &self.search
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
            era: 0,
            _turn: self.wait_to_write(writes).await?,
        };
        loop {
            held.era = self.era.load(Ordering::Acquire);
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
                self.give_back(held);
                Ok(value)
            }
            Err(error) => {
                let failure = Failure::of::<D>(error);
                match failure.verdict {
                    Verdict::Lost => self.suspect(),
                    // While nobody looks for another server, this one is good for reads.
                    Verdict::NotHere if !self.search.rests() => self.condemn(held),
                    _ => self.give_back(held),
                }
                Err(failure)
            }
        }
    }

    fn give_back(&self, held: Held<D>) {
        if held.era == self.era.load(Ordering::Acquire) {
            held.give_back();
        }
    }

    /// Closes a connection that is useless, and all that were opened before it was known to be:
    /// those in the pool now, those in use when they are given back.
    fn condemn(&self, held: Held<D>) {
        let era = held.era;
        drop(held);
        let next = self
            .era
            .compare_exchange(era, era + 1, Ordering::AcqRel, Ordering::Acquire);
        // Otherwise what is in the pool was opened later.
        if next.is_ok() {
            while let Some(connection) = self.pool.try_acquire() {
                drop(connection.detach());
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
        Verdict::Again | Verdict::NotHere => Verdict::Again,
        Verdict::Refused | Verdict::NoTable | Verdict::Lost => Verdict::Refused,
    };
    Failure::with::<D>(error, verdict)
}
