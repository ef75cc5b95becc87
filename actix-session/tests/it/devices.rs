//! A principal's sessions: listed, ended, opened from outside.

use std::{
    pin::pin,
    time::{Duration, SystemTime},
};

use actix_session::{
    Clock as _, ListedSession, Login, Session, SessionExt as _, SessionHandle, SessionManager,
    config::TtlExtensionPolicy,
    storage::SessionIndex,
    testing::{ManualClock, dropped_after},
};
use actix_web::{
    App, HttpRequest, HttpResponse, http::StatusCode, rt::task::yield_now, test::init_service, web,
};
use futures_util::FutureExt as _;

use crate::{
    expiry::browser_session,
    support::{Browser, Site, TestStore, on_each_index, on_store, soon},
};

on_each_index! {
    a_principal_has_what_logged_in,
    a_list_says_what_is_known,
    a_list_says_when_a_session_was_last_seen,
    a_handle_outlives_renewals_and_names_one_person,
    one_session_ends_and_no_other,
    a_session_that_is_renewed_meanwhile_ends_too,
    all_sessions_end_with_all_that_is_in_flight,
    all_sessions_end_although_whoever_asked_has_gone,
    others_end_although_whoever_asked_has_gone,
    one_session_ends_although_whoever_asked_has_gone,
    a_login_that_begins_beside_an_end_goes_on,
    what_a_later_mark_has_spared_ends_with_a_number,
    a_login_that_began_before_does_not_count,
    a_login_that_is_proven_after_the_end_does_not_count,
    a_login_after_the_end_passes,
    a_login_by_a_clock_that_is_ahead_ends_too,
    all_but_this_one_end,
    this_one_goes_on_whatever_the_request_does,
    a_session_that_nobody_has_loaded_ends_no_others,
    a_session_that_has_ended_ends_no_others,
    a_session_that_has_ended_alone_ends_no_others,
    lists_have_pages,
    what_has_expired_is_not_listed,
    a_timeout_of_ones_own_hides_no_session_from_an_end,
    of_fifty_in_flight_none_is_alive,
    a_session_is_read_and_changed_from_outside,
    a_session_is_changed_after_its_renewal,
    a_session_ends_after_its_renewal,
    what_needs_a_cookie_is_refused_outside,
    what_needs_a_request_is_refused_outside,
    a_tool_changes_nothing,
}

// There, an index lies in another slot than its records.
on_store!(on_hiding_cluster HidingCluster:
    a_principal_has_what_logged_in
    a_handle_outlives_renewals_and_names_one_person
    one_session_ends_and_no_other
    all_sessions_end_with_all_that_is_in_flight
    a_login_that_began_before_does_not_count
    a_login_by_a_clock_that_is_ahead_ends_too
    this_one_goes_on_whatever_the_request_does
    a_session_that_has_ended_alone_ends_no_others
    a_session_is_changed_after_its_renewal
    a_session_ends_after_its_renewal
);

fn manager(tested: &impl TestStore<Store: SessionIndex>) -> SessionManager {
    tested.middleware().build().manager()
}

async fn logged_in(tested: &impl TestStore, principal: &str, device: &str) -> Browser {
    let browser = tested.browser().await;
    log_in(&browser, principal, device).await;
    browser
}

pub(crate) async fn log_in(browser: &Browser, principal: &str, device: &str) {
    let answer = browser
        .visit(|s| {
            s.insert("secret", principal).unwrap();
            s.login_with(Login::new(principal).device(device)).unwrap();
        })
        .await;
    answer.assert_ok().assert_sets_cookie();
}

async fn devices(sessions: &SessionManager, principal: &str) -> Vec<String> {
    let list = sessions.list(principal).await.unwrap();
    list.map(|it| it.device().unwrap_or_default().to_owned())
        .collect()
}

async fn only(sessions: &SessionManager, principal: &str) -> ListedSession {
    let mut list = sessions.list(principal).await.unwrap();
    assert_eq!(list.len(), 1);
    list.next().unwrap()
}

async fn named(sessions: &SessionManager, principal: &str, device: &str) -> SessionHandle {
    let mut list = sessions.list(principal).await.unwrap();
    let found = list.find(|it| it.device() == Some(device));
    found.unwrap().handle()
}

/// As precise as a record is.
fn now(tested: &impl TestStore) -> SystemTime {
    let since = tested.clock().now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = u64::try_from(since.unwrap().as_millis()).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

pub(crate) fn tick(tested: &impl TestStore) {
    tested.clock().advance(Duration::from_millis(5));
}

async fn a_principal_has_what_logged_in(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    assert_eq!(sessions.list("user-42").await.unwrap().len(), 0);
    let guest = tested.browser().await;
    guest.visit(|s| s.insert("n", 1).unwrap()).await;
    let phone = logged_in(&tested, "user-42", "phone").await;
    tick(&tested);
    let laptop = logged_in(&tested, "user-42", "laptop").await;
    tick(&tested);
    logged_in(&tested, "user-43", "desk").await;
    assert_eq!(devices(&sessions, "user-42").await, ["laptop", "phone"]);
    assert_eq!(devices(&sessions, "user-43").await, ["desk"]);
    assert_eq!(sessions.count("user-42").await.unwrap(), 2);

    phone.visit(|s| s.purge()).await.assert_removes_cookie();
    assert_eq!(devices(&sessions, "user-42").await, ["laptop"]);
    laptop.visit(Session::clear).await.assert_ok();
    assert_eq!(devices(&sessions, "user-42").await, [""; 0]);
    // The next one on the same record.
    log_in(&laptop, "user-43", "shared").await;
    tick(&tested);
    assert_eq!(sessions.count("user-43").await.unwrap(), 2);
    // Without a logout in between.
    log_in(&laptop, "user-42", "shared").await;
    assert_eq!(devices(&sessions, "user-42").await, ["shared"]);
    assert_eq!(devices(&sessions, "user-43").await, ["desk"]);
}

async fn a_list_says_what_is_known(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let browser = tested.browser().await;
    let began = now(&tested);
    browser.visit(|s| s.insert("n", 1).unwrap()).await;
    tested.clock().advance(Duration::from_secs(60));
    let logged_in = now(&tested);
    log_in(&browser, "user-42", "phone").await;
    tested.clock().advance(Duration::from_secs(60));
    let proven = now(&tested);
    let again = |s: &Session| {
        s.reauthenticated_at_level(actix_session::Level::Two)
            .unwrap()
    };
    browser.visit(again).await.assert_ok();
    let listed = only(&sessions, "user-42").await;
    assert_eq!(listed.created_at(), began);
    assert_eq!(listed.logged_in_at(), logged_in);
    assert_eq!(listed.authenticated_at(), proven);
    assert_eq!(listed.level(), actix_session::Level::Two);
    let seen = listed.last_seen().unwrap();
    let day = Duration::from_secs(86_400);
    let off = |seen: SystemTime| {
        let off = seen.duration_since(proven);
        off.unwrap_or_else(|before| before.duration())
    };
    // A server that counts by its own clock may be a moment late.
    assert!(off(seen) < Duration::from_secs(30), "{seen:?} {proven:?}");
    assert!(off(listed.ends_at().unwrap() - day) < Duration::from_secs(30));

    let flight = browser.begin().await;
    assert!(listed.is(&flight.handle()));
    flight.finish().await;
    let other = self::logged_in(&tested, "user-42", "laptop").await;
    let flight = other.begin().await;
    assert!(!listed.is(&flight.handle()));
    flight.finish().await;
    let shown = format!("{listed:?} {sessions:?}");
    assert!(
        !shown.contains("user-42") && !shown.contains("phone"),
        "{shown}"
    );
}

/// Whoever does not know the idle timeout does not guess.
async fn a_list_says_when_a_session_was_last_seen(tested: impl TestStore<Store: SessionIndex>) {
    let half_an_hour = Duration::from_secs(30 * 60);
    let fortnight = Duration::from_secs(14 * 86_400);
    let (tool, day) = (SessionManager::of_store(&tested.store()), manager(&tested));
    let off = |seen: Option<SystemTime>, at: SystemTime| {
        let off = at.duration_since(seen.unwrap());
        off.unwrap_or_else(|before| before.duration())
    };
    // A server that counts by its own clock may be a moment late.
    let moment = Duration::from_secs(30);
    for idle in [half_an_hour, fortnight] {
        let middleware = || {
            let millis = idle.as_secs() * 1_000;
            let lifecycle = browser_session(millis, TtlExtensionPolicy::OnStateChanges);
            tested.middleware().session_lifecycle(lifecycle)
        };
        let own = middleware().build().manager();
        let browser = tested.browser_of(middleware()).await;
        log_in(&browser, "user-42", "phone").await;
        let listed = only(&own, "user-42").await;
        assert!(off(listed.last_seen(), now(&tested)) < moment);
        let listed = only(&tool, "user-42").await;
        assert_eq!(listed.last_seen(), None, "{idle:?}");
        let found = tool.operator().find("user-42", &listed.handle()).await;
        assert_eq!(found.unwrap().unwrap().last_seen(), None);
        // One that says it itself.
        browser.visit(|s| s.set_ttl(idle)).await.assert_ok();
        for sessions in [&own, &day, &tool] {
            let listed = only(sessions, "user-42").await;
            assert!(off(listed.last_seen(), now(&tested)) < moment, "{idle:?}");
        }
        // At its absolute end, the end does not say.
        let login = || Login::new("user-42").idle(idle).absolute(idle);
        let again = |s: &Session| s.login_with(login()).unwrap();
        browser.visit(again).await.assert_sets_cookie();
        assert_eq!(only(&own, "user-42").await.last_seen(), None, "{idle:?}");
        browser.visit(|s| s.purge()).await.assert_removes_cookie();
    }
}

async fn a_handle_outlives_renewals_and_names_one_person(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let sessions = manager(&tested);
    let browser = logged_in(&tested, "user-42", "phone").await;
    let handle = only(&sessions, "user-42").await.handle();
    browser.visit(Session::renew).await.assert_sets_cookie();
    let listed = only(&sessions, "user-42").await;
    assert_eq!(listed.handle(), handle);
    log_in(&browser, "user-42", "phone").await;
    assert_eq!(only(&sessions, "user-42").await.handle(), handle);
    // It opens nothing as a cookie.
    let thief = tested.browser().await;
    thief.set_cookie("id", handle.to_string());
    assert!(thief.is_nobody().await);
    // The next person on the record is another session.
    log_in(&browser, "user-43", "phone").await;
    assert_ne!(only(&sessions, "user-43").await.handle(), handle);
    for principal in ["user-42", "user-43"] {
        assert!(!sessions.revoke(principal, &handle).await.unwrap());
    }
    assert_eq!(browser.principal().await.as_deref(), Some("user-43"));
}

async fn one_session_ends_and_no_other(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let phone = logged_in(&tested, "user-42", "phone").await;
    tick(&tested);
    let laptop = logged_in(&tested, "user-42", "laptop").await;
    let stranger = logged_in(&tested, "user-43", "desk").await;
    let handle = named(&sessions, "user-42", "phone").await;
    assert!(!sessions.revoke("user-43", &handle).await.unwrap());
    let (writer, renewer) = (phone.begin().await, phone.fork().begin().await);
    assert!(sessions.revoke("user-42", &handle).await.unwrap());
    assert!(!sessions.revoke("user-42", &handle).await.unwrap());
    writer.insert("late", 1).unwrap();
    writer.finish().await.assert_ok().assert_no_cookie();
    renewer.handle().renew();
    renewer.finish().await.assert_ok().assert_no_cookie();
    assert!(phone.is_nobody().await);
    assert_eq!(laptop.principal().await.as_deref(), Some("user-42"));
    assert_eq!(stranger.principal().await.as_deref(), Some("user-43"));
    assert_eq!(devices(&sessions, "user-42").await, ["laptop"]);
}

async fn a_session_that_is_renewed_meanwhile_ends_too(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let browser = logged_in(&tested, "user-42", "phone").await;
    let handle = only(&sessions, "user-42").await.handle();
    let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
    let (old, renewed) = (browser.fork(), browser.visit(Session::renew).await);
    renewed.assert_sets_cookie();
    assert!(opened.end().await.unwrap());
    assert!(browser.is_nobody().await);
    assert!(old.is_nobody().await);
    assert_eq!(sessions.count("user-42").await.unwrap(), 0);
}

async fn all_sessions_end_with_all_that_is_in_flight(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let phone = logged_in(&tested, "user-42", "phone").await;
    let laptop = logged_in(&tested, "user-42", "laptop").await;
    let stranger = logged_in(&tested, "user-43", "desk").await;
    let forks = [(); 4].map(|()| phone.fork());
    let mut flights = Vec::new();
    for fork in &forks {
        flights.push(fork.begin().await);
    }
    assert_eq!(sessions.revoke_all("user-42").await.unwrap(), 2);
    assert_eq!(sessions.revoke_all("user-42").await.unwrap(), 0);
    for (n, flight) in flights.into_iter().enumerate() {
        act_in_flight(&flight.handle(), n);
        flight.finish().await.assert_no_cookie();
    }
    for browser in forks.iter().chain([&phone, &laptop]) {
        assert!(browser.is_nobody().await);
    }
    assert_eq!(stranger.principal().await.as_deref(), Some("user-43"));
    assert_eq!(sessions.count("user-42").await.unwrap(), 0);
    assert_eq!(tested.dump().await.records().len(), 1);
}

/// At each await of the call.
async fn all_sessions_end_although_whoever_asked_has_gone(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let sessions = manager(&tested);
    for polls in 1.. {
        let mut browsers = Vec::new();
        for device in ["phone", "laptop", "thief"] {
            browsers.push(logged_in(&tested, "user-42", device).await);
        }
        tick(&tested);
        let ended = dropped_after(polls, sessions.revoke_all("user-42")).await;
        soon(async {
            while sessions.count("user-42").await.unwrap() > 0 {
                yield_now().await;
            }
        })
        .await;
        for browser in &browsers {
            assert!(browser.is_nobody().await, "after {polls} polls");
        }
        if ended.is_some() {
            break;
        }
    }
}

/// At each await of the call.
async fn others_end_although_whoever_asked_has_gone(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let here = logged_in(&tested, "user-42", "here").await;
    for polls in 1.. {
        let thief = logged_in(&tested, "user-42", "thief").await;
        tick(&tested);
        let flight = here.begin().await;
        let ended = dropped_after(polls, sessions.revoke_others(&flight.handle())).await;
        soon(async {
            while sessions.count("user-42").await.unwrap() > 1 {
                yield_now().await;
            }
        })
        .await;
        flight.finish().await.assert_ok();
        assert!(thief.is_nobody().await, "after {polls} polls");
        assert_eq!(here.principal().await.as_deref(), Some("user-42"));
        if ended.is_some() {
            break;
        }
    }
}

/// At each await of the call.
async fn one_session_ends_although_whoever_asked_has_gone(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let sessions = manager(&tested);
    for polls in 1.. {
        let thief = logged_in(&tested, "user-42", "thief").await;
        let device = named(&sessions, "user-42", "thief").await;
        let ended = dropped_after(polls, sessions.revoke("user-42", &device)).await;
        soon(async {
            while sessions.count("user-42").await.unwrap() > 0 {
                yield_now().await;
            }
        })
        .await;
        assert!(thief.is_nobody().await, "after {polls} polls");
        if ended.is_some() {
            break;
        }
    }
}

/// The call has begun, and the store has not answered yet.
async fn a_login_that_begins_beside_an_end_goes_on(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    for end in 0..3 {
        let here = logged_in(&tested, "user-42", "here").await;
        tick(&tested);
        let flight = here.begin().await;
        let session = flight.handle();
        let mut ending = pin!(async {
            match end {
                0 => sessions.revoke_all("user-42").await,
                1 => sessions.revoke_others(&session).await,
                _ => sessions.erase("user-42").await,
            }
        });
        let at_once = ending.as_mut().now_or_never();
        tick(&tested);
        let late = logged_in(&tested, "user-42", "late").await;
        let ended = match at_once {
            Some(ended) => ended,
            None => ending.await,
        };
        assert_eq!(ended.unwrap(), u64::from(end != 1));
        flight.finish().await;
        assert_eq!(late.principal().await.as_deref(), Some("user-42"), "{end}");
        tick(&tested);
        sessions.revoke_all("user-42").await.unwrap();
        tick(&tested);
    }
}

/// The mark before this one is of a server whose clock is ahead.
async fn what_a_later_mark_has_spared_ends_with_a_number(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let sessions = manager(&tested);
    let ahead = ManualClock::at(tested.clock().now() + Duration::from_secs(30));
    let ahead = || tested.middleware().clock(ahead.clone());
    let elsewhere = tested.browser_of(ahead()).await;
    log_in(&elsewhere, "user-42", "elsewhere").await;
    let flight = elsewhere.begin().await;
    let others = ahead().build().manager();
    assert_eq!(others.revoke_others(&flight.handle()).await.unwrap(), 0);
    flight.finish().await.assert_ok();
    assert_eq!(devices(&sessions, "user-42").await, ["elsewhere"]);
    assert_eq!(sessions.revoke_all("user-42").await.unwrap(), 1);
    assert!(elsewhere.is_nobody().await);
    assert_eq!(tested.dump().await.records().len(), 0);
}

async fn a_login_that_began_before_does_not_count(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let (new, guest) = (tested.browser().await, tested.browser().await);
    guest.visit(|s| s.insert("basket", 1).unwrap()).await;
    for browser in [new, guest] {
        let flight = browser.begin().await;
        flight.handle().login("user-42").unwrap();
        tick(&tested);
        sessions.revoke_all("user-42").await.unwrap();
        tick(&tested);
        let answer = flight.finish().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        answer.assert_no_cookie();
        assert_eq!(sessions.count("user-42").await.unwrap(), 0);
        assert_eq!(browser.principal().await, None);
        // It may be tried again.
        log_in(&browser, "user-42", "phone").await;
        assert_eq!(devices(&sessions, "user-42").await, ["phone"]);
        sessions.revoke_all("user-42").await.unwrap();
    }
}

async fn a_login_that_is_proven_after_the_end_does_not_count(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let sessions = manager(&tested);
    let browser = tested.browser().await;
    let flight = browser.begin().await;
    flight.handle().login("user-42").unwrap();
    tick(&tested);
    sessions.revoke_all("user-42").await.unwrap();
    tick(&tested);
    flight.handle().reauthenticated().unwrap();
    let answer = flight.finish().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    answer.assert_no_cookie();
    assert_eq!(sessions.count("user-42").await.unwrap(), 0);
}

async fn a_login_after_the_end_passes(tested: impl TestStore<Store: SessionIndex>) {
    // Each worker has a middleware of its own, and so has whoever revokes.
    let sessions = manager(&tested);
    let browser = tested.browser().await;
    for _ in 0..3 {
        // In the same millisecond.
        sessions.revoke_all("user-42").await.unwrap();
        log_in(&browser, "user-42", "phone").await;
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
        assert_eq!(sessions.count("user-42").await.unwrap(), 1);
    }
}

async fn a_login_by_a_clock_that_is_ahead_ends_too(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let ahead = ManualClock::at(tested.clock().now() + Duration::from_secs(30));
    let elsewhere = tested.browser_of(tested.middleware().clock(ahead)).await;
    log_in(&elsewhere, "user-42", "elsewhere").await;
    let here = logged_in(&tested, "user-42", "here").await;
    assert_eq!(devices(&sessions, "user-42").await, ["elsewhere", "here"]);
    let flight = here.begin().await;
    let ended = sessions.revoke_others(&flight.handle()).await;
    assert_eq!(ended.unwrap(), 1);
    flight.finish().await.assert_ok();
    assert_eq!(devices(&sessions, "user-42").await, ["here"]);
    assert!(elsewhere.is_nobody().await);

    log_in(&elsewhere, "user-42", "elsewhere").await;
    assert_eq!(sessions.revoke_all("user-42").await.unwrap(), 2);
    assert!(elsewhere.is_nobody().await);
    assert!(here.is_nobody().await);
}

async fn all_but_this_one_end(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let phone = logged_in(&tested, "user-42", "phone").await;
    let laptop = logged_in(&tested, "user-42", "laptop").await;
    let thief = logged_in(&tested, "user-42", "thief").await;
    tick(&tested);
    let (late, own) = (thief.begin().await, phone.fork().begin().await);
    let flight = phone.begin().await;
    assert_eq!(sessions.revoke_others(&flight.handle()).await.unwrap(), 2);
    flight.insert("password", "new").unwrap();
    flight.finish().await.assert_ok();
    late.handle().renew();
    late.finish().await.assert_no_cookie();
    own.insert("own", 1).unwrap();
    own.finish().await.assert_ok();
    for browser in [&laptop, &thief] {
        assert!(browser.is_nobody().await);
    }
    assert_eq!(devices(&sessions, "user-42").await, ["phone"]);
    assert_eq!(phone.number("own").await, Some(1));
    // Its own exception holds for later renewals, and goes with the next mark.
    phone.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(phone.principal().await.as_deref(), Some("user-42"));
    sessions.revoke_all("user-42").await.unwrap();
    assert!(phone.is_nobody().await);
    // A guest has no others.
    let guest = tested.browser().await.begin().await;
    assert!(
        sessions
            .revoke_others(&guest.handle())
            .await
            .unwrap_err()
            .is_gone()
    );
    guest.finish().await;
}

async fn this_one_goes_on_whatever_the_request_does(tested: impl TestStore<Store: SessionIndex>) {
    let middleware = tested.middleware().build();
    let sessions = middleware.manager();
    let site = Site::new(middleware).await;
    let acts: [fn(&Session); 5] = [
        |_| (),
        Session::renew,
        |s| s.reauthenticated().unwrap(),
        |s| s.login("user-42").unwrap(),
        |s| {
            s.clear();
            s.login("user-42").unwrap();
        },
    ];
    for act in acts {
        for before in [true, false] {
            let other = logged_in(&tested, "user-42", "other").await;
            let browser = Browser::new(site.clone());
            log_in(&browser, "user-42", "own").await;
            tick(&tested);
            let flight = browser.begin().await;
            if before {
                act(&flight.handle());
            }
            tick(&tested);
            assert_eq!(sessions.revoke_others(&flight.handle()).await.unwrap(), 1);
            if !before {
                act(&flight.handle());
            }
            flight.finish().await.assert_ok();
            assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
            assert!(other.is_nobody().await);
            assert_eq!(sessions.revoke_all("user-42").await.unwrap(), 1);
            tick(&tested);
        }
    }
    // The first login of a visitor.
    let other = logged_in(&tested, "user-42", "other").await;
    tick(&tested);
    let browser = tested.browser().await;
    let flight = browser.begin().await;
    flight.handle().login("user-42").unwrap();
    assert_eq!(sessions.revoke_others(&flight.handle()).await.unwrap(), 1);
    flight.finish().await.assert_sets_cookie();
    assert!(other.is_nobody().await);
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

/// A login and the end of all other sessions, of a session that is not loaded.
async fn logs_in_alone(req: HttpRequest, sessions: web::Data<SessionManager>) -> HttpResponse {
    let session = req.get_session();
    session.login("user-42").unwrap();
    match sessions.revoke_others(&session).await {
        Ok(ended) => HttpResponse::Ok().body(ended.to_string()),
        Err(error) => HttpResponse::Accepted().body(error.to_string()),
    }
}

async fn a_session_that_nobody_has_loaded_ends_no_others(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let other = logged_in(&tested, "user-42", "other").await;
    let guest = tested.browser().await;
    guest.visit(|s| s.insert("basket", 1).unwrap()).await;
    tick(&tested);
    let middleware = tested.middleware().lazy().build();
    let sessions = web::Data::new(middleware.manager());
    let app = App::new().wrap(middleware).app_data(sessions);
    let app = app.default_service(web::to(logs_in_alone));
    let lazy = guest.at(Site::of(init_service(app).await));
    let answer = lazy.get("/").await;
    answer.assert_sets_cookie();
    guest.set_cookie("id", lazy.value().unwrap());
    assert_eq!(guest.principal().await.as_deref(), Some("user-42"));
    // A store that never waits has loaded it all the same.
    let refused = answer.status == StatusCode::ACCEPTED;
    assert_eq!(other.principal().await.is_some(), refused);
}

async fn a_session_that_has_ended_ends_no_others(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let thief = logged_in(&tested, "user-42", "thief").await;
    let owner = logged_in(&tested, "user-42", "owner").await;
    tick(&tested);
    let (late, flight) = (thief.begin().await, owner.begin().await);
    assert_eq!(sessions.revoke_others(&flight.handle()).await.unwrap(), 1);
    flight.finish().await.assert_ok();
    let refused = sessions.revoke_others(&late.handle()).await.unwrap_err();
    assert!(refused.is_gone());
    late.finish().await;
    assert_eq!(owner.principal().await.as_deref(), Some("user-42"));
}

/// No mark says so: each of these ends one session.
async fn a_session_that_has_ended_alone_ends_no_others(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let sessions = manager(&tested);
    let owner = logged_in(&tested, "user-42", "owner").await;
    let ends: [fn(&Session); 3] = [Session::purge, Session::clear, |s| {
        s.login("user-43").unwrap()
    }];
    for end in ends {
        let thief = logged_in(&tested, "user-42", "thief").await;
        let late = thief.begin().await;
        thief.visit(end).await.assert_ok();
        tick(&tested);
        let refused = sessions.revoke_others(&late.handle()).await;
        assert!(refused.is_err_and(|error| error.is_gone()));
        late.finish().await;
    }
    let thief = logged_in(&tested, "user-42", "thief").await;
    let late = thief.begin().await;
    let device = named(&sessions, "user-42", "thief").await;
    assert!(sessions.revoke("user-42", &device).await.unwrap());
    let refused = sessions.revoke_others(&late.handle()).await;
    assert!(refused.is_err_and(|error| error.is_gone()));
    late.finish().await;
    assert_eq!(owner.principal().await.as_deref(), Some("user-42"));
}

async fn lists_have_pages(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let mut browsers = Vec::new();
    for n in 0..5 {
        browsers.push(logged_in(&tested, "user-42", &n.to_string()).await);
        // Two in each millisecond.
        if n % 2 == 1 {
            tested.clock().advance(Duration::from_millis(1));
        }
    }
    let mut list = sessions.list("user-42").await.unwrap();
    assert_eq!(list.len(), 5);
    assert_eq!(list.next_page(), None);
    let all: Vec<SessionHandle> = list.by_ref().map(|it| it.handle()).collect();
    let mut found = Vec::new();
    let small = sessions.first_page("user-42", 2).await.unwrap();
    let mut next = small.next_page();
    found.extend(small.map(|it| it.handle()));
    while let Some(page) = next {
        let list = sessions.list_page("user-42", page, 2).await.unwrap();
        assert!(list.len() <= 2);
        next = list.next_page();
        found.extend(list.map(|it| it.handle()));
    }
    assert_eq!(found, all);
}

async fn what_has_expired_is_not_listed(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let builder = tested
        .middleware()
        .absolute_timeout(actix_web::cookie::time::Duration::hours(1));
    let browser = tested.browser_of(builder).await;
    log_in(&browser, "user-42", "phone").await;
    let handle = only(&sessions, "user-42").await.handle();
    tested.clock().advance(Duration::from_secs(3_600));
    assert_eq!(sessions.count("user-42").await.unwrap(), 0);
    assert!(!sessions.revoke("user-42", &handle).await.unwrap());
    assert!(sessions.open("user-42", &handle).await.unwrap().is_none());
}

/// As while a timeout is introduced server by server, or if a part of the site has one of its own.
async fn a_timeout_of_ones_own_hides_no_session_from_an_end(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let hour = actix_web::cookie::time::Duration::hours(1);
    let strict = tested.middleware().absolute_timeout(hour);
    let (strict, lenient) = (strict.build().manager(), manager(&tested));
    let phone = logged_in(&tested, "user-42", "phone").await;
    tested.clock().advance(Duration::from_secs(3_601));
    assert_eq!(strict.count("user-42").await.unwrap(), 0);
    assert_eq!(devices(&lenient, "user-42").await, ["phone"]);
    strict.revoke_all("user-42").await.unwrap();
    assert!(phone.is_nobody().await);
    tested.dump().await.assert_no_record();
}

/// All kinds of changes, begun before the end and committed after it. Once; `REVOCATIONS=1000` does it as
/// often.
async fn of_fifty_in_flight_none_is_alive(tested: impl TestStore<Store: SessionIndex>) {
    let rounds = std::env::var("REVOCATIONS").map_or(1, |rounds| rounds.parse().unwrap());
    let sessions = manager(&tested);
    for _ in 0..rounds {
        tick(&tested);
        let phone = logged_in(&tested, "user-42", "phone").await;
        let forks = [(); 50].map(|()| phone.fork());
        let mut flights = Vec::new();
        for fork in &forks {
            flights.push(fork.begin().await);
        }
        assert_eq!(sessions.revoke_all("user-42").await.unwrap(), 1);
        for (n, flight) in flights.into_iter().enumerate() {
            act_in_flight(&flight.handle(), n);
            flight.finish().await.assert_no_cookie();
        }
        for browser in forks.iter().chain([&phone]) {
            assert!(browser.is_nobody().await);
        }
        assert_eq!(sessions.count("user-42").await.unwrap(), 0);
        tested.dump().await.assert_no_record();
    }
}

fn act_in_flight(session: &Session, n: usize) {
    let add = |n: Option<u32>| Some(n.unwrap_or(0) + 1);
    match n % 4 {
        0 => session.insert("late", n).unwrap(),
        1 => session.renew(),
        2 => session.reauthenticated().unwrap(),
        _ => session.modify("late", add).unwrap(),
    }
}

async fn a_session_is_read_and_changed_from_outside(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let browser = logged_in(&tested, "user-42", "phone").await;
    let handle = only(&sessions, "user-42").await.handle();
    let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
    let secret = opened.session().get::<String>("secret").unwrap();
    assert_eq!(secret.as_deref(), Some("user-42"));
    assert_eq!(opened.handle(), handle);
    let add = |s: &Session| {
        s.modify("n", |n: Option<i64>| Some(n.unwrap_or(0) + 1))
            .unwrap();
    };
    add(opened.session());
    opened.session().insert("job", 7).unwrap();
    // Meanwhile, requests go on.
    browser.visit(add).await.assert_ok();
    browser.visit(|s| s.insert("own", 1).unwrap()).await;
    opened.commit().await.unwrap();
    for (name, value) in [("n", 2), ("job", 7), ("own", 1)] {
        assert_eq!(browser.number(name).await, Some(value), "{name}");
    }
    // What ended does not come back.
    let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
    opened.session().insert("late", 1).unwrap();
    browser.visit(|s| s.purge()).await;
    assert!(opened.commit().await.unwrap_err().is_gone());
    tested.dump().await.assert_no_record();
    assert!(sessions.open("user-42", &handle).await.unwrap().is_none());
}

async fn a_session_is_changed_after_its_renewal(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let browser = logged_in(&tested, "user-42", "phone").await;
    let handle = only(&sessions, "user-42").await.handle();
    for seconds in [1, 61] {
        let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
        opened.session().insert("job", seconds).unwrap();
        browser.visit(Session::renew).await.assert_sets_cookie();
        // Then the redirect is no more.
        tested.clock().advance(Duration::from_secs(seconds));
        opened.commit().await.unwrap();
        let seconds = i64::try_from(seconds).unwrap();
        assert_eq!(browser.number("job").await, Some(seconds));
    }
    // Whoever logs out through it is logged out.
    let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
    opened.session().clear();
    opened.commit().await.unwrap();
    assert!(browser.principal().await.is_none());
    assert_eq!(sessions.count("user-42").await.unwrap(), 0);
}

/// Its name is no more, and the redirect that was there neither.
async fn a_session_ends_after_its_renewal(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let other = logged_in(&tested, "user-42", "other").await;
    for purges in [true, false] {
        let browser = logged_in(&tested, "user-42", "phone").await;
        let handle = named(&sessions, "user-42", "phone").await;
        let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
        let late = sessions.open("user-42", &handle).await.unwrap().unwrap();
        browser.visit(Session::renew).await.assert_sets_cookie();
        tested.pass_grace().await;
        if purges {
            opened.session().purge();
            opened.commit().await.unwrap();
        } else {
            assert!(opened.end().await.unwrap());
        }
        assert!(browser.is_nobody().await);
        assert!(!late.end().await.unwrap());
        assert_eq!(devices(&sessions, "user-42").await, ["other"]);
    }
    assert_eq!(other.principal().await.as_deref(), Some("user-42"));
}

/// A closure may hold the handle of the session that it changes.
#[actix_web::test]
async fn what_was_opened_and_is_not_committed_leaves_nothing() {
    let tested = crate::support::Memory::start().await;
    let sessions = manager(&tested);
    logged_in(&tested, "user-42", "phone").await;
    let handle = only(&sessions, "user-42").await.handle();
    let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
    let kept = std::sync::Arc::new(());
    let (left, own) = (std::sync::Arc::downgrade(&kept), opened.session().clone());
    let captures = move |n: Option<u32>| {
        let _ = (&kept, &own);
        n.map(|n| n + 1)
    };
    opened.session().modify("n", captures).unwrap();
    assert!(left.upgrade().is_some());
    drop(opened);
    assert!(left.upgrade().is_none());
}

async fn what_needs_a_cookie_is_refused_outside(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let browser = logged_in(&tested, "user-42", "phone").await;
    let handle = only(&sessions, "user-42").await.handle();
    let acts: [fn(&Session); 3] = [
        Session::renew,
        |s| s.login("user-43").unwrap(),
        |s| s.reauthenticated().unwrap(),
    ];
    for act in acts {
        let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
        opened.session().insert("n", 1).unwrap();
        act(opened.session());
        assert!(!opened.commit().await.unwrap_err().is_gone());
    }
    assert_eq!(browser.number("n").await, None);
    let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
    opened.session().purge();
    opened.commit().await.unwrap();
    assert!(browser.is_nobody().await);
    // What comes after a purge is another session; the one that there was has ended.
    let acts: [fn(&Session); 2] = [
        |s| s.insert("n", 1).unwrap(),
        |s| s.login("user-43").unwrap(),
    ];
    for act in acts {
        let browser = logged_in(&tested, "user-42", "phone").await;
        let handle = only(&sessions, "user-42").await.handle();
        let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
        opened.session().purge();
        act(opened.session());
        assert!(!opened.commit().await.unwrap_err().is_gone());
        assert!(browser.is_nobody().await);
    }
}

async fn what_needs_a_request_is_refused_outside(tested: impl TestStore<Store: SessionIndex>) {
    let sessions = manager(&tested);
    let browser = logged_in(&tested, "user-42", "phone").await;
    let handle = only(&sessions, "user-42").await.handle();
    let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
    let session = opened.session();
    session.insert("n", 1).unwrap();
    // At once, since nobody would ever answer.
    assert!(session.save().now_or_never().unwrap().is_err());
    let taken = session.take::<String>("secret").now_or_never();
    assert!(taken.unwrap().is_err());
    opened.commit().await.unwrap();
    assert_eq!(browser.number("n").await, Some(1));
    let kept = |s: &Session| {
        assert_eq!(
            s.get::<String>("secret").unwrap().as_deref(),
            Some("user-42")
        )
    };
    browser.visit(kept).await.assert_ok();
    let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
    let ended = opened.session().purge_now().now_or_never();
    assert!(ended.unwrap().is_err());
    browser.visit(kept).await.assert_ok();
    opened.commit().await.unwrap();
    assert!(browser.is_nobody().await);
}

async fn a_tool_changes_nothing(tested: impl TestStore<Store: SessionIndex>) {
    let browser = logged_in(&tested, "user-42", "phone").await;
    let sessions = SessionManager::of_store(&tested.store());
    let handle = only(&sessions, "user-42").await.handle();
    let opened = sessions.open("user-42", &handle).await.unwrap().unwrap();
    opened.session().insert("n", 1).unwrap();
    assert!(opened.commit().await.is_err());
    assert_eq!(browser.number("n").await, None);
    assert!(sessions.revoke("user-42", &handle).await.unwrap());
    assert!(browser.is_nobody().await);
}
