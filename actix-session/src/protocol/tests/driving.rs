//! What the drive makes of refusals, losses and time.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::super::*;
use crate::{
    changes::{Changes, Effect},
    contract::{Committed, Rotated},
    record::{Auth, Metadata, WireFormat},
};

/// What becomes of a step.
enum Fate {
    Answered(Reply),
    Refused,
    /// No answer comes, however long one waits.
    Silence,
}

use Fate::{Answered, Refused, Silence};

const LOST: Fate = Answered(Reply::Lost);
const DONE: Fate = Answered(Reply::Done);
const NOTHING: Fate = Answered(Reply::Found(Stored::Nothing));

/// A back end that does what a test says, step by step.
struct Script {
    fates: RefCell<VecDeque<Fate>>,
    clock: SharedClock,
}

impl Script {
    fn of(fates: impl IntoIterator<Item = Fate>) -> Self {
        Self {
            fates: RefCell::new(fates.into_iter().collect()),
            clock: SharedClock::default(),
        }
    }
}

impl Backend for Script {
    const REMOTE: bool = false;
    const WAITS: bool = true;

    async fn run(&self, _: &Step, _: &Terms) -> Result<Reply, anyhow::Error> {
        let fate = self.fates.borrow_mut().pop_front();
        match fate.expect("a step that the test expects") {
            Answered(reply) => Ok(reply),
            Refused => Err(anyhow::anyhow!("refused")),
            Silence => std::future::pending().await,
        }
    }

    async fn look(&self, _: &str, _: &Terms) -> Result<Stored, anyhow::Error> {
        Ok(Stored::Nothing)
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

fn base() -> Record {
    Record::written(WireFormat::V1, 1, Metadata::new(1, Millis(0)), &[])
}

fn set() -> Changes {
    Changes {
        effects: [("a".to_owned(), Effect::Set("1".to_owned()))].into(),
        ..Changes::default()
    }
}

fn renewal() -> Changes {
    Changes {
        renew: true,
        ..Changes::default()
    }
}

/// Plenty for whatever is answered at once, and soon over.
fn terms() -> Terms {
    Terms {
        budget: Duration::from_millis(20),
        ..Terms::default()
    }
}

/// For what must not depend on the budget.
fn patient() -> Terms {
    Terms {
        budget: Duration::from_secs(600),
        ..Terms::default()
    }
}

/// A record that was renewed, as a damaged database may say of any name.
fn in_a_circle() -> Fate {
    Answered(Reply::Found(Stored::Redirect(Redirect {
        target: "a".into(),
        made_at: Millis(0),
        flag: Flag::Plain,
    })))
}

#[actix_web::test]
async fn redirects_in_a_circle_end_with_the_budget_even_if_nothing_ever_waits() {
    let over = Terms {
        budget: Duration::ZERO,
        ..Terms::default()
    };
    let script = Script::of((0..100).map(|_| in_a_circle()));
    let ended = drive(&script, &mut EndMachine::new("a".into()), &over).await;
    assert!(matches!(ended, Err(CommitError::Other(_))), "{ended:?}");
    let changes = set();
    let mut commit = CommitMachine::new("a".into(), Some(base()), &changes, &over);
    let committed = drive(&script, &mut commit, &over).await;
    assert!(
        matches!(committed, Err(CommitError::Other(_))),
        "{committed:?}"
    );
    assert_eq!(script.fates.borrow().len(), 98);
}

/// Redirects that lead round and round through so many names.
fn round(names: usize) -> Script {
    let hops = (1..).map(|hop| {
        Answered(Reply::Found(Stored::Redirect(Redirect {
            target: format!("n{}", hop % names).into(),
            made_at: Millis(0),
            flag: Flag::Plain,
        })))
    });
    Script::of(hops.take(100))
}

#[actix_web::test]
async fn redirects_in_a_circle_lead_nowhere_and_are_not_followed_for_long() {
    let terms = patient();
    for names in [1, 2, 3, 7] {
        let first = || Name::from("n0");
        let soon = |script: &Script| assert!(script.fates.borrow().len() > 60, "{names}");
        let script = round(names);
        let ended = drive(&script, &mut EndMachine::new(first()), &terms).await;
        assert!(matches!(ended, Ok(())), "{ended:?}");
        soon(&script);
        let script = round(names);
        let mut revoke = RevokeMachine::new(first(), "ferris", 1);
        let revoked = drive(&script, &mut revoke, &terms).await;
        assert!(matches!(revoked, Ok(false)), "{revoked:?}");
        soon(&script);
        let (script, changes) = (round(names), set());
        let mut commit = CommitMachine::new(first(), Some(base()), &changes, &terms);
        let committed = drive(&script, &mut commit, &terms).await;
        assert!(matches!(committed, Ok(Committed::Gone)), "{committed:?}");
        soon(&script);
        let cleared = Changes {
            cleared: Some(7),
            ..renewal()
        };
        for (base, changes) in [
            (None, renewal()),
            (None, cleared),
            (Some(base()), renewal()),
        ] {
            let script = round(names);
            let mut renew = RotateMachine::new(first(), base, &changes, &terms);
            let renewed = drive(&script, &mut renew, &terms).await;
            assert!(matches!(renewed, Ok(Rotated::Gone)), "{renewed:?}");
            soon(&script);
        }
    }
}

async fn run<M: Machine>(
    mut machine: M,
    terms: &Terms,
    fates: impl IntoIterator<Item = Fate>,
) -> Result<M::Answer, CommitError> {
    let script = Script::of(fates);
    let answer = drive(&script, &mut machine, terms).await;
    assert_eq!(script.fates.borrow().len(), 0, "steps that were not taken");
    answer
}

async fn commit(
    terms: &Terms,
    fates: impl IntoIterator<Item = Fate>,
) -> Result<Committed, CommitError> {
    let changes = set();
    let machine = CommitMachine::new("old".into(), Some(base()), &changes, terms);
    run(machine, terms, fates).await
}

async fn renew(
    terms: &Terms,
    fates: impl IntoIterator<Item = Fate>,
) -> Result<Rotated, CommitError> {
    let changes = renewal();
    let machine = RotateMachine::new("old".into(), Some(base()), &changes, terms);
    run(machine, terms, fates).await
}

async fn create(
    terms: &Terms,
    fates: impl IntoIterator<Item = Fate>,
) -> Result<Rotated, CommitError> {
    let changes = set();
    run(RotateMachine::creating(&changes, terms), terms, fates).await
}

#[track_caller]
fn assert_unknown<A: std::fmt::Debug>(answer: &Result<A, CommitError>) {
    let unknown = matches!(answer, Err(CommitError::OutcomeUnknown));
    assert!(unknown, "{answer:?}");
}

#[track_caller]
fn assert_definite<A: std::fmt::Debug>(answer: &Result<A, CommitError>) {
    assert!(matches!(answer, Err(CommitError::Other(_))), "{answer:?}");
}

#[actix_web::test]
async fn a_refusal_is_definite() {
    assert_definite(&commit(&patient(), [Refused]).await);
    assert_definite(&renew(&patient(), [Refused]).await);
    assert_definite(&create(&patient(), [Refused]).await);
}

#[actix_web::test]
async fn a_refusal_after_a_lost_answer_says_nothing() {
    let terms = patient();
    let saved = commit(&terms, [LOST, Refused, DONE]).await;
    assert!(matches!(saved, Ok(Committed::Saved(_))), "{saved:?}");
    let rotated = renew(&terms, [LOST, Refused, Refused, DONE]).await;
    assert!(matches!(rotated, Ok(Rotated::Rotated(..))), "{rotated:?}");
    let created = create(&terms, [LOST, Refused, DONE]).await;
    assert!(matches!(created, Ok(Rotated::Rotated(..))), "{created:?}");
    let gone = commit(&terms, [LOST, Refused, NOTHING]).await;
    assert!(matches!(gone, Ok(Committed::Gone)), "{gone:?}");
}

#[actix_web::test]
async fn what_was_sent_and_never_answered_may_have_been_done() {
    assert_unknown(&commit(&terms(), [Silence]).await);
    assert_unknown(&renew(&terms(), [Silence]).await);
    assert_unknown(&create(&terms(), [Silence]).await);
    assert_unknown(&commit(&terms(), [LOST, Silence]).await);
}

/// Not even reading what became of it takes the doubt away.
#[actix_web::test]
async fn a_loss_is_not_forgotten() {
    let made = create(&terms(), [LOST, Answered(Reply::Taken), Silence]).await;
    assert_unknown(&made);
    let elsewhere = Redirect {
        target: "new".into(),
        flag: Flag::Plain,
        made_at: Millis(0),
    };
    let moved = Answered(Reply::Found(Stored::Redirect(elsewhere)));
    assert_unknown(&commit(&terms(), [LOST, moved, Silence]).await);
}

#[actix_web::test]
async fn a_reading_that_is_never_answered_has_done_nothing() {
    let (terms, state) = (terms(), HashMap::new());
    let machine = ReplaceMachine::new("old".into(), state.clone(), &terms);
    assert_definite(&run(machine, &terms, [Silence]).await);
    let changes = renewal();
    let machine = RotateMachine::new("old".into(), None, &changes, &terms);
    assert_definite(&run(machine, &terms, [Silence]).await);
}

/// The budget is over at the first repeat.
#[actix_web::test]
async fn the_last_reply_says_what_the_end_of_the_budget_means() {
    let over = Terms {
        budget: Duration::ZERO,
        ..Terms::default()
    };
    assert_unknown(&commit(&over, [LOST]).await);
    let other = Answered(Reply::Found(Stored::Record(base())));
    let contended = commit(&over, [other]).await;
    let known = matches!(contended, Err(CommitError::Contended));
    assert!(known, "{contended:?}");
    let machine = ReplaceMachine::new("old".into(), HashMap::new(), &over);
    assert_definite(&run(machine, &over, [LOST]).await);
}

/// Whoever is to be ended by the time of a login has logged in again at 9, over the same session.
#[actix_web::test]
async fn a_later_login_of_the_same_session_is_not_ended_with_the_listed_one() {
    let metadata = Metadata {
        auth: Some(Auth::new("ferris", Millis(9)).into()),
        ..Metadata::new(1, Millis(0))
    };
    let terms = patient();
    for (listed, expected) in [(Some(8), false), (Some(9), true), (None, true)] {
        let found = Record::written(WireFormat::V1, 1, metadata.clone(), &[]);
        let found = Answered(Reply::Found(Stored::Record(found)));
        let script = Script::of([found, DONE]);
        let machine = RevokeMachine::new("a".into(), "ferris", 1);
        let mut machine = machine.no_later_than(listed.map(Millis));
        let ended = drive(&script, &mut machine, &terms).await;
        assert_eq!(ended.unwrap(), expected, "{listed:?}");
    }
}
