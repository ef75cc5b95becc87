//! Sessions in an SQL database: one implementation over three small dialects.
//!
//! - `store`: [`SqlSessionStore`], which handles share, and its builder.
//! - `backend`: the atomic steps of the protocol, each as one statement or one transaction.
//! - `carry`: carries queries out; `look`: reading and extending.
//! - `query`: what is asked of the database, and what that allows.
//! - `statements`: every statement of a store; `statement`: one of them, with named parameters.
//! - `transaction`: how one begins.
//! - `row`: a record and a redirect as columns; `table`: the names of the table and its indexes.
//! - `connect`: a pool of the store's own; `runtime`: where it lives; `run`: connections and time
//!   limits; `line`: who gets the next connection.
//! - `ends`: ends of sessions, as PostgreSQL tells them; `pooler`: what may lie before it.
//! - `failure`: why something failed; `attempts`: whether it is tried again.
//! - `migrate`: creates the table; `sweep`: deletes expired rows; `upkeep`: what operators ask for.
//! - `database`: what differs between databases; `sqlite`, `postgres`, `mysql`: the dialects, and
//!   the stores' names for them. `plans` (a test): by which index SQLite carries each statement out.

mod attempts;
mod backend;
mod carry;
mod connect;
mod database;
#[cfg(feature = "postgres-session")]
mod ends;
mod failure;
mod index;
mod index_statements;
mod line;
mod look;
mod migrate;
#[cfg(feature = "mysql-session")]
mod mysql;
#[cfg(all(test, feature = "sqlite-session"))]
mod plans;
#[cfg(feature = "postgres-session")]
mod pooler;
#[cfg(feature = "postgres-session")]
mod postgres;
mod proof;
mod query;
mod row;
mod run;
mod runtime;
#[cfg(feature = "sqlite-session")]
mod sqlite;
mod statement;
mod statements;
mod store;
mod sweep;
mod table;
mod telling;
mod transaction;
mod upkeep;

#[cfg(test)]
pub(crate) use self::database::Database;
#[cfg(feature = "mysql-session")]
pub use self::mysql::{MySqlSessionStore, MySqlSessionStoreBuilder};
#[cfg(feature = "postgres-session")]
pub use self::postgres::{PostgresSessionStore, PostgresSessionStoreBuilder};
#[cfg(fuzzing)]
pub(crate) use self::row::{Row, slot_of};
#[cfg(feature = "sqlite-session")]
pub use self::sqlite::{SqliteSessionStore, SqliteSessionStoreBuilder};
pub use self::{
    database::SqlDatabase,
    store::{SqlSessionStore, SqlSessionStoreBuilder},
    sweep::Sweeper,
};
