//! Carries a machine's steps out on a store, within one budget.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    Attempt, Backend, Draw, Drawn, Machine, Name, Next, Reply, Step, Stored,
    batch::blames_one,
    line::{Boarded, Entered, Turn},
};
use crate::{
    clock::{self, deadline},
    contract::Terms,
    error::{CommitError, PutOff},
    key::SessionKey,
    measure, random,
};

/// Random values from the operating system. The store draws keys and names.
struct OsDraw<'a, B> {
    backend: &'a B,
    /// Drawn together with a key.
    ids: Option<random::Ids>,
    /// Both ids come from one call: each write needs both.
    session_id: Option<u128>,
}

impl<'a, B> OsDraw<'a, B> {
    const fn new(backend: &'a B) -> Self {
        Self {
            backend,
            ids: None,
            session_id: None,
        }
    }
}

impl<B: Backend> Draw for OsDraw<'_, B> {
    fn commit_id(&mut self) -> Result<u64, CommitError> {
        let ids = self.ids.take().map_or_else(random::ids, Ok);
        let (commit, session) = ids.map_err(CommitError::Other)?;
        self.session_id = Some(session);
        Ok(commit)
    }

    fn session_id(&mut self) -> Result<u128, CommitError> {
        match self.session_id.take() {
            Some(id) => Ok(id),
            None => random::u128().map_err(CommitError::Other),
        }
    }

    fn key(
        &mut self,
        beside: Option<&str>,
        owner: Option<&str>,
    ) -> Result<(SessionKey, Name), CommitError> {
        let Drawn { key, name, ids } = self.backend.draw_key(beside, owner)?;
        self.ids = ids;
        Ok((key, name))
    }
}

pub(crate) async fn drive<B: Backend, M: Machine>(
    backend: &B,
    machine: &mut M,
    terms: &Terms,
) -> Result<M::Answer, CommitError> {
    let mut drive = Drive::new(backend, terms, deadline(terms.budget));
    drive.finish(machine, None).await
}

/// The same for a change of a record, which others of this thread may be about to change: they queue
/// up for a remote store.
pub(crate) async fn drive_in_line<B: Backend, M: Machine>(
    backend: &B,
    at: &Name,
    machine: &mut M,
    terms: &Terms,
) -> Result<M::Answer, CommitError> {
    let mut drive = Drive::new(backend, terms, deadline(terms.budget));
    if !B::REMOTE {
        return drive.finish(machine, None).await;
    }
    let store = std::ptr::from_ref(backend).addr();
    let mut turn = match Turn::enter(store, at, drive.deadline, || machine.errand()).await? {
        Entered::Turn(turn) => turn,
        Entered::Carried(end) => return M::carried(end).ok_or_else(CommitError::unexpected),
    };
    let (doubt, handed) = (turn.take_doubt(), turn.take_handed());
    if let Some(attempt) = doubt {
        drive.lost = true;
        machine.resume(attempt);
    } else if let Some(stored) = handed {
        measure::merged();
        machine.take_up(stored);
    }
    let answer = drive.finish(machine, Some(&turn)).await;
    turn.hand_on(drive.trip, || machine.written());
    answer
}

/// The same for a store that never waits: what keeps changing or leads on is tried again at once, until the
/// time is over.
pub(crate) fn drive_at_once<B: Backend, M: Machine>(
    backend: &B,
    run: impl Fn(&Step) -> Result<Reply, anyhow::Error>,
    machine: &mut M,
    terms: &Terms,
) -> Result<M::Answer, CommitError> {
    let mut draw = OsDraw::new(backend);
    let mut deadline = None;
    let mut next = machine.start(&mut draw);
    loop {
        let step = match next {
            Next::Answer(answer) => return Ok(answer),
            Next::Fail(error) => return Err(error),
            Next::Do(step) => step,
        };
        let reply = run(&step).map_err(CommitError::of_store)?;
        let is_refused = is_refusal(&step, &reply);
        if is_refused {
            measure::merged();
        }
        // A key may have been renewed again and again.
        if is_refused || matches!(reply, Reply::Found(Stored::Redirect(_))) {
            let deadline = *deadline.get_or_insert_with(|| clock::deadline(terms.budget));
            if Instant::now() >= deadline {
                return Err(CommitError::Contended);
            }
        }
        next = machine.on(reply.proven(step.at(), terms), &mut draw);
    }
}

/// Whether another one has written what this step was to write, so that it is tried again.
fn is_refusal(step: &Step, reply: &Reply) -> bool {
    let is_read = matches!(step, Step::Read { .. });
    !is_read && matches!(reply, Reply::Found(Stored::Record(_)))
}

/// A store keeps to the budget by itself, and says what went wrong; on a busy machine that is heard a
/// moment later. The middleware waits for longer.
const MOMENT: Duration = Duration::from_millis(250);

struct Drive<'a, B> {
    backend: &'a B,
    terms: &'a Terms,
    deadline: Instant,
    /// How long the last step took.
    trip: Option<Duration>,
    /// The answer to a step that writes was lost.
    lost: bool,
    refusals: u32,
}

impl<'a, B: Backend> Drive<'a, B> {
    const fn new(backend: &'a B, terms: &'a Terms, deadline: Instant) -> Self {
        Self {
            backend,
            terms,
            deadline,
            trip: None,
            lost: false,
            refusals: 0,
        }
    }

    async fn finish<M: Machine>(
        &mut self,
        machine: &mut M,
        mut turn: Option<&Turn>,
    ) -> Result<M::Answer, CommitError> {
        let mut draw = OsDraw::new(self.backend);
        let mut next = machine.start(&mut draw);
        // Those whom a step carries whose answer was lost: its repeat may show what became of it.
        let mut in_doubt: Option<Boarded> = None;
        loop {
            let step = match next {
                Next::Answer(answer) => return Ok(answer),
                Next::Fail(error) => return Err(error),
                Next::Do(step) => step,
            };
            let (step, boarded, own) = match in_doubt.take() {
                Some(boarded) => (step, boarded, None),
                None => self.board(step, machine, turn, &mut draw),
            };
            let reply = match self.carry_out(&step, &boarded).await {
                Ok(Reply::Lost) => {
                    in_doubt = Some(boarded);
                    Ok(Reply::Lost)
                }
                Ok(reply) if self.lost => {
                    // What it shows of the step holds for all who share it.
                    let is_done = matches!(reply, Reply::Done) || machine.is_shown_by(&reply);
                    let shown = if is_done { Reply::Done } else { Reply::Lost };
                    boarded.settle(Ok(shown))?;
                    Ok(reply)
                }
                reply => boarded.settle(reply),
            };
            let reply = match (reply, own) {
                (reply, Some(own)) if blames_one(&reply) && self.has_time() => {
                    turn = None;
                    next = Next::Do(own.step());
                    machine.go_alone(own);
                    continue;
                }
                (reply, _) => reply?,
            };
            self.lost |= matches!(reply, Reply::Lost) && writes(&step);
            let reply = self.before_repeat(&step, reply).await?;
            next = machine.on(reply, &mut draw);
        }
    }

    /// Takes those along who wait for this turn to end. Returns what the machine would do without
    /// them too. A repeat is the same step again.
    fn board<M: Machine>(
        &self,
        step: Step,
        machine: &mut M,
        turn: Option<&Turn>,
        draw: &mut impl Draw,
    ) -> (Step, Boarded, Option<Attempt>) {
        let is_write = matches!(step, Step::Cas { .. }) && !self.lost;
        let carries = |turn: &&Turn| is_write && turn.is_wanted() && machine.can_carry();
        let Some(turn) = turn.filter(carries) else {
            return (step, Boarded::default(), None);
        };
        let own = machine.attempt().cloned();
        let boarded = turn.board(self.trip, self.deadline, |errand| {
            machine.carry(errand, draw)
        });
        match machine.attempt() {
            Some(attempt) if !boarded.is_empty() => {
                boarded.goes_with(attempt);
                (attempt.step(), boarded, own)
            }
            _ => (step, boarded, None),
        }
    }

    /// Whether the answer to another step would come in time.
    fn has_time(&self) -> bool {
        Instant::now() + self.trip.unwrap_or_default() < self.deadline
    }

    async fn carry_out(&mut self, step: &Step, boarded: &Boarded) -> Result<Reply, CommitError> {
        Ok(match self.run(step, boarded).await {
            // The attempt before it may have made a session under this name, or may still do so.
            Some(Err(error)) if error.is::<PutOff>() && !self.may_have_made(step) => Reply::Taken,
            // After a lost answer a refusal says nothing about the attempt before it.
            Some(Err(error)) if self.lost => {
                tracing::debug!(
                    error = %format_args!("{error:#}"),
                    "a repeated store command failed"
                );
                Reply::Lost
            }
            Some(reply) => reply
                .map_err(CommitError::of_store)?
                .proven(step.at(), self.terms),
            None if self.lost || writes(step) => return Err(CommitError::OutcomeUnknown),
            None => return Err(CommitError::late()),
        })
    }

    fn may_have_made(&self, step: &Step) -> bool {
        self.lost && matches!(step, Step::Insert { .. })
    }

    /// `None` if no answer came in time.
    async fn run(
        &mut self,
        step: &Step,
        boarded: &Boarded,
    ) -> Option<Result<Reply, anyhow::Error>> {
        if !B::WAITS {
            // It has no use for a timer.
            return Some(self.backend.run(step, self.terms).await);
        }
        let begun = Instant::now();
        let left = Terms {
            budget: self.deadline.saturating_duration_since(begun),
            ..self.terms.clone()
        };
        let run = self.backend.run(step, &left);
        let reply = boarded.wait_for(self.deadline + MOMENT, run).await;
        self.trip = Some(begun.elapsed());
        reply
    }

    /// Waits if what comes next is a repeat, and gives up if that would use up the budget: a last
    /// attempt without time would leave nobody knowing what became of it.
    async fn before_repeat(&mut self, step: &Step, reply: Reply) -> Result<Reply, CommitError> {
        if let Reply::Found(Stored::Redirect(_)) = reply {
            self.before_following()?;
            return Ok(reply);
        }
        let lost = matches!(reply, Reply::Lost);
        if is_refusal(step, &reply) {
            measure::merged();
        } else if !lost {
            return Ok(reply);
        }
        self.refusals += 1;
        let trip = self.trip.unwrap_or_default();
        let pause = pause::<B>(self.refusals, lost, trip);
        let until = Instant::now() + pause;
        if until + trip >= self.deadline {
            return Err(match reply {
                _ if self.lost => CommitError::OutcomeUnknown,
                Reply::Lost => CommitError::late(),
                _ => CommitError::Contended,
            });
        }
        if pause.is_zero() {
            tokio::task::yield_now().await;
            return Ok(reply);
        }
        sleep_until(until).await;
        if lost {
            return Ok(reply);
        }
        // What is rare is on the heap.
        Box::pin(self.look_again(step, reply)).await
    }

    /// Redirects in a damaged database may lead in a circle, and one that never waits reaches no timer.
    fn before_following(&self) -> Result<(), CommitError> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(match self.lost {
            true => CommitError::OutcomeUnknown,
            false => CommitError::late(),
        })
    }

    /// What is there after a pause: others have written meanwhile, and whoever compares with what
    /// was there before it is refused again.
    async fn look_again(&mut self, step: &Step, before: Reply) -> Result<Reply, CommitError> {
        let read = Step::Read {
            at: step.at().into(),
        };
        match self.carry_out(&read, &Boarded::default()).await? {
            found @ Reply::Found(_) => Ok(found),
            _ => Ok(before),
        }
    }
}

fn writes(step: &Step) -> bool {
    !matches!(
        step,
        Step::Read { .. } | Step::End { .. } | Step::EndIf { .. }
    )
}

/// A random moment, so that requests that compete for a record drift apart.
///
/// Those of one thread queue up, so few compete. Whoever is refused goes on from what it found at
/// once: a timer would take longer than many round trips. Later the pauses grow with every refusal,
/// from as long as the round trip that others need too.
fn pause<B: Backend>(refusals: u32, lost: bool, trip: Duration) -> Duration {
    let at_once = if lost { 1 } else { 4 };
    if !B::REMOTE || refusals <= at_once {
        return Duration::ZERO;
    }
    let first = match lost {
        true => Duration::from_millis(20),
        false => trip.clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
    };
    let doubled = (refusals - at_once + 1).min(8);
    let range = (first * (1 << doubled)).min(LONGEST_PAUSE);
    let range = u64::try_from(range.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random::u64().map_or(0, |n| n % range))
}

const SHORTEST_PAUSE: Duration = Duration::from_micros(250);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
