//! The SQL stores under test: a table of its own for each test.

use std::{collections::HashMap, time::Duration};

use actix_session::{
    storage::{SessionKey, SessionStore},
    testing::ManualClock,
};
use actix_web::cookie::{Key, time};
use sqlx::Row as _;

use super::{Dump, PATIENCE, TOMBSTONE, TestStore, random_name, shared};

/// What tests of SQL stores need in addition.
pub(crate) trait SqlTestStore: TestStore {
    type Builder;

    type Database: sqlx::Database;

    /// A table on the server at a URL.
    async fn at(url: &str) -> Self;

    /// Connections as anybody has them, without the store's settings.
    fn pool(&self) -> &sqlx::Pool<Self::Database>;

    fn url(&self) -> &str;

    fn table(&self) -> &str;

    /// Settings of another store on the same table, on another way to the server.
    fn builder(&self, url: &str) -> Self::Builder;

    /// The store on the same table, by another way to the server, in no more time than that.
    async fn store_through(&self, url: &str, limit: Duration) -> Self::Store;

    /// Changes rows by hand; `{t}` is the table, `{not_before}` the one beside it. Answers how many.
    async fn execute(&self, sql: &str) -> u64;

    /// The only column of the only row, a number.
    async fn number(&self, sql: &str) -> i64;
}

macro_rules! test_store {
    ($name:ident, $store:ident, $builder:ident, $database:ty, $quote:literal, $start:expr) => {
        /// A table that nobody else has.
        pub(crate) struct $name {
            store: actix_session::storage::$store,
            clock: ManualClock,
            key: Key,
            url: String,
            pub(crate) table: String,
            /// The test's own look: connections of a server's workers end with these.
            pool: sqlx::Pool<$database>,
            folder: Option<tempfile::TempDir>,
        }

        impl $name {
            pub(crate) fn sql(&self, sql: &str) -> String {
                let quoted = |suffix| format!("{}{}{suffix}{}", $quote, self.table, $quote);
                sql.replace("{t}", &quoted(""))
                    .replace("{not_before}", &quoted("_not_before"))
            }
        }

        impl SqlTestStore for $name {
            type Builder = actix_session::storage::$builder;
            type Database = $database;

            async fn at(url: &str) -> Self {
                let clock = ManualClock::new();
                let table = format!("test_{}", random_name());
                let store = actix_session::storage::$store::builder(url)
                    .table(&table)
                    .clock(clock.clone())
                    .build()
                    .await
                    .unwrap();
                Self {
                    store,
                    clock,
                    key: Key::generate(),
                    url: url.to_owned(),
                    table,
                    pool: sqlx::pool::PoolOptions::new()
                        .connect_lazy(&not_pooled(url))
                        .unwrap(),
                    folder: None,
                }
            }

            fn pool(&self) -> &sqlx::Pool<$database> {
                &self.pool
            }

            fn url(&self) -> &str {
                &self.url
            }

            fn table(&self) -> &str {
                &self.table
            }

            fn builder(&self, url: &str) -> Self::Builder {
                actix_session::storage::$store::builder(url)
                    .table(&self.table)
                    .clock(self.clock.clone())
            }

            async fn store_through(&self, url: &str, limit: Duration) -> Self::Store {
                let builder = self.builder(url);
                let limited = builder.command_timeout(limit).connect_timeout(limit);
                limited.build().await.unwrap()
            }

            async fn execute(&self, sql: &str) -> u64 {
                let sql = self.sql(sql);
                let done = sqlx::query::<$database>(&sql).execute(&self.pool).await;
                done.unwrap().rows_affected()
            }

            async fn number(&self, sql: &str) -> i64 {
                let sql = self.sql(sql);
                let row = sqlx::query::<$database>(&sql).fetch_one(&self.pool).await;
                row.unwrap().get(0)
            }
        }

        impl TestStore for $name {
            type Store = actix_session::storage::$store;

            async fn start() -> Self {
                let (url, folder): (String, Option<tempfile::TempDir>) = $start;
                let mut tested = Self::at(&url).await;
                tested.folder = folder;
                tested.store = tested.store_through(&url, PATIENCE).await;
                tested
            }

            fn store(&self) -> Self::Store {
                self.store.clone()
            }

            fn clock(&self) -> &ManualClock {
                &self.clock
            }

            fn key(&self) -> &Key {
                &self.key
            }

            async fn dump(&self) -> Dump {
                let sql = self.sql("SELECT id, state, moved_to, moved_flag, moved_at FROM {t}");
                let rows = sqlx::query::<$database>(&sql).fetch_all(&self.pool).await;
                let read = |row: <$database as sqlx::Database>::Row| {
                    // MySQL shows texts of a binary collation as bytes.
                    let name: String = row.get_unchecked(0);
                    let state: Option<Vec<u8>> = row.get(1);
                    let target: Option<String> = row.get_unchecked(2);
                    let text = match target {
                        None => String::from_utf8_lossy(&state.unwrap_or_default()).into_owned(),
                        Some(target) if target.is_empty() => TOMBSTONE.to_owned(),
                        Some(target) => {
                            let flag: Option<String> = row.get_unchecked(3);
                            let at: Option<i64> = row.get(4);
                            format!("{flag:?}|{at:?}|{target}")
                        }
                    };
                    (name, text)
                };
                Dump::of(rows.unwrap().into_iter().map(read).collect())
            }
        }
    };
}

test_store!(
    Sqlite,
    SqliteSessionStore,
    SqliteSessionStoreBuilder,
    sqlx::Sqlite,
    '"',
    {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sessions.sqlite3");
        (format!("sqlite://{}", file.display()), Some(folder))
    }
);

test_store!(
    Postgres,
    PostgresSessionStore,
    PostgresSessionStoreBuilder,
    sqlx::Postgres,
    '"',
    (servers::PostgresServer::shared_url().unwrap(), None)
);

test_store!(
    Pooled,
    PostgresSessionStore,
    PostgresSessionStoreBuilder,
    sqlx::Postgres,
    '"',
    (shared::pooled_url(), None)
);

test_store!(
    MySql,
    MySqlSessionStore,
    MySqlSessionStoreBuilder,
    sqlx::MySql,
    '`',
    { (servers::MariaDbServer::shared_url().unwrap(), None) }
);

impl Postgres {
    /// The URL of a user who may read and write the rows of the table, and nothing else, with so
    /// many connections.
    pub(crate) async fn user(&self, connections: u32) -> String {
        let user = format!("u_{}", random_name().to_lowercase());
        let create = format!("CREATE ROLE {user} LOGIN CONNECTION LIMIT {connections}");
        self.execute(&create).await;
        for table in ["{t}", "{not_before}"] {
            let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {user}");
            self.execute(&grant).await;
        }
        as_user(&self.url, &user)
    }
}

impl MySql {
    /// As for PostgreSQL.
    pub(crate) async fn user(&self, connections: u32) -> String {
        let user = format!("u_{}", random_name().to_lowercase());
        let create =
            format!("CREATE USER {user}@'127.0.0.1' WITH MAX_USER_CONNECTIONS {connections}");
        self.execute(&create).await;
        for table in ["{t}", "{not_before}"] {
            let rights = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table}");
            self.execute(&format!("{rights} TO {user}@'127.0.0.1'"))
                .await;
        }
        as_user(&self.url, &user)
    }
}

fn as_user(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    format!("{scheme}://{user}@{}", rest.split_once('@').unwrap().1)
}

/// The test's own look goes to the server itself.
fn not_pooled(url: &str) -> String {
    if url.ends_with(shared::UNPREPARED) {
        return servers::PostgresServer::shared_url().unwrap();
    }
    url.to_owned()
}

/// Instantiates the body of a test, a macro, for each SQL store and its type.
macro_rules! on_each_database {
    ($name:ident, $body:ident) => {
        mod $name {
            use super::*;
            use $crate::support::{MySql, Postgres, Sqlite};

            #[actix_web::test]
            async fn on_sqlite() {
                let tested = Sqlite::start().await;
                $body!(tested, SqliteSessionStore);
            }

            #[actix_web::test]
            async fn on_postgres() {
                let tested = Postgres::start().await;
                $body!(tested, PostgresSessionStore);
            }

            #[actix_web::test]
            async fn on_pgbouncer() {
                let tested = $crate::support::Pooled::start().await;
                $body!(tested, PostgresSessionStore);
            }

            #[actix_web::test]
            async fn on_mysql() {
                let tested = MySql::start().await;
                $body!(tested, MySqlSessionStore);
            }
        }
    };
}
pub(crate) use on_each_database;

/// Some sessions of an hour, and one of two days.
pub(crate) async fn fill_store<S: SessionStore>(store: &S, short: usize) -> SessionKey {
    let state = || HashMap::from([("n".to_owned(), "1".to_owned())]);
    for _ in 0..short {
        store.save(state(), &time::Duration::HOUR).await.unwrap();
    }
    store.save(state(), &time::Duration::days(2)).await.unwrap()
}
