//! A real Sentinel: the master is whichever server it names.

use std::time::{Duration, Instant};

use actix_session::{
    Session, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::RedisSessionStore,
};
use actix_web::cookie::Key;
use servers::RedisSentinel;

use crate::support::{Browser, Site, aside, connect, count, load::Load, soon};

/// Waits until the sentinels name another master than the one at this port.
async fn replaced(sentinel: RedisSentinel, old: u16) -> RedisSentinel {
    aside(move || {
        let started = Instant::now();
        while sentinel.master_port().is_ok_and(|port| port == old) {
            assert!(started.elapsed() < Duration::from_secs(40), "no failover");
            std::thread::sleep(Duration::from_millis(50));
        }
        sentinel
    })
    .await
}

#[actix_web::test]
async fn the_master_is_found_by_name_through_any_sentinel() {
    let sentinel = RedisSentinel::start().unwrap();
    let hosts = sentinel.sentinel_urls().join(",").replace("redis://", "");
    // One that nobody answers at does no harm.
    let url = format!(
        "redis+sentinel://127.0.0.1:1,{hosts}/{}",
        RedisSentinel::MASTER
    );
    let store = RedisSessionStore::new(url).await.unwrap();
    let here = Browser::with(store).await;
    here.visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_sets_cookie();
    here.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(here.number("a").await, Some(1));

    let builder = RedisSessionStore::builder_sentinel(sentinel.sentinel_urls(), "nobody");
    let quick = builder.command_timeout(Duration::from_millis(100));
    let told = format!("{:#}", quick.build().await.unwrap_err());
    assert!(told.contains("no master of this name"), "{told}");
}

#[actix_web::test]
async fn a_master_that_is_killed_is_replaced_and_requests_work_again() {
    let mut sentinel = RedisSentinel::start().unwrap();
    let urls = sentinel.sentinel_urls();
    let builder = RedisSessionStore::builder_sentinel(urls, RedisSentinel::MASTER);
    let store = builder
        .wait_for_replicas(1, Duration::from_secs(1))
        .build()
        .await
        .unwrap();
    let load = Load::start(store).await;
    load.works_for(200).await;
    let old = sentinel.servers()[0].port();
    sentinel.servers()[0].kill();
    load.fails().await;
    let mut sentinel = replaced(sentinel, old).await;
    load.works_for(200).await;
    // The old master comes back as a replica, and nothing changes.
    let sentinel_back = aside(move || {
        sentinel.servers()[0].restart().unwrap();
        sentinel
    })
    .await;
    load.works_for(200).await;
    let report = load.stop().await;
    // What was ended was waited for, so that the replica had it.
    report.assert_ended();
    drop(sentinel_back);
}

#[actix_web::test]
async fn a_failover_that_is_asked_for_is_followed() {
    let mut sentinel = RedisSentinel::start().unwrap();
    let urls = sentinel.sentinel_urls();
    let builder = RedisSessionStore::builder_sentinel(urls, RedisSentinel::MASTER);
    let store = builder.build().await.unwrap();
    let here = Browser::with(store.clone()).await;
    here.visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_sets_cookie();
    let old = sentinel.servers()[0].port();
    let load = Load::start(store).await;
    load.works_for(100).await;
    sentinel = aside(move || {
        // Refused until the sentinels have looked at the replica for a while.
        let started = Instant::now();
        while let Err(error) = sentinel.fail_over() {
            assert!(started.elapsed() < Duration::from_secs(30), "{error}");
            std::thread::sleep(Duration::from_millis(100));
        }
        sentinel
    })
    .await;
    let sentinel = replaced(sentinel, old).await;
    load.works_for(200).await;
    let report = load.stop().await;
    assert_eq!(report.panics, 0, "{report}");
    assert_eq!(here.number("a").await, Some(1));
    drop(sentinel);
}

#[actix_web::test]
async fn while_no_master_is_named_reads_come_from_the_last_one() {
    let mut sentinel = RedisSentinel::start().unwrap();
    let urls = sentinel.sentinel_urls();
    let builder = RedisSessionStore::builder_sentinel(urls.clone(), RedisSentinel::MASTER);
    let store = builder.build().await.unwrap();
    let every = TtlExtensionPolicy::OnEveryRequest;
    let every = PersistentSession::default().session_ttl_extension_policy(every);
    let extending = SessionMiddleware::builder(store.clone(), Key::generate());
    let extending = extending.session_lifecycle(every).build();
    let extending = Browser::new(Site::new(extending).await);
    let here = Browser::with(store).await;
    for browser in [&here, &extending] {
        browser.visit(count).await.assert_sets_cookie();
    }
    for url in urls {
        let mut forget = redis::cmd("SENTINEL");
        forget.arg("REMOVE").arg(RedisSentinel::MASTER);
        forget.exec_async(&mut connect(&url).await).await.unwrap();
    }
    let mut cut = redis::cmd("CLIENT");
    cut.arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes");
    let mut master = connect(&sentinel.servers()[0].url()).await;
    cut.exec_async(&mut master).await.unwrap();
    for browser in [&extending, &here, &extending] {
        assert_eq!(soon(browser.number("n")).await, Some(1));
        soon(browser.visit(count)).await.assert_opaque();
    }
}
