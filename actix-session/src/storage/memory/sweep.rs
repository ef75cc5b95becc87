//! Expired sessions are removed even if no request comes.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    thread,
    time::Duration,
};

use super::{Inner, MemorySessionStore};

const INTERVAL: Duration = Duration::from_secs(30);

impl MemorySessionStore {
    /// Starts the sweeper, unless it runs already. It ends with the store.
    pub(super) fn start_sweeper(&self) {
        // A fuzzer makes thousands of stores a second.
        if cfg!(fuzzing) || self.inner.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let store = Arc::downgrade(&self.inner);
        let sweeper = thread::Builder::new().name("actix-session sweeper".to_owned());
        if let Err(error) = sweeper.spawn(move || sweep(&store)) {
            tracing::warn!(%error, "expired sessions are removed only if the memory store is full");
        }
    }
}

fn sweep(store: &Weak<Inner>) {
    loop {
        thread::park_timeout(INTERVAL);
        let Some(store) = store.upgrade() else {
            return;
        };
        store.map.sweep(store.clock.now());
    }
}
