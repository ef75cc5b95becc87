//! Broken variants of the protocol. The checker must find each of them.

use super::{
    kind::NAMES,
    request::{Answer, Counter, Request, Running, Stage, TERMS, new_name},
    store::{Left, Store, Written},
};
use crate::{
    changes::{Applied, overwrite},
    protocol::{Draw as _, Name, Next, Reply, Step},
    record::{Record, WireFormat},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A commit writes its base with its changes, whatever is stored by then.
    WholeState,
    /// A commit whose record is gone saves it again, under a new key.
    GoneSaves,
    /// A purge deletes the record or redirect under its key, and follows nothing.
    PurgeStops,
    /// An entry that is there stays as it is.
    FirstWins,
    /// A purge leaves no tombstone.
    NoTombstone,
}

impl Mutant {
    pub(super) fn carry_out(
        self,
        store: &mut Store,
        step: &Step,
        own: usize,
    ) -> (Reply, Option<Written>) {
        match (self, step) {
            (Self::WholeState, Step::Cas { at, new, .. }) if store.record(at).is_some() => {
                store.replace(at, new)
            }
            (Self::FirstWins, Step::Cas { at, new, .. }) if store.expects(step) => {
                let kept = with_its_x(new, store.record(at));
                store.replace(at, &kept)
            }
            (Self::PurgeStops, Step::End { at, .. }) => {
                store.leave(at, Left::Tombstone);
                (Reply::Done, None)
            }
            (Self::NoTombstone, Step::End { at, .. }) => (store.end(at, Left::Nothing), None),
            _ => store.carry_out(step, own),
        }
    }

    /// Acts after an answer of the machine.
    pub(super) fn after(self, request: &mut Request) {
        let gone = request.answer() == Some(&Answer::Gone);
        let commits = !request.snapshot().changes.renews();
        if self == Self::GoneSaves
            && gone
            && commits
            && let Some((saving, step)) = Saving::new(request)
        {
            request.stage = Stage::Running(Running::Saving(saving), step);
        }
    }
}

/// The new record with the entry of the old one, if there is one.
fn with_its_x(new: &Record, old: Option<&Record>) -> Record {
    let mut entries = Vec::new();
    for name in NAMES {
        let kept = old
            .filter(|_| name == "x")
            .and_then(|old| old.state().get(name));
        if let Some(json) = kept.or_else(|| new.state().get(name)) {
            entries.push((name.into(), json));
        }
    }
    let metadata = new.metadata().cloned().expect("all records have metadata");
    Record::written(WireFormat::V1, new.commit_id(), metadata, &entries)
}

/// Saves a request's base with its changes under a new key.
#[derive(Clone)]
pub(super) struct Saving(Name);

impl Saving {
    fn new(request: &Request) -> Option<(Self, Step)> {
        let at = new_name(request.who);
        let id = Counter::of(9).commit_id().ok()?;
        let stamp = TERMS.stamp(id, 1);
        let written = overwrite(request.base.as_ref()?, &request.snapshot().changes, stamp);
        let Ok(Applied::Write(new)) = written else {
            return None;
        };
        let until = TERMS.until(&new);
        let saving = Self(at.clone());
        Some((saving, Step::Insert { at, new, until }))
    }

    pub(super) fn on(&self, _: Reply) -> Next<Answer> {
        Next::Answer(Answer::Renewed(self.0.clone().into()))
    }
}
