//! Carries a machine's steps out on a store, within one budget.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Backend, Draw, Machine, Name, Next, Reply, Step, Stored};
use crate::{clock::deadline, contract::Terms, error::CommitError, key::SessionKey, random};

/// Random values from the operating system. The store draws keys and names.
struct OsDraw<'a, B>(&'a B);

impl<B: Backend> Draw for OsDraw<'_, B> {
    fn commit_id(&mut self) -> Result<u64, CommitError> {
        random::u64().map_err(CommitError::Other)
    }

    fn session_id(&mut self) -> Result<u128, CommitError> {
        random::u128().map_err(CommitError::Other)
    }

    fn key(&mut self, beside: Option<&str>) -> Result<(SessionKey, Name), CommitError> {
        self.0.draw_key(beside)
    }
}

pub(crate) async fn drive<B: Backend, M: Machine>(
    backend: &B,
    mut machine: M,
    terms: &Terms,
) -> Result<M::Answer, CommitError> {
    let mut drive = Drive {
        backend,
        terms,
        deadline: deadline(terms.budget),
        lost: false,
        refusals: 0,
    };
    let mut draw = OsDraw(backend);
    let mut next = machine.start(&mut draw);
    loop {
        let step = match next {
            Next::Answer(answer) => return Ok(answer),
            Next::Fail(error) => return Err(error),
            Next::Do(step) => step,
        };
        let reply = drive.carry_out(&step).await?;
        drive.pause_before_repeat(&step, &reply).await?;
        next = machine.on(reply, &mut draw);
    }
}

struct Drive<'a, B> {
    backend: &'a B,
    terms: &'a Terms,
    deadline: Instant,
    /// The answer to a step that writes was lost.
    lost: bool,
    refusals: u32,
}

impl<B: Backend> Drive<'_, B> {
    async fn carry_out(&mut self, step: &Step) -> Result<Reply, CommitError> {
        let run = self.backend.run(step, self.terms);
        let reply = match timeout_at(self.deadline, run).await {
            // After a lost answer a refusal says nothing about the attempt before it.
            Ok(Err(error)) if self.lost => {
                tracing::debug!(%error, "a repeated store command failed");
                Reply::Lost
            }
            Ok(reply) => reply
                .map_err(CommitError::of_store)?
                .proven(step.at(), self.terms),
            Err(_) if self.lost || writes(step) => return Err(CommitError::OutcomeUnknown),
            Err(_) => return Err(CommitError::late()),
        };
        self.lost |= matches!(reply, Reply::Lost) && writes(step);
        Ok(reply)
    }

    /// Waits if what comes next is a repeat, and gives up once the budget is used up.
    async fn pause_before_repeat(&mut self, step: &Step, reply: &Reply) -> Result<(), CommitError> {
        let again = match reply {
            Reply::Lost => true,
            Reply::Found(Stored::Record(_)) => !matches!(step, Step::Read { .. }),
            _ => false,
        };
        if !again {
            return Ok(());
        }
        self.refusals += 1;
        if Instant::now() >= self.deadline {
            return Err(match reply {
                _ if self.lost => CommitError::OutcomeUnknown,
                Reply::Lost => CommitError::late(),
                _ => CommitError::Contended,
            });
        }
        pause::<B>(self.refusals, matches!(reply, Reply::Lost), self.deadline).await;
        Ok(())
    }
}

fn writes(step: &Step) -> bool {
    !matches!(step, Step::Read { .. } | Step::End { .. })
}

/// Waits a random moment, so that requests that compete for a record drift apart.
async fn pause<B: Backend>(refusals: u32, lost: bool, deadline: Instant) {
    if !B::REMOTE {
        tokio::task::yield_now().await;
        return;
    }
    if refusals == 1 {
        return;
    }
    let most = if lost { 20_000 } else { 1_000 };
    let range = (most << refusals.min(6)).min(100_000);
    let jitter = random::u64().map_or(0, |n| n % range);
    let until = (Instant::now() + Duration::from_micros(jitter)).min(deadline);
    sleep(until.saturating_duration_since(Instant::now())).await;
}
