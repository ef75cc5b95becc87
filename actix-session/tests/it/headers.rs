//! What the headers of a response say: of cookies that moved, and to caches.

use actix_session::{
    Session, SessionMiddleware,
    config::{OldCookie, PersistentSession, SessionMiddlewareBuilder, TtlExtensionPolicy},
    storage::{CookieSessionStore, MemorySessionStore, SessionStore},
};
use actix_web::{
    App, HttpResponse,
    cookie::{Cookie, Key, SameSite},
    http::header::{CACHE_CONTROL, HeaderName, SET_COOKIE, VARY},
    test::{TestRequest, init_service},
    web,
};

use crate::support::{Answer, Browser, Site, TestStore, on_each_store, stop};

on_each_store! {
    a_site_drops_its_domain,
    a_middleware_wrapped_twice_is_the_inner_one,
}

fn lines(answer: &Answer) -> Vec<&str> {
    let fields = answer.headers.get_all(SET_COOKIE);
    fields.map(|field| field.to_str().unwrap()).collect()
}

fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let fields = answer.headers.get_all(name);
    fields.map(|field| field.to_str().unwrap()).collect()
}

async fn a_site_drops_its_domain(tested: impl TestStore) {
    drops_its_domain(|| tested.middleware()).await;
}

#[actix_web::test]
async fn a_site_with_cookie_stored_sessions_drops_its_domain() {
    let key = Key::generate();
    drops_its_domain(|| SessionMiddleware::builder(CookieSessionStore::default(), key.clone()))
        .await;
}

/// The old cookie has the present name, so that only its `Domain` tells it apart.
async fn drops_its_domain<S: SessionStore + 'static>(
    builder: impl Fn() -> SessionMiddlewareBuilder<S>,
) {
    const WIDE: &str = "Domain=example.com";
    let wide = builder().cookie_domain(Some("example.com".to_owned()));
    let old = OldCookie::named("id").domain("example.com");
    let narrow = builder().read_also(old).try_build().unwrap();
    let narrow = Browser::new(Site::new(narrow).await);
    let browser = Browser::new(Site::new(wide.build()).await);
    let answer = browser.visit(|s| s.login("user-42").unwrap()).await;
    assert!(lines(&answer)[0].contains(WIDE));

    let came = format!("id={}", browser.value().unwrap());
    let mut seen = None;
    let answer = narrow.visit_as(&[&came], |s| seen = s.principal()).await;
    assert_eq!(seen.as_deref(), Some("user-42"));
    let [removal, set] = lines(&answer)[..] else {
        panic!("{answer:?}");
    };
    assert!(
        removal.starts_with("id=;") && removal.contains(WIDE),
        "{removal}"
    );
    assert!(removal.contains("Max-Age=0"), "{removal}");
    assert!(!set.contains("Domain") && !set.contains("Max-Age"), "{set}");
    let moved = Cookie::parse(set.to_owned()).unwrap().value().to_owned();

    // Both are removed by a logout, whichever came.
    for value in [format!("id={moved}"), format!("{came}; id={moved}")] {
        let answer = narrow.visit_as(&[value], Session::purge).await;
        let lines = lines(&answer);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines.iter().all(|line| line.contains("Max-Age=0")),
            "{lines:?}"
        );
        assert_eq!(lines.iter().filter(|line| line.contains(WIDE)).count(), 1);
    }
    // Whoever brought none has none removed.
    let write = |s: &Session| s.insert("a", 1).unwrap();
    let answer = Browser::new(narrow.site.clone()).visit(write).await;
    answer.assert_sets_cookie();
}

async fn a_middleware_wrapped_twice_is_the_inner_one(tested: impl TestStore) {
    wrapped_twice(|| tested.middleware()).await;
}

#[actix_web::test]
async fn a_middleware_of_cookie_stored_sessions_wrapped_twice_is_the_inner_one() {
    let key = Key::generate();
    wrapped_twice(|| SessionMiddleware::builder(CookieSessionStore::default(), key.clone())).await;
}

fn rolling<S: SessionStore>(builder: SessionMiddlewareBuilder<S>) -> SessionMiddlewareBuilder<S> {
    let lifecycle = PersistentSession::default()
        .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    builder.session_lifecycle(lifecycle)
}

async fn wrapped_twice<S: SessionStore + 'static>(
    builder: impl Fn() -> SessionMiddlewareBuilder<S>,
) {
    let outer = rolling(builder()).cookie_same_site(SameSite::Strict);
    let app = App::new()
        .wrap(rolling(builder()).build())
        .wrap(outer.build())
        .default_service(web::to(stop));
    let browser = Browser::new(Site::of(init_service(app).await));
    for n in 1..=3 {
        let answer = browser.visit(|s| s.insert("n", n).unwrap()).await;
        assert!(lines(answer.assert_sets_cookie())[0].contains("SameSite=Lax"));
        assert_eq!(browser.number("n").await, Some(n));
    }
    browser.visit(Session::clear).await.assert_ok();
    assert!(browser.is_nobody().await);
    browser
        .visit(|s| s.login("user-42").unwrap())
        .await
        .assert_sets_cookie();
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    browser.visit(Session::purge).await.assert_removes_cookie();
    assert_eq!(browser.value(), None);
}

/// A site whose handler never asks for the session.
async fn unasked() -> Site {
    let middleware = SessionMiddleware::builder(MemorySessionStore::new(), Key::from(&[7; 64]));
    let app = App::new()
        .wrap(rolling(middleware).build())
        .route("/asked", web::to(stop))
        .default_service(web::to(|| async {
            HttpResponse::Ok()
                .insert_header((CACHE_CONTROL, "public, max-age=60"))
                .insert_header(("cdn-cache-control", "max-age=600"))
                .insert_header(("surrogate-control", "max-age=600"))
                .finish()
        }));
    Site::of(init_service(app).await)
}

#[actix_web::test]
async fn nothing_that_shared_caches_read_lets_them_keep_a_session_cookie() {
    let browser = Browser::new(unasked().await);
    let write = |s: &Session| s.insert("a", 1).unwrap();
    browser
        .visit_path("/asked", write)
        .await
        .assert_sets_cookie();
    let request = || TestRequest::get().uri("/");
    let with = request().insert_header(("cookie", format!("id={}", browser.value().unwrap())));
    let refreshed = browser.site.answer(with).await;
    refreshed.assert_sets_cookie();
    assert_eq!(values(&refreshed, "cache-control"), ["max-age=60, private"]);
    for name in ["cdn-cache-control", "surrogate-control", "vary"] {
        assert_eq!(values(&refreshed, name), [""; 0], "{name}");
    }
    // A response without the cookie stays as its handler made it.
    let plain = browser.site.answer(request()).await;
    assert_eq!(values(&plain, "cache-control"), ["public, max-age=60"]);
    assert_eq!(values(&plain, "cdn-cache-control"), ["max-age=600"]);
    assert_eq!(values(&plain, "vary"), [""; 0]);
}

/// An extension without a cookie is no business of caches.
#[actix_web::test]
async fn an_extension_alone_says_nothing_to_caches() {
    let lifecycle = actix_session::config::BrowserSession::default()
        .state_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let middleware = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate());
    let app = App::new()
        .wrap(middleware.session_lifecycle(lifecycle).build())
        .route("/asked", web::to(stop))
        .default_service(web::to(HttpResponse::Ok));
    let browser = Browser::new(Site::of(init_service(app).await));
    let write = |s: &Session| s.insert("a", 1).unwrap();
    browser
        .visit_path("/asked", write)
        .await
        .assert_sets_cookie();
    let pair = format!("id={}", browser.value().unwrap());
    let request = TestRequest::get().insert_header(("cookie", pair));
    let answer = browser.site.answer(request).await;
    answer.assert_ok().assert_no_cookie();
    assert!(!answer.headers.contains_key(VARY));
    assert!(!answer.headers.contains_key(CACHE_CONTROL));
    let read = browser.visit_path("/asked", |_| ()).await;
    assert_eq!(values(&read, "vary"), ["Cookie"]);
    assert!(!read.headers.contains_key(CACHE_CONTROL));
}

#[actix_web::test]
async fn the_error_of_an_inner_middleware_varies_too() {
    let browser = Browser::with(MemorySessionStore::new()).await;
    let answer = browser.begin().await.fail().await;
    assert_eq!(answer.status, 401);
    assert_eq!(values(&answer, "vary"), ["Cookie"]);
    assert_eq!(answer.body, "an inner middleware");
    let other = HeaderName::from_static("cache-control");
    assert!(!answer.headers.contains_key(other));
}

#[actix_web::test]
async fn a_logout_before_a_message_that_does_not_fit_removes_the_cookie() {
    let in_cookie = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate());
    purge_and_fail(in_cookie).await;
    let on_server = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate());
    purge_and_fail(on_server.max_state_size(512)).await;
}

async fn purge_and_fail<S: SessionStore + 'static>(builder: SessionMiddlewareBuilder<S>) {
    let browser = Browser::new(Site::new(builder.build()).await);
    browser
        .visit(|s| s.login("user-42").unwrap())
        .await
        .assert_sets_cookie();
    let act = |s: &Session| {
        s.purge();
        s.insert("flash", "a".repeat(5_000)).unwrap();
    };
    let answer = browser.visit(act).await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.is_empty());
    answer.assert_removes_cookie();
    assert_eq!(values(&answer, "cache-control"), ["no-store"]);
    assert_eq!(browser.value(), None);
    // The same after `purge_now`, and nothing is removed of whoever brought nothing.
    let answer = browser.visit(act).await;
    answer.assert_opaque();
}
