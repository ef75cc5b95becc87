//! T-45 and T-46: more cookies than one.

use actix_session::{Session, config::OldCookie};
use actix_web::http::header::SET_COOKIE;

use super::{
    arena::{Arena, fingerprint, key_of, nobody, somebody},
    attacks, capture,
};
use crate::support::Browser;

attacks! {
    every: [t45_tossing, t45_tossing_the_old_name, t46_split_fields],
    lasting: [],
    server: [],
    timed: [],
    cookie: [],
    alone: [],
}

/// A neighbour plants a cookie of the old name: if a live one of the present name came, nobody
/// looks at it, and what removes it says the path and the domain that it had.
async fn t45_tossing_the_old_name(arena: impl Arena) {
    let old = OldCookie::named("id").domain("example.com").path("/app");
    let browser = arena
        .visitor_of(arena.middleware().strict().read_also(old))
        .await;
    let (victim, attacker) = (somebody(), somebody());
    browser
        .visit(|s| s.login(&victim).unwrap())
        .await
        .assert_sets_cookie();
    let neighbour = arena.visitor().await;
    neighbour
        .visit(|s| s.login(&attacker).unwrap())
        .await
        .assert_sets_cookie();
    let own = format!("__Host-id={}", browser.cookie("__Host-id").unwrap());
    let planted = format!("id={}", neighbour.value().unwrap());
    for field in [format!("{planted}; {own}"), format!("{own}; {planted}")] {
        let seen = principal(&browser, &[&field]).await;
        assert_eq!(seen.as_deref(), Some(&*victim), "{field}");
    }
    let field = format!("{planted}; {own}");
    let answer = browser.visit_as(&[&field], Session::purge).await;
    let lines: Vec<&str> = answer
        .assert_ok()
        .headers
        .get_all(SET_COOKIE)
        .map(|line| line.to_str().unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let gone = lines.iter().find(|line| line.starts_with("id=;")).unwrap();
    for part in ["Path=/app", "Domain=example.com", "Max-Age=0", "Secure"] {
        assert!(
            gone.split("; ").any(|attribute| attribute == part),
            "{gone}"
        );
    }
    arena.assert_sessions(0).await;
}

/// Junk beside the good one; the attacker's good one beside the victim's; five.
async fn t45_tossing(arena: impl Arena) {
    let strict = arena
        .visitor_of(arena.middleware().cookie_name("id".into()).strict())
        .await;
    let (mut pairs, mut names) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let (browser, name) = (Browser::new(strict.site.clone()), somebody());
        let answer = browser.visit(|s| s.login(&name).unwrap()).await;
        answer.assert_sets_cookie();
        pairs.push(format!(
            "__Host-id={}",
            browser.cookie("__Host-id").unwrap()
        ));
        names.push(name);
    }
    let before = arena.dump().await.sorted();
    junk_is_passed_over(&strict, &pairs[0], &names[0]).await;
    let [first, second] = [&pairs[0], &pairs[1]];
    for field in [
        format!("{first}; {second}"),
        format!("{second}; {first}"),
        pairs.join("; "),
    ] {
        assert_eq!(principal(&strict, &[&field]).await, None);
        assert!(nobody(&strict, &[&field]).await);
        // Nothing is written into any of them either.
        let write = |s: &Session| s.insert("card", 1).unwrap();
        strict.visit_as(&[&field], write).await.assert_ok();
        let is_theirs = |text: &str| names.iter().any(|name| text.contains(name.as_str()));
        let dump = arena.dump().await;
        let mut records = dump.0.iter().map(|(_, text)| text);
        assert!(!records.any(|text| text.contains("card") && is_theirs(text)));
    }
    assert!(capture::told(&[
        "WARN",
        "reason=duplicate-cookie",
        "session="
    ]));
    let kept = arena.dump().await;
    assert!(before.0.iter().all(|record| kept.0.contains(record)));
    the_first_is_used_by_default(&arena, &names).await;
}

async fn junk_is_passed_over(strict: &Browser, pair: &str, name: &str) {
    for field in [
        format!("__Host-id=junk; {pair}"),
        format!("{pair}; __Host-id=junk"),
        format!("{pair}; {pair}"),
        format!("{}; {pair}", ["__Host-id=junk"; 5].join("; ")),
        // What does not verify is not counted, however much of it there is.
        format!("{}; {pair}", junk(40)),
        format!("{}; {pair}", junk(1_000)),
    ] {
        let found = principal(strict, &[&field]).await;
        assert_eq!(found.as_deref(), Some(name), "{field}");
    }
}

/// Of two good ones; and an event says so.
async fn the_first_is_used_by_default(arena: &impl Arena, names: &[String]) {
    let lax = arena.visitor().await;
    let browsers = [lax.fork(), lax.fork()];
    for (browser, name) in browsers.iter().zip(names) {
        let answer = browser.visit(|s| s.login(name).unwrap()).await;
        answer.assert_sets_cookie();
    }
    let pairs = browsers
        .each_ref()
        .map(|browser| format!("id={}", browser.value().unwrap()));
    for (first, second) in [(0, 1), (1, 0)] {
        let field = format!("{}; {}", pairs[first], pairs[second]);
        let found = principal(&lax, &[field]).await;
        assert_eq!(found.as_deref(), Some(&*names[first]));
        let passed_over = fingerprint(&key_of(arena, &browsers[second]));
        assert!(capture::told(&["reason=duplicate-cookie", &passed_over]));
    }
}

fn junk(count: usize) -> String {
    let pairs: Vec<String> = (0..count).map(|n| format!("__Host-id=junk{n}")).collect();
    pairs.join("; ")
}

async fn principal(browser: &Browser, fields: &[impl AsRef<[u8]>]) -> Option<String> {
    let mut principal = None;
    let answer = browser
        .visit_as(fields, |s| principal = s.principal())
        .await;
    answer.assert_ok();
    principal
}

/// HTTP/2 may split the field.
async fn t46_split_fields(arena: impl Arena) {
    let strict = arena.visitor_of(arena.middleware().strict()).await;
    let other = Browser::new(strict.site.clone());
    for browser in [&strict, &other] {
        browser
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_sets_cookie();
    }
    let [a, b] = [&strict, &other]
        .map(|browser| format!("__Host-id={}", browser.cookie("__Host-id").unwrap()));
    assert!(!nobody(&strict, &["x=1", &a]).await);
    assert!(!nobody(&strict, &[&a, "x=1"]).await);
    assert!(!nobody(&strict, &["__Host-id=junk", &a]).await);
    assert!(!nobody(&strict, &[&a, &a]).await);
    assert!(nobody(&strict, &[&a, &b]).await);
    assert!(nobody(&strict, &[&b, &a]).await);
    arena.assert_sessions(2).await;
}
