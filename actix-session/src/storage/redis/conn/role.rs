//! Whether a server is a replica by now.
//!
//! A master that is demoted while it runs keeps its clients, and goes on answering reads: with what may be
//! older than the end of a session. A write it refuses, which leads to the new master. So what only reads
//! asks now and then.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{Either, select};
use redis::{Value, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use super::{Timeouts, question};
use crate::sync::lock;

/// How often a server is asked while sessions are read from it.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often one is that does not say.
const SELDOM: Duration = Duration::from_secs(60);

/// How long whoever has an answer waits for that.
pub(super) const SOON: Duration = Duration::from_millis(100);

/// How long reads do without a master, once none was found.
pub(super) const DO_WITHOUT: Duration = Duration::from_secs(5);

/// For how long what a look for a master has found out counts.
const REST: Duration = Duration::from_millis(250);

/// When a read asks next, and what the last look for a master has found out.
pub(super) struct Asking {
    next: Mutex<Instant>,
    last: Mutex<Look>,
    ended: Notify,
}

#[derive(Clone, Copy)]
enum Look {
    UnderWay,
    Ended {
        at: Instant,
        found: bool,
    },
    /// Nobody has looked.
    Never,
}

impl Asking {
    /// Nobody asks where a connection has just led.
    pub(super) fn later() -> Arc<Self> {
        Arc::new(Self {
            next: Mutex::new(Instant::now() + ASK_AGAIN),
            last: Mutex::new(Look::Never),
            ended: Notify::new(),
        })
    }

    /// Has one task look for a master, for all that find meanwhile that their server is none. Answers whether
    /// one is known; `None` if that takes longer. The look goes on then.
    pub(super) async fn look(
        self: &Arc<Self>,
        timeouts: Timeouts,
        until: Instant,
        looking: impl Future<Output = bool> + Send + 'static,
    ) -> Option<bool> {
        let mut ended = pin!(self.ended.notified());
        // From here on it hears of the end.
        ended.as_mut().enable();
        if let Some(found) = self.known() {
            return Some(found);
        }
        if self.begins() {
            let under_way = UnderWay(Arc::clone(self));
            let limit = timeouts.connect.saturating_add(timeouts.command);
            tokio::spawn(async move {
                let found = timeout(limit, looking).await;
                under_way.end(found.unwrap_or(false));
            });
        }
        timeout_at(until, ended).await.ok()?;
        self.known()
    }

    /// What a look has found out a moment ago.
    fn known(&self) -> Option<bool> {
        match *lock(&self.last) {
            Look::Ended { at, found } if at.elapsed() < REST => Some(found),
            Look::Ended { .. } | Look::UnderWay | Look::Never => None,
        }
    }

    /// Whether nobody looks: then whoever has asked does.
    fn begins(&self) -> bool {
        let before = std::mem::replace(&mut *lock(&self.last), Look::UnderWay);
        !matches!(before, Look::UnderWay)
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

/// A look is under way. If its task is dropped with a runtime, it has found nothing.
struct UnderWay(Arc<Asking>);

impl UnderWay {
    fn end(&self, found: bool) {
        let at = Instant::now();
        *lock(&self.0.last) = Look::Ended { at, found };
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if matches!(*lock(&self.0.last), Look::UnderWay) {
            self.end(false);
        }
        self.0.ended.notify_waiters();
    }
}

/// Whether the server says that it is a replica. No permission is needed to ask, and nothing that holds
/// writes up holds this up.
pub(super) async fn is_replica(mut connection: MultiplexedConnection, timeouts: Timeouts) -> bool {
    let hello = redis::cmd("HELLO");
    let told = question(&mut connection, &hello, timeouts).await;
    told.is_ok_and(|told| role(&told) == Some("replica"))
}

/// Whether a server may be used in place of a replica. A proxy or an old server may not know its role, or
/// hang up at the question, but answers; a server that loads its data, or a proxy without a server, refuses to.
pub(super) async fn is_worth_leaving_for(
    mut connection: MultiplexedConnection,
    timeouts: Timeouts,
) -> bool {
    let answers = match question(&mut connection, &redis::cmd("PING"), timeouts).await {
        Ok(_) => true,
        // A hook of the application's pool may log in; or the user may not ping.
        Err(error) => matches!(error.code(), Some("NOAUTH" | "NOPERM")),
    };
    answers && !is_replica(connection, timeouts).await
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
