//! What differs between databases.

use std::{future::Future, time::Duration};

use sqlx::{Connection, Error, Pool, error::DatabaseError, pool::PoolOptions};

use super::{
    row::Found,
    statement::{Param, Statement, Values},
    table::Table,
};

/// A database that `SqlSessionStore` can keep sessions in.
///
/// `sqlx::Sqlite`, `sqlx::Postgres` and `sqlx::MySql` implement it if their features are on. No
/// other type can.
#[allow(private_bounds, reason = "no other crate may implement the trait")]
pub trait SqlDatabase: sqlx::Database + Database {}

/// What the store needs of a database.
pub(crate) trait Database: sqlx::Database {
    /// A URL as an example, for errors.
    const URL: &'static str;
    const QUOTE: char;
    /// The function for the smaller of two numbers.
    const LEAST: &'static str;
    /// Whether an `UPDATE` can return the row.
    const RETURNS: bool;
    /// Whether a renewal is one statement.
    const ROTATES_AT_ONCE: bool;
    /// Begins a transaction that writes.
    const BEGIN: &'static str;
    /// Whether it runs in this process: writers wait in line, and no connection can be lost.
    const LOCAL: bool;
    /// What each connection of the store's own begins with.
    const ON_CONNECT: Option<&'static str>;
    /// Deletes up to `:batch` rows that expired at `:now` or before.
    const SWEEP: &'static str;

    fn placeholder(param: Param, number: usize) -> String;

    /// The statements that create the table.
    fn create_table(table: &Table) -> Vec<String>;

    /// What an error that the database itself reported means.
    fn verdict(error: &dyn DatabaseError) -> Verdict;

    /// Says what must change if connections of the application's cannot keep what is written.
    fn check(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<Option<&'static str>, Error>> + Send {
        let _ = connection;
        async { Ok(None) }
    }

    /// Connects to the database at a URL.
    fn connect(
        url: &str,
        limits: &Limits,
    ) -> impl Future<Output = Result<Pool<Self>, Error>> + Send {
        connect_to_server(url, *limits)
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

    /// Takes the sweeper's lock for this connection; `false` if another server has it.
    fn lock_for_sweep(
        connection: &mut Self::Connection,
        table: &Table,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    fn unlock_after_sweep(
        connection: &mut Self::Connection,
        table: &Table,
    ) -> impl Future<Output = Result<(), Error>> + Send;

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
}

/// What an error means for the statement that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was done; another attempt may succeed.
    Again,
    /// Nothing was done: this connection, and those that are as old, lead to the wrong server, or
    /// are of no use. An attempt on a new one may succeed.
    NotHere,
    /// Nothing was done.
    Refused,
    /// Nothing was done, since the table is missing.
    NoTable,
    /// The statement may have been done.
    Lost,
}

pub(crate) fn verdict<D: Database>(error: &Error) -> Verdict {
    match error {
        Error::Database(error) => D::verdict(error.as_ref()),
        Error::PoolTimedOut
        | Error::PoolClosed
        | Error::Configuration(_)
        | Error::InvalidArgument(_)
        | Error::Encode(_)
        | Error::BeginFailed
        | Error::TypeNotFound { .. } => Verdict::Refused,
        _ => Verdict::Lost,
    }
}

/// How long things may take, and how many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) command: Duration,
    pub(crate) connections: u32,
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

async fn connect_to_server<D: Database>(url: &str, limits: Limits) -> Result<Pool<D>, Error> {
    let options = url.parse::<<D::Connection as Connection>::Options>()?;
    PoolOptions::new()
        .max_connections(limits.connections)
        .acquire_timeout(limits.connect)
        .test_before_acquire(false)
        .after_connect(|connection: &mut D::Connection, _| {
            Box::pin(async move {
                match D::ON_CONNECT {
                    Some(sql) => D::run(connection, sql).await,
                    None => Ok(()),
                }
            })
        })
        .before_acquire(|connection: &mut D::Connection, known| {
            Box::pin(async move {
                // Only after a pause: a ping per request would double the round trips of a load.
                if known.idle_for > Duration::from_secs(1) {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options)
        .await
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
            };
        }
        query
    }};
}
pub(crate) use bind;

/// The methods of a [`Database`] that have the same text for each: sqlx's bounds cannot be generic.
macro_rules! queries {
    () => {
        async fn run(connection: &mut Self::Connection, sql: &str) -> Result<(), sqlx::Error> {
            use sqlx::Executor as _;

            connection.execute(sql).await.map(drop)
        }

        async fn execute(
            connection: &mut Self::Connection,
            statement: &$crate::storage::sql::statement::Statement,
            values: &$crate::storage::sql::statement::Values<'_>,
        ) -> Result<u64, sqlx::Error> {
            let query = $crate::storage::sql::database::bind!(statement, values);
            Ok(query.execute(connection).await?.rows_affected())
        }

        async fn fetch(
            connection: &mut Self::Connection,
            statement: &$crate::storage::sql::statement::Statement,
            values: &$crate::storage::sql::statement::Values<'_>,
        ) -> Result<Option<$crate::storage::sql::row::Found>, sqlx::Error> {
            use sqlx::Row as _;
            use $crate::storage::sql::row::{Found, Row};

            let query = $crate::storage::sql::database::bind!(statement, values);
            let row = query.fetch_optional(connection).await?;
            let read = |row: <Self as sqlx::Database>::Row| {
                Ok::<_, sqlx::Error>(Row {
                    state: row.try_get(0)?,
                    expires: row.try_get(1)?,
                    // MySQL shows texts of a binary collation as bytes.
                    moved_to: row.try_get_unchecked(2)?,
                    moved_flag: row.try_get_unchecked(3)?,
                    moved_at: row.try_get(4)?,
                    epoch: row.try_get(5)?,
                })
            };
            Ok(row.map(|row| read(row).map_or(Found::Garbage, Found::Row)))
        }
    };
}
pub(crate) use queries;
