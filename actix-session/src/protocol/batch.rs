//! One step for many commits: whoever writes a record carries along those that wait for it.
//!
//! They happen together or not at all, and one commit id shows for all of them whether they have.

use std::sync::{Arc, Mutex};

use super::{Reply, commit::Attempt, line::Waiting};
use crate::{
    changes::Changes,
    contract::{End, Terms},
    error::CommitError,
    measure,
    record::Record,
    sync::lock,
};

/// How many are carried along at most. Whoever carries them makes all of their records first, and
/// meanwhile another worker may write.
pub(super) const MOST: usize = 16;

/// A commit that waits, for whoever can carry it along.
pub(crate) struct Errand {
    pub(super) base: Record,
    pub(super) changes: Changes,
    pub(super) terms: Terms,
    state: Mutex<State>,
}

enum State {
    Waits,
    /// Somebody makes the step that is to carry it.
    Taken,
    /// Part of this attempt, of which nobody knows yet what becomes.
    Carried(Attempt),
    /// It goes alone.
    Left,
    /// It goes on alone from an attempt, and repeats that.
    Repeats,
}

/// What has become of an errand when its commit goes on by itself.
pub(super) enum Leaving {
    Free,
    /// Part of an attempt. Nobody knows what has become of that.
    Carried(Attempt),
    /// It cannot leave yet.
    Taken,
}

impl Errand {
    pub(super) fn new(base: Record, changes: Changes, terms: Terms) -> Self {
        Self {
            base,
            changes,
            terms,
            state: Mutex::new(State::Waits),
        }
    }

    /// Nobody carries it any more.
    pub(super) fn leave(&self) -> Leaving {
        let mut state = lock(&self.state);
        if let State::Taken = *state {
            return Leaving::Taken;
        }
        match std::mem::replace(&mut *state, State::Left) {
            State::Carried(attempt) => {
                *state = State::Repeats;
                Leaving::Carried(attempt)
            }
            _ => Leaving::Free,
        }
    }

    /// Whether somebody carries it, or is about to. If not, nobody does any more.
    pub(super) fn is_under_way(&self) -> bool {
        let mut state = lock(&self.state);
        let waits = matches!(*state, State::Waits);
        if waits {
            *state = State::Left;
        }
        !waits
    }

    fn repeats(&self) -> bool {
        matches!(*lock(&self.state), State::Repeats)
    }

    /// Whether it was there to be taken.
    fn take(&self) -> bool {
        let mut state = lock(&self.state);
        let waits = matches!(*state, State::Waits);
        if waits {
            *state = State::Taken;
        }
        waits
    }

    fn is_in(&self, attempt: Attempt) {
        *lock(&self.state) = State::Carried(attempt);
    }

    fn put_back(&self) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Taken | State::Carried(_)) {
            *state = State::Waits;
        }
    }
}

/// Those whom a step carries along.
#[derive(Default)]
pub(super) struct Batch(Vec<Member>);

struct Member {
    waiting: Waiting,
    errand: Arc<Errand>,
    end: End,
}

impl Batch {
    /// Takes one along if `carry` can. If not, it stays in the line.
    pub(super) fn take(
        &mut self,
        waiting: Waiting,
        carry: impl FnOnce(&Errand) -> Option<End>,
    ) -> Result<(), Waiting> {
        let errand = waiting.errand.clone().filter(|errand| errand.take());
        let Some(errand) = errand else {
            return Err(waiting);
        };
        match carry(&errand) {
            Some(end) => self.0.push(Member {
                waiting,
                errand,
                end,
            }),
            None => {
                errand.put_back();
                return Err(waiting);
            }
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// From now on nobody knows what has become of them.
    pub(super) fn goes_with(&self, attempt: &Attempt) {
        for member in &self.0 {
            member.errand.is_in(attempt.of_carried(member.end));
        }
    }

    /// Tells them what became of the step. Returns what is to be made of the reply, and those who
    /// wait again: some of them do not know.
    ///
    /// Nobody leaves meanwhile.
    pub(super) fn settle(
        &mut self,
        reply: Result<Reply, CommitError>,
    ) -> (Result<Reply, CommitError>, Vec<Waiting>) {
        let members = std::mem::take(&mut self.0);
        let is_repeated = members.iter().any(|member| member.errand.repeats());
        let reply = match reply {
            // Not by this one, but perhaps by whoever has not waited for the answer.
            Ok(_) | Err(_) if is_repeated && !matches!(reply, Ok(Reply::Done)) => Ok(Reply::Lost),
            reply => reply,
        };
        let members = members.into_iter();
        let stay = match &reply {
            Ok(Reply::Done) => {
                for Member { waiting, end, .. } in members {
                    measure::merged();
                    waiting.answer(end);
                }
                Vec::new()
            }
            Ok(Reply::Lost) | Err(CommitError::OutcomeUnknown) => {
                members.map(|member| member.waiting).collect()
            }
            _ => members
                .map(|member| {
                    member.errand.put_back();
                    member.waiting
                })
                .collect(),
        };
        (reply, stay)
    }
}
