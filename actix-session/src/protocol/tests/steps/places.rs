//! The back ends under test.

use std::{fmt::Display, sync::OnceLock, time::Duration};

use servers::{MariaDbServer, PostgresServer, RedisCluster, RedisServer, resp::lines_of};
use sqlx::{
    MySql as MySqlDatabase, Postgres as PostgresDatabase, Sqlite as SqliteDatabase,
    pool::PoolOptions,
};

#[path = "../../../../tests/it/support/in_memory.rs"]
mod in_memory;

use self::in_memory::InMemory;
use crate::{
    clock::Millis,
    contract::Terms,
    protocol::{Backend, Stored},
    random,
    storage::{
        KeyValueSessionStore, MemorySessionStore, RedisSessionStore, RedisSessionStoreBuilder,
        SessionStore, SqlDatabase, SqlSessionStore, SqlSessionStoreBuilder,
    },
    testing::ManualClock,
};

/// A back end, and what a test does to it behind the store's back.
pub(in crate::protocol::tests) trait Place: Sized {
    type Store: Backend + SessionStore;

    /// Whether the test's clock alone says what has expired.
    const EXACT: bool = true;

    async fn start(clock: ManualClock) -> Self;

    fn store(&self) -> &Self::Store;

    /// Makes what lies under a name, and beside it, older.
    fn age(&self, _name: &str, _span: Millis) {}

    /// How long a record still lives.
    async fn left(&self, at: &str, now: Millis) -> Millis {
        let terms = Terms {
            now,
            ..Terms::default()
        };
        match self.store().look(at, &terms).await.unwrap() {
            Stored::Record(record) => record.end().unwrap() - now,
            found => panic!("{found:?}"),
        }
    }

    /// Puts what cannot be read in the place of a record. `false` if nobody can.
    async fn garble(&self, at: &str) -> bool;
}

pub(super) struct Memory(MemorySessionStore);

impl Place for Memory {
    type Store = MemorySessionStore;

    async fn start(clock: ManualClock) -> Self {
        Self(MemorySessionStore::builder().clock(clock).build())
    }

    fn store(&self) -> &MemorySessionStore {
        &self.0
    }

    async fn garble(&self, _: &str) -> bool {
        false
    }
}

/// A store over a database of one's own.
pub(super) struct KeyValue(KeyValueSessionStore<InMemory>);

impl Place for KeyValue {
    type Store = KeyValueSessionStore<InMemory>;

    async fn start(clock: ManualClock) -> Self {
        let builder = KeyValueSessionStore::builder(InMemory::default());
        Self(builder.clock(clock).build())
    }

    fn store(&self) -> &Self::Store {
        &self.0
    }

    async fn garble(&self, at: &str) -> bool {
        let mut values = self.0.database().values();
        let (value, end) = values.get_mut(at).unwrap();
        *value = format!("{end} record 0 garbage").into_bytes();
        true
    }
}

/// Redis, under a prefix that nobody else has.
pub(super) struct Redis {
    store: RedisSessionStore,
    ports: Vec<u16>,
}

impl Redis {
    async fn build(builder: RedisSessionStoreBuilder, urls: &[String], clock: ManualClock) -> Self {
        let builder = builder
            .key_prefix(format!("steps:{}:", own_name()))
            .command_timeout(PATIENCE)
            .connect_timeout(PATIENCE);
        let port = |url: &String| url.rsplit(':').next().unwrap().parse().unwrap();
        Self {
            store: builder.clock(clock).build().await.unwrap(),
            ports: urls.iter().map(port).collect(),
        }
    }

    /// What the server that has the key answers.
    fn ask(&self, command: &str) -> String {
        let answers = self.ports.iter();
        let mut answers = answers.map(|port| lines_of(*port, command).unwrap().swap_remove(0));
        let answered = answers.find(|line| !line.starts_with("-MOVED"));
        answered.expect("a server has the key")
    }

    fn pttl(&self, key: &str) -> i64 {
        self.ask(&format!("PTTL {key}"))[1..].parse().unwrap()
    }

    fn make_older(&self, key: &str, span: Millis) {
        match self.pttl(key) {
            // There is no such key.
            -2 => {}
            left if left > span.0 => {
                self.ask(&format!("PEXPIRE {key} {}", left - span.0));
            }
            _ => {
                self.ask(&format!("DEL {key}"));
            }
        }
    }
}

impl Place for Redis {
    type Store = RedisSessionStore;

    const EXACT: bool = false;

    async fn start(clock: ManualClock) -> Self {
        let url = RedisServer::shared_url().unwrap();
        Self::build(
            RedisSessionStore::builder(&url),
            std::slice::from_ref(&url),
            clock,
        )
        .await
    }

    fn store(&self) -> &RedisSessionStore {
        &self.store
    }

    fn age(&self, name: &str, span: Millis) {
        self.make_older(name, span);
        let redirect = match name.contains('{') {
            true => format!("{name}:moved"),
            false => format!("{{{name}}}:moved"),
        };
        self.make_older(&redirect, span);
    }

    async fn left(&self, at: &str, _: Millis) -> Millis {
        Millis(self.pttl(at))
    }

    async fn garble(&self, at: &str) -> bool {
        assert_eq!(self.ask(&format!("SET {at} garbage XX KEEPTTL")), "+OK");
        true
    }
}

/// A Redis of another shape.
macro_rules! other_redis {
    ($(#[$about:meta])* $name:ident, $start:expr) => {
        $(#[$about])*
        pub(super) struct $name(Redis);

        impl Place for $name {
            type Store = RedisSessionStore;

            const EXACT: bool = false;

            async fn start(clock: ManualClock) -> Self {
                let urls = cluster_urls();
                let builder = RedisSessionStore::builder_cluster(urls.clone());
                Self(Redis::build($start(builder), &urls, clock).await)
            }

            fn store(&self) -> &RedisSessionStore {
                self.0.store()
            }

            fn age(&self, name: &str, span: Millis) {
                self.0.age(name, span);
            }

            async fn left(&self, at: &str, now: Millis) -> Millis {
                self.0.left(at, now).await
            }

            async fn garble(&self, at: &str) -> bool {
                self.0.garble(at).await
            }
        }
    };
}

other_redis!(
    /// A cluster; a new name lies in the slot of the old one.
    Cluster,
    std::convert::identity
);
other_redis!(
    /// A cluster in which a new name lies anywhere: a renewal takes two steps.
    HidingCluster,
    |builder: RedisSessionStoreBuilder| builder.cache_keygen(crate::digest::hex)
);
other_redis!(
    /// A cluster whose names hide all of the key but its end.
    HashedCluster,
    RedisSessionStoreBuilder::hashed_keys
);

/// One cluster for all tests of the process; its masters stay, however busy the machine is.
fn cluster_urls() -> Vec<String> {
    static SHARED: OnceLock<RedisCluster> = OnceLock::new();

    let config = [("cluster-node-timeout", "600000")];
    let start = || RedisCluster::start_with(&config).unwrap();
    SHARED.get_or_init(start).urls()
}

/// A table that nobody else has.
pub(super) struct Sql<D: SqlDatabase> {
    store: SqlSessionStore<D>,
    url: String,
    table: String,
    _folder: Option<tempfile::TempDir>,
}

pub(super) type Sqlite = Sql<SqliteDatabase>;
pub(super) type Postgres = Sql<PostgresDatabase>;
pub(super) type MySql = Sql<MySqlDatabase>;

/// Where the tests find a database.
pub(super) trait Found: SqlDatabase {
    fn url() -> (String, Option<tempfile::TempDir>);
}

impl Found for SqliteDatabase {
    fn url() -> (String, Option<tempfile::TempDir>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sessions.sqlite3");
        (format!("sqlite://{}", file.display()), Some(folder))
    }
}

impl Found for PostgresDatabase {
    fn url() -> (String, Option<tempfile::TempDir>) {
        (PostgresServer::shared_url().unwrap(), None)
    }
}

impl Found for MySqlDatabase {
    fn url() -> (String, Option<tempfile::TempDir>) {
        (MariaDbServer::shared_url().unwrap(), None)
    }
}

impl<D: Found> Sql<D> {
    pub(super) async fn with(
        clock: ManualClock,
        set: impl FnOnce(SqlSessionStoreBuilder<D>) -> SqlSessionStoreBuilder<D>,
    ) -> Self {
        let (url, folder) = D::url();
        let builder = set(SqlSessionStore::builder(&url));
        Self::build(builder, clock, url, folder).await
    }

    /// Nobody looks at a connection before its use but the store.
    pub(super) async fn with_plain_pool(clock: ManualClock) -> Self {
        let (url, folder) = D::url();
        let pool = PoolOptions::new().test_before_acquire(false).connect(&url);
        let builder = SqlSessionStore::builder_from_pool(pool.await.unwrap());
        Self::build(patient(builder.migrate(true)), clock, url, folder).await
    }

    async fn build(
        builder: SqlSessionStoreBuilder<D>,
        clock: ManualClock,
        url: String,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        let table = format!("steps_{}", own_name());
        let builder = builder.table(&table).clock(clock);
        Self {
            store: builder.build().await.unwrap(),
            url,
            table,
            _folder: folder,
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn quoted_table(&self) -> String {
        let quote = D::QUOTE;
        format!("{quote}{}{quote}", self.table)
    }
}

impl<D: Found> Place for Sql<D> {
    type Store = SqlSessionStore<D>;

    async fn start(clock: ManualClock) -> Self {
        Self::with(clock, patient).await
    }

    fn store(&self) -> &SqlSessionStore<D> {
        &self.store
    }

    async fn garble(&self, at: &str) -> bool {
        let table = self.quoted_table();
        let sql = format!("UPDATE {table} SET state = 'garbage' WHERE id = '{at}'");
        let mut connection = self.store.pool().acquire().await.unwrap();
        D::run(&mut connection, &sql).await.unwrap();
        true
    }
}

/// No busy machine exceeds it.
const PATIENCE: Duration = Duration::from_secs(20);

fn patient<D: SqlDatabase>(builder: SqlSessionStoreBuilder<D>) -> SqlSessionStoreBuilder<D> {
    builder.command_timeout(PATIENCE).connect_timeout(PATIENCE)
}

fn own_name() -> impl Display {
    format!("{:016x}", random::u64().unwrap())
}
