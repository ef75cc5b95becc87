//! Deleting expired rows.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use sqlx::Error;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};

use super::{
    attempts::Attempts,
    database::{Database, SqlDatabase, Verdict},
    failure::Failure,
    row::{RecordColumns, number},
    run::Held,
    statement::{Statement, Values},
    store::SqlSessionStore,
    table::Table,
    transaction::begin,
};
use crate::{AnyDuration, clock, measure, random, sync::drop_panic};

/// A batch may take longer than a request's statement.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// How many marks are deleted at once.
const MARKS: u32 = 100;

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

/// Whose turn to sweep it must be.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// Other servers may be sweeping as well.
    Any,
    Own,
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
    /// The database does not answer within half a minute, or refuses the statement. If it is only slow, it
    /// may delete a smaller batch in that time.
    pub async fn sweep(&self, batch: u32) -> Result<u64, anyhow::Error> {
        let work = move |store: Self| async move { store.sweep_batch(batch).await };
        self.there(work).await.map_err(Failure::into_error)
    }

    /// Sweeps in the background, about once per `interval`, until the handle is dropped. An interval
    /// of zero counts as a second.
    ///
    /// The sweeper deletes `batch` rows at a time (1,000 is a good number) until none is left, and
    /// pauses after each batch for as long as the batch took. A batch that takes longer than half a minute
    /// is tried again with half as many rows. If several servers have a sweeper,
    /// PostgreSQL and MySQL let one of them work at a time.
    ///
    /// # Panics
    /// Outside of a Tokio (or Actix) runtime.
    pub fn spawn_sweeper(&self, interval: impl AnyDuration, batch: u32) -> Sweeper {
        let counts = Arc::new(Counts::default());
        let task =
            self.clone()
                .sweep_forever(interval.unsigned(), batch.max(1), Arc::clone(&counts));
        let task = match &self.0.runtime {
            Some(runtime) => runtime.spawn(task),
            None => tokio::spawn(task),
        };
        Sweeper { task, counts }
    }

    async fn sweep_forever(self, interval: Duration, most: u32, counts: Arc<Counts>) {
        // Kept from turn to turn: what was given up may hold the lock of the sweep for a while.
        let mut batch = most;
        loop {
            sleep(jittered(interval)).await;
            let before = counts.swept.load(Ordering::Relaxed);
            let turn = AssertUnwindSafe(self.sweep_in_turn(&mut batch, most, &counts));
            // The clock is the application's: if it panics, the next turn sweeps.
            let swept = match turn.catch_unwind().await {
                Ok(swept) => swept,
                Err(panic) => {
                    tracing::error!("the removal of expired sessions has panicked");
                    drop_panic(panic);
                    continue;
                }
            };
            match swept {
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

    /// Deletes all that has expired, for whoever waits for it.
    pub(super) async fn sweep_whole(&self, batch: u32) -> Result<u64, anyhow::Error> {
        let work = move |store: Self| async move { store.sweep_at_once(batch).await };
        self.there(work).await.map_err(Failure::into_error)
    }

    async fn sweep_at_once(&self, mut batch: u32) -> Result<u64, Failure> {
        let mut swept = 0;
        loop {
            match self.sweep_batch(batch).await {
                Ok(some) => {
                    swept += some;
                    if some < u64::from(batch) {
                        return Ok(swept);
                    }
                }
                Err(failure) => batch = smaller(batch, failure)?,
            }
        }
    }

    async fn sweep_batch(&self, batch: u32) -> Result<u64, Failure> {
        let mut attempts = Attempts::within(BATCH_TIMEOUT, self.0.connections.search());
        loop {
            match self.sweep_once(batch, Turn::Any).await {
                Ok(swept) => return Ok(swept.unwrap_or_default()),
                Err(failure) => attempts.again(failure, true).await?,
            }
        }
    }

    /// Returns `None` if another server is sweeping.
    async fn sweep_once(&self, batch: u32, turn: Turn) -> Result<Option<u64>, Failure> {
        let connections = &self.0.connections;
        let until = clock::deadline(BATCH_TIMEOUT);
        let mut held = connections.hold(true, until).await?;
        let result = timeout_at(until, self.delete(&mut held, batch, turn)).await;
        connections.settle(held, result.ok(), until).await
    }

    async fn delete(
        &self,
        held: &mut Held<D>,
        batch: u32,
        turn: Turn,
    ) -> Result<Option<u64>, Error> {
        let (table, statements) = (&self.0.table, self.0.statements.now());
        let values = Values {
            now: number(self.0.clock.now()),
            batch: batch.into(),
            ..Values::default()
        };
        let connection = held.get()?;
        let sweep = &statements.sweep;
        let swept = match turn {
            Turn::Own => delete_in_turn::<D>(connection, table, sweep, &values).await?,
            Turn::Any => Some(D::execute(connection, sweep, &values).await?),
        };
        measure::swept(swept.unwrap_or_default());
        if swept.is_some_and(|swept| swept < u64::from(batch)) {
            self.delete_marks(connection, &values).await?;
        }
        Ok(swept)
    }

    /// Deletes the marks that have expired, after what they have ended: a row that was written beside a mark
    /// would be open again without it.
    async fn delete_marks(
        &self,
        connection: &mut D::Connection,
        values: &Values<'_>,
    ) -> Result<(), Error> {
        let index = &self.0.statements.now().index;
        let expired = format!(
            "SELECT principal FROM {{not_before}} WHERE expires <= {} LIMIT {MARKS}",
            values.now
        );
        let expired = self.0.table.fill(&expired, D::QUOTE);
        // One principal after the other goes by an index everywhere.
        for principal in D::principals(connection, &expired).await? {
            let values = Values {
                record: RecordColumns {
                    principal: Some(principal.into()),
                    ..RecordColumns::default()
                },
                now: values.now,
                ..Values::default()
            };
            D::execute(connection, &index.sweep_ended, &values).await?;
            D::execute(connection, &index.sweep_mark, &values).await?;
        }
        Ok(())
    }

    /// Sweeps until nothing is left, or another server is sweeping. Works at most half of the time,
    /// so that requests get through.
    async fn sweep_in_turn(
        &self,
        batch: &mut u32,
        most: u32,
        counts: &Counts,
    ) -> Result<(), Failure> {
        let mut is_first = true;
        loop {
            let started = Instant::now();
            let swept = if D::LOCAL {
                self.sweep_batch(*batch).await.map(Some)
            } else {
                self.sweep_once(*batch, Turn::Own).await
            };
            let swept = match swept {
                Ok(Some(swept)) => swept,
                Ok(None) => return Ok(()),
                Err(failure) => {
                    *batch = smaller(*batch, failure)?;
                    continue;
                }
            };
            counts.swept.fetch_add(swept, Ordering::Relaxed);
            counts.runs.fetch_add(is_first.into(), Ordering::Relaxed);
            is_first = false;
            if swept < u64::from(*batch) {
                return Ok(());
            }
            *batch = batch.saturating_add(1).min(most);
            sleep(started.elapsed().max(Duration::from_millis(1))).await;
        }
    }
}

/// How many rows to delete at once after an attempt for so many took too long: otherwise nothing would ever
/// be deleted.
fn smaller(batch: u32, failure: Failure) -> Result<u32, Failure> {
    // Without a connection it would be as late.
    let may_help = failure.late && failure.verdict == Verdict::Lost && batch > 1;
    if may_help {
        Ok(batch / 2)
    } else {
        Err(failure)
    }
}

/// Deletes a batch if no other server is sweeping. The lock lasts as long as the transaction: a
/// pooler may give the next one another connection to the server.
async fn delete_in_turn<D: Database>(
    connection: &mut D::Connection,
    table: &Table,
    sweep: &Statement,
    values: &Values<'_>,
) -> Result<Option<u64>, Error> {
    let mut transaction = begin::<D>(connection).await?;
    if !D::lock_for_sweep(&mut transaction, table).await? {
        transaction.rollback().await?;
        return Ok(None);
    }
    let swept = D::execute(&mut transaction, sweep, values).await;
    // Whatever came of it: MySQL's lock outlives a transaction.
    D::unlock_after_sweep(&mut transaction, table).await?;
    let swept = swept?;
    transaction.commit().await?;
    Ok(Some(swept))
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
    fn a_batch_that_took_too_long_is_halved() {
        let late = |verdict| Failure::late("the statement", verdict);
        assert_eq!(smaller(1_000, late(Verdict::Lost)).unwrap(), 500);
        assert!(smaller(1, late(Verdict::Lost)).is_err());
        assert!(smaller(1_000, late(Verdict::Again)).is_err());
        let refused = Failure {
            late: false,
            ..late(Verdict::Lost)
        };
        assert!(smaller(1_000, refused).is_err());
    }

    #[test]
    fn no_interval_is_too_short_or_too_long() {
        assert!(jittered(Duration::ZERO) >= Duration::from_millis(750));
        assert!(jittered(Duration::MAX) > Duration::from_secs(1));
    }
}
