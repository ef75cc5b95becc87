//! Whose sessions there are is looked up, never searched for. The statistics of PostgreSQL and MariaDB say so.
//! (Of SQLite's statements each is explained in a unit test, `storage::sql::plans`.)

use std::time::Duration;

use actix_session::{Session, SessionManager, storage::SessionIndex};
use actix_web::rt::time::sleep;

use servers::MariaDbServer;

use crate::support::{MySql, PATIENCE, Postgres, SqlTestStore as _, TestStore, fill_store};

const USER: &str = "user-42";

fn log_in(session: &Session) {
    session.login(USER).unwrap();
}

/// Whatever has to do with a principal's sessions.
async fn all_that_a_manager_does<T: TestStore<Store: SessionIndex>>(tested: &T) {
    let sessions: SessionManager = tested.middleware().build().manager();
    let (mine, other, third) = (
        tested.browser().await,
        tested.browser().await,
        tested.browser().await,
    );
    for browser in [&mine, &other, &third] {
        browser.visit(log_in).await.assert_ok();
        tested.clock().advance(Duration::from_millis(5));
    }
    mine.visit(Session::renew).await.assert_ok();
    assert_eq!(sessions.count(USER).await.unwrap(), 3);
    let oldest = sessions.list(USER).await.unwrap().last().unwrap();
    assert!(
        sessions
            .open(USER, &oldest.handle())
            .await
            .unwrap()
            .is_some()
    );
    assert!(sessions.revoke(USER, &oldest.handle()).await.unwrap());
    let flight = other.begin().await;
    assert_eq!(sessions.revoke_others(&flight.handle()).await.unwrap(), 1);
    flight.finish().await.assert_ok();
    other.visit(Session::purge).await.assert_ok();
    assert_eq!(sessions.revoke_all(USER).await.unwrap(), 0);
    assert_eq!(sessions.export(USER).await.unwrap().len(), 0);
}

#[actix_web::test]
async fn postgres_reads_no_table_from_its_beginning_to_its_end() {
    let tested = Postgres::start().await;
    fill_store(&tested.store(), 800).await;
    tested.execute("ANALYZE {t}").await;
    let scans = async |column: &str| {
        let name = &tested.table;
        let of_table = format!("FROM pg_stat_user_tables WHERE relname = '{name}'");
        tested
            .number(&format!("SELECT coalesce({column}, 0)::bigint {of_table}"))
            .await
    };
    // What the filling has done is counted a moment later.
    let settled = async |least: i64| {
        for _ in 0..PATIENCE.as_millis() / 50 {
            if scans("idx_scan").await > least {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("the server counts no look-up by an index");
    };
    let browser = tested.browser().await;
    let another = |s: &Session| s.login("user-43").unwrap();
    browser.visit(another).await.assert_ok();
    browser.visit(|_| {}).await.assert_ok();
    settled(0).await;
    sleep(Duration::from_millis(1_100)).await;
    let before = (scans("seq_scan").await, scans("idx_scan").await);
    all_that_a_manager_does(&tested).await;
    settled(before.1).await;
    sleep(Duration::from_millis(1_100)).await;
    assert_eq!(scans("seq_scan").await, before.0);
}

/// MariaDB counts the rows that are read of each table, if it is told to.
#[actix_web::test]
async fn mariadb_reads_no_more_rows_than_there_are_sessions() {
    const OTHERS: usize = 800;

    let server = MariaDbServer::start().unwrap();
    let tested = MySql::at(&server.url()).await;
    tested.execute("SET GLOBAL userstat = 1").await;
    fill_store(&tested.store(), OTHERS).await;
    tested.execute("ANALYZE TABLE {t}").await;
    let browser = tested.browser().await;
    let another = |s: &Session| s.login("user-43").unwrap();
    browser.visit(another).await.assert_ok();
    let read = async || {
        let name = &tested.table;
        let rows = "SELECT CAST(COALESCE(SUM(rows_read), 0) AS SIGNED)";
        let of_table =
            format!("FROM information_schema.table_statistics WHERE table_name = '{name}'");
        tested.number(&format!("{rows} {of_table}")).await
    };
    let before = read().await;
    all_that_a_manager_does(&tested).await;
    let used = read().await;
    assert!(used > before, "the server counts");
    let operator = tested.middleware().build().manager().operator();
    assert_eq!(operator.sweep().await.unwrap(), Some(0));
    let rows = read().await - before;
    assert!(
        rows < i64::try_from(OTHERS / 2).unwrap(),
        "{rows} rows were read"
    );
    // It would be seen.
    tested
        .number("SELECT COUNT(*) FROM {t} WHERE state <> ''")
        .await;
    assert!(read().await - before > i64::try_from(OTHERS).unwrap());
}
