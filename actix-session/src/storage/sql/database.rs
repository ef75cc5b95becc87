//! What differs between databases.

use std::{future::Future, time::Duration};

use sqlx::{Connection, Error, Pool, error::DatabaseError};

use super::{
    row::{Found, ListedRow},
    statement::{Param, Statement, Values},
    store::SqlSessionStore,
    table::Table,
};
use crate::live::hub::Hub;

/// A database that `SqlSessionStore` can keep sessions in.
///
/// `sqlx::Sqlite`, `sqlx::Postgres` and `sqlx::MySql` implement it if their features are on. No
/// other type can.
#[allow(private_bounds, reason = "no other crate may implement the trait")]
pub trait SqlDatabase: sqlx::Database + Database {}

/// What the store needs of a database.
pub(crate) trait Database: sqlx::Database {
    /// Whether texts hold every character, whatever the database was made with.
    const UNICODE: bool;
    /// A URL as an example, for errors.
    const URL: &'static str;
    const QUOTE: char;
    /// The function for the smaller of two numbers.
    const LEAST: &'static str;
    /// The function for the larger of two numbers.
    const GREATEST: &'static str;
    /// The function that finds `{part}` in `{whole}`: 0 if it is not there.
    const FIND: &'static str;
    /// What a `SELECT` without a table reads from.
    const FROM_NOTHING: &'static str = "";
    /// The state as bytes.
    const STATE: &'static str = "state";
    /// When `login` was called. Records of an earlier version do not say.
    const LOGIN: &'static str = "COALESCE(logged_in, authenticated, created)";
    /// Whether an `UPDATE` can return the row.
    const RETURNS: bool;
    /// Whether a renewal is one statement.
    const ROTATES_AT_ONCE: bool;
    /// Begins a transaction that writes.
    const BEGIN: &'static str;
    /// Whether it runs in this process: writers wait in line, and no connection can be lost.
    const LOCAL: bool;
    /// Deletes up to `:batch` rows that expired at `:now` or before.
    const SWEEP: &'static str;

    /// The call that tells a letter and the id of the session that was `old` (see `Tells`), if the database
    /// can tell other processes.
    const TELL: Option<&'static str> = None;

    /// Finds a row if the server may refuse writes of this connection's user.
    const MAY_BE_READ_ONLY: &'static str = "SELECT 1";

    /// Whether an error refuses what a statement tells, and not what it does.
    fn refuses_to_tell(error: &dyn DatabaseError) -> bool {
        let _ = error;
        false
    }

    /// Tells the hub what other processes end, as long as it is polled.
    fn listen(store: &SqlSessionStore<Self>, hub: &Hub) -> impl Future<Output = ()>
    where
        Self: SqlDatabase,
    {
        let _ = (store, hub);
        std::future::pending()
    }

    fn placeholder(param: Param, number: usize) -> String;

    /// What each connection of the store's own begins with. A pooler gives each transaction another
    /// connection, so that settings would reach others; there, nothing is prepared.
    fn on_connect(limits: &Limits, is_prepared: bool) -> Option<String> {
        let _ = (limits, is_prepared);
        None
    }

    /// What each connection of the store's own needs besides, depending on the server that it leads to.
    fn settle(connection: &mut Self::Connection) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = connection;
        async { Ok(()) }
    }

    /// How long a statement may take.
    fn statement_limit(limits: &Limits) -> Duration {
        limits.command
    }

    /// Whether statements are prepared, as by default.
    fn prepares(options: &<Self::Connection as Connection>::Options) -> bool {
        let _ = options;
        true
    }

    /// The same options, for what lies between: it may allow nothing to be prepared.
    fn adapted(
        options: <Self::Connection as Connection>::Options,
        limits: &Limits,
    ) -> impl Future<Output = <Self::Connection as Connection>::Options> + Send {
        let _ = limits;
        async { options }
    }

    /// Says what must change in a pool of the application's, if what lies between does.
    fn check_pool(
        options: &<Self::Connection as Connection>::Options,
        limits: &Limits,
    ) -> impl Future<Output = Option<&'static str>> + Send {
        let _ = (options, limits);
        async { None }
    }

    /// Says what may have caused an error, if its own words do not.
    fn hint(error: &dyn DatabaseError) -> Option<&'static str> {
        let _ = error;
        None
    }

    /// The tables and their indexes, in the order in which they are created.
    fn parts(table: &Table) -> Vec<Part>;

    /// The columns that a table of an earlier version lacks. Nothing is found missing from a table
    /// that is not there at all.
    fn later_columns(table: &Table) -> Vec<Part>;

    /// The indexes. None is found missing if another one begins with its column, nor from a table that is
    /// not there at all.
    fn indexes(table: &Table) -> Vec<Part>;

    /// What an error that the database itself reported means.
    fn verdict(error: &dyn DatabaseError) -> Verdict;

    /// Says what must change if connections of the application's cannot keep what is written.
    fn check(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<Option<&'static str>, Error>> + Send {
        let _ = connection;
        async { Ok(None) }
    }

    /// How to connect to the database at a URL.
    fn options(url: &str) -> Result<<Self::Connection as Connection>::Options, Error> {
        url.parse()
    }

    /// Has the connection wait for others' locks no longer than this, if the database itself keeps
    /// it waiting. Returns how long it waited before, if that was longer.
    fn wait_at_most(
        connection: &mut Self::Connection,
        limit: Duration,
    ) -> impl Future<Output = Result<Option<Duration>, Error>> + Send {
        let _ = (connection, limit);
        async { Ok(None) }
    }

    /// Has the connection wait for others' locks as it did before.
    fn wait_again(
        connection: &mut Self::Connection,
        limit: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = (connection, limit);
        async { Ok(()) }
    }

    /// Connects to the database at a URL.
    fn connect(
        url: &str,
        limits: &Limits,
    ) -> impl Future<Output = Result<Pool<Self>, Error>> + Send;

    /// Has the server itself give a migration up, before whoever waits for it does.
    fn limit_migration(
        connection: &mut Self::Connection,
        limit: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = (connection, limit);
        async { Ok(()) }
    }

    /// Takes the lock that migrations share, in the connection's transaction.
    fn lock_for_migration(
        connection: &mut Self::Connection,
        table: &Table,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    fn unlock_after_migration(
        connection: &mut Self::Connection,
        table: &Table,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes the sweeper's lock, in the connection's transaction; `false` if another server has it.
    fn lock_for_sweep(
        connection: &mut Self::Connection,
        table: &Table,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    fn unlock_after_sweep(
        connection: &mut Self::Connection,
        table: &Table,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether a query without parameters finds a row.
    fn finds(
        connection: &mut Self::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// What a query without parameters finds, whose column has principals.
    fn principals(
        connection: &mut Self::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// Runs a statement without parameters, which is not worth caching.
    fn run(
        connection: &mut Self::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Runs a statement and returns the number of rows that it changed.
    fn execute(
        connection: &mut Self::Connection,
        statement: &Statement,
        values: &Values<'_>,
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Runs a statement that returns at most one row.
    fn fetch(
        connection: &mut Self::Connection,
        statement: &Statement,
        values: &Values<'_>,
    ) -> impl Future<Output = Result<Option<Found>, Error>> + Send;

    /// Runs a statement that returns rows with the name, the id and the time of the login in front.
    /// `None` is a row in which one of these has the wrong type.
    fn fetch_all(
        connection: &mut Self::Connection,
        statement: &Statement,
        values: &Values<'_>,
    ) -> impl Future<Output = Result<Vec<Option<ListedRow>>, Error>> + Send;

    /// Runs a statement that returns one row of three numbers.
    fn counts(
        connection: &mut Self::Connection,
        statement: &Statement,
        values: &Values<'_>,
    ) -> impl Future<Output = Result<[i64; 3], Error>> + Send;
}

/// Something that a migration creates.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) create: String,
    /// Finds a row if it is there already. Some databases refuse even `IF NOT EXISTS` to whoever may
    /// not create it.
    pub(crate) look: Option<String>,
}

/// What an error means for the statement that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was done; another attempt may succeed.
    Again,
    /// Nothing was done: this connection, and those that are as old, lead to the wrong server, or
    /// are of no use. An attempt on a new one may succeed.
    NotHere,
    /// Nothing was done: the server takes no writes, but serves reads. An attempt on a new connection may
    /// succeed.
    ReadOnly,
    /// Nothing was done.
    Refused,
    /// Nothing was done, since the table is missing.
    NoTable,
    /// The statement may have been done.
    Lost,
}

impl Verdict {
    /// Whether another connection may lead to a server that does it.
    pub(crate) fn is_about_server(self) -> bool {
        matches!(self, Self::NotHere | Self::ReadOnly)
    }
}

pub(crate) fn verdict<D: Database>(error: &Error) -> Verdict {
    match error {
        Error::Database(error) => D::verdict(error.as_ref()),
        Error::PoolTimedOut
        | Error::PoolClosed
        | Error::Configuration(_)
        | Error::InvalidArgument(_)
        | Error::Encode(_)
        | Error::Decode(_)
        | Error::ColumnDecode { .. }
        | Error::BeginFailed
        | Error::TypeNotFound { .. } => Verdict::Refused,
        _ => Verdict::Lost,
    }
}

pub(crate) fn hint<D: Database>(error: &Error) -> Option<&'static str> {
    D::hint(error.as_database_error()?)
}

/// How long things may take, and how many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) command: Duration,
    pub(crate) connections: u32,
}

impl Limits {
    /// As a limit that no addition overflows.
    pub(crate) fn connect(&self) -> Duration {
        self.connect.min(Duration::from_secs(86_400))
    }

    /// How long to wait for a sign of life: there must be time left to connect anew.
    pub(crate) fn sign(&self) -> Duration {
        self.command.min(self.connect / 2)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            command: Duration::from_secs(1),
            connections: 10,
        }
    }
}

/// Binds values in the order of a statement's parameters.
macro_rules! bind {
    ($statement:expr, $values:expr) => {{
        let mut query = sqlx::query::<Self>(&$statement.sql);
        for param in &$statement.params {
            query = match $values.of(*param) {
                $crate::storage::sql::statement::Value::Text(text) => query.bind(text),
                $crate::storage::sql::statement::Value::Int(number) => query.bind(number),
                $crate::storage::sql::statement::Value::Bytes(bytes) => query.bind(bytes),
                $crate::storage::sql::statement::Value::Unicode(text) if Self::UNICODE => {
                    query.bind(text)
                }
                $crate::storage::sql::statement::Value::Unicode(text) => {
                    query.bind(text.map(str::as_bytes))
                }
            };
        }
        query
    }};
}
pub(crate) use bind;

/// What a row says, from a column on.
macro_rules! found {
    ($row:expr, $from:expr) => {{
        let row = &$row;
        let read = || {
            Ok::<_, sqlx::Error>(Row {
                state: row.try_get($from)?,
                expires: row.try_get($from + 1)?,
                // MySQL shows texts of a binary collation as bytes.
                moved_to: row.try_get_unchecked($from + 2)?,
                moved_flag: row.try_get_unchecked($from + 3)?,
                moved_at: row.try_get($from + 4)?,
                epoch: row.try_get($from + 5)?,
            })
        };
        match read() {
            // There, any value may have any type. Elsewhere the connection shows it otherwise.
            Err(_) if Self::LOCAL => Ok(Found::Garbage),
            row => row.map(Found::Row),
        }
    }};
}
pub(crate) use found;

/// The methods of a [`Database`] that have the same text for each: sqlx's bounds cannot be generic.
macro_rules! queries {
    () => {
        async fn run(connection: &mut Self::Connection, sql: &str) -> Result<(), sqlx::Error> {
            use sqlx::Executor as _;

            connection.execute(sql).await.map(drop)
        }

        async fn finds(connection: &mut Self::Connection, sql: &str) -> Result<bool, sqlx::Error> {
            use sqlx::Executor as _;

            let row = connection.fetch_optional(sql).await?;
            Ok(row.is_some())
        }

        async fn principals(
            connection: &mut Self::Connection,
            sql: &str,
        ) -> Result<Vec<String>, sqlx::Error> {
            use sqlx::Executor as _;

            let rows = connection.fetch_all(sql).await?;
            let read = |row| match Self::UNICODE {
                true => sqlx::Row::try_get(row, 0).ok(),
                false => String::from_utf8(sqlx::Row::try_get(row, 0).ok()?).ok(),
            };
            Ok(rows.iter().filter_map(read).collect())
        }

        async fn execute(
            connection: &mut Self::Connection,
            statement: &$crate::storage::sql::statement::Statement,
            values: &$crate::storage::sql::statement::Values<'_>,
        ) -> Result<u64, sqlx::Error> {
            use sqlx::Executor as _;

            if let Some(sql) = statement.written_out(values) {
                let done = connection.execute(sql.as_str()).await?;
                return Ok(done.rows_affected());
            }
            let query = $crate::storage::sql::database::bind!(statement, values);
            Ok(query.execute(connection).await?.rows_affected())
        }

        async fn fetch(
            connection: &mut Self::Connection,
            statement: &$crate::storage::sql::statement::Statement,
            values: &$crate::storage::sql::statement::Values<'_>,
        ) -> Result<Option<$crate::storage::sql::row::Found>, sqlx::Error> {
            use sqlx::{Executor as _, Row as _};
            use $crate::storage::sql::row::{Found, Row};

            // To the statement's end: SQLite commits there, and may fail to. `fetch_optional` stops at the
            // row, and hides that.
            let rows = match statement.written_out(values) {
                Some(sql) => connection.fetch_all(sql.as_str()).await?,
                None => {
                    let query = $crate::storage::sql::database::bind!(statement, values);
                    query.fetch_all(connection).await?
                }
            };
            let row = rows.into_iter().next();
            row.map(|row| $crate::storage::sql::database::found!(row, 0))
                .transpose()
        }

        async fn fetch_all(
            connection: &mut Self::Connection,
            statement: &$crate::storage::sql::statement::Statement,
            values: &$crate::storage::sql::statement::Values<'_>,
        ) -> Result<Vec<Option<$crate::storage::sql::row::ListedRow>>, sqlx::Error> {
            use sqlx::{Executor as _, Row as _};
            use $crate::storage::sql::row::{Found, ListedRow, Row};

            let rows = match statement.written_out(values) {
                Some(sql) => connection.fetch_all(sql.as_str()).await?,
                None => {
                    let query = $crate::storage::sql::database::bind!(statement, values);
                    query.fetch_all(connection).await?
                }
            };
            let listed = rows.into_iter().map(|row| {
                let read = || {
                    Ok(ListedRow {
                        // MySQL shows texts of a binary collation as bytes.
                        at: row.try_get_unchecked(0)?,
                        session_id: row.try_get(1)?,
                        login: row.try_get(2)?,
                        found: $crate::storage::sql::database::found!(row, 3)?,
                    })
                };
                match read() {
                    // As above: the others are in order.
                    Err(_) if Self::LOCAL => Ok(None),
                    row => row.map(Some),
                }
            });
            listed.collect()
        }

        async fn counts(
            connection: &mut Self::Connection,
            statement: &$crate::storage::sql::statement::Statement,
            values: &$crate::storage::sql::statement::Values<'_>,
        ) -> Result<[i64; 3], sqlx::Error> {
            use sqlx::{Executor as _, Row as _};

            let row = match statement.written_out(values) {
                Some(sql) => connection.fetch_one(sql.as_str()).await?,
                None => {
                    let query = $crate::storage::sql::database::bind!(statement, values);
                    query.fetch_one(connection).await?
                }
            };
            Ok([row.try_get(0)?, row.try_get(1)?, row.try_get(2)?])
        }
    };
}
pub(crate) use queries;
