//! Expired values are removed even if no request comes.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::time::sleep;

use super::{Inner, KeyValueDatabase, KeyValueSessionStore, layout};
use crate::{clock::Millis, live};

const INTERVAL: Duration = Duration::from_secs(60);
/// How many values are removed at once: others wait no longer than that takes.
const BATCH: usize = 1_000;

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
        let mut swept = 0;
        loop {
            let some = self.0.database.sweep(layout::end(now), BATCH).await?;
            swept += some as u64;
            if some < BATCH {
                return Ok(swept);
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
        if let Err(error) = store.sweep(store.0.clock.now()).await {
            tracing::warn!(%error, "expired sessions could not be removed");
        }
    }
}
