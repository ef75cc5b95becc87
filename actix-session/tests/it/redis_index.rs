//! The index of a principal's sessions in Redis: what it costs, and what may go wrong on the way.

use std::{collections::HashMap, time::Duration};

use actix_session::{Session, SessionManager, config::OverLimit, storage::SessionIndex};
use actix_web::{http::StatusCode, rt};
use futures_util::future::join;
use redis::AsyncCommands as _;
use servers::{RedisServer, resp::lines_of};

use crate::support::{Browser, Proxy, Redis, RedisActor, Site, TestStore, fill, on_store, soon};

const USER: &str = "user-42";

fn log_in(session: &Session) {
    session.login(USER).unwrap();
}

on_store!(on_redis Redis: a_login_never_outlives_the_end_of_all_that_came_after_it whoever_logs_out_leaves_the_index);
on_store!(on_cluster Cluster: a_login_never_outlives_the_end_of_all_that_came_after_it whoever_logs_out_leaves_the_index);
on_store!(on_hiding_cluster HidingCluster: a_login_of_two_steps_never_outlives_the_end_of_all whoever_logs_out_leaves_the_index);

fn manager<T: TestStore>(tested: &T) -> SessionManager
where
    T::Store: SessionIndex,
{
    tested.middleware().build().manager()
}

/// Whatever is logged in from now on comes after a mark.
fn tick(tested: &impl TestStore) {
    tested.clock().advance(Duration::from_millis(5));
}

/// The fields of the only index.
async fn index(tested: &Redis) -> HashMap<String, String> {
    let mut names = tested.names().await;
    names.retain(|name| name.ends_with(":sessions"));
    assert_eq!(names.len(), 1, "{names:?}");
    tested.connection.clone().hgetall(&names[0]).await.unwrap()
}

/// A server of its own behind a proxy. It knows the scripts.
async fn counted() -> (RedisServer, Proxy, Redis) {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::before_redis(server.port());
    let tested = Redis::through(&proxy.redis_url(), &server.url()).await;
    let sessions = manager(&tested);
    let browser = tested.browser().await;
    fill(&browser).await;
    browser.visit(log_in).await.assert_ok();
    browser.visit(Session::renew).await.assert_ok();
    browser.visit(|s| s.insert("a", 2).unwrap()).await;
    browser.visit(Session::clear).await.assert_ok();
    browser.visit(log_in).await.assert_ok();
    let late = tested.browser().await;
    late.visit(log_in).await.assert_ok();
    assert_eq!(sessions.count(USER).await.unwrap(), 2);
    let flight = browser.begin().await;
    assert_eq!(sessions.revoke_others(&flight.handle()).await.unwrap(), 1);
    flight.finish().await.assert_ok();
    browser.visit(Session::purge).await.assert_ok();
    assert_eq!(sessions.count(USER).await.unwrap(), 0);
    tick(&tested);
    proxy.commands();
    (server, proxy, tested)
}

#[actix_web::test]
async fn the_index_takes_no_round_trip_of_its_own() {
    let (server, proxy, tested) = counted().await;
    let (browser, sessions) = (tested.browser().await, manager(&tested));
    let trips = async |act: &dyn Fn(&Session)| {
        browser.visit(|s| act(s)).await.assert_ok();
        proxy.commands()
    };
    assert_eq!(trips(&log_in).await, ["EVALSHA"], "a first login");
    assert_eq!(trips(&|_| ()).await, ["GET"]);
    let both = ["GET", "EVALSHA"];
    assert_eq!(trips(&|s| s.insert("a", 1).unwrap()).await, both);
    assert_eq!(trips(&|s| s.renew()).await, both);
    assert_eq!(trips(&|s| s.clear()).await, both);
    assert_eq!(trips(&log_in).await, both);
    assert_eq!(trips(&log_in).await, both);
    assert_eq!(trips(&|s| s.purge()).await, both);
    assert_eq!(trips(&log_in).await, ["EVALSHA"]);
    for _ in 0..2 {
        tested.browser().await.visit(log_in).await.assert_ok();
    }
    proxy.commands();
    let list = sessions.list(USER).await.unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!(
        proxy.commands(),
        ["HGETALL", "EVALSHA", "EVALSHA", "EVALSHA"]
    );
    assert_eq!(sessions.revoke_all(USER).await.unwrap(), 3);
    let mut asked = proxy.commands();
    assert_eq!(asked[..3], ["HGETALL", "EVALSHA", "HGETALL"]);
    asked.sort();
    assert_eq!(asked[..3], ["EVALSHA"; 3].map(str::to_owned));
    // Nothing was searched for. (The look below is the test's own.)
    let stats = lines_of(server.port(), "INFO commandstats")
        .unwrap()
        .join("\n");
    assert!(stats.contains("cmdstat_hset"), "{stats}");
    for searched in ["keys", "scan", "hscan", "sort"] {
        let searched = format!("cmdstat_{searched}:");
        assert!(!stats.contains(&searched), "{stats}");
    }
    assert_eq!(index(&tested).await.len(), 1, "the mark alone");
}

#[actix_web::test]
async fn a_long_list_is_read_a_few_times() {
    let (_server, proxy, tested) = counted().await;
    let (browser, sessions) = (tested.browser().await, manager(&tested));
    for _ in 0..220 {
        browser.forget();
        browser.visit(log_in).await.assert_ok();
    }
    proxy.commands();
    assert_eq!(sessions.count(USER).await.unwrap(), 220);
    let mut asked = proxy.commands();
    asked.retain(|command| command == "HGETALL");
    assert_eq!(asked.len(), 2, "each reads the whole list");
}

#[actix_web::test]
async fn what_a_later_version_has_written_ends_too() {
    let tested = <Redis as TestStore>::start().await;
    let browser = tested.browser().await;
    browser.visit(log_in).await.assert_ok();
    let (name, mut connection) = (tested.only_name().await, tested.connection.clone());
    let later: () = connection
        .set(&name, r#"{"v":2,"state":{}}"#)
        .await
        .unwrap();
    assert_eq!(later, ());
    assert_eq!(manager(&tested).revoke_all(USER).await.unwrap(), 1);
    let is_there: bool = connection.exists(&name).await.unwrap();
    assert!(!is_there);
}

#[actix_web::test]
async fn an_index_says_nothing_of_whoever_it_is_about_and_has_an_end() {
    let tested = <Redis as TestStore>::start().await;
    let browser = tested.browser().await;
    browser.visit(log_in).await.assert_ok();
    let name = tested.only_name().await;
    let fields = index(&tested).await;
    assert_eq!(fields.len(), 1);
    assert!(fields.values().next().unwrap().ends_with(&name));
    let mut connection = tested.connection.clone();
    for at in tested.names().await {
        assert!(!at.contains(USER), "{at}");
        let left: i64 = connection.pttl(&at).await.unwrap();
        let most = if at == name {
            86_400_000
        } else {
            34_560_000_000
        };
        assert!(left > most - 60_000 && left <= most, "{at} {left}");
    }
}

/// If the index lies in another slot than the record, that is done behind the answer's back.
async fn has_one_left(tested: &Redis) {
    let left = async {
        while tested.indexed().await != 1 {
            rt::task::yield_now().await;
        }
    };
    soon(left).await;
}

/// Each logout takes its entry along, so that nobody's list grows with their visits.
async fn whoever_logs_out_leaves_the_index(tested: Redis) {
    let (other, stays) = (tested.browser().await, tested.browser().await);
    stays.visit(log_in).await.assert_ok();
    for end in [Session::purge, Session::clear] {
        other.visit(log_in).await.assert_ok();
        assert_eq!(tested.indexed().await, 2);
        other.visit(end).await.assert_ok();
        has_one_left(&tested).await;
    }
    // The request that ends it has seen it before a renewal.
    other.visit(log_in).await.assert_ok();
    let flight = other.begin().await;
    other.visit(Session::renew).await.assert_ok();
    flight.handle().purge();
    flight.finish().await.assert_ok();
    has_one_left(&tested).await;
    // By its handle, and by a login that is one too many.
    other.visit(log_in).await.assert_ok();
    let mut handle = None;
    other.visit(|s| handle = s.handle()).await.assert_ok();
    let sessions = manager(&tested);
    assert!(sessions.revoke(USER, &handle.unwrap()).await.unwrap());
    has_one_left(&tested).await;
    assert_eq!(stays.principal().await.as_deref(), Some(USER));
    tick(&tested);
    let middleware = tested.middleware().max_sessions(1, OverLimit::EvictOldest);
    let site = Site::new(middleware.build()).await;
    other.at(site).visit(log_in).await.assert_ok();
    has_one_left(&tested).await;
    assert_eq!(stays.principal().await, None);
}

#[actix_web::test]
async fn what_ended_without_a_word_leaves_the_index_when_somebody_looks() {
    let tested = <Redis as TestStore>::start().await;
    let sessions = manager(&tested);
    let deleted = tested.browser().await;
    deleted.visit(log_in).await.assert_ok();
    let entry = index(&tested).await;
    for value in entry.values() {
        let (_, name) = value.split_once('|').unwrap();
        let _: () = tested.connection.clone().del(name).await.unwrap();
    }
    let living = tested.browser().await;
    living.visit(log_in).await.assert_ok();
    assert_eq!(sessions.count(USER).await.unwrap(), 1);
    assert_eq!(index(&tested).await.len(), 1);
}

/// Sessions that expire take nothing along. Whoever never looks has no more entries for it than a few times
/// 64: what one tidying has missed, since an answer came late, the next takes away.
#[actix_web::test]
async fn an_index_that_grows_is_tidied() {
    let tested = <Redis as TestStore>::start().await;
    let stays = tested.browser().await;
    stays.visit(log_in).await.assert_ok();
    let passing = stays.fork();
    let comes_and_goes = async || {
        passing.forget();
        let before = tested.names().await;
        passing.visit(log_in).await.assert_ok();
        let is_new = |name: &String| !name.ends_with(":sessions") && !before.contains(name);
        let made = tested.names().await.into_iter().find(is_new).unwrap();
        let _: () = tested.connection.clone().del(made).await.unwrap();
    };
    for _ in 0..256 {
        comes_and_goes().await;
    }
    let tidied = async {
        while index(&tested).await.len() >= 2 * 64 {
            comes_and_goes().await;
        }
    };
    soon(tidied).await;
    assert_eq!(stays.principal().await.as_deref(), Some(USER));
    assert_eq!(manager(&tested).count(USER).await.unwrap(), 1);
}

/// A login in flight beside the end of all sessions is over, or it came later.
async fn a_login_never_outlives_the_end_of_all_that_came_after_it<T: TestStore>(tested: T)
where
    T::Store: SessionIndex,
{
    assert_eq!(logins_beside_the_end_of_all(tested).await, 0);
}

/// The end may come between two steps: it ends a session, and the login is refused nonetheless.
async fn a_login_of_two_steps_never_outlives_the_end_of_all<T: TestStore>(tested: T)
where
    T::Store: SessionIndex,
{
    logins_beside_the_end_of_all(tested).await;
}

/// Returns how many of 1,000 logins were refused although the end counted their sessions.
async fn logins_beside_the_end_of_all<T: TestStore>(tested: T) -> usize
where
    T::Store: SessionIndex,
{
    let sessions = manager(&tested);
    let site = tested.browser().await;
    let mut refused_and_ended = 0;
    for n in 0..1_000 {
        let browser = site.fork();
        browser.forget();
        if n % 2 == 0 {
            fill(&browser).await;
        }
        let flight = browser.begin().await;
        log_in(&flight.handle());
        tick(&tested);
        let (answer, revoked) = join(flight.finish(), sessions.revoke_all(USER)).await;
        match (answer.status, revoked.unwrap()) {
            (StatusCode::OK, 1) | (StatusCode::UNAUTHORIZED, 0) => {}
            (StatusCode::UNAUTHORIZED, 1) => refused_and_ended += 1,
            other => panic!("{n}: {other:?}"),
        }
        assert_eq!(browser.principal().await, None, "{n}");
        assert_eq!(sessions.count(USER).await.unwrap(), 0, "{n}");
    }
    refused_and_ended
}

/// A step whose answer is lost is carried out once.
async fn with_lost_answer(
    proxy: &Proxy,
    browser: &Browser,
    act: fn(&Session),
    meanwhile: impl AsyncFnOnce(),
) -> StatusCode {
    let flight = browser.begin().await;
    act(&flight.handle());
    proxy.lose_answer_of("EVALSHA");
    let finish = rt::spawn(flight.finish());
    soon(proxy.lost()).await;
    meanwhile().await;
    proxy.let_through();
    soon(finish).await.unwrap().status
}

#[actix_web::test]
async fn a_lost_answer_of_a_step_that_enters_enters_once() {
    let (server, proxy, tested) = counted().await;
    let direct = tested.store_through(&server.url()).await;
    let sessions = SessionManager::of_store(&direct);
    let browser = tested.browser().await;
    let acts: [fn(&Session); 4] = [log_in, Session::renew, Session::clear, log_in];
    for (n, act) in acts.into_iter().enumerate() {
        let status = with_lost_answer(&proxy, &browser, act, async || ()).await;
        assert_eq!(status, StatusCode::OK);
        let count = usize::from(n != 2);
        assert_eq!(sessions.count(USER).await.unwrap(), count, "{n}");
        assert_eq!(index(&tested).await.len(), count + 1, "{n}");
        assert_eq!(browser.principal().await.is_some(), count == 1);
    }
    let revoke = async || {
        sessions.revoke_all(USER).await.unwrap();
    };
    with_lost_answer(&proxy, &browser, Session::renew, revoke).await;
    assert!(browser.is_nobody().await);
    let next = tested.browser().await;
    tick(&tested);
    let revoke = async || {
        tick(&tested);
        sessions.revoke_all(USER).await.unwrap();
    };
    with_lost_answer(&proxy, &next, log_in, revoke).await;
    assert!(next.is_nobody().await);
    assert_eq!(sessions.count(USER).await.unwrap(), 0);
    tested.dump().await.assert_no_record();
}

#[actix_web::test]
async fn a_lost_answer_of_a_mark_is_asked_for_again() {
    let (_server, proxy, tested) = counted().await;
    let sessions = manager(&tested);
    let [one, other] = [tested.browser().await, tested.browser().await];
    for browser in [&one, &other] {
        browser.visit(log_in).await.assert_ok();
    }
    let flight = one.begin().await;
    proxy.lose_answer_of("EVALSHA");
    let session = flight.handle();
    let task = rt::spawn(async move { sessions.revoke_others(&session).await });
    soon(proxy.lost()).await;
    proxy.let_through();
    assert_eq!(soon(task).await.unwrap().unwrap(), 1);
    flight.finish().await.assert_ok();
    assert!(other.is_nobody().await);
    assert!(!one.is_nobody().await);
}

/// Whoever may not use what an index needs logs nobody in, and nothing is left behind.
#[actix_web::test]
async fn a_login_that_may_not_enter_leaves_everything_as_it_is() {
    let (server, _proxy, tested) = counted().await;
    let acl = |what: &str| {
        let answer = lines_of(server.port(), &format!("ACL SETUSER default {what}")).unwrap();
        assert_eq!(answer, ["+OK"], "{what}");
    };
    for forbidden in ["hset", "hget"] {
        let guest = tested.browser().await;
        fill(&guest).await;
        for browser in [&guest, &tested.browser().await] {
            acl(&format!("-{forbidden}"));
            let status = browser.visit(log_in).await.status;
            acl(&format!("+{forbidden}"));
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{forbidden}");
        }
        assert_eq!(guest.number("a").await, Some(1));
        assert_eq!(manager(&tested).count(USER).await.unwrap(), 0);
        assert_eq!(tested.dump().await.only().len(), 1);
        guest.visit(Session::purge).await.assert_ok();
    }
    // What follows the entry is refused: the entry goes.
    let user = tested.browser().await;
    user.visit(log_in).await.assert_ok();
    let before = index(&tested).await;
    for forbidden in ["set", "del"] {
        acl(&format!("-{forbidden}"));
        let status = user.visit(Session::renew).await.status;
        acl(&format!("+{forbidden}"));
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{forbidden}");
        assert_eq!(index(&tested).await, before, "{forbidden}");
        assert_eq!(user.principal().await.as_deref(), Some(USER));
    }
}

/// The look at the list fails once the session is there.
#[actix_web::test]
async fn a_login_whose_limit_cannot_be_looked_at_leaves_no_session() {
    let (server, _proxy, tested) = counted().await;
    let middleware = tested.middleware().max_sessions(2, OverLimit::EvictOldest);
    let site = Site::new(middleware.build()).await;
    let acl = |what: &str| {
        let answer = lines_of(server.port(), &format!("ACL SETUSER default {what}")).unwrap();
        assert_eq!(answer, ["+OK"], "{what}");
    };
    let [stranger, guest] = [(); 2].map(|()| Browser::new(site.clone()));
    fill(&guest).await;
    for browser in [&stranger, &guest] {
        acl("-hgetall");
        let answer = browser.visit(log_in).await;
        acl("+hgetall");
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        answer.assert_no_cookie();
        assert_eq!(manager(&tested).count(USER).await.unwrap(), 0);
        assert_eq!(
            tested.dump().await.records().len(),
            usize::from(browser.value().is_none())
        );
    }
}

#[actix_web::test]
async fn what_the_store_of_0_9_writes_is_in_the_index() {
    let tested = RedisActor::start().await;
    let redis = tested.redis();
    let browser = tested.browser().await;
    browser.visit(log_in).await.assert_ok();
    browser.visit(Session::renew).await.assert_ok();
    let sessions = SessionManager::of_store(&redis.store());
    let _ = redis.store().index();
    assert_eq!(sessions.count(USER).await.unwrap(), 1);
    assert_eq!(sessions.revoke_all(USER).await.unwrap(), 1);
    assert!(browser.is_nobody().await);
}
