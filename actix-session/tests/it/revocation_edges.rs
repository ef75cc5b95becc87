//! Cookie-stored sessions with a list: what came from old servers, late and lost.

use std::time::{Duration as StdDuration, SystemTime};

use actix_session::{
    Session, SessionMiddleware,
    storage::{
        CookieSessionStore, MemorySessionStore, RevocationStore as _, SessionKey, SessionStore,
    },
    testing::ManualClock,
};
use actix_web::{
    cookie::{Key, time::Duration},
    rt,
};
use serde_json::json;
use servers::RedisServer;
use tokio::sync::Barrier;

use crate::support::{Browser, Proxy, Redis, Site, TestStore as _, private, soon};

fn listed() -> CookieSessionStore {
    CookieSessionStore::default().with_revocation(MemorySessionStore::new())
}

fn key() -> Key {
    Key::from(&[7; 64])
}

/// A cookie of actix-session 0.11, which has neither an id nor times.
fn untimed() -> String {
    private(&key(), "id", r#"{"user":"\"alice\""}"#)
}

async fn site() -> Site {
    let middleware = SessionMiddleware::builder(listed(), key());
    Site::new(middleware.build()).await
}

fn holding(site: &Site, value: &str) -> Browser {
    let browser = Browser::new(site.clone());
    browser.set_cookie("id", value);
    browser
}

async fn user(browser: &Browser) -> Option<String> {
    let mut user = None;
    let look = |s: &Session| user = s.get("user").unwrap();
    browser.visit(look).await.assert_ok();
    user
}

#[actix_web::test]
async fn a_logout_with_an_old_servers_cookie_ends_its_copies_and_no_other_session() {
    let site = site().await;
    let old = untimed();
    let browser = holding(&site, &old);
    // At first sight the value gets its times.
    assert_eq!(user(&browser).await.as_deref(), Some("alice"));
    let seen = browser.value().unwrap();
    assert_ne!(seen, old);
    let elsewhere = holding(&site, &untimed());
    for leaves in [&old, &seen] {
        holding(&site, leaves)
            .visit(Session::purge)
            .await
            .assert_ok();
        for copy in [&old, &seen] {
            assert_eq!(user(&holding(&site, copy)).await, None);
        }
    }
    assert_eq!(user(&elsewhere).await.as_deref(), Some("alice"));
}

/// That value has no end, so what it was given at first sight says nothing of its copies.
#[actix_web::test]
async fn a_logout_ends_the_copies_of_an_old_servers_cookie_for_good() {
    let clock = ManualClock::at(SystemTime::now());
    let list = MemorySessionStore::builder().clock(clock.clone()).build();
    let store = CookieSessionStore::default().with_revocation(list);
    let middleware = SessionMiddleware::builder(store.clock(clock.clone()), key())
        .clock(clock.clone())
        .absolute_timeout(Duration::days(1));
    let site = Site::new(middleware.build()).await;
    for act in [
        Session::purge as fn(&Session),
        Session::clear,
        Session::renew,
    ] {
        let old = untimed();
        let browser = holding(&site, &old);
        assert_eq!(user(&browser).await.as_deref(), Some("alice"));
        browser.visit(act).await.assert_ok();
        clock.advance(StdDuration::from_secs(3 * 86_400));
        assert_eq!(user(&holding(&site, &old)).await, None);
    }
}

/// An application on an old server can set the reserved entry too.
#[actix_web::test]
async fn a_logout_ends_an_old_servers_cookie_whatever_is_set_in_it() {
    let site = site().await;
    for forged in [r#""nonsense""#, r#""1.7.5...0..9.YQ:x""#] {
        let state = json!({ "user": r#""alice""#, "__actix_session": forged });
        let old = private(&key(), "id", &state.to_string());
        assert_eq!(user(&holding(&site, &old)).await.as_deref(), Some("alice"));
        holding(&site, &old).visit(Session::purge).await.assert_ok();
        assert_eq!(user(&holding(&site, &old)).await, None, "{forged}");
    }
}

#[actix_web::test]
async fn a_first_sight_that_is_slower_than_a_logout_does_not_undo_it() {
    let site = site().await;
    let browser = holding(&site, &untimed());
    for act in [
        |_: &Session| (),
        |s: &Session| s.insert("a", 1).unwrap(),
        Session::renew,
    ] {
        let slow = browser.begin().await;
        let twin = holding(&site, &browser.value().unwrap());
        twin.visit(Session::purge).await.assert_ok();
        act(&slow);
        slow.finish().await.assert_ok().assert_no_cookie();
        assert_eq!(user(&browser).await, None);
        browser.set_cookie("id", untimed());
    }
}

/// The renewed cookie is on its way, and this request has the old one.
#[actix_web::test]
async fn behind_a_renewal_a_clear_logs_out_and_a_write_makes_no_session() {
    let site = site().await;
    let browser = Browser::new(site.clone());
    let login = |s: &Session| s.login("alice").unwrap();
    for act in [Session::clear, Session::purge] {
        browser.visit(login).await.assert_sets_cookie();
        let behind = browser.fork();
        browser.visit(Session::renew).await.assert_sets_cookie();
        let write = |s: &Session| s.insert("a", 1).unwrap();
        behind.visit(write).await.assert_ok().assert_no_cookie();
        assert_eq!(browser.principal().await.as_deref(), Some("alice"));
        behind.visit(act).await.assert_ok();
        assert_eq!(browser.principal().await, None);
    }
    // Somebody who logs in gets a session at once.
    browser.visit(login).await.assert_sets_cookie();
    let behind = browser.fork();
    browser.visit(Session::renew).await.assert_sets_cookie();
    behind.visit(login).await.assert_sets_cookie();
    assert_eq!(behind.principal().await.as_deref(), Some("alice"));
}

/// Otherwise a renewal whose note was answered too late would log the user out.
#[actix_web::test]
async fn whoever_noted_an_end_first_learns_it_though_the_answer_is_lost() {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::before_redis(server.port());
    let list = Redis::through(&proxy.redis_url(), &server.url())
        .await
        .store();
    let now = SystemTime::now();
    let until = now + StdDuration::from_secs(60);
    assert!(list.revoke("a", now, until).await.unwrap());
    let noting = {
        proxy.lose_answer_of("SET");
        let list = list.clone();
        rt::spawn(async move { list.revoke("b", now, until).await })
    };
    soon(proxy.lost()).await;
    proxy.let_through();
    assert!(soon(noting).await.unwrap().unwrap(), "it was the first");
    assert!(!list.revoke("b", now, until).await.unwrap());
}

#[actix_web::test]
async fn a_note_is_no_session() {
    let list = MemorySessionStore::new();
    let now = SystemTime::now();
    let name = "0123456789abcdef".repeat(4);
    let until = now + StdDuration::from_secs(60);
    assert!(list.revoke(&name, now, until).await.unwrap());
    let key: SessionKey = name.clone().try_into().unwrap();
    assert!(list.load(&key).await.unwrap().is_none());
    list.delete(&key).await.unwrap();
    assert!(list.revoked_at(&name).await.unwrap().is_some());
}

/// A store whose `delete` waits until so many wait.
struct Together(MemorySessionStore, Barrier);

impl SessionStore for Together {
    actix_session::forward_store_methods!(self => self.0; except delete);

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.1.wait().await;
        self.0.delete(key).await
    }
}

#[actix_web::test]
async fn a_logout_ends_all_sessions_that_came_at_once() {
    let store = MemorySessionStore::new();
    let plain = Site::new(SessionMiddleware::new(store.clone(), key())).await;
    let mut values = Vec::new();
    for _ in 0..5 {
        let browser = Browser::new(plain.clone());
        browser
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_ok();
        values.push(format!("id={}", browser.value().unwrap()));
    }
    let together = Together(store, Barrier::new(5));
    let site = Site::new(SessionMiddleware::new(together, key())).await;
    let leaving = Browser::new(site);
    let cookies = [values.join("; ")];
    soon(leaving.visit_as(&cookies, Session::purge))
        .await
        .assert_ok();
    for value in values {
        let browser = holding(&plain, &value["id=".len()..]);
        assert_eq!(browser.number("a").await, None);
    }
}
