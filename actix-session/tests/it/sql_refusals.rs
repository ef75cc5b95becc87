//! What the SQL stores make of refusals: read-only servers, statements that a server has forgotten,
//! settings that would undo what was acknowledged, and names that something expired has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use actix_session::{
    Session, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::{MySqlSessionStore, PostgresSessionStore, RevocationStore as _, SqliteSessionStore},
};
use futures_util::future::join_all;
use servers::MariaDbServer;
use sqlx::{
    Connection as _, Executor as _, PgConnection, mysql::MySqlPoolOptions, postgres::PgPoolOptions,
};

use crate::support::{
    Browser, MySql, PATIENCE, Postgres, Site, SqlTestStore, TestStore, expected, guest,
    on_each_database, random_name,
};

fn extending() -> PersistentSession {
    PersistentSession::default().session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest)
}

/// Four open connections of a pool of the application's. Those that are opened while the switch is
/// on take no writes, as if they led to the primary of before a failover.
macro_rules! switched {
    ($tested:ident, $store:ident, $pool:ident, $set:literal) => {{
        let switch = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&switch);
        let pool = $pool::new()
            .max_connections(4)
            .after_connect(move |connection, _| {
                let is_read_only = seen.load(Ordering::SeqCst);
                Box::pin(async move {
                    if is_read_only {
                        connection.execute($set).await?;
                    }
                    Ok(())
                })
            });
        let pool = pool.connect($tested.url()).await.unwrap();
        for connection in join_all((0..4).map(|_| pool.acquire())).await {
            drop(connection.unwrap());
        }
        let builder = $store::builder_from_pool(pool).table(&$tested.table);
        let store = builder
            .clock($tested.clock().clone())
            .build()
            .await
            .unwrap();
        (store, switch)
    }};
}

macro_rules! postgres {
    ($tested:ident) => {
        switched!(
            $tested,
            PostgresSessionStore,
            PgPoolOptions,
            "SET default_transaction_read_only = on"
        )
    };
}

macro_rules! mysql {
    ($tested:ident) => {
        switched!(
            $tested,
            MySqlSessionStore,
            MySqlPoolOptions,
            "SET SESSION TRANSACTION READ ONLY"
        )
    };
}

macro_rules! writes_after_a_failover {
    ($tested:ident, $switched:ident) => {
        let browser = guest(&$tested).await;
        let acts: [fn(&Session); 3] = [|s| s.insert("b", 2).unwrap(), |s| s.renew(), |s| s.purge()];
        for act in acts {
            let (store, switch) = $switched!($tested);
            let middleware = SessionMiddleware::builder(store, $tested.key().clone());
            let middleware = middleware.clock($tested.clock().clone());
            let through = $tested.browser_of(middleware).await;
            let site = through.site.clone();
            switch.store(false, Ordering::SeqCst);
            let moved = browser.at(site);
            moved.visit(act).await.assert_ok();
        }
        $tested.dump().await.assert_no_record();
    };
}

#[actix_web::test]
async fn connections_to_a_read_only_server_are_left_on_postgres() {
    let tested = Postgres::start().await;
    writes_after_a_failover!(tested, postgres);
}

#[actix_web::test]
async fn connections_to_a_read_only_server_are_left_on_mysql() {
    let tested = MySql::start().await;
    writes_after_a_failover!(tested, mysql);
}

macro_rules! read_only {
    ($tested:ident, $switched:ident) => {
        let browser = guest(&$tested).await;
        let (store, _always) = $switched!($tested);
        let middleware = SessionMiddleware::builder(store, $tested.key().clone())
            .clock($tested.clock().clone())
            .commit_budget(Duration::from_millis(200))
            .session_lifecycle(extending());
        let through = $tested.browser_of(middleware).await;
        let through = browser.at(through.site.clone());
        $tested.clock().advance(Duration::from_secs(60));
        let end = "SELECT MAX(expires) FROM {t}";
        let before = $tested.number(end).await;
        for _ in 0..3 {
            assert_eq!(through.number("a").await, Some(1), "a read is served");
        }
        assert_eq!($tested.number(end).await, before, "without the extension");
        let write = |s: &Session| s.insert("b", 2).unwrap();
        through.visit(write).await.assert_opaque();
        assert_eq!($tested.dump().await.only(), expected(&[("a", "1")]));
    };
}

#[actix_web::test]
async fn a_read_only_server_serves_reads_on_postgres() {
    let tested = Postgres::start().await;
    read_only!(tested, postgres);
}

#[actix_web::test]
async fn a_read_only_server_serves_reads_on_mysql() {
    let tested = MySql::start().await;
    read_only!(tested, mysql);
}

/// A changed column makes the server refuse the plans that it knows; `DEALLOCATE ALL`, which some
/// poolers run, makes it forget the statements. Both happen between the load and the commit too.
#[actix_web::test]
async fn forgotten_statements_are_prepared_again() {
    let tested = Postgres::start().await;
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect(tested.url()).await.unwrap();
    let builder = PostgresSessionStore::builder_from_pool(pool.clone()).table(&tested.table);
    let store = builder.clock(tested.clock().clone()).build().await.unwrap();
    let middleware = SessionMiddleware::builder(store, tested.key().clone())
        .clock(tested.clock().clone())
        .session_lifecycle(extending());
    let browser = tested.browser_of(middleware).await;
    let set = |s: &Session| s.insert("a", 1).unwrap();
    browser.visit(set).await.assert_ok();
    browser
        .visit(|s| s.insert("a", 2).unwrap())
        .await
        .assert_ok();

    let change = "ALTER TABLE {t} ALTER COLUMN moved_flag TYPE VARCHAR(1)";
    tested.execute(change).await;
    assert_eq!(browser.number("a").await, Some(2));

    browser.visit(set).await.assert_ok();
    pool.execute("DEALLOCATE ALL").await.unwrap();
    assert_eq!(browser.number("a").await, Some(1));
    let flight = browser.begin().await;
    pool.execute("DEALLOCATE ALL").await.unwrap();
    flight.insert("a", 3).unwrap();
    flight.finish().await.assert_ok();
    assert_eq!(tested.dump().await.only(), expected(&[("a", "3")]));
}

#[actix_web::test]
async fn what_is_acknowledged_is_kept_without_autocommit() {
    keeps_what_it_acknowledges(("autocommit", "0")).await;
}

/// Tombstones are rows that lead to a name without letters.
#[actix_web::test]
async fn what_is_acknowledged_is_kept_if_empty_texts_are_null() {
    keeps_what_it_acknowledges(("sql_mode", "EMPTY_STRING_IS_NULL")).await;
}

/// Each transaction begins another one there, which nobody commits.
#[actix_web::test]
async fn what_is_acknowledged_is_kept_if_transactions_are_chained() {
    keeps_what_it_acknowledges(("completion_type", "CHAIN")).await;
}

async fn keeps_what_it_acknowledges(setting: (&str, &str)) {
    let server = MariaDbServer::start_with(&[setting]).unwrap();
    let tested = MySql::at(&server.url()).await;
    let browser = guest(&tested).await;
    browser.visit(Session::renew).await.assert_sets_cookie();
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    assert_eq!(tested.dump().await.only(), expected(&[("a", "1")]));
    let old = browser.fork();
    let flight = browser.begin().await;
    flight.insert("late", 1).unwrap();
    browser.visit(Session::purge).await.assert_ok();
    flight.finish().await.assert_ok().assert_no_cookie();
    assert!(old.is_nobody().await);

    let pool = MySqlPoolOptions::new();
    let pool = pool.connect(&server.url()).await.unwrap();
    let builder = MySqlSessionStore::builder_from_pool(pool).table(&tested.table);
    let store = builder.build().await.unwrap();
    let told = format!("{:?}", store.migrate().await.unwrap_err());
    assert!(told.contains("SET autocommit = 1"), "{told}");
}

#[actix_web::test]
async fn what_is_over_goes_under_safe_updates() {
    let server = MariaDbServer::start_with(&[("sql_safe_updates", "1")]).unwrap();
    let tested = MySql::at(&server.url()).await;
    let browser = guest(&tested).await;
    let login = |s: &Session| s.login("ferris").unwrap();
    browser.visit(login).await.assert_ok();
    let sessions = tested.middleware().build().manager();
    assert_eq!(sessions.revoke_all("ferris").await.unwrap(), 1);
    tested.clock().advance(Duration::from_secs(500 * 86_400));
    tested.store().sweep(10).await.unwrap();
    assert!(tested.dump().await.0.is_empty());
    assert_eq!(tested.number("SELECT COUNT(*) FROM {not_before}").await, 0);
}

/// A value that arrives in another form than the driver reads is no missing session.
#[actix_web::test]
async fn what_the_driver_cannot_read_is_an_error() {
    let here = Postgres::start().await;
    let database = format!("f_{}", random_name().to_lowercase());
    here.execute(&format!("CREATE DATABASE {database}")).await;
    here.execute(&format!(
        "ALTER DATABASE {database} SET bytea_output = 'escape'"
    ))
    .await;
    let server = here.url().rsplit_once('/').unwrap().0;
    let tested = Postgres::at(&format!("{server}/{database}")).await;
    let browser = guest(&tested).await;
    assert_eq!(browser.number("a").await, Some(1));
    let pooled = format!("{server}/{database}?statement-cache-capacity=0");
    let pooled = tested.store_through(&pooled, PATIENCE).await;
    let builder = SessionMiddleware::builder(pooled, tested.key().clone());
    let there = browser.at(Site::new(builder.build()).await);
    there.visit(|_| ()).await.assert_opaque();
}

/// A migration that has to wait for a table gives way to those who read it.
#[actix_web::test]
async fn a_migration_that_waits_holds_up_nobody() {
    let tested = Postgres::start().await;
    let browser = guest(&tested).await;
    tested
        .execute("ALTER TABLE {t} DROP COLUMN logged_in")
        .await;
    let mut reader = PgConnection::connect(tested.url()).await.unwrap();
    let look = tested.sql("BEGIN; LOCK TABLE {t} IN ACCESS SHARE MODE");
    reader.execute(look.as_str()).await.unwrap();
    let builder = PostgresSessionStore::builder(tested.url()).table(&tested.table);
    let migration = actix_web::rt::spawn(builder.build());
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                 AND query LIKE 'ALTER TABLE%'";
    while tested.number(waits).await == 0 {
        actix_web::rt::task::yield_now().await;
    }
    // A server of the version before reads on.
    for _ in 0..5 {
        assert_eq!(tested.number("SELECT COUNT(*) FROM {t}").await, 1);
    }
    reader.execute("COMMIT").await.unwrap();
    migration.await.unwrap().unwrap();
    browser
        .visit(|s| s.insert("a", 2).unwrap())
        .await
        .assert_ok();
}

macro_rules! revokes_again {
    ($tested:ident, $store:ident) => {
        let store: $store = $tested.store();
        let now = || actix_session::Clock::now($tested.clock());
        let minute = Duration::from_secs(60);
        assert!(store.revoke("a note", now(), now() + minute).await.unwrap());
        $tested.clock().advance(2 * minute);
        assert_eq!(store.revoked_at("a note").await.unwrap(), None);
        let (at, until) = (now(), now() + minute);
        assert!(
            store.revoke("a note", at, until).await.unwrap(),
            "it is over"
        );
        let known: Option<SystemTime> = store.revoked_at("a note").await.unwrap();
        assert!(known.is_some(), "nobody has swept");
        assert_eq!($tested.number("SELECT COUNT(*) FROM {t}").await, 1);
        assert!(
            !store.revoke("a note", at, until).await.unwrap(),
            "it stands"
        );
    };
}

on_each_database!(what_is_over_does_not_block_its_name, revokes_again);

/// Other processes find what nobody may tell them.
#[actix_web::test]
async fn what_may_not_be_told_is_done_without_a_word() {
    let here = Postgres::start().await;
    let database = format!("n_{}", random_name().to_lowercase());
    here.execute(&format!("CREATE DATABASE {database}")).await;
    let server = here.url().rsplit_once('/').unwrap().0;
    let tested = Postgres::at(&format!("{server}/{database}")).await;
    let user = tested.user(10).await;
    let rights = "EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC";
    tested.execute(&format!("REVOKE {rights}")).await;
    for prepared in ["", "?statement-cache-capacity=0"] {
        tested.clock().advance(Duration::from_secs(1));
        ends_without_a_word(&tested, &format!("{user}{prepared}")).await;
    }
}

async fn ends_without_a_word(tested: &Postgres, url: &str) {
    let store = tested.store_through(url, PATIENCE).await;
    let builder = SessionMiddleware::builder(store, tested.key().clone());
    let middleware = builder.clock(tested.clock().clone()).build();
    let sessions = middleware.manager();
    let browser = Browser::new(Site::new(middleware).await);
    let log_in = |s: &Session| s.login("ferris").unwrap();
    let acts: [fn(&Session); 4] = [
        Session::purge,
        Session::clear,
        |s| s.login("corro").unwrap(),
        |s| {
            s.clear();
            s.renew();
        },
    ];
    for act in acts {
        browser.visit(log_in).await.assert_ok();
        let old = browser.fork();
        browser.visit(act).await.assert_ok();
        assert_eq!(sessions.count("ferris").await.unwrap(), 0);
        assert!(old.principal().await.is_none());
    }
    browser.visit(log_in).await.assert_ok();
    assert_eq!(sessions.revoke_all("ferris").await.unwrap(), 1);
    assert!(browser.is_nobody().await);
}

#[actix_web::test]
async fn time_outs_within_which_nothing_can_be_done_are_refused() {
    let nothing = Duration::ZERO;
    let postgres = || PostgresSessionStore::builder("postgres://127.0.0.1:1/nowhere");
    for (builder, name) in [
        (postgres().command_timeout(nothing), "`command_timeout`"),
        (postgres().connect_timeout(nothing), "`connect_timeout`"),
    ] {
        let error = builder.build().await.err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
        assert!(error.contains("must be a millisecond or longer"), "{error}");
    }
    // SQLite's statements need not wait for others, and extend all the same.
    let folder = tempfile::tempdir().unwrap();
    let builder = SqliteSessionStore::builder(folder.path().join("s.db").to_str().unwrap());
    let store = builder.command_timeout(nothing).build().await.unwrap();
    let middleware = SessionMiddleware::builder(store, actix_web::cookie::Key::generate());
    let extending = middleware.session_lifecycle(extending()).build();
    let browser = Browser::new(Site::new(extending).await);
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_sets_cookie();
    browser.visit(|_| {}).await.assert_ok().assert_sets_cookie();
}
