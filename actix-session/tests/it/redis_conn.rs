//! How a connection is set up, and what a server can do to it.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use actix_session::{
    Session, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::RedisSessionStore,
};
use actix_web::{cookie::Key, rt};
use futures_util::future::{Either, select};
use redis::{AsyncCommands as _, aio::MultiplexedConnection};
use servers::RedisServer;

use crate::support::{Browser, PATIENCE, Site, Way, connect, count, load::Load, soon};

async fn ask(redis: &mut MultiplexedConnection, command: &str) -> redis::Value {
    let mut words = command.split(' ');
    let mut built = redis::cmd(words.next().unwrap());
    for word in words {
        built.arg(word);
    }
    built.query_async(redis).await.unwrap()
}

async fn names(redis: &mut MultiplexedConnection) -> Vec<String> {
    redis.keys("*").await.unwrap()
}

#[actix_web::test]
async fn names_have_a_prefix_and_hide_the_key() {
    let server = RedisServer::start().unwrap();
    let mut redis = connect(&server.url()).await;
    let builder = RedisSessionStore::builder(server.url()).key_prefix("shop:");
    let here = Browser::with(builder.build().await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    let found = names(&mut redis).await;
    assert!(
        found[0].starts_with("shop:") && found[0].len() == 5 + 64,
        "{found:?}"
    );
    here.visit(Session::purge).await.assert_ok();

    let builder = RedisSessionStore::builder(server.url())
        .key_prefix("shop:")
        .hashed_keys();
    let here = Browser::with(builder.build().await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    let mut found = names(&mut redis).await;
    // The session before has left a tombstone.
    found.retain(|name| !name.ends_with(":moved"));
    let digits = found[0].strip_prefix("shop:").unwrap();
    assert!(digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    let old = here.fork();
    here.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(here.number("n").await, Some(1));
    old.visit(Session::purge).await.assert_removes_cookie();
    assert!(here.is_nobody().await, "an ending follows the redirect");
}

#[actix_web::test]
async fn user_password_and_database_come_from_the_url_or_the_settings() {
    let server = RedisServer::start().unwrap();
    let mut redis = connect(&server.url()).await;
    ask(&mut redis, "ACL SETUSER app on >sec@ret ~* &* +@all").await;
    let address = format!("127.0.0.1:{}", server.port());
    let by_url = RedisSessionStore::builder(format!("redis://app:sec%40ret@{address}/3"));
    let here = Browser::with(by_url.build().await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    let by_setting = RedisSessionStore::builder(server.url())
        .username("app")
        .password("sec@ret")
        .database(3);
    let here = Browser::with(by_setting.build().await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    let mut third = connect(&format!("{}/3", server.url())).await;
    assert_eq!(
        (names(&mut third).await.len(), names(&mut redis).await.len()),
        (2, 0)
    );
    let wrong = RedisSessionStore::builder(server.url())
        .username("app")
        .password("no");
    let told = format!("{:#}", wrong.build().await.unwrap_err());
    assert!(!told.contains("no\""), "{told}");
}

#[actix_web::test]
async fn a_server_that_starts_beside_the_program_is_waited_for() {
    let mut server = RedisServer::start().unwrap();
    server.kill();
    let store = rt::spawn(RedisSessionStore::new(server.url()));
    rt::time::sleep(Duration::from_millis(300)).await;
    assert!(!store.is_finished());
    server.restart().unwrap();
    let here = Browser::with(store.await.unwrap().unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
}

#[actix_web::test]
async fn a_lazy_store_starts_while_redis_is_down() {
    let mut server = RedisServer::start().unwrap();
    server.kill();
    assert!(RedisSessionStore::new(server.url()).await.is_err());
    let lazy = RedisSessionStore::builder(server.url()).lazy_connect();
    let here = Browser::with(lazy.build().await.unwrap()).await;
    here.visit(|_| ()).await.assert_ok();
    soon(here.visit(count)).await.assert_opaque();
    server.restart().unwrap();
    here.visit(count).await.assert_ok().assert_sets_cookie();
    assert_eq!(here.number("n").await, Some(1));
    // An invalid address is reported all the same.
    let wrong = RedisSessionStore::builder("nonsense").lazy_connect();
    assert!(wrong.build().await.is_err());
}

#[actix_web::test]
async fn connections_that_are_killed_between_requests_are_not_noticed() {
    let server = RedisServer::start().unwrap();
    let mut redis = connect(&server.url()).await;
    let here = Browser::with(RedisSessionStore::new(server.url()).await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    for n in 2..6 {
        // This test's own connection is spared.
        ask(&mut redis, "CLIENT KILL TYPE normal SKIPME yes").await;
        here.visit(count).await.assert_ok();
        assert_eq!(here.number("n").await, Some(n));
        let late = here.begin().await;
        ask(&mut redis, "CLIENT KILL TYPE normal SKIPME yes").await;
        late.insert("during", n).unwrap();
        late.finish().await.assert_ok();
        assert_eq!(here.number("during").await, Some(n));
    }
    let late = here.begin().await;
    ask(&mut redis, "CLIENT KILL TYPE normal SKIPME yes").await;
    late.renew();
    late.finish().await.assert_ok().assert_sets_cookie();
    let late = here.begin().await;
    ask(&mut redis, "CLIENT KILL TYPE normal SKIPME yes").await;
    late.purge();
    late.finish().await.assert_ok().assert_removes_cookie();
    assert!(
        names(&mut redis)
            .await
            .iter()
            .all(|name| name.ends_with(":moved"))
    );
}

#[actix_web::test]
async fn connections_that_are_killed_under_load_lose_nothing() {
    let server = RedisServer::start().unwrap();
    let mut redis = connect(&server.url()).await;
    let load = Load::start(RedisSessionStore::new(server.url()).await.unwrap()).await;
    for _ in 0..20 {
        load.works_for(20).await;
        ask(&mut redis, "CLIENT KILL TYPE normal SKIPME yes").await;
    }
    load.works_for(50).await;
    load.stop().await.assert_whole();
}

#[actix_web::test]
async fn a_pause_that_is_short_is_waited_for_and_a_long_one_is_an_error() {
    let server = RedisServer::start().unwrap();
    let mut redis = connect(&server.url()).await;
    let builder = RedisSessionStore::builder(server.url());
    let builder = builder.command_timeout(Duration::from_millis(500));
    let here = Browser::with(builder.build().await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    ask(&mut redis, "CLIENT PAUSE 100 ALL").await;
    here.visit(count).await.assert_ok();
    ask(&mut redis, "CLIENT PAUSE 2000 ALL").await;
    soon(here.visit(count)).await.assert_opaque();
    let goes_on = async || while !here.visit(|_| ()).await.status.is_success() {};
    soon(goes_on()).await;
    here.visit(count).await.assert_ok();
    assert_eq!(here.number("n").await, Some(3));
}

#[actix_web::test]
async fn a_full_server_refuses_writes_and_forgets_nothing() {
    let server = RedisServer::start_with(&[("maxmemory-policy", "noeviction")]).unwrap();
    let mut redis = connect(&server.url()).await;
    let here = Browser::with(RedisSessionStore::new(server.url()).await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    let old = here.fork();
    ask(&mut redis, "CONFIG SET maxmemory 1").await;
    here.visit(count).await.assert_opaque();
    here.visit(Session::renew).await.assert_opaque();
    Browser::with(RedisSessionStore::new(server.url()).await.unwrap())
        .await
        .visit(count)
        .await
        .assert_opaque();
    // Reading and ending need no memory; a renewal that was refused has changed nothing.
    assert_eq!(old.number("n").await, Some(1));
    assert_eq!(names(&mut redis).await.len(), 1);
    old.visit(Session::purge)
        .await
        .assert_ok()
        .assert_removes_cookie();
    // The tombstone alone.
    let left = names(&mut redis).await;
    assert!(left.len() == 1 && left[0].ends_with(":moved"), "{left:?}");
    ask(&mut redis, "CONFIG SET maxmemory 0").await;
    here.visit(count).await.assert_ok();
}

#[actix_web::test]
async fn a_replica_that_is_read_only_serves_reads_and_refuses_the_rest() {
    let master = RedisServer::start().unwrap();
    let mut redis = connect(&master.url()).await;
    let server = RedisServer::start().unwrap();
    let mut replica = connect(&server.url()).await;
    let here = Browser::with(RedisSessionStore::new(server.url()).await.unwrap()).await;
    // It is a master at first: a session is there, and the scripts are known.
    here.visit(count).await.assert_sets_cookie();
    let name = names(&mut replica).await.remove(0);
    let text: String = replica.get(&name).await.unwrap();
    let _: () = redis.set(&name, text).await.unwrap();
    ask(
        &mut replica,
        &format!("REPLICAOF 127.0.0.1 {}", master.port()),
    )
    .await;
    let link_is_up = async |replica: &mut MultiplexedConnection| {
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(replica)
            .await
            .unwrap();
        info.contains("master_link_status:up")
    };
    while !link_is_up(&mut replica).await {
        rt::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(here.number("n").await, Some(1));
    soon(here.visit(count)).await.assert_opaque();
    soon(here.visit(Session::renew)).await.assert_opaque();
    soon(here.visit(Session::purge)).await.assert_opaque();
    assert_eq!(here.number("n").await, Some(1));
    // Promoted, it serves everything.
    ask(&mut replica, "REPLICAOF NO ONE").await;
    here.visit(count).await.assert_ok();
    assert_eq!(here.number("n").await, Some(2));
}

#[actix_web::test]
async fn a_server_that_takes_no_writes_serves_reads_that_would_extend() {
    let server = RedisServer::start().unwrap();
    let mut redis = connect(&server.url()).await;
    let store = RedisSessionStore::new(server.url()).await.unwrap();
    let every = TtlExtensionPolicy::OnEveryRequest;
    let every = PersistentSession::default().session_ttl_extension_policy(every);
    let builder = SessionMiddleware::builder(store, Key::generate()).session_lifecycle(every);
    let here = Browser::new(Site::new(builder.build()).await);
    here.visit(count).await.assert_sets_cookie();
    let reads = async || {
        here.visit(|_| ()).await.assert_ok().assert_no_cookie();
        assert_eq!(here.number("n").await, Some(1));
        here.visit(count).await.assert_opaque();
    };
    ask(&mut redis, "CONFIG SET min-replicas-to-write 1").await;
    reads().await;
    ask(&mut redis, "CONFIG SET min-replicas-to-write 0").await;
    here.visit(|_| ()).await.assert_ok().assert_sets_cookie();
    // Of a master that is not there.
    ask(&mut redis, "REPLICAOF 127.0.0.1 1").await;
    reads().await;
}

#[actix_web::test]
async fn an_address_that_leads_to_another_master_is_followed() {
    let (old, new) = (RedisServer::start().unwrap(), RedisServer::start().unwrap());
    let way = Way::to(old.port());
    let url = format!("redis://127.0.0.1:{}", way.port());
    let here = Browser::with(RedisSessionStore::new(url).await.unwrap()).await;
    let mut redis = connect(&old.url()).await;
    ask(&mut redis, &format!("REPLICAOF 127.0.0.1 {}", new.port())).await;
    // The connection leads to a replica now, and nobody has closed it.
    way.lead_to(new.port());
    here.visit(count).await.assert_ok().assert_sets_cookie();
    here.visit(Session::renew)
        .await
        .assert_ok()
        .assert_sets_cookie();
    assert_eq!(here.number("n").await, Some(1));
}

/// A replica that has caught up with its master.
async fn replica_of(master: &RedisServer) -> RedisServer {
    let of = format!("127.0.0.1 {}", master.port());
    let config = [("replicaof", &*of), ("repl-diskless-sync-delay", "0")];
    let replica = RedisServer::start_with(&config).unwrap();
    let mut redis = connect(&master.url()).await;
    let mut wait = redis::cmd("WAIT");
    wait.arg(1).arg(200);
    while wait.query_async::<i64>(&mut redis).await.unwrap() == 0 {
        let _: () = redis.set("probe", 1).await.unwrap();
    }
    replica
}

/// How often `WAIT` has been called.
async fn waits(redis: &mut MultiplexedConnection) -> u32 {
    let mut info = redis::cmd("INFO");
    let stats: String = info.arg("commandstats").query_async(redis).await.unwrap();
    let line = stats.lines().find(|line| line.starts_with("cmdstat_wait:"));
    let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
    calls.unwrap().parse().unwrap()
}

#[actix_web::test]
async fn endings_and_renewals_wait_for_replicas() {
    let master = RedisServer::start().unwrap();
    let mut replica = replica_of(&master).await;
    let mut redis = connect(&master.url()).await;
    let mut copy = connect(&replica.url()).await;
    let store = async |limit: Duration| {
        let builder = RedisSessionStore::builder(master.url()).wait_for_replicas(1, limit);
        builder.command_timeout(PATIENCE).build().await.unwrap()
    };
    let here = Browser::with(store(PATIENCE).await).await;
    here.visit(count).await.assert_sets_cookie();
    let before = waits(&mut redis).await;
    here.visit(count).await.assert_ok();
    assert_eq!(waits(&mut redis).await, before, "a commit does not wait");
    for act in [Session::renew, Session::purge] {
        let known = here.fork();
        here.visit(act).await.assert_ok();
        // The replica has it when the answer is there.
        let mut copies = names(&mut copy).await;
        copies.retain(|name| name != "probe" && !name.ends_with(":moved"));
        let there = known.value().map(|_| copies.len());
        let expected = usize::from(here.value().is_some());
        assert_eq!(there, Some(expected));
    }
    assert_eq!(waits(&mut redis).await, before + 2);
    // Without a replica the ending holds all the same, and a warning says so.
    let here = Browser::with(store(Duration::from_millis(300)).await).await;
    here.visit(count).await.assert_ok();
    replica.kill();
    let answer = here.visit(Session::purge).await;
    answer.assert_ok().assert_removes_cookie();
    assert!(here.is_nobody().await);
    // However far the session has moved, its end waits once.
    here.visit(count).await.assert_ok();
    let old = here.fork();
    for _ in 0..3 {
        here.visit(Session::renew).await.assert_sets_cookie();
    }
    let before = waits(&mut redis).await;
    old.visit(Session::purge).await.assert_ok();
    assert_eq!(waits(&mut redis).await, before + 1);
    assert!(here.is_nobody().await);
    // And never for longer than a commit may take.
    let here = Browser::with(store(Duration::from_secs(3_600)).await).await;
    here.visit(count).await.assert_ok();
    let answer = here.visit(Session::purge).await;
    answer.assert_ok().assert_removes_cookie();
}

/// The first one may have waited in vain, and the next master may not know of it.
#[actix_web::test]
async fn an_ending_that_is_repeated_waits_again() {
    let master = RedisServer::start().unwrap();
    let mut replica = replica_of(&master).await;
    let mut redis = connect(&master.url()).await;
    let builder = RedisSessionStore::builder(master.url()).wait_for_replicas(1, PATIENCE);
    let store = builder.command_timeout(PATIENCE).build().await.unwrap();
    let here = Browser::with(store).await;
    here.visit(count).await.assert_sets_cookie();
    let again = here.fork();
    replica.pause().unwrap();
    here.visit(Session::purge).await.assert_ok();
    // On a connection that has written nothing yet.
    ask(&mut redis, "CLIENT KILL TYPE normal SKIPME yes").await;
    let ending = rt::spawn(async move { again.visit(Session::purge).await });
    let waits = async {
        loop {
            let mut info = redis::cmd("INFO");
            let clients: String = info.arg("clients").query_async(&mut redis).await.unwrap();
            if !clients.contains("blocked_clients:0") {
                return;
            }
        }
    };
    match select(pin!(soon(waits)), ending).await {
        Either::Left((_, ending)) => {
            replica.resume().unwrap();
            ending.await.unwrap().assert_ok();
        }
        Either::Right(_) => panic!("it did not wait"),
    }
}

#[actix_web::test]
async fn a_server_that_comes_back_is_used_again() {
    let mut server =
        RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "always")]).unwrap();
    let load = Load::start(RedisSessionStore::new(server.url()).await.unwrap()).await;
    load.works_for(100).await;
    server.kill();
    load.fails().await;
    server.restart().unwrap();
    let back = Instant::now();
    load.works_for(200).await;
    let failed = load.failed_after(back);
    load.stop().await.assert_whole();
    // No figure is asserted; `cargo xtask soak` prints them.
    println!("requests went on failing for {failed:?}");
}

#[actix_web::test]
async fn time_outs_within_which_nothing_can_be_done_are_refused() {
    let builder = || RedisSessionStore::builder("redis://127.0.0.1:1");
    for (builder, name) in [
        (
            builder().command_timeout(Duration::ZERO),
            "`command_timeout`",
        ),
        (
            builder().connect_timeout(Duration::ZERO),
            "`connect_timeout`",
        ),
    ] {
        let error = builder.build().await.err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
    }
}
