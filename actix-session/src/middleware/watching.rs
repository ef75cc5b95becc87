//! Hands those who wait for the end of a session to the store.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    task::{Context, Waker},
};

use super::{Parts, guard::on_worker};
use crate::{
    key::SessionKey,
    live::{Waits, Watch},
    storage::SessionStore,
};

/// Has the store tell them when the session under this key ends, of which the id may be known.
pub(crate) fn watch<Store: SessionStore + 'static>(
    parts: &Rc<Parts<Store>>,
    key: &SessionKey,
    id: Option<u128>,
    waiting: Vec<Waits>,
) {
    for waits in waiting {
        let configuration = &parts.configuration;
        let watch = Watch::new(
            waits,
            id,
            parts.looking.clone(),
            configuration.clock.clone(),
            configuration.ended_lease,
        );
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
