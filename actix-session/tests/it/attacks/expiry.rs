//! T-20 to T-28: expiry. Time is moved, never waited for.

use std::time::Duration;

use actix_session::{
    Session, SessionMiddleware,
    config::{BrowserSession, ConfigError, PersistentSession, SessionPolicy, TtlExtensionPolicy},
    storage::MemorySessionStore,
};
use actix_web::cookie::{Key, time::Duration as Span};

use super::{
    arena::{Arena, InCookie, somebody},
    attacks,
};
use crate::support::{Browser, TestStore};

attacks! {
    every: [t21_absolute, t23_clock_jumps, t26_absurd_ttls_of_a_session],
    lasting: [],
    server: [t25_tardy_eviction],
    timed: [t20_idle, t24_throttled_touch, t28_presets_hold],
    cookie: [t22_replay_after_expiry],
    alone: [t26_absurd_ttls, t28_presets],
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(1);

async fn logged_in(browser: &Browser) {
    let name = somebody();
    let answer = browser.visit(|s| s.login(&name).unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
}

/// One tick before and at the idle end; a request in time moves it. (In Redis the idle end is the
/// server's own: `crate::redis_expiry::redis_keeps_milliseconds_and_extends_as_configured`.)
async fn t20_idle(arena: impl Arena) {
    let browser = arena.visitor_of(arena.rolling()).await;
    logged_in(&browser).await;
    for _ in 0..3 {
        arena.clock().advance(60 * MINUTE - TICK);
        assert!(!browser.is_nobody().await);
    }
    arena.clock().advance(60 * MINUTE);
    assert!(browser.is_nobody().await);
}

/// However busy the session is.
async fn t21_absolute(arena: impl Arena) {
    let builder = arena.rolling().absolute_timeout(Span::hours(2));
    let browser = arena.visitor_of(builder).await;
    logged_in(&browser).await;
    for n in 0..7 {
        arena.clock().advance(15 * MINUTE);
        browser
            .visit(|s| s.insert("n", n).unwrap())
            .await
            .assert_ok();
        assert!(!browser.is_nobody().await, "{n}");
    }
    arena.clock().advance(14 * MINUTE + 59 * SECOND);
    assert!(!browser.is_nobody().await);
    arena.clock().advance(SECOND);
    assert!(browser.is_nobody().await);
}

/// A value from the jar of a client that ignores `Max-Age`.
async fn t22_replay_after_expiry(arena: impl Arena) {
    let idle = arena.visitor_of(arena.rolling()).await;
    logged_in(&idle).await;
    let kept = idle.value().unwrap();
    arena.clock().advance(60 * MINUTE - TICK);
    // Refreshed: the newer value lives on, the kept one has its own end.
    assert!(!idle.is_nobody().await);
    arena.clock().advance(TICK);
    assert!(!idle.is_nobody().await);
    idle.set_cookie("id", kept);
    assert!(idle.is_nobody().await);

    let builder = arena.rolling().absolute_timeout(Span::minutes(90));
    let busy = arena.visitor_of(builder).await;
    logged_in(&busy).await;
    let mut values = Vec::new();
    for _ in 0..8 {
        arena.clock().advance(10 * MINUTE);
        assert!(!busy.is_nobody().await);
        values.push(busy.value().unwrap());
    }
    arena.clock().advance(10 * MINUTE);
    for value in values {
        busy.set_cookie("id", value);
        assert!(busy.is_nobody().await);
    }
}

/// The clock is set back an hour: the absolute end is an instant, and stays.
async fn t23_clock_jumps(arena: impl Arena) {
    let builder = arena.rolling().absolute_timeout(Span::hours(2));
    let browser = arena.visitor_of(builder).await;
    logged_in(&browser).await;
    arena.clock().advance(20 * MINUTE);
    arena.clock().turn_back(60 * MINUTE);
    let mut lived = 20;
    for _ in 0..100 {
        if browser.is_nobody().await {
            break;
        }
        arena.clock().advance(10 * MINUTE);
        lived += 10;
    }
    // Two hours and the hour that the clock was wrong by.
    assert_eq!(lived, 180);
}

/// Touched at most every ten minutes: the idle end is that much too early at worst, never late.
async fn t24_throttled_touch(arena: impl Arena) {
    let lifecycle = PersistentSession::default()
        .session_ttl(Span::hours(1))
        .session_ttl_extension_policy(TtlExtensionPolicy::AtMostEvery(Span::minutes(10)));
    let builder = || arena.middleware().session_lifecycle(lifecycle.clone());
    for (touched, ends) in [(9, 60), (10, 70), (30, 90), (59, 119)] {
        for late in [false, true] {
            let browser = arena.visitor_of(builder()).await;
            logged_in(&browser).await;
            arena.clock().advance(touched * MINUTE);
            assert!(!browser.is_nobody().await);
            arena.clock().advance((ends - touched) * MINUTE - TICK);
            if late {
                arena.clock().advance(TICK);
            }
            assert_eq!(browser.is_nobody().await, late, "{touched}");
        }
    }
}

/// The record is past its end, and physically there.
async fn t25_tardy_eviction(arena: impl Arena) {
    let builder = arena.rolling().absolute_timeout(Span::minutes(30));
    let browser = arena.visitor_of(builder).await;
    logged_in(&browser).await;
    let late = browser.begin().await;
    arena.clock().advance(30 * MINUTE);
    arena.assert_sessions(1).await;
    let before = arena.dump().await;
    assert!(browser.is_nobody().await);
    late.insert("late", 1).unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(arena.dump().await, before);
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_sets_cookie();
    assert_eq!(browser.principal().await, None);
    assert!(arena.dump().await.0.len() > 1);
}

/// The builder refuses or clamps.
async fn t26_absurd_ttls() {
    let builder = || SessionMiddleware::builder(MemorySessionStore::new(), Key::generate());
    let absurd = [
        Span::ZERO,
        Span::seconds(-1),
        Span::days(401),
        Span::seconds(i64::MAX),
        Span::seconds(i64::MIN),
    ];
    for ttl in absurd {
        let persistent = PersistentSession::default().session_ttl(ttl);
        let error = builder().session_lifecycle(persistent.clone()).try_build();
        assert_eq!(error.err(), Some(ConfigError::Ttl), "{ttl}");
        let arena: InCookie = crate::attacks::arena::begin().await;
        let browser = arena
            .visitor_of(arena.middleware().session_lifecycle(persistent))
            .await;
        let answer = browser.visit(|s| s.insert("a", 1).unwrap()).await;
        let age = answer.assert_ok().max_age().unwrap();
        assert!((1..=400 * 86_400).contains(&age), "{ttl} {age}");
        let absolute = builder().absolute_timeout(ttl);
        let error = absolute.try_build().err();
        assert_eq!(error.is_some(), ttl <= Span::ZERO, "{ttl}");
        let state = BrowserSession::default().state_ttl(ttl);
        let browser = arena
            .visitor_of(arena.middleware().session_lifecycle(state))
            .await;
        browser
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_ok();
    }
}

/// So does `set_ttl`.
async fn t26_absurd_ttls_of_a_session(arena: impl Arena) {
    for ttl in [Span::ZERO, Span::MIN, Span::MAX, Span::days(100_000)] {
        let browser = arena.visitor().await;
        let answer = browser
            .visit(|s| {
                s.insert("a", 1).unwrap();
                s.set_ttl(ttl);
            })
            .await;
        let age = answer.assert_ok().max_age().unwrap();
        assert!((1..=400 * 86_400).contains(&age), "{ttl} {age}");
        if ttl > Span::ZERO {
            assert!(!browser.is_nobody().await);
        }
        browser.visit(Session::purge).await.assert_ok();
    }
}

/// The figures of NIST SP 800-63B-4: overall and idle.
async fn t28_presets() {
    let hours = |h: u64| Duration::from_secs(h * 3600);
    for (policy, idle, absolute) in [
        (SessionPolicy::aal1(), None, hours(30 * 24)),
        (SessionPolicy::aal2(), Some(hours(1)), hours(24)),
        (SessionPolicy::aal3(), Some(15 * MINUTE), hours(12)),
    ] {
        assert_eq!((policy.idle(), policy.absolute()), (idle, absolute));
        let printed = serde_json::to_string(&policy).unwrap();
        let read: SessionPolicy = serde_json::from_str(&printed).unwrap();
        assert_eq!(read, policy);
        assert!(policy.to_string().contains("NIST SP 800-63B-4"));
    }
}

/// A middleware with a preset keeps it.
async fn t28_presets_hold(arena: impl Arena) {
    for policy in [SessionPolicy::aal2(), SessionPolicy::aal3()] {
        let idle = policy.idle().unwrap();
        let builder = || arena.middleware().policy(&policy);
        let (quiet, busy) = (
            arena.visitor_of(builder()).await,
            arena.visitor_of(builder()).await,
        );
        logged_in(&quiet).await;
        logged_in(&busy).await;
        let steps = policy.absolute().as_secs() / idle.as_secs() * 2;
        for step in 1..steps {
            arena.clock().advance(idle / 2);
            assert!(!busy.is_nobody().await, "{policy} {step}");
            if step == 2 {
                assert!(quiet.is_nobody().await, "{policy}");
            }
        }
        arena.clock().advance(idle / 2);
        assert!(busy.is_nobody().await, "{policy}");
    }
}
