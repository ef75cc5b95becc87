//! The index of a principal, as commands and scripts.

use std::borrow::Cow;

use anyhow::bail;
use futures_util::{StreamExt as _, future::BoxFuture, stream};
use redis::Value;

use super::{
    super::{
        answer,
        conn::{self, Job, Outcome},
        index::{Entry, Indexing, Known},
        script::{ENTER_SCRIPT, FORGET_SCRIPT, LIVE_ON_SCRIPT, MARK_SCRIPT, Script},
        slots::slot,
    },
    Executor,
    across::for_certain,
};
use crate::{
    clock::Millis,
    contract::Terms,
    live::EndReason,
    protocol::{NotBefore, Owner, Reply, Stored},
    record::Version,
};

/// An index lives for 400 days after the last step on it, in ms: as long as the longest session of a
/// browser.
pub(super) const SPAN: &str = "34560000000";

const UNTIDY: &str = "an index of sessions could not be tidied";

/// How many entries are looked at at once when an index is tidied.
const AT_ONCE: usize = 16;

/// What a script changes in indexes: those in the slot of its record.
#[derive(Clone, Copy, Default)]
pub(super) struct Indexed<'a> {
    enters: Option<&'a Entry>,
    leaves: Option<&'a Entry>,
}

impl<'a> Indexed<'a> {
    pub(super) const fn enters(self) -> bool {
        self.enters.is_some()
    }

    pub(super) const fn leaves(self) -> bool {
        self.leaves.is_some()
    }

    const fn is_none(self) -> bool {
        !self.enters() && !self.leaves()
    }

    pub(super) const fn script<'s>(self, plain: &'s Script, indexed: &'s Script) -> &'s Script {
        if self.is_none() { plain } else { indexed }
    }

    /// A script's keys, and those of indexes.
    pub(super) fn keys<'b>(self, own: &'b [&'b str]) -> Cow<'b, [&'b str]>
    where
        'a: 'b,
    {
        let indexes = [self.enters, self.leaves].into_iter().flatten();
        self.more(own, indexes.map(Entry::index))
    }

    /// A script's arguments, and those for indexes.
    pub(super) fn args<'b>(self, own: &'b [&'b str]) -> Cow<'b, [&'b str]>
    where
        'a: 'b,
    {
        let [id, login, text] = self.enters.map_or([""; 3], Entry::fields);
        let [left_id, _, left] = self.leaves.map_or([""; 3], Entry::fields);
        self.more(own, [SPAN, id, login, text, left_id, left].into_iter())
    }

    fn more<'b>(
        self,
        own: &'b [&'b str],
        more: impl Iterator<Item = &'b str>,
    ) -> Cow<'b, [&'b str]> {
        if self.is_none() {
            return Cow::Borrowed(own);
        }
        Cow::Owned(own.iter().copied().chain(more).collect())
    }
}

impl Executor {
    /// What a script at a name changes in indexes.
    pub(super) fn indexed<'a>(&self, indexing: &'a Indexing, at: &str) -> Indexed<'a> {
        let lies_here = |entry: &&Entry| !self.lie_apart(entry.index(), at);
        Indexed {
            enters: indexing.enters().filter(lies_here),
            leaves: indexing.leaves().filter(lies_here),
        }
    }

    /// The entry of a record whose owner's index lies in another slot.
    pub(super) fn apart<'a>(&self, indexing: &'a Indexing, at: &str) -> Option<&'a Entry> {
        let lies_apart = |entry: &&Entry| self.lie_apart(entry.index(), at);
        indexing.enters().filter(lies_apart)
    }

    /// Whether two names are in different slots, so that no script changes both.
    fn lie_apart(&self, one: &str, other: &str) -> bool {
        self.has_slots && slot(one) != slot(other)
    }

    /// Enters a record that a step has just written, or may have, if its owner's index lies in another
    /// slot. No answer leaves before that.
    pub(super) async fn or_enter(
        &self,
        reply: Reply,
        at: &str,
        ttl: &str,
        indexing: &Indexing,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let Some(entry) = self.apart(indexing, at) else {
            return Ok(reply);
        };
        let entered = match reply {
            Reply::Done => self.enter_for_certain(entry, at, ttl, terms).await?,
            // What may not have been written is not looked for: the repeat finds out.
            Reply::Lost => {
                let reserved = entry.reserved();
                self.enter_for_certain(&reserved, at, "", terms).await?
            }
            _ => return Ok(reply),
        };
        Ok(match entered {
            Reply::Done => reply,
            entered => entered,
        })
    }

    /// Enters a record that lives for a short while, and gives it its TTL. A record that has its TTL
    /// already is entered alone.
    ///
    /// Whoever dies before the index has the record leaves one that ends soon.
    pub(super) async fn enter_for_certain(
        &self,
        entry: &Entry,
        at: &str,
        ttl: &str,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let enter = || self.enter(entry, at, ttl, terms);
        let entered = for_certain(true, enter, terms).await?;
        let is_whole = ttl.is_empty() || !self.lie_apart(entry.index(), at);
        if is_whole || !matches!(entered, Reply::Done) {
            return Ok(entered);
        }
        let (keys, args) = ([at], [ttl]);
        let call = LIVE_ON_SCRIPT.call(&keys, &args);
        let job = Job::script(&call);
        for_certain(true, || self.step(&job, terms), terms).await
    }

    /// One attempt to enter a record.
    pub(super) async fn enter(
        &self,
        entry: &Entry,
        at: &str,
        ttl: &str,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let lies_here = !self.lie_apart(entry.index(), at);
        let own = usize::from(lies_here);
        let (keys, args) = ([at], [ttl]);
        let entering = self.enter_with(entry, &keys[..own], &args[..own], terms);
        let reply = entering.await?;
        if matches!(reply, Reply::Ended) && !lies_here {
            return match self.end(at, &Indexing::default(), terms).await? {
                Reply::Lost => Ok(Reply::Lost),
                _ => Ok(Reply::Ended),
            };
        }
        Ok(reply)
    }

    /// Writes an entry before the step that makes its record its owner's, which enters it again. If the
    /// owner's sessions have ended, the record ends instead, unless it is another one by now: once the
    /// step is done, no load would ask.
    pub(super) async fn enter_first(
        &self,
        entry: &Entry,
        (at, expect): (&str, &Version),
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let reserved = entry.reserved();
        let entered = self.enter_with(&reserved, &[], &[], terms).await?;
        if !matches!(entered, Reply::Ended) {
            return Ok(entered);
        }
        let (why, indexing) = (EndReason::Revoked, Indexing::default());
        let ended = self.end_if((at, expect), why, &indexing, terms).await?;
        Ok(match ended {
            Reply::Done => Reply::Ended,
            found => found,
        })
    }

    async fn enter_with(
        &self,
        entry: &Entry,
        keys: &[&str],
        args: &[&str],
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let indexed = Indexed {
            enters: Some(entry),
            leaves: None,
        };
        let (keys, args) = (indexed.keys(keys), indexed.args(args));
        let call = ENTER_SCRIPT.call(&keys, &args);
        // A reservation ends and renews nothing, so that replicas may have it later.
        let job = match entry.is_reserved() {
            true => Job::script(&call),
            false => Job::ending(&call),
        };
        self.entering(&job, indexed, terms).await
    }

    /// Runs a script that may change indexes.
    pub(super) async fn entering(
        &self,
        job: &Job<'_>,
        indexed: Indexed<'_>,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let outcome = self.connections.run(&job.within(terms.budget)).await;
        let value = match outcome.map_err(conn::failure)? {
            Outcome::Value(value) => value,
            Outcome::Lost(error) => {
                tracing::debug!(%error, "the answer of a Redis command was lost");
                return Ok(Reply::Lost);
            }
        };
        if let Some(entry) = indexed.enters.filter(|_| is_long(&value)) {
            let (executor, index) = (self.clone(), entry.index().to_owned());
            let terms = terms.clone();
            tokio::spawn(async move { executor.tidy(&index, &terms).await });
        }
        answer::reply(value, terms)
    }

    /// Takes out what has ended without a word, as sessions do that expire.
    async fn tidy(&self, index: &str, terms: &Terms) {
        let tidied = async {
            let known = self.entries(index).await?;
            let looks = known.into_iter().map(async |it| {
                let is_there = self.exists(&it.at).await.unwrap_or(true);
                (!is_there).then_some(it)
            });
            let looks = stream::iter(looks).buffer_unordered(AT_ONCE);
            let dead: Vec<Known> = looks.filter_map(async |it| it).collect().await;
            self.forget_unfound(index, &dead, terms).await
        };
        if let Err(error) = tidied.await {
            tracing::debug!(%error, "{UNTIDY}");
        }
    }

    async fn exists(&self, at: &str) -> anyhow::Result<bool> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(at);
        let job = Job::command(at, &exists).reading();
        let value = self.connections.repeat_or_read(&job).await?;
        Ok(value != Value::Int(0))
    }

    /// The entries of an index, in no order.
    pub(in super::super) async fn entries(&self, index: &str) -> anyhow::Result<Vec<Known>> {
        let mut all = redis::cmd("HGETALL");
        all.arg(index);
        let job = Job::command(index, &all).reading();
        let fields = self.connections.repeat_or_read(&job).await;
        let fields = match fields.map_err(conn::failure)? {
            Value::Array(fields) => fields,
            Value::Map(fields) => fields.into_iter().flat_map(|(id, it)| [id, it]).collect(),
            _ => bail!("the answer to HGETALL must be a list"),
        };
        let mut fields = fields.into_iter().map(|it| answer::text(Some(it)));
        let mut known = Vec::with_capacity(fields.len() / 2);
        while let (Some(id), Some(text)) = (fields.next(), fields.next()) {
            known.extend(Known::read(id, text));
        }
        Ok(known)
    }

    /// What the entry of a session says.
    pub(in super::super) async fn entry(
        &self,
        index: &str,
        id: u128,
    ) -> anyhow::Result<Option<Known>> {
        let id = Known::id_text(id);
        let mut get = redis::cmd("HGET");
        get.arg(index).arg(&id);
        let job = Job::command(index, &get).reading();
        let text = self.connections.repeat_or_read(&job).await;
        let text = answer::text(Some(text.map_err(conn::failure)?));
        Ok(Known::read(Some(id), text))
    }

    /// Takes entries away whose records were not found.
    ///
    /// Where a record lies in another slot than its entry, they are written by two steps. Whoever has
    /// lost an answer may reserve the entry before the record is there. Once it is there, the entry takes
    /// the reservation's place, which nobody takes away who has looked before. Whoever dies in between
    /// has left the reservation alone, so what is there by now is entered again.
    ///
    /// # Errors
    /// The server refuses that.
    pub(in super::super) fn forget_unfound<'a>(
        &'a self,
        index: &'a str,
        dead: &'a [Known],
        terms: &'a Terms,
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move {
            self.forget(index, dead).await;
            for known in dead.iter().filter(|known| known.reserved) {
                self.enter_if_there(index, known, terms).await?;
            }
            Ok(())
        })
    }

    async fn enter_if_there(
        &self,
        index: &str,
        known: &Known,
        terms: &Terms,
    ) -> anyhow::Result<()> {
        let (at, entry) = (&known.at, Entry::known(index, known));
        let found = self.look_again(at, terms).await;
        match found.map(|found| found.proven(at, terms).live(terms)) {
            Ok(Stored::Record(record)) => {
                if Owner::of(&record).is_some_and(|owner| owner.id == known.id) {
                    // Whoever has entered it meanwhile knows better where it is.
                    self.enter_for_certain(&entry.reserved(), at, "", terms)
                        .await?;
                }
                Ok(())
            }
            Ok(Stored::Redirect(_) | Stored::Nothing) => Ok(()),
            // Nobody knows. A dead entry blocks nothing.
            Ok(Stored::Unreadable) | Err(_) => {
                let reserved = entry.reserved();
                self.enter_with(&reserved, &[], &[], terms).await.map(drop)
            }
        }
    }

    /// Takes entries away that still say so. Where that is refused they stay, and block nothing.
    pub(in super::super) async fn forget(&self, index: &str, dead: &[Known]) {
        if dead.is_empty() {
            return;
        }
        let args: Vec<String> = dead.iter().flat_map(Known::fields).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.forget_fields(index, &args).await;
    }

    /// Takes the entry away that a step has left behind, if that lies in another slot. Nobody waits for it.
    pub(super) fn or_leave(&self, at: &str, indexing: &Indexing) {
        let lies_apart = |entry: &&Entry| self.lie_apart(entry.index(), at);
        if let Some(entry) = indexing.leaves().filter(lies_apart) {
            let (executor, entry) = (self.clone(), entry.clone());
            tokio::spawn(async move {
                let [id, _, text] = entry.fields();
                executor.forget_fields(entry.index(), &[id, text]).await;
            });
        }
    }

    async fn forget_fields(&self, index: &str, args: &[&str]) {
        let keys = [index];
        let call = FORGET_SCRIPT.call(&keys, args);
        if let Err(error) = self.connections.repeatable(&Job::script(&call)).await {
            tracing::debug!(%error, "{UNTIDY}");
        }
    }

    /// Marks a principal's sessions as ended; `false` if an earlier mark has ended whoever asks.
    pub(in super::super) async fn mark(
        &self,
        index: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        terms: &Terms,
    ) -> anyhow::Result<bool> {
        let spared: Vec<String> = mark.spared.iter().map(|id| Known::id_text(*id)).collect();
        let (at, spared) = (mark.at.0.to_string(), spared.join(","));
        let (id, login) = by.map_or_else(Default::default, |(id, login)| {
            (Known::id_text(id), login.0.to_string())
        });
        let args = [at.as_str(), &spared, &id, &login, SPAN];
        let keys = [index];
        let call = MARK_SCRIPT.call(&keys, &args);
        let job = Job::ending(&call).within(terms.budget);
        let answer = self
            .connections
            .repeatable(&job)
            .await
            .map_err(conn::failure)?;
        Ok(!matches!(answer::reply(answer, terms)?, Reply::Ended))
    }
}

/// Whether an answer says that it is time to tidy an index, which is seldom.
fn is_long(answer: &Value) -> bool {
    let Value::Array(parts) = answer else {
        return false;
    };
    matches!(parts[..], [_, Value::Int(entries)] if entries > 0 && entries % 64 == 0)
}
