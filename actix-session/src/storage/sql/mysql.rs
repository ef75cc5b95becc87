//! MySQL and MariaDB.

use std::time::Duration;

use sqlx::{
    Error, MySql, MySqlPool,
    error::DatabaseError,
    mysql::{MySqlConnection, MySqlDatabaseError},
};

use super::{
    connect::connect_to_server,
    database::{Database, Limits, Part, SqlDatabase, Verdict, queries},
    statement::Param,
    store::{SqlSessionStore, SqlSessionStoreBuilder},
    table::Table,
};

/// How long a statement waits for a lock.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// How long a migration waits for another server's, in seconds.
const LOCK_TIMEOUT: i64 = 60;

/// Keeps sessions in MariaDB (10.5 or newer) or MySQL (8.0 or newer).
///
/// A commit and an ending are one statement and one round trip each. A renewal is a transaction of
/// four round trips. A load is one round trip, or two if it extends the record, since an update
/// returns no row here. After a deadlock, the store tries again; the client does not notice.
///
/// The table holds digests of session keys: nobody can use a session by reading it or a dump of it.
/// The promotion of an asynchronous replica may bring an ended session back; so may a crash if
/// `innodb_flush_log_at_trx_commit` is not 1.
///
/// The URL looks like `mysql://user:password@localhost/app`.
///
/// # TLS
/// Turn on one of `sqlx`'s features, such as `tls-rustls-ring-native-roots`, in the application, and
/// write `?ssl-mode=VERIFY_IDENTITY` in the URL. Without a feature, everything goes over the network in
/// plain text, and a URL that requires TLS is an error.
///
/// # Examples
/// ```no_run
/// use actix_session::{SessionMiddleware, storage::MySqlSessionStore};
/// use actix_web::{App, HttpServer, cookie::Key};
///
/// # async fn run() -> anyhow::Result<()> {
/// let store = MySqlSessionStore::new("mysql://user:password@localhost/app").await?;
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
pub type MySqlSessionStore = SqlSessionStore<MySql>;

/// Sets up a [`MySqlSessionStore`].
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use actix_session::storage::MySqlSessionStore;
///
/// # async fn run() -> anyhow::Result<()> {
/// let store = MySqlSessionStore::builder("mysql://user:password@localhost/app")
///     .table("web_sessions")
///     .command_timeout(Duration::from_millis(500))
///     .build()
///     .await?;
/// # let _ = store; Ok(())
/// # }
/// ```
pub type MySqlSessionStoreBuilder = SqlSessionStoreBuilder<MySql>;

const NOT_BEFORE: &str = "CREATE TABLE IF NOT EXISTS {not_before} (
    principal VARBINARY(255) NOT NULL PRIMARY KEY,
    ended_at  BIGINT NOT NULL,
    spared    LONGBLOB,
    expires   BIGINT NOT NULL,
    INDEX {marks_by_end} (expires)
) ENGINE = InnoDB";

/// Of a table that is there without them: the column, and how to make it.
const INDEXES: [(&str, &str, &str); 3] = [
    (
        "{name}",
        "expires",
        "CREATE INDEX {by_expires} ON {table} (expires)",
    ),
    (
        "{name}",
        "principal",
        "CREATE INDEX {by_principal} ON {table} (principal)",
    ),
    (
        "{name}_not_before",
        "expires",
        "CREATE INDEX {marks_by_end} ON {not_before} (expires)",
    ),
];

impl SqlDatabase for MySql {}

impl Database for MySql {
    const UNICODE: bool = false;
    const URL: &'static str = "mysql://user:password@localhost/app";
    const QUOTE: char = '`';
    const LEAST: &'static str = "LEAST";
    const GREATEST: &'static str = "GREATEST";
    const FIND: &'static str = "LOCATE({part}, {whole})";
    const FROM_NOTHING: &'static str = " FROM DUAL";
    // MySQL has no `RETURNING`; MariaDB has it, but not for an update.
    const RETURNS: bool = false;
    const ROTATES_AT_ONCE: bool = false;
    const BEGIN: &'static str = "START TRANSACTION";
    const LOCAL: bool = false;
    // Under `sql_safe_updates` the server refuses a deletion that has neither an index nor a limit.
    const SWEEP: &'static str =
        "DELETE FROM {table} WHERE expires <= :now ORDER BY expires LIMIT :batch";

    // It is a number, and a word in later versions of MariaDB.
    const MAY_BE_READ_ONLY: &'static str =
        "SELECT 1 FROM DUAL WHERE CAST(@@global.read_only AS CHAR) NOT IN ('0', 'OFF')";

    fn placeholder(_: Param, _: usize) -> String {
        "?".to_owned()
    }

    async fn connect(url: &str, limits: &Limits) -> Result<MySqlPool, Error> {
        connect_to_server(url, *limits).await
    }

    /// A server may have other defaults, and then undoes whatever is not in a transaction, or comes
    /// after one, or makes tombstones NULL. It does not notice that a client has given up while a
    /// statement waits for a lock, nor that a client is gone in the middle of a transaction, which
    /// keeps its locks.
    fn on_connect(_: &Limits, _: bool) -> Option<String> {
        // What only MariaDB knows is a comment elsewhere.
        let settings = "SET autocommit = 1, completion_type = 'NO_CHAIN', \
                        sql_mode = REPLACE(@@sql_mode, 'EMPTY_STRING_IS_NULL', ''), \
                        innodb_lock_wait_timeout = 1, lock_wait_timeout = 1, wait_timeout = 30 \
                        /*M!100300 , idle_write_transaction_timeout = 1 */";
        Some(settings.to_owned())
    }

    /// A node of a Galera cluster applies what others have committed a moment later. Without this, it
    /// shows a session that has ended on another node, and not yet one that has begun there.
    async fn settle(connection: &mut MySqlConnection) -> Result<(), Error> {
        let node = "SHOW SESSION VARIABLES WHERE variable_name = 'wsrep_on' AND value = 'ON'";
        if Self::finds(connection, node).await? {
            // Reads, updates and deletions, insertions.
            Self::run(connection, "SET SESSION wsrep_sync_wait = 7").await?;
        }
        Ok(())
    }

    /// Whoever waits for a lock in vain is told so after a second.
    fn statement_limit(limits: &Limits) -> Duration {
        if limits.command < LOCK_WAIT {
            return limits.command;
        }
        limits.command.max(LOCK_WAIT + LOCK_WAIT / 4)
    }

    /// Creates the indexes in the same statement: here each statement commits on its own.
    fn parts(table: &Table) -> Vec<Part> {
        let schema = table.schema().map(|schema| Part {
            create: format!("CREATE DATABASE IF NOT EXISTS `{schema}`"),
            look: Some(format!(
                "SELECT 1 FROM information_schema.schemata WHERE schema_name = '{schema}'"
            )),
        });
        let create = table.fill(
            "CREATE TABLE IF NOT EXISTS {table} (
    id            CHAR(43) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    state         LONGBLOB,
    revision      BIGINT,
    epoch         BIGINT,
    session_id    BINARY(16),
    principal     VARBINARY(255),
    created       BIGINT NOT NULL,
    logged_in     BIGINT,
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
        let own = [create, table.fill(NOT_BEFORE, Self::QUOTE)];
        let own = own.map(|create| Part { create, look: None });
        schema.into_iter().chain(own).collect()
    }

    fn later_columns(table: &Table) -> Vec<Part> {
        let columns = format!(
            "SELECT 1 FROM information_schema.columns WHERE table_schema = {} AND table_name = '{}'",
            database(table),
            table.name(),
        );
        let part = |(column, kind): (&str, &str)| Part {
            create: table.fill(
                &format!("ALTER TABLE {{table}} ADD COLUMN {column} {kind}"),
                Self::QUOTE,
            ),
            look: Some(format!(
                "SELECT 1 FROM DUAL WHERE NOT EXISTS ({columns}) \
                 OR EXISTS ({columns} AND column_name = '{column}')"
            )),
        };
        [("session_id", "BINARY(16)"), ("logged_in", "BIGINT")]
            .map(part)
            .into()
    }

    fn indexes(table: &Table) -> Vec<Part> {
        let database = database(table);
        let part = |(name, column, create): (&str, &str, &str)| {
            let of_table = format!("table_schema = {database} AND table_name = '{name}'");
            let look = format!(
                "SELECT 1 FROM DUAL WHERE NOT EXISTS (\
                 SELECT 1 FROM information_schema.columns WHERE {of_table}) OR EXISTS (\
                 SELECT 1 FROM information_schema.statistics WHERE {of_table} \
                 AND seq_in_index = 1 AND column_name = '{column}')"
            );
            Part {
                create: table.fill(create, Self::QUOTE),
                look: Some(table.fill(&look, Self::QUOTE)),
            }
        };
        INDEXES.map(part).into()
    }

    /// By number: one SQLSTATE covers many errors.
    fn verdict(error: &dyn DatabaseError) -> Verdict {
        let number = error.try_downcast_ref::<MySqlDatabaseError>();
        number.map_or(Verdict::Lost, |error| verdict_of(error.number()))
    }

    async fn check(connection: &mut MySqlConnection) -> Result<Option<&'static str>, Error> {
        let undoes = "SELECT CAST(@@autocommit = 0 OR @@completion_type = 'CHAIN' \
                      OR FIND_IN_SET('EMPTY_STRING_IS_NULL', @@sql_mode) > 0 AS SIGNED)";
        let undoes = sqlx::query_scalar::<_, i64>(undoes)
            .fetch_one(connection)
            .await?;
        Ok((undoes != 0).then_some(
            "the pool's connections have `autocommit = 0`, `completion_type = CHAIN` or the SQL mode \
             `EMPTY_STRING_IS_NULL`, so that the database would undo or falsify changes: run `SET \
             autocommit = 1, completion_type = 'NO_CHAIN', sql_mode = REPLACE(@@sql_mode, \
             'EMPTY_STRING_IS_NULL', '')` in the pool's `after_connect`, or let the store make the \
             pool",
        ))
    }

    async fn lock_for_migration(
        connection: &mut MySqlConnection,
        table: &Table,
    ) -> Result<(), Error> {
        let get = format!("SELECT GET_LOCK({}, ?)", lock_name(table, "migrate"));
        let got = sqlx::query_scalar::<_, Option<i64>>(&get)
            .bind(LOCK_TIMEOUT)
            .fetch_one(connection)
            .await?;
        match got {
            Some(1) => Ok(()),
            _ => Err(Error::PoolTimedOut),
        }
    }

    async fn unlock_after_migration(
        connection: &mut MySqlConnection,
        table: &Table,
    ) -> Result<(), Error> {
        release(connection, table, "migrate").await
    }

    async fn lock_for_sweep(
        connection: &mut MySqlConnection,
        table: &Table,
    ) -> Result<bool, Error> {
        let get = format!("SELECT GET_LOCK({}, 0)", lock_name(table, "sweep"));
        let got = sqlx::query_scalar::<_, Option<i64>>(&get)
            .fetch_one(connection)
            .await?;
        Ok(got == Some(1))
    }

    async fn unlock_after_sweep(
        connection: &mut MySqlConnection,
        table: &Table,
    ) -> Result<(), Error> {
        release(connection, table, "sweep").await
    }

    queries!();
}

async fn release(
    connection: &mut MySqlConnection,
    table: &Table,
    purpose: &str,
) -> Result<(), Error> {
    let release = format!("DO RELEASE_LOCK({})", lock_name(table, purpose));
    sqlx::query(&release).execute(connection).await.map(drop)
}

/// The name of an advisory lock on a table, in SQL. Such names are the whole server's, so the database is in
/// it; they have up to 64 characters.
fn lock_name(table: &Table, purpose: &str) -> String {
    let (database, name) = (database(table), table.name());
    format!(
        "CONCAT('actix-session ', LEFT(SHA2(CONCAT('{purpose} {name} ', \
         HEX(COALESCE({database}, ''))), 256), 40))"
    )
}

/// The database that a table is in, in SQL.
fn database(table: &Table) -> String {
    let schema = table.schema().map(|schema| format!("'{schema}'"));
    schema.unwrap_or_else(|| "DATABASE()".to_owned())
}

/// What an error's number means for the statement that met it.
fn verdict_of(number: u16) -> Verdict {
    match number {
        // Deadlock, lock wait timeout, changed since the snapshot, overtaken in a cluster; the table
        // has been altered; too many connections, in all or of this user.
        1213 | 1205 | 1020 | 3101 | 1412 | 1615 | 1040 | 1203 | 1226 => Verdict::Again,
        // By an option, by the transaction's default, in read-only mode, or InnoDB alone.
        1290 | 1792 | 1836 | 1874 => Verdict::ReadOnly,
        // A node of a cluster that is not ready, a statement that the server has forgotten, and a
        // connection that was closed before it read the statement.
        1047 | 1243 | 4031 => Verdict::NotHere,
        1146 => Verdict::NoTable,
        // Shutdown, a killed connection or query, a network error, an error during the commit.
        1053 | 1077 | 1079 | 1927 | 1317 | 1152 | 1158..=1161 | 1180 => Verdict::Lost,
        // An unknown error, and what proxies tell: errors of clients, such as "lost connection",
        // and their own.
        1105 | 2000..=2999 | 9000.. => Verdict::Lost,
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_of_no_use_is_left() {
        for number in [1290, 1792, 1836, 1874] {
            assert_eq!(verdict_of(number), Verdict::ReadOnly, "{number}");
        }
        for number in [1047, 1243, 4031] {
            assert_eq!(verdict_of(number), Verdict::NotHere, "{number}");
        }
    }
    #[test]
    fn what_others_cause_for_a_moment_is_tried_again() {
        for number in [1213, 1205, 1020, 3101, 1412, 1615, 1040, 1203, 1226] {
            assert_eq!(verdict_of(number), Verdict::Again, "{number}");
        }
    }

    #[test]
    fn nobody_knows_what_became_of_a_statement_whose_connection_failed() {
        for number in [1053, 1105, 1158, 1161, 1180, 1317, 1927, 2006, 2013, 9001] {
            assert_eq!(verdict_of(number), Verdict::Lost, "{number}");
        }
        for number in [1062, 1064, 1142, 1366, 1969, 3024, 4025] {
            assert_eq!(verdict_of(number), Verdict::Refused, "{number}");
        }
    }
}
