//! T-70 to T-87: stores and load.

use actix_session::{
    Session, SessionMiddleware,
    storage::{MemorySessionStore, Record, generate_session_key},
};
use redis::AsyncCommands as _;

use super::{
    arena::{Arena, Memory, Redis, many, private, secret, somebody},
    attacks, capture,
};
use crate::support::{Browser, Spy, TestStore};

attacks! {
    every: [t84_failing_store, t86_fat_state],
    lasting: [],
    server: [t80_anonymous_reads, t81_logouts_of_nobody, t82_unknown_and_garbage],
    timed: [],
    cookie: [],
    alone: [
        t70_namespace,
        t73_hostile_records,
        t73_hostile_records_in_redis,
        t87_memory_bound,
        t87_memory_sweep,
    ],
}

/// Two applications with one Redis and one secret key: prefixes keep them apart.
async fn t70_namespace() {
    let shop: Redis = crate::attacks::arena::begin().await;
    let staff: Redis = crate::attacks::arena::begin().await;
    let at_staff = SessionMiddleware::builder(staff.store(), shop.key().clone());
    let (customer, visitor) = (shop.visitor().await, shop.visitor_of(at_staff).await);
    let text = secret("a state value");
    customer
        .visit(|s| s.insert("text", &text).unwrap())
        .await
        .assert_ok();
    visitor.set_cookie("id", customer.value().unwrap());
    assert!(visitor.is_nobody().await);
    visitor
        .visit(|s| s.insert("staff", 1).unwrap())
        .await
        .assert_sets_cookie();
    visitor.set_cookie("id", customer.value().unwrap());
    visitor.visit(Session::purge).await.assert_ok();
    assert!(!customer.is_nobody().await);
    assert_eq!(shop.dump().await.only().len(), 1);
    assert_eq!(staff.dump().await.only()["staff"], "1");
    // The application's own data, under our prefix but under no key of ours.
    let mut redis = shop.connection.clone();
    for name in ["x", "*", "cart"] {
        let name = format!("{}{name}", shop.prefix);
        let _: () = redis.set(&name, r#"{"text":"\"admin\""}"#).await.unwrap();
        let browser = shop.visitor().await;
        let key = name.strip_prefix(&shop.prefix).unwrap();
        browser.set_cookie("id", private(shop.key(), "id", key));
        assert!(browser.is_nobody().await);
        browser.visit(Session::purge).await.assert_ok();
        let there: bool = redis.exists(&name).await.unwrap();
        assert!(there);
    }
}

fn hostile() -> Vec<(String, Option<&'static str>)> {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let envelope = |state: &str| format!(r#"{{"v":1,"state":{state}}}"#);
    let many: Vec<String> = (0..50_000).map(|n| format!(r#""a{n}":{n}"#)).collect();
    let same: Vec<String> = (0..50_000).map(|n| format!(r#""n":{n}"#)).collect();
    vec![
        ("not JSON".to_owned(), None),
        (deep(10_000), None),
        (envelope(&deep(10_000)), None),
        (envelope(&format!(r#"{{"n":{}}}"#, deep(100))), Some("deep")),
        ("{\"n\":".repeat(10_000), None),
        (r#"{"n":"1","n":"2"}"#.to_owned(), Some("2")),
        (envelope(r#"{"n":1,"n":2}"#), Some("2")),
        (envelope(&format!("{{{}}}", same.join(","))), Some("49999")),
        (envelope(&format!("{{{}}}", many.join(","))), Some("")),
        (r#"{"v":1,"state":{"n":1},"state":7}"#.to_owned(), None),
    ]
}

/// An answer or a typed error, whatever the text; and never a crash.
async fn t73_hostile_records() {
    crate::attacks::capture::install();
    for (text, expected) in hostile() {
        let start = text[..text.len().min(40)].to_owned();
        match (Record::decode(text), expected) {
            (Err(_), None) => {}
            (Ok(record), Some(n)) if n.starts_with(|c: char| c.is_ascii_digit()) => {
                assert_eq!(record.to_map()["n"], n, "{start}");
            }
            (Ok(_), Some(_)) => {}
            (decoded, expected) => panic!("{start} {:?} {expected:?}", decoded.is_ok()),
        }
    }
    // 64 MiB: one value, and no JSON at all.
    let big = "a".repeat(64 << 20);
    assert!(Record::decode(big.clone()).is_err());
    let record = Record::decode(format!(r#"{{"v":1,"state":{{"big":"{big}"}}}}"#)).unwrap();
    assert_eq!(record.to_map()["big"].len(), big.len() + 2);
}

/// The same as records: the session is empty, or the last of several, and what cannot be read is
/// left as it is.
async fn t73_hostile_records_in_redis() {
    for (text, expected) in hostile() {
        let arena: Redis = crate::attacks::arena::begin().await;
        let browser = arena.visitor().await;
        browser
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_ok();
        let name = arena.only_name().await;
        let mut redis = arena.connection.clone();
        let _: () = redis.set(&name, &text).await.unwrap();
        assert_eq!(browser.is_nobody().await, expected.is_none());
        let stored: String = redis.get(&name).await.unwrap();
        assert!(stored == text);
        browser
            .visit(Session::purge)
            .await
            .assert_ok()
            .assert_removes_cookie();
        let there: bool = redis.exists(&name).await.unwrap();
        assert!(!there);
    }
}

async fn spied<A: Arena>(arena: &A) -> (Spy<A::Store>, Browser) {
    let spy = Spy::new(arena.store());
    let builder = SessionMiddleware::builder(spy.clone(), arena.key().clone());
    let browser = arena.visitor_of(builder.clock(arena.clock().clone())).await;
    (spy, browser)
}

async fn t80_anonymous_reads<A: Arena>(arena: A) {
    let (spy, browser) = spied(&arena).await;
    for _ in 0..many(A::FLOOD) {
        let answer = browser
            .visit(|s| {
                assert!(s.get::<u8>("a").unwrap().is_none() && s.is_empty());
                s.remove("a");
                s.clear();
                s.renew();
            })
            .await;
        answer.assert_ok().assert_no_cookie();
    }
    assert!(spy.calls().is_empty());
    assert!(arena.dump().await.0.is_empty());
}

async fn t81_logouts_of_nobody<A: Arena>(arena: A) {
    let (spy, browser) = spied(&arena).await;
    for _ in 0..many(A::FLOOD) {
        browser
            .visit(Session::logout)
            .await
            .assert_ok()
            .assert_no_cookie();
    }
    assert!(spy.calls().is_empty());
    assert!(arena.dump().await.0.is_empty());
}

async fn t82_unknown_and_garbage<A: Arena>(arena: A) {
    let (spy, browser) = spied(&arena).await;
    for n in 0..many(A::FLOOD) {
        let garbage = format!("id={n}{}", "A".repeat(120));
        browser
            .visit_as(&[garbage], |_| ())
            .await
            .assert_ok()
            .assert_no_cookie();
    }
    let calls = spy.calls();
    assert!(
        calls.is_empty(),
        "the store is asked for what no key of ours sealed"
    );
    for n in 0..many(A::FLOOD) {
        let unknown: String = generate_session_key().into();
        let field = format!("id={}", private(arena.key(), "id", &unknown));
        let end: fn(&Session) = if n % 2 == 0 { |_| () } else { Session::purge };
        let answer = browser.visit_as(&[field], end).await;
        assert!(
            answer.status.is_success(),
            "{:?}",
            capture::own_lines().last()
        );
    }
    assert!(
        spy.calls()
            .iter()
            .all(|call| ["open", "delete"].contains(call))
    );
    assert!(arena.dump().await.0.is_empty());
}

/// The method that is refused, and what asks for it.
type Step<'a> = (&'static str, &'a dyn Fn(&Session));

/// The store fails at any step: no cookie for what was not saved, the old state stays, and the
/// next request is served. (Dead, frozen and forgetful servers: `redis_faults`.)
async fn t84_failing_store(arena: impl Arena) {
    let (spy, browser) = spied(&arena).await;
    let name = somebody();
    spy.refuse(&["create"]);
    browser
        .visit(|s| s.insert("n", 1).unwrap())
        .await
        .assert_opaque();
    arena.assert_sessions(0).await;
    spy.refuse(&[]);
    browser
        .visit(|s| s.insert("n", 1).unwrap())
        .await
        .assert_ok()
        .assert_sets_cookie();
    let before = arena.dump().await.sorted();
    let steps: [Step<'_>; 4] = [
        ("open", &|s| s.insert("n", 2).unwrap()),
        ("commit", &|s| s.insert("n", 2).unwrap()),
        ("rotate", &|s| s.login(&name).unwrap()),
        ("delete", &Session::purge),
    ];
    for (method, step) in steps {
        spy.refuse(&[method]);
        browser.visit(step).await.assert_opaque();
        assert_eq!(arena.dump().await.sorted(), before, "{method}");
        spy.refuse(&[]);
        assert_eq!(browser.number("n").await, Some(1), "{method}");
        assert_eq!(browser.principal().await, None);
    }
    browser
        .visit(Session::purge)
        .await
        .assert_ok()
        .assert_removes_cookie();
    arena.assert_sessions(0).await;
}

/// A state past its cap is refused as a whole, and the one before it stays; what was larger before
/// the cap came can be read, and made smaller.
async fn t86_fat_state(arena: impl Arena) {
    const CAP: usize = 2_000;
    let fat = secret("a state value").repeat(60);
    let browser = arena
        .visitor_of(arena.middleware().max_state_size(CAP))
        .await;
    browser
        .visit(|s| s.insert("fat", &fat).unwrap())
        .await
        .assert_opaque();
    arena.assert_sessions(0).await;
    browser
        .visit(|s| s.insert("n", 1).unwrap())
        .await
        .assert_ok();
    let before = arena.dump().await;
    let name = somebody();
    let steps: [&dyn Fn(&Session); 3] = [
        &|s| s.insert("fat", &fat).unwrap(),
        &|s| {
            let fat = fat.clone();
            s.modify("fat", move |_: Option<String>| Some(fat.clone()))
                .unwrap();
        },
        &|s| {
            s.insert("fat", &fat).unwrap();
            s.login(&name).unwrap();
        },
    ];
    for step in steps {
        browser.visit(step).await.assert_opaque();
        assert_eq!(arena.dump().await, before);
        assert_eq!(browser.number("n").await, Some(1));
        assert_eq!(browser.principal().await, None);
    }
    what_was_larger_before_can_be_made_smaller(&arena, &browser, &fat).await;
}

async fn what_was_larger_before_can_be_made_smaller(
    arena: &impl Arena,
    browser: &Browser,
    fat: &str,
) {
    let roomy = arena.visitor().await;
    roomy
        .visit(|s| s.insert("fat", &fat[..2_000]).unwrap())
        .await
        .assert_ok();
    let tight = browser.fork();
    tight.set_cookie("id", roomy.value().unwrap());
    tight
        .visit(|s| s.insert("b", 1).unwrap())
        .await
        .assert_opaque();
    tight
        .visit(|s| {
            let had: String = s.get("fat").unwrap().unwrap();
            s.insert("fat", &had[..1_990]).unwrap();
        })
        .await
        .assert_ok();
    tight.visit(Session::purge).await.assert_ok();
}

/// A flood of guests pushes out no session with a login, and does not exceed the bound.
async fn t87_memory_bound() {
    let arena: Memory = crate::attacks::arena::begin().await;
    let store = MemorySessionStore::builder()
        .max_sessions(2_048)
        .clock(arena.clock().clone())
        .build();
    let builder = SessionMiddleware::builder(store.clone(), arena.key().clone());
    let visitor = arena.visitor_of(builder.clock(arena.clock().clone())).await;
    let mut members = Vec::new();
    for _ in 0..50 {
        let (member, name) = (visitor.fork(), somebody());
        member
            .visit(|s| s.login(&name).unwrap())
            .await
            .assert_sets_cookie();
        members.push((member, name));
    }
    for n in 0..5_000 {
        let guest = visitor.fork();
        guest
            .visit(|s| s.insert("n", n).unwrap())
            .await
            .assert_sets_cookie();
        assert!(store.len() <= 2_048);
    }
    assert!(store.len() > 1_024);
    for (member, name) in &members {
        assert_eq!(member.principal().await.as_deref(), Some(name.as_str()));
    }
}

/// Expired entries make room for new ones before any live one goes. (Without traffic the sweeper's
/// thread removes them: `storage::memory::tests::expired_sessions_and_marks_are_swept_out`.)
async fn t87_memory_sweep() {
    let arena: Memory = crate::attacks::arena::begin().await;
    let store = MemorySessionStore::builder()
        .max_sessions(640)
        .clock(arena.clock().clone())
        .build();
    let builder = SessionMiddleware::builder(store.clone(), arena.key().clone());
    let visitor = arena.visitor_of(builder.clock(arena.clock().clone())).await;
    for n in 0..640 {
        visitor
            .fork()
            .visit(|s| s.insert("n", n).unwrap())
            .await
            .assert_ok();
    }
    arena
        .clock()
        .advance(std::time::Duration::from_secs(86_400));
    let fresh = visitor.fork();
    fresh
        .visit(|s| s.insert("n", -1).unwrap())
        .await
        .assert_ok();
    for n in 0..200 {
        visitor
            .fork()
            .visit(|s| s.insert("n", n).unwrap())
            .await
            .assert_ok();
    }
    assert_eq!(fresh.number("n").await, Some(-1));
}
