//! The times of one session: its login's own, and the age of its cookie.

use std::time::Duration;

use actix_session::{
    Clock as _, Login, Session, SessionMiddleware,
    config::{PersistentSession, SessionMiddlewareBuilder, TtlExtensionPolicy, WireFormat},
    storage::{CookieSessionStore, SessionKey, SessionStore},
    testing::ManualClock,
};
use actix_web::cookie::{Key, time::Duration as CookieDuration};
use redis::AsyncCommands as _;

use crate::{
    expiry::{TTL, browser_session, persistent, write},
    five_methods::FiveMethods,
    support::{
        Answer, Browser, Memory, Redis, Site, Spy, Sqlite, TestStore, on_each_store, opened,
    },
};

const DAY: i64 = 86_400;
const MONTH: CookieDuration = CookieDuration::days(30);
/// In milliseconds, as a record holds it.
const MONTH_TEXT: &str = ".2592000000";

on_each_store! {
    an_interval_that_is_not_over_costs_nothing,
    the_age_of_the_cookie_is_that_of_the_record,
    what_ends_a_ttl_takes_the_cookies_age,
    a_clear_leaves_the_absolute_end_of_the_creation,
    a_clear_past_the_absolute_end_of_the_creation_ends_the_session,
    a_login_has_times_of_its_own,
    a_login_may_keep_the_times_before_it,
    times_are_set_before_or_after_the_login,
    a_login_after_a_purge_has_no_times_to_keep,
    a_time_that_was_saved_is_that_of_the_login_after_it,
    a_login_that_is_over_at_the_answer_leaves_no_session,
    the_first_absolute_timeout_ends_no_old_session,
}

fn seconds(clock: &ManualClock, seconds: u64) {
    clock.advance(Duration::from_secs(seconds));
}

fn at_most_every(minutes: i64) -> PersistentSession {
    let policy = TtlExtensionPolicy::AtMostEvery(CookieDuration::minutes(minutes));
    let lifecycle = PersistentSession::default().session_ttl(CookieDuration::hours(1));
    lifecycle.session_ttl_extension_policy(policy)
}

#[track_caller]
fn assert_cookie_without_age(answer: &Answer) {
    assert_eq!(answer.assert_ok().assert_sets_cookie().max_age(), None);
}

async fn an_interval_that_is_not_over_costs_nothing(tested: impl TestStore) {
    let spy = Spy::new(tested.store());
    let builder = SessionMiddleware::builder(spy.clone(), tested.key().clone());
    let builder = builder.clock(tested.clock().clone());
    let browser = tested
        .browser_of(builder.session_lifecycle(at_most_every(10)))
        .await;
    let insert = |s: &Session| s.insert("a", 1).unwrap();
    browser.visit(insert).await.assert_sets_cookie();
    spy.calls();
    let acts: [fn(&Session); 2] = [|_| (), insert];
    for act in acts {
        browser.visit(act).await.assert_ok().assert_no_cookie();
        assert_eq!(spy.calls(), ["open"]);
    }
}

#[actix_web::test]
async fn what_an_interval_extends_it_refreshes() {
    let memory = Memory::start().await;
    refreshes_once_an_interval(memory.middleware(), memory.clock()).await;
    let sqlite = Sqlite::start().await;
    refreshes_once_an_interval(sqlite.middleware(), sqlite.clock()).await;
    let clock = ManualClock::new();
    let builder = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate());
    refreshes_once_an_interval(builder.clock(clock.clone()), &clock).await;
}

async fn refreshes_once_an_interval<S: SessionStore + 'static>(
    builder: SessionMiddlewareBuilder<S>,
    clock: &ManualClock,
) {
    let builder = builder.session_lifecycle(at_most_every(10));
    let browser = Browser::new(Site::new(builder.build()).await);
    browser.visit(write).await.assert_sets_cookie();
    for _ in 0..20 {
        seconds(clock, 599);
        browser.visit(|_| ()).await.assert_ok().assert_no_cookie();
        seconds(clock, 1);
        let answer = browser.visit(|_| ()).await;
        assert_eq!(answer.assert_ok().max_age(), Some(3_600));
        browser.visit(|_| ()).await.assert_ok().assert_no_cookie();
    }
}

#[actix_web::test]
async fn what_redis_extends_once_an_interval_is_refreshed() {
    let tested = Redis::start().await;
    let builder = tested.middleware().session_lifecycle(at_most_every(10));
    let browser = tested.browser_of(builder).await;
    browser.visit(write).await.assert_sets_cookie();
    let name = tested.only_name().await;
    let mut connection = tested.connection.clone();
    // Ten minutes before its time.
    let old: bool = connection.pexpire(&name, 3_000_000).await.unwrap();
    assert!(old);
    let answer = browser.visit(|_| ()).await;
    assert_eq!(answer.assert_ok().max_age(), Some(3_600));
    browser.visit(|_| ()).await.assert_ok().assert_no_cookie();
}

async fn the_age_of_the_cookie_is_that_of_the_record(tested: impl TestStore) {
    let browser = tested.browser().await;
    browser.visit(|s| s.login("user-42").unwrap()).await;
    // Another request has set a time since this one loaded the session.
    let (writes, renews) = (browser.begin().await, browser.begin().await);
    let month = browser.visit(|s| s.set_ttl(MONTH)).await;
    assert_eq!(month.max_age(), Some(30 * DAY));
    write(&writes);
    assert_eq!(writes.finish().await.max_age(), Some(30 * DAY));
    renews.renew();
    assert_eq!(renews.finish().await.max_age(), Some(30 * DAY));
    // Another request has taken it back.
    let (writes, renews) = (browser.begin().await, browser.begin().await);
    assert_cookie_without_age(&browser.visit(Session::reset_ttl).await);
    write(&writes);
    assert_eq!(writes.finish().await.assert_ok().max_age(), None);
    renews.renew();
    assert_cookie_without_age(&renews.finish().await);
    // Another request has logged out.
    browser
        .visit(|s| s.set_ttl(MONTH))
        .await
        .assert_sets_cookie();
    let writes = browser.begin().await;
    browser.visit(Session::clear).await.assert_ok();
    write(&writes);
    assert_eq!(writes.finish().await.assert_ok().max_age(), None);
    assert!(!tested.dump().await.holds(MONTH_TEXT));
}

async fn what_ends_a_ttl_takes_the_cookies_age(tested: impl TestStore) {
    let lifecycle = browser_session(TTL, TtlExtensionPolicy::OnEveryRequest);
    let builder = tested.middleware().session_lifecycle(lifecycle);
    let browser = tested.browser_of(builder).await;
    let ends: [fn(&Session); 2] = [Session::clear, Session::reset_ttl];
    for end in ends {
        let month = |s: &Session| {
            s.login("user-42").unwrap();
            s.set_ttl(MONTH);
        };
        assert_eq!(browser.visit(month).await.max_age(), Some(30 * DAY));
        assert_cookie_without_age(&browser.visit(end).await);
        assert!(!tested.dump().await.holds(MONTH_TEXT));
        browser.visit(|_| ()).await.assert_ok().assert_no_cookie();
    }
    // Where there is nothing to take back, nothing happens.
    browser.visit(Session::reset_ttl).await.assert_no_cookie();
    let guest = Browser::new(browser.site.clone());
    guest
        .visit(Session::reset_ttl)
        .await
        .assert_ok()
        .assert_no_cookie();
    assert_eq!(tested.dump().await.records().len(), 1);
}

/// Bounded by 1,000 s, and idle after 600 s. A login at 500 s.
async fn logged_in_late(tested: &impl TestStore) -> Browser {
    let builder = tested
        .middleware()
        .session_lifecycle(persistent(600_000, TtlExtensionPolicy::OnEveryRequest))
        .absolute_timeout(CookieDuration::seconds(1_000));
    let browser = tested.browser_of(builder).await;
    browser.visit(write).await.assert_sets_cookie();
    seconds(tested.clock(), 500);
    browser
        .visit(|s| s.login("user-42").unwrap())
        .await
        .assert_sets_cookie();
    browser
}

async fn a_clear_leaves_the_absolute_end_of_the_creation(tested: impl TestStore) {
    let browser = logged_in_late(&tested).await;
    seconds(tested.clock(), 300);
    let late = browser.begin().await;
    assert_eq!(browser.visit(Session::clear).await.max_age(), Some(200));
    late.insert("late", 1).unwrap();
    assert_eq!(late.finish().await.max_age(), Some(200));
    browser.visit(write).await.assert_ok();
    seconds(tested.clock(), 199);
    assert_eq!(browser.number("n").await, Some(1));
    seconds(tested.clock(), 1);
    assert!(browser.is_nobody().await);
}

async fn a_clear_past_the_absolute_end_of_the_creation_ends_the_session(tested: impl TestStore) {
    let acts: [fn(&Session); 2] = [Session::clear, |s| {
        s.clear();
        s.renew();
    }];
    for act in acts {
        let browser = logged_in_late(&tested).await;
        seconds(tested.clock(), 550);
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
        let thief = browser.fork();
        browser.visit(act).await.assert_removes_cookie();
        assert!(thief.is_nobody().await);
        tested.dump().await.assert_no_record();
    }
    // What follows the `clear` begins a session of its own.
    let browser = logged_in_late(&tested).await;
    seconds(tested.clock(), 550);
    let (thief, before) = (browser.fork(), browser.value());
    let act = |s: &Session| {
        s.clear();
        s.insert("n", 7).unwrap();
    };
    assert_eq!(browser.visit(act).await.max_age(), Some(600));
    assert_ne!(browser.value(), before);
    assert_eq!(browser.number("n").await, Some(7));
    assert!(thief.is_nobody().await);
}

fn remembered(principal: &str) -> Login {
    Login::new(principal).idle(MONTH).absolute(MONTH)
}

async fn a_login_has_times_of_its_own(tested: impl TestStore) {
    let day = 86_400;
    let builder = || {
        let lifecycle = browser_session(TTL, TtlExtensionPolicy::OnEveryRequest);
        let builder = tested.middleware().session_lifecycle(lifecycle);
        builder.absolute_timeout(CookieDuration::hours(12))
    };
    let browser = tested.browser_of(builder()).await;
    let answer = browser
        .visit(|s| s.login_with(remembered("user-42")).unwrap())
        .await;
    assert_eq!(answer.max_age(), Some(30 * DAY));
    let acts: [fn(&Session); 3] = [write, |_| (), Session::renew];
    for (days, act) in acts.into_iter().enumerate() {
        seconds(tested.clock(), day);
        let left = 29 - i64::try_from(days).unwrap();
        assert_eq!(browser.visit(act).await.max_age(), Some(left * DAY));
    }
    // The login's own time counts anew, not the policy's.
    let again = |s: &Session| s.reauthenticated().unwrap();
    assert_eq!(browser.visit(again).await.max_age(), Some(30 * DAY));
    seconds(tested.clock(), 20 * day);
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    // The next login has none, be it the same person's.
    let plain = |s: &Session| s.login("user-42").unwrap();
    assert_cookie_without_age(&browser.visit(plain).await);
    assert!(!tested.dump().await.holds(MONTH_TEXT));
    // Without a policy, too, and until a logout.
    let lifecycle = persistent(10 * 3_600_000, TtlExtensionPolicy::OnEveryRequest);
    let browser =
        browser.at(Site::new(tested.middleware().session_lifecycle(lifecycle).build()).await);
    let hour = |s: &Session| {
        let login = Login::new("user-42").absolute(CookieDuration::hours(1));
        s.login_with(login).unwrap();
    };
    assert_eq!(browser.visit(hour).await.max_age(), Some(3_600));
    assert_eq!(browser.visit(Session::clear).await.max_age(), Some(36_000));
    assert_eq!(browser.visit(hour).await.max_age(), Some(3_600));
    seconds(tested.clock(), 3_599);
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    seconds(tested.clock(), 1);
    assert!(browser.is_nobody().await);
}

async fn a_login_that_is_over_at_the_answer_leaves_no_session(tested: impl TestStore) {
    let hour = CookieDuration::hours(1);
    let clock = tested.clock().clone();
    // The identity provider saw the user 50 minutes ago, and the handler takes 10.
    let old = |s: &Session| {
        let before = clock.now() - Duration::from_secs(3_000);
        let login = Login::new("user-42").authenticated_at(before);
        s.login_with(login.absolute(hour)).unwrap();
        seconds(&clock, 600);
    };
    let slow = |s: &Session| {
        s.login_with(Login::new("user-42").absolute(hour)).unwrap();
        seconds(&clock, 3_600);
    };
    let browser = tested.browser_of(tested.middleware()).await;
    browser.visit(old).await.assert_ok().assert_no_cookie();
    for act in [&old as &dyn Fn(&Session), &slow] {
        browser.visit(write).await.assert_sets_cookie();
        let other_tab = browser.fork();
        browser.visit(act).await.assert_ok().assert_removes_cookie();
        assert!(other_tab.is_nobody().await);
        tested.dump().await.assert_no_record();
    }
    // One after a purge makes no session either.
    browser.visit(write).await.assert_sets_cookie();
    let purging = |s: &Session| {
        s.purge();
        old(s);
    };
    browser.visit(purging).await.assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_login_may_keep_the_times_before_it(tested: impl TestStore) {
    let builder = tested
        .middleware()
        .absolute_timeout(CookieDuration::hours(12));
    let browser = tested.browser_of(builder).await;
    browser
        .visit(|s| s.login_with(remembered("user-42")).unwrap())
        .await
        .assert_sets_cookie();
    seconds(tested.clock(), 10 * 86_400);
    let keeps = |principal: &'static str| {
        move |s: &Session| s.login_with(Login::new(principal).keep_times()).unwrap()
    };
    assert_eq!(
        browser.visit(keeps("user-42")).await.max_age(),
        Some(30 * DAY)
    );
    // Its own come first.
    let shorter = |s: &Session| {
        let login = Login::new("user-42").keep_times();
        s.login_with(login.absolute(CookieDuration::days(7)))
            .unwrap();
    };
    assert_eq!(browser.visit(shorter).await.max_age(), Some(7 * DAY));
    // Nobody else inherits them.
    assert_cookie_without_age(&browser.visit(keeps("user-7")).await);
    assert!(!tested.dump().await.holds(MONTH_TEXT));
    // Nor does whoever logs in where nobody was logged in.
    let guest = browser.fork();
    guest.forget();
    let for_a_month = |s: &Session| {
        s.insert("basket", 1).unwrap();
        s.set_ttl(MONTH);
    };
    // As long as the absolute timeout lets it.
    assert_eq!(guest.visit(for_a_month).await.max_age(), Some(43_200));
    assert_cookie_without_age(&guest.visit(keeps("user-7")).await);
    assert!(!tested.dump().await.holds(MONTH_TEXT));
}

async fn a_login_after_a_purge_has_no_times_to_keep(tested: impl TestStore) {
    let builder = tested
        .middleware()
        .absolute_timeout(CookieDuration::hours(12));
    let browser = tested.browser_of(builder).await;
    let for_an_hour = |s: &Session| {
        let login = Login::new("user-42").absolute(CookieDuration::hours(1));
        s.login_with(login).unwrap();
    };
    browser.visit(for_an_hour).await.assert_sets_cookie();
    let proven = tested.clock().now() - Duration::from_secs(7_200);
    let again = |s: &Session| {
        s.purge();
        let login = Login::new("user-42").keep_times();
        s.login_with(login.authenticated_at(proven)).unwrap();
    };
    browser.visit(again).await.assert_ok().assert_sets_cookie();
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

async fn a_time_that_was_saved_is_that_of_the_login_after_it(tested: impl TestStore) {
    type Act = fn(&Session);
    let acts: [(Act, Option<i64>); 5] = [
        (|s| s.login("user-42").unwrap(), Some(30)),
        // Another person's login, in the same request too.
        (|s| s.login("user-7").unwrap(), Some(30)),
        (
            |s| {
                let week = CookieDuration::days(7);
                s.login_with(Login::new("user-42").idle(week)).unwrap();
            },
            Some(7),
        ),
        (
            |s| {
                s.reset_ttl();
                s.login("user-42").unwrap();
            },
            None,
        ),
        (
            |s| {
                s.clear();
                s.login("user-42").unwrap();
            },
            None,
        ),
    ];
    for (act, days) in acts {
        let browser = tested.browser().await;
        browser.visit(|s| s.login("user-42").unwrap()).await;
        let flight = browser.begin().await;
        flight.set_ttl(MONTH);
        flight.save().await.unwrap();
        act(&flight);
        let answer = flight.finish().await;
        answer.assert_ok().assert_sets_cookie();
        assert_eq!(answer.max_age(), days.map(|days| days * DAY));
    }
}

async fn times_are_set_before_or_after_the_login(tested: impl TestStore) {
    let week = CookieDuration::days(7);
    type Act = fn(&Session);
    let acts: [(Act, Option<i64>); 6] = [
        (
            |s| {
                s.set_ttl(MONTH);
                s.login("user-42").unwrap();
            },
            Some(30),
        ),
        (
            |s| {
                s.login("user-42").unwrap();
                s.set_ttl(MONTH);
            },
            Some(30),
        ),
        (
            |s| {
                s.set_ttl(CookieDuration::days(7));
                s.login_with(Login::new("user-42").idle(MONTH)).unwrap();
            },
            Some(30),
        ),
        (
            |s| {
                s.login_with(Login::new("user-42").idle(MONTH)).unwrap();
                s.set_ttl(CookieDuration::days(7));
            },
            Some(7),
        ),
        (
            |s| {
                s.login_with(remembered("user-42")).unwrap();
                s.reset_ttl();
            },
            None,
        ),
        (
            |s| {
                s.login_with(remembered("user-42")).unwrap();
                s.login("user-42").unwrap();
            },
            None,
        ),
    ];
    for (act, days) in acts {
        let browser = tested.browser().await;
        // Whatever the session before it had.
        browser
            .visit(|s| s.login("user-42").unwrap())
            .await
            .assert_sets_cookie();
        browser
            .visit(|s| s.set_ttl(week))
            .await
            .assert_sets_cookie();
        let answer = browser.visit(act).await;
        let days = days.map(|days| days * DAY);
        assert_eq!(answer.assert_sets_cookie().max_age(), days);
    }
}

/// A `clear` ends the times before it, so that there are none to keep.
#[actix_web::test]
async fn a_login_after_a_clear_keeps_no_times() {
    let tested = Memory::start().await;
    let builder = tested
        .middleware()
        .absolute_timeout(CookieDuration::hours(12));
    let browser = tested.browser_of(builder).await;
    let login = Login::new("user-42").absolute(CookieDuration::hours(1));
    browser
        .visit(move |s| s.login_with(login).unwrap())
        .await
        .assert_sets_cookie();
    let since = tested.clock().now() - Duration::from_secs(7_200);
    let again = Login::new("user-42").keep_times().authenticated_at(since);
    browser
        .visit(move |s| {
            s.clear();
            s.login_with(again).unwrap();
        })
        .await
        .assert_sets_cookie();
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    seconds(tested.clock(), 10 * 3_600 - 1);
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    seconds(tested.clock(), 1);
    assert_eq!(browser.principal().await, None);
}

/// What an old server wrote says nothing of its beginning: the first sight counts.
#[actix_web::test]
async fn an_old_record_that_is_only_read_has_an_absolute_end_too() {
    let tested = Redis::start().await;
    let bounded = || {
        let lifecycle = browser_session(86_400_000, TtlExtensionPolicy::OnEveryRequest);
        let builder = tested.middleware().session_lifecycle(lifecycle);
        builder.absolute_timeout(CookieDuration::hours(1))
    };
    let browser = tested.browser_of(bounded()).await;
    browser.visit(write).await.assert_sets_cookie();
    let name = tested.only_name().await;
    let mut connection = tested.connection.clone();
    let () = connection.set(&name, r#"{"n":"7"}"#).await.unwrap();
    let () = connection.pexpire(&name, 3_000_000_i64).await.unwrap();
    ends_an_hour_after_the_first_sight(&browser, tested.clock()).await;
}

#[actix_web::test]
async fn an_old_record_in_five_methods_has_an_absolute_end_too() {
    let (store, clock) = (FiveMethods::default(), ManualClock::new());
    let builder = || {
        let builder = SessionMiddleware::builder(store.clone(), Key::from(&[7; 64]));
        let lifecycle = browser_session(86_400_000, TtlExtensionPolicy::OnEveryRequest);
        builder.clock(clock.clone()).session_lifecycle(lifecycle)
    };
    let browser = Browser::new(Site::new(builder().build()).await);
    browser
        .visit(|s| s.insert("n", 7).unwrap())
        .await
        .assert_sets_cookie();
    store.forget_metadata();
    let bounded = builder().absolute_timeout(CookieDuration::hours(1));
    let browser = browser.at(Site::new(bounded.build()).await);
    ends_an_hour_after_the_first_sight(&browser, &clock).await;
}

/// In the older format, a session that nobody has logged in to does not say how old it is.
async fn the_first_absolute_timeout_ends_no_old_session(tested: impl TestStore) {
    let policies = [
        TtlExtensionPolicy::OnEveryRequest,
        TtlExtensionPolicy::OnStateChanges,
        TtlExtensionPolicy::AtMostEvery(CookieDuration::minutes(5)),
    ];
    let same = |s: &Session| s.insert("n", 7).unwrap();
    let change = |s: &Session| s.insert("a", 1).unwrap();
    let acts: [fn(&Session); 3] = [|_| (), same, change];
    for (policy, act) in policies.iter().flat_map(|it| acts.map(|act| (it, act))) {
        for format in [WireFormat::V0_11, WireFormat::V1] {
            let days = |format| {
                let lifecycle = persistent(86_400_000, policy.clone());
                let builder = tested.middleware().session_lifecycle(lifecycle);
                builder.wire_format(format).mixed_fleet()
            };
            let browser = tested.browser_of(days(WireFormat::V0_11)).await;
            browser.visit(same).await.assert_sets_cookie();
            seconds(tested.clock(), 7_200);
            let bounded = days(format).absolute_timeout(CookieDuration::hours(1));
            let browser = browser.at(Site::new(bounded.build()).await);
            browser.visit(act).await.assert_ok();
            ends_an_hour_after_the_first_sight(&browser, tested.clock()).await;
        }
    }
}

/// It writes the absolute end down, and the idle end stays.
#[actix_web::test]
async fn the_age_of_the_cookie_is_that_of_the_record_at_first_sight() {
    let tested = Memory::start().await;
    let for_hours = |hours: u64| {
        let lifecycle = persistent(hours * 3_600_000, TtlExtensionPolicy::OnStateChanges);
        tested.middleware().session_lifecycle(lifecycle)
    };
    for (hours, absolute, age) in [(1, 12, 4), (12, 2, 2)] {
        let old = for_hours(4).wire_format(WireFormat::V0_11);
        let browser = tested.browser_of(old).await;
        browser.visit(write).await.assert_sets_cookie();
        let bounded = for_hours(hours).absolute_timeout(CookieDuration::hours(absolute));
        let browser = browser.at(Site::new(bounded.build()).await);
        let first = browser.visit(|_| ()).await;
        assert_eq!(first.assert_sets_cookie().max_age(), Some(age * 3_600));
    }
}

async fn ends_an_hour_after_the_first_sight(browser: &Browser, clock: &ManualClock) {
    for _ in 0..6 {
        assert_eq!(browser.number("n").await, Some(7));
        seconds(clock, 600);
    }
    assert!(browser.is_nobody().await);
}

/// As published: what is asked for holds, whatever time the session has of its own.
#[actix_web::test]
async fn the_published_way_to_set_a_ttl_means_what_it_says() {
    let tested = Redis::start().await;
    let browser = tested.browser().await;
    let own = |s: &Session| {
        s.login("user-42").unwrap();
        s.set_ttl(CookieDuration::hours(1));
    };
    browser.visit(own).await.assert_sets_cookie();
    let key = opened(tested.key(), "id", &browser.value().unwrap()).unwrap();
    let key = SessionKey::try_from(key).unwrap();
    tested
        .store()
        .update_ttl(&key, &CookieDuration::minutes(1))
        .await
        .unwrap();
    let name = tested.only_name().await;
    let mut connection = tested.connection.clone();
    let left: i64 = connection.pttl(&name).await.unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
}

/// What is left of a session that was logged out through a redirect, before and after two days.
async fn after_a_late_clear(tested: impl TestStore) -> (Option<i64>, Option<i64>) {
    let browser = tested.browser().await;
    let log_in = |s: &Session| {
        s.login("user-42").unwrap();
        s.set_ttl(MONTH);
    };
    browser.visit(log_in).await.assert_sets_cookie();
    let late = browser.begin().await;
    let renew = |s: &Session| {
        s.insert("a", 1).unwrap();
        s.renew();
    };
    browser.visit(renew).await.assert_sets_cookie();
    late.clear();
    late.finish().await.assert_ok();
    let before = browser.number("a").await;
    seconds(tested.clock(), 172_800);
    (before, browser.number("a").await)
}

#[actix_web::test]
async fn a_late_clear_leaves_no_time_of_the_login() {
    let tested = Memory::start().await;
    assert_eq!(after_a_late_clear(tested).await, (Some(1), None));
    let tested = Sqlite::start().await;
    assert_eq!(after_a_late_clear(tested).await, (Some(1), None));
}
