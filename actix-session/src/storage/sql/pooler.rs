//! Poolers that give each transaction another connection to PostgreSQL, such as PgBouncer with
//! `pool_mode = transaction`.
//!
//! What is prepared for one statement is met there by the next, or by somebody else's: with luck as
//! an error, else as the wrong statement.

use std::time::Duration;

use futures_util::future::join;
use sqlx::{
    ConnectOptions as _, Connection as _, Error, Executor as _, Postgres, Row as _,
    postgres::{PgConnectOptions, PgConnection, PgDatabaseError},
};
use tokio::time::{sleep, timeout};

use super::database::{Verdict, verdict};

/// How often both connections are asked: between the questions, others may use the pooler too.
const QUESTIONS: usize = 3;

/// How long to wait before the server is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// What to change in a pool whose connections go through such a pooler.
pub(super) const POOL_MUST_CHANGE: &str = "the pool's connections go through a pooler that gives each transaction another connection to \
     PostgreSQL, where prepared statements meet those of others: give its connect options \
     `statement_cache_capacity(0)`, `disable_statement_logging()` and `extra_float_digits(None)`, or \
     let the store make the pool";

/// What to change if statements have met others.
pub(super) const MEETS_OTHERS: &str = "the prepared statements of this connection are not those of the server's: if a pooler in \
     transaction mode lies between (PgBouncer, for instance), turn the cache of statements off, by \
     `?statement-cache-capacity=0` in the URL or `statement_cache_capacity(0)` in the pool's connect \
     options";

/// What a look for such a pooler has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    Nothing,
    Pooler,
    /// There is one connection to be had, which does not tell.
    Unknown,
}

/// Whether such a pooler is there. `None` if nobody tells in time.
pub(super) async fn lies_between(options: &PgConnectOptions, limit: Duration) -> Option<Between> {
    let asking = async |one: &mut PgConnection, two: Option<&mut PgConnection>| {
        let (is_pooled, otherwise) = match two {
            Some(two) => (share(one, two).await?, Between::Nothing),
            None => (changes(one).await?, Between::Unknown),
        };
        Ok(if is_pooled {
            Between::Pooler
        } else {
            otherwise
        })
    };
    ask(options, limit, asking).await
}

/// Whether such a pooler is there, and does not keep prepared statements apart. `false` if nobody
/// tells in time.
pub(super) async fn mixes_statements(options: &PgConnectOptions, limit: Duration) -> bool {
    let asking = async |one: &mut PgConnection, two: Option<&mut PgConnection>| match two {
        Some(two) => Ok(share(one, two).await? && mix(one, two).await),
        // Whoever meets others is told by the first error.
        None => Ok(false),
    };
    ask(options, limit, asking).await.unwrap_or(false)
}

/// Whether the server has taken one prepared statement for another, or misses it.
pub(super) fn has_met_others(error: &PgDatabaseError) -> bool {
    match error.code() {
        "26000" | "42P05" => true,
        // PgBouncer itself, or values for another statement.
        "08P01" => error.message().contains("prepared statement"),
        _ => false,
    }
}

/// Asks two connections, or one if the server has no other to spare.
async fn ask<T>(
    options: &PgConnectOptions,
    limit: Duration,
    question: impl AsyncFnOnce(&mut PgConnection, Option<&mut PgConnection>) -> Result<T, Error>,
) -> Option<T> {
    let asking = async {
        let (one, two) = join(options.connect(), options.connect()).await;
        let (mut one, mut two) = match (one, two) {
            (Ok(one), two) | (two, Ok(one)) => (one, two.ok()),
            // Where there is one to be had, the server may have refused each for the other. It may start, too.
            (Err(_), Err(_)) => (at_last(options).await?, options.connect().await.ok()),
        };
        let answer = question(&mut one, two.as_mut()).await?;
        Ok::<_, Error>((answer, one, two))
    };
    let (answer, one, two) = timeout(limit, asking).await.ok()?.ok()?;
    let close = async |connection: Option<PgConnection>| match connection {
        Some(connection) => connection.close().await,
        None => Ok(()),
    };
    // Whether they take leave does not matter.
    let _ = timeout(limit, join(close(Some(one)), close(two))).await;
    Some(answer)
}

/// A connection, once one is to be had.
async fn at_last(options: &PgConnectOptions) -> Result<PgConnection, Error> {
    loop {
        match options.connect().await {
            Err(error) if passes(&error) => sleep(PAUSE).await,
            connected => return connected,
        }
    }
}

/// Whether nobody answers yet, or somebody else has the only connection.
fn passes(error: &Error) -> bool {
    let verdict = verdict::<Postgres>(error);
    matches!(error, Error::Io(_)) || verdict == Verdict::Again || verdict.is_about_server()
}

/// Whether one connection leads to several processes of the server.
async fn changes(one: &mut PgConnection) -> Result<bool, Error> {
    let first = process(one).await?;
    for _ in 0..QUESTIONS {
        if process(one).await? != first {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether two connections lead to one process of the server, or one of them to several: one that takes
/// turns is told by two questions in a row.
async fn share(one: &mut PgConnection, two: &mut PgConnection) -> Result<bool, Error> {
    let first = process(one).await?;
    for _ in 0..QUESTIONS {
        if process(one).await? != first {
            return Ok(true);
        }
        let other = process(two).await?;
        if other == first || process(two).await? != other {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The server's process behind a connection. Nothing is prepared for that.
async fn process(connection: &mut PgConnection) -> Result<i32, Error> {
    connection
        .fetch_one("SELECT pg_backend_pid()")
        .await?
        .try_get(0)
}

/// Whether the first statements of two connections, which have one name, meet.
async fn mix(one: &mut PgConnection, two: &mut PgConnection) -> bool {
    for _ in 0..QUESTIONS {
        if meets_others(one, "SELECT $1::bigint", 1).await
            || meets_others(two, "SELECT $1::bigint + 1", 2).await
        {
            return true;
        }
    }
    false
}

async fn meets_others(connection: &mut PgConnection, sql: &str, wanted: i64) -> bool {
    for _ in 0..2 {
        let has_met = match number(connection, sql).await {
            Ok(number) => number != wanted,
            Err(error) => is_mixed(&error),
        };
        if has_met {
            // It would stay at the server, for others to meet.
            let _ = connection.execute("DEALLOCATE ALL").await;
            return true;
        }
    }
    false
}

async fn number(connection: &mut PgConnection, sql: &str) -> Result<i64, Error> {
    let asked = sqlx::query(sql).bind(1_i64).fetch_one(connection).await?;
    asked.try_get(0)
}

fn is_mixed(error: &Error) -> bool {
    let told = error.as_database_error();
    let told = told.and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    told.is_some_and(has_met_others)
}
