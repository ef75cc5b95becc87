//! Comparing the names of entries. Tests count how often that happens.

use std::cmp::Ordering;

pub(crate) fn is_named(name: &str, wanted: &str) -> bool {
    count();
    name == wanted
}

pub(super) fn in_order(one: &str, other: &str) -> Ordering {
    count();
    one.cmp(other)
}

#[cfg(not(test))]
const fn count() {}

#[cfg(test)]
fn count() {
    counting::COUNT.set(counting::COUNT.get() + 1);
}

#[cfg(test)]
pub(crate) mod counting {
    use std::cell::Cell;

    thread_local! {
        pub(super) static COUNT: Cell<usize> = const { Cell::new(0) };
    }

    /// How many names this thread has compared since it was asked last.
    pub(crate) fn compared() -> usize {
        COUNT.replace(0)
    }
}
