//! What travels through the redirect of a renewal, and what never does.

use std::time::Duration;

use actix_session::Session;
use actix_web::cookie::time::Duration as CookieDuration;

use crate::{
    renewals::{guest, logged_in, renew},
    support::{TestStore, expected, on_each_store},
};

on_each_store! {
    what_did_not_change_meanwhile_lands_behind_the_mark,
    a_modify_runs_on_what_lies_behind_the_mark,
    a_forwarded_request_is_one_or_not_at_all_behind_a_login,
    a_commit_follows_several_marks,
    what_never_travels_does_not,
    a_guests_cart_follows_into_the_login,
    nothing_follows_into_another_persons_session,
    nothing_follows_a_renewal_that_cleared,
    a_late_plain_write_with_the_old_key_is_dropped,
    ten_seconds_after_the_renewal_a_write_makes_a_session,
    a_late_login_with_the_old_key_makes_a_session,
    a_late_renewal_with_the_old_key_makes_one_unless_somebody_is_logged_in,
    a_login_by_hand_that_is_tried_again_makes_a_session,
    a_late_login_by_hand_logs_out_whoever_is_behind_the_redirect,
    a_late_clear_travels_and_what_follows_is_a_write_like_any_other,
}

/// A program that keeps its user in an entry.
fn log_in_by_hand(session: &Session) {
    session.clear();
    session.insert("user_id", 42).unwrap();
    session.renew();
}

async fn a_login_by_hand_that_is_tried_again_makes_a_session(tested: impl TestStore) {
    for wait in [0, 20] {
        let browser = tested.browser().await;
        let write = |s: &Session| s.insert("user_id", 7).unwrap();
        browser.visit(write).await.assert_sets_cookie();
        let again = browser.fork();
        browser.visit(log_in_by_hand).await.assert_sets_cookie();
        // Its answer was lost, so that the browser sends the old cookie.
        tested.clock().advance(Duration::from_secs(wait));
        again
            .visit(log_in_by_hand)
            .await
            .assert_ok()
            .assert_sets_cookie();
        assert_eq!(again.number("user_id").await, Some(42));
        assert_eq!(browser.number("user_id").await, Some(42));
        for browser in [browser, again] {
            browser.visit(Session::purge).await.assert_ok();
        }
        tested.dump().await.assert_no_record();
    }
}

async fn a_late_login_by_hand_logs_out_whoever_is_behind_the_redirect(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let old = browser.fork();
    renew(&browser).await;
    old.visit(log_in_by_hand)
        .await
        .assert_ok()
        .assert_sets_cookie();
    assert_eq!(old.number("user_id").await, Some(42));
    assert_eq!(browser.principal().await, None);
    assert_eq!(browser.number("user_id").await, None);
}

async fn a_late_clear_travels_and_what_follows_is_a_write_like_any_other(tested: impl TestStore) {
    for (wait, makes) in [(0, false), (10, true)] {
        let browser = logged_in(&tested).await;
        let old = browser.fork();
        renew(&browser).await;
        tested.clock().advance(Duration::from_secs(wait));
        let act = |s: &Session| {
            s.clear();
            s.insert("flash", 1).unwrap();
        };
        let answer = old.visit(act).await;
        assert_eq!(answer.assert_ok().cookie().is_some(), makes);
        assert_eq!(browser.principal().await, None);
        assert_eq!(browser.number("flash").await, None);
        assert_eq!(old.number("flash").await, makes.then_some(1));
    }
}

async fn what_did_not_change_meanwhile_lands_behind_the_mark(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let (late, remover) = (browser.begin().await, browser.begin().await);
    let answer = browser
        .visit(|s| {
            s.insert("a", 2).unwrap();
            s.insert("fresh", 2).unwrap();
            s.renew();
        })
        .await;
    answer.assert_sets_cookie();
    for name in ["a", "b", "new", "fresh"] {
        late.insert(name, 3).unwrap();
    }
    remover.remove("a");
    remover.remove("c");
    late.finish().await.assert_ok().assert_no_cookie();
    remover.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(
        tested.dump().await.only(),
        expected(&[("a", "2"), ("b", "3"), ("fresh", "2"), ("new", "3")])
    );
}

async fn a_modify_runs_on_what_lies_behind_the_mark(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let late = browser.begin().await;
    let answer = browser
        .visit(|s| {
            s.insert("a", 10).unwrap();
            s.renew();
        })
        .await;
    answer.assert_sets_cookie();
    late.modify("a", |n: Option<u8>| Some(n.unwrap_or(0) + 1))
        .unwrap();
    assert_eq!(late.get::<u8>("a").unwrap(), Some(2));
    late.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.only()["a"], "11");
}

async fn a_forwarded_request_is_one_or_not_at_all_behind_a_login(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let (same, other) = (browser.begin().await, browser.begin().await);
    let answer = browser
        .visit(|s| {
            s.insert("a", 10).unwrap();
            s.login("user-42").unwrap();
        })
        .await;
    answer.assert_sets_cookie();
    let plus_one = |n: Option<u8>| Some(n.unwrap_or(0) + 1);
    same.modify("b", plus_one).unwrap();
    other.modify("a", plus_one).unwrap();
    other.insert("beside", 1).unwrap();
    same.finish().await.assert_ok().assert_no_cookie();
    other.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(
        tested.dump().await.only(),
        expected(&[("a", "10"), ("b", "2"), ("c", "1")])
    );
}

async fn a_commit_follows_several_marks(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let late = browser.begin().await;
    for _ in 0..5 {
        renew(&browser).await;
    }
    late.insert("new", 1).unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.only()["new"], "1");
    assert_eq!(browser.number("new").await, Some(1));
}

async fn what_never_travels_does_not(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let (ttl, renewer, step_up) = (
        browser.begin().await,
        browser.begin().await,
        browser.begin().await,
    );
    renew(&browser).await;
    let before = tested.dump().await.sorted();
    ttl.set_ttl(CookieDuration::days(30));
    renewer.insert("from-renewer", 1).unwrap();
    renewer.renew();
    step_up.insert("from-step-up", 1).unwrap();
    step_up.reauthenticated().unwrap();
    for late in [ttl, renewer, step_up] {
        late.finish().await.assert_ok().assert_no_cookie();
        assert_eq!(tested.dump().await.sorted(), before);
    }
}

async fn a_guests_cart_follows_into_the_login(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let late = browser.begin().await;
    browser.visit(|s| s.login("user-42").unwrap()).await;
    late.insert("basket", 1).unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.only()["basket"], "1");
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

async fn nothing_follows_into_another_persons_session(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let old = browser.fork();
    let (writer, counter, clears) = (
        browser.begin().await,
        browser.begin().await,
        browser.begin().await,
    );
    let answer = browser
        .visit(|s| {
            s.login("user-7").unwrap();
            assert!(s.is_empty(), "what is another person's is not shown");
        })
        .await;
    answer.assert_sets_cookie();
    let before = tested.dump().await.sorted();
    assert_eq!(before.only().len(), 0, "nor kept");
    writer.insert("draft", 1).unwrap();
    counter.modify("n", |_: Option<u8>| Some(1)).unwrap();
    clears.clear();
    for late in [writer, counter, clears] {
        late.finish().await.assert_ok().assert_no_cookie();
        assert_eq!(tested.dump().await.sorted(), before);
    }
    // Nor does a logout by whoever comes with the old key, and loads only the redirect.
    let answer = old.visit(actix_session::Session::clear).await;
    answer.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.sorted(), before);
    assert_eq!(browser.principal().await.as_deref(), Some("user-7"));
}

async fn nothing_follows_a_renewal_that_cleared(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    let answer = browser
        .visit(|s| {
            s.clear();
            s.renew();
        })
        .await;
    answer.assert_sets_cookie();
    late.insert("draft", 1).unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    let dump = tested.dump().await;
    assert_eq!(dump.only().len(), 0);
    assert!(!dump.is_of("user-42"));
}

async fn a_late_plain_write_with_the_old_key_is_dropped(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let old = browser.fork();
    browser.visit(|s| s.login("user-42").unwrap()).await;
    let before = tested.dump().await.sorted();
    tested.clock().advance(Duration::from_millis(9_999));
    let flash = |s: &actix_session::Session| s.insert("flash", 1).unwrap();
    old.visit(flash).await.assert_ok().assert_no_cookie();
    let count = |s: &actix_session::Session| s.modify("n", |_: Option<u8>| Some(1)).unwrap();
    old.visit(count).await.assert_ok().assert_no_cookie();
    let bare = old.visit(|s| s.renew()).await;
    bare.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.sorted(), before);
}

async fn ten_seconds_after_the_renewal_a_write_makes_a_session(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let (old, renewing) = (browser.fork(), browser.fork());
    browser.visit(|s| s.login("user-42").unwrap()).await;
    tested.clock().advance(Duration::from_secs(10));
    // Reading makes no session.
    old.visit(|_| ()).await.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.records().len(), 1);
    let answer = old.visit(|s| s.insert("form", 1).unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
    let records = tested.dump().await.records();
    assert_eq!(records.len(), 2);
    assert!(records.contains(&expected(&[("form", "1")])), "{records:?}");
    let answer = renewing.visit(|s| {
        s.insert("form", 2).unwrap();
        s.renew();
    });
    answer.await.assert_ok().assert_sets_cookie();
    assert_eq!(renewing.number("form").await, Some(2));
    for other in [old, renewing] {
        assert_eq!(other.principal().await, None);
    }
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

async fn a_late_login_with_the_old_key_makes_a_session(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let old = browser.fork();
    browser.visit(|s| s.login("user-42").unwrap()).await;
    let answer = old
        .visit(|s| {
            s.insert("own", 1).unwrap();
            s.login("user-42").unwrap();
        })
        .await;
    answer.assert_ok().assert_sets_cookie();
    assert_eq!(old.principal().await.as_deref(), Some("user-42"));
    let records = tested.dump().await.records();
    assert_eq!(records.len(), 2);
    assert!(records.contains(&expected(&[("own", "1")])), "{records:?}");
}

async fn a_late_renewal_with_the_old_key_makes_one_unless_somebody_is_logged_in(
    tested: impl TestStore,
) {
    let browser = guest(&tested).await;
    let first = browser.fork();
    renew(&browser).await;
    let second = browser.fork();
    let renewal = |s: &actix_session::Session| {
        s.insert("own", 1).unwrap();
        s.renew();
    };
    first.fork().visit(renewal).await.assert_sets_cookie();
    let records = tested.dump().await.records();
    assert_eq!(records.len(), 2);
    assert!(records.contains(&expected(&[("own", "1")])), "{records:?}");
    browser.visit(|s| s.login("user-42").unwrap()).await;
    let before = tested.dump().await.sorted();
    for old in [first, second] {
        old.visit(renewal).await.assert_ok().assert_no_cookie();
        assert_eq!(tested.dump().await.sorted(), before);
    }
}
