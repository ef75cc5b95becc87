//! The handle of a request's own session.

use actix_session::{Session, SessionHandle, SessionManager, storage::SessionIndex};

use crate::{
    devices::{log_in, tick},
    support::{TestStore, on_each_index},
};

on_each_index! {
    a_session_knows_its_own_handle_among_many,
    a_session_has_no_handle_before_it_is_stored_nor_after_it_has_ended,
}

async fn latest(sessions: &SessionManager, principal: &str) -> SessionHandle {
    let mut list = sessions.first_page(principal, 1).await.unwrap();
    list.next().unwrap().handle()
}

/// A list has 50.
async fn a_session_knows_its_own_handle_among_many(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = tested.middleware().build().manager();
    let browser = tested.browser().await;
    log_in(&browser, "user-42", "phone").await;
    let own = latest(&sessions, "user-42").await;
    for _ in 0..51 {
        tick(&tested);
        log_in(&tested.browser().await, "user-42", "other").await;
    }
    let acts: [fn(&Session); 4] = [
        |_| (),
        |s| s.insert("n", 1).unwrap(),
        Session::renew,
        |s| s.login("user-42").unwrap(),
    ];
    for act in acts {
        let flight = browser.begin().await;
        assert_eq!(flight.handle().handle(), Some(own.clone()));
        act(&flight.handle());
        let handle = flight.handle().handle().unwrap();
        flight.finish().await.assert_ok();
        let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
        assert_eq!(opened.session().handle(), Some(own.clone()));
        assert_eq!(opened.handle(), own);
    }
}

async fn a_session_has_no_handle_before_it_is_stored_nor_after_it_has_ended(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let sessions = tested.middleware().build().manager();
    let none = |s: &Session| assert_eq!(s.handle(), None);
    let browser = tested.browser().await;
    browser.visit(none).await.assert_ok();
    browser.visit(|s| s.insert("n", 1).unwrap()).await;
    let first = |s: &Session| {
        none(s);
        s.login("user-42").unwrap();
        none(s);
    };
    browser.visit(first).await.assert_sets_cookie();
    let own = latest(&sessions, "user-42").await;
    browser
        .visit(|s| assert_eq!(s.handle(), Some(own.clone())))
        .await;
    let ends: [fn(&Session); 3] = [
        |s| s.login("user-43").unwrap(),
        Session::clear,
        Session::purge,
    ];
    for end in ends {
        let browser = tested.browser().await;
        log_in(&browser, "user-42", "phone").await;
        let flight = browser.begin().await;
        assert!(flight.handle().handle().is_some());
        end(&flight.handle());
        none(&flight.handle());
        flight.finish().await.assert_ok();
    }
}
