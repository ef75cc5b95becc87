//! One request: what it loaded, the machine that it runs, and its answer.

use std::{fmt, sync::LazyLock, time::Duration};

use super::{
    kind::{Kind, Still},
    mutant::Saving,
};
use crate::{
    Clock as _,
    contract::{Committed, ExtendOnRead, Rotated, Terms},
    error::CommitError,
    key::SessionKey,
    middleware::{
        decide::{Decision, Exit, Finished, Policy},
        load::{Incoming, Loaded},
    },
    protocol::{
        CommitMachine, Draw, EndMachine, Machine, Name, Next, Reply, RotateMachine, Step, Stored,
    },
    record::Record,
    session::Snapshot,
};

pub(super) static TERMS: LazyLock<Terms> = LazyLock::new(|| Terms::default().with_now(Still.now()));

/// Every request that loads a session extends it, and refreshes the cookie if the key is current.
const POLICY: Policy = Policy {
    extend: ExtendOnRead::Always,
    persistent: true,
    absolute: None,
};

#[derive(Clone)]
pub(super) struct Request {
    pub(super) who: usize,
    pub(super) kind: Kind,
    pub(super) stage: Stage,
    draw: Counter,
    /// The name of the key that the request came with.
    pub(super) at: Name,
    /// The session that this name belongs to.
    pub(super) session: usize,
    pub(super) base: Option<Record>,
    pub(super) seen: Seen,
    asked: Option<&'static Snapshot>,
    /// What the request has done so far.
    pub(super) history: History,
}

/// What a request's load found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It has not loaded yet, or there was nothing.
    Nothing,
    Redirect,
    /// A record of this epoch.
    Record(u64),
}

#[derive(Clone)]
pub(super) enum Stage {
    Waiting,
    Running(Running, Step),
    Done(Answer),
}

/// What a request's writes have done to the store. No machine sees this.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// The sessions that it has written to, as bits.
    pub(super) wrote: u8,
    /// The session that it wrote to last, and the epoch that it left there.
    pub(super) last: Option<(usize, u64)>,
    /// How often it has renewed or created.
    pub(super) renewed: u8,
    /// For a `clear`: the requests whose login it came after, as bits.
    pub(super) logins_before: u8,
    /// Its purge has been answered.
    pub(super) ended: bool,
    /// An answer to one of its writes was lost.
    pub(super) lost: bool,
    /// What others have changed since, of what it wrote itself, as bits.
    pub(super) overwritten: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// There was nothing to do, or it must not be done.
    Nothing,
    /// Its key is current: the cookie is sent again.
    Current,
    /// Its key is not current.
    Stale,
    Saved,
    Forwarded,
    Gone,
    /// The cookie with a new key is sent.
    Renewed(String),
    Ended,
    OutcomeUnknown,
    Failed,
}

impl Kind {
    fn exit(self) -> Exit {
        if self.has_a_head() {
            Exit::Response
        } else {
            Exit::NoHead
        }
    }
}

impl Answer {
    /// Whether this confirms that the request's changes are done.
    pub(super) fn acknowledges(&self) -> bool {
        matches!(self, Self::Saved | Self::Forwarded | Self::Renewed(_))
    }
}

#[derive(Clone)]
pub(super) enum Running {
    Check,
    Commit(Box<CommitMachine<'static>>),
    /// A `clear` goes ahead of a creation.
    Clearing(Box<CommitMachine<'static>>, &'static Snapshot),
    Rotate(Box<RotateMachine<'static>>),
    End(EndMachine, &'static Snapshot, bool),
    /// A broken variant.
    Saving(Saving),
}

/// Counts in place of random values: no two requests draw the same.
#[derive(Clone)]
pub(super) struct Counter {
    who: usize,
    next: u64,
}

impl Counter {
    pub(super) fn of(who: usize) -> Self {
        Self { who, next: 0 }
    }

    fn draw(&mut self) -> u64 {
        self.next += 1;
        (u64::try_from(self.who).unwrap() + 1) << 32 | self.next
    }
}

impl Draw for Counter {
    fn commit_id(&mut self) -> Result<u64, CommitError> {
        Ok(self.draw())
    }

    fn session_id(&mut self) -> Result<u128, CommitError> {
        // The same for all draws, since a record gets only one.
        Ok(200 + u128::try_from(self.who).unwrap())
    }

    fn key(&mut self, _: Option<&str>, _: Option<&str>) -> Result<(SessionKey, Name), CommitError> {
        let name = new_name(self.who);
        Ok((SessionKey::generated(name.as_str().to_owned()), name))
    }
}

/// The name of the key that a request draws.
pub(super) fn new_name(who: usize) -> Name {
    format!("K{}", who + 1).into()
}

impl Request {
    pub(super) fn new(who: usize, kind: Kind) -> Self {
        Self {
            who,
            kind,
            stage: Stage::Waiting,
            draw: Counter::of(who),
            at: Name::default(),
            session: 0,
            base: None,
            seen: Seen::Nothing,
            asked: None,
            history: History::default(),
        }
    }

    /// The session that it makes if it makes one.
    pub(super) fn own_session(&self) -> usize {
        self.who + 1
    }

    pub(super) fn answer(&self) -> Option<&Answer> {
        match &self.stage {
            Stage::Done(answer) => Some(answer),
            _ => None,
        }
    }

    pub(super) fn acknowledged(&self) -> bool {
        self.answer().is_some_and(Answer::acknowledges)
    }

    pub(super) fn has_written_to(&self, session: usize) -> bool {
        self.history.wrote & (1 << session) != 0
    }

    pub(super) fn snapshot(&self) -> &'static Snapshot {
        self.asked.expect("a request that has come has asked")
    }

    /// Who was logged in when the request came.
    pub(super) fn base_principal(&self) -> Option<&str> {
        self.base.as_ref().and_then(Record::principal)
    }

    /// Loads what is there, runs the handler and decides what to do.
    pub(super) fn start(&mut self, at: &str, session: usize, found: Stored, age: Duration) {
        self.at = at.into();
        self.session = session;
        let key = SessionKey::generated(at.to_owned());
        let loaded = match found {
            Stored::Record(record) => {
                self.base = Some(record.clone());
                self.seen = Seen::Record(record.epoch());
                Loaded::Live(key, record)
            }
            Stored::Redirect(_) => {
                self.seen = Seen::Redirect;
                Loaded::Moved(key, age)
            }
            Stored::Nothing | Stored::Unreadable => Loaded::Lost(key),
        };
        let snapshot = self.kind.snapshot(self.who, self.base.as_ref());
        self.asked = Some(snapshot);
        let incoming = Incoming {
            loaded,
            cookie_came: true,
            extended: true,
            ..Incoming::default()
        };
        let finished = Finished {
            incoming: &incoming,
            snapshot,
            exit: self.kind.exit(),
            policy: POLICY,
            now: TERMS.now,
        };
        self.begin(finished.decide(), snapshot);
    }

    /// Carries a decision out, as the middleware and the shared stores do.
    fn begin(&mut self, decision: Decision, snapshot: &'static Snapshot) {
        let (at, base, changes) = (self.at.clone(), self.base.clone(), &snapshot.changes);
        let terms = &*TERMS;
        let check = decision == Decision::Commit && changes.is_empty();
        let next = match decision {
            Decision::Check | Decision::Touch => {
                self.run(Running::Check, Next::Do(Step::Read { at }))
            }
            _ if check => self.run(Running::Check, Next::Do(Step::Read { at })),
            Decision::Commit => {
                let mut machine = CommitMachine::new(at, base, changes, terms);
                let next = machine.start(&mut self.draw);
                self.run(Running::Commit(Box::new(machine)), committed(next))
            }
            Decision::Rotate => {
                let machine = RotateMachine::new(at, base, changes, terms);
                self.renew(machine)
            }
            Decision::CreateAfterClear => {
                let mut machine = CommitMachine::new(at, base, changes, terms);
                let next = machine.start(&mut self.draw);
                self.run(
                    Running::Clearing(Box::new(machine), snapshot),
                    committed(next),
                )
            }
            Decision::Create => self.renew(RotateMachine::creating(changes, terms)),
            Decision::End { then_create } => {
                let mut machine = EndMachine::new(at);
                let next = machine.start(&mut self.draw);
                let running = Running::End(machine, snapshot, then_create);
                self.run(running, renamed(next, |()| Answer::Ended))
            }
            _ => Stage::Done(Answer::Nothing),
        };
        self.stage = next;
    }

    fn renew(&mut self, mut machine: RotateMachine<'static>) -> Stage {
        let next = machine.start(&mut self.draw);
        self.run(Running::Rotate(Box::new(machine)), rotated(next))
    }

    fn run(&self, running: Running, next: Next<Answer>) -> Stage {
        match next {
            Next::Do(step) => Stage::Running(running, step),
            Next::Answer(answer) => Stage::Done(answer),
            Next::Fail(CommitError::OutcomeUnknown) => Stage::Done(Answer::OutcomeUnknown),
            Next::Fail(_) => Stage::Done(Answer::Failed),
        }
    }

    /// Passes the reply to the machine.
    pub(super) fn on(&mut self, reply: Reply) {
        let Stage::Running(mut running, step) = std::mem::replace(&mut self.stage, Stage::Waiting)
        else {
            panic!("only a request that runs is answered");
        };
        let next = match &mut running {
            Running::Check => checked(&reply, step),
            Running::Commit(machine) | Running::Clearing(machine, _) => {
                committed(machine.on(reply, &mut self.draw))
            }
            Running::Rotate(machine) => rotated(machine.on(reply, &mut self.draw)),
            Running::End(machine, ..) => {
                renamed(machine.on(reply, &mut self.draw), |()| Answer::Ended)
            }
            Running::Saving(saving) => saving.on(reply),
        };
        self.stage = match (running, next) {
            (Running::Clearing(_, snapshot), Next::Answer(_)) => {
                self.renew(RotateMachine::creating(&snapshot.changes, &TERMS))
            }
            (Running::End(_, snapshot, then_create), Next::Answer(answer)) => {
                self.history.ended = true;
                if then_create {
                    self.renew(RotateMachine::creating(&snapshot.changes, &TERMS))
                } else {
                    Stage::Done(answer)
                }
            }
            (running, next) => self.run(running, next),
        };
    }
}

fn checked(reply: &Reply, step: Step) -> Next<Answer> {
    match reply {
        Reply::Found(Stored::Record(_)) => Next::Answer(Answer::Current),
        Reply::Lost => Next::Do(step),
        _ => Next::Answer(Answer::Stale),
    }
}

fn committed(next: Next<Committed>) -> Next<Answer> {
    renamed(next, |committed| match committed {
        Committed::Saved(_) => Answer::Saved,
        Committed::Forwarded => Answer::Forwarded,
        Committed::Gone => Answer::Gone,
        Committed::NewValue(..) => panic!("only a store without records answers a new value"),
        Committed::NotExtended => panic!("only a check without changes answers this"),
    })
}

fn rotated(next: Next<Rotated>) -> Next<Answer> {
    renamed(next, |rotated| match rotated {
        Rotated::Rotated(key, ..) => Answer::Renewed(key.into()),
        Rotated::Moved | Rotated::Gone => Answer::Gone,
    })
}

fn renamed<A>(next: Next<A>, name: impl FnOnce(A) -> Answer) -> Next<Answer> {
    match next {
        Next::Do(step) => Next::Do(step),
        Next::Answer(answer) => Next::Answer(name(answer)),
        Next::Fail(error) => Next::Fail(error),
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?} with {}, ",
            self.who,
            self.kind,
            self.at.as_str()
        )?;
        match &self.stage {
            Stage::Waiting => f.write_str("has not come yet"),
            Stage::Running(_, step) => write!(f, "wants {step:?}"),
            Stage::Done(answer) => write!(f, "answered {answer:?}"),
        }?;
        write!(f, "; {:?}", self.history)
    }
}
