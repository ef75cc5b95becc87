//! Locks, and panics of the application's code. A poisoned lock stays usable: no code panics halfway
//! through a change under a lock.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

/// For what is said once. Unlike a `Once`, it keeps nobody waiting meanwhile: a listener may come back.
pub(crate) struct FirstTime(AtomicBool);

impl FirstTime {
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(true))
    }

    pub(crate) fn is_now(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Drops what a panic carried. That may panic in turn.
pub(crate) fn drop_panic(panic: Box<dyn Any + Send>) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    dropped.unwrap_or_else(std::mem::forget);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_to_what_is_said_once_may_come_back() {
        static FIRST: FirstTime = FirstTime::new();

        fn say() -> usize {
            if FIRST.is_now() { 1 + say() } else { 0 }
        }
        assert_eq!((say(), say()), (1, 0));
    }
}
