//! Commits of one thread to one record queue, and hand the record on. Whoever is at it carries
//! along those that wait, so that one round trip serves many, and none starves.
//!
//! Only those of one thread: nobody waits for a worker whose handler keeps it busy. Between threads
//! and processes the compare-and-set decides.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::Future,
    mem,
    pin::pin,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    Name, Reply,
    batch::{self, Batch, Errand, Leaving},
    commit::Attempt,
};
use crate::{contract::End, error::CommitError, record::Record, sync::lock};

/// How often those whom a step carries see that somebody waits for its answer.
const BEAT: Duration = Duration::from_millis(50);

/// Somebody is at the record, and these wait for it.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// How often it has moved on.
    moves: u64,
}

type Lines = HashMap<(usize, Name), Line, foldhash::fast::RandomState>;

thread_local! {
    static LINES: Arc<Mutex<Lines>> = Arc::default();
}

/// One that waits for the record.
pub(super) struct Waiting {
    wake: oneshot::Sender<Wake>,
    deadline: Instant,
    /// Empty if nobody can carry it along, or nobody waits for it any more.
    pub(super) errand: Weak<Errand>,
}

enum Wake {
    Turn(Turn),
    Carried(End),
}

/// How the waiting ends.
pub(super) enum Entered {
    Turn(Turn),
    /// Another one has carried this one along.
    Carried(End),
}

/// The right to be the only one of this thread that writes a record, passed on when it is dropped.
pub(super) struct Turn {
    /// `None` for whoever does not wait for a line that stands still.
    place: Option<Place>,
    left: Left,
    /// This one was part of an attempt, and nobody knows what became of it.
    doubt: Option<Attempt>,
}

/// What the one before leaves.
#[derive(Default)]
struct Left {
    /// What it has written.
    record: Option<Record>,
    /// How long its last round trip took.
    trip: Option<Duration>,
}

#[derive(Clone)]
struct Place {
    /// Of the thread that began: a task may be dropped on another one.
    lines: Arc<Mutex<Lines>>,
    of: (usize, Name),
}

/// One that has just joined a line.
struct Wait {
    wake: oneshot::Receiver<Wake>,
    errand: Option<Arc<Errand>>,
    /// How often the line had moved when it was last looked at.
    moves: u64,
    /// Whether it had moved since the time before that.
    had_moved: bool,
}

impl Waiting {
    pub(super) fn answer(self, end: End) {
        // Whoever has gone needs no answer.
        let _ = self.wake.send(Wake::Carried(end));
    }
}

impl Turn {
    /// Waits for the others of this thread as long as they get on: whoever comes first may be a
    /// task that nobody polls.
    ///
    /// `store` tells stores apart. `errand` is for those who can carry this one along.
    ///
    /// # Errors
    /// There is no time left to write anything.
    pub(super) async fn enter(
        store: usize,
        at: &Name,
        deadline: Instant,
        errand: impl FnOnce() -> Option<Errand>,
    ) -> Result<Entered, CommitError> {
        let place = Place {
            lines: LINES.with(Arc::clone),
            of: (store, at.clone()),
        };
        let Some(wait) = place.stand_in_line(deadline, errand) else {
            return Ok(Entered::Turn(Self::of(Some(place))));
        };
        let patience = deadline.saturating_duration_since(Instant::now()) / 8;
        let entered = place.wait(wait, deadline, patience).await?;
        if let Entered::Turn(turn) = &entered {
            turn.comes_in_time(deadline, patience)?;
        }
        Ok(entered)
    }

    fn of(place: Option<Place>) -> Self {
        Self {
            place,
            left: Left::default(),
            doubt: None,
        }
    }

    /// Whether the answer to a write would come in time: if not, nobody would know what became of
    /// it. One trip that took very long says little of the next: all who wait would refuse, one after
    /// the other.
    fn comes_in_time(&self, deadline: Instant, patience: Duration) -> Result<(), CommitError> {
        let trip = self.left.trip.map(|trip| trip.min(patience));
        if is_in_time(trip, deadline) {
            return Ok(());
        }
        Err(match self.doubt {
            Some(_) => CommitError::OutcomeUnknown,
            None => CommitError::Contended,
        })
    }

    /// What the one before has written, if it wrote.
    pub(super) fn take_handed(&mut self) -> Option<Record> {
        self.left.record.take()
    }

    /// The attempt that this one was part of, if nobody knows what became of it.
    pub(super) fn take_doubt(&mut self) -> Option<Attempt> {
        self.doubt.take()
    }

    /// Whether somebody waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.place.as_ref().is_some_and(Place::is_wanted)
    }

    /// Those who wait, as far as `carry` can take them along in time.
    pub(super) fn board(
        &self,
        trip: Option<Duration>,
        deadline: Instant,
        mut carry: impl FnMut(&Errand) -> Option<End>,
    ) -> Boarded {
        let mut boarded = Boarded::default();
        let Some(place) = &self.place else {
            return boarded;
        };
        boarded.place = Some(place.clone());
        let trip = trip.or(self.left.trip);
        // Closures of the application run without the lock.
        let waiting = place.take_waiting();
        let mut stay = VecDeque::with_capacity(waiting.len());
        for waiting in waiting {
            let is_in_time = is_in_time(trip, waiting.deadline.min(deadline));
            let fits = boarded.batch.len() < batch::MOST && is_in_time;
            let taken = match fits && !waiting.wake.is_closed() {
                true => boarded.batch.take(waiting, &mut carry),
                false => Err(waiting),
            };
            stay.extend(taken.err());
        }
        let gone = place.come_back(&mut lock(&place.lines), stay);
        drop(gone);
        if !boarded.is_empty() {
            place.moves_on();
        }
        boarded
    }

    /// Gives way to the next one, which goes on from this record.
    pub(super) fn hand_on(
        mut self,
        trip: Option<Duration>,
        written: impl FnOnce() -> Option<Record>,
    ) {
        if self.is_wanted() {
            let record = written();
            self.left = Left { record, trip };
        }
    }
}

fn is_in_time(trip: Option<Duration>, deadline: Instant) -> bool {
    Instant::now() + trip.unwrap_or_default() * 2 < deadline
}

/// Whether no code of this thread is under the lock.
#[cfg(test)]
pub(super) fn is_free() -> bool {
    LINES.with(|lines| lines.try_lock().is_ok())
}

/// Those whom a step carries along. They wait again if it is given up.
#[derive(Default)]
pub(super) struct Boarded {
    batch: Batch,
    place: Option<Place>,
}

impl Boarded {
    pub(super) fn is_empty(&self) -> bool {
        self.batch.len() == 0
    }

    /// From now on nobody knows what has become of them.
    pub(super) fn goes_with(&self, attempt: &Attempt) {
        self.batch.goes_with(attempt);
    }

    /// Waits for the answer to the step. `None` if none came in time.
    ///
    /// Meanwhile they see that somebody waits for it, so that they do not repeat the step.
    pub(super) async fn wait_for<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        let mut answer = pin!(answer);
        loop {
            let until = match self.is_empty() {
                true => deadline,
                false => deadline.min(Instant::now() + BEAT),
            };
            match timeout_at(until, &mut answer).await {
                Ok(answer) => return Some(answer),
                Err(_) if until == deadline => return None,
                Err(_) => self.place.iter().for_each(Place::moves_on),
            }
        }
    }

    /// Tells them what became of the step, and returns what is to be made of the reply.
    pub(super) fn settle(
        mut self,
        reply: Result<Reply, CommitError>,
    ) -> Result<Reply, CommitError> {
        self.end(reply)
    }

    fn end(&mut self, reply: Result<Reply, CommitError>) -> Result<Reply, CommitError> {
        let Some(place) = self.place.take() else {
            return reply;
        };
        let batch = mem::take(&mut self.batch);
        let mut lines = lock(&place.lines);
        let reply = batch.settle(reply);
        let (done, gone) = match &reply {
            Ok(Reply::Done) => (Some(batch), None),
            _ => {
                let (stay, errands) = batch.into_waiting();
                (None, Some((place.come_back(&mut lines, stay), errands)))
            }
        };
        // What the application's closures hold is dropped without the lock.
        drop(lines);
        drop(gone);
        if let Some(done) = done {
            done.answer();
        }
        reply
    }
}

impl Drop for Boarded {
    fn drop(&mut self) {
        let _ = self.end(Ok(Reply::Lost));
    }
}

impl Place {
    /// `None` if nobody is at the record: then this one is.
    fn stand_in_line(
        &self,
        deadline: Instant,
        errand: impl FnOnce() -> Option<Errand>,
    ) -> Option<Wait> {
        let mut lines = lock(&self.lines);
        match lines.entry(self.of.clone()) {
            Entry::Vacant(free) => {
                free.insert(Line::default());
                None
            }
            Entry::Occupied(mut line) => {
                let (sender, wake) = oneshot::channel();
                let errand = errand().map(Arc::new);
                let line = line.get_mut();
                line.waiting.push_back(Waiting {
                    wake: sender,
                    deadline,
                    errand: errand.as_ref().map(Arc::downgrade).unwrap_or_default(),
                });
                Some(Wait {
                    wake,
                    errand,
                    moves: line.moves,
                    had_moved: true,
                })
            }
        }
    }

    async fn wait(
        &self,
        mut wait: Wait,
        deadline: Instant,
        patience: Duration,
    ) -> Result<Entered, CommitError> {
        loop {
            let until = (Instant::now() + patience).min(deadline);
            let woken = timeout_at(until, &mut wait.wake).await;
            let is_over = woken.is_err();
            let mut turn = match woken {
                Ok(Ok(Wake::Carried(end))) => return Ok(Entered::Carried(end)),
                Ok(Ok(Wake::Turn(turn))) => turn,
                Ok(Err(_)) => Turn::of(None),
                Err(_) if until == deadline => return wait.give_up().map(Entered::Carried),
                Err(_) if self.has_moved(&mut wait) => continue,
                Err(_) => Turn::of(None),
            };
            match self.leave(&wait) {
                // Whoever waits on goes with the step that is just made.
                Leaving::Taken if is_over => continue,
                Leaving::Done(end) => return Ok(Entered::Carried(end)),
                Leaving::Taken | Leaving::Free => {}
                Leaving::Carried(attempt) => turn.doubt = Some(attempt),
            }
            return Ok(Entered::Turn(turn));
        }
    }

    /// Nobody settles meanwhile what it was part of.
    fn leave(&self, wait: &Wait) -> Leaving {
        let _lines = lock(&self.lines);
        let errand = wait.errand.as_ref();
        errand.map_or(Leaving::Free, |errand| errand.leave())
    }

    /// Whether it has moved lately. If it has not moved once, perhaps this thread was busy.
    fn has_moved(&self, wait: &mut Wait) -> bool {
        let now = lock(&self.lines).get(&self.of).map_or(0, |line| line.moves);
        let has_moved = mem::replace(&mut wait.moves, now) != now;
        mem::replace(&mut wait.had_moved, has_moved) || has_moved
    }

    fn moves_on(&self) {
        if let Some(line) = lock(&self.lines).get_mut(&self.of) {
            line.moves += 1;
        }
    }

    fn is_wanted(&self) -> bool {
        let lines = lock(&self.lines);
        lines
            .get(&self.of)
            .is_some_and(|line| !line.waiting.is_empty())
    }

    fn take_waiting(&self) -> VecDeque<Waiting> {
        let mut lines = lock(&self.lines);
        let line = lines.get_mut(&self.of);
        line.map(|line| mem::take(&mut line.waiting))
            .unwrap_or_default()
    }

    /// These come before all that have joined since. If the line is gone, they go on by themselves,
    /// once the caller drops what is returned.
    fn come_back(&self, lines: &mut Lines, mut first: VecDeque<Waiting>) -> VecDeque<Waiting> {
        let Some(line) = lines.get_mut(&self.of) else {
            return first;
        };
        first.append(&mut line.waiting);
        mem::replace(&mut line.waiting, first)
    }

    /// Who comes next; without anybody, nobody is at the record any more.
    fn next(&self) -> Option<Waiting> {
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

impl Wait {
    /// What it means that the time is over.
    fn give_up(&self) -> Result<End, CommitError> {
        match &self.errand {
            Some(errand) => errand.give_up(),
            None => Err(CommitError::Contended),
        }
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
                doubt: None,
            };
            let Err(Wake::Turn(mut back)) = next.wake.send(Wake::Turn(turn)) else {
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
        enter_store(1, budget).await.unwrap()
    }

    async fn enter_store(store: usize, budget: Duration) -> Result<Turn, CommitError> {
        match Turn::enter(store, &at(), Instant::now() + budget, || None).await? {
            Entered::Turn(turn) => Ok(turn),
            Entered::Carried(_) => panic!("nobody can carry it"),
        }
    }

    const LONG: Duration = Duration::from_secs(600);

    fn written() -> Option<Record> {
        let metadata = Metadata::new(1, crate::clock::Millis(0));
        Some(Record::written(WireFormat::V1, 7, metadata, &[]))
    }

    async fn waits(turn: &mut (impl Future<Output = Turn> + Unpin)) -> bool {
        is_pending(turn).await
    }

    async fn is_pending<T>(work: &mut (impl Future<Output = T> + Unpin)) -> bool {
        poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *work).poll(cx).is_pending())).await
    }

    fn nobody_is_left() -> bool {
        LINES.with(|lines| lock(lines).is_empty())
    }

    #[tokio::test]
    async fn each_takes_up_what_the_one_before_has_written() {
        let first = enter(LONG).await;
        let (mut second, mut third) = (pin!(enter(LONG)), pin!(enter(LONG)));
        assert!(waits(&mut second).await && waits(&mut third).await);
        let other = enter_store(2, LONG).await.unwrap();
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
        let mut first = enter(LONG).await;
        let mut second = pin!(enter(LONG));
        assert!(waits(&mut second).await);
        let trip = Some(Duration::from_secs(40));
        first.left = Left {
            record: written(),
            trip,
        };
        let (soon, patience) = (Duration::from_secs(10), Duration::from_secs(7));
        let in_time = first.comes_in_time(Instant::now() + soon, patience);
        assert!(matches!(in_time, Err(CommitError::Contended)));
        // What it does not take up goes on.
        drop(first);
        assert!(second.await.take_handed().is_some());
        assert!(nobody_is_left());
    }

    #[tokio::test]
    async fn one_slow_trip_turns_nobody_away() {
        let first = enter(LONG).await;
        let mut second = Box::pin(enter_store(1, Duration::from_secs(60)));
        assert!(is_pending(&mut second).await);
        first.hand_on(Some(Duration::from_secs(40)), written);
        assert!(second.await.unwrap().take_handed().is_some());
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
