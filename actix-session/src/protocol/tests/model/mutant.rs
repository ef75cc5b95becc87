//! Broken variants of the protocol. The checker has to find each of them.

use super::{
    request::{Answer, Counter, Request, Running, Stage, TERMS, new_name},
    store::{Store, Written},
};
use crate::{
    changes::{Applied, overwrite},
    protocol::{Draw as _, Name, Next, Op, Reply},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A commit writes its base with its changes, whatever is there by then.
    WholeState,
    /// A commit whose record is gone saves it anew, under a new key.
    GoneSaves,
    /// A purge deletes what is under its key, be it a record or a mark, and follows nothing.
    PurgeStops,
}

impl Mutant {
    pub(super) fn carry_out(
        self,
        store: &mut Store,
        op: &Op,
        own: usize,
    ) -> (Reply, Option<Written>) {
        match (self, op) {
            (Self::WholeState, Op::Cas { at, new, .. }) if store.record(at).is_some() => {
                store.replace(at, new)
            }
            (Self::PurgeStops, Op::End { at }) => {
                store.forget(at);
                (Reply::Done, None)
            }
            _ => store.carry_out(op, own),
        }
    }

    /// What follows an answer of the machine.
    pub(super) fn after(self, request: &mut Request) {
        let gone = request.answer() == Some(&Answer::Gone);
        let commits = !request.snapshot().changes.renews();
        if self == Self::GoneSaves
            && gone
            && commits
            && let Some((saving, op)) = Saving::new(request)
        {
            request.stage = Stage::Running(Running::Saving(saving), op);
        }
    }
}

/// Saves a request's base with its changes under a new key.
#[derive(Clone)]
pub(super) struct Saving(Name);

impl Saving {
    fn new(request: &Request) -> Option<(Self, Op)> {
        let at = new_name(request.who);
        let id = Counter::of(9).commit_id().ok()?;
        let grounds = TERMS.grounds(id, 1);
        let written = overwrite(request.base.as_ref()?, &request.snapshot().changes, grounds);
        let Ok(Applied::Write(new)) = written else {
            return None;
        };
        let until = TERMS.end(&new);
        let saving = Self(at.clone());
        Some((saving, Op::Insert { at, new, until }))
    }

    pub(super) fn on(&self, _: Reply) -> Next<Answer> {
        Next::Answer(Answer::Renewed(self.0.clone()))
    }
}
