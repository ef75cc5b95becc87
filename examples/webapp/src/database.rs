//! The embedded database with the users.

use std::{path::Path, pin::Pin, time::Duration};

use actix_web::rt::time::sleep;
use sqlx::{
    SqlitePool,
    error::BoxDynError,
    migrate::{Migration, MigrationSource, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// The schema's history, in the binary. To change the schema, add a line; never edit one.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "users", include_str!("../migrations/0001_users.sql")),
    (2, "email", include_str!("../migrations/0002_email.sql")),
];

/// How long to wait before each further attempt, in milliseconds.
const PAUSES: [u64; 5] = [20, 50, 100, 200, 400];

/// Opens the file, creates it if it is missing, and brings its schema up to date.
///
/// SQLite has no lock for migrations, and none to wait for while a new file's journal is set. Of several
/// servers that start on one file, some fail at what another one does in that moment, and find it done
/// when they try again.
pub(crate) async fn open(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    for pause in PAUSES {
        match try_open(file).await {
            Err(sqlx::Error::Database(_) | sqlx::Error::Migrate(_)) => {
                sleep(Duration::from_millis(pause)).await;
            }
            opened => return opened,
        }
    }
    try_open(file).await
}

async fn try_open(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        // Readers and the writer do not wait for each other.
        .journal_mode(SqliteJournalMode::Wal)
        // A power cut may undo the last registration, but never damages the file.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(5));
    let pool = SqlitePoolOptions::new()
        .max_connections(4)
        .connect_with(options)
        .await?;
    Migrator::new(Embedded).await?.run(&pool).await?;
    Ok(pool)
}

#[derive(Debug)]
struct Embedded;

impl MigrationSource<'static> for Embedded {
    fn resolve(
        self,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Migration>, BoxDynError>> + Send + 'static>> {
        Box::pin(async { Ok(MIGRATIONS.iter().map(migration).collect()) })
    }
}

fn migration((version, description, sql): &(i64, &'static str, &'static str)) -> Migration {
    let kind = MigrationType::Simple;
    Migration::new(*version, (*description).into(), kind, (*sql).into(), false)
}

#[cfg(test)]
mod tests {
    use futures_util::future::try_join_all;

    use super::*;

    #[actix_web::test]
    async fn servers_that_start_together_share_a_new_file() {
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("users.sqlite3");
            let opened = try_join_all((0..4).map(|_| open(&file))).await.unwrap();
            for pool in opened {
                sqlx::query("SELECT email FROM users")
                    .execute(&pool)
                    .await
                    .unwrap();
                pool.close().await;
            }
        }
    }
}
