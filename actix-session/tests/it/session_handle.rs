//! What a handler can do with its session, and what of it is written.

use actix_session::{
    Session, SessionExt as _, SessionMiddleware, SessionStatus, config::PersistentSession,
};
use actix_web::{
    App, HttpMessage as _,
    test::{TestRequest, init_service},
    web,
};

use crate::{
    cookies::with,
    support::{Browser, Site, Spy, TestStore, on_each_store, stop},
};

on_each_store! {
    who_writes_nothing_has_no_record,
    what_changes_nothing_is_not_written,
    a_value_that_does_not_serialize_changes_nothing,
    a_session_can_be_used_in_any_order,
    a_handle_outlives_its_request_for_reading,
    the_reserved_entry_is_nobodys,
}

async fn spied<B: TestStore>(tested: &B) -> (Spy<B::Store>, Browser, Browser) {
    let spy = Spy::new(tested.store());
    let builder = || {
        SessionMiddleware::builder(spy.clone(), tested.key().clone()).clock(tested.clock().clone())
    };
    let persistent = builder().session_lifecycle(PersistentSession::default());
    let browser = tested.browser_of(builder()).await;
    (spy.clone(), browser, tested.browser_of(persistent).await)
}

async fn who_writes_nothing_has_no_record(tested: impl TestStore) {
    let (spy, browser, persistent) = spied(&tested).await;
    let acts: [fn(&Session); 8] = [
        |_| (),
        |s| assert!(s.entries().is_empty() && s.principal().is_none()),
        |s| assert_eq!(s.remove("absent"), None),
        Session::clear,
        Session::renew,
        Session::purge,
        |s| {
            s.insert("a", 1).unwrap();
            s.remove("a");
        },
        |s| s.modify("n", |_: Option<u8>| None).unwrap(),
    ];
    for act in acts {
        for browser in [&browser, &persistent] {
            browser.visit(act).await.assert_ok().assert_no_cookie();
        }
    }
    assert_eq!(spy.calls(), [""; 0]);
    assert_eq!(tested.dump().await.0.len(), 0);
}

type Act = fn(&Session);

async fn what_changes_nothing_is_not_written(tested: impl TestStore) {
    let (spy, browser, persistent) = spied(&tested).await;
    // To set an entry to the value that it has is activity: the store extends the record.
    let acts: [(Act, &[&str]); 5] = [
        (|s| s.insert("name", "a").unwrap(), &["open", "commit"]),
        (|s| assert_eq!(s.remove("absent"), None), &["open"]),
        (
            |s| s.update("name", |name: String| name).unwrap(),
            &["open", "commit"],
        ),
        (
            |s| s.modify("name", |name: Option<String>| name).unwrap(),
            &["open", "commit"],
        ),
        (
            |s| {
                s.insert("other", 1).unwrap();
                s.remove("other");
                s.remove("name");
                s.insert("name", "a").unwrap();
            },
            &["open", "commit"],
        ),
    ];
    for browser in [browser, persistent] {
        let answer = browser.visit(|s| s.insert("name", "a").unwrap()).await;
        let aged = answer.assert_ok().assert_sets_cookie().max_age().is_some();
        let before = tested.dump().await.sorted();
        spy.calls();
        for (act, calls) in acts {
            let answer = browser.visit(act).await;
            let refreshed = aged && calls.len() == 2;
            assert_eq!(answer.assert_ok().cookie().is_some(), refreshed);
            assert_eq!(spy.calls(), calls);
        }
        assert_eq!(tested.dump().await.sorted(), before);
        // The same for an empty session that is cleared.
        browser.visit(|s| drop(s.remove("name"))).await.assert_ok();
        spy.calls();
        browser
            .visit(Session::clear)
            .await
            .assert_ok()
            .assert_no_cookie();
        assert_eq!(spy.calls(), ["open"]);
        // It stays, empty, until its time is up.
        assert_eq!(tested.dump().await.only().len(), 0);
        browser.visit(Session::purge).await.assert_ok();
    }
}

async fn a_value_that_does_not_serialize_changes_nothing(tested: impl TestStore) {
    let (spy, browser, _) = spied(&tested).await;
    browser.visit(|s| s.insert("name", "a").unwrap()).await;
    let before = tested.dump().await.sorted();
    spy.calls();
    let unserializable = std::collections::HashMap::from([((1, 2), 3)]);
    let answer = browser
        .visit(|s| {
            assert!(s.insert("name", &unserializable).is_err());
            assert!(s.update("name", |n: u32| n + 1).is_err());
            assert!(s.modify("name", |n: Option<u32>| n).is_err());
            assert!(s.get::<u32>("name").is_err());
            assert_eq!(s.status(), SessionStatus::Unchanged);
        })
        .await;
    answer.assert_ok().assert_no_cookie();
    assert_eq!(spy.calls(), ["open"]);
    assert_eq!(tested.dump().await.sorted(), before);
}

async fn a_session_can_be_used_in_any_order(tested: impl TestStore) {
    let browser = with(&tested, "a").await;
    browser.visit(use_in_odd_order).await.assert_ok();
    let record = tested.dump().await.only();
    let names: Vec<&str> = record.keys().map(String::as_str).collect();
    let threads = ["thread-0", "thread-1", "thread-2", "thread-3"];
    assert_eq!(names, [&["inside", "n"], &threads[..]].concat());
    assert_eq!((&*record["n"], &*record["inside"]), ("3", "1"));
}

fn use_in_odd_order(session: &Session) {
    fn is_shareable(_: &(impl Send + Sync + Clone + 'static)) {}

    is_shareable(session);
    let entries = session.entries();
    session.insert("n", 1).unwrap();
    assert_eq!(entries.len(), 1, "a snapshot");
    let nested = |n: u32| {
        session.insert("inside", n).unwrap();
        assert_eq!(session.get::<u32>("n").unwrap(), Some(1));
        session.remove("name");
        n + 1
    };
    session.update("n", nested).unwrap();
    let clone = session.clone();
    let through_a_clone = move |n: Option<u32>| {
        assert!(clone.contains_key("inside"));
        n.map(|n| n + 1)
    };
    session.modify("n", through_a_clone).unwrap();
    let threads = [0, 1, 2, 3].map(|n| {
        let session = session.clone();
        std::thread::spawn(move || session.insert(format!("thread-{n}"), n).unwrap())
    });
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    // A panic of a closure poisons nothing.
    let panics = std::panic::AssertUnwindSafe(|| session.update("n", |_: u32| panic!("!")));
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(session.get::<u32>("n").unwrap(), Some(3));
    drop(entries);
}

async fn a_handle_outlives_its_request_for_reading(tested: impl TestStore) {
    let browser = with(&tested, "a").await;
    let flight = browser.begin().await;
    flight.insert("n", 1).unwrap();
    let body = flight.handle();
    flight.finish().await.assert_ok();
    let before = tested.dump().await.sorted();
    // As a body stream does, after the head was sent.
    assert_eq!(body.get::<u32>("n").unwrap(), Some(1));
    assert_eq!(body.entries().len(), 2);
    assert!(body.insert("late", 1).is_err());
    assert!(body.update("n", |n: u32| n + 1).is_err());
    assert!(body.modify("n", |_: Option<u32>| Some(9)).is_err());
    assert!(body.login("user-42").is_err());
    assert!(body.purge_now().await.is_err());
    let acts: [fn(&Session); 5] = [
        |s| assert_eq!(s.remove("n").as_deref(), Some("1")),
        |s| s.set_ttl(actix_web::cookie::time::Duration::days(1)),
        Session::renew,
        Session::clear,
        Session::purge,
    ];
    for act in acts {
        act(&body);
        assert_eq!(body.entries().len(), 2, "it stays as the handler left it");
        assert_eq!(body.status(), SessionStatus::Changed);
    }
    assert_eq!(tested.dump().await.sorted(), before);
    assert_eq!(browser.number("n").await, Some(1));
}

async fn the_reserved_entry_is_nobodys(tested: impl TestStore) {
    const RESERVED: &str = "__actix_session";
    let browser = with(&tested, "a").await;
    browser.visit(|s| s.login("user-42").unwrap()).await;
    let answer = browser
        .visit(|s| {
            assert!(s.insert(RESERVED, "forged").is_err());
            assert!(s.modify(RESERVED, |_: Option<u8>| Some(1)).is_err());
            assert_eq!(s.get::<String>(RESERVED).unwrap(), None);
            assert_eq!(s.remove(RESERVED), None);
            assert!(!s.entries().contains_key(RESERVED) && !s.contains_key(RESERVED));
        })
        .await;
    answer.assert_ok();
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

#[actix_web::test]
async fn without_a_middleware_a_session_works_and_is_not_kept() {
    let app = App::new().default_service(web::to(stop));
    let browser = Browser::new(Site::of(init_service(app).await));
    let answer = browser
        .visit(|s| {
            s.insert("n", 1).unwrap();
            s.update("n", |n: u32| n + 1).unwrap();
            assert_eq!(s.get::<u32>("n").unwrap(), Some(2));
            s.login("user-42").unwrap();
            assert_eq!(s.principal().as_deref(), Some("user-42"));
            s.purge();
            assert!(s.is_empty());
        })
        .await;
    answer.assert_ok().assert_no_cookie();
    // All that ask in one request get the same one.
    let req = TestRequest::get().to_srv_request();
    req.get_session().insert("n", 1).unwrap();
    // Nothing is written to the extensions again: these are borrowed.
    let info = req.connection_info();
    let again = req.request().get_session();
    drop(info);
    assert_eq!(again.get::<u32>("n").unwrap(), Some(1));
    assert!(again.purge_now().await.is_err(), "nobody is there to do it");
    assert!(req.extensions().get::<Session>().is_none());
}
