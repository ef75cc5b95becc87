//! Work that goes on, once it has begun, if nobody waits for it any more.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tracing::Instrument as _;

/// Does work that goes on if nobody waits for it any more: on the runtime of whoever gave it up.
pub(crate) async fn to_the_end<T: 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let finish = |work| {
        if let Ok(runtime) = Handle::try_current() {
            let work = async move { drop(work.await) };
            runtime.spawn(work.in_current_span());
        }
    };
    ToTheEnd::new(work, finish).await
}

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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_goes_on() {
        let (go, wait) = oneshot::channel();
        let (done, seen) = oneshot::channel();
        let mut work = Box::pin(to_the_end(async move {
            wait.await.unwrap();
            done.send(1).unwrap();
        }));
        assert!((&mut work).now_or_never().is_none(), "it waits");
        drop(work);
        go.send(()).unwrap();
        assert_eq!(seen.await.unwrap(), 1);
        assert_eq!(to_the_end(async { 2 }).await, 2);
    }
}
