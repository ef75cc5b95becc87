//! Futures on the heap.

use std::pin::Pin;

/// Puts a future on the heap. One that waits in place takes room in every future around it, and a
/// local variable that held it does so even after it was moved.
pub(crate) fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}
