//! A renewal: the merged record gets a new key, and a redirect takes the old one's place.

mod late;

use super::{
    CommitMachine, Draw, Flag, Machine, Name, Next, OwnerBefore, Redirect, Reply, Step, Stored,
    or_fail, stamp, trail::Trail,
};
use crate::{
    changes::{Changes, overwrite, written},
    contract::{End, Older, Rotated, Terms},
    error::CommitError,
    key::SessionKey,
    record::Record,
};

/// How many taken names make a renewal fail. More than one means a broken `cache_keygen`.
const MAX_DRAWS: u8 = 5;

#[derive(Clone)]
pub(crate) struct RotateMachine<'a> {
    at: Name,
    /// `None` if the load found a redirect, and showed nothing.
    base: Option<Record>,
    changes: &'a Changes,
    terms: &'a Terms,
    new: Option<Target>,
    phase: Phase<'a>,
    draws: u8,
    /// The `clear` has gone through the redirect that the load found, or that one says *ended*.
    cleared: bool,
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
    /// Follows the redirect that the load found.
    Lookup {
        at: Name,
        trail: Trail,
    },
    Rotating {
        step: Step,
        end: End,
    },
    /// Makes a session from this request's own changes.
    Creating {
        step: Step,
        end: End,
        lost: bool,
    },
    /// Reads whether the record that an earlier attempt made is still live.
    Own {
        end: End,
    },
    /// The name is taken after an answer was lost: reads whether this session's record has it.
    Made {
        new: Record,
        end: End,
    },
    /// The `clear` of a renewal that came too late still logs out.
    Clearing(Box<CommitMachine<'a>>),
}

impl<'a> RotateMachine<'a> {
    pub(crate) fn new(
        at: Name,
        base: Option<Record>,
        changes: &'a Changes,
        terms: &'a Terms,
    ) -> Self {
        let phase = Phase::Lookup {
            at: at.clone(),
            trail: Trail::default(),
        };
        Self {
            at,
            base,
            changes,
            terms,
            new: None,
            phase,
            draws: 0,
            cleared: false,
        }
    }

    /// Makes a new session if there is none to renew.
    pub(crate) fn creating(changes: &'a Changes, terms: &'a Terms) -> Self {
        Self {
            phase: Phase::Fresh,
            ..Self::new(Name::default(), None, changes, terms)
        }
    }

    /// The new key. It is drawn once, so that every repeat offers the same one.
    fn target(&mut self, draw: &mut impl Draw) -> Result<Name, CommitError> {
        if let Some(Target(_, name)) = &self.new {
            return Ok(name.clone());
        }
        // Where the first name could not be had, the second may lie anywhere.
        let is_first = self.draws == 0;
        let beside = Some(self.at.as_str()).filter(|at| is_first && !at.is_empty());
        let login = self.changes.login.as_ref();
        let stays = self
            .base
            .as_ref()
            .filter(|_| self.changes.cleared.is_none());
        let owner = match login {
            _ if !is_first => None,
            Some(login) => Some(login.principal.as_str()),
            None => stays.and_then(Record::principal),
        };
        let (key, name) = draw.key(beside, owner)?;
        self.new = Some(Target(key, name.clone()));
        Ok(name)
    }

    fn rotate(
        &mut self,
        stored: &Record,
        changes: &Changes,
        draw: &mut impl Draw,
    ) -> Next<Rotated> {
        let target = or_fail!(self.target(draw));
        let stamp = or_fail!(stamp(self.terms, &target, draw));
        let Some(new) = or_fail!(written(overwrite(stored, changes, stamp))) else {
            return Next::Answer(Rotated::Gone);
        };
        if let Some(logout) = &changes.logout {
            logout.note(stored, &new, changes.cleared.is_some());
        }
        let until = if changes.authenticate() {
            self.terms.until(&new)
        } else {
            self.terms.until_over(&new, stored.end())
        };
        let (until, end) = self.terms.until_written(stored, &new, until);
        let end = End::of(&new, end);
        let redirect = Redirect {
            target,
            flag: self.flag(stored, &new),
            made_at: self.terms.now,
        };
        let step = Step::Rotate {
            at: self.at.clone(),
            expect: stored.version(),
            epoch: new.epoch_since(stored),
            owner_before: OwnerBefore::of(stored, &new),
            new,
            until,
            redirect,
        };
        self.phase = Phase::Rotating {
            step: step.clone(),
            end,
        };
        Next::Do(step)
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

    /// Another request has committed since.
    fn merge(&mut self, stored: &Record, draw: &mut impl Draw) -> Next<Rotated> {
        let base = self.base.as_ref();
        match base.and_then(|base| self.changes.to_renew(base, stored)) {
            Some(changes) => self.rotate(stored, &changes, draw),
            None => Next::Answer(Rotated::Gone),
        }
    }

    fn done(&mut self) -> Next<Rotated> {
        match self.phase {
            Phase::Rotating { end, .. } | Phase::Creating { end, .. } => self.rotated(end),
            _ => Next::Fail(CommitError::unexpected()),
        }
    }

    fn found(&mut self, found: Stored, draw: &mut impl Draw) -> Next<Rotated> {
        match self.phase {
            Phase::Rotating { end, .. } => self.found_while_rotating(found, end, draw),
            Phase::Made { ref new, end } => {
                let own = matches!(&found, Stored::Record(record) if record.is_same_session(new));
                self.found_where_made(&found, own, end, draw)
            }
            Phase::Lookup { .. } => self.found_while_looking(found, draw),
            Phase::Own { end } => self.found_own(found, end),
            _ => Next::Fail(CommitError::unexpected()),
        }
    }

    /// An earlier attempt made the record; it may have ended since.
    fn found_own(&mut self, found: Stored, end: End) -> Next<Rotated> {
        match found {
            Stored::Record(record) => {
                let end = record.end().map_or(end, |at| End::of(&record, at));
                self.rotated(end)
            }
            _ => Next::Answer(Rotated::Gone),
        }
    }

    fn rotated(&mut self, end: End) -> Next<Rotated> {
        match self.new.take() {
            Some(Target(key, _)) => Next::Answer(Rotated::Rotated(key, end, Older::none())),
            None => Next::Fail(CommitError::unexpected()),
        }
    }

    fn found_while_rotating(
        &mut self,
        found: Stored,
        end: End,
        draw: &mut impl Draw,
    ) -> Next<Rotated> {
        let found = found.live(self.terms);
        if let (Stored::Redirect(redirect), Some(Target(_, own))) = (&found, &self.new)
            && redirect.target == *own
        {
            self.phase = Phase::Own { end };
            return Next::read(own);
        }
        self.changes.note_nobody();
        match found {
            Stored::Record(record) => self.merge(&record, draw),
            Stored::Unreadable => Next::Fail(CommitError::unreadable()),
            Stored::Nothing => self.too_late(None, draw),
            Stored::Redirect(redirect) => self.too_late(Some(redirect), draw),
        }
    }

    /// An earlier attempt has made the session, or the name was never free.
    ///
    /// The session's id says which, whatever has been written to the record since.
    fn found_where_made(
        &mut self,
        found: &Stored,
        own: bool,
        end: End,
        draw: &mut impl Draw,
    ) -> Next<Rotated> {
        match found {
            Stored::Record(_) if own => self.rotated(end),
            Stored::Nothing => Next::Answer(Rotated::Gone),
            _ => self.taken(draw),
        }
    }

    /// Another session has the drawn name, which only a lossy `cache_keygen` makes likely.
    fn taken(&mut self, draw: &mut impl Draw) -> Next<Rotated> {
        if let Some(next) = self.look_at_made() {
            return next;
        }
        self.draws += 1;
        self.new = None;
        if self.draws >= MAX_DRAWS {
            return Next::Fail(CommitError::taken());
        }
        match &self.phase {
            Phase::Rotating { .. } => match self.base.clone() {
                Some(base) => self.rotate(&base, self.changes, draw),
                None => Next::Answer(Rotated::Gone),
            },
            _ => self.own_session(draw),
        }
    }

    /// A creation whose answer was lost may have taken the name itself.
    fn look_at_made(&mut self) -> Option<Next<Rotated>> {
        let Phase::Creating { step, end, lost } = &self.phase else {
            return None;
        };
        let (Step::Insert { at, new, .. }, true) = (step, *lost) else {
            return None;
        };
        let next = Next::read(at);
        self.phase = Phase::Made {
            new: new.clone(),
            end: *end,
        };
        Some(next)
    }

    fn lost(&mut self, draw: &mut impl Draw) -> Next<Rotated> {
        match &mut self.phase {
            Phase::Fresh | Phase::Clearing(_) => Next::Fail(CommitError::unexpected()),
            Phase::Lookup { at, .. } => Next::read(at),
            Phase::Rotating { step, .. } => Next::Do(step.clone()),
            Phase::Creating { step, lost, .. } => {
                *lost = true;
                Next::Do(step.clone())
            }
            Phase::Own { .. } | Phase::Made { .. } => match self.target(draw) {
                Ok(at) => Next::read(&at),
                Err(error) => Next::Fail(error),
            },
        }
    }
}

/// What tells two machines apart, for the model checker.
#[cfg(test)]
impl RotateMachine<'_> {
    pub(super) fn fingerprint(&self, to: &mut super::tests::model::Fingerprint) {
        to.text(&self.at);
        to.record(self.base.as_ref());
        to.number(u64::from(self.draws));
        to.flag(self.new.is_some());
        to.flag(self.cleared);
        match &self.phase {
            Phase::Fresh => to.number(0),
            Phase::Lookup { at, .. } => to.text(at),
            Phase::Rotating { step, .. } => to.step(step),
            Phase::Creating { step, lost, .. } => {
                to.step(step);
                to.flag(*lost);
            }
            Phase::Own { .. } => to.number(1),
            Phase::Made { .. } => to.number(2),
            Phase::Clearing(machine) => machine.fingerprint(to),
        }
    }
}

impl Machine for RotateMachine<'_> {
    type Answer = Rotated;

    fn start(&mut self, draw: &mut impl Draw) -> Next<Rotated> {
        match (&self.phase, self.base.clone()) {
            (Phase::Fresh, _) => self.own_session(draw),
            (_, Some(base)) => match self.rotate(&base, self.changes, draw) {
                // What has come to its end since the load would get another one.
                Next::Do(_) if self.terms.is_over(&base) => Next::read(&self.at),
                next => next,
            },
            (_, None) => Next::read(&self.at),
        }
    }

    fn on(&mut self, reply: Reply, draw: &mut impl Draw) -> Next<Rotated> {
        if let Phase::Clearing(machine) = &mut self.phase {
            let next = machine.on(reply, draw);
            return self.cleared(next, draw);
        }
        match reply {
            Reply::Done => self.done(),
            Reply::Found(found) => self.found(found, draw),
            Reply::Taken => self.taken(draw),
            Reply::Ended => {
                self.changes.note_nobody();
                Next::Answer(Rotated::Gone)
            }
            Reply::Lost => self.lost(draw),
        }
    }
}
