//! What `save` and `update` of the five published methods do: insert a whole record, or replace
//! one.

use std::collections::HashMap;

use super::{Draw, Machine, Name, Next, Reply, Step, Stored, Until, or_fail, stamp};
use crate::{
    changes::{Changes, overwrite, written},
    clock::Millis,
    contract::Terms,
    error::CommitError,
    key::SessionKey,
    record::{Record, metadata_of_map},
};

/// How many taken names make a save fail. More than one means a broken `cache_keygen`.
const MAX_DRAWS: u8 = 5;

/// Inserts a record under a free key.
pub(crate) struct SaveMachine<'a> {
    record: Record,
    terms: &'a Terms,
    attempt: Option<Attempt>,
    draws: u8,
}

struct Attempt {
    key: SessionKey,
    at: Name,
    new: Record,
    until: Millis,
    /// Its answer was lost.
    lost: bool,
}

impl Attempt {
    fn insert(&self) -> Next<SessionKey> {
        Next::Do(Step::Insert {
            at: self.at.clone(),
            new: self.new.clone(),
            until: self.until,
        })
    }

    /// Whether this attempt made a record, whatever has been written to it since.
    fn made(&self, record: &Record) -> bool {
        record.id() == self.new.id()
    }
}

impl<'a> SaveMachine<'a> {
    pub(crate) fn new(state: HashMap<String, String>, terms: &'a Terms) -> Self {
        Self {
            record: Record::from_map(state),
            terms,
            attempt: None,
            draws: 0,
        }
    }

    fn again(&mut self, draw: &mut impl Draw) -> Next<SessionKey> {
        self.draws += 1;
        if self.draws > MAX_DRAWS {
            return Next::Fail(CommitError::taken());
        }
        let new = match self.attempt.take() {
            Some(attempt) => attempt.new,
            None => or_fail!(whole(&self.record, self.terms, draw)),
        };
        let (key, at) = or_fail!(draw.key(None));
        let until = self.terms.until(&new);
        let attempt = self.attempt.insert(Attempt {
            key,
            at,
            new,
            until,
            lost: false,
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
        let Some(attempt) = &mut self.attempt else {
            return Next::Fail(CommitError::unexpected());
        };
        match reply {
            Reply::Done => Next::Answer(attempt.key.duplicate()),
            Reply::Lost => {
                attempt.lost = true;
                attempt.insert()
            }
            // An earlier attempt or another session has taken it. The record's id says which.
            Reply::Taken if attempt.lost => Next::read(&attempt.at),
            Reply::Found(Stored::Record(record)) if attempt.made(&record) => {
                Next::Answer(attempt.key.duplicate())
            }
            // An earlier attempt made it, and it has ended since.
            Reply::Found(Stored::Nothing) if attempt.lost => Next::Fail(CommitError::gone()),
            Reply::Taken | Reply::Found(_) => self.again(draw),
        }
    }
}

/// Replaces the record under a name, and answers whether there was one.
pub(crate) struct ReplaceMachine<'a> {
    at: Name,
    state: HashMap<String, String>,
    terms: &'a Terms,
    /// The step of the last attempt, and its commit id.
    attempt: Option<(Step, u64)>,
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

    fn replace(&mut self, stored: &Record, draw: &mut impl Draw) -> Next<bool> {
        let metadata = metadata_of_map(&self.state).or_else(|| stored.metadata().cloned());
        let record = Record::from_map(self.state.clone()).with_metadata(metadata);
        let record = record.with_epoch_beside(Some(stored.epoch()));
        let new = or_fail!(whole(&record, self.terms, draw));
        let id = new.commit_id();
        let until = Until::At(self.terms.until(&new));
        let step = Step::Cas {
            at: self.at.clone(),
            expect: stored.version(),
            epoch: new.epoch_since(stored),
            new,
            until,
        };
        self.attempt = Some((step.clone(), id));
        Next::Do(step)
    }

    fn found(&mut self, found: Stored, draw: &mut impl Draw) -> Next<bool> {
        match (found.live(self.terms), &self.attempt) {
            (Stored::Record(record), Some((_, id))) if *id == record.commit_id() => {
                Next::Answer(true)
            }
            (Stored::Record(record), _) => self.replace(&record, draw),
            (Stored::Unreadable, _) => Next::Fail(CommitError::unreadable()),
            (Stored::Redirect(_) | Stored::Nothing, _) => Next::Answer(false),
        }
    }
}

impl Machine for ReplaceMachine<'_> {
    type Answer = bool;

    fn start(&mut self, _: &mut impl Draw) -> Next<bool> {
        Next::read(&self.at)
    }

    fn on(&mut self, reply: Reply, draw: &mut impl Draw) -> Next<bool> {
        match (reply, &self.attempt) {
            (Reply::Done, _) => Next::Answer(true),
            (Reply::Lost, Some((step, _))) => Next::Do(step.clone()),
            (Reply::Lost, None) => Next::read(&self.at),
            (Reply::Taken, _) => Next::Fail(CommitError::unexpected()),
            (Reply::Found(found), _) => self.found(found, draw),
        }
    }
}

/// The record to write, under a commit id of its own.
fn whole(record: &Record, terms: &Terms, draw: &mut impl Draw) -> Result<Record, CommitError> {
    let stamp = stamp(terms, draw)?;
    written(overwrite(record, &Changes::default(), stamp))?.ok_or_else(CommitError::unexpected)
}
