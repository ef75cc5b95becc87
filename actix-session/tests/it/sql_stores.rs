//! What only SQL stores have: rows, their times, the sweeper.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use actix_session::{
    Clock, Login, Session, SessionManager, SessionOperator,
    config::{CookieContentSecurity, OverLimit, PersistentSession, TtlExtensionPolicy, WireFormat},
    storage::{SessionIndex, SessionKey, SessionStore},
    testing::ManualClock,
};
use actix_web::{cookie::time, rt};
use futures_util::future::join_all;

use crate::{
    attacks::capture,
    support::{
        Browser, Flight, Postgres, Site, SqlTestStore, Sqlite, TestStore, count, expected,
        fill_store, guest, on_each_database, on_store, soon,
    },
};

macro_rules! on_each_sql_store {
    ($($test:ident),+ $(,)?) => {
        on_store!(on_sqlite Sqlite: $($test)+);
        on_store!(on_postgres Postgres: $($test)+);
        on_store!(on_pgbouncer Pooled: $($test)+);
        on_store!(on_mysql MySql: $($test)+);
    };
}

on_each_sql_store! {
    a_row_past_its_end_is_there_and_nobody_sees_it,
    a_dump_holds_nothing_that_opens_a_session,
    rows_that_cannot_be_read_stay_as_they_are,
    what_cannot_be_read_ends_by_a_cookie_for_old_servers_too,
    marks_that_cannot_be_read_lead_nowhere,
    marks_that_lead_in_a_circle_lead_nowhere,
    a_lock_that_is_nobodys_keeps_nobody_waiting,
    an_extension_keeps_to_the_sessions_own_ttl_and_end,
    rows_written_by_hand_are_compared_as_a_whole,
    the_principal_has_a_column,
    servers_whose_clocks_differ,
}

// MySQL's column takes no longer one.
on_store!(ids_on_sqlite Sqlite: an_id_of_any_length_ends);
on_store!(ids_on_postgres Postgres: an_id_of_any_length_ends);
on_store!(ids_on_pgbouncer Pooled: an_id_of_any_length_ends);

// MySQL's column takes no text of another length.
on_store!(damage_on_sqlite Sqlite: a_damaged_row_hides_no_other times_of_any_type_hide_no_other no_time_outlives_a_revocation);
on_store!(damage_on_postgres Postgres: a_damaged_row_hides_no_other);

on_store!(counts_on_postgres Postgres: counting_may_take_longer_than_a_request);

const HOUR: Duration = Duration::from_secs(3_600);

async fn a_row_past_its_end_is_there_and_nobody_sees_it(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    flight.insert("late", 1).unwrap();
    tested.clock().advance(25 * HOUR);
    let before = tested.dump().await;
    assert_eq!(before.records().len(), 1, "nobody has swept");
    assert!(browser.is_nobody().await);
    flight.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await, before, "what is over is not written");
}

async fn a_dump_holds_nothing_that_opens_a_session(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    let login = |s: &Session| s.login("ferris").unwrap();
    browser.visit(login).await.assert_ok().assert_sets_cookie();
    let state = HashMap::from([("n".to_owned(), "1".to_owned())]);
    let ttl = time::Duration::hours(1);
    let store = tested.store();
    let key = store.save(state.clone(), &ttl).await.unwrap();
    let dump = tested.dump().await;
    assert_eq!((dump.records().len(), dump.redirects()), (2, 1));
    for (name, text) in &dump.0 {
        assert!(!name.contains(key.as_ref()) && !text.contains(key.as_ref()));
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        for word in words.chain([name.as_str()]).filter(|word| !word.is_empty()) {
            let tried = SessionKey::try_from(word.to_owned()).unwrap();
            assert!(store.load(&tried).await.unwrap().is_none(), "{word}");
        }
    }
    assert_eq!(store.load(&key).await.unwrap().unwrap()["n"], "1");
}

async fn rows_that_cannot_be_read_stay_as_they_are(tested: impl SqlTestStore) {
    for state in [
        "NULL",
        "'garbage'",
        "''",
        r#"'{"v":2,"state":{"a":1}}'"#,
        r#"'{"v":1,"state":[]}'"#,
    ] {
        let browser = guest(&tested).await;
        let flight = browser.begin().await;
        tested
            .execute(&format!("UPDATE {{t}} SET state = {state}"))
            .await;
        let before = tested.dump().await;
        assert!(browser.is_nobody().await, "{state}");
        flight.insert("b", 2).unwrap();
        // A commit that meets what it cannot read is an error and changes nothing.
        flight.finish().await.assert_opaque();
        assert_eq!(tested.dump().await, before, "{state}");
        let old = browser.fork();
        let write = |s: &Session| s.insert("c", 3).unwrap();
        browser.visit(write).await.assert_ok().assert_sets_cookie();
        let dump = tested.dump().await;
        assert_eq!(dump.0.len(), 2, "{state}");
        assert!(dump.0.contains(&before.0[0]), "{state}");
        // Ending works undecoded.
        old.visit(Session::purge)
            .await
            .assert_ok()
            .assert_removes_cookie();
        assert_eq!(
            tested.dump().await.only(),
            expected(&[("c", "3")]),
            "{state}"
        );
        browser.visit(Session::purge).await.assert_ok();
        assert!(tested.dump().await.0.is_empty());
    }
}

/// The name of its cookie is not part of the MAC, so the value may be that of another cookie of the
/// application. Here it is not: there is something under this name.
async fn what_cannot_be_read_ends_by_a_cookie_for_old_servers_too(tested: impl SqlTestStore) {
    let middleware = tested
        .middleware()
        .wire_format(WireFormat::V0_11)
        .cookie_content_security(CookieContentSecurity::Signed);
    let browser = tested.browser_of(middleware).await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    let newer = r#"UPDATE {t} SET state = '{"v":2,"state":{}}'"#;
    assert_eq!(tested.execute(newer).await, 1);
    browser
        .visit(Session::purge)
        .await
        .assert_ok()
        .assert_removes_cookie();
    assert!(tested.dump().await.0.is_empty());
}

async fn marks_that_cannot_be_read_lead_nowhere(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    let old = browser.fork();
    let flight = old.begin().await;
    browser.visit(Session::renew).await.assert_ok();
    let changed = "UPDATE {t} SET moved_flag = NULL, moved_at = NULL WHERE moved_to IS NOT NULL";
    assert_eq!(tested.execute(changed).await, 1);
    flight.insert("b", 2).unwrap();
    flight.finish().await.assert_ok().assert_no_cookie();
    assert!(old.is_nobody().await);
    assert_eq!(browser.number("a").await, Some(1));
    assert_eq!(browser.number("b").await, None);
}

async fn marks_that_lead_in_a_circle_lead_nowhere(tested: impl SqlTestStore) {
    let to_itself = "moved_to = id";
    let to_the_other = "moved_to = (SELECT other FROM (SELECT id AS other FROM {t}) AS others \
                        WHERE other <> {t}.id)";
    for (rows, circle) in [(1, to_itself), (2, to_the_other)] {
        let end: [fn(&Session); 4] = [
            Session::purge,
            Session::logout,
            |s| s.clear(),
            |s| s.insert("b", 2).unwrap(),
        ];
        for (number, end) in end.into_iter().enumerate() {
            let browsers = [guest(&tested).await, guest(&tested).await];
            let mut flights = Vec::new();
            for browser in &browsers[..rows] {
                flights.push(browser.begin().await);
            }
            for browser in &browsers[rows..] {
                browser.visit(Session::purge).await.assert_ok();
            }
            tested
                .execute("DELETE FROM {t} WHERE moved_to IS NOT NULL")
                .await;
            let changed = format!(
                "UPDATE {{t}} SET {circle}, state = NULL, moved_flag = 'p', moved_at = {}",
                millis(tested.clock())
            );
            assert_eq!(tested.execute(&changed).await, rows as u64);
            for flight in flights {
                end(&flight);
                flight.finish().await.assert_ok();
            }
            for browser in &browsers[..rows] {
                assert!(browser.is_nobody().await, "{circle}, {number}");
            }
            tested.execute("DELETE FROM {t}").await;
        }
    }
}

/// Of all rows that belong to nobody, the lock of a login that may be refused is one.
async fn a_lock_that_is_nobodys_keeps_nobody_waiting(
    tested: impl SqlTestStore<Store: SessionIndex>,
) {
    let middleware = tested
        .middleware()
        .max_sessions(100, OverLimit::Refuse)
        .commit_budget(Duration::from_secs(20));
    let site = Site::new(middleware.build()).await;
    let login = async || {
        let browser = Browser::new(site.clone());
        let login = |s: &Session| s.login("ferris").unwrap();
        browser.visit(login).await.assert_ok().assert_sets_cookie();
    };
    login().await;
    let held_until = |end: i64| format!("'{{\"v\":1,\"f\":\"1.1.{end}...0.\",\"state\":{{}}}}'");
    let hours = |n: i64| n * 3_600_000;
    let now = millis(tested.clock());
    for state in [
        "NULL",
        "'garbage'",
        r#"'{"v":2,"state":{}}'"#,
        r#"'{"v":1,"state":{}}'"#,
        &held_until(now + hours(1)),
        &held_until(i64::MAX),
    ] {
        let lock = "WHERE principal IS NULL AND moved_to IS NULL";
        let changed = format!("UPDATE {{t}} SET state = {state}, revision = NULL {lock}");
        assert_eq!(tested.execute(&changed).await, 1, "{state}");
        login().await;
        login().await;
    }
}

async fn a_damaged_row_hides_no_other(tested: impl SqlTestStore<Store: SessionIndex>) {
    only_the_damaged_is_left_out(&tested, "session_id = 'x'").await;
}

/// SQLite's columns take any type.
async fn times_of_any_type_hide_no_other(tested: impl SqlTestStore<Store: SessionIndex>) {
    for damage in [
        "logged_in = 'yesterday'",
        "logged_in = 0.5",
        "session_id = 1",
    ] {
        only_the_damaged_is_left_out(&tested, damage).await;
    }
}

/// A text is later than any number, and so is a blob.
async fn no_time_outlives_a_revocation(tested: impl SqlTestStore<Store: SessionIndex>) {
    let sessions: SessionManager = tested.middleware().build().manager();
    for damage in [
        "logged_in = 'yesterday'",
        "logged_in = x'00'",
        "logged_in = 1e300",
        "logged_in = NULL, authenticated = 'once'",
        "logged_in = NULL, authenticated = NULL, created = 'once'",
    ] {
        for all in [true, false] {
            let browser = guest(&tested).await;
            let login = |s: &Session| s.login("ferris").unwrap();
            browser.visit(login).await.assert_ok();
            let live = "state IS NOT NULL AND moved_to IS NULL";
            let changed = format!("UPDATE {{t}} SET {damage} WHERE {live}");
            assert_eq!(tested.execute(&changed).await, 1, "{damage}");
            tested.clock().advance(Duration::from_secs(1));
            if all {
                sessions.revoke_all("ferris").await.unwrap();
            } else {
                let other = guest(&tested).await;
                other.visit(login).await.assert_ok();
                let flight = other.begin().await;
                sessions.revoke_others(&flight.handle()).await.unwrap();
                flight.finish().await.assert_ok();
                other.visit(Session::purge).await.assert_ok();
            }
            let left = format!("SELECT COUNT(*) FROM {{t}} WHERE {live}");
            assert_eq!(tested.number(&left).await, 0, "{damage}");
            assert!(browser.is_nobody().await);
        }
    }
}

/// Of five rows, two are damaged. Pages of each size show the others.
async fn only_the_damaged_is_left_out(
    tested: &impl SqlTestStore<Store: SessionIndex>,
    damage: &str,
) {
    capture::install();
    let sessions: SessionManager = tested.middleware().build().manager();
    let principal = format!("who met {damage}");
    let quoted = principal.replace('\'', "''");
    for device in ["one", "two", "three", "four", "five"] {
        let login = Login::new(&*principal).device(device);
        let browser = guest(tested).await;
        browser
            .visit(|s| s.login_with(login.clone()).unwrap())
            .await
            .assert_ok();
        if ["two", "four"].contains(&device) {
            let latest = format!("(SELECT MAX(created) FROM {{t}} WHERE principal = '{quoted}')");
            let its = format!("principal = '{quoted}' AND created = {latest}");
            let changed = format!("UPDATE {{t}} SET {damage} WHERE {its}");
            assert_eq!(tested.execute(&changed).await, 1, "{damage}");
        }
        tested.clock().advance(Duration::from_secs(1));
    }
    for limit in [1, 2, 3, 50] {
        let mut page = sessions.first_page(&principal, limit).await.unwrap();
        let mut devices = Vec::new();
        loop {
            let next = page.next_page();
            devices.extend(page.map(|it| it.device().unwrap().to_owned()));
            match next {
                Some(next) => page = sessions.list_page(&principal, next, limit).await.unwrap(),
                None => break,
            }
        }
        assert_eq!(devices, ["five", "three", "one"], "{damage}, {limit}");
    }
    assert!(capture::told(&[
        "rows are left out of the list of a user's sessions"
    ]));
}

/// Whatever a request's statement may take.
async fn counting_may_take_longer_than_a_request(tested: Postgres) {
    let _ = guest(&tested).await;
    let store = tested
        .store_through(tested.url(), Duration::from_millis(100))
        .await;
    let table = tested.table();
    for sql in [
        format!("ALTER TABLE {{t}} RENAME TO \"{table}_rows\""),
        format!("CREATE VIEW {{t}} AS SELECT r.* FROM \"{table}_rows\" AS r, pg_sleep(0.3)"),
    ] {
        tested.execute(&sql).await;
    }
    let stats = SessionOperator::of_store(&store).stats().await.unwrap();
    assert_eq!(stats.live(), Some(1));
}

/// The column has no limit in PostgreSQL and SQLite, but messages have one.
async fn an_id_of_any_length_ends(tested: impl SqlTestStore<Store: SessionIndex>) {
    let sessions: SessionManager = tested.middleware().build().manager();
    for by_manager in [false, true] {
        let browser = guest(&tested).await;
        let login = |s: &Session| s.login("ferris").unwrap();
        browser.visit(login).await.assert_ok();
        let long = format!("'{}'", "a".repeat(10_000));
        let changed = format!("UPDATE {{t}} SET session_id = {long} WHERE state IS NOT NULL");
        assert_eq!(tested.execute(&changed).await, 1);
        if by_manager {
            assert_eq!(sessions.revoke_all("ferris").await.unwrap(), 1);
        } else {
            browser.visit(Session::logout).await.assert_ok();
        }
        assert!(browser.is_nobody().await);
        tested.execute("DELETE FROM {t}").await;
        tested.execute("DELETE FROM {not_before}").await;
    }
}

async fn an_extension_keeps_to_the_sessions_own_ttl_and_end(tested: impl SqlTestStore) {
    let lifecycle = PersistentSession::default()
        .session_ttl(time::Duration::hours(2))
        .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let middleware = tested
        .middleware()
        .session_lifecycle(lifecycle)
        .absolute_timeout(time::Duration::hours(4));
    let browser = tested.browser_of(middleware).await;
    let began = millis(tested.clock());
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    let hours = |n: i64| n * 3_600_000;
    let end = async || tested.number("SELECT expires FROM {t}").await - began;
    assert_eq!(end().await, hours(2));
    tested.clock().advance(HOUR);
    browser.visit(|_| {}).await.assert_ok();
    assert_eq!(end().await, hours(3), "the policy's TTL");
    browser
        .visit(|s| s.set_ttl(time::Duration::minutes(90)))
        .await
        .assert_ok();
    tested.clock().advance(HOUR);
    browser.visit(|_| {}).await.assert_ok();
    assert_eq!(end().await, hours(3) + hours(1) / 2, "its own TTL");
    tested.clock().advance(HOUR);
    browser.visit(|_| {}).await.assert_ok();
    assert_eq!(end().await, hours(4), "its absolute end");
    assert_eq!(browser.number("a").await, Some(1));
    tested.clock().advance(HOUR);
    assert!(browser.is_nobody().await);
}

fn millis(clock: &ManualClock) -> i64 {
    use actix_session::Clock as _;
    crate::support::millis(clock.now()).try_into().unwrap()
}

async fn rows_written_by_hand_are_compared_as_a_whole(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    for revision in ["NULL", "17"] {
        // In SQLite a text, as tools import it.
        let dump = tested.dump().await;
        let (_, state) = dump
            .0
            .iter()
            .find(|(_, text)| text.starts_with('{'))
            .unwrap();
        let by_hand = format!(
            "UPDATE {{t}} SET state = '{state}', revision = {revision} WHERE state IS NOT NULL"
        );
        tested.execute(&by_hand).await;
        let flights = join_all((0..8).map(|_| browser.begin())).await;
        flights.iter().for_each(|flight| count(flight));
        for answer in join_all(flights.into_iter().map(Flight::finish)).await {
            answer.assert_ok();
        }
        let by_hand = format!("UPDATE {{t}} SET revision = {revision} WHERE state IS NOT NULL");
        tested.execute(&by_hand).await;
        browser
            .visit(Session::renew)
            .await
            .assert_ok()
            .assert_sets_cookie();
    }
    assert_eq!(
        tested.dump().await.only(),
        expected(&[("a", "1"), ("n", "16")])
    );
}

async fn the_principal_has_a_column(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    let logged_in = "SELECT COUNT(*) FROM {t} WHERE principal IS NOT NULL";
    assert_eq!(tested.number(logged_in).await, 0);
    browser
        .visit(|s| s.login("ferris").unwrap())
        .await
        .assert_ok();
    let ferris = "SELECT COUNT(*) FROM {t} WHERE principal = 'ferris' AND moved_to IS NULL";
    assert_eq!(tested.number(ferris).await, 1);
    // Longer than any index takes, and with a character that PostgreSQL does not have.
    let long = "x".repeat(1_000);
    for principal in [long.as_str(), "a\0b"] {
        browser
            .visit(|s| s.login(principal).unwrap())
            .await
            .assert_ok();
        assert_eq!(browser.principal().await.as_deref(), Some(principal));
    }
    browser.visit(Session::clear).await.assert_ok();
    assert_eq!(
        tested.number(logged_in).await,
        0,
        "the redirect names nobody"
    );
}

/// Each server compares with its own clock: a difference moves ends by as much, and no more.
async fn servers_whose_clocks_differ(tested: impl SqlTestStore) {
    let browser = guest(&tested).await;
    let ahead = ManualClock::at({
        use actix_session::Clock as _;
        tested.clock().now() + HOUR
    });
    let other = tested
        .browser_of(tested.middleware().clock(ahead.clone()))
        .await;
    let other = browser.at(other.site.clone());
    assert_eq!(other.number("a").await, Some(1));
    other.visit(|s| s.insert("b", 2).unwrap()).await.assert_ok();
    // Written by the clock that is ahead: 25 hours for the one behind.
    tested.clock().advance(24 * HOUR + HOUR / 2);
    assert_eq!(browser.number("b").await, Some(2));
    ahead.advance(24 * HOUR);
    assert!(other.is_nobody().await);
    assert_eq!(browser.number("a").await, Some(1), "nothing was deleted");
}

macro_rules! sweeps {
    ($tested:ident, $store:ident) => {
        let store = $tested.store();
        let long = fill_store(&store, 23).await;
        let browser = guest(&$tested).await;
        browser.visit(Session::renew).await.assert_ok();
        assert_eq!(store.sweep(100).await.unwrap(), 0);
        $tested.clock().advance(2 * HOUR);
        assert_eq!(store.sweep(10).await.unwrap(), 10, "a batch");
        // Two servers; they take turns if the database has locks for that.
        let sweepers = [0, 1].map(|_| store.spawn_sweeper(Duration::from_millis(2), 5));
        let rows = "SELECT COUNT(*) FROM {t}";
        while $tested.number(rows).await > 2 || sweepers.iter().any(|s| s.runs() < 2) {
            rt::time::sleep(Duration::from_millis(5)).await;
        }
        let swept: u64 = sweepers.iter().map(|sweeper| sweeper.swept()).sum();
        assert_eq!(swept, 14, "13 sessions and the redirect");
        for sweeper in sweepers {
            sweeper.stop().await;
        }
        assert!(store.load(&long).await.unwrap().is_some());
        assert_eq!(browser.number("a").await, Some(1));
    };
}
on_each_database!(the_sweeper_deletes_what_is_over_and_nothing_else, sweeps);

/// A clock that panics once when a test says so.
struct Frail(Arc<AtomicBool>);

impl Clock for Frail {
    fn now(&self) -> SystemTime {
        assert!(!self.0.swap(false, Ordering::SeqCst), "a clock");
        SystemTime::now()
    }
}

#[actix_web::test]
async fn a_sweeper_goes_on_after_a_panic() {
    let tested = Sqlite::start().await;
    let panics = Arc::new(AtomicBool::new(false));
    let builder = tested.builder(tested.url());
    let builder = builder.clock(Frail(Arc::clone(&panics)));
    let store = builder.build().await.unwrap();
    let sweeper = store.spawn_sweeper(Duration::from_millis(2), 5);
    let until = async |is_so: &dyn Fn() -> bool| {
        soon(async {
            while !is_so() {
                rt::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    until(&|| sweeper.runs() > 0).await;
    panics.store(true, Ordering::SeqCst);
    until(&|| !panics.load(Ordering::SeqCst)).await;
    let runs = sweeper.runs();
    until(&|| sweeper.runs() > runs + 1).await;
    sweeper.stop().await;
}
