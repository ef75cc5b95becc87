//! The embedded database with the users.

use std::{path::Path, pin::Pin, time::Duration};

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

/// Opens the file, creates it if it is missing, and brings its schema up to date.
pub(crate) async fn open(file: &Path) -> Result<SqlitePool, sqlx::Error> {
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
