//! How stores with a shared back end commit, renew and end sessions: one protocol, without I/O.
//!
//! The machines here take the reply to an atomic step, and say which step comes next. The stores
//! ([`Backend`]) carry the steps out. So does the model checker, in every order.

mod batch;
mod commit;
mod drive;
mod end;
mod line;
mod name;
mod owner;
mod revoke;
mod rotate;
mod save;
mod trail;

use std::{future::Future, sync::Arc};

use self::{
    batch::Errand,
    commit::Attempt,
    drive::{drive, drive_in_line},
};
use crate::{
    clock::{Millis, SharedClock},
    contract::{End, Stamp, Terms},
    error::CommitError,
    key::SessionKey,
    live::{EndReason, hub::Hub},
    random,
    record::{Place, Record, Version},
    storage::StoreIndex,
};

pub(crate) use crate::record::Owner;

pub(crate) use self::{
    commit::CommitMachine,
    drive::drive_at_once,
    end::EndMachine,
    name::Name,
    owner::{NotBefore, OwnerBefore},
    revoke::RevokeMachine,
    rotate::RotateMachine,
    save::{ReplaceMachine, SaveMachine},
    trail::Trail,
};

/// What a renewal leaves beside the old key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Redirect {
    pub(crate) target: Name,
    pub(crate) flag: Flag,
    pub(crate) made_at: Millis,
}

/// What an ending leaves beside the key of the record that it deleted, in place of a redirect.
///
/// It is no redirect, so that it leads nowhere. Only a step that makes a record looks at it: a
/// creation that was given up for lost, and runs after its session was ended, makes nothing.
pub(crate) const TOMBSTONE: &str = "ended";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flag {
    Plain,
    /// The renewal was a login.
    Login,
    /// The renewal cleared the session, or it is another person's now: commits do not follow.
    Ended,
}

impl Flag {
    fn letter(self) -> char {
        match self {
            Self::Plain => 'p',
            Self::Login => 'l',
            Self::Ended => 'e',
        }
    }

    fn of_letter(letter: &str) -> Option<Self> {
        match letter {
            "p" => Some(Self::Plain),
            "l" => Some(Self::Login),
            "e" => Some(Self::Ended),
            _ => None,
        }
    }
}

impl Redirect {
    /// `flag|made_at|target`: the target comes last because it may contain any character.
    pub(crate) fn encode(&self) -> String {
        let (flag, target) = (self.flag.letter(), self.target.as_str());
        format!("{flag}|{}|{target}", self.made_at.0)
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        let (flag, rest) = text.split_once('|')?;
        let (made_at, target) = rest.split_once('|')?;
        let (flag, made_at) = (Flag::of_letter(flag)?, Millis(made_at.parse().ok()?));
        let target = target.into();
        Some(Self {
            target,
            flag,
            made_at,
        })
    }
}

/// What a store holds under a name.
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    Record(Record),
    /// Something that this version cannot read.
    Unreadable,
    Redirect(Redirect),
    Nothing,
}

impl Stored {
    /// What a read found that was to extend a record and could not.
    pub(crate) fn not_extended(self) -> Self {
        self.map(Record::not_extended)
    }

    /// With the epoch that lies beside the record.
    pub(crate) fn with_epoch_beside(self, epoch: Option<u64>) -> Self {
        self.map(|record| record.with_epoch_beside(epoch))
    }

    /// What a read found that has extended a record.
    pub(crate) fn extended(self) -> Self {
        self.map(Record::extended)
    }

    fn map(self, change: impl FnOnce(Record) -> Record) -> Self {
        match self {
            Self::Record(record) => Self::Record(change(record)),
            found => found,
        }
    }

    /// What was found under a name, once its metadata have been proven.
    pub(crate) fn proven(self, at: &str, terms: &Terms) -> Self {
        match self {
            Self::Record(record) => Self::Record(terms.prove(record, Place::Named(at))),
            found => found,
        }
    }

    /// A record past its absolute end counts as missing.
    pub(crate) fn live(self, terms: &Terms) -> Self {
        match self {
            Self::Record(record) if terms.is_over(&record) => Self::Nothing,
            found => found,
        }
    }
}

/// When a written record ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Until {
    At(Millis),
    /// As before: a change that comes through a redirect extends nothing.
    Same,
    /// As before, or at this time in the future if it is earlier.
    AtMost(Millis),
}

/// One atomic step of a store.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Read {
        at: Name,
    },
    /// Writes the record if the stored one is still the expected version.
    Cas {
        at: Name,
        expect: Version,
        new: Record,
        until: Until,
        /// Of a `clear` that this write makes. Where the text does not keep it, it lies beside the
        /// record for the grace.
        epoch: Option<u64>,
        owner_before: OwnerBefore,
    },
    /// If the stored record is still the expected version: deletes it, leaves the redirect, and
    /// writes the new record under the redirect's target, which must be free as for `Insert`.
    Rotate {
        at: Name,
        expect: Version,
        new: Record,
        until: Millis,
        redirect: Redirect,
        /// As for `Cas`. Without one, what lies beside the old record comes along.
        epoch: Option<u64>,
        owner_before: OwnerBefore,
    },
    /// Writes the record if the name is free: no record there, and beside it neither a redirect nor
    /// a tombstone.
    Insert {
        at: Name,
        new: Record,
        until: Millis,
    },
    /// Deletes the record, whether or not it can be read, and leaves a tombstone beside it.
    End {
        at: Name,
        /// Whose it was when it was loaded, if that is known.
        owner: Option<Box<Owner>>,
    },
    /// The same if the stored record is still the expected version.
    EndIf {
        at: Name,
        expect: Version,
        /// What whoever waits for the end is told.
        why: EndReason,
        /// Whose it is, if it is somebody's.
        owner: Option<Box<Owner>>,
    },
}

impl Step {
    /// The name that the step is about.
    pub(crate) fn at(&self) -> &str {
        match self {
            Self::Read { at }
            | Self::Cas { at, .. }
            | Self::Rotate { at, .. }
            | Self::Insert { at, .. }
            | Self::End { at, .. }
            | Self::EndIf { at, .. } => at,
        }
    }
}

/// The reply to a step.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Done,
    /// Not done: this is there instead.
    Found(Stored),
    /// Not done: the new name is taken.
    Taken,
    /// Not done: the sessions of its owner that were logged in by then have ended.
    Ended,
    /// Unknown: the step may have been done, or may still be.
    Lost,
}

impl Reply {
    fn proven(self, at: &str, terms: &Terms) -> Self {
        match self {
            Self::Found(found) => Self::Found(found.proven(at, terms)),
            reply => reply,
        }
    }
}

/// What a machine wants next.
#[derive(Debug)]
pub(crate) enum Next<A> {
    Do(Step),
    Answer(A),
    Fail(CommitError),
}

impl<A> Next<A> {
    fn read(at: &str) -> Self {
        Self::Do(Step::Read { at: at.into() })
    }
}

/// One commit, renewal or ending, step by step.
pub(crate) trait Machine {
    type Answer;

    /// Goes on from what another commit has just written, instead of from its own base.
    fn take_up(&mut self, _stored: Record) {}

    /// What this one has written under the name that it began with, if that is what is stored now.
    fn written(&self) -> Option<Record> {
        None
    }

    /// What another commit needs to carry this one along. `None`: it goes alone.
    fn errand(&self) -> Option<Errand> {
        None
    }

    /// Whether the write that is about to be made may carry others.
    fn can_carry(&self) -> bool {
        false
    }

    /// Takes another commit along in that write. `None` if they cannot go together; otherwise when the
    /// other one's session ends.
    fn carry(&mut self, _errand: &Errand, _draw: &mut impl Draw) -> Option<End> {
        None
    }

    /// The write that is about to be made, with all that it carries.
    fn attempt(&self) -> Option<&Attempt> {
        None
    }

    /// Makes this attempt, which carries nobody.
    fn go_alone(&mut self, _own: Attempt) {}

    /// Whether the reply to a repeat shows that the write was done.
    fn is_shown_by(&self, _reply: &Reply) -> bool {
        false
    }

    /// The answer if another commit has carried this one along.
    fn carried(_end: End) -> Option<Self::Answer> {
        None
    }

    /// Goes on from an attempt that has carried this one along, and of which nobody knows what
    /// became.
    fn resume(&mut self, _attempt: Attempt) {}

    fn start(&mut self, draw: &mut impl Draw) -> Next<Self::Answer>;
    fn on(&mut self, reply: Reply, draw: &mut impl Draw) -> Next<Self::Answer>;
}

/// The source of random values. The model checker counts instead.
pub(crate) trait Draw {
    fn commit_id(&mut self) -> Result<u64, CommitError>;
    fn session_id(&mut self) -> Result<u128, CommitError>;
    /// Draws a new key and the name of its record, which may have to lie beside an old one, or where
    /// its owner's others lie.
    fn key(
        &mut self,
        beside: Option<&str>,
        owner: Option<&str>,
    ) -> Result<(SessionKey, Name), CommitError>;
}

/// A store with a shared back end: atomic steps and nothing else.
pub(crate) trait Backend {
    /// Whether the back end is remote. If so, a repeat waits a moment.
    const REMOTE: bool;
    /// Whether its answers may take time.
    const WAITS: bool = Self::REMOTE;
    /// Whether it forgets which sessions a principal has, long after the last step that told it of one.
    const FORGETS_OWNERS: bool = false;
    /// Whether a record's name is the key itself.
    const NAMED_BY_KEY: bool = false;

    /// Carries out one step.
    ///
    /// # Errors
    /// The step was refused: it is not done, and never will be. If that is not certain, the reply
    /// is `Lost`.
    fn run(&self, step: &Step, terms: &Terms)
    -> impl Future<Output = Result<Reply, anyhow::Error>>;

    /// Carries out all steps of a machine, within the budget of the terms.
    fn drive<M: Machine>(
        &self,
        machine: &mut M,
        terms: &Terms,
    ) -> impl Future<Output = Result<M::Answer, CommitError>>
    where
        Self: Sized,
    {
        drive(self, machine, terms)
    }

    /// The same for a change of the record at a name, which others of this thread may be about to
    /// change: they queue up for a remote store.
    fn drive_in_line<M: Machine>(
        &self,
        at: &Name,
        machine: &mut M,
        terms: &Terms,
    ) -> impl Future<Output = Result<M::Answer, CommitError>>
    where
        Self: Sized,
    {
        drive_in_line(self, at, machine, terms)
    }

    /// Writes a record that nothing ends or renews if there is none under the name, whatever lies
    /// beside it.
    fn insert_note(
        &self,
        at: &str,
        new: Record,
        until: Millis,
        terms: &Terms,
    ) -> impl Future<Output = Result<Reply, anyhow::Error>> {
        let at = at.into();
        async move { self.run(&Step::Insert { at, new, until }, terms).await }
    }

    /// Reads what [`insert_note`](Self::insert_note) wrote, in one round trip.
    fn read_note(
        &self,
        at: &str,
        terms: &Terms,
    ) -> impl Future<Output = Result<Stored, anyhow::Error>> {
        let at = at.into();
        async move { read(self, &at, terms).await }
    }

    /// Reads for a request, and extends the record in the same step if the terms say so.
    fn look(&self, at: &str, terms: &Terms) -> impl Future<Output = Result<Stored, anyhow::Error>>;

    /// Whether a write that can wait is left out for a moment, since one has just failed.
    fn spares_writes(&self) -> bool {
        false
    }

    /// A write that can wait has failed.
    fn write_has_failed(&self) {}

    /// Sets how long a record lives from now on, up to its absolute end.
    fn set_ttl(&self, at: &str, ttl: Millis) -> impl Future<Output = Result<(), anyhow::Error>>;

    /// The name of a key's record.
    fn name(&self, key: &SessionKey) -> Name;

    /// The clock for methods that get no terms.
    fn clock(&self) -> &SharedClock;

    /// Draws a key and names its record: where its owner's others lie, or else beside an old name, if
    /// records must lie together.
    fn draw_key(&self, _beside: Option<&str>, _owner: Option<&str>) -> Result<Drawn, CommitError> {
        let (key, ids) = random::session_key_and_ids().map_err(CommitError::Other)?;
        let name = self.name(&key);
        Ok(Drawn {
            key,
            name,
            ids: Some(ids),
        })
    }

    /// Where the ends of its sessions are told, and what looks for them. `None`: whoever waits for an
    /// end looks by itself.
    fn ends(&self) -> Option<(Arc<Hub>, StoreIndex)> {
        None
    }

    /// The terms for the five published methods, which get none.
    fn own_terms(&self) -> Terms {
        Terms::of_store(self.clock().now())
    }
}

/// What lies under a name.
///
/// # Errors
/// The store fails.
pub(crate) async fn read<B: Backend + ?Sized>(
    store: &B,
    at: &Name,
    terms: &Terms,
) -> anyhow::Result<Stored> {
    match store.run(&Step::Read { at: at.clone() }, terms).await? {
        Reply::Found(found) => Ok(found),
        _ => anyhow::bail!("the store gave an unexpected reply to a read"),
    }
}

/// A new key.
pub(crate) struct Drawn {
    pub(crate) key: SessionKey,
    /// The name of its record.
    pub(crate) name: Name,
    /// For its first record, if one call of the operating system drew them too.
    pub(crate) ids: Option<random::Ids>,
}

/// Random values for a write at a name, and the terms that it is made on.
fn stamp<'a>(
    terms: &'a Terms,
    at: &'a str,
    draw: &mut impl Draw,
) -> Result<Stamp<'a>, CommitError> {
    Ok(Stamp {
        place: Place::Named(at),
        ..terms.stamp(draw.commit_id()?, draw.session_id()?)
    })
}

/// `?` for a machine's next step.
macro_rules! or_fail {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Next::Fail(error),
        }
    };
}
use or_fail;

#[cfg(test)]
mod tests;
