//! Poolers that give each transaction another connection to PostgreSQL, such as PgBouncer with
//! `pool_mode = transaction`.
//!
//! What is prepared for one statement is met there by the next, or by somebody else's: with luck as
//! an error, else as the wrong statement.

use std::time::Duration;

use futures_util::future::{join, try_join};
use sqlx::{
    ConnectOptions as _, Connection as _, Error, Executor as _, Row as _,
    postgres::{PgConnectOptions, PgConnection, PgDatabaseError},
};
use tokio::time::timeout;

/// How often both connections are asked: between the questions, others may use the pooler too.
const QUESTIONS: usize = 3;

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

/// Whether such a pooler is there. `None` if nobody tells in time.
pub(super) async fn lies_between(options: &PgConnectOptions, limit: Duration) -> Option<bool> {
    ask(options, limit, share).await
}

/// Whether such a pooler is there, and does not keep prepared statements apart. `false` if nobody
/// tells in time.
pub(super) async fn mixes_statements(options: &PgConnectOptions, limit: Duration) -> bool {
    let asking = async |one: &mut PgConnection, two: &mut PgConnection| {
        Ok(share(one, two).await? && mix(one, two).await)
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

async fn ask(
    options: &PgConnectOptions,
    limit: Duration,
    question: impl AsyncFnOnce(&mut PgConnection, &mut PgConnection) -> Result<bool, Error>,
) -> Option<bool> {
    let asking = async {
        let (mut one, mut two) = try_join(options.connect(), options.connect()).await?;
        let answer = question(&mut one, &mut two).await?;
        Ok::<_, Error>((answer, one, two))
    };
    let (answer, one, two) = timeout(limit, asking).await.ok()?.ok()?;
    // Whether they take leave does not matter.
    let _ = timeout(limit, join(one.close(), two.close())).await;
    Some(answer)
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
