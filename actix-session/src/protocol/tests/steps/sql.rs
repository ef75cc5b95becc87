//! What databases do besides: connections that end, locks, and one writer at a time.

use std::{pin::Pin, task::Poll, time::Duration};

use futures_util::future::{join_all, poll_fn};
use sqlx::{
    Connection as _, MySql as MySqlDatabase, Pool, Postgres as PostgresDatabase,
    Sqlite as SqliteDatabase,
};

use super::{
    Steps, TTL, assert_done, assert_nothing,
    places::{Found, Postgres, Sql, Sqlite},
};
use crate::{
    protocol::{Reply, Until},
    record::{Record, WireFormat},
    storage::sql::Database as _,
};

/// A server that knows its connections by numbers.
pub(super) trait Server: Found {
    async fn number(connection: &mut Self::Connection) -> i64;

    async fn knows(connection: &mut Self::Connection, number: i64) -> bool;

    /// Ends a connection.
    fn kill(number: i64) -> String;
}

macro_rules! server {
    ($database:ty, $number:literal, $knows:literal, $kill:literal) => {
        impl Server for $database {
            async fn number(connection: &mut Self::Connection) -> i64 {
                let number = sqlx::query_scalar($number).fetch_one(connection);
                number.await.unwrap()
            }

            async fn knows(connection: &mut Self::Connection, number: i64) -> bool {
                let known = sqlx::query_scalar::<_, i64>($knows).bind(number);
                known.fetch_one(connection).await.unwrap() > 0
            }

            fn kill(number: i64) -> String {
                $kill.replace("{}", &number.to_string())
            }
        }
    };
}
server!(
    PostgresDatabase,
    "SELECT pg_backend_pid()::bigint",
    "SELECT COUNT(*) FROM pg_stat_activity WHERE pid = $1",
    "SELECT pg_terminate_backend({})"
);
server!(
    MySqlDatabase,
    "SELECT CAST(CONNECTION_ID() AS SIGNED)",
    "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?",
    "KILL {}"
);

impl<D: Found> Steps<Sql<D>> {
    fn plain(&self, commit: u64) -> Record {
        self.record(WireFormat::V1, commit)
    }

    fn pool(&self) -> &Pool<D> {
        self.store().pool()
    }

    /// A connection beside the store's.
    async fn aside(&self) -> D::Connection {
        D::Connection::connect(self.place.url()).await.unwrap()
    }

    /// Opens connections that nobody uses then.
    async fn open_connections(&self, count: usize) {
        let held = join_all((0..count).map(|_| self.pool().acquire())).await;
        assert!(held.iter().all(Result::is_ok));
        drop(held);
        self.wait_for_idle(count).await;
    }

    /// Waits until all are back, which they are by tasks of their own.
    async fn wait_for_idle(&self, count: usize) {
        let back = async {
            let idle = || self.pool().num_idle();
            while idle() < count || u32::try_from(idle()).unwrap() < self.pool().size() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon(back).await;
    }

    /// Keeps a row locked until the connection is dropped.
    async fn lock(&self, at: &str) -> D::Connection {
        let mut aside = self.aside().await;
        let table = self.place.quoted_table();
        for sql in [
            "BEGIN".to_owned(),
            format!("SELECT id FROM {table} WHERE id = '{at}' FOR UPDATE"),
        ] {
            D::run(&mut aside, &sql).await.unwrap();
        }
        aside
    }
}

impl<D: Server> Steps<Sql<D>> {
    /// The server ends every connection of the store's, which is not told.
    async fn kill_connections(&self) {
        let count = self.pool().num_idle();
        let mut numbers = Vec::new();
        let mut held = Vec::new();
        for _ in 0..count {
            let mut connection = self.pool().acquire().await.unwrap();
            numbers.push(D::number(&mut connection).await);
            held.push(connection);
        }
        drop(held);
        self.wait_for_idle(count).await;
        let mut aside = self.aside().await;
        for number in numbers {
            D::run(&mut aside, &D::kill(number)).await.unwrap();
            while D::knows(&mut aside, number).await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// Nothing that is waited for takes as long.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, work).await.expect("an end")
}

/// Gives a future many turns. What waits for nothing is done by then.
async fn turns<T>(mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    for _ in 0..300 {
        let turn = poll_fn(|context| Poll::Ready(work.as_mut().poll(context)));
        if let Poll::Ready(done) = turn.await {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// One dead connection means that the others may be dead too.
async fn one_loss_is_enough<D: Server>() {
    let steps = Steps::on(Sql::<D>::with_plain_pool).await;
    let (first, second) = (steps.plain(1), steps.plain(2));
    let at = steps.insert(&first).await;
    steps.open_connections(4).await;
    steps.kill_connections().await;
    let lost = steps.replace(&at, &first, &second).await;
    assert!(matches!(lost, Reply::Lost), "{lost:?}");
    assert_done(&steps.replace(&at, &first, &second).await);
    steps.holds(&steps.read(&at).await, &second);
}

#[actix_web::test]
async fn one_loss_is_enough_on_postgres() {
    one_loss_is_enough::<PostgresDatabase>().await;
}

#[actix_web::test]
async fn one_loss_is_enough_on_mysql() {
    one_loss_is_enough::<MySqlDatabase>().await;
}

/// Its answer may still come, and the next statement would wait for it, or take it for its own.
/// The server itself is told to wait, since it would give up first.
async fn a_statement_that_is_given_up_takes_its_connection_along<D: Server>(wait: &str) {
    let limit = Duration::from_millis(100);
    let impatient =
        async |clock| Sql::<D>::with(clock, |b| b.command_timeout(limit).max_connections(1)).await;
    let steps = Steps::on(impatient).await;
    let (first, second) = (steps.plain(1), steps.plain(2));
    let at = soon(steps.insert(&first)).await;
    steps.wait_for_idle(1).await;
    let mut connection = steps.pool().acquire().await.unwrap();
    D::run(&mut connection, wait).await.unwrap();
    drop(connection);
    steps.wait_for_idle(1).await;
    let locked = steps.lock(&at).await;
    let lost = steps.replace(&at, &first, &second).await;
    assert!(matches!(lost, Reply::Lost), "{lost:?}");
    assert_eq!(steps.pool().size(), 0);
    drop(locked);
}

#[actix_web::test]
async fn a_statement_that_is_given_up_takes_its_connection_along_on_postgres() {
    a_statement_that_is_given_up_takes_its_connection_along::<PostgresDatabase>(
        "SET lock_timeout = 0",
    )
    .await;
}

#[actix_web::test]
async fn a_statement_that_is_given_up_takes_its_connection_along_on_mysql() {
    a_statement_that_is_given_up_takes_its_connection_along::<MySqlDatabase>(
        "SET innodb_lock_wait_timeout = 50",
    )
    .await;
}

/// A request has locked the row, perhaps to extend it.
#[actix_web::test]
async fn a_sweep_on_postgres_waits_for_nobody() {
    let steps = Steps::<Postgres>::start().await;
    let (locked, free) = (
        steps.insert(&steps.plain(1)).await,
        steps.insert(&steps.plain(2)).await,
    );
    steps.pass(TTL).await;
    let lock = steps.lock(&locked).await;
    assert_eq!(soon(steps.store().sweep(10)).await.unwrap(), 1);
    drop(lock);
    assert_nothing(&steps.read(&free).await);
    let swept = async {
        // The server notices by itself that the other connection has ended.
        while steps.store().sweep(10).await.unwrap() == 0 {}
    };
    soon(swept).await;
}

/// SQLite itself waits by trying again, which lets the unlucky starve.
#[actix_web::test]
async fn writers_of_sqlite_stand_in_line_and_leave_connections_to_readers() {
    let steps = Steps::<Sqlite>::start().await;
    let (first, second) = (steps.plain(1), steps.plain(2));
    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(steps.insert(&first).await);
    }
    steps.open_connections(6).await;
    let mut aside = steps.aside().await;
    SqliteDatabase::run(&mut aside, "BEGIN IMMEDIATE")
        .await
        .unwrap();
    let writes = names
        .iter()
        .map(|at| steps.cas(at, &first, &second, Until::Same));
    let mut writes = Box::pin(join_all(writes));
    let mut in_use = 0;
    // A connection comes from another thread, which takes as long as it takes.
    while in_use == 0 {
        assert!(turns(writes.as_mut()).await.is_none());
        in_use = steps.pool().size() - u32::try_from(steps.pool().num_idle()).unwrap();
    }
    assert_eq!(in_use, 1);
    steps.holds(&steps.read(&names[0]).await, &first);
    SqliteDatabase::run(&mut aside, "COMMIT").await.unwrap();
    for reply in soon(writes).await {
        assert_done(&reply);
    }
}

/// One that reads first, and writes later, may never get the lock.
#[actix_web::test]
async fn a_transaction_of_sqlite_has_the_lock_from_the_start() {
    let steps = Steps::<Sqlite>::start().await;
    let mut held = steps.pool().acquire().await.unwrap();
    let transaction = held.begin_with(SqliteDatabase::BEGIN).await.unwrap();
    let mut aside = steps.aside().await;
    for (sql, runs) in [
        ("PRAGMA busy_timeout = 0", true),
        ("BEGIN IMMEDIATE", false),
    ] {
        assert_eq!(SqliteDatabase::run(&mut aside, sql).await.is_ok(), runs);
    }
    transaction.rollback().await.unwrap();
    SqliteDatabase::run(&mut aside, "BEGIN IMMEDIATE")
        .await
        .unwrap();
}
