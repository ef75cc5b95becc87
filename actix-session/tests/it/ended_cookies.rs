//! Waiting for the end of a session that lives in its cookie.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use actix_session::{
    EndReason, Session, SessionMiddleware,
    config::{BrowserSession, TtlExtensionPolicy},
    storage::{
        CookieSessionStore, MemorySessionStore, RevocationFuture, RevocationStore, SessionStore,
    },
    testing::ManualClock,
};
use actix_web::cookie::{Key, time::Duration};
use tokio::time::sleep;

use crate::{
    devices::log_in,
    ended::{LEASE, assert_lives, wait_for},
    five_methods,
    support::{Browser, Site, soon},
};

#[actix_web::test]
async fn cookies_tell_what_their_list_knows() {
    let key = Key::generate();
    let without = SessionMiddleware::new(CookieSessionStore::default(), key.clone());
    let browser = Browser::new(Site::new(without).await);
    let refused = |s: &Session| {
        let error = s.ended().unwrap_err().to_string();
        assert!(error.contains("with_revocation"), "{error}");
    };
    browser.visit(refused).await.assert_ok();

    let list = MemorySessionStore::new();
    let store = CookieSessionStore::default().with_revocation(list);
    let middleware = SessionMiddleware::builder(store.clone(), key).ended_lease(LEASE);
    let browser = Browser::new(Site::new(middleware.build()).await);
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    assert_lives(&ended).await;
    store.revoke_principal("user-42").await.unwrap();
    assert_eq!(soon(ended).await, EndReason::Gone);
}

/// The list remembers where a session went.
#[actix_web::test]
async fn cookies_that_are_renewed_go_on() {
    let store = CookieSessionStore::default().with_revocation(MemorySessionStore::new());
    let middleware = SessionMiddleware::builder(store, Key::generate()).ended_lease(LEASE);
    let browser = Browser::new(Site::new(middleware.build()).await);
    for act in [
        Session::purge as fn(&Session),
        Session::clear,
        |s| s.login("user-43").unwrap(),
        |s| {
            s.clear();
            s.login("user-42").unwrap();
        },
    ] {
        log_in(&browser, "user-42", "phone").await;
        let ended = wait_for(&browser).await;
        for _ in 0..3 {
            browser.visit(Session::renew).await.assert_sets_cookie();
        }
        let again = |s: &Session| s.login("user-42").unwrap();
        browser.visit(again).await.assert_sets_cookie();
        assert_lives(&ended).await;
        browser.visit(act).await.assert_ok();
        assert_eq!(soon(ended).await, EndReason::Gone);
    }
}

/// A list that never answers one look.
struct Mute {
    list: MemorySessionStore,
    is_mute: Arc<AtomicBool>,
}

impl RevocationStore for Mute {
    fn revoke<'a>(
        &'a self,
        name: &'a str,
        at: SystemTime,
        until: SystemTime,
    ) -> RevocationFuture<'a, bool> {
        self.list.revoke(name, at, until)
    }

    fn revoked_at<'a>(&'a self, name: &'a str) -> RevocationFuture<'a, Option<SystemTime>> {
        match self.is_mute.swap(false, Ordering::SeqCst) {
            true => Box::pin(std::future::pending()),
            false => self.list.revoked_at(name),
        }
    }
}

#[actix_web::test]
async fn a_list_that_does_not_answer_is_asked_again() {
    let is_mute = Arc::new(AtomicBool::new(false));
    let list = Mute {
        list: MemorySessionStore::new(),
        is_mute: Arc::clone(&is_mute),
    };
    let store = CookieSessionStore::default().with_revocation(list);
    let middleware = SessionMiddleware::builder(store.clone(), Key::generate());
    let middleware = middleware.ended_lease(LEASE).commit_budget(LEASE);
    let browser = Browser::new(Site::new(middleware.build()).await);
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    is_mute.store(true, Ordering::SeqCst);
    soon(async {
        while is_mute.load(Ordering::SeqCst) {
            sleep(LEASE).await;
        }
    })
    .await;
    store.revoke_principal("user-42").await.unwrap();
    assert_eq!(soon(ended).await, EndReason::Gone);
}

/// What was written before the entry had a name says nothing of a login.
#[actix_web::test]
async fn whoever_an_entry_names_is_signed_out_everywhere() {
    const USER: &str = "actix_identity.user_id";
    let key = Key::generate();
    let store = CookieSessionStore::default().with_revocation(MemorySessionStore::new());
    let builder = || SessionMiddleware::builder(store.clone(), key.clone());
    let browser = Browser::new(Site::new(builder().build()).await);
    let old = |s: &Session| s.insert(USER, "42").unwrap();
    browser.visit(old).await.assert_sets_cookie();
    let naming = builder().principal_entry(USER).ended_lease(LEASE);
    let browser = browser.at(Site::new(naming.build()).await);
    assert_eq!(browser.principal().await.as_deref(), Some("42"));
    let ended = wait_for(&browser).await;
    assert_lives(&ended).await;
    browser.visit(Session::renew).await.assert_sets_cookie();
    assert_lives(&ended).await;
    store.revoke_principal("42").await.unwrap();
    assert!(browser.is_nobody().await);
    browser
        .visit(|s| assert!(!s.contains_key(USER)))
        .await
        .assert_ok();
    assert_eq!(soon(ended).await, EndReason::Gone);
}

/// The facts of a login say somebody, and the entry, which has just got its name, says nobody.
#[actix_web::test]
async fn a_logout_ends_what_the_entry_makes_of_a_cookie() {
    let key = Key::generate();
    let store = CookieSessionStore::default().with_revocation(MemorySessionStore::new());
    let builder = || SessionMiddleware::builder(store.clone(), key.clone());
    let site = Site::new(builder().build()).await;
    let naming = Site::new(builder().principal_entry("user").build()).await;
    for ends_all in [false, true] {
        let browser = Browser::new(site.clone());
        log_in(&browser, "ada", "phone").await;
        let copy = browser.fork().at(naming.clone());
        let browser = browser.at(naming.clone());
        let late = copy.fork().begin().await;
        if ends_all {
            store.revoke_principal("ada").await.unwrap();
        } else {
            browser.visit(Session::purge).await.assert_removes_cookie();
        }
        // Nor does what is in flight bring it back.
        late.handle().insert("n", 1).unwrap();
        late.finish().await.assert_ok().assert_no_cookie();
        let empty = |s: &Session| assert!(s.is_empty() && s.principal().is_none());
        copy.visit(empty).await.assert_ok();
        let set = |s: &Session| s.insert("n", 1).unwrap();
        copy.visit(set).await.assert_ok();
        copy.visit(|s| assert!(!s.contains_key("secret")))
            .await
            .assert_ok();
    }
}

/// One list for two sites. The entry has a name at the second alone.
async fn at_two_sites<S: SessionStore + 'static>(
    wrap: impl Fn(CookieSessionStore) -> S,
) -> (CookieSessionStore, Site, Site) {
    let key = Key::generate();
    let store = CookieSessionStore::default().with_revocation(MemorySessionStore::new());
    let builder = || SessionMiddleware::builder(wrap(store.clone()), key.clone());
    let naming = builder().principal_entry("user").ended_lease(LEASE);
    let sites = (builder().build(), naming.build());
    (store, Site::new(sites.0).await, Site::new(sites.1).await)
}

/// A session of which the facts say ada, and the entry somebody else or nobody.
async fn told_as_ada(site: &Site, named: Option<&str>) -> Browser {
    let browser = Browser::new(site.clone());
    log_in(&browser, "ada", "phone").await;
    if let Some(named) = named {
        let name = |s: &Session| s.insert("user", named).unwrap();
        browser.visit(name).await.assert_sets_cookie();
    }
    browser
}

const NAMED: [Option<&str>; 2] = [None, Some("bob")];

/// Whether what was there before it has ended is there.
async fn is_there(browser: &Browser) -> bool {
    let mut is_there = false;
    let look = |s: &Session| is_there = s.contains_key("secret");
    browser.visit(look).await.assert_ok();
    is_there
}

#[actix_web::test]
async fn an_older_cookie_brings_nothing_back_whatever_its_entry_says() {
    let (_, site, naming) = at_two_sites(|store| store).await;
    for named in NAMED {
        for act in [Session::clear, Session::renew] {
            let browser = told_as_ada(&site, named).await.at(naming.clone());
            let older = browser.fork();
            browser.visit(act).await.assert_sets_cookie();
            let renew = |s: &Session| {
                s.renew();
                s.insert("n", 1).unwrap();
            };
            older.visit(renew).await.assert_ok();
            assert_eq!(older.principal().await, None);
            assert!(!is_there(&older).await, "{named:?}");
        }
        let browser = told_as_ada(&site, named).await.at(naming.clone());
        let older = browser.fork();
        browser.visit(Session::renew).await.assert_sets_cookie();
        assert!(is_there(&browser).await);
        older.visit(Session::clear).await.assert_ok();
        assert!(browser.is_nobody().await, "{named:?}");
    }
}

/// All that a cookie is known as, at the site that knows less of it too.
#[actix_web::test]
async fn a_logout_ends_a_cookie_as_its_facts_say_too() {
    let (_, site, naming) = at_two_sites(|store| store).await;
    for act in [Session::clear, Session::purge] {
        let browser = told_as_ada(&site, None).await;
        let copy = browser.fork();
        browser.at(naming.clone()).visit(act).await.assert_ok();
        assert!(copy.is_nobody().await);
    }
}

/// So does one by the entry, whomever the facts name.
#[actix_web::test]
async fn a_logout_by_the_entry_ends_a_cookie_as_its_facts_say_too() {
    let (_, site, naming) = at_two_sites(|store| store).await;
    let ways: [fn(&Session); 3] = [
        |s| drop(s.remove("user")),
        |s| s.insert("user", 7).unwrap(),
        |s| s.modify("user", |_: Option<String>| None).unwrap(),
    ];
    for leave in ways {
        let browser = told_as_ada(&site, Some("bob")).await;
        let copy = browser.fork();
        let browser = browser.at(naming.clone());
        let (late, ended) = (browser.fork().begin().await, wait_for(&browser).await);
        browser.visit(leave).await.assert_sets_cookie();
        assert!(copy.is_nobody().await && copy.at(naming.clone()).is_nobody().await);
        assert_eq!(soon(ended).await, EndReason::Gone);
        late.handle().insert("n", 1).unwrap();
        late.finish().await.assert_ok().assert_no_cookie();
        assert_eq!(browser.principal().await, None);
        assert!(is_there(&browser).await);
    }
}

/// `late` has been loaded before its session gets another value.
async fn a_logout_ends_what_a_cookie_has_become<S: SessionStore + 'static>(
    wrap: impl Fn(CookieSessionStore) -> S,
    acts: &[fn(&Session)],
) {
    let (_, site, naming) = at_two_sites(wrap).await;
    for named in NAMED {
        for act in acts {
            let browser = told_as_ada(&site, named).await.at(naming.clone());
            let (late, older) = (browser.fork().begin().await, browser.fork());
            browser.visit(*act).await.assert_sets_cookie();
            assert_eq!(browser.principal().await.as_deref(), named);
            assert!(is_there(&browser).await);
            late.handle().purge();
            late.finish().await.assert_removes_cookie();
            assert!(browser.is_nobody().await, "{named:?}");
            assert!(older.is_nobody().await);
        }
        // And the other way round.
        let browser = told_as_ada(&site, named).await.at(naming.clone());
        let older = browser.fork();
        let change = |s: &Session| s.insert("n", 1).unwrap();
        browser.visit(change).await.assert_sets_cookie();
        browser.visit(Session::purge).await.assert_removes_cookie();
        assert!(older.is_nobody().await, "{named:?}");
    }
}

#[actix_web::test]
async fn a_logout_ends_what_the_cookie_has_become_meanwhile() {
    let change = |s: &Session| s.insert("n", 1).unwrap();
    a_logout_ends_what_a_cookie_has_become(|store| store, &[change, Session::renew]).await;
}

/// What a renewal makes there has an id of its own.
#[actix_web::test]
async fn a_logout_ends_what_the_cookie_has_become_behind_a_wrapper() {
    let change = |s: &Session| s.insert("n", 1).unwrap();
    a_logout_ends_what_a_cookie_has_become(five_methods::Wrapper, &[change]).await;
}

#[actix_web::test]
async fn a_renewed_cookie_ends_no_longer_with_whom_its_facts_said() {
    let (store, site, naming) = at_two_sites(|store| store).await;
    let browser = told_as_ada(&site, None).await.at(naming);
    let ended = wait_for(&browser).await;
    browser.visit(Session::renew).await.assert_sets_cookie();
    store.revoke_principal("ada").await.unwrap();
    assert_lives(&ended).await;
    assert!(is_there(&browser).await);
    browser.visit(Session::purge).await.assert_removes_cookie();
    assert_eq!(soon(ended).await, EndReason::Gone);
}

/// A wrapper by hand that has the default of `watch`.
struct Opening<S>(S);

impl<S: SessionStore> SessionStore for Opening<S> {
    actix_session::forward_store_methods!(self => self.0; except watch, knows_ends);
}

#[actix_web::test]
async fn a_wrapper_that_only_opens_knows_what_lives() {
    let (store, site, naming) = at_two_sites(Opening).await;
    let browser = told_as_ada(&site, Some("bob")).await.at(naming);
    let ended = wait_for(&browser).await;
    assert_lives(&ended).await;
    store.revoke_principal("bob").await.unwrap();
    assert_eq!(soon(ended).await, EndReason::Gone);
    // Without a list, too.
    let key = Key::generate();
    let builder =
        || SessionMiddleware::builder(Opening(CookieSessionStore::default()), key.clone());
    let site = Site::new(builder().build()).await;
    let naming = builder().principal_entry("user").ended_lease(LEASE);
    let browser = told_as_ada(&site, Some("bob")).await;
    let ended = wait_for(&browser.at(Site::new(naming.build()).await)).await;
    assert_lives(&ended).await;
}

/// A request that extends nothing has not moved the end either.
#[actix_web::test]
async fn a_login_in_a_quiet_request_takes_over_nothing_that_has_ended() {
    let clock = ManualClock::new();
    let list = MemorySessionStore::builder().clock(clock.clone()).build();
    let store = CookieSessionStore::default().clock(clock.clone());
    let middleware = SessionMiddleware::builder(store.with_revocation(list), Key::generate())
        .clock(clock.clone())
        .session_lifecycle(
            BrowserSession::default()
                .state_ttl(Duration::hours(1))
                .state_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest),
        )
        .quiet_when(|_| true);
    let browser = Browser::new(Site::new(middleware.build()).await);
    browser.visit(|s| s.insert("basket", 3).unwrap()).await;
    let flight = browser.begin().await;
    clock.advance(std::time::Duration::from_secs(3_601));
    flight.handle().login("user-42").unwrap();
    flight.finish().await.assert_sets_cookie();
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    assert_eq!(browser.number("basket").await, None);
}
