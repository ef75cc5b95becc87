//! How many entries a store may hold.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the entries of all shards.
pub(super) struct Room {
    max: usize,
    used: AtomicUsize,
}

/// The record of a renewal, and its redirect.
const LEAST: usize = 2;

impl Room {
    pub(super) fn new(max: usize) -> Self {
        let used = AtomicUsize::new(0);
        Self {
            max: max.max(LEAST),
            used,
        }
    }

    /// Takes the room of one entry, if there is any. So many of those that there are lie beyond it.
    pub(super) fn take(&self, beyond: usize) -> bool {
        let one_more = |used: usize| (used < self.max.saturating_add(beyond)).then_some(used + 1);
        let order = Ordering::Relaxed;
        self.used.fetch_update(order, order, one_more).is_ok()
    }

    /// Takes the room of one entry beyond those that there are.
    pub(super) fn take_beyond(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives back the room of entries that have gone.
    pub(super) fn give(&self, entries: usize) {
        self.used.fetch_sub(entries, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
