//! Opening a pool of the store's own, and asking why a pool gives no connection.

use std::{
    io,
    sync::{Arc, Mutex as StdMutex},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use sqlx::{ConnectOptions as _, Connection, Error, Pool, pool::PoolOptions};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    database::{Database, Limits, Verdict, verdict},
    failure::Failure,
};
use crate::sync::lock;

/// A connection that has been idle for longer gives a sign of life before it is used: a ping for
/// each request would double the round trips of a load.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// How long a connection is waited for before another one is begun.
const ANEW: Duration = Duration::from_millis(500);
/// How many of them may be under way.
const AT_ONCE: usize = 4;

/// The pool of a database server. Call this on the runtime where its connections are to live.
pub(crate) async fn connect_to_server<D: Database>(
    url: &str,
    limits: Limits,
) -> Result<Pool<D>, Error> {
    let options = D::adapted(D::options(url)?, &limits).await;
    let silence = Arc::new(Silence::default());
    let greeting = Greeting::of::<D>(&options, &limits);
    let greet = greeting.clone();
    let connected = PoolOptions::new()
        .max_connections(limits.connections)
        .acquire_timeout(limits.connect())
        .test_before_acquire(false)
        .after_connect(move |connection: &mut D::Connection, _| {
            let greet = greet.clone();
            Box::pin(async move { greet.give::<D>(connection).await })
        })
        .before_acquire(move |connection: &mut D::Connection, known| {
            let silence = Arc::clone(&silence);
            Box::pin(async move {
                if known.idle_for <= SHORT_PAUSE {
                    return Ok(true);
                }
                if silence.is_later_than(known.idle_for) {
                    return Ok(false);
                }
                Ok(silence.listen(limits.sign(), connection.ping()).await)
            })
        })
        .connect_with(options.clone())
        .await;
    match connected {
        Err(Error::PoolTimedOut) => Err(cause::<D>(&options, &greeting, limits.sign()).await),
        connected => connected,
    }
}

/// Why there is no connection: the pool has tried again and again, and tells only that.
async fn cause<D: Database>(
    options: &<D::Connection as Connection>::Options,
    greeting: &Greeting,
    limit: Duration,
) -> Error {
    match timeout(limit, greeting.to_new::<D>(options)).await {
        Ok(Err(error)) => error,
        Ok(Ok(_)) | Err(_) => Error::PoolTimedOut,
    }
}

/// What the store's own pools say first on each connection. A server or a proxy may refuse it.
#[derive(Debug, Clone)]
pub(crate) struct Greeting(Option<Arc<str>>);

impl Greeting {
    pub(crate) fn of<D: Database>(
        options: &<D::Connection as Connection>::Options,
        limits: &Limits,
    ) -> Self {
        Self(D::on_connect(limits, D::prepares(options)).map(Arc::from))
    }

    async fn give<D: Database>(&self, connection: &mut D::Connection) -> Result<(), Error> {
        if let Some(sql) = &self.0 {
            D::run(connection, sql).await?;
        }
        D::settle(connection).await
    }

    async fn to_new<D: Database>(
        &self,
        options: &<D::Connection as Connection>::Options,
    ) -> Result<D::Connection, Error> {
        let mut connection = options.connect().await?;
        self.give::<D>(&mut connection).await?;
        Ok(connection)
    }
}

/// When a connection last gave no sign of life. Those that have been idle since before that are as
/// dead: a firewall has forgotten them.
#[derive(Debug, Default)]
struct Silence(StdMutex<Option<Instant>>);

impl Silence {
    fn is_later_than(&self, idle_for: Duration) -> bool {
        lock(&self.0).is_some_and(|at| at.elapsed() < idle_for)
    }

    /// Waits for a sign of life, and says whether the connection is to be used. One that the server
    /// has closed is nothing to warn of.
    async fn listen(&self, limit: Duration, ping: impl Future<Output = Result<(), Error>>) -> bool {
        match timeout(limit, ping).await {
            Ok(answer) => answer.is_ok(),
            Err(_) => {
                *lock(&self.0) = Some(Instant::now());
                false
            }
        }
    }
}

/// What a server said to whoever connected: a pool that keeps trying does not tell.
pub(crate) type Welcome = Result<(), Arc<Error>>;

/// One request connects, to learn why there is no connection, for all that wait.
#[derive(Debug, Default)]
pub(crate) struct Inquiry {
    last: Mutex<Option<(Instant, Welcome)>>,
    /// What the pool says first, if it is the store's own.
    greeting: Option<Greeting>,
}

impl Inquiry {
    pub(crate) fn new(greeting: Option<Greeting>) -> Self {
        Self {
            last: Mutex::default(),
            greeting,
        }
    }

    /// Asks, unless somebody has asked since.
    pub(crate) async fn ask<D: Database>(&self, pool: &Pool<D>, since: Instant) -> Welcome {
        let mut last = self.last.lock().await;
        if let Some((at, welcome)) = &*last
            && *at > since
        {
            return welcome.clone();
        }
        let welcome = match self.connect::<D>(&pool.connect_options()).await {
            // Whether it takes leave does not matter.
            Ok(connection) => connection.close().await.or(Ok(())),
            Err(error) => Err(Arc::new(error)),
        };
        *last = Some((Instant::now(), welcome.clone()));
        welcome
    }

    /// Begins once more beside a connection that is not answered: it may have gone where nobody is any more.
    async fn connect<D: Database>(
        &self,
        options: &<D::Connection as Connection>::Options,
    ) -> Result<D::Connection, Error> {
        let connect = || async {
            match &self.greeting {
                Some(greeting) => greeting.to_new::<D>(options).await,
                None => options.connect().await,
            }
        };
        let mut begun = FuturesUnordered::new();
        loop {
            if begun.len() < AT_ONCE {
                begun.push(connect());
            }
            if let Ok(Some(connected)) = timeout(ANEW, begun.next()).await {
                return connected;
            }
        }
    }
}

pub(crate) fn no_connection<D: Database>(error: impl Into<Arc<Error>>) -> Failure {
    let error = error.into();
    let verdict = without_connection::<D>(&error);
    Failure::with::<D>(error, verdict)
}

/// Whether the server allows no further connection for now, or hung up while one was opened; so may
/// what lies before it.
pub(crate) fn is_worth_another<D: Database>(error: &Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};

    let kinds = [
        BrokenPipe,
        ConnectionAborted,
        ConnectionReset,
        UnexpectedEof,
    ];
    let broke = match error {
        Error::Io(error) => kinds.contains(&error.kind()),
        error => hung_up_before_tls(error),
    };
    broke || without_connection::<D>(error) == Verdict::Again
}

/// PostgreSQL's answer to the wish for TLS is one byte. `sqlx` takes none at all for a zero.
fn hung_up_before_tls(error: &Error) -> bool {
    let none = "unexpected response from SSLRequest: 0x00";
    matches!(error, Error::Protocol(words) if words.starts_with(none))
}

/// Without a connection, nothing was done.
fn without_connection<D: Database>(error: &Error) -> Verdict {
    match verdict::<D>(error) {
        Verdict::Again | Verdict::NotHere | Verdict::ReadOnly => Verdict::Again,
        Verdict::Refused | Verdict::NoTable | Verdict::Lost => Verdict::Refused,
    }
}

/// Why no connection came in time.
pub(crate) fn none_in_time<D: Database>(welcome: Option<&Welcome>) -> Failure {
    match welcome {
        Some(Err(error)) => Failure {
            late: true,
            ..Failure::with::<D>(Arc::clone(error), without_connection::<D>(error))
        },
        None if !D::LOCAL => Failure::late("connecting", Verdict::Refused),
        _ => Failure::late("all connections are in use", Verdict::Again),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `sqlx` speaks TLS is the whole program's choice. Where it does, as in a test of the
    /// workspace, `sql_left_behind` meets these words.
    #[test]
    fn whoever_hangs_up_before_tls_is_tried_again() {
        let words = |byte| {
            let words = format!("unexpected response from SSLRequest: {byte} (sqlx_postgres:1)");
            Error::Protocol(words)
        };
        assert!(hung_up_before_tls(&words("0x00")));
        assert!(!hung_up_before_tls(&words("0x48")), "it is no PostgreSQL");
    }

    #[tokio::test]
    async fn one_silence_condemns_what_has_been_idle_for_longer() {
        let silence = Silence::default();
        let day = Duration::from_secs(86_400);
        assert!(!silence.is_later_than(day));
        let limit = Duration::from_millis(1);
        let heard = silence.listen(limit, std::future::pending()).await;
        assert!(!heard);
        assert!(silence.is_later_than(day));
        assert!(
            !silence.is_later_than(Duration::ZERO),
            "it was in use since"
        );
        assert!(silence.listen(day, async { Ok(()) }).await);
        let broken = async { Err(Error::PoolClosed) };
        assert!(!silence.listen(day, broken).await);
    }
}
