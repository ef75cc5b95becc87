//! Levels of authentication: who raises them, and what takes them back.

use std::time::Duration;

use actix_session::{
    AuthRefusal, Level, Login, Session, SessionAuthError, SessionMiddleware,
    config::{SessionMiddlewareBuilder, WireFormat},
    storage::{CookieSessionStore, SessionStore},
    testing::ManualClock,
};
use actix_web::{
    ResponseError as _,
    body::to_bytes,
    cookie::Key,
    http::{StatusCode, header::CACHE_CONTROL},
};
use serde_json::{Value, json};

use crate::{
    expiry::write,
    five_methods::{FiveMethods, Wrapper},
    support::{Browser, Site, TestStore, on_each_store},
};

on_each_store! {
    levels_are_kept,
    levels_are_kept_in_the_older_format,
    levels_are_kept_through_five_methods,
    a_demand_reaches_a_renewed_session,
    a_demand_may_be_saved_at_once,
    a_demand_behind_a_later_authentication_is_answered,
    an_authentication_before_the_demand_does_not_answer_it,
    a_demand_with_a_renewal_that_comes_too_late_holds,
    levels_and_changes_of_parallel_requests_add_up,
    a_lowered_level_is_written_once,
    a_login_that_was_called_before_the_demand_does_not_answer_it,
}

const MINUTE: Duration = Duration::from_secs(60);
const EVER: Duration = Duration::MAX;

fn login(level: Level) -> impl Fn(&Session) {
    move |s| s.login_with(Login::new("user-42").level(level)).unwrap()
}

fn proves(level: Level) -> impl Fn(&Session) {
    move |s| s.reauthenticated_at_level(level).unwrap()
}

fn demands(session: &Session) {
    session.demand_reauth("a new country");
}

/// Why a level is refused, asked in a request of its own.
async fn refusal(browser: &Browser, level: Level, max_age: Duration) -> Option<AuthRefusal> {
    let mut refusal = None;
    let ask = |s: &Session| refusal = s.require_auth(level, max_age).err();
    browser.visit(ask).await.assert_ok();
    refusal.map(|error| error.reason())
}

async fn level(browser: &Browser) -> Option<Level> {
    let mut level = None;
    browser.visit(|s| level = s.level()).await.assert_ok();
    level
}

async fn levels_are_kept(tested: impl TestStore) {
    keeps_levels(tested.middleware(), tested.clock()).await;
}

async fn levels_are_kept_in_the_older_format(tested: impl TestStore) {
    let builder = tested.middleware().wire_format(WireFormat::V0_11);
    keeps_levels(builder, tested.clock()).await;
}

async fn levels_are_kept_through_five_methods(tested: impl TestStore) {
    let store = Wrapper(tested.store());
    let builder = SessionMiddleware::builder(store, tested.key().clone());
    keeps_levels(builder.clock(tested.clock().clone()), tested.clock()).await;
}

#[actix_web::test]
async fn levels_are_kept_in_a_cookie_and_by_a_store_of_five_methods() {
    let clock = ManualClock::new();
    let builder = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate());
    keeps_levels(builder.clock(clock.clone()), &clock).await;
    let builder = SessionMiddleware::builder(FiveMethods::default(), Key::generate());
    keeps_levels(builder.clock(clock.clone()), &clock).await;
}

async fn keeps_levels<S: SessionStore + 'static>(
    builder: SessionMiddlewareBuilder<S>,
    clock: &ManualClock,
) {
    let browser = Browser::new(Site::new(builder.build()).await);
    grows_old(&browser, clock).await;
    is_taken_back(&browser, clock).await;
    is_demanded(&browser, clock).await;
    remembers_without_a_proof(&browser).await;
}

/// Each level grows old by itself; neither activity nor a renewal refreshes it.
async fn grows_old(browser: &Browser, clock: &ManualClock) {
    use AuthRefusal::{Anonymous, LevelTooLow, TooOld};
    assert_eq!(refusal(browser, Level::Zero, EVER).await, Some(Anonymous));
    browser.visit(login(Level::Two)).await.assert_sets_cookie();
    assert_eq!(refusal(browser, Level::Two, MINUTE).await, None);
    assert_eq!(
        refusal(browser, Level::Three, EVER).await,
        Some(LevelTooLow)
    );
    clock.advance(MINUTE);
    browser.visit(write).await.assert_ok();
    browser.visit(Session::renew).await.assert_sets_cookie();
    for level in [Level::Zero, Level::One, Level::Two] {
        assert_eq!(refusal(browser, level, MINUTE).await, Some(TooOld));
        assert_eq!(refusal(browser, level, MINUTE * 2).await, None);
    }
    // A password makes no second factor recent, and takes none back.
    browser.visit(proves(Level::One)).await.assert_sets_cookie();
    assert_eq!(refusal(browser, Level::One, MINUTE).await, None);
    assert_eq!(refusal(browser, Level::Two, MINUTE).await, Some(TooOld));
    assert_eq!(level(browser).await, Some(Level::Two));
    browser
        .visit(proves(Level::Three))
        .await
        .assert_sets_cookie();
    for level in [Level::One, Level::Two, Level::Three] {
        assert_eq!(refusal(browser, level, MINUTE).await, None);
    }
}

async fn is_taken_back(browser: &Browser, clock: &ManualClock) {
    let lower = |s: &Session| {
        s.lower_level(Level::One);
        assert_eq!(s.level(), Some(Level::One));
    };
    let before = browser.value();
    browser.visit(lower).await.assert_ok();
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    let too_low = Some(AuthRefusal::LevelTooLow);
    assert_eq!(refusal(browser, Level::Two, EVER).await, too_low);
    assert_eq!(refusal(browser, Level::One, EVER).await, None);
    assert!(before.is_some());
    // Nothing but an authentication raises it: not the same call with a higher level.
    browser
        .visit(|s| s.lower_level(Level::Three))
        .await
        .assert_ok();
    assert_eq!(level(browser).await, Some(Level::One));
    clock.advance(MINUTE);
    browser.visit(proves(Level::Two)).await.assert_sets_cookie();
    assert_eq!(level(browser).await, Some(Level::Two));
    // The next login has the level that it says, and no other.
    browser.visit(login(Level::One)).await.assert_sets_cookie();
    assert_eq!(level(browser).await, Some(Level::One));
    browser.visit(Session::clear).await.assert_ok();
    assert_eq!(level(browser).await, None);
}

async fn is_demanded(browser: &Browser, clock: &ManualClock) {
    let demanded = Some(AuthRefusal::Demanded);
    browser.visit(demands).await.assert_ok();
    assert_eq!(level(browser).await, None, "nobody is logged in");
    browser.visit(login(Level::Two)).await.assert_sets_cookie();
    browser.visit(demands).await.assert_ok();
    let acts: [fn(&Session); 4] = [
        write,
        Session::renew,
        |s| s.lower_level(Level::Two),
        |s| s.set_ttl(actix_web::cookie::time::Duration::DAY),
    ];
    for act in acts {
        browser.visit(act).await.assert_ok();
        clock.advance(MINUTE);
        for level in [Level::Zero, Level::One, Level::Two] {
            assert_eq!(refusal(browser, level, EVER).await, demanded);
        }
    }
    let mut reason = None;
    browser.visit(|s| reason = s.reauth_demand()).await;
    assert_eq!(reason.as_deref(), Some("a new country"));
    browser.visit(proves(Level::One)).await.assert_sets_cookie();
    assert_eq!(refusal(browser, Level::One, MINUTE).await, None);
    // What was proven before it counts no longer.
    let too_low = Some(AuthRefusal::LevelTooLow);
    assert_eq!(refusal(browser, Level::Two, EVER).await, too_low);
    let in_one_request = |s: &Session| {
        demands(s);
        s.reauthenticated_at_level(Level::Two).unwrap();
        assert_eq!((s.level(), s.reauth_demand()), (Some(Level::Two), None));
        demands(s);
        assert_eq!(s.level(), Some(Level::Zero));
    };
    browser.visit(in_one_request).await.assert_sets_cookie();
    assert_eq!(refusal(browser, Level::One, EVER).await, demanded);
    let another = |s: &Session| {
        login(Level::Two)(s);
        demands(s);
    };
    browser.visit(another).await.assert_sets_cookie();
    assert_eq!(refusal(browser, Level::One, EVER).await, demanded);
    browser.visit(login(Level::One)).await.assert_sets_cookie();
    assert_eq!(refusal(browser, Level::One, EVER).await, None);
}

async fn remembers_without_a_proof(browser: &Browser) {
    browser.visit(login(Level::Zero)).await.assert_sets_cookie();
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    assert_eq!(level(browser).await, Some(Level::Zero));
    assert_eq!(refusal(browser, Level::Zero, EVER).await, None);
    let too_low = Some(AuthRefusal::LevelTooLow);
    assert_eq!(refusal(browser, Level::One, EVER).await, too_low);
    let nothing = |s: &Session| assert!(s.reauthenticated_at_level(Level::Zero).is_err());
    browser.visit(nothing).await.assert_ok().assert_no_cookie();
    browser.visit(proves(Level::One)).await.assert_sets_cookie();
    assert_eq!(level(browser).await, Some(Level::One));
}

async fn logged_in(tested: &impl TestStore) -> Browser {
    let browser = tested.browser().await;
    browser.visit(login(Level::Two)).await.assert_sets_cookie();
    tested.clock().advance(MINUTE);
    browser
}

/// A renewal takes a right along that a request in flight takes away.
async fn a_demand_reaches_a_renewed_session(tested: impl TestStore) {
    let acts: [fn(&Session); 2] = [demands, |s| s.lower_level(Level::Zero)];
    for act in acts {
        let browser = logged_in(&tested).await;
        let late = browser.begin().await;
        act(&late);
        late.insert("late", 1).unwrap();
        browser.visit(Session::renew).await.assert_sets_cookie();
        browser.visit(Session::renew).await.assert_sets_cookie();
        late.finish().await.assert_ok().assert_no_cookie();
        assert_eq!(level(&browser).await, Some(Level::Zero));
        assert_eq!(browser.number("late").await, Some(1));
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    }
}

async fn a_demand_may_be_saved_at_once(tested: impl TestStore) {
    let demanded = Some(AuthRefusal::Demanded);
    let browser = logged_in(&tested).await;
    let flight = browser.begin().await;
    demands(&flight);
    flight.save().await.unwrap();
    assert_eq!(flight.level(), Some(Level::Zero));
    assert_eq!(refusal(&browser, Level::One, EVER).await, demanded);
    // Somebody answers it, and what is saved is not said again.
    tested.clock().advance(MINUTE);
    browser.visit(proves(Level::Two)).await.assert_sets_cookie();
    flight.insert("late", 1).unwrap();
    flight.finish().await.assert_ok();
    assert_eq!(refusal(&browser, Level::Two, MINUTE).await, None);
}

async fn a_demand_behind_a_later_authentication_is_answered(tested: impl TestStore) {
    let answers: [fn(&Session); 2] = [
        |s| s.reauthenticated().unwrap(),
        |s| s.login("user-42").unwrap(),
    ];
    for answer in answers {
        let browser = logged_in(&tested).await;
        let late = browser.begin().await;
        demands(&late);
        tested.clock().advance(MINUTE);
        browser.visit(answer).await.assert_sets_cookie();
        late.finish().await.assert_ok().assert_no_cookie();
        assert_eq!(refusal(&browser, Level::One, MINUTE).await, None);
        // What was proven before the demand counts no longer.
        let too_low = Some(AuthRefusal::LevelTooLow);
        assert_eq!(refusal(&browser, Level::Two, EVER).await, too_low);
    }
}

async fn an_authentication_before_the_demand_does_not_answer_it(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let proof = browser.begin().await;
    proof.reauthenticated_at_level(Level::Two).unwrap();
    tested.clock().advance(MINUTE);
    browser.visit(demands).await.assert_ok();
    proof.finish().await.assert_sets_cookie();
    let demanded = Some(AuthRefusal::Demanded);
    assert_eq!(refusal(&browser, Level::One, EVER).await, demanded);
    browser.visit(proves(Level::One)).await.assert_sets_cookie();
    assert_eq!(refusal(&browser, Level::One, EVER).await, None);
}

async fn a_demand_with_a_renewal_that_comes_too_late_holds(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    late.renew();
    demands(&late);
    browser.visit(Session::renew).await.assert_sets_cookie();
    late.finish().await.assert_ok().assert_no_cookie();
    let demanded = Some(AuthRefusal::Demanded);
    assert_eq!(refusal(&browser, Level::One, EVER).await, demanded);
    assert_eq!(tested.dump().await.records().len(), 1);
}

async fn levels_and_changes_of_parallel_requests_add_up(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let (lowers, writes) = (browser.begin().await, browser.begin().await);
    let renews = browser.begin().await;
    lowers.lower_level(Level::One);
    write(&writes);
    renews.renew();
    for flight in [writes, lowers] {
        flight.finish().await.assert_ok();
    }
    renews.finish().await.assert_sets_cookie();
    assert_eq!(level(&browser).await, Some(Level::One));
    assert_eq!(browser.number("n").await, Some(1));
    // A logout wins, and the next login takes nothing over.
    let lowers = browser.begin().await;
    demands(&lowers);
    browser.visit(Session::clear).await.assert_ok();
    lowers.finish().await.assert_ok();
    assert_eq!(level(&browser).await, None);
    browser.visit(login(Level::Two)).await.assert_sets_cookie();
    assert_eq!(refusal(&browser, Level::Two, EVER).await, None);
}

async fn a_login_that_was_called_before_the_demand_does_not_answer_it(tested: impl TestStore) {
    let browser = tested.browser().await;
    let log_in = |s: &Session| s.login_with(Login::new("alice").level(Level::Two)).unwrap();
    browser.visit(log_in).await.assert_ok();
    tested.clock().advance(MINUTE);
    let flight = browser.begin().await;
    log_in(&flight);
    tested.clock().advance(MINUTE);
    let demand = |s: &Session| s.demand_reauth("a leak");
    browser.fork().visit(demand).await.assert_ok();
    flight.finish().await.assert_ok();
    browser
        .visit(|s| assert_eq!(s.reauth_demand().as_deref(), Some("a leak")))
        .await;
    // The next one answers it.
    tested.clock().advance(MINUTE);
    browser.visit(log_in).await.assert_ok();
    browser.visit(|s| assert_eq!(s.reauth_demand(), None)).await;
}

async fn a_lowered_level_is_written_once(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let acts: [fn(&Session); 2] = [demands, |s| s.lower_level(Level::One)];
    browser.visit(acts[1]).await.assert_ok();
    let before = tested.dump().await.sorted();
    browser.visit(acts[1]).await.assert_ok();
    assert_eq!(tested.dump().await.sorted(), before);
    let guest = Browser::new(browser.site.clone());
    for act in acts {
        guest.visit(act).await.assert_ok().assert_no_cookie();
    }
    assert_eq!(tested.dump().await.sorted(), before);
}

async fn answered(error: &SessionAuthError) -> (StatusCode, Value) {
    let response = error.error_response();
    let (status, cache) = (
        response.status(),
        response.headers().get(CACHE_CONTROL).cloned(),
    );
    assert_eq!(cache.unwrap(), "no-store");
    let body = to_bytes(response.into_body()).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[actix_web::test]
async fn a_refusal_says_where_to_send_the_user() {
    let session = Session::new();
    let refused = |level, max_age| session.require_auth(level, max_age).unwrap_err();
    let (status, body) = answered(&refused(Level::Two, EVER)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body, json!({ "error": "login_required" }));
    let insufficient = |reason, level| {
        let error = "insufficient_user_authentication";
        json!({ "error": error, "reason": reason, "level": level })
    };
    session.login("user-42").unwrap();
    let (status, body) = answered(&refused(Level::Two, EVER)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body, insufficient("level_too_low", 2));
    let (status, body) = answered(&refused(Level::One, Duration::ZERO)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body, insufficient("too_old", 1));
    session.demand_reauth("x".repeat(1_000));
    let error = refused(Level::One, EVER);
    assert_eq!(
        (error.level(), error.demand().map(str::len)),
        (Level::One, Some(256))
    );
    let (status, body) = answered(&error).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body, insufficient("demanded", 1));
}
