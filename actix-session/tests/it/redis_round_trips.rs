//! What a request costs in commands.

use actix_session::{
    Session,
    config::{
        BrowserSession, PersistentSession, SessionMiddlewareBuilder, TtlExtensionPolicy, WireFormat,
    },
    storage::RedisSessionStore,
};
use futures_util::future::join_all;
use servers::RedisServer;

use crate::support::{Browser, Flight, Proxy, Redis, TestStore, count, fill, soon};

/// Whoever counts round trips counts what a request sends after the server knows the scripts.
async fn counted(
    lifecycle: impl FnOnce(
        SessionMiddlewareBuilder<RedisSessionStore>,
    ) -> SessionMiddlewareBuilder<RedisSessionStore>,
) -> (RedisServer, Proxy, Redis, Browser) {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::before_redis(server.port());
    let tested = Redis::through(&proxy.redis_url(), &server.url()).await;
    let browser = tested.browser_of(lifecycle(tested.middleware())).await;
    fill(&browser).await;
    browser.visit(count).await.assert_ok();
    browser.visit(Session::renew).await.assert_ok();
    let login = |s: &Session| s.login("user-42").unwrap();
    browser.visit(login).await.assert_ok();
    browser.fork().visit(Session::purge).await.assert_ok();
    browser.forget();
    proxy.commands();
    (server, proxy, tested, browser)
}

#[actix_web::test]
async fn how_many_round_trips_a_request_takes() {
    let (_server, proxy, tested, browser) = counted(|builder| builder).await;
    let trips = async |act: &dyn Fn(&Session)| {
        browser.visit(|s| act(s)).await.assert_ok();
        proxy.commands()
    };
    assert_eq!(trips(&|_| ()).await, [""; 0], "anonymous");
    assert_eq!(trips(&|s| s.renew()).await, [""; 0], "anonymous");
    for junk in ["id=garbage", "id=", "other=1"] {
        browser.visit_as(&[junk], |_| ()).await.assert_ok();
        browser.visit_as(&[junk], Session::purge).await.assert_ok();
        assert_eq!(proxy.commands(), [""; 0], "{junk}");
    }
    assert_eq!(trips(&|s| s.insert("a", 1).unwrap()).await, ["EVALSHA"]);
    assert_eq!(trips(&|_| ()).await, ["GET"]);
    // An entry set to the value that it has extends the record, and writes nothing. (The server sees
    // the script for the first time.)
    let equal = ["GET", "EVALSHA", "EVAL"];
    assert_eq!(trips(&|s| s.insert("a", 1).unwrap()).await, equal);
    assert_eq!(trips(&|s| s.insert("a", 1).unwrap()).await, equal[..2]);
    assert_eq!(
        trips(&|s| s.insert("a", 2).unwrap()).await,
        ["GET", "EVALSHA"]
    );
    assert_eq!(trips(&count).await, ["GET", "EVALSHA"]);
    assert_eq!(trips(&|s| s.renew()).await, ["GET", "EVALSHA"]);
    assert_eq!(
        trips(&|s| s.login("user-42").unwrap()).await,
        ["GET", "EVALSHA"]
    );
    assert_eq!(trips(&|s| s.purge()).await, ["GET", "EVALSHA"]);
    tested.dump().await.assert_no_record();
}

/// It learns when the record ends by a command that goes with the read.
#[actix_web::test]
async fn how_many_round_trips_a_quiet_request_takes() {
    let quiet = |builder: SessionMiddlewareBuilder<_>| {
        let every = BrowserSession::default()
            .state_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
        let builder = builder.session_lifecycle(every);
        builder.quiet_when(|req| req.path() == "/quiet")
    };
    let (_server, proxy, _tested, browser) = counted(quiet).await;
    fill(&browser).await;
    proxy.commands();
    let trips = async |act: &dyn Fn(&Session)| {
        browser.visit_path("/quiet", |s| act(s)).await.assert_ok();
        proxy.commands()
    };
    assert_eq!(trips(&|_| ()).await, ["PTTL", "GET"]);
    assert_eq!(trips(&|s| s.insert("a", 1).unwrap()).await, ["PTTL", "GET"]);
    assert_eq!(trips(&count).await, ["PTTL", "GET", "EVALSHA"]);
}

#[actix_web::test]
async fn competitors_for_one_session_share_round_trips() {
    // One goes first, and each of the others carries sixteen. Without a commit id nobody could tell
    // what became of a write that several share.
    for (format, writes) in [(WireFormat::V1, 5), (WireFormat::V0_11, 64)] {
        let (_server, proxy, _, browser) = counted(|b| b.wire_format(format)).await;
        fill(&browser).await;
        let flights = join_all((0..64).map(|_| browser.begin())).await;
        proxy.commands();
        for (i, flight) in flights.iter().enumerate() {
            count(flight);
            flight.insert(format!("e{i}"), i).unwrap();
        }
        for answer in join_all(flights.into_iter().map(Flight::finish)).await {
            answer.assert_ok().assert_no_cookie();
        }
        assert_eq!(proxy.commands(), vec!["EVALSHA"; writes], "{format:?}");
        assert_eq!(browser.number("n").await, Some(64));
        for i in 0..64 {
            assert_eq!(browser.number(&format!("e{i}")).await, Some(i));
        }
    }
}

#[actix_web::test]
async fn in_a_line_a_logout_wins_and_who_has_gone_is_carried_out() {
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let (_server, _proxy, _, browser) = counted(|b| b.wire_format(format)).await;
        fill(&browser).await;
        let flights = join_all((0..8).map(|_| browser.begin())).await;
        for (i, flight) in flights.iter().enumerate() {
            match i {
                5 => flight.clear(),
                _ => count(flight),
            }
        }
        let ends = flights
            .into_iter()
            .enumerate()
            .map(|(i, flight)| async move {
                match i {
                    2 => flight.abort().await,
                    _ => drop(flight.finish().await.assert_ok()),
                }
            });
        join_all(ends).await;
        let cleared = async {
            while browser.number("n").await.is_some() {
                tokio::task::yield_now().await;
            }
        };
        soon(cleared).await;
        assert_eq!(browser.number("a").await, None, "{format:?}");
    }
}

#[actix_web::test]
async fn how_many_round_trips_an_extension_takes() {
    let every = TtlExtensionPolicy::OnEveryRequest;
    let lifecycle = BrowserSession::default().state_ttl_extension_policy(every.clone());
    let (_server, proxy, _, browser) = counted(|b| b.session_lifecycle(lifecycle)).await;
    fill(&browser).await;
    proxy.commands();
    browser.visit(|_| ()).await.assert_ok().assert_no_cookie();
    assert_eq!(proxy.commands(), ["EVALSHA"]);
    browser.visit(count).await.assert_ok();
    assert_eq!(proxy.commands(), ["EVALSHA", "EVALSHA"]);

    let lifecycle = PersistentSession::default().session_ttl_extension_policy(every);
    let (_server, proxy, _, browser) = counted(|b| b.session_lifecycle(lifecycle)).await;
    fill(&browser).await;
    proxy.commands();
    browser.visit(|_| ()).await.assert_ok().assert_sets_cookie();
    assert_eq!(proxy.commands(), ["EVALSHA", "EVALSHA"]);
    browser.visit(count).await.assert_ok().assert_sets_cookie();
    assert_eq!(proxy.commands(), ["EVALSHA", "EVALSHA"]);
}
