//! Sessions in Redis or Valkey.

mod conn;
mod scripts;
#[cfg_attr(not(feature = "redis-session-rustls"), path = "no_tls.rs")]
mod tls;

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context as _;
use redis::{Client, Value};

use self::{
    conn::{Connections, Outcome},
    scripts::{CAS_SCRIPT, Call, END_SCRIPT, ROTATE_SCRIPT, TOUCH_SCRIPT},
};
use super::{CommitError, SessionKey, Terms, random, shared::shared_store};
use crate::{
    clock::{Clock, Millis, SharedClock},
    protocol::{Backend, Mark, Name, Op, Reply, Slot, Until},
    record::{Record, Version},
};

type Keygen = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// Keeps sessions in Redis (6.2 or newer) or Valkey.
///
/// Each commit, renewal and ending is one script, hence atomic. A load is one round trip, with or
/// without an extension of the record's life; a commit is one more.
///
/// Connections are made when needed, one for each worker, and replaced when they break; every wait
/// is bounded ([`connect_timeout`], [`command_timeout`]). What Redis acknowledged and then loses
/// (a failover before replication, `appendfsync everysec`) can bring an ended session back.
///
/// # Examples
/// ```no_run
/// use actix_session::{SessionMiddleware, storage::RedisSessionStore};
/// use actix_web::{App, HttpServer, cookie::Key};
///
/// # async fn run() -> anyhow::Result<()> {
/// let store = RedisSessionStore::new("redis://127.0.0.1:6379").await?;
/// let secret_key = Key::generate();
///
/// HttpServer::new(move || {
///     App::new().wrap(SessionMiddleware::new(store.clone(), secret_key.clone()))
/// })
/// .bind(("127.0.0.1", 8080))?
/// .run()
/// .await?;
/// # Ok(())
/// # }
/// ```
///
/// # TLS
/// With the feature `redis-session-rustls` or `redis-session-native-tls`, use a `rediss://` URL.
///
/// [`connect_timeout`]: RedisSessionStoreBuilder::connect_timeout
/// [`command_timeout`]: RedisSessionStoreBuilder::command_timeout
#[derive(Clone)]
pub struct RedisSessionStore {
    connections: Connections,
    keygen: Keygen,
    clock: SharedClock,
}

/// Settings of a [`RedisSessionStore`].
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use actix_session::storage::RedisSessionStore;
///
/// # async fn run() -> anyhow::Result<()> {
/// let store = RedisSessionStore::builder("redis://127.0.0.1:6379")
///     .cache_keygen(|key| format!("shop:{key}"))
///     .command_timeout(Duration::from_millis(500))
///     .build()
///     .await?;
/// # let _ = store; Ok(())
/// # }
/// ```
#[must_use]
pub struct RedisSessionStoreBuilder {
    url: String,
    keygen: Keygen,
    connect_timeout: Duration,
    command_timeout: Duration,
    clock: SharedClock,
}

impl RedisSessionStore {
    /// Settings other than the default ones, for the server at a `redis://` URL.
    pub fn builder(connection_string: impl Into<String>) -> RedisSessionStoreBuilder {
        RedisSessionStoreBuilder {
            url: connection_string.into(),
            keygen: Arc::new(str::to_owned),
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(1),
            clock: SharedClock::default(),
        }
    }

    /// Connects to the server at a `redis://` URL.
    ///
    /// # Errors
    /// The URL is none, or the server does not answer.
    pub async fn new(connection_string: impl Into<String>) -> Result<Self, anyhow::Error> {
        Self::builder(connection_string).build().await
    }
}

impl RedisSessionStoreBuilder {
    /// Sets how a session key becomes the name of its record, for instance with a prefix.
    ///
    /// Different keys must get different names.
    pub fn cache_keygen<F>(mut self, keygen: F) -> Self
    where
        F: Fn(&str) -> String + 'static + Send + Sync,
    {
        self.keygen = Arc::new(keygen);
        self
    }

    /// Sets how long connecting may take; 2 seconds by default.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets how long a command may take; 1 second by default.
    pub fn command_timeout(mut self, limit: Duration) -> Self {
        self.command_timeout = limit;
        self
    }

    /// Sets the clock for absolute ends; the middleware should have the same.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Connects, and asks the server whether it is there.
    ///
    /// # Errors
    /// The URL is none, or the server does not answer.
    pub async fn build(self) -> Result<RedisSessionStore, anyhow::Error> {
        tls::prepare();
        let client = Client::open(self.url.as_str()).context(
            "the Redis address is not a URL such as redis://127.0.0.1:6379 (rediss:// needs the \
             feature redis-session-rustls or redis-session-native-tls)",
        )?;
        let connections = Connections::new(client, self.connect_timeout, self.command_timeout);
        connections
            .repeatable(&redis::cmd("PING"))
            .await
            .context("Redis does not answer")?;
        Ok(RedisSessionStore {
            connections,
            keygen: self.keygen,
            clock: self.clock,
        })
    }
}

/// Shows nothing of the address, which may hold a password.
impl fmt::Debug for RedisSessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSessionStore").finish_non_exhaustive()
    }
}

/// Shows nothing of the address, which may hold a password.
impl fmt::Debug for RedisSessionStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSessionStoreBuilder")
            .finish_non_exhaustive()
    }
}

/// The name of a record's mark: in the same slot of a cluster.
fn mark_name(name: &str) -> String {
    if name.contains('{') {
        format!("{name}:moved")
    } else {
        format!("{{{name}}}:moved")
    }
}

/// What a script answered.
fn reply(value: Value, terms: &Terms) -> anyhow::Result<Reply> {
    let Value::Array(parts) = value else {
        anyhow::bail!("Redis answered a script with something else than an array");
    };
    let mut parts = parts.into_iter();
    let Some(Value::Int(code)) = parts.next() else {
        anyhow::bail!("Redis answered a script without a code");
    };
    Ok(match code {
        0 => Reply::Found(Slot::Nothing),
        1 => {
            let slot = record_slot(parts.next());
            let end = match parts.next() {
                Some(Value::Int(pttl)) if pttl >= 0 => Some(terms.now + Millis(pttl)),
                _ => None,
            };
            Reply::Found(match slot {
                Slot::Record(record) => Slot::Record(record.with_end(end)),
                slot => slot,
            })
        }
        2 => Reply::Found(mark_slot(parts.next())),
        3 => Reply::Done,
        4 => Reply::Taken,
        _ => Reply::Found(Slot::Unreadable),
    })
}

fn text_of(value: Option<Value>) -> Option<String> {
    match value? {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn record_slot(value: Option<Value>) -> Slot {
    let record = text_of(value).and_then(|text| Record::decode(text).ok());
    record.map_or(Slot::Unreadable, Slot::Record)
}

/// A mark that cannot be read leads nowhere.
fn mark_slot(value: Option<Value>) -> Slot {
    let mark = text_of(value).and_then(|text| Mark::decode(&text));
    mark.map_or(Slot::Nothing, Slot::Mark)
}

fn expectation(version: &Version) -> (&str, &'static str) {
    match version {
        Version::Prefix(prefix) => (prefix, "p"),
        Version::Whole(whole) => (whole, "w"),
    }
}

impl RedisSessionStore {
    /// Runs a step that changes something.
    async fn step(&self, call: Call<'_>, terms: &Terms) -> anyhow::Result<Reply> {
        match self.connections.script(&call).await? {
            Outcome::Value(value) => reply(value, terms),
            Outcome::Lost(error) => {
                tracing::debug!(%error, "the answer of a Redis command was lost");
                Ok(Reply::Lost)
            }
        }
    }

    async fn read(&self, at: &str) -> anyhow::Result<Slot> {
        let get = |name: &str| redis::cmd("GET").arg(name).to_owned();
        match self.connections.repeatable(&get(at)).await {
            Ok(Value::Nil) => {}
            Ok(value) => return Ok(record_slot(Some(value))),
            Err(error) if error.code() == Some("WRONGTYPE") => return Ok(Slot::Unreadable),
            Err(error) => return Err(error.into()),
        }
        match self.connections.repeatable(&get(&mark_name(at))).await {
            Ok(value) => Ok(mark_slot(Some(value))),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Slot::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Extends the record and reads it, in one round trip.
    async fn touch(
        &self,
        at: &str,
        ttl: Millis,
        absolute: Option<Millis>,
        terms: &Terms,
    ) -> anyhow::Result<Slot> {
        let mark = mark_name(at);
        let absolute = absolute.map_or_else(String::new, |span| span.0.to_string());
        let (now, ttl) = (terms.now.0.to_string(), ttl.0.to_string());
        let (keys, args) = ([at, mark.as_str()], [now.as_str(), &ttl, &absolute]);
        let call = TOUCH_SCRIPT.call(&keys, &args);
        let value = self.connections.repeatable_script(&call).await?;
        match reply(value, terms)? {
            Reply::Found(slot) => Ok(slot),
            _ => anyhow::bail!("Redis answered a read with something else than what is there"),
        }
    }

    async fn cas(
        &self,
        at: &str,
        expect: &Version,
        new: &Record,
        until: Until,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let ttl = match until {
            Until::Same => String::new(),
            Until::At(end) if end <= terms.now => return Ok(Reply::Found(Slot::Nothing)),
            Until::At(end) => (end - terms.now).0.to_string(),
        };
        let mark = mark_name(at);
        let (expect, how) = expectation(expect);
        let (keys, args) = ([at, mark.as_str()], [expect, how, text(new), &ttl]);
        self.step(CAS_SCRIPT.call(&keys, &args), terms).await
    }

    async fn rotate(
        &self,
        at: &str,
        expect: &Version,
        new: (&Record, Millis),
        mark: &Mark,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let (new, until) = new;
        if until <= terms.now {
            return Ok(Reply::Found(Slot::Nothing));
        }
        let ttl = (until - terms.now).0.to_string();
        let (beside, grace) = (mark_name(at), terms.grace.0.to_string());
        let (expect, how) = expectation(expect);
        let keys = [at, beside.as_str(), mark.target.as_str()];
        let mark = mark.encode();
        let args = [expect, how, text(new), &ttl, &mark, &grace];
        self.step(ROTATE_SCRIPT.call(&keys, &args), terms).await
    }

    async fn insert(&self, at: &str, new: &Record, ttl: Millis) -> anyhow::Result<Reply> {
        let mut set = redis::cmd("SET");
        set.arg(at)
            .arg(text(new))
            .arg("NX")
            .arg("PX")
            .arg(ttl.max(Millis(1)).0);
        Ok(match self.connections.command(&set).await? {
            Outcome::Value(Value::Nil) => Reply::Taken,
            Outcome::Value(Value::Okay | Value::SimpleString(_)) => Reply::Done,
            Outcome::Value(_) => anyhow::bail!("Redis answered SET with something unknown"),
            Outcome::Lost(_) => Reply::Lost,
        })
    }

    async fn end(&self, at: &str, terms: &Terms) -> anyhow::Result<Reply> {
        let mark = mark_name(at);
        self.step(END_SCRIPT.call(&[at, &mark], &[]), terms).await
    }
}

/// Every record that the protocol writes has a text.
fn text(record: &Record) -> &str {
    record.as_text().unwrap_or_default()
}

impl Backend for RedisSessionStore {
    const REMOTE: bool = true;

    async fn run(&self, op: &Op, terms: &Terms) -> Result<Reply, anyhow::Error> {
        match op {
            Op::Read { at } => Ok(Reply::Found(self.read(at).await?)),
            Op::Cas {
                at,
                expect,
                new,
                until,
            } => self.cas(at, expect, new, *until, terms).await,
            Op::Rotate {
                at,
                expect,
                new,
                until,
                mark,
            } => self.rotate(at, expect, (new, *until), mark, terms).await,
            Op::Insert { at, new, until } => self.insert(at, new, *until - terms.now).await,
            Op::End { at } => self.end(at, terms).await,
        }
    }

    async fn look(&self, at: &str, terms: &Terms) -> Result<Slot, anyhow::Error> {
        if terms.extends() {
            self.touch(at, terms.ttl, terms.absolute, terms).await
        } else {
            self.read(at).await
        }
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
        self.touch(at, ttl, None, &self.own_terms()).await.map(drop)
    }

    fn name(&self, key: &SessionKey) -> Name {
        (self.keygen)(key.as_ref())
    }

    fn draw_key(&self, _beside: Option<&str>) -> Result<(SessionKey, Name), CommitError> {
        let key = random::session_key().map_err(CommitError::Other)?;
        let name = self.name(&key);
        Ok((key, name))
    }

    fn own_terms(&self) -> Terms {
        Terms {
            now: self.clock.now(),
            ..Terms::default()
        }
    }
}

shared_store!(RedisSessionStore);
