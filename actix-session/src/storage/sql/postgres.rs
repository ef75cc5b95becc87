//! PostgreSQL.

use std::time::Duration;

use sqlx::{
    ConnectOptions as _, Error, PgPool, Postgres,
    error::DatabaseError,
    postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgSeverity},
};

use super::{
    connect::connect_to_server,
    database::{Database, Limits, Part, SqlDatabase, Verdict, queries},
    ends::PgLine,
    pooler::{self, Between, MEETS_OTHERS, POOL_MUST_CHANGE},
    statement::{Param, Value},
    store::{SqlSessionStore, SqlSessionStoreBuilder},
    table::Table,
};
use crate::live::{hub::Hub, line};

/// Keeps sessions in PostgreSQL, 11 or newer.
///
/// A commit, an ending and a renewal are one statement each: atomic, and one round trip. So is a
/// load, whether or not it extends the record. After a serialization failure or a deadlock, the
/// store tries again, at any isolation level; the client does not notice.
///
/// The table holds digests of session keys: nobody can use a session by reading it or a dump of it.
/// The promotion of an asynchronous replica may bring an ended session back; so may a crash under
/// `synchronous_commit = off`.
///
/// The URL looks like `postgres://user:password@localhost/app`. Percent-encode characters in users and
/// passwords that have a meaning in URLs.
///
/// Behind a pooler that gives each transaction another connection, such as PgBouncer with `pool_mode =
/// transaction`, a store that is made from a URL prepares no statement. It notices such a pooler when it
/// connects, for which it needs two connections for a moment: with one, or without an answer in time, it prepares
/// no statement either, and warns. To be sure, add `?statement-cache-capacity=0` to the URL. A pool of yours needs
/// connect options for that: [`migrate`](SqlSessionStore::migrate) tells which.
///
/// # TLS
/// Turn on one of `sqlx`'s features, such as `tls-rustls-ring-native-roots`, in the application, and
/// write `?sslmode=verify-full` in the URL. Without a feature, everything goes over the network in
/// plain text, and a URL that requires TLS is an error.
///
/// # Examples
/// ```no_run
/// use actix_session::{SessionMiddleware, storage::PostgresSessionStore};
/// use actix_web::{App, HttpServer, cookie::Key};
/// use sqlx::PgPool;
///
/// # async fn run() -> anyhow::Result<()> {
/// let pool = PgPool::connect("postgres://user:password@localhost/app").await?;
/// let store = PostgresSessionStore::from_pool(pool);
/// store.migrate().await?;
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
pub type PostgresSessionStore = SqlSessionStore<Postgres>;

/// Sets up a [`PostgresSessionStore`].
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use actix_session::storage::PostgresSessionStore;
///
/// # async fn run() -> anyhow::Result<()> {
/// let store = PostgresSessionStore::builder("postgres://user:password@localhost/app")
///     .table("web_sessions")
///     .command_timeout(Duration::from_millis(500))
///     .build()
///     .await?;
/// # let _ = store; Ok(())
/// # }
/// ```
pub type PostgresSessionStoreBuilder = SqlSessionStoreBuilder<Postgres>;

const NOT_BEFORE: &str = "CREATE TABLE IF NOT EXISTS {not_before} (
    principal BYTEA PRIMARY KEY,
    ended_at  BIGINT NOT NULL,
    spared    BYTEA,
    expires   BIGINT NOT NULL
)";

/// It leaves room in each page, since every commit and every extension writes a new version of its row.
/// Whatever moves the session's end writes new entries in the indexes too, since one of them has it.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS {table} (
    id            TEXT COLLATE \"C\" PRIMARY KEY,
    state         BYTEA,
    revision      BIGINT,
    epoch         BIGINT,
    session_id    BYTEA,
    principal     BYTEA,
    created       BIGINT NOT NULL,
    logged_in     BIGINT,
    authenticated BIGINT,
    ttl           BIGINT,
    absolute_end  BIGINT,
    expires       BIGINT NOT NULL,
    moved_to      TEXT,
    moved_flag    TEXT,
    moved_at      BIGINT
) WITH (fillfactor = 85)";

/// Of a table: the column, and how to make it.
const INDEXES: [(&str, &str, &str); 3] = [
    (
        "{table}",
        "expires",
        "CREATE INDEX IF NOT EXISTS {by_expires} ON {table} (expires)",
    ),
    (
        "{table}",
        "principal",
        "CREATE INDEX IF NOT EXISTS {by_principal} ON {table} (principal) \
         WHERE principal IS NOT NULL",
    ),
    (
        "{not_before}",
        "expires",
        "CREATE INDEX IF NOT EXISTS {marks_by_end} ON {not_before} (expires)",
    ),
];

impl SqlDatabase for Postgres {}

impl Database for Postgres {
    const UNICODE: bool = false;
    const URL: &'static str = "postgres://user:password@localhost/app";
    const QUOTE: char = '"';
    const LEAST: &'static str = "LEAST";
    const GREATEST: &'static str = "GREATEST";
    const FIND: &'static str = "position({part} IN {whole})";
    const RETURNS: bool = true;
    const ROTATES_AT_ONCE: bool = true;
    const BEGIN: &'static str = "BEGIN";
    const LOCAL: bool = false;
    // The server takes no long notice: an id that something has damaged must not keep its session alive.
    const TELL: Option<&'static str> = Some(
        "CAST(pg_notify('{channel}', \
        '{letter}' || encode(substr(old.old_session, 1, 16), 'hex')) AS text)",
    );
    // Never waits: rows that a request has locked are left for later.
    const SWEEP: &'static str = "DELETE FROM {table} WHERE expires <= :now AND id IN (\
        SELECT id FROM {table} WHERE expires <= :now ORDER BY expires LIMIT :batch \
        FOR UPDATE SKIP LOCKED)";

    const MAY_BE_READ_ONLY: &'static str =
        "SELECT 1 WHERE current_setting('transaction_read_only') <> 'off'";

    fn refuses_to_tell(error: &dyn DatabaseError) -> bool {
        let error = error.try_downcast_ref::<PgDatabaseError>();
        error.is_some_and(|error| is_about_message(error.message(), error.routine()))
    }

    async fn listen(store: &PostgresSessionStore, hub: &Hub) {
        line::listen(&PgLine::new(store), hub).await;
    }

    fn placeholder(param: Param, number: usize) -> String {
        let kind = match param.kind() {
            Value::Text(_) => "text",
            Value::Int(_) => "bigint",
            Value::Bytes(_) | Value::Unicode(_) => "bytea",
        };
        format!("${number}::{kind}")
    }

    /// No float is ever read, and poolers refuse to be told how to write one. Statements that hold
    /// their values are not logged.
    fn options(url: &str) -> Result<PgConnectOptions, Error> {
        let options = url.parse::<PgConnectOptions>()?.extra_float_digits(None);
        if Self::prepares(&options) {
            return Ok(options);
        }
        Ok(options.disable_statement_logging())
    }

    /// The server does not notice that a client has given up while a statement waits for a lock. So
    /// it gives up by itself, or connections would pile up there. A row may take two waits: one for
    /// those who came before, one for whoever has it.
    fn on_connect(limits: &Limits, is_prepared: bool) -> Option<String> {
        let wait = limits.command.as_millis().clamp(3, 1 << 30) * 2 / 5;
        is_prepared.then(|| format!("SET lock_timeout = {wait}"))
    }

    /// Whoever turns the cache of statements off has a pooler that gives each transaction another
    /// connection to the server. There, what is prepared for one statement is met by the next, or by
    /// somebody else's.
    fn prepares(options: &PgConnectOptions) -> bool {
        // The options can be asked for nothing but a URL, and not even for that if the host is an
        // IPv6 address.
        !format!("{options:?}").contains("statement_cache_capacity: 0,")
    }

    async fn adapted(options: PgConnectOptions, limits: &Limits) -> PgConnectOptions {
        if !Self::prepares(&options) {
            return options;
        }
        // To prepare nothing is right with such a pooler and without, and only takes longer.
        match pooler::lies_between(&options, limits.sign()).await {
            Some(Between::Nothing) => return options,
            Some(Between::Pooler) => tracing::info!(
                "a pooler gives each transaction another connection to PostgreSQL: the session store \
                 prepares no statement"
            ),
            Some(Between::Unknown) => tracing::warn!(
                "PostgreSQL has one connection to spare, which does not tell whether there is a pooler \
                 that gives each transaction another one: the session store prepares no statement. \
                 Allow more connections, and restart"
            ),
            None => tracing::warn!(
                "PostgreSQL does not tell in time whether there is a pooler that gives each transaction \
                 another connection: the session store prepares no statement. Restart once it answers"
            ),
        }
        options
            .statement_cache_capacity(0)
            .disable_statement_logging()
    }

    async fn check_pool(options: &PgConnectOptions, limits: &Limits) -> Option<&'static str> {
        let mixes =
            Self::prepares(options) && pooler::mixes_statements(options, limits.sign()).await;
        mixes.then_some(POOL_MUST_CHANGE)
    }

    fn hint(error: &dyn DatabaseError) -> Option<&'static str> {
        let error = error.try_downcast_ref::<PgDatabaseError>()?;
        pooler::has_met_others(error).then_some(MEETS_OTHERS)
    }

    async fn connect(url: &str, limits: &Limits) -> Result<PgPool, Error> {
        connect_to_server(url, *limits).await
    }

    fn parts(table: &Table) -> Vec<Part> {
        let part = |relation: &str, create: &str| Part {
            create: table.fill(create, Self::QUOTE),
            look: Some(table.fill(
                &format!("SELECT 1 WHERE to_regclass('{relation}') IS NOT NULL"),
                Self::QUOTE,
            )),
        };
        let schema = table.schema().map(|schema| Part {
            create: format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""),
            look: Some(format!(
                "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = '{schema}'"
            )),
        });
        let own = [part("{table}", TABLE), part("{not_before}", NOT_BEFORE)];
        let tables = schema.into_iter().chain(own);
        tables.chain(Self::indexes(table)).collect()
    }

    fn indexes(table: &Table) -> Vec<Part> {
        let part = |(relation, column, create): (&str, &str, &str)| {
            let look = format!(
                "SELECT 1 WHERE to_regclass('{relation}') IS NULL OR EXISTS (\
                 SELECT 1 FROM pg_catalog.pg_index JOIN pg_catalog.pg_attribute \
                 ON attrelid = indrelid AND attnum = indkey[0] \
                 WHERE indrelid = to_regclass('{relation}') AND attname = '{column}' \
                 AND indisvalid AND (indpred IS NULL OR attname = 'principal'))"
            );
            Part {
                create: table.fill(create, Self::QUOTE),
                look: Some(table.fill(&look, Self::QUOTE)),
            }
        };
        INDEXES.map(part).into()
    }

    fn later_columns(table: &Table) -> Vec<Part> {
        let part = |(column, kind): (&str, &str)| Part {
            create: table.fill(
                &format!("ALTER TABLE {{table}} ADD COLUMN IF NOT EXISTS {column} {kind}"),
                Self::QUOTE,
            ),
            look: Some(table.fill(
                &format!(
                    "SELECT 1 WHERE to_regclass('{{table}}') IS NULL OR EXISTS (\
                     SELECT 1 FROM pg_catalog.pg_attribute WHERE attname = '{column}' \
                     AND attrelid = to_regclass('{{table}}') AND NOT attisdropped)"
                ),
                Self::QUOTE,
            )),
        };
        [("session_id", "BYTEA"), ("logged_in", "BIGINT")]
            .map(part)
            .into()
    }

    fn verdict(error: &dyn DatabaseError) -> Verdict {
        let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else {
            return Verdict::Lost;
        };
        // Without its message, the statement may succeed.
        if is_about_message(error.message(), error.routine()) {
            return Verdict::Again;
        }
        // PgBouncer's limits on clients have no code of their own.
        if error.message().starts_with("no more connections allowed") {
            return Verdict::Again;
        }
        let ends = matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
        verdict_of(error.code(), error.routine(), ends)
    }

    /// Held until the transaction ends.
    /// To make an index keeps all writers out, and the server would go on with it for whoever has gone.
    async fn limit_migration(connection: &mut PgConnection, limit: Duration) -> Result<(), Error> {
        let most = (limit * 4 / 5).as_millis();
        Self::run(connection, &format!("SET LOCAL statement_timeout = {most}")).await
    }

    async fn lock_for_migration(connection: &mut PgConnection, table: &Table) -> Result<(), Error> {
        // Whoever waits for a lock on a table holds up all that come later, readers too.
        Self::run(connection, "SET LOCAL lock_timeout = 300").await?;
        let number = table.lock_number("migrate");
        Self::run(
            connection,
            &format!("SELECT pg_advisory_xact_lock({number})"),
        )
        .await
    }

    async fn unlock_after_migration(_: &mut PgConnection, _: &Table) -> Result<(), Error> {
        Ok(())
    }

    async fn lock_for_sweep(connection: &mut PgConnection, table: &Table) -> Result<bool, Error> {
        let number = table.lock_number("sweep");
        let sql = format!("SELECT 1 WHERE pg_try_advisory_xact_lock({number})");
        Self::finds(connection, &sql).await
    }

    async fn unlock_after_sweep(_: &mut PgConnection, _: &Table) -> Result<(), Error> {
        Ok(())
    }

    queries!();
}

/// Whether a statement was refused for its notification: the user may not call the function, the
/// server has none, or the queue is full (which the server says only when it commits).
fn is_about_message(message: &str, routine: Option<&str>) -> bool {
    message.contains("pg_notify") || routine == Some("PreCommit_Notify")
}

/// What an SQLSTATE means for the statement that met it. The routine in the server that reports an
/// error has no translations, unlike the message. Some errors end the connection.
fn verdict_of(code: &str, routine: Option<&str>, ends: bool) -> Verdict {
    match code {
        // Serialization failure, deadlock, lock not available, too many connections for now.
        "40001" | "40P01" | "55P03" | "53300" => Verdict::Again,
        "25006" => Verdict::ReadOnly,
        // A statement that the server has forgotten, a server that starts, and one that closed the
        // connection before it read the statement.
        "26000" | "57P03" | "57P05" => Verdict::NotHere,
        // "cached plan must not change result type": the table has been altered.
        "0A000" if routine == Some("RevalidateCachedQuery") => Verdict::NotHere,
        "42P01" => Verdict::NoTable,
        // The server stops or has crashed; the outcome of a commit is unknown.
        "57P01" | "57P02" | "40003" => Verdict::Lost,
        // The connection failed, perhaps that of a pooler to the server; the system or the server
        // itself is broken. They may come after the commit, as may whatever ends the connection.
        _ if ends || matches!(code.get(..2), Some("08" | "58" | "XX") | None) => Verdict::Lost,
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_cache_of_statements_none_is_prepared() {
        let options = PgConnectOptions::new().host("::1").password("secret");
        assert!(Postgres::prepares(&options));
        assert!(Postgres::prepares(
            &options.clone().statement_cache_capacity(10)
        ));
        assert!(!Postgres::prepares(&options.statement_cache_capacity(0)));
        let url = "postgres://me@localhost/app?statement-cache-capacity=0";
        assert!(!Postgres::prepares(&Postgres::options(url).unwrap()));
    }

    #[test]
    fn a_connection_that_is_of_no_use_is_left() {
        assert_eq!(verdict_of("25006", None, false), Verdict::ReadOnly);
        for code in ["26000", "57P03", "57P05"] {
            assert_eq!(verdict_of(code, None, false), Verdict::NotHere, "{code}");
        }
        let plan = Some("RevalidateCachedQuery");
        assert_eq!(verdict_of("0A000", plan, false), Verdict::NotHere);
        assert_eq!(verdict_of("0A000", None, false), Verdict::Refused);
    }

    #[test]
    fn a_message_is_refused_for_reasons_of_its_own() {
        let denied = "permission denied for function pg_notify";
        assert!(is_about_message(denied, Some("aclcheck_error")));
        let full = "too many notifications in the NOTIFY queue";
        assert!(is_about_message(full, Some("PreCommit_Notify")));
        let table = "permission denied for table actix_sessions";
        assert!(!is_about_message(table, Some("aclcheck_error")));
    }

    #[test]
    fn nobody_knows_what_became_of_a_statement_whose_connection_failed() {
        for code in [
            "08000", "08003", "08006", "08007", "08P01", "57P01", "57P02", "40003", "58000",
            "58030", "XX000", "",
        ] {
            assert_eq!(verdict_of(code, None, false), Verdict::Lost, "{code}");
        }
        // Out of memory, by severity.
        assert_eq!(verdict_of("53200", None, true), Verdict::Lost);
        for code in ["53200", "23505", "42501", "57014", "22P02"] {
            assert_eq!(verdict_of(code, None, false), Verdict::Refused, "{code}");
        }
    }
}
