//! Requests that wait for a connection.

use std::{collections::VecDeque, sync::Mutex};

use tokio::sync::oneshot;

use crate::sync::lock;

/// A line in which whoever came first is served first.
///
/// A pool that may open further connections keeps trying to, and does not see those that come back
/// meanwhile. If the server allows no more, that would be for ever.
#[derive(Debug)]
pub(crate) struct Line<T>(Mutex<VecDeque<oneshot::Sender<T>>>);

/// A place in the line. Whoever leaves passes on what was handed over too late.
#[derive(Debug)]
pub(crate) struct Place<'a, T> {
    line: &'a Line<T>,
    handed: oneshot::Receiver<T>,
}

impl<T> Line<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    pub(crate) fn join(&self) -> Place<'_, T> {
        let (hand, handed) = oneshot::channel();
        let mut waiting = lock(&self.0);
        // Those who have given up, while nothing came back to be handed over. All wait equally long, so
        // they are the first.
        while waiting.front().is_some_and(oneshot::Sender::is_closed) {
            waiting.pop_front();
        }
        waiting.push_back(hand);
        Place { line: self, handed }
    }

    /// Gives this to whoever has waited longest, or back if nobody waits.
    pub(crate) fn hand(&self, mut it: T) -> Option<T> {
        let mut waiting = lock(&self.0);
        while let Some(first) = waiting.pop_front() {
            match first.send(it) {
                Ok(()) => return None,
                Err(back) => it = back,
            }
        }
        Some(it)
    }
}

impl<T> Place<'_, T> {
    /// Waits until something is handed over. It is safe to give up and wait again.
    pub(crate) async fn wait(&mut self) -> T {
        match (&mut self.handed).await {
            Ok(it) => it,
            // The line lives as long as the place, and drops nobody.
            Err(_) => std::future::pending().await,
        }
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        self.handed.close();
        if let Ok(it) = self.handed.try_recv() {
            drop(self.line.hand(it));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_came_first_is_served_first() {
        let line = Line::new();
        assert_eq!(line.hand(0), Some(0), "nobody waits");
        let (mut one, mut two) = (line.join(), line.join());
        assert_eq!((line.hand(1), line.hand(2)), (None, None));
        assert_eq!((one.wait().await, two.wait().await), (1, 2));
    }

    #[tokio::test]
    async fn whoever_has_given_up_takes_no_room() {
        let line: Line<u8> = Line::new();
        let mut last = line.join();
        for _ in 0..1_000 {
            last = line.join();
        }
        assert_eq!(lock(&line.0).len(), 2);
        assert_eq!(line.hand(1), None);
        assert_eq!(last.wait().await, 1);
    }

    #[tokio::test]
    async fn what_came_too_late_is_passed_on() {
        let line = Line::new();
        let (one, gone, mut two) = (line.join(), line.join(), line.join());
        drop(gone);
        assert_eq!(line.hand(1), None);
        drop(one);
        assert_eq!(two.wait().await, 1);
    }
}
