//! The store and its builder, for every database.

use std::{fmt, sync::Arc};

use anyhow::Context as _;
use sqlx::{Error, Pool};

use super::{
    database::{Limits, SqlDatabase, hint},
    failure::Failure,
    run::Connections,
    runtime::OwnRuntime,
    table::{self, Table},
    telling::Telling,
};
use crate::{
    AnyDuration,
    clock::{Clock, SharedClock},
    duration::check_timeout,
    live::hub::Hub,
};

/// Keeps sessions in an SQL database.
///
/// Each database has a name for its store: [`SqliteSessionStore`], [`PostgresSessionStore`] and
/// [`MySqlSessionStore`]. They say what each database promises, and have examples. This type is for
/// code that works with any of them.
///
/// Clones share one store.
///
/// [`SqliteSessionStore`]: crate::storage::SqliteSessionStore
/// [`PostgresSessionStore`]: crate::storage::PostgresSessionStore
/// [`MySqlSessionStore`]: crate::storage::MySqlSessionStore
///
/// # Examples
/// ```
/// use actix_session::storage::{SqlDatabase, SqlSessionStore};
///
/// async fn delete_expired<D: SqlDatabase>(store: &SqlSessionStore<D>) -> anyhow::Result<u64> {
///     store.sweep(1_000).await
/// }
/// ```
pub struct SqlSessionStore<D: SqlDatabase>(pub(super) Arc<Inner<D>>);

pub(super) struct Inner<D: SqlDatabase> {
    pub(super) connections: Arc<Connections<D>>,
    /// Where the connections live, if the store itself opens them. Dropped after they are.
    pub(super) runtime: Option<OwnRuntime>,
    pub(super) table: Table,
    pub(super) statements: Telling,
    pub(super) clock: SharedClock,
    /// Whoever waits for the end of a session.
    pub(super) hub: Arc<Hub>,
}

impl<D: SqlDatabase> SqlSessionStore<D> {
    /// Connects to the database at a URL, and creates the session table if it is missing.
    ///
    /// The connections are used on a thread of their own, which ends when the last clone of the store
    /// is dropped. So no request waits for a worker that is busy.
    ///
    /// # Errors
    /// The URL cannot be parsed, the database does not answer, or the table cannot be created.
    pub async fn new(url: impl Into<String>) -> Result<Self, anyhow::Error> {
        Self::builder(url).build().await
    }

    /// What can be known of a URL without the database.
    pub(in crate::storage) fn parse(url: &str) -> anyhow::Result<()> {
        D::options(url).context("the address of the database cannot be parsed")?;
        Ok(())
    }

    /// Keeps sessions in the table `actix_sessions`, through a pool of the application's.
    ///
    /// A worker that is busy keeps the connections that it uses, and those that it has opened stand
    /// still: run long computations in `web::block`.
    ///
    /// While the store writes to SQLite, the connection's `busy_timeout` is at most what is left of the
    /// time for the write, and then what it was before.
    ///
    /// The table must exist: call [`migrate`](Self::migrate) once at the start, or run
    /// [`schema_sql`](Self::schema_sql) with your other migrations.
    pub fn from_pool(pool: Pool<D>) -> Self {
        Self::with(
            (pool, None),
            Table::default(),
            Limits::default(),
            SharedClock::default(),
        )
    }

    /// Sets the store up for the database at a URL.
    pub fn builder(url: impl Into<String>) -> SqlSessionStoreBuilder<D> {
        SqlSessionStoreBuilder::from_source(Source::Url(url.into()))
    }

    /// Sets the store up for a pool of the application's.
    pub fn builder_from_pool(pool: Pool<D>) -> SqlSessionStoreBuilder<D> {
        SqlSessionStoreBuilder::from_source(Source::Pool(pool))
    }

    /// The pool, for instance to close it after the server has stopped.
    ///
    /// If the store has opened it, what you open through it belongs to your runtime, and requests of
    /// other workers may have to wait for yours. Its connections have the store's settings:
    /// statements that wait for a lock, and in MariaDB transactions that do nothing, end after a second
    /// or less.
    pub fn pool(&self) -> &Pool<D> {
        self.0.connections.pool()
    }

    fn with(opened: Opened<D>, table: Table, limits: Limits, clock: SharedClock) -> Self {
        let (pool, runtime) = opened;
        let prepares = D::prepares(&pool.connect_options());
        Self(Arc::new(Inner {
            connections: Arc::new(Connections::new(pool, limits, runtime.is_some())),
            runtime,
            statements: Telling::new::<D>(&table, prepares),
            table,
            clock,
            hub: Arc::default(),
        }))
    }

    /// Does work where the connections live. If nobody waits for it any more, it goes on there.
    pub(super) async fn there<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let work = work(self.clone());
        match &self.0.runtime {
            None => work.await,
            Some(runtime) => {
                let done = runtime.run(work).await;
                done.unwrap_or_else(|| Err(Failure::unfinished()))
            }
        }
    }
}

impl<D: SqlDatabase> Clone for SqlSessionStore<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Whether the URL asks for TLS, and no feature of `sqlx` brings it.
fn lacks_tls(error: &Error) -> bool {
    matches!(error, Error::Tls(error) if error.to_string().contains("without TLS support"))
}

/// Shows nothing of the URL, which may hold a password.
impl<D: SqlDatabase> fmt::Debug for SqlSessionStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSessionStore")
            .field("database", &D::NAME)
            .finish_non_exhaustive()
    }
}

/// Sets up an [`SqlSessionStore`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_session::storage::{SqlDatabase, SqlSessionStore};
///
/// async fn open<D: SqlDatabase>(url: &str) -> anyhow::Result<SqlSessionStore<D>> {
///     SqlSessionStore::builder(url)
///         .table("web_sessions")
///         .command_timeout(Duration::from_millis(500))
///         .build()
///         .await
/// }
/// ```
#[must_use]
pub struct SqlSessionStoreBuilder<D: SqlDatabase> {
    source: Source<D>,
    schema: Option<String>,
    table: String,
    limits: Limits,
    clock: SharedClock,
    migrates: bool,
}

enum Source<D: SqlDatabase> {
    Url(String),
    Pool(Pool<D>),
}

impl<D: SqlDatabase> SqlSessionStoreBuilder<D> {
    fn from_source(source: Source<D>) -> Self {
        Self {
            // Applications that bring a pool usually run their own migrations.
            migrates: matches!(source, Source::Url(_)),
            source,
            schema: None,
            table: table::DEFAULT_NAME.to_owned(),
            limits: Limits::default(),
            clock: SharedClock::default(),
        }
    }

    /// Sets the table's name: up to 48 ASCII letters, digits and underscores.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::PostgresSessionStore;
    /// let builder = PostgresSessionStore::builder("postgres://localhost/shop")
    ///     .table("web_sessions");
    /// # let _ = builder;
    /// ```
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Sets the schema of the table. In MySQL this is the database, in SQLite the attached file.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::PostgresSessionStore;
    /// let builder = PostgresSessionStore::builder("postgres://localhost/shop")
    ///     .schema("web");
    /// # let _ = builder;
    /// ```
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = Some(name.into());
        self
    }

    /// Sets how long it may take to get a connection, free or new; 2 seconds by default.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::PostgresSessionStore;
    /// let builder = PostgresSessionStore::builder("postgres://localhost/shop")
    ///     .connect_timeout(std::time::Duration::from_secs(1));
    /// # let _ = builder;
    /// ```
    pub fn connect_timeout(mut self, limit: impl AnyDuration) -> Self {
        self.limits.connect = limit.unsigned();
        self
    }

    /// Sets how long a statement may take; 1 second by default. In MySQL, from a second on, one that
    /// waits for a lock may take up to a quarter of a second longer. In SQLite, this is how long a
    /// statement waits for writers of other processes.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::PostgresSessionStore;
    /// let builder = PostgresSessionStore::builder("postgres://localhost/shop")
    ///     .command_timeout(std::time::Duration::from_millis(500));
    /// # let _ = builder;
    /// ```
    pub fn command_timeout(mut self, limit: impl AnyDuration) -> Self {
        self.limits.command = limit.unsigned();
        self
    }

    /// Sets the greatest number of connections; 10 by default. It does not change a pool that the
    /// application brings.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::PostgresSessionStore;
    /// let builder = PostgresSessionStore::builder("postgres://localhost/shop")
    ///     .max_connections(30);
    /// # let _ = builder;
    /// ```
    pub fn max_connections(mut self, most: u32) -> Self {
        self.limits.connections = most.max(1);
        self
    }

    /// Sets the clock that decides what has expired. Give the middleware the same clock.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::PostgresSessionStore;
    /// let builder = PostgresSessionStore::builder("postgres://localhost/shop")
    ///     .clock(actix_session::testing::ManualClock::new());
    /// # let _ = builder;
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Sets whether [`build`](Self::build) creates the table: by default yes for a URL, no for a
    /// pool.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::PostgresSessionStore;
    /// let builder = PostgresSessionStore::builder("postgres://localhost/shop")
    ///     .migrate(false);
    /// # let _ = builder;
    /// ```
    pub fn migrate(mut self, migrates: bool) -> Self {
        self.migrates = migrates;
        self
    }

    /// Checks the names of the table and the schema, without the database: for programs that take them
    /// from a command line or a configuration. [`build`](Self::build) does so too.
    ///
    /// # Errors
    /// A name is invalid: it must have 1 to 48 ASCII letters, digits and underscores, and must not begin
    /// with a digit.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::storage::PostgresSessionStore;
    /// let builder = PostgresSessionStore::builder("postgres://localhost/shop");
    /// let error = builder.table("a;b").check_names().unwrap_err();
    /// assert!(error.to_string().contains(r#""a;b" is not a valid name"#));
    /// ```
    pub fn check_names(&self) -> Result<(), anyhow::Error> {
        self.names().map(drop)
    }

    fn names(&self) -> anyhow::Result<Table> {
        Table::new(self.schema.clone(), self.table.clone())
    }

    /// Connects, and creates the table if [`migrate`](Self::migrate) says so.
    ///
    /// # Errors
    /// The URL cannot be parsed, a name is invalid, a time-out is shorter than a millisecond (in SQLite,
    /// `command_timeout` may be), the database does not answer, or the table cannot be created.
    ///
    /// # Examples
    /// See [`SqlSessionStoreBuilder`].
    pub async fn build(self) -> Result<SqlSessionStore<D>, anyhow::Error> {
        let table = self.names()?;
        check_timeout("connect_timeout", self.limits.connect)?;
        // In SQLite, statements may wait for nobody.
        if !D::LOCAL {
            check_timeout("command_timeout", self.limits.command)?;
        }
        let opened = match self.source {
            Source::Pool(pool) => (pool, None),
            Source::Url(url) => open(url, self.limits).await?,
        };
        let store = SqlSessionStore::with(opened, table, self.limits, self.clock);
        if self.migrates {
            store.migrate().await?;
        }
        Ok(store)
    }
}

/// A pool, and the runtime where its connections live if it is the store's own.
type Opened<D> = (Pool<D>, Option<OwnRuntime>);

async fn open<D: SqlDatabase>(url: String, limits: Limits) -> anyhow::Result<Opened<D>> {
    let runtime = OwnRuntime::start().context("the session database needs a thread")?;
    // An `@` or a `#` of a password is read as the end of it.
    let is_odd = url.matches('@').count() > 1 || url.contains('#');
    let connected = runtime.run(async move { D::connect(&url, &limits).await });
    let pool = connected.await.unwrap_or(Err(Error::WorkerCrashed));
    let opened = pool.map(|pool| (pool, Some(runtime)));
    opened.map_err(|error| {
        let context = match &error {
            _ if is_odd && !D::LOCAL => format!(
                "; its URL must look like {}, with each `@`, `#`, `/` and `?` of the password \
                 percent-encoded",
                D::URL
            ),
            Error::Configuration(_) => format!("; its URL must look like {}", D::URL),
            error if lacks_tls(error) => "; for TLS, turn on a feature of `sqlx` in the \
                 application, such as `tls-rustls-ring-native-roots`"
                .to_owned(),
            error => hint::<D>(error).map_or_else(String::new, |hint| format!("; {hint}")),
        };
        let context = format!("the session database cannot be opened{context}");
        anyhow::Error::from(error).context(context)
    })
}

/// Shows nothing of the URL, which may hold a password.
impl<D: SqlDatabase> fmt::Debug for SqlSessionStoreBuilder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSessionStoreBuilder")
            .field("database", &D::NAME)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of `sqlx` 0.8: its features are the whole program's, so that a test cannot choose.
    #[test]
    fn whoever_lacks_tls_is_told_so() {
        let words =
            "TLS upgrade required by connect options but SQLx was built without TLS support";
        assert!(lacks_tls(&Error::Tls(words.into())));
        assert!(!lacks_tls(&Error::Tls(
            "the certificate has expired".into()
        )));
    }
}
