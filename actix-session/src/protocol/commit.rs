//! A commit: compare-and-set, merges, forwarding, and repeats after lost answers.

use std::borrow::Cow;

use super::{Draw, Flag, Machine, Mark, Name, Next, Op, Reply, Slot, Until, draw};
use crate::{
    changes::{
        Applied, ApplyError, Changes, Grounds, forwarded_clear, overwrite, reduce,
        refused_behind_login, write_reduced,
    },
    contract::{Committed, End, Terms},
    error::CommitError,
    record::Record,
};

#[derive(Clone)]
pub(crate) struct CommitMachine<'a> {
    at: Name,
    /// `None`: the load met a mark, and showed nothing.
    base: Option<Record>,
    changes: Cow<'a, Changes>,
    terms: &'a Terms,
    way: Way,
    attempt: Option<Attempt>,
    /// An answer was lost: from here on an effect happens only where the record shows that it has
    /// not happened yet.
    careful: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    Direct,
    /// Behind a mark; whether one of those on the way was left by a login.
    Forward {
        login: bool,
    },
}

#[derive(Clone)]
struct Attempt {
    op: Op,
    id: u64,
    /// The record that it was made on.
    on: Record,
    answer: Answer,
}

/// What an attempt answers if it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Saved(End),
    Forwarded,
    Gone,
}

impl From<Answer> for Committed {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Saved(end) => Self::Saved(end),
            Answer::Forwarded => Self::Forwarded,
            Answer::Gone => Self::Gone,
        }
    }
}

impl<'a> CommitMachine<'a> {
    pub(crate) fn new(
        at: Name,
        base: Option<Record>,
        changes: &'a Changes,
        terms: &'a Terms,
    ) -> Self {
        Self {
            at,
            base,
            changes: Cow::Borrowed(changes),
            terms,
            way: Way::Direct,
            attempt: None,
            careful: false,
        }
    }

    /// A machine that carries changes through a mark that is known already.
    pub(crate) fn behind(
        mark: Mark,
        base: Option<Record>,
        changes: Changes,
        terms: &'a Terms,
    ) -> Self {
        Self {
            at: mark.target,
            base,
            changes: Cow::Owned(changes),
            terms,
            way: Way::Forward {
                login: mark.flag == Flag::Login,
            },
            attempt: None,
            careful: false,
        }
    }

    fn found(&mut self, slot: Slot, draw: &mut impl Draw) -> Next<Committed> {
        match (slot.live(self.terms), self.way) {
            (Slot::Nothing, _) => Next::Answer(Committed::Gone),
            (Slot::Mark(mark), _) => self.follow(mark),
            (Slot::Unreadable, Way::Direct) => Next::Fail(CommitError::unreadable()),
            (Slot::Unreadable, Way::Forward { .. }) => Next::Answer(Committed::Gone),
            (Slot::Record(record), _) if self.applied(&record) => {
                Next::Answer(self.answered(&record))
            }
            (Slot::Record(record), Way::Direct) => self.merge(record, draw),
            (Slot::Record(record), Way::Forward { login }) => self.forward(record, login, draw),
        }
    }

    /// Whether an earlier attempt of this commit is what the record shows.
    fn applied(&self, record: &Record) -> bool {
        let own_id = self
            .attempt
            .as_ref()
            .is_some_and(|a| a.id == record.commit_id());
        let own_epoch = self
            .changes
            .cleared
            .is_some_and(|epoch| epoch == record.epoch());
        own_id || own_epoch
    }

    fn answered(&self, record: &Record) -> Committed {
        match self.way {
            Way::Direct => Committed::Saved(self.end_of(record)),
            Way::Forward { .. } if self.changes.cleared.is_some() => Committed::Gone,
            Way::Forward { .. } => Committed::Forwarded,
        }
    }

    fn end_of(&self, record: &Record) -> End {
        End(record.end().unwrap_or_else(|| self.terms.end(record)))
    }

    fn follow(&mut self, mark: Mark) -> Next<Committed> {
        if mark.flag == Flag::Ended {
            return Next::Answer(Committed::Gone);
        }
        let before = matches!(self.way, Way::Forward { login: true });
        self.way = Way::Forward {
            login: before || mark.flag == Flag::Login,
        };
        self.at = mark.target;
        Next::Do(Op::Read {
            at: self.at.clone(),
        })
    }

    /// Somebody else has committed since: these changes go on top of theirs.
    fn merge(&mut self, stored: Record, draw: &mut impl Draw) -> Next<Committed> {
        let Some(base) = &self.base else {
            return Next::Answer(Committed::Gone);
        };
        if stored.epoch() != base.epoch() {
            return self.merge_after_clear(stored, draw);
        }
        if self.careful && self.changes.cleared.is_none() {
            if self.changes.has_modify() {
                return Next::Fail(CommitError::OutcomeUnknown);
            }
            let attempted = self.attempt.as_ref().map(|attempt| &attempt.on);
            let left = reduce(&self.changes, &stored, attempted);
            self.changes = Cow::Owned(left);
            return self.attempt(stored, write_reduced, draw);
        }
        self.attempt(stored, overwrite, draw)
    }

    /// This request's base was read before a `clear`, so what it set counts as having come before.
    ///
    /// Its own `clear` counts all the same: the other one may have come through a mark, and have left
    /// entries that this request saw and was told are cleared.
    fn merge_after_clear(&mut self, stored: Record, draw: &mut impl Draw) -> Next<Committed> {
        if self.changes.cleared.is_none() {
            return Next::Answer(Committed::Saved(self.end_of(&stored)));
        }
        if self.careful {
            // Applied before the other one, or never: to clear again might be to clear twice.
            return Next::Fail(CommitError::OutcomeUnknown);
        }
        self.attempt(stored, overwrite, draw)
    }

    fn forward(&mut self, stored: Record, login: bool, draw: &mut impl Draw) -> Next<Committed> {
        if let Some(epoch) = self.changes.cleared {
            return self.forward_clear(stored, epoch, draw);
        }
        let Some(base) = self.base.clone() else {
            return Next::Answer(Committed::Gone);
        };
        if base.epoch() != stored.epoch() {
            return Next::Answer(Committed::Forwarded);
        }
        if self.careful && self.changes.has_modify() {
            return Next::Fail(CommitError::OutcomeUnknown);
        }
        if login && refused_behind_login(&stored, Some(&base), &self.changes) {
            return Next::Answer(Committed::Gone);
        }
        let before = match &self.attempt {
            Some(attempt) if self.careful && attempt.at() == self.at => attempt.on.clone(),
            _ => base,
        };
        let mut left = reduce(&self.changes, &stored, Some(&before));
        left.ttl = None;
        // What was dropped once stays dropped, whatever the entry's value becomes; after a lost answer
        // the comparison is with this record, where a dropped one would look as if it still applied.
        self.changes = Cow::Owned(left.clone());
        let make = move |stored: &_, _: &_, grounds| write_reduced(stored, &left, grounds);
        self.attempt(stored, make, draw)
    }

    /// A `clear` travels even where another one came first: that one may have come through a mark
    /// too, and have left what this request saw.
    fn forward_clear(
        &mut self,
        stored: Record,
        epoch: u64,
        draw: &mut impl Draw,
    ) -> Next<Committed> {
        let on = self.attempt.as_ref().map(|attempt| attempt.on.epoch());
        if self.careful && on != Some(stored.epoch()) {
            // Applied before the other one, or never: to clear again might be to clear twice.
            return Next::Fail(CommitError::OutcomeUnknown);
        }
        let base = self.base.clone();
        let make = |stored: &_, _: &_, grounds| {
            let new = forwarded_clear(stored, base.as_ref(), epoch, grounds);
            Ok(Applied::Write(new))
        };
        self.attempt(stored, make, draw)
    }

    /// Tries to write what `make` makes of the stored record.
    fn attempt(
        &mut self,
        on: Record,
        make: impl FnOnce(&Record, &Changes, Grounds) -> Result<Applied, ApplyError>,
        draw: &mut impl Draw,
    ) -> Next<Committed> {
        let id = draw!(draw.commit_id());
        let fresh = draw!(draw.session_id());
        let new = match make(&on, &self.changes, self.terms.grounds(id, fresh)) {
            Err(ApplyError(error)) => return Next::Fail(CommitError::Serialization(error)),
            Ok(Applied::Gone) => return Next::Answer(Committed::Gone),
            Ok(Applied::Nothing) => {
                return Next::Answer(match self.way {
                    Way::Direct => Committed::Saved(self.end_of(&on)),
                    Way::Forward { .. } => Committed::Forwarded,
                });
            }
            Ok(Applied::Write(new)) => new,
        };
        let end = self.terms.end(&new);
        let (until, answer) = match self.way {
            Way::Direct => (Until::At(end), Answer::Saved(End(end))),
            Way::Forward { .. } if self.changes.cleared.is_some() => (Until::Same, Answer::Gone),
            Way::Forward { .. } => (Until::Same, Answer::Forwarded),
        };
        let op = Op::Cas {
            at: self.at.clone(),
            expect: on.version(),
            new,
            until,
        };
        self.attempt = Some(Attempt {
            op: op.clone(),
            id,
            on,
            answer,
        });
        Next::Do(op)
    }
}

/// What tells two machines apart, for the model checker.
#[cfg(test)]
impl CommitMachine<'_> {
    pub(super) fn sketch(&self, to: &mut super::tests::model::Sketch) {
        to.text(&self.at);
        to.record(self.base.as_ref());
        to.changes(&self.changes);
        to.number(match self.way {
            Way::Direct => 0,
            Way::Forward { login } => 1 + u64::from(login),
        });
        to.flag(self.careful);
        if let Some(attempt) = &self.attempt {
            to.op(&attempt.op);
            to.record(Some(&attempt.on));
        }
    }
}

impl Attempt {
    fn at(&self) -> &str {
        match &self.op {
            Op::Cas { at, .. } => at,
            _ => "",
        }
    }
}

impl Machine for CommitMachine<'_> {
    type Answer = Committed;

    fn start(&mut self, draw: &mut impl Draw) -> Next<Committed> {
        match (&self.way, self.base.clone()) {
            (Way::Direct, Some(base)) => self.attempt(base, overwrite, draw),
            _ => Next::Do(Op::Read {
                at: self.at.clone(),
            }),
        }
    }

    fn on(&mut self, reply: Reply, draw: &mut impl Draw) -> Next<Committed> {
        match (reply, &self.attempt) {
            (Reply::Done, Some(attempt)) => Next::Answer(attempt.answer.into()),
            (Reply::Found(slot), _) => self.found(slot, draw),
            (Reply::Lost, Some(attempt)) if attempt.at() == self.at => {
                self.careful = true;
                Next::Do(attempt.op.clone())
            }
            (Reply::Lost, _) => Next::Do(Op::Read {
                at: self.at.clone(),
            }),
            (Reply::Done | Reply::Taken, _) => Next::Fail(CommitError::unexpected()),
        }
    }
}
