//! Requests of other sites, and tokens for forms, on each store.

use actix_session::{
    NamedSession, Session, SessionMiddleware, SessionName,
    config::OnLoadError,
    csrf::{CrossSiteGuard, CrossSiteReason, CsrfTokenError},
};
use actix_web::{
    App, Error, HttpRequest, HttpResponse, ResponseError as _,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{CACHE_CONTROL, COOKIE, HeaderName, HeaderValue, VARY},
    },
    middleware::{Next, from_fn},
    test::{TestRequest, init_service},
    web,
};

use crate::support::{
    Answer, Browser, Memory, Site, Spy, TestStore, expected, on_each_store_and_in_cookies, stop,
};

const REASON: HeaderName = HeaderName::from_static("x-reason");

on_each_store_and_in_cookies! {
    another_site_changes_nothing_in_either_order,
    a_token_is_of_one_session_and_one_login,
    a_pending_login_comes_back_under_strict_and_is_taken_once,
    parallel_first_tokens_all_count,
}

/// Shows the reason that a refusal carries.
async fn show_reason(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let mut response = next.call(req).await?.map_into_boxed_body();
    let reason = response
        .response()
        .extensions()
        .get::<CrossSiteReason>()
        .copied();
    if let Some(reason) = reason {
        let reason = HeaderValue::try_from(reason.to_string()).unwrap();
        response.headers_mut().insert(REASON, reason);
    }
    Ok(response)
}

/// What a browser would say, and whether it passes.
const SAID: [(&str, &str, Option<&str>); 8] = [
    ("sec-fetch-site", "same-origin", None),
    ("sec-fetch-site", "none", None),
    ("sec-fetch-site", "same-site", Some("cross-site")),
    ("sec-fetch-site", "cross-site", Some("cross-site")),
    ("origin", "http://shop.example", None),
    ("origin", "https://evil.example", Some("other-origin")),
    ("origin", "null", Some("null-origin")),
    ("x-nothing", "", None),
];

fn post(said: (&'static str, &'static str), cookie: &str) -> TestRequest {
    TestRequest::post()
        .insert_header(("host", "shop.example"))
        .insert_header(said)
        .insert_header((COOKIE, cookie))
}

#[track_caller]
fn assert_refused(answer: &Answer, reason: &str) {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert_eq!(answer.headers.get(REASON).unwrap(), reason);
    assert_eq!(answer.headers.get(CACHE_CONTROL).unwrap(), "no-store");
    let varies = answer.headers.get_all(VARY);
    let mut varies = varies.map(|it| it.to_str().unwrap());
    assert!(
        varies.any(|it| it.starts_with("Sec-Fetch-Site, Origin")),
        "{answer:?}"
    );
    assert!(!answer.failed, "access logs and CORS see a response");
    answer.assert_no_cookie();
}

async fn another_site_changes_nothing_in_either_order(tested: impl TestStore) {
    let sessions = || tested.middleware().build();
    let inside = App::new()
        .wrap(sessions().cross_site_guard())
        .wrap(sessions())
        .wrap(from_fn(show_reason))
        .default_service(web::to(stop));
    let outside = App::new()
        .wrap(sessions())
        .wrap(sessions().cross_site_guard())
        .wrap(from_fn(show_reason))
        .default_service(web::to(stop));
    let sites = [
        Site::of(init_service(inside).await),
        Site::of(init_service(outside).await),
    ];
    for site in sites {
        let browser = Browser::new(site);
        browser.visit(|s| s.insert("n", 0).unwrap()).await;
        let mut written = 0;
        for (name, value, refused) in SAID {
            let cookie = format!("a=b; id={}", browser.value().unwrap());
            let request = post((name, value), &cookie);
            let act = |s: &Session| s.insert("n", written + 1).unwrap();
            let answer = browser.visit_with(request, act).await;
            match refused {
                Some(reason) => assert_refused(&answer, reason),
                None => {
                    answer.assert_ok();
                    written += 1;
                }
            }
            assert_eq!(browser.number("n").await, Some(written));
        }
        // Without the cookie there is nothing to abuse.
        for cookie in ["a=b", "ids=a", "Id=a"] {
            let request = post(("sec-fetch-site", "cross-site"), cookie);
            let act = |s: &Session| assert!(s.is_empty());
            browser.visit_with(request, act).await.assert_ok();
        }
        // Whatever the cookie's value.
        let answer = browser.visit_with(post(("origin", "null"), "id=junk"), |_| ());
        assert_refused(&answer.await, "null-origin");
    }
}

#[actix_web::test]
async fn old_cookies_count_and_a_header_is_no_cookie() {
    let tested = Memory::start().await;
    let builder = tested.middleware().read_also("old").header("X-Session");
    let sessions = builder.build();
    let app = App::new()
        .wrap(sessions.cross_site_guard())
        .wrap(sessions)
        .wrap(from_fn(show_reason))
        .default_service(web::to(HttpResponse::Ok));
    let site = Site::of(init_service(app).await);
    let evil = ("origin", "https://evil.example");
    for cookie in ["id=a", "old=a", "a=b; old=c"] {
        assert_refused(&site.answer(post(evil, cookie)).await, "other-origin");
    }
    let request = post(evil, "id=a").insert_header(("X-Session", ""));
    site.answer(request).await.assert_ok();
}

#[actix_web::test]
async fn reading_passes_and_sockets_do_not() {
    let tested = Memory::start().await;
    let sessions = tested.middleware().build();
    let app = App::new()
        .wrap(sessions.cross_site_guard())
        .wrap(sessions)
        .wrap(from_fn(show_reason))
        .default_service(web::to(HttpResponse::Ok));
    let site = Site::of(init_service(app).await);
    let evil = ("origin", "https://evil.example");
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        site.answer(post(evil, "id=a").method(method))
            .await
            .assert_ok();
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let answer = site.answer(post(evil, "id=a").method(method)).await;
        assert_refused(&answer, "other-origin");
    }
    let socket = post(evil, "id=a")
        .method(Method::GET)
        .insert_header(("upgrade", "websocket"));
    assert_refused(&site.answer(socket).await, "other-origin");
}

/// Routing decodes a path before it chooses a resource; so does whoever asks for the resource's name.
#[actix_web::test]
async fn a_path_with_escapes_has_the_name_of_the_resource_that_serves_it() {
    let tested = Memory::start().await;
    let sessions = tested.middleware().build();
    let guard = sessions.cross_site_guard().exempt("any").always("login");
    let resource = |path: &str, name: &str| {
        web::resource(path.to_owned())
            .name(name)
            .route(web::route().to(HttpResponse::Ok))
    };
    let resources = |guard: CrossSiteGuard, at: &str| {
        web::scope(at)
            .service(resource("/login", "login"))
            .service(resource("/transfer", "transfer"))
            .service(resource("/{any}", "any"))
            .wrap(guard)
    };
    let own = web::resource("/resource/transfer")
        .name("transfer")
        .route(web::route().to(HttpResponse::Ok));
    let app = App::new()
        .service(resources(guard.clone(), "/scope"))
        .service(own.wrap(guard.clone()))
        .service(resource("/resource/{any}", "any").wrap(guard.clone()))
        .service(resources(guard, ""))
        .wrap(sessions)
        .wrap(from_fn(show_reason));
    let site = Site::of(init_service(app).await);
    let answer = async |path: &str, cookie: &str| {
        let request = post(("origin", "https://evil.example"), cookie);
        site.answer(request.uri(path)).await
    };
    for path in ["/login", "/%6Cogin", "/scope/logi%6e", "/%73cope/login"] {
        assert_refused(&answer(path, "a=b").await, "other-origin");
    }
    for path in [
        "/transfer",
        "/%74ransfer",
        "/scope/%74ransfer",
        "/s%63ope/transfer",
        "/resource/%74ransfer",
    ] {
        assert_refused(&answer(path, "id=a").await, "other-origin");
    }
    for path in [
        "/a",
        "/%61",
        "/scope/%61",
        "/s%63ope/a",
        "/resource/%61",
        "/a%2Fb",
        "/%2561",
    ] {
        answer(path, "id=a").await.assert_ok();
    }
}

/// Names are what routing takes them for, in scopes as well.
#[actix_web::test]
async fn routes_are_exempt_or_always_judged_by_their_names() {
    let tested = Memory::start().await;
    let sessions = tested.middleware().build();
    let guard = sessions
        .cross_site_guard()
        .exempt("hook")
        .always("login")
        .trust("https://pay.example")
        .unwrap();
    let resource = |path: &str, name: &str| {
        web::resource(path.to_owned())
            .name(name)
            .route(web::route().to(HttpResponse::Ok))
    };
    let inner = web::scope("/api")
        .service(resource("/hook/{id}", "hook"))
        .service(resource("/hook/{id}/pay", "pay"))
        .service(resource("/login", "login"));
    let app = App::new()
        .service(web::scope("").service(inner).wrap(guard).wrap(sessions))
        .wrap(from_fn(show_reason));
    let site = Site::of(init_service(app).await);
    let answer = async |path: &str, origin: &'static str, cookie: &str| {
        site.answer(post(("origin", origin), cookie).uri(path))
            .await
    };
    const EVIL: &str = "https://evil.example";
    answer("/api/hook/7", EVIL, "id=a").await.assert_ok();
    for path in [
        "/api/hook/7/pay",
        "/api/hook/7/",
        "/api/hook",
        "/x/api/hook/7",
    ] {
        assert_refused(&answer(path, EVIL, "id=a").await, "other-origin");
    }
    assert_refused(&answer("/api/login", EVIL, "a=b").await, "other-origin");
    answer("/api/hook/7/pay", EVIL, "a=b").await.assert_ok();
    answer("/api/login", "https://pay.example", "id=a")
        .await
        .assert_ok();
}

#[actix_web::test]
async fn a_guard_of_a_login_needs_no_cookie() {
    let login = web::resource("/login")
        .wrap(CrossSiteGuard::new())
        .route(web::post().to(HttpResponse::Ok));
    let site = Site::of(init_service(App::new().service(login).wrap(from_fn(show_reason))).await);
    for (name, value, refused) in SAID {
        let answer = site.answer(post((name, value), "a=b").uri("/login")).await;
        match refused {
            Some(reason) => assert_refused(&answer, reason),
            None => assert_eq!(answer.assert_ok().headers.get(VARY), None),
        }
    }
}

/// The token of a page of this visitor.
async fn token(browser: &Browser) -> String {
    let mut token = String::new();
    let page = |s: &Session| token = s.csrf_token().unwrap();
    browser.visit(page).await.assert_ok();
    token
}

async fn verify(browser: &Browser, token: &str) -> Result<(), CsrfTokenError> {
    let mut verdict = Ok(());
    let form = |s: &Session| verdict = s.verify_csrf_token(token);
    browser.visit(form).await.assert_ok();
    verdict
}

async fn a_token_is_of_one_session_and_one_login(tested: impl TestStore) {
    let (ada, bob) = (tested.browser().await, tested.browser().await);
    let (first, second) = (token(&ada).await, token(&ada).await);
    assert_ne!(first, second, "a compressed page must not betray it");
    let other = token(&bob).await;
    for token in [&first, &second] {
        assert_eq!(verify(&ada, token).await, Ok(()));
    }
    assert_eq!(verify(&ada, &other).await, Err(CsrfTokenError::Invalid));
    let nobody = tested.browser().await;
    assert_eq!(verify(&nobody, &first).await, Err(CsrfTokenError::Invalid));

    ada.visit(|s| s.login("ada").unwrap()).await.assert_ok();
    assert_eq!(verify(&ada, &first).await, Err(CsrfTokenError::Invalid));
    let after = token(&ada).await;
    ada.visit(Session::renew).await.assert_ok();
    assert_eq!(verify(&ada, &after).await, Ok(()));
    ada.visit(Session::reset_csrf_tokens).await.assert_ok();
    assert_eq!(verify(&ada, &after).await, Err(CsrfTokenError::Invalid));
    let last = token(&ada).await;
    ada.visit(Session::clear).await.assert_ok();
    assert_eq!(verify(&ada, &last).await, Err(CsrfTokenError::Invalid));
}

/// Several tabs of a session open their first forms at once.
async fn parallel_first_tokens_all_count(tested: impl TestStore) {
    if tested.is_in_cookies() {
        // The last response wins.
        return;
    }
    let browser = tested.browser().await;
    browser.visit(|s| s.insert("a", 1).unwrap()).await;
    let mut tokens = Vec::new();
    let mut flights = Vec::new();
    for _ in 0..4 {
        let flight = browser.begin().await;
        tokens.push(flight.csrf_token().unwrap());
        tokens.push(flight.csrf_token().unwrap());
        flights.push(flight);
    }
    for flight in flights {
        flight.finish().await.assert_ok();
    }
    for token in &tokens {
        assert_eq!(verify(&browser, token).await, Ok(()));
    }
}

#[actix_web::test]
async fn a_token_comes_in_a_header_or_not_at_all() {
    async fn page(session: Session) -> actix_web::Result<String> {
        Ok(session.csrf_token()?)
    }
    async fn act(session: Session, req: HttpRequest) -> actix_web::Result<HttpResponse> {
        session.verify_csrf_header(&req)?;
        Ok(HttpResponse::Ok().finish())
    }
    let tested = Memory::start().await;
    let app = App::new()
        .wrap(tested.middleware().build())
        .route("/", web::get().to(page))
        .route("/", web::post().to(act));
    let site = Site::of(init_service(app).await);
    let page = site.answer(TestRequest::get()).await;
    let token = std::str::from_utf8(&page.body).unwrap();
    let cookie = format!("id={}", page.cookie().unwrap().value());
    let with = |tokens: &[&str]| {
        let request = TestRequest::post().insert_header((COOKIE, cookie.as_str()));
        let add = |request: TestRequest, token: &&str| {
            request.append_header(("X-CSRF-Token", token.to_string()))
        };
        tokens.iter().fold(request, add)
    };
    site.answer(with(&[token])).await.assert_ok();
    for tokens in [&[][..], &[""], &["junk"], &[token, token], &[token, "junk"]] {
        let answer = site.answer(with(tokens)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{tokens:?}");
    }
}

/// The visitor's session, beside that of the pending login.
struct Main;

impl SessionName for Main {
    const COOKIE: &'static str = "id";
}

async fn begin(flow: Session) -> actix_web::Result<HttpResponse> {
    flow.insert("pending", "state")?;
    Ok(HttpResponse::Ok().finish())
}

async fn callback(flow: Session) -> actix_web::Result<HttpResponse> {
    match flow.take::<String>("pending").await? {
        Some(state) if state == "state" => flow.insert("verified", "ada")?,
        _ => return Ok(HttpResponse::BadRequest().finish()),
    }
    Ok(HttpResponse::Ok().finish())
}

async fn finish(flow: Session, main: NamedSession<Main>) -> actix_web::Result<HttpResponse> {
    let Some(user) = flow.take::<String>("verified").await? else {
        return Ok(HttpResponse::BadRequest().finish());
    };
    flow.purge();
    main.login(user)?;
    Ok(HttpResponse::Ok().finish())
}

/// What the documentation of `csrf` shows, with the cookies that a browser sends at each step.
async fn a_pending_login_comes_back_under_strict_and_is_taken_once(tested: impl TestStore) {
    use actix_web::cookie::SameSite;

    let flow = tested.middleware().cookie_name("flow".to_owned());
    let flow = flow.cookie_same_site(SameSite::Lax);
    let main = tested.middleware().cookie_same_site(SameSite::Strict);
    let app = App::new()
        .service(
            web::scope("/login")
                .wrap(flow.try_build().unwrap())
                .route("/begin", web::get().to(begin))
                .route("/callback", web::get().to(callback))
                .route("/finish", web::get().to(finish)),
        )
        .default_service(web::to(stop))
        .wrap(main.try_build().unwrap());
    let browser = Browser::new(Site::of(init_service(app).await));
    browser.visit(|s| s.insert("cart", 1).unwrap()).await;
    let strict = format!("id={}", browser.value().unwrap());

    let get = |path: &str, cookies: &[&str]| {
        TestRequest::with_uri(path).insert_header((COOKIE, cookies.join("; ")))
    };
    let site = &browser.site;
    let begun = site.answer(get("/login/begin", &[&strict])).await;
    let lax = |answer: &Answer| {
        let cookies = answer.cookies();
        let flow = cookies.iter().find(|cookie| cookie.name() == "flow");
        flow.map(|flow| format!("flow={}", flow.value()))
    };
    let flow = lax(begun.assert_ok()).unwrap();
    // From the other site: without the strict cookie.
    let back = site.answer(get("/login/callback", &[&flow])).await;
    let verified = lax(back.assert_ok()).unwrap_or_else(|| flow.clone());
    if !tested.is_in_cookies() {
        let again = site.answer(get("/login/callback", &[&flow])).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST);
    }
    // From our own page: with both.
    let both = [strict.as_str(), verified.as_str()];
    let done = site.answer(get("/login/finish", &both)).await;
    let cookies = done.assert_ok().cookies();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    let own = cookies.iter().find(|cookie| cookie.name() == "id").unwrap();
    browser.set_cookie("id", own.value());
    let removed = cookies.iter().find(|cookie| cookie.name() == "flow");
    assert_eq!(removed.unwrap().value(), "");
    assert_eq!(browser.principal().await.as_deref(), Some("ada"));
    assert_eq!(browser.number("cart").await, Some(1));
    if !tested.is_in_cookies() {
        let again = site.answer(get("/login/finish", &both)).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST);
        let records = tested.dump().await.records();
        assert_eq!(records, [expected(&[("cart", "1")])]);
    }
}

/// Nobody knows then which token is right.
#[actix_web::test]
async fn without_the_store_a_token_is_a_503() {
    let tested = Memory::start().await;
    let spy = Spy::new(tested.store());
    let builder = SessionMiddleware::builder(spy.clone(), tested.key().clone());
    let builder = builder.on_load_error(OnLoadError::Anonymous);
    let browser = tested.browser_of(builder).await;
    let flight = browser.begin().await;
    let token = flight.handle().csrf_token().unwrap();
    flight.finish().await.assert_sets_cookie();
    spy.refuse(&["open"]);
    let flight = browser.begin().await;
    let refused = flight.handle().verify_csrf_token(&token).unwrap_err();
    assert_eq!(refused, CsrfTokenError::Degraded);
    assert_eq!(refused.status_code(), StatusCode::SERVICE_UNAVAILABLE);
    let refused = flight.handle().csrf_token().unwrap_err();
    assert_eq!(refused.status_code(), StatusCode::SERVICE_UNAVAILABLE);
    // A page that can do without is served.
    flight.finish().await.assert_ok().assert_no_cookie();
}
