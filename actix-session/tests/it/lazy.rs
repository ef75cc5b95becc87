//! Lazy loading: a session is loaded when it is first asked for.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use actix_session::{
    Session, SessionEventKind, SessionExt as _, SessionMiddleware,
    config::{BrowserSession, OnLoadError, SessionMiddlewareBuilder, TtlExtensionPolicy},
    forward_store_methods,
    storage::{
        Changes, CommitError, CookieSessionStore, Record, Rotated, SessionKey, SessionStore, Terms,
    },
};
use actix_web::{
    App, Error, FromRequest as _, HttpRequest, HttpResponse,
    body::MessageBody,
    cookie::Key,
    dev::{ServiceRequest, ServiceResponse},
    guard::fn_guard,
    http::{StatusCode, header::VARY},
    middleware::{Next, from_fn},
    test::{TestRequest, init_service},
    web,
};
use futures_util::future::{FutureExt as _, join};

use crate::support::{
    Browser, Memory, Site, Spy, TestStore, count, fill, may_fail, on_each_store, soon, stop,
};

on_each_store!(
    who_never_asks_costs_nothing_and_needs_no_store,
    the_extractor_loads_once,
    changes_to_an_unloaded_session_are_committed_to_what_is_stored,
    what_is_not_loaded_cannot_be_read_but_where_loading_needs_no_waiting,
    an_unloaded_session_is_ended,
    an_unloaded_session_is_renewed_and_logged_in,
    an_unloaded_session_is_committed_although_the_client_has_gone,
    a_load_that_fails_makes_the_response,
    named_requests_are_loaded_before,
    loading_after_changes_keeps_them,
    a_removal_behind_a_renewal_is_dropped_aloud,
    a_login_before_the_load_hides_the_other_users_entries,
    what_was_set_before_a_login_is_lost_with_the_session_that_ends_meanwhile,
    a_task_can_end_the_session_that_it_asks_for_first,
    a_purge_by_what_is_dropped_with_the_request_is_carried_out,
);

/// With its own paths for those who get the session without waiting, or none.
async fn site<S: SessionStore + 'static>(builder: SessionMiddlewareBuilder<S>) -> Site {
    let at_once = |req: HttpRequest| {
        let session = req.get_session();
        stop(req, session)
    };
    let both = async |req: HttpRequest, session: Session| {
        // The extractor has come first.
        assert!(session.get::<i32>("a").is_ok());
        stop(req, session).await
    };
    let whatever = async |session: Option<Session>| match session {
        Some(_) => HttpResponse::Ok(),
        None => HttpResponse::ImATeapot(),
    };
    let guarded = web::resource("/guarded")
        .guard(fn_guard(|ctx| ctx.get_session().contains_key("a")))
        .to(HttpResponse::Accepted);
    let app = App::new()
        .wrap(actix_web::middleware::from_fn(may_fail))
        .wrap(builder.build())
        .route("/static", web::to(HttpResponse::Ok))
        .route("/at_once", web::to(at_once))
        .route("/both", web::to(both))
        .route("/option", web::to(whatever))
        .service(guarded)
        .default_service(web::to(stop));
    Site::of(init_service(app).await)
}

struct Lazy<S> {
    spy: Spy<S>,
    browser: Browser,
    opens_at_once: bool,
}

/// A visitor with the entry `a`, of an application that loads lazily.
async fn lazy<T: TestStore>(tested: &T) -> Lazy<T::Store> {
    with(tested, SessionMiddlewareBuilder::lazy).await
}

async fn with<T: TestStore>(
    tested: &T,
    settings: impl FnOnce(
        SessionMiddlewareBuilder<Spy<T::Store>>,
    ) -> SessionMiddlewareBuilder<Spy<T::Store>>,
) -> Lazy<T::Store> {
    let spy = Spy::new(tested.store());
    let builder = SessionMiddleware::builder(spy.clone(), tested.key().clone());
    let builder = settings(builder.clock(tested.clock().clone()));
    let browser = Browser::new(site(builder).await);
    fill(&browser).await;
    spy.calls();
    Lazy {
        opens_at_once: spy.opens_at_once(),
        spy,
        browser,
    }
}

impl<S> Lazy<S> {
    /// A request whose handler need not stop.
    async fn get(&self, path: &str) -> StatusCode {
        let mut request = TestRequest::with_uri(path);
        if let Some(value) = self.browser.value() {
            request = request.insert_header(("cookie", format!("id={value}")));
        }
        let answer = self.browser.site.answer(request).await;
        let asked = path != "/static";
        assert_eq!(answer.headers.contains_key(VARY), asked, "{answer:?}");
        if path == "/static" {
            answer.assert_no_cookie();
        }
        answer.status
    }
}

async fn who_never_asks_costs_nothing_and_needs_no_store<T: TestStore>(tested: T) {
    let policy = TtlExtensionPolicy::OnEveryRequest;
    let lifecycle = BrowserSession::default().state_ttl_extension_policy(policy);
    let visitor = with(&tested, |it| it.lazy().session_lifecycle(lifecycle)).await;
    assert_eq!(visitor.get("/static").await, StatusCode::OK);
    assert_eq!(visitor.spy.calls(), [""; 0]);
    visitor.spy.refuse(&["open", "commit"]);
    assert_eq!(visitor.get("/static").await, StatusCode::OK);
    assert_eq!(visitor.spy.calls(), [""; 0]);
}

async fn the_extractor_loads_once<T: TestStore>(tested: T) {
    let Lazy { spy, browser, .. } = lazy(&tested).await;
    let read = |s: &Session| assert_eq!(s.get("a").unwrap(), Some(1));
    browser.visit(read).await.assert_ok().assert_no_cookie();
    assert_eq!(spy.calls(), ["open"]);
    browser.visit_path("/both", read).await.assert_ok();
    assert_eq!(spy.calls(), ["open"]);
    browser
        .visit(|s| s.insert("b", 2).unwrap())
        .await
        .assert_ok();
    assert_eq!(spy.calls(), ["open", "commit"]);
}

async fn changes_to_an_unloaded_session_are_committed_to_what_is_stored<T: TestStore>(tested: T) {
    let Lazy { browser, .. } = lazy(&tested).await;
    browser.visit(count).await.assert_ok();
    let other = browser.fork();
    let flight = browser.begin_at("/at_once").await;
    flight.insert("b", 2).unwrap();
    count(&flight);
    flight.remove("a");
    // Loaded by the commit, after this.
    other.visit(count).await.assert_ok();
    flight.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(browser.number("n").await, Some(3));
    assert_eq!(browser.number("b").await, Some(2));
    assert_eq!(browser.number("a").await, None);
}

async fn what_is_not_loaded_cannot_be_read_but_where_loading_needs_no_waiting<T: TestStore>(
    tested: T,
) {
    let visitor = lazy(&tested).await;
    let loaded = visitor.opens_at_once;
    let look = |s: &Session| {
        assert_eq!(s.get::<i32>("a").is_ok(), loaded);
        assert_eq!(s.contains_key("a"), loaded);
        assert_eq!(s.entries().len(), usize::from(loaded));
        assert_eq!(s.is_empty(), !loaded);
        assert_eq!(s.update("a", |a: i32| a).is_ok(), loaded);
        assert_eq!(s.update_or("a", 5, |a: i32| a).is_ok(), loaded);
        assert_eq!(
            s.reauthenticated()
                .unwrap_err()
                .to_string()
                .contains("not loaded"),
            !loaded
        );
        let recent = s.require_recent_authentication(std::time::Duration::from_secs(1));
        assert_eq!(recent.unwrap_err().is_anonymous(), loaded);
        // What the request itself has set is known.
        s.insert("b", 2).unwrap();
        assert_eq!(s.get("b").unwrap(), Some(2));
        assert_eq!(s.entries().len(), 1 + usize::from(loaded));
        s.update("b", |b: i32| b + 1).unwrap();
        assert_eq!(s.remove("b").as_deref(), Some("3"));
        assert_eq!(s.get::<i32>("b").unwrap(), None);
    };
    visitor
        .browser
        .visit_path("/at_once", look)
        .await
        .assert_ok();
    let cleared = |s: &Session| {
        s.clear();
        assert_eq!(s.get::<i32>("a").unwrap(), None);
    };
    // Without the entry, the guard lets another handler answer.
    let guarded = if loaded {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    assert_eq!(visitor.get("/guarded").await, guarded);
    visitor
        .browser
        .visit_path("/at_once", cleared)
        .await
        .assert_ok();
    assert_eq!(visitor.browser.number("a").await, None);
}

async fn an_unloaded_session_is_ended<T: TestStore>(tested: T) {
    let Lazy {
        spy,
        browser,
        opens_at_once,
    } = lazy(&tested).await;
    let answer = browser.visit_path("/at_once", Session::purge).await;
    answer.assert_ok().assert_removes_cookie();
    let opened = if opens_at_once {
        &["open", "delete"][..]
    } else {
        &["delete"]
    };
    assert_eq!(spy.calls(), opened);
    assert_eq!(tested.dump().await.records(), []);

    fill(&browser).await;
    let flight = browser.begin_at("/at_once").await;
    flight.purge_now().await.unwrap();
    assert_eq!(tested.dump().await.records(), []);
    flight.insert("goodbye", 1).unwrap();
    flight.finish().await.assert_ok().assert_sets_cookie();
    assert_eq!(tested.dump().await.only().len(), 1);
}

async fn an_unloaded_session_is_renewed_and_logged_in<T: TestStore>(tested: T) {
    let Lazy { browser, .. } = lazy(&tested).await;
    let before = browser.value();
    let renew = browser.visit_path("/at_once", Session::renew).await;
    renew.assert_ok().assert_sets_cookie();
    assert_ne!(browser.value(), before);
    assert_eq!(browser.number("a").await, Some(1));
    let login = |s: &Session| s.login("ann").unwrap();
    browser.visit_path("/at_once", login).await.assert_ok();
    assert_eq!(browser.principal().await.as_deref(), Some("ann"));
    assert_eq!(browser.number("a").await, Some(1));
    let another = |s: &Session| s.login("bob").unwrap();
    browser.visit_path("/at_once", another).await.assert_ok();
    assert_eq!(browser.principal().await.as_deref(), Some("bob"));
    assert_eq!(
        browser.number("a").await,
        None,
        "nothing of one user reaches another"
    );
    assert_eq!(tested.dump().await.records().len(), 1);
}

async fn an_unloaded_session_is_committed_although_the_client_has_gone<T: TestStore>(tested: T) {
    let Lazy { spy, browser, .. } = lazy(&tested).await;
    let flight = browser.begin_at("/at_once").await;
    flight.insert("b", 2).unwrap();
    flight.abort().await;
    let mut left = 2_000;
    while !spy.calls().contains(&"commit") {
        left -= 1;
        assert!(left > 0, "nothing is committed");
        actix_web::rt::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let written = async {
        while browser.number("b").await != Some(2) {
            tokio::task::yield_now().await;
        }
    };
    soon(written).await;
}

async fn a_load_that_fails_makes_the_response<T: TestStore>(tested: T) {
    let visitor = lazy(&tested).await;
    visitor.spy.refuse(&["open"]);
    for path in ["/option", "/", "/both"] {
        let status = visitor.get(path).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert_eq!(visitor.spy.calls(), ["open"], "{path}");
    }
    // A change cannot be committed to what is unknown.
    let write = |s: &Session| s.insert("b", 2).unwrap();
    let answer = visitor.browser.visit_path("/at_once", write).await;
    answer.assert_opaque().assert_no_cookie();
    visitor.spy.refuse(&[]);
    assert_eq!(visitor.browser.number("b").await, None);

    let anonymous = with(&tested, |it| {
        it.lazy().on_load_error(OnLoadError::Anonymous)
    })
    .await;
    anonymous.spy.refuse(&["open"]);
    assert_eq!(anonymous.get("/option").await, StatusCode::OK);
    let degraded = |s: &Session| assert!(s.is_degraded() && s.is_empty());
    anonymous
        .browser
        .visit(degraded)
        .await
        .assert_ok()
        .assert_no_cookie();
    let answer = anonymous.browser.visit_path("/at_once", write).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    anonymous.spy.refuse(&["open", "delete"]);
    let answer = anonymous
        .browser
        .visit_path("/at_once", |s| s.purge())
        .await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    answer.assert_no_cookie();

    // Without a response nobody hears of that, so the purge is tried.
    visitor.spy.refuse(&["open"]);
    let failed = visitor.browser.begin_at("/at_once").await;
    failed.insert("b", 2).unwrap();
    failed.save().await.unwrap_err();
    anonymous.spy.refuse(&["open"]);
    let degraded = anonymous.browser.begin().await;
    for (visitor, flight) in [(visitor, failed), (anonymous, degraded)] {
        visitor.spy.refuse(&[]);
        flight.purge();
        flight.fail().await;
        assert!(visitor.browser.is_nobody().await);
    }
}

async fn named_requests_are_loaded_before<T: TestStore>(tested: T) {
    let visitor = with(&tested, |it| it.load_when(|req| req.path() != "/static")).await;
    assert_eq!(visitor.get("/guarded").await, StatusCode::ACCEPTED);
    let read = |s: &Session| assert_eq!(s.get("a").unwrap(), Some(1));
    visitor
        .browser
        .visit_path("/at_once", read)
        .await
        .assert_ok();
    assert_eq!(visitor.spy.calls(), ["open", "open"]);
    visitor.get("/static").await;
    assert_eq!(visitor.spy.calls(), [""; 0]);
}

async fn loading_after_changes_keeps_them<T: TestStore>(tested: T) {
    let visitor = lazy(&tested).await;
    let site = {
        let runs = Arc::new(AtomicUsize::new(0));
        let handler = move |req: HttpRequest| {
            let runs = Arc::clone(&runs);
            async move {
                let early = req.get_session();
                early.insert("b", 2).unwrap();
                let counted = move |a: Option<i32>| {
                    runs.fetch_add(1, Ordering::SeqCst);
                    Some(a.unwrap_or(0) + 10)
                };
                early.modify("a", counted).unwrap();
                let one = Session::extract(&req);
                let (one, other) = join(one, Session::extract(&req)).await;
                let (one, other) = (one.unwrap(), other.unwrap());
                assert_eq!(one.get("a").unwrap(), Some(11));
                assert_eq!(early.get("b").unwrap(), Some(2));
                assert_eq!(other.entries().len(), 2);
                HttpResponse::Ok().finish()
            }
        };
        let builder = SessionMiddleware::builder(visitor.spy.clone(), tested.key().clone());
        let builder = builder.clock(tested.clock().clone()).lazy();
        let app = App::new()
            .wrap(builder.build())
            .default_service(web::to(handler));
        Site::of(init_service(app).await)
    };
    let elsewhere = Lazy {
        browser: visitor.browser.at(site),
        spy: visitor.spy.clone(),
        opens_at_once: visitor.opens_at_once,
    };
    assert_eq!(elsewhere.get("/").await, StatusCode::OK);
    assert_eq!(visitor.spy.calls(), ["open", "commit"]);
    assert_eq!(visitor.browser.number("a").await, Some(11));
}

/// How many requests have dropped their changes since the session was renewed last. It is renewed again.
async fn dropped(browser: &Browser, told: &Receiver<SessionEventKind>) -> usize {
    browser.visit(Session::renew).await.assert_sets_cookie();
    let next = || told.recv_timeout(Duration::from_secs(30)).ok();
    let before = iter::from_fn(next).take_while(|kind| *kind != SessionEventKind::Renewed);
    before
        .filter(|kind| *kind == SessionEventKind::Dropped)
        .count()
}

/// Nothing behind a redirect shows, and whoever removes there what they cannot see must know that it stays.
async fn a_removal_behind_a_renewal_is_dropped_aloud<T: TestStore>(tested: T) {
    let (sender, told) = channel();
    let visitor = with(&tested, |it| {
        it.lazy()
            .on_event(move |event| sender.send(event.kind()).unwrap())
    })
    .await;
    let (browser, other) = (&visitor.browser, visitor.browser.fork());
    assert_eq!(dropped(browser, &told).await, 0);
    let nothing = |s: &Session| s.modify("a", |_: Option<u32>| None).unwrap();
    other.visit_path("/at_once", nothing).await.assert_ok();
    assert_eq!(dropped(browser, &told).await, 1);
    // Whether it was loaded before or not.
    let remove = |s: &Session| drop(s.remove("a"));
    let answer = other.visit_path("/at_once", remove).await;
    answer.assert_ok().assert_no_cookie();
    assert_eq!(dropped(browser, &told).await, 1);
    let flight = other.begin_at("/at_once").await;
    remove(&flight);
    assert!(flight.save().await.is_err());
    flight.finish().await.assert_ok();
    assert_eq!(dropped(browser, &told).await, 1);
    let loaded = other.begin().await;
    remove(&loaded);
    assert!(loaded.save().await.is_err());
    loaded.finish().await.assert_ok();
    assert_eq!(dropped(browser, &told).await, 1);
    // What a request has set itself is no loss.
    let flight = other.begin().await;
    flight.insert("own", 1).unwrap();
    assert_eq!(flight.take("own").await.unwrap(), Some(1));
    flight.finish().await.assert_ok();
    assert_eq!(dropped(browser, &told).await, 0);
    assert_eq!(browser.number("a").await, Some(1));
}

/// Around the middleware.
async fn removes_early(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if req.path() == "/remove" {
        req.get_session().remove("a");
    }
    next.call(req).await
}

#[actix_web::test]
async fn an_early_removal_behind_a_renewal_is_dropped_aloud() {
    let tested = Memory::start().await;
    let (sender, told) = channel();
    let builder = tested
        .middleware()
        .on_event(move |event| sender.send(event.kind()).unwrap());
    let app = App::new()
        .wrap(builder.build())
        .wrap(from_fn(removes_early))
        .default_service(web::to(stop));
    let browser = Browser::new(Site::of(init_service(app).await));
    fill(&browser).await;
    let other = browser.fork();
    assert_eq!(dropped(&browser, &told).await, 0);
    let answer = other.visit_path("/remove", |_| ()).await;
    answer.assert_ok().assert_no_cookie();
    assert_eq!(dropped(&browser, &told).await, 1);
    assert_eq!(browser.number("a").await, Some(1));
}

/// A handler of an application that loads lazily, for the visitor.
async fn with_handler<T: TestStore, F: Future<Output = HttpResponse> + 'static>(
    tested: &T,
    visitor: &Lazy<T::Store>,
    handler: impl Fn(HttpRequest) -> F + Clone + 'static,
) -> Site {
    let builder = SessionMiddleware::builder(visitor.spy.clone(), tested.key().clone());
    let builder = builder.clock(tested.clock().clone()).lazy();
    let handler = move |req| {
        let handler = handler.clone();
        async move { handler(req).await }
    };
    let app = App::new()
        .wrap(builder.build())
        .default_service(web::to(handler));
    Site::of(init_service(app).await)
}

async fn a_login_before_the_load_hides_the_other_users_entries<T: TestStore>(tested: T) {
    let visitor = lazy(&tested).await;
    let ann = |s: &Session| s.login("ann").unwrap();
    visitor.browser.visit(ann).await.assert_ok();
    let handler = async |req: HttpRequest| {
        let unloaded = req.get_session();
        unloaded.insert("draft", 1).unwrap();
        count(&unloaded);
        unloaded.login("bob").unwrap();
        let session = Session::extract(&req).await.unwrap();
        assert_eq!(session.principal().as_deref(), Some("bob"));
        assert_eq!(session.get::<i32>("a").unwrap(), None);
        assert_eq!(session.entries().len(), 0);
        session.update("a", |a: i32| a).unwrap();
        session.insert("new", 3).unwrap();
        HttpResponse::Ok().finish()
    };
    let site = with_handler(&tested, &visitor, handler).await;
    let answer = visitor.browser.at(site).visit(|_| ()).await;
    let cookie = answer.assert_ok().cookie().unwrap();
    visitor.browser.set_cookie("id", cookie.value());
    assert_eq!(visitor.browser.principal().await.as_deref(), Some("bob"));
    for (name, value) in [("a", None), ("draft", None), ("n", None), ("new", Some(3))] {
        assert_eq!(visitor.browser.number(name).await, value, "{name}");
    }
    // Without a load before the commit.
    let log_in = |s: &Session| {
        count(s);
        s.insert("draft", 1).unwrap();
        s.insert("kept", 1).unwrap();
        s.login("carol").unwrap();
        count(s);
        s.insert("kept", 2).unwrap();
    };
    visitor
        .browser
        .visit_path("/at_once", log_in)
        .await
        .assert_ok();
    assert_eq!(visitor.browser.principal().await.as_deref(), Some("carol"));
    for (name, value) in [
        ("new", None),
        ("draft", None),
        ("n", Some(1)),
        ("kept", Some(2)),
    ] {
        assert_eq!(visitor.browser.number(name).await, value, "{name}");
    }
    // Set again to the same value, it is the new user's; and no closure outlives its request.
    let captured = Arc::new(());
    let log_in = |s: &Session| {
        let held = Arc::clone(&captured);
        let keep = move |old: Option<u32>| {
            let _held = &held;
            old
        };
        s.modify("n", keep).unwrap();
        s.insert("same", 1).unwrap();
        s.login("dave").unwrap();
        s.insert("same", 1).unwrap();
    };
    visitor
        .browser
        .visit_path("/at_once", log_in)
        .await
        .assert_ok();
    for (name, value) in [("kept", None), ("n", None), ("same", Some(1))] {
        assert_eq!(visitor.browser.number(name).await, value, "{name}");
    }
    let dropped = async {
        while Arc::strong_count(&captured) > 1 {
            tokio::task::yield_now().await;
        }
    };
    soon(dropped).await;
}

/// A session ends after it was loaded, right before it is renewed.
struct EndsFirst<S>(S, Arc<AtomicBool>);

impl<S: SessionStore> SessionStore for EndsFirst<S> {
    forward_store_methods!(self => self.0; except rotate);

    async fn rotate(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Rotated, CommitError> {
        if self.1.load(Ordering::SeqCst) {
            self.0.delete(key).await.unwrap();
        }
        self.0.rotate(key, base, changes, terms).await
    }
}

/// It may be the first user's.
async fn what_was_set_before_a_login_is_lost_with_the_session_that_ends_meanwhile<T: TestStore>(
    tested: T,
) {
    let ends = Arc::new(AtomicBool::new(false));
    let store = EndsFirst(tested.store(), Arc::clone(&ends));
    let builder = SessionMiddleware::builder(store, tested.key().clone());
    let site = site(builder.clock(tested.clock().clone()).lazy()).await;
    let browser = Browser::new(site);
    fill(&browser).await;
    let ann = |s: &Session| s.login("ann").unwrap();
    browser.visit(ann).await.assert_ok();
    ends.store(true, Ordering::SeqCst);
    let bob = |s: &Session| {
        s.insert("draft", 1).unwrap();
        count(s);
        s.login("bob").unwrap();
        s.insert("new", 3).unwrap();
    };
    let answer = browser.visit_path("/at_once", bob).await;
    answer.assert_ok().assert_sets_cookie();
    ends.store(false, Ordering::SeqCst);
    assert_eq!(browser.principal().await.as_deref(), Some("bob"));
    for (name, value) in [("a", None), ("draft", None), ("n", None), ("new", Some(3))] {
        assert_eq!(browser.number(name).await, value, "{name}");
    }
}

async fn a_task_can_end_the_session_that_it_asks_for_first<T: TestStore>(tested: T) {
    let visitor = lazy(&tested).await;
    let handler = async |req: HttpRequest| {
        let task = async move { req.get_session().purge_now().await };
        actix_web::rt::spawn(task).await.unwrap().unwrap();
        HttpResponse::Ok().finish()
    };
    let site = with_handler(&tested, &visitor, handler).await;
    let there = visitor.browser.at(site);
    soon(there.visit(|_| ()))
        .await
        .assert_ok()
        .assert_removes_cookie();
    assert_eq!(tested.dump().await.records(), []);
}

async fn a_purge_by_what_is_dropped_with_the_request_is_carried_out<T: TestStore>(tested: T) {
    struct Purges(HttpRequest);

    impl Drop for Purges {
        fn drop(&mut self) {
            self.0.get_session().purge();
        }
    }

    let visitor = lazy(&tested).await;
    let handler = async |req: HttpRequest| {
        let _guard = Purges(req);
        std::future::pending().await
    };
    let site = with_handler(&tested, &visitor, handler).await;
    let cookie = format!("id={}", visitor.browser.value().unwrap());
    let request = TestRequest::default().insert_header(("cookie", cookie));
    assert!(site.answer(request).now_or_never().is_none());
    let ended = async {
        while !tested.dump().await.records().is_empty() {
            // Nothing in memory waits, and what was dropped is to go on.
            tokio::task::yield_now().await;
        }
    };
    soon(ended).await;
}

#[actix_web::test]
async fn cookie_stored_sessions_are_loaded_at_first_use() {
    let builder = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate());
    let browser = Browser::new(site(builder.lazy()).await);
    fill(&browser).await;
    let read = |s: &Session| assert_eq!(s.get("a").unwrap(), Some(1));
    browser
        .visit_path("/at_once", read)
        .await
        .assert_ok()
        .assert_no_cookie();
    let write = |s: &Session| s.insert("b", 2).unwrap();
    let answer = browser.visit_path("/at_once", write).await;
    answer.assert_ok().assert_sets_cookie();
    assert_eq!(browser.number("a").await, Some(1));
    let before = browser.value();
    browser.visit_path("/static", |_| ()).await;
    assert_eq!(browser.value(), before);
}

/// With what the extractor of the published crate returns.
#[actix_web::test]
async fn the_extractors_future_gives_its_session_without_waiting() {
    let tested = Memory::start().await;
    let app = App::new()
        .wrap(tested.middleware().build())
        .default_service(web::to(async |req: HttpRequest| {
            let extracted = Session::extract(&req).into_inner();
            extracted.unwrap().insert("a", 1).unwrap();
            HttpResponse::Ok().finish()
        }));
    let site = Site::of(init_service(app).await);
    site.answer(TestRequest::default()).await.assert_ok();
    assert_eq!(tested.dump().await.only().len(), 1);
}
