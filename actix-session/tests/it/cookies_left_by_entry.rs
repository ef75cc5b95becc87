//! Logouts by the entry that names the principal, of sessions that live in their cookies, with a list of
//! ended ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::SystemTime,
};

use actix_session::{
    EndReason, Saved, Session, SessionExt as _, SessionMiddleware,
    config::{CookieContentSecurity, SessionMiddlewareBuilder, WireFormat},
    storage::{
        CookieSessionStore, MemorySessionStore, RevocationFuture, RevocationStore, SessionStore,
    },
};
use actix_web::{
    App, HttpRequest,
    body::MessageBody,
    cookie::Key,
    dev::{ServiceRequest, ServiceResponse},
    middleware::{Next, from_fn},
    rt,
    test::{TestRequest, init_service},
    web,
};
use futures_util::future::{Either, join, select};
use tokio::sync::Notify;

use crate::{
    ended::{LEASE, assert_lives, wait_for},
    five_methods::Wrapper,
    support::{Browser, Site, private, soon, stop},
};

const USER: &str = "user";

/// Ways to log out by the entry.
const WAYS: [fn(&Session); 5] = [
    |s| drop(s.remove(USER)),
    |s| s.insert(USER, 7).unwrap(),
    |s| s.modify(USER, |_: Option<String>| None).unwrap(),
    |s| {
        s.remove(USER);
        s.renew();
    },
    |s| {
        s.login("ada").unwrap();
        s.remove(USER);
    },
];

/// Ways to log in.
const LOGINS: [fn(&Session); 2] = [
    |s| s.login("ada").unwrap(),
    |s| {
        s.insert(USER, "ada").unwrap();
        s.renew();
    },
];

type Act = fn(&Session);
type Builder<S> = SessionMiddlewareBuilder<S>;

const SETTINGS: [fn(Builder<CookieSessionStore>) -> Builder<CookieSessionStore>; 5] = [
    |builder| builder,
    |builder| builder.cookie_content_security(CookieContentSecurity::Signed),
    |builder| builder.wire_format(WireFormat::V0_11),
    |builder| {
        let signed = builder.cookie_content_security(CookieContentSecurity::Signed);
        signed.wire_format(WireFormat::V0_11)
    },
    Builder::lazy,
];

fn key() -> Key {
    Key::from(&[7; 64])
}

fn naming<S: SessionStore>(wrap: impl Fn(CookieSessionStore) -> S) -> Builder<S> {
    let store = CookieSessionStore::default().with_revocation(MemorySessionStore::new());
    naming_over(wrap(store))
}

fn naming_with(list: List) -> Builder<CookieSessionStore> {
    naming_over(CookieSessionStore::default().with_revocation(list))
}

fn naming_over<S: SessionStore>(store: S) -> Builder<S> {
    let builder = SessionMiddleware::builder(store, key());
    builder.principal_entry(USER).ended_lease(LEASE)
}

async fn site() -> Site {
    Site::new(naming(|store| store).build()).await
}

async fn logged_in(site: &Site, login: fn(&Session)) -> Browser {
    let browser = Browser::new(site.clone());
    let act = |s: &Session| {
        s.insert("basket", 1).unwrap();
        login(s);
    };
    browser.visit(act).await.assert_sets_cookie();
    assert_eq!(browser.principal().await.as_deref(), Some("ada"));
    browser
}

/// Nobody is logged in, and the rest goes on.
async fn assert_left(browser: &Browser) {
    assert_eq!(browser.principal().await, None);
    assert_eq!(browser.number("basket").await, Some(1));
    let change = |s: &Session| s.insert("basket", 1).unwrap();
    browser.visit(change).await.assert_sets_cookie();
    assert_eq!(browser.number("basket").await, Some(1));
}

#[actix_web::test]
async fn a_copy_opens_nothing_and_whoever_waits_hears_it() {
    for settings in SETTINGS {
        let site = Site::new(settings(naming(|store| store)).build()).await;
        for login in LOGINS {
            for leave in WAYS {
                let browser = logged_in(&site, login).await;
                let (copy, ended) = (browser.fork(), wait_for(&browser).await);
                browser.visit(leave).await.assert_sets_cookie();
                assert!(copy.is_nobody().await);
                assert_eq!(soon(ended).await, EndReason::Gone);
                assert_left(&browser).await;
            }
        }
    }
}

#[actix_web::test]
async fn a_value_that_is_taken_logs_out_too() {
    let browser = logged_in(&site().await, LOGINS[0]).await;
    let copy = browser.fork();
    let flight = browser.begin().await;
    let taken: Option<String> = flight.take(USER).await.unwrap();
    assert_eq!(taken.as_deref(), Some("ada"));
    flight.finish().await.assert_sets_cookie();
    assert!(copy.is_nobody().await);
    assert_left(&browser).await;
}

#[actix_web::test]
async fn who_waits_afterwards_waits_for_what_is_left() {
    let site = site().await;
    for leave in WAYS {
        let browser = logged_in(&site, LOGINS[0]).await;
        let mut both = Vec::new();
        let out = |s: &Session| {
            both.push(s.ended().unwrap());
            leave(s);
            both.push(s.ended().unwrap());
        };
        browser.visit(out).await.assert_sets_cookie();
        let after = both.pop().unwrap();
        assert_eq!(soon(both.pop().unwrap()).await, EndReason::Gone);
        assert_lives(&after).await;
        browser.visit(Session::purge).await.assert_removes_cookie();
        assert_eq!(soon(after).await, EndReason::Gone);
    }
}

/// Of two sessions with the same entries, the other one goes on.
#[actix_web::test]
async fn a_cookie_of_an_old_server_ends_too() {
    let site = site().await;
    let old = || {
        let browser = Browser::new(site.clone());
        let text = r#"{"user":"\"ada\"","basket":"1"}"#;
        browser.set_cookie("id", private(&key(), "id", text));
        browser
    };
    for leave in WAYS {
        let (browser, other) = (old(), old());
        let copy = browser.fork();
        let flight = browser.fork().begin().await;
        // Its first visit gives it times, and an id.
        assert_eq!(browser.principal().await.as_deref(), Some("ada"));
        browser.visit(leave).await.assert_sets_cookie();
        flight.insert("n", 1).unwrap();
        flight.finish().await.assert_ok().assert_no_cookie();
        assert!(copy.is_nobody().await);
        assert_left(&browser).await;
        assert_eq!(other.principal().await.as_deref(), Some("ada"));
    }
}

/// What requests do that were loaded before the logout.
const LATE: [fn(&Session); 6] = [
    |s| s.insert("n", 1).unwrap(),
    |s| s.insert(USER, "ada").unwrap(),
    |s| s.modify("n", |_: Option<u32>| Some(1)).unwrap(),
    Session::renew,
    |s| {
        s.renew();
        s.insert("n", 1).unwrap();
    },
    |s| {
        s.insert(USER, "ada").unwrap();
        s.renew();
    },
];

async fn nothing_in_flight_undoes_it<S: SessionStore + 'static>(
    wrap: impl Fn(CookieSessionStore) -> S,
) {
    let site = Site::new(naming(wrap).build()).await;
    for leave in WAYS {
        for late in LATE {
            let browser = logged_in(&site, LOGINS[0]).await;
            let (copy, flight) = (browser.fork(), browser.fork().begin().await);
            browser.visit(leave).await.assert_sets_cookie();
            late(&flight);
            flight.finish().await.assert_ok().assert_no_cookie();
            assert!(copy.is_nobody().await);
            assert_left(&browser).await;
        }
    }
}

#[actix_web::test]
async fn nothing_in_flight_undoes_a_logout() {
    nothing_in_flight_undoes_it(|store| store).await;
}

#[actix_web::test]
async fn nothing_in_flight_undoes_a_logout_behind_a_wrapper() {
    nothing_in_flight_undoes_it(Wrapper).await;
}

/// As behind a `clear` with a store on the server: the second click of a double click.
#[actix_web::test]
async fn a_second_logout_leaves_what_the_first_has_left() {
    let site = site().await;
    let clear: fn(&Session) = |s| {
        s.clear();
        s.insert("basket", 1).unwrap();
    };
    for leave in WAYS.into_iter().chain([clear]) {
        for second in WAYS.into_iter().chain([Session::clear as fn(&Session)]) {
            let browser = logged_in(&site, LOGINS[0]).await;
            let flights = [browser.fork().begin().await, browser.fork().begin().await];
            browser.visit(leave).await.assert_sets_cookie();
            let [late, later] = flights;
            second(&late);
            late.finish().await.assert_ok();
            // The next person is not logged out either.
            browser.visit(|s| s.login("eve").unwrap()).await.assert_ok();
            second(&later);
            later.finish().await.assert_ok();
            assert_eq!(browser.principal().await.as_deref(), Some("eve"));
            assert_eq!(browser.number("basket").await, Some(1));
        }
    }
}

/// A list that answers as a test wants it.
#[derive(Clone)]
struct List {
    list: MemorySessionStore,
    /// How many more calls until one fails, if any does.
    until_failure: Arc<AtomicU32>,
    failed: Arc<AtomicBool>,
    /// How many more calls until one waits, if any does.
    until_held: Arc<AtomicU32>,
    /// The same of those that note something: whoever waits for an end only looks.
    until_note_held: Arc<AtomicU32>,
    held: Arc<Notify>,
    goes_on: Arc<Notify>,
    /// What decides how long each call takes.
    pace: Arc<AtomicU32>,
}

impl List {
    fn new() -> Self {
        Self {
            list: MemorySessionStore::new(),
            until_failure: Arc::new(AtomicU32::new(u32::MAX)),
            failed: Arc::default(),
            until_held: Arc::new(AtomicU32::new(u32::MAX)),
            until_note_held: Arc::new(AtomicU32::new(u32::MAX)),
            held: Arc::default(),
            goes_on: Arc::default(),
            pace: Arc::default(),
        }
    }

    fn fail_at(&self, call: u32) {
        self.until_failure.store(call, Ordering::SeqCst);
    }

    /// Whether the call that was to fail has come.
    fn has_failed(&self) -> bool {
        self.failed.swap(false, Ordering::SeqCst)
    }

    fn hold_at(&self, call: u32) {
        self.until_held.store(call, Ordering::SeqCst);
    }

    fn hold_note_at(&self, call: u32) {
        self.until_note_held.store(call, Ordering::SeqCst);
    }

    async fn is_held(&self) {
        self.held.notified().await;
    }

    fn go_on(&self) {
        self.goes_on.notify_one();
    }

    async fn hold(&self) {
        self.held.notify_one();
        self.goes_on.notified().await;
    }

    async fn turn(&self) -> anyhow::Result<()> {
        let next = |pace: u32| pace.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let pace = self.pace.fetch_add(1, Ordering::SeqCst);
        for _ in 0..next(next(pace)) >> 30 {
            rt::task::yield_now().await;
        }
        if self.until_held.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.hold().await;
        }
        if self.until_failure.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.failed.store(true, Ordering::SeqCst);
            anyhow::bail!("the list fails once");
        }
        Ok(())
    }
}

impl RevocationStore for List {
    fn revoke<'a>(
        &'a self,
        name: &'a str,
        at: SystemTime,
        until: SystemTime,
    ) -> RevocationFuture<'a, bool> {
        Box::pin(async move {
            if self.until_note_held.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.hold().await;
            }
            self.turn().await?;
            self.list.revoke(name, at, until).await
        })
    }

    fn revoked_at<'a>(&'a self, name: &'a str) -> RevocationFuture<'a, Option<SystemTime>> {
        Box::pin(async move {
            self.turn().await?;
            self.list.revoked_at(name).await
        })
    }
}

/// However far the first logout has come, the second one ends what the session was renewed to meanwhile.
#[actix_web::test]
async fn a_logout_that_failed_halfway_may_be_repeated() {
    let list = List::new();
    let site = Site::new(naming_with(list.clone()).build()).await;
    let mut failures = 0;
    for leave in WAYS.into_iter().chain([Session::clear as fn(&Session)]) {
        for (held, failing) in (1..6).flat_map(|held| (1..8).map(move |failing| (held, failing))) {
            let browser = logged_in(&site, LOGINS[0]).await;
            let thief = browser.fork();
            let (first, second) = (browser.begin().await, browser.fork().begin().await);
            leave(&first);
            list.hold_at(held);
            let stealing = async {
                list.is_held().await;
                thief.visit(Session::renew).await.assert_sets_cookie();
                list.fail_at(failing);
                list.go_on();
            };
            let (answer, ()) = soon(join(first.finish(), stealing)).await;
            let has_failed = list.has_failed();
            assert!(has_failed || !answer.failed, "call {failing} after {held}");
            failures += usize::from(has_failed);
            list.fail_at(u32::MAX);
            leave(&second);
            second.finish().await.assert_ok();
            assert!(thief.is_nobody().await, "call {failing} after {held}");
        }
    }
    assert!(failures > 40, "{failures}");
}

/// The client that asked for it has gone in the middle of the call.
#[actix_web::test]
async fn a_revocation_goes_on_without_whoever_asked_for_it() {
    let list = List::new();
    let site = Site::new(naming_with(list.clone()).build()).await;
    let browser = logged_in(&site, LOGINS[0]).await;
    let store = CookieSessionStore::default().with_revocation(list.clone());
    list.hold_note_at(1);
    let asking = Box::pin(store.revoke_principal("ada"));
    let Either::Right((_, asking)) = select(asking, Box::pin(list.is_held())).await else {
        panic!("the list holds it");
    };
    drop(asking);
    list.go_on();
    let ending = async {
        while !browser.is_nobody().await {
            rt::task::yield_now().await;
        }
    };
    soon(ending).await;
}

/// A renewal that loses against an end has noted that it was under way.
#[actix_web::test]
async fn whoever_waits_hears_of_an_end_that_a_renewal_meets() {
    let list = List::new();
    let site = Site::new(naming_with(list.clone()).build()).await;
    let ends: [fn(&Session); 3] = [Session::purge, Session::clear, WAYS[0]];
    for end in ends {
        for renews_first in [false, true] {
            for held in 1..3 {
                let browser = logged_in(&site, LOGINS[0]).await;
                let flights = [browser.fork().begin().await, browser.fork().begin().await];
                if renews_first {
                    browser.visit(Session::renew).await.assert_sets_cookie();
                }
                let (ended, late) = (wait_for(&browser).await, browser.begin().await);
                let [renewal, logout] = flights;
                let renewal = if renews_first { late } else { renewal };
                renewal.renew();
                end(&logout);
                list.hold_note_at(held);
                let ending = async {
                    list.is_held().await;
                    logout.finish().await.assert_ok();
                    list.go_on();
                };
                let _ = soon(join(renewal.finish(), ending)).await;
                assert_eq!(soon(ended).await, EndReason::Gone, "note {held}");
                assert!(browser.principal().await.is_none());
            }
        }
    }
}

/// Whoever logs in over a session and comes too late gets one of their own.
#[actix_web::test]
async fn a_login_that_loses_against_a_renewal_ends_nothing() {
    let list = List::new();
    let site = Site::new(naming_with(list.clone()).build()).await;
    for held in 1..3 {
        let browser = logged_in(&site, LOGINS[0]).await;
        let login = browser.fork().begin().await;
        let ended = wait_for(&browser).await;
        login.login("eve").unwrap();
        list.hold_note_at(held);
        let renewing = async {
            list.is_held().await;
            browser.visit(Session::renew).await.assert_sets_cookie();
            list.go_on();
        };
        let (answer, ()) = soon(join(login.finish(), renewing)).await;
        answer.assert_ok().assert_sets_cookie();
        assert_lives(&ended).await;
        assert_eq!(browser.principal().await.as_deref(), Some("ada"));
        browser.visit(Session::purge).await.assert_removes_cookie();
        assert_eq!(soon(ended).await, EndReason::Gone);
    }
}

/// What was left in that very moment is ahead of the purge.
#[actix_web::test]
async fn a_purge_ends_what_a_logout_at_once_has_left() {
    let list = List::new();
    let site = Site::new(naming_with(list.clone()).build()).await;
    for leave in &WAYS[..4] {
        for held in 1..3 {
            let browser = logged_in(&site, LOGINS[0]).await;
            let (purge, logout) = (browser.fork().begin().await, browser.begin().await);
            purge.purge();
            leave(&logout);
            list.hold_note_at(held);
            let leaving = async {
                list.is_held().await;
                logout.finish().await.assert_sets_cookie();
                list.go_on();
            };
            let (answer, ()) = soon(join(purge.finish(), leaving)).await;
            answer.assert_removes_cookie();
            assert_eq!(browser.number("basket").await, None, "note {held}");
        }
    }
}

/// Whichever is first: the other one ends nothing of what it has left, nor whoever has logged in over it.
#[actix_web::test]
async fn of_two_logouts_at_once_one_leaves_the_rest() {
    let site = Site::new(naming_with(List::new()).build()).await;
    let over: fn(&Session) = |s| s.login("eve").unwrap();
    // Who logs in, too, makes a session of their own if they come second.
    let ways = WAYS[..4].iter().copied().chain([over]);
    for (way, leave) in ways.enumerate() {
        for round in 0..60 {
            let browser = logged_in(&site, LOGINS[0]).await;
            let browsers = [browser.fork(), browser];
            let flights = [browsers[0].begin().await, browsers[1].begin().await];
            leave(&flights[0]);
            WAYS[0](&flights[1]);
            let [one, other] = flights;
            let (one, other) = join(one.finish(), other.finish()).await;
            let mut winners = 0;
            for (browser, answer) in browsers.iter().zip([one, other]) {
                let cookie = answer.assert_ok().cookie();
                if cookie.is_some_and(|cookie| !cookie.value().is_empty()) {
                    let is_in = browser.principal().await.is_some();
                    let is_rest = browser.number("basket").await == Some(1);
                    assert!(is_rest || is_in, "way {way}, round {round}");
                    winners += u32::from(!is_in);
                    assert_eq!(is_in, way == 4 && std::ptr::eq(browser, &browsers[0]));
                }
            }
            assert!(
                winners <= 1 && winners > 0 || way == 4,
                "way {way}, round {round}"
            );
        }
    }
}

/// An end follows what the session has become.
#[actix_web::test]
async fn a_purge_in_flight_ends_what_is_left() {
    let site = site().await;
    for leave in WAYS {
        let browser = logged_in(&site, LOGINS[0]).await;
        let flight = browser.fork().begin().await;
        browser.visit(leave).await.assert_sets_cookie();
        flight.purge();
        flight.finish().await.assert_removes_cookie();
        assert_eq!(browser.number("basket").await, None);
    }
}

/// As a `clear` does.
#[actix_web::test]
async fn a_logout_in_flight_follows_a_renewal() {
    let site = site().await;
    for leave in WAYS {
        let browser = logged_in(&site, LOGINS[0]).await;
        let flight = browser.fork().begin().await;
        browser.visit(Session::renew).await.assert_sets_cookie();
        leave(&flight);
        flight.finish().await.assert_ok();
        assert!(browser.is_nobody().await);
    }
}

#[actix_web::test]
async fn a_logout_waits_for_the_response_and_happens_without_one() {
    let site = site().await;
    for fails in [false, true] {
        let browser = logged_in(&site, LOGINS[0]).await;
        let copy = browser.fork();
        let flight = browser.begin().await;
        flight.remove(USER);
        assert_eq!(flight.save().await.unwrap(), Saved::WithResponse);
        assert_eq!(copy.principal().await.as_deref(), Some("ada"));
        let _ = match fails {
            true => flight.fail().await,
            false => flight.finish().await,
        };
        assert!(copy.is_nobody().await);
    }
}

#[actix_web::test]
async fn nothing_ends_with_a_cookie_that_does_not_fit() {
    let browser = logged_in(&site().await, LOGINS[0]).await;
    let ended = wait_for(&browser).await;
    let too_long = |s: &Session| {
        s.remove(USER);
        s.insert("long", "x".repeat(4_096)).unwrap();
    };
    browser.visit(too_long).await.assert_opaque();
    assert_eq!(browser.principal().await.as_deref(), Some("ada"));
    assert_lives(&ended).await;
}

#[actix_web::test]
async fn a_login_may_follow_in_the_same_request() {
    let site = site().await;
    let logins: [(Act, &str); 4] = [
        (|s| s.login("bob").unwrap(), "bob"),
        (|s| s.insert(USER, "bob").unwrap(), "bob"),
        (|s| s.login("ada").unwrap(), "ada"),
        (|s| s.insert(USER, "ada").unwrap(), "ada"),
    ];
    for (login, name) in logins {
        let browser = logged_in(&site, LOGINS[0]).await;
        let (copy, ended) = (browser.fork(), wait_for(&browser).await);
        let act = |s: &Session| {
            s.remove(USER);
            login(s);
        };
        browser.visit(act).await.assert_sets_cookie();
        assert!(copy.is_nobody().await);
        assert_eq!(browser.principal().await.as_deref(), Some(name));
        match name {
            "ada" => assert_lives(&ended).await,
            _ => assert_eq!(soon(ended).await, EndReason::Gone),
        }
    }
}

/// Nobody has been logged out: an entry went.
#[actix_web::test]
async fn an_entry_that_named_nobody_ends_nothing() {
    let browser = Browser::new(site().await);
    let guest = |s: &Session| s.insert(USER, 7).unwrap();
    browser.visit(guest).await.assert_sets_cookie();
    let copy = browser.fork();
    let remove = |s: &Session| drop(s.remove(USER));
    browser.visit(remove).await.assert_sets_cookie();
    assert_eq!(copy.number(USER).await, Some(7));
}

/// Logs out before the session middleware serves the request, if there is such a field.
async fn leave_outside(
    req: ServiceRequest,
    next: Next<impl MessageBody>,
) -> actix_web::Result<ServiceResponse<impl MessageBody>> {
    if req.headers().contains_key("leave") {
        let session = req.get_session();
        session.modify(USER, |_: Option<String>| None).unwrap();
    }
    next.call(req).await
}

/// Nobody knows whom the entry names, until the commit.
#[actix_web::test]
async fn a_logout_of_whoever_is_not_known_yet_counts() {
    let at_once = |req: HttpRequest| {
        let session = req.get_session();
        stop(req, session)
    };
    for is_lazy in [false, true] {
        let naming = naming(|store| store);
        let naming = if is_lazy { naming.lazy() } else { naming };
        let app = App::new()
            .wrap(naming.build())
            .wrap(from_fn(leave_outside))
            .route("/at_once", web::to(at_once))
            .default_service(web::to(stop));
        let site = Site::of(init_service(app).await);
        for by_outer in [false, true] {
            let browser = logged_in(&site, LOGINS[0]).await;
            let (copy, ended) = (browser.fork(), wait_for(&browser).await);
            let flight = browser.fork().begin().await;
            let cookie = format!("id={}", browser.value().unwrap());
            let request = TestRequest::with_uri("/at_once").insert_header(("cookie", cookie));
            let leaving = match by_outer {
                true => {
                    browser
                        .begin_with(request.insert_header(("leave", "1")))
                        .await
                }
                false => browser.begin_with(request).await,
            };
            if !by_outer {
                leaving.remove(USER);
            }
            leaving.finish().await.assert_sets_cookie();
            assert!(copy.is_nobody().await);
            assert_eq!(soon(ended).await, EndReason::Gone);
            flight.insert("n", 1).unwrap();
            flight.finish().await.assert_ok().assert_no_cookie();
            assert_left(&browser).await;
        }
    }
}

#[actix_web::test]
async fn a_value_in_a_header_ends_too() {
    const NAME: &str = "x-session";
    let middleware = naming(|store| store).header(NAME).build();
    let browser = Browser::new(Site::new(middleware).await);
    let request = |value: &str| TestRequest::get().insert_header((NAME, value));
    let login = |s: &Session| s.login("ada").unwrap();
    let answer = browser.visit_with(request(""), login).await;
    let value = answer.headers.get(NAME).unwrap().to_str().unwrap();
    let leave = |s: &Session| drop(s.remove(USER).unwrap());
    browser.visit_with(request(value), leave).await.assert_ok();
    let look = |s: &Session| assert!(s.is_empty() && s.principal().is_none());
    browser.visit_with(request(value), look).await.assert_ok();
}
