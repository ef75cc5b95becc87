//! The atomic steps of the protocol, as commands and scripts.

mod epoch;
mod read;

use std::time::Duration;

use anyhow::bail;
use redis::{RedisError, Value};
use tokio::time::{sleep, timeout};

use self::{
    epoch::{epoch_text, keeps_epochs_beside},
    read::NoWrites,
};
use super::{
    answer,
    conn::{self, Connections, Job, Outcome},
    naming::{epoch_name, redirect_name},
    script::{
        CAS_SCRIPT, Call, END_IF_SCRIPT, END_SCRIPT, INSERT_SCRIPT, LEAVE_SCRIPT, PREPARE_SCRIPT,
        ROTATE_SCRIPT, TAKE_BACK_SCRIPT,
    },
    slots::slot,
};
use crate::{
    clock::Millis,
    contract::Terms,
    protocol::{Redirect, Reply, Step, Stored, TOMBSTONE, Until},
    record::{Record, Version},
};

/// How long to wait before a step is repeated whose answer was lost.
const REPEAT_PAUSE: Duration = Duration::from_millis(20);

/// Carries steps out over connections.
#[derive(Clone)]
pub(super) struct Executor {
    connections: Connections,
    /// In a cluster records lie in slots, and no step can change two slots.
    has_slots: bool,
    no_writes: NoWrites,
}

/// A record that replaces the expected one.
#[derive(Clone, Copy)]
struct Write<'a> {
    at: &'a str,
    expect: &'a Version,
    new: &'a Record,
    /// Of a `clear` that this write makes, if it lies beside the record.
    epoch: Option<u64>,
}

impl<'a> Write<'a> {
    fn new(
        (at, expect, new): (&'a str, &'a Version, &'a Record),
        epoch: Option<u64>,
        terms: &Terms,
    ) -> Self {
        Self {
            at,
            expect,
            new,
            epoch: epoch.filter(|_| keeps_epochs_beside(terms)),
        }
    }
}

impl Executor {
    pub(super) fn new(connections: Connections) -> Self {
        let has_slots = connections.is_cluster();
        Self {
            connections,
            has_slots,
            no_writes: NoWrites::default(),
        }
    }

    pub(super) const fn has_slots(&self) -> bool {
        self.has_slots
    }

    /// # Errors
    /// The step was refused.
    pub(super) async fn run(&self, step: &Step, terms: &Terms) -> anyhow::Result<Reply> {
        match step {
            Step::Read { at } => Ok(Reply::Found(self.read(at, terms).await?)),
            Step::Cas {
                at,
                expect,
                new,
                until,
                epoch,
                ..
            } => {
                let write = Write::new((at, expect, new), *epoch, terms);
                self.replace(write, *until, terms).await
            }
            Step::Rotate {
                at,
                expect,
                new,
                until,
                redirect,
                epoch,
                ..
            } => {
                let write = Write::new((at, expect, new), *epoch, terms);
                Box::pin(self.rotate(write, redirect, *until, terms)).await
            }
            Step::Insert { at, new, until } => self.insert(at, new, *until, terms).await,
            Step::End { at } => self.end(at, terms).await,
            Step::EndIf { at, expect } => self.end_if(at, expect, terms).await,
        }
    }

    /// Asks the server whether it is there.
    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        let ping = redis::cmd("PING");
        let job = Job::command("", &ping);
        self.connections.repeatable(&job).await.map(drop)
    }

    /// Warns if the server evicts sessions when its memory is full. A server that does not answer
    /// the question is not warned about.
    pub(super) async fn warn_if_it_evicts(&self) {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let Ok(answer) = self.connections.repeatable(&Job::command("", &info)).await else {
            return;
        };
        let info = answer::text(Some(answer)).unwrap_or_default();
        if let Some(policy) = evicting_policy(&info) {
            tracing::warn!(
                policy,
                "this Redis evicts sessions when its memory is full, and with them the redirects \
                 of renewals and lists of sessions: set `maxmemory-policy noeviction`, or give \
                 sessions a server of their own"
            );
        }
    }

    async fn replace(
        &self,
        write: Write<'_>,
        until: Until,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let ttl = match until {
            Until::Same => String::new(),
            Until::At(end) if end <= terms.now => return Ok(Reply::Found(Stored::Nothing)),
            Until::At(end) => (end - terms.now).0.to_string(),
            Until::AtMost(end) => format!("<{}", ttl(end, terms)),
        };
        let redirect = redirect_name(write.at);
        let (expect, how) = expectation(write.expect);
        let (keys, args) = (
            [write.at, redirect.as_str()],
            [expect, how, text(write.new), &ttl],
        );
        let plain = CAS_SCRIPT.call(self.keys(&keys), &args);
        let plain = Job::script(&plain);
        let reply = match write.epoch {
            None => self.step(&plain, terms).await?,
            epoch => {
                let (cleared, epoch) = (epoch_name(write.at), epoch_text(epoch));
                let grace = terms.grace.0.to_string();
                let keys = [keys[0], keys[1], &cleared];
                let args = [args[0], args[1], args[2], args[3], &epoch, &grace];
                let whole = CAS_SCRIPT.call(&keys, &args);
                let doing = self.one_or_other(Job::script(&whole), &plain, terms);
                Box::pin(doing).await?
            }
        };
        let reply = self.or_redirect(reply, &redirect).await?;
        self.or_epoch(reply, write.at, terms).await
    }

    async fn rotate(
        &self,
        write: Write<'_>,
        redirect: &Redirect,
        until: Millis,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        if until <= terms.now {
            return Ok(Reply::Found(Stored::Nothing));
        }
        let ttl = (until - terms.now).0.to_string();
        if self.has_slots && slot(write.at) != slot(&redirect.target) {
            let rotating = self.rotate_across_slots(write, redirect, &ttl, terms);
            return Box::pin(rotating).await;
        }
        let (beside, beside_target) = (redirect_name(write.at), redirect_name(&redirect.target));
        let (expect, how) = expectation(write.expect);
        let (epoch, target_epoch) = (epoch_name(write.at), epoch_name(&redirect.target));
        let (target, own) = (redirect.target.as_str(), epoch_text(write.epoch));
        let keys = [
            write.at,
            &beside,
            target,
            &beside_target,
            &epoch,
            &target_epoch,
        ];
        let keys = &keys[..if keeps_epochs_beside(terms) { 6 } else { 4 }];
        let (redirect, grace) = (redirect.encode(), terms.grace.0.to_string());
        let args = [expect, how, text(write.new), &ttl, &redirect, &grace, &own];
        let args = &args[..if write.epoch.is_some() { 7 } else { 6 }];
        let call = ROTATE_SCRIPT.call(keys, args);
        let reply = self.step(&Job::ending(&call), terms).await?;
        self.or_epoch(reply, write.at, terms).await
    }

    /// Writes the new record first, under a name that nobody knows. The step at the old record then
    /// decides.
    async fn rotate_across_slots(
        &self,
        write: Write<'_>,
        redirect: &Redirect,
        ttl: &str,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let target = redirect.target.as_str();
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
        match self.make(&prepare, terms).await? {
            Reply::Done => {}
            reply => return Ok(reply),
        }
        let decided = self.leave_for_certain(write, redirect, terms).await;
        let is_refused = match &decided {
            Ok(Reply::Found(Stored::Redirect(found))) => found.target != *target,
            Ok(Reply::Found(_)) | Err(_) => true,
            Ok(_) => false,
        };
        if is_refused {
            let args = [text(write.new)];
            let take_back = TAKE_BACK_SCRIPT.call(&keys[..1], &args);
            // If this fails, the new record expires: nobody knows its name.
            let _ = self.step(&Job::script(&take_back), terms).await;
        }
        decided
    }

    /// Repeats the second step until its answer comes. Nobody may repeat the first one by then: if
    /// the renewal holds, others may have changed or ended the new record.
    async fn leave_for_certain(
        &self,
        write: Write<'_>,
        redirect: &Redirect,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let mut lost = false;
        let repeats = async {
            loop {
                match self.leave(write, redirect, terms).await {
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
        let (keys, args) = ([write.at, &beside], [expect, how, &redirect, &grace]);
        let call = LEAVE_SCRIPT.call(&keys, &args);
        let reply = self.step(&Job::ending(&call), terms).await?;
        self.or_epoch(reply, write.at, terms).await
    }

    async fn insert(
        &self,
        at: &str,
        new: &Record,
        until: Millis,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let (beside, ttl) = (redirect_name(at), ttl(until, terms).to_string());
        let (keys, args) = ([at, &beside], [text(new), &ttl]);
        self.make(&INSERT_SCRIPT.call(&keys, &args), terms).await
    }

    /// Runs a script that makes a record under a new name. In a slot that is being moved, the name
    /// counts as taken: another one lies elsewhere.
    async fn make(&self, call: &Call<'_>, terms: &Terms) -> anyhow::Result<Reply> {
        match self.step(&Job::script(call).or_otherwise(), terms).await {
            Err(error) if conn::is_put_off(&error) => Ok(Reply::Taken),
            reply => reply,
        }
    }

    /// Nothing ends a note, so that it needs no look at a tombstone, and works in a slot that is
    /// being moved.
    pub(super) async fn insert_note(
        &self,
        at: &str,
        new: &Record,
        until: Millis,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let mut set = redis::cmd("SET");
        set.arg(&[at, text(new), "NX", "PX"]).arg(ttl(until, terms));
        let job = Job::command(at, &set).within(terms.budget);
        let outcome = self.connections.run(&job).await;
        Ok(match outcome.map_err(conn::failure)? {
            Outcome::Value(Value::Nil) => Reply::Taken,
            Outcome::Value(Value::Okay | Value::SimpleString(_)) => Reply::Done,
            Outcome::Value(_) => bail!("Redis gave an invalid answer to SET"),
            Outcome::Lost(_) => Reply::Lost,
        })
    }

    async fn end(&self, at: &str, terms: &Terms) -> anyhow::Result<Reply> {
        let (beside, grace) = (redirect_name(at), terms.grace.0.to_string());
        let (keys, args) = ([at, beside.as_str()], [TOMBSTONE, &grace]);
        let whole = END_SCRIPT.call(&keys, &args);
        // The record alone, without a tombstone.
        let plain = END_SCRIPT.call(&keys[..1], &args);
        let (whole, plain) = (Job::ending(&whole), Job::ending(&plain));
        let reply = self.one_or_other(whole, &plain, terms).await?;
        self.or_redirect(reply, &beside).await
    }

    async fn end_if(&self, at: &str, expect: &Version, terms: &Terms) -> anyhow::Result<Reply> {
        let (beside, grace) = (redirect_name(at), terms.grace.0.to_string());
        let (expect, how) = expectation(expect);
        let (keys, args) = (
            [at, beside.as_str()],
            [expect, how, TOMBSTONE, grace.as_str()],
        );
        let whole = END_IF_SCRIPT.call(&keys, &args);
        // The record alone, without a tombstone.
        let plain = END_IF_SCRIPT.call(&keys[..1], &args);
        let (whole, plain) = (Job::ending(&whole), Job::ending(&plain));
        let reply = self.one_or_other(whole, &plain, terms).await?;
        let reply = self.or_redirect(reply, &beside).await?;
        self.or_epoch(reply, at, terms).await
    }

    /// Does one job, or the other if a cluster puts it off, since its slot is being moved.
    async fn one_or_other(
        &self,
        one: Job<'_>,
        other: &Job<'_>,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        match self.step(&one.or_otherwise(), terms).await {
            Err(error) if conn::is_put_off(&error) => self.step(other, terms).await,
            reply => reply,
        }
    }

    /// Runs a script that changes something.
    async fn step(&self, job: &Job<'_>, terms: &Terms) -> anyhow::Result<Reply> {
        let outcome = self.connections.run(&job.within(terms.budget)).await;
        match outcome.map_err(conn::failure)? {
            Outcome::Value(value) => answer::reply(value, terms),
            Outcome::Lost(error) => {
                tracing::debug!(%error, "the answer of a Redis command was lost");
                Ok(Reply::Lost)
            }
        }
    }

    /// The keys of a read or commit: in a cluster the record alone.
    fn keys<'a>(&self, both: &'a [&'a str]) -> &'a [&'a str] {
        if self.has_slots { &both[..1] } else { both }
    }
}

fn expectation(version: &Version) -> (&str, &'static str) {
    match version {
        Version::Prefix(prefix) => (prefix, "p"),
        Version::Whole(whole) => (whole, "w"),
    }
}

/// A TTL in ms, as Redis takes it.
fn ttl(until: Millis, terms: &Terms) -> i64 {
    (until - terms.now).max(Millis(1)).0
}

/// Every record that the protocol writes has a text.
fn text(record: &Record) -> &str {
    record.as_text().unwrap_or_default()
}

/// The policy by which a server evicts keys, from its `INFO memory`. `None` if it evicts none.
fn evicting_policy(info: &str) -> Option<&str> {
    let field = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let limited = field("maxmemory").is_some_and(|limit| limit.trim() != "0");
    // `volatile-*` policies evict sessions too: each has an end.
    let policy = field("maxmemory_policy")?.trim();
    (limited && policy != "noeviction").then_some(policy)
}

#[cfg(test)]
mod tests;
