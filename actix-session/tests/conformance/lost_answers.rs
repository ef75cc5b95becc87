//! A database of one's own that loses answers: the library finds out what became of a transaction.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use actix_session::{
    storage::{KeyValueDatabase, KeyValueOutcome, KeyValueSessionStore, KeyValueTransaction},
    testing::conformance::{self, Kit},
};

use crate::in_memory::InMemory;

/// Each transaction in so many loses its answer; every second time it was not done.
#[derive(Clone)]
struct Losing {
    inner: InMemory,
    each: usize,
    count: Arc<AtomicUsize>,
}

impl KeyValueDatabase for Losing {
    async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        self.inner.get(names).await
    }

    async fn commit(&self, transaction: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        if !count.is_multiple_of(self.each) {
            return self.inner.commit(transaction).await;
        }
        if (count / self.each).is_multiple_of(2) {
            self.inner.commit(transaction).await?;
        }
        anyhow::bail!("the connection was lost")
    }

    async fn sweep(&self, now: u64, limit: usize) -> anyhow::Result<usize> {
        self.inner.sweep(now, limit).await
    }
}

async fn kit(each: usize) -> Kit<KeyValueSessionStore<Losing>> {
    Kit::new(async |clock| {
        let database = Losing {
            inner: InMemory::default(),
            each,
            count: Arc::default(),
        };
        KeyValueSessionStore::builder(database).clock(clock).build()
    })
    .await
}

#[actix_web::test]
async fn lost_answers_break_no_promise() {
    for each in 2..6 {
        let kit = kit(each).await;
        conformance::sessions_live_and_end(&kit).await.unwrap();
        conformance::late_requests_bring_nothing_back(&kit)
            .await
            .unwrap();
        conformance::changes_and_ends_follow_a_renewal(&kit)
            .await
            .unwrap();
        conformance::an_end_wins_every_race(&kit).await.unwrap();
        conformance::sessions_are_listed_by_principal(&kit)
            .await
            .unwrap();
    }
}
