//! The lock of a session's handle: no code of the application runs, and nothing of it is dropped,
//! while it is held.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{Pending, Session};
use crate::sync;

/// The locked state of a session. What it no longer needs is dropped after the lock is released: a
/// closure may have captured anything.
pub(crate) struct Lock<'a>(Option<MutexGuard<'a, Pending>>);

impl<'a> Lock<'a> {
    /// A poisoned lock stays usable: nothing that holds it panics halfway.
    pub(super) fn of(pending: &'a Mutex<Pending>) -> Self {
        Self(Some(sync::lock(pending)))
    }
}

const HELD: &str = "the guard is taken when it is dropped, and not before";

impl Deref for Lock<'_> {
    type Target = Pending;

    fn deref(&self) -> &Pending {
        self.0.as_ref().expect(HELD)
    }
}

impl DerefMut for Lock<'_> {
    fn deref_mut(&mut self) -> &mut Pending {
        self.0.as_mut().expect(HELD)
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        if let Some(mut pending) = self.0.take() {
            let discarded = pending.take_discarded();
            drop(pending);
            drop(discarded);
        }
    }
}

thread_local! {
    /// The entries whose closures run on this thread right now.
    static RUNNING: RefCell<Vec<(usize, String)>> = const { RefCell::new(Vec::new()) };
}

/// Notes that the closure of an entry runs on this thread, until it is dropped.
pub(super) struct Running(());

impl Running {
    pub(super) fn new(session: &Session, entry: &str) -> Self {
        of_this_thread(|all| all.push((address(session), entry.to_owned())));
        Self(())
    }

    /// Whether this thread is inside a closure of the entry.
    pub(super) fn is_inside(session: &Session, entry: &str) -> bool {
        let this = address(session);
        let is_this = |(other, name): &(usize, String)| *other == this && name == entry;
        of_this_thread(|all| all.iter().any(is_this)).unwrap_or(false)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        of_this_thread(|all| drop(all.pop()));
    }
}

/// `None` while the thread ends, when no closure runs.
fn of_this_thread<T>(act: impl FnOnce(&mut Vec<(usize, String)>) -> T) -> Option<T> {
    RUNNING.try_with(|all| act(&mut all.borrow_mut())).ok()
}

fn address(session: &Session) -> usize {
    Arc::as_ptr(&session.0).addr()
}
