//! What differs between databases.

use std::{borrow::Cow, future::Future};

use sqlx::{Error, error::DatabaseError};

use super::{
    schema::Place,
    statement::{Param, Statement, Values},
};

/// A database that can keep sessions.
pub(crate) trait Database: sqlx::Database {
    const QUOTE: char;
    /// The smaller one of two numbers.
    const LEAST: &'static str;
    /// Whether an update can answer the row.
    const RETURNS: bool;
    /// Whether a renewal is one statement.
    const ROTATES_AT_ONCE: bool;
    /// Begins a transaction that writes.
    const BEGIN: &'static str;
    /// Whether it is in this process: writers wait in line, and no connection can be lost.
    const LOCAL: bool;
    /// Deletes up to `:batch` rows that ended at `:now` or before.
    const SWEEP: &'static str;

    fn placeholder(param: Param, number: usize) -> String;

    /// The statements that make the table.
    fn tables(place: &Place) -> Vec<String>;

    /// Takes, on a connection that is in a transaction, the lock that migrations share.
    fn lock_for_migration(
        connection: &mut Self::Connection,
        place: &Place,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    fn unlock_after_migration(
        connection: &mut Self::Connection,
        place: &Place,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Says whether this server is the one to sweep, and takes the lock for as long as the
    /// connection is not given back.
    fn lock_for_sweep(
        connection: &mut Self::Connection,
        place: &Place,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    fn unlock_after_sweep(
        connection: &mut Self::Connection,
        place: &Place,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Runs a statement without parameters that no cache needs to keep.
    fn run(
        connection: &mut Self::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Runs a statement; answers how many rows it met.
    fn execute(
        connection: &mut Self::Connection,
        statement: &Statement,
        values: &Values<'_>,
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Runs a statement that answers one row or none.
    fn fetch(
        connection: &mut Self::Connection,
        statement: &Statement,
        values: &Values<'_>,
    ) -> impl Future<Output = Result<Option<Found>, Error>> + Send;

    /// What an error that the database itself has answered means.
    fn verdict(error: &dyn DatabaseError) -> Verdict;
}

/// What an error means for the step that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not done; done again it may work.
    Again,
    /// Not done.
    Refused,
    /// Nobody knows.
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

/// A row: a record, a mark, or what is neither.
#[derive(Debug)]
pub(crate) enum Found {
    Row(Row),
    /// A column holds something of another type.
    Garbage,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) expires: i64,
    pub(crate) moved_to: Option<String>,
    pub(crate) moved_flag: Option<String>,
    pub(crate) moved_at: Option<i64>,
}

/// Codes are compared as text, since that is what all databases have.
pub(crate) fn is_one_of(code: Option<&Cow<'_, str>>, known: &[&str]) -> bool {
    code.is_some_and(|code| known.contains(&code.as_ref()))
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

/// The part of a [`Database`] that reads the same for all of them.
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
        ) -> Result<Option<$crate::storage::sql::database::Found>, sqlx::Error> {
            use sqlx::Row as _;
            use $crate::storage::sql::database::{Found, Row};

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
                })
            };
            Ok(row.map(|row| read(row).map_or(Found::Garbage, Found::Row)))
        }
    };
}
pub(crate) use queries;
