//! What is counted for an operator.

use std::{sync::mpsc::channel, time::Duration};

use actix_session::{
    Session, SessionEventKind, SessionMiddleware, SessionOperator, TurnedAway,
    storage::{MemorySessionStore, SessionIndex, SqliteSessionStore},
    testing::ManualClock,
};
use actix_web::{cookie::Key, http::StatusCode};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::support::{
    Browser, KeyValue, Memory, Site, SqlTestStore as _, Sqlite, TestStore, count,
};

/// The names are for dashboards and alerts, so they stay.
#[actix_web::test]
async fn the_counters_say_what_has_happened() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // Of this thread alone: other tests count too.
    let _local = metrics::set_default_local_recorder(&recorder);

    let clock = ManualClock::new();
    let store = MemorySessionStore::builder().clock(clock.clone()).build();
    let middleware = SessionMiddleware::builder(store.clone(), Key::generate());
    let middleware = middleware.clock(clock.clone()).build();
    let sessions = middleware.manager();
    let browser = Browser::new(Site::new(middleware).await);
    browser.visit(count).await.assert_ok();
    browser.visit(count).await.assert_ok();
    // A removal is a change; an entry set to the value that it has is none.
    browser.visit(|s| drop(s.remove("n"))).await.assert_ok();
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    let slow = browser.begin().await;
    browser
        .visit(|s| s.insert("b", 1).unwrap())
        .await
        .assert_ok();
    slow.handle().insert("c", 1).unwrap();
    slow.finish().await.assert_ok();
    let log_in = |s: &Session| s.login("ada").unwrap();
    browser.visit(log_in).await.assert_ok();
    let slow = browser.begin().await;
    browser.visit(Session::renew).await.assert_ok();
    count(&slow.handle());
    slow.finish().await.assert_ok();
    sessions.revoke_all("ada").await.unwrap();
    browser.visit(count).await.assert_ok();
    browser.visit(Session::purge).await.assert_ok();
    browser.visit_as(&["id=forged"], |_| {}).await.assert_ok();
    browser.visit(count).await.assert_ok();
    let saves = browser.begin().await;
    count(&saves.handle());
    saves.handle().save().await.unwrap();
    saves.finish().await.assert_ok();
    clock.advance(Duration::from_secs(2 * 86_400));
    sessions.operator().sweep().await.unwrap();

    let shown = handle.render();
    for line in [
        "actix_session_created_total 3",
        "actix_session_logins_total 1",
        "actix_session_renewed_total 1",
        "actix_session_loaded_total 11",
        "actix_session_merged_total 1",
        "actix_session_committed_total{outcome=\"stored\"} 6",
        "actix_session_committed_total{outcome=\"forwarded\"} 1",
        "actix_session_ended_total{reason=\"revoked\"} 1",
        "actix_session_ended_total{reason=\"logged-out\"} 1",
        "actix_session_refused_total{reason=\"unknown-key\"} 1",
        "actix_session_refused_total{reason=\"bad-seal\"} 1",
        "actix_session_store_seconds_count{operation=\"create\"} 3",
        "actix_session_store_seconds_count{operation=\"rotate\"} 2",
        "actix_session_store_seconds_count{operation=\"commit\"} 8",
        "actix_session_store_seconds_count{operation=\"delete\"} 1",
    ] {
        assert!(
            shown.lines().any(|it| it == line),
            "{line} is not in\n{shown}"
        );
    }
    assert!(shown.contains("actix_session_swept_total "), "{shown}");
}

/// A stranger that a full store turns away is no failure of it, and pages nobody.
#[actix_web::test]
async fn a_full_store_has_not_failed() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);
    let store = MemorySessionStore::builder().max_sessions(2).build();
    let (sender, events) = channel();
    let middleware = SessionMiddleware::builder(store, Key::generate())
        .on_event(move |event| sender.send(event.kind()).unwrap())
        .build();
    let site = Site::new(middleware).await;
    for user in [Browser::new(site.clone()), Browser::new(site.clone())] {
        user.visit(|s| s.login("ada").unwrap()).await.assert_ok();
    }
    for stranger in [Browser::new(site.clone()), Browser::new(site)] {
        let answer = stranger.visit(count).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    let shown = handle.render();
    let line = "actix_session_turned_away_total{reason=\"full\"} 2";
    assert!(shown.lines().any(|it| it == line), "{shown}");
    assert!(!shown.contains("store_errors"), "{shown}");
    let next = || events.recv_timeout(Duration::from_secs(30)).unwrap();
    let full = SessionEventKind::TurnedAway(TurnedAway::Full);
    let logged_in = SessionEventKind::LoggedIn;
    for kind in [logged_in, logged_in, full, full] {
        assert_eq!(next(), kind);
    }
}

/// Whoever sweeps: here a tool, without a sweeper in the background.
#[actix_web::test]
async fn what_is_swept_is_counted_on_each_store() {
    let memory = Memory::start().await;
    swept_once(&memory, &memory.store()).await;
    let key_value = KeyValue::start().await;
    swept_once(&key_value, &key_value.store()).await;
    // The application's pool works on the application's threads, and so on this one.
    let sqlite = Sqlite::start().await;
    let store = SqliteSessionStore::builder_from_pool(sqlite.pool().clone())
        .table(sqlite.table())
        .clock(sqlite.clock().clone());
    swept_once(&sqlite, &store.build().await.unwrap()).await;
}

async fn swept_once(tested: &impl TestStore, store: &impl SessionIndex) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);
    tested.browser().await.visit(count).await.assert_ok();
    tested.clock().advance(Duration::from_secs(2 * 86_400));
    let operator = SessionOperator::of_store(store);
    assert_eq!(operator.sweep().await.unwrap(), Some(1));
    let shown = handle.render();
    let line = "actix_session_swept_total 1";
    assert!(shown.lines().any(|it| it == line), "{shown}");
}
