//! Work that goes on, once it has begun, if nobody waits for it any more.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// Who is given up goes to whoever finishes it.
pub(crate) struct ToTheEnd<W: Future> {
    work: Option<Pin<Box<W>>>,
    finish: fn(Pin<Box<W>>),
}

impl<W: Future> ToTheEnd<W> {
    pub(crate) fn new(work: W, finish: fn(Pin<Box<W>>)) -> Self {
        Self {
            work: Some(Box::pin(work)),
            finish,
        }
    }
}

impl<W: Future> Future for ToTheEnd<W> {
    type Output = W::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<W::Output> {
        // Taken out: what panics must not be polled again.
        let Some(mut work) = self.work.take() else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<W: Future> Drop for ToTheEnd<W> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            (self.finish)(work);
        }
    }
}
