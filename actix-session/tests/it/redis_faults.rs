//! A real Redis that dies, freezes, loses answers or holds something else.

use std::time::Duration;

use actix_session::{
    Session, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::RedisSessionStore,
};
use actix_web::{cookie::Key, http::StatusCode, rt, web};
use futures_util::future::join_all;
use redis::AsyncCommands as _;
use servers::RedisServer;

use crate::support::{
    Browser, Redis, Server, Site, TestStore, count, expected, fill, guest, http_get, random_name,
    serve_count, soon,
};

/// A server that keeps what it has acknowledged.
const DURABLE: [(&str, &str); 2] = [("appendonly", "yes"), ("appendfsync", "always")];

pub(crate) async fn set_ok(browser: &Browser, act: impl FnOnce(&Session)) {
    browser.visit(act).await.assert_ok().assert_no_cookie();
}

#[actix_web::test]
async fn killed_and_started_again_between_two_requests() {
    let mut server = RedisServer::start_with(&DURABLE).unwrap();
    let mut tested = Redis::at(&server.url()).await;
    let browser = guest(&tested).await;
    // Whatever the first command on the dead connection is, the request works.
    let mut again = async |browser: &Browser| {
        server.restart().unwrap();
        tested.connect_again(&server.url()).await;
        (tested.dump().await, browser.fork())
    };
    again(&browser).await;
    assert_eq!(browser.number("a").await, Some(1));
    again(&browser).await;
    set_ok(&browser, |s| s.insert("b", 2).unwrap()).await;
    again(&browser).await;
    set_ok(&browser, count).await;
    let (dump, old) = again(&browser).await;
    assert_eq!(dump.only(), expected(&[("a", "1"), ("b", "2"), ("n", "1")]));
    browser
        .visit(Session::renew)
        .await
        .assert_ok()
        .assert_sets_cookie();
    assert!(old.is_nobody().await);
    let (dump, _) = again(&browser).await;
    assert_eq!(dump.only()["n"], "1");
    browser
        .visit(Session::purge)
        .await
        .assert_ok()
        .assert_removes_cookie();
    let (dump, _) = again(&browser).await;
    dump.assert_no_record();
    fill(&browser).await;
    let (dump, _) = again(&browser).await;
    assert_eq!(dump.only(), expected(&[("a", "1")]));
}

#[actix_web::test]
async fn killed_and_started_again_between_load_and_commit() {
    let mut server = RedisServer::start_with(&DURABLE).unwrap();
    let mut tested = Redis::at(&server.url()).await;
    let browser = guest(&tested).await;
    // The scripts are known to the server, and after the restart are not.
    set_ok(&browser, count).await;
    let flights = (
        browser.begin().await,
        browser.begin().await,
        browser.begin().await,
    );
    server.restart().unwrap();
    tested.connect_again(&server.url()).await;
    count(&flights.0);
    flights.0.finish().await.assert_ok();
    assert_eq!(tested.dump().await.only()["n"], "2");
    server.restart().unwrap();
    flights.1.renew();
    flights.1.finish().await.assert_ok().assert_sets_cookie();
    server.restart().unwrap();
    tested.connect_again(&server.url()).await;
    flights.2.purge();
    flights.2.finish().await.assert_ok().assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

#[actix_web::test]
async fn a_server_that_forgets_makes_nobody_of_everybody() {
    let mut server = RedisServer::start().unwrap();
    let mut tested = Redis::at(&server.url()).await;
    let browser = guest(&tested).await;
    let late = browser.begin().await;
    let before = browser.value();
    server.restart().unwrap();
    tested.connect_again(&server.url()).await;
    late.insert("b", 1).unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    assert!(browser.is_nobody().await);
    assert_eq!(tested.dump().await.0.len(), 0);
    // A key that opens nothing is not adopted.
    fill(&browser).await;
    assert_ne!(browser.value(), before);
    assert_eq!(tested.dump().await.only(), expected(&[("a", "1")]));
}

#[actix_web::test]
async fn a_dead_server_is_an_opaque_error_until_it_is_back() {
    let mut server = RedisServer::start_with(&DURABLE).unwrap();
    let mut tested = Redis::at(&server.url()).await;
    let browser = guest(&tested).await;
    let late = browser.begin().await;
    server.kill();
    let mut ran = false;
    soon(browser.visit(|_| ran = true)).await.assert_opaque();
    assert!(!ran, "no handler runs on a session that nobody knows");
    late.insert("b", 2).unwrap();
    soon(late.finish()).await.assert_opaque();
    // Whoever has no session needs no store, unless there is something to keep.
    let stranger = tested.browser().await;
    stranger.visit(|_| ()).await.assert_ok();
    let write = stranger.visit(|s| s.insert("a", 1).unwrap());
    soon(write).await.assert_opaque();
    let mut garbage = false;
    let visit = stranger.visit_as(&["id=garbage"], |s| garbage = s.is_empty());
    visit.await.assert_ok();
    assert!(garbage);

    server.restart().unwrap();
    tested.connect_again(&server.url()).await;
    assert_eq!(tested.dump().await.only(), expected(&[("a", "1")]));
    assert_eq!(browser.number("a").await, Some(1));
    set_ok(&browser, count).await;
}

#[actix_web::test]
async fn a_frozen_server_is_an_opaque_error_in_bounded_time() {
    let mut server = RedisServer::start().unwrap();
    let tested = Redis::at(&server.url()).await;
    let browser = guest(&tested).await;
    server.pause().unwrap();
    let mut ran = false;
    let answer = soon(browser.visit(|_| ran = true)).await;
    answer.assert_opaque();
    assert!(answer.failed && !ran);
    // New ones find no server either.
    assert!(soon(RedisSessionStore::new(server.url())).await.is_err());
    server.resume().unwrap();
    assert_eq!(browser.number("a").await, Some(1));
    set_ok(&browser, |s| s.insert("a", 2).unwrap()).await;
    assert_eq!(tested.dump().await.only(), expected(&[("a", "2")]));
}

/// Makes a request whose commit the server gets while it is frozen, and carries out once it goes
/// on.
async fn freeze(server: &mut RedisServer, browser: &Browser, act: impl FnOnce(&Session)) {
    let late = browser.begin().await;
    server.pause().unwrap();
    act(&late);
    soon(late.finish()).await.assert_opaque();
    server.resume().unwrap();
}

#[actix_web::test]
async fn what_is_sent_to_a_frozen_server_holds_or_not_but_never_by_half() {
    let mut server = RedisServer::start().unwrap();
    let tested = Redis::at(&server.url()).await;
    let limit = Duration::from_millis(300);
    let quick = || tested.middleware().commit_budget(limit);
    let browser = tested.browser_of(quick()).await;
    fill(&browser).await;
    set_ok(&browser, count).await;

    // A commit: one or not, and one at most.
    let act = |s: &Session| {
        count(s);
        s.insert("beside", 1).unwrap();
    };
    freeze(&mut server, &browser, act).await;
    // What the store sends next is answered after what it has sent before.
    browser.visit(|_| ()).await.assert_ok();
    let record = tested.dump().await.only();
    let done = record.contains_key("beside");
    assert_eq!(record["n"], if done { "2" } else { "1" });

    // A renewal: under one key or the other.
    let old = browser.fork();
    let act = |s: &Session| {
        s.insert("moved", 1).unwrap();
        s.renew();
    };
    freeze(&mut server, &browser, act).await;
    old.visit(|_| ()).await.assert_ok();
    let dump = tested.dump().await;
    let moved = dump.only().contains_key("moved");
    assert_eq!(dump.redirects(), usize::from(moved));
    assert_eq!(old.is_nobody().await, moved);

    // An ending: not known either, so the cookie stays.
    let browser = tested.browser_of(quick()).await;
    fill(&browser).await;
    freeze(&mut server, &browser, Session::purge).await;
    let answer = browser.visit(Session::purge).await;
    answer.assert_ok().assert_removes_cookie();
    assert!(browser.is_nobody().await);
}

#[actix_web::test]
async fn a_store_outlives_the_runtime_that_made_it() {
    let url = RedisServer::shared_url().unwrap();
    let prefix = format!("test:{}:", random_name());
    let named = prefix.clone();
    let made_elsewhere = std::thread::spawn(move || {
        rt::System::new().block_on(async move {
            let store = RedisSessionStore::builder(url)
                .cache_keygen(move |key| format!("{named}{key}"))
                .build()
                .await
                .unwrap();
            let builder = SessionMiddleware::builder(store.clone(), Key::generate());
            let browser = Browser::new(Site::new(builder.build()).await);
            fill(&browser).await;
            assert_eq!(browser.number("a").await, Some(1));
            store
        })
    });
    let store = made_elsewhere.join().unwrap();
    let builder = SessionMiddleware::builder(store, Key::generate());
    let browser = Browser::new(Site::new(builder.build()).await);
    for _ in 0..3 {
        fill(&browser).await;
        assert_eq!(browser.number("a").await, Some(1));
        browser.visit(Session::purge).await.assert_ok();
    }
}

#[actix_web::test]
async fn workers_share_a_store_and_may_end() {
    let tested = Redis::start().await;
    let mut cookie = None;
    for _ in 0..3 {
        let (store, key) = (tested.store(), tested.key().clone());
        let server = Server::start(
            2,
            move || SessionMiddleware::new(store.clone(), key.clone()),
            |config| {
                config.route("/", web::to(serve_count));
            },
        );
        for _ in 0..4 {
            let (status, set) = http_get(server.address, "/", cookie.as_deref()).await;
            assert_eq!(status, StatusCode::OK.as_u16());
            cookie = cookie.or(set);
        }
        server.stop().await;
    }
    assert_eq!(tested.dump().await.only()["n"], "12");
}

#[actix_web::test]
async fn something_else_under_our_name_is_no_session() {
    let tested = Redis::start().await;
    let every = TtlExtensionPolicy::OnEveryRequest;
    let extended = PersistentSession::default().session_ttl_extension_policy(every);
    for middleware in [
        tested.middleware(),
        tested.middleware().session_lifecycle(extended),
    ] {
        let browser = tested.browser_of(middleware).await;
        fill(&browser).await;
        let late = browser.begin().await;
        let name = tested.only_name().await;
        let mut redis = tested.connection.clone();
        let _: () = redis.del(&name).await.unwrap();
        let _: () = redis.rpush(&name, "a list").await.unwrap();
        assert!(browser.is_nobody().await);
        // A commit that meets it leaves it, and is an error.
        late.insert("b", 1).unwrap();
        late.finish().await.assert_opaque();
        let before = browser.value();
        let old = browser.fork();
        fill(&browser).await;
        assert_ne!(browser.value(), before);
        let list: Vec<String> = redis.lrange(&name, 0, -1).await.unwrap();
        assert_eq!(list, ["a list"]);
        // To end it needs no reading.
        old.visit(Session::purge)
            .await
            .assert_ok()
            .assert_removes_cookie();
        let there: bool = redis.exists(&name).await.unwrap();
        assert!(!there);
        browser.visit(Session::purge).await.assert_ok();
    }
}

#[actix_web::test]
async fn something_else_under_a_marks_name_leads_nowhere() {
    let tested = Redis::start().await;
    let browser = guest(&tested).await;
    let old = browser.fork();
    browser.visit(Session::renew).await.assert_sets_cookie();
    let mut redis = tested.connection.clone();
    let names = tested.names().await;
    let redirect = names.iter().find(|n| n.ends_with(":moved")).unwrap();
    for text in ["", "nonsense", "p|x|y", "z|1|y"] {
        let _: () = redis.set(redirect, text).await.unwrap();
        assert!(old.is_nobody().await, "{text}");
    }
    let _: () = redis.del(redirect).await.unwrap();
    let _: () = redis.rpush(redirect, "a list").await.unwrap();
    assert!(old.is_nobody().await);
    old.visit(Session::purge)
        .await
        .assert_ok()
        .assert_removes_cookie();
    assert_eq!(browser.number("a").await, Some(1));
    let _: () = redis.del(redirect).await.unwrap();
}

/// Each waits for as long as it may, and none in line behind the others.
#[actix_web::test]
async fn endings_at_once_wait_together_for_a_replica_that_is_away() {
    let server = RedisServer::start().unwrap();
    let builder = RedisSessionStore::builder(server.url());
    let wait = Duration::from_millis(700);
    let store = builder.wait_for_replicas(1, wait).build().await.unwrap();
    let site = Site::new(SessionMiddleware::builder(store, Key::generate()).build()).await;
    let mut browsers = Vec::new();
    for _ in 0..12 {
        let here = Browser::new(site.clone());
        here.visit(count).await.assert_sets_cookie();
        browsers.push(here);
    }
    let ends = browsers.iter().map(|here| here.visit(Session::purge));
    for answer in join_all(ends).await {
        answer.assert_ok().assert_removes_cookie();
    }
}
