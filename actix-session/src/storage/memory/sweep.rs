//! Expired sessions are removed even if no request comes.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use super::{Inner, MemorySessionStore};

const INTERVAL: Duration = Duration::from_secs(30);

/// The thread that removes what has expired. It ends with the store, at once: a program may make many.
#[derive(Default)]
pub(super) struct Sweeper {
    is_started: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl MemorySessionStore {
    /// Starts the sweeper, unless it runs already.
    pub(super) fn start_sweeper(&self) {
        // A fuzzer makes thousands of stores a second.
        let own = &self.inner.sweeper;
        if cfg!(fuzzing) || own.is_started.swap(true, Ordering::Relaxed) {
            return;
        }
        let store = Arc::downgrade(&self.inner);
        let sweeper = thread::Builder::new().name("actix-session sweeper".to_owned());
        match sweeper.spawn(move || sweep(&store)) {
            // The only one that is ever started.
            Ok(started) => drop(own.thread.set(started.thread().clone())),
            Err(error) => {
                tracing::warn!(%error, "expired sessions are removed only if the memory store is full");
            }
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
