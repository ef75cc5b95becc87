//! T-30 to T-38: tampering and keys.

use std::collections::HashSet;

use actix_session::{
    Session, SessionMiddleware,
    config::{CookieContentSecurity, SessionMiddlewareBuilder},
};
use actix_web::cookie::Key;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    arena::{Arena, InCookie, key_of, many, private, secret, signed, site},
    attacks, capture,
};
use crate::support::{Browser, Spy, opened};

attacks! {
    every: [
        t30_bit_flips,
        t32_transplant,
        t32_transplant_between_our_own,
        t33_other_app,
        t34_key_rotation,
        t35_downgrade,
        t36_unknown_version,
    ],
    lasting: [],
    server: [],
    timed: [],
    cookie: [],
    alone: [t37_nonces, t38_source_check],
}

const MODES: [CookieContentSecurity; 2] = [
    CookieContentSecurity::Private,
    CookieContentSecurity::Signed,
];

async fn filled(browser: &Browser) -> String {
    let text = secret("a state value");
    let answer = browser.visit(|s| s.insert("text", &text).unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
    text
}

async fn text_of(browser: &Browser) -> Option<String> {
    let mut text = None;
    browser
        .visit(|s| text = s.get("text").unwrap())
        .await
        .assert_ok();
    text
}

/// Every byte in turn, cut at every place, padded, doubled: nobody, and the store is not asked.
async fn t30_bit_flips(arena: impl Arena) {
    for mode in MODES {
        let spy = Spy::new(arena.store());
        let builder = SessionMiddleware::builder(spy.clone(), arena.key().clone())
            .clock(arena.clock().clone())
            .cookie_content_security(mode);
        let browser = arena.visitor_of(builder).await;
        let text = filled(&browser).await;
        let value = browser.value().unwrap();
        assert_eq!(text_of(&browser).await.as_deref(), Some(&*text));
        let before = arena.dump().await.sorted();
        spy.calls();
        let mut forged = Vec::new();
        for place in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[place] = match bytes[place] {
                // What follows a percent sign has to stay two digits.
                b'0'..=b'9' => b'0' + (bytes[place] - b'0' + 1) % 10,
                b'B' => b'C',
                _ => b'B',
            };
            forged.push(String::from_utf8(bytes).unwrap());
            forged.push(value[..place].to_owned());
        }
        for padding in ["=", "==", "%00", "A", "AAAA", "%20", "."] {
            forged.push(format!("{value}{padding}"));
            forged.push(format!("{padding}{value}"));
        }
        forged.push(value.repeat(2));
        // One pair of quotes belongs to the field, not to the value.
        forged.push(format!("\"{value}"));
        forged.push(format!("\"\"{value}\"\""));
        for forged in forged {
            browser.set_cookie("id", &*forged);
            assert!(browser.is_nobody().await, "{mode:?} {forged}");
            let calls = spy.calls();
            assert!(calls.is_empty(), "{mode:?} {forged} {calls:?}");
        }
        assert_eq!(arena.dump().await.sorted(), before);
        browser.set_cookie("id", value);
        assert_eq!(text_of(&browser).await, Some(text));
    }
}

/// A nickname that another part of the application signs or seals, moved to our cookie.
async fn t32_transplant(arena: impl Arena) {
    let before = arena.dump().await.sorted();
    let text = secret("a state value");
    let states = [
        format!(r#"{{"text":"\"{text}\""}}"#),
        format!(r#"{{"v":1,"state":{{"text":"{text}"}}}}"#),
        format!(r#"{{"v":1,"f":"00.1.1....0.","state":{{"text":"{text}"}}}}"#),
        "A".repeat(64),
    ];
    for mode in MODES {
        let builder = arena.middleware().cookie_content_security(mode);
        let browser = arena.visitor_of(builder).await;
        for state in &states {
            for value in [
                private(arena.key(), "nickname", state),
                signed(arena.key(), "nickname", state),
            ] {
                browser.set_cookie("id", encoded(&value));
                assert!(browser.is_nobody().await, "{mode:?} {state}");
                browser.forget();
            }
        }
    }
    assert_eq!(arena.dump().await.sorted(), before);
}

/// As a header carries it.
fn encoded(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"+/=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Two middlewares with one key and names of one length: neither's value is the other's.
async fn t32_transplant_between_our_own(arena: impl Arena) {
    for mode in MODES {
        let builder = || arena.middleware().cookie_content_security(mode);
        let (shop, till) = (
            arena
                .visitor_of(builder().cookie_name("shop".to_owned()))
                .await,
            arena
                .visitor_of(builder().cookie_name("till".to_owned()))
                .await,
        );
        filled(&shop).await;
        let value = shop.cookie("shop").unwrap();
        till.set_cookie("till", value);
        assert!(till.is_nobody().await, "{mode:?}");
        till.visit(Session::purge)
            .await
            .assert_ok()
            .assert_removes_cookie();
        // Its purge has not ended the other's.
        assert!(!shop.is_nobody().await, "{mode:?}");
        shop.visit(Session::purge).await.assert_ok();
    }
    arena.assert_sessions(0).await;
}

/// Another application with the same key: of another cookie name, or with another store.
async fn t33_other_app<A: Arena>(arena: A) {
    let elsewhere = A::start().await;
    let builder = |name: &str| {
        SessionMiddleware::builder(elsewhere.store(), arena.key().clone())
            .clock(arena.clock().clone())
            .cookie_name(name.to_owned())
    };
    let here = arena.visitor().await;
    filled(&here).await;
    let there = arena.visitor_of(builder("other")).await;
    there.set_cookie("other", here.value().unwrap());
    assert!(there.is_nobody().await);
    if A::SERVER {
        let there = arena.visitor_of(builder("id")).await;
        there.set_cookie("id", here.value().unwrap());
        assert!(there.is_nobody().await);
        there
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_sets_cookie();
        assert_ne!(there.value(), here.value());
        elsewhere.assert_sessions(1).await;
    }
    arena.assert_sessions(1).await;
}

fn with_keys<A: Arena>(
    arena: &A,
    first: &Key,
    previous: &[&Key],
) -> SessionMiddlewareBuilder<A::Store> {
    SessionMiddleware::builder(arena.store(), first.clone())
        .previous_keys(previous.iter().map(|key| (*key).clone()))
        .clock(arena.clock().clone())
}

/// A listed key opens and is replaced; one that is not listed does not; the order is nothing.
async fn t34_key_rotation(arena: impl Arena) {
    let (old, new, third) = (arena.key(), &Key::generate(), &Key::generate());
    capture::plant_key(new);
    for mode in MODES {
        for previous in [[old, third], [third, old]] {
            let with = |first, previous: &[&Key]| {
                with_keys(&arena, first, previous).cookie_content_security(mode)
            };
            let browser = arena.visitor_of(with(old, &[])).await;
            let text = filled(&browser).await;
            let before = browser.value();
            let refused = browser
                .at(site(with(new, &[third]).build(), new).await)
                .fork();
            assert!(refused.is_nobody().await);
            let rotated = browser.at(site(with(new, &previous).build(), new).await);
            rotated.visit(|_| ()).await.assert_ok().assert_sets_cookie();
            assert_ne!(browser.value(), before);
            // Once: then the new key has it.
            if let CookieContentSecurity::Private = mode {
                assert!(opened(new, "id", &browser.value().unwrap()).is_some());
            }
            let after = browser.at(site(with(new, &[]).build(), new).await);
            assert_eq!(text_of(&after).await, Some(text));
            after.visit(|_| ()).await.assert_ok().assert_no_cookie();
            after.visit(Session::purge).await.assert_ok();
        }
    }
    let many: Vec<Key> = (0..1_000_u16)
        .map(|n| Key::from(&n.to_be_bytes().repeat(32)))
        .collect();
    let mut many: Vec<&Key> = many.iter().collect();
    many.push(old);
    let browser = arena.visitor().await;
    let text = filled(&browser).await;
    let browser = browser.at(site(with_keys(&arena, new, &many).build(), new).await);
    assert_eq!(text_of(&browser).await, Some(text));
    arena.assert_sessions(1).await;
}

/// Texts without any seal, or with the other mode's.
async fn t35_downgrade<A: Arena>(arena: A) {
    let browser = arena.visitor().await;
    filled(&browser).await;
    let inside = key_of(&arena, &browser);
    let key = arena.key();
    let before = arena.dump().await.sorted();
    for mode in MODES {
        let victim = arena
            .visitor_of(arena.middleware().cookie_content_security(mode))
            .await;
        let other_mode = match mode {
            CookieContentSecurity::Private => signed(key, "id", &inside),
            CookieContentSecurity::Signed => private(key, "id", &inside),
        };
        let mac = STANDARD.encode([0; 32]);
        let unsigned = [
            inside.clone(),
            STANDARD.encode(&inside),
            format!("{mac}{inside}"),
            format!("{}{inside}", "=".repeat(44)),
            STANDARD.encode([&[0; 12], inside.as_bytes(), &[0; 16]].concat()),
            r#"{"text":"\"admin\""}"#.to_owned(),
            STANDARD.encode(r#"{"text":"\"admin\""}"#),
            other_mode,
        ];
        for value in unsigned {
            victim.set_cookie("id", encoded(&value));
            assert!(victim.is_nobody().await, "{mode:?} {value}");
        }
    }
    assert_eq!(arena.dump().await.sorted(), before);
}

/// Rightly sealed, and of a version or shape that nobody knows.
async fn t36_unknown_version(arena: impl Arena) {
    let before = arena.dump().await.sorted();
    for text in [
        r#"{"v":2,"state":{"text":"admin"}}"#,
        r#"{"v":1,"v":2,"state":{"text":"admin"}}"#,
        r#"{"v":"1","state":{"text":"admin"}}"#,
        r#"{"v":1,"state":[]}"#,
        r#"{"text":1}"#,
        r#"[{"text":"admin"}]"#,
        "null",
    ] {
        let browser = arena.visitor().await;
        browser.set_cookie("id", private(arena.key(), "id", text));
        assert!(browser.is_nobody().await, "{text}");
    }
    assert_eq!(arena.dump().await.sorted(), before);
}

/// No nonce twice in 10^4 requests. (In 10^6 seals: `cookie::seal::tests::nonces_do_not_repeat`.)
async fn t37_nonces() {
    let arena: InCookie = crate::attacks::arena::begin().await;
    let browser = arena.visitor().await;
    let mut nonces = HashSet::new();
    for n in 0..many(10_000) {
        browser
            .visit(|s| s.insert("n", n).unwrap())
            .await
            .assert_ok();
        let sealed = STANDARD.decode(browser.value().unwrap()).unwrap();
        assert!(nonces.insert(sealed[..12].to_vec()), "at {n}");
    }
}

/// MACs are compared by `ring` alone, in constant time; a statistical test would assert timing.
async fn t38_source_check() {
    const MAKERS: [&str; 3] = ["cookie/seal.rs", "csrf/token.rs", "record/keys.rs"];
    let is_maker = |file: &std::path::Path| MAKERS.iter().any(|maker| file.ends_with(maker));
    let mut makers = 0;
    for file in super::debug::sources() {
        let source = std::fs::read_to_string(&file).unwrap();
        // Nobody else has a way to make or to check one.
        assert_eq!(
            is_maker(&file),
            source.contains("hmac"),
            "{}",
            file.display()
        );
        if is_maker(&file) {
            compares_by_ring(source.split_once("#[cfg(test)]").unwrap().0);
            makers += 1;
        }
    }
    assert_eq!(makers, MAKERS.len());
    let seal = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cookie/seal.rs"));
    assert!(seal.contains(".open_within("));
}

fn compares_by_ring(code: &str) {
    assert!(code.contains("hmac::verify("));
    for line in code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
    {
        let compares = line.contains("==") || line.contains("!=") || line.contains(".eq(");
        let about = ["mac", "tag", "sealed", "sign"];
        let suspect = compares && about.iter().any(|word| line.contains(word));
        let named = line.contains("old_mac: format ==");
        assert!(!suspect || named, "{line}");
    }
}
