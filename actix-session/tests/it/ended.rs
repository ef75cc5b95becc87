//! Waiting for the end of a session.

use std::{
    cell::Cell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_session::{
    EndReason, Session, SessionEnded, SessionMiddleware,
    config::OverLimit,
    storage::{
        KeyValueDatabase, KeyValueOutcome, KeyValueSessionStore, KeyValueTransaction, LoadError,
        MemorySessionStore, SaveError, SessionIndex, SessionKey, SessionStore, UpdateError,
    },
    testing::ManualClock,
};
use actix_web::{
    App, HttpRequest, HttpResponse,
    cookie::{self, Key},
    test::init_service,
    web,
};
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::{
    devices::log_in,
    ended_early::Closed,
    five_methods::FiveMethods,
    support::{
        Browser, InMemory, Memory, Server, Site, TestStore, http_get, on_each_index, on_store, soon,
    },
};

on_each_index! {
    a_purge_ends_it,
    a_clear_ends_it,
    a_handle_reads_nothing_of_whoever_comes_next,
    another_person_ends_it,
    a_renewal_goes_on,
    a_login_from_nobody_goes_on,
    whoever_is_revoked_ends,
    a_manager_ends_one,
    a_session_that_the_request_makes,
    none_is_made,
    none_is_made_in_place_of_the_one_that_came,
    what_is_over_is_found,
    a_session_opened_from_outside_tells_too,
    a_session_opened_before_its_renewal_tells_too,
    whoever_asks_as_the_client_goes_waits_on,
    whoever_has_too_many_is_told_so,
}

// It has no index, and looks by itself.
on_store!(on_redis_actor RedisActor:
    a_purge_ends_it
    a_clear_ends_it
    another_person_ends_it
    a_renewal_goes_on
    a_session_that_the_request_makes
    none_is_made
    what_is_over_is_found
    whoever_asks_as_the_client_goes_waits_on
);

on_store!(on_hiding_cluster HidingCluster:
    a_renewal_goes_on
    a_session_opened_before_its_renewal_tells_too
    whoever_is_revoked_ends
);

type State = HashMap<String, String>;

/// So short that tests see several looks.
pub(crate) const LEASE: Duration = Duration::from_millis(50);

async fn visitor(tested: &impl TestStore) -> Browser {
    tested
        .browser_of(tested.middleware().ended_lease(LEASE))
        .await
}

async fn none_is_made_in_place_of_the_one_that_came(tested: impl TestStore) {
    let browser = visitor(&tested).await;
    let login = |s: &Session| s.login("user-42").unwrap();
    browser.visit(login).await.assert_ok();
    let flight = browser.begin().await;
    flight.login("user-7").unwrap();
    let ended = flight.ended().unwrap();
    // The login is dropped.
    flight.fail().await;
    assert_is(soon(ended).await, EndReason::Gone);
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    // A `clear` of what is empty changes nothing, and the session goes on.
    let browser = visitor(&tested).await;
    browser.visit(|s| s.insert("a", 1).unwrap()).await;
    browser.visit(|s| drop(s.remove("a"))).await;
    let mut ended = None;
    let clear = |s: &Session| {
        s.clear();
        ended = Some(s.ended().unwrap());
    };
    browser.visit(clear).await.assert_ok();
    assert_lives(ended.as_ref().unwrap()).await;
}

pub(crate) async fn wait_for(browser: &Browser) -> SessionEnded {
    let mut ended = None;
    let ask = |s: &Session| ended = Some(s.ended().unwrap());
    browser.visit(ask).await.assert_ok();
    ended.unwrap()
}

/// It was looked at several times.
pub(crate) async fn assert_lives(ended: &SessionEnded) {
    sleep(6 * LEASE).await;
    assert_eq!(ended.reason(), None);
}

/// A store that stays on one thread only sees that the session is gone.
pub(crate) fn assert_is(reason: EndReason, expected: EndReason) {
    assert!(
        reason == expected || reason == EndReason::Gone,
        "{reason:?}"
    );
}

async fn a_purge_ends_it(tested: impl TestStore) {
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let (one, other) = (wait_for(&browser).await, wait_for(&browser).await);
    assert_lives(&one).await;
    browser.visit(Session::purge).await.assert_removes_cookie();
    assert_is(soon(one).await, EndReason::LoggedOut);
    assert_is(soon(other).await, EndReason::LoggedOut);
}

async fn a_clear_ends_it(tested: impl TestStore) {
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    browser.visit(Session::clear).await.assert_ok();
    assert_is(soon(ended).await, EndReason::LoggedOut);
    // Whoever comes next on the same record.
    let next = wait_for(&browser).await;
    assert_lives(&next).await;
}

/// As that of an open socket.
async fn a_handle_reads_nothing_of_whoever_comes_next(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = tested.middleware().build().manager();
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let (mut socket, mut named) = (None, None);
    let opens = |s: &Session| {
        socket = Some((s.clone(), s.ended().unwrap()));
    };
    browser.visit(opens).await.assert_ok();
    named.replace(
        sessions
            .list("user-42")
            .await
            .unwrap()
            .next()
            .unwrap()
            .handle(),
    );
    browser.visit(Session::clear).await.assert_ok();
    log_in(&browser, "user-43", "phone").await;
    browser
        .visit(|s| s.insert("next", 1).unwrap())
        .await
        .assert_ok();
    let ((handle, ended), named) = (socket.unwrap(), named.unwrap());
    assert_is(soon(ended).await, EndReason::LoggedOut);
    assert_eq!(
        handle.get::<String>("secret").unwrap().as_deref(),
        Some("user-42")
    );
    assert_eq!(handle.get::<i64>("next").unwrap(), None);
    for principal in ["user-42", "user-43"] {
        assert!(sessions.open(principal, &named).await.unwrap().is_none());
    }
}

async fn another_person_ends_it(tested: impl TestStore) {
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    let mut own = None;
    let other = |s: &Session| {
        s.login("user-43").unwrap();
        own = Some(s.ended().unwrap());
    };
    browser.visit(other).await.assert_sets_cookie();
    assert_is(soon(ended).await, EndReason::LoggedOut);
    let own = own.unwrap();
    assert_lives(&own).await;
    browser.visit(Session::purge).await.assert_ok();
    assert_is(soon(own).await, EndReason::LoggedOut);
}

async fn a_renewal_goes_on(tested: impl TestStore) {
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    for _ in 0..3 {
        browser.visit(Session::renew).await.assert_sets_cookie();
    }
    let again = |s: &Session| s.login("user-42").unwrap();
    browser.visit(again).await.assert_sets_cookie();
    assert_lives(&ended).await;
    browser.visit(Session::purge).await.assert_ok();
    assert_is(soon(ended).await, EndReason::LoggedOut);
}

async fn a_login_from_nobody_goes_on(tested: impl TestStore) {
    let browser = visitor(&tested).await;
    browser.visit(|s| s.insert("n", 1).unwrap()).await;
    let ended = wait_for(&browser).await;
    log_in(&browser, "user-42", "phone").await;
    assert_lives(&ended).await;
    browser.visit(Session::purge).await.assert_ok();
    assert_is(soon(ended).await, EndReason::LoggedOut);
}

async fn whoever_is_revoked_ends(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = tested.middleware().build().manager();
    let (phone, laptop) = (visitor(&tested).await, visitor(&tested).await);
    log_in(&phone, "user-42", "phone").await;
    log_in(&laptop, "user-42", "laptop").await;
    let (on_phone, on_laptop) = (wait_for(&phone).await, wait_for(&laptop).await);
    assert_lives(&on_phone).await;
    let flight = laptop.begin().await;
    sessions.revoke_others(&flight.handle()).await.unwrap();
    flight.finish().await.assert_ok();
    assert_is(soon(on_phone).await, EndReason::Revoked);
    assert_lives(&on_laptop).await;
    sessions.revoke_all("user-42").await.unwrap();
    assert_is(soon(on_laptop).await, EndReason::Revoked);
}

async fn a_manager_ends_one(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = tested.middleware().build().manager();
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    let listed = sessions.list("user-42").await.unwrap().next().unwrap();
    assert!(sessions.revoke("user-42", &listed.handle()).await.unwrap());
    assert_eq!(soon(ended).await, EndReason::Revoked);
}

async fn a_session_that_the_request_makes(tested: impl TestStore) {
    let browser = visitor(&tested).await;
    let mut ended = None;
    let make = |s: &Session| {
        s.insert("n", 1).unwrap();
        ended = Some(s.ended().unwrap());
    };
    browser.visit(make).await.assert_sets_cookie();
    let ended = ended.unwrap();
    assert_lives(&ended).await;
    browser.visit(Session::purge).await.assert_removes_cookie();
    assert_is(soon(ended).await, EndReason::LoggedOut);
}

async fn none_is_made(tested: impl TestStore) {
    let browser = visitor(&tested).await;
    assert_eq!(soon(wait_for(&browser).await).await, EndReason::Gone);
    log_in(&browser, "user-42", "phone").await;
    let mut ended = None;
    let leave = |s: &Session| {
        s.purge();
        ended = Some(s.ended().unwrap());
    };
    browser.visit(leave).await.assert_removes_cookie();
    assert_eq!(soon(ended.unwrap()).await, EndReason::Gone);
}

/// Nobody tells that: it is found by looking, which extends nothing.
async fn what_is_over_is_found(tested: impl TestStore) {
    let middleware = tested.middleware().ended_lease(LEASE);
    let hour = actix_web::cookie::time::Duration::hours(1);
    let browser = tested.browser_of(middleware.absolute_timeout(hour)).await;
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    tested.clock().advance(Duration::from_secs(3_500));
    assert_lives(&ended).await;
    tested.clock().advance(Duration::from_secs(101));
    assert_eq!(soon(ended).await, EndReason::Gone);
}

async fn a_session_opened_from_outside_tells_too(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = tested.middleware().build().manager();
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let handle = sessions
        .list("user-42")
        .await
        .unwrap()
        .next()
        .unwrap()
        .handle();
    let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
    assert!(opened.session().ended().is_err());
    let ended = opened.ended();
    browser.visit(Session::renew).await.assert_ok();
    assert_lives(&ended).await;
    assert!(opened.end().await.unwrap());
    assert_is(soon(ended).await, EndReason::Revoked);
}

/// Nobody remembers its name any more, and its list says where it is.
async fn a_session_opened_before_its_renewal_tells_too(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let middleware = tested.middleware().ended_lease(LEASE);
    let sessions = middleware.build().manager();
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let listed = sessions.list("user-42").await.unwrap().next().unwrap();
    let open = async || sessions.open("user-42", &listed.handle()).await.unwrap();
    let (opened, late) = (open().await.unwrap(), open().await.unwrap());
    browser.visit(Session::renew).await.assert_sets_cookie();
    tested.pass_grace().await;
    let ended = opened.ended();
    for _ in 0..3 {
        assert_lives(&ended).await;
    }
    browser.visit(Session::renew).await.assert_sets_cookie();
    assert_lives(&ended).await;
    browser.visit(Session::purge).await.assert_removes_cookie();
    assert_is(soon(ended).await, EndReason::LoggedOut);
    // Where servers tell, that may be heard only now.
    assert_is(soon(late.ended()).await, EndReason::LoggedOut);
}

/// The middleware is not polled any more.
async fn whoever_asks_as_the_client_goes_waits_on(tested: impl TestStore) {
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let flight = browser.begin().await;
    let ended = flight.ended().unwrap();
    flight.abort().await;
    assert_lives(&ended).await;
    browser.visit(Session::purge).await.assert_removes_cookie();
    assert_is(soon(ended).await, EndReason::LoggedOut);
}

async fn whoever_has_too_many_is_told_so(tested: impl TestStore<Store: SessionIndex>) {
    let middleware = tested.middleware().ended_lease(LEASE);
    let middleware = middleware.max_sessions(1, OverLimit::EvictOldest).build();
    let (phone, laptop) = {
        let site = Site::new(middleware).await;
        (Browser::new(site.clone()), Browser::new(site))
    };
    log_in(&phone, "user-42", "phone").await;
    let ended = wait_for(&phone).await;
    tested.clock().advance(Duration::from_secs(1));
    log_in(&laptop, "user-42", "laptop").await;
    assert_eq!(soon(ended).await, EndReason::OverLimit);
}

/// What is expired by its idle time, or gives way in a store that is full.
#[actix_web::test]
async fn waiting_extends_nothing() {
    let tested = Memory::start().await;
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    for _ in 0..3 {
        tested.clock().advance(Duration::from_secs(8 * 3_600 - 1));
        assert_lives(&ended).await;
    }
    tested.clock().advance(Duration::from_secs(4));
    assert_eq!(soon(ended).await, EndReason::Gone);
}

#[actix_web::test]
async fn a_session_that_gives_way_is_gone() {
    // Of two that end in the same millisecond either gives way.
    let clock = ManualClock::new();
    let store = MemorySessionStore::builder().max_sessions(2);
    let store = store.clock(clock.clone()).build();
    let middleware = SessionMiddleware::builder(store, Key::generate()).clock(clock.clone());
    let site = Site::new(middleware.build()).await;
    let write = |s: &Session| s.insert("n", 1).unwrap();
    let first = Browser::new(site.clone());
    first.visit(write).await.assert_sets_cookie();
    let ended = wait_for(&first).await;
    for _ in 0..2 {
        clock.advance(Duration::from_secs(1));
        let other = Browser::new(site.clone());
        other.visit(write).await.assert_sets_cookie();
    }
    // Long before the next look that is planned.
    assert_eq!(soon(ended).await, EndReason::Gone);
}

#[actix_web::test]
async fn a_handler_may_wait_itself() {
    async fn wait(session: Session) -> actix_web::Result<HttpResponse> {
        let reason = session.ended()?.await;
        Ok(HttpResponse::Ok().body(format!("{reason:?}")))
    }
    let tested = Memory::start().await;
    let app = App::new()
        .wrap(tested.middleware().build())
        .route("/wait", web::get().to(wait))
        .default_service(web::to(crate::support::stop));
    let browser = Browser::new(Site::of(init_service(app).await));
    log_in(&browser, "user-42", "phone").await;
    let waiter = browser.fork();
    let waits = actix_web::rt::spawn(async move { waiter.visit_path("/wait", |_| {}).await });
    tokio::task::yield_now().await;
    browser.visit(Session::purge).await.assert_ok();
    soon(waits).await.unwrap().assert_ok();
}

#[actix_web::test]
async fn a_store_of_five_methods_tells_as_far_as_it_can() {
    let store = FiveMethods::default();
    let middleware = SessionMiddleware::builder(store, Key::generate()).ended_lease(LEASE);
    let browser = Browser::new(Site::new(middleware.build()).await);
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    assert_lives(&ended).await;
    // It cannot say where the session is now.
    browser.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(soon(ended).await, EndReason::Gone);
    let ended = wait_for(&browser).await;
    assert_lives(&ended).await;
    browser.visit(Session::purge).await.assert_ok();
    assert_eq!(soon(ended).await, EndReason::Gone);
}

#[actix_web::test]
async fn whoever_asks_elsewhere_is_told_so() {
    let nowhere = Session::new().ended().unwrap_err().to_string();
    assert!(nowhere.contains("SessionMiddleware"), "{nowhere}");
    let tested = Memory::start().await;
    let browser = visitor(&tested).await;
    let mut kept = None;
    browser.visit(|s| kept = Some(s.clone())).await.assert_ok();
    let late = kept.unwrap().ended().unwrap_err().to_string();
    assert!(late.contains("response"), "{late}");
}

/// They go to another thread, and outlive the request.
#[actix_web::test]
async fn it_is_independent_of_its_request() {
    let tested = Memory::start().await;
    let browser = visitor(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    let (told, reason) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send(futures_util::future::FutureExt::now_or_never(ended)));
    assert_eq!(reason.recv().unwrap(), None);
    let mut ended = wait_for(&browser).await;
    assert_eq!((&mut ended).now_or_never(), None);
    browser.visit(Session::purge).await.assert_ok();
    assert_eq!((&mut ended).now_or_never(), Some(EndReason::LoggedOut));
}

/// A WebSocket closes at the logout of another connection, and tells why.
#[actix_web::test]
async fn a_websocket_ends_with_its_session() {
    async fn socket(
        req: HttpRequest,
        body: web::Payload,
        session: Session,
    ) -> actix_web::Result<HttpResponse> {
        let (response, socket, _messages) = actix_ws::handle(&req, body)?;
        let ended = session.ended()?;
        actix_web::rt::spawn(async move {
            let description = Some(format!("{:?}", ended.await));
            let code = actix_ws::CloseCode::Policy;
            socket
                .close(Some(actix_ws::CloseReason { code, description }))
                .await
        });
        Ok(response)
    }
    async fn log_in(session: Session) -> HttpResponse {
        session.login("user-42").unwrap();
        HttpResponse::Ok().finish()
    }
    async fn log_out(session: Session) -> HttpResponse {
        session.purge();
        HttpResponse::Ok().finish()
    }
    let (store, key) = (MemorySessionStore::new(), Key::generate());
    let middleware = move || SessionMiddleware::new(store.clone(), key.clone());
    let server = Server::start(2, middleware, |config| {
        config
            .route("/socket", web::get().to(socket))
            .route("/login", web::get().to(log_in))
            .route("/logout", web::get().to(log_out));
    });
    let (_, pair) = http_get(server.address, "/login", None).await;
    let pair = pair.unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET /socket HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         cookie: {pair}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    http_get(server.address, "/logout", Some(&pair)).await;
    // A close frame, its length, the code 1008 and the reason.
    let mut frame = [0; 13];
    soon(stream.read_exact(&mut frame)).await.unwrap();
    assert_eq!(&frame, b"\x88\x0b\x03\xf0LoggedOut");
    drop(stream);
    server.stop().await;
}

/// A store of five methods that never answers one look.
#[derive(Clone, Default)]
struct Mute {
    inner: FiveMethods,
    /// The next load is not answered.
    is_mute: Rc<Cell<bool>>,
    /// Whoever waits for the answer has it too.
    waits: Rc<()>,
}

impl SessionStore for Mute {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        if self.is_mute.take() {
            let _waits = Rc::clone(&self.waits);
            std::future::pending::<()>().await;
        }
        self.inner.load(key).await
    }

    async fn save(
        &self,
        state: State,
        ttl: &cookie::time::Duration,
    ) -> Result<SessionKey, SaveError> {
        self.inner.save(state, ttl).await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &cookie::time::Duration,
    ) -> Result<SessionKey, UpdateError> {
        self.inner.update(key, state, ttl).await
    }

    async fn update_ttl(
        &self,
        key: &SessionKey,
        ttl: &cookie::time::Duration,
    ) -> anyhow::Result<()> {
        self.inner.update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        self.inner.delete(key).await
    }
}

impl Mute {
    /// Until a look waits for its answer.
    async fn is_asked(&self) {
        self.is_mute.set(true);
        soon(async {
            while self.is_mute.get() {
                sleep(LEASE).await;
            }
        })
        .await;
    }
}

#[actix_web::test]
async fn an_answer_that_never_comes_is_asked_for_again() {
    let store = Mute::default();
    let middleware = SessionMiddleware::builder(store.clone(), Key::generate());
    let middleware = middleware.ended_lease(LEASE).commit_budget(LEASE);
    let browser = Browser::new(Site::new(middleware.build()).await);
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    store.is_asked().await;
    browser.visit(Session::purge).await.assert_ok();
    assert_eq!(soon(ended).await, EndReason::Gone);
}

#[actix_web::test]
async fn whoever_no_longer_waits_leaves_no_look_behind() {
    let store = Mute::default();
    let middleware = SessionMiddleware::builder(store.clone(), Key::generate());
    let middleware = middleware
        .ended_lease(LEASE)
        .commit_budget(Duration::from_secs(3_600));
    let browser = Browser::new(Site::new(middleware.build()).await);
    log_in(&browser, "user-42", "phone").await;
    let ended = wait_for(&browser).await;
    store.is_asked().await;
    let count = || Rc::strong_count(&store.waits);
    let asked = count();
    drop(ended);
    soon(async {
        while count() >= asked {
            sleep(LEASE).await;
        }
    })
    .await;
}

/// A database that does not read what lies under some names to whoever looks for ends.
#[derive(Clone, Default)]
struct Sick {
    inner: InMemory,
    names: Arc<Mutex<Vec<String>>>,
    panics: bool,
}

impl KeyValueDatabase for Sick {
    async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        let looks = std::thread::current().name() == Some("session-ends");
        let is_sick = |name: &String| self.names.lock().unwrap().contains(name);
        if looks && names.iter().any(is_sick) {
            assert!(!self.panics, "a database");
            anyhow::bail!("this cannot be read");
        }
        self.inner.get(names).await
    }

    async fn commit(&self, transaction: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
        self.inner.commit(transaction).await
    }

    async fn sweep(&self, now: u64, limit: usize) -> anyhow::Result<usize> {
        self.inner.sweep(now, limit).await
    }
}

impl Sick {
    fn records(&self) -> Vec<String> {
        let values = self.inner.values();
        let names = values.keys().filter(|name| name.starts_with("s."));
        names.cloned().collect()
    }

    /// By hand: no step tells that.
    fn forget(&self, names: &[String]) {
        self.inner.values().retain(|name, _| !names.contains(name));
    }
}

async fn what_cannot_be_read_hides_no_other(panics: bool) {
    let closed = Closed::gate();
    let database = Sick {
        panics,
        ..Sick::default()
    };
    let clock = ManualClock::new();
    let store = KeyValueSessionStore::builder(database.clone());
    let store = store.clock(clock.clone()).build();
    let middleware = SessionMiddleware::builder(store, Key::generate());
    let middleware = middleware.clock(closed.clock(clock));
    let site = Site::new(middleware.ended_lease(LEASE).build()).await;
    let (bad, good) = (Browser::new(site.clone()), Browser::new(site));
    log_in(&bad, "user-1", "phone").await;
    let sick = database.records();
    log_in(&good, "user-2", "phone").await;
    let (bad, good) = (wait_for(&bad).await, wait_for(&good).await);
    let mut well = database.records();
    well.retain(|name| !sick.contains(name));
    database.forget(&well);
    *database.names.lock().unwrap() = sick.clone();
    // From now on both are looked at together.
    drop(closed);
    assert_eq!(soon(good).await, EndReason::Gone);
    assert_eq!(bad.reason(), None);
    database.names.lock().unwrap().clear();
    database.forget(&sick);
    assert_eq!(soon(bad).await, EndReason::Gone);
}

#[actix_web::test]
async fn a_name_that_cannot_be_read_hides_no_other() {
    what_cannot_be_read_hides_no_other(false).await;
}

#[actix_web::test]
async fn a_look_that_panics_hides_no_other() {
    what_cannot_be_read_hides_no_other(true).await;
}
