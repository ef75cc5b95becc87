//! A real Sentinel: the master is whichever server it names.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use actix_session::{
    Session, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::RedisSessionStore,
};
use actix_web::{cookie::Key, rt};
use redis::AsyncCommands as _;
use servers::RedisSentinel;
use tokio::net::TcpListener;

use crate::support::{Browser, Site, aside, connect, count, load::Load, soon};

/// An operator asks for a fail-over.
async fn failed_over(sentinel: RedisSentinel) -> RedisSentinel {
    aside(move || {
        // Refused until the sentinels have looked at the replica for a while.
        let started = Instant::now();
        while let Err(error) = sentinel.fail_over() {
            assert!(started.elapsed() < Duration::from_secs(30), "{error}");
            std::thread::sleep(Duration::from_millis(100));
        }
        sentinel
    })
    .await
}

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
    let sentinel = replaced(failed_over(sentinel).await, old).await;
    load.works_for(200).await;
    let report = load.stop().await;
    assert_eq!(report.panics, 0, "{report}");
    assert_eq!(here.number("a").await, Some(1));
    drop(sentinel);
}

/// A look that most of them do not answer is not begun anew by each request.
#[actix_web::test]
async fn silent_sentinels_are_not_asked_by_each_request() {
    const VISITS: usize = 30;
    let sentinel = RedisSentinel::start().unwrap();
    let mut urls = sentinel.sentinel_urls();
    let asked = Rc::new(Cell::new(0));
    for _ in 0..=urls.len() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        urls.push(format!("redis://{}", silent.local_addr().unwrap()));
        let asked = Rc::clone(&asked);
        rt::spawn(async move {
            let mut kept = Vec::new();
            while let Ok(client) = silent.accept().await {
                kept.push(client);
                asked.set(asked.get() + 1);
            }
        });
    }
    let silent = sentinel.sentinel_urls().len() + 1;
    let builder = RedisSessionStore::builder_sentinel(urls, RedisSentinel::MASTER);
    let here = Browser::with(builder.build().await.unwrap()).await;
    here.visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_sets_cookie();
    let before = asked.get();
    for _ in 0..VISITS {
        assert_eq!(here.number("a").await, Some(1));
    }
    assert!((asked.get() - before) / silent < VISITS / 2);
}

/// The former master takes writes for some seconds more, until the sentinels make a replica of it. All of
/// these are lost.
#[actix_web::test]
async fn a_former_master_is_left_before_it_forgets() {
    let mut sentinel = RedisSentinel::start().unwrap();
    let [old, new] = [0, 1].map(|number| sentinel.servers()[number].url());
    let builder =
        RedisSessionStore::builder_sentinel(sentinel.sentinel_urls(), RedisSentinel::MASTER);
    // Those who wait for replicas have connections of their own.
    let builder = builder.wait_for_replicas(1, Duration::from_millis(100));
    let here = Browser::with(builder.build().await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    let ended = here.fork();
    here.visit(Session::renew).await.assert_sets_cookie();
    let port = sentinel.servers()[0].port();
    let sentinel = replaced(failed_over(sentinel).await, port).await;
    let (mut old, mut new) = (connect(&old).await, connect(&new).await);
    let mut count_until_it_is_there = async || {
        loop {
            here.visit(count).await.assert_ok();
            let wanted = here.number("n").await.unwrap();
            let names: Vec<String> = redis::cmd("KEYS")
                .arg("*")
                .query_async(&mut new)
                .await
                .unwrap();
            for name in names.iter().filter(|name| !name.ends_with(":moved")) {
                let text: String = new.get(name).await.unwrap();
                if text.contains(&format!("\"n\":{wanted}")) {
                    return;
                }
            }
            let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut old).await.unwrap();
            let is_master = role[0] == redis::Value::BulkString(b"master".to_vec());
            assert!(is_master, "it was used until it was a replica");
        }
    };
    soon(count_until_it_is_there()).await;
    // What is ended is ended there, too.
    here.visit(Session::purge).await.assert_removes_cookie();
    let left: Vec<String> = new.keys("*").await.unwrap();
    assert!(left.iter().all(|name| name.ends_with(":moved")), "{left:?}");
    assert!(ended.is_nobody().await);
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
