//! Principals that an entry of the application's names.

use std::{collections::HashMap, time::Duration};

use actix_session::{
    Clock as _, Level, Login, Session, SessionExt as _, SessionManager, SessionMiddleware,
    config::{OverLimit, SessionMiddlewareBuilder, TtlExtensionPolicy, WireFormat},
    storage::{SessionIndex, SessionStore},
};
use actix_web::{
    App, HttpRequest, HttpResponse,
    cookie::time::Duration as CookieDuration,
    http::StatusCode,
    test::{TestRequest, init_service},
    web,
};

use crate::{
    attacks::capture,
    devices::tick,
    expiry::persistent,
    five_methods::Wrapper,
    support::{
        Browser, Dump, Site, Sqlite, TestStore, alone, assert_passed, on_each_index, private,
    },
};

const USER: &str = "actix_identity.user_id";

on_each_index! {
    whoever_the_entry_names_is_listed,
    the_same_user_again_is_activity_alone,
    the_same_user_with_each_request_is_one_session,
    the_same_user_in_flight_undoes_no_logout,
    the_same_user_with_a_renewal_is_a_login,
    the_same_user_with_a_renewal_undoes_no_end,
    another_user_starts_over,
    without_the_entry_nobody_is_logged_in,
    a_renewal_after_a_logout_logs_nobody_in_again,
    a_removal_in_flight_logs_out_behind_a_renewal,
    a_login_sets_the_entry,
    revocations_and_limits_hold,
    what_another_program_has_written_holds,
    what_another_program_has_written_proves_nothing,
    what_another_program_has_written_ends_with_the_others,
    what_another_program_has_written_stays_ended_after_an_erasure,
    what_another_program_has_written_ends_behind_a_wrapper,
    equal_sessions_that_another_program_has_written_are_two,
    a_function_runs_once,
    what_names_nobody_is_an_entry_like_any_other,
}

/// As `actix-identity` logs somebody in.
fn log_in(session: &Session, user: &str) {
    session.insert(USER, user).unwrap();
    session.insert("actix_identity.logged_in_at", 1).unwrap();
    session.renew();
}

fn naming<T: TestStore>(tested: &T) -> SessionMiddlewareBuilder<T::Store> {
    tested.middleware().principal_entry(USER)
}

async fn site_of<T: TestStore>(tested: &T) -> (Site, SessionManager)
where
    T::Store: SessionIndex,
{
    let middleware = naming(tested).build();
    let sessions = middleware.manager();
    (Site::new(middleware).await, sessions)
}

async fn logged_in(site: &Site, user: &str) -> Browser {
    let browser = Browser::new(site.clone());
    let answer = browser.visit(|s| log_in(s, user)).await;
    answer.assert_ok().assert_sets_cookie();
    browser
}

async fn whoever_the_entry_names_is_listed(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let browser = logged_in(&site, "ada").await;
    assert_eq!(browser.principal().await.as_deref(), Some("ada"));
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
    // Without a renewal of the application's own.
    let other = Browser::new(site);
    other.visit(|s| s.insert("basket", 1).unwrap()).await;
    let before = other.value();
    other.visit(|s| s.insert(USER, "ada").unwrap()).await;
    assert_ne!(other.value(), before);
    assert_eq!(other.number("basket").await, Some(1));
    assert_eq!(sessions.count("ada").await.unwrap(), 2);
    other.visit(|s| s.purge()).await.assert_removes_cookie();
    browser.visit(Session::clear).await.assert_ok();
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
}

async fn the_same_user_again_is_activity_alone(tested: impl TestStore<Store: SessionIndex>) {
    let lifecycle = persistent(3_600_000, TtlExtensionPolicy::OnStateChanges);
    let middleware = naming(&tested).session_lifecycle(lifecycle).build();
    let sessions = middleware.manager();
    let browser = logged_in(&Site::new(middleware).await, "ada").await;
    let (value, handle) = (
        browser.value(),
        sessions.list("ada").await.unwrap().next().unwrap().handle(),
    );
    for _ in 0..3 {
        tested.clock().advance(Duration::from_secs(1_800));
        let again = |s: &Session| s.insert(USER, "ada").unwrap();
        // It extends, as a change does.
        let answer = browser.visit(again).await;
        assert_eq!(answer.assert_ok().max_age(), Some(3_600));
    }
    let opened = sessions.open("ada", &handle).await.unwrap();
    assert!(opened.is_some(), "no renewal and no fork");
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
    assert!(value.is_some());
    // With another change, too.
    let answer = browser
        .visit(|s| {
            s.insert(USER, "ada").unwrap();
            s.insert("n", 1).unwrap();
        })
        .await;
    answer.assert_ok();
    assert_eq!(browser.number("n").await, Some(1));
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
}

async fn the_same_user_with_each_request_is_one_session(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = site_of(&tested).await;
    let browser = logged_in(&site, "ada").await;
    let handle = sessions.list("ada").await.unwrap().next().unwrap().handle();
    let dump = tested.dump().await;
    let names = |dump: &Dump| dump.names().map(str::to_owned).collect::<Vec<_>>();
    for n in 0..5 {
        let again = |s: &Session| {
            s.insert(USER, "ada").unwrap();
            if n % 2 == 0 {
                s.insert("n", n).unwrap();
            }
        };
        browser.visit(again).await.assert_ok().assert_no_cookie();
        // At once, too.
        let flights = [browser.begin().await, browser.begin().await];
        for flight in flights {
            again(&flight);
            flight.finish().await.assert_ok().assert_no_cookie();
        }
        assert_eq!(names(&tested.dump().await), names(&dump), "no other record");
        let listed = sessions.list("ada").await.unwrap();
        let handles: Vec<_> = listed.map(|it| it.handle()).collect();
        assert_eq!(handles, std::slice::from_ref(&handle));
    }
    assert!(sessions.revoke("ada", &handle).await.unwrap());
    assert!(browser.is_nobody().await);
}

async fn the_same_user_in_flight_undoes_no_logout(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let ends: [fn(&Session); 3] = [Session::purge, Session::clear, |s| {
        s.remove(USER);
    }];
    for end in ends {
        let browser = logged_in(&site, "ada").await;
        let late = browser.begin().await;
        let renewing = browser.fork().begin().await;
        browser.visit(end).await.assert_ok();
        late.insert(USER, "ada").unwrap();
        late.insert("late", 1).unwrap();
        late.finish().await.assert_ok();
        assert_eq!(browser.principal().await, None);
        renewing.handle().renew();
        renewing.finish().await;
        assert_eq!(browser.principal().await, None);
        assert_eq!(sessions.count("ada").await.unwrap(), 0);
    }
}

async fn the_same_user_with_a_renewal_is_a_login(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let browser = logged_in(&site, "ada").await;
    let first = sessions.list("ada").await.unwrap().next().unwrap();
    let acts: [fn(&Session); 2] = [
        |s| log_in(s, "ada"),
        |s| {
            s.renew();
            s.insert(USER, "ada").unwrap();
        },
    ];
    let mut last = first.logged_in_at();
    for act in acts {
        tick(&tested);
        let before = browser.value();
        browser.visit(act).await.assert_sets_cookie();
        assert_ne!(browser.value(), before);
        let again = sessions.list("ada").await.unwrap().next().unwrap();
        assert!(again.logged_in_at() > last);
        assert_eq!(again.handle(), first.handle());
        last = again.logged_in_at();
    }
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
}

/// Whoever has stolen the cookie may hold a request open until the owner has logged out.
async fn the_same_user_with_a_renewal_undoes_no_end(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let acts: [fn(&Session); 3] = [
        |s| log_in(s, "ada"),
        |s| {
            s.renew();
            s.insert(USER, "ada").unwrap();
        },
        |s| {
            s.remove(USER);
            log_in(s, "ada");
        },
    ];
    let ends: [fn(&Session); 3] = [Session::purge, Session::clear, |s| drop(s.remove(USER))];
    for act in acts {
        for end in ends {
            let browser = logged_in(&site, "ada").await;
            let thief = browser.fork();
            let late = thief.begin().await;
            browser.visit(end).await.assert_ok();
            act(&late);
            late.finish().await.assert_ok().assert_no_cookie();
            assert_eq!(thief.principal().await, None);
        }
        let browser = logged_in(&site, "ada").await;
        let late = browser.fork().begin().await;
        assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
        tick(&tested);
        act(&late);
        late.finish().await.assert_ok().assert_no_cookie();
        assert_eq!(sessions.count("ada").await.unwrap(), 0);
        let browser = logged_in(&site, "ada").await;
        let late = browser.fork().begin().await;
        browser.visit(Session::renew).await.assert_sets_cookie();
        act(&late);
        late.finish().await.assert_ok().assert_no_cookie();
        assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
    }
}

async fn another_user_starts_over(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let browser = logged_in(&site, "ada").await;
    browser.visit(|s| s.insert("secret", 1).unwrap()).await;
    let handle = sessions.list("ada").await.unwrap().next().unwrap().handle();
    browser
        .visit(|s| log_in(s, "eve"))
        .await
        .assert_sets_cookie();
    assert_eq!(browser.number("secret").await, None);
    assert_eq!(browser.principal().await.as_deref(), Some("eve"));
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
    let next = sessions.list("eve").await.unwrap().next().unwrap();
    assert_ne!(next.handle(), handle);
}

async fn without_the_entry_nobody_is_logged_in(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let browser = logged_in(&site, "ada").await;
    browser.visit(|s| s.insert("basket", 1).unwrap()).await;
    let handle = sessions.list("ada").await.unwrap().next().unwrap().handle();
    let flight = browser.begin().await;
    flight.remove(USER);
    assert_eq!(flight.principal(), None);
    flight.finish().await.assert_ok();
    assert_eq!(browser.principal().await, None);
    assert_eq!(browser.number("basket").await, Some(1));
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
    browser.visit(|s| log_in(s, "ada")).await.assert_ok();
    let next = sessions.list("ada").await.unwrap().next().unwrap();
    assert_ne!(next.handle(), handle);
}

/// Of an application that sets the entry on every request.
async fn a_renewal_after_a_logout_logs_nobody_in_again(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = site_of(&tested).await;
    let ends: [fn(&Session); 4] = [
        Session::purge,
        Session::clear,
        |s| drop(s.remove(USER)),
        |s| s.insert(USER, None::<String>).unwrap(),
    ];
    for end in ends {
        let browser = logged_in(&site, "ada").await;
        let act = |s: &Session| {
            s.insert(USER, "ada").unwrap();
            end(s);
            s.renew();
        };
        browser.visit(act).await.assert_ok();
        assert_eq!(browser.principal().await, None);
        assert_eq!(sessions.count("ada").await.unwrap(), 0);
    }
}

async fn a_removal_in_flight_logs_out_behind_a_renewal(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = site_of(&tested).await;
    let acts: [fn(&Session); 2] = [
        |s| {
            s.remove(USER);
        },
        Session::clear,
    ];
    for act in acts {
        let browser = logged_in(&site, "ada").await;
        let late = browser.fork().begin().await;
        browser.visit(Session::renew).await.assert_sets_cookie();
        act(&late.handle());
        late.finish().await.assert_no_cookie();
        assert_eq!(browser.principal().await, None);
        assert_eq!(sessions.count("ada").await.unwrap(), 0);
    }
}

/// What is nobody's lives no longer than a session of nobody's.
#[actix_web::test]
async fn a_removal_behind_a_renewal_ends_the_times_of_the_login() {
    let tested = Sqlite::start().await;
    let browser = tested.browser_of(naming(&tested)).await;
    let remembered = Login::new("ada").idle(CookieDuration::days(30));
    let log_in = move |s: &Session| s.login_with(remembered.clone()).unwrap();
    browser.visit(log_in).await.assert_sets_cookie();
    let late = browser.fork().begin().await;
    browser.visit(Session::renew).await.assert_sets_cookie();
    late.handle().remove(USER);
    late.handle().insert("basket", 3).unwrap();
    late.finish().await.assert_no_cookie();
    assert_eq!(browser.principal().await, None);
    assert_eq!(browser.number("basket").await, Some(3));
    tested.clock().advance(Duration::from_secs(86_401));
    assert_eq!(browser.number("basket").await, None);
}

async fn a_login_sets_the_entry(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let browser = Browser::new(site);
    browser.visit(|s| s.login("ada").unwrap()).await;
    let named = async |browser: &Browser| {
        let flight = browser.begin().await;
        let named = flight.get::<String>(USER).unwrap();
        flight.finish().await;
        named
    };
    assert_eq!(named(&browser).await.as_deref(), Some("ada"));
    browser.visit(|s| s.login("eve").unwrap()).await;
    assert_eq!(named(&browser).await.as_deref(), Some("eve"));
    assert_eq!(sessions.count("eve").await.unwrap(), 1);
}

async fn revocations_and_limits_hold(tested: impl TestStore<Store: SessionIndex>) {
    let middleware = naming(&tested)
        .max_sessions(2, OverLimit::EvictOldest)
        .build();
    let sessions = middleware.manager();
    let site = Site::new(middleware).await;
    let first = logged_in(&site, "ada").await;
    tick(&tested);
    let second = logged_in(&site, "ada").await;
    tick(&tested);
    let third = logged_in(&site, "ada").await;
    assert_eq!(first.principal().await, None);
    let flight = third.begin().await;
    assert_eq!(sessions.revoke_others(&flight).await.unwrap(), 1);
    flight.finish().await;
    assert_eq!(second.principal().await, None);
    let late = first.begin().await;
    log_in(&late.handle(), "ada");
    tick(&tested);
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(late.finish().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(third.principal().await, None);
    tick(&tested);
    logged_in(&site, "ada").await;
}

/// A browser with a session that another program has written.
async fn with_foreign_session(tested: &impl TestStore, site: &Site) -> Browser {
    let entries = HashMap::from([
        (USER.to_owned(), r#""ada""#.to_owned()),
        ("basket".to_owned(), "1".to_owned()),
    ]);
    let key = tested.store().save(entries, &CookieDuration::days(1)).await;
    let browser = Browser::new(site.clone());
    let sealed = private(tested.key(), "id", key.unwrap().as_ref());
    browser.set_cookie("id", sealed);
    browser
}

async fn what_another_program_has_written_holds(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let browser = with_foreign_session(&tested, &site).await;
    assert_eq!(browser.principal().await.as_deref(), Some("ada"));
    assert_eq!(browser.number("basket").await, Some(1));
    // The first request has put it on the list.
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
    browser.visit(|s| s.insert("n", 1).unwrap()).await;
    assert_eq!(browser.number("n").await, Some(1));
    assert_eq!(browser.principal().await.as_deref(), Some("ada"));
    assert_eq!(sessions.count("ada").await.unwrap(), 1);
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(browser.principal().await, None);
}

/// Whoever was logged in by an old server is remembered: nobody knows when they gave their password.
async fn what_another_program_has_written_proves_nothing(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, _) = site_of(&tested).await;
    let is_proven = async |browser: &Browser| {
        let mut is_proven = false;
        let ask = |s: &Session| is_proven = s.require_auth(Level::One, Duration::MAX).is_ok();
        browser.visit(ask).await.assert_ok();
        is_proven
    };
    let a_while_ago = tested.clock().now() - Duration::from_secs(60);
    let again: [&dyn Fn(&Session); 3] = [
        &|s| s.reauthenticated().unwrap(),
        &|s| log_in(s, "ada"),
        &|s| {
            let login = Login::new("ada").authenticated_at(a_while_ago);
            s.login_with(login).unwrap();
        },
    ];
    for again in again {
        let browser = with_foreign_session(&tested, &site).await;
        assert!(!is_proven(&browser).await);
        browser.visit(|s| s.insert("n", 1).unwrap()).await;
        assert!(!is_proven(&browser).await);
        browser.visit(again).await.assert_sets_cookie();
        assert!(is_proven(&browser).await);
    }
}

async fn what_another_program_has_written_ends_with_the_others(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = site_of(&tested).await;
    let browser = with_foreign_session(&tested, &site).await;
    let quiet = with_foreign_session(&tested, &site).await;
    // No list knows of them yet.
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 0);
    assert_eq!(browser.principal().await, None);
    assert_eq!(browser.number("basket").await, None);
    quiet.visit(|s| s.insert("n", 1).unwrap()).await.assert_ok();
    assert_eq!(quiet.principal().await, None);
    assert_eq!(quiet.number("basket").await, None);
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
}

/// The mark that names whoever was erased goes after ten minutes; what ends their sessions stays.
async fn what_another_program_has_written_stays_ended_after_an_erasure(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (site, sessions) = site_of(&tested).await;
    let browser = with_foreign_session(&tested, &site).await;
    let quiet = with_foreign_session(&tested, &site).await;
    let renewing = with_foreign_session(&tested, &site).await;
    assert_eq!(sessions.erase("ada").await.unwrap(), 0);
    tested.clock().advance(Duration::from_secs(660));
    sessions.operator().sweep().await.unwrap();
    assert_eq!(browser.principal().await, None);
    assert_eq!(browser.number("basket").await, None);
    quiet.visit(|s| s.insert("n", 1).unwrap()).await.assert_ok();
    assert_eq!(quiet.principal().await, None);
    assert_eq!(quiet.number("basket").await, None);
    renewing.visit(Session::renew).await.assert_ok();
    assert_eq!(renewing.principal().await, None);
    assert_eq!(renewing.number("basket").await, None);
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
    // They may come back.
    let again = logged_in(&site, "ada").await;
    assert_eq!(again.principal().await.as_deref(), Some("ada"));
}

/// The wrapper forwards five methods alone.
async fn what_another_program_has_written_ends_behind_a_wrapper(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let (_, sessions) = site_of(&tested).await;
    let other = tested.middleware().wire_format(WireFormat::V0_11).build();
    let other = Site::new(other).await;
    let wrapped = SessionMiddleware::builder(Wrapper(tested.store()), tested.key().clone())
        .clock(tested.clock().clone())
        .principal_entry(USER);
    let site = Site::new(wrapped.build()).await;
    let browsers = [Browser::new(other.clone()), Browser::new(other)];
    for browser in &browsers {
        browser.visit(|s| s.insert(USER, "eve").unwrap()).await;
    }
    let [seen, unseen] = browsers.map(|browser| browser.at(site.clone()));
    assert_eq!(seen.principal().await.as_deref(), Some("eve"));
    sessions.revoke_all("eve").await.unwrap();
    for browser in [seen, unseen] {
        assert!(browser.is_nobody().await);
    }
}

async fn equal_sessions_that_another_program_has_written_are_two(
    tested: impl TestStore<Store: SessionIndex>,
) {
    for (format, user) in [(WireFormat::V1, "ada"), (WireFormat::V0_11, "bob")] {
        let naming = naming(&tested).wire_format(format).mixed_fleet();
        let middleware = naming.build();
        let sessions = middleware.manager();
        let site = Site::new(middleware).await;
        let other = Site::new(tested.middleware().wire_format(format).build()).await;
        let browsers = [Browser::new(other.clone()), Browser::new(other)];
        for browser in &browsers {
            browser.visit(|s| s.insert(USER, user).unwrap()).await;
        }
        let here = browsers.map(|browser| browser.at(site.clone()));
        for browser in &here {
            assert_eq!(browser.principal().await.as_deref(), Some(user));
        }
        assert_eq!(sessions.count(user).await.unwrap(), 2, "{user}");
        assert_eq!(sessions.revoke_all(user).await.unwrap(), 2, "{user}");
        for browser in &here {
            assert_eq!(browser.principal().await, None, "{user}");
        }
    }
}

async fn a_function_runs_once(tested: impl TestStore<Store: SessionIndex>) {
    let (site, sessions) = site_of(&tested).await;
    let browser = logged_in(&site, "ada").await;
    let late = browser.begin().await;
    late.modify(USER, |user: Option<String>| {
        user.map(|user| user + "-admin")
    })
    .unwrap();
    browser.visit(|s| s.insert("n", 1).unwrap()).await;
    late.finish().await.assert_sets_cookie();
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
    assert_eq!(sessions.count("ada-admin").await.unwrap(), 1);
    let gone = |_: Option<String>| None;
    let fork = Browser::new(site.clone());
    fork.visit(|s| log_in(s, "eve")).await.assert_sets_cookie();
    fork.visit(|s| s.modify(USER, gone).unwrap()).await;
    assert_eq!(fork.principal().await, None);
}

async fn what_names_nobody_is_an_entry_like_any_other(tested: impl TestStore<Store: SessionIndex>) {
    let (site, _) = site_of(&tested).await;
    let acts: [fn(&Session); 3] = [
        |s| s.insert(USER, 42).unwrap(),
        |s| s.insert(USER, "").unwrap(),
        |s| s.insert(USER, "x".repeat(1_025)).unwrap(),
    ];
    for act in acts {
        let browser = Browser::new(site.clone());
        browser.visit(act).await.assert_sets_cookie();
        assert_eq!(browser.principal().await, None);
        // It takes the login of whoever was there, and the handle says so at once.
        let browser = logged_in(&site, "ada").await;
        let flight = browser.begin().await;
        act(&flight.handle());
        assert_eq!(flight.handle().principal(), None);
        flight.finish().await.assert_ok();
        assert_eq!(browser.principal().await, None);
    }
}

/// An application whose users have numbers would have no lists, and not know why.
#[actix_web::test]
async fn what_can_be_no_principal_is_warned_of_once() {
    const NAME: &str = "principal_entry::what_can_be_no_principal_is_warned_of_once";
    if std::env::var_os(NAME).is_none() {
        let mut run = alone(NAME);
        return assert_passed(&run.env(NAME, "1").output().unwrap());
    }
    capture::install();
    let warned = || {
        let lines = capture::own_lines();
        let about = |text: &str| text.contains("can be no principal") && text.contains(USER);
        lines.iter().filter(|line| about(&line.text)).count()
    };
    // Its folder goes with it.
    let tested = Sqlite::start().await;
    let (site, _) = site_of(&tested).await;
    let quiet: [fn(&Session); 3] = [
        |s| log_in(s, "ada"),
        |s| s.insert(USER, None::<String>).unwrap(),
        |s| s.insert("other", 42).unwrap(),
    ];
    for act in quiet {
        Browser::new(site.clone()).visit(act).await.assert_ok();
    }
    assert_eq!(warned(), 0);
    let loud: [fn(&Session); 3] = [
        |s| s.insert(USER, 42).unwrap(),
        |s| s.insert(USER, "x".repeat(1_025)).unwrap(),
        |s| s.modify(USER, |_: Option<u64>| Some(42)).unwrap(),
    ];
    for act in loud {
        Browser::new(site.clone()).visit(act).await.assert_ok();
        assert_eq!(warned(), 1);
    }
}

/// Logs in whom the query names, and leaves the session unloaded.
async fn names(req: HttpRequest) -> HttpResponse {
    req.get_session().insert(USER, req.query_string()).unwrap();
    HttpResponse::Ok().finish()
}

#[actix_web::test]
async fn under_lazy_loading_the_load_decides() {
    let tested = Sqlite::start().await;
    let middleware = naming(&tested).lazy().build();
    let sessions = middleware.manager();
    let app = App::new().wrap(middleware).default_service(web::to(names));
    let site = Site::of(init_service(app).await);
    let cookie = |value: &str| ("cookie", format!("id={value}"));
    let first = site.answer(TestRequest::with_uri("/?ada")).await;
    let value = first.cookie().unwrap().value().to_owned();
    let handle = sessions.list("ada").await.unwrap().next().unwrap().handle();
    let again = TestRequest::with_uri("/?ada").insert_header(cookie(&value));
    site.answer(again).await.assert_ok().assert_no_cookie();
    let other = TestRequest::with_uri("/?eve").insert_header(cookie(&value));
    site.answer(other).await.assert_sets_cookie();
    assert!(sessions.open("ada", &handle).await.unwrap().is_none());
    assert_eq!(sessions.count("eve").await.unwrap(), 1);
}

/// Logs somebody in, and then sets an entry.
async fn names_and_notes(req: HttpRequest) -> HttpResponse {
    let session = req.get_session();
    session.insert("before", 1).unwrap();
    session.insert(USER, req.query_string()).unwrap();
    session.insert("after", 1).unwrap();
    assert!(session.contains_key(USER));
    HttpResponse::Ok().finish()
}

#[actix_web::test]
async fn under_lazy_loading_what_follows_a_login_belongs_to_it() {
    let tested = Sqlite::start().await;
    let browser = Browser::new(Site::new(naming(&tested).build()).await);
    browser.visit(|s| log_in(s, "ada")).await.assert_ok();
    let middleware = naming(&tested).lazy().build();
    let app = App::new()
        .wrap(middleware)
        .default_service(web::to(names_and_notes));
    let lazy = browser.at(Site::of(init_service(app).await));
    lazy.get("/?eve").await.assert_sets_cookie();
    browser.set_cookie("id", lazy.value().unwrap());
    assert_eq!(browser.principal().await.as_deref(), Some("eve"));
    assert_eq!(browser.number("before").await, None);
    assert_eq!(browser.number("after").await, Some(1));
}
