//! SQLite.

use std::{io, path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    Error, Sqlite, SqlitePool,
    error::DatabaseError,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::{Instant, sleep};

use super::{
    database::{Database, Limits, Part, SqlDatabase, Verdict, queries, verdict},
    statement::Param,
    store::{SqlSessionStore, SqlSessionStoreBuilder},
    table::Table,
};

/// Keeps sessions in an SQLite file: for one server, with nothing to install. Sessions survive a
/// restart.
///
/// A commit and an ending are one statement each, a renewal is one transaction. Reads never wait
/// for writes (WAL). Writers of one store wait in line, so that none starves; writers of other
/// processes wait for each other up to [`command_timeout`].
///
/// With [`new`], the file is in WAL mode under `synchronous = NORMAL`. If the process is killed,
/// nothing is lost. If the whole machine crashes, what was acknowledged last may be undone, even an
/// ending. If that is not acceptable, pass a pool with `synchronous = FULL`.
///
/// The table holds digests of session keys: nobody can use a session by reading it or a copy of it.
///
/// The URL looks like `sqlite://sessions.sqlite3`. The file must be on a local disk, not on NFS, SMB or 9p.
///
/// [`new`]: SqlSessionStore::new
/// [`command_timeout`]: SqlSessionStoreBuilder::command_timeout
///
/// # Examples
/// ```no_run
/// use actix_session::{SessionMiddleware, storage::SqliteSessionStore};
/// use actix_web::{App, HttpServer, cookie::Key};
///
/// # async fn run() -> anyhow::Result<()> {
/// let store = SqliteSessionStore::new("sqlite://sessions.sqlite3").await?;
/// let secret_key = Key::generate();
///
/// HttpServer::new(move || {
///     App::new().wrap(SessionMiddleware::new(store.clone(), secret_key.clone()))
/// })
/// .bind(("127.0.0.1", 8080))?
/// .run()
/// .await?;
/// # Ok(())
/// # }
/// ```
pub type SqliteSessionStore = SqlSessionStore<Sqlite>;

/// Sets up an [`SqliteSessionStore`].
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use actix_session::storage::SqliteSessionStore;
///
/// # async fn run() -> anyhow::Result<()> {
/// let store = SqliteSessionStore::builder("sqlite://sessions.sqlite3")
///     .table("web_sessions")
///     .command_timeout(Duration::from_millis(500))
///     .build()
///     .await?;
/// # let _ = store; Ok(())
/// # }
/// ```
pub type SqliteSessionStoreBuilder = SqlSessionStoreBuilder<Sqlite>;

/// SQLite counts milliseconds in 32 bits.
const MAX_WAIT: Duration = Duration::from_secs(86_400);

const NO_FILE: &str = "the URL names no file: each connection would have an empty database of its own \
     (for one that ends with the store, write `sqlite::memory:`)";

const NOT_LOCAL: &str = "SQLite could not read, write or lock its files: the disk is broken, or they are \
     not on a local disk of this machine (SQLite cannot rely on NFS, SMB and 9p)";

const NOT_BEFORE: &str = "CREATE TABLE IF NOT EXISTS {not_before} (
    principal TEXT PRIMARY KEY NOT NULL,
    ended_at  INTEGER NOT NULL,
    spared    BLOB,
    expires   INTEGER NOT NULL
)";

/// Of a table: the column, and how to make it.
const INDEXES: [(&str, &str, &str); 3] = [
    (
        "{name}",
        "expires",
        "CREATE INDEX IF NOT EXISTS {schema.}{by_expires} ON {bare} (expires)",
    ),
    (
        "{name}",
        "principal",
        "CREATE INDEX IF NOT EXISTS {schema.}{by_principal} ON {bare} (principal) \
         WHERE principal IS NOT NULL",
    ),
    (
        "{name}_not_before",
        "expires",
        "CREATE INDEX IF NOT EXISTS {schema.}{marks_by_end} ON {bare_not_before} (expires)",
    ),
];

impl SqlDatabase for Sqlite {}

impl Database for Sqlite {
    const UNICODE: bool = true;
    const URL: &'static str = "sqlite://sessions.sqlite3";
    const QUOTE: char = '"';
    const LEAST: &'static str = "MIN";
    const GREATEST: &'static str = "MAX";
    const FIND: &'static str = "instr({whole}, {part})";
    const RETURNS: bool = true;
    const ROTATES_AT_ONCE: bool = false;
    // A transaction that reads first and writes later may never get the write lock.
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const LOCAL: bool = true;
    // Whoever edits a row by hand leaves a text there, which equals no bytes.
    const STATE: &'static str = "CAST(state AS BLOB)";
    // For the same reason there may be no number, which would be later than every other: it is as old as
    // can be.
    const LOGIN: &'static str = "CASE typeof(COALESCE(logged_in, authenticated, created)) \
        WHEN 'integer' THEN COALESCE(logged_in, authenticated, created) ELSE 0 END";
    const SWEEP: &'static str = "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} \
        WHERE expires <= :now ORDER BY expires LIMIT :batch)";

    fn placeholder(_: Param, _: usize) -> String {
        "?".to_owned()
    }

    fn parts(table: &Table) -> Vec<Part> {
        let part = |create: &str| Part {
            create: table.fill(create, Self::QUOTE),
            look: None,
        };
        let table_itself = part(
            "CREATE TABLE IF NOT EXISTS {table} (
    id            TEXT PRIMARY KEY NOT NULL,
    state         BLOB,
    revision      INTEGER,
    epoch         INTEGER,
    session_id    BLOB,
    principal     TEXT,
    created       INTEGER NOT NULL,
    logged_in     INTEGER,
    authenticated INTEGER,
    ttl           INTEGER,
    absolute_end  INTEGER,
    expires       INTEGER NOT NULL,
    moved_to      TEXT,
    moved_flag    TEXT,
    moved_at      INTEGER
)",
        );
        let tables = [table_itself, part(NOT_BEFORE)];
        tables.into_iter().chain(Self::indexes(table)).collect()
    }

    fn indexes(table: &Table) -> Vec<Part> {
        let schema = table.schema().map(|schema| format!(", '{schema}'"));
        let schema = schema.unwrap_or_default();
        let part = |(table_name, column, create): (&str, &str, &str)| {
            let look = format!(
                "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM pragma_table_info('{table_name}'{schema})) \
                 OR EXISTS (SELECT 1 FROM pragma_index_list('{table_name}'{schema}) AS list, \
                 pragma_index_info(list.name{schema}) AS info \
                 WHERE info.seqno = 0 AND info.name = '{column}')"
            );
            Part {
                create: table.fill(create, Self::QUOTE),
                look: Some(table.fill(&look, Self::QUOTE)),
            }
        };
        INDEXES.map(part).into()
    }

    fn later_columns(table: &Table) -> Vec<Part> {
        let schema = table.schema().map(|schema| format!(", '{schema}'"));
        let columns = format!(
            "SELECT 1 FROM pragma_table_info('{}'{})",
            table.name(),
            schema.unwrap_or_default(),
        );
        let part = |(column, kind): (&str, &str)| Part {
            create: table.fill(
                &format!("ALTER TABLE {{table}} ADD COLUMN {column} {kind}"),
                Self::QUOTE,
            ),
            look: Some(format!(
                "SELECT 1 WHERE NOT EXISTS ({columns}) \
                 OR EXISTS ({columns} WHERE name = '{column}')"
            )),
        };
        [("session_id", "BLOB"), ("logged_in", "INTEGER")]
            .map(part)
            .into()
    }

    fn verdict(error: &dyn DatabaseError) -> Verdict {
        match code(error).map(|code| (code, code & 0xff)) {
            // `SQLITE_BUSY` and `SQLITE_LOCKED`, with their extended codes.
            Some((_, 5 | 6)) => Verdict::Again,
            // `SQLITE_ERROR`: SQLite has no code of its own for a missing table, and the rest of a
            // statement is right.
            Some((1, _)) => Verdict::NoTable,
            _ => Verdict::Refused,
        }
    }

    fn hint(error: &dyn DatabaseError) -> Option<&'static str> {
        hint_for(code(error)?)
    }

    /// SQLite takes a URL without a file for a temporary one, which no other connection sees.
    fn options(url: &str) -> Result<SqliteConnectOptions, Error> {
        let options = SqliteConnectOptions::from_str(url)?;
        if options.get_filename().as_os_str().is_empty() && !is_in_memory(url) {
            return Err(Error::Configuration(NO_FILE.into()));
        }
        Ok(options)
    }

    /// Opens a file, and creates it if it is missing.
    ///
    /// With WAL and `synchronous = NORMAL`, a crash of the process loses nothing. A crash of the
    /// machine may undo the last commits, but does not damage the file.
    async fn connect(url: &str, limits: &Limits) -> Result<SqlitePool, Error> {
        let options = Self::options(url)?
            .create_if_missing(true)
            .busy_timeout(limits.command.min(MAX_WAIT))
            .synchronous(SqliteSynchronous::Normal);
        let file = options.get_filename().to_owned();
        let connections = match is_in_memory(url) {
            true => 1,
            false => limits.connections,
        };
        let pool = SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(limits.connect())
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(|error| or_missing_folder(&file, error))?;
        warn_unless_wal(&turn_on_wal(&pool, limits.connect).await?);
        Ok(pool)
    }

    async fn wait_at_most(
        connection: &mut SqliteConnection,
        limit: Duration,
    ) -> Result<Option<Duration>, Error> {
        let present = sqlx::query_scalar::<_, i64>("PRAGMA busy_timeout");
        let present = present.fetch_one(&mut *connection).await?;
        let before = Duration::from_millis(present.unsigned_abs());
        if before <= limit {
            return Ok(None);
        }
        Self::wait_again(connection, limit).await?;
        Ok(Some(before))
    }

    async fn wait_again(connection: &mut SqliteConnection, limit: Duration) -> Result<(), Error> {
        let limit = limit.as_millis();
        Self::run(connection, &format!("PRAGMA busy_timeout = {limit}")).await
    }

    /// The transaction is the lock.
    async fn lock_for_migration(_: &mut SqliteConnection, _: &Table) -> Result<(), Error> {
        Ok(())
    }

    async fn unlock_after_migration(_: &mut SqliteConnection, _: &Table) -> Result<(), Error> {
        Ok(())
    }

    /// SQLite has no such lock: sweepers wait for each other, batch by batch.
    async fn lock_for_sweep(_: &mut SqliteConnection, _: &Table) -> Result<bool, Error> {
        Ok(true)
    }

    async fn unlock_after_sweep(_: &mut SqliteConnection, _: &Table) -> Result<(), Error> {
        Ok(())
    }

    queries!();
}

fn code(error: &dyn DatabaseError) -> Option<u32> {
    error.code()?.parse().ok()
}

/// `SQLITE_IOERR` and `SQLITE_PROTOCOL`, with their extended codes: what file systems without shared memory
/// or locks come to.
fn hint_for(code: u32) -> Option<&'static str> {
    matches!(code & 0xff, 10 | 15).then_some(NOT_LOCAL)
}

/// Its content ends with its only connection.
fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}

/// SQLite itself says only that it cannot open the file.
fn or_missing_folder(file: &Path, error: Error) -> Error {
    let named = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let Some(folder) = named.filter(|folder| !folder.exists()) else {
        return error;
    };
    let told = format!(
        "the folder {} does not exist: create it, or name another file in the URL",
        folder.display()
    );
    Error::Io(io::Error::new(io::ErrorKind::NotFound, told))
}

/// The file stays in WAL mode. SQLite's busy timeout does not wait for the lock that this takes. If WAL is
/// impossible, that is no error: the answer is the mode that the file has.
async fn turn_on_wal(pool: &SqlitePool, limit: Duration) -> Result<String, Error> {
    let deadline = crate::clock::deadline(limit);
    loop {
        let mode = sqlx::query_scalar("PRAGMA journal_mode = WAL");
        match mode.fetch_one(pool).await {
            Err(error)
                if verdict::<Sqlite>(&error) == Verdict::Again && Instant::now() < deadline =>
            {
                sleep(Duration::from_millis(10)).await;
            }
            mode => return mode,
        }
    }
}

fn warn_unless_wal(mode: &str) {
    if !["wal", "memory"].contains(&mode) {
        tracing::warn!(
            mode,
            "SQLite cannot turn on WAL for the sessions, since the file system has no shared memory: reads and \
             writes wait for each other, and a crash of the machine may damage the file. Put the file on a \
             local disk of this machine, not on NFS, SMB or 9p"
        );
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;
    use crate::lines::Lines;

    /// SQLite's own ways to a file without shared memory stand for file systems that have none.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_cannot_have_wal_is_warned_of_once() {
        let folder = tempfile::tempdir().unwrap();
        for (number, way, warned, mode) in [
            (1, "", 0, "wal"),
            (2, "?vfs=unix-none", 1, "delete"),
            (3, "?vfs=unix-dotfile", 1, "delete"),
        ] {
            let lines = Lines::default();
            let here = tracing::subscriber::set_default(lines.clone());
            let url = format!("sqlite://{}/{number}.sqlite3{way}", folder.path().display());
            let pool = Sqlite::connect(&url, &Limits::default()).await.unwrap();
            drop(here);
            assert_eq!(lines.count(Level::WARN), warned, "{way}");
            let present = sqlx::query_scalar::<_, String>("PRAGMA journal_mode");
            assert_eq!(present.fetch_one(&pool).await.unwrap(), mode, "{way}");
            pool.close().await;
        }
    }

    #[tokio::test]
    async fn a_database_in_memory_needs_no_wal() {
        for url in ["sqlite::memory:", "sqlite://?mode=memory"] {
            let lines = Lines::default();
            let _here = tracing::subscriber::set_default(lines.clone());
            SqliteSessionStore::new(url).await.unwrap();
            let pool = Sqlite::connect(url, &Limits::default()).await.unwrap();
            assert_eq!(lines.count(Level::WARN), 0, "{url}");
            assert_eq!(pool.options().get_max_connections(), 1, "{url}");
        }
    }

    #[tokio::test]
    async fn a_url_names_a_file_or_memory() {
        for url in ["sqlite:", "sqlite://", "sqlite://?mode=rwc"] {
            assert!(SqliteSessionStore::parse(url).is_err(), "{url}");
            let error = SqliteSessionStore::new(url).await.unwrap_err();
            let told = format!("{error:#}");
            assert!(told.contains("names no file"), "{told}");
            assert!(told.contains("sqlite::memory:"), "{told}");
        }
    }

    #[test]
    fn errors_of_file_systems_are_explained() {
        // `SQLITE_IOERR_SHMMAP` and `SQLITE_IOERR_LOCK` among them.
        for code in [10, 15, 10 | 21 << 8, 10 | 15 << 8] {
            assert!(hint_for(code).is_some(), "{code}");
        }
        for code in [1, 5, 6, 11, 13, 14, 8 | 10 << 8] {
            assert!(hint_for(code).is_none(), "{code}");
        }
    }
}
