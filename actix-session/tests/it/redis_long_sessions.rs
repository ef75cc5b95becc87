//! Sessions that are used for longer than Redis remembers whose they are.

use std::time::Duration;

use actix_session::{
    Session, SessionManager, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy, WireFormat},
    storage::SessionIndex,
};
use actix_web::{cookie::time, http::StatusCode};
use servers::{RedisServer, resp::lines_of};

use crate::{
    five_methods::Wrapper,
    support::{Browser, Proxy, Redis, RedisActor, TestStore, on_store},
};

on_store!(on_redis Redis: a_session_in_use_stays_on_its_owners_list);
on_store!(on_cluster Cluster: a_session_in_use_stays_on_its_owners_list);
on_store!(on_hiding_cluster HidingCluster: a_session_in_use_stays_on_its_owners_list);

const USER: &str = "user-42";
const DAY: Duration = Duration::from_secs(86_400);

fn log_in(session: &Session) {
    session.login(USER).unwrap();
}

/// As long as browsers keep a cookie, from each request on.
fn persistent() -> PersistentSession {
    PersistentSession::default()
        .session_ttl(time::Duration::days(400))
        .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest)
}

async fn a_session_in_use_stays_on_its_owners_list(tested: Redis) {
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let builder = || tested.middleware().wire_format(format);
        let sessions = builder().build().manager();
        let extending = builder().session_lifecycle(persistent());
        let wrapped = SessionMiddleware::builder(Wrapper(tested.store()), tested.key().clone())
            .clock(tested.clock().clone())
            .wire_format(format);
        let browsers = [
            tested.browser_of(builder()).await,
            tested.browser_of(extending).await,
            tested.browser_of(wrapped).await,
        ];
        for browser in browsers {
            stays_on_its_owners_list(&tested, &sessions, &browser).await;
        }
    }
}

async fn stays_on_its_owners_list(tested: &Redis, sessions: &SessionManager, browser: &Browser) {
    let pass_days = async |days| {
        tested.clock().advance(DAY * days);
        tested.forget_indexes().await;
    };
    browser.visit(log_in).await.assert_sets_cookie();
    assert_eq!(sessions.count(USER).await.unwrap(), 1);
    for _ in 0..2 {
        pass_days(31).await;
        assert_eq!(browser.principal().await.as_deref(), Some(USER));
        assert_eq!(sessions.count(USER).await.unwrap(), 1);
    }
    browser.visit(Session::renew).await.assert_sets_cookie();
    // Nobody has asked for it, so that no list has it.
    pass_days(401).await;
    assert_eq!(sessions.revoke_all(USER).await.unwrap(), 0);
    assert!(browser.is_nobody().await);
    assert_eq!(sessions.count(USER).await.unwrap(), 0);
    tested.clock().advance(DAY);
}

#[actix_web::test]
async fn a_session_in_use_stays_on_the_list_of_the_store_of_0_9_too() {
    let tested = RedisActor::start().await;
    let browser = tested.browser().await;
    browser.visit(log_in).await.assert_sets_cookie();
    tested.clock().advance(DAY * 31);
    tested.redis().forget_indexes().await;
    assert_eq!(browser.principal().await.as_deref(), Some(USER));
    let sessions = SessionManager::of_store(&tested.redis().store());
    assert_eq!(sessions.count(USER).await.unwrap(), 1);
}

/// Once a month, and no request before it.
#[actix_web::test]
async fn a_list_that_may_have_forgotten_is_told_once() {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::before_redis(server.port());
    let tested = Redis::through(&proxy.redis_url(), &server.url()).await;
    // The server knows the scripts then.
    let other = tested.browser().await;
    other.visit(log_in).await.assert_ok();
    other.visit(Session::clear).await.assert_ok();
    let extending = tested.middleware().session_lifecycle(persistent());
    for (builder, load) in [(tested.middleware(), "GET"), (extending, "EVALSHA")] {
        let browser = tested.browser_of(builder).await;
        browser.visit(log_in).await.assert_ok();
        browser.visit(|_| ()).await.assert_ok();
        // A cookie that has an age is sent again, once the key is known to be current.
        let usual = if load == "GET" { 1 } else { 2 };
        for (days, more) in [(29, 0), (1, 1), (0, 0), (29, 0), (1, 1), (0, 0)] {
            tested.clock().advance(DAY * days);
            proxy.commands();
            let answer = browser.visit(|_| ()).await;
            answer.assert_ok();
            assert_eq!(answer.cookie().is_some(), load != "GET");
            let commands = proxy.commands();
            assert_eq!(commands.len(), usual + more, "{days}: {commands:?}");
            assert_eq!(commands[0], load);
        }
    }
}

/// A server that takes no writes for a while serves what it certainly knows.
#[actix_web::test]
async fn a_list_that_cannot_be_told_fails_no_load_before_it_forgets() {
    let server = RedisServer::start().unwrap();
    let tested = Redis::at(&server.url()).await;
    let acl = |what: &str| {
        let answer = lines_of(server.port(), &format!("ACL SETUSER default {what}")).unwrap();
        assert_eq!(answer, ["+OK"], "{what}");
    };
    let browser = tested.browser().await;
    browser.visit(log_in).await.assert_ok();
    acl("-hset");
    tested.clock().advance(DAY * 31);
    assert_eq!(browser.principal().await.as_deref(), Some(USER));
    tested.clock().advance(DAY * 370);
    let refused = browser.visit(|_| ()).await.status;
    assert_eq!(refused, StatusCode::INTERNAL_SERVER_ERROR);
    acl("+hset");
    assert_eq!(browser.principal().await.as_deref(), Some(USER));
    let _ = tested.store().index();
}

/// A server that takes no writes is asked for one now and then, and not by each read.
#[actix_web::test]
async fn a_list_that_cannot_be_told_delays_no_later_load() {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::before_redis(server.port());
    let tested = Redis::through(&proxy.redis_url(), &server.url()).await;
    let browsers = [tested.browser().await, tested.browser().await];
    for browser in &browsers {
        browser.visit(log_in).await.assert_ok();
    }
    let answer = lines_of(server.port(), "REPLICAOF 127.0.0.1 1").unwrap();
    assert_eq!(answer, ["+OK"]);
    tested.clock().advance(DAY * 31);
    assert_eq!(browsers[0].principal().await.as_deref(), Some(USER));
    for browser in &browsers {
        proxy.commands();
        assert_eq!(browser.principal().await.as_deref(), Some(USER));
        assert_eq!(proxy.commands(), ["GET"]);
    }
}
