//! T-40 to T-56: the cookie on the wire, as browsers see it.

use actix_session::{
    Session,
    config::{ConfigError, CookieContentSecurity},
};
use actix_web::{
    App, HttpRequest, HttpResponse,
    cookie::Cookie,
    http::header::{CACHE_CONTROL, SET_COOKIE, VARY},
    test::{TestRequest, init_service},
    web,
};

use super::{
    arena::{Arena, nobody, secret},
    attacks, capture,
    jar::taken,
    prefixes::{builder, line},
};
use crate::support::{Answer, Browser, Site};

attacks! {
    every: [t50_double_set_cookie, t55_huge_header, t56_caching],
    lasting: [],
    server: [],
    timed: [],
    cookie: [t47_oversize, t48_oversize_signed, t47_oversize_renewal],
    alone: [t49_long_attributes, t54_injected_attributes],
}

/// A state that makes name and value this long. Each state byte counts 4/3, so a pair's length
/// is hit exactly by the right length of the name.
async fn sized(
    arena: &impl Arena,
    mode: CookieContentSecurity,
    name: &str,
    state: usize,
) -> Answer {
    let builder = arena
        .middleware()
        .cookie_name(name.to_owned())
        .cookie_content_security(mode);
    let browser = arena.visitor_of(builder).await;
    let text = "a".repeat(state);
    browser.visit(|s| s.insert("t", &text).unwrap()).await
}

fn pair_length(answer: &Answer) -> Option<usize> {
    let line = answer.headers.get(SET_COOKIE)?.to_str().unwrap();
    Some(line.split(';').next().unwrap().len())
}

async fn t47_oversize(arena: impl Arena) {
    oversize(&arena, CookieContentSecurity::Private).await;
}

async fn t48_oversize_signed(arena: impl Arena) {
    oversize(&arena, CookieContentSecurity::Signed).await;
}

/// 4,096 octets pass and are what the browser keeps; 4,097 are an error, and nothing has changed.
async fn oversize(arena: &impl Arena, mode: CookieContentSecurity) {
    let mut state = 0;
    let mut name = String::new();
    // The longest state, and then the name, that reach the limit.
    for length in (2_600..4_000).rev() {
        let answer = sized(arena, mode, "n", length).await;
        if let Some(pair) = pair_length(&answer) {
            state = length;
            name = "n".repeat(1 + 4096 - pair);
            break;
        }
    }
    let at_limit = sized(arena, mode, &name, state).await;
    assert_eq!(pair_length(&at_limit), Some(4096));
    assert!(taken(&line(&at_limit.headers)).is_some());
    let over = sized(arena, mode, &format!("{name}n"), state).await;
    over.assert_opaque();
    let error = "4097 octets, but browsers drop cookies of more than 4096";
    assert!(capture::told(&["ERROR", error]));

    let browser = arena
        .visitor_of(arena.middleware().cookie_content_security(mode))
        .await;
    let text = secret("a state value");
    browser
        .visit(|s| s.insert("text", &text).unwrap())
        .await
        .assert_ok();
    let (before, stored) = (browser.value(), arena.dump().await.sorted());
    let fat = |s: &Session| s.insert("fat", "a".repeat(5_000)).unwrap();
    browser.visit(fat).await.assert_opaque();
    assert_eq!(browser.value(), before);
    assert_eq!(arena.dump().await.sorted(), stored);
    let mut kept = None;
    browser
        .visit(|s| kept = s.get::<String>("text").unwrap())
        .await
        .assert_ok();
    assert_eq!(kept, Some(text));
}

/// A login or a renewal that does not fit leaves the session before it as it was.
async fn t47_oversize_renewal(arena: impl Arena) {
    let steps: [fn(&Session); 3] = [
        Session::renew,
        |s| s.login("principal-of-a-fat-session").unwrap(),
        Session::clear,
    ];
    for step in steps {
        let browser = arena.visitor().await;
        browser
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_ok();
        let stored = arena.dump().await.sorted();
        let answer = browser
            .visit(|s| {
                step(s);
                s.insert("fat", "a".repeat(5_000)).unwrap();
            })
            .await;
        answer.assert_opaque();
        assert_eq!(arena.dump().await.sorted(), stored);
        assert_eq!(browser.number("a").await, Some(1));
    }
}

async fn t49_long_attributes() {
    capture::install();
    let path = |length: usize| builder().cookie_path(format!("/{}", "a".repeat(length - 1)));
    assert!(path(1024).try_build().is_ok());
    assert_eq!(path(1025).try_build().err(), Some(ConfigError::Path));
    let domain = builder().cookie_domain(Some("a".repeat(1025)));
    assert_eq!(domain.try_build().err(), Some(ConfigError::Domain));
}

async fn set_too(req: HttpRequest, session: Session) -> HttpResponse {
    let act = req.match_info().query("act");
    match act {
        "write" => session.insert("a", 1).unwrap(),
        "renew" => session.renew(),
        "purge" => session.purge(),
        _ => {}
    }
    HttpResponse::Ok()
        .cookie(Cookie::new("id", "theirs"))
        .append_header((SET_COOKIE, "id = theirs-too; Path=/"))
        .cookie(Cookie::new("idx", "stays"))
        .finish()
}

/// A handler sets a cookie of our name: one line leaves, ours.
async fn t50_double_set_cookie(arena: impl Arena) {
    let app = App::new()
        .wrap(arena.middleware().build())
        .route("/{act}", web::get().to(set_too));
    let site = Site::of(init_service(app).await);
    let browser = arena.visitor().await;
    for act in ["write", "renew", "purge"] {
        browser
            .visit(|s| s.insert("a", 0).unwrap())
            .await
            .assert_ok();
        let pair = format!("id={}", browser.value().unwrap());
        let uri = format!("/{act}");
        let request = TestRequest::with_uri(&uri).insert_header(("cookie", pair));
        let answer = site.answer(request).await;
        let lines: Vec<_> = answer.headers.get_all(SET_COOKIE).collect();
        let ours = lines.iter().filter(|l| !l.as_bytes().starts_with(b"idx="));
        let ours: Vec<_> = ours.map(|line| line.to_str().unwrap()).collect();
        // A write of a session on the server changes no cookie, so there the handler's stand.
        if ours.len() > 1 {
            assert!(act == "write" && ours.iter().all(|line| line.contains("theirs")));
        } else {
            assert_eq!(ours.len(), 1, "{act} {lines:?}");
            assert!(!ours[0].contains("theirs"), "{act} {ours:?}");
        }
        assert_eq!(lines.len() - ours.len(), 1);
        browser.forget();
    }
    let replaced = "cookie named like the session cookie";
    assert!(capture::told(&["WARN", replaced]));
}

/// Refused; and what `build` makes of it all the same carries no second line or attribute.
async fn t54_injected_attributes() {
    capture::install();
    for bad in [
        "\r",
        "\n",
        "\r\nX-Evil: 1",
        ";",
        "; Domain=evil.example",
        ",",
        "\0",
    ] {
        let text = format!("a{bad}b");
        let name = || builder().cookie_name(text.clone());
        let path = || builder().cookie_path(format!("/{text}"));
        let domain = || builder().cookie_domain(Some(text.clone()));
        assert_eq!(name().try_build().err(), Some(ConfigError::Name), "{bad:?}");
        assert_eq!(path().try_build().err(), Some(ConfigError::Path), "{bad:?}");
        assert_eq!(
            domain().try_build().err(),
            Some(ConfigError::Domain),
            "{bad:?}"
        );
        assert!(
            builder().read_also(text.clone()).try_build().is_err(),
            "{bad:?}"
        );
        for built in [name(), path(), domain()] {
            let app = App::new()
                .wrap(built.build())
                .route("/{act}", web::get().to(cached));
            let site = Site::of(init_service(app).await);
            let answer = site.answer(TestRequest::with_uri("/write")).await;
            assert!(!answer.headers.contains_key("x-evil"), "{bad:?}");
            for field in answer.headers.get_all(SET_COOKIE) {
                assert!(
                    !field.as_bytes().iter().any(u8::is_ascii_control),
                    "{bad:?}"
                );
            }
        }
    }
}

/// 64 KiB and 10,000 pairs: ours is found among them. (No time is asserted; the reader passes
/// over the bytes once.)
async fn t55_huge_header(arena: impl Arena) {
    let browser = arena.visitor().await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_sets_cookie();
    let ours = format!("id={}", browser.value().unwrap());
    let pairs = vec!["a=b"; 10_000].join(";");
    let nonsense = "x".repeat(64 * 1024);
    let equals = "=;".repeat(32 * 1024);
    for huge in [&pairs, &nonsense, &equals] {
        for field in [format!("{ours};{huge}"), format!("{huge};{ours}")] {
            assert!(!nobody(&browser, &[field]).await);
        }
    }
    let junk: Vec<String> = (0..10_000).map(|n| format!("id={n}")).collect();
    let junk = junk.join(";");
    assert!(!nobody(&browser, &[format!("{junk};{ours}")]).await);
    browser
        .visit_as(&[&junk], |s| s.insert("b", 1).unwrap())
        .await
        .assert_sets_cookie();
    arena.assert_sessions(2).await;
}

async fn cached(session: Session, act: web::Path<String>) -> HttpResponse {
    match act.as_str() {
        "write" => session.insert("a", 1).unwrap(),
        "renew" => session.renew(),
        "purge" => session.purge(),
        _ => {}
    }
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "public, s-maxage=600, max-age=60"))
        .append_header((VARY, "Accept"))
        .finish()
}

type Step = (&'static str, fn(&Session));

/// Whatever sets, refreshes or removes the cookie is for nobody else.
async fn t56_caching(arena: impl Arena) {
    let browser = arena.visitor_of(arena.rolling()).await;
    let steps: [Step; 4] = [
        ("set", |s| s.insert("a", 1).unwrap()),
        ("refresh", |_| ()),
        ("renew", Session::renew),
        ("remove", Session::purge),
    ];
    for (what, step) in steps {
        let answer = browser.visit(step).await;
        assert!(answer.assert_ok().cookie().is_some(), "{what}");
        assert_eq!(values(&answer, "cache-control"), ["no-store"], "{what}");
        assert_eq!(values(&answer, "vary"), ["Cookie"], "{what}");
    }
    // Read and not changed: another visitor's answer differs all the same.
    let plain = arena.visitor().await.visit(|s| drop(s.entries())).await;
    assert_eq!(values(&plain, "vary"), ["Cookie"]);

    what_a_handler_says_of_caches_is_narrowed(&arena, &browser).await;
    arena.assert_sessions(0).await;
}

async fn what_a_handler_says_of_caches_is_narrowed(arena: &impl Arena, browser: &Browser) {
    let app = App::new()
        .wrap(arena.rolling().build())
        .route("/{act}", web::get().to(cached));
    let site = Site::of(init_service(app).await);
    browser
        .visit(|s| s.insert("a", 0).unwrap())
        .await
        .assert_ok();
    for act in ["write", "refresh", "renew", "purge"] {
        let pair = format!("id={}", browser.value().unwrap());
        let uri = format!("/{act}");
        let request = TestRequest::with_uri(&uri).insert_header(("cookie", pair));
        let answer = site.answer(request).await;
        let cookie = answer.cookie();
        assert!(cookie.is_some(), "{act}");
        let control = values(&answer, "cache-control").join(", ");
        assert!(
            control.contains("private") && !control.contains("public"),
            "{control}"
        );
        assert!(
            !control.contains("s-maxage") && control.contains("max-age=60"),
            "{control}"
        );
        assert_eq!(values(&answer, "vary"), ["Accept, Cookie"], "{act}");
        if let Some(cookie) = cookie.filter(|cookie| !cookie.value().is_empty()) {
            browser.set_cookie("id", cookie.value());
        }
    }
}

fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let fields = answer.headers.get_all(name);
    fields.map(|field| field.to_str().unwrap()).collect()
}
