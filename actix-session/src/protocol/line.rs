//! Commits of one thread to one record queue, and hand the record on. Each then needs one round
//! trip, and none starves.
//!
//! Only those of one thread: nobody waits for a worker whose handler keeps it busy. Between threads
//! and processes the compare-and-set decides.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::Name;
use crate::{record::Record, sync::lock};

/// Who waits for a record; an entry without anybody says that somebody is at it.
type Waiting = HashMap<(usize, Name), VecDeque<oneshot::Sender<Turn>>>;

thread_local! {
    static LINES: Arc<Mutex<Waiting>> = Arc::default();
}

/// The right to be the only one of this thread that writes a record, passed on when it is dropped.
pub(super) struct Turn {
    /// `None` for whoever would not wait any longer.
    place: Option<Place>,
    /// What the one before has written.
    handed: Option<Record>,
}

struct Place {
    /// Of the thread that began: a task may be dropped on another one.
    lines: Arc<Mutex<Waiting>>,
    of: (usize, Name),
}

impl Turn {
    /// Waits for the others of this thread, for at most half of the time: whoever comes first may
    /// be a task that nobody polls.
    ///
    /// `store` tells stores apart.
    pub(super) async fn enter(store: usize, at: &Name, deadline: Instant) -> Self {
        let place = Place {
            lines: LINES.with(Arc::clone),
            of: (store, at.clone()),
        };
        let Some(turn) = place.stand_in_line() else {
            return Self {
                place: Some(place),
                handed: None,
            };
        };
        let now = Instant::now();
        let patience = now + deadline.saturating_duration_since(now) / 2;
        match timeout_at(patience, turn).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => Self {
                place: None,
                handed: None,
            },
        }
    }

    /// What the one before has written, if it wrote.
    pub(super) fn take_handed(&mut self) -> Option<Record> {
        self.handed.take()
    }

    /// Gives way to the next one, which goes on from this record.
    pub(super) fn hand_on(mut self, written: impl FnOnce() -> Option<Record>) {
        if self.place.as_ref().is_some_and(Place::is_wanted) {
            self.handed = written();
        }
    }
}

impl Place {
    /// `None` if nobody is at the record: then this one is.
    fn stand_in_line(&self) -> Option<oneshot::Receiver<Turn>> {
        let mut lines = lock(&self.lines);
        let Some(waiting) = lines.get_mut(&self.of) else {
            lines.insert(self.of.clone(), VecDeque::new());
            return None;
        };
        let (sender, turn) = oneshot::channel();
        waiting.push_back(sender);
        Some(turn)
    }

    fn is_wanted(&self) -> bool {
        let lines = lock(&self.lines);
        lines
            .get(&self.of)
            .is_some_and(|waiting| !waiting.is_empty())
    }

    /// Who comes next; without anybody, nobody is at the record any more.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut lines = lock(&self.lines);
        let next = lines.get_mut(&self.of)?.pop_front();
        if next.is_none() {
            lines.remove(&self.of);
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else {
            return;
        };
        if let Some(next) = place.next() {
            let turn = Self {
                place: Some(place),
                handed: self.handed.take(),
            };
            // Whoever no longer waits drops it, and so passes it on.
            drop(next.send(turn));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
        time::Duration,
    };

    use super::*;
    use crate::record::{Metadata, WireFormat};

    fn at() -> Name {
        "a".into()
    }

    async fn enter(budget: Duration) -> Turn {
        Turn::enter(1, &at(), Instant::now() + budget).await
    }

    const LONG: Duration = Duration::from_secs(600);

    fn written() -> Option<Record> {
        let metadata = Metadata::new(1, crate::clock::Millis(0));
        Some(Record::written(WireFormat::V1, 7, metadata, &[]))
    }

    async fn waits(turn: &mut (impl Future<Output = Turn> + Unpin)) -> bool {
        poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *turn).poll(cx).is_pending())).await
    }

    fn nobody_is_left() -> bool {
        LINES.with(|lines| lock(lines).is_empty())
    }

    #[tokio::test]
    async fn each_takes_up_what_the_one_before_has_written() {
        let first = enter(LONG).await;
        let (mut second, mut third) = (pin!(enter(LONG)), pin!(enter(LONG)));
        assert!(waits(&mut second).await && waits(&mut third).await);
        let other = Turn::enter(2, &at(), Instant::now() + LONG).await;
        assert!(other.place.is_some(), "of another store");
        drop(other);

        first.hand_on(written);
        assert!(waits(&mut third).await);
        let mut second = second.await;
        assert_eq!(second.take_handed().unwrap().commit_id(), 7);
        drop(second);
        assert!(
            third.await.take_handed().is_none(),
            "it has written nothing"
        );
        assert!(nobody_is_left());
    }

    #[tokio::test]
    async fn whoever_gives_up_keeps_nobody_from_the_record() {
        let first = enter(LONG).await;
        let mut last = pin!(enter(LONG));
        {
            let (mut dropped, mut late) = (pin!(enter(LONG)), pin!(enter(LONG)));
            assert!(waits(&mut dropped).await && waits(&mut late).await);
            assert!(waits(&mut last).await);
            // Has its turn, and does not learn of it.
            first.hand_on(written);
        }
        let mut last = last.await;
        assert!(last.take_handed().is_some(), "it was handed on unseen");
        drop(last);
        assert!(nobody_is_left());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let first = enter(LONG).await;
        let patient = enter(Duration::from_millis(2)).await;
        assert!(patient.place.is_none());
        patient.hand_on(|| panic!("nobody is told"));
        drop(first);
        assert!(nobody_is_left());
    }
}
