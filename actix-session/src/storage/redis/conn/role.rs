//! Whether a server is a replica by now.
//!
//! A master that is demoted while it runs keeps its clients, and goes on answering reads: with what may be
//! older than the end of a session. A write it refuses, which leads to the new master. So what only reads
//! asks now and then.

use std::{future::Future, pin::pin, sync::Mutex, time::Duration};

use futures_util::future::{Either, select};
use redis::{RedisError, Value, aio::MultiplexedConnection};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout},
};

use super::{Timeouts, question};
use crate::sync::lock;

/// How often a server is asked while sessions are read from it.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often one is that does not say.
const SELDOM: Duration = Duration::from_secs(60);

/// How long whoever has an answer waits for that.
const SOON: Duration = Duration::from_millis(100);

/// How long reads do without a master, once none was found.
pub(super) const DO_WITHOUT: Duration = Duration::from_secs(5);

/// For how long nobody looks for a master again after a look in vain.
const REST: Duration = Duration::from_millis(250);

/// When a read asks next, and whose turn it is to look for a master.
pub(super) struct Asking {
    next: Mutex<Instant>,
    /// When the last look was in vain.
    in_vain: AsyncMutex<Option<Instant>>,
}

impl Asking {
    /// Nobody asks where a connection has just led.
    pub(super) fn later() -> Self {
        Self {
            next: Mutex::new(Instant::now() + ASK_AGAIN),
            in_vain: AsyncMutex::default(),
        }
    }

    /// One job looks for a master, for all that find meanwhile that their server is none. Answers whether one
    /// is known.
    pub(super) async fn look(&self, limit: Duration, looking: impl Future<Output = bool>) -> bool {
        let mut in_vain = self.in_vain.lock().await;
        if in_vain.is_some_and(|at| at.elapsed() < REST) {
            return false;
        }
        let is_found = timeout(limit, looking).await.unwrap_or(false);
        *in_vain = (!is_found).then(Instant::now);
        is_found
    }

    /// Whether it is time. The next read that asks does so later.
    pub(super) fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut next = lock(&self.next);
        let is_due = *next <= now;
        if is_due {
            *next = now + ASK_AGAIN;
        }
        is_due
    }

    /// The server has not said in time what it is: what lies before it may swallow the question.
    fn seldom(&self) {
        *lock(&self.next) = Instant::now() + SELDOM;
    }

    /// Does a read, and asks beside it. Answers whether the server is a replica, too. Nobody waits long for
    /// that once the read is done.
    pub(super) async fn along<T>(
        &self,
        connection: MultiplexedConnection,
        timeouts: Timeouts,
        doing: impl Future<Output = T>,
    ) -> (bool, T) {
        let asking = pin!(is_replica(connection, timeouts));
        // The question goes ahead.
        match select(asking, pin!(doing)).await {
            Either::Left((is_replica, doing)) => (is_replica, doing.await),
            Either::Right((done, asking)) => {
                let answer = timeout(SOON, asking).await;
                if answer.is_err() {
                    self.seldom();
                }
                (answer.unwrap_or(false), done)
            }
        }
    }

    /// Nobody asks for a while: no master was found.
    pub(super) fn do_without(&self) {
        *lock(&self.next) = Instant::now() + DO_WITHOUT;
        tracing::warn!(
            "the Redis server has become a replica, and its address leads to no master: sessions are read \
             from it, and changes fail"
        );
    }

    #[cfg(test)]
    pub(super) fn at_once(&self) {
        *lock(&self.next) = Instant::now();
    }
}

/// Whether the server says that it is a replica. No permission is needed to ask, and nothing that holds
/// writes up holds this up.
pub(super) async fn is_replica(mut connection: MultiplexedConnection, timeouts: Timeouts) -> bool {
    let told = say_hello(&mut connection, timeouts).await;
    told.is_ok_and(|told| role(&told) == Some("replica"))
}

/// Whether a server may be used in place of a replica. A proxy or an old server may not know its role, but
/// answers; a server that loads its data, or a proxy without a server, refuses to.
pub(super) async fn is_worth_leaving_for(
    mut connection: MultiplexedConnection,
    timeouts: Timeouts,
) -> bool {
    let told = say_hello(&mut connection, timeouts).await;
    if told.is_ok_and(|told| role(&told) == Some("replica")) {
        return false;
    }
    match question(&mut connection, &redis::cmd("PING"), timeouts).await {
        Ok(_) => true,
        // A hook of the application's pool may log in; or the user may not ping.
        Err(error) => matches!(error.code(), Some("NOAUTH" | "NOPERM")),
    }
}

async fn say_hello(
    connection: &mut MultiplexedConnection,
    timeouts: Timeouts,
) -> Result<Value, RedisError> {
    question(connection, &redis::cmd("HELLO"), timeouts).await
}

/// What a server calls itself. A proxy may not know.
fn role(told: &Value) -> Option<&str> {
    let is_role = |name: &Value| text(Some(name)) == Some("role");
    match told {
        Value::Map(fields) => {
            let field = fields.iter().find(|(name, _)| is_role(name));
            text(field.map(|(_, value)| value))
        }
        Value::Array(parts) => {
            let field = parts.chunks_exact(2).find(|field| is_role(&field[0]));
            text(field.map(|field| &field[1]))
        }
        _ => None,
    }
}

pub(super) fn text(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_from_both_forms_of_the_protocol() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = [("server", "redis"), ("role", "replica")];
        let map = fields.map(|(name, value)| (bulk(name), bulk(value)));
        assert_eq!(role(&Value::Map(map.to_vec())), Some("replica"));
        let array = fields.map(|(name, value)| [bulk(name), bulk(value)]);
        assert_eq!(role(&Value::Array(array.concat())), Some("replica"));
        // A value is no name, and a sentinel has no role.
        assert_eq!(role(&Value::Array(vec![bulk("a"), bulk("role")])), None);
        assert_eq!(role(&Value::Okay), None);
    }
}
