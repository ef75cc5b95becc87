//! Renewals: one atomic step, what forwards through their redirects, and what never does.

use std::time::Duration;

use actix_session::SessionMiddleware;
use servers::RedisServer;

use crate::support::{Browser, Redis, Spy, TestStore, expected, on_each_store_and_pooler};

on_each_store_and_pooler! {
    a_renewal_moves_the_record_and_leaves_a_mark,
    a_renewal_takes_along_what_others_committed,
    a_double_clicked_login_is_logged_in_by_its_own_changes,
    a_planted_key_opens_nothing_after_the_login,
    a_planted_key_in_flight_changes_nothing_of_the_login,
    two_renewals_of_a_guest_are_one_and_its_own_changes,
    two_renewals_of_somebody_are_one,
    what_was_purged_is_not_copied_by_a_login_that_came_before,
    a_refused_renewal_leaves_the_old_session_working,
    a_renewal_without_a_session_makes_none,
    every_key_is_new,
}

pub(crate) async fn guest(tested: &impl TestStore) -> Browser {
    let browser = tested.browser().await;
    fill(&browser).await;
    browser
}

pub(crate) async fn fill(browser: &Browser) {
    let answer = browser
        .visit(|s| {
            for name in ["a", "b", "c"] {
                s.insert(name, 1).unwrap();
            }
        })
        .await;
    answer.assert_ok().assert_sets_cookie();
}

pub(crate) async fn logged_in(tested: &impl TestStore) -> Browser {
    let browser = guest(tested).await;
    let answer = browser.visit(|s| s.login("user-42").unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
    browser
}

pub(crate) async fn renew(browser: &Browser) {
    let answer = browser.visit(|s| s.renew()).await;
    answer.assert_ok().assert_sets_cookie();
}

async fn a_renewal_moves_the_record_and_leaves_a_mark(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let old = browser.fork();
    let answer = browser
        .visit(|s| {
            s.insert("a", 2).unwrap();
            s.remove("b");
            s.renew();
            // A change after it is no reason to forget it.
            s.insert("d", 3).unwrap();
        })
        .await;
    answer.assert_ok().assert_sets_cookie();
    assert_ne!(browser.value(), old.value());
    let dump = tested.dump().await;
    assert_eq!(dump.only(), expected(&[("a", "2"), ("c", "1"), ("d", "3")]));
    assert_eq!(dump.redirects(), 1);
    assert!(old.is_nobody().await);
    assert_eq!(browser.number("a").await, Some(2));
    // To load a redirect removes no cookie: the newer one may be in the browser.
    old.visit(|_| ()).await.assert_ok().assert_no_cookie();
}

async fn a_renewal_takes_along_what_others_committed(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let renews = browser.begin().await;
    let other = |s: &actix_session::Session| {
        s.insert("a", 5).unwrap();
        s.remove("b");
        s.insert("n", 1).unwrap();
    };
    browser.visit(other).await.assert_ok();
    renews.renew();
    renews.insert("own", 1).unwrap();
    renews
        .modify("n", |n: Option<u8>| Some(n.unwrap_or(0) + 1))
        .unwrap();
    renews.finish().await.assert_ok().assert_sets_cookie();
    assert_eq!(
        tested.dump().await.only(),
        expected(&[("a", "5"), ("c", "1"), ("n", "2"), ("own", "1")])
    );
}

async fn a_double_clicked_login_is_logged_in_by_its_own_changes(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let (first, second) = (browser.begin().await, browser.begin().await);
    for click in [&first, &second] {
        click.login("user-42").unwrap();
        click.insert("own", 1).unwrap();
    }
    first.finish().await.assert_ok().assert_sets_cookie();
    let first = browser.fork();
    second.finish().await.assert_ok().assert_sets_cookie();
    let dump = tested.dump().await;
    let mut records = dump.records();
    records.sort_by_key(|record| record.len());
    assert_eq!(records[0], expected(&[("own", "1")]));
    assert_eq!(
        records[1],
        expected(&[("a", "1"), ("b", "1"), ("c", "1"), ("own", "1")])
    );
    assert_eq!((records.len(), dump.redirects()), (2, 1));
    for tab in [&browser, &first] {
        assert_eq!(tab.principal().await.as_deref(), Some("user-42"));
    }
    // A purge ends one of the two.
    browser.visit(|s| s.purge()).await.assert_removes_cookie();
    assert_eq!(first.principal().await.as_deref(), Some("user-42"));
    assert_eq!(tested.dump().await.records().len(), 1);
}

async fn a_planted_key_opens_nothing_after_the_login(tested: impl TestStore) {
    let attacker = guest(&tested).await;
    let victim = attacker.fork();
    let answer = victim
        .visit(|s| {
            s.insert("secret", "of-42").unwrap();
            s.login("user-42").unwrap();
        })
        .await;
    answer.assert_ok().assert_sets_cookie();
    assert!(attacker.is_nobody().await);
    let dump = tested.dump().await;
    assert_eq!((dump.records().len(), dump.redirects()), (1, 1));
    // No answer ever hands out what the redirect leads to.
    let new = victim.value().unwrap();
    for clock in [0, 10, 60] {
        tested.clock().advance(Duration::from_secs(clock));
        let thief = attacker.fork();
        let answer = thief
            .visit(|s| {
                s.insert("n", 1).unwrap();
                s.renew();
            })
            .await;
        answer.assert_ok();
        assert_ne!(thief.value(), Some(new.clone()));
        assert_eq!(thief.principal().await, None);
        assert_eq!(thief.number("a").await, None);
    }
    assert_eq!(victim.principal().await.as_deref(), Some("user-42"));
    assert!(tested.dump().await.holds("of-42"));
}

async fn a_planted_key_in_flight_changes_nothing_of_the_login(tested: impl TestStore) {
    let attacker = guest(&tested).await;
    let victim = attacker.fork();
    let (writer, counter, clears, logs_in) = (
        attacker.begin().await,
        attacker.begin().await,
        attacker.begin().await,
        attacker.begin().await,
    );
    let answer = victim
        .visit(|s| {
            s.insert("a", "of-42").unwrap();
            s.insert("secret", "of-42").unwrap();
            s.login("user-42").unwrap();
        })
        .await;
    answer.assert_ok().assert_sets_cookie();
    let before = tested.dump().await.sorted();
    writer.insert("a", "planted").unwrap();
    writer.remove("secret");
    writer.insert("secret", "planted").unwrap();
    writer.finish().await.assert_ok().assert_no_cookie();
    counter.modify("secret", |_: Option<String>| None).unwrap();
    counter.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.sorted(), before);
    // A login of his own is a session of his own, which holds nothing of hers.
    logs_in.login("attacker").unwrap();
    logs_in.finish().await.assert_ok().assert_sets_cookie();
    assert!(attacker.number("a").await.is_none());
    assert_eq!(tested.dump().await.records().len(), 2);
    // A logout travels; what the login has set stays all the same.
    clears.clear();
    clears.finish().await.assert_ok().assert_no_cookie();
    let records = tested.dump().await.records();
    let hers = expected(&[("a", "\"of-42\""), ("secret", "\"of-42\"")]);
    assert!(records.contains(&hers), "{records:?}");
}

async fn two_renewals_of_a_guest_are_one_and_its_own_changes(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let (first, bare, writer) = (
        browser.begin().await,
        browser.begin().await,
        browser.begin().await,
    );
    for flight in [&first, &bare, &writer] {
        flight.renew();
    }
    writer.insert("own", 1).unwrap();
    first.finish().await.assert_ok().assert_sets_cookie();
    bare.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.records().len(), 1);
    writer.finish().await.assert_ok().assert_sets_cookie();
    let records = tested.dump().await.records();
    assert_eq!(records.len(), 2);
    assert!(records.contains(&expected(&[("own", "1")])), "{records:?}");
}

async fn two_renewals_of_somebody_are_one(tested: impl TestStore) {
    let browser = logged_in(&tested).await;
    let (first, second) = (browser.begin().await, browser.begin().await);
    first.renew();
    second.insert("own", 1).unwrap();
    second.renew();
    first.finish().await.assert_ok().assert_sets_cookie();
    second.finish().await.assert_ok().assert_no_cookie();
    // Base and principal are not copied, nor is the change: that would be a write by renewal.
    assert_eq!(
        tested.dump().await.only(),
        expected(&[("a", "1"), ("b", "1"), ("c", "1")])
    );
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

async fn what_was_purged_is_not_copied_by_a_login_that_came_before(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let login = browser.begin().await;
    renew(&browser).await;
    browser.visit(|s| s.purge()).await.assert_removes_cookie();
    login.login("user-42").unwrap();
    login.finish().await.assert_ok().assert_sets_cookie();
    assert_eq!(tested.dump().await.only().len(), 0);
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

async fn a_refused_renewal_leaves_the_old_session_working(tested: impl TestStore) {
    let spy = Spy::new(tested.store());
    let middleware =
        SessionMiddleware::builder(spy.clone(), tested.key().clone()).clock(tested.clock().clone());
    let browser = tested.browser_of(middleware).await;
    fill(&browser).await;
    let before = tested.dump().await.sorted();
    spy.refuse(&["rotate"]);
    let login = |s: &actix_session::Session| {
        s.insert("a", 2).unwrap();
        s.login("user-42").unwrap();
    };
    let answer = browser.visit(login).await;
    answer.assert_opaque();
    assert!(answer.failed);
    assert_eq!(tested.dump().await.sorted(), before);
    assert_eq!(browser.number("a").await, Some(1));
    assert_eq!(browser.principal().await, None);
    spy.refuse(&["commit"]);
    browser
        .visit(|s| s.insert("a", 3).unwrap())
        .await
        .assert_opaque();
    assert_eq!(tested.dump().await.sorted(), before);
    spy.refuse(&[]);
    browser.visit(login).await.assert_ok().assert_sets_cookie();
    assert_eq!(tested.dump().await.only()["a"], "2");
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

async fn a_renewal_without_a_session_makes_none(tested: impl TestStore) {
    let browser = tested.browser().await;
    browser
        .visit(|s| s.renew())
        .await
        .assert_ok()
        .assert_no_cookie();
    assert_eq!(tested.dump().await.0.len(), 0);
    let write = |s: &actix_session::Session| {
        s.insert("a", 1).unwrap();
        s.renew();
    };
    browser.visit(write).await.assert_ok().assert_sets_cookie();
    assert_eq!(tested.dump().await.only(), expected(&[("a", "1")]));
}

async fn every_key_is_new(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let mut names = std::collections::HashSet::new();
    for _ in 0..20 {
        renew(&browser).await;
        let dump = tested.dump().await;
        let record = dump.0.iter().find(|(_, text)| text.starts_with('{'));
        let (name, _) = record.unwrap();
        let key = name.rsplit(':').next().unwrap();
        // A key as it is, or its digest in SQL databases.
        let is_key = key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!(is_key || key.len() == 43, "{name}");
        assert!(names.insert(name.clone()), "a key came twice");
    }
}

const STEP_UP: &str = "step-up";

/// A Redis that answers but refuses to write: the old session works, and the next try does.
async fn refusing(refuse: &[&[&str]], allow: &[&[&str]]) {
    let server = RedisServer::start().unwrap();
    let tested = Redis::at(&server.url()).await;
    let browser = logged_in(&tested).await;
    let before = tested.dump().await.sorted();
    let run = async |commands: &[&[&str]]| {
        for words in commands {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            let mut connection = tested.connection.clone();
            let _: redis::Value = command.query_async(&mut connection).await.unwrap();
        }
    };
    run(refuse).await;
    let renewal = |s: &actix_session::Session| {
        s.insert(STEP_UP, true).unwrap();
        s.renew();
    };
    browser.visit(renewal).await.assert_opaque();
    browser
        .visit(|s| s.insert("a", 2).unwrap())
        .await
        .assert_opaque();
    assert_eq!(tested.dump().await.sorted(), before);
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    assert_eq!(browser.number("a").await, Some(1));
    // Ending needs no memory.
    let other = browser.fork();
    run(allow).await;
    browser
        .visit(renewal)
        .await
        .assert_ok()
        .assert_sets_cookie();
    assert_eq!(tested.dump().await.only()[STEP_UP], "true");
    assert!(other.is_nobody().await);
}

#[actix_web::test]
async fn a_redis_without_memory_refuses_and_nothing_changes() {
    refusing(
        &[
            &["CONFIG", "SET", "maxmemory-policy", "noeviction"],
            &["CONFIG", "SET", "maxmemory", "1"],
        ],
        &[&["CONFIG", "SET", "maxmemory", "0"]],
    )
    .await;
}

#[actix_web::test]
async fn a_redis_that_forbids_writing_refuses_and_nothing_changes() {
    refusing(
        &[&["ACL", "SETUSER", "default", "-set"]],
        &[&["ACL", "SETUSER", "default", "+set"]],
    )
    .await;
}
