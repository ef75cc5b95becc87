//! Commits of one thread to one record queue, and hand the record on. Each then needs one round
//! trip, and none starves.
//!
//! Only those of one thread: nobody waits for a worker whose handler keeps it busy. Between threads
//! and processes the compare-and-set decides.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::Name;
use crate::{error::CommitError, record::Record, sync::lock};

/// Somebody is at the record, and these wait for it.
#[derive(Default)]
struct Line {
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// How often it has moved on.
    moves: u64,
}

type Lines = HashMap<(usize, Name), Line, foldhash::fast::RandomState>;

thread_local! {
    static LINES: Arc<Mutex<Lines>> = Arc::default();
}

/// The right to be the only one of this thread that writes a record, passed on when it is dropped.
pub(super) struct Turn {
    /// `None` for whoever does not wait for a line that stands still.
    place: Option<Place>,
    left: Left,
}

/// What the one before leaves.
#[derive(Default)]
struct Left {
    /// What it has written.
    record: Option<Record>,
    /// How long its last round trip took.
    trip: Option<Duration>,
}

struct Place {
    /// Of the thread that began: a task may be dropped on another one.
    lines: Arc<Mutex<Lines>>,
    of: (usize, Name),
}

impl Turn {
    /// Waits for the others of this thread as long as they get on: whoever comes first may be a
    /// task that nobody polls.
    ///
    /// `store` tells stores apart.
    ///
    /// # Errors
    /// There is no time left to write anything.
    pub(super) async fn enter(
        store: usize,
        at: &Name,
        deadline: Instant,
    ) -> Result<Self, CommitError> {
        let place = Place {
            lines: LINES.with(Arc::clone),
            of: (store, at.clone()),
        };
        let Some((turn, moves)) = place.stand_in_line() else {
            return Ok(Self::of(Some(place)));
        };
        let turn = place.wait(turn, moves, deadline).await?;
        if turn.comes_too_late(deadline) {
            return Err(CommitError::Contended);
        }
        Ok(turn)
    }

    fn of(place: Option<Place>) -> Self {
        Self {
            place,
            left: Left::default(),
        }
    }

    /// Whether the answer to a write would not come in time: then nobody would know what became of
    /// it.
    fn comes_too_late(&self, deadline: Instant) -> bool {
        let trip = self.left.trip.unwrap_or_default();
        Instant::now() + trip * 2 >= deadline
    }

    /// What the one before has written, if it wrote.
    pub(super) fn take_handed(&mut self) -> Option<Record> {
        self.left.record.take()
    }

    /// Gives way to the next one, which goes on from this record.
    pub(super) fn hand_on(
        mut self,
        trip: Option<Duration>,
        written: impl FnOnce() -> Option<Record>,
    ) {
        if self.place.as_ref().is_some_and(Place::is_wanted) {
            let record = written();
            self.left = Left { record, trip };
        }
    }
}

impl Place {
    /// `None` if nobody is at the record: then this one is.
    fn stand_in_line(&self) -> Option<(oneshot::Receiver<Turn>, u64)> {
        let mut lines = lock(&self.lines);
        match lines.entry(self.of.clone()) {
            Entry::Vacant(free) => {
                free.insert(Line::default());
                None
            }
            Entry::Occupied(mut line) => {
                let (sender, turn) = oneshot::channel();
                let line = line.get_mut();
                line.waiting.push_back(sender);
                Some((turn, line.moves))
            }
        }
    }

    async fn wait(
        &self,
        mut turn: oneshot::Receiver<Turn>,
        mut moves: u64,
        deadline: Instant,
    ) -> Result<Turn, CommitError> {
        let patience = deadline.saturating_duration_since(Instant::now()) / 4;
        loop {
            let until = (Instant::now() + patience).min(deadline);
            match timeout_at(until, &mut turn).await {
                Ok(Ok(turn)) => return Ok(turn),
                Ok(Err(_)) => return Ok(Turn::of(None)),
                Err(_) if until == deadline => return Err(CommitError::Contended),
                Err(_) => {}
            }
            let now = self.moves();
            if now == moves {
                return Ok(Turn::of(None));
            }
            moves = now;
        }
    }

    fn moves(&self) -> u64 {
        lock(&self.lines).get(&self.of).map_or(0, |line| line.moves)
    }

    fn is_wanted(&self) -> bool {
        let lines = lock(&self.lines);
        lines
            .get(&self.of)
            .is_some_and(|line| !line.waiting.is_empty())
    }

    /// Who comes next; without anybody, nobody is at the record any more.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut lines = lock(&self.lines);
        let line = lines.get_mut(&self.of)?;
        line.moves += 1;
        let next = line.waiting.pop_front();
        if next.is_none() {
            lines.remove(&self.of);
        }
        next
    }
}

impl Drop for Turn {
    /// Passes over those who no longer wait, however many they are.
    fn drop(&mut self) {
        let mut left = mem::take(&mut self.left);
        while let Some(place) = self.place.take() {
            let Some(next) = place.next() else {
                return;
            };
            let turn = Self {
                place: Some(place),
                left,
            };
            let Err(mut back) = next.send(turn) else {
                return;
            };
            self.place = back.place.take();
            left = mem::take(&mut back.left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
    };

    use super::*;
    use crate::record::{Metadata, WireFormat};

    fn at() -> Name {
        "a".into()
    }

    async fn enter(budget: Duration) -> Turn {
        let turn = Turn::enter(1, &at(), Instant::now() + budget).await;
        turn.unwrap()
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
        let other = Turn::enter(2, &at(), Instant::now() + LONG).await.unwrap();
        assert!(other.place.is_some(), "of another store");
        drop(other);

        first.hand_on(None, written);
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
            first.hand_on(None, written);
        }
        let mut last = last.await;
        assert!(last.take_handed().is_some(), "it was handed on unseen");
        drop(last);
        assert!(nobody_is_left());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let first = enter(LONG).await;
        let patient = enter(Duration::from_millis(500)).await;
        assert!(patient.place.is_none());
        patient.hand_on(None, || panic!("nobody is told"));
        drop(first);
        assert!(nobody_is_left());
    }

    #[tokio::test]
    async fn whoever_has_no_time_for_a_round_trip_is_contended() {
        let first = enter(LONG).await;
        let until = Instant::now() + Duration::from_secs(60);
        let at = at();
        let mut second = Box::pin(Turn::enter(1, &at, until));
        let mut third = pin!(enter(LONG));
        let is_pending = poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending()));
        assert!(is_pending.await && waits(&mut third).await);
        first.hand_on(Some(Duration::from_secs(40)), written);
        assert!(matches!(second.await, Err(CommitError::Contended)));
        // What it did not take up goes on.
        assert!(third.await.take_handed().is_some());
        assert!(nobody_is_left());
    }

    #[tokio::test]
    async fn any_number_may_have_given_up() {
        let first = enter(LONG).await;
        for _ in 0..100_000 {
            assert!(waits(&mut pin!(enter(LONG))).await);
        }
        drop(first);
        assert!(nobody_is_left());
    }
}
