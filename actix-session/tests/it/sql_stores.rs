//! What is the SQL stores' own: rows, time, the table, the sweeper.

use std::{
    collections::HashMap,
    env,
    process::{Command, Stdio},
    time::Duration,
};

use actix_session::{
    Session,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::{
        AnySessionStore, MySqlSessionStore, PostgresSessionStore, SessionKey, SessionStore,
        SqliteSessionStore,
    },
    testing::ManualClock,
};
use actix_web::{cookie::time, rt};
use futures_util::future::join_all;
use sqlx::{mysql::MySqlPoolOptions, postgres::PgPoolOptions};

use crate::support::{
    Browser, Flight, MySql, Postgres, SqlTestStore, Sqlite, TestStore, count, expected, random_name,
};

macro_rules! on_each_sql_store {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[actix_web::test] async fn $test() {
                super::$test(<super::Sqlite as super::TestStore>::start().await).await;
            })+
        }
        mod on_postgres {
            $(#[actix_web::test] async fn $test() {
                super::$test(<super::Postgres as super::TestStore>::start().await).await;
            })+
        }
        mod on_mysql {
            $(#[actix_web::test] async fn $test() {
                super::$test(<super::MySql as super::TestStore>::start().await).await;
            })+
        }
    };
}

on_each_sql_store! {
    a_row_past_its_end_is_there_and_nobody_sees_it,
    a_dump_holds_nothing_that_opens_a_session,
    rows_that_cannot_be_read_stay_as_they_are,
    marks_that_cannot_be_read_lead_nowhere,
    an_extension_keeps_to_the_sessions_own_ttl_and_end,
    rows_written_by_hand_are_compared_as_a_whole,
    the_principal_has_a_column,
    servers_whose_clocks_differ,
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn guest(tested: &impl TestStore) -> Browser {
    let browser = tested.browser().await;
    let answer = browser.visit(|s| s.insert("a", 1).unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
    browser
}

async fn a_row_past_its_end_is_there_and_nobody_sees_it(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    flight.insert("late", 1).unwrap();
    tested.clock().advance(25 * HOUR);
    let before = tested.dump().await;
    assert_eq!(before.records().len(), 1, "nobody has swept");
    assert!(browser.is_nobody().await);
    flight.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await, before, "what is over is not written");
}

async fn a_dump_holds_nothing_that_opens_a_session(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    let login = |s: &Session| s.login("ferris").unwrap();
    browser.visit(login).await.assert_ok().assert_sets_cookie();
    let state = HashMap::from([("n".to_owned(), "1".to_owned())]);
    let ttl = time::Duration::hours(1);
    let store = tested.store();
    let key = store.save(state.clone(), &ttl).await.unwrap();
    let dump = tested.dump().await;
    assert_eq!((dump.records().len(), dump.marks()), (2, 1));
    for (name, text) in &dump.0 {
        assert!(!name.contains(key.as_ref()) && !text.contains(key.as_ref()));
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        for word in words.chain([name.as_str()]).filter(|word| !word.is_empty()) {
            let tried = SessionKey::try_from(word.to_owned()).unwrap();
            assert!(store.load(&tried).await.unwrap().is_none(), "{word}");
        }
    }
    assert_eq!(store.load(&key).await.unwrap().unwrap()["n"], "1");
}

async fn rows_that_cannot_be_read_stay_as_they_are(tested: impl SqlTestStore) {
    for state in [
        "NULL",
        "'garbage'",
        "''",
        r#"'{"v":2,"state":{"a":1}}'"#,
        r#"'{"v":1,"state":[]}'"#,
    ] {
        let browser = guest(&tested).await;
        let flight = browser.begin().await;
        tested
            .execute(&format!("UPDATE {{t}} SET state = {state}"))
            .await;
        let before = tested.dump().await;
        assert!(browser.is_nobody().await, "{state}");
        flight.insert("b", 2).unwrap();
        // A commit that meets what it cannot read is an error and changes nothing.
        flight.finish().await.assert_opaque();
        assert_eq!(tested.dump().await, before, "{state}");
        let old = browser.fork();
        let write = |s: &Session| s.insert("c", 3).unwrap();
        browser.visit(write).await.assert_ok().assert_sets_cookie();
        let dump = tested.dump().await;
        assert_eq!(dump.0.len(), 2, "{state}");
        assert!(dump.0.contains(&before.0[0]), "{state}");
        // Ending works undecoded.
        old.visit(Session::purge)
            .await
            .assert_ok()
            .assert_removes_cookie();
        assert_eq!(
            tested.dump().await.only(),
            expected(&[("c", "3")]),
            "{state}"
        );
        browser.visit(Session::purge).await.assert_ok();
        assert!(tested.dump().await.0.is_empty());
    }
}

async fn marks_that_cannot_be_read_lead_nowhere(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    let old = browser.fork();
    let flight = old.begin().await;
    browser.visit(Session::renew).await.assert_ok();
    let changed = "UPDATE {t} SET moved_flag = NULL, moved_at = NULL WHERE moved_to IS NOT NULL";
    assert_eq!(tested.execute(changed).await, 1);
    flight.insert("b", 2).unwrap();
    flight.finish().await.assert_ok().assert_no_cookie();
    assert!(old.is_nobody().await);
    assert_eq!(browser.number("a").await, Some(1));
    assert_eq!(browser.number("b").await, None);
}

async fn an_extension_keeps_to_the_sessions_own_ttl_and_end(tested: impl SqlTestStore) {
    let lifecycle = PersistentSession::default()
        .session_ttl(time::Duration::hours(2))
        .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let middleware = tested
        .middleware()
        .session_lifecycle(lifecycle)
        .absolute_timeout(time::Duration::hours(4));
    let browser = tested.browser_of(middleware).await;
    let began = millis(tested.clock());
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    let hours = |n: i64| n * 3_600_000;
    let end = async || tested.number("SELECT expires FROM {t}").await - began;
    assert_eq!(end().await, hours(2));
    tested.clock().advance(HOUR);
    browser.visit(|_| {}).await.assert_ok();
    assert_eq!(end().await, hours(3), "the policy's TTL");
    browser
        .visit(|s| s.set_ttl(time::Duration::minutes(90)))
        .await
        .assert_ok();
    tested.clock().advance(HOUR);
    browser.visit(|_| {}).await.assert_ok();
    assert_eq!(end().await, hours(3) + hours(1) / 2, "its own TTL");
    tested.clock().advance(HOUR);
    browser.visit(|_| {}).await.assert_ok();
    assert_eq!(end().await, hours(4), "its absolute end");
    assert_eq!(browser.number("a").await, Some(1));
    tested.clock().advance(HOUR);
    assert!(browser.is_nobody().await);
}

fn millis(clock: &ManualClock) -> i64 {
    use actix_session::Clock as _;
    crate::support::millis(clock.now()).try_into().unwrap()
}

async fn rows_written_by_hand_are_compared_as_a_whole(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    for revision in ["NULL", "17"] {
        let by_hand = format!("UPDATE {{t}} SET revision = {revision}");
        tested.execute(&by_hand).await;
        let flights = join_all((0..8).map(|_| browser.begin())).await;
        flights.iter().for_each(|flight| count(flight));
        for answer in join_all(flights.into_iter().map(Flight::finish)).await {
            answer.assert_ok();
        }
        tested.execute(&by_hand).await;
        browser
            .visit(Session::renew)
            .await
            .assert_ok()
            .assert_sets_cookie();
    }
    assert_eq!(
        tested.dump().await.only(),
        expected(&[("a", "1"), ("n", "16")])
    );
}

async fn the_principal_has_a_column(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    let logged_in = "SELECT COUNT(*) FROM {t} WHERE principal IS NOT NULL";
    assert_eq!(tested.number(logged_in).await, 0);
    browser
        .visit(|s| s.login("ferris").unwrap())
        .await
        .assert_ok();
    let ferris = "SELECT COUNT(*) FROM {t} WHERE principal = 'ferris' AND moved_to IS NULL";
    assert_eq!(tested.number(ferris).await, 1);
    // Longer than any index takes, and with a character that PostgreSQL has none of.
    let long = "x".repeat(1_000);
    for principal in [long.as_str(), "a\0b"] {
        browser
            .visit(|s| s.login(principal).unwrap())
            .await
            .assert_ok();
        assert_eq!(browser.principal().await.as_deref(), Some(principal));
    }
    browser.visit(Session::clear).await.assert_ok();
    assert_eq!(tested.number(logged_in).await, 0, "the mark names nobody");
}

/// Each server compares with its own clock: a difference moves ends by as much, and no more.
async fn servers_whose_clocks_differ(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    let ahead = ManualClock::at({
        use actix_session::Clock as _;
        tested.clock().now() + HOUR
    });
    let other = tested
        .browser_of(tested.middleware().clock(ahead.clone()))
        .await;
    let other = browser.at(other.site.clone());
    assert_eq!(other.number("a").await, Some(1));
    other.visit(|s| s.insert("b", 2).unwrap()).await.assert_ok();
    // Written by the clock that is ahead: 25 hours for the one behind.
    tested.clock().advance(24 * HOUR + HOUR / 2);
    assert_eq!(browser.number("b").await, Some(2));
    ahead.advance(24 * HOUR);
    assert!(other.is_nobody().await);
    assert_eq!(browser.number("a").await, Some(1), "nothing was deleted");
}

macro_rules! each {
    ($name:ident, $body:ident) => {
        mod $name {
            use super::*;

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
            async fn on_mysql() {
                let tested = MySql::start().await;
                $body!(tested, MySqlSessionStore);
            }
        }
    };
}

/// Some sessions of an hour, and one of two days.
async fn fill<S: SessionStore>(store: &S, short: usize) -> SessionKey {
    let state = || HashMap::from([("n".to_owned(), "1".to_owned())]);
    for _ in 0..short {
        store.save(state(), &time::Duration::HOUR).await.unwrap();
    }
    store.save(state(), &time::Duration::days(2)).await.unwrap()
}

macro_rules! sweeps {
    ($tested:ident, $store:ident) => {
        let store = $tested.store();
        let long = fill(&store, 23).await;
        let browser = guest(&$tested).await;
        browser.visit(Session::renew).await.assert_ok();
        assert_eq!(store.sweep(100).await.unwrap(), 0);
        $tested.clock().advance(2 * HOUR);
        assert_eq!(store.sweep(10).await.unwrap(), 10, "a batch");
        // Two servers, in turn where the database can say so.
        let sweepers = [0, 1].map(|_| store.spawn_sweeper(Duration::from_millis(2), 5));
        let rows = "SELECT COUNT(*) FROM {t}";
        while $tested.number(rows).await > 2 || sweepers.iter().any(|s| s.runs() < 2) {
            rt::time::sleep(Duration::from_millis(5)).await;
        }
        let swept: u64 = sweepers.iter().map(|sweeper| sweeper.swept()).sum();
        assert_eq!(swept, 14, "13 sessions and the mark");
        for sweeper in sweepers {
            sweeper.stop().await;
        }
        assert!(store.load(&long).await.unwrap().is_some());
        assert_eq!(browser.number("a").await, Some(1));
    };
}
each!(the_sweeper_deletes_what_is_over_and_nothing_else, sweeps);

macro_rules! migrates {
    ($tested:ident, $store:ident) => {
        let table = format!("new_{}", random_name());
        let stores = (0..10).map(|_| $store::builder($tested.url()).table(&table).build());
        let stores: Vec<$store> = join_all(stores)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let again = stores.iter().map(|store| store.migrate());
        join_all(again).await.into_iter().for_each(Result::unwrap);
        let key = fill(&stores[0], 0).await;
        assert!(stores[9].load(&key).await.unwrap().is_some());
    };
}
each!(ten_servers_make_the_table_at_once, migrates);

macro_rules! needs_table {
    ($tested:ident, $store:ident) => {
        let pool = $tested.store().pool().clone();
        let store = $store::builder_from_pool(pool)
            .table("nobody_has_made")
            .build();
        let store = store.await.unwrap();
        let key = SessionKey::try_from("a".repeat(64)).unwrap();
        let error = store.load(&key).await.unwrap_err();
        let told = format!("{:?}", error);
        assert!(told.contains("migrate"), "{told}");
        for name in ["a\"; DROP TABLE x", "a`b", "", "ä"] {
            let refused = $store::builder_from_pool($tested.store().pool().clone());
            assert!(refused.table(name).build().await.is_err());
        }
    };
}
each!(
    a_missing_table_is_told_and_a_strange_name_refused,
    needs_table
);

macro_rules! in_schema {
    ($tested:ident, $store:ident) => {
        let builder = $store::builder($tested.url()).schema(format!("s_{}", random_name()));
        let store = builder.build().await.unwrap();
        let key = fill(&store, 0).await;
        assert!(store.load(&key).await.unwrap().is_some());
        assert_eq!(store.sweep(10).await.unwrap(), 0);
        assert!(store.schema_sql().contains("CREATE TABLE IF NOT EXISTS"));
    };
}

#[actix_web::test]
async fn a_schema_is_made_with_the_table() {
    let tested = Postgres::start().await;
    in_schema!(tested, PostgresSessionStore);
    let tested = MySql::start().await;
    in_schema!(tested, MySqlSessionStore);
}

/// What the documentation shows is what runs.
#[actix_web::test]
async fn the_documented_sql_is_the_sql() {
    let docs = include_str!("../../docs/stores-sql.md");
    let (sqlite, postgres, mysql) = (
        AnySql(Sqlite::start().await.store().schema_sql()),
        AnySql(Postgres::start().await.store().schema_sql()),
        AnySql(MySql::start().await.store().schema_sql()),
    );
    for AnySql(sql) in [sqlite, postgres, mysql] {
        let table = sql
            .split('"')
            .chain(sql.split('`'))
            .find(|part| part.starts_with("test_"));
        let sql = sql.replace(table.unwrap(), "actix_sessions");
        assert!(docs.contains(&sql), "docs/stores-sql.md lacks:\n{sql}");
    }
}

struct AnySql(String);

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
        let key = fill(&store, 0).await;
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
each!(a_full_pool_is_an_error_in_time, full_pool);

/// 32 requests count on one session, through four stores.
macro_rules! adds_up {
    ($tested:ident, $stores:expr) => {
        let browser = guest(&$tested).await;
        let mut flights = Vec::new();
        for store in $stores {
            let middleware =
                actix_session::SessionMiddleware::builder(store, $tested.key().clone())
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

#[actix_web::test]
async fn serialization_failures_stay_unseen() {
    let tested = Postgres::start().await;
    let mut stores = Vec::new();
    for level in [
        "serializable",
        "repeatable read",
        "serializable",
        "read committed",
    ] {
        let pool = PgPoolOptions::new()
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    let set = format!("SET default_transaction_isolation = '{level}'");
                    sqlx::query(&set).execute(connection).await.map(drop)
                })
            })
            .connect(tested.url())
            .await
            .unwrap();
        let builder = PostgresSessionStore::builder_from_pool(pool).table(&tested.table);
        stores.push(builder.clock(tested.clock().clone()).build().await.unwrap());
    }
    adds_up!(tested, stores);

    let tested = MySql::start().await;
    let mut stores = Vec::new();
    for level in [
        "SERIALIZABLE",
        "REPEATABLE READ",
        "SERIALIZABLE",
        "READ COMMITTED",
    ] {
        let pool = MySqlPoolOptions::new()
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    let set = format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}");
                    sqlx::query(&set).execute(connection).await.map(drop)
                })
            })
            .connect(tested.url())
            .await
            .unwrap();
        let builder = MySqlSessionStore::builder_from_pool(pool).table(&tested.table);
        stores.push(builder.clock(tested.clock().clone()).build().await.unwrap());
    }
    adds_up!(tested, stores);
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
    let middleware = actix_session::SessionMiddleware::builder(store, tested.key().clone())
        .clock(tested.clock().clone())
        .commit_budget(Duration::from_millis(200))
        .session_lifecycle(lifecycle);
    let browser = tested.browser_of(middleware).await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    let other = tested.store();
    let mut lock = other.pool().acquire().await.unwrap();
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

const URL: &str = "SQL_STORES_MIGRATE";

/// What each of ten processes runs; by itself it makes a table of its own.
#[actix_web::test]
async fn one_process_makes_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let own = format!("sqlite://{}/own.sqlite3", folder.path().display());
    let url = env::var(URL).unwrap_or(own);
    let store = AnySessionStore::new(&url).await.unwrap();
    let key = fill(&store, 0).await;
    assert!(store.load(&key).await.unwrap().is_some());
}

#[actix_web::test]
async fn ten_processes_make_the_table_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let own = format!("db_{}", random_name());
    let postgres = Postgres::start().await;
    postgres
        .execute(&format!("CREATE DATABASE \"{own}\""))
        .await;
    let mysql = MySql::start().await;
    mysql.execute(&format!("CREATE DATABASE `{own}`")).await;
    let at = |url: &str| format!("{}/{own}", url.rsplit_once('/').unwrap().0);
    for url in [
        format!("sqlite://{}/new.sqlite3", folder.path().display()),
        at(postgres.url()),
        at(mysql.url()),
    ] {
        let processes: Vec<_> = (0..10)
            .map(|_| {
                Command::new(env::current_exe().unwrap())
                    .args(["--exact", "sql_stores::one_process_makes_the_table"])
                    .stdout(Stdio::null())
                    .env(URL, &url)
                    .spawn()
                    .unwrap()
            })
            .collect();
        for mut process in processes {
            assert!(process.wait().unwrap().success(), "{url}");
        }
    }
    postgres.execute(&format!("DROP DATABASE \"{own}\"")).await;
    mysql.execute(&format!("DROP DATABASE `{own}`")).await;
}
