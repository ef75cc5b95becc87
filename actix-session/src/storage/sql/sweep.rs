//! Deleting expired rows.

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
    attempts::Attempts,
    database::{SqlDatabase, Verdict},
    failure::Failure,
    row::number,
    run::Held,
    statement::Values,
    store::SqlSessionStore,
};
use crate::random;

/// A batch may take longer than a request's statement.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Deletes expired sessions in the background until it is dropped, or its runtime ends.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_session::storage::{SqlDatabase, SqlSessionStore};
///
/// async fn serve<D: SqlDatabase>(store: SqlSessionStore<D>) {
///     let sweeper = store.spawn_sweeper(Duration::from_secs(60), 1_000);
///     // ... the server runs
///     println!("this server deleted {} expired sessions", sweeper.swept());
/// }
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
    /// How many expired sessions and redirects this sweeper has deleted.
    pub fn swept(&self) -> u64 {
        self.counts.swept.load(Ordering::Relaxed)
    }

    /// How often it has swept. If another server had the turn, that does not count.
    pub fn runs(&self) -> u64 {
        self.counts.runs.load(Ordering::Relaxed)
    }

    /// Stops the sweeper and waits until it has stopped. A batch that has begun may still finish in
    /// the database.
    pub async fn stop(mut self) {
        self.task.abort();
        // Whether it was aborted or had ended before makes no difference.
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

impl<D: SqlDatabase> SqlSessionStore<D> {
    /// Deletes up to `batch` expired sessions and redirects, and returns how many it deleted.
    ///
    /// Requests never see them, swept or not: sweeping only makes room.
    ///
    /// # Errors
    /// The database does not answer, or refuses the statement.
    pub async fn sweep(&self, batch: u32) -> Result<u64, anyhow::Error> {
        self.sweep_batch(batch).await.map_err(Failure::into_error)
    }

    /// Sweeps in the background, about once per `interval`, until the handle is dropped. An interval
    /// of zero counts as a second.
    ///
    /// The sweeper deletes `batch` rows at a time (1,000 is a good number) until none is left, and
    /// pauses after each batch for as long as the batch took. If several servers have a sweeper,
    /// PostgreSQL and MySQL let one of them work at a time.
    ///
    /// # Panics
    /// Outside of a Tokio (or Actix) runtime.
    pub fn spawn_sweeper(&self, interval: Duration, batch: u32) -> Sweeper {
        let counts = Arc::new(Counts::default());
        let task = self
            .clone()
            .sweep_forever(interval, batch.max(1), Arc::clone(&counts));
        Sweeper {
            task: tokio::spawn(task),
            counts,
        }
    }

    async fn sweep_forever(self, interval: Duration, batch: u32, counts: Arc<Counts>) {
        loop {
            sleep(jittered(interval)).await;
            let before = counts.swept.load(Ordering::Relaxed);
            match self.sweep_in_turn(batch, &counts).await {
                Ok(()) => tracing::debug!(
                    swept = counts.swept.load(Ordering::Relaxed) - before,
                    "expired sessions were deleted"
                ),
                // Requests come first.
                Err(failure) if failure.verdict == Verdict::Again => {}
                Err(failure) => tracing::warn!(
                    error = %failure.into_error(),
                    "expired sessions could not be deleted; the next turn tries again"
                ),
            }
        }
    }

    async fn sweep_batch(&self, batch: u32) -> Result<u64, Failure> {
        let mut attempts = Attempts::within(BATCH_TIMEOUT, self.0.connections.search());
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
        let result = timeout(BATCH_TIMEOUT, self.delete(&mut held, batch)).await;
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

    /// Sweeps until nothing is left, unless another server is sweeping.
    async fn sweep_in_turn(&self, batch: u32, counts: &Counts) -> Result<(), Failure> {
        let connections = &self.0.connections;
        if D::LOCAL {
            counts.runs.fetch_add(1, Ordering::Relaxed);
            return self.sweep_batches(None, batch, counts).await;
        }
        let mut held = connections.hold(false).await?;
        let table = &self.0.table;
        let locking = async { D::lock_for_sweep(held.get()?, table).await };
        match connections.bounded(locking).await {
            Some(Ok(true)) => {}
            result => return connections.settle(held, result).map(drop),
        }
        counts.runs.fetch_add(1, Ordering::Relaxed);
        // If this fails, the connection is closed, and the lock goes with it.
        self.sweep_batches(Some(&mut held), batch, counts).await?;
        let unlocking = async { D::unlock_after_sweep(held.get()?, table).await };
        let result = connections.bounded(unlocking).await;
        connections.settle(held, result)
    }

    /// Works at most half of the time, so that requests get through.
    async fn sweep_batches(
        &self,
        mut held: Option<&mut Held<D>>,
        batch: u32,
        counts: &Counts,
    ) -> Result<(), Failure> {
        loop {
            let started = Instant::now();
            let swept = match &mut held {
                None => self.sweep_batch(batch).await?,
                Some(held) => timeout(BATCH_TIMEOUT, self.delete(held, batch))
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

/// Between three and five quarters of an interval, so that servers that started together drift
/// apart.
fn jittered(interval: Duration) -> Duration {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let interval = match interval {
        Duration::ZERO => Duration::from_secs(1),
        interval => interval.min(YEAR),
    };
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

    #[test]
    fn no_interval_is_too_short_or_too_long() {
        assert!(jittered(Duration::ZERO) >= Duration::from_millis(750));
        assert!(jittered(Duration::MAX) > Duration::from_secs(1));
    }
}
