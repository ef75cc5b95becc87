//! SQLite.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    Error, Sqlite, SqlitePool,
    error::DatabaseError,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::{Instant, sleep};

use super::{
    Limits,
    database::{Database, Verdict, queries, verdict},
    schema::Place,
    statement::Param,
};

impl Database for Sqlite {
    const QUOTE: char = '"';
    const LEAST: &'static str = "MIN";
    const RETURNS: bool = true;
    const ROTATES_AT_ONCE: bool = false;
    // A transaction that reads first and then wants to write may find that it never can.
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const LOCAL: bool = true;
    const SWEEP: &'static str = "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} \
        WHERE expires <= :now ORDER BY expires LIMIT :batch)";

    fn placeholder(_: Param, _: usize) -> String {
        "?".to_owned()
    }

    fn tables(place: &Place) -> Vec<String> {
        let fill = |template: &str| place.fill(template, Self::QUOTE);
        vec![
            fill(
                "CREATE TABLE IF NOT EXISTS {table} (
    id            TEXT PRIMARY KEY NOT NULL,
    state         BLOB,
    revision      INTEGER,
    principal     TEXT,
    created       INTEGER NOT NULL,
    authenticated INTEGER,
    ttl           INTEGER,
    absolute_end  INTEGER,
    expires       INTEGER NOT NULL,
    moved_to      TEXT,
    moved_flag    TEXT,
    moved_at      INTEGER
)",
            ),
            fill("CREATE INDEX IF NOT EXISTS {schema.}{by_expires} ON {bare} (expires)"),
            fill(
                "CREATE INDEX IF NOT EXISTS {schema.}{by_principal} ON {bare} (principal) \
                 WHERE principal IS NOT NULL",
            ),
        ]
    }

    /// The transaction is the lock.
    async fn lock_for_migration(_: &mut SqliteConnection, _: &Place) -> Result<(), Error> {
        Ok(())
    }

    async fn unlock_after_migration(_: &mut SqliteConnection, _: &Place) -> Result<(), Error> {
        Ok(())
    }

    /// SQLite has no such lock; its sweepers wait for each other, batch by batch.
    async fn lock_for_sweep(_: &mut SqliteConnection, _: &Place) -> Result<bool, Error> {
        Ok(true)
    }

    async fn unlock_after_sweep(_: &mut SqliteConnection, _: &Place) -> Result<(), Error> {
        Ok(())
    }

    queries!();

    /// `SQLITE_BUSY` and `SQLITE_LOCKED` with their extended codes. What SQLite answers it knows.
    fn verdict(error: &dyn DatabaseError) -> Verdict {
        let code = error.code().and_then(|code| code.parse::<u32>().ok());
        match code.map(|code| code & 0xff) {
            Some(5 | 6) => Verdict::Again,
            _ => Verdict::Refused,
        }
    }
}

/// Opens a file, which is made where there is none.
///
/// `synchronous = NORMAL` under WAL: no crash of a process loses anything, and none of the machine
/// damages the file; a crash of the machine may undo what was acknowledged last.
pub(crate) async fn connect(url: &str, limits: &Limits) -> Result<SqlitePool, Error> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .busy_timeout(limits.command)
        .synchronous(SqliteSynchronous::Normal);
    let in_memory = url.contains(":memory:") || url.contains("mode=memory");
    let pool = SqlitePoolOptions::new()
        .max_connections(if in_memory { 1 } else { limits.connections })
        .acquire_timeout(limits.connect)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    turn_wal_on(&pool, limits.connect).await?;
    Ok(pool)
}

/// Kept in the file, once it is on. To turn it on takes a lock that no busy time-out waits for.
async fn turn_wal_on(pool: &SqlitePool, limit: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    loop {
        match sqlx::query("PRAGMA journal_mode = WAL").execute(pool).await {
            Err(error)
                if verdict::<Sqlite>(&error) == Verdict::Again && Instant::now() < deadline =>
            {
                sleep(Duration::from_millis(10)).await;
            }
            result => return result.map(drop),
        }
    }
}
