//! Waiting for the end of sessions that keep no id: those of nobody, in the format of old servers.

use std::time::Duration;

use actix_session::{EndReason, Session, config::WireFormat, storage::SessionIndex};

use crate::{
    devices::log_in,
    ended::{LEASE, assert_is, assert_lives, wait_for},
    support::{Browser, TestStore, on_each_index, soon},
};

on_each_index! {
    a_session_that_loses_its_own_time_goes_on,
    a_session_that_is_made_goes_on_in_a_login,
}

async fn visitor(tested: &impl TestStore) -> Browser {
    let middleware = tested.middleware().ended_lease(LEASE);
    tested
        .browser_of(middleware.wire_format(WireFormat::V0_11))
        .await
}

async fn a_session_that_loses_its_own_time_goes_on(tested: impl TestStore<Store: SessionIndex>) {
    let browser = visitor(&tested).await;
    let long = |s: &Session| {
        s.insert("n", 1).unwrap();
        s.set_ttl(Duration::from_secs(7_200));
    };
    browser.visit(long).await.assert_sets_cookie();
    let ended = wait_for(&browser).await;
    browser.visit(Session::reset_ttl).await.assert_ok();
    assert_lives(&ended).await;
    browser
        .visit(|s| s.insert("n", 2).unwrap())
        .await
        .assert_ok();
    assert_lives(&ended).await;
    browser.visit(Session::purge).await.assert_removes_cookie();
    assert_is(soon(ended).await, EndReason::LoggedOut);
}

async fn a_session_that_is_made_goes_on_in_a_login(tested: impl TestStore<Store: SessionIndex>) {
    let browser = visitor(&tested).await;
    let mut ended = None;
    let make = |s: &Session| {
        s.insert("n", 1).unwrap();
        ended = Some(s.ended().unwrap());
    };
    browser.visit(make).await.assert_sets_cookie();
    let ended = ended.unwrap();
    log_in(&browser, "user-42", "phone").await;
    assert_lives(&ended).await;
    browser.visit(Session::purge).await.assert_removes_cookie();
    assert_is(soon(ended).await, EndReason::LoggedOut);
}
