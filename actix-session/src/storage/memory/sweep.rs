//! Expired sessions are removed even if no request comes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock, Weak},
    thread::{self, Thread},
    time::Duration,
};

use super::{Inner, MemorySessionStore};
use crate::sync::drop_panic;

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
        sweep_once(&store);
    }
}

/// The clock is the application's: if it panics, the next turn sweeps.
fn sweep_once(store: &Inner) {
    let sweep = AssertUnwindSafe(|| store.map.sweep(store.clock.now()));
    if let Err(panic) = catch_unwind(sweep) {
        tracing::error!("the removal of expired sessions has panicked");
        drop_panic(panic);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::SystemTime,
    };

    use super::*;
    use crate::Clock;

    struct Frail(Arc<AtomicU32>);

    impl Clock for Frail {
        fn now(&self) -> SystemTime {
            assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "a clock");
            SystemTime::now()
        }
    }

    #[test]
    fn a_clock_that_panics_ends_no_sweeper() {
        let asked = Arc::new(AtomicU32::new(0));
        let clock = Frail(Arc::clone(&asked));
        let store = MemorySessionStore::builder().clock(clock).build();
        for _ in 0..2 {
            sweep_once(&store.inner);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
