//! A renewal: the merged record under a new key, the old one deleted, a mark beside it.

use super::{CommitMachine, Draw, Flag, Machine, Mark, Name, Next, Op, Reply, Slot, draw};
use crate::{
    changes::{Applied, ApplyError, Changes, overwrite, own_record},
    contract::{Committed, End, Older, Rotated, Terms},
    error::CommitError,
    key::SessionKey,
    record::Record,
};

/// How many taken names are met before giving up: more than one means a broken `cache_keygen`.
const DRAWS: u8 = 5;

#[derive(Clone)]
pub(crate) struct RotateMachine<'a> {
    at: Name,
    /// `None`: the load met a mark, and showed nothing.
    base: Option<Record>,
    changes: &'a Changes,
    terms: &'a Terms,
    new: Option<Target>,
    phase: Phase<'a>,
    draws: u8,
}

/// The new key and the name of its record.
struct Target(SessionKey, Name);

impl Clone for Target {
    fn clone(&self) -> Self {
        Self(self.0.duplicate(), self.1.clone())
    }
}

#[derive(Clone)]
enum Phase<'a> {
    /// There is no old key.
    Fresh,
    /// Looking where the mark that the load met leads to.
    Lookup {
        at: Name,
    },
    Rotating {
        op: Op,
        end: End,
    },
    /// A session of this request's own changes.
    Creating {
        op: Op,
        end: End,
        lost: bool,
    },
    /// Does the record that an earlier attempt made still live?
    Own {
        end: End,
    },
    /// The name of a creation is taken, after an answer was lost: is it this session's record?
    Made {
        id: Option<u128>,
        end: End,
    },
    /// The `clear` of a renewal that came too late still logs out.
    Clearing(Box<CommitMachine<'a>>),
}

/// The id of the session that a record is of.
fn id_of(record: &Record) -> Option<u128> {
    record.facts().map(|facts| facts.id)
}

impl<'a> RotateMachine<'a> {
    pub(crate) fn new(
        at: Name,
        base: Option<Record>,
        changes: &'a Changes,
        terms: &'a Terms,
    ) -> Self {
        let phase = Phase::Lookup { at: at.clone() };
        Self {
            at,
            base,
            changes,
            terms,
            new: None,
            phase,
            draws: 0,
        }
    }

    /// A new session, where there was none to renew.
    pub(crate) fn creating(changes: &'a Changes, terms: &'a Terms) -> Self {
        Self {
            phase: Phase::Fresh,
            ..Self::new(Name::new(), None, changes, terms)
        }
    }

    /// The new key, drawn once: every repeat offers the same.
    fn target(&mut self, draw: &mut impl Draw) -> Result<Target, CommitError> {
        if let Some(target) = &self.new {
            return Ok(target.clone());
        }
        let beside = (!self.at.is_empty()).then(|| self.at.clone());
        let (key, name) = draw.key(beside.as_deref())?;
        let target = Target(key, name);
        self.new = Some(target.clone());
        Ok(target)
    }

    fn rotate(&mut self, stored: &Record, draw: &mut impl Draw) -> Next<Rotated> {
        let id = draw!(draw.commit_id());
        let fresh = draw!(draw.session_id());
        let Target(_, target) = draw!(self.target(draw));
        let new = match overwrite(stored, self.changes, self.terms.grounds(id, fresh)) {
            Err(ApplyError(error)) => return Next::Fail(CommitError::Serialization(error)),
            Ok(Applied::Write(new)) => new,
            Ok(Applied::Gone | Applied::Nothing) => return Next::Answer(Rotated::Gone),
        };
        let until = self.terms.end(&new);
        let flag = self.flag(stored, &new);
        let mark = Mark {
            target,
            flag,
            made_at: self.terms.now,
        };
        let op = Op::Rotate {
            at: self.at.clone(),
            expect: stored.version(),
            new,
            until,
            mark,
        };
        self.phase = Phase::Rotating {
            op: op.clone(),
            end: End(until),
        };
        Next::Do(op)
    }

    fn flag(&self, stored: &Record, new: &Record) -> Flag {
        let replaced = stored.principal().is_some() && stored.principal() != new.principal();
        if self.changes.cleared.is_some() || replaced {
            Flag::Ended
        } else if self.changes.login.is_some() {
            Flag::Login
        } else {
            Flag::Plain
        }
    }

    /// Somebody else has committed since.
    fn merge(&mut self, stored: &Record, draw: &mut impl Draw) -> Next<Rotated> {
        let Some(base) = &self.base else {
            return Next::Answer(Rotated::Gone);
        };
        let logged_out = base.principal().is_some() && stored.epoch() != base.epoch();
        if logged_out && self.changes.login.is_none() {
            return Next::Answer(Rotated::Gone);
        }
        self.rotate(stored, draw)
    }

    /// What the base has moved to, or that it is gone, leaves this request's own changes at most.
    fn too_late(&mut self, mark: Option<Mark>, draw: &mut impl Draw) -> Next<Rotated> {
        let travels = self.changes.login.is_none();
        match (mark, self.changes.cleared) {
            (Some(mark), Some(epoch)) if travels && mark.flag != Flag::Ended => {
                self.clear_behind(mark, epoch, draw)
            }
            _ => self.own_session(draw),
        }
    }

    fn clear_behind(&mut self, mark: Mark, epoch: u64, draw: &mut impl Draw) -> Next<Rotated> {
        let clear = Changes {
            cleared: Some(epoch),
            ..Changes::default()
        };
        let base = self.base.clone();
        let mut machine = CommitMachine::behind(mark, base, clear, self.terms);
        let next = machine.start(draw);
        self.phase = Phase::Clearing(Box::new(machine));
        self.cleared(next, draw)
    }

    fn cleared(&mut self, next: Next<Committed>, draw: &mut impl Draw) -> Next<Rotated> {
        match next {
            Next::Do(op) => Next::Do(op),
            Next::Fail(error) => Next::Fail(error),
            Next::Answer(_) => {
                self.phase = Phase::Fresh;
                self.own_session(draw)
            }
        }
    }

    /// A session of this request's own changes, where it may have one.
    fn own_session(&mut self, draw: &mut impl Draw) -> Next<Rotated> {
        if !self.changes.may_live_alone(self.base.as_ref()) {
            return Next::Answer(Rotated::Gone);
        }
        let id = draw!(draw.commit_id());
        let fresh = draw!(draw.session_id());
        let Target(_, at) = draw!(self.target(draw));
        let new = match own_record(self.changes, self.terms.grounds(id, fresh)) {
            Err(ApplyError(error)) => return Next::Fail(CommitError::Serialization(error)),
            Ok(Applied::Write(new)) => new,
            Ok(Applied::Gone | Applied::Nothing) => return Next::Answer(Rotated::Gone),
        };
        let until = self.terms.end(&new);
        let op = Op::Insert { at, new, until };
        self.phase = Phase::Creating {
            op: op.clone(),
            end: End(until),
            lost: false,
        };
        Next::Do(op)
    }

    fn rotated(&mut self, end: End, draw: &mut impl Draw) -> Next<Rotated> {
        match self.target(draw) {
            Ok(Target(key, _)) => Next::Answer(Rotated::Rotated(key, end, Older::none())),
            Err(error) => Next::Fail(error),
        }
    }

    fn found_while_rotating(
        &mut self,
        slot: Slot,
        end: End,
        draw: &mut impl Draw,
    ) -> Next<Rotated> {
        match slot.live(self.terms) {
            Slot::Record(record) => self.merge(&record, draw),
            Slot::Unreadable => Next::Fail(CommitError::unreadable()),
            Slot::Nothing => self.too_late(None, draw),
            Slot::Mark(mark) => match &self.new {
                Some(Target(_, name)) if *name == mark.target => {
                    let at = mark.target;
                    self.phase = Phase::Own { end };
                    Next::Do(Op::Read { at })
                }
                _ => self.too_late(Some(mark), draw),
            },
        }
    }

    /// An earlier attempt has made the session, or the name was never free.
    ///
    /// The session's id tells which, whatever has been written to the record since.
    fn found_where_made(
        &mut self,
        slot: Slot,
        id: Option<u128>,
        end: End,
        draw: &mut impl Draw,
    ) -> Next<Rotated> {
        match slot {
            Slot::Record(record) if id_of(&record) == id => self.rotated(end, draw),
            Slot::Nothing => Next::Answer(Rotated::Gone),
            _ => self.taken(draw),
        }
    }

    fn found_while_looking(&mut self, slot: Slot, draw: &mut impl Draw) -> Next<Rotated> {
        match slot.live(self.terms) {
            // The cookie of the logged-in session is on its way; another one would hide it.
            Slot::Record(record) if record.principal().is_some() => Next::Answer(Rotated::Gone),
            Slot::Mark(mark) => {
                self.phase = Phase::Lookup {
                    at: mark.target.clone(),
                };
                Next::Do(Op::Read { at: mark.target })
            }
            Slot::Record(_) | Slot::Unreadable | Slot::Nothing => self.own_session(draw),
        }
    }

    /// The drawn name is somebody else's, which only a lossy `cache_keygen` makes likely.
    fn taken(&mut self, draw: &mut impl Draw) -> Next<Rotated> {
        self.draws += 1;
        self.new = None;
        if self.draws >= DRAWS {
            return Next::Fail(CommitError::taken());
        }
        match &self.phase {
            Phase::Rotating { .. } => match self.base.clone() {
                Some(base) => self.rotate(&base, draw),
                None => Next::Answer(Rotated::Gone),
            },
            _ => self.own_session(draw),
        }
    }

    fn lost(&mut self, draw: &mut impl Draw) -> Next<Rotated> {
        match &mut self.phase {
            Phase::Fresh => Next::Fail(CommitError::unexpected()),
            Phase::Lookup { at } => Next::Do(Op::Read { at: at.clone() }),
            Phase::Rotating { op, .. } => Next::Do(op.clone()),
            Phase::Creating { op, lost, .. } => {
                *lost = true;
                Next::Do(op.clone())
            }
            Phase::Own { .. } | Phase::Made { .. } => match self.target(draw) {
                Ok(Target(_, at)) => Next::Do(Op::Read { at }),
                Err(error) => Next::Fail(error),
            },
            Phase::Clearing(machine) => {
                let next = machine.on(Reply::Lost, draw);
                self.cleared(next, draw)
            }
        }
    }
}

/// What tells two machines apart, for the model checker.
#[cfg(test)]
impl RotateMachine<'_> {
    pub(super) fn sketch(&self, to: &mut super::tests::model::Sketch) {
        to.text(&self.at);
        to.record(self.base.as_ref());
        to.number(u64::from(self.draws));
        to.flag(self.new.is_some());
        match &self.phase {
            Phase::Fresh => to.number(0),
            Phase::Lookup { at } => to.text(at),
            Phase::Rotating { op, .. } => to.op(op),
            Phase::Creating { op, lost, .. } => {
                to.op(op);
                to.flag(*lost);
            }
            Phase::Own { .. } => to.number(1),
            Phase::Made { .. } => to.number(2),
            Phase::Clearing(machine) => machine.sketch(to),
        }
    }
}

impl Machine for RotateMachine<'_> {
    type Answer = Rotated;

    fn start(&mut self, draw: &mut impl Draw) -> Next<Rotated> {
        match (&self.phase, self.base.clone()) {
            (Phase::Fresh, _) => self.own_session(draw),
            (_, Some(base)) => self.rotate(&base, draw),
            (_, None) => Next::Do(Op::Read {
                at: self.at.clone(),
            }),
        }
    }

    fn on(&mut self, reply: Reply, draw: &mut impl Draw) -> Next<Rotated> {
        if let (Phase::Clearing(machine), false) = (&mut self.phase, matches!(reply, Reply::Lost)) {
            let next = machine.on(reply, draw);
            return self.cleared(next, draw);
        }
        match (reply, &self.phase) {
            (Reply::Lost, _) => self.lost(draw),
            (Reply::Done, Phase::Rotating { end, .. } | Phase::Creating { end, .. }) => {
                let end = *end;
                self.rotated(end, draw)
            }
            (
                Reply::Taken,
                Phase::Creating {
                    op: Op::Insert { at, new, .. },
                    lost: true,
                    end,
                },
            ) => {
                let (at, id, end) = (at.clone(), id_of(new), *end);
                self.phase = Phase::Made { id, end };
                Next::Do(Op::Read { at })
            }
            (Reply::Taken, _) => self.taken(draw),
            (Reply::Found(slot), Phase::Rotating { end, .. }) => {
                let end = *end;
                self.found_while_rotating(slot, end, draw)
            }
            (Reply::Found(slot), Phase::Made { id, end }) => {
                let (id, end) = (*id, *end);
                self.found_where_made(slot, id, end, draw)
            }
            (Reply::Found(slot), Phase::Lookup { .. }) => self.found_while_looking(slot, draw),
            (Reply::Found(Slot::Record(record)), Phase::Own { end }) => {
                let end = record.end().map_or(*end, End);
                self.rotated(end, draw)
            }
            (Reply::Found(_), Phase::Own { .. }) => Next::Answer(Rotated::Gone),
            (Reply::Found(_) | Reply::Done, _) => Next::Fail(CommitError::unexpected()),
        }
    }
}
