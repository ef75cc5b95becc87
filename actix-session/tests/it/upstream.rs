//! Logins at an upstream, which can end the session here.

use std::{
    sync::mpsc::channel,
    time::{Duration, SystemTime},
};

use actix_session::{
    Clock as _, Login, Session, SessionEventKind, SessionManager, SessionMiddleware, Upstream,
    UpstreamNotice,
    config::{PersistentSession, TtlExtensionPolicy, WireFormat},
    storage::{CookieSessionStore, SessionIndex, SessionStore},
};
use actix_web::{cookie::Key, http::StatusCode, rt};
use futures_util::future::join;
use servers::RedisServer;

use crate::{
    devices::tick,
    five_methods::FiveMethods,
    support::{
        Answer, Browser, Flight, PATIENCE, Proxy, Random, Redis, Site, TestStore, fill,
        on_each_index, on_store, soon,
    },
};

on_each_index! {
    what_comes_from_there_ends_and_nothing_else,
    a_session_there_ends_what_comes_from_it,
    a_login_in_flight_is_refused_and_a_later_one_passes,
    a_login_that_is_over_leaves_the_session_before_it,
    what_was_noticed_while_a_login_committed_is_over,
    a_session_keeps_its_upstream_until_it_ends,
    a_repeat_is_answered_as_the_first_was,
    whoever_was_erased_is_known_no_more_and_others_are,
    a_login_that_nobody_waits_for_is_no_exception,
    a_session_in_use_is_found_however_old_it_is,
}

// There, an index lies in another slot than its records.
on_store!(on_hiding_cluster HidingCluster:
    what_comes_from_there_ends_and_nothing_else
    a_login_in_flight_is_refused_and_a_later_one_passes
    what_was_noticed_while_a_login_committed_is_over
);

// Whose connections come from elsewhere.
on_store!(on_redis_pool RedisPool: what_was_noticed_while_a_login_committed_is_over);
on_store!(on_sentinel Sentinel: what_was_noticed_while_a_login_committed_is_over);

// Their notices lapse by the injected clock.
on_store!(on_memory_alone Memory: a_notice_lapses a_short_login_leaves_the_entry_of_a_longer_one all_end_however_many_there_are);
on_store!(on_sqlite_alone Sqlite: a_notice_lapses a_short_login_leaves_the_entry_of_a_longer_one all_end_however_many_there_are);
on_store!(on_postgres_alone Postgres: a_notice_lapses a_short_login_leaves_the_entry_of_a_longer_one);
on_store!(on_mysql_alone MySql: a_notice_lapses a_short_login_leaves_the_entry_of_a_longer_one);
on_store!(on_redis_alone Redis: all_end_however_many_there_are);

const OP: &str = "https://op.example";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn ferris(seconds: u64) -> Upstream {
    Upstream::new(OP, "ferris", at(seconds))
}

fn of_ferris(seconds: u64) -> UpstreamNotice {
    UpstreamNotice::of_subject(OP, "ferris", at(seconds))
}

fn login(principal: &str, upstream: Upstream) -> impl FnOnce(&Session) {
    let login = Login::new(principal).upstream(upstream);
    |session| session.login_with(login).unwrap()
}

async fn logged_in(site: &Site, principal: &str, upstream: Upstream) -> Browser {
    let browser = Browser::new(site.clone());
    let answer = browser.visit(login(principal, upstream)).await;
    answer.assert_ok().assert_sets_cookie();
    browser
}

async fn served<T: TestStore>(tested: &T) -> (Site, SessionManager)
where
    T::Store: SessionIndex,
{
    let middleware = tested.middleware().build();
    let sessions = middleware.manager();
    (Site::new(middleware).await, sessions)
}

async fn end(sessions: &SessionManager, notice: UpstreamNotice) -> u64 {
    sessions.end_upstream(&notice).await.unwrap()
}

#[track_caller]
fn assert_overtaken(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    answer.assert_no_cookie();
}

async fn what_comes_from_there_ends_and_nothing_else(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = served(&tested).await;
    let phone = logged_in(&site, "user-42", ferris(5)).await;
    let laptop = logged_in(&site, "user-42", ferris(7).sid("s1")).await;
    // Whom the upstream knows as one, the application may know as two.
    let second = logged_in(&site, "org:user-42", ferris(6)).await;
    let other = logged_in(&site, "user-43", Upstream::new(OP, "corro", at(5))).await;
    let elsewhere = Upstream::new("https://other.example", "ferris", at(5));
    let elsewhere = logged_in(&site, "user-42", elsewhere).await;
    let own = Browser::new(site.clone());
    own.visit(|s| s.login("user-42").unwrap()).await.assert_ok();
    let later = logged_in(&site, "user-42", ferris(8)).await;
    assert_eq!(end(&sessions, of_ferris(4)).await, 0);
    assert_eq!(end(&sessions, of_ferris(7)).await, 3);
    assert_eq!(end(&sessions, of_ferris(7)).await, 0);
    for ended in [&phone, &laptop, &second] {
        assert!(ended.is_nobody().await);
    }
    for stays in [&other, &elsewhere, &own, &later] {
        assert!(stays.principal().await.is_some());
    }
    assert_eq!(end(&sessions, of_ferris(8)).await, 1);
    assert!(later.is_nobody().await);
}

async fn a_session_there_ends_what_comes_from_it(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = served(&tested).await;
    for both in [false, true] {
        // Later than what the round before has ended.
        let now = if both { 20 } else { 0 };
        let phone = logged_in(&site, "user-42", ferris(now + 5).sid("s1")).await;
        let tab = logged_in(&site, "user-42", ferris(now + 6).sid("s1")).await;
        let laptop = logged_in(&site, "user-42", ferris(now + 5).sid("s2")).await;
        let untold = logged_in(&site, "user-42", ferris(now + 5)).await;
        let notice = UpstreamNotice::of_session(OP, "s1", at(now + 7));
        let (notice, ends) = if both {
            (notice.subject("ferris"), 3)
        } else {
            (notice, 2)
        };
        let another = notice.clone().subject("corro");
        assert_eq!(end(&sessions, another).await, 0);
        assert_eq!(end(&sessions, notice).await, ends);
        assert!(phone.is_nobody().await && tab.is_nobody().await);
        assert!(!laptop.is_nobody().await);
        // It may come from that session.
        assert_eq!(untold.is_nobody().await, both);
        // The same session there goes on, and authenticates again.
        let again = logged_in(&site, "user-42", ferris(now + 8).sid("s1")).await;
        assert_eq!(again.principal().await.as_deref(), Some("user-42"));
        let left = if both { 2 } else { 3 };
        assert_eq!(end(&sessions, of_ferris(now + 9)).await, left);
    }
}

async fn a_login_in_flight_is_refused_and_a_later_one_passes(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = served(&tested).await;
    let (new, guest) = (Browser::new(site.clone()), Browser::new(site.clone()));
    guest.visit(|s| s.insert("basket", 1).unwrap()).await;
    let user = logged_in(&site, "user-42", ferris(1)).await;
    for (round, browser) in (1..).zip([new, guest, user]) {
        let now = 10 * round;
        let flight = browser.begin().await;
        login("user-42", ferris(now).sid("s1"))(&flight);
        let notice = match round {
            1 => of_ferris(now),
            2 => UpstreamNotice::of_session(OP, "s1", at(now)),
            _ => of_ferris(now).sid("s1"),
        };
        end(&sessions, notice).await;
        assert_overtaken(&flight.finish().await);
        assert_eq!(sessions.count("user-42").await.unwrap(), 0);
        assert_eq!(browser.principal().await, None);
        // What authenticated by then is refused for ten minutes, and nobody else.
        assert_overtaken(&browser.visit(login("user-42", ferris(now).sid("s1"))).await);
        let own = |s: &Session| s.login("user-42").unwrap();
        browser.visit(own).await.assert_ok();
        let again = browser
            .visit(login("user-42", ferris(now + 1).sid("s1")))
            .await;
        again.assert_ok().assert_sets_cookie();
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
        assert_eq!(sessions.count("user-42").await.unwrap(), 1);
        browser.visit(Session::purge).await.assert_ok();
    }
}

async fn a_login_that_is_over_leaves_the_session_before_it(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = served(&tested).await;
    for (round, before) in (1..).zip(["user-42", "user-43"]) {
        let now = 10 * round;
        let browser = Browser::new(site.clone());
        let own = |s: &Session| s.login(before).unwrap();
        browser.visit(own).await.assert_ok();
        let flight = browser.begin().await;
        login("user-42", ferris(now))(&flight);
        end(&sessions, of_ferris(now)).await;
        assert_overtaken(&flight.finish().await);
        assert_eq!(browser.principal().await.as_deref(), Some(before));
        assert_overtaken(&browser.visit(login("user-42", ferris(now))).await);
        assert_eq!(browser.principal().await.as_deref(), Some(before));
        assert_eq!(sessions.count(before).await.unwrap(), 1);
        browser.visit(Session::purge).await.assert_ok();
    }
}

/// How often a notice and a login race on each store.
fn races() -> u64 {
    let races = std::env::var("UPSTREAM_RACES");
    races.map_or(24, |races| races.parse().unwrap())
}

async fn what_was_noticed_while_a_login_committed_is_over(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = served(&tested).await;
    let mut random = Random::new(42);
    let browser = Browser::new(site.clone());
    let mut waits = [0, 0];
    for round in 1..=races() {
        let now = 10 * round;
        let old = browser.fork();
        let flight = browser.begin().await;
        let later = random.one_in(4);
        let upstream = ferris(if later { now + 1 } else { now }).sid(format!("s{round}"));
        login("user-42", upstream)(&flight);
        // Which of both goes first, and how far.
        waits = waits.map(|_| random.index(12));
        let [before_login, before_notice] = waits;
        let logging_in = async {
            step_aside(before_login).await;
            flight.finish().await
        };
        let names_all = random.index(2) == 0;
        let notice = match names_all {
            true => of_ferris(now),
            false => of_ferris(now).sid(format!("s{round}")),
        };
        let noticing = async {
            step_aside(before_notice).await;
            sessions.end_upstream(&notice).await
        };
        let (answer, ended) = join(logging_in, noticing).await;
        ended.unwrap();
        let is_in = browser.principal().await.is_some();
        let count = sessions.count("user-42").await.unwrap();
        let case = format!("round {round}: {waits:?} {later}");
        if later {
            answer.assert_ok().assert_sets_cookie();
            assert!(is_in && count == 1, "{case}");
            continue;
        }
        let is_refused = answer.status == StatusCode::UNAUTHORIZED;
        if !is_refused {
            answer.assert_ok();
        }
        // A login that is refused at once leaves the session before it, if the notice does.
        assert!(!is_in || is_refused && !names_all, "{case}");
        assert_eq!(count, usize::from(is_in), "{case}");
        assert_eq!(old.is_nobody().await, !is_in, "{case}");
    }
}

async fn step_aside(times: usize) {
    for _ in 0..times {
        rt::task::yield_now().await;
    }
}

async fn a_session_keeps_its_upstream_until_it_ends(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = served(&tested).await;
    type Act = fn(&Session);
    let acts: [(Act, bool); 7] = [
        (|s| s.insert("a", 1).unwrap(), true),
        (Session::renew, true),
        (|s| s.reauthenticated().unwrap(), true),
        // Another proof makes it no session of this server's own.
        (|s| s.login("user-42").unwrap(), true),
        (|s| login("user-42", ferris(50))(s), false),
        (|s| s.login("user-43").unwrap(), false),
        (
            |s| {
                s.clear();
                s.login("user-42").unwrap();
            },
            false,
        ),
    ];
    for (n, (act, ends)) in acts.into_iter().enumerate() {
        let browser = logged_in(&site, "user-42", ferris(5 + n as u64)).await;
        let flight = browser.fork().begin().await;
        browser.visit(act).await.assert_ok();
        let ended = end(&sessions, of_ferris(5 + n as u64)).await;
        assert_eq!(ended, u64::from(ends), "{n}");
        assert_eq!(browser.is_nobody().await, ends, "{n}");
        flight.insert("late", 1).unwrap();
        flight.renew();
        flight.finish().await.assert_no_cookie();
        browser.visit(Session::purge).await.assert_ok();
    }
    // Old servers are in the fleet.
    let middleware = tested.middleware().wire_format(WireFormat::V0_11).build();
    let sessions = middleware.manager();
    let browser = logged_in(&Site::new(middleware).await, "user-42", ferris(20)).await;
    browser.visit(Session::renew).await.assert_ok();
    assert_eq!(end(&sessions, of_ferris(20)).await, 1);
    assert!(browser.is_nobody().await);
}

async fn a_repeat_is_answered_as_the_first_was(tested: impl TestStore<Store: SessionIndex>) {
    let (sender, events) = channel();
    let observed = tested.middleware().on_event(move |event| {
        if let SessionEventKind::Revoked(ended) = event.kind() {
            // Nobody listens any more once the test is over.
            let _ = sender.send(ended);
        }
    });
    let middleware = observed.build();
    let sessions = middleware.manager();
    let site = Site::new(middleware).await;
    let expires = tested.clock().now() + Duration::from_secs(120);
    let notice = |jti: &str| of_ferris(9).jti(jti, expires);
    for _ in 0..2 {
        logged_in(&site, "user-42", ferris(5)).await;
    }
    assert_eq!(end(&sessions, notice("a")).await, 2);
    assert_eq!(end(&sessions, notice("a")).await, 2);
    assert_eq!(end(&sessions, notice("b")).await, 0);
    // Another issuer's names are its own.
    let other = UpstreamNotice::of_subject("https://other.example", "ferris", at(9));
    assert_eq!(end(&sessions, other.jti("a", expires)).await, 0);
    // What ended is told once.
    for ended in [2, 0, 0] {
        assert_eq!(events.recv_timeout(PATIENCE), Ok(ended));
    }
}

async fn whoever_was_erased_is_known_no_more_and_others_are(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = served(&tested).await;
    let second = logged_in(&site, "org:user-42", ferris(6).sid("s1")).await;
    let erased = logged_in(&site, "user-42", ferris(5).sid("s1")).await;
    assert!(tested.dump().await.holds("\"user-42\""));
    tick(&tested);
    assert_eq!(sessions.erase("user-42").await.unwrap(), 1);
    assert!(erased.is_nobody().await);
    let left = tested.dump().await;
    assert!(!left.holds("\"user-42\"") && left.holds("org:user-42"));
    tick(&tested);
    let again = logged_in(&site, "user-42", ferris(8)).await;
    assert_eq!(end(&sessions, of_ferris(7)).await, 1);
    assert!(second.is_nobody().await && !again.is_nobody().await);
    assert_eq!(end(&sessions, of_ferris(8)).await, 1);
    tick(&tested);
    assert_eq!(sessions.erase("org:user-42").await.unwrap(), 0);
}

async fn a_login_that_nobody_waits_for_is_no_exception(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = served(&tested).await;
    for polls in 0..6 {
        let browser = Browser::new(site.clone());
        let flight: Flight = browser.begin().await;
        login("user-42", ferris(5))(&flight);
        let leaving = async {
            step_aside(polls).await;
            flight.abort().await;
        };
        join(leaving, end_soon(&sessions)).await;
        // Its commit may go on after the request.
        step_aside(200).await;
        end_soon(&sessions).await;
        assert_eq!(sessions.count("user-42").await.unwrap(), 0, "{polls}");
        assert!(browser.is_nobody().await);
    }
}

async fn end_soon(sessions: &SessionManager) {
    end(sessions, of_ferris(5)).await;
}

async fn a_notice_lapses(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = served(&tested).await;
    end(&sessions, of_ferris(5)).await;
    tested.clock().advance(Duration::from_secs(599));
    let browser = Browser::new(site.clone());
    assert_overtaken(&browser.visit(login("user-42", ferris(5))).await);
    tested.clock().advance(Duration::from_secs(1));
    // No login takes so long. Whoever is in is found by the next notice.
    logged_in(&site, "user-42", ferris(5)).await;
    assert_eq!(end(&sessions, of_ferris(5)).await, 1);
    // As long as the session may live, it is found: here for ever.
    let browser = logged_in(&site, "user-42", ferris(9).sid("s1")).await;
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    for _ in 0..20 {
        tested.clock().advance(hours(20));
        browser
            .visit(|s| s.insert("n", 1).unwrap())
            .await
            .assert_ok();
    }
    let notice = UpstreamNotice::of_session(OP, "s1", at(9));
    assert_eq!(end(&sessions, notice).await, 1);
    assert!(browser.is_nobody().await);
    // With an absolute timeout, what is noted of the session there goes with it.
    let day = actix_web::cookie::time::Duration::days(1);
    let limited = tested.middleware().absolute_timeout(day).build();
    let site = Site::new(limited).await;
    let browser = Browser::new(site);
    let upstream = Upstream::new("https://other.example", "ferris", at(5)).sid("s1");
    browser.visit(login("user-42", upstream)).await.assert_ok();
    tested.clock().advance(hours(20));
    let proves = |s: &Session| s.reauthenticated().unwrap();
    browser.visit(proves).await.assert_ok();
    tested.clock().advance(hours(20));
    let notice = UpstreamNotice::of_session("https://other.example", "s1", at(5));
    assert_eq!(
        end(&sessions, notice).await,
        1,
        "it lives longer by a proof"
    );
}

/// It looks at what an earlier login has left, which is needed for longer.
async fn a_short_login_leaves_the_entry_of_a_longer_one(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = served(&tested).await;
    let log_in = |hours: u64| {
        let span = Duration::from_secs(hours * 3_600);
        let login = Login::new("user-42").idle(span).absolute(span);
        move |s: &Session| s.login_with(login.upstream(ferris(5))).unwrap()
    };
    let long = Browser::new(site.clone());
    long.visit(log_in(720)).await.assert_ok();
    let short = Browser::new(site);
    short.visit(log_in(12)).await.assert_ok();
    tested.clock().advance(Duration::from_secs(48 * 3_600));
    assert_eq!(end(&sessions, of_ferris(9)).await, 1);
    assert!(long.is_nobody().await);
}

async fn all_end_however_many_there_are(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = served(&tested).await;
    let mut browsers = Vec::new();
    for n in 0..230 {
        let upstream = ferris(n % 3).sid(format!("s{}", n % 2));
        browsers.push(logged_in(&site, &format!("user-{}", n % 2), upstream).await);
    }
    let notice = UpstreamNotice::of_session(OP, "s1", at(9));
    assert_eq!(end(&sessions, notice).await, 115);
    assert_eq!(end(&sessions, of_ferris(9)).await, 115);
    for browser in browsers.iter().step_by(23) {
        assert!(browser.is_nobody().await);
    }
}

/// A login without an upstream takes what it took before, and one with takes two round trips more:
/// its entries beside the notices, and the notices again.
#[actix_web::test]
async fn how_many_round_trips_a_login_takes() {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::before_redis(server.port());
    let tested = Redis::through(&proxy.redis_url(), &server.url()).await;
    let site = tested.browser().await.site;
    // The server knows the scripts from here on.
    for _ in 0..2 {
        logged_in(&site, "user-42", ferris(5).sid("s0")).await;
    }
    let guest = Browser::new(site.clone());
    fill(&guest).await;
    guest
        .visit(|s| s.login("user-42").unwrap())
        .await
        .assert_ok();
    guest.forget();
    let trips = async |browser: &Browser, upstream: Option<Upstream>| {
        proxy.commands();
        let mut login = Login::new("user-42");
        if let Some(upstream) = upstream {
            login = login.upstream(upstream);
        }
        let answer = browser.visit(|s| s.login_with(login).unwrap()).await;
        answer.assert_ok().assert_sets_cookie();
        proxy.commands()
    };
    assert_eq!(trips(&guest, None).await, ["EVALSHA"]);
    guest.forget();
    let looks = |n: usize| vec!["GET"; n];
    let expected = |entries: &[&'static str], first, last| {
        [entries, &looks(first), &["EVALSHA"], &looks(last)].concat()
    };
    // What is asked of the user's entry and of the session's goes together with the first looks at the notices,
    // and so do the last ones and the second looks at the entries.
    let both = ["SET", "PTTL", "GET", "SET", "PTTL", "GET"];
    for sid in ["s0", "s1", "s1"] {
        let made = trips(&guest, Some(ferris(6).sid(sid))).await;
        assert_eq!(made, expected(&both, 3, 5), "{sid}");
        guest.forget();
    }
    let made = trips(&guest, Some(ferris(6))).await;
    assert_eq!(made, expected(&both[..3], 2, 3));
}

/// Whatever gets lost on the way of a login, nobody is in after a notice.
#[actix_web::test]
async fn lost_answers_leave_nobody_in() {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::before_redis(server.port());
    let tested = Redis::through(&proxy.redis_url(), &server.url()).await;
    let (site, sessions) = served(&tested).await;
    logged_in(&site, "user-42", ferris(1).sid("s0")).await;
    for (n, command) in (1..).zip(["SET", "EVALSHA", "GET"]) {
        let browser = Browser::new(site.clone());
        let flight = browser.begin().await;
        login("user-42", ferris(10 * n).sid(format!("s{n}")))(&flight);
        proxy.lose_answer_of(command);
        let finish = rt::spawn(flight.finish());
        soon(proxy.lost()).await;
        proxy.let_through();
        let answer = soon(finish).await.unwrap();
        answer.assert_ok().assert_sets_cookie();
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
        // The same for the notice.
        proxy.lose_answer_of(command);
        let notice = UpstreamNotice::of_session(OP, format!("s{n}"), at(10 * n));
        let task = rt::spawn({
            let sessions = sessions.clone();
            async move { sessions.end_upstream(&notice).await }
        });
        soon(proxy.lost()).await;
        proxy.let_through();
        soon(task).await.unwrap().unwrap();
        assert!(browser.is_nobody().await, "{command}");
    }
}

#[actix_web::test]
async fn a_store_that_could_not_end_it_refuses_the_login() {
    async fn refuses(store: impl SessionStore + 'static) {
        let middleware = SessionMiddleware::builder(store, Key::generate()).build();
        let browser = Browser::new(Site::new(middleware).await);
        for _ in 0..2 {
            let refused = browser.visit(login("user-42", ferris(5))).await;
            assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
            refused.assert_no_cookie();
            browser.visit(|s| s.insert("basket", 1).unwrap()).await;
        }
        let own = |s: &Session| s.login("user-42").unwrap();
        browser.visit(own).await.assert_ok().assert_sets_cookie();
    }
    refuses(CookieSessionStore::default()).await;
    refuses(FiveMethods::default()).await;
}

#[test]
fn names_have_a_length() {
    let session = Session::new();
    let long = "x".repeat(1025);
    for upstream in [
        Upstream::new("", "ferris", at(1)),
        Upstream::new(OP, "", at(1)),
        Upstream::new(OP, &long, at(1)),
        Upstream::new(&long, "ferris", at(1)),
        ferris(1).sid(""),
    ] {
        let refused = session.login_with(Login::new("user-42").upstream(upstream));
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("must have 1 to 1024 bytes")
        );
    }
    assert_eq!(session.principal(), None);
    let shown = format!("{:?} {:?}", ferris(1).sid("s1"), of_ferris(1).sid("s1"));
    assert!(
        !shown.contains("ferris") && !shown.contains("s1"),
        "{shown}"
    );
}

/// Entries are forgotten 430 days after the login, or after the last step on them.
async fn a_session_in_use_is_found_however_old_it_is(tested: impl TestStore<Store: SessionIndex>) {
    let lifecycle = PersistentSession::default()
        .session_ttl(actix_web::cookie::time::Duration::days(60))
        .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let middleware = tested.middleware().session_lifecycle(lifecycle).build();
    let sessions = middleware.manager();
    let site = Site::new(middleware).await;
    let browser = logged_in(&site, "user-42", ferris(5).sid("s1")).await;
    for _ in 0..12 {
        tested.clock().advance(Duration::from_secs(40 * 86_400));
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    }
    let notice = UpstreamNotice::of_session(OP, "s1", at(7));
    assert_eq!(end(&sessions, notice).await, 1);
    assert!(browser.is_nobody().await);
}
