//! What a purge ends, and what else its request does.

use std::time::Duration;

use actix_session::{SessionMiddleware, SessionStatus, config::OnLoadError};
use actix_web::{cookie::time::Duration as CookieDuration, http::StatusCode, test::TestRequest};

use crate::{
    logout::{log_in, log_out, logged_in},
    support::{Browser, Spy, TestStore, expected, on_each_store_and_pooler},
};

on_each_store_and_pooler! {
    a_purge_ends_what_its_key_moved_to,
    a_purge_follows_several_marks,
    a_purge_follows_the_marks_of_logins,
    a_purge_by_who_loaded_a_mark_ends_what_it_leads_to,
    a_purge_ends_every_session_that_came,
    a_purge_ends_sessions_however_many_came,
    a_purge_that_fails_for_one_session_has_ended_the_others,
    a_purge_without_a_session_still_removes_the_cookie,
    a_purge_without_a_cookie_says_nothing,
    a_purge_wins_over_the_rest_of_its_request,
    what_is_set_after_a_purge_is_a_new_session,
    a_second_user_logs_in_after_a_purge,
    purge_now_ends_before_the_response,
    purge_now_tells_of_a_failure_and_purge_tries_again,
    purge_now_ends_a_session_that_could_not_be_loaded,
    a_commit_without_a_time_limit_ends_the_session_too,
    two_purges_are_one,
}

async fn a_purge_ends_what_its_key_moved_to(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    browser.visit(|s| s.renew()).await.assert_sets_cookie();
    assert_eq!(tested.dump().await.records().len(), 1);
    late.purge();
    // The browser has the newer cookie by now, and it goes too.
    late.finish().await.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_purge_follows_several_marks(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    for _ in 0..6 {
        browser.visit(|s| s.renew()).await.assert_sets_cookie();
    }
    assert_eq!(tested.dump().await.redirects(), 6);
    late.purge();
    late.finish().await.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_purge_follows_the_marks_of_logins(tested: impl TestStore) {
    let browser = tested.browser().await;
    browser.visit(|s| s.insert("basket", 1).unwrap()).await;
    let guest = browser.begin().await;
    log_in(&browser).await;
    let of_42 = browser.begin().await;
    // Another principal leaves the redirect of an ended session.
    browser.visit(|s| s.login("user-7").unwrap()).await;
    assert_eq!(browser.principal().await.as_deref(), Some("user-7"));
    of_42.purge();
    of_42.finish().await.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
    guest.purge();
    guest.finish().await.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_purge_by_who_loaded_a_mark_ends_what_it_leads_to(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let old = browser.fork();
    browser.visit(|s| s.renew()).await.assert_sets_cookie();
    let late = old.begin().await;
    assert!(late.is_empty() && late.principal().is_none());
    late.purge();
    late.finish().await.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
    assert!(browser.is_nobody().await);
}

async fn a_purge_ends_every_session_that_came(tested: impl TestStore) {
    let (one, two) = (logged_in(&tested).await, logged_in(&tested).await);
    let (mut values, site) = (Vec::new(), one.site.clone());
    for browser in [&one, &two] {
        values.push(browser.value().unwrap());
    }
    // More than are looked up: three keys that open nothing any more, between the two.
    for _ in 0..3 {
        let gone = logged_in(&tested).await;
        values.insert(1, gone.value().unwrap());
        log_out(&gone).await;
    }
    assert_eq!(tested.dump().await.records().len(), 2);
    let pairs: Vec<String> = values.iter().map(|value| format!("id={value}")).collect();
    let answer = Browser::new(site)
        .visit_as(&[pairs.join("; ")], |s| s.purge())
        .await;
    answer.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

/// A neighbour plants cookies of its own in front of the one that the visitor logs out with.
async fn a_purge_ends_sessions_however_many_came(tested: impl TestStore) {
    let site = logged_in(&tested).await.site;
    let mut pairs = Vec::new();
    for _ in 0..20 {
        let browser = Browser::new(site.clone());
        log_in(&browser).await;
        pairs.push(format!("id={}", browser.value().unwrap()));
    }
    let victim = Browser::new(site);
    log_in(&victim).await;
    pairs.push(format!("id={}", victim.value().unwrap()));
    let answer = victim.visit_as(&[pairs.join("; ")], |s| s.purge()).await;
    answer.assert_ok().assert_removes_cookie();
    assert!(victim.is_nobody().await);
    // The session that only opened the site is left.
    assert_eq!(tested.dump().await.records().len(), 1);
}

async fn a_purge_that_fails_for_one_session_has_ended_the_others(tested: impl TestStore) {
    let spy = Spy::new(tested.store());
    let middleware =
        SessionMiddleware::builder(spy.clone(), tested.key().clone()).clock(tested.clock().clone());
    let first = tested.browser_of(middleware).await;
    log_in(&first).await;
    let second = Browser::new(first.site.clone());
    log_in(&second).await;
    let values = [&first, &second].map(|browser| browser.value().unwrap());
    let both = values.map(|value| format!("id={value}")).join("; ");
    spy.refuse_next("delete");
    let answer = first.visit_as(&[&both], |s| s.purge()).await;
    answer.assert_opaque();
    // It is the first one that could not be ended, so that it is no logout yet.
    assert_eq!(first.principal().await.as_deref(), Some("user-42"));
    assert!(second.is_nobody().await);
    let answer = first.visit_as(&[&both], |s| s.purge()).await;
    answer.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_purge_without_a_session_still_removes_the_cookie(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let kept = tested.dump().await.sorted();
    let forged = {
        let mut value = browser.value().unwrap().into_bytes();
        let middle = value.len() / 2;
        value[middle] = if value[middle] == b'A' { b'B' } else { b'A' };
        String::from_utf8(value).unwrap()
    };
    for value in ["", "garbage", "%ff", forged.as_str()] {
        let cookie = [format!("id={value}")];
        let answer = browser.visit_as(&cookie, |s| s.purge()).await;
        answer.assert_ok().assert_removes_cookie();
        // Nothing but a purge removes what does not open.
        let answer = browser.visit_as(&cookie, |_| ()).await;
        answer.assert_ok().assert_no_cookie();
    }
    assert_eq!(tested.dump().await.sorted(), kept);
    // A cookie whose session ended.
    let ended = browser.fork();
    log_out(&browser).await;
    ended.visit(|_| ()).await.assert_no_cookie();
    ended.visit(|s| s.purge()).await.assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_purge_without_a_cookie_says_nothing(tested: impl TestStore) {
    let browser = tested.browser().await;
    browser
        .visit(|s| s.purge())
        .await
        .assert_ok()
        .assert_no_cookie();
    // Another cookie is not ours.
    let answer = browser.visit_as(&["other=1; Id=2"], |s| s.purge()).await;
    answer.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.0.len(), 0);
}

async fn a_purge_wins_over_the_rest_of_its_request(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let answer = browser
        .visit(|s| {
            s.insert("before", 1).unwrap();
            s.login("user-7").unwrap();
            s.set_ttl(CookieDuration::days(1));
            s.renew();
            s.purge();
            s.renew();
            assert_eq!(s.status(), SessionStatus::Purged);
            assert!(s.is_empty() && s.principal().is_none());
        })
        .await;
    answer.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

async fn what_is_set_after_a_purge_is_a_new_session(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let old = browser.fork();
    let before = browser.value();
    let answer = browser
        .visit(|s| {
            s.purge();
            s.insert("flash", "Goodbye!").unwrap();
            assert_eq!(
                s.get::<String>("flash").unwrap().as_deref(),
                Some("Goodbye!")
            );
        })
        .await;
    answer.assert_ok().assert_sets_cookie();
    assert_ne!(browser.value(), before);
    let record = tested.dump().await.only();
    assert_eq!(record, expected(&[("flash", "\"Goodbye!\"")]));
    assert_eq!(browser.principal().await, None);
    assert!(old.is_nobody().await);
}

async fn a_second_user_logs_in_after_a_purge(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let old = browser.fork();
    let answer = browser
        .visit(|s| {
            s.purge();
            s.login("user-7").unwrap();
        })
        .await;
    answer.assert_ok().assert_sets_cookie();
    assert_eq!(browser.principal().await.as_deref(), Some("user-7"));
    let dump = tested.dump().await;
    assert_eq!(dump.only().len(), 0);
    assert!(!dump.is_of("user-42") && !dump.holds("of-42"));
    assert!(old.is_nobody().await);
}

async fn purge_now_ends_before_the_response(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let flight = browser.begin().await;
    flight.purge_now().await.unwrap();
    tested.dump().await.assert_no_record();
    flight.insert("flash", 1).unwrap();
    flight.finish().await.assert_ok().assert_sets_cookie();
    assert_eq!(tested.dump().await.only(), expected(&[("flash", "1")]));
    // Over a redirect too, and without anything after it.
    let late = browser.begin().await;
    browser.visit(|s| s.renew()).await.assert_sets_cookie();
    late.purge_now().await.unwrap();
    tested.dump().await.assert_no_record();
    late.finish().await.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

async fn purge_now_tells_of_a_failure_and_purge_tries_again(tested: impl TestStore) {
    let spy = Spy::new(tested.store());
    let middleware =
        SessionMiddleware::builder(spy.clone(), tested.key().clone()).clock(tested.clock().clone());
    let browser = tested.browser_of(middleware).await;
    log_in(&browser).await;
    let flight = browser.begin().await;
    spy.refuse(&["delete"]);
    assert!(flight.purge_now().await.is_err());
    assert_eq!(tested.dump().await.records().len(), 1);
    spy.refuse(&[]);
    flight.finish().await.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
    // A purge that fails is no logout: the cookie stays, and the answer says so.
    log_in(&browser).await;
    spy.refuse(&["delete"]);
    browser.visit(|s| s.purge()).await.assert_opaque();
    spy.refuse(&[]);
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    // After the answer there is nobody to do it.
    let flight = browser.begin().await;
    let handle = flight.handle();
    flight.finish().await.assert_ok();
    assert!(handle.purge_now().await.is_err());
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

async fn purge_now_ends_a_session_that_could_not_be_loaded(tested: impl TestStore) {
    let spy = Spy::new(tested.store());
    let middleware = SessionMiddleware::builder(spy.clone(), tested.key().clone())
        .clock(tested.clock().clone())
        .on_load_error(OnLoadError::Anonymous);
    let browser = tested.browser_of(middleware).await;
    log_in(&browser).await;
    spy.refuse(&["open", "delete"]);
    let flight = browser.begin().await;
    assert!(flight.is_degraded());
    assert!(flight.purge_now().await.is_err());
    spy.refuse(&[]);
    flight.purge_now().await.unwrap();
    tested.dump().await.assert_no_record();
    // The request could not be served with its session, and says so.
    let answer = flight.finish().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(browser.is_nobody().await);
}

async fn a_commit_without_a_time_limit_ends_the_session_too(tested: impl TestStore) {
    let builder = tested.middleware().commit_budget(Duration::MAX);
    let browser = tested.browser_of(builder).await;
    log_in(&browser).await;
    browser
        .visit(|s| s.insert("n", 1).unwrap())
        .await
        .assert_ok();
    log_out(&browser).await;
    tested.dump().await.assert_no_record();
}

async fn two_purges_are_one(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    late.purge();
    log_out(&browser).await;
    // By now the browser has the session of another login, which this purge does not concern.
    log_in(&browser).await;
    tested.clock().advance(Duration::from_secs(1));
    late.finish().await.assert_ok();
    assert_eq!(tested.dump().await.records().len(), 1);
    let empty = browser.site.answer(TestRequest::get()).await;
    empty.assert_ok().assert_no_cookie();
}
