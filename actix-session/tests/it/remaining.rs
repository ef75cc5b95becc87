//! How long a session still lives, and requests that are no activity.

use std::time::Duration;

use actix_session::{
    Login, Session, SessionMiddleware,
    config::{OnLoadError, SessionMiddlewareBuilder, TtlExtensionPolicy, WireFormat},
    handlers,
    storage::{CookieSessionStore, SessionStore},
    testing::ManualClock,
};
use actix_web::{
    App,
    cookie::{Key, time::Duration as CookieDuration},
    http::{StatusCode, header::CACHE_CONTROL},
    test::init_service,
    web,
};
use serde_json::{Value, json};

use crate::{
    expiry::{persistent, start, write},
    five_methods::{FiveMethods, Wrapper, custom},
    support::{Answer, Browser, Memory, Site, Spy, TestStore, on_each_store, stop},
};

on_each_store! {
    quiet_requests_move_no_end,
    quiet_requests_of_the_older_format_move_no_end,
    a_lazy_session_is_quiet_too,
    a_shorter_timeout_reaches_sessions_that_are_only_read,
    a_cookie_that_is_sealed_anew_ends_with_its_record,
    a_quiet_request_costs_one_call,
    what_a_quiet_request_shortens_is_shorter,
    what_changes_nothing_shortens_nothing,
    a_quiet_login_begins_a_new_time,
    a_quiet_change_takes_nothing_back,
    a_quiet_request_saves_before_it_answers,
    the_remaining_time_counts_what_the_request_does,
    the_absolute_time_counts_down,
    the_handler_tells_each_tab_the_same,
    nobody_is_told_that_a_renewed_session_has_ended,
}

use TtlExtensionPolicy::{OnEveryRequest, OnStateChanges};

const HOUR: u64 = 3_600;
const MONTH: CookieDuration = CookieDuration::days(30);
type Act = fn(&Session);

/// A site whose sessions live for so many hours, and the same whose question is quiet.
async fn site<S: SessionStore + 'static>(
    builder: SessionMiddlewareBuilder<S>,
    hours: u64,
    policy: TtlExtensionPolicy,
) -> Site {
    let builder = builder.session_lifecycle(persistent(hours * HOUR * 1_000, policy));
    let builder = builder.quiet_when(|req| req.path().starts_with("/quiet"));
    let app = App::new()
        .route("/quiet/remaining", web::get().to(handlers::remaining))
        .route("/remaining", web::get().to(handlers::remaining))
        .default_service(web::to(stop))
        .wrap(builder.build());
    Site::of(init_service(app).await)
}

fn idle(session: &Session) -> Option<u64> {
    let left = session.remaining()?;
    Some(left.idle()?.as_secs())
}

fn absolute(session: &Session) -> Option<u64> {
    let left = session.remaining()?;
    Some(left.absolute()?.as_secs())
}

/// A real server's clock goes on, while the test's stands still.
#[track_caller]
fn assert_about(left: Option<u64>, hours: u64) {
    let most = hours * HOUR;
    assert!(
        left.is_some_and(|left| left <= most && left > most - 600),
        "{left:?} of {hours} hours"
    );
}

/// What is left, asked without touching it.
async fn left(browser: &Browser) -> Option<u64> {
    let mut left = None;
    let answer = browser.visit_path("/quiet", |s| left = idle(s)).await;
    answer.assert_ok().assert_no_cookie();
    left
}

async fn quiet_requests_move_no_end(tested: impl TestStore) {
    in_each_lifecycle(&tested, |builder| builder).await;
}

async fn quiet_requests_of_the_older_format_move_no_end(tested: impl TestStore) {
    in_each_lifecycle(&tested, |builder| builder.wire_format(WireFormat::V0_11)).await;
}

async fn a_lazy_session_is_quiet_too(tested: impl TestStore) {
    in_each_lifecycle(&tested, SessionMiddlewareBuilder::lazy).await;
}

async fn in_each_lifecycle<T: TestStore>(
    tested: &T,
    set: fn(SessionMiddlewareBuilder<T::Store>) -> SessionMiddlewareBuilder<T::Store>,
) {
    let interval = TtlExtensionPolicy::AtMostEvery(CookieDuration::minutes(1));
    for policy in [OnEveryRequest, OnStateChanges, interval] {
        let short = Browser::new(site(set(tested.middleware()), 1, policy.clone()).await);
        let long = short.at(site(set(tested.middleware()), 2, policy).await);
        start(&short).await;
        moves_no_end(&short, &long).await;
    }
}

async fn a_shorter_timeout_reaches_sessions_that_are_only_read(tested: impl TestStore) {
    let interval = TtlExtensionPolicy::AtMostEvery(CookieDuration::minutes(1));
    for policy in [interval, OnEveryRequest] {
        let long = Browser::new(site(tested.middleware(), 3, policy.clone()).await);
        let short = long.at(site(tested.middleware(), 1, policy).await);
        start(&long).await;
        assert_about(left(&short).await, 3);
        let answer = short.visit(|_| ()).await;
        let age = answer.assert_ok().assert_sets_cookie().max_age();
        assert_about(age.map(i64::cast_unsigned), 1);
        assert_about(left(&short).await, 1);
    }
}

crate::support::on_store! { in_cookies InCookie: a_shorter_timeout_reaches_sessions_that_are_only_read }

/// The first key seals again what another one has sealed, and extends nothing.
async fn a_cookie_that_is_sealed_anew_ends_with_its_record(tested: impl TestStore) {
    let short = Browser::new(site(tested.middleware(), 1, OnStateChanges).await);
    start(&short).await;
    let builder = SessionMiddleware::builder(tested.store(), Key::generate());
    let builder = builder
        .clock(tested.clock().clone())
        .previous_keys([tested.key().clone()]);
    let long = short.at(site(builder, 2, OnStateChanges).await);
    let answer = long.visit(|_| ()).await;
    let age = answer.assert_ok().assert_sets_cookie().max_age();
    assert_about(age.map(i64::cast_unsigned), 1);
    assert_about(left(&long).await, 1);
}

/// `long` would extend the session from one hour to two.
async fn moves_no_end(short: &Browser, long: &Browser) {
    assert_about(left(long).await, 1);
    let acts: [Act; 6] = [
        |s| s.insert("a", 1).unwrap(),
        |s| s.insert("a", 1).unwrap(),
        |s| s.update("a", |n: u32| n + 1).unwrap(),
        write,
        |s| drop(s.remove("a")),
        |s| s.insert("b", 2).unwrap(),
    ];
    for act in acts {
        let before_answer = |s: &Session| {
            act(s);
            assert_about(idle(s), 1);
        };
        let answer = long.visit_path("/quiet", before_answer).await;
        answer.assert_ok().assert_no_cookie();
        assert_about(left(long).await, 1);
    }
    let renewal = long.visit_path("/quiet", Session::renew).await;
    let age = renewal.assert_ok().assert_sets_cookie().max_age();
    assert_about(age.map(i64::cast_unsigned), 1);
    assert_about(left(long).await, 1);
    assert_about(left(short).await, 1);
    // Whatever was changed has been written; and what is not quiet extends.
    let mut seen = None;
    let loud = |s: &Session| {
        seen = Some(["a", "b", "n"].map(|name| s.get::<u32>(name).unwrap()));
        s.insert("c", 1).unwrap();
        assert_about(idle(s), 2);
    };
    long.visit(loud).await.assert_ok().assert_sets_cookie();
    assert_eq!(seen, Some([None, Some(2), Some(2)]));
    assert_about(left(long).await, 2);
}

async fn a_quiet_request_costs_one_call(tested: impl TestStore) {
    let spy = Spy::new(tested.store());
    let builder = SessionMiddleware::builder(spy.clone(), tested.key().clone());
    let site = site(builder.clock(tested.clock().clone()), 1, OnEveryRequest).await;
    let browser = Browser::new(site);
    start(&browser).await;
    spy.calls();
    let acts: [Act; 2] = [|_| (), |s| s.insert("n", 1).unwrap()];
    for act in acts {
        browser.visit_path("/quiet", act).await.assert_no_cookie();
        assert_eq!(spy.calls(), ["open"]);
    }
    browser.visit(|_| ()).await.assert_sets_cookie();
    assert_eq!(spy.calls(), ["open", "commit"]);
}

async fn what_a_quiet_request_shortens_is_shorter(tested: impl TestStore) {
    let browser = Browser::new(site(tested.middleware(), 2, OnEveryRequest).await);
    let remembered = |s: &Session| {
        s.login_with(Login::new("user-42").idle(MONTH)).unwrap();
    };
    browser.visit(remembered).await.assert_sets_cookie();
    assert_about(left(&browser).await, 30 * 24);
    let hour = |s: &Session| {
        s.set_ttl(CookieDuration::hours(1));
        assert_about(idle(s), 1);
    };
    let answer = browser.visit_path("/quiet", hour).await;
    assert_about(answer.max_age().map(i64::cast_unsigned), 1);
    assert_about(left(&browser).await, 1);
    // A longer time counts from the next extension.
    let month = |s: &Session| {
        s.set_ttl(MONTH);
        assert_about(idle(s), 1);
    };
    browser.visit_path("/quiet", month).await.assert_ok();
    assert_about(left(&browser).await, 1);
    browser.visit(|s| assert_about(idle(s), 30 * 24)).await;
    assert_about(left(&browser).await, 30 * 24);
    // Without its login, the session has the configured time at most.
    let clear = |s: &Session| {
        s.clear();
        assert_about(idle(s), 2);
    };
    browser.visit_path("/quiet", clear).await.assert_ok();
    assert_about(left(&browser).await, 2);
}

async fn what_changes_nothing_shortens_nothing(tested: impl TestStore) {
    let long = Browser::new(site(tested.middleware(), 2, OnStateChanges).await);
    let short = long.at(site(tested.middleware(), 1, OnStateChanges).await);
    start(&long).await;
    let acts: [Act; 3] = [
        |s| s.insert("n", 1).unwrap(),
        |s| drop(s.remove("a")),
        Session::reset_ttl,
    ];
    for act in acts {
        let asked = |s: &Session| {
            act(s);
            assert_about(idle(s), 2);
        };
        let answer = short.visit_path("/quiet", asked).await;
        answer.assert_ok().assert_no_cookie();
        assert_about(left(&short).await, 2);
    }
    let change = |s: &Session| {
        write(s);
        assert_about(idle(s), 1);
    };
    short.visit_path("/quiet", change).await.assert_ok();
    assert_about(left(&short).await, 1);
}

async fn a_quiet_login_begins_a_new_time(tested: impl TestStore) {
    let short = Browser::new(site(tested.middleware(), 1, OnEveryRequest).await);
    let long = short.at(site(tested.middleware(), 2, OnEveryRequest).await);
    let acts: [Act; 2] = [
        |s| s.login("user-42").unwrap(),
        |s| s.reauthenticated().unwrap(),
    ];
    start(&short).await;
    for act in acts {
        let before_answer = |s: &Session| {
            act(s);
            assert_about(idle(s), 2);
        };
        let answer = long.visit_path("/quiet", before_answer).await;
        assert_about(answer.max_age().map(i64::cast_unsigned), 2);
        assert_about(left(&long).await, 2);
        short.visit(|_| ()).await.assert_ok();
        assert_about(left(&short).await, 1);
    }
    let guest = Browser::new(long.site.clone());
    let answer = guest.visit_path("/quiet", write).await;
    assert_about(answer.max_age().map(i64::cast_unsigned), 2);
}

/// A quiet change and one that extends, side by side, in either order.
async fn a_quiet_change_takes_nothing_back(tested: impl TestStore) {
    for quiet_first in [true, false] {
        let short = Browser::new(site(tested.middleware(), 1, OnStateChanges).await);
        let long = short.at(site(tested.middleware(), 2, OnStateChanges).await);
        start(&short).await;
        let (quiet, loud) = (long.begin_at("/quiet").await, long.begin().await);
        quiet.insert("quiet", 1).unwrap();
        loud.insert("loud", 1).unwrap();
        let flights = if quiet_first {
            [quiet, loud]
        } else {
            [loud, quiet]
        };
        for flight in flights {
            flight.finish().await.assert_ok();
        }
        assert_about(left(&long).await, 2);
        assert_eq!(long.number("quiet").await, Some(1));
        assert_eq!(long.number("loud").await, Some(1));
    }
}

async fn a_quiet_request_saves_before_it_answers(tested: impl TestStore) {
    let short = Browser::new(site(tested.middleware(), 1, OnEveryRequest).await);
    let long = short.at(site(tested.middleware(), 2, OnEveryRequest).await);
    start(&short).await;
    let quiet = long.begin_at("/quiet").await;
    quiet.insert("a", 1).unwrap();
    quiet.save().await.unwrap();
    assert_about(idle(&quiet), 1);
    quiet.finish().await.assert_ok().assert_no_cookie();
    assert_about(left(&long).await, 1);
    // A cookie that has to have another age is sent.
    let quiet = long.begin_at("/quiet").await;
    quiet.set_ttl(CookieDuration::minutes(10));
    quiet.save().await.unwrap();
    assert!(idle(&quiet) <= Some(600));
    let age = quiet.finish().await.assert_ok().max_age();
    assert!(age.is_some_and(|age| age <= 600), "{age:?}");
    let loud = long.begin().await;
    loud.set_ttl(CookieDuration::hours(2));
    loud.save().await.unwrap();
    assert_about(idle(&loud), 2);
    loud.finish().await.assert_ok();
    assert_about(left(&long).await, 2);
}

async fn the_remaining_time_counts_what_the_request_does(tested: impl TestStore) {
    let builder = tested
        .middleware()
        .absolute_timeout(CookieDuration::hours(12));
    let browser = Browser::new(site(builder, 1, OnStateChanges).await);
    let anonymous = |s: &Session| {
        assert_eq!(s.remaining(), None);
        s.remove("nothing");
        s.renew();
        assert_eq!(s.remaining(), None, "it makes no session");
        write(s);
        assert_eq!((idle(s), absolute(s)), (Some(HOUR), Some(12 * HOUR)));
        s.purge();
        assert_eq!(s.remaining(), None);
        write(s);
        assert_eq!(idle(s), Some(HOUR));
    };
    browser.visit(anonymous).await.assert_sets_cookie();
    let login = |s: &Session| {
        let login = Login::new("user-42").absolute(CookieDuration::minutes(30));
        s.login_with(login).unwrap();
        assert_eq!((idle(s), absolute(s)), (Some(HOUR / 2), Some(HOUR / 2)));
        s.set_ttl(CookieDuration::minutes(20));
        assert_eq!((idle(s), absolute(s)), (Some(HOUR / 3), Some(HOUR / 2)));
    };
    browser.visit(login).await.assert_sets_cookie();
    tested.clock().advance(Duration::from_secs(600));
    let logout = |s: &Session| {
        assert_eq!(absolute(s), Some(HOUR / 3));
        s.reauthenticated().unwrap();
        assert_eq!((idle(s), absolute(s)), (Some(HOUR / 3), Some(HOUR / 2)));
        s.clear();
        assert_eq!((idle(s), absolute(s)), (Some(HOUR), Some(12 * HOUR - 600)));
        s.purge();
        assert_eq!(s.remaining(), None);
    };
    browser.visit(logout).await.assert_removes_cookie();
    assert_eq!(Session::new().remaining(), None);
}

async fn the_absolute_time_counts_down(tested: impl TestStore) {
    let builder = tested
        .middleware()
        .absolute_timeout(CookieDuration::minutes(30));
    let browser = Browser::new(site(builder, 1, OnEveryRequest).await);
    start(&browser).await;
    for minutes in 1..30 {
        tested.clock().advance(Duration::from_secs(60));
        let mut left = None;
        browser.visit_path("/quiet", |s| left = absolute(s)).await;
        assert_eq!(left, Some((30 - minutes) * 60));
    }
    tested.clock().advance(Duration::from_secs(60));
    let mut there = true;
    let look = |s: &Session| there = s.remaining().is_some();
    browser.visit_path("/quiet", look).await.assert_ok();
    assert!(!there);
}

/// What this request ends has no time left.
#[actix_web::test]
async fn a_clear_that_ends_the_session_leaves_no_time() {
    let tested = Memory::start().await;
    let builder = tested
        .middleware()
        .absolute_timeout(CookieDuration::hours(1));
    let browser = tested.browser_of(builder).await;
    browser.visit(|s| s.login("ada").unwrap()).await.assert_ok();
    tested.clock().advance(Duration::from_secs(1_800));
    browser
        .visit(|s| s.reauthenticated().unwrap())
        .await
        .assert_ok();
    tested.clock().advance(Duration::from_secs(1_801));
    let clear = |s: &Session| {
        assert!(s.remaining().is_some());
        s.clear();
        assert_eq!(s.remaining(), None);
    };
    browser.visit(clear).await.assert_removes_cookie();
}

/// Whoever logs out by the entry leaves a session of nobody's, or a new one where that is over.
#[actix_web::test]
async fn what_is_set_after_a_logout_by_the_entry_has_its_own_time() {
    let tested = Memory::start().await;
    let builder = tested
        .middleware()
        .principal_entry("user")
        .absolute_timeout(CookieDuration::hours(1));
    let browser = tested.browser_of(builder).await;
    let log_in = |s: &Session| s.insert("user", "ada").unwrap();
    browser.visit(log_in).await.assert_ok();
    tested.clock().advance(Duration::from_secs(1_800));
    browser
        .visit(|s| s.reauthenticated().unwrap())
        .await
        .assert_ok();
    tested.clock().advance(Duration::from_secs(1_801));
    let mut expected = None;
    let log_out = |s: &Session| {
        s.remove("user");
        assert_eq!(s.remaining(), None);
        s.insert("flash", "goodbye").unwrap();
        expected = absolute(s);
    };
    browser.visit(log_out).await.assert_sets_cookie();
    assert_eq!(expected, Some(HOUR));
    browser.visit(|s| assert_eq!(absolute(s), expected)).await;
}

/// What the handler answers.
async fn asked(browser: &Browser, path: &str) -> (StatusCode, Value, Answer) {
    let answer = browser.visit_path(path, |_| ()).await;
    assert_eq!(answer.headers.get(CACHE_CONTROL).unwrap(), "no-store");
    let body = serde_json::from_slice(&answer.body).unwrap();
    (answer.status, body, answer)
}

fn nothing() -> Value {
    json!({ "idle_seconds": null, "absolute_seconds": null })
}

async fn the_handler_tells_each_tab_the_same(tested: impl TestStore) {
    let builder = tested
        .middleware()
        .absolute_timeout(CookieDuration::minutes(30));
    let browser = Browser::new(site(builder, 1, OnEveryRequest).await);
    let (status, body, _) = asked(&browser, "/quiet/remaining").await;
    assert_eq!((status, body), (StatusCode::UNAUTHORIZED, nothing()));
    start(&browser).await;
    tested.clock().advance(Duration::from_secs(600));
    for tab in [browser.clone(), browser.fork()] {
        let (status, body, answer) = asked(&tab, "/quiet/remaining").await;
        answer.assert_no_cookie();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["absolute_seconds"], json!(HOUR / 3));
        let left = body["idle_seconds"].as_u64();
        assert!(left.is_some_and(|left| left <= HOUR / 2), "{body}");
    }
    browser.visit(Session::purge).await.assert_ok();
    let (status, body, _) = asked(&browser, "/quiet/remaining").await;
    assert_eq!((status, body), (StatusCode::UNAUTHORIZED, nothing()));
}

/// A tab asks with the cookie that another tab's request has just renewed.
async fn nobody_is_told_that_a_renewed_session_has_ended(tested: impl TestStore) {
    let browser = Browser::new(site(tested.middleware(), 1, OnEveryRequest).await);
    start(&browser).await;
    let late = browser.fork();
    browser.visit(Session::renew).await.assert_sets_cookie();
    let (status, body, answer) = asked(&late, "/quiet/remaining").await;
    assert_eq!((status, body), (StatusCode::SERVICE_UNAVAILABLE, nothing()));
    assert_eq!(
        answer
            .assert_no_cookie()
            .headers
            .get("retry-after")
            .unwrap(),
        "1"
    );
    // Once the new cookie has come:
    assert_eq!(asked(&browser, "/quiet/remaining").await.0, StatusCode::OK);
}

#[actix_web::test]
async fn nobody_is_told_that_a_session_has_ended_while_the_store_is_down() {
    let tested = Memory::start().await;
    let spy = Spy::new(tested.store());
    let builder = SessionMiddleware::builder(spy.clone(), tested.key().clone());
    let builder = builder.on_load_error(OnLoadError::Anonymous);
    let browser = Browser::new(site(builder, 1, OnEveryRequest).await);
    start(&browser).await;
    spy.refuse(&["open"]);
    let (status, body, _) = asked(&browser, "/quiet/remaining").await;
    assert_eq!((status, body), (StatusCode::SERVICE_UNAVAILABLE, nothing()));
}

/// The store tells the end of what it has loaded, whatever the lifecycle.
#[actix_web::test]
async fn an_idle_session_counts_down_and_ends_while_a_page_asks() {
    let tested = Memory::start().await;
    for policy in [OnEveryRequest, OnStateChanges] {
        let browser = Browser::new(site(tested.middleware(), 1, policy).await);
        counts_down(&browser, tested.clock()).await;
    }
}

async fn counts_down(browser: &Browser, clock: &ManualClock) {
    start(browser).await;
    for minutes in 1..60 {
        clock.advance(Duration::from_secs(60));
        let (status, body, answer) = asked(browser, "/quiet/remaining").await;
        answer.assert_no_cookie();
        assert_eq!(
            (status, &body["idle_seconds"]),
            (StatusCode::OK, &json!(HOUR - 60 * minutes))
        );
    }
    clock.advance(Duration::from_secs(60));
    let (status, ..) = asked(browser, "/quiet/remaining").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

/// Where the question is not quiet, it is activity.
#[actix_web::test]
async fn a_question_that_is_not_quiet_extends() {
    let tested = Memory::start().await;
    let browser = Browser::new(site(tested.middleware(), 1, OnEveryRequest).await);
    start(&browser).await;
    for _ in 0..3 {
        tested.clock().advance(Duration::from_secs(HOUR - 1));
        let (status, body, answer) = asked(&browser, "/remaining").await;
        assert_eq!(
            (status, &body["idle_seconds"]),
            (StatusCode::OK, &json!(HOUR))
        );
        answer.assert_sets_cookie();
    }
}

#[actix_web::test]
async fn a_cookie_that_holds_its_session_is_quiet() {
    let clock = ManualClock::new();
    let builder = || {
        let builder = SessionMiddleware::builder(CookieSessionStore::default(), KEY.clone());
        builder.clock(clock.clone())
    };
    for policy in [OnEveryRequest, OnStateChanges] {
        let browser = Browser::new(site(builder(), 1, policy).await);
        counts_down(&browser, &clock).await;
        browser.forget();
        start(&browser).await;
        for minutes in 1..60 {
            clock.advance(Duration::from_secs(60));
            let answer = browser.visit_path("/quiet", write).await;
            // The state is in the cookie, which ends when it would have.
            let age = answer.assert_ok().assert_sets_cookie().max_age();
            assert_eq!(age, Some(3_600 - 60 * minutes));
        }
        let renewal = browser.visit_path("/quiet", Session::renew).await;
        assert_eq!(renewal.max_age(), Some(60));
        assert_eq!(left(&browser).await, Some(60));
        clock.advance(Duration::from_secs(60));
        assert_eq!(left(&browser).await, None);
    }
}

static KEY: std::sync::LazyLock<Key> = std::sync::LazyLock::new(Key::generate);

/// A wrapper of five methods over one of ours: the end stays. It cannot be told.
#[actix_web::test]
async fn a_quiet_change_through_five_methods_moves_no_end() {
    let tested = Memory::start().await;
    let wrapped = || {
        let store = Wrapper(tested.store());
        let builder = SessionMiddleware::builder(store, tested.key().clone());
        builder.clock(tested.clock().clone())
    };
    let browser = Browser::new(site(wrapped(), 1, OnEveryRequest).await);
    start(&browser).await;
    for _ in 1..60 {
        tested.clock().advance(Duration::from_secs(60));
        browser.visit_path("/quiet", write).await.assert_no_cookie();
        assert_eq!(left(&browser).await, None);
    }
    let plain = browser.at(site(tested.middleware(), 1, OnStateChanges).await);
    assert_eq!(left(&plain).await, Some(60));
    tested.clock().advance(Duration::from_secs(60));
    assert!(browser.is_nobody().await);
}

#[actix_web::test]
async fn a_store_of_five_methods_tells_what_it_was_told() {
    let browser = custom(FiveMethods::default()).await;
    browser.visit(write).await.assert_ok();
    let loaded = |s: &Session| {
        let left = s.remaining().unwrap();
        assert_eq!((left.idle(), left.absolute()), (None, None));
        write(s);
        assert_about(idle(s), 24);
    };
    browser.visit(loaded).await.assert_ok();
}
