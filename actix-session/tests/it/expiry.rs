//! When sessions end by themselves. Time is moved, never waited for.

use std::time::Duration;

use actix_session::{
    Session, SessionMiddleware,
    config::{
        BrowserSession, CookieContentSecurity, PersistentSession, SessionLifecycle,
        TtlExtensionPolicy,
    },
    storage::CookieSessionStore,
    testing::ManualClock,
};
use actix_web::cookie::{Key, time::Duration as CookieDuration};

use crate::support::{Browser, Memory, Site, TestStore, expected, on_each_store};

pub(crate) const TTL: u64 = 100_500;
const DAY: i64 = 86_400;
/// 30 days in milliseconds, as a record holds them.
const MONTH: &str = ".2592000000.";

on_each_store! {
    the_absolute_end_is_not_pushed_by_activity_or_renewals,
    a_login_and_a_step_up_push_the_absolute_end,
    what_is_past_its_absolute_end_is_not_there,
    no_login_goes_on_with_what_has_come_to_its_end_since_the_load,
    a_ttl_of_ones_own_makes_the_cookie_persistent_and_stays,
    a_ttl_of_ones_own_ends_with_its_login,
    an_entry_set_to_the_value_that_it_has_is_activity,
    a_ttl_alone_makes_no_session,
    a_ttl_of_ones_own_reaches_no_further_than_the_absolute_end,
    a_write_that_came_before_a_new_ttl_does_not_take_it_back,
    the_next_principal_does_not_inherit_a_ttl,
    no_ttl_is_too_short_or_too_long,
}

pub(crate) fn browser_session(ttl: u64, policy: TtlExtensionPolicy) -> SessionLifecycle {
    let ttl = CookieDuration::milliseconds(i64::try_from(ttl).unwrap());
    let lifecycle = BrowserSession::default().state_ttl(ttl);
    lifecycle.state_ttl_extension_policy(policy).into()
}

pub(crate) fn persistent(ttl: u64, policy: TtlExtensionPolicy) -> SessionLifecycle {
    let ttl = CookieDuration::milliseconds(i64::try_from(ttl).unwrap());
    let lifecycle = PersistentSession::default().session_ttl(ttl);
    lifecycle.session_ttl_extension_policy(policy).into()
}

use TtlExtensionPolicy::{OnEveryRequest, OnStateChanges};

pub(crate) fn write(session: &Session) {
    session
        .modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))
        .unwrap();
}

pub(crate) async fn start(browser: &Browser) {
    browser.visit(write).await.assert_ok().assert_sets_cookie();
}

/// The stores whose idle end is compared with the injected clock.
async fn timed(lifecycle: SessionLifecycle) -> Vec<(ManualClock, Browser)> {
    let tested = Memory::start().await;
    let builder = tested.middleware().session_lifecycle(lifecycle.clone());
    let in_memory = tested.browser_of(builder).await;
    let mut all = vec![(tested.clock().clone(), in_memory)];
    for security in [
        CookieContentSecurity::Private,
        CookieContentSecurity::Signed,
    ] {
        let clock = ManualClock::new();
        let builder = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate())
            .clock(clock.clone())
            .cookie_content_security(security)
            .session_lifecycle(lifecycle.clone());
        all.push((clock, Browser::new(Site::new(builder.build()).await)));
    }
    all
}

pub(crate) fn advance(clock: &ManualClock, millis: u64) {
    clock.advance(Duration::from_millis(millis));
}

#[actix_web::test]
async fn an_idle_session_ends_to_the_millisecond() {
    for lifecycle in [
        browser_session(TTL, OnStateChanges),
        persistent(TTL, OnStateChanges),
    ] {
        for (clock, browser) in timed(lifecycle).await {
            start(&browser).await;
            advance(&clock, TTL - 1);
            assert_eq!(browser.number("n").await, Some(1));
            // A copy of the cookie is no way around it, whatever browsers do with it.
            let replayed = browser.fork();
            advance(&clock, 1);
            assert!(replayed.is_nobody().await);
            browser.visit(|_| ()).await.assert_ok().assert_no_cookie();
            // What comes next is another session.
            let before = replayed.value();
            start(&replayed).await;
            assert_ne!(replayed.value(), before);
            assert_eq!(replayed.number("n").await, Some(1));
        }
    }
}

#[actix_web::test]
async fn reading_extends_only_where_that_was_asked_for() {
    for (policy, lives) in [(OnStateChanges, false), (OnEveryRequest, true)] {
        for lifecycle in [
            browser_session(TTL, policy.clone()),
            persistent(TTL, policy),
        ] {
            for (clock, browser) in timed(lifecycle).await {
                start(&browser).await;
                for _ in 0..5 {
                    advance(&clock, TTL - 1);
                    browser.visit(|_| ()).await.assert_ok();
                }
                assert_eq!(browser.number("n").await.is_some(), lives);
            }
        }
    }
}

#[actix_web::test]
async fn changes_extend() {
    for (clock, browser) in timed(browser_session(TTL, OnStateChanges)).await {
        start(&browser).await;
        for _ in 0..5 {
            advance(&clock, TTL - 1);
            browser.visit(write).await.assert_ok();
        }
        assert_eq!(browser.number("n").await, Some(6));
        advance(&clock, TTL - 1);
        browser.visit(Session::renew).await.assert_sets_cookie();
        advance(&clock, TTL - 1);
        assert_eq!(browser.number("n").await, Some(6));
        advance(&clock, 1);
        assert!(browser.is_nobody().await);
    }
}

#[actix_web::test]
async fn an_old_value_of_a_cookie_stored_session_keeps_its_own_end() {
    for (clock, browser) in timed(persistent(TTL, OnEveryRequest)).await.split_off(1) {
        start(&browser).await;
        let old = browser.fork();
        advance(&clock, TTL - 1);
        browser.visit(|_| ()).await.assert_sets_cookie();
        advance(&clock, 1);
        assert_eq!(browser.number("n").await, Some(1));
        assert!(old.is_nobody().await);
    }
}

#[actix_web::test]
async fn a_cookie_stored_session_has_an_absolute_end_too() {
    let clock = ManualClock::new();
    let builder = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate())
        .clock(clock.clone())
        .session_lifecycle(persistent(TTL, OnEveryRequest))
        .absolute_timeout(CookieDuration::milliseconds(250_000));
    let browser = Browser::new(Site::new(builder.build()).await);
    start(&browser).await;
    for _ in 0..2 {
        advance(&clock, TTL - 500);
        browser.visit(Session::renew).await.assert_sets_cookie();
    }
    advance(&clock, 49_999);
    let answer = browser.visit(write).await;
    assert_eq!(answer.max_age(), Some(1), "a whole second at least");
    advance(&clock, 1);
    assert!(browser.is_nobody().await);
}

#[actix_web::test]
async fn a_response_after_the_end_of_its_session_does_not_bring_it_back() {
    for (clock, browser) in timed(persistent(TTL, OnStateChanges)).await {
        browser.visit(|s| s.login("user-42").unwrap()).await;
        start(&browser).await;
        let (write_late, same, renewal, clear) = (
            browser.begin().await,
            browser.begin().await,
            browser.begin().await,
            browser.begin().await,
        );
        let login = browser.begin().await;
        advance(&clock, TTL);
        write(&write_late);
        same.insert("n", 1).unwrap();
        renewal.renew();
        renewal.insert("late", 1).unwrap();
        clear.clear();
        clear.insert("late", 1).unwrap();
        for late in [write_late, same, renewal, clear] {
            late.finish().await.assert_ok().assert_no_cookie();
        }
        assert!(browser.is_nobody().await);
        // A login makes a session of what it has set itself.
        login.login("user-42").unwrap();
        login.finish().await.assert_ok().assert_sets_cookie();
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
        assert_eq!(browser.number("n").await, None);
    }
}

#[actix_web::test]
async fn a_response_after_the_absolute_end_sets_no_cookie() {
    let clock = ManualClock::new();
    let builder = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate())
        .clock(clock.clone())
        .session_lifecycle(persistent(TTL, OnEveryRequest))
        .absolute_timeout(CookieDuration::milliseconds(150_000));
    let browser = Browser::new(Site::new(builder.build()).await);
    start(&browser).await;
    let (late, reader) = (browser.begin().await, browser.begin().await);
    advance(&clock, 150_000);
    write(&late);
    for late in [late, reader] {
        late.finish().await.assert_ok().assert_no_cookie();
    }
    assert!(browser.is_nobody().await);
}

#[actix_web::test]
async fn a_write_that_ends_after_its_session_is_gone() {
    let tested = Memory::start().await;
    let lifecycle = browser_session(TTL, OnStateChanges);
    let builder = tested.middleware().session_lifecycle(lifecycle);
    let browser = tested.browser_of(builder).await;
    start(&browser).await;
    advance(tested.clock(), TTL - 10);
    let (late, touch) = (browser.begin().await, browser.begin().await);
    advance(tested.clock(), 10);
    late.insert("late", 1).unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    touch.finish().await.assert_ok().assert_no_cookie();
    // The record is still there, and nobody sees it.
    let dump = tested.dump().await;
    assert_eq!(dump.only(), expected(&[("n", "1")]));
    assert!(browser.is_nobody().await);
    // A request that loaded in time, and extends by loading, works to its end.
    let lifecycle = persistent(TTL, OnEveryRequest);
    let builder = tested.middleware().session_lifecycle(lifecycle);
    let browser = tested.browser_of(builder).await;
    start(&browser).await;
    advance(tested.clock(), TTL - 10);
    let slow = browser.begin().await;
    advance(tested.clock(), 50);
    slow.finish().await.assert_ok().assert_sets_cookie();
    assert_eq!(browser.number("n").await, Some(1));
}

/// A session with a middleware whose sessions are bounded by 1000 s, and idle after 600 s.
async fn bounded(tested: &impl TestStore) -> Browser {
    let builder = tested
        .middleware()
        .session_lifecycle(persistent(600_000, OnEveryRequest))
        .absolute_timeout(CookieDuration::seconds(1000));
    let browser = tested.browser_of(builder).await;
    start(&browser).await;
    browser
}

async fn the_absolute_end_is_not_pushed_by_activity_or_renewals(tested: impl TestStore) {
    let browser = bounded(&tested).await;
    let acts: [fn(&Session); 4] = [
        |_| (),
        write,
        Session::renew,
        // A step-up logs in nobody who was logged out, and `clear` keeps the end as well.
        Session::clear,
    ];
    for (step, act) in acts.into_iter().enumerate() {
        advance(tested.clock(), 200_000);
        let answer = browser.visit(act).await;
        // The cookie ends with the session, not after it.
        let left = 1000 - 200 * (i64::try_from(step).unwrap() + 1);
        assert_eq!(answer.max_age(), Some(left.min(600)));
    }
    let present = browser.visit(write).await;
    assert_eq!(present.max_age(), Some(200));
    advance(tested.clock(), 199_999);
    assert_eq!(browser.number("n").await, Some(1));
    advance(tested.clock(), 1);
    assert!(browser.is_nobody().await);
}

async fn a_login_and_a_step_up_push_the_absolute_end(tested: impl TestStore) {
    let browser = bounded(&tested).await;
    advance(tested.clock(), 500_000);
    browser.visit(|s| s.login("user-42").unwrap()).await;
    for _ in 0..3 {
        advance(tested.clock(), 300_000);
        browser.visit(|_| ()).await.assert_ok().assert_sets_cookie();
    }
    // 900 s after the login, and 1400 s after the session was made.
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    browser.visit(|s| s.reauthenticated().unwrap()).await;
    for _ in 0..3 {
        advance(tested.clock(), 333_000);
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    }
    advance(tested.clock(), 1_000);
    assert!(browser.is_nobody().await);
}

crate::support::on_store! { in_cookies InCookie: no_login_goes_on_with_what_has_come_to_its_end_since_the_load }

/// Such a step would give it another end.
async fn no_login_goes_on_with_what_has_come_to_its_end_since_the_load(tested: impl TestStore) {
    for steps_up in [false, true] {
        let browser = bounded(&tested).await;
        browser.visit(|s| s.login("user-42").unwrap()).await;
        advance(tested.clock(), 500_000);
        browser.visit(|_| ()).await.assert_ok();
        let (late, step_up) = (browser.begin().await, browser.fork().begin().await);
        let other = browser.fork();
        if steps_up {
            // It gets a later end, and another key.
            other.visit(|s| s.reauthenticated().unwrap()).await;
        } else {
            step_up.reauthenticated().unwrap();
        }
        advance(tested.clock(), 500_001);
        step_up.finish().await.assert_no_cookie();
        late.login("user-42").unwrap();
        late.finish().await.assert_ok().assert_sets_cookie();
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
        assert_eq!(browser.number("n").await, None);
        assert_eq!(other.number("n").await, steps_up.then_some(1));
    }
}

async fn what_is_past_its_absolute_end_is_not_there(tested: impl TestStore) {
    let browser = bounded(&tested).await;
    let flights = [
        browser.begin().await,
        browser.begin().await,
        browser.begin().await,
    ];
    let before = browser.value();
    for _ in 0..2 {
        advance(tested.clock(), 499_000);
        browser.visit(|_| ()).await.assert_ok();
    }
    advance(tested.clock(), 2_000);
    let [writes, touches, renews] = flights;
    writes.insert("late", 1).unwrap();
    renews.renew();
    for flight in [writes, touches, renews] {
        flight.finish().await.assert_ok().assert_no_cookie();
    }
    // The record is still there, since nothing has swept it, and no request sees it.
    let dump = tested.dump().await;
    assert_eq!(dump.only(), expected(&[("n", "1")]));
    assert_eq!(dump.redirects(), 0);
    assert!(browser.is_nobody().await);
    browser.visit(write).await.assert_ok().assert_sets_cookie();
    assert_ne!(browser.value(), before);
    assert_eq!(browser.number("n").await, Some(1));
}

async fn a_ttl_of_ones_own_makes_the_cookie_persistent_and_stays(tested: impl TestStore) {
    let lifecycle = browser_session(TTL, OnEveryRequest);
    let builder = tested.middleware().session_lifecycle(lifecycle);
    let browser = tested.browser_of(builder).await;
    let answer = browser.visit(write).await;
    assert_eq!(answer.max_age(), None);
    let month = Some(30 * DAY);
    let acts: [fn(&Session); 5] = [
        |s| {
            s.set_ttl(CookieDuration::days(30));
            s.login("user-42").unwrap();
        },
        write,
        |_| (),
        Session::renew,
        |s| s.reauthenticated().unwrap(),
    ];
    for act in acts {
        let answer = browser.visit(act).await;
        answer.assert_ok().assert_sets_cookie();
        assert_eq!(answer.max_age(), month);
        // Many times the configured time, and less than the session's own.
        advance(tested.clock(), 50 * TTL);
    }
    browser.visit(write).await;
    let kiosk = browser
        .visit(|s| s.set_ttl(CookieDuration::minutes(5)))
        .await;
    assert_eq!(kiosk.max_age(), Some(300));
    assert_eq!(browser.visit(|_| ()).await.max_age(), Some(300));
}

/// Programs that set their user id again on every request stay logged in.
async fn an_entry_set_to_the_value_that_it_has_is_activity(tested: impl TestStore) {
    let lifecycle = persistent(TTL, OnStateChanges);
    let browser = tested
        .browser_of(tested.middleware().session_lifecycle(lifecycle))
        .await;
    let write = |s: &Session| s.insert("user_id", 42).unwrap();
    browser.visit(write).await.assert_sets_cookie();
    let before = tested.dump().await.only();
    for act in [
        write,
        |s: &Session| s.update("user_id", |id: u32| id).unwrap(),
        |s: &Session| s.modify("user_id", |id: Option<u32>| id).unwrap(),
    ] {
        let answer = browser.visit(act).await;
        answer.assert_ok().assert_sets_cookie();
        assert_eq!(tested.dump().await.only(), before);
    }
    let remove = |s: &Session| drop(s.remove("no such entry"));
    browser.visit(remove).await.assert_ok().assert_no_cookie();
}

#[actix_web::test]
async fn an_entry_set_to_the_value_that_it_has_extends_the_session() {
    let tested = Memory::start().await;
    let lifecycle = browser_session(TTL, OnStateChanges);
    let browser = tested
        .browser_of(tested.middleware().session_lifecycle(lifecycle))
        .await;
    let again = |s: &Session| s.insert("user_id", 42).unwrap();
    for _ in 0..5 {
        browser.visit(again).await.assert_ok();
        advance(tested.clock(), TTL - 1);
    }
    assert!(!browser.is_nobody().await);
    advance(tested.clock(), 1);
    assert!(browser.is_nobody().await);
}

/// Whoever logs in next must not inherit "remember me".
async fn a_ttl_of_ones_own_ends_with_its_login(tested: impl TestStore) {
    let month = |s: &Session| {
        s.login("user-42").unwrap();
        s.set_ttl(CookieDuration::days(30));
    };
    let next = |s: &Session| s.login("user-7").unwrap();
    let ends: [fn(&Session); 5] = [
        next,
        |s| s.login("user-42").unwrap(),
        |s| {
            s.clear();
            s.login("user-7").unwrap();
        },
        |s| {
            s.logout();
            s.insert("flash", 1).unwrap();
        },
        |s| {
            s.set_ttl(CookieDuration::days(30));
            s.purge();
            s.login("user-7").unwrap();
        },
    ];
    for end in ends {
        let browser = tested.browser().await;
        assert_eq!(browser.visit(month).await.max_age(), Some(30 * DAY));
        let answer = browser.visit(end).await;
        answer.assert_ok().assert_sets_cookie();
        assert_eq!(answer.max_age(), None);
        assert!(!tested.dump().await.holds(MONTH));
        browser.visit(Session::purge).await.assert_ok();
    }
    // After a `clear` alone the cookie stays, and the record has the policy's time.
    let browser = tested.browser().await;
    browser.visit(month).await.assert_sets_cookie();
    assert!(tested.dump().await.holds(MONTH));
    browser.visit(Session::clear).await.assert_ok();
    assert!(!tested.dump().await.holds(MONTH));
}

async fn a_ttl_alone_makes_no_session(tested: impl TestStore) {
    let browser = tested.browser().await;
    let set = |s: &Session| s.set_ttl(CookieDuration::days(30));
    browser.visit(set).await.assert_ok().assert_no_cookie();
    tested.dump().await.assert_no_record();
    browser.visit(write).await.assert_sets_cookie();
    let purge = |s: &Session| {
        s.purge();
        s.set_ttl(CookieDuration::days(30));
    };
    browser.visit(purge).await.assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_ttl_of_ones_own_reaches_no_further_than_the_absolute_end(tested: impl TestStore) {
    let builder = tested
        .middleware()
        .absolute_timeout(CookieDuration::days(7));
    let browser = tested.browser_of(builder).await;
    let set = |s: &Session| {
        write(s);
        s.set_ttl(CookieDuration::days(30));
    };
    let answer = browser.visit(set).await;
    assert_eq!(answer.max_age(), Some(7 * DAY));
    tested.clock().advance(Duration::from_secs(6 * 86_400));
    let answer = browser.visit(write).await;
    assert_eq!(answer.max_age(), Some(DAY));
    tested.clock().advance(Duration::from_secs(86_400));
    assert!(browser.is_nobody().await);
}

async fn a_write_that_came_before_a_new_ttl_does_not_take_it_back(tested: impl TestStore) {
    let builder = tested
        .middleware()
        .session_lifecycle(persistent(TTL, OnStateChanges));
    let browser = tested.browser_of(builder).await;
    start(&browser).await;
    let (writes, renews) = (browser.begin().await, browser.begin().await);
    browser
        .visit(|s| s.set_ttl(CookieDuration::days(30)))
        .await
        .assert_sets_cookie();
    write(&writes);
    assert_eq!(writes.finish().await.max_age(), Some(30 * DAY));
    renews.renew();
    assert_eq!(renews.finish().await.max_age(), Some(30 * DAY));
    assert_eq!(browser.visit(write).await.max_age(), Some(30 * DAY));
}

async fn the_next_principal_does_not_inherit_a_ttl(tested: impl TestStore) {
    let browser = tested.browser().await;
    let remember_me = |s: &Session| {
        s.login("user-42").unwrap();
        s.set_ttl(CookieDuration::days(30));
    };
    assert_eq!(browser.visit(remember_me).await.max_age(), Some(30 * DAY));
    let answer = browser.visit(|s| s.login("user-7").unwrap()).await;
    answer.assert_sets_cookie();
    let answer = browser.visit(|s| s.renew()).await;
    assert_eq!(answer.assert_sets_cookie().max_age(), None);
}

async fn no_ttl_is_too_short_or_too_long(tested: impl TestStore) {
    for (ttl, age) in [
        (CookieDuration::ZERO, 1),
        (CookieDuration::seconds(-5), 1),
        (CookieDuration::MIN, 1),
        (CookieDuration::MAX, 400 * DAY),
        (CookieDuration::days(4_000), 400 * DAY),
    ] {
        let lifecycle = PersistentSession::default().session_ttl(ttl);
        let builder = tested.middleware().session_lifecycle(lifecycle);
        let browser = tested.browser_of(builder).await;
        assert_eq!(browser.visit(write).await.max_age(), Some(age));
        let own = tested.browser().await;
        let set = |s: &Session| {
            write(s);
            s.set_ttl(ttl);
        };
        let answer = own.visit(set).await;
        assert_eq!(answer.assert_ok().max_age(), Some(age));
    }
}
