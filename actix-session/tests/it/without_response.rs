//! Ways out of a handler without a response head: an error of an inner middleware, a panic, a
//! dropped future.

use std::{cell::Cell, future::pending, rc::Rc, sync::Arc};

use actix_session::{
    Session, SessionExt as _, SessionMiddleware,
    storage::{MemorySessionStore, SessionStore},
    testing::dropped_after,
};
use actix_web::{
    App, Error, HttpResponse, HttpServer,
    cookie::{Key, time::Duration},
    dev::Service as _,
    http::StatusCode,
    middleware::from_fn,
    rt,
    test::{TestRequest, init_service},
    web,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Notify};

use crate::support::{
    Browser, Dump, Flight, HttpAnswer, Site, Spy, TestStore, expected, http_get, may_fail,
    on_each_store,
};

on_each_store! {
    a_purge_before_an_error_is_carried_out,
    a_purge_follows_marks_on_these_ways_too,
    a_renewal_before_an_error_is_not_half_carried_out,
    a_login_before_an_error_logs_nobody_in,
    a_new_session_before_an_error_is_not_made,
    changes_before_an_error_are_kept_where_no_cookie_is_needed,
    what_follows_a_purge_is_dropped_without_a_response,
    a_panic_goes_on_after_a_purge,
    a_panic_before_the_future_goes_on_after_a_purge,
    a_panic_keeps_changes_and_logs_nobody_in,
    a_dropped_request_is_purged,
    a_dropped_request_keeps_changes_and_logs_nobody_in,
    a_dropped_request_that_asked_for_nothing_writes_nothing,
    purge_now_is_sure_whatever_comes_after,
    purge_now_from_another_task_and_thread,
    a_purge_is_carried_out_whenever_the_request_is_dropped,
    changes_are_committed_whenever_the_request_is_dropped,
    a_login_is_whole_or_not_at_all_whenever_the_request_is_dropped,
    a_failing_store_does_not_hide_the_error,
    an_error_of_a_handler_is_a_response,
}

async fn guest(tested: &impl TestStore) -> Browser {
    let browser = tested.browser().await;
    let answer = browser.visit(|s| s.insert("basket", 1).unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
    browser
}

async fn logged_in(tested: &impl TestStore) -> Browser {
    let browser = guest(tested).await;
    let answer = browser.visit(|s| s.login("user-42").unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
    browser
}

/// An inner middleware makes this request an error.
async fn fail(browser: &Browser, act: impl FnOnce(&Session)) {
    let flight = browser.begin().await;
    act(&flight);
    let answer = flight.fail().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    answer.assert_no_cookie();
}

/// Looks at the store until it is as it should be: what a dropped request leaves is done by a task
/// that nobody can wait for.
async fn eventually(tested: &impl TestStore, done: impl Fn(&Dump) -> bool) -> Dump {
    let mut dump = tested.dump().await;
    for _ in 0..10_000 {
        if done(&dump) {
            return dump;
        }
        rt::task::yield_now().await;
        dump = tested.dump().await;
    }
    panic!("the task of the dropped request did not run: {dump:?}");
}

async fn a_purge_before_an_error_is_carried_out(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let late = browser.begin().await;
    fail(&browser, |s| {
        s.insert("before", 1).unwrap();
        s.purge();
    })
    .await;
    tested.dump().await.assert_no_record();
    assert!(browser.is_nobody().await);
    late.insert("draft", 1).unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_purge_follows_marks_on_these_ways_too(tested: impl TestStore) {
    let purges_behind_a_mark = async || {
        let browser = logged_in(&tested).await;
        let flight = browser.begin().await;
        browser.visit(|s| s.renew()).await.assert_sets_cookie();
        flight.purge();
        flight
    };
    let flight: Flight = purges_behind_a_mark().await;
    flight.fail().await;
    tested.dump().await.assert_no_record();
    let flight: Flight = purges_behind_a_mark().await;
    assert!(flight.panic().await.is_panic());
    tested.dump().await.assert_no_record();
    let flight: Flight = purges_behind_a_mark().await;
    flight.abort().await;
    eventually(&tested, |dump| dump.records().is_empty()).await;
}

async fn a_renewal_before_an_error_is_not_half_carried_out(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let before = tested.dump().await.sorted();
    fail(&browser, |s| {
        s.insert("user_id", 42).unwrap();
        s.renew();
    })
    .await;
    // Neither the change under the old, perhaps planted key, nor a key that nobody has.
    assert_eq!(tested.dump().await.sorted(), before);
    assert_eq!(browser.number("user_id").await, None);
    assert_eq!(browser.number("basket").await, Some(1));
}

async fn a_login_before_an_error_logs_nobody_in(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let before = tested.dump().await.sorted();
    fail(&browser, |s| {
        s.insert("name", "of-42").unwrap();
        s.login("user-42").unwrap();
    })
    .await;
    assert_eq!(tested.dump().await.sorted(), before);
    assert_eq!(browser.principal().await, None);
    // Nor is a user who was logged in now half another one, or logged out.
    let browser = logged_in(&tested).await;
    let before = tested.dump().await.sorted();
    fail(&browser, |s| s.login("user-7").unwrap()).await;
    fail(&browser, |s| s.reauthenticated().unwrap()).await;
    assert_eq!(tested.dump().await.sorted(), before);
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

async fn a_new_session_before_an_error_is_not_made(tested: impl TestStore) {
    let browser = tested.browser().await;
    fail(&browser, |s| s.insert("a", 1).unwrap()).await;
    fail(&browser, |s| s.login("user-42").unwrap()).await;
    assert_eq!(tested.dump().await.0.len(), 0);
}

async fn changes_before_an_error_are_kept_where_no_cookie_is_needed(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    fail(&browser, |s| {
        s.insert("attempts", 1).unwrap();
        s.modify("n", |n: Option<u8>| Some(n.unwrap_or(0) + 1))
            .unwrap();
        s.remove("basket");
    })
    .await;
    assert_eq!(
        tested.dump().await.only(),
        expected(&[("attempts", "1"), ("n", "1")])
    );
    fail(&browser, |s| s.set_ttl(Duration::days(3))).await;
    let answer = browser.visit(|s| s.insert("n", 2).unwrap()).await;
    assert_eq!(answer.max_age(), Some(3 * 86_400));
    // A logout by other means is one here too.
    fail(&browser, Session::clear).await;
    assert!(browser.is_nobody().await);
    let dump = tested.dump().await;
    assert_eq!(dump.only().len(), 0);
    assert!(!dump.is_of("user-42"));
}

async fn what_follows_a_purge_is_dropped_without_a_response(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    fail(&browser, |s| {
        s.purge();
        s.insert("flash", 1).unwrap();
        s.login("user-7").unwrap();
    })
    .await;
    tested.dump().await.assert_no_record();
}

async fn a_panic_goes_on_after_a_purge(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let flight = browser.begin().await;
    flight.purge();
    assert!(flight.panic().await.is_panic());
    // It was waited for, so there is nothing to wait for here.
    tested.dump().await.assert_no_record();
    assert!(browser.is_nobody().await);
}

async fn a_panic_before_the_future_goes_on_after_a_purge(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let app = App::new()
        .wrap_fn(|req, service| {
            req.get_session().purge();
            assert!(req.path() != "/", "a middleware panics in its `call`");
            service.call(req)
        })
        .wrap(tested.middleware().build())
        .default_service(web::to(HttpResponse::Ok));
    let panics = browser.at(Site::of(init_service(app).await));
    let task = rt::spawn(async move { panics.visit(|_| ()).await });
    assert!(task.await.unwrap_err().is_panic());
    tested.dump().await.assert_no_record();
}

async fn a_panic_keeps_changes_and_logs_nobody_in(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let (writes, logs_in) = (browser.begin().await, browser.begin().await);
    writes.insert("attempts", 1).unwrap();
    logs_in.insert("name", "of-42").unwrap();
    logs_in.login("user-42").unwrap();
    assert!(writes.panic().await.is_panic());
    assert!(logs_in.panic().await.is_panic());
    let dump = tested.dump().await;
    assert_eq!(dump.only(), expected(&[("attempts", "1"), ("basket", "1")]));
    assert!(!dump.is_of("user-42"));
    assert_eq!(dump.redirects(), 0);
}

async fn a_dropped_request_is_purged(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let flight = browser.begin().await;
    let late = browser.begin().await;
    flight.purge();
    flight.abort().await;
    eventually(&tested, |dump| dump.records().is_empty()).await;
    late.insert("draft", 1).unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    tested.dump().await.assert_no_record();
}

async fn a_dropped_request_keeps_changes_and_logs_nobody_in(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let (logs_in, renews, writes) = (
        browser.begin().await,
        browser.begin().await,
        browser.begin().await,
    );
    logs_in.login("user-42").unwrap();
    logs_in.abort().await;
    renews.insert("user_id", 42).unwrap();
    renews.renew();
    renews.abort().await;
    writes.insert("attempts", 1).unwrap();
    writes.abort().await;
    // Its task was spawned last.
    let dump = eventually(&tested, |dump| dump.holds("attempts")).await;
    assert_eq!(dump.only(), expected(&[("attempts", "1"), ("basket", "1")]));
    assert!(!dump.is_of("user-42"));
    assert_eq!(dump.redirects(), 0);
    assert_eq!(browser.principal().await, None);
}

async fn a_dropped_request_that_asked_for_nothing_writes_nothing(tested: impl TestStore) {
    let spy = Spy::new(tested.store());
    let middleware =
        SessionMiddleware::builder(spy.clone(), tested.key().clone()).clock(tested.clock().clone());
    let browser = tested.browser_of(middleware).await;
    browser.visit(|s| s.insert("basket", 1).unwrap()).await;
    let flight = browser.begin().await;
    spy.calls();
    flight.abort().await;
    for _ in 0..100 {
        rt::task::yield_now().await;
    }
    browser.visit(|_| ()).await.assert_ok();
    assert_eq!(spy.calls(), ["open"], "the later request's own");
    assert_eq!(tested.dump().await.records().len(), 1);
}

async fn purge_now_is_sure_whatever_comes_after(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let flight = browser.begin().await;
    flight.purge_now().await.unwrap();
    tested.dump().await.assert_no_record();
    assert!(flight.panic().await.is_panic());

    let browser = logged_in(&tested).await;
    let flight = browser.begin().await;
    flight.purge_now().await.unwrap();
    tested.dump().await.assert_no_record();
    flight.fail().await.assert_no_cookie();

    let browser = logged_in(&tested).await;
    let flight = browser.begin().await;
    flight.purge_now().await.unwrap();
    flight.insert("flash", 1).unwrap();
    tested.dump().await.assert_no_record();
    flight.abort().await;
    for _ in 0..100 {
        rt::task::yield_now().await;
    }
    tested.dump().await.assert_no_record();
}

async fn purge_now_from_another_task_and_thread(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let flight = browser.begin().await;
    let session = flight.handle();
    let task = rt::spawn(async move { session.purge_now().await });
    task.await.unwrap().unwrap();
    tested.dump().await.assert_no_record();
    flight.finish().await.assert_removes_cookie();

    let browser = logged_in(&tested).await;
    let flight = browser.begin().await;
    let session = flight.handle();
    let (told, answer) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        told.send(runtime.unwrap().block_on(session.purge_now()))
    });
    answer.await.unwrap().unwrap();
    thread.join().unwrap().unwrap();
    tested.dump().await.assert_no_record();
    flight.finish().await.assert_removes_cookie();
}

/// Under `#[tokio::main]`, no worker has a `System` of actix.
#[tokio::test]
async fn what_a_client_that_hangs_up_has_asked_for_is_done_without_a_system() {
    async fn log_in(session: Session) -> &'static str {
        session.login("user-42").unwrap();
        ""
    }
    async fn who(session: Session) -> String {
        session.principal().unwrap_or_default()
    }
    /// Tells that it has been asked, and never answers.
    async fn hang(session: Session, asked: web::Data<Notify>) -> &'static str {
        session.purge();
        asked.notify_one();
        pending().await
    }
    let (store, key) = (MemorySessionStore::new(), Key::generate());
    let asked = web::Data::new(Notify::new());
    let data = asked.clone();
    let make = move || {
        App::new()
            .app_data(data.clone())
            .wrap(SessionMiddleware::new(store.clone(), key.clone()))
            .route("/login", web::get().to(log_in))
            .route("/who", web::get().to(who))
            .route("/logout", web::get().to(hang))
    };
    let server = HttpServer::new(make).workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    let visits = async {
        let (_, pair) = http_get(address, "/login", None).await;
        let pair = pair.unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /logout HTTP/1.1\r\nhost: test\r\ncookie: {pair}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        asked.notified().await;
        // A client that is still there to read would be served on.
        client.set_zero_linger().unwrap();
        drop(client);
        let fields = [("cookie", pair.as_str())];
        while HttpAnswer::get(address, "/who", &fields).await.body() != "" {}
        handle.stop(true).await;
    };
    let all = async { futures_util::join!(server, visits).0 };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(20), all);
    in_time.await.expect("the logout takes place").unwrap();
}

async fn a_failing_store_does_not_hide_the_error(tested: impl TestStore) {
    let spy = Spy::new(tested.store());
    let middleware =
        SessionMiddleware::builder(spy.clone(), tested.key().clone()).clock(tested.clock().clone());
    let browser = tested.browser_of(middleware).await;
    browser.visit(|s| s.insert("basket", 1).unwrap()).await;
    let before = tested.dump().await.sorted();
    spy.refuse(&["commit", "delete"]);
    fail(&browser, |s| s.insert("a", 1).unwrap()).await;
    fail(&browser, Session::purge).await;
    let flight = browser.begin().await;
    flight.purge();
    assert!(flight.panic().await.is_panic());
    assert_eq!(tested.dump().await.sorted(), before);
}

async fn an_error_of_a_handler_is_a_response(tested: impl TestStore) {
    let browser = guest(&tested).await;
    async fn refuse(session: Session) -> Result<HttpResponse, Error> {
        session.insert("attempts", 1)?;
        session.login("user-42")?;
        Err(actix_web::error::ErrorForbidden("no"))
    }
    let app = App::new()
        .wrap(from_fn(may_fail))
        .wrap(tested.middleware().build())
        .default_service(web::to(refuse));
    let forbidden = browser.at(Site::of(init_service(app).await));
    let answer = forbidden.visit(|_| ()).await;
    assert_eq!(
        (answer.status, answer.failed),
        (StatusCode::FORBIDDEN, false)
    );
    answer.assert_sets_cookie();
    assert_eq!(tested.dump().await.only()["attempts"], "1");
    let stranger = forbidden.site.answer(TestRequest::get()).await;
    assert_eq!(stranger.status, StatusCode::FORBIDDEN);
}

/// A store that lets other tasks run before and after each of its steps. Whatever still works on a
/// request holds the store, and with it the token.
struct Yielding<S> {
    inner: S,
    _token: Arc<()>,
}

impl<S: SessionStore> Yielding<S> {
    async fn aside<T>(&self, step: impl Future<Output = T>) -> T {
        rt::task::yield_now().await;
        let answer = step.await;
        rt::task::yield_now().await;
        answer
    }
}

macro_rules! aside {
    ([] $self:ident.$method:ident($($argument:expr),*)) => {
        $self.aside($self.inner.$method($($argument),*))
    };
}

impl<S: SessionStore> SessionStore for Yielding<S> {
    actix_session::__store_methods! { [opens_at_once knows_ends] self [aside] [] }
}

/// Waits until nobody holds the token any more. What hangs fails the test.
async fn released(token: &Arc<()>) {
    let released = async {
        while Arc::strong_count(token) > 1 {
            rt::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(60);
    let released = rt::time::timeout(limit, released).await;
    released.expect("the task of the dropped request ends");
}

/// Drops a request at each of its awaits in turn, from the first to the last, and lets what it left
/// come to its end. `check` is told whether the handler had asked for what it does.
async fn drop_at_each_await<T: TestStore>(
    tested: &T,
    act: fn(&Session),
    check: impl AsyncFn(&T, Browser, bool),
) {
    for polls in 1.. {
        let browser = logged_in(tested).await;
        let asked = Rc::new(Cell::new(false));
        let handler = {
            let asked = Rc::clone(&asked);
            move |session: Session| {
                act(&session);
                asked.set(true);
                async { HttpResponse::Ok().finish() }
            }
        };
        let working = Arc::new(());
        let store = Yielding {
            inner: tested.store(),
            _token: Arc::clone(&working),
        };
        let middleware = SessionMiddleware::builder(store, tested.key().clone());
        let app = App::new()
            .wrap(middleware.clock(tested.clock().clone()).build())
            .wrap_fn(move |req, service| {
                let call = service.call(req);
                async move {
                    let answer = dropped_after(polls, call).await;
                    answer.unwrap_or_else(|| Err(actix_web::error::ErrorGatewayTimeout("dropped")))
                }
            })
            .default_service(web::to(handler));
        let site = Site::of(init_service(app).await);
        let answer = browser.at(site).visit(|_| ()).await;
        released(&working).await;
        check(tested, browser, asked.get()).await;
        if !answer.failed {
            assert!(asked.get(), "the whole request ran");
            return;
        }
    }
}

async fn a_purge_is_carried_out_whenever_the_request_is_dropped(tested: impl TestStore) {
    let purge = |session: &Session| {
        session.purge();
        session.insert("flash", 1).unwrap();
    };
    drop_at_each_await(&tested, purge, async |tested, browser, asked| {
        if asked {
            assert!(!tested.dump().await.holds("basket"));
            assert_eq!(browser.principal().await, None);
        } else {
            browser.visit(Session::purge).await.assert_ok();
        }
    })
    .await;
}

async fn changes_are_committed_whenever_the_request_is_dropped(tested: impl TestStore) {
    let write = |session: &Session| session.insert("attempts", 1).unwrap();
    drop_at_each_await(&tested, write, async |tested, browser, asked| {
        if asked {
            assert!(tested.dump().await.holds("attempts"));
        }
        browser.visit(Session::purge).await.assert_ok();
    })
    .await;
}

async fn a_login_is_whole_or_not_at_all_whenever_the_request_is_dropped(tested: impl TestStore) {
    let login = |session: &Session| {
        session.login("user-7").unwrap();
        session.insert("attempts", 1).unwrap();
    };
    drop_at_each_await(&tested, login, async |tested, browser, _| {
        // The redirect is followed, whichever of the two cookies the browser has.
        // Another principal's session starts without the basket of the one before.
        let dump = tested.dump().await;
        assert_ne!(dump.holds("basket"), dump.holds("attempts"), "{dump:?}");
        assert!(dump.records().len() <= 1, "{dump:?}");
        browser.visit(Session::purge).await.assert_ok();
        tested.dump().await.assert_no_record();
    })
    .await;
}
