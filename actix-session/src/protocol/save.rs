//! What `save` and `update` of the five published methods do: insert a whole record, or replace
//! one.

use std::collections::HashMap;

use super::{Draw, Machine, Name, Next, OwnerBefore, Reply, Step, Stored, Until, or_fail, stamp};
use crate::{
    changes::{Changes, overwrite, written},
    clock::Millis,
    contract::Terms,
    error::CommitError,
    key::SessionKey,
    record::Record,
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
        record.is_same_session(&self.new)
    }
}

impl<'a> SaveMachine<'a> {
    pub(crate) fn new(state: HashMap<String, String>, terms: &'a Terms) -> Self {
        Self {
            record: terms.record_of(state),
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
        let (key, at) = or_fail!(draw.key(None, None));
        let new = or_fail!(whole(&self.record, &at, self.terms, draw));
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
            Reply::Ended => Next::Fail(CommitError::gone()),
            Reply::Taken | Reply::Found(_) => self.again(draw),
        }
    }
}

/// Replaces the record under a name, and answers whether there was one.
pub(crate) struct ReplaceMachine<'a> {
    at: Name,
    record: Record,
    terms: &'a Terms,
    /// The step of the last attempt, and the record that it writes.
    attempt: Option<(Step, Record)>,
    /// An answer was lost.
    careful: bool,
}

impl<'a> ReplaceMachine<'a> {
    pub(crate) fn new(at: Name, state: HashMap<String, String>, terms: &'a Terms) -> Self {
        Self {
            at,
            record: terms.record_of(state),
            terms,
            attempt: None,
            careful: false,
        }
    }

    fn replace(&mut self, stored: &Record, draw: &mut impl Draw) -> Next<bool> {
        let is_program = self.terms.keys.is_none();
        let record = self.record.clone().in_place_of(stored, is_program);
        let record = record.with_epoch_beside(Some(stored.epoch()));
        let format = is_program.then(|| stored.format());
        let terms = format.map(|format| self.terms.clone().with_format(format));
        let terms = terms.as_ref().unwrap_or(self.terms);
        let new = or_fail!(whole(&record, &self.at, terms, draw));
        let until = self.terms.until(&new);
        let until = if self.terms.keeps_end() {
            Until::AtMost(until)
        } else {
            Until::At(until)
        };
        let step = Step::Cas {
            at: self.at.clone(),
            expect: stored.version(),
            epoch: new.epoch_since(stored),
            owner_before: OwnerBefore::of(stored, &new),
            new: new.clone(),
            until,
        };
        self.attempt = Some((step.clone(), new));
        Next::Do(step)
    }

    fn found(&mut self, found: Stored, draw: &mut impl Draw) -> Next<bool> {
        match (found.live(self.terms), &self.attempt) {
            (Stored::Record(record), Some((_, new)))
                if self.careful && record.is_same_commit(new) =>
            {
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
            (Reply::Lost, Some((step, _))) => {
                self.careful = true;
                Next::Do(step.clone())
            }
            (Reply::Lost, None) => Next::read(&self.at),
            (Reply::Ended, _) => Next::Answer(false),
            (Reply::Taken, _) => Next::Fail(CommitError::unexpected()),
            (Reply::Found(found), _) => self.found(found, draw),
        }
    }
}

/// The record to write at a name, under a commit id of its own.
fn whole(
    record: &Record,
    at: &str,
    terms: &Terms,
    draw: &mut impl Draw,
) -> Result<Record, CommitError> {
    // Whoever has no keys can neither read the metadata nor vouch for them.
    if record.has_claim() {
        return Ok(record.with_claim_as_it_is());
    }
    let stamp = stamp(terms, at, draw)?;
    written(overwrite(record, &Changes::default(), stamp))?.ok_or_else(CommitError::unexpected)
}
