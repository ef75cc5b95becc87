//! Reads, and the extensions that ride on them.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::bail;
use futures_util::future::{Either, select};
use redis::{Cmd, RedisError, Value};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use super::{
    super::{
        answer,
        conn::{self, Job},
        naming::redirect_name,
        script::{LOOK_SCRIPT, TOUCH_SCRIPT},
    },
    Executor,
    epoch::keeps_epochs_beside,
};
use crate::{
    clock::{Millis, deadline},
    contract::{ExtendOnRead, Terms},
    event,
    protocol::{Reply, Stored},
    sync::lock,
};

/// How long reads do without a server that takes writes, once none was found.
const DO_WITHOUT: Duration = Duration::from_secs(5);

/// And once the server has held an extension back, but not a read.
const HELD_BACK: Duration = Duration::from_secs(1);

/// Until when reads do without an extension, since no server took one a moment ago: waiting, or
/// looking for another server, takes its time. Writes try all the same.
#[derive(Clone, Default)]
pub(super) struct NoWrites(Arc<Known>);

#[derive(Default)]
struct Known {
    until: Mutex<Option<Instant>>,
    told: Notify,
}

impl NoWrites {
    fn are_known(&self) -> bool {
        lock(&self.0.until).is_some_and(|until| Instant::now() < until)
    }

    /// Ends when somebody notes it from now on.
    fn told(&self) -> Notified<'_> {
        self.0.told.notified()
    }

    fn note(&self, span: Duration) {
        let mut until = lock(&self.0.until);
        *until = (*until).max(Some(deadline(span)));
        drop(until);
        self.0.told.notify_waiters();
    }
}

/// How far a read extends a record, and the least extension worth a write.
#[derive(Clone, Copy)]
struct Extending {
    ttl: Millis,
    absolute: Option<Millis>,
    least: Option<Millis>,
    /// The session's own TTL counts, not this one.
    keeps_own: bool,
}

impl Extending {
    fn of(terms: &Terms) -> Option<Self> {
        let least = match terms.extend {
            ExtendOnRead::Never | ExtendOnRead::Quiet => return None,
            ExtendOnRead::Always => None,
            ExtendOnRead::AtMostEvery(interval) => Some(interval),
        };
        Some(Self {
            ttl: terms.ttl,
            absolute: terms.absolute,
            least,
            keeps_own: true,
        })
    }
}

impl Executor {
    /// Whether reads do without what can be written later.
    pub(in super::super) fn spares_writes(&self) -> bool {
        self.no_writes.are_known() || self.no_lists.are_known()
    }

    /// What can be written later was refused, or took too long.
    pub(in super::super) fn write_has_failed(&self) {
        self.no_lists.note(DO_WITHOUT);
    }

    /// Reads for a request, and extends the record if the terms say so.
    pub(in super::super) async fn look(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        match Extending::of(terms) {
            None if terms.keeps_end() => Box::pin(self.read_with_end(at, terms)).await,
            None => self.read(at, terms).await,
            Some(_) if self.no_writes.are_known() => {
                let found = Box::pin(self.read(at, terms)).await?;
                Ok(found.not_extended())
            }
            // It needs much room, of which other policies make no use.
            Some(extending) => Box::pin(self.touch_or_read(at, extending, terms)).await,
        }
    }

    /// A missed extension is better than an error: if it is refused or held back, the record is read
    /// as it is.
    async fn touch_or_read(
        &self,
        at: &str,
        extending: Extending,
        terms: &Terms,
    ) -> anyhow::Result<Stored> {
        let begun = Instant::now();
        let late = Notify::new();
        let refused = {
            let (own, others) = (pin!(late.notified()), pin!(self.no_writes.told()));
            let touching = pin!(self.touch(at, extending, terms, Some(&late)));
            match select(touching, select(own, others)).await {
                Either::Left((Err(error), _)) if is_refused(&error) => error,
                Either::Left((found, _)) => return found,
                Either::Right((Either::Left(_), touching)) => {
                    self.no_writes.note(HELD_BACK);
                    return Box::pin(self.read_meanwhile(touching, at, terms)).await;
                }
                // What others know needs no time of this request's, nor a place in a pool's line.
                Either::Right((Either::Right(_), _)) => held_back_by_redis(),
            }
        };
        let left = Terms {
            budget: terms.budget.saturating_sub(begun.elapsed()),
            ..terms.clone()
        };
        Box::pin(self.read_only(at, &refused, &left)).await
    }

    /// Reads while the server holds the extension back: the first answer counts.
    async fn read_meanwhile(
        &self,
        touching: impl Future<Output = anyhow::Result<Stored>> + Unpin,
        at: &str,
        terms: &Terms,
    ) -> anyhow::Result<Stored> {
        let held_back = held_back_by_redis();
        let reading = pin!(self.read_only(at, &held_back, terms));
        match select(touching, reading).await {
            Either::Left((Err(error), reading)) if is_refused(&error) => reading.await,
            // After any other error the time of both is up.
            Either::Left((found, _)) | Either::Right((found @ Ok(_), _)) => found,
            Either::Right((Err(_), touching)) => touching.await,
        }
    }

    /// Reads what could not be extended, by a command that needs no right to run scripts. If it is
    /// refused too, that is the error.
    async fn read_only(
        &self,
        at: &str,
        why: &anyhow::Error,
        terms: &Terms,
    ) -> anyhow::Result<Stored> {
        let found = self.read(at, terms).await?;
        event::not_extended(why);
        if conn::has_no_master(why) {
            self.no_writes.note(DO_WITHOUT);
        }
        Ok(found.not_extended())
    }

    /// Sets how long a record lives from now on, up to its absolute end.
    pub(in super::super) async fn set_ttl(
        &self,
        at: &str,
        ttl: Millis,
        terms: &Terms,
    ) -> anyhow::Result<()> {
        let extending = Extending {
            ttl,
            absolute: None,
            least: None,
            keeps_own: false,
        };
        self.touch(at, extending, terms, None).await.map(drop)
    }

    pub(super) async fn read(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        let get = get(at);
        let job = Job::command(at, &get).reading().within(terms.budget);
        let read = self.after_epoch(&job, terms).await;
        let (epoch, value) = read.map_or_else(|e| (None, Err(e)), |(epoch, it)| (epoch, Ok(it)));
        let found = self.found_by_get(at, value).await?;
        Ok(found.with_epoch_beside(epoch))
    }

    /// Reads the record with its end, by commands that need neither scripts nor a server that takes
    /// writes.
    async fn read_with_end(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        let (get, mut left) = (get(at), redis::cmd("PTTL"));
        left.arg(at);
        if keeps_epochs_beside(terms) {
            let found = self.read(at, terms).await?;
            let left = Job::command(at, &left).reading();
            let left = self.connections.repeat_or_read(&left);
            // Whoever does not know it serves the request all the same.
            return Ok(answer::timed(found, left.await.ok().as_ref(), terms.now));
        }
        let job = Job::command(at, &get).reading().within(terms.budget);
        let read = self.connections.repeatable_after(&left, job).await;
        let (left, value) = read.map_or_else(|e| (None, Err(e)), |(left, it)| (left, Ok(it)));
        let found = self.found_by_get(at, value).await?;
        Ok(answer::timed(found, left.as_ref(), terms.now))
    }

    async fn found_by_get(
        &self,
        at: &str,
        value: Result<Value, RedisError>,
    ) -> anyhow::Result<Stored> {
        match value {
            Ok(Value::Nil) => self.read_redirect(&redirect_name(at)).await,
            Ok(value) => Ok(answer::record(Some(value))),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Stored::Unreadable),
            Err(error) => Err(conn::failure(error)),
        }
    }

    /// Reads from a server that takes writes: another one may not know of a note yet.
    pub(in super::super) async fn read_note(
        &self,
        at: &str,
        terms: &Terms,
    ) -> anyhow::Result<Stored> {
        let get = get(at);
        let job = Job::command(at, &get).within(terms.budget);
        match self.connections.repeatable(&job).await {
            Ok(Value::Nil) => Ok(Stored::Nothing),
            Ok(value) => Ok(answer::record(Some(value))),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Stored::Unreadable),
            Err(error) => Err(conn::failure(error)),
        }
    }

    async fn read_redirect(&self, name: &str) -> anyhow::Result<Stored> {
        match self.get(name).await {
            Ok(value) => Ok(answer::redirect(Some(value))),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Stored::Nothing),
            Err(error) => Err(conn::failure(error)),
        }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Value, RedisError> {
        let get = get(name);
        let job = Job::command(name, &get).reading();
        self.connections.repeat_or_read(&job).await
    }

    /// Extends the record and reads it, in one round trip. Tells if the answer is late.
    async fn touch(
        &self,
        at: &str,
        how: Extending,
        terms: &Terms,
        late: Option<&Notify>,
    ) -> anyhow::Result<Stored> {
        let redirect = redirect_name(at);
        let or_empty =
            |span: Option<Millis>| span.map_or_else(String::new, |span| span.0.to_string());
        let (absolute, least) = (or_empty(how.absolute), or_empty(how.least));
        let (now, ttl) = (terms.now.0.to_string(), how.ttl.0.to_string());
        let own = if how.keeps_own { "own" } else { "" };
        let (keys, args) = (
            [at, redirect.as_str()],
            [now.as_str(), &ttl, &absolute, &least, own],
        );
        let call = TOUCH_SCRIPT.call(self.keys(&keys), &args);
        let job = Job::script(&call).looking();
        let job = late.map_or(job, |late| job.telling(late));
        self.found(&job, &redirect, terms).await
    }

    /// Reads the record with its end, by a script.
    pub(in super::super) async fn look_again(
        &self,
        at: &str,
        terms: &Terms,
    ) -> anyhow::Result<Stored> {
        let redirect = redirect_name(at);
        let keys = [at, redirect.as_str()];
        let call = LOOK_SCRIPT.call(self.keys(&keys), &[]);
        let job = Job::script(&call).looking().within(terms.budget);
        self.found(&job, &redirect, terms).await
    }

    async fn found(&self, job: &Job<'_>, redirect: &str, terms: &Terms) -> anyhow::Result<Stored> {
        let read = self.after_epoch(job, terms).await;
        let read = read.map_err(conn::failure)?;
        let reply = answer::reply(read.1, terms)?;
        match self.or_redirect(reply, redirect).await? {
            Reply::Found(found) => Ok(found.with_epoch_beside(read.0)),
            _ => bail!("Redis answered a read like a write"),
        }
    }

    /// Reads the redirect if a script that knew only the record has found nothing.
    pub(super) async fn or_redirect(&self, reply: Reply, redirect: &str) -> anyhow::Result<Reply> {
        match reply {
            Reply::Found(Stored::Nothing) if self.has_slots => {
                let found = Box::pin(self.read_redirect(redirect)).await?;
                Ok(Reply::Found(found))
            }
            reply => Ok(reply),
        }
    }
}

/// With room for all of it.
pub(super) fn get(name: &str) -> Cmd {
    let mut get = Cmd::with_capacity(2, "GET".len() + name.len());
    get.arg("GET").arg(name);
    get
}

/// Whether no server has extended the record, nor ever will for this request.
fn is_refused(error: &anyhow::Error) -> bool {
    conn::refused(error).is_some() || conn::has_no_master(error) || conn::is_without_room(error)
}

fn held_back_by_redis() -> anyhow::Error {
    anyhow::anyhow!("Redis holds extensions back")
}
