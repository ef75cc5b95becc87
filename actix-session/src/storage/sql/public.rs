//! The stores by their public names.

use std::{fmt, time::Duration};

use anyhow::Context as _;
use sqlx::Pool;

use super::{Limits, Store, Sweeper, migrate, run::Failure, schema::Place};
use crate::{
    clock::{Clock, Millis, SharedClock},
    contract::Terms,
    error::CommitError,
    key::SessionKey,
    protocol::{Backend, Name, Op, Reply, Slot},
    storage::shared::shared_store,
};

/// Settings that all three have.
struct Settings<D: sqlx::Database> {
    source: Source<D>,
    schema: Option<String>,
    table: String,
    limits: Limits,
    clock: SharedClock,
    migrates: bool,
}

enum Source<D: sqlx::Database> {
    Url(String),
    Pool(Pool<D>),
}

impl<D: sqlx::Database> Settings<D> {
    fn new(source: Source<D>) -> Self {
        Self {
            // Who brings a pool has migrations of their own, as a rule.
            migrates: matches!(source, Source::Url(_)),
            source,
            schema: None,
            table: super::schema::TABLE.to_owned(),
            limits: Limits::default(),
            clock: SharedClock::default(),
        }
    }
}

macro_rules! sql_store {
    (
        $feature:literal, $module:ident, $database:ty, $pool:ty, $url:literal,
        $(#[$doc:meta])* $store:ident, $builder:ident
    ) => {
        $(#[$doc])*
        #[cfg(feature = $feature)]
        #[derive(Clone)]
        pub struct $store(Store<$database>);

        #[doc = concat!("Settings of a [`", stringify!($store), "`].")]
        ///
        /// # Examples
        /// ```no_run
        /// use std::time::Duration;
        #[doc = concat!("use actix_session::storage::", stringify!($store), ";")]
        ///
        /// # async fn run() -> anyhow::Result<()> {
        #[doc = concat!("let store = ", stringify!($store), "::builder(\"", $url, "\")")]
        ///     .table("web_sessions")
        ///     .command_timeout(Duration::from_millis(500))
        ///     .build()
        ///     .await?;
        /// # let _ = store; Ok(())
        /// # }
        /// ```
        #[cfg(feature = $feature)]
        #[must_use]
        pub struct $builder(Settings<$database>);

        #[cfg(feature = $feature)]
        impl $store {
            /// Connects to the database at a URL, and makes the session table where there is none.
            ///
            #[doc = concat!("The URL looks like `", $url, "`.")]
            ///
            /// # Errors
            /// The URL is none, the database does not answer, or the table cannot be made.
            pub async fn new(url: impl Into<String>) -> Result<Self, anyhow::Error> {
                Self::builder(url).build().await
            }

            /// Keeps sessions in the table `actix_sessions`, through a pool of the application's.
            ///
            /// The table has to be there: call [`migrate`](Self::migrate) once at the start, or run
            /// [`schema_sql`](Self::schema_sql) with the other migrations.
            pub fn from_pool(pool: $pool) -> Self {
                Self(Store::new(
                    pool,
                    Place::default(),
                    Limits::default(),
                    SharedClock::default(),
                ))
            }

            /// Settings other than the default ones, for the database at a URL.
            pub fn builder(url: impl Into<String>) -> $builder {
                $builder(Settings::new(Source::Url(url.into())))
            }

            /// Settings other than the default ones, with a pool of the application's.
            pub fn builder_from_pool(pool: $pool) -> $builder {
                $builder(Settings::new(Source::Pool(pool)))
            }

            /// Makes the session table where there is none. Harmless to repeat, and to call from
            /// many servers at once.
            ///
            /// # Errors
            /// The database does not answer, or does not let this user make a table.
            pub async fn migrate(&self) -> Result<(), anyhow::Error> {
                self.0.migrate().await
            }

            /// The SQL that [`migrate`](Self::migrate) runs, for who runs it by other means.
            pub fn schema_sql(&self) -> String {
                migrate::sql::<$database>(&self.0.0.place)
            }

            /// Deletes up to `batch` sessions and marks whose time is up; answers how many.
            ///
            /// Nobody sees them any more, swept or not: this makes room, and nothing else.
            ///
            /// # Errors
            /// The database does not answer, or refuses.
            pub async fn sweep(&self, batch: u32) -> Result<u64, anyhow::Error> {
                let swept = self.0.sweep(batch).await;
                swept.map_err(|failure: Failure| failure.error)
            }

            /// Sweeps in the background, about once an `interval`, until the handle is dropped.
            ///
            /// It deletes `batch` rows at a time (1,000 is a good number) until none is left, and
            /// rests as long as each batch took. Where several servers have a sweeper, PostgreSQL
            /// and MySQL let one of them work at a time.
            ///
            /// # Panics
            /// Outside of a Tokio (or Actix) runtime.
            pub fn spawn_sweeper(&self, interval: Duration, batch: u32) -> Sweeper {
                self.0.spawn_sweeper(interval, batch)
            }

            /// The pool, for instance to close it after the server has stopped.
            pub fn pool(&self) -> &$pool {
                self.0.0.connections.pool()
            }
        }

        #[cfg(feature = $feature)]
        impl $builder {
            /// Sets the table's name: up to 48 ASCII letters, digits and underscores.
            pub fn table(mut self, name: impl Into<String>) -> Self {
                self.0.table = name.into();
                self
            }

            /// Sets the schema (in MySQL the database, in SQLite the attached file) of the table.
            pub fn schema(mut self, name: impl Into<String>) -> Self {
                self.0.schema = Some(name.into());
                self
            }

            /// Sets how long a free connection, or a new one, may take; 2 seconds by default.
            pub fn connect_timeout(mut self, limit: Duration) -> Self {
                self.0.limits.connect = limit;
                self
            }

            /// Sets how long a statement may take; 1 second by default. In SQLite: how long one
            /// waits for writers of other processes.
            pub fn command_timeout(mut self, limit: Duration) -> Self {
                self.0.limits.command = limit;
                self
            }

            /// Sets how many connections there are at most; 10 by default. A pool that the
            /// application brings keeps its own number.
            pub fn max_connections(mut self, most: u32) -> Self {
                self.0.limits.connections = most.max(1);
                self
            }

            /// Sets the clock that ends are compared with; the middleware should have the same.
            pub fn clock(mut self, clock: impl Clock) -> Self {
                self.0.clock = SharedClock::new(clock);
                self
            }

            /// Sets whether [`build`](Self::build) makes the table: yes for a URL, no for a pool.
            pub fn migrate(mut self, migrates: bool) -> Self {
                self.0.migrates = migrates;
                self
            }

            /// Connects, and makes the table where that is wanted.
            ///
            /// # Errors
            /// The URL or a name is none, the database does not answer, or the table cannot be
            /// made.
            pub async fn build(self) -> Result<$store, anyhow::Error> {
                let settings = self.0;
                let place = Place::new(settings.schema, settings.table)?;
                let pool = match settings.source {
                    Source::Pool(pool) => pool,
                    Source::Url(url) => super::$module::connect(&url, &settings.limits)
                        .await
                        .context(concat!(
                            "the session database cannot be opened; its address should look like ",
                            $url
                        ))?,
                };
                let store = $store(Store::new(pool, place, settings.limits, settings.clock));
                if settings.migrates {
                    store.migrate().await?;
                }
                Ok(store)
            }
        }

        /// Shows nothing of the address, which may hold a password.
        #[cfg(feature = $feature)]
        impl fmt::Debug for $store {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($store)).finish_non_exhaustive()
            }
        }

        /// Shows nothing of the address, which may hold a password.
        #[cfg(feature = $feature)]
        impl fmt::Debug for $builder {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($builder)).finish_non_exhaustive()
            }
        }

        #[cfg(feature = $feature)]
        impl Backend for $store {
            const REMOTE: bool = <Store<$database> as Backend>::REMOTE;

            async fn run(&self, op: &Op, terms: &Terms) -> Result<Reply, anyhow::Error> {
                self.0.run(op, terms).await
            }

            async fn look(&self, at: &str, terms: &Terms) -> Result<Slot, anyhow::Error> {
                self.0.look(at, terms).await
            }

            async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
                self.0.set_ttl(at, ttl).await
            }

            fn name(&self, key: &SessionKey) -> Name {
                self.0.name(key)
            }

            fn draw_key(&self, beside: Option<&str>) -> Result<(SessionKey, Name), CommitError> {
                self.0.draw_key(beside)
            }

            fn own_terms(&self) -> Terms {
                self.0.own_terms()
            }
        }

        #[cfg(feature = $feature)]
        shared_store!($store);
    };
}

sql_store! {
    "sqlite-session", sqlite, sqlx::Sqlite, sqlx::SqlitePool, "sqlite://sessions.sqlite3",
    /// Keeps sessions in an SQLite file: for one server, nothing to install, and sessions survive a
    /// restart.
    ///
    /// Commits and endings are one statement each, renewals one transaction. Reading never waits
    /// for writing (WAL). Writers of one store wait in line, so that none starves; those of other
    /// processes wait for each other up to [`command_timeout`]. With [`new`] the file is in WAL mode
    /// under `synchronous = NORMAL`: a killed process loses nothing; a crash of the whole machine may
    /// undo what was acknowledged last, an ending too. Who cannot have that gives a pool of
    /// connections with `synchronous = FULL`.
    ///
    /// The table holds digests of session keys: nobody who reads it, or a copy, can use a session.
    ///
    /// [`new`]: Self::new
    /// [`command_timeout`]: SqliteSessionStoreBuilder::command_timeout
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
    SqliteSessionStore, SqliteSessionStoreBuilder
}

sql_store! {
    "postgres-session", postgres, sqlx::Postgres, sqlx::PgPool,
    "postgres://user:password@localhost/app",
    /// Keeps sessions in PostgreSQL, 11 or newer.
    ///
    /// Commits, endings and renewals are one statement each, hence atomic and one round trip; so is
    /// a load, with or without an extension of the record's life. Serialization failures and
    /// deadlocks are tried again unseen, at any isolation level.
    ///
    /// The table holds digests of session keys: nobody who reads it, or a dump, can use a session.
    /// An asynchronous replica that is promoted, and `synchronous_commit = off`, may bring an ended
    /// session back.
    ///
    /// # TLS
    /// Turn on one of `sqlx`'s features, for instance `tls-rustls`, in the application.
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
    PostgresSessionStore, PostgresSessionStoreBuilder
}

sql_store! {
    "mysql-session", mysql, sqlx::MySql, sqlx::MySqlPool,
    "mysql://user:password@localhost/app",
    /// Keeps sessions in MariaDB (10.5 or newer) or MySQL (8.0 or newer).
    ///
    /// Commits and endings are one statement each, and one round trip; a renewal is a transaction
    /// of four. A load is one round trip, and two where it extends the record's life, since an
    /// update here answers no row. Deadlocks are tried again unseen.
    ///
    /// The table holds digests of session keys: nobody who reads it, or a dump, can use a session.
    /// An asynchronous replica that is promoted, and `innodb_flush_log_at_trx_commit` other than 1,
    /// may bring an ended session back.
    ///
    /// # TLS
    /// Turn on one of `sqlx`'s features, for instance `tls-rustls`, in the application.
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
    MySqlSessionStore, MySqlSessionStoreBuilder
}
