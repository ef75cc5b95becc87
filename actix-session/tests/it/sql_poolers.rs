//! Poolers that give each transaction another connection to PostgreSQL, without the setting for them.

use std::time::Duration;

use actix_session::{
    Session, SessionMiddleware,
    storage::{PostgresSessionStore, SessionKey, SessionStore as _},
};
use actix_web::rt;
use futures_util::future::{join, join_all};
use servers::{PgBouncer, PostgresServer};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::attacks::capture;
use crate::support::{PATIENCE, Postgres, SqlTestStore as _, TestStore as _, count, soon};

fn pooler() -> PgBouncer {
    PgBouncer::before(&PostgresServer::shared_url().unwrap()).unwrap()
}

/// A pooler that takes the server's connections in turn.
fn taking_turns() -> PgBouncer {
    let url = PostgresServer::shared_url().unwrap();
    let port = url.rsplit_once(':').unwrap().1;
    let port = port.split('/').next().unwrap();
    PgBouncer::start_with(&[("server_round_robin", "1"), ("postgres", port)]).unwrap()
}

/// As for a pool of the application's: with prepared statements, unless they are turned off.
fn options(pooler: &PgBouncer) -> PgConnectOptions {
    let options: PgConnectOptions = pooler.url().parse().unwrap();
    options.extra_float_digits(None).disable_statement_logging()
}

/// Several stores, as of several processes, and several requests at once.
async fn is_noticed(tested: &Postgres, pooler: &PgBouncer) {
    for n in 1..5 {
        let store = tested.builder(&pooler.url()).build().await.unwrap();
        let middleware =
            SessionMiddleware::builder(store, tested.key().clone()).clock(tested.clock().clone());
        let browser = tested.browser_of(middleware).await;
        browser.visit(count).await.assert_sets_cookie();
        for answer in join_all((0..20).map(|_| browser.visit(count))).await {
            answer.assert_ok();
        }
        assert_eq!(browser.number("n").await, Some(21), "store {n}");
        browser
            .visit(|s| s.login("ada").unwrap())
            .await
            .assert_sets_cookie();
        browser.visit(Session::renew).await.assert_sets_cookie();
        browser
            .visit(Session::purge)
            .await
            .assert_ok()
            .assert_removes_cookie();
    }
    tested.dump().await.assert_no_record();
}

#[actix_web::test]
async fn a_pooler_is_noticed() {
    is_noticed(&Postgres::start().await, &pooler()).await;
}

/// There, two connections that are asked in turn seem to have a process each.
#[actix_web::test]
async fn a_pooler_that_takes_turns_is_noticed() {
    is_noticed(&Postgres::start().await, &taking_turns()).await;
}

#[actix_web::test]
async fn a_pool_whose_statements_meet_others_is_refused() {
    is_refused(&pooler()).await;
    is_refused(&taking_turns()).await;
}

async fn is_refused(pooler: &PgBouncer) {
    let tested = Postgres::start().await;
    let store = async |options: PgConnectOptions| {
        let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
        PostgresSessionStore::builder_from_pool(pool)
            .table(&tested.table)
            .build()
            .await
            .unwrap()
    };
    let mixes = store(options(pooler)).await;
    let told = format!("{:#}", mixes.migrate().await.unwrap_err());
    assert!(told.contains("statement_cache_capacity(0)"), "{told}");
    let fits = store(options(pooler).statement_cache_capacity(0)).await;
    fits.migrate().await.unwrap();
    let direct = tested.url().parse::<PgConnectOptions>().unwrap();
    store(direct).await.migrate().await.unwrap();
}

/// Whoever never calls `migrate` learns it from the first error.
#[actix_web::test]
async fn an_error_of_a_statement_that_has_met_others_names_the_setting() {
    let (tested, pooler) = (Postgres::start().await, pooler());
    let mut errors = Vec::new();
    for _ in 0..2 {
        let pool = PgPoolOptions::new().connect_lazy_with(options(&pooler));
        let builder = PostgresSessionStore::builder_from_pool(pool).table(&tested.table);
        let store = builder.build().await.unwrap();
        let key = SessionKey::try_from("a".repeat(64)).unwrap();
        errors.extend(store.load(&key).await.err().map(anyhow::Error::from));
        errors.extend(store.delete(&key).await.err());
    }
    assert!(!errors.is_empty(), "statements of one name meet");
    for error in errors {
        let told = format!("{error:#}");
        assert!(told.contains("?statement-cache-capacity=0"), "{told}");
    }
}

/// A channel would stay with the server's connection, and whoever gets that next would be told, in the
/// middle of a statement.
#[actix_web::test]
async fn nobody_listens_through_a_pooler() {
    let tested = Postgres::start().await;
    let port = tested.url().rsplit_once(':').unwrap().1;
    let port = port.split('/').next().unwrap();
    let one = [("default_pool_size", "1"), ("postgres", port)];
    let pooler = PgBouncer::start_with(&one).unwrap();
    let prepares = PgPoolOptions::new().connect_lazy_with(options(&pooler));
    let unprepared = format!("{}?statement-cache-capacity=0", pooler.url());
    let builders = [
        tested.builder(&pooler.url()),
        tested.builder(&unprepared),
        PostgresSessionStore::builder_from_pool(prepares)
            .table(&tested.table)
            .clock(tested.clock().clone()),
    ];
    for builder in builders {
        let store = builder.build().await.unwrap();
        let middleware = SessionMiddleware::builder(store, tested.key().clone())
            .clock(tested.clock().clone())
            .ended_lease(Duration::from_millis(50));
        let (here, there) = (tested.browser_of(middleware).await, tested.browser().await);
        for _ in 0..3 {
            there
                .visit(|s| s.login("ada").unwrap())
                .await
                .assert_sets_cookie();
            let mut ended = None;
            let here = there.at(here.site.clone());
            here.visit(|s| ended = Some(s.ended().unwrap()))
                .await
                .assert_ok();
            there.visit(Session::purge).await.assert_ok();
            soon(ended.unwrap()).await;
        }
        let url = unprepared.parse::<PgConnectOptions>().unwrap();
        let mut connection = url.extra_float_digits(None).connect().await.unwrap();
        let listening = "SELECT count(*) FROM pg_listening_channels()";
        let listening = connection.fetch_one(listening).await.unwrap();
        assert_eq!(listening.get::<i64, _>(0), 0);
    }
}

/// One connection does not tell whether the next statement meets another process of the server.
#[actix_web::test]
async fn whoever_has_one_connection_prepares_nothing() {
    capture::install();
    let tested = Postgres::start().await;
    let url = tested.user(1).await;
    let builder = tested.builder(&url).max_connections(1);
    let builder = builder.connect_timeout(PATIENCE).command_timeout(PATIENCE);
    let store = builder.build().await.unwrap();
    assert!(capture::told(&[
        "PostgreSQL has one connection to spare",
        "prepares no statement"
    ]));
    let middleware =
        SessionMiddleware::builder(store, tested.key().clone()).clock(tested.clock().clone());
    let browser = tested.browser_of(middleware).await;
    browser.visit(count).await.assert_sets_cookie();
    browser.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(browser.number("n").await, Some(1));
}

/// Statements might meet others there: who knows nothing prepares nothing.
#[actix_web::test]
async fn whoever_is_not_told_of_a_pooler_prepares_nothing() {
    capture::install();
    let tested = Postgres::start().await;
    let url = tested.user(1).await;
    let only = url.parse::<PgConnectOptions>().unwrap();
    let only = only.connect().await.unwrap();
    let builder = tested.builder(&url).max_connections(1);
    let store = builder.connect_timeout(PATIENCE).build();
    let freed = async {
        while !capture::told(&["does not tell in time", "prepares no statement"]) {
            rt::time::sleep(Duration::from_millis(10)).await;
        }
        only.close().await.unwrap();
    };
    let (store, ()) = soon(join(store, freed)).await;
    let middleware = SessionMiddleware::builder(store.unwrap(), tested.key().clone())
        .clock(tested.clock().clone());
    let browser = tested.browser_of(middleware).await;
    browser.visit(count).await.assert_sets_cookie();
}

#[actix_web::test]
async fn an_address_whose_password_is_not_encoded_says_so() {
    let url = "postgres://me:p@ss#word@127.0.0.1:1/app";
    let error = PostgresSessionStore::new(url).await.unwrap_err();
    let told = format!("{error:#}");
    assert!(told.contains("percent-encoded"), "{told}");
    assert!(!told.contains("ss#word"), "{told}");
}
