//! Programs that load a record by the published methods, and write it back.

use std::time::Duration as StdDuration;

use actix_session::{
    Session,
    config::WireFormat,
    storage::{SessionIndex, SessionStore as _},
};
use actix_web::cookie::time::Duration;

use crate::support::{TestStore, on_each_index, opened};

on_each_index! {
    what_a_program_writes_back_stays_its_users,
    what_says_nothing_unusual_is_loaded_without_the_entry,
}

const RESERVED: &str = "__actix_session";

/// The program has no key that proves whose the session is.
async fn what_a_program_writes_back_stays_its_users(tested: impl TestStore<Store: SessionIndex>) {
    let store = tested.store();
    let sessions = tested.middleware().build().manager();
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let browser = tested
            .browser_of(tested.middleware().wire_format(format))
            .await;
        // A login at the time of the last revocation has ended with it.
        tested.clock().advance(StdDuration::from_secs(1));
        let login = |s: &Session| s.login("ferris").unwrap();
        browser.visit(login).await.assert_sets_cookie();
        let value = browser.value().unwrap();
        let key = || {
            opened(tested.key(), "id", &value)
                .unwrap()
                .try_into()
                .unwrap()
        };
        let state = store.load(&key()).await.unwrap().unwrap();
        store
            .update(key(), state, &Duration::hours(1))
            .await
            .unwrap();
        let listed = sessions.list("ferris").await.unwrap();
        assert_eq!(listed.count(), 1, "{format:?}");
        assert_eq!(sessions.revoke_all("ferris").await.unwrap(), 1);
        assert_eq!(browser.principal().await, None, "{format:?}");
    }
}

/// Whatever the store.
async fn what_says_nothing_unusual_is_loaded_without_the_entry(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let store = tested.store();
    let browser = tested.browser().await;
    let set = |s: &Session| s.insert("n", 1).unwrap();
    browser.visit(set).await.assert_sets_cookie();
    let value = browser.value().unwrap();
    let key = opened(tested.key(), "id", &value).unwrap();
    let state = store.load(&key.try_into().unwrap()).await.unwrap().unwrap();
    assert!(!state.contains_key(RESERVED));
    assert_eq!(state.len(), 1);
}
