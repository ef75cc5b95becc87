//! Deleting what has ended.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    Store,
    database::{Database, Verdict},
    run::{Attempts, Failure, Held},
    statement::{Values, number},
};
use crate::random;

/// A batch takes longer than a request's statement may.
const LIMIT: Duration = Duration::from_secs(30);

/// Deletes ended sessions in the background until it is dropped, or its runtime ends.
///
/// # Examples
/// ```no_run
/// # #[cfg(feature = "sqlite-session")]
/// # async fn run() -> anyhow::Result<()> {
/// use std::time::Duration;
/// use actix_session::storage::SqliteSessionStore;
///
/// let store = SqliteSessionStore::new("sqlite://sessions.sqlite3").await?;
/// let sweeper = store.spawn_sweeper(Duration::from_secs(60), 1_000);
/// // ... the server runs
/// println!("{} sessions ended on this server's watch", sweeper.swept());
/// # Ok(()) }
/// ```
#[must_use = "the sweeper stops when its handle is dropped"]
pub struct Sweeper {
    task: JoinHandle<()>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    swept: AtomicU64,
    runs: AtomicU64,
}

impl Sweeper {
    /// How many ended sessions and old marks this sweeper has deleted.
    pub fn swept(&self) -> u64 {
        self.counts.swept.load(Ordering::Relaxed)
    }

    /// How often it has looked, other servers' turns not counted.
    pub fn runs(&self) -> u64 {
        self.counts.runs.load(Ordering::Relaxed)
    }

    /// Stops it, after the batch that it is at.
    pub async fn stop(mut self) {
        self.task.abort();
        // Aborted or not, it is over.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Sweeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweeper")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl<D: Database> Store<D> {
    /// Deletes up to `batch` rows that have ended; answers how many.
    pub(crate) async fn sweep(&self, batch: u32) -> Result<u64, Failure> {
        let mut attempts = Attempts::within(LIMIT);
        loop {
            match self.sweep_once(batch).await {
                Ok(swept) => return Ok(swept),
                Err(failure) => attempts.again(failure, true).await?,
            }
        }
    }

    async fn sweep_once(&self, batch: u32) -> Result<u64, Failure> {
        let connections = &self.0.connections;
        let mut held = connections.hold(true).await?;
        let result = timeout(LIMIT, self.delete(&mut held, batch)).await;
        connections.settle(held, result.ok())
    }

    async fn delete(&self, held: &mut Held<D>, batch: u32) -> Result<u64, sqlx::Error> {
        let values = Values {
            now: number(self.0.clock.now()),
            batch: batch.into(),
            ..Values::default()
        };
        D::execute(held.get()?, &self.0.statements.sweep, &values).await
    }

    pub(crate) fn spawn_sweeper(&self, interval: Duration, batch: u32) -> Sweeper
    where
        Self: Send + Sync + 'static,
    {
        let counts = Arc::new(Counts::default());
        let (store, told) = (self.clone(), Arc::clone(&counts));
        let task = tokio::spawn(async move {
            loop {
                sleep(jittered(interval)).await;
                let before = told.swept.load(Ordering::Relaxed);
                match store.sweep_in_turn(batch.max(1), &told).await {
                    Ok(()) => tracing::debug!(
                        swept = told.swept.load(Ordering::Relaxed) - before,
                        "ended sessions were swept out"
                    ),
                    // Requests come first.
                    Err(failure) if failure.verdict == Verdict::Again => {}
                    Err(failure) => tracing::warn!(
                        error = %failure.error,
                        "ended sessions could not be swept out; the next turn goes on"
                    ),
                }
            }
        });
        Sweeper { task, counts }
    }

    /// Sweeps until nothing is left, if no other server does.
    async fn sweep_in_turn(&self, batch: u32, counts: &Counts) -> Result<(), Failure> {
        let connections = &self.0.connections;
        if D::LOCAL {
            counts.runs.fetch_add(1, Ordering::Relaxed);
            return self.sweep_batches(None, batch, counts).await;
        }
        let mut held = connections.hold(false).await?;
        let place = &self.0.place;
        let locking = async { D::lock_for_sweep(held.get()?, place).await };
        match connections.bounded(locking).await {
            Some(Ok(true)) => {}
            result => return connections.settle(held, result).map(drop),
        }
        counts.runs.fetch_add(1, Ordering::Relaxed);
        // Where this fails, the connection and the lock with it are gone.
        self.sweep_batches(Some(&mut held), batch, counts).await?;
        let unlocking = async { D::unlock_after_sweep(held.get()?, place).await };
        let result = connections.bounded(unlocking).await;
        connections.settle(held, result)
    }

    /// Works no more than half of the time, so that requests come between.
    async fn sweep_batches(
        &self,
        mut held: Option<&mut Held<D>>,
        batch: u32,
        counts: &Counts,
    ) -> Result<(), Failure> {
        loop {
            let started = Instant::now();
            let swept = match &mut held {
                None => self.sweep(batch).await?,
                Some(held) => timeout(LIMIT, self.delete(held, batch))
                    .await
                    .map_err(|_| Failure::of::<D>(sqlx::Error::PoolTimedOut))?
                    .map_err(Failure::of::<D>)?,
            };
            counts.swept.fetch_add(swept, Ordering::Relaxed);
            if swept < u64::from(batch) {
                return Ok(());
            }
            sleep(started.elapsed().max(Duration::from_millis(1))).await;
        }
    }
}

/// Between three and five quarters of an interval, so that servers that started together part.
fn jittered(interval: Duration) -> Duration {
    let share = random::u64().map_or(500, |n| n % 1_000);
    interval * 3 / 4 + interval / 2 * u32::try_from(share).unwrap_or(500) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_stay_near_what_was_asked_for() {
        let minute = Duration::from_secs(60);
        let drawn: Vec<Duration> = (0..100).map(|_| jittered(minute)).collect();
        assert!(
            drawn
                .iter()
                .all(|span| *span >= minute * 3 / 4 && *span < minute * 5 / 4)
        );
        assert!(drawn.iter().any(|span| *span != drawn[0]));
    }
}
