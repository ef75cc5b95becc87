//! Expired sessions are removed even if no request comes.

use std::{
    sync::{Arc, OnceLock, Weak},
    thread::{self, Thread},
    time::Duration,
};

use super::{Inner, MemorySessionStore};

const INTERVAL: Duration = Duration::from_secs(30);

/// The thread that removes what has expired, once it was started; `None`: there is none to be had. It
/// ends with the store, at once: a program may make many.
#[derive(Default)]
pub(super) struct Sweeper(OnceLock<Option<Thread>>);

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(Some(thread)) = self.0.get() {
            thread.unpark();
        }
    }
}

impl MemorySessionStore {
    /// Starts the sweeper, unless it runs already.
    pub(super) fn start_sweeper(&self) {
        // A fuzzer makes thousands of stores a second.
        if cfg!(fuzzing) {
            return;
        }
        self.inner.sweeper.0.get_or_init(|| {
            let store = Arc::downgrade(&self.inner);
            let sweeper = thread::Builder::new().name("actix-session sweeper".to_owned());
            let started = sweeper.spawn(move || sweep(&store)).inspect_err(|error| {
                tracing::warn!(%error, "expired sessions are removed only if the memory store is full");
            });
            Some(started.ok()?.thread().clone())
        });
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
