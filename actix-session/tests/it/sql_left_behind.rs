//! What a fault must not leave behind: a connection that is of no use, a lock, data in a log.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use actix_session::{
    Session, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::{MySqlSessionStore, PostgresSessionStore, SessionStore as _, SqliteSessionStore},
};
use actix_web::{cookie::time, http::StatusCode};
use futures_util::future::join_all;
use servers::{MariaDbServer, PgBouncer};
use sqlx::{
    Connection as _, Executor as _, SqliteConnection,
    mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tokio::time::timeout;

use crate::{
    attacks::capture,
    support::{
        MySql, PATIENCE, Postgres, Proxy, SqlTestStore, Sqlite, TestStore, Way, alone,
        assert_passed, count, expected, fill_store, soon,
    },
};

/// SQLite undoes a transaction by itself if there is no room, and `sqlx` does not notice.
#[actix_web::test]
async fn a_full_file_spoils_no_connection() {
    let tested = Sqlite::start().await;
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect(tested.url()).await.unwrap();
    let builder = SqliteSessionStore::builder_from_pool(pool.clone()).table(&tested.table);
    let store = builder.clock(tested.clock().clone()).build().await.unwrap();
    let middleware =
        SessionMiddleware::builder(store, tested.key().clone()).clock(tested.clock().clone());
    let browser = tested.browser_of(middleware).await;
    browser.visit(count).await.assert_sets_cookie();
    let full = "PRAGMA max_page_count = 1";
    pool.execute(full).await.unwrap();
    let grow = |s: &Session| {
        s.insert("long", "x".repeat(100_000)).unwrap();
        s.renew();
    };
    for _ in 0..2 {
        browser.visit(grow).await.assert_opaque();
        assert_eq!(browser.number("n").await, Some(1), "the session stays");
    }
    // The application's own transactions are whole, too.
    pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    pool.execute("PRAGMA max_page_count = 100000")
        .await
        .unwrap();
    browser.visit(grow).await.assert_ok().assert_sets_cookie();
    assert_eq!(browser.number("n").await, Some(1));
    tested.dump().await.only();
}

/// In a file without WAL, a writer keeps readers out.
#[actix_web::test]
async fn a_read_of_a_locked_file_is_a_503() {
    let tested = Sqlite::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteConnectOptions::new()
        .filename(folder.path().join("sessions.sqlite3"))
        .create_if_missing(true)
        .busy_timeout(PATIENCE)
        .journal_mode(SqliteJournalMode::Delete);
    let pool = SqlitePoolOptions::new().connect_with(file.clone()).await;
    let store = SqliteSessionStore::from_pool(pool.unwrap());
    store.migrate().await.unwrap();
    let middleware = SessionMiddleware::builder(store, tested.key().clone())
        .load_budget(Duration::from_millis(200));
    let browser = tested.browser_of(middleware).await;
    browser.visit(count).await.assert_sets_cookie();
    let mut other = SqliteConnection::connect_with(&file).await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let answer = browser.visit(|_| ()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(soon(browser.number("n")).await, Some(1));
}

#[actix_web::test]
async fn sqlite_takes_any_time_limit() {
    let tested = Sqlite::start().await;
    let builder = tested.builder(tested.url()).command_timeout(Duration::MAX);
    builder.build().await.unwrap();
}

/// Somebody else has the row, and these wait for it at the same time. If reads extend sessions, so
/// does each request's own attempt to do that.
macro_rules! waits_in_vain {
    ($tested:ident, $store:ident, $extends:expr, $acts:expr) => {
        let store: $store = $tested.builder($tested.url()).build().await.unwrap();
        let lifecycle = PersistentSession::default().session_ttl_extension_policy($extends);
        let middleware = SessionMiddleware::builder(store, $tested.key().clone())
            .clock($tested.clock().clone())
            .session_lifecycle(lifecycle);
        let browser = $tested.browser_of(middleware).await;
        browser.visit(count).await.assert_sets_cookie();
        let mut lock = $tested.pool().begin().await.unwrap();
        let update = $tested.sql("UPDATE {t} SET moved_flag = moved_flag");
        lock.execute(update.as_str()).await.unwrap();
        let visits = $acts.map(|act| {
            let browser = browser.fork();
            async move { browser.visit(act).await }
        });
        for answer in join_all(visits).await {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            answer.assert_no_cookie();
        }
        lock.rollback().await.unwrap();
        assert_eq!(browser.number("n").await, Some(1));
    };
}

#[actix_web::test]
async fn whoever_waits_for_a_row_in_vain_gets_a_503() {
    for extends in [
        TtlExtensionPolicy::OnStateChanges,
        TtlExtensionPolicy::OnEveryRequest,
    ] {
        let tested = Postgres::start().await;
        let acts = [count, Session::renew, Session::purge, Session::clear];
        waits_in_vain!(tested, PostgresSessionStore, extends, acts);
    }
    // In a table of one row, MariaDB may take a way on which each waits for the one before.
    for act in [count, Session::renew, Session::purge] {
        let tested = MySql::start().await;
        let extends = TtlExtensionPolicy::OnStateChanges;
        waits_in_vain!(tested, MySqlSessionStore, extends, [act]);
    }
}

/// Leads to somebody who hangs up three times, and then to the server.
fn hangs_up(way: &Arc<Way>, server: u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    way.lead_to(listener.local_addr().unwrap().port());
    let way = Arc::clone(way);
    thread::spawn(move || {
        for _ in 0..3 {
            drop(listener.accept().unwrap());
        }
        way.lead_to(server);
    });
}

async fn is_opened_again(tested: impl SqlTestStore) {
    let port = tested.url().rsplit_once(':').unwrap().1;
    let port = port.split('/').next().unwrap();
    let server = port.parse().unwrap();
    let way = Arc::new(Way::to(server));
    let url = tested.url().replace(port, &way.port().to_string());
    let store = tested.store_through(&url, PATIENCE).await;
    let middleware = SessionMiddleware::builder(store, tested.key().clone())
        .clock(tested.clock().clone())
        .commit_budget(2 * PATIENCE)
        .load_budget(2 * PATIENCE);
    let browser = tested.browser_of(middleware).await;
    browser.visit(count).await.assert_sets_cookie();
    for n in 2..5 {
        hangs_up(&way, server);
        way.cut();
        soon(browser.visit(count)).await.assert_ok();
        assert_eq!(soon(browser.number("n")).await, Some(n));
    }
}

#[actix_web::test]
async fn a_connection_that_breaks_while_it_is_opened_is_opened_again() {
    is_opened_again(Postgres::start().await).await;
    is_opened_again(MySql::start().await).await;
}

#[actix_web::test]
async fn a_pooler_that_takes_few_clients_is_waited_for() {
    let tested = Postgres::start().await;
    let port = tested.url().rsplit_once(':').unwrap().1;
    let port = port.split('/').next().unwrap();
    let settings = [("max_client_conn", "2"), ("postgres", port)];
    let pooler = PgBouncer::start_with(&settings).unwrap();
    let url = format!("{}?statement-cache-capacity=0", pooler.url());
    let builder = tested.builder(&url).migrate(false);
    let builder = builder.connect_timeout(PATIENCE).command_timeout(PATIENCE);
    let store = builder.build().await.unwrap();
    let middleware = SessionMiddleware::builder(store, tested.key().clone())
        .clock(tested.clock().clone())
        .commit_budget(2 * PATIENCE)
        .load_budget(2 * PATIENCE);
    let browser = tested.browser_of(middleware).await;
    let visits = (0..40).map(|_| async { browser.fork().visit(count).await });
    for answer in join_all(visits).await {
        answer.assert_ok().assert_sets_cookie();
    }
    assert_eq!(tested.dump().await.0.len(), 40);
}

/// The server does not learn that its client has gone in the middle of a renewal, and keeps the
/// transaction. (PostgreSQL needs one statement for all of it.)
#[actix_web::test]
async fn a_renewal_whose_client_has_gone_keeps_no_lock() {
    let url = MariaDbServer::shared_url().unwrap();
    let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap();
    let proxy = Proxy::before_database(port.parse().unwrap());
    let tested = MySql::at(&url).await;
    let through = url.replace(port, &proxy.port().to_string());
    let store = tested.store_through(&through, PATIENCE).await;
    let middleware = SessionMiddleware::builder(store, tested.key().clone())
        .clock(tested.clock().clone())
        .commit_budget(PATIENCE);
    let browser = tested.browser_of(middleware).await;
    browser.visit(count).await.assert_sets_cookie();
    proxy.hold_back("COMMIT");
    let answer = soon(browser.visit(Session::renew)).await;
    assert!(proxy.has_lost());
    answer.assert_ok().assert_sets_cookie();
    assert_eq!(tested.dump().await.only(), expected(&[("n", "1")]));
    soon(browser.visit(Session::purge)).await.assert_ok();
    tested.dump().await.assert_no_record();
}

/// Where nothing is prepared, statements hold the values, and `sqlx` logs statements.
#[actix_web::test]
async fn no_log_holds_what_a_session_does() {
    const NAME: &str = "sql_left_behind::no_log_holds_what_a_session_does";
    if std::env::var_os(NAME).is_none() {
        let mut run = alone(NAME);
        return assert_passed(&run.env(NAME, "1").output().unwrap());
    }
    capture::install();
    let tested = Postgres::start().await;
    let url = format!("{}?statement-cache-capacity=0", tested.url());
    let store = tested.store_through(&url, PATIENCE).await;
    let middleware =
        SessionMiddleware::builder(store, tested.key().clone()).clock(tested.clock().clone());
    let browser = tested.browser_of(middleware).await;
    let text = "what nobody may log";
    capture::plant("a value", text);
    let hex = text.bytes().map(|byte| format!("{byte:02x}"));
    capture::plant("a value in hexadecimal", &hex.collect::<String>());
    for act in [
        |s: &Session, text: &str| s.insert("a", text).unwrap(),
        |s: &Session, text: &str| s.login(text).unwrap(),
    ] {
        let answer = browser.visit(|s| act(s, text)).await;
        answer.assert_sets_cookie();
    }
    tested.dump().await.only();
    assert!(capture::heard("sqlx::query") > 0, "of the test's own look");
    assert_eq!(capture::leaks(), [""; 0]);
}

/// Whoever waits for a lock is dropped: the only connection of the application's pool stays, as it was.
macro_rules! gives_up {
    ($tested:ident, $store:ident, $options:ty, $mark:literal) => {
        let pool = <$options>::new().max_connections(1);
        let pool = pool.connect($tested.url()).await.unwrap();
        let builder = $store::builder_from_pool(pool.clone()).table(&$tested.table);
        let store = builder.command_timeout(PATIENCE).build().await.unwrap();
        let key = fill_store(&store, 0).await;
        let mark = || sqlx::query_scalar::<_, String>($mark).fetch_one(&pool);
        let before = mark().await.unwrap();
        let mut lock = $tested.pool().begin().await.unwrap();
        let update = $tested.sql("UPDATE {t} SET moved_flag = moved_flag");
        lock.execute(update.as_str()).await.unwrap();
        let extending = store.update_ttl(&key, &time::Duration::HOUR);
        let limit = Duration::from_millis(100);
        timeout(limit, extending).await.unwrap_err();
        lock.rollback().await.unwrap();
        assert_eq!(soon(mark()).await.unwrap(), before);
    };
}

#[actix_web::test]
async fn whoever_gives_up_leaves_the_connections_of_an_application_as_they_were() {
    let tested = Sqlite::start().await;
    gives_up!(
        tested,
        SqliteSessionStore,
        SqlitePoolOptions,
        "SELECT CAST(timeout AS TEXT) FROM pragma_busy_timeout"
    );
    let tested = Postgres::start().await;
    gives_up!(
        tested,
        PostgresSessionStore,
        PgPoolOptions,
        "SELECT CAST(pg_backend_pid() AS TEXT)"
    );
    let tested = MySql::start().await;
    gives_up!(
        tested,
        MySqlSessionStore,
        MySqlPoolOptions,
        "SELECT CAST(CONNECTION_ID() AS CHAR)"
    );
}
