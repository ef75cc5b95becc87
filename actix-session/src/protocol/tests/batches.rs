//! Commits that one write carries along, under everything that can happen to a write.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::{Future, poll_fn},
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use futures_util::future::join_all;

use super::super::*;
use crate::{
    changes::{Changes, Effect, Modify},
    contract::Committed,
    record::{Metadata, WireFormat},
    sync::lock,
};

const AT: &str = "a";
const RENEWED: &str = "b";

/// What befalls writes, in percent. Without it they are done and answered.
#[derive(Clone, Copy, Default)]
struct Mishaps {
    done_and_lost: u64,
    lost: u64,
    /// Lost, and done later if it still can be.
    late: u64,
    refused: u64,
    /// Another process has written just before.
    overtaken: u64,
    /// Another process has renewed the key just before.
    renewed: u64,
    /// Whoever waits goes away.
    dropped: u64,
}

/// A remote store with one record.
struct Remote {
    stored: RefCell<HashMap<Name, Stored>>,
    late: RefCell<Vec<Step>>,
    mishaps: Mishaps,
    random: Cell<u64>,
    writes: Cell<u64>,
    /// This write waits until the test lets it go.
    held: Cell<Option<u64>>,
    gate: tokio::sync::Notify,
    /// Writes after so many are refused, shortly before the time is over.
    busy_after: Cell<u64>,
    /// This write is done and its answer lost, and before the next but one another process writes.
    lost_once: Cell<u64>,
    clock: SharedClock,
}

impl Remote {
    fn new(seed: u64, mishaps: Mishaps) -> Self {
        let record = Record::written(WireFormat::V1, 1, Metadata::new(1, Millis(0)), &[]);
        Self {
            stored: RefCell::new([(AT.into(), Stored::Record(record))].into()),
            late: RefCell::default(),
            mishaps,
            random: Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            writes: Cell::new(0),
            held: Cell::new(None),
            gate: tokio::sync::Notify::new(),
            busy_after: Cell::new(u64::MAX),
            lost_once: Cell::new(0),
            clock: SharedClock::default(),
        }
    }

    fn below(&self, limit: u64) -> u64 {
        let mut next = self.random.get();
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.random.set(next);
        (next >> 11) % limit
    }

    fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    async fn pass_time(&self) {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
    }

    fn found(&self, at: &str) -> Stored {
        let stored = self.stored.borrow();
        stored.get(at).cloned().unwrap_or(Stored::Nothing)
    }

    /// Where the session is now.
    fn current(&self) -> (Name, Record) {
        match self.found(AT) {
            Stored::Record(record) => (AT.into(), record),
            _ => match self.found(RENEWED) {
                Stored::Record(record) => (RENEWED.into(), record),
                found => panic!("the session is gone: {found:?}"),
            },
        }
    }

    fn carry_out(&self, step: &Step) -> Reply {
        let found = self.found(step.at());
        match (step, &found) {
            (
                Step::Cas {
                    at, expect, new, ..
                },
                Stored::Record(record),
            ) if expect.matches(record.as_text().unwrap()) => {
                let read = Record::decode(new.as_text().unwrap().to_owned()).unwrap();
                let mut stored = self.stored.borrow_mut();
                stored.insert(at.clone(), Stored::Record(read));
                Reply::Done
            }
            (Step::Cas { .. } | Step::Read { .. }, _) => Reply::Found(found),
            (step, _) => panic!("{step:?}"),
        }
    }

    fn arrive_late(&self) {
        let all: Vec<Step> = self.late.take();
        for step in all {
            if self.chance(50) {
                self.carry_out(&step);
            } else {
                self.late.borrow_mut().push(step);
            }
        }
    }

    fn by_another_process(&self) {
        let (at, record) = self.current();
        let terms = Terms::default();
        let changes = append("another", &self.below(1 << 40).to_string());
        let merged = changes.made_on(&record).merge_into(&record, &terms);
        let crate::storage::Merged::Write(new) = merged.unwrap() else {
            panic!("it writes");
        };
        self.stored.borrow_mut().insert(at, Stored::Record(new));
    }

    fn renew(&self) {
        if let Stored::Record(record) = self.found(AT) {
            let redirect = Redirect {
                target: RENEWED.into(),
                flag: Flag::Plain,
                made_at: Millis(0),
            };
            let mut stored = self.stored.borrow_mut();
            stored.insert(AT.into(), Stored::Redirect(redirect));
            stored.insert(RENEWED.into(), Stored::Record(record));
        }
    }

    fn value(&self, name: &str) -> String {
        let map = self.current().1.to_map();
        map.get(name).cloned().unwrap_or_default()
    }
}

impl Backend for Remote {
    const REMOTE: bool = true;

    async fn run(&self, step: &Step, terms: &Terms) -> Result<Reply, anyhow::Error> {
        self.pass_time().await;
        if let Step::Read { .. } = step {
            return Ok(self.carry_out(step));
        }
        self.writes.set(self.writes.get() + 1);
        if self.writes.get() > self.busy_after.get() {
            let last = Duration::from_millis(100);
            tokio::time::sleep(terms.budget.saturating_sub(last).max(last * 2)).await;
            return Err(crate::error::Contended.into());
        }
        if self.held.get() == Some(self.writes.get()) {
            self.gate.notified().await;
        }
        match (self.lost_once.get(), self.writes.get()) {
            (0, _) => {}
            (lost, write) if write == lost => {
                self.carry_out(step);
                return Ok(Reply::Lost);
            }
            (lost, write) if write == lost + 2 => self.by_another_process(),
            _ => {}
        }
        let mishaps = self.mishaps;
        self.arrive_late();
        if self.chance(mishaps.overtaken) {
            self.by_another_process();
        }
        if self.chance(mishaps.renewed) {
            self.renew();
        }
        let is_bad = matches!(step, Step::Cas { new, .. } if new.to_map().contains_key("bad"));
        if is_bad || self.chance(mishaps.refused) {
            anyhow::bail!("refused");
        }
        if self.chance(mishaps.lost) {
            return Ok(Reply::Lost);
        }
        if self.chance(mishaps.late) {
            self.late.borrow_mut().push(step.clone());
            return Ok(Reply::Lost);
        }
        let reply = self.carry_out(step);
        let is_lost = self.chance(mishaps.done_and_lost);
        self.pass_time().await;
        Ok(if is_lost { Reply::Lost } else { reply })
    }

    async fn look(&self, at: &str, _: &Terms) -> Result<Stored, anyhow::Error> {
        Ok(self.found(at))
    }

    async fn set_ttl(&self, _: &str, _: Millis) -> Result<(), anyhow::Error> {
        Ok(())
    }

    fn name(&self, key: &SessionKey) -> Name {
        key.as_ref().into()
    }

    fn clock(&self) -> &SharedClock {
        &self.clock
    }
}

fn append(name: &str, tag: &str) -> Changes {
    let tag = format!("<{tag}>");
    let modify = move |json: Option<&str>| {
        let list: String = json.map_or(Ok(String::new()), serde_json::from_str)?;
        Ok(Some(serde_json::to_string(&format!("{list}{tag}"))?))
    };
    let effect = Effect::Modify(vec![Modify(Arc::new(modify), None)]);
    Changes {
        effects: [(name.to_owned(), effect)].into(),
        ..Changes::default()
    }
}

fn terms() -> Terms {
    Terms {
        budget: Duration::from_secs(600),
        ..Terms::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    NotDone,
    Unknown,
}

/// What a client knows of its commits.
#[derive(Default)]
struct Known {
    /// What was to be appended.
    appended: Vec<(String, Outcome)>,
    outcomes: Vec<Outcome>,
    /// The value of its own entry, unless it does not know.
    own: Option<String>,
}

impl Known {
    fn note(&mut self, outcome: Outcome, appends: bool, tag: String) {
        self.outcomes.push(outcome);
        if appends {
            self.appended.push((tag, outcome));
        }
    }
}

/// Polls a future so many times at most.
async fn up_to<F: Future>(polls: u64, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let polled = future.as_mut().poll(context).map(Some);
        if polled.is_pending() {
            context.waker().wake_by_ref();
        }
        polled
    })
    .await
}

async fn client(remote: &Remote, number: u64, commits: u64) -> Known {
    let (terms, own) = (terms(), format!("own{number}"));
    let mut known = Known {
        own: Some(String::new()),
        ..Known::default()
    };
    let mut base = remote.current();
    for round in 0..commits {
        remote.pass_time().await;
        // Some go on from what they read long ago.
        let is_fresh = remote.chance(70);
        if is_fresh {
            base = remote.current();
        }
        let tag = format!("{number}.{round}");
        // Whether a `modify` has happened is harder to know than whether a value is set.
        let appends = remote.chance(60);
        let mut changes = match appends {
            true => append("all", &tag),
            false => Changes::default(),
        };
        let set = Effect::Set(format!("\"{tag}\""));
        changes.effects.set(own.as_str(), set);
        let mut machine =
            CommitMachine::new(base.0.clone(), Some(base.1.clone()), &changes, &terms);
        let commit = remote.drive_in_line(&base.0, &mut machine, &terms);
        let answer = match remote.chance(remote.mishaps.dropped) {
            true => up_to(remote.below(12), commit).await,
            false => Some(commit.await),
        };
        match answer {
            Some(Ok(Committed::Saved(_))) => {
                // After a lost answer a value is set only where the base's is still there.
                known.own = is_fresh.then(|| format!("\"{tag}\""));
                known.note(Outcome::Done, appends, tag);
            }
            Some(Ok(Committed::Forwarded)) => {
                // An entry that changed since the base was read is left alone.
                known.own = None;
                known.note(Outcome::Done, appends, tag);
            }
            Some(Ok(answer)) => panic!("{answer:?}"),
            None | Some(Err(CommitError::OutcomeUnknown)) => {
                known.own = None;
                known.note(Outcome::Unknown, appends, tag);
            }
            Some(Err(_)) => known.note(Outcome::NotDone, appends, tag),
        }
        if let Some(value) = &known.own {
            assert_eq!(remote.value(&own), *value);
        }
    }
    known
}

/// What came of a game.
#[derive(Debug, Default)]
struct Played {
    writes: u64,
    done: usize,
    unknown: usize,
}

async fn play(seed: u64, clients: u64, commits: u64, mishaps: Mishaps) -> Played {
    let remote = Remote::new(seed, mishaps);
    let all = join_all((0..clients).map(|number| client(&remote, number, commits))).await;
    let list = remote.value("all");
    for (tag, outcome) in all.iter().flat_map(|known| &known.appended) {
        let times = list.matches(&format!("<{tag}>")).count();
        let right = match outcome {
            Outcome::Done => times == 1,
            Outcome::NotDone => times == 0,
            Outcome::Unknown => times <= 1,
        };
        assert!(right, "seed {seed}: {tag} is {outcome:?}: {list}");
    }
    let outcomes = || all.iter().flat_map(|known| &known.outcomes);
    let count = |what| outcomes().filter(|outcome| **outcome == what).count();
    Played {
        writes: remote.writes.get(),
        done: count(Outcome::Done),
        unknown: count(Outcome::Unknown),
    }
}

#[actix_web::test]
async fn one_write_carries_all_that_wait() {
    let played = play(1, 32, 8, Mishaps::default()).await;
    assert_eq!((played.done, played.unknown), (256, 0));
    assert!(played.writes < 100, "{played:?}");
}

/// One commit of an appended tag.
async fn commit(remote: &Remote, tag: &str, budget: Duration) -> Result<Committed, CommitError> {
    let (at, base) = remote.current();
    let terms = Terms { budget, ..terms() };
    let mut changes = append("all", tag);
    let set = Effect::Set("1".to_owned());
    changes.effects.set(tag, set);
    let mut machine = CommitMachine::new(at.clone(), Some(base), &changes, &terms);
    remote.drive_in_line(&at, &mut machine, &terms).await
}

#[actix_web::test]
async fn what_a_store_refuses_fails_alone() {
    let remote = Remote::new(3, Mishaps::default());
    let long = Duration::from_secs(600);
    let tags = ["first", "a", "bad", "b", "c"];
    let answers = join_all(tags.map(|tag| commit(&remote, tag, long))).await;
    for (tag, answer) in tags.iter().zip(answers) {
        let is_right = match answer {
            Ok(Committed::Saved(_)) => *tag != "bad",
            Err(CommitError::Other(_)) => *tag == "bad",
            _ => false,
        };
        assert!(is_right, "{tag}");
    }
    assert_eq!(remote.value("all").matches('<').count(), 4);
}

/// A store may refuse a large record, and what is large takes long.
#[actix_web::test]
async fn what_is_large_goes_alone() {
    let remote = Remote::new(5, Mishaps::default());
    let (at, base) = remote.current();
    let terms = terms();
    let commits = join_all((0..6).map(async |number| {
        let text = format!("\"{}\"", "x".repeat(40_000));
        let name = format!("large{number}");
        let changes = Changes {
            effects: [(name, Effect::Set(text))].into(),
            ..Changes::default()
        };
        let mut machine = CommitMachine::new(at.clone(), Some(base.clone()), &changes, &terms);
        remote
            .drive_in_line(&at, &mut machine, &terms)
            .await
            .unwrap();
    }));
    commits.await;
    assert_eq!(remote.writes.get(), 6);
    assert_eq!(remote.current().1.to_map().len(), 6);
}

/// Whoever has the turn may be a task that nobody polls. Then those whom it carries go on without
/// it, and it learns that.
#[actix_web::test]
async fn whoever_is_carried_by_one_that_stands_still_goes_on_without_it() {
    let long = Duration::from_secs(600);
    for others_follow in [false, true] {
        let remote = Remote::new(7, Mishaps::default());
        remote.held.set(Some(2));
        let mut first = Box::pin(commit(&remote, "first", long));
        let mut leader = Box::pin(commit(&remote, "leader", long));
        let mut carried = Box::pin(commit(&remote, "carried", Duration::from_secs(2)));
        let mut is_done = poll_fn(|context| {
            let begun = first.as_mut().poll(context).is_ready();
            assert!(leader.as_mut().poll(context).is_pending());
            assert!(carried.as_mut().poll(context).is_pending());
            Poll::Ready(begun)
        })
        .await;
        while !is_done {
            is_done = up_to(1, &mut first).await.is_some();
            tokio::task::yield_now().await;
        }
        // It makes the step, which carries the other one, and is not polled any more.
        assert!(up_to(1, &mut leader).await.is_none());
        while remote.writes.get() < 2 {
            assert!(up_to(1, &mut leader).await.is_none());
        }
        let answer = carried.await;
        assert!(matches!(answer, Ok(Committed::Saved(_))), "{answer:?}");
        if others_follow {
            remote.by_another_process();
        }
        remote.gate.notify_one();
        let answer = leader.await;
        let is_known = matches!(answer, Ok(Committed::Saved(_)));
        assert!(is_known != others_follow, "{answer:?}");
        assert_eq!(remote.value("all"), "\"<first><leader><carried>\"");
    }
}

/// It was not done for anybody, and whoever tries again by itself only now has no time left.
#[actix_web::test]
async fn a_store_that_is_busy_until_the_time_is_over_refuses_all() {
    let remote = Remote::new(9, Mishaps::default());
    remote.busy_after.set(1);
    let budget = Duration::from_millis(1200);
    let tags = ["first", "leader", "a", "b", "c"];
    let answers = join_all(tags.map(|tag| commit(&remote, tag, budget))).await;
    for (tag, answer) in tags.iter().zip(answers) {
        let is_right = match answer {
            Ok(Committed::Saved(_)) => *tag == "first",
            Err(CommitError::Contended) => *tag != "first",
            _ => false,
        };
        assert!(is_right, "{tag}");
    }
    assert_eq!(remote.writes.get(), 2);
    assert_eq!(remote.value("all"), "\"<first>\"");
}

/// Otherwise each of them would ask, one after another, while others write.
#[actix_web::test]
async fn what_a_repeat_shows_holds_for_all_whom_the_step_carried() {
    let remote = Remote::new(13, Mishaps::default());
    remote.lost_once.set(2);
    let long = Duration::from_secs(600);
    let tags = ["first", "leader", "a", "b", "c"];
    let answers = join_all(tags.map(|tag| commit(&remote, tag, long))).await;
    for (tag, answer) in tags.iter().zip(answers) {
        assert!(
            matches!(answer, Ok(Committed::Saved(_))),
            "{tag}: {answer:?}"
        );
    }
    assert_eq!(remote.writes.get(), 3);
    assert_eq!(remote.value("all"), "\"<first><leader><a><b><c>\"");
}

/// Says when it is dropped whether the lines are free then.
struct Held(Arc<Mutex<Option<bool>>>);

impl Drop for Held {
    fn drop(&mut self) {
        *lock(&self.0) = Some(line::is_free());
    }
}

/// Whoever is carried may go away. What its closures hold is dropped by whoever carried it then.
#[actix_web::test]
async fn what_closures_hold_is_not_dropped_under_the_lock() {
    let remote = Remote::new(11, Mishaps::default());
    remote.held.set(Some(2));
    let long = Duration::from_secs(600);
    let was_free = Arc::default();
    let held = Held(Arc::clone(&was_free));
    let mut first = Box::pin(commit(&remote, "first", long));
    let mut leader = Box::pin(commit(&remote, "leader", long));
    assert!(up_to(1, &mut first).await.is_none());
    assert!(up_to(1, &mut leader).await.is_none());
    {
        let (at, base) = remote.current();
        let terms = terms();
        let modify = move |_: Option<&str>| {
            let _ = &held;
            Ok(Some("1".to_owned()))
        };
        let effect = Effect::Modify(vec![Modify(Arc::new(modify), None)]);
        let changes = Changes {
            effects: [("held".to_owned(), effect)].into(),
            ..Changes::default()
        };
        let mut machine = CommitMachine::new(at.clone(), Some(base), &changes, &terms);
        let mut carried = Box::pin(remote.drive_in_line(&at, &mut machine, &terms));
        assert!(up_to(1, &mut carried).await.is_none());
        first.await.unwrap();
        while remote.writes.get() < 2 {
            assert!(up_to(1, &mut leader).await.is_none());
        }
    }
    assert!(lock(&was_free).is_none(), "it is carried");
    remote.by_another_process();
    remote.gate.notify_one();
    leader.await.unwrap();
    assert_eq!(*lock(&was_free), Some(true));
}

#[actix_web::test]
async fn nothing_is_lost_or_done_twice_whatever_befalls_a_write() {
    let all = [
        Mishaps {
            overtaken: 40,
            refused: 10,
            ..Mishaps::default()
        },
        Mishaps {
            done_and_lost: 15,
            lost: 15,
            ..Mishaps::default()
        },
        Mishaps {
            done_and_lost: 10,
            late: 20,
            overtaken: 20,
            refused: 10,
            ..Mishaps::default()
        },
        Mishaps {
            dropped: 30,
            overtaken: 10,
            done_and_lost: 5,
            ..Mishaps::default()
        },
        Mishaps {
            renewed: 2,
            overtaken: 5,
            lost: 5,
            late: 5,
            dropped: 10,
            ..Mishaps::default()
        },
    ];
    for mishaps in all {
        let mut sum = Played::default();
        for seed in 1..=20 {
            let played = play(seed, 8, 6, mishaps).await;
            sum.writes += played.writes;
            sum.done += played.done;
            sum.unknown += played.unknown;
        }
        assert!(sum.done > 500, "{sum:?}");
    }
}
