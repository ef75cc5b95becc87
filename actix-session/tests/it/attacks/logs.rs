//! T-60 to T-66: what stores and logs show.

use actix_session::{
    Login, Session, SessionMiddleware,
    config::CookieContentSecurity,
    storage::{MemorySessionStore, RedisSessionStore, generate_session_key},
};
use actix_web::{HttpResponse, cookie::Key, http::header::USER_AGENT, test::TestRequest, web};

use super::{
    arena::{
        Arena, InCookie, Memory, Redis, Revocable, fingerprint, key_of, private, secret, signed,
        somebody,
    },
    attacks, capture,
};
use crate::support::{
    Browser, DETAIL, Server, Spy, TestStore, alone, assert_passed, http_get, opened,
};

attacks! {
    every: [t65_log_injection],
    lasting: [],
    server: [],
    timed: [],
    cookie: [],
    alone: [
        t60_digests_in_redis,
        t60_digests_in_the_list,
        t65b_refusals,
        t65b_life_cycle,
        t65b_flood,
        t65c_headers,
        t66_over_http,
    ],
}

/// With `hashed_keys` the key is nowhere in Redis. (By default it is the name, as published.)
async fn t60_digests_in_redis() {
    let arena: Redis = crate::attacks::arena::begin().await;
    let store = RedisSessionStore::builder(servers::RedisServer::shared_url().unwrap())
        .key_prefix(arena.prefix.clone())
        .hashed_keys()
        .clock(arena.clock().clone())
        .build()
        .await
        .unwrap();
    let builder = SessionMiddleware::builder(store, arena.key().clone());
    let browser = arena.visitor_of(builder.clock(arena.clock().clone())).await;
    let mut keys = Vec::new();
    let name = somebody();
    let steps: [&dyn Fn(&Session); 3] = [
        &|s| s.insert("a", 1).unwrap(),
        &|s| s.login(&name).unwrap(),
        &Session::renew,
    ];
    for step in steps {
        browser.visit(step).await.assert_ok();
        keys.push(key_of(&arena, &browser));
    }
    let dump = arena.dump().await;
    assert_eq!((dump.records().len(), dump.redirects()), (1, 2), "{dump:?}");
    for key in keys {
        let shown = dump
            .0
            .iter()
            .any(|(at, text)| at.contains(&key) || text.contains(&key));
        assert!(!shown);
    }
    assert_eq!(browser.principal().await.as_deref(), Some(&*name));
}

/// The list of ended sessions holds digests of ids and principals.
async fn t60_digests_in_the_list() {
    let arena: Revocable = crate::attacks::arena::begin().await;
    let browser = arena.visitor().await;
    let name = somebody();
    browser.visit(|s| s.login(&name).unwrap()).await.assert_ok();
    let inside = key_of(&arena, &browser);
    let id = inside.split('.').nth(1).unwrap().to_owned();
    assert_eq!(id.len(), 32);
    browser.visit(Session::purge).await.assert_ok();
    arena.store().revoke_principal(&name).await.unwrap();
    let dump = arena.dump().await;
    // That it has ended, that nothing comes after it (for a minute), and the principal's mark.
    assert_eq!(dump.0.len(), 3, "{dump:?}");
    for (at, text) in dump.0 {
        let digest = at.strip_prefix("note.").unwrap();
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        for secret in [&name, &id] {
            assert!(!at.contains(secret.as_str()) && !text.contains(secret.as_str()));
        }
    }
}

const EVIL: &str = "evil\r\nERROR forged=1\u{1b}[31m\u{202e}\u{2066}\u{9b}\u{2028}";

fn is_harmless(text: &str) -> bool {
    let bidi = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| c.is_control() || bidi(c))
}

#[track_caller]
fn assert_harmless_log() {
    for line in capture::own_lines() {
        assert!(is_harmless(&line.text), "{line:?}");
    }
}

/// Line ends, escapes and direction marks, wherever a client or its data may bring them in.
async fn t65_log_injection(arena: impl Arena) {
    let browser = arena.visitor_of(arena.rolling()).await;
    let encoded: String = EVIL.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let bidi = "id=\u{202e}evil\u{2066}; \u{202e}=evil; id=x".to_owned();
    let sealed = format!("id={}", private(arena.key(), "id", EVIL));
    for field in [format!("id={encoded}; {encoded}=evil"), bidi, sealed] {
        let request = TestRequest::get()
            .insert_header(("cookie", field.into_bytes()))
            .insert_header((USER_AGENT, "\u{202e}evil".as_bytes()));
        let fresh = Browser::new(browser.site.clone());
        fresh
            .visit_with(request, |s| s.insert("a", 1).unwrap())
            .await
            .assert_ok();
    }
    let principal = format!("{EVIL}{}", somebody());
    let act = |s: &Session| {
        s.login_with(Login::new(principal.as_str()).device(EVIL))
            .unwrap();
        s.insert(EVIL, EVIL).unwrap();
    };
    browser.visit(act).await.assert_ok();
    // The error of a `modify` that meets another type when it merges names the entry.
    let flight = browser.begin().await;
    let longer = |text: Option<String>| text.map(|text| text + "!");
    flight.modify(EVIL, longer).unwrap();
    browser
        .visit(|s| s.insert(EVIL, 1).unwrap())
        .await
        .assert_ok();
    flight.finish().await;
    let mut error = String::new();
    browser
        .visit(|s| {
            if let Err(wrong) = s.get::<Vec<u8>>(EVIL) {
                error = wrong.to_string();
            }
        })
        .await
        .assert_ok();
    assert!(error.contains("evil"));
    browser.visit(Session::purge).await.assert_ok();
    arena.assert_sessions(3).await;
    assert_harmless_log();
}

fn count(words: &[&str]) -> usize {
    let lines = capture::own_lines();
    let told = |text: &str| words.iter().all(|word| text.contains(word));
    lines.iter().filter(|line| told(&line.text)).count()
}

/// A refusal that a client cannot repeat without end is one event, with a reason and a fingerprint.
async fn t65b_refusals() {
    let arena: InCookie = crate::attacks::arena::begin().await;
    let text = secret("a state value");
    let newer = format!(r#"{{"v":2,"state":{{"text":"{text}"}}}}"#);
    let browser = arena.visitor().await;
    browser.set_cookie("id", private(arena.key(), "id", &newer));
    browser.visit(|_| ()).await.assert_ok();
    assert_eq!(
        count(&["reason=unreadable-record", &fingerprint(&newer)]),
        1
    );

    let state = format!(r#"{{"text":"\"{text}\""}}"#);
    let mode = CookieContentSecurity::Signed;
    let browser = arena
        .visitor_of(arena.middleware().cookie_content_security(mode))
        .await;
    let value = signed(arena.key(), "id", &state);
    let field: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    browser.set_cookie("id", field);
    assert!(browser.is_nobody().await);
    assert_eq!(
        count(&["reason=unbound-signature", &fingerprint(&state)]),
        1
    );
    of_two_sessions_one_is_refused(&text).await;
}

async fn of_two_sessions_one_is_refused(text: &str) {
    let memory: Memory = crate::attacks::arena::begin().await;
    let (a, b) = (memory.visitor().await, memory.visitor().await);
    for browser in [&a, &b] {
        let answer = browser.visit(|s| s.insert("text", text).unwrap()).await;
        answer.assert_ok();
    }
    let both = [&a, &b].map(|browser| format!("id={}", browser.value().unwrap()));
    a.visit_as(&[both.join("; ")], |_| ()).await.assert_ok();
    let refused = |browser| {
        let key = fingerprint(&key_of(&memory, browser));
        count(&["reason=duplicate-cookie", &key])
    };
    assert_eq!((refused(&a), refused(&b)), (0, 1));
}

/// Created, renewed, forwarded, dropped, gone, ended: one event each, with fingerprints.
async fn t65b_life_cycle() {
    let arena: Memory = crate::attacks::arena::begin().await;
    let browser = arena.visitor().await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    let first = fingerprint(&key_of(&arena, &browser));
    assert_eq!(count(&["session created", &first]), 1);
    let (flight, old) = (browser.begin().await, browser.fork());
    browser.visit(Session::renew).await.assert_ok();
    let second = fingerprint(&key_of(&arena, &browser));
    assert_eq!(
        count(&["session renewed", &format!("before={first}"), &second]),
        1
    );
    flight.insert("b", 1).unwrap();
    flight.finish().await.assert_ok();
    assert_eq!(count(&["the changes followed", &first]), 1);
    old.visit(|s| s.insert("c", 1).unwrap()).await.assert_ok();
    assert_eq!(count(&["WARN", "are dropped", &first]), 1);
    let flight = browser.begin().await;
    browser.visit(Session::purge).await.assert_ok();
    assert_eq!(count(&["session ended", &second]), 1);
    flight.insert("d", 1).unwrap();
    flight.finish().await.assert_ok();
    assert_eq!(
        count(&["INFO", "while a request was in flight", &second]),
        1
    );
    a_failing_store_is_an_error(&arena).await;
}

async fn a_failing_store_is_an_error(arena: &Memory) {
    let spy = Spy::new(arena.store());
    spy.refuse(&["open"]);
    let builder = SessionMiddleware::builder(spy, arena.key().clone());
    let failing = arena.visitor_of(builder).await;
    failing.set_cookie("id", private(arena.key(), "id", &"a".repeat(64)));
    let event = [
        "ERROR",
        "operation=load",
        "the session store failed",
        DETAIL,
    ];
    let before = count(&event);
    failing.visit(|_| ()).await.assert_opaque();
    assert!(count(&event) > before);
}

/// A thousand refused cookies of each kind are counted, not reported one by one. In a process of its
/// own: the limit is the process'.
async fn t65b_flood() {
    const CHILD: &str = "ATTACKS_FLOOD_ALONE";
    capture::install();
    if std::env::var_os(CHILD).is_none() {
        let mut flood = alone("attacks::logs::alone::t65b_flood");
        assert_passed(&flood.env(CHILD, "1").output().unwrap());
        return;
    }
    let arena: Memory = crate::attacks::arena::begin().await;
    let browser = arena.visitor().await;
    let started = std::time::Instant::now();
    for n in 0..1_000 {
        browser
            .visit_as(&[format!("id=junk{n}")], |_| ())
            .await
            .assert_ok();
        let unknown: String = generate_session_key().into();
        let sealed = private(arena.key(), "id", &unknown);
        browser
            .visit_as(&[format!("id={sealed}")], |_| ())
            .await
            .assert_ok();
    }
    let both = two_live(&arena).await;
    for _ in 0..1_000 {
        browser.visit_as(&[&both], |_| ()).await.assert_ok();
    }
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    for reason in [
        "reason=bad-seal",
        "reason=unknown-key",
        "reason=duplicate-cookie",
    ] {
        let events = count(&[reason, "unreported="]);
        assert!(
            (1..=seconds + 2).contains(&events),
            "{reason}: {events} in {seconds} s"
        );
        assert!(count(&[reason, "unreported=0"]) >= 1);
    }
    arena.assert_sessions(2).await;
}

/// A cookie beside the header is an event, without either value. In a process of its own: the limit
/// of such events is the process'.
async fn t65c_headers() {
    const CHILD: &str = "ATTACKS_HEADERS_ALONE";
    capture::install();
    if std::env::var_os(CHILD).is_none() {
        let mut test = alone("attacks::logs::alone::t65c_headers");
        assert_passed(&test.env(CHILD, "1").output().unwrap());
        return;
    }
    let arena: Memory = crate::attacks::arena::begin().await;
    let browser = arena
        .visitor_of(arena.middleware().header("X-Session"))
        .await;
    let with = |value: &str| TestRequest::get().insert_header(("X-Session", value));
    let write = |s: &Session| s.insert("a", 1).unwrap();
    let answer = browser.visit_with(with(""), write).await;
    let value = answer.headers.get("X-Session").unwrap().to_str().unwrap();
    capture::plant("the value of a header", value);
    assert!(!format!("{answer:?}").contains(value));
    browser.visit(write).await.assert_sets_cookie();
    let cookie = format!("id={}", browser.value().unwrap());
    for value in [value, "", "junk"] {
        let both = with(value).insert_header(("cookie", cookie.as_str()));
        browser.visit_with(both, |_| ()).await.assert_ok();
    }
    assert_eq!(count(&["INFO", "reason=beside-header", "unreported=0"]), 1);
    assert_eq!(count(&["INFO", "reason=bad-seal"]), 1);
    assert_eq!(capture::leaks(), [""; 0]);
}

/// The cookies of two sessions.
async fn two_live(arena: &impl Arena) -> String {
    let mut pairs = Vec::new();
    for _ in 0..2 {
        let browser = arena.visitor().await;
        let answer = browser.visit(|s| s.insert("a", 1).unwrap()).await;
        answer.assert_sets_cookie();
        pairs.push(format!("id={}", browser.value().unwrap()));
    }
    pairs.join("; ")
}

async fn fill(session: Session, text: web::Path<String>) -> HttpResponse {
    session.insert("text", text.into_inner()).unwrap();
    session.renew();
    HttpResponse::Ok().finish()
}

/// Over a socket, so that the server's own log is among what is searched.
async fn t66_over_http() {
    capture::install();
    let (key, text) = (Key::generate(), secret("a state value"));
    capture::plant_key(&key);
    let store = MemorySessionStore::new();
    let make_key = key.clone();
    let server = Server::start(
        1,
        move || SessionMiddleware::new(store.clone(), make_key.clone()),
        |routes| {
            routes.route("/{text}", web::get().to(fill));
        },
    );
    let mut cookie = None;
    for _ in 0..3 {
        let (status, pair) =
            http_get(server.address, &format!("/{}", "plain"), cookie.as_deref()).await;
        assert_eq!(status, 200);
        let pair = pair.unwrap();
        let value = pair.strip_prefix("id=").unwrap();
        capture::plant("a sealed value", value);
        capture::plant("a session key", &opened(&key, "id", value).unwrap());
        cookie = Some(pair);
    }
    server.stop().await;
    let _ = text;
}

/// Runs all attacks once, one after the other, and searches what was logged for every secret.
#[actix_web::test]
async fn t66_secrets_in_logs() {
    capture::install();
    crate::attacks::arena::listen();
    for (name, run) in crate::attacks::all() {
        println!("{name}");
        run().await;
    }
    let (secrets, lines) = capture::sizes();
    assert!(secrets > 5_000 && lines > 5_000, "{secrets} {lines}");
    // What the search is worth: it finds a secret, and it has seen the most talkative level.
    let planted = secret("a probe");
    assert!(!capture::leaks_in(&format!("before {planted} after")).is_empty());
    tracing::trace!(target: "probe", "heard");
    log::trace!(target: "probe", "heard");
    assert!(capture::heard("probe") >= 2);
    let leaks = capture::leaks();
    let shown = &leaks[..leaks.len().min(5)];
    assert!(leaks.is_empty(), "{} leaks: {shown:#?}", leaks.len());
    assert_harmless_log();
}
