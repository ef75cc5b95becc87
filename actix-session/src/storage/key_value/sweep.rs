//! Expired values are removed even if no request comes.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};

use super::{Inner, KeyValueDatabase, KeyValueSessionStore, layout};
use crate::{clock::Millis, live, measure, sync::drop_panic};

const INTERVAL: Duration = Duration::from_secs(60);
/// How many values are removed at once: others wait no longer than that takes.
pub(super) const BATCH: usize = 1_000;
/// One call may take longer than a request's. If it never answered, nothing would be swept any more, and
/// the sweeper would keep the store.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

impl<D: KeyValueDatabase> KeyValueSessionStore<D> {
    /// Starts the sweeper, unless it runs already. It ends with the store.
    pub(super) fn start_sweeper(&self) {
        if self.0.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let store = Arc::downgrade(&self.0);
        live::spawn(move || sweep_forever(store));
    }

    /// Removes what has expired, and returns how much that was.
    pub(super) async fn sweep(&self, now: Millis) -> anyhow::Result<u64> {
        self.sweep_within(BATCH_TIMEOUT, now).await
    }

    /// The limit is for each call of the database. A call that takes longer is made again for half as much,
    /// or nothing would ever be swept.
    async fn sweep_within(&self, limit: Duration, now: Millis) -> anyhow::Result<u64> {
        let mut swept = 0_u64;
        loop {
            let batch = self.0.batch.load(Ordering::Relaxed);
            let some = self.0.database.sweep(layout::end(now), batch);
            let Ok(some) = timeout(limit, some).await else {
                anyhow::ensure!(
                    batch > 1,
                    "the session database must sweep within {limit:?}, and did not"
                );
                self.0.batch.store(batch / 2, Ordering::Relaxed);
                continue;
            };
            let some = some?;
            swept = swept.saturating_add(some as u64);
            measure::swept(some as u64);
            // More than that, and the database takes no notice of the limit: nothing is left.
            if some != batch {
                return Ok(swept);
            }
            self.0
                .batch
                .store((batch + 1).min(BATCH), Ordering::Relaxed);
            // A database that never waits would keep others of this thread waiting.
            yield_now().await;
        }
    }

    /// One turn of the sweeper. A database that panics in one is swept in the next.
    async fn sweep_in_turn(&self) {
        let sweep = async { self.sweep(self.0.clock.now()).await };
        match AssertUnwindSafe(sweep).catch_unwind().await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "expired sessions could not be removed"),
            Err(panic) => {
                tracing::error!("the removal of expired sessions has panicked");
                drop_panic(panic);
            }
        }
    }
}

async fn sweep_forever<D: KeyValueDatabase>(store: Weak<Inner<D>>) {
    loop {
        sleep(INTERVAL).await;
        let Some(store) = store.upgrade().map(KeyValueSessionStore) else {
            return;
        };
        store.sweep_in_turn().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        storage::{KeyValueOutcome, KeyValueTransaction},
        sync::lock,
    };

    /// Answers sweeps as a test says; `None`: it panics. After the last answer it never answers.
    struct Answers(Mutex<Vec<Option<usize>>>);

    impl Answers {
        fn store(answers: &[Option<usize>]) -> KeyValueSessionStore<Self> {
            let answers = answers.iter().rev().copied().collect();
            KeyValueSessionStore::new(Self(Mutex::new(answers)))
        }
    }

    impl KeyValueDatabase for Answers {
        async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
            Ok(vec![None; names.len()])
        }

        async fn commit(&self, _: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
            Ok(KeyValueOutcome::Done)
        }

        async fn sweep(&self, _: u64, _: usize) -> anyhow::Result<usize> {
            let answer = lock(&self.0).pop();
            match answer {
                Some(answer) => Ok(answer.unwrap()),
                None => std::future::pending().await,
            }
        }
    }

    #[actix_web::test]
    async fn a_database_that_takes_no_notice_of_the_limit_is_asked_once() {
        let store = Answers::store(&[Some(BATCH), Some(BATCH), Some(1), Some(usize::MAX)]);
        let swept = [store.sweep(Millis(1)).await, store.sweep(Millis(1)).await];
        let swept = swept.map(Result::unwrap);
        assert_eq!(swept, [2 * BATCH as u64 + 1, usize::MAX as u64]);
        let store = Answers::store(&[Some(BATCH), Some(usize::MAX)]);
        assert_eq!(store.sweep(Millis(1)).await.unwrap(), u64::MAX);
    }

    #[actix_web::test]
    async fn a_database_that_never_answers_is_late() {
        let store = Answers::store(&[Some(BATCH)]);
        let late = store.sweep_within(Duration::ZERO, Millis(1)).await;
        let text = late.unwrap_err().to_string();
        assert!(text.contains("must sweep within 0ns"), "{text}");
    }

    /// Takes longer than it may for more than ten values.
    struct Slow(Mutex<(usize, Vec<usize>)>);

    impl KeyValueDatabase for Slow {
        async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
            Ok(vec![None; names.len()])
        }

        async fn commit(&self, _: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
            Ok(KeyValueOutcome::Done)
        }

        async fn sweep(&self, _: u64, limit: usize) -> anyhow::Result<usize> {
            lock(&self.0).1.push(limit);
            if limit > 10 {
                return std::future::pending().await;
            }
            let mut slow = lock(&self.0);
            let swept = limit.min(slow.0);
            slow.0 -= swept;
            Ok(swept)
        }
    }

    #[actix_web::test]
    async fn a_slow_database_is_swept_in_smaller_batches() {
        let store = KeyValueSessionStore::new(Slow(Mutex::new((25, Vec::new()))));
        let limit = Duration::from_millis(1);
        assert_eq!(store.sweep_within(limit, Millis(1)).await.unwrap(), 25);
        let (left, asked) = &*lock(&store.database().0);
        assert_eq!(*left, 0);
        assert_eq!(
            asked[..8],
            [1_000, 500, 250, 125, 62, 31, 15, 7],
            "{asked:?}"
        );
    }

    #[actix_web::test]
    async fn a_database_that_panics_is_swept_again() {
        let store = Answers::store(&[None, Some(7)]);
        store.sweep_in_turn().await;
        store.sweep_in_turn().await;
        assert!(lock(&store.database().0).is_empty());
    }
}
