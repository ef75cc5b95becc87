//! What an observer is told.

use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use actix_session::{
    EndReason, Refusal, Session, SessionEvent, SessionEventKind as Kind, SessionManager,
    SessionMiddleware,
    config::{OnLoadError, OverLimit, PersistentSession, TtlExtensionPolicy},
    storage::{CookieSessionStore, SessionIndex},
};

use actix_web::{cookie::Key, http::StatusCode};

use crate::support::{Browser, Site, Spy, TestStore, count, on_each_index};

on_each_index! {
    whatever_happens_to_a_session_is_told,
    what_is_refused_is_told_with_its_reason,
    what_is_ended_from_outside_is_told,
    a_login_that_is_refused_is_no_failure_of_the_store,
    a_logout_is_told_however_it_is_committed,
    a_logout_by_the_entry_of_the_principal_is_told,
    a_login_over_another_tells_the_logout_first,
    a_clear_that_follows_a_renewal_is_told_as_a_logout,
    two_clears_of_one_session_are_one_logout,
    a_clear_beside_a_login_is_one_logout,
    a_clear_and_a_renewal_that_come_too_late_are_a_logout_and_a_new_session,
    a_renewal_that_comes_too_late_makes_a_new_session,
    what_begins_after_a_logout_is_nobodys,
    a_read_of_what_has_ended_drops_nothing,
    a_logout_of_nothing_is_not_told,
    a_failed_load_is_told_once,
    a_failed_save_is_told_once,
    what_a_save_has_lost_is_told,
    whoever_takes_the_entry_of_the_principal_logs_out,
}

/// A visitor of a site whose middleware is observed.
struct Observed {
    browser: Browser,
    sessions: SessionManager,
    events: Receiver<SessionEvent>,
}

impl Observed {
    async fn new<T: TestStore<Store: SessionIndex>>(tested: &T) -> Self {
        Self::with(tested, 2, OverLimit::EvictOldest).await
    }

    async fn with<T: TestStore<Store: SessionIndex>>(
        tested: &T,
        most: usize,
        over: OverLimit,
    ) -> Self {
        let (sender, events) = channel();
        let middleware = tested
            .middleware()
            .on_event(move |event| sender.send(event).unwrap())
            .max_sessions(most, over)
            .build();
        let sessions = middleware.manager();
        Self {
            browser: Browser::new(Site::new(middleware).await),
            sessions,
            events,
        }
    }

    /// Somebody logs in, and that is told.
    async fn log_in(&self) {
        self.browser.visit(log_in).await.assert_ok();
        self.expect(Kind::LoggedIn, Some("ada"));
    }

    fn next(&self) -> SessionEvent {
        self.events.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    #[track_caller]
    fn expect(&self, kind: Kind, principal: Option<&str>) {
        let event = self.next();
        assert_eq!((event.kind(), event.principal()), (kind, principal));
    }
}

fn log_in(session: &Session) {
    session.login("ada").unwrap();
}

async fn whatever_happens_to_a_session_is_told(tested: impl TestStore<Store: SessionIndex>) {
    let observed = Observed::new(&tested).await;
    let browser = &observed.browser;
    browser.visit(count).await.assert_ok();
    let created = observed.next();
    assert_eq!((created.kind(), created.principal()), (Kind::Created, None));
    let fingerprint = created.session().unwrap();
    assert!(!browser.value().unwrap().contains(fingerprint));
    // Nothing is told of a change.
    browser.visit(count).await.assert_ok();
    observed.log_in().await;
    browser.visit(Session::renew).await.assert_ok();
    observed.expect(Kind::Renewed, Some("ada"));
    browser.visit(Session::clear).await.assert_ok();
    observed.expect(Kind::LoggedOut, Some("ada"));
    observed.log_in().await;

    let late = browser.begin().await;
    browser.visit(Session::purge).await.assert_ok();
    observed.expect(Kind::Ended(EndReason::LoggedOut), Some("ada"));
    count(&late.handle());
    late.finish().await.assert_ok();
    observed.expect(Kind::Dropped, Some("ada"));
}

async fn what_is_refused_is_told_with_its_reason(tested: impl TestStore<Store: SessionIndex>) {
    let observed = Observed::new(&tested).await;
    let browser = &observed.browser;
    // However many they are, a request tells it once.
    browser.set_cookie("id", "forged; id=forged; id=another");
    browser.visit(count).await.assert_ok();
    observed.expect(Kind::Refused(Refusal::BadSeal), None);
    observed.expect(Kind::Created, None);
    let old = browser.fork();
    browser.visit(Session::renew).await.assert_ok();
    observed.expect(Kind::Renewed, None);
    old.visit(|_| {}).await.assert_ok();
    // A second tab may be as late as that, but no later.
    tested.clock().advance(Duration::from_secs(11));
    old.visit(|_| {}).await.assert_ok();
    observed.expect(Kind::KeyReused, None);
    let copy = browser.fork();
    browser.visit(Session::purge).await.assert_ok();
    observed.expect(Kind::Ended(EndReason::LoggedOut), None);
    copy.visit(|_| {}).await.assert_ok();
    observed.expect(Kind::Refused(Refusal::UnknownKey), None);
}

async fn what_is_ended_from_outside_is_told(tested: impl TestStore<Store: SessionIndex>) {
    let observed = Observed::new(&tested).await;
    for _ in 0..2 {
        let other = Browser::new(observed.browser.site.clone());
        other.visit(log_in).await.assert_ok();
        observed.expect(Kind::LoggedIn, Some("ada"));
        tested.clock().advance(Duration::from_secs(1));
    }
    observed.browser.visit(log_in).await.assert_ok();
    observed.expect(Kind::Evicted(1), Some("ada"));
    observed.expect(Kind::LoggedIn, Some("ada"));
    let mut list = observed.sessions.list("ada").await.unwrap();
    let handle = list.next().unwrap().handle();
    assert!(observed.sessions.revoke("ada", &handle).await.unwrap());
    observed.expect(Kind::Ended(EndReason::Revoked), Some("ada"));
    assert_eq!(observed.sessions.revoke_all("ada").await.unwrap(), 1);
    observed.expect(Kind::Revoked(1), Some("ada"));
}

/// Whoever is at the limit could have the operator called at will.
async fn a_login_that_is_refused_is_no_failure_of_the_store(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let observed = Observed::with(&tested, 1, OverLimit::Refuse).await;
    let other = Browser::new(observed.browser.site.clone());
    other.visit(log_in).await.assert_ok();
    observed.expect(Kind::LoggedIn, Some("ada"));
    let too_many = observed.browser.visit(log_in).await;
    assert_eq!(too_many.status, StatusCode::FORBIDDEN);
    let told = observed.browser.begin().await;
    log_in(&told.handle());
    let refused = told.handle().save().await.unwrap_err();
    assert!(refused.is_too_many_sessions());
    assert_eq!(told.finish().await.status, StatusCode::FORBIDDEN);

    other.visit(Session::purge).await.assert_ok();
    observed.expect(Kind::Ended(EndReason::LoggedOut), Some("ada"));
    let late = observed.browser.begin().await;
    log_in(&late.handle());
    tested.clock().advance(Duration::from_secs(1));
    observed.sessions.revoke_all("ada").await.unwrap();
    observed.expect(Kind::Revoked(0), Some("ada"));
    assert_eq!(late.finish().await.status, StatusCode::UNAUTHORIZED);
    // Nothing else was told of these three.
    tested.clock().advance(Duration::from_secs(1));
    observed.log_in().await;
}

async fn a_logout_is_told_however_it_is_committed(tested: impl TestStore<Store: SessionIndex>) {
    let observed = Observed::new(&tested).await;
    let (browser, sessions) = (&observed.browser, &observed.sessions);
    let logged_in = async || {
        tested.clock().advance(Duration::from_secs(1));
        observed.log_in().await;
    };
    logged_in().await;
    let with_a_renewal = |s: &Session| {
        s.clear();
        s.renew();
    };
    browser.visit(with_a_renewal).await.assert_sets_cookie();
    observed.expect(Kind::LoggedOut, Some("ada"));
    observed.expect(Kind::Renewed, None);

    logged_in().await;
    let flight = browser.begin().await;
    flight.handle().clear();
    flight.handle().save().await.unwrap();
    observed.expect(Kind::LoggedOut, Some("ada"));
    flight.finish().await.assert_ok();

    logged_in().await;
    let mut list = sessions.list("ada").await.unwrap();
    let handle = list.next().unwrap().handle();
    let opened = sessions.open("ada", &handle).await.unwrap().unwrap();
    opened.session().clear();
    opened.commit().await.unwrap();
    observed.expect(Kind::LoggedOut, Some("ada"));

    logged_in().await;
    assert_eq!(sessions.erase("ada").await.unwrap(), 1);
    observed.expect(Kind::Revoked(1), Some("ada"));
}

async fn a_logout_by_the_entry_of_the_principal_is_told(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (sender, events) = channel();
    let middleware = tested
        .middleware()
        .principal_entry("user")
        .on_event(move |event| sender.send(event).unwrap())
        .build();
    let observed = Observed {
        sessions: middleware.manager(),
        browser: Browser::new(Site::new(middleware).await),
        events,
    };
    let names_ada = |s: &Session| s.insert("user", "ada").unwrap();
    observed.browser.visit(names_ada).await.assert_ok();
    observed.expect(Kind::LoggedIn, Some("ada"));
    let acts: [fn(&Session); 4] = [
        |s| drop(s.remove("user")),
        |s| s.insert("user", 42).unwrap(),
        |s| s.insert("user", None::<String>).unwrap(),
        |s| s.insert("user", "x".repeat(2_000)).unwrap(),
    ];
    for act in acts {
        observed.browser.visit(act).await.assert_ok();
        observed.expect(Kind::LoggedOut, Some("ada"));
        observed.browser.visit(names_ada).await.assert_ok();
        observed.expect(Kind::LoggedIn, Some("ada"));
    }
}

async fn a_login_over_another_tells_the_logout_first(tested: impl TestStore<Store: SessionIndex>) {
    let observed = Observed::new(&tested).await;
    let acts: [fn(&Session); 4] = [
        |s| s.login("eve").unwrap(),
        |s| {
            s.clear();
            s.login("ada").unwrap();
        },
        |s| {
            s.clear();
            s.login("eve").unwrap();
        },
        |s| s.login("ada").unwrap(),
    ];
    observed.log_in().await;
    let mut was = "ada";
    for (act, named) in acts.into_iter().zip(["eve", "ada", "eve", "ada"]) {
        observed.browser.visit(act).await.assert_ok();
        observed.expect(Kind::LoggedOut, Some(was));
        observed.expect(Kind::LoggedIn, Some(named));
        was = named;
    }
    // The same user again is no logout.
    observed.log_in().await;
}

async fn a_clear_that_follows_a_renewal_is_told_as_a_logout(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let observed = Observed::new(&tested).await;
    let browser = &observed.browser;
    for dropped in [false, true] {
        observed.log_in().await;
        let flight = browser.begin().await;
        browser.visit(Session::renew).await.assert_ok();
        observed.expect(Kind::Renewed, Some("ada"));
        flight.handle().clear();
        if dropped {
            count(&flight.handle());
        }
        flight.finish().await.assert_ok();
        observed.expect(Kind::LoggedOut, Some("ada"));
        if dropped {
            observed.expect(Kind::Dropped, Some("ada"));
        }
        assert_eq!(browser.principal().await, None);
    }
}

async fn two_clears_of_one_session_are_one_logout(tested: impl TestStore<Store: SessionIndex>) {
    let observed = Observed::new(&tested).await;
    let browser = &observed.browser;
    observed.log_in().await;
    let flight = browser.begin().await;
    browser.visit(Session::clear).await.assert_ok();
    observed.expect(Kind::LoggedOut, Some("ada"));
    flight.handle().clear();
    flight.finish().await.assert_ok();
    observed.log_in().await;
}

async fn a_clear_beside_a_login_is_one_logout(tested: impl TestStore<Store: SessionIndex>) {
    let observed = Observed::new(&tested).await;
    let browser = &observed.browser;
    for named in ["ada", "eve"] {
        observed.log_in().await;
        let flight = browser.begin().await;
        browser.visit(Session::clear).await.assert_ok();
        observed.expect(Kind::LoggedOut, Some("ada"));
        flight.handle().login(named).unwrap();
        flight.finish().await.assert_ok();
        observed.expect(Kind::LoggedIn, Some(named));
        browser.visit(Session::purge).await.assert_ok();
        observed.expect(Kind::Ended(EndReason::LoggedOut), Some(named));
    }
}

async fn a_clear_and_a_renewal_that_come_too_late_are_a_logout_and_a_new_session(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let observed = Observed::new(&tested).await;
    let browser = &observed.browser;
    browser.visit(count).await.assert_ok();
    observed.expect(Kind::Created, None);
    let flight = browser.begin().await;
    observed.log_in().await;
    let session = flight.handle();
    session.clear();
    session.renew();
    count(&session);
    flight.finish().await.assert_sets_cookie();
    observed.expect(Kind::LoggedOut, Some("ada"));
    observed.expect(Kind::Created, None);

    observed.log_in().await;
    let flight = browser.begin().await;
    browser.visit(Session::purge).await.assert_ok();
    observed.expect(Kind::Ended(EndReason::LoggedOut), Some("ada"));
    flight.handle().clear();
    flight.handle().renew();
    flight.finish().await.assert_ok().assert_no_cookie();
    observed.expect(Kind::Dropped, Some("ada"));
}

async fn a_renewal_that_comes_too_late_makes_a_new_session(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let observed = Observed::new(&tested).await;
    let browser = &observed.browser;
    let acts = [
        (Session::renew as fn(&Session), Kind::Renewed),
        (Session::purge, Kind::Ended(EndReason::LoggedOut)),
    ];
    for (act, kind) in acts {
        browser.visit(count).await.assert_ok();
        observed.expect(Kind::Created, None);
        let flight = browser.begin().await;
        browser.visit(act).await.assert_ok();
        observed.expect(kind, None);
        count(&flight.handle());
        flight.handle().renew();
        flight.finish().await.assert_sets_cookie();
        observed.expect(Kind::Created, None);
        browser.forget();
    }
}

async fn what_begins_after_a_logout_is_nobodys(tested: impl TestStore<Store: SessionIndex>) {
    let observed = Observed::new(&tested).await;
    observed.log_in().await;
    let says_goodbye = |s: &Session| {
        s.logout();
        count(s);
    };
    observed.browser.visit(says_goodbye).await.assert_ok();
    observed.expect(Kind::Ended(EndReason::LoggedOut), Some("ada"));
    observed.expect(Kind::Created, None);
}

async fn a_read_of_what_has_ended_drops_nothing(tested: impl TestStore<Store: SessionIndex>) {
    let (sender, events) = channel();
    let middleware = tested
        .middleware()
        .session_lifecycle(
            PersistentSession::default()
                .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest),
        )
        .on_event(move |event| sender.send(event).unwrap())
        .build();
    let observed = Observed {
        sessions: middleware.manager(),
        browser: Browser::new(Site::new(middleware).await),
        events,
    };
    let browser = &observed.browser;
    browser.visit(count).await.assert_ok();
    observed.expect(Kind::Created, None);
    let (reads, sets_what_is_there) = (browser.begin().await, browser.begin().await);
    let session = sets_what_is_there.handle();
    let there: i64 = session.get("n").unwrap().unwrap();
    session.insert("n", there).unwrap();
    browser.visit(Session::purge).await.assert_ok();
    observed.expect(Kind::Ended(EndReason::LoggedOut), None);
    for flight in [reads, sets_what_is_there] {
        flight.finish().await.assert_ok().assert_no_cookie();
    }
    observed.log_in().await;
}

async fn a_logout_of_nothing_is_not_told(tested: impl TestStore<Store: SessionIndex>) {
    let observed = Observed::new(&tested).await;
    let browser = &observed.browser;
    observed.log_in().await;
    let copy = browser.fork();
    browser.visit(Session::purge).await.assert_ok();
    observed.expect(Kind::Ended(EndReason::LoggedOut), Some("ada"));
    copy.visit(Session::purge).await.assert_removes_cookie();
    observed.expect(Kind::Refused(Refusal::UnknownKey), None);
    observed.log_in().await;
}

/// A request that is served without its session, and refused since it changes it.
async fn a_failed_load_is_told_once(tested: impl TestStore<Store: SessionIndex>) {
    let (sender, events) = channel();
    let spy = Spy::new(tested.store());
    let builder = SessionMiddleware::builder(spy.clone(), tested.key().clone())
        .clock(tested.clock().clone())
        .on_load_error(OnLoadError::Anonymous)
        .on_event(move |event| sender.send(event.kind()).unwrap());
    let browser = tested.browser_of(builder).await;
    let next = || events.recv_timeout(Duration::from_secs(30)).unwrap();
    browser.visit(log_in).await.assert_ok();
    assert_eq!(next(), Kind::LoggedIn);
    spy.refuse(&["open"]);
    let answer = browser.visit(count).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(next(), Kind::StoreFailed);
    spy.refuse(&[]);
    browser.visit(log_in).await.assert_ok();
    assert_eq!(next(), Kind::LoggedIn);
}

/// The handler goes on, and the response commits what the store has refused.
async fn a_failed_save_is_told_once(tested: impl TestStore<Store: SessionIndex>) {
    let (sender, events) = channel();
    let spy = Spy::new(tested.store());
    let builder = SessionMiddleware::builder(spy.clone(), tested.key().clone())
        .clock(tested.clock().clone())
        .on_event(move |event| sender.send(event.kind()).unwrap());
    let browser = tested.browser_of(builder).await;
    let next = || events.recv_timeout(Duration::from_secs(30)).unwrap();
    browser.visit(log_in).await.assert_ok();
    assert_eq!(next(), Kind::LoggedIn);
    let flight = browser.begin().await;
    flight.insert("n", 1).unwrap();
    spy.refuse_next("commit");
    assert!(flight.save().await.is_err());
    assert_eq!(next(), Kind::StoreFailed);
    flight.finish().await.assert_ok();
    browser.visit(Session::renew).await.assert_ok();
    assert_eq!(next(), Kind::Renewed);
}

async fn what_a_save_has_lost_is_told(tested: impl TestStore<Store: SessionIndex>) {
    let observed = Observed::new(&tested).await;
    observed.log_in().await;
    let late = observed.browser.begin().await;
    observed.browser.visit(Session::purge).await.assert_ok();
    observed.expect(Kind::Ended(EndReason::LoggedOut), Some("ada"));
    count(&late.handle());
    assert!(late.handle().save().await.unwrap_err().is_gone());
    observed.expect(Kind::Dropped, Some("ada"));
    late.finish().await.assert_ok();
    observed.log_in().await;
}

async fn whoever_takes_the_entry_of_the_principal_logs_out(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (sender, events) = channel();
    let builder = tested
        .middleware()
        .principal_entry("user")
        .on_event(move |event| {
            sender
                .send((event.kind(), event.principal().map(str::to_owned)))
                .unwrap()
        });
    let browser = tested.browser_of(builder).await;
    let next = || events.recv_timeout(Duration::from_secs(30)).unwrap();
    let ada = || Some("ada".to_owned());
    browser.visit(log_in).await.assert_ok();
    assert_eq!(next(), (Kind::LoggedIn, ada()));
    let flight = browser.begin().await;
    assert_eq!(flight.handle().take("user").await.unwrap(), ada());
    flight.finish().await.assert_ok();
    assert_eq!(next(), (Kind::LoggedOut, ada()));
    // Taken once, there is nothing to take.
    browser.visit(log_in).await.assert_ok();
    assert_eq!(next(), (Kind::LoggedIn, ada()));
    let (first, second) = (browser.begin().await, browser.begin().await);
    assert_eq!(first.handle().take("user").await.unwrap(), ada());
    assert_eq!(next(), (Kind::LoggedOut, ada()));
    assert_eq!(second.handle().take::<String>("user").await.unwrap(), None);
    first.finish().await.assert_ok();
    second.finish().await.assert_ok();
    browser.visit(log_in).await.assert_ok();
    assert_eq!(next(), (Kind::LoggedIn, ada()));
}

/// What is told has happened: a cookie that is too large is not sent.
#[actix_web::test]
async fn a_cookie_that_cannot_be_sent_is_told_as_nothing() {
    let (sender, events) = channel();
    let middleware = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate())
        .on_event(move |event| sender.send(event.kind()).unwrap())
        .build();
    let browser = Browser::new(Site::new(middleware).await);
    let next = || events.recv_timeout(Duration::from_secs(30)).unwrap();
    browser.visit(log_in).await.assert_ok();
    assert_eq!(next(), Kind::LoggedIn);
    let too_much = |s: &Session| s.insert("much", "x".repeat(5_000)).unwrap();
    let acts: [fn(&Session); 3] = [|s| s.clear(), Session::renew, log_in];
    for act in acts {
        let flight = browser.begin().await;
        act(&flight.handle());
        too_much(&flight.handle());
        let answer = flight.finish().await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    browser.visit(Session::renew).await.assert_ok();
    assert_eq!(next(), Kind::Renewed);
}
