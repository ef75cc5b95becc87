//! Hands those who wait for the end of a session to the store.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    task::{Context, Waker},
};

use super::{Parts, guard::on_worker};
use crate::{
    key::SessionKey,
    live::{Looking, Waits, Watch},
    record::{Metadata, Record},
    storage::SessionStore,
};

/// Has the store tell them when the session ends whose record was found under this key.
pub(crate) fn watch_found<Store: SessionStore + 'static>(
    parts: &Rc<Parts<Store>>,
    (key, record): (&SessionKey, &Record),
    waiting: Vec<Waits>,
) {
    let new = |waits, looking| Watch::new(waits, record.metadata(), looking);
    watch(parts, key, waiting, new);
}

/// The same for a session that this request has just written, with these metadata.
pub(crate) fn watch_made<Store: SessionStore + 'static>(
    parts: &Rc<Parts<Store>>,
    (key, made): (&SessionKey, Option<&Metadata>),
    waiting: Vec<Waits>,
) {
    let new = |waits, looking| Watch::new(waits, made, looking).of_made(made);
    watch(parts, key, waiting, new);
}

fn watch<Store: SessionStore + 'static>(
    parts: &Rc<Parts<Store>>,
    key: &SessionKey,
    waiting: Vec<Waits>,
    new: impl Fn(Waits, Looking) -> Watch,
) {
    for waits in waiting {
        let watch = new(waits, parts.looking.clone());
        let (parts, key) = (Rc::clone(parts), key.duplicate());
        let mut watching = Box::pin(async move {
            let terms = parts.terms(true);
            parts.store.watch(&key, watch, &terms).await;
        });
        // At once: whatever ends the session from now on is noticed.
        let mut cx = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| watching.as_mut().poll(&mut cx)));
        // A panic has dropped the watch, which tells that the session is gone.
        if polled.is_ok_and(|polled| polled.is_pending()) {
            on_worker(watching);
        }
    }
}
