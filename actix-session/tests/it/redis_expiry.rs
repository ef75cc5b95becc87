//! How long Redis keeps what it holds.

use actix_session::{
    Session,
    config::{SessionMiddlewareBuilder, TtlExtensionPolicy},
    storage::SessionStore,
};
use actix_web::cookie::time::Duration as CookieDuration;

use crate::{
    expiry::{TTL, advance, browser_session, persistent, start, write},
    support::{Browser, Redis, Site, TestStore},
};

/// The end of the record by Redis' clock, and that clock.
async fn ends_at(tested: &Redis) -> i64 {
    let name = tested.only_name().await;
    let mut connection = tested.connection.clone();
    let mut command = redis::cmd("PEXPIRETIME");
    command
        .arg(&name)
        .query_async(&mut connection)
        .await
        .unwrap()
}

async fn time(tested: &Redis) -> i64 {
    let mut connection = tested.connection.clone();
    let (seconds, micros): (i64, i64) = redis::cmd("TIME")
        .query_async(&mut connection)
        .await
        .unwrap();
    seconds * 1000 + micros / 1000
}

/// Does something in between, after which the record lives for exactly this long.
async fn lives_for<S: SessionStore + 'static>(
    tested: &Redis,
    millis: u64,
    builder: SessionMiddlewareBuilder<S>,
    browser: &Browser,
    act: impl FnOnce(&Session),
) {
    let browser = browser.at(Site::new(builder.build()).await);
    let millis = i64::try_from(millis).unwrap();
    let before = time(tested).await;
    browser.visit(act).await.assert_ok();
    let after = time(tested).await;
    let end = ends_at(tested).await;
    assert!(
        (before + millis..=after + millis).contains(&end),
        "{before} + {millis} <= {end} <= {after} + {millis}"
    );
}

/// Makes the record old.
async fn age(tested: &Redis) {
    let name = tested.only_name().await;
    let mut connection = tested.connection.clone();
    let mut command = redis::cmd("PEXPIRE");
    command.arg(&name).arg(77_777);
    let done: bool = command.query_async(&mut connection).await.unwrap();
    assert!(done);
}

#[actix_web::test]
async fn redis_keeps_milliseconds_and_extends_as_configured() {
    let tested = Redis::start().await;
    let browser = tested.browser().await;
    let changes = || {
        let lifecycle = browser_session(TTL, TtlExtensionPolicy::OnStateChanges);
        tested.middleware().session_lifecycle(lifecycle)
    };
    let every = || {
        let lifecycle = browser_session(TTL, TtlExtensionPolicy::OnEveryRequest);
        tested.middleware().session_lifecycle(lifecycle)
    };
    lives_for(&tested, TTL, changes(), &browser, write).await;
    age(&tested).await;
    let aged = ends_at(&tested).await;
    let reader = browser.at(Site::new(changes().build()).await);
    assert_eq!(reader.number("n").await, Some(1));
    assert_eq!(ends_at(&tested).await, aged, "reading does not extend");
    lives_for(&tested, TTL, every(), &browser, |_| ()).await;
    age(&tested).await;
    lives_for(&tested, TTL, changes(), &browser, write).await;
    age(&tested).await;
    lives_for(&tested, TTL, changes(), &browser, Session::renew).await;
    // The session's own time comes before the configured one, in every way of writing.
    let own = 5_001;
    let set_own = |s: &Session| s.set_ttl(CookieDuration::milliseconds(5_001));
    lives_for(&tested, own, changes(), &browser, set_own).await;
    lives_for(&tested, own, every(), &browser, |_| ()).await;
    lives_for(&tested, own, every(), &browser, write).await;
    lives_for(&tested, own, changes(), &browser, Session::renew).await;
    let hour = |s: &Session| s.set_ttl(CookieDuration::hours(1));
    lives_for(&tested, 3_600_000, changes(), &browser, hour).await;
    // Nothing reaches past the absolute end, made by policy or kept in the record.
    let capped = || every().absolute_timeout(CookieDuration::seconds(40));
    lives_for(&tested, 40_000, capped(), &browser, |_| ()).await;
    advance(tested.clock(), 10_000);
    lives_for(&tested, 30_000, capped(), &browser, write).await;
    lives_for(&tested, 30_000, capped(), &browser, Session::renew).await;
    lives_for(&tested, 30_000, every(), &browser, |_| ()).await;
}

#[actix_web::test]
async fn what_comes_through_a_mark_moves_no_clock() {
    let tested = Redis::start().await;
    let browser = tested.browser().await;
    start(&browser).await;
    let late = browser.begin().await;
    browser.visit(Session::renew).await.assert_sets_cookie();
    age(&tested).await;
    let aged = ends_at(&tested).await;
    late.insert("late", 1).unwrap();
    late.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.only()["late"], "1");
    assert_eq!(ends_at(&tested).await, aged);
}

#[actix_web::test]
async fn what_redis_expired_is_gone() {
    let tested = Redis::start().await;
    let lifecycle = persistent(TTL, TtlExtensionPolicy::OnEveryRequest);
    let builder = tested.middleware().session_lifecycle(lifecycle);
    let browser = tested.browser_of(builder).await;
    start(&browser).await;
    let (writes, touches) = (browser.begin().await, browser.begin().await);
    let name = tested.only_name().await;
    let mut connection = tested.connection.clone();
    let mut command = redis::cmd("PEXPIREAT");
    command.arg(&name).arg(1);
    let done: bool = command.query_async(&mut connection).await.unwrap();
    assert!(done);
    assert!(browser.is_nobody().await);
    write(&writes);
    writes.finish().await.assert_ok().assert_no_cookie();
    touches.finish().await.assert_ok().assert_no_cookie();
    tested.dump().await.assert_no_record();
}

/// What looks like metadata in a value is a value, whoever sent it.
#[actix_web::test]
async fn a_value_is_never_taken_for_metadata() {
    let tested = Redis::start().await;
    let every = || {
        let lifecycle = browser_session(TTL, TtlExtensionPolicy::OnEveryRequest);
        tested.middleware().session_lifecycle(lifecycle)
    };
    let metadata = format!("{:016x}.{:032x}.0..99000.0.", 1, 1);
    // As the reserved entry of a flat record it is metadata: the session's own TTL.
    let reserved = format!(r#""__actix_session":"\"{metadata}\"""#);
    for flat in [
        format!("{{{reserved}}}"),
        format!(r#"{{"n":"1",{reserved}}}"#),
    ] {
        touched(&tested, every(), &flat, 99_000).await;
    }
    // In a record without metadata, and in the names and values of a flat one, it is not.
    let values = [
        format!(r#"{{"v":1,"state":{{"sent":{{{reserved}}}}}}}"#),
        format!(r#"{{"v":1,"state":{{"sent":{{"n":1,{reserved}}}}}}}"#),
        format!(r#"{{"state":{{"sent":{{{reserved}}}}},"v":1}}"#),
        format!(r#"{{"n\"__actix_session":"\"{metadata}\""}}"#),
    ];
    for text in values {
        touched(&tested, every(), &text, TTL).await;
    }
}

/// Reads a record that another program wrote, after which it lives for exactly this long.
async fn touched<S: SessionStore + 'static>(
    tested: &Redis,
    every: SessionMiddlewareBuilder<S>,
    text: &str,
    millis: u64,
) {
    let browser = tested.browser().await;
    browser.visit(write).await.assert_sets_cookie();
    let mut command = redis::cmd("SET");
    command.arg(tested.only_name().await).arg(text);
    let mut connection = tested.connection.clone();
    let done: String = command
        .arg("PX")
        .arg(77_777)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(done, "OK");
    let reads = |s: &Session| assert!(!s.is_empty() || text.starts_with(r#"{"__"#), "{text}");
    lives_for(tested, millis, every, &browser, reads).await;
    browser.visit(Session::purge).await.assert_ok();
}
