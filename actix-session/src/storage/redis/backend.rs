//! The atomic steps of the protocol, as commands and scripts.

mod across;
mod epoch;
mod index;
mod read;

use std::sync::Arc;

use anyhow::bail;
use redis::{RedisError, Value, aio::PubSub};

use self::{
    epoch::{epoch_text, keeps_epochs_beside},
    index::Indexed,
    read::NoWrites,
};
use super::{
    answer,
    conn::{self, Connections, Job, Outcome},
    index::Indexing,
    naming::{ends_channel, epoch_name, redirect_name},
    script::{
        CAS_INDEXED_SCRIPT, CAS_SCRIPT, CAS_TELLING_SCRIPT, Call, END_IF_INDEXED_SCRIPT,
        END_IF_SCRIPT, END_INDEXED_SCRIPT, END_SCRIPT, INSERT_INDEXED_SCRIPT, INSERT_SCRIPT,
        PREPARE_SCRIPT, ROTATE_INDEXED_SCRIPT, ROTATE_SCRIPT,
    },
    slots::slot,
};
use crate::{
    clock::Millis,
    contract::Terms,
    error::PutOff,
    live::{EndReason, line::letter},
    protocol::{OwnerBefore, Redirect, Reply, Step, Stored, TOMBSTONE, Until},
    record::{Record, Version},
};

/// Carries steps out over connections.
#[derive(Clone)]
pub(super) struct Executor {
    connections: Connections,
    /// Where ends of sessions are told.
    channel: Arc<str>,
    /// In a cluster records lie in slots, and no step can change two slots.
    has_slots: bool,
    no_writes: NoWrites,
    /// The same for what is written beside a read, and was refused for a reason of its own.
    no_lists: NoWrites,
}

/// A record that replaces the expected one.
#[derive(Clone, Copy)]
struct Write<'a> {
    at: &'a str,
    expect: &'a Version,
    new: &'a Record,
    /// Of a `clear` that this write makes, if it lies beside the record.
    epoch: Option<u64>,
    /// It may end the session that the record was of.
    ends: bool,
}

impl<'a> Write<'a> {
    fn new(
        (at, expect, new): (&'a str, &'a Version, &'a Record),
        epoch: Option<u64>,
        before: &OwnerBefore,
        terms: &Terms,
    ) -> Self {
        Self {
            ends: epoch.is_some() || *before != OwnerBefore::Same,
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
            channel: ends_channel(&str::to_owned).into(),
            has_slots,
            no_writes: NoWrites::default(),
            no_lists: NoWrites::default(),
        }
    }

    /// With the channel of a store that makes names so.
    pub(super) fn naming(self, keygen: &dyn Fn(&str) -> String) -> Self {
        Self {
            channel: ends_channel(keygen).into(),
            ..self
        }
    }

    /// For a server that has slots without being known as a cluster's: a proxy before one.
    pub(super) fn in_slots(self) -> Self {
        Self {
            has_slots: true,
            ..self
        }
    }

    pub(super) const fn has_slots(&self) -> bool {
        self.has_slots
    }

    /// # Errors
    /// The step was refused.
    pub(super) async fn run(
        &self,
        step: &Step,
        indexing: &Indexing,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let reply = self.carry_out(step, indexing, terms).await?;
        if let Reply::Done = reply {
            self.or_leave(step.at(), indexing);
        }
        Ok(reply)
    }

    async fn carry_out(
        &self,
        step: &Step,
        indexing: &Indexing,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        match step {
            Step::Read { at } => Ok(Reply::Found(self.read(at, terms).await?)),
            Step::Cas {
                at,
                expect,
                new,
                until,
                epoch,
                owner_before,
            } => {
                let write = Write::new((at, expect, new), *epoch, owner_before, terms);
                let indexed = self.indexed(indexing, at);
                if let Some(entry) = self.apart(indexing, at) {
                    // The record is there and stays: whoever dies in between leaves it listed.
                    match self.enter_first(entry, (at, expect), terms).await? {
                        Reply::Done => {}
                        refused => return Ok(refused),
                    }
                }
                let reply = self.replace(write, *until, indexed, terms).await?;
                self.or_enter(reply, at, "", indexing, terms).await
            }
            Step::Rotate {
                at,
                expect,
                new,
                until,
                redirect,
                epoch,
                owner_before,
            } => {
                let write = Write::new((at, expect, new), *epoch, owner_before, terms);
                Box::pin(self.rotate(write, redirect, *until, indexing, terms)).await
            }
            Step::Insert { at, new, until } => {
                let reply = self.insert(at, new, *until, indexing, terms).await?;
                let ttl = ttl(*until, terms).to_string();
                self.or_enter(reply, at, &ttl, indexing, terms).await
            }
            Step::End { at, .. } => self.end(at, indexing, terms).await,
            Step::EndIf {
                at, expect, why, ..
            } => self.end_if((at, expect), *why, indexing, terms).await,
        }
    }

    /// Asks the server whether it is there.
    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        let ping = redis::cmd("PING");
        let job = Job::command("", &ping);
        self.connections.repeatable(&job).await.map(drop)
    }

    /// Where ends of sessions are told.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    pub(super) fn has_line(&self) -> bool {
        self.connections.has_line()
    }

    pub(super) async fn line(&self) -> Result<PubSub, RedisError> {
        self.connections.line().await
    }

    /// Tells nothing on a channel, as scripts tell ends.
    pub(super) async fn publish(&self, channel: &str) -> Result<(), RedisError> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg("");
        let job = Job::command(&self.channel, &publish);
        self.connections.repeatable(&job).await.map(drop)
    }

    /// What the server says of itself. A server that does not answer the question says nothing.
    pub(super) async fn info(&self) -> String {
        let info = redis::cmd("INFO");
        let answer = self.connections.repeatable(&Job::command("", &info)).await;
        let text = answer.ok().and_then(|answer| answer::text(Some(answer)));
        text.unwrap_or_default()
    }

    /// Asks the server to run a script, over two slots if it has any. Returns whether it has. Warns if it
    /// runs no scripts for this user: sessions are read then, and not changed.
    pub(super) async fn meets_slots(&self, keygen: &(dyn Fn(&str) -> String + Sync)) -> bool {
        let (one, two) = apart(keygen);
        let (mut whole, mut by_hash) = (redis::cmd("EVAL"), redis::cmd("EVALSHA"));
        whole.arg("return 1").arg(2).arg(&one).arg(&two);
        by_hash.arg("0".repeat(40)).arg(1).arg(&one);
        for command in [whole, by_hash] {
            match self.connections.run(&Job::command(&one, &command)).await {
                Err(error) if conn::is_of_a_cluster(&error) => return true,
                Err(error) if conn::is_forbidden(&error) => tracing::warn!(
                    %error,
                    "this Redis refuses scripts, so that sessions can be read but not changed: allow \
                     the store's user `EVALSHA` and `EVAL`"
                ),
                _ => {}
            }
        }
        false
    }

    async fn replace(
        &self,
        write: Write<'_>,
        until: Until,
        indexed: Indexed<'_>,
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
        let reply = if !write.ends && !indexed.enters() && !indexed.leaves() {
            self.step(&plain, terms).await?
        } else {
            Box::pin(self.replace_whole(write, keys, args, &plain, indexed, terms)).await?
        };
        let reply = self.or_redirect(reply, &redirect).await?;
        self.or_epoch(reply, write.at, terms).await
    }

    /// Writes what lies beside the record too: an epoch, or the index of its owner.
    async fn replace_whole(
        &self,
        write: Write<'_>,
        [at, redirect]: [&str; 2],
        args: [&str; 4],
        plain: &Job<'_>,
        indexed: Indexed<'_>,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let (cleared, epoch) = (epoch_name(write.at), epoch_text(write.epoch));
        let grace = terms.grace.0.to_string();
        let keys = [at, redirect, &cleared];
        let args = [args[0], args[1], args[2], args[3], &epoch, &grace];
        let used = if write.epoch.is_some() {
            (3, 6)
        } else {
            (2, 4)
        };
        let (keys, args) = (indexed.keys(&keys[..used.0]), indexed.args(&args[..used.1]));
        let args = self.telling(&args);
        let script = indexed.script(&CAS_TELLING_SCRIPT, &CAS_INDEXED_SCRIPT);
        let whole = script.call(&keys, &args);
        let whole = Job::script(&whole);
        // Without its epoch, a `clear` would not hold for requests in flight.
        if indexed.enters() || write.epoch.is_some() {
            self.entering(&whole, indexed, terms).await
        } else {
            self.one_or_other(whole, plain, terms).await
        }
    }

    async fn rotate(
        &self,
        write: Write<'_>,
        redirect: &Redirect,
        until: Millis,
        indexing: &Indexing,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        if until <= terms.now {
            return Ok(Reply::Found(Stored::Nothing));
        }
        let ttl = (until - terms.now).0.to_string();
        let indexed = self.indexed(indexing, write.at);
        let is_apart = indexing.enters().is_some() && !indexed.enters();
        if self.has_slots && (is_apart || slot(write.at) != slot(&redirect.target)) {
            let enters = indexing.enters();
            let moved = self.rotate_across_slots(write, redirect, &ttl, enters, terms);
            return Box::pin(moved).await;
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
        let (keys, args) = (indexed.keys(keys), indexed.args(args));
        let args = self.telling(&args);
        let script = indexed.script(&ROTATE_SCRIPT, &ROTATE_INDEXED_SCRIPT);
        let call = script.call(&keys, &args);
        let reply = self.entering(&Job::ending(&call), indexed, terms).await?;
        self.or_epoch(reply, write.at, terms).await
    }

    async fn insert(
        &self,
        at: &str,
        new: &Record,
        until: Millis,
        indexing: &Indexing,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let until = match self.apart(indexing, at) {
            // It has its whole life once the index has it.
            Some(_) => until.min(terms.now + terms.grace),
            None => until,
        };
        let (beside, ttl) = (redirect_name(at), ttl(until, terms).to_string());
        let indexed = self.indexed(indexing, at);
        let (own_keys, own_args) = ([at, &beside], [text(new), &ttl]);
        let (keys, args) = (indexed.keys(&own_keys), indexed.args(&own_args));
        let script = match indexing.enters() {
            None => &INSERT_SCRIPT,
            Some(_) if indexed.enters() => &INSERT_INDEXED_SCRIPT,
            // Its entry is a step of its own, which a repeat must come to as well.
            Some(_) => &PREPARE_SCRIPT,
        };
        self.make(&script.call(&keys, &args), indexed, terms).await
    }

    /// Runs a script that makes a record under a new name.
    ///
    /// # Errors
    /// [`PutOff`] in a slot that is being moved: another name lies elsewhere.
    async fn make(
        &self,
        call: &Call<'_>,
        indexed: Indexed<'_>,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let job = Job::script(call).or_otherwise();
        match self.entering(&job, indexed, terms).await {
            Err(error) if conn::is_put_off(&error) => Err(error.context(PutOff)),
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

    async fn end(&self, at: &str, indexing: &Indexing, terms: &Terms) -> anyhow::Result<Reply> {
        let (beside, grace) = (redirect_name(at), terms.grace.0.to_string());
        let indexed = self.indexed(indexing, at);
        let (own_keys, own_args) = ([at, beside.as_str()], [TOMBSTONE, grace.as_str()]);
        let (keys, args) = (indexed.keys(&own_keys), indexed.args(&own_args));
        let args = self.telling(&args);
        let script = indexed.script(&END_SCRIPT, &END_INDEXED_SCRIPT);
        let whole = script.call(&keys, &args);
        // The record alone, without a tombstone.
        let own_args = self.telling(&own_args);
        let plain = END_SCRIPT.call(&own_keys[..1], &own_args);
        let (whole, plain) = (Job::ending(&whole), Job::ending(&plain));
        let reply = self.one_or_other(whole, &plain, terms).await?;
        self.or_redirect(reply, &beside).await
    }

    async fn end_if(
        &self,
        (at, expect): (&str, &Version),
        why: EndReason,
        indexing: &Indexing,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let (beside, grace) = (redirect_name(at), terms.grace.0.to_string());
        let (expect, how) = expectation(expect);
        let indexed = self.indexed(indexing, at);
        let (own_keys, own_args) = (
            [at, beside.as_str()],
            [expect, how, TOMBSTONE, grace.as_str(), letter(why)],
        );
        let (keys, args) = (indexed.keys(&own_keys), indexed.args(&own_args));
        let args = self.telling(&args);
        let script = indexed.script(&END_IF_SCRIPT, &END_IF_INDEXED_SCRIPT);
        let whole = script.call(&keys, &args);
        // The record alone, without a tombstone.
        let own_args = self.telling(&own_args);
        let plain = END_IF_SCRIPT.call(&own_keys[..1], &own_args);
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
        self.entering(job, Indexed::default(), terms).await
    }

    /// A script's arguments, and where it tells.
    fn telling<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        args.iter().copied().chain([&*self.channel]).collect()
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

/// Two names that lie in two slots, unless all names lie in one.
fn apart(keygen: &dyn Fn(&str) -> String) -> (String, String) {
    let one = keygen("slots.");
    let others = (0..64).map(|n| keygen(&format!("slots.{n}")));
    let two = others.into_iter().find(|two| slot(two) != slot(&one));
    (one.clone(), two.unwrap_or(one))
}

/// Warns if the server evicts sessions when its memory is full.
pub(super) fn warn_if_it_evicts(info: &str) {
    if let Some(policy) = evicting_policy(info) {
        tracing::warn!(
            policy,
            "this Redis evicts sessions when its memory is full, and with them the redirects of \
             renewals and lists of sessions: set `maxmemory-policy noeviction`, or give sessions a \
             server of their own"
        );
    }
}

/// Whether the server belongs to a cluster, from its `INFO`.
pub(super) fn is_in_cluster(info: &str) -> bool {
    field(info, "cluster_enabled") == Some("1")
}

/// The policy by which a server evicts keys, from its `INFO`. `None` if it evicts none.
fn evicting_policy(info: &str) -> Option<&str> {
    let limited = field(info, "maxmemory").is_some_and(|limit| limit != "0");
    // `volatile-*` policies evict sessions too: each has an end.
    let policy = field(info, "maxmemory_policy")?;
    (limited && policy != "noeviction").then_some(policy)
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim())
}

#[cfg(test)]
mod tests;
