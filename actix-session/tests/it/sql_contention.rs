//! Databases that are full, locked, or refuse what meets something else.

use std::time::Duration;

use actix_session::{
    Session, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::{MySqlSessionStore, PostgresSessionStore, SessionStore, SqliteSessionStore},
    testing::ManualClock,
};
use actix_web::{cookie::Key, http::StatusCode};
use futures_util::future::{join, join_all};
use sqlx::{
    Connection as _, Executor as _, SqliteConnection, SqlitePool,
    mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use crate::support::{
    Browser, Flight, MySql, PATIENCE, Postgres, Site, SqlTestStore, Sqlite, TestStore, count,
    fill_store, guest, on_each_database, soon,
};

macro_rules! full_pool {
    ($tested:ident, $store:ident) => {
        let store = $store::builder($tested.url())
            .table(&$tested.table)
            .clock($tested.clock().clone())
            .max_connections(1)
            .connect_timeout(Duration::from_millis(100))
            .build()
            .await
            .unwrap();
        let key = fill_store(&store, 0).await;
        let held = store.pool().acquire().await.unwrap();
        assert!(store.load(&key).await.is_err(), "nobody waits for ever");
        drop(held);
        let mut found = store.load(&key).await;
        // The pool takes a connection back in a task of its own.
        while found.is_err() {
            found = store.load(&key).await;
        }
        assert!(found.unwrap().is_some());
    };
}

on_each_database!(a_full_pool_is_an_error_in_time, full_pool);

/// 32 requests count on one session, through four stores.
macro_rules! adds_up {
    ($tested:ident, $stores:expr) => {
        let browser = guest(&$tested).await;
        let mut flights = Vec::new();
        for store in $stores {
            let middleware = SessionMiddleware::builder(store, $tested.key().clone())
                .clock($tested.clock().clone());
            let other = $tested.browser_of(middleware).await;
            let other = browser.at(other.site.clone());
            flights.extend(join_all((0..8).map(|_| other.begin())).await);
        }
        flights.iter().for_each(|flight| count(flight));
        for answer in join_all(flights.into_iter().map(Flight::finish)).await {
            answer.assert_ok();
        }
        assert_eq!(browser.number("n").await, Some(32));
    };
}

#[actix_web::test]
async fn four_processes_on_one_sqlite_file_lose_nothing() {
    let tested = Sqlite::start().await;
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(tested.builder(tested.url()).build().await.unwrap());
    }
    adds_up!(tested, stores);
}

/// Stores on one table, one an isolation level.
macro_rules! isolated {
    ($tested:ident, $store:ident, $pool:ident, $set:literal) => {{
        let mut stores = Vec::new();
        for level in [
            "SERIALIZABLE",
            "REPEATABLE READ",
            "SERIALIZABLE",
            "READ COMMITTED",
        ] {
            let pool = $pool::new().after_connect(move |connection, _| {
                Box::pin(async move {
                    let set = format!($set, level);
                    sqlx::query(&set).execute(connection).await.map(drop)
                })
            });
            let pool = pool.connect($tested.url()).await.unwrap();
            let builder = $store::builder_from_pool(pool).table(&$tested.table);
            stores.push(
                builder
                    .clock($tested.clock().clone())
                    .build()
                    .await
                    .unwrap(),
            );
        }
        stores
    }};
}

#[actix_web::test]
async fn serialization_failures_stay_unseen() {
    let tested = Postgres::start().await;
    let set = isolated!(
        tested,
        PostgresSessionStore,
        PgPoolOptions,
        "SET default_transaction_isolation = '{}'"
    );
    adds_up!(tested, set);
    let tested = MySql::start().await;
    let set = isolated!(
        tested,
        MySqlSessionStore,
        MySqlPoolOptions,
        "SET SESSION TRANSACTION ISOLATION LEVEL {}"
    );
    adds_up!(tested, set);
}

/// A purge of what another connection has locked is a 503, and works once the lock is gone.
macro_rules! is_contended {
    ($tested:ident, $store:ident, $lock:expr) => {
        let middleware = SessionMiddleware::builder($store, $tested.key().clone())
            .clock($tested.clock().clone());
        let browser = $tested.browser_of(middleware).await;
        browser.visit(count).await.assert_sets_cookie();
        let mut held = $tested.pool().acquire().await.unwrap();
        for sql in $lock {
            let sql = sql.replace("{t}", &$tested.table);
            sqlx::query(&sql).execute(&mut *held).await.unwrap();
        }
        let flight = browser.begin().await;
        flight.purge();
        let answer = flight.finish().await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        answer.assert_no_cookie();
        sqlx::query("ROLLBACK").execute(&mut *held).await.unwrap();
        browser.visit(Session::purge).await.assert_ok();
        $tested.dump().await.assert_no_record();
    };
}

/// A store whose connections wait for no lock.
macro_rules! impatient {
    ($tested:ident, $store:ident, $pool:ident, $set:literal) => {{
        let pool = $pool::new().after_connect(|connection, _| {
            Box::pin(async move { sqlx::query($set).execute(connection).await.map(drop) })
        });
        let pool = pool.connect($tested.url()).await.unwrap();
        let builder = $store::builder_from_pool(pool).table(&$tested.table);
        let builder = builder.clock($tested.clock().clone());
        builder.build().await.unwrap()
    }};
}

#[actix_web::test]
async fn a_purge_of_what_is_locked_is_a_503() {
    let tested = Sqlite::start().await;
    let builder = tested.builder(tested.url());
    let store = builder.command_timeout(Duration::from_millis(20)).build();
    let store = store.await.unwrap();
    is_contended!(tested, store, ["BEGIN IMMEDIATE"]);

    let tested = Postgres::start().await;
    let store = impatient!(
        tested,
        PostgresSessionStore,
        PgPoolOptions,
        "SET lock_timeout = 20"
    );
    is_contended!(
        tested,
        store,
        ["BEGIN", "UPDATE \"{t}\" SET expires = expires + 1"]
    );

    let tested = MySql::start().await;
    let store = impatient!(
        tested,
        MySqlSessionStore,
        MySqlPoolOptions,
        "SET SESSION innodb_lock_wait_timeout = 0"
    );
    is_contended!(
        tested,
        store,
        ["BEGIN", "UPDATE `{t}` SET expires = expires + 1"]
    );
}

#[actix_web::test]
async fn a_locked_file_is_read_and_not_written() {
    let tested = Sqlite::start().await;
    let lifecycle = PersistentSession::default()
        .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let limit = Duration::from_millis(20);
    let store = tested
        .builder(tested.url())
        .command_timeout(limit)
        .build()
        .await
        .unwrap();
    let middleware = SessionMiddleware::builder(store, tested.key().clone())
        .clock(tested.clock().clone())
        .commit_budget(Duration::from_millis(200))
        .session_lifecycle(lifecycle);
    let browser = tested.browser_of(middleware).await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    let mut lock = tested.pool().acquire().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut *lock)
        .await
        .unwrap();
    // It cannot be extended, and that is no reason to fail.
    assert_eq!(browser.number("a").await, Some(1));
    let answer = browser.visit(|s| s.insert("b", 2).unwrap()).await;
    assert!(answer.status.is_server_error(), "{answer:?}");
    sqlx::query("ROLLBACK").execute(&mut *lock).await.unwrap();
    browser
        .visit(|s| s.insert("b", 3).unwrap())
        .await
        .assert_ok();
    assert_eq!(browser.number("b").await, Some(3));
}

/// What SQLite has not begun is known not to be done, however long it would wait for the lock.
#[actix_web::test]
async fn a_write_to_a_locked_file_is_a_503_within_any_budget() {
    let tested = Sqlite::start().await;
    let own = tested.builder(tested.url()).build().await.unwrap();
    let pool = SqlitePool::connect(tested.url()).await.unwrap();
    let waits = "PRAGMA busy_timeout";
    let waits = async || sqlx::query_scalar::<_, i64>(waits).fetch_one(&pool).await;
    let before = waits().await.unwrap();
    let builder = SqliteSessionStore::builder_from_pool(pool.clone()).table(&tested.table);
    let pooled = builder.clock(tested.clock().clone()).build().await.unwrap();
    for store in [own, pooled] {
        let middleware = SessionMiddleware::builder(store, tested.key().clone())
            .clock(tested.clock().clone())
            .commit_budget(Duration::from_millis(400));
        let browser = tested.browser_of(middleware).await;
        browser.visit(count).await.assert_sets_cookie();
        let mut lock = tested.pool().acquire().await.unwrap();
        let begin = sqlx::query("BEGIN IMMEDIATE");
        begin.execute(&mut *lock).await.unwrap();
        for act in [count, Session::renew] {
            let answer = browser.visit(act).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            answer.assert_no_cookie();
        }
        sqlx::query("ROLLBACK").execute(&mut *lock).await.unwrap();
        assert_eq!(browser.number("n").await, Some(1));
        browser.visit(count).await.assert_ok();
        assert_eq!(browser.number("n").await, Some(2));
    }
    assert_eq!(waits().await.unwrap(), before);
}

/// Ten reads that are to extend a session whose row, or file, somebody else has locked.
macro_rules! locked {
    ($tested:ident, $store:ident) => {
        let lifecycle = PersistentSession::default()
            .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
        let store: $store = $tested.builder($tested.url()).build().await.unwrap();
        let middleware = actix_session::SessionMiddleware::builder(store, $tested.key().clone())
            .clock($tested.clock().clone())
            .session_lifecycle(lifecycle);
        let browser = $tested.browser_of(middleware).await;
        let write = |s: &actix_session::Session| s.insert("a", 1).unwrap();
        browser.visit(write).await.assert_ok();
        $tested.clock().advance(Duration::from_secs(60));
        let end = "SELECT MAX(expires) FROM {t}";
        let before = $tested.number(end).await;

        let mut lock = $tested.pool().begin().await.unwrap();
        let update = $tested.sql("UPDATE {t} SET moved_flag = moved_flag");
        lock.execute(update.as_str()).await.unwrap();
        let visits = (0..10).map(|_| async {
            let read = |s: &actix_session::Session| s.get::<i64>("a").unwrap();
            let mut seen = None;
            let answer = browser.fork().visit(|s| seen = read(s)).await;
            (seen, answer)
        });
        for (seen, answer) in join_all(visits).await {
            answer.assert_ok().assert_no_cookie();
            assert_eq!(seen, Some(1));
        }
        assert_eq!($tested.number(end).await, before, "not extended");
        lock.rollback().await.unwrap();
        browser.visit(|_| {}).await.assert_ok().assert_sets_cookie();
        assert!($tested.number(end).await > before);
    };
}

on_each_database!(what_is_locked_is_read_without_an_extension, locked);

/// Neither server notices by itself that a client has given up. Whoever counts them sees the statements
/// that wait, as long as the lock is held.
macro_rules! gives_up {
    ($tested:ident, $store:ident, $waiting:expr) => {
        let builder = $tested.builder($tested.url());
        let store = builder.command_timeout(Duration::from_millis(200)).build();
        let lifecycle = PersistentSession::default()
            .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
        let middleware = SessionMiddleware::builder(store.await.unwrap(), $tested.key().clone())
            .clock($tested.clock().clone())
            .session_lifecycle(lifecycle);
        let browser = $tested.browser_of(middleware).await;
        browser.visit(count).await.assert_sets_cookie();
        let mut lock = $tested.pool().begin().await.unwrap();
        let update = $tested.sql("UPDATE {t} SET moved_flag = moved_flag");
        lock.execute(update.as_str()).await.unwrap();
        for _ in 0..3 {
            let visits = (0..10).map(|_| async { browser.fork().number("n").await });
            assert_eq!(join_all(visits).await, [Some(1); 10]);
        }
        let go = async || while $tested.number($waiting).await > 0 {};
        soon(go()).await;
        lock.rollback().await.unwrap();
    };
}

#[actix_web::test]
async fn statements_that_nobody_waits_for_do_not_wait_for_locks() {
    let tested = Postgres::start().await;
    let waiting = tested.sql(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND query LIKE 'UPDATE %{t}%'",
    );
    gives_up!(tested, PostgresSessionStore, &waiting);
    let tested = MySql::start().await;
    let waiting = tested.sql(
        "SELECT COUNT(*) FROM information_schema.processlist \
         WHERE info LIKE 'UPDATE %{t}%' AND command <> 'Sleep'",
    );
    gives_up!(tested, MySqlSessionStore, &waiting);
}

/// Where a reader keeps a commit waiting, outside of WAL mode, an extension may fail as late as that.
#[actix_web::test]
async fn an_extension_that_fails_at_its_commit_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("sessions.sqlite3"))
        .create_if_missing(true)
        .busy_timeout(Duration::from_millis(5))
        .journal_mode(SqliteJournalMode::Delete);
    let pool = SqlitePool::connect_with(options.clone()).await.unwrap();
    let clock = ManualClock::new();
    let store = SqliteSessionStore::builder_from_pool(pool)
        .clock(clock.clone())
        .command_timeout(Duration::from_millis(400));
    let store = store.build().await.unwrap();
    store.migrate().await.unwrap();
    let lifecycle = PersistentSession::default()
        .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let middleware = SessionMiddleware::builder(store, Key::generate())
        .clock(clock.clone())
        .session_lifecycle(lifecycle);
    let browser = Browser::new(Site::new(middleware.build()).await);
    browser.visit(count).await.assert_sets_cookie();
    clock.advance(Duration::from_secs(60));
    let end = "SELECT MAX(expires) FROM actix_sessions";
    let patient = options.clone().busy_timeout(PATIENCE);
    let looks = SqlitePool::connect_with(patient).await.unwrap();
    let end = async || sqlx::query_scalar::<_, i64>(end).fetch_one(&looks).await;
    let before = end().await.unwrap();

    let mut reader = SqliteConnection::connect_with(&options).await.unwrap();
    reader.execute("BEGIN").await.unwrap();
    let read = "SELECT COUNT(*) FROM actix_sessions";
    reader.fetch_one(read).await.unwrap();
    let mut seen = None;
    let answer = browser.visit(|s| seen = s.get::<i64>("n").unwrap()).await;
    answer.assert_ok().assert_no_cookie();
    assert_eq!(seen, Some(1));
    assert_eq!(end().await.unwrap(), before);
    reader.execute("ROLLBACK").await.unwrap();
    browser.visit(|_| {}).await.assert_ok().assert_sets_cookie();
    assert!(end().await.unwrap() > before);
}

type Act = fn(&Session);

/// The row that is locked becomes somebody's whose sessions have ended.
#[actix_web::test]
async fn whoever_waited_for_a_row_opens_nothing_that_has_ended() {
    let tested = Postgres::start().await;
    let store = tested.store_through(tested.url(), PATIENCE).await;
    let lifecycle = PersistentSession::default()
        .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let middleware = SessionMiddleware::builder(store, tested.key().clone())
        .clock(tested.clock().clone())
        .load_budget(PATIENCE)
        .commit_budget(PATIENCE)
        .session_lifecycle(lifecycle);
    let site = Site::new(middleware.build()).await;
    let mark = format!(
        "INSERT INTO {{not_before}} (principal, ended_at, expires) VALUES ('\\x70', 1, {})",
        i64::MAX
    );
    tested.execute(&mark).await;
    let begun = async || {
        let browser = Browser::new(site.clone());
        browser.visit(count).await.assert_sets_cookie();
        browser
    };
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                   AND query LIKE '%{t}%'";
    let locked = async || {
        let mut owner = tested.pool().begin().await.unwrap();
        let update = "UPDATE {t} SET principal = '\\x70', logged_in = 0 \
                      WHERE principal IS NULL AND state IS NOT NULL";
        let changed = owner.execute(tested.sql(update).as_str()).await.unwrap();
        assert_eq!(changed.rows_affected(), 1);
        owner
    };
    let browser = begun().await;
    let owner = locked().await;
    let commit = async {
        while tested.number(waiting).await == 0 {}
        owner.commit().await.unwrap();
    };
    let (seen, ()) = soon(join(browser.number("n"), commit)).await;
    assert_eq!(seen, None, "a load");

    let acts: [(&str, Act); 4] = [
        ("nothing", |_| ()),
        ("a change", count),
        ("a renewal", Session::renew),
        ("a logout", Session::clear),
    ];
    for (what, act) in acts {
        let browser = begun().await;
        let flight = browser.begin().await;
        act(&flight.handle());
        let owner = locked().await;
        let commit = async {
            while tested.number(waiting).await == 0 {}
            owner.commit().await.unwrap();
        };
        let (answer, ()) = soon(join(flight.finish(), commit)).await;
        answer.assert_ok().assert_no_cookie();
        assert_eq!(browser.number("n").await, None, "{what}");
        let changed = "SELECT COUNT(*) FROM {t} WHERE principal IS NULL AND state IS NOT NULL";
        assert_eq!(tested.number(changed).await, 0, "{what}");
    }
}
