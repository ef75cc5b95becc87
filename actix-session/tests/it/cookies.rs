//! Which cookie opens which session, and when none is needed.

use actix_session::{
    Session, SessionExt as _, SessionMiddleware, SessionStatus,
    config::{CookieContentSecurity, PersistentSession},
    storage::{CookieSessionStore, MemorySessionStore, RedisSessionStore},
};
use actix_web::{
    App, Error, HttpMessage as _,
    body::MessageBody,
    cookie::{Key, time::Duration as CookieDuration},
    dev::{ServiceRequest, ServiceResponse},
    http::header::SET_COOKIE,
    middleware::{Next, from_fn},
    test::{TestRequest, init_service},
    web,
};
use redis::AsyncCommands as _;

use crate::support::{
    Browser, Redis, Site, Spy, TestStore, expected, on_each_store, random_name, stop,
};

on_each_store! {
    the_first_live_session_of_several_is_used,
    what_does_not_verify_is_not_counted,
    values_are_found_in_any_cookie_field,
    siblings_harm_nobody,
    a_key_without_a_record_is_never_adopted,
    who_writes_nothing_has_no_record,
    what_changes_nothing_is_not_written,
    a_value_that_does_not_serialize_changes_nothing,
    two_nested_middlewares_never_mix,
    two_middlewares_side_by_side_never_mix,
    a_value_of_another_cookie_does_not_open,
    a_session_can_be_used_in_any_order,
    a_handle_outlives_its_request_for_reading,
    the_reserved_entry_is_nobodys,
}

async fn with(tested: &impl TestStore, name: &str) -> Browser {
    let browser = tested.browser().await;
    let answer = browser.visit(|s| s.insert("name", name).unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
    browser
}

/// The entry `name` of the session that these `Cookie` fields open.
async fn seen(browser: &Browser, fields: &[impl AsRef<[u8]>]) -> Option<String> {
    let mut name = None;
    let read = |s: &Session| name = s.get("name").unwrap();
    let answer = browser.visit_as(fields, read).await;
    answer.assert_ok().assert_no_cookie();
    name
}

async fn the_first_live_session_of_several_is_used(tested: impl TestStore) {
    let (a, b, gone) = (
        with(&tested, "a").await,
        with(&tested, "b").await,
        with(&tested, "gone").await,
    );
    let [first, second, dead] = [&a, &b, &gone].map(|browser| browser.value().unwrap());
    gone.visit(Session::purge).await.assert_ok();
    let both = |x: &str, y: &str| [format!("id={x}; id={y}")];
    let a_then_b = seen(&a, &both(&first, &second)).await;
    assert_eq!(a_then_b.as_deref(), Some("a"));
    let b_then_a = seen(&a, &both(&second, &first)).await;
    assert_eq!(b_then_a.as_deref(), Some("b"));
    let dead_first = seen(&a, &both(&dead, &second)).await;
    assert_eq!(dead_first.as_deref(), Some("b"));
    // A write goes to the one that is used, and the other stays as it is.
    let fields = both(&first, &second);
    let answer = a.visit_as(&fields, |s| s.insert("n", 1).unwrap()).await;
    answer.assert_ok().assert_no_cookie();
    assert_eq!((a.number("n").await, b.number("n").await), (Some(1), None));
    // At most four that verify are looked up.
    let mut values = vec![second];
    for n in 0..4 {
        let gone = with(&tested, &n.to_string()).await;
        values.insert(0, gone.value().unwrap());
        gone.visit(Session::purge).await.assert_ok();
    }
    let pairs: Vec<String> = values.iter().map(|value| format!("id={value}")).collect();
    assert_eq!(seen(&a, &[pairs.join("; ")]).await, None);
    let pairs = pairs[1..].join("; ");
    assert_eq!(seen(&a, &[pairs]).await.as_deref(), Some("b"));
}

async fn what_does_not_verify_is_not_counted(tested: impl TestStore) {
    let browser = with(&tested, "a").await;
    let value = browser.value().unwrap();
    let foreign = {
        let builder = SessionMiddleware::builder(tested.store(), Key::generate());
        let other = tested.browser_of(builder).await;
        other.visit(|s| s.insert("name", "x").unwrap()).await;
        other.value().unwrap()
    };
    let mut pairs: Vec<String> = (0..10).map(|n| format!("id=junk{n}")).collect();
    pairs.push(format!("id={foreign}"));
    pairs.push(format!("id={}", &value[..value.len() - 1]));
    pairs.push(format!("id={value}"));
    let seen = seen(&browser, &[pairs.join("; ")]).await;
    assert_eq!(seen.as_deref(), Some("a"));
}

async fn values_are_found_in_any_cookie_field(tested: impl TestStore) {
    let browser = with(&tested, "a").await;
    let pair = format!("id={}", browser.value().unwrap());
    for fields in [
        vec!["x=1".to_owned(), pair.clone()],
        vec![format!("x=1; {pair}"), "y=2".to_owned()],
        vec!["id=junk".to_owned(), format!("y=2;{pair};z=3")],
    ] {
        assert_eq!(seen(&browser, &fields).await.as_deref(), Some("a"));
    }
    // Names are compared byte by byte.
    for field in [pair.replacen("id", "Id", 1), pair.replacen("id", "%69d", 1)] {
        assert_eq!(seen(&browser, &[field]).await, None);
    }
}

async fn siblings_harm_nobody(tested: impl TestStore) {
    let browser = with(&tested, "a").await;
    let pair = format!("id={}", browser.value().unwrap()).into_bytes();
    for sibling in [
        &b"bad=\xff\xfe"[..],
        b"=",
        b";;",
        b"novalue",
        b"%zz=%ff",
        b"\"=\"",
    ] {
        let field = [sibling, b"; ", &pair, b"; ", sibling].concat();
        assert_eq!(seen(&browser, &[field]).await.as_deref(), Some("a"));
        let apart = [sibling.to_vec(), pair.clone()];
        assert_eq!(seen(&browser, &apart).await.as_deref(), Some("a"));
    }
}

async fn a_key_without_a_record_is_never_adopted(tested: impl TestStore) {
    let browser = with(&tested, "a").await;
    let planted = browser.fork();
    browser.visit(Session::purge).await.assert_removes_cookie();
    let before = planted.value();
    planted.visit(|_| ()).await.assert_ok().assert_no_cookie();
    planted
        .visit(Session::renew)
        .await
        .assert_ok()
        .assert_no_cookie();
    let attacker = planted.fork();
    let answer = planted.visit(|s| s.insert("n", 1).unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
    assert_ne!(planted.value(), before);
    assert!(attacker.is_nobody().await);
    assert_eq!(tested.dump().await.only(), expected(&[("n", "1")]));
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

async fn what_changes_nothing_is_not_written(tested: impl TestStore) {
    let (spy, browser, persistent) = spied(&tested).await;
    let acts: [fn(&Session); 5] = [
        |s| s.insert("name", "a").unwrap(),
        |s| assert_eq!(s.remove("absent"), None),
        |s| s.update("name", |name: String| name).unwrap(),
        |s| s.modify("name", |name: Option<String>| name).unwrap(),
        |s| {
            s.insert("other", 1).unwrap();
            s.remove("other");
            s.remove("name");
            s.insert("name", "a").unwrap();
        },
    ];
    for browser in [browser, persistent] {
        let answer = browser.visit(|s| s.insert("name", "a").unwrap()).await;
        answer.assert_ok().assert_sets_cookie();
        let before = tested.dump().await.sorted();
        spy.calls();
        for act in acts {
            browser.visit(act).await.assert_ok().assert_no_cookie();
            assert_eq!(spy.calls(), ["open"]);
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
        let outer = crate::support::Dump(outer.dump()).only();
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

async fn a_session_can_be_used_in_any_order(tested: impl TestStore) {
    fn is_shareable(_: &(impl Send + Sync + Clone + 'static)) {}

    let browser = with(&tested, "a").await;
    let answer = browser
        .visit(|s| {
            is_shareable(s);
            let entries = s.entries();
            s.insert("n", 1).unwrap();
            assert_eq!(entries.len(), 1, "a snapshot");
            s.update("n", |n: u32| {
                s.insert("inside", n).unwrap();
                assert_eq!(s.get::<u32>("n").unwrap(), Some(1));
                s.remove("name");
                n + 1
            })
            .unwrap();
            let clone = s.clone();
            s.modify("n", move |n: Option<u32>| {
                assert!(clone.contains_key("inside"));
                n.map(|n| n + 1)
            })
            .unwrap();
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    let session = s.clone();
                    std::thread::spawn(move || session.insert(format!("thread-{n}"), n).unwrap())
                })
                .collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            // A panic of a closure poisons nothing.
            let panics = std::panic::AssertUnwindSafe(|| s.update("n", |_: u32| panic!("!")));
            assert!(std::panic::catch_unwind(panics).is_err());
            assert_eq!(s.get::<u32>("n").unwrap(), Some(3));
            drop(entries);
        })
        .await;
    answer.assert_ok();
    let record = tested.dump().await.only();
    let names: Vec<&str> = record.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "inside", "n", "thread-0", "thread-1", "thread-2", "thread-3"
        ]
    );
    assert_eq!(
        (record["n"].as_str(), record["inside"].as_str()),
        ("3", "1")
    );
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
    body.purge();
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
    let again = req.request().get_session();
    assert_eq!(again.get::<u32>("n").unwrap(), Some(1));
    assert!(again.purge_now().await.is_err(), "nobody is there to do it");
    assert!(req.extensions().get::<Session>().is_none());
}

#[actix_web::test]
async fn a_cookie_that_browsers_would_drop_is_an_error_and_the_one_before_stays() {
    for security in [
        CookieContentSecurity::Private,
        CookieContentSecurity::Signed,
    ] {
        let builder = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate())
            .cookie_content_security(security);
        let browser = Browser::new(Site::new(builder.build()).await);
        let put = |size: usize| move |s: &Session| s.insert("text", "\"".repeat(size)).unwrap();
        browser.visit(put(1)).await.assert_ok().assert_sets_cookie();
        let (mut fits, mut too_long) = (0, 0);
        for size in (100..2_100).step_by(20) {
            let before = browser.value();
            let answer = browser.visit(put(size)).await;
            if answer.status.is_success() {
                assert_eq!(too_long, 0, "what is longer does not fit again");
                answer.assert_sets_cookie();
                let field = answer.headers.get(SET_COOKIE).unwrap().to_str().unwrap();
                let pair = field.split(';').next().unwrap();
                assert!(pair.len() <= 4_096, "{}", pair.len());
                fits = pair.len();
            } else {
                answer.assert_opaque();
                assert_eq!(browser.value(), before);
                too_long += 1;
            }
        }
        // 40 octets in, sealed and encoded, are at most twice and a half as many out.
        assert!(fits > 4_096 - 160 && too_long > 1, "{fits} {too_long}");
        let mut kept = 0;
        let read = |s: &Session| kept = s.get::<String>("text").unwrap().unwrap().len();
        browser.visit(read).await.assert_ok();
        assert!(kept > 1);
    }
}

/// Puts a text in the place of the only record.
async fn overwrite(tested: &Redis, text: &str) -> String {
    let name = tested.only_name().await;
    let mut connection = tested.connection.clone();
    let _: () = connection.set(&name, text).await.unwrap();
    name
}

#[actix_web::test]
async fn a_record_that_cannot_be_read_is_left_as_it_is() {
    for text in [
        "",
        "garbage",
        "[1]",
        r#"{"v":2,"state":{"name":"a"}}"#,
        r#"{"v":1,"state":{"name":}}"#,
        r#"{"v":1,"state":7}"#,
        r#"{"name":1}"#,
        "\u{0}",
    ] {
        let tested = Redis::start().await;
        let browser = with(&tested, "a").await;
        let (late, renews) = (browser.begin().await, browser.begin().await);
        let name = overwrite(&tested, text).await;
        let stored = async || {
            let mut connection = tested.connection.clone();
            let stored: Option<String> = connection.get(&name).await.unwrap();
            stored
        };
        assert!(browser.is_nobody().await, "{text}");
        browser.visit(|_| ()).await.assert_ok().assert_no_cookie();
        late.insert("n", 1).unwrap();
        late.finish().await.assert_opaque();
        renews.renew();
        renews.finish().await.assert_opaque();
        assert_eq!(stored().await.as_deref(), Some(text));
        let (before, old) = (browser.value(), browser.fork());
        let answer = browser.visit(|s| s.insert("n", 1).unwrap()).await;
        answer.assert_ok().assert_sets_cookie();
        assert_ne!(browser.value(), before);
        assert_eq!(stored().await.as_deref(), Some(text));
        assert_eq!(browser.number("n").await, Some(1));
        // Ending it works all the same.
        old.visit(Session::purge)
            .await
            .assert_ok()
            .assert_removes_cookie();
        assert_eq!(stored().await, None);
    }
}

/// Two names for all keys there are.
async fn colliding(tested: &Redis, names: usize) -> RedisSessionStore {
    let prefix = format!("{}{}:", tested.prefix, random_name());
    let url = servers::RedisServer::shared_url().unwrap();
    RedisSessionStore::builder(url)
        .cache_keygen(move |key| {
            let number = usize::from(key.as_bytes()[0]) % names;
            format!("{prefix}{number}")
        })
        .build()
        .await
        .unwrap()
}

#[actix_web::test]
async fn colliding_names_never_hand_out_somebodys_session() {
    let tested = Redis::start().await;
    for names in [1, 2, 5] {
        let store = colliding(&tested, names).await;
        let builder = || SessionMiddleware::builder(store.clone(), tested.key().clone());
        let mut browsers = Vec::new();
        for n in 0..30 {
            let browser = tested.browser_of(builder()).await;
            let answer = browser.visit(|s| s.insert("n", n).unwrap()).await;
            if answer.status.is_success() {
                answer.assert_sets_cookie();
                browsers.push((n, browser));
            } else {
                answer.assert_opaque();
            }
        }
        assert!(!browsers.is_empty() && browsers.len() <= names);
        for (n, browser) in &browsers {
            assert_eq!(browser.number("n").await, Some(*n));
            // A renewal has nowhere to go, or goes to a name that is free.
            let answer = browser.visit(Session::renew).await;
            if !answer.status.is_success() {
                answer.assert_opaque();
            }
            assert_eq!(browser.number("n").await, Some(*n));
        }
    }
}

#[actix_web::test]
async fn a_persistent_cookie_says_for_how_long() {
    let tested = crate::support::Memory::start().await;
    let lifecycle = PersistentSession::default().session_ttl(CookieDuration::days(7));
    let builder = tested
        .middleware()
        .session_lifecycle(lifecycle)
        .cookie_path("/app".to_owned())
        .cookie_domain(Some("example.org".to_owned()))
        .cookie_same_site(actix_web::cookie::SameSite::Strict);
    let browser = tested.browser_of(builder).await;
    let set = browser.visit(|s| s.insert("a", 1).unwrap()).await;
    assert_eq!(set.max_age(), Some(7 * 86_400));
    let removal = browser.visit(Session::purge).await;
    let (set, removal) = (set.cookie().unwrap(), removal.cookie().unwrap());
    assert_eq!(removal.max_age(), Some(CookieDuration::ZERO));
    assert_eq!((set.name(), set.path()), (removal.name(), removal.path()));
    assert_eq!(set.domain(), removal.domain());
    assert_eq!(set.secure(), removal.secure());
    assert_eq!(set.http_only(), removal.http_only());
    assert_eq!(set.same_site(), removal.same_site());
    assert_eq!(set.path(), Some("/app"));
}
