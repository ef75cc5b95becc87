//! The interleavings that broke drafts of the contract, one by one.
//!
//! Requests are counted from 0, and a key that request `n` draws is called `K<n + 1>`.

use std::time::Duration;

use stateright::Model as _;

use super::{
    kind::{COUNT, Kind, OLD},
    mutant::Mutant,
    promises,
    request::{Answer, Seen, Stage},
    world::{Action, FIRST, Runs, Set, World},
};
use crate::{protocol::Reply, record::Record};

/// One run, step by step. Each step is followed by a check of every promise.
struct Run {
    runs: Runs,
    world: World,
}

impl Run {
    fn of(kinds: &[Kind]) -> Self {
        Self::new(kinds, false, Duration::ZERO)
    }

    /// A run of a session that somebody is logged in to.
    fn logged_in(kinds: &[Kind]) -> Self {
        Self::new(kinds, true, Duration::ZERO)
    }

    fn new(kinds: &[Kind], logged_in: bool, age: Duration) -> Self {
        let kinds = kinds.to_vec();
        let set = Set { kinds, logged_in };
        let runs = Runs {
            age,
            ..Runs::of(vec![set], 9)
        };
        let world = runs.init_states().remove(0);
        Self { runs, world }
    }

    fn possible(&self) -> Vec<Action> {
        let mut possible = Vec::new();
        self.runs.actions(&self.world, &mut possible);
        possible
    }

    fn act(&mut self, action: Action) -> &mut Self {
        let possible = self.possible();
        assert!(
            possible.contains(&action),
            "{action:?} is not one of {possible:?}"
        );
        self.world = self.runs.next_state(&self.world, action).unwrap();
        assert!(promises::broken(&self.world).is_empty(), "{:?}", self.world);
        self
    }

    fn start(&mut self, who: usize, key: &str) -> &mut Self {
        self.act(Action::Start(who, key.to_owned()))
    }

    fn step(&mut self, who: usize) -> &mut Self {
        self.act(Action::Step(who))
    }

    /// A step is done, and its answer is lost.
    fn done_and_lost(&mut self, who: usize) -> &mut Self {
        self.act(Action::Lose(who));
        let mut arrivals = self.possible().into_iter();
        let last = arrivals.rfind(|action| matches!(action, Action::Arrive(_)));
        self.act(last.expect("what was lost is in flight"))
    }

    /// A step is not done, and its sender cannot know.
    fn lost(&mut self, who: usize) -> &mut Self {
        self.act(Action::Lose(who))
    }

    /// Goes on until the request has its answer.
    fn finish(&mut self, who: usize) -> &mut Self {
        while self.world.requests[who].answer().is_none() {
            self.step(who);
        }
        self
    }

    fn run(&mut self, who: usize, key: &str) -> &mut Self {
        self.start(who, key).finish(who)
    }

    #[track_caller]
    fn answers(&mut self, who: usize, answer: &Answer) -> &mut Self {
        assert_eq!(self.world.requests[who].answer(), Some(answer));
        self
    }

    fn record(&self, name: &str) -> Option<&Record> {
        self.world.store.record(name)
    }

    fn value(&self, name: &str, entry: &str) -> Option<String> {
        let record = self.record(name)?;
        record.state().get(entry).map(std::borrow::Cow::into_owned)
    }
}

fn renewed(key: &str) -> Answer {
    Answer::Renewed(key.to_owned())
}

/// Base entries are never copied.
#[test]
fn a_late_login_brings_nothing_back_of_a_session_that_was_renewed_and_ended() {
    let mut run = Run::of(&[Kind::Renew, Kind::LoginInsertX, Kind::Purge]);
    run.start(1, FIRST).run(0, FIRST).answers(0, &renewed("K1"));
    // Its renewal finds the redirect.
    run.step(1);
    run.run(2, "K1").answers(2, &Answer::Ended);
    run.finish(1).answers(1, &renewed("K2"));
    assert_eq!(run.record("K2").unwrap().len(), 1);
    assert_eq!(run.value("K2", "x").as_deref(), Some("11"));
    assert_eq!(run.world.store.live(0).count(), 0);
}

/// A repeat with nothing to change writes nothing.
#[test]
fn a_repeat_that_has_nothing_to_do_leaves_the_id_that_another_repeat_looks_for() {
    let mut run = Run::of(&[Kind::InsertX, Kind::Modify]);
    run.start(0, FIRST).done_and_lost(0);
    run.start(1, FIRST).done_and_lost(1);
    let id = run.record(FIRST).unwrap().commit_id();
    run.finish(0).answers(0, &Answer::Saved);
    assert_eq!(run.record(FIRST).unwrap().commit_id(), id);
    run.finish(1).answers(1, &Answer::Saved);
    assert_eq!(run.value(FIRST, COUNT).as_deref(), Some("16"));
}

/// A repeat that does write uses a fresh id.
#[test]
fn a_repeat_that_writes_lets_nobody_mistake_its_write_for_another() {
    let mut run = Run::of(&[Kind::InsertX, Kind::Modify]);
    run.start(0, FIRST).lost(0);
    let id = |run: &Run| run.world.store.record(FIRST).unwrap().commit_id();
    run.start(1, FIRST).done_and_lost(1);
    let counted = id(&run);
    run.finish(0).answers(0, &Answer::Saved);
    assert_ne!(id(&run), counted);
    run.finish(1).answers(1, &Answer::OutcomeUnknown);
    assert_eq!(run.value(FIRST, COUNT).as_deref(), Some("16"));
    assert_eq!(run.value(FIRST, "x").as_deref(), Some("10"));
}

/// A known limit of repeats: an entry that was set, and then removed by a request that had seen it,
/// is as it was at the start. So the repeat sets it again.
#[test]
fn a_repeat_cannot_tell_what_is_as_it_was_from_what_is_so_again() {
    let mut run = Run::of(&[Kind::InsertX, Kind::RemoveX]);
    run.start(0, FIRST).done_and_lost(0);
    run.run(1, FIRST).answers(1, &Answer::Saved);
    assert_eq!(run.value(FIRST, "x"), None);
    run.finish(0).answers(0, &Answer::Saved);
    assert_eq!(run.value(FIRST, "x").as_deref(), Some("10"));
}

/// A repeat knows its own redirect, and a purge leaves redirects.
#[test]
fn a_login_that_was_ended_before_its_repeat_logs_nobody_in() {
    let mut run = Run::of(&[Kind::Login, Kind::Purge]);
    run.start(0, FIRST).done_and_lost(0);
    run.run(1, FIRST).answers(1, &Answer::Ended);
    run.finish(0).answers(0, &Answer::Gone);
    assert_eq!(run.world.store.records().count(), 0);
}

/// What the login wrote survives a `clear` by whoever has the old key.
#[test]
fn an_old_key_logs_out_and_wipes_nothing_that_came_with_the_login() {
    let mut run = Run::of(&[Kind::Clear, Kind::LoginInsertX]);
    run.start(0, FIRST);
    run.run(1, FIRST).answers(1, &renewed("K2"));
    run.finish(0).answers(0, &Answer::Gone);
    assert_eq!(run.value("K2", "x").as_deref(), Some("11"));
    assert_eq!(run.value("K2", OLD), None);
    assert_eq!(run.record("K2").unwrap().principal(), None);
}

/// Behind a login's redirect, a `modify` of an entry that the login changed is refused.
#[test]
fn an_old_key_counts_nothing_that_came_with_the_login() {
    let mut run = Run::of(&[Kind::Modify, Kind::LoginModify]);
    run.start(0, FIRST);
    run.run(1, FIRST).answers(1, &renewed("K2"));
    run.finish(0).answers(0, &Answer::Gone);
    assert_eq!(run.value("K2", COUNT).as_deref(), Some("16"));
}

/// The `clear` of a renewal that came too late is forwarded.
#[test]
fn a_logout_that_renews_logs_out_although_another_has_renewed() {
    let mut run = Run::logged_in(&[Kind::Renew, Kind::ClearRenew]);
    run.start(1, FIRST);
    run.run(0, FIRST).answers(0, &renewed("K1"));
    run.finish(1).answers(1, &Answer::Gone);
    let left = run.record("K1").unwrap();
    assert_eq!((left.principal(), left.len()), (None, 0));
}

/// The other `clear` came through a redirect, and left what it had not seen. This one has seen it.
#[test]
fn a_logout_that_renews_clears_what_another_has_left() {
    let mut run = Run::logged_in(&[Kind::Clear, Kind::RenewInsertX, Kind::ClearRenew]);
    run.start(0, FIRST);
    run.run(1, FIRST).answers(1, &renewed("K2"));
    run.start(2, "K2");
    run.finish(0).answers(0, &Answer::Gone);
    assert_eq!(run.value("K2", "x").as_deref(), Some("11"));
    run.finish(2).answers(2, &renewed("K3"));
    assert_eq!(run.record("K3").unwrap().len(), 0);
}

/// The key is another one all the same.
#[test]
fn a_renewal_of_nobodys_session_brings_nothing_from_before_a_clear() {
    for kind in [Kind::RenewInsertX, Kind::RenewModify] {
        let mut run = Run::of(&[Kind::Clear, kind]);
        run.start(1, FIRST);
        run.run(0, FIRST).answers(0, &Answer::Saved);
        run.finish(1).answers(1, &renewed("K2"));
        assert_eq!(run.record("K2").unwrap().len(), 0);
    }
}

/// Effects after a forwarded `clear` are dropped, and the answer does not claim otherwise.
#[test]
fn what_is_set_after_a_clear_that_travels_is_dropped_and_not_called_done() {
    for kind in [Kind::ClearInsertY, Kind::ClearRenewInsertY] {
        let mut run = Run::logged_in(&[Kind::Renew, kind]);
        run.start(1, FIRST).run(0, FIRST);
        run.finish(1).answers(1, &Answer::Gone);
        assert_eq!(run.record("K1").unwrap().len(), 0);
        assert_eq!(run.world.store.records().count(), 1);
    }
}

/// No anonymous cookie takes the place of the logged-in one.
#[test]
fn a_renewal_that_met_a_redirect_makes_no_session_if_somebody_is_logged_in() {
    let mut run = Run::logged_in(&[Kind::Renew, Kind::RenewInsertX]);
    run.run(0, FIRST);
    run.run(1, FIRST).answers(1, &Answer::Gone);
    assert_eq!(run.world.requests[1].seen, Seen::Redirect);
    assert_eq!(run.world.store.records().count(), 1);

    let mut run = Run::of(&[Kind::Renew, Kind::RenewInsertX]);
    run.run(0, FIRST);
    run.run(1, FIRST).answers(1, &renewed("K2"));
}

/// No renewal of a moved base is forwarded. Otherwise, what a victim writes with its renewal would
/// enter the session that a thief has renewed.
///
/// An application that logs users in by hand, and inserts long before it renews, must take care of
/// this itself.
#[test]
fn nothing_of_a_late_renewal_comes_into_the_session_of_whoever_renewed_first() {
    let mut run = Run::of(&[Kind::Renew, Kind::RenewInsertX]);
    run.start(1, FIRST).run(0, FIRST).answers(0, &renewed("K1"));
    run.finish(1).answers(1, &renewed("K2"));
    assert_eq!(run.value("K1", "x"), None);
    assert_eq!(run.value("K2", "x").as_deref(), Some("11"));
}

/// A purge ends the session wherever renewals have moved it.
#[test]
fn a_purge_follows_every_renewal() {
    let mut run = Run::logged_in(&[Kind::Purge, Kind::Renew, Kind::Renew]);
    run.start(0, FIRST).run(1, FIRST).run(2, "K2");
    run.finish(0).answers(0, &Answer::Ended);
    assert_eq!(run.world.store.records().count(), 0);
}

/// A creation whose answer was lost is repeated under the same key, and its first copy may still be
/// in flight. If that copy arrives after the session was used and ended, it meets the tombstone.
#[test]
fn a_creation_that_arrives_after_its_session_was_ended_makes_nothing() {
    let run = |mutant| {
        let mut run = Run::logged_in(&[Kind::PurgeInsertX, Kind::Purge]);
        run.runs.mutant = mutant;
        run.start(0, FIRST).step(0);
        run.lost(0);
        let Stage::Running(_, late) = run.world.requests[0].stage.clone() else {
            panic!("a creation is repeated");
        };
        run.finish(0).answers(0, &renewed("K1"));
        run.run(1, "K1").answers(1, &Answer::Ended);
        let (reply, _) = run.world.store.carry_out(&late, 1);
        (reply, run.world)
    };
    let (reply, world) = run(None);
    assert!(matches!(reply, Reply::Taken), "{reply:?}");
    assert!(world.store.record("K1").is_none());
    let (_, world) = run(Some(Mutant::NoTombstone));
    assert!(!promises::broken(&world).is_empty());
}

/// A write that comes soon after a renewal that it does not know of makes no session.
#[test]
fn a_late_insertion_is_dropped_for_ten_seconds_and_makes_a_session_after_that() {
    let kinds = [Kind::Renew, Kind::InsertX];
    let mut run = Run::of(&kinds);
    run.run(0, FIRST).run(1, FIRST).answers(1, &Answer::Nothing);
    assert_eq!(run.world.store.records().count(), 1);

    let mut run = Run::new(&kinds, false, Duration::from_secs(10));
    run.run(0, FIRST).run(1, FIRST).answers(1, &renewed("K2"));
    assert_eq!(run.record("K2").unwrap().len(), 1);
}
