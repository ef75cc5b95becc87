//! What `save` and `update` of the five published methods do: insert a whole record, or replace one.

use std::collections::HashMap;

use super::{Draw, Machine, Name, Next, Op, Reply, Slot, Until, draw};
use crate::{
    changes::{Changes, overwrite, written},
    clock::Millis,
    contract::Terms,
    error::CommitError,
    key::SessionKey,
    record::{Record, facts_of_map},
};

/// How many taken names are met before giving up: more than one means a broken `cache_keygen`.
const DRAWS: u8 = 5;

/// Inserts a record under a key that is free.
pub(crate) struct SaveMachine<'a> {
    record: Record,
    terms: &'a Terms,
    attempt: Option<Attempt>,
    lost: bool,
    draws: u8,
}

struct Attempt {
    key: SessionKey,
    at: Name,
    new: Record,
    until: Millis,
}

impl Attempt {
    fn insert(&self) -> Next<SessionKey> {
        Next::Do(Op::Insert {
            at: self.at.clone(),
            new: self.new.clone(),
            until: self.until,
        })
    }

    /// Whether a record is the one of this attempt, whatever has been written to it since.
    fn made(&self, record: &Record) -> bool {
        let id = |record: &Record| record.facts().map(|facts| facts.id);
        id(record) == id(&self.new)
    }
}

impl<'a> SaveMachine<'a> {
    pub(crate) fn new(state: HashMap<String, String>, terms: &'a Terms) -> Self {
        Self {
            record: Record::from_map(state),
            terms,
            attempt: None,
            lost: false,
            draws: 0,
        }
    }

    fn again(&mut self, draw: &mut impl Draw) -> Next<SessionKey> {
        self.draws += 1;
        self.lost = false;
        if self.draws > DRAWS {
            return Next::Fail(CommitError::taken());
        }
        let new = match self.attempt.take() {
            Some(attempt) => attempt.new,
            None => draw!(whole(&self.record, self.terms, draw)),
        };
        let (key, at) = draw!(draw.key(None));
        let until = self.terms.end(&new);
        let attempt = self.attempt.insert(Attempt {
            key,
            at,
            new,
            until,
        });
        attempt.insert()
    }
}

impl Machine for SaveMachine<'_> {
    type Answer = SessionKey;

    fn start(&mut self, draw: &mut impl Draw) -> Next<SessionKey> {
        self.again(draw)
    }

    fn on(&mut self, reply: Reply, draw: &mut impl Draw) -> Next<SessionKey> {
        let Some(attempt) = &self.attempt else {
            return Next::Fail(CommitError::unexpected());
        };
        match reply {
            Reply::Done => Next::Answer(attempt.key.duplicate()),
            Reply::Lost => {
                self.lost = true;
                attempt.insert()
            }
            // By an earlier attempt, or by another session's: its id tells.
            Reply::Taken if self.lost => Next::Do(Op::Read {
                at: attempt.at.clone(),
            }),
            Reply::Found(Slot::Record(record)) if attempt.made(&record) => {
                Next::Answer(attempt.key.duplicate())
            }
            Reply::Taken | Reply::Found(_) => self.again(draw),
        }
    }
}

/// Replaces the record at a name; answers whether there was one.
pub(crate) struct ReplaceMachine<'a> {
    at: Name,
    state: HashMap<String, String>,
    terms: &'a Terms,
    /// The step of the last attempt, and its commit id.
    attempt: Option<(Op, u64)>,
}

impl<'a> ReplaceMachine<'a> {
    pub(crate) fn new(at: Name, state: HashMap<String, String>, terms: &'a Terms) -> Self {
        Self {
            at,
            state,
            terms,
            attempt: None,
        }
    }

    fn read(&self) -> Next<bool> {
        Next::Do(Op::Read {
            at: self.at.clone(),
        })
    }

    fn replace(&mut self, stored: &Record, draw: &mut impl Draw) -> Next<bool> {
        let facts = facts_of_map(&self.state).or_else(|| stored.facts().cloned());
        let record = Record::from_map(self.state.clone()).with_facts(facts);
        let new = draw!(whole(&record, self.terms, draw));
        let id = new.commit_id();
        let until = Until::At(self.terms.end(&new));
        let op = Op::Cas {
            at: self.at.clone(),
            expect: stored.version(),
            new,
            until,
        };
        self.attempt = Some((op.clone(), id));
        Next::Do(op)
    }

    fn found(&mut self, slot: Slot, draw: &mut impl Draw) -> Next<bool> {
        match (slot.live(self.terms), &self.attempt) {
            (Slot::Record(record), Some((_, id))) if *id == record.commit_id() => {
                Next::Answer(true)
            }
            (Slot::Record(record), _) => self.replace(&record, draw),
            (Slot::Unreadable, _) => Next::Fail(CommitError::unreadable()),
            (Slot::Mark(_) | Slot::Nothing, _) => Next::Answer(false),
        }
    }
}

impl Machine for ReplaceMachine<'_> {
    type Answer = bool;

    fn start(&mut self, _: &mut impl Draw) -> Next<bool> {
        self.read()
    }

    fn on(&mut self, reply: Reply, draw: &mut impl Draw) -> Next<bool> {
        match (reply, &self.attempt) {
            (Reply::Done, _) => Next::Answer(true),
            (Reply::Lost, Some((op, _))) => Next::Do(op.clone()),
            (Reply::Lost, None) => self.read(),
            (Reply::Taken, _) => Next::Fail(CommitError::unexpected()),
            (Reply::Found(slot), _) => self.found(slot, draw),
        }
    }
}

/// A record as it is to be written, under a commit id of its own.
fn whole(record: &Record, terms: &Terms, draw: &mut impl Draw) -> Result<Record, CommitError> {
    let grounds = terms.grounds(draw.commit_id()?, draw.session_id()?);
    written(overwrite(record, &Changes::default(), grounds))?.ok_or_else(CommitError::unexpected)
}
