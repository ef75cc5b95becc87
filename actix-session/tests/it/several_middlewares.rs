//! Two session middlewares in one application.

use actix_session::{
    NamedSession, Session, SessionExt as _, SessionMiddleware, SessionName,
    config::{CookieContentSecurity, SessionMiddlewareBuilder},
    storage::MemorySessionStore,
};
use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::ErrorUnauthorized,
    middleware::{Next, from_fn},
    test::{TestRequest, init_service},
    web,
};

use crate::support::{self, Browser, Dump, Site, TestStore, expected, on_each_store, stop};

on_each_store! {
    two_nested_middlewares_never_mix,
    two_middlewares_side_by_side_never_mix,
    a_value_of_another_cookie_does_not_open,
    after_an_error_of_the_inner_one_the_outer_session_is_back,
    each_session_can_be_had_by_its_name,
    a_session_had_by_its_name_is_loaded_when_it_is_asked_for,
    a_session_that_was_asked_for_early_is_taken_over,
    what_is_done_early_counts_as_in_the_handler,
    whoever_is_named_early_is_logged_in,
}

/// Between two middlewares: writes to the outer session before the handler and after it.
async fn between(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let outer = req.get_session();
    outer.insert("on-the-way-in", 1)?;
    let response = next.call(req).await?;
    let again = response.request().get_session();
    again.insert("on-the-way-out", outer.entries().len())?;
    Ok(response)
}

async fn two_nested_middlewares_never_mix(tested: impl TestStore) {
    let outer = MemorySessionStore::new();
    let builder = SessionMiddleware::builder(outer.clone(), tested.key().clone());
    let app = App::new()
        .wrap(tested.middleware().cookie_name("inner".to_owned()).build())
        .wrap(from_fn(between))
        .wrap(builder.cookie_name("outer".to_owned()).build())
        .default_service(web::to(stop));
    let browser = Browser::new(Site::of(init_service(app).await));
    for round in 1..=2_usize {
        let secret = |s: &Session| {
            assert!(!s.contains_key("on-the-way-in"));
            assert_eq!(s.entries().len(), round - 1);
            s.insert(format!("secret-{round}"), round).unwrap();
        };
        let answer = browser.visit(secret).await;
        answer.assert_ok();
        assert_eq!(answer.cookies().len(), if round == 1 { 2 } else { 0 });
        let inner = tested.dump().await.only();
        assert_eq!(inner.len(), round, "{inner:?}");
        assert!(inner.keys().all(|name| name.starts_with("secret-")));
        let outer = Dump(outer.dump()).only();
        let own: Vec<&str> = outer.keys().map(String::as_str).collect();
        assert_eq!(own, ["on-the-way-in", "on-the-way-out"]);
    }
    // One that ends does not end the other.
    let answer = browser.visit(Session::purge).await;
    answer.assert_removes_cookie();
    tested.dump().await.assert_no_record();
    assert_eq!(outer.len(), 1);
}

async fn two_middlewares_side_by_side_never_mix(tested: impl TestStore) {
    let scope = |name: &str| {
        let builder = tested.middleware().cookie_name(name.to_owned());
        web::scope(&format!("/{name}"))
            .wrap(builder.build())
            .default_service(web::to(stop))
    };
    let app = App::new().service(scope("shop")).service(scope("admin"));
    let browser = Browser::new(Site::of(init_service(app).await));
    for name in ["shop", "admin"] {
        let write = |s: &Session| s.insert(name, 1).unwrap();
        browser
            .visit_path(&format!("/{name}/"), write)
            .await
            .assert_sets_cookie();
    }
    for (name, other) in [("shop", "admin"), ("admin", "shop")] {
        let read = |s: &Session| assert!(s.contains_key(name) && !s.contains_key(other));
        browser
            .visit_path(&format!("/{name}/"), read)
            .await
            .assert_ok();
    }
    let records = tested.dump().await.records();
    assert_eq!(records.len(), 2);
    assert!(
        records.iter().all(|record| record.len() == 1),
        "{records:?}"
    );
    let answer = browser.visit_path("/admin/", Session::purge).await;
    assert_eq!(
        answer.assert_removes_cookie().cookie().unwrap().name(),
        "admin"
    );
    assert_eq!(tested.dump().await.only(), expected(&[("shop", "1")]));
}

async fn a_value_of_another_cookie_does_not_open(tested: impl TestStore) {
    for security in [
        CookieContentSecurity::Private,
        CookieContentSecurity::Signed,
    ] {
        let named = async |name: &str| {
            let builder = tested
                .middleware()
                .cookie_name(name.to_owned())
                .cookie_content_security(security);
            tested.browser_of(builder).await
        };
        let (shop, admin) = (named("shop").await, named("admin").await);
        shop.visit(|s| s.insert("a", 1).unwrap()).await;
        let value = shop.cookie("shop").unwrap();
        let pair = [format!("admin={value}")];
        let answer = admin.visit_as(&pair, |s| assert!(s.is_empty())).await;
        answer.assert_ok();
        let pair = [format!("shop={value}")];
        let answer = shop.visit_as(&pair, |s| assert!(!s.is_empty())).await;
        answer.assert_ok();
    }
}

/// Makes an error of the inner middleware a response, with a message for the next page.
async fn explain(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let request = req.request().clone();
    match next.call(req).await {
        Ok(response) => Ok(response.map_into_boxed_body()),
        Err(error) => {
            request.get_session().insert("flash", error.to_string())?;
            let response = HttpResponse::Ok().finish();
            Ok(ServiceResponse::new(request, response))
        }
    }
}

async fn after_an_error_of_the_inner_one_the_outer_session_is_back(tested: impl TestStore) {
    let outer = MemorySessionStore::new();
    let builder = SessionMiddleware::builder(outer.clone(), tested.key().clone());
    let app = App::new()
        .wrap(from_fn(
            |req: ServiceRequest, next: Next<BoxBody>| async move {
                next.call(req).await?;
                Err::<ServiceResponse<BoxBody>, _>(ErrorUnauthorized("an inner middleware"))
            },
        ))
        .wrap(tested.middleware().cookie_name("inner".to_owned()).build())
        .wrap(from_fn(explain))
        .wrap(builder.cookie_name("outer".to_owned()).build())
        .default_service(web::to(HttpResponse::Ok));
    let browser = Browser::new(Site::of(init_service(app).await));
    let answer = browser.site.answer(TestRequest::get()).await;
    answer.assert_ok();
    assert_eq!(
        Dump(outer.dump()).only(),
        expected(&[("flash", "\"an inner middleware\"")])
    );
}

struct Inner;

impl SessionName for Inner {
    const COOKIE: &'static str = "the inner one";
}

struct Outer;

impl SessionName for Outer {
    const COOKIE: &'static str = "the outer one";
}

struct Missing;

impl SessionName for Missing {
    const COOKIE: &'static str = "missing";
}

/// Counts in both sessions, and says what it sees in each.
async fn count(
    inner: NamedSession<Inner>,
    outer: NamedSession<Outer>,
    missing: Option<NamedSession<Missing>>,
    request: HttpRequest,
) -> Result<String, Error> {
    assert!(missing.is_none());
    assert!(request.get_session_named("id").is_none());
    let seen = (inner.get("inner")?, outer.get("outer")?);
    let (in_inner, in_outer): (Option<u64>, Option<u64>) = seen;
    inner.insert("inner", in_inner.unwrap_or(0) + 1)?;
    let outer = request.get_session_named(Outer::COOKIE).unwrap();
    outer.insert("outer", in_outer.unwrap_or(0) + 10)?;
    Ok(format!("{seen:?}"))
}

/// Asks for both sessions once the inner middleware has answered.
async fn after_the_inner_one(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let response = next.call(req).await?;
    assert!(response.get_session_named(Inner::COOKIE).is_none());
    let outer = response.get_session_named(Outer::COOKIE).unwrap();
    assert!(outer.contains_key("outer"));
    outer.insert("on-the-way-out", true)?;
    Ok(response)
}

async fn count_in_both<T: TestStore>(
    tested: &T,
    inner: SessionMiddlewareBuilder<T::Store>,
    outer: SessionMiddlewareBuilder<MemorySessionStore>,
    outer_store: MemorySessionStore,
) {
    let app = App::new()
        .wrap(inner.cookie_name(Inner::COOKIE.to_owned()).build())
        .wrap(from_fn(after_the_inner_one))
        .wrap(outer.cookie_name(Outer::COOKIE.to_owned()).build())
        .route("/", web::to(count))
        .route(
            "/missing",
            web::to(|_: NamedSession<Missing>| HttpResponse::Ok()),
        );
    let browser = Browser::new(Site::of(init_service(app).await));
    for seen in ["(None, None)", "(Some(1), Some(10))", "(Some(2), Some(20))"] {
        let answer = browser.get("/").await;
        answer.assert_ok();
        assert_eq!(answer.body, seen);
    }
    assert_eq!(tested.dump().await.only(), expected(&[("inner", "3")]));
    assert_eq!(
        Dump(outer_store.dump()).only(),
        expected(&[("on-the-way-out", "true"), ("outer", "30")])
    );
    browser.get("/missing").await.assert_opaque();
}

async fn each_session_can_be_had_by_its_name(tested: impl TestStore) {
    let outer = MemorySessionStore::new();
    let builder = SessionMiddleware::builder(outer.clone(), tested.key().clone());
    count_in_both(&tested, tested.middleware(), builder, outer).await;
}

async fn a_session_had_by_its_name_is_loaded_when_it_is_asked_for(tested: impl TestStore) {
    let outer = MemorySessionStore::new();
    let builder = SessionMiddleware::builder(outer.clone(), tested.key().clone());
    count_in_both(&tested, tested.middleware().lazy(), builder.lazy(), outer).await;
}

/// Around the middleware, where the published crate has the same session.
async fn around(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let early = req.get_session();
    assert!(early.is_empty());
    early.insert("early", 1)?;
    let response = next.call(req).await?;
    let late = response.request().get_session();
    assert_eq!(late.get::<u64>("early")?, Some(1));
    assert_eq!(late.entries().len(), early.entries().len());
    Ok(response)
}

async fn a_session_that_was_asked_for_early_is_taken_over(tested: impl TestStore) {
    for lazy in [false, true] {
        let builder = tested.middleware();
        let builder = if lazy { builder.lazy() } else { builder };
        let app = App::new()
            .wrap(builder.build())
            .wrap(from_fn(around))
            .default_service(web::to(stop));
        let browser = Browser::new(Site::of(init_service(app).await));
        browser.visit(|_| ()).await.assert_ok().assert_sets_cookie();
        let set = |s: &Session| {
            assert_eq!(s.get::<u64>("early").unwrap(), Some(1));
            s.insert("n", 1).unwrap();
        };
        browser.visit(set).await.assert_ok();
        let mut found = None;
        browser.visit(|s| found = s.get::<u64>("n").unwrap()).await;
        assert_eq!(found, Some(1), "lazy: {lazy}");
    }
}

/// Around the middleware: adds up, and asks for a token.
async fn counts(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let early = req.get_session();
    support::count(&early);
    assert_eq!(early.get::<u32>("n")?, Some(1), "nothing else is known");
    early.remove("basket");
    next.call(req).await
}

async fn what_is_done_early_counts_as_in_the_handler(tested: impl TestStore) {
    for lazy in [false, true] {
        let builder = tested.middleware();
        let builder = if lazy { builder.lazy() } else { builder };
        let app = App::new()
            .wrap(builder.build())
            .wrap(from_fn(counts))
            .default_service(web::to(stop));
        let browser = Browser::new(Site::of(init_service(app).await));
        for n in 1..=3_u32 {
            let look = |s: &Session| {
                assert_eq!(s.get::<u32>("n").unwrap(), Some(n), "lazy: {lazy}");
                assert!(!s.contains_key("basket"), "lazy: {lazy}");
                s.insert("basket", 1).unwrap();
            };
            browser.visit(look).await.assert_ok();
        }
    }
}

/// Around the middleware: logs in whom the query names. What is done last counts.
async fn names_early(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let early = req.get_session();
    match req.query_string().split_once('=') {
        Some(("login", user)) => early.login(user)?,
        Some(("entry", user)) => {
            early.insert("user", user)?;
            early.insert("role", user)?;
        }
        Some(("again", user)) => {
            early.insert("user", "mallory")?;
            early.insert("role", "mallory")?;
            early.login(user)?;
        }
        Some(("later", user)) => {
            early.login("mallory")?;
            early.insert("user", user)?;
        }
        Some(("clear", user)) => {
            early.clear();
            early.insert("user", "mallory")?;
            early.insert("role", "mallory")?;
            early.login(user)?;
        }
        Some(("twice", user)) => {
            early.insert("role", "guest")?;
            early.insert("user", user)?;
            early.insert("role", user)?;
        }
        Some(("mixed", user)) => {
            early.insert("user", "mallory")?;
            early.insert("role", "mallory")?;
            early.login(user)?;
            early.insert("user", user)?;
        }
        _ => {}
    }
    next.call(req).await
}

async fn whoever_is_named_early_is_logged_in(tested: impl TestStore) {
    for lazy in [false, true] {
        let builder = tested.middleware().principal_entry("user");
        let builder = if lazy { builder.lazy() } else { builder };
        let app = App::new()
            .wrap(builder.build())
            .wrap(from_fn(names_early))
            .default_service(web::to(stop));
        let browser = Browser::new(Site::of(init_service(app).await));
        let ways = [
            "login=ada",
            "entry=bob",
            "entry=bob",
            "login=eve",
            "again=fay",
            "later=gus",
            "clear=hal",
            "twice=ida",
            "mixed=joe",
        ];
        for (n, way) in ways.iter().enumerate() {
            let before = browser.value();
            let flight = browser.begin_at(&format!("/?{way}")).await;
            let user = &way[6..];
            let session = flight.handle();
            assert_eq!(session.principal().as_deref(), Some(user), "lazy: {lazy}");
            // Nothing of one person reaches the next.
            let role = session.get::<String>("role").unwrap();
            let is_users = way.starts_with("entry") || way.starts_with("twice");
            let expected = is_users.then_some(user);
            assert_eq!(role.as_deref(), expected, "lazy: {lazy}");
            let known = session.get::<usize>("last").unwrap();
            assert_eq!(known, (n == 2).then_some(1), "lazy: {lazy}");
            session.insert("last", n).unwrap();
            flight.finish().await.assert_ok();
            assert_eq!(browser.value() == before, n == 2, "lazy: {lazy}");
            assert_eq!(browser.principal().await.as_deref(), Some(user));
            let named =
                |s: &Session| assert_eq!(s.get::<String>("user").unwrap().as_deref(), Some(user));
            browser.visit(named).await.assert_ok();
        }
    }
}
