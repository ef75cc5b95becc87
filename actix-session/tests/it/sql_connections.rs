//! Connections of SQL stores that are short, silent, or shared with a worker that is busy.

use std::{
    cell::Cell,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use actix_session::{
    SessionMiddleware,
    storage::{
        MySqlSessionStore, PostgresSessionStore, SessionKey, SessionStore, SqliteSessionStore,
    },
};
use actix_web::{http::StatusCode, rt};
use futures_util::future::{join, join_all, poll_immediate};
use servers::MariaDbServer;
use sqlx::{mysql::MySqlPoolOptions, postgres::PgPoolOptions, sqlite::SqlitePoolOptions};
use tokio::{
    runtime::Builder,
    sync::{Barrier, oneshot},
    task::{spawn_blocking, yield_now},
    time::{sleep, timeout},
};

use crate::support::{
    MySql, PATIENCE, Postgres, SqlTestStore, Sqlite, TestStore, Way, count, fill_store, guest,
    on_each_database, soon,
};

/// Forty requests at once, through a pool that wants ten connections and gets two.
macro_rules! short_of_connections {
    ($tested:ident, $store:ident, $url:expr) => {
        let builder = $store::builder($url).table(&$tested.table).migrate(false);
        let builder = builder.clock($tested.clock().clone());
        let builder = builder.connect_timeout(PATIENCE).command_timeout(PATIENCE);
        let store = builder.build().await.unwrap();
        let middleware = SessionMiddleware::builder(store, $tested.key().clone())
            .clock($tested.clock().clone())
            .commit_budget(2 * PATIENCE)
            .load_budget(2 * PATIENCE);
        let browser = $tested.browser_of(middleware).await;
        let visits = (0..40).map(|_| async {
            let guest = browser.fork();
            guest.visit(|s| s.insert("a", 1).unwrap()).await
        });
        for answer in join_all(visits).await {
            answer.assert_ok().assert_sets_cookie();
        }
        assert_eq!($tested.dump().await.0.len(), 40);
    };
}

#[actix_web::test]
async fn too_few_connections_are_waited_for_on_postgres() {
    let tested = Postgres::start().await;
    let url = tested.user(2).await;
    short_of_connections!(tested, PostgresSessionStore, url);
}

#[actix_web::test]
async fn too_few_connections_are_waited_for_on_mysql() {
    let tested = MySql::start().await;
    let url = tested.user(2).await;
    short_of_connections!(tested, MySqlSessionStore, url);
}

/// Somebody else has the only connection that the user may have.
macro_rules! no_connection {
    ($tested:ident, $store:ident, $pool:ident, $url:expr, $cause:literal) => {
        let url = $url;
        let others = $pool::new().connect_lazy(&url).unwrap();
        let _theirs = others.acquire().await.unwrap();
        let pool = $pool::new().connect_lazy(&url).unwrap();
        let builder = $store::builder_from_pool(pool).table(&$tested.table);
        let builder = builder.clock($tested.clock().clone());
        let builder = builder.connect_timeout(Duration::from_secs(2));
        let store = builder.build().await.unwrap();
        let builder = $store::builder(&url).connect_timeout(Duration::from_secs(1));
        let told = format!("{:?}", builder.build().await.unwrap_err());
        assert!(told.contains($cause), "{told}");

        let key = SessionKey::try_from("k".repeat(64)).unwrap();
        let told = format!("{:?}", store.load(&key).await.unwrap_err());
        assert!(told.contains($cause), "{told}");

        let before = guest(&$tested).await;
        let middleware =
            SessionMiddleware::builder(store, $tested.key().clone()).clock($tested.clock().clone());
        let browser = $tested.browser_of(middleware).await;
        let write = |s: &actix_session::Session| s.insert("b", 2).unwrap();
        for guest in [browser.fork(), before.at(browser.site.clone())] {
            let answer = guest.visit(write).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        }
    };
}

#[actix_web::test]
async fn no_connection_is_a_503_that_tells_why_on_postgres() {
    let tested = Postgres::start().await;
    let url = tested.user(1).await;
    no_connection!(
        tested,
        PostgresSessionStore,
        PgPoolOptions,
        url,
        "too many connections for role"
    );
}

#[actix_web::test]
async fn no_connection_is_a_503_that_tells_why_on_mysql() {
    let tested = MySql::start().await;
    let url = tested.user(1).await;
    no_connection!(
        tested,
        MySqlSessionStore,
        MySqlPoolOptions,
        url,
        "max_user_connections"
    );
}

/// The server, or a proxy before it, refuses what the store says first on each new connection.
#[actix_web::test]
async fn a_refused_greeting_is_told() {
    let server = MariaDbServer::start().unwrap();
    let tested = MySql::at(&server.url()).await;
    let builder = || {
        let builder = MySqlSessionStore::builder(server.url()).table(&tested.table);
        builder.migrate(false).connect_timeout(PATIENCE)
    };
    let store = builder().build().await.unwrap();
    let _taken = store.pool().acquire().await.unwrap();
    tested.execute("SET GLOBAL max_join_size = 1").await;
    let builder = builder().connect_timeout(Duration::from_secs(1));
    let key = SessionKey::try_from("k".repeat(64)).unwrap();
    for told in [
        format!("{:?}", builder.build().await.unwrap_err()),
        format!("{:?}", store.load(&key).await.unwrap_err()),
    ] {
        assert!(told.contains("MAX_JOIN_SIZE"), "{told}");
    }
}

/// A worker that stops drops the requests that it has begun, and is no runtime any more. Each is
/// dropped at each of its awaits: while its connection is opened, and in the midst of its statement.
macro_rules! dropped_outside {
    ($tested:ident, $store:ident, $pool:ident) => {
        let (url, table) = ($tested.url().to_owned(), $tested.table().to_owned());
        let opened = Arc::new(AtomicUsize::new(0));
        let outside = thread::spawn(move || {
            let key = SessionKey::try_from("k".repeat(64)).unwrap();
            for (least, awaits) in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)] {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                opened.store(0, Ordering::SeqCst);
                let store = runtime.block_on(async {
                    let opened = Arc::clone(&opened);
                    let pool = $pool::new().min_connections(least);
                    let pool = pool.after_connect(move |_, _| {
                        opened.fetch_add(1, Ordering::SeqCst);
                        Box::pin(async { Ok(()) })
                    });
                    let pool = pool.connect_lazy(&url).unwrap();
                    let builder = $store::builder_from_pool(pool).table(&table);
                    builder.migrate(false).build().await.unwrap()
                });
                let mut load = Box::pin(store.load(&key));
                runtime.block_on(async {
                    for _ in 0..awaits {
                        if poll_immediate(load.as_mut()).await.is_some() {
                            return;
                        }
                        while opened.load(Ordering::SeqCst) == 0 {
                            sleep(Duration::from_millis(1)).await;
                        }
                        // What has been opened is handed over.
                        for _ in 0..100 {
                            yield_now().await;
                        }
                    }
                });
                drop(load);
            }
        });
        spawn_blocking(|| outside.join().unwrap()).await.unwrap();
    };
}

#[actix_web::test]
async fn a_request_is_dropped_outside_of_a_runtime_on_sqlite() {
    let tested = Sqlite::start().await;
    dropped_outside!(tested, SqliteSessionStore, SqlitePoolOptions);
}

#[actix_web::test]
async fn a_request_is_dropped_outside_of_a_runtime_on_postgres() {
    let tested = Postgres::start().await;
    dropped_outside!(tested, PostgresSessionStore, PgPoolOptions);
}

#[actix_web::test]
async fn a_request_is_dropped_outside_of_a_runtime_on_mysql() {
    let tested = MySql::start().await;
    dropped_outside!(tested, MySqlSessionStore, MySqlPoolOptions);
}

macro_rules! silent {
    ($tested:ident, $store:ident, $pool:ident) => {
        let before = guest(&$tested).await;
        let port = $tested.url().rsplit_once(':').unwrap().1;
        let port = port.split('/').next().unwrap();
        let firewall = Way::to(port.parse().unwrap());
        let url = $tested.url().replace(port, &firewall.port().to_string());
        let pool = $pool::new().max_connections(8);
        let pool = pool.connect(&url).await.unwrap();
        for connection in join_all((0..8).map(|_| pool.acquire())).await {
            drop(connection.unwrap());
        }
        // The pool asks each for a sign of life, in tasks of its own, before it takes it back.
        while pool.num_idle() < 8 {
            rt::time::sleep(Duration::from_millis(5)).await;
        }
        let builder = $store::builder_from_pool(pool).table(&$tested.table);
        let builder = builder.clock($tested.clock().clone());
        let builder = builder.command_timeout(Duration::from_secs(3));
        let store = builder.connect_timeout(PATIENCE).build().await.unwrap();
        let middleware = SessionMiddleware::builder(store, $tested.key().clone())
            .clock($tested.clock().clone())
            .commit_budget(2 * PATIENCE)
            .load_budget(2 * PATIENCE);
        let browser = $tested.browser_of(middleware).await;
        let browser = before.at(browser.site.clone());
        firewall.forget();
        for _ in 0..8 {
            assert_eq!(browser.number("a").await, Some(1));
        }
    };
}

#[actix_web::test]
async fn one_silence_condemns_all_older_connections_on_postgres() {
    let tested = Postgres::start().await;
    silent!(tested, PostgresSessionStore, PgPoolOptions);
}

#[actix_web::test]
async fn one_silence_condemns_all_older_connections_on_mysql() {
    let tested = MySql::start().await;
    silent!(tested, MySqlSessionStore, MySqlPoolOptions);
}

/// The pool pings a connection before it lends it, and closes it if nobody waits for that any more.
macro_rules! keeps_its_connection {
    ($tested:ident, $store:ident, $pool:ident) => {
        let opened = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&opened);
        let pool = $pool::new().max_connections(1);
        let pool = pool.after_connect(move |_, _| {
            counting.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(()) })
        });
        let pool = pool.connect($tested.url()).await.unwrap();
        let builder = $store::builder_from_pool(pool).table(&$tested.table);
        let builder = builder.clock($tested.clock().clone());
        let builder = builder.connect_timeout(PATIENCE).command_timeout(PATIENCE);
        let store = builder.build().await.unwrap();
        let key = fill_store(&store, 0).await;
        let shared = Arc::new((store, key));
        // They have a runtime each, and meet by chance. What one has begun may go on until all are done.
        let all_done = Arc::new(Barrier::new(3));
        let workers = [7, 5, 3].map(|gap| {
            let (shared, all_done) = (Arc::clone(&shared), Arc::clone(&all_done));
            spawn_blocking(move || {
                let (store, key) = &*shared;
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut failed = 0;
                    for turn in 0..300 {
                        let load = store.load(key);
                        if gap == 3 {
                            let _ = timeout(Duration::from_millis(turn % gap), load).await;
                        } else if !matches!(load.await, Ok(Some(_))) {
                            failed += 1;
                        }
                        sleep(Duration::from_millis(turn % gap)).await;
                    }
                    all_done.wait().await;
                    assert_eq!(failed, 0);
                });
            })
        });
        for worker in join_all(workers).await {
            worker.unwrap();
        }
        assert_eq!(opened.load(Ordering::SeqCst), 1);
    };
}

#[actix_web::test]
async fn requests_cost_an_application_no_connection_on_postgres() {
    let tested = Postgres::start().await;
    keeps_its_connection!(tested, PostgresSessionStore, PgPoolOptions);
}

#[actix_web::test]
async fn requests_cost_an_application_no_connection_on_mysql() {
    let tested = MySql::start().await;
    keeps_its_connection!(tested, MySqlSessionStore, MySqlPoolOptions);
}

/// A firewall has forgotten the only connection. To ask again over another one is free, so that a read is
/// served as long as there is time.
macro_rules! only_one_is_silent {
    ($tested:ident, $store:ident) => {
        let before = guest(&$tested).await;
        let port = $tested.url().rsplit_once(':').unwrap().1;
        let port = port.split('/').next().unwrap();
        let firewall = Way::to(port.parse().unwrap());
        let url = $tested.url().replace(port, &firewall.port().to_string());
        let builder = $tested.builder(&url).max_connections(1);
        let builder = builder.command_timeout(Duration::from_secs(2));
        let store: $store = builder.connect_timeout(PATIENCE).build().await.unwrap();
        let middleware = SessionMiddleware::builder(store, $tested.key().clone())
            .clock($tested.clock().clone())
            .load_budget(2 * PATIENCE);
        let browser = $tested.browser_of(middleware).await;
        let browser = before.at(browser.site.clone());
        for _ in 0..2 {
            assert_eq!(browser.number("a").await, Some(1));
            firewall.forget();
        }
        assert_eq!(browser.number("a").await, Some(1));
    };
}

#[actix_web::test]
async fn a_read_gets_over_the_silence_of_the_only_connection_on_postgres() {
    let tested = Postgres::start().await;
    only_one_is_silent!(tested, PostgresSessionStore);
}

#[actix_web::test]
async fn a_read_gets_over_the_silence_of_the_only_connection_on_mysql() {
    let tested = MySql::start().await;
    only_one_is_silent!(tested, MySqlSessionStore);
}

/// A worker has begun to load more sessions than there are connections, and then computes.
macro_rules! busy_worker {
    ($tested:ident, $store:ident) => {
        let builder = $tested.builder($tested.url()).max_connections(2);
        let builder = builder.connect_timeout(PATIENCE).command_timeout(PATIENCE);
        let store: $store = builder.build().await.unwrap();
        let key = Arc::new(fill_store(&store, 0).await);
        let (is_busy, busy) = oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let (theirs, wanted) = (store.clone(), Arc::clone(&key));
        let worker = thread::spawn(move || {
            rt::System::new().block_on(async move {
                let mut loads = Box::pin(join_all((0..4).map(|_| theirs.load(&wanted))));
                let begun = tokio::time::timeout(Duration::ZERO, &mut loads).await;
                is_busy.send(()).unwrap();
                released.recv().unwrap();
                match begun {
                    Ok(loaded) => loaded,
                    Err(_) => loads.await,
                }
            })
        });
        busy.await.unwrap();
        for _ in 0..4 {
            let loaded = soon(store.load(&key)).await.unwrap();
            assert!(loaded.is_some());
            let state = || std::collections::HashMap::new();
            let ttl = actix_web::cookie::time::Duration::HOUR;
            soon(store.save(state(), &ttl)).await.unwrap();
        }
        release.send(()).unwrap();
        for loaded in worker.join().unwrap() {
            assert!(loaded.unwrap().is_some());
        }
    };
}

on_each_database!(nobody_waits_for_a_busy_worker, busy_worker);

/// A firewall forgets connections again and again, among them some that the pool is about to take
/// back.
macro_rules! forgotten_under_load {
    ($tested:ident, $store:ident) => {
        let port = $tested.url().rsplit_once(':').unwrap().1;
        let port = port.split('/').next().unwrap();
        let firewall = Way::to(port.parse().unwrap());
        let url = $tested.url().replace(port, &firewall.port().to_string());
        let builder = $tested.builder(&url).max_connections(2);
        let builder = builder.command_timeout(Duration::from_millis(200));
        let store: $store = builder.build().await.unwrap();
        let middleware = SessionMiddleware::builder(store, $tested.key().clone());
        let middleware = middleware.clock($tested.clock().clone());
        let browser = $tested.browser_of(middleware).await;
        for _ in 0..12 {
            let visits = join_all((0..12).map(|_| async {
                let guest = browser.fork();
                guest.visit(|s| s.insert("a", 1).unwrap()).await
            }));
            let forget = async {
                rt::time::sleep(Duration::from_millis(3)).await;
                firewall.forget();
            };
            futures_util::future::join(visits, forget).await;
        }
        let works = async {
            while !browser
                .visit(|s| s.insert("a", 1).unwrap())
                .await
                .status
                .is_success()
            {}
        };
        soon(works).await;
    };
}

#[actix_web::test]
async fn what_a_firewall_forgets_is_not_missing_for_ever_on_postgres() {
    let tested = Postgres::start().await;
    forgotten_under_load!(tested, PostgresSessionStore);
}

#[actix_web::test]
async fn what_a_firewall_forgets_is_not_missing_for_ever_on_mysql() {
    let tested = MySql::start().await;
    forgotten_under_load!(tested, MySqlSessionStore);
}

/// Whoever waits longest for a connection is not the only one to open the next.
#[actix_web::test]
async fn a_busy_pool_gets_over_the_loss_of_all_connections() {
    let tested = Postgres::start().await;
    let url = tested.user(50).await;
    let user = url.split(['/', '@']).nth(2).unwrap();
    let store = tested.builder(&url).max_connections(3).build().await;
    let middleware = SessionMiddleware::builder(store.unwrap(), tested.key().clone())
        .clock(tested.clock().clone());
    let browser = tested.browser_of(middleware).await;
    browser.visit(count).await.assert_sets_cookie();
    let is_over = Cell::new(false);
    let reads = join_all((0..12).map(async |_| {
        while !is_over.get() {
            browser
                .fork()
                .visit(|s| drop(s.get::<u32>("n")))
                .await
                .assert_ok();
        }
    }));
    let losing = async {
        for _ in 0..2 {
            // For as long as anybody stands in line.
            sleep(Duration::from_millis(2_500)).await;
            let lose = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ";
            tested.execute(&format!("{lose}'{user}'")).await;
        }
        sleep(Duration::from_secs(1)).await;
        is_over.set(true);
    };
    join(reads, losing).await;
}

/// A proxy whose server is dead takes connections and closes them. However many wait, it is asked as often as
/// the pool may have connections, and then there is a pause.
#[actix_web::test]
async fn whoever_closes_connections_at_once_is_not_asked_by_all_who_wait() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("postgres://nobody@{}/x", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
            counting.fetch_add(1, Ordering::SeqCst);
        }
    });
    let pool = PgPoolOptions::new().max_connections(2);
    let pool = pool.connect_lazy(&url).unwrap();
    let builder = PostgresSessionStore::builder_from_pool(pool).migrate(false);
    let builder = builder.connect_timeout(Duration::from_secs(1));
    let store = builder.build().await.unwrap();
    let key = SessionKey::try_from("k".repeat(64)).unwrap();
    asked.store(0, Ordering::SeqCst);
    let begun = Instant::now();
    for answer in join_all((0..40).map(|_| store.load(&key))).await {
        answer.unwrap_err();
    }
    let rounds = usize::try_from(begun.elapsed().as_millis() / 20).unwrap() + 1;
    // Each request may also ask for the reason.
    let most = 2 * rounds + 40;
    assert!(asked.load(Ordering::SeqCst) <= most, "{asked:?} of {most}");
}
