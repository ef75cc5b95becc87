//! What a wrapper of the five published methods does not hand on to the store that it wraps: the
//! keys that prove metadata, and the format to write.
//!
//! The default bodies poll those methods inside [`hand`], and a store of this crate looks here. A
//! wrapper that runs the inner store in another task loses this; its metadata then pass through
//! unread.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    sync::Arc,
};

use crate::record::{MetadataKeys, WireFormat};

#[derive(Clone)]
pub(crate) struct Handed {
    pub(crate) keys: Option<Arc<MetadataKeys>>,
    pub(crate) format: WireFormat,
}

thread_local! {
    static HANDED: RefCell<Option<Handed>> = const { RefCell::new(None) };
    static KEPT: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call of one of the five methods for a middleware that hands this on.
pub(crate) async fn hand<F: Future>(handed: Handed, call: F) -> F::Output {
    // On the heap: a store inside of a store would make a deep stack.
    let mut call = Box::pin(call);
    poll_fn(|context| {
        let _back = PutBack(HANDED.replace(Some(handed.clone())));
        call.as_mut().poll(context)
    })
    .await
}

/// The same for a call that is to extend a session. Says too whether the store has told that it
/// cannot.
pub(crate) async fn hand_touch<F: Future>(handed: Handed, call: F) -> (F::Output, bool) {
    let mut call = Box::pin(call);
    let mut kept = false;
    poll_fn(|context| {
        let _back = PutBack(HANDED.replace(Some(handed.clone())));
        let polled = call.as_mut().poll(context);
        kept |= KEPT.take();
        polled.map(|output| (output, kept))
    })
    .await
}

/// Tells the middleware behind a call that only another key can extend this session.
pub(crate) fn keep_end() {
    KEPT.set(true);
}

/// What the middleware behind a call has handed over; `None` if a program calls the store itself.
pub(crate) fn handed() -> Option<Handed> {
    HANDED.with_borrow(Clone::clone)
}

/// Restores what was there before, even if the poll panics.
struct PutBack(Option<Handed>);

impl Drop for PutBack {
    fn drop(&mut self) {
        HANDED.set(self.0.take());
    }
}
