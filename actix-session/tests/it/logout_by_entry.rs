//! What a request finds that has logged its user out by the entry which names them.

use std::time::Duration;

use actix_session::{
    EndReason, Level, Login, Session, SessionEnded, SessionManager, storage::SessionIndex,
};

use actix_web::cookie::time::Duration as CookieDuration;

use crate::{
    ended::{LEASE, assert_is, assert_lives},
    support::{Browser, Site, TestStore, on_each_index, soon},
};

const USER: &str = "user";
const HOUR: Duration = Duration::from_secs(3_600);

on_each_index! {
    nobody_is_logged_in_any_more,
    the_others_stay,
    the_times_of_the_login_end_with_it,
    a_time_that_follows_is_the_sessions_own,
    a_value_that_is_taken_logs_out_too,
    who_waits_afterwards_waits_for_what_is_left,
    a_login_of_the_same_request_is_taken_back,
    past_the_absolute_end_of_the_creation_it_counts_too,
    a_quiet_request_takes_the_cookies_age,
    after_a_save_that_is_gone_it_still_holds,
}

/// Ways to log out by the entry.
const WAYS: [fn(&Session); 3] = [
    |s| drop(s.remove(USER)),
    |s| s.insert(USER, 7).unwrap(),
    |s| s.modify(USER, |_: Option<String>| None).unwrap(),
];

async fn site_of<T: TestStore<Store: SessionIndex>>(tested: &T) -> (Site, SessionManager) {
    let middleware = tested.middleware().principal_entry(USER);
    let middleware = middleware.ended_lease(LEASE).build();
    let sessions = middleware.manager();
    (Site::new(middleware).await, sessions)
}

/// With times of its own.
fn log_in(session: &Session) {
    let login = Login::new("ada").idle(2 * HOUR).absolute(8 * HOUR);
    session.login_with(login.level(Level::Two)).unwrap();
}

async fn logged_in(site: &Site) -> Browser {
    let browser = Browser::new(site.clone());
    let kept = |s: &Session| {
        log_in(s);
        s.insert("basket", 1).unwrap();
    };
    browser.visit(kept).await.assert_ok().assert_sets_cookie();
    browser
}

fn assert_nobody(session: &Session) {
    assert_eq!(session.principal(), None);
    assert_eq!(session.level(), None);
    assert_eq!(session.authenticated_at(), None);
    assert_eq!(session.reauth_demand(), None);
    let refused = session.require_auth(Level::Zero, Duration::MAX);
    assert!(refused.unwrap_err().is_anonymous());
    assert!(session.reauthenticated().is_err());
}

async fn nobody_is_logged_in_any_more(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    for leave in WAYS {
        let browser = logged_in(&site).await;
        let out = |s: &Session| {
            leave(s);
            assert_nobody(s);
            assert!(s.contains_key("basket"));
        };
        browser.visit(out).await.assert_ok();
        assert_eq!(browser.number("basket").await, Some(1));
        browser.visit(assert_nobody).await.assert_ok();
        assert_eq!(sessions.count("ada").await.unwrap(), 0);
    }
}

async fn the_others_stay(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let (phone, laptop) = (logged_in(&site).await, logged_in(&site).await);
    let flight = laptop.begin().await;
    let session = flight.handle();
    session.remove(USER);
    assert!(
        !sessions
            .list("ada")
            .await
            .unwrap()
            .any(|it| it.is(&session))
    );
    let refused = sessions.revoke_others(&session).await;
    assert!(refused.unwrap_err().is_gone());
    flight.finish().await.assert_ok();
    assert_eq!(phone.principal().await.as_deref(), Some("ada"));
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
}

async fn the_times_of_the_login_end_with_it(tested: impl TestStore<Store: SessionIndex>) {
    let (site, _) = site_of(&tested).await;
    for leave in WAYS {
        let browser = logged_in(&site).await;
        let out = |s: &Session| {
            // It would be the login's.
            s.set_ttl(3 * HOUR);
            leave(s);
            let left = s.remaining().unwrap();
            assert_eq!(left.absolute(), None);
            assert_eq!(left.idle(), Some(24 * HOUR));
        };
        assert_eq!(browser.visit(out).await.assert_ok().max_age(), None);
    }
}

async fn a_time_that_follows_is_the_sessions_own(tested: impl TestStore<Store: SessionIndex>) {
    let (site, _) = site_of(&tested).await;
    for leave in WAYS {
        let browser = logged_in(&site).await;
        let out = |s: &Session| {
            leave(s);
            s.set_ttl(3 * HOUR);
            assert_eq!(s.remaining().unwrap().idle(), Some(3 * HOUR));
        };
        let answer = browser.visit(out).await;
        assert_eq!(answer.assert_ok().max_age(), Some(3 * 3_600));
        // It survives.
        let answer = browser.visit(|s| s.insert("basket", 2).unwrap()).await;
        assert_eq!(answer.assert_ok().max_age(), Some(3 * 3_600));
    }
}

async fn a_value_that_is_taken_logs_out_too(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let browser = logged_in(&site).await;
    let flight = browser.begin().await;
    let session = flight.handle();
    session.set_ttl(3 * HOUR);
    let taken: Option<String> = session.take(USER).await.unwrap();
    assert_eq!(taken.as_deref(), Some("ada"));
    assert_nobody(&session);
    assert_eq!(flight.finish().await.assert_ok().max_age(), None);
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
}

async fn who_waits_afterwards_waits_for_what_is_left(tested: impl TestStore<Store: SessionIndex>) {
    let (site, _) = site_of(&tested).await;
    for leave in WAYS {
        let browser = logged_in(&site).await;
        let mut both: Vec<SessionEnded> = Vec::new();
        let out = |s: &Session| {
            both.push(s.ended().unwrap());
            leave(s);
            both.push(s.ended().unwrap());
        };
        browser.visit(out).await.assert_ok();
        let after = both.pop().unwrap();
        assert_is(soon(both.pop().unwrap()).await, EndReason::LoggedOut);
        assert_lives(&after).await;
        browser.visit(Session::purge).await.assert_removes_cookie();
        assert_is(soon(after).await, EndReason::LoggedOut);
    }
}

async fn a_login_of_the_same_request_is_taken_back(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let browser = Browser::new(site);
    let both = |s: &Session| {
        s.insert("basket", 1).unwrap();
        log_in(s);
        s.remove(USER);
        assert_nobody(s);
    };
    browser.visit(both).await.assert_ok();
    browser.visit(assert_nobody).await.assert_ok();
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
}

/// Bounded by 12 hours. A guest at first, who has logged in after 11.
async fn logged_in_late(tested: &impl TestStore<Store: SessionIndex>) -> Browser {
    let middleware = tested.middleware().principal_entry(USER);
    let middleware = middleware.absolute_timeout(CookieDuration::hours(12));
    let browser = tested.browser_of(middleware).await;
    let basket = |s: &Session| s.insert("basket", 1).unwrap();
    browser.visit(basket).await.assert_sets_cookie();
    tested.clock().advance(11 * HOUR);
    let login = |s: &Session| s.login("ada").unwrap();
    browser.visit(login).await.assert_sets_cookie();
    tested.clock().advance(2 * HOUR);
    assert_eq!(browser.principal().await.as_deref(), Some("ada"));
    browser
}

async fn past_the_absolute_end_of_the_creation_it_counts_too(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let renewing: fn(&Session) = |s| {
        s.remove(USER);
        s.renew();
    };
    for leave in WAYS.into_iter().chain([renewing]) {
        let browser = logged_in_late(&tested).await;
        let thief = browser.fork();
        browser.visit(leave).await.assert_ok();
        assert_eq!(browser.principal().await, None);
        assert_eq!(thief.principal().await, None);
    }
    // What a handler takes at once, and what it saves.
    let browser = logged_in_late(&tested).await;
    let flight = browser.begin().await;
    let session = flight.handle();
    let taken: Option<String> = session.take(USER).await.unwrap();
    assert_eq!(taken.as_deref(), Some("ada"));
    assert_eq!(browser.fork().principal().await, None);
    flight.finish().await.assert_ok();
    let browser = logged_in_late(&tested).await;
    let flight = browser.begin().await;
    let session = flight.handle();
    session.remove(USER);
    session.save().await.unwrap();
    flight.fail().await;
    assert_eq!(browser.principal().await, None);
    // One that has met another's commit.
    let browser = logged_in_late(&tested).await;
    let flight = browser.begin().await;
    let more = |s: &Session| s.insert("n", 1).unwrap();
    browser.fork().visit(more).await.assert_ok();
    flight.remove(USER);
    flight.finish().await.assert_ok();
    assert_eq!(browser.principal().await, None);
}

async fn a_quiet_request_takes_the_cookies_age(tested: impl TestStore<Store: SessionIndex>) {
    let middleware = tested.middleware().principal_entry(USER);
    let middleware = middleware.quiet_when(|req| req.path() == "/quiet");
    let browser = tested.browser_of(middleware).await;
    let login = |s: &Session| {
        s.login_with(Login::new("ada").idle(30 * 24 * HOUR))
            .unwrap()
    };
    let answer = browser.visit(login).await;
    assert_eq!(answer.max_age(), Some(30 * 24 * 3_600));
    let leave = |s: &Session| drop(s.remove(USER));
    let answer = browser.visit_path("/quiet", leave).await;
    assert_eq!(answer.assert_ok().assert_sets_cookie().max_age(), None);
}

async fn after_a_save_that_is_gone_it_still_holds(tested: impl TestStore<Store: SessionIndex>) {
    let (site, _) = site_of(&tested).await;
    let leaves: [fn(&Session); 2] = [Session::clear, |s| drop(s.remove(USER))];
    for leave in leaves {
        let browser = logged_in(&site).await;
        let flight = browser.begin().await;
        browser.fork().visit(Session::purge).await.assert_ok();
        let session = flight.handle();
        leave(&session);
        assert!(session.save().await.is_err());
        assert_nobody(&session);
        assert!(!session.contains_key("basket"));
        flight.finish().await.assert_ok();
    }
}
