//! Clients that go away in the middle.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// Polls a future so many times, and drops it then: a client that goes away at this await. `None`: it
/// was dropped.
///
/// # Examples
/// ```
/// use actix_session::testing::dropped_after;
/// use actix_web::rt::task::yield_now;
///
/// # actix_web::rt::System::new().block_on(async {
/// let twice_pending = || async {
///     yield_now().await;
///     yield_now().await;
///     7
/// };
/// assert_eq!(dropped_after(2, twice_pending()).await, None);
/// assert_eq!(dropped_after(3, twice_pending()).await, Some(7));
/// # });
/// ```
pub async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let polled = future.as_mut().poll(cx).map(Some);
        if polled.is_pending() && left == 0 {
            return Poll::Ready(None);
        }
        polled
    })
    .await
}
