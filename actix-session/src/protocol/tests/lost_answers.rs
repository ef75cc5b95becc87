//! How the machines handle lost answers and unusable records.

use std::{collections::HashMap, sync::Arc};

use super::super::*;
use crate::{
    changes::{Changes, Effect, Modify, TtlChange},
    contract::{Committed, Rotated},
    record::{Metadata, WireFormat},
};

const OLD: &str = "old";
const NEW: &str = "new1";

/// Counts: no two draws are the same.
#[derive(Clone)]
struct Counting(u64);

impl Draw for Counting {
    fn commit_id(&mut self) -> Result<u64, CommitError> {
        self.0 += 1;
        Ok(self.0)
    }

    fn session_id(&mut self) -> Result<u128, CommitError> {
        self.0 += 1;
        Ok(self.0.into())
    }

    fn key(&mut self, _: Option<&str>, _: Option<&str>) -> Result<(SessionKey, Name), CommitError> {
        // Keys count in thousands, so that names do not depend on how many ids were drawn.
        self.0 += 1000;
        let name = format!("new{}", self.0 / 1000);
        Ok((SessionKey::generated(name.clone()), name.into()))
    }
}

fn record(id: u64, entries: &[(&str, &str)]) -> Record {
    of_epoch(id, 0, entries)
}

fn of_epoch(id: u64, epoch: u64, entries: &[(&str, &str)]) -> Record {
    let metadata = Metadata {
        epoch,
        ..Metadata::new(1, Millis(0))
    };
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, json)| ((*name).into(), (*json).into()))
        .collect();
    Record::written(WireFormat::V1, id, metadata, &entries)
}

fn set(name: &str, json: &str) -> Changes {
    with(name, Effect::Set(json.to_owned()))
}

fn with(name: &str, effect: Effect) -> Changes {
    let mut changes = Changes::default();
    changes.effects.set(name, effect);
    changes
}

/// A `modify` that appends a digit.
fn modify(name: &str) -> Changes {
    let modify = |json: Option<&str>| Ok(Some(format!("{}1", json.unwrap_or_default())));
    with(name, Effect::Modify(vec![Modify(Arc::new(modify), None)]))
}

fn cleared(epoch: u64, changes: Changes) -> Changes {
    Changes {
        cleared: Some(epoch),
        ..changes
    }
}

fn terms() -> Terms {
    Terms {
        now: Millis(0),
        ..Terms::default()
    }
}

/// A machine with the values that it draws.
struct Driven<M> {
    machine: M,
    draw: Counting,
}

impl<M: Machine> Driven<M> {
    fn new(machine: M) -> Self {
        let draw = Counting(100);
        Self { machine, draw }
    }

    fn start(&mut self) -> Next<M::Answer> {
        self.machine.start(&mut self.draw)
    }

    fn on(&mut self, reply: Reply) -> Next<M::Answer> {
        self.machine.on(reply, &mut self.draw)
    }
}

fn commit<'a>(base: &Record, changes: &'a Changes, terms: &'a Terms) -> Driven<CommitMachine<'a>> {
    let base = Some(base.clone());
    Driven::new(CommitMachine::new(OLD.into(), base, changes, terms))
}

fn rotate<'a>(base: &Record, changes: &'a Changes, terms: &'a Terms) -> Driven<RotateMachine<'a>> {
    let base = Some(base.clone());
    Driven::new(RotateMachine::new(OLD.into(), base, changes, terms))
}

fn found(record: &Record) -> Reply {
    Reply::Found(Stored::Record(record.clone()))
}

fn redirect(target: &str, flag: Flag) -> Reply {
    Reply::Found(Stored::Redirect(Redirect {
        target: target.into(),
        flag,
        made_at: Millis(0),
    }))
}

const NOTHING: Reply = Reply::Found(Stored::Nothing);

/// What a compare-and-set would write.
#[track_caller]
fn written<A: std::fmt::Debug>(next: Next<A>) -> (Name, Record, Until) {
    match next {
        Next::Do(Step::Cas { at, new, until, .. }) => (at, new, until),
        next => panic!("{next:?} writes nothing"),
    }
}

#[track_caller]
fn rotated(next: Next<Rotated>) -> (Record, Redirect) {
    match next {
        Next::Do(Step::Rotate { new, redirect, .. }) => (new, redirect),
        next => panic!("{next:?} renews nothing"),
    }
}

#[track_caller]
fn inserted<A: std::fmt::Debug>(next: Next<A>) -> (Name, Record) {
    match next {
        Next::Do(Step::Insert { at, new, .. }) => (at, new),
        next => panic!("{next:?} makes nothing"),
    }
}

#[track_caller]
fn assert_reads<A: std::fmt::Debug>(next: &Next<A>, name: &str) {
    assert!(
        matches!(next, Next::Do(Step::Read { at }) if *at == *name),
        "{next:?}"
    );
}

#[track_caller]
fn assert_saved(next: &Next<Committed>) {
    let saved = matches!(next, Next::Answer(Committed::Saved(_)));
    assert!(saved, "{next:?}");
}

#[track_caller]
fn assert_answer<A: std::fmt::Debug>(next: &Next<A>, answer: &A) {
    // Answers can hold a future, so this compares their debug texts.
    assert_eq!(format!("{next:?}"), format!("Answer({answer:?})"));
}

#[track_caller]
fn assert_renewed(next: &Next<Rotated>, name: &str) {
    let renewed = matches!(next, Next::Answer(Rotated::Rotated(key, ..)) if key.as_ref() == name);
    assert!(renewed, "{next:?}");
}

#[track_caller]
fn assert_unknown<A: std::fmt::Debug>(next: &Next<A>) {
    let unknown = matches!(next, Next::Fail(CommitError::OutcomeUnknown));
    assert!(unknown, "{next:?}");
}

fn value(record: &Record, name: &str) -> Option<String> {
    record.state().get(name).map(std::borrow::Cow::into_owned)
}

#[test]
fn a_repeat_is_the_same_step_and_its_own_id_says_that_it_is_done() {
    let (base, changes, terms) = (record(1, &[("n", "0")]), modify("n"), terms());
    let mut machine = commit(&base, &changes, &terms);
    let (_, first, _) = written(machine.start());
    let (_, again, _) = written(machine.on(Reply::Lost));
    assert_eq!(first.as_text(), again.as_text());
    assert_saved(&machine.on(found(&first)));
}

#[test]
fn a_repeat_that_finds_its_base_is_the_first_to_be_done() {
    let (base, changes, terms) = (record(1, &[]), set("x", "1"), terms());
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(Reply::Lost);
    assert_saved(&machine.on(Reply::Done));
}

#[test]
fn a_repeat_sets_what_is_still_as_it_was_under_a_fresh_id() {
    let (base, terms) = (record(1, &[("x", "0"), ("y", "0")]), terms());
    let mut changes = set("x", "1");
    changes.effects.set("y", Effect::Removed);
    let mut machine = commit(&base, &changes, &terms);
    let (_, first, _) = written(machine.start());
    machine.on(Reply::Lost);

    let other = record(7, &[("x", "0"), ("y", "5"), ("z", "5")]);
    let (_, again, _) = written(machine.on(found(&other)));
    assert_ne!(first.commit_id(), again.commit_id());
    assert_eq!(value(&again, "x").as_deref(), Some("1"));
    assert_eq!(value(&again, "y").as_deref(), Some("5"));
    assert_eq!(value(&again, "z").as_deref(), Some("5"));
}

#[test]
fn a_repeat_that_has_nothing_to_change_writes_nothing() {
    let (base, changes, terms) = (record(1, &[("x", "0")]), set("x", "1"), terms());
    for other in ["1", "5"] {
        let mut machine = commit(&base, &changes, &terms);
        machine.start();
        machine.on(Reply::Lost);
        assert_saved(&machine.on(found(&record(7, &[("x", other)]))));
    }
}

#[test]
fn what_a_repeat_has_dropped_stays_dropped() {
    let (base, terms) = (record(1, &[("x", "0")]), terms());
    let mut changes = set("x", "1");
    changes.effects.set("y", Effect::Set("1".into()));
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(Reply::Lost);
    written(machine.on(found(&record(7, &[("x", "5")]))));
    // Another request wins again, and the entry is as it was at the start.
    let (_, new, _) = written(machine.on(found(&record(8, &[("x", "0")]))));
    assert_eq!(value(&new, "x").as_deref(), Some("0"));
    assert_eq!(value(&new, "y").as_deref(), Some("1"));
}

#[test]
fn a_modify_is_run_again_for_others_but_not_after_a_lost_answer() {
    let (base, changes, terms) = (record(1, &[("n", "0")]), modify("n"), terms());
    let other = record(7, &[("n", "5")]);

    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    let (_, new, _) = written(machine.on(found(&other)));
    assert_eq!(value(&new, "n").as_deref(), Some("51"));

    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(Reply::Lost);
    assert_unknown(&machine.on(found(&other)));
}

#[test]
fn a_clear_that_was_done_is_known_by_its_epoch() {
    let (base, changes, terms) = (record(1, &[("x", "0")]), cleared(5, set("y", "1")), terms());
    let after = of_epoch(7, 5, &[("y", "3")]);

    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(Reply::Lost);
    assert_saved(&machine.on(found(&after)));

    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(Reply::Lost);
    assert_reads(&machine.on(redirect(NEW, Flag::Plain)), NEW);
    assert_answer(&machine.on(found(&after)), &Committed::Gone);
}

#[test]
fn a_clear_is_done_after_another_one_but_not_twice() {
    let base = record(1, &[("x", "0")]);
    let (changes, terms) = (cleared(5, Changes::default()), terms());
    // The other one came through a redirect, and has left what this one has seen.
    let after = of_epoch(7, 6, &[("x", "0")]);

    for lost in [false, true] {
        for behind in [false, true] {
            let mut machine = commit(&base, &changes, &terms);
            machine.start();
            if lost {
                machine.on(Reply::Lost);
            }
            if behind {
                machine.on(redirect(NEW, Flag::Plain));
            }
            let next = machine.on(found(&after));
            if lost {
                assert_unknown(&next);
            } else {
                let (_, new, _) = written(next);
                assert_eq!((new.epoch(), new.len()), (5, 0));
            }
        }
    }
}

#[test]
fn a_clear_behind_a_redirect_that_was_lost_is_done_if_nobody_cleared_since() {
    let base = record(1, &[("x", "0")]);
    let (changes, terms) = (cleared(5, Changes::default()), terms());
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(redirect(NEW, Flag::Plain));
    machine.on(found(&of_epoch(7, 6, &[("x", "0")])));
    machine.on(Reply::Lost);
    let (_, new, _) = written(machine.on(found(&of_epoch(8, 6, &[("x", "0"), ("y", "1")]))));
    assert_eq!((new.epoch(), new.len()), (5, 1));
}

#[test]
fn what_came_before_a_clear_writes_nothing() {
    let (base, changes, terms) = (record(1, &[]), set("x", "1"), terms());
    let after = of_epoch(7, 5, &[]);

    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    assert_saved(&machine.on(found(&after)));

    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(redirect(NEW, Flag::Plain));
    assert_answer(&machine.on(found(&after)), &Committed::Forwarded);
}

#[test]
fn a_repeat_that_finds_nothing_is_gone() {
    let (base, changes, terms) = (record(1, &[]), set("x", "1"), terms());
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(Reply::Lost);
    assert_answer(&machine.on(NOTHING), &Committed::Gone);
}

#[test]
fn a_repeat_behind_a_redirect_does_nothing_twice() {
    let (base, terms) = (record(1, &[("n", "0")]), terms());
    let copied = record(7, &[("n", "01"), ("x", "1")]);

    let changes = modify("n");
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(Reply::Lost);
    machine.on(redirect(NEW, Flag::Plain));
    assert_unknown(&machine.on(found(&copied)));

    let changes = set("x", "1");
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(Reply::Lost);
    machine.on(redirect(NEW, Flag::Plain));
    assert_answer(&machine.on(found(&copied)), &Committed::Forwarded);
}

#[test]
fn a_forward_is_repeated_where_it_was_lost_and_moves_no_end() {
    let (base, changes, terms) = (record(1, &[]), set("x", "1"), terms());
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(redirect(NEW, Flag::Plain));
    let (at, first, until) = written(machine.on(found(&record(7, &[]))));
    assert_eq!((at.as_str(), until), (NEW, Until::Same));
    let (at, again, _) = written(machine.on(Reply::Lost));
    assert_eq!((at.as_str(), again.as_text()), (NEW, first.as_text()));
    assert_answer(&machine.on(found(&first)), &Committed::Forwarded);
}

#[test]
fn a_clear_behind_a_redirect_leaves_no_more_time_than_the_policy_gives() {
    let terms = terms();
    let changes = cleared(9, Changes::default());
    let base = record(1, &[]);
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(redirect(NEW, Flag::Plain));
    let (at, _, until) = written(machine.on(found(&record(7, &[]))));
    let end = terms.now + terms.ttl;
    assert_eq!((at.as_str(), until), (NEW, Until::AtMost(end)));
}

#[test]
fn a_reading_that_was_lost_is_read_again_where_it_was() {
    let (base, changes, terms) = (record(1, &[]), set("x", "1"), terms());
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    assert_reads(&machine.on(redirect("a", Flag::Plain)), "a");
    assert_reads(&machine.on(Reply::Lost), "a");
    assert_reads(&machine.on(redirect("b", Flag::Plain)), "b");
    // Only reads were lost, so the machine must not take the write for done.
    let (_, new, _) = written(machine.on(found(&record(7, &[]))));
    assert_eq!(value(&new, "x").as_deref(), Some("1"));

    let machine = RotateMachine::new(OLD.into(), None, &changes, &terms);
    let mut machine = Driven::new(machine);
    assert_reads(&machine.start(), OLD);
    assert_reads(&machine.on(redirect("a", Flag::Plain)), "a");
    assert_reads(&machine.on(Reply::Lost), "a");
}

#[test]
fn a_renewal_knows_its_own_redirect_whatever_it_says() {
    let (base, changes, terms) = (record(1, &[("x", "0")]), Changes::default(), terms());
    for flag in [Flag::Plain, Flag::Login, Flag::Ended] {
        let mut machine = rotate(&base, &changes, &terms);
        let (first, own) = rotated(machine.start());
        let (again, same) = rotated(machine.on(Reply::Lost));
        assert_eq!(first.as_text(), again.as_text());
        assert_eq!(own.target, same.target);
        assert_reads(&machine.on(redirect(&own.target, flag)), &own.target);
        assert_reads(&machine.on(Reply::Lost), &own.target);
        // Others may have written to it since.
        assert_renewed(&machine.on(found(&record(7, &[]))), &own.target);
    }
}

#[test]
fn a_renewal_that_was_ended_before_its_repeat_is_gone() {
    let login = crate::changes::LoginChange {
        principal: "alice".into(),
        at: Millis(0),
        device: None,
        proven: None,
        id: 1,
        span: None,
        keep_times: false,
        level: Default::default(),
        demand: String::new(),
        origin: None,
        by_entry: false,
    };
    let changes = Changes {
        login: Some(login.into()),
        ..set("x", "1")
    };
    let (base, terms) = (record(1, &[]), terms());
    let mut machine = rotate(&base, &changes, &terms);
    let (_, own) = rotated(machine.start());
    machine.on(Reply::Lost);
    assert_reads(&machine.on(redirect(&own.target, Flag::Login)), NEW);
    assert_answer(&machine.on(NOTHING), &Rotated::Gone);
}

#[test]
fn a_renewal_that_another_overtook_makes_its_own_session_under_the_key_that_it_offered() {
    let (base, changes, terms) = (record(1, &[("x", "0")]), set("y", "1"), terms());
    let mut machine = rotate(&base, &changes, &terms);
    rotated(machine.start());
    machine.on(Reply::Lost);
    let (at, new) = inserted(machine.on(redirect("another", Flag::Plain)));
    assert_eq!((at.as_str(), new.len()), (NEW, 1));
}

/// A creation whose first attempt was lost and whose repeat finds the name taken.
fn taken_after_loss<'a>(
    changes: &'a Changes,
    terms: &'a Terms,
) -> (Driven<RotateMachine<'a>>, Record) {
    let mut machine = Driven::new(RotateMachine::creating(changes, terms));
    let (first, _) = inserted(machine.start());
    let (again, new) = inserted(machine.on(Reply::Lost));
    assert_eq!(first, again);
    assert_reads(&machine.on(Reply::Taken), &first);
    assert_reads(&machine.on(Reply::Lost), &first);
    (machine, new)
}

#[test]
fn a_creation_is_repeated_under_the_same_key_and_is_done_if_its_record_is_there() {
    let (changes, terms) = (set("x", "1"), terms());
    let (mut machine, new) = taken_after_loss(&changes, &terms);
    assert_renewed(&machine.on(found(&new)), NEW);

    // Others may have written to it since.
    let (mut machine, new) = taken_after_loss(&changes, &terms);
    let newer = Record::written(WireFormat::V1, 7, new.metadata().unwrap().clone(), &[]);
    assert_renewed(&machine.on(found(&newer)), NEW);
}

#[test]
fn a_creation_whose_record_was_ended_before_its_repeat_is_gone() {
    let (changes, terms) = (set("x", "1"), terms());
    let (mut machine, _) = taken_after_loss(&changes, &terms);
    assert_answer(&machine.on(NOTHING), &Rotated::Gone);
}

#[test]
fn a_key_that_was_taken_before_an_answer_was_lost_is_not_handed_out() {
    let (changes, terms) = (set("x", "1"), terms());
    let others = [
        found(&record(7, &[])),
        redirect("another", Flag::Plain),
        Reply::Found(Stored::Unreadable),
    ];
    for other in others {
        let (mut machine, _) = taken_after_loss(&changes, &terms);
        let (at, _) = inserted(machine.on(other));
        assert_ne!(*at, *NEW);
        assert_renewed(&machine.on(Reply::Done), &at);
    }
}

#[test]
fn a_key_that_is_taken_is_never_handed_out() {
    let (changes, terms) = (set("x", "1"), terms());
    let mut machine = Driven::new(RotateMachine::creating(&changes, &terms));
    let mut names = vec![inserted(machine.start()).0];
    for _ in 0..4 {
        names.push(inserted(machine.on(Reply::Taken)).0);
    }
    let drawn = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), drawn);
    let failed = matches!(machine.on(Reply::Taken), Next::Fail(CommitError::Other(_)));
    assert!(failed);
}

#[test]
fn a_clear_on_its_way_behind_a_redirect_is_repeated_there() {
    let (base, changes, terms) = (
        record(1, &[("x", "0")]),
        cleared(5, Changes::default()),
        terms(),
    );
    let mut machine = rotate(&base, &changes, &terms);
    rotated(machine.start());
    assert_reads(&machine.on(redirect("another", Flag::Plain)), "another");
    let clear = machine.on(found(&record(7, &[("x", "0"), ("y", "1")])));
    let again = machine.on(Reply::Lost);
    for step in [clear, again] {
        let Next::Do(Step::Cas { at, new, .. }) = step else {
            panic!("{step:?} clears nothing");
        };
        assert_eq!((at.as_str(), new.epoch(), new.len()), ("another", 5, 1));
    }
    assert_answer(&machine.on(Reply::Done), &Rotated::Gone);
}

#[test]
fn an_ending_is_repeated_where_it_was_lost() {
    #[track_caller]
    fn assert_ends(next: &Next<()>, name: &str) {
        let ends = matches!(next, Next::Do(Step::End { at, .. }) if *at == *name);
        assert!(ends, "{next:?}");
    }
    let mut machine = Driven::new(EndMachine::new(OLD.into()));
    assert_ends(&machine.start(), OLD);
    assert_ends(&machine.on(Reply::Lost), OLD);
    assert_ends(&machine.on(redirect("a", Flag::Ended)), "a");
    assert_ends(&machine.on(Reply::Lost), "a");
    assert_answer(&machine.on(NOTHING), &());
}

#[test]
fn a_record_past_its_absolute_end_is_gone() {
    let (base, changes) = (record(1, &[]), set("x", "1"));
    let terms = Terms {
        absolute: Some(Millis(10)),
        now: Millis(10),
        ..terms()
    };
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    assert_answer(&machine.on(found(&record(7, &[]))), &Committed::Gone);
}

#[test]
fn a_record_that_cannot_be_read_is_left_as_it_is() {
    let (base, changes, terms) = (record(1, &[]), set("x", "1"), terms());
    let unreadable = || Reply::Found(Stored::Unreadable);

    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    assert!(matches!(machine.on(unreadable()), Next::Fail(_)));

    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(redirect(NEW, Flag::Plain));
    assert_answer(&machine.on(unreadable()), &Committed::Gone);

    let mut machine = rotate(&base, &changes, &terms);
    machine.start();
    assert!(matches!(machine.on(unreadable()), Next::Fail(_)));
}

/// Only the session's id says whose record has the taken name.
#[test]
fn a_save_whose_answer_was_lost_takes_nobody_elses_record_for_its_own() {
    let terms = terms();
    let mut machine = Driven::new(SaveMachine::new(HashMap::new(), &terms));
    let (first, _) = inserted(machine.start());
    let (again, _) = inserted(machine.on(Reply::Lost));
    assert_eq!(again, first, "the same is repeated");
    assert_reads(&machine.on(Reply::Taken), &first);
    let other = Record::written(WireFormat::V1, 9, Metadata::new(77, Millis(0)), &[]);
    let (second, new) = inserted(machine.on(found(&other)));
    assert_ne!(first, second);
    // This time it was its own.
    machine.on(Reply::Lost);
    assert_reads(&machine.on(Reply::Taken), &second);
    let done = machine.on(found(&new));
    assert!(matches!(done, Next::Answer(key) if *key.as_ref() == *second));
}

#[test]
fn a_save_whose_record_was_ended_before_its_repeat_is_gone() {
    let terms = terms();
    let mut machine = Driven::new(SaveMachine::new(HashMap::new(), &terms));
    machine.start();
    machine.on(Reply::Lost);
    machine.on(Reply::Taken);
    match machine.on(Reply::Found(Stored::Nothing)) {
        Next::Fail(CommitError::Other(error)) => assert!(error.is::<crate::storage::Gone>()),
        next => panic!("{next:?}"),
    }
}

fn replace<'a>(terms: &'a Terms, json: &str) -> Driven<ReplaceMachine<'a>> {
    let state = HashMap::from([("a".to_owned(), json.to_owned())]);
    Driven::new(ReplaceMachine::new(OLD.into(), state, terms))
}

#[test]
fn an_update_whose_answer_was_lost_writes_nothing_twice() {
    let terms = terms();
    let mut machine = replace(&terms, "2");
    assert_reads(&machine.start(), OLD);
    let (_, new, _) = written(machine.on(found(&record(1, &[("a", "1")]))));
    let (_, again, _) = written(machine.on(Reply::Lost));
    assert_eq!(again.as_text(), new.as_text(), "the same is repeated");
    // Its own id says that it is done.
    assert_answer(&machine.on(found(&new)), &true);
}

#[test]
fn an_update_that_lost_its_answer_to_an_ending_is_gone() {
    let terms = terms();
    for reply in [NOTHING, redirect(NEW, Flag::Plain)] {
        let mut machine = replace(&terms, "2");
        assert_reads(&machine.start(), OLD);
        // What is read is read again.
        assert_reads(&machine.on(Reply::Lost), OLD);
        written(machine.on(found(&record(1, &[]))));
        written(machine.on(Reply::Lost));
        assert_answer(&machine.on(reply), &false);
    }
}

/// A record of an old server, or for one: it keeps neither a commit id nor an id of its own.
fn plain(entries: &[(&str, &str)]) -> Record {
    let map: HashMap<&str, &str> = entries.iter().copied().collect();
    Record::decode(serde_json::to_string(&map).unwrap()).unwrap()
}

fn for_old_servers() -> Terms {
    terms().with_format(WireFormat::V0_11)
}

#[test]
fn without_an_id_a_repeat_that_finds_what_it_would_have_written_is_done() {
    let (base, changes, terms) = (plain(&[("n", "0")]), set("n", "5"), for_old_servers());
    let mut machine = commit(&base, &changes, &terms);
    let (_, first, _) = written(machine.start());
    assert_eq!(first.as_text(), plain(&[("n", "5")]).as_text());
    written(machine.on(Reply::Lost));
    assert_saved(&machine.on(found(&plain(&[("n", "5")]))));

    // Another's write, which may have come after it.
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    machine.on(Reply::Lost);
    let (_, again, _) = written(machine.on(found(&plain(&[("n", "0"), ("m", "1")]))));
    assert_eq!(value(&again, "n").as_deref(), Some("5"));
    assert_eq!(value(&again, "m").as_deref(), Some("1"));
    machine.on(Reply::Lost);
    assert_saved(&machine.on(found(&plain(&[("n", "7")]))));
}

/// Others may have modified it to the same.
#[test]
fn without_an_id_the_outcome_of_a_modify_is_unknown() {
    let (base, changes, terms) = (plain(&[("n", "0")]), modify("n"), for_old_servers());
    for found_then in [&[("n", "01")], &[("n", "011")]] {
        let mut machine = commit(&base, &changes, &terms);
        machine.start();
        machine.on(Reply::Lost);
        assert_unknown(&machine.on(found(&plain(found_then))));
    }
    // Nothing was lost: the other one's comes first, and this one on top.
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    let (_, merged, _) = written(machine.on(found(&plain(&[("n", "01")]))));
    assert_eq!(value(&merged, "n").as_deref(), Some("011"));
}

#[test]
fn without_an_id_equal_records_of_others_are_no_sign_of_an_own_commit() {
    let (base, changes, terms) = (plain(&[]), set("n", "5"), for_old_servers());
    let mut machine = commit(&base, &changes, &terms);
    machine.start();
    // Another request has set the same, and this one's write extends the record.
    let (_, merged, until) = written(machine.on(found(&plain(&[("n", "5")]))));
    assert_eq!(merged.as_text(), plain(&[("n", "5")]).as_text());
    assert_eq!(until, Until::At(terms.until(&merged)));
}

#[test]
fn without_an_id_a_creation_knows_its_record_by_its_text() {
    let (changes, terms) = (set("n", "5"), for_old_servers());
    for (there, own) in [(plain(&[("n", "5")]), true), (plain(&[("n", "6")]), false)] {
        let mut machine = Driven::new(RotateMachine::creating(&changes, &terms));
        let (first, new) = inserted(machine.start());
        assert_eq!(new.id(), None);
        inserted(machine.on(Reply::Lost));
        assert_reads(&machine.on(Reply::Taken), &first);
        let next = machine.on(found(&there));
        if own {
            assert_renewed(&next, &first);
        } else {
            assert_ne!(inserted(next).0, first);
        }
    }
}

/// The same machines with metadata in the reserved entry, which a MAC binds to the record's name.
#[test]
fn what_is_written_for_old_servers_is_bound_to_its_name() {
    use crate::record::{MetadataKeys, Place};

    let secret = actix_web::cookie::Key::from(&[7; 64]);
    let keys = Arc::new(MetadataKeys::new(&secret, &[]));
    let terms = Terms {
        keys: Some(Arc::clone(&keys)),
        ..for_old_servers()
    };
    let holds = |record: &Record, name: &str| {
        let read = Record::decode(record.as_text().unwrap().to_owned()).unwrap();
        let read = read.proven(Place::Named(name), Some(&keys));
        read.metadata() == record.metadata() && read.metadata().is_some()
    };
    let changes = Changes {
        ttl: Some(TtlChange::Set(Millis(9))),
        renew: true,
        ..set("n", "5")
    };
    let base = plain(&[]);
    let (at, new, _) = written(commit(&base, &changes, &terms).start());
    assert!(holds(&new, &at) && !holds(&new, NEW));
    let mut machine = rotate(&base, &changes, &terms);
    for _ in 0..2 {
        let (new, redirect) = rotated(machine.start());
        assert!(holds(&new, &redirect.target) && !holds(&new, OLD));
        // The next one has another name.
        let (new, redirect) = rotated(machine.on(Reply::Taken));
        assert!(holds(&new, &redirect.target));
    }
    let map = || {
        new.clone()
            .with_keys(Some(Arc::clone(&keys)))
            .to_map_with_metadata()
    };
    let mut machine = Driven::new(SaveMachine::new(map(), &terms));
    let (first, new) = inserted(machine.start());
    assert!(holds(&new, &first));
    let (second, new) = inserted(machine.on(Reply::Taken));
    assert!(first != second && holds(&new, &second));
}
