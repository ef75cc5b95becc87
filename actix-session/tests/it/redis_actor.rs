//! The store of 0.9, over the actor: the tests of every store, and what is its own.

use actix_session::{
    Session, SessionMiddleware,
    storage::{RedisActorSessionStore, SessionStore as _},
};
use actix_web::{
    cookie::{Key, time::Duration},
    web,
};
use servers::RedisServer;

use crate::support::{Browser, Flight, Server, connect, count, http_get, random_name, serve_count};

fn store(server: &RedisServer) -> RedisActorSessionStore {
    RedisActorSessionStore::new(format!("127.0.0.1:{}", server.port()))
}

#[actix_web::test]
async fn it_keeps_what_the_other_store_keeps() {
    let server = RedisServer::start().unwrap();
    let browser = Browser::with(store(&server)).await;
    browser.visit(count).await.assert_sets_cookie();
    // Parallel commits of one entry, and one through a renewal.
    let flights: Vec<_> = futures_util::future::join_all((0..8).map(|_| browser.begin())).await;
    for flight in &flights {
        count(flight);
    }
    let answers = flights.into_iter().map(Flight::finish);
    for answer in futures_util::future::join_all(answers).await {
        answer.assert_ok();
    }
    assert_eq!(browser.number("n").await, Some(9));
    let (old, late) = (browser.fork(), browser.begin().await);
    browser.visit(Session::renew).await.assert_sets_cookie();
    count(&late);
    late.finish().await.assert_ok().assert_no_cookie();
    assert!(old.is_nobody().await);
    assert_eq!(browser.number("n").await, Some(10));
    let late = browser.begin().await;
    browser.visit(Session::purge).await.assert_removes_cookie();
    count(&late);
    late.finish().await.assert_ok().assert_no_cookie();
    assert!(browser.is_nobody().await);
}

#[actix_web::test]
async fn its_five_methods_are_the_published_ones() {
    let server = RedisServer::start().unwrap();
    let prefix = random_name();
    // Neither `Send` nor `Sync`, as published.
    let shared = std::rc::Rc::new(prefix);
    let store = RedisActorSessionStore::builder(format!("127.0.0.1:{}", server.port()))
        .cache_keygen(move |key| format!("{shared}:{key}"))
        .build();
    let ttl = Duration::minutes(1);
    let state = |value: &str| [("a".to_owned(), value.to_owned())].into();
    let key = store.save(state("1"), &ttl).await.unwrap();
    assert_eq!(store.load(&key).await.unwrap().unwrap()["a"], "1");
    let key = store.update(key, state("2"), &ttl).await.unwrap();
    store.update_ttl(&key, &ttl).await.unwrap();
    assert_eq!(store.load(&key).await.unwrap().unwrap()["a"], "2");
    store.delete(&key).await.unwrap();
    assert!(store.load(&key).await.unwrap().is_none());
    assert!(store.update(key, state("3"), &ttl).await.is_err(), "gone");
}

#[actix_web::test]
async fn it_starts_while_redis_is_down_and_heals_when_it_restarts() {
    let mut server = RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "always")]);
    let server = server.as_mut().unwrap();
    server.kill();
    let browser = Browser::with(store(server)).await;
    browser.visit(count).await.assert_opaque();
    server.restart().unwrap();
    browser.visit(count).await.assert_ok().assert_sets_cookie();
    server.restart().unwrap();
    browser.visit(count).await.assert_ok();
    assert_eq!(browser.number("n").await, Some(2));
}

#[actix_web::test]
async fn an_address_that_is_none_is_an_error_of_each_request() {
    let browser = Browser::with(RedisActorSessionStore::new("http://localhost:1")).await;
    browser.visit(|_| ()).await.assert_ok();
    browser.visit(count).await.assert_opaque();
}

#[actix_web::test]
async fn each_worker_has_a_store_of_its_own() {
    let redis = RedisServer::start().unwrap();
    let (address, key) = (format!("127.0.0.1:{}", redis.port()), Key::generate());
    let server = Server::start(
        2,
        move || {
            let store = RedisActorSessionStore::new(address.clone());
            SessionMiddleware::new(store, key.clone())
        },
        |config| {
            config.route("/", web::to(serve_count));
        },
    );
    let mut cookie = None;
    for _ in 0..6 {
        let (status, set) = http_get(server.address, "/", cookie.as_deref()).await;
        assert_eq!(status, 200);
        cookie = cookie.or(set);
    }
    server.stop().await;
    let mut redis = connect(&redis.url()).await;
    let names: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(names.len(), 1);
    let text: String = redis::cmd("GET")
        .arg(&names[0])
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(text.contains(r#""n":6"#), "{text}");
}
