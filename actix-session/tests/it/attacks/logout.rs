//! T-10 to T-19: logout, races, resurrection.

use actix_session::{Session, storage::CookieSessionStore};
use actix_web::{http::StatusCode, test::TestRequest};

use super::{
    arena::{Arena, Revocable, fingerprint, key_of, private, secret, somebody},
    attacks, capture,
};
use crate::support::{Browser, Flight, TestStore};

attacks! {
    every: [t17_logout_without_a_session],
    lasting: [
        t10_replay_after_logout,
        t11_resurrection,
        t11_resurrection_by_renewal,
        t15_late_set_cookie,
        t16_logout_in_a_failing_request,
    ],
    server: [t12_resurrection_by_rotation, t12_resurrection_by_login, t13_resurrection_by_touch],
    timed: [],
    cookie: [],
    alone: [t14_revocation_against_flight],
}

async fn logged_in(browser: &Browser) -> String {
    let name = somebody();
    let text = secret("a state value");
    let answer = browser
        .visit(|s| {
            s.login(&name).unwrap();
            s.insert("text", &text).unwrap();
        })
        .await;
    answer.assert_ok().assert_sets_cookie();
    name
}

async fn log_out(browser: &Browser) {
    browser
        .visit(Session::logout)
        .await
        .assert_ok()
        .assert_removes_cookie();
}

/// A kept copy, sent again after the logout, reading and writing.
async fn t10_replay_after_logout(arena: impl Arena) {
    let browser = arena.visitor().await;
    logged_in(&browser).await;
    let copy = browser.fork();
    log_out(&browser).await;
    assert!(copy.is_nobody().await);
    arena.assert_sessions(0).await;
    let before = copy.value();
    copy.visit(|s| s.insert("a", 1).unwrap()).await.assert_ok();
    assert_ne!(copy.value(), before);
    assert_eq!(copy.principal().await, None);
    log_out(&copy).await;
    arena.assert_sessions(0).await;
}

/// A request loads, the logout comes, the request writes.
async fn t11_resurrection(arena: impl Arena) {
    let writes: [fn(&Session); 4] = [
        |s| s.insert("late", 1).unwrap(),
        |s| s.modify("late", |n: Option<u8>| n.or(Some(1))).unwrap(),
        |s| s.set_ttl(actix_web::cookie::time::Duration::days(9)),
        |s| drop(s.remove("text")),
    ];
    for write in writes {
        let browser = arena.visitor().await;
        logged_in(&browser).await;
        let copy = browser.fork();
        let flight = copy.begin().await;
        log_out(&browser).await;
        write(&flight);
        resurrects_nobody(&arena, flight, &copy).await;
    }
}

/// The same with a renewal, which draws a key of its own.
async fn t11_resurrection_by_renewal(arena: impl Arena) {
    let steps: [fn(&Session); 2] = [Session::renew, |s| s.reauthenticated().unwrap()];
    for step in steps {
        let browser = arena.visitor().await;
        logged_in(&browser).await;
        let copy = browser.fork();
        let flight = copy.begin().await;
        log_out(&browser).await;
        flight.insert("late", 1).unwrap();
        step(&flight);
        resurrects_nobody(&arena, flight, &copy).await;
    }
}

async fn resurrects_nobody<A: Arena>(arena: &A, flight: Flight, copy: &Browser) {
    let (before, key) = (copy.value(), key_of(arena, copy));
    let answer = flight.finish().await;
    answer.assert_ok();
    if A::SERVER {
        answer.assert_no_cookie();
        arena.dump().await.assert_no_record();
        let gone = "the session ended while a request was in flight";
        assert!(capture::told(&[gone, &fingerprint(&key)]));
    }
    assert!(copy.is_nobody().await);
    if let Some(before) = before {
        copy.set_cookie("id", before);
    }
    assert!(copy.is_nobody().await);
    assert_eq!(copy.principal().await, None);
    arena.assert_sessions(0).await;
}

/// A request loads, another one renews, the request writes: into the new record, and no other.
async fn t12_resurrection_by_rotation(arena: impl Arena) {
    let browser = arena.visitor().await;
    let name = logged_in(&browser).await;
    let (old, flight) = (browser.fork(), browser.begin().await);
    browser
        .visit(Session::renew)
        .await
        .assert_ok()
        .assert_sets_cookie();
    let new = browser.value();
    flight.insert("late", 1).unwrap();
    flight.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(browser.value(), new);
    assert!(old.is_nobody().await);
    assert_eq!(browser.number("late").await, Some(1));
    assert_eq!(browser.principal().await.as_deref(), Some(&*name));
    let (dump, key) = (arena.dump().await, key_of(&arena, &old));
    assert_eq!(dump.only()["late"], "1");
    let mut records = dump.0.iter().filter(|(_, text)| text.starts_with('{'));
    assert!(records.all(|(at, _)| !at.contains(&key)));
}

/// The same with a login of somebody else: nothing follows into that session.
async fn t12_resurrection_by_login(arena: impl Arena) {
    let browser = arena.visitor().await;
    logged_in(&browser).await;
    let (old, flight) = (browser.fork(), browser.begin().await);
    let next = somebody();
    browser.visit(|s| s.login(&next).unwrap()).await.assert_ok();
    flight.insert("late", 1).unwrap();
    flight.finish().await.assert_ok().assert_no_cookie();
    assert!(old.is_nobody().await);
    assert_eq!(browser.principal().await.as_deref(), Some(&*next));
    assert!(arena.dump().await.only().is_empty());
}

/// A reader that extends, of a session that ended or moved meanwhile.
async fn t13_resurrection_by_touch(arena: impl Arena) {
    for end in [Session::purge, Session::renew] {
        let browser = arena.visitor_of(arena.rolling()).await;
        logged_in(&browser).await;
        let (old, flight) = (browser.fork(), browser.begin().await);
        browser.visit(end).await.assert_ok();
        let after = arena.dump().await.sorted();
        flight.finish().await.assert_ok().assert_no_cookie();
        old.visit(|_| ()).await.assert_ok().assert_no_cookie();
        assert!(old.is_nobody().await);
        assert_eq!(arena.dump().await.sorted(), after);
        browser.visit(Session::purge).await.assert_ok();
        arena.assert_sessions(0).await;
    }
}

/// Fifty requests are in flight while the principal is signed out everywhere.
async fn t14_revocation_against_flight() {
    let arena: Revocable = crate::attacks::arena::begin().await;
    let store: CookieSessionStore = arena.store();
    let browser = arena.visitor_of(arena.rolling()).await;
    let name = logged_in(&browser).await;
    let mut flights = Vec::new();
    for n in 0..50 {
        let copy = browser.fork();
        flights.push((n, copy.begin().await, copy));
    }
    store.revoke_principal(&name).await.unwrap();
    for (n, flight, copy) in flights {
        match n % 3 {
            0 => flight.insert("late", n).unwrap(),
            1 => flight.renew(),
            _ => {}
        }
        flight.finish().await.assert_ok();
        assert!(copy.is_nobody().await, "{n}");
    }
    assert!(browser.is_nobody().await);
}

/// The refreshed cookie of a slow answer reaches the browser after the removal.
async fn t15_late_set_cookie(arena: impl Arena) {
    let browser = arena.visitor_of(arena.rolling()).await;
    logged_in(&browser).await;
    let slow = browser.fork();
    let answer = slow.begin().await.finish().await;
    answer.assert_ok().assert_sets_cookie();
    log_out(&browser).await;
    browser.set_cookie("id", slow.value().unwrap());
    assert!(browser.is_nobody().await);
    arena.assert_sessions(0).await;
}

/// The logout holds however its request ends.
async fn t16_logout_in_a_failing_request(arena: impl Arena) {
    for way in ["error", "panic", "drop", "500"] {
        let browser = arena.visitor().await;
        logged_in(&browser).await;
        let copy = browser.fork();
        if way == "500" {
            let pair = format!("id={}", browser.value().unwrap());
            let request = TestRequest::with_uri("/purge-500").insert_header(("cookie", pair));
            let answer = browser.site.answer(request).await;
            assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
            answer.assert_removes_cookie();
        } else {
            let flight = browser.begin().await;
            flight.purge();
            match way {
                "error" => drop(flight.fail().await),
                "panic" => assert!(flight.panic().await.is_panic()),
                _ => flight.abort().await,
            }
        }
        // Whoever dropped the request cannot wait for what it asked.
        for _ in 0..1_000 {
            if copy.is_nobody().await {
                break;
            }
        }
        assert!(copy.is_nobody().await, "{way}");
        arena.assert_sessions(0).await;
    }
}

/// Whatever came under our name is removed, and nothing is written.
async fn t17_logout_without_a_session(arena: impl Arena) {
    let browser = arena.visitor_of(arena.rolling()).await;
    logged_in(&browser).await;
    let expired = browser.value().unwrap();
    log_out(&browser).await;
    arena.clock().advance(std::time::Duration::from_secs(3601));
    let before = arena.dump().await.sorted();
    let unreadable = private(arena.key(), "id", r#"{"v":2,"state":{}}"#);
    for value in ["", "garbage", &expired, &unreadable] {
        let fields = [format!("id={value}")];
        let answer = browser.visit_as(&fields, Session::purge).await;
        answer.assert_ok().assert_removes_cookie();
    }
    let none: [&str; 0] = [];
    let answer = browser.visit_as(&none, Session::purge).await;
    answer.assert_ok().assert_no_cookie();
    let other = browser.visit_as(&["idx=1; xid=2"], Session::purge).await;
    other.assert_ok().assert_no_cookie();
    arena.assert_sessions(0).await;
    let unchanged = arena.has_records();
    assert!(!unchanged || arena.dump().await.sorted() == before);
}
