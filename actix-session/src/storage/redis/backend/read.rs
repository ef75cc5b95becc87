//! Reads, and the extensions that ride on them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::bail;
use redis::{RedisError, Value};
use tokio::time::Instant;

use super::{
    super::{
        answer,
        conn::{self, Job},
        naming::redirect_name,
        script::{Call, LOOK_SCRIPT, TOUCH_SCRIPT},
    },
    Executor,
};
use crate::{
    clock::Millis,
    contract::{ExtendOnRead, Terms},
    event,
    protocol::{Reply, Stored},
    sync::lock,
};

/// How long reads do without a server that takes writes, once none was found.
const DO_WITHOUT: Duration = Duration::from_secs(5);

/// Whether no server that takes writes was found a moment ago. Reads do without an extension then,
/// since looking for another server takes its time; writes look for one all the same.
#[derive(Clone, Default)]
pub(super) struct ReadOnly(Arc<Mutex<Option<Instant>>>);

impl ReadOnly {
    fn is_known(&self) -> bool {
        lock(&self.0).is_some_and(|at| at.elapsed() < DO_WITHOUT)
    }

    fn note(&self, error: &anyhow::Error) {
        if conn::is_from_replica(error) {
            *lock(&self.0) = Some(Instant::now());
        }
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

impl Executor {
    /// Reads for a request, and extends the record if the terms say so.
    pub(in super::super) async fn look(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        let least = match terms.extend {
            ExtendOnRead::Never => return self.read(at, terms).await,
            ExtendOnRead::Always => None,
            ExtendOnRead::AtMostEvery(interval) => Some(interval),
        };
        let extending = Extending {
            ttl: terms.ttl,
            absolute: terms.absolute,
            least,
            keeps_own: true,
        };
        if self.read_only.is_known() {
            return Ok(self.look_only(at, terms).await?.not_extended());
        }
        match self.touch(at, extending, terms).await {
            Err(error) if conn::refused(&error).is_some() => {
                // If reading is refused too, that is the error.
                let found = self.look_only(at, terms).await?;
                event::not_extended(&error);
                self.read_only.note(&error);
                Ok(found.not_extended())
            }
            found => found,
        }
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
        self.touch(at, extending, terms).await.map(drop)
    }

    pub(super) async fn read(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        let mut get = redis::cmd("GET");
        get.arg(at);
        match self.after_epoch(at, Job::command(at, &get), terms).await {
            Ok((_, Value::Nil)) => self.read_redirect(&redirect_name(at)).await,
            Ok((epoch, value)) => Ok(answer::record(Some(value)).with_epoch_beside(epoch)),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Stored::Unreadable),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_redirect(&self, name: &str) -> anyhow::Result<Stored> {
        match self.get(name).await {
            Ok(value) => Ok(answer::redirect(Some(value))),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Stored::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Value, RedisError> {
        let mut get = redis::cmd("GET");
        get.arg(name);
        self.connections.repeatable(Job::command(name, &get)).await
    }

    /// Extends the record and reads it, in one round trip.
    async fn touch(&self, at: &str, how: Extending, terms: &Terms) -> anyhow::Result<Stored> {
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
        self.found(&call, &redirect, terms).await
    }

    /// Reads the record with its end.
    pub(super) async fn look_only(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        let redirect = redirect_name(at);
        let keys = [at, redirect.as_str()];
        let call = LOOK_SCRIPT.call(self.keys(&keys), &[]);
        self.found(&call, &redirect, terms).await
    }

    async fn found(
        &self,
        call: &Call<'_>,
        redirect: &str,
        terms: &Terms,
    ) -> anyhow::Result<Stored> {
        let read = self
            .after_epoch(call.at(), Job::script(call), terms)
            .await?;
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
                Ok(Reply::Found(self.read_redirect(redirect).await?))
            }
            reply => Ok(reply),
        }
    }
}
