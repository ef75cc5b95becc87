//! A session that is extended outside of its own requests.

use std::time::{Duration, SystemTime};

use actix_session::{
    Clock as _, OpenedSession, Session, SessionManager, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::{RedisSessionStore, SessionIndex},
};
use actix_web::cookie::{Key, time::Duration as CookieDuration};
use servers::RedisServer;

use crate::{
    devices::log_in,
    expiry::browser_session,
    support::{Browser, Site, Sqlite, TestStore, connect, on_each_index, on_store},
};

on_each_index! {
    a_session_is_extended_from_outside,
    the_ttl_of_a_session_stands,
    the_absolute_end_stands,
    a_renewal_is_followed,
    what_has_ended_stays_so,
    the_next_person_is_not_extended,
    a_tool_extends_nothing,
}

// There, an index lies in another slot than its records.
on_store!(on_hiding_cluster HidingCluster:
    a_session_is_extended_from_outside
    a_renewal_is_followed
    what_has_ended_stays_so
);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Idle for a day: what it extends is seen by the end, whatever clock counts it.
fn manager(tested: &impl TestStore<Store: SessionIndex>) -> SessionManager {
    tested.middleware().build().manager()
}

/// Somebody whose own requests leave the session ten minutes.
async fn hasty(tested: &impl TestStore) -> Browser {
    let lifecycle = browser_session(10 * MINUTE * 1_000, TtlExtensionPolicy::OnStateChanges);
    let middleware = tested.middleware().session_lifecycle(lifecycle);
    let browser = tested.browser_of(middleware).await;
    log_in(&browser, "user-42", "phone").await;
    browser
}

async fn open(sessions: &SessionManager, principal: &str) -> OpenedSession {
    let listed = sessions.list(principal).await.unwrap().next().unwrap();
    let opened = sessions.open(principal, &listed.handle()).await.unwrap();
    opened.unwrap()
}

/// How many seconds a principal's only session has left.
async fn left(
    tested: &impl TestStore<Store: SessionIndex>,
    sessions: &SessionManager,
    principal: &str,
) -> u64 {
    let mut list = sessions.list(principal).await.unwrap();
    assert_eq!(list.len(), 1);
    let end: SystemTime = list.next().unwrap().ends_at().unwrap();
    let left = end.duration_since(tested.clock().now());
    left.unwrap_or_default().as_secs()
}

async fn a_session_is_extended_from_outside(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let browser = hasty(&tested).await;
    let opened = open(&sessions, "user-42").await;
    let before = tested.dump().await;
    opened.session().insert("job", 7).unwrap();
    open(&sessions, "user-42").await.commit().await.unwrap();
    assert!(left(&tested, &sessions, "user-42").await <= 10 * MINUTE);

    opened.extend().await.unwrap();
    let long = DAY - MINUTE..=DAY;
    assert!(long.contains(&left(&tested, &sessions, "user-42").await));
    assert_eq!(tested.dump().await.records(), before.records());
    // What was opened before is as good as ever, and moves no end.
    opened.commit().await.unwrap();
    assert!(long.contains(&left(&tested, &sessions, "user-42").await));
    assert_eq!(browser.number("job").await, Some(7));
}

async fn the_ttl_of_a_session_stands(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let browser = tested.browser().await;
    log_in(&browser, "user-42", "phone").await;
    let own = |s: &Session| s.set_ttl(Duration::from_secs(2 * HOUR));
    browser.visit(own).await.assert_ok();
    let opened = open(&sessions, "user-42").await;
    tested.clock().advance(Duration::from_secs(HOUR));
    opened.extend().await.unwrap();
    let left = left(&tested, &sessions, "user-42").await;
    assert!((2 * HOUR - MINUTE..=2 * HOUR).contains(&left), "{left}");
}

async fn the_absolute_end_stands(tested: impl TestStore<Store: SessionIndex>) {
    let middleware = tested.middleware();
    let middleware = middleware.absolute_timeout(Duration::from_secs(HOUR));
    let sessions = middleware.build().manager();
    let browser = hasty(&tested).await;
    let opened = open(&sessions, "user-42").await;
    opened.extend().await.unwrap();
    let left = left(&tested, &sessions, "user-42").await;
    assert!((HOUR - MINUTE..=HOUR).contains(&left), "{left}");
    tested.clock().advance(Duration::from_secs(HOUR));
    assert!(opened.extend().await.unwrap_err().is_gone());
    drop(browser);
}

/// The second time, the redirect is no more.
async fn a_renewal_is_followed(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let browser = hasty(&tested).await;
    // A way of many redirects, and one that is over.
    for (renewals, seconds) in [(40, 1), (2, 61)] {
        let opened = open(&sessions, "user-42").await;
        for _ in 0..renewals {
            browser.visit(Session::renew).await.assert_sets_cookie();
        }
        assert!(left(&tested, &sessions, "user-42").await <= 10 * MINUTE);
        tested.clock().advance(Duration::from_secs(seconds));
        opened.extend().await.unwrap();
        assert!(left(&tested, &sessions, "user-42").await > 23 * HOUR);
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    }
}

async fn what_has_ended_stays_so(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let purge: fn(&Session) = |s| s.purge();
    let purge_and_go_on: fn(&Session) = |s| {
        s.purge();
        s.insert("next", 1).unwrap();
    };
    for end in [purge, Session::clear, purge_and_go_on, |_| ()] {
        let browser = hasty(&tested).await;
        let opened = open(&sessions, "user-42").await;
        browser.visit(end).await.assert_ok();
        tested.clock().advance(Duration::from_millis(5));
        sessions.revoke_all("user-42").await.unwrap();
        let before = tested.dump().await;
        assert!(opened.extend().await.unwrap_err().is_gone());
        assert_eq!(tested.dump().await.records(), before.records());
        assert_eq!(sessions.count("user-42").await.unwrap(), 0);
        assert_eq!(browser.principal().await, None);
        browser.visit(purge).await.assert_ok();
    }
}

async fn the_next_person_is_not_extended(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let browser = hasty(&tested).await;
    let opened = open(&sessions, "user-42").await;
    log_in(&browser, "user-43", "phone").await;
    assert!(opened.extend().await.unwrap_err().is_gone());
    assert!(left(&tested, &sessions, "user-43").await <= 10 * MINUTE);
    // The next session of their own is another one.
    browser.visit(Session::clear).await.assert_ok();
    log_in(&browser, "user-42", "phone").await;
    assert!(opened.extend().await.unwrap_err().is_gone());
    assert!(left(&tested, &sessions, "user-42").await <= 10 * MINUTE);
}

async fn a_tool_extends_nothing(tested: impl TestStore<Store: SessionIndex>) {
    let browser = hasty(&tested).await;
    let tool = SessionManager::of_store(&tested.store());
    let error = open(&tool, "user-42").await.extend().await.unwrap_err();
    assert!(!error.is_gone(), "{error}");
    assert!(left(&tested, &manager(&tested), "user-42").await <= 10 * MINUTE);
    drop(browser);
}

/// Of an interval, only what is due is written.
#[actix_web::test]
async fn an_interval_is_kept() {
    let tested = Sqlite::start().await;
    let policy = TtlExtensionPolicy::AtMostEvery(CookieDuration::minutes(10));
    let lifecycle = PersistentSession::default().session_ttl(CookieDuration::hours(1));
    let lifecycle = lifecycle.session_ttl_extension_policy(policy);
    let builder = tested.middleware().session_lifecycle(lifecycle);
    let middleware = builder.build();
    let sessions = middleware.manager();
    let browser = Browser::new(Site::new(middleware).await);
    log_in(&browser, "user-42", "phone").await;
    let opened = open(&sessions, "user-42").await;
    for (minutes, after) in [(9, 51), (1, 60), (9, 51)] {
        tested
            .clock()
            .advance(Duration::from_secs(minutes * MINUTE));
        opened.extend().await.unwrap();
        let left = left(&tested, &sessions, "user-42").await;
        assert_eq!(left.div_ceil(MINUTE), after);
    }
}

/// A request would be served all the same; whoever asks for an extension learns that there is none.
#[actix_web::test]
async fn a_store_that_takes_no_writes_is_an_error() {
    let server = RedisServer::start().unwrap();
    let store = RedisSessionStore::new(server.url()).await.unwrap();
    let middleware = SessionMiddleware::new(store, Key::generate());
    let sessions = middleware.manager();
    let browser = Browser::new(Site::new(middleware).await);
    log_in(&browser, "user-42", "phone").await;
    let opened = open(&sessions, "user-42").await;
    let mut redis = connect(&server.url()).await;
    let mut refuse = redis::cmd("CONFIG");
    refuse.arg("SET").arg("min-replicas-to-write").arg(1);
    refuse.exec_async(&mut redis).await.unwrap();
    let error = opened.extend().await.unwrap_err();
    assert!(error.to_string().contains("takes no writes"), "{error}");
    assert!(!error.is_gone());
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}
