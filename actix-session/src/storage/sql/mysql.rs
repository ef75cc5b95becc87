//! MySQL and MariaDB.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    Connection as _, Error, MySql, MySqlPool,
    error::DatabaseError,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPoolOptions},
};

use super::{
    Limits,
    database::{Database, Verdict, queries},
    schema::Place,
    statement::Param,
};

/// How long a migration waits for another server's, in seconds.
const PATIENCE: i64 = 60;

impl Database for MySql {
    const QUOTE: char = '`';
    const LEAST: &'static str = "LEAST";
    // Neither has MySQL `RETURNING`, nor MariaDB for an update.
    const RETURNS: bool = false;
    const ROTATES_AT_ONCE: bool = false;
    const BEGIN: &'static str = "START TRANSACTION";
    const LOCAL: bool = false;
    const SWEEP: &'static str =
        "DELETE FROM {table} WHERE expires <= :now ORDER BY expires LIMIT :batch";

    fn placeholder(_: Param, _: usize) -> String {
        "?".to_owned()
    }

    /// One statement, since each of them is a transaction of its own here.
    fn tables(place: &Place) -> Vec<String> {
        let schema = place
            .schema()
            .map(|schema| format!("CREATE DATABASE IF NOT EXISTS `{schema}`"));
        let table = place.fill(
            "CREATE TABLE IF NOT EXISTS {table} (
    id            CHAR(43) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    state         LONGBLOB,
    revision      BIGINT,
    principal     VARBINARY(255),
    created       BIGINT NOT NULL,
    authenticated BIGINT,
    ttl           BIGINT,
    absolute_end  BIGINT,
    expires       BIGINT NOT NULL,
    moved_to      CHAR(43) CHARACTER SET ascii COLLATE ascii_bin,
    moved_flag    CHAR(1) CHARACTER SET ascii COLLATE ascii_bin,
    moved_at      BIGINT,
    INDEX {by_expires} (expires),
    INDEX {by_principal} (principal)
) ENGINE = InnoDB",
            Self::QUOTE,
        );
        schema.into_iter().chain([table]).collect()
    }

    async fn lock_for_migration(
        connection: &mut MySqlConnection,
        place: &Place,
    ) -> Result<(), Error> {
        let name = place.lock_name("migrate");
        let got = sqlx::query_scalar::<_, Option<i64>>("SELECT GET_LOCK(?, ?)")
            .bind(name)
            .bind(PATIENCE)
            .fetch_one(connection)
            .await?;
        match got {
            Some(1) => Ok(()),
            _ => Err(Error::PoolTimedOut),
        }
    }

    async fn unlock_after_migration(
        connection: &mut MySqlConnection,
        place: &Place,
    ) -> Result<(), Error> {
        release(connection, place, "migrate").await
    }

    async fn lock_for_sweep(
        connection: &mut MySqlConnection,
        place: &Place,
    ) -> Result<bool, Error> {
        let got = sqlx::query_scalar::<_, Option<i64>>("SELECT GET_LOCK(?, 0)")
            .bind(place.lock_name("sweep"))
            .fetch_one(connection)
            .await?;
        Ok(got == Some(1))
    }

    async fn unlock_after_sweep(
        connection: &mut MySqlConnection,
        place: &Place,
    ) -> Result<(), Error> {
        release(connection, place, "sweep").await
    }

    queries!();

    /// The server has a number for each; its SQLSTATEs are few.
    fn verdict(error: &dyn DatabaseError) -> Verdict {
        let number = error.try_downcast_ref::<MySqlDatabaseError>();
        match number.map(MySqlDatabaseError::number) {
            // Deadlock, lock wait time-out, changed since the snapshot, too many connections.
            Some(1213 | 1205 | 1020 | 1040 | 1203) => Verdict::Again,
            // Going down, the connection or the query killed, the outcome of a commit.
            Some(1053 | 1077 | 1079 | 1927 | 1317 | 1152 | 1158..=1161 | 1180) => Verdict::Lost,
            _ => Verdict::Refused,
        }
    }
}

async fn release(
    connection: &mut MySqlConnection,
    place: &Place,
    purpose: &str,
) -> Result<(), Error> {
    sqlx::query("DO RELEASE_LOCK(?)")
        .bind(place.lock_name(purpose))
        .execute(connection)
        .await
        .map(drop)
}

pub(crate) async fn connect(url: &str, limits: &Limits) -> Result<MySqlPool, Error> {
    let options = MySqlConnectOptions::from_str(url)?;
    MySqlPoolOptions::new()
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
