//! What ends stays ended, whatever was in flight.

use actix_session::config::{PersistentSession, TtlExtensionPolicy};
use actix_web::cookie::time::Duration as CookieDuration;

use crate::support::{Browser, TestStore, expected, on_each_store};

on_each_store! {
    a_writer_in_flight_brings_nothing_back,
    a_modify_in_flight_brings_nothing_back,
    a_touch_in_flight_brings_nothing_back,
    a_clear_or_a_new_ttl_in_flight_brings_nothing_back,
    a_reader_in_flight_is_left_alone,
    a_renewer_in_flight_brings_nobody_back,
    a_step_up_in_flight_brings_nobody_back,
    a_renewer_in_flight_of_a_guest_keeps_its_own_changes_alone,
    a_login_in_flight_keeps_its_own_changes_alone,
    a_clear_logs_out_and_keeps_the_key,
    a_clear_leaves_nothing_for_the_next_user,
    a_clear_travels_through_a_mark,
    a_clear_with_a_renewal_travels_too,
    what_loaded_before_a_clear_writes_nothing,
    a_clear_removes_what_others_committed_before,
    a_clear_keeps_what_it_is_followed_by,
}

/// A browser in which user 42 is logged in, with a secret entry.
pub(crate) async fn logged_in(tested: &impl TestStore) -> Browser {
    let browser = tested.browser().await;
    log_in(&browser).await;
    browser
}

pub(crate) async fn log_in(browser: &Browser) {
    let answer = browser
        .visit(|s| {
            s.insert("secret", "of-42").unwrap();
            s.login("user-42").unwrap();
        })
        .await;
    answer.assert_ok().assert_sets_cookie();
}

/// Logs out by `purge` in a request of its own.
pub(crate) async fn log_out(browser: &Browser) {
    let answer = browser.visit(|s| s.purge()).await;
    answer.assert_ok().assert_removes_cookie();
}

async fn a_writer_in_flight_brings_nothing_back(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let thief = browser.fork();
    let late = browser.begin().await;
    log_out(&browser).await;
    tested.dump().await.assert_no_record();
    late.insert("draft", 1).unwrap();
    late.remove("secret");
    late.finish().await.assert_ok().assert_no_cookie();
    tested.dump().await.assert_no_record();
    assert!(thief.is_nobody().await);
}

async fn a_modify_in_flight_brings_nothing_back(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    late.modify("n", |n: Option<u8>| Some(n.unwrap_or(0) + 1))
        .unwrap();
    log_out(&browser).await;
    late.finish().await.assert_ok().assert_no_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_touch_in_flight_brings_nothing_back(tested: impl TestStore) {
    let lifecycle = PersistentSession::default()
        .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let browser = tested
        .browser_of(tested.middleware().session_lifecycle(lifecycle))
        .await;
    log_in(&browser).await;
    // Without the logout in between, this request sends the cookie again.
    browser.begin().await.finish().await.assert_sets_cookie();
    let late = browser.begin().await;
    log_out(&browser).await;
    late.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(browser.value(), None);
    tested.dump().await.assert_no_record();
}

async fn a_clear_or_a_new_ttl_in_flight_brings_nothing_back(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let (clears, stays) = (browser.begin().await, browser.begin().await);
    log_out(&browser).await;
    clears.clear();
    clears.insert("after", 1).unwrap();
    stays.set_ttl(CookieDuration::days(30));
    for late in [clears, stays] {
        late.finish().await.assert_ok().assert_no_cookie();
        tested.dump().await.assert_no_record();
    }
}

async fn a_reader_in_flight_is_left_alone(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    log_out(&browser).await;
    // It came before the logout, and sees what was then.
    assert_eq!(late.principal().as_deref(), Some("user-42"));
    assert_eq!(
        late.get::<String>("secret").unwrap().as_deref(),
        Some("of-42")
    );
    late.finish().await.assert_ok().assert_no_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_renewer_in_flight_brings_nobody_back(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let (bare, writer) = (browser.begin().await, browser.begin().await);
    log_out(&browser).await;
    bare.renew();
    writer.insert("tenant", 7).unwrap();
    writer.renew();
    for late in [bare, writer] {
        late.finish().await.assert_ok().assert_no_cookie();
        tested.dump().await.assert_no_record();
    }
}

async fn a_step_up_in_flight_brings_nobody_back(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    log_out(&browser).await;
    late.insert("tenant", 7).unwrap();
    late.reauthenticated().unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_renewer_in_flight_of_a_guest_keeps_its_own_changes_alone(tested: impl TestStore) {
    let browser = tested.browser().await;
    browser.visit(|s| s.insert("basket", 1).unwrap()).await;
    let (bare, writer) = (browser.begin().await, browser.begin().await);
    log_out(&browser).await;
    bare.renew();
    bare.finish().await.assert_ok().assert_no_cookie();
    tested.dump().await.assert_no_record();
    writer.insert("own", 2).unwrap();
    writer.renew();
    writer.finish().await.assert_ok().assert_sets_cookie();
    let record = tested.dump().await.only();
    assert_eq!(record, expected(&[("own", "2")]));
}

async fn a_login_in_flight_keeps_its_own_changes_alone(tested: impl TestStore) {
    let browser = tested.browser().await;
    browser.visit(|s| s.insert("basket", 1).unwrap()).await;
    let late = browser.begin().await;
    log_out(&browser).await;
    late.insert("own", 2).unwrap();
    late.login("user-42").unwrap();
    late.finish().await.assert_ok().assert_sets_cookie();
    let dump = tested.dump().await;
    assert_eq!(dump.only(), expected(&[("own", "2")]));
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    assert_eq!(browser.number("basket").await, None);
}

async fn a_clear_logs_out_and_keeps_the_key(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    assert!(tested.dump().await.is_of("user-42"));
    let before = browser.value();
    let answer = browser
        .visit(|s| {
            s.clear();
            assert!(s.is_empty() && s.principal().is_none());
        })
        .await;
    answer.assert_ok().assert_no_cookie();
    assert_eq!(browser.value(), before);
    let dump = tested.dump().await;
    assert_eq!(dump.only().len(), 0);
    assert!(!dump.is_of("user-42"));
    assert!(browser.is_nobody().await);
}

async fn a_clear_leaves_nothing_for_the_next_user(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    browser.visit(|s| s.clear()).await.assert_ok();
    late.insert("draft", "of-42").unwrap();
    late.finish().await.assert_ok();
    browser.visit(|s| s.login("user-7").unwrap()).await;
    let dump = tested.dump().await;
    assert_eq!(dump.only().len(), 0, "{dump:?}");
    assert_eq!(browser.principal().await.as_deref(), Some("user-7"));
}

async fn a_clear_travels_through_a_mark(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    let answer = browser
        .visit(|s| {
            s.insert("after", "renewal").unwrap();
            s.renew();
        })
        .await;
    answer.assert_sets_cookie();
    late.clear();
    late.insert("dropped", 1).unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    // What the base held is gone, what came after it stays; nobody is logged in.
    let dump = tested.dump().await;
    assert_eq!(dump.only(), expected(&[("after", "\"renewal\"")]));
    assert!(!dump.is_of("user-42"));
    assert_eq!(browser.principal().await, None);
}

async fn a_clear_with_a_renewal_travels_too(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    browser.visit(|s| s.renew()).await.assert_sets_cookie();
    late.clear();
    late.renew();
    late.finish().await.assert_ok().assert_no_cookie();
    let dump = tested.dump().await;
    assert_eq!(dump.only().len(), 0);
    assert!(!dump.is_of("user-42"));
    assert!(browser.is_nobody().await);
}

async fn what_loaded_before_a_clear_writes_nothing(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let (writer, counter, renewer) = (
        browser.begin().await,
        browser.begin().await,
        browser.begin().await,
    );
    browser.visit(|s| s.clear()).await.assert_ok();
    let cleared = tested.dump().await.sorted();
    writer.insert("draft", 1).unwrap();
    counter.modify("n", |_: Option<u8>| Some(1)).unwrap();
    renewer.insert("tenant", 1).unwrap();
    renewer.renew();
    for late in [writer, counter, renewer] {
        late.finish().await.assert_ok().assert_no_cookie();
        assert_eq!(tested.dump().await.sorted(), cleared);
    }
    // What loads after it writes as ever.
    browser.visit(|s| s.insert("next", 1).unwrap()).await;
    assert_eq!(tested.dump().await.only(), expected(&[("next", "1")]));
}

async fn a_clear_removes_what_others_committed_before(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let clears = browser.begin().await;
    browser.visit(|s| s.insert("draft", 1).unwrap()).await;
    clears.clear();
    clears.finish().await.assert_ok().assert_no_cookie();
    let dump = tested.dump().await;
    assert_eq!(dump.only().len(), 0);
    assert!(!dump.is_of("user-42"));
}

async fn a_clear_keeps_what_it_is_followed_by(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let clears = browser.begin().await;
    browser.visit(|s| s.insert("draft", 1).unwrap()).await;
    clears.insert("before", 1).unwrap();
    clears.clear();
    clears.insert("after", 2).unwrap();
    clears.finish().await.assert_ok().assert_no_cookie();
    let dump = tested.dump().await;
    assert_eq!(dump.only(), expected(&[("after", "2")]));
    assert!(!dump.is_of("user-42"));
}
