//! PostgreSQL.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    Connection as _, Error, PgPool, Postgres,
    error::DatabaseError,
    postgres::{PgConnectOptions, PgConnection, PgPoolOptions},
};

use super::{
    Limits,
    database::{Database, Verdict, is_one_of, queries},
    schema::Place,
    statement::{Param, Value},
};

/// Serialization failure, deadlock, lock not available, too many connections at this moment.
const AGAIN: [&str; 4] = ["40001", "40P01", "55P03", "53300"];
/// The server is going down, has crashed or is starting.
const LOST: [&str; 6] = ["57P01", "57P02", "57P03", "57P05", "08006", "40003"];

impl Database for Postgres {
    const QUOTE: char = '"';
    const LEAST: &'static str = "LEAST";
    const RETURNS: bool = true;
    const ROTATES_AT_ONCE: bool = true;
    const BEGIN: &'static str = "BEGIN";
    const LOCAL: bool = false;
    // One server's batch at a time, without waiting; rows that a request holds are left for later.
    const SWEEP: &'static str = "DELETE FROM {table} WHERE expires <= :now AND id IN (\
        SELECT id FROM {table} WHERE expires <= :now ORDER BY expires LIMIT :batch \
        FOR UPDATE SKIP LOCKED)";

    fn placeholder(param: Param, number: usize) -> String {
        let kind = match param.kind() {
            Value::Text(_) => "text",
            Value::Int(_) => "bigint",
            Value::Bytes(_) => "bytea",
        };
        format!("${number}::{kind}")
    }

    fn tables(place: &Place) -> Vec<String> {
        let fill = |template: &str| place.fill(template, Self::QUOTE);
        let schema = place
            .schema()
            .map(|schema| format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""));
        let own = [
            // Room in each page, since every commit is a new version of its row.
            fill(
                "CREATE TABLE IF NOT EXISTS {table} (
    id            TEXT COLLATE \"C\" PRIMARY KEY,
    state         BYTEA,
    revision      BIGINT,
    principal     TEXT COLLATE \"C\",
    created       BIGINT NOT NULL,
    authenticated BIGINT,
    ttl           BIGINT,
    absolute_end  BIGINT,
    expires       BIGINT NOT NULL,
    moved_to      TEXT,
    moved_flag    TEXT,
    moved_at      BIGINT
) WITH (fillfactor = 85)",
            ),
            fill("CREATE INDEX IF NOT EXISTS {by_expires} ON {table} (expires)"),
            fill(
                "CREATE INDEX IF NOT EXISTS {by_principal} ON {table} (principal) \
                 WHERE principal IS NOT NULL",
            ),
        ];
        schema.into_iter().chain(own).collect()
    }

    /// Held until the transaction ends.
    async fn lock_for_migration(connection: &mut PgConnection, place: &Place) -> Result<(), Error> {
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(place.lock("migrate"))
            .execute(connection)
            .await
            .map(drop)
    }

    async fn unlock_after_migration(_: &mut PgConnection, _: &Place) -> Result<(), Error> {
        Ok(())
    }

    async fn lock_for_sweep(connection: &mut PgConnection, place: &Place) -> Result<bool, Error> {
        sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(place.lock("sweep"))
            .fetch_one(connection)
            .await
    }

    async fn unlock_after_sweep(connection: &mut PgConnection, place: &Place) -> Result<(), Error> {
        sqlx::query("SELECT pg_advisory_unlock($1)")
            .bind(place.lock("sweep"))
            .execute(connection)
            .await
            .map(drop)
    }

    queries!();

    fn verdict(error: &dyn DatabaseError) -> Verdict {
        let code = error.code();
        if is_one_of(code.as_ref(), &AGAIN) {
            Verdict::Again
        } else if is_one_of(code.as_ref(), &LOST) {
            Verdict::Lost
        } else {
            Verdict::Refused
        }
    }
}

pub(crate) async fn connect(url: &str, limits: &Limits) -> Result<PgPool, Error> {
    let options = PgConnectOptions::from_str(url)?;
    PgPoolOptions::new()
        .max_connections(limits.connections)
        .acquire_timeout(limits.connect)
        .test_before_acquire(false)
        .before_acquire(|connection, known| {
            Box::pin(async move {
                // Asked only after a pause: a round trip for each request would be half of it.
                if known.idle_for > Duration::from_secs(1) {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options)
        .await
}
