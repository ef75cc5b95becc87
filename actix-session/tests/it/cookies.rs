//! Which cookie opens which session.

use std::sync::mpsc::channel;

use actix_session::{
    EndReason, Session, SessionEventKind, SessionMiddleware,
    config::{CookieContentSecurity, PersistentSession},
    storage::{CookieSessionStore, RedisSessionStore},
};
use actix_web::{
    cookie::{Key, time::Duration as CookieDuration},
    http::header::SET_COOKIE,
};
use redis::AsyncCommands as _;

use crate::support::{
    Browser, Memory, Redis, Site, TestStore, expected, on_each_store, private, random_name, soon,
};

on_each_store! {
    the_first_live_session_of_several_is_used,
    a_mark_counts_behind_a_dead_cookie,
    what_does_not_verify_is_not_counted,
    values_are_found_in_any_cookie_field,
    siblings_harm_nobody,
    a_key_without_a_record_is_never_adopted,
}

pub(crate) async fn with(tested: &impl TestStore, name: &str) -> Browser {
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

/// The newer cookie may still be on its way, and a new session's would replace it.
async fn a_mark_counts_behind_a_dead_cookie(tested: impl TestStore) {
    let (renewed, gone) = (with(&tested, "renewed").await, with(&tested, "gone").await);
    let [old, dead] = [&renewed, &gone].map(|browser| browser.value().unwrap());
    gone.visit(Session::purge).await.assert_ok();
    renewed.visit(Session::renew).await.assert_sets_cookie();
    for fields in [
        [format!("id={dead}; id={old}")],
        [format!("id={old}; id={dead}")],
    ] {
        let late = gone.visit_as(&fields, |s| s.insert("late", 1).unwrap());
        late.await.assert_ok().assert_no_cookie();
    }
    assert_eq!(tested.dump().await.only().len(), 1);
    assert_eq!(renewed.number("late").await, None);
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
        vec![format!("x=1; id=\"{}\"", browser.value().unwrap())],
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
        // So does logging out: nobody knows what is to be kept of it.
        let tested = Redis::start().await;
        let browser = with(&tested, "a").await;
        let name = overwrite(&tested, text).await;
        let answer = browser.visit(Session::clear).await;
        answer.assert_ok().assert_removes_cookie();
        let mut connection = tested.connection.clone();
        let left: Option<String> = connection.get(&name).await.unwrap();
        assert_eq!(left, None, "{text}");
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
    let tested = Memory::start().await;
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

/// With the times that a cookie has by now, it would be too long.
#[actix_web::test]
async fn an_old_cookie_that_fits_no_longer_serves_whoever_sets_its_values() {
    let key = Key::generate();
    let text = "x".repeat(2_950);
    let old = format!(r#"{{"n":"7","text":"\"{text}\""}}"#);
    let builder = SessionMiddleware::builder(CookieSessionStore::default(), key.clone());
    let (sender, events) = channel();
    let observed = builder.on_event(move |event| sender.send(event.kind()).unwrap());
    let browser = Browser::new(Site::new(observed.build()).await);
    browser.set_cookie("id", private(&key, "id", &old));
    let before = browser.value();
    assert!((4_000..4_094).contains(&before.as_ref().unwrap().len()));
    let again = |s: &Session| s.insert("n", 7).unwrap();
    browser.visit(again).await.assert_ok().assert_no_cookie();
    assert_eq!(browser.value(), before);
    assert_eq!(browser.number("n").await, Some(7));
    // No store has failed.
    browser.visit(Session::purge).await.assert_ok();
    let told = soon(actix_web::rt::task::spawn_blocking(move || events.recv()));
    let ended = SessionEventKind::Ended(EndReason::LoggedOut);
    assert_eq!(told.await.unwrap().unwrap(), ended);
}
