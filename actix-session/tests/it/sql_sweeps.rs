//! What sweeps wait for, and what they leave alone.

use std::time::Duration;

use actix_session::storage::MySqlSessionStore;
use actix_web::rt::time::sleep;
use sqlx::{Executor as _, MySqlPool, mysql::MySqlPoolOptions};

use crate::support::{MySql, SqlTestStore as _, TestStore as _, fill_store, random_name, soon};

/// Locks by name are the whole server's, and the table may have its default name in each database.
#[actix_web::test]
async fn applications_on_one_mariadb_server_sweep_at_once() {
    let tested = MySql::start().await;
    fill_store(&tested.store(), 3).await;
    tested.clock().advance(Duration::from_secs(7_200));
    let other = format!("db_{}", random_name());
    tested.execute(&format!("CREATE DATABASE `{other}`")).await;
    let url = format!("{}/{other}", tested.url().rsplit_once('/').unwrap().0);
    let theirs = tested.builder(&url).build().await.unwrap();

    // A request has locked the rows, so that the sweep keeps its turn.
    let mut lock = tested.pool().begin().await.unwrap();
    let update = tested.sql("UPDATE {t} SET moved_flag = moved_flag");
    lock.execute(update.as_str()).await.unwrap();
    let pool = MySqlPool::connect(tested.url()).await.unwrap();
    let ours = MySqlSessionStore::builder_from_pool(pool).table(&tested.table);
    let ours = ours.clock(tested.clock().clone()).build().await.unwrap();
    let waits = ours.spawn_sweeper(Duration::from_millis(2), 10);
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist \
                   WHERE info LIKE 'DELETE %{t}%' AND command <> 'Sleep'";
    soon(async { while tested.number(waiting).await == 0 {} }).await;
    let sweeps = theirs.spawn_sweeper(Duration::from_millis(2), 10);
    soon(async {
        while sweeps.runs() == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(waits.runs(), 0);
    lock.rollback().await.unwrap();
    waits.stop().await;
    sweeps.stop().await;
    tested.execute(&format!("DROP DATABASE `{other}`")).await;
}

/// InnoDB locks what a deletion reads, not what it deletes.
#[actix_web::test]
async fn a_sweep_does_not_wait_for_marks_that_stay() {
    let tested = MySql::start().await;
    let mark = "INSERT INTO {not_before} (principal, ended_at, expires) SELECT seq, 1, \
                4000000000000 + seq FROM seq_1_to_500";
    tested.execute(mark).await;
    tested.execute("ANALYZE TABLE {not_before}").await;
    let mut lock = tested.pool().begin().await.unwrap();
    let update = "UPDATE {not_before} SET spared = NULL WHERE principal = '250'";
    lock.execute(tested.sql(update).as_str()).await.unwrap();
    let pool = MySqlPoolOptions::new().after_connect(|connection, _| {
        Box::pin(async move {
            let set = "SET SESSION innodb_lock_wait_timeout = 0";
            connection.execute(set).await.map(drop)
        })
    });
    let pool = pool.connect(tested.url()).await.unwrap();
    let store = MySqlSessionStore::builder_from_pool(pool).table(&tested.table);
    let store = store.clock(tested.clock().clone()).build().await.unwrap();
    soon(store.sweep(10)).await.unwrap();
    lock.rollback().await.unwrap();
}
