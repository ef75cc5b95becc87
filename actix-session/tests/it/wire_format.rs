//! What lies in a store for old servers to read, and what they can write there.

use std::{collections::HashMap, time::Duration as StdDuration};

use actix_session::{
    Session, SessionMiddleware,
    config::{
        CookieContentSecurity, PersistentSession, SessionMiddlewareBuilder, TtlExtensionPolicy,
        WireFormat,
    },
    storage::{CookieSessionStore, SessionKey, SessionStore},
    testing::ManualClock,
};
use actix_web::cookie::{Key, time::Duration};

use crate::{
    five_methods::{FiveMethods, Wrapper},
    support::{Browser, Dump, Memory, Site, TestStore, on_each_store, opened, private},
};

on_each_store! {
    a_program_of_the_published_api_leaves_its_entries_alone,
    what_a_session_needs_is_an_entry_with_a_mac,
    an_entry_that_we_did_not_make_gives_no_rights,
    a_wrapper_of_five_methods_writes_for_old_servers_too,
    a_clear_through_five_methods_logs_out,
    a_program_that_updates_a_record_itself_logs_in_nobody,
    a_clear_is_no_entry_and_what_began_before_it_stays_cleared,
    a_clear_that_leaves_the_entries_as_they_were_counts,
    a_clear_outlives_a_change_of_the_format,
    a_visit_takes_a_login_along_to_the_new_key,
    a_clear_for_old_servers_holds_for_those_that_write_the_present_format,
}

const RESERVED: &str = "__actix_session";

type State = HashMap<String, String>;

fn for_old_servers<S: SessionStore>(
    builder: SessionMiddlewareBuilder<S>,
) -> SessionMiddlewareBuilder<S> {
    builder.wire_format(WireFormat::V0_11)
}

async fn old_fleet(tested: &impl TestStore) -> Browser {
    tested
        .browser_of(for_old_servers(tested.middleware()))
        .await
}

/// What old servers see.
fn states(dump: &Dump) -> Vec<State> {
    let records = dump.0.iter().filter(|(_, text)| text.starts_with('{'));
    let states = records.map(|(_, text)| serde_json::from_str(text).unwrap());
    states.collect()
}

fn state(entries: &[(&str, &str)]) -> State {
    let own = |(name, json): &(&str, &str)| ((*name).to_owned(), (*json).to_owned());
    entries.iter().map(own).collect()
}

/// The key in a browser's cookie.
fn key_of(browser: &Browser, secret: &Key) -> SessionKey {
    let value = opened(secret, "id", &browser.value().unwrap()).unwrap();
    value.try_into().unwrap()
}

fn login(name: &str) -> impl Fn(&Session) {
    move |session| session.login(name).unwrap()
}

fn set(name: &'static str, n: u32) -> impl Fn(&Session) {
    move |session| session.insert(name, n).unwrap()
}

fn clear_and_set(name: &'static str, n: u32) -> impl Fn(&Session) {
    move |session| {
        session.clear();
        session.insert(name, n).unwrap();
    }
}

/// Uses a session as a program does that knows no method of ours, and returns what it must hold.
async fn published_api(browser: &Browser) -> State {
    let write = |s: &Session| {
        s.insert("n", 1).unwrap();
        s.insert("user", "ferris").unwrap();
    };
    browser.visit(write).await.assert_sets_cookie();
    browser.visit(Session::renew).await.assert_sets_cookie();
    let update = |s: &Session| {
        s.update("n", |n: u32| n + 1).unwrap();
        s.remove("user");
        s.insert("list", [1, 2]).unwrap();
    };
    browser.visit(update).await.assert_ok();
    browser.visit(|_| ()).await.assert_ok();
    state(&[("n", "2"), ("list", "[1,2]")])
}

async fn a_program_of_the_published_api_leaves_its_entries_alone(tested: impl TestStore) {
    let browser = old_fleet(&tested).await;
    let expected = published_api(&browser).await;
    assert_eq!(states(&tested.dump().await), [expected]);
    browser.visit(|s| drop(s.remove("n"))).await.assert_ok();
    browser.visit(|s| drop(s.remove("list"))).await.assert_ok();
    assert_eq!(states(&tested.dump().await), [State::new()]);
    browser.visit(Session::purge).await.assert_removes_cookie();
    tested.dump().await.assert_no_record();
}

#[actix_web::test]
async fn five_methods_get_the_entries_of_the_program_alone() {
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let store = FiveMethods::default();
        let builder = SessionMiddleware::builder(store.clone(), Key::generate());
        let browser = Browser::new(Site::new(builder.wire_format(format).build()).await);
        let expected = published_api(&browser).await;
        assert_eq!(store.states(), [expected]);
    }
}

async fn what_a_session_needs_is_an_entry_with_a_mac(tested: impl TestStore) {
    type Act = fn(&Session);
    let ttl: Act = |s| {
        s.insert("n", 1).unwrap();
        s.set_ttl(Duration::days(3));
    };
    let builder = || for_old_servers(tested.middleware());
    let limited = builder().absolute_timeout(Duration::hours(1)).mixed_fleet();
    let acts: [(_, Act); 3] = [
        (builder(), |s| s.login("ferris").unwrap()),
        (builder(), ttl),
        (limited, |s| s.insert("n", 1).unwrap()),
    ];
    for (builder, act) in acts {
        let browser = tested.browser_of(builder).await;
        browser.visit(act).await.assert_sets_cookie();
        let mut states = states(&tested.dump().await);
        assert_eq!(states.len(), 1);
        let reserved = states[0].remove(RESERVED).unwrap();
        let text: String = serde_json::from_str(&reserved).unwrap();
        let (_, mac) = text.split_once(':').unwrap();
        assert_eq!(mac.len(), 43);
        browser.visit(Session::purge).await.assert_ok();
    }
}

async fn an_entry_that_we_did_not_make_gives_no_rights(tested: impl TestStore) {
    let store = tested.store();
    let (alice, mallory) = (old_fleet(&tested).await, old_fleet(&tested).await);
    alice.visit(login("alice")).await.assert_sets_cookie();
    let write = |s: &Session| s.insert("n", 1).unwrap();
    mallory.visit(write).await.assert_sets_cookie();
    let key = |browser: &Browser| key_of(browser, tested.key());
    let of_alice = store.load(&key(&alice)).await.unwrap().unwrap();
    let copied = &of_alice[RESERVED];
    // (What is in this process's memory needs no MAC, and shows none.)
    let made_up = copied.trim_end_matches('"').split(':').next().unwrap();
    for forged in [
        copied.clone(),
        format!("{made_up}\""),
        format!("{made_up}:{}\"", "A".repeat(43)),
        "\"nonsense\"".to_owned(),
        "nonsense".to_owned(),
    ] {
        let there = state(&[("n", "1"), (RESERVED, &forged)]);
        let ttl = Duration::hours(1);
        store.update(key(&mallory), there, &ttl).await.unwrap();
        assert_eq!(mallory.principal().await, None, "{forged}");
        assert_eq!(mallory.number("n").await, Some(1));
        // Nor does a write make it ours.
        mallory
            .visit(|s| s.insert("m", 1).unwrap())
            .await
            .assert_ok();
        assert_eq!(mallory.principal().await, None, "{forged}");
        let left = store.load(&key(&mallory)).await.unwrap().unwrap();
        assert_eq!(left, state(&[("n", "1"), ("m", "1")]));
    }
    assert_eq!(alice.principal().await.as_deref(), Some("alice"));
    // A renewal of ours gives the entry another name.
    let before = store.load(&key(&alice)).await.unwrap();
    alice.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(alice.principal().await.as_deref(), Some("alice"));
    let ttl = Duration::hours(1);
    let there = before.unwrap();
    store.update(key(&alice), there, &ttl).await.unwrap();
    assert_eq!(alice.principal().await, None);
}

async fn a_wrapper_of_five_methods_writes_for_old_servers_too(tested: impl TestStore) {
    let wrapped = || {
        let builder = SessionMiddleware::builder(Wrapper(tested.store()), tested.key().clone());
        for_old_servers(builder.clock(tested.clock().clone()))
    };
    let browser = tested.browser_of(wrapped()).await;
    let expected = published_api(&browser).await;
    assert_eq!(
        states(&tested.dump().await),
        std::slice::from_ref(&expected)
    );
    browser.visit(login("ferris")).await.assert_sets_cookie();
    let bare = browser.at(Site::new(for_old_servers(tested.middleware()).build()).await);
    for browser in [&browser, &bare, &browser, &bare] {
        assert_eq!(browser.principal().await.as_deref(), Some("ferris"));
        browser.visit(Session::renew).await.assert_sets_cookie();
        let mut states = states(&tested.dump().await);
        assert_eq!(states.len(), 1);
        assert!(states[0].remove(RESERVED).is_some());
        assert_eq!(states[0], expected);
    }
}

async fn a_clear_through_five_methods_logs_out(tested: impl TestStore) {
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let bare = tested.middleware().wire_format(format);
        let wrapped = SessionMiddleware::builder(Wrapper(tested.store()), tested.key().clone());
        let wrapped = wrapped.clock(tested.clock().clone()).wire_format(format);
        let own = SessionMiddleware::builder(FiveMethods::default(), Key::generate());
        let bare = Site::new(bare.build()).await;
        for browser in [
            tested.browser_of(wrapped).await,
            tested.browser_of(own.wire_format(format)).await,
        ] {
            let enter = |s: &Session| {
                s.insert("n", 1).unwrap();
                s.login("ferris").unwrap();
            };
            browser.visit(enter).await.assert_sets_cookie();
            assert_eq!(browser.principal().await.as_deref(), Some("ferris"));
            browser.visit(Session::clear).await.assert_ok();
            assert!(browser.is_nobody().await, "{format:?}");
            assert!(browser.at(bare.clone()).is_nobody().await, "{format:?}");
            browser
                .visit(|s| s.insert("m", 1).unwrap())
                .await
                .assert_ok();
            assert_eq!(browser.principal().await, None, "{format:?}");
            assert_eq!(browser.number("m").await, Some(1), "{format:?}");
        }
    }
}

async fn a_clear_is_no_entry_and_what_began_before_it_stays_cleared(tested: impl TestStore) {
    let browser = old_fleet(&tested).await;
    browser.visit(set("n", 1)).await.assert_sets_cookie();
    let late = browser.begin().await;
    browser.visit(clear_and_set("m", 1)).await.assert_ok();
    late.insert("n", 2).unwrap();
    late.finish().await.assert_ok();
    assert_eq!(states(&tested.dump().await), [state(&[("m", "1")])]);
}

/// Records without an id are compared as texts, which a `clear` has to change all the same.
async fn a_clear_that_leaves_the_entries_as_they_were_counts(tested: impl TestStore) {
    let browser = old_fleet(&tested).await;
    browser.visit(set("n", 1)).await.assert_sets_cookie();
    let first = browser.begin().await;
    browser.visit(clear_and_set("n", 1)).await.assert_ok();
    let second = browser.begin().await;
    browser.visit(set("m", 1)).await.assert_ok();
    browser.visit(clear_and_set("n", 1)).await.assert_ok();
    for late in [first, second] {
        late.insert("late", 1).unwrap();
        late.finish().await.assert_ok();
    }
    assert_eq!(states(&tested.dump().await), [state(&[("n", "1")])]);
}

/// The text of the present format keeps the epoch of a `clear`, and that of the older one does not.
async fn a_clear_outlives_a_change_of_the_format(tested: impl TestStore) {
    let browser = tested.browser_of(tested.middleware()).await;
    let old = browser.at(Site::new(for_old_servers(tested.middleware()).build()).await);
    browser.visit(set("n", 1)).await.assert_sets_cookie();
    let late = old.begin().await;
    browser.visit(clear_and_set("m", 1)).await.assert_ok();
    old.visit(set("k", 1)).await.assert_ok();
    late.insert("n", 2).unwrap();
    late.finish().await.assert_ok();
    let expected = state(&[("m", "1"), ("k", "1")]);
    assert_eq!(states(&tested.dump().await), [expected]);
}

/// Old servers open the MAC over the value alone.
#[actix_web::test]
async fn each_format_signs_cookies_in_its_own_way() {
    let tested = Memory::start().await;
    let signed = || {
        let builder = tested.middleware();
        builder.cookie_content_security(CookieContentSecurity::Signed)
    };
    let browser = tested.browser_of(signed()).await;
    browser.visit(set("n", 1)).await.assert_sets_cookie();
    let old = browser.at(Site::new(for_old_servers(signed()).build()).await);
    old.visit(|_| ()).await.assert_sets_cookie();
    old.visit(|_| ()).await.assert_no_cookie();
    let new = old.at(Site::new(signed().build()).await);
    new.visit(|_| ()).await.assert_sets_cookie();
    new.visit(|_| ()).await.assert_no_cookie();
    assert_eq!(new.number("n").await, Some(1));
}

/// While the setting for old servers is removed, servers with it and without it run side by side.
async fn a_clear_for_old_servers_holds_for_those_that_write_the_present_format(
    tested: impl TestStore,
) {
    let present = Site::new(tested.middleware().build()).await;
    for replaced in [false, true] {
        let old = old_fleet(&tested).await;
        let new = || old.at(present.clone());
        old.visit(set("n", 1)).await.assert_sets_cookie();
        let (first, second) = (new().begin().await, new().begin().await);
        old.visit(clear_and_set(if replaced { "n" } else { "m" }, 7))
            .await
            .assert_ok();
        first
            .modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))
            .unwrap();
        first.finish().await.assert_ok();
        // What is loaded afterwards is committed, and keeps the epoch in its text.
        let later = new().begin().await;
        old.visit(set("k", 1)).await.assert_ok();
        later.insert("later", 1).unwrap();
        later.finish().await.assert_ok();
        second.insert("late", 1).unwrap();
        second.finish().await.assert_ok();
        let seen = new();
        for (name, expected) in [
            ("n", replaced.then_some(7)),
            ("m", (!replaced).then_some(7)),
            ("k", Some(1)),
            ("later", Some(1)),
            ("late", None),
        ] {
            assert_eq!(seen.number(name).await, expected, "{name} {replaced}");
        }
    }
}

/// It has the store, and no key.
async fn a_program_that_updates_a_record_itself_logs_in_nobody(tested: impl TestStore) {
    let store = tested.store();
    let ttl = Duration::hours(1);
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let builder = tested.middleware().wire_format(format);
        let browser = tested.browser_of(builder).await;
        browser.visit(login("ferris")).await.assert_sets_cookie();
        let key = || key_of(&browser, tested.key());
        let mut there = store.load(&key()).await.unwrap().unwrap();
        there.insert("n".to_owned(), "1".to_owned());
        store.update(key(), there.clone(), &ttl).await.unwrap();
        assert_eq!(browser.number("n").await, Some(1), "{format:?}");
        let still = browser.principal().await;
        assert_eq!(still.as_deref(), Some("ferris"), "{format:?}");
        there.remove(RESERVED).unwrap();
        store.update(key(), there.clone(), &ttl).await.unwrap();
        assert_eq!(browser.number("n").await, Some(1), "{format:?}");
        assert_eq!(browser.principal().await, None, "{format:?}");
    }
}

/// Made with the first key, opened with all of them.
#[actix_web::test]
async fn a_key_that_is_taken_out_takes_its_logins_with_it() {
    use crate::support::Sqlite;

    let tested = Sqlite::start().await;
    let with = |key: &Key, previous: &[&Key]| {
        let builder = SessionMiddleware::builder(tested.store(), key.clone());
        let builder = builder.clock(tested.clock().clone());
        let previous = previous.iter().copied().cloned();
        for_old_servers(builder.previous_keys(previous))
    };
    let (old, new) = (Key::generate(), Key::generate());
    let browser = tested.browser_of(with(&old, &[])).await;
    browser.visit(login("ferris")).await.assert_sets_cookie();
    let copy = browser.fork();
    let rotated = browser.at(Site::new(with(&new, &[&old]).build()).await);
    assert_eq!(rotated.principal().await.as_deref(), Some("ferris"));
    rotated
        .visit(|s| s.insert("n", 1).unwrap())
        .await
        .assert_ok();
    let done = rotated.at(Site::new(with(&new, &[]).build()).await);
    assert_eq!(done.principal().await.as_deref(), Some("ferris"));
    let late = copy.at(Site::new(with(&old, &[]).build()).await);
    assert_eq!(late.number("n").await, Some(1));
    assert_eq!(late.principal().await, None);
}

/// Any request takes the session along to the new key, whatever store it is in.
async fn a_visit_takes_a_login_along_to_the_new_key(tested: impl TestStore) {
    takes_a_login_along(|| tested.store(), tested.clock()).await;
    takes_a_login_along(|| Wrapper(tested.store()), tested.clock()).await;
}

async fn takes_a_login_along<S: SessionStore + 'static>(
    store: impl Fn() -> S,
    clock: &ManualClock,
) {
    let with = |key: &Key, previous: &[&Key]| {
        let builder = SessionMiddleware::builder(store(), key.clone()).clock(clock.clone());
        let previous = previous.iter().copied().cloned();
        for_old_servers(builder.previous_keys(previous)).build()
    };
    let (old, new) = (Key::generate(), Key::generate());
    let browser = Browser::new(Site::new(with(&old, &[])).await);
    browser.visit(login("ferris")).await.assert_sets_cookie();
    let rotated = browser.at(Site::new(with(&new, &[&old])).await);
    assert_eq!(rotated.principal().await.as_deref(), Some("ferris"));
    // Once is enough.
    rotated
        .visit(|s| drop(s.entries()))
        .await
        .assert_no_cookie();
    let done = rotated.at(Site::new(with(&new, &[])).await);
    assert_eq!(done.principal().await.as_deref(), Some("ferris"));
}

/// Cookie-stored sessions with a list, behind a wrapper that knows of five methods alone.
#[actix_web::test]
async fn a_wrapped_list_of_ended_sessions_ends_the_old_ones_alone() {
    use crate::support::Memory;

    for format in [WireFormat::V1, WireFormat::V0_11] {
        let list = Memory::start().await;
        let store = CookieSessionStore::default()
            .clock(list.clock().clone())
            .with_revocation(list.store());
        let builder = SessionMiddleware::builder(Wrapper(store), Key::generate());
        let builder = builder.clock(list.clock().clone()).wire_format(format);
        let browser = list.browser_of(builder).await;
        let mut copies = Vec::new();
        let principal = |browser: &Browser| {
            let browser = browser.clone();
            async move { browser.principal().await }
        };
        browser
            .visit(|s| s.insert("guest", 1).unwrap())
            .await
            .assert_sets_cookie();
        copies.push(browser.fork());
        browser.visit(login("ferris")).await.assert_sets_cookie();
        for n in 0..3 {
            assert_eq!(principal(&browser).await.as_deref(), Some("ferris"));
            let older = browser.fork();
            browser
                .visit(|s| s.insert("n", n).unwrap())
                .await
                .assert_sets_cookie();
            list.clock().advance(StdDuration::from_secs(1));
            copies.extend([older, browser.fork()]);
            browser.visit(Session::renew).await.assert_sets_cookie();
            for copy in &copies {
                assert!(copy.is_nobody().await, "{format:?}");
            }
        }
        assert_eq!(principal(&browser).await.as_deref(), Some("ferris"));
        let before = browser.fork();
        browser.visit(Session::clear).await.assert_sets_cookie();
        assert!(before.is_nobody().await, "{format:?}");
        browser
            .visit(|s| s.insert("m", 1).unwrap())
            .await
            .assert_ok();
        assert_eq!(browser.number("m").await, Some(1), "{format:?}");
        assert_eq!(principal(&browser).await, None);
        browser.visit(login("ferris")).await.assert_sets_cookie();
        let (older, latest) = (browser.fork(), browser.clone());
        latest
            .visit(|s| s.insert("k", 1).unwrap())
            .await
            .assert_ok();
        let newest = latest.fork();
        latest.visit(Session::purge).await.assert_removes_cookie();
        for copy in [&older, &newest] {
            assert!(copy.is_nobody().await, "{format:?}");
        }
    }
}

/// A cookie-stored session has its end in blanks behind the text, which old servers skip.
/// Only another cookie extends such a session, and the five methods have no other way to say so.
#[actix_web::test]
async fn a_wrapped_cookie_is_extended() {
    let every = TtlExtensionPolicy::OnEveryRequest;
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let clock = ManualClock::new();
        let store = Wrapper(CookieSessionStore::default().clock(clock.clone()));
        let lifecycle = PersistentSession::default()
            .session_ttl(Duration::hours(1))
            .session_ttl_extension_policy(every.clone());
        let builder = SessionMiddleware::builder(store, Key::generate())
            .clock(clock.clone())
            .wire_format(format)
            .session_lifecycle(lifecycle);
        let browser = Browser::new(Site::new(builder.build()).await);
        browser.visit(login("ferris")).await.assert_sets_cookie();
        for _ in 0..6 {
            clock.advance(StdDuration::from_secs(40 * 60));
            browser.visit(|_| ()).await.assert_ok().assert_sets_cookie();
            assert_eq!(browser.principal().await.as_deref(), Some("ferris"));
        }
        clock.advance(StdDuration::from_secs(3600));
        assert!(browser.is_nobody().await);
    }
}

/// An old server copies the reserved entry. The end in it would log out whoever is active there.
#[actix_web::test]
async fn a_change_by_an_old_server_is_activity() {
    let (clock, key) = (ManualClock::new(), Key::generate());
    let minutes = |minutes: u64| clock.advance(StdDuration::from_secs(60 * minutes));
    let store = CookieSessionStore::default().clock(clock.clone());
    let lifecycle = PersistentSession::default().session_ttl(Duration::hours(1));
    let builder = for_old_servers(SessionMiddleware::builder(store, key.clone()));
    let builder = builder.clock(clock.clone()).session_lifecycle(lifecycle);
    let browser = Browser::new(Site::new(builder.build()).await);
    browser.visit(login("ferris")).await.assert_sets_cookie();
    minutes(40);
    let text = opened(&key, "id", &browser.value().unwrap()).unwrap();
    let mut state: State = serde_json::from_str(&text).unwrap();
    state.insert("n".to_owned(), "1".to_owned());
    let text = serde_json::to_string(&state).unwrap();
    browser.set_cookie("id", private(&key, "id", &text));
    minutes(40);
    assert_eq!(browser.principal().await.as_deref(), Some("ferris"));
    // From its first sight on, it has an end again.
    minutes(59);
    assert_eq!(browser.number("n").await, Some(1));
    minutes(1);
    assert!(browser.is_nobody().await);
}

#[actix_web::test]
async fn a_cookie_for_old_servers_ends_and_has_the_entries_of_the_program_alone() {
    let (clock, key) = (ManualClock::new(), Key::generate());
    let builder = SessionMiddleware::builder(
        CookieSessionStore::default().clock(clock.clone()),
        key.clone(),
    );
    let builder = for_old_servers(builder)
        .clock(clock.clone())
        .legacy_cookies_until(std::time::UNIX_EPOCH);
    let browser = Browser::new(Site::new(builder.build()).await);
    let expected = published_api(&browser).await;
    let value = opened(&key, "id", &browser.value().unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<State>(&value).unwrap(), expected);
    assert_ne!(value.trim_end(), value);
    // It needs no other cookie, and no request moves its end.
    clock.advance(StdDuration::from_secs(23 * 3600));
    browser.visit(|_| ()).await.assert_ok().assert_no_cookie();
    let copy = browser.fork();
    browser
        .visit(|s| s.insert("m", 1).unwrap())
        .await
        .assert_sets_cookie();
    clock.advance(StdDuration::from_secs(3600));
    assert!(copy.is_nobody().await);
    assert_eq!(browser.number("n").await, Some(2));
    // Only a login needs more than that.
    browser.visit(login("ferris")).await.assert_sets_cookie();
    let value = opened(&key, "id", &browser.value().unwrap()).unwrap();
    assert!(
        serde_json::from_str::<State>(&value)
            .unwrap()
            .contains_key(RESERVED)
    );
    clock.advance(StdDuration::from_secs(24 * 3600));
    assert!(browser.is_nobody().await);
}
