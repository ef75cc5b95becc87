//! Ends that come before anybody has looked at the session once.

use std::{
    sync::{Arc, Condvar, Mutex},
    thread,
    time::SystemTime,
};

use actix_session::{
    Clock, EndReason, Session, SessionEnded,
    config::{SessionMiddlewareBuilder, WireFormat},
    storage::SessionIndex,
    testing::ManualClock,
};
use actix_web::{App, HttpResponse, test::init_service, web};
use tokio::sync::Notify;

use crate::{
    devices::log_in,
    ended::assert_is,
    support::{Browser, Site, TestStore, on_each_index, soon},
};

on_each_index! {
    whoever_is_revoked_ends_at_once,
    what_a_request_makes_is_no_other,
    what_a_request_clears_is_no_other,
    whoever_saves_waits_from_then_on,
    a_record_without_an_id_ends_with_its_renewal,
}

/// A clock on which nobody looks for ends while it is held.
#[derive(Clone)]
struct Held(ManualClock, Arc<Gate>);

#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Clock for Held {
    fn now(&self) -> SystemTime {
        if thread::current().name() == Some("session-ends") {
            let closed = self.1.is_closed.lock().unwrap();
            drop(self.1.opened.wait_while(closed, |closed| *closed).unwrap());
        }
        self.0.now()
    }
}

/// Opens the gate again, however the test ends.
pub(crate) struct Closed(Arc<Gate>);

impl Closed {
    pub(crate) fn gate() -> Self {
        let gate = Arc::new(Gate::default());
        *gate.is_closed.lock().unwrap() = true;
        Self(gate)
    }

    async fn browser<T: TestStore>(&self, tested: &T) -> Browser {
        tested.browser_of(self.middleware(tested)).await
    }

    fn middleware<T: TestStore>(&self, tested: &T) -> SessionMiddlewareBuilder<T::Store> {
        tested
            .middleware()
            .clock(self.clock(tested.clock().clone()))
    }

    pub(crate) fn clock(&self, clock: ManualClock) -> impl Clock + use<> {
        Held(clock, Arc::clone(&self.0))
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        *self.0.is_closed.lock().unwrap() = false;
        self.0.opened.notify_all();
    }
}

async fn wait_after(browser: &Browser, act: impl FnOnce(&Session)) -> SessionEnded {
    let mut ended = None;
    let ask = |s: &Session| {
        act(s);
        ended = Some(s.ended().unwrap());
    };
    browser.visit(ask).await.assert_ok();
    ended.unwrap()
}

async fn whoever_is_revoked_ends_at_once(tested: impl TestStore<Store: SessionIndex>) {
    let closed = Closed::gate();
    let sessions = tested.middleware().build().manager();
    let browser = closed.browser(&tested).await;
    let made = wait_after(&browser, |s| s.login("user-42").unwrap()).await;
    let found = wait_after(&browser, |_| {}).await;
    assert_eq!(sessions.revoke_all("user-42").await.unwrap(), 1);
    assert_eq!(made.reason(), Some(EndReason::Revoked));
    assert_eq!(found.reason(), Some(EndReason::Revoked));
}

async fn what_a_request_makes_is_no_other(tested: impl TestStore) {
    let closed = Closed::gate();
    let browser = closed.browser(&tested).await;
    for make in [(|s| s.login("user-42").unwrap()) as fn(&Session), |s| {
        s.insert("n", 1).unwrap()
    }] {
        let ended = wait_after(&browser, make).await;
        browser.visit(Session::clear).await.assert_ok();
        // Whoever comes next on the same record.
        log_in(&browser, "user-43", "phone").await;
        assert_eq!(ended.reason(), Some(EndReason::LoggedOut));
        browser.visit(Session::purge).await.assert_ok();
    }
}

async fn what_a_request_clears_is_no_other(tested: impl TestStore) {
    let closed = Closed::gate();
    let browser = closed.browser(&tested).await;
    log_in(&browser, "user-42", "phone").await;
    let clear = |s: &Session| {
        s.clear();
        s.insert("n", 1).unwrap();
    };
    let ended = wait_after(&browser, clear).await;
    browser.visit(Session::clear).await.assert_ok();
    log_in(&browser, "user-43", "phone").await;
    assert_eq!(ended.reason(), Some(EndReason::LoggedOut));
}

/// A handler that clears the session, saves that, and then waits for the end of what it has left.
async fn clear_and_wait(
    session: Session,
    saved: web::Data<Notify>,
) -> actix_web::Result<HttpResponse> {
    session.clear();
    session.insert("n", 1)?;
    let ended = session.ended()?;
    session.save().await?;
    saved.notify_one();
    let reason = ended.await;
    assert_eq!(reason, EndReason::LoggedOut);
    Ok(HttpResponse::Ok().finish())
}

async fn whoever_saves_waits_from_then_on(tested: impl TestStore) {
    let saved = web::Data::new(Notify::new());
    let app = App::new()
        .app_data(saved.clone())
        .wrap(tested.middleware().build())
        .route("/wait", web::get().to(clear_and_wait))
        .default_service(web::to(crate::support::stop));
    let browser = Browser::new(Site::of(init_service(app).await));
    log_in(&browser, "user-42", "phone").await;
    let waiter = browser.fork();
    let waits = actix_web::rt::spawn(async move { waiter.visit_path("/wait", |_| {}).await });
    soon(saved.notified()).await;
    browser.visit(Session::purge).await.assert_ok();
    soon(waits).await.unwrap().assert_ok();
}

async fn a_record_without_an_id_ends_with_its_renewal(tested: impl TestStore) {
    let middleware = tested.middleware().wire_format(WireFormat::V0_11);
    let browser = tested.browser_of(middleware).await;
    browser.visit(|s| s.insert("n", 1).unwrap()).await;
    let ended = wait_after(&browser, |_| {}).await;
    browser.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(ended.reason(), None);
    let another = |s: &Session| {
        s.clear();
        s.renew();
        s.insert("n", 2).unwrap();
    };
    browser.visit(another).await.assert_sets_cookie();
    assert_is(soon(ended).await, EndReason::LoggedOut);
}
