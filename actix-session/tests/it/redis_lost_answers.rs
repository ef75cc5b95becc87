//! A real Redis whose answers get lost.

use actix_session::{Session, SessionMiddleware};
use actix_web::{http::StatusCode, rt};
use servers::RedisServer;

use crate::{
    redis_faults::set_ok,
    support::{Answer, Browser, Proxy, Redis, Site, TestStore, count, expected, fill, soon},
};

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
        let proxy = Proxy::before_redis(server.port());
        let tested = Redis::through(&proxy.redis_url(), &server.url()).await;
        let direct = tested.store_through(&server.url()).await;
        let direct = SessionMiddleware::builder(direct, tested.key().clone())
            .clock(tested.clock().clone())
            .build();
        let lossy = tested.browser().await;
        fill(&lossy).await;
        // The server knows the scripts from here on.
        lossy.visit(count).await.assert_ok();
        lossy.visit(Session::renew).await.assert_ok();
        let user = tested.browser().await;
        let login = |s: &Session| s.login("user-1").unwrap();
        fill(&user).await;
        user.visit(login).await.assert_ok();
        user.visit(Session::purge).await.assert_ok();
        let other = lossy.at(Site::new(direct).await);
        Self {
            _server: server,
            proxy,
            tested,
            lossy,
            other,
        }
    }

    /// Makes a request whose commit is carried out but not answered; the rest happens before the
    /// request can ask again.
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
    site.proxy.lose_answer_of("EVALSHA");
    let visit = browser.clone();
    let task = rt::spawn(async move { visit.visit(|s| s.insert("new", 1).unwrap()).await });
    soon(site.proxy.lost()).await;
    site.proxy.let_through();
    soon(task).await.unwrap().assert_ok().assert_sets_cookie();
    assert_eq!(browser.number("new").await, Some(1));
    assert_eq!(site.tested.dump().await.records().len(), 2);
}

/// What a server works off after its session was used and ended makes nothing.
#[actix_web::test]
async fn a_creation_that_comes_after_the_logout_makes_no_session() {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::before_redis(server.port());
    let tested = Redis::through(&proxy.redis_url(), &server.url()).await;
    let browser = tested.browser().await;
    // The server knows the script from here on.
    fill(&browser).await;
    browser.visit(Session::purge).await.assert_ok();
    proxy.hold_back("late");
    let visit = browser.visit(|s| s.insert("x", "late").unwrap());
    soon(visit).await.assert_ok().assert_sets_cookie();
    let thief = browser.fork();
    assert!(!thief.is_nobody().await);
    browser.visit(Session::purge).await.assert_ok();
    soon(proxy.deliver()).await;
    tested.dump().await.assert_no_record();
    assert!(thief.is_nobody().await);
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
    // The same if the others' commit is a `modify` of the same entry.
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
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    answer.assert_no_cookie();
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
