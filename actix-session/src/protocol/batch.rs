//! One step for many commits: whoever writes a record carries along those that wait for it.
//!
//! They happen together or not at all, and one commit id shows for all of them whether they have.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use super::{Reply, commit::Attempt, line::Waiting};
use crate::{
    changes::Changes,
    contract::{End, Terms},
    error::CommitError,
    measure,
    record::Record,
    sync::lock,
};

/// How many octets a record has at most that carries others: what a store refuses for its size must
/// fail alone.
pub(super) const LARGEST: usize = 64 << 10;

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
    /// Done, with another one's write.
    Done(End),
}

/// What has become of an errand when its commit goes on by itself.
pub(super) enum Leaving {
    Free,
    /// Part of an attempt. Nobody knows what has become of that.
    Carried(Attempt),
    /// It cannot leave yet.
    Taken,
    /// It is done.
    Done(End),
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
        match *state {
            State::Taken => return Leaving::Taken,
            State::Done(end) => return Leaving::Done(end),
            _ => {}
        }
        match std::mem::replace(&mut *state, State::Left) {
            State::Carried(attempt) => {
                *state = State::Repeats;
                Leaving::Carried(attempt)
            }
            _ => Leaving::Free,
        }
    }

    /// What it means that its time is over. Nobody carries it after this.
    pub(super) fn give_up(&self) -> Result<End, CommitError> {
        let mut state = lock(&self.state);
        match *state {
            State::Done(end) => Ok(end),
            State::Waits | State::Left => {
                *state = State::Left;
                Err(CommitError::Contended)
            }
            State::Taken | State::Carried(_) | State::Repeats => Err(CommitError::OutcomeUnknown),
        }
    }

    fn is_done(&self, end: End) {
        *lock(&self.state) = State::Done(end);
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

    /// Whether it may be carried again.
    fn put_back(&self, again: bool) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Taken | State::Carried(_)) {
            *state = if again { State::Waits } else { State::Left };
        }
    }
}

/// Whether a step may have been refused for what one of those brings that share it. A store that is
/// busy refuses whatever comes.
pub(super) fn blames_one(reply: &Result<Reply, CommitError>) -> bool {
    let is_refusal = |error: &CommitError| {
        !matches!(error, CommitError::OutcomeUnknown | CommitError::Contended)
    };
    reply.as_ref().is_err_and(is_refusal)
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
    /// Takes one along if `carry` can. If not, it stays in the line, and goes alone.
    pub(super) fn take(
        &mut self,
        waiting: Waiting,
        carry: impl FnOnce(&Errand) -> Option<End>,
    ) -> Result<(), Waiting> {
        let errand = waiting.errand.upgrade().filter(|errand| errand.take());
        let Some(errand) = errand else {
            return Err(waiting);
        };
        let Some(end) = carry(&errand) else {
            errand.put_back(false);
            return Err(waiting);
        };
        self.0.push(Member {
            waiting,
            errand,
            end,
        });
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

    /// What is to be made of the reply. If it is not known what became of the step, all of them are
    /// in doubt; if it was refused for what one of them may bring, each goes alone.
    ///
    /// Nobody leaves meanwhile.
    pub(super) fn settle(&self, reply: Result<Reply, CommitError>) -> Result<Reply, CommitError> {
        let is_repeated = self.0.iter().any(|member| member.errand.repeats());
        let reply = match reply {
            Ok(Reply::Done) => Ok(Reply::Done),
            // Not by this one, but perhaps by whoever has not waited for the answer.
            _ if is_repeated => Ok(Reply::Lost),
            reply => reply,
        };
        for Member { errand, end, .. } in &self.0 {
            match &reply {
                Ok(Reply::Done) => errand.is_done(*end),
                Ok(Reply::Lost) | Err(CommitError::OutcomeUnknown) => {}
                reply => errand.put_back(!blames_one(reply)),
            }
        }
        reply
    }

    /// Those who wait for the record again, and what they held to be carried. Of whoever has gone
    /// away nobody else holds it.
    pub(super) fn into_waiting(self) -> (VecDeque<Waiting>, Vec<Arc<Errand>>) {
        let parts = |member: Member| (member.waiting, member.errand);
        self.0.into_iter().map(parts).unzip()
    }

    /// Tells those who are done.
    pub(super) fn answer(self) {
        for Member { waiting, end, .. } in self.0 {
            measure::merged();
            waiting.answer(end);
        }
    }
}
