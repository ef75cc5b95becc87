//! Renewals whose old and new record, or whose owner's index, lie in two slots of a cluster.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{
    super::{
        conn::Job,
        index::Entry,
        naming::{epoch_name, redirect_name},
        script::{LEAVE_SCRIPT, PREPARE_SCRIPT, TAKE_BACK_SCRIPT},
    },
    Executor, Indexed, Write, epoch_text, expectation, keeps_epochs_beside, text,
};
use crate::{
    contract::Terms,
    protocol::{Redirect, Reply, Stored},
};

/// How long to wait before a step is repeated whose answer was lost.
const REPEAT_PAUSE: Duration = Duration::from_millis(20);

impl Executor {
    /// Writes the new record first, under a name that nobody knows. The step at the old record then
    /// decides. Somebody's record lives for the grace alone until its owner's index has it.
    pub(super) async fn rotate_across_slots(
        &self,
        write: Write<'_>,
        redirect: &Redirect,
        ttl: &str,
        enters: Option<&Entry>,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let begun = Instant::now();
        let target = redirect.target.as_str();
        let grace = terms.grace.0.to_string();
        let first = if enters.is_some() { &grace } else { ttl };
        match self.prepare(write, target, first, terms).await? {
            Reply::Done => {}
            reply => return Ok(reply),
        }
        let leave = || self.leave(write, redirect, terms);
        let decided = for_certain(false, leave, terms).await;
        let is_done = match &decided {
            Ok(Reply::Found(Stored::Redirect(found))) => found.target == *target,
            Ok(reply) => matches!(reply, Reply::Done),
            Err(_) => false,
        };
        match (enters, &decided) {
            (Some(entry), _) if is_done => {
                // Replicas that keep one step waiting keep the other, too: both have one budget.
                let left = Terms {
                    budget: terms.budget.saturating_sub(begun.elapsed()),
                    ..terms.clone()
                };
                self.enter_for_certain(entry, target, ttl, &left).await
            }
            (_, Ok(Reply::Lost)) => decided,
            _ if is_done => decided,
            _ => {
                let args = [text(write.new)];
                let keys = [target];
                let take_back = TAKE_BACK_SCRIPT.call(&keys, &args);
                // If this fails, the new record expires: nobody knows its name.
                let _ = self.step(&Job::script(&take_back), terms).await;
                decided
            }
        }
    }

    /// Writes the new record.
    async fn prepare(
        &self,
        write: Write<'_>,
        target: &str,
        ttl: &str,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let (beside, cleared) = (redirect_name(target), epoch_name(target));
        let epoch = Some(write.new.epoch()).filter(|epoch| *epoch != 0);
        let epoch = epoch.filter(|_| keeps_epochs_beside(terms));
        let (own, grace) = (epoch_text(epoch), terms.grace.0.to_string());
        let (keys, args) = (
            [target, beside.as_str(), &cleared],
            [text(write.new), ttl, &own, &grace],
        );
        let (keys_used, args_used) = if epoch.is_some() { (3, 4) } else { (2, 2) };
        let prepare = PREPARE_SCRIPT.call(&keys[..keys_used], &args[..args_used]);
        self.make(&prepare, Indexed::default(), terms).await
    }

    /// Replaces the old record by a redirect.
    async fn leave(
        &self,
        write: Write<'_>,
        redirect: &Redirect,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let beside = redirect_name(write.at);
        let (expect, how) = expectation(write.expect);
        let (redirect, grace) = (redirect.encode(), terms.grace.0.to_string());
        let (keys, args) = (
            [write.at, &beside],
            [expect, how, &redirect, &grace, &self.channel],
        );
        let call = LEAVE_SCRIPT.call(&keys, &args);
        let reply = self.step(&Job::ending(&call), terms).await?;
        self.or_epoch(reply, write.at, terms).await
    }
}

/// Repeats a later step until its answer comes. Nobody may repeat an earlier one by then: if the
/// renewal holds, others may have changed or ended the new record. `begun`: it holds already, so that
/// a refusal changes nothing.
pub(super) async fn for_certain<F>(
    begun: bool,
    attempt: impl Fn() -> F,
    terms: &Terms,
) -> anyhow::Result<Reply>
where
    F: Future<Output = anyhow::Result<Reply>>,
{
    let mut lost = begun;
    let repeats = async {
        loop {
            match attempt().await {
                Ok(Reply::Lost) => lost = true,
                // It says nothing about the attempt before it.
                Err(error) if lost => tracing::debug!(%error, "a repeated renewal was refused"),
                reply => return reply,
            }
            sleep(REPEAT_PAUSE).await;
        }
    };
    // The machine's budget is over by then, so that it repeats nothing either.
    let answered = timeout(terms.budget, repeats).await;
    answered.unwrap_or(Ok(Reply::Lost))
}
