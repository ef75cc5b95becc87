//! A real Redis that dies, freezes, loses answers or holds something else.

use std::{future::Future, time::Duration};

use actix_session::{
    Session, SessionMiddleware,
    config::{BrowserSession, PersistentSession, SessionMiddlewareBuilder, TtlExtensionPolicy},
    storage::RedisSessionStore,
};
use actix_web::{HttpResponse, cookie::Key, http::StatusCode, rt, web};
use redis::AsyncCommands as _;
use servers::RedisServer;

use crate::support::{
    Answer, Browser, Proxy, Redis, Server, Site, TestStore, count, expected, http_get, random_name,
};

/// A server that keeps what it has acknowledged.
const DURABLE: [(&str, &str); 2] = [("appendonly", "yes"), ("appendfsync", "always")];

/// Against a test that hangs; nothing is measured.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, work)
        .await
        .expect("an answer within bounds")
}

async fn guest(tested: &Redis) -> Browser {
    let browser = tested.browser().await;
    fill(&browser).await;
    browser
}

async fn fill(browser: &Browser) {
    let write = |s: &Session| s.insert("a", 1).unwrap();
    let answer = browser.visit(write).await;
    answer.assert_ok().assert_sets_cookie();
}

async fn set_ok(browser: &Browser, act: impl FnOnce(&Session)) {
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
    // Who has no session needs no store, unless there is something to keep.
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

#[actix_web::test]
async fn what_is_sent_to_a_frozen_server_holds_or_not_but_never_by_half() {
    let mut server = RedisServer::start().unwrap();
    let tested = Redis::at(&server.url()).await;
    let quick = || {
        tested
            .middleware()
            .commit_budget(Duration::from_millis(300))
    };
    let browser = tested.browser_of(quick()).await;
    fill(&browser).await;
    set_ok(&browser, count).await;

    // A commit: one or not, and one at most.
    let late = browser.begin().await;
    server.pause().unwrap();
    count(&late);
    late.insert("beside", 1).unwrap();
    soon(late.finish()).await.assert_opaque();
    server.resume().unwrap();
    // What the store sends next is answered after what it has sent before.
    browser.visit(|_| ()).await.assert_ok();
    let record = tested.dump().await.only();
    let done = record.contains_key("beside");
    assert_eq!(record["n"], if done { "2" } else { "1" });

    // A renewal: under one key or the other.
    let (old, late) = (browser.fork(), browser.begin().await);
    server.pause().unwrap();
    late.insert("moved", 1).unwrap();
    late.renew();
    soon(late.finish()).await.assert_opaque();
    server.resume().unwrap();
    old.visit(|_| ()).await.assert_ok();
    let dump = tested.dump().await;
    let moved = dump.only().contains_key("moved");
    assert_eq!(dump.marks(), usize::from(moved));
    assert_eq!(old.is_nobody().await, moved);

    // An ending: not known either, so the cookie stays.
    let browser = tested.browser_of(quick()).await;
    fill(&browser).await;
    let late = browser.begin().await;
    server.pause().unwrap();
    late.purge();
    soon(late.finish()).await.assert_opaque();
    server.resume().unwrap();
    browser
        .visit(Session::purge)
        .await
        .assert_ok()
        .assert_removes_cookie();
    assert!(browser.is_nobody().await);
}

/// Whoever counts round trips counts what a request sends after the server knows the scripts.
async fn counted(
    lifecycle: impl FnOnce(
        SessionMiddlewareBuilder<RedisSessionStore>,
    ) -> SessionMiddlewareBuilder<RedisSessionStore>,
) -> (RedisServer, Proxy, Redis, Browser) {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::before(server.port()).await;
    let tested = Redis::through(&proxy.url(), &server.url()).await;
    let browser = tested.browser_of(lifecycle(tested.middleware())).await;
    fill(&browser).await;
    browser.visit(count).await.assert_ok();
    browser.visit(Session::renew).await.assert_ok();
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
    assert_eq!(trips(&|s| s.insert("a", 1).unwrap()).await, ["SET"]);
    assert_eq!(trips(&|_| ()).await, ["GET"]);
    assert_eq!(
        trips(&|s| s.insert("a", 1).unwrap()).await,
        ["GET"],
        "equal"
    );
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

/// A browser whose requests go through the proxy, and one whose requests go around it.
struct Lossy {
    _server: RedisServer,
    proxy: Proxy,
    tested: Redis,
    lossy: Browser,
    other: Browser,
}

impl Lossy {
    async fn start() -> Self {
        let server = RedisServer::start().unwrap();
        let proxy = Proxy::before(server.port()).await;
        let tested = Redis::through(&proxy.url(), &server.url()).await;
        let direct = tested.store_through(&server.url()).await;
        let direct = SessionMiddleware::builder(direct, tested.key().clone())
            .clock(tested.clock().clone())
            .build();
        let lossy = tested.browser().await;
        fill(&lossy).await;
        // The server knows the scripts from here on.
        lossy.visit(count).await.assert_ok();
        lossy.visit(Session::renew).await.assert_ok();
        let other = lossy.at(Site::new(direct).await);
        Self {
            _server: server,
            proxy,
            tested,
            lossy,
            other,
        }
    }

    /// Makes a request whose commit is carried out and not answered; before it learns more, the
    /// rest happens.
    async fn lose(
        &self,
        act: impl FnOnce(&Session),
        meanwhile: impl AsyncFnOnce(&Browser),
    ) -> Answer {
        let flight = self.lossy.begin().await;
        act(&flight);
        self.proxy.lose_answer_of("EVALSHA");
        let finish = rt::spawn(flight.finish());
        soon(self.proxy.lost()).await;
        meanwhile(&self.other).await;
        self.proxy.let_through();
        soon(finish).await.unwrap()
    }
}

async fn nothing(_: &Browser) {}

#[actix_web::test]
async fn a_lost_answer_of_a_commit_does_nothing_twice() {
    let site = Lossy::start().await;
    let act = |s: &Session| {
        count(s);
        s.insert("b", 2).unwrap();
    };
    site.lose(act, nothing).await.assert_ok().assert_no_cookie();
    assert_eq!(
        site.tested.dump().await.only(),
        expected(&[("a", "1"), ("b", "2"), ("n", "2")])
    );
    site.lose(Session::clear, nothing).await.assert_ok();
    assert_eq!(site.tested.dump().await.only().len(), 0);
}

#[actix_web::test]
async fn a_lost_answer_of_a_renewal_still_gives_the_new_key() {
    let site = Lossy::start().await;
    let old = site.lossy.fork();
    let answer = site.lose(Session::renew, nothing).await;
    answer.assert_ok().assert_sets_cookie();
    assert_eq!(site.lossy.number("n").await, Some(1));
    assert!(old.is_nobody().await);
    assert_eq!(site.tested.dump().await.records().len(), 1);
}

#[actix_web::test]
async fn a_lost_answer_of_a_purge_is_a_purge() {
    let site = Lossy::start().await;
    let answer = site.lose(Session::purge, nothing).await;
    answer.assert_ok().assert_removes_cookie();
    site.tested.dump().await.assert_no_record();
}

#[actix_web::test]
async fn a_lost_answer_of_a_creation_makes_one_session() {
    let site = Lossy::start().await;
    let browser = site.tested.browser().await;
    site.proxy.lose_answer_of("SET");
    let visit = browser.clone();
    let task = rt::spawn(async move { visit.visit(|s| s.insert("new", 1).unwrap()).await });
    soon(site.proxy.lost()).await;
    site.proxy.let_through();
    soon(task).await.unwrap().assert_ok().assert_sets_cookie();
    assert_eq!(browser.number("new").await, Some(1));
    assert_eq!(site.tested.dump().await.records().len(), 2);
}

#[actix_web::test]
async fn a_lost_answer_of_a_load_is_asked_for_again() {
    let site = Lossy::start().await;
    site.proxy.lose_answer_of("GET");
    let browser = site.lossy.clone();
    let task = rt::spawn(async move { browser.number("a").await });
    soon(site.proxy.lost()).await;
    site.proxy.let_through();
    assert_eq!(soon(task).await.unwrap(), Some(1));
}

#[actix_web::test]
async fn a_repeat_does_not_undo_what_others_set_since() {
    let site = Lossy::start().await;
    let act = |s: &Session| {
        s.insert("a", "mine").unwrap();
        s.insert("own", 1).unwrap();
        s.remove("n");
    };
    let theirs = async |other: &Browser| {
        let act = |s: &Session| {
            s.insert("a", "theirs").unwrap();
            s.insert("n", 7).unwrap();
            s.insert("beside", 1).unwrap();
        };
        set_ok(other, act).await;
    };
    site.lose(act, theirs).await.assert_ok().assert_no_cookie();
    assert_eq!(
        site.tested.dump().await.only(),
        expected(&[
            ("a", "\"theirs\""),
            ("beside", "1"),
            ("n", "7"),
            ("own", "1")
        ])
    );
}

#[actix_web::test]
async fn a_modify_whose_outcome_cannot_be_learnt_is_an_error_and_counts_once() {
    let site = Lossy::start().await;
    let theirs = async |other: &Browser| {
        set_ok(other, |s| s.insert("beside", 1).unwrap()).await;
    };
    site.lose(count, theirs).await.assert_opaque();
    assert_eq!(
        site.tested.dump().await.only(),
        expected(&[("a", "1"), ("beside", "1"), ("n", "2")])
    );
    // The same where the others' commit is a `modify` of the same entry.
    let theirs = async |other: &Browser| set_ok(other, count).await;
    site.lose(count, theirs).await.assert_opaque();
    assert_eq!(site.tested.dump().await.only()["n"], "4");
}

#[actix_web::test]
async fn a_modify_that_was_lost_before_a_renewal_counts_once() {
    let site = Lossy::start().await;
    let renews = async |other: &Browser| {
        other.visit(Session::renew).await.assert_sets_cookie();
    };
    site.lose(count, renews).await.assert_no_cookie();
    assert_eq!(site.tested.dump().await.only()["n"], "2");
}

#[actix_web::test]
async fn a_repeat_after_an_ending_brings_nothing_back() {
    for act in [count, Session::renew, |s: &Session| {
        s.insert("b", 1).unwrap()
    }] {
        let site = Lossy::start().await;
        let purges = async |other: &Browser| {
            other.visit(Session::purge).await.assert_removes_cookie();
        };
        site.lose(act, purges).await.assert_no_cookie();
        site.tested.dump().await.assert_no_record();
    }
}

#[actix_web::test]
async fn a_repeated_login_is_none_after_a_logout() {
    let site = Lossy::start().await;
    let purges = async |other: &Browser| {
        other.visit(Session::purge).await.assert_removes_cookie();
    };
    let answer = site.lose(|s| s.login("user-42").unwrap(), purges).await;
    answer.assert_ok().assert_no_cookie();
    site.tested.dump().await.assert_no_record();
}

#[actix_web::test]
async fn a_renewal_that_lost_its_answer_knows_itself_after_a_forward() {
    let site = Lossy::start().await;
    let late = site.other.begin().await;
    let forwards = async |_: &Browser| {
        late.insert("forwarded", 1).unwrap();
        late.finish().await.assert_ok().assert_no_cookie();
    };
    let answer = site.lose(Session::renew, forwards).await;
    answer.assert_ok().assert_sets_cookie();
    let record = site.tested.dump().await.only();
    assert_eq!(
        record,
        expected(&[("a", "1"), ("forwarded", "1"), ("n", "1")])
    );
    assert_eq!(site.lossy.number("forwarded").await, Some(1));
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

async fn add(session: Session) -> HttpResponse {
    count(&session);
    HttpResponse::Ok().finish()
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
                config.route("/", web::to(add));
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
    let mark = names.iter().find(|n| n.ends_with(":moved")).unwrap();
    for text in ["", "nonsense", "p|x|y", "z|1|y"] {
        let _: () = redis.set(mark, text).await.unwrap();
        assert!(old.is_nobody().await, "{text}");
    }
    let _: () = redis.del(mark).await.unwrap();
    let _: () = redis.rpush(mark, "a list").await.unwrap();
    assert!(old.is_nobody().await);
    old.visit(Session::purge)
        .await
        .assert_ok()
        .assert_removes_cookie();
    assert_eq!(browser.number("a").await, Some(1));
    let _: () = redis.del(mark).await.unwrap();
}
