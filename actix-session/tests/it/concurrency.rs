//! Requests that overlap: all have loaded before the first of them commits.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use actix_session::{Session, SessionMiddleware, storage::SessionStore};
use actix_web::{HttpResponse, cookie::Key, http::StatusCode, web};
use futures_util::future::join_all;
use tokio::sync::Barrier;

use crate::support::{
    Browser, Flight, Memory, Server, TestStore, http_get, on_each_store_and_pooler,
};

const MANY: usize = 32;

on_each_store_and_pooler! {
    distinct_entries_all_land,
    modifies_add_up,
    one_of_the_values_of_the_same_entry_stays,
    the_last_to_commit_wins_with_all_that_it_set,
    an_entry_set_to_its_base_value_is_written_too,
    a_removal_and_an_insert_of_others_both_happen,
    what_a_request_did_not_name_stays_as_stored,
    a_modify_can_remove_and_create,
    a_remove_after_a_modify_counts,
    a_modify_that_meets_another_type_commits_nothing,
    update_alone_is_kept,
    distinct_entries_land_on_several_workers,
    modifies_add_up_on_several_workers,
    logins_in_parallel_leave_no_guest_data_behind,
}

/// A browser with a session that holds `seed`.
async fn seeded(tested: &impl TestStore) -> Browser {
    let browser = tested.browser().await;
    let answer = browser.visit(|s| s.insert("seed", 1).unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
    browser
}

async fn begin_many(browser: &Browser) -> Vec<Flight> {
    join_all((0..MANY).map(|_| browser.begin())).await
}

async fn finish_all(flights: Vec<Flight>) {
    for answer in join_all(flights.into_iter().map(Flight::finish)).await {
        answer.assert_ok().assert_no_cookie();
    }
}

async fn distinct_entries_all_land(tested: impl TestStore) {
    let browser = seeded(&tested).await;
    let flights = begin_many(&browser).await;
    for (n, flight) in flights.iter().enumerate() {
        flight.insert(format!("entry-{n}"), n).unwrap();
    }
    finish_all(flights).await;
    let record = tested.dump().await.only();
    assert_eq!(record.len(), MANY + 1, "{record:?}");
    for n in 0..MANY {
        assert_eq!(record[&format!("entry-{n}")], n.to_string());
    }
    assert_eq!(record["seed"], "1");
}

async fn modifies_add_up(tested: impl TestStore) {
    let browser = seeded(&tested).await;
    let flights = begin_many(&browser).await;
    for flight in &flights {
        flight
            .modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))
            .unwrap();
        // What this request sees is its own view, whatever the others do.
        assert_eq!(flight.get::<u32>("n").unwrap(), Some(1));
    }
    finish_all(flights).await;
    assert_eq!(tested.dump().await.only()["n"], MANY.to_string());
}

async fn one_of_the_values_of_the_same_entry_stays(tested: impl TestStore) {
    let browser = seeded(&tested).await;
    let flights = begin_many(&browser).await;
    for (n, flight) in flights.iter().enumerate() {
        flight.insert("a", n).unwrap();
        flight.insert("b", n).unwrap();
    }
    finish_all(flights).await;
    let record = tested.dump().await.only();
    let winner: usize = record["a"].parse().unwrap();
    assert!(winner < MANY);
    assert_eq!(
        record["a"], record["b"],
        "what one request set was committed together"
    );
    assert_eq!(record["seed"], "1");
}

async fn the_last_to_commit_wins_with_all_that_it_set(tested: impl TestStore) {
    let browser = seeded(&tested).await;
    let (first, second) = (browser.begin().await, browser.begin().await);
    first.insert("a", "first").unwrap();
    second.insert("a", "second").unwrap();
    // The last to load commits first.
    second.finish().await.assert_ok();
    first.finish().await.assert_ok();
    assert_eq!(tested.dump().await.only()["a"], "\"first\"");
}

async fn an_entry_set_to_its_base_value_is_written_too(tested: impl TestStore) {
    let browser = tested.browser().await;
    let set = |session: &Session, tenant: &str, role: &str| {
        session.insert("tenant", tenant).unwrap();
        session.insert("role", role).unwrap();
    };
    browser.visit(|s| set(s, "A", "user")).await;
    let (first, second) = (browser.begin().await, browser.begin().await);
    set(&first, "B", "admin");
    set(&second, "C", "user");
    first.finish().await.assert_ok();
    second.finish().await.assert_ok();
    let record = tested.dump().await.only();
    assert_eq!(record["tenant"], "\"C\"");
    assert_eq!(record["role"], "\"user\"", "nobody was admin of tenant C");
}

async fn a_removal_and_an_insert_of_others_both_happen(tested: impl TestStore) {
    let browser = seeded(&tested).await;
    let (remover, writer, counter) = (
        browser.begin().await,
        browser.begin().await,
        browser.begin().await,
    );
    assert_eq!(remover.remove("seed").as_deref(), Some("1"));
    writer.insert("other", 2).unwrap();
    counter.modify("n", |_: Option<u8>| Some(3)).unwrap();
    finish_all(vec![writer, remover, counter]).await;
    let record = tested.dump().await.only();
    let names: Vec<&str> = record.keys().map(String::as_str).collect();
    assert_eq!(names, ["n", "other"], "{record:?}");
}

async fn what_a_request_did_not_name_stays_as_stored(tested: impl TestStore) {
    let browser = seeded(&tested).await;
    let slow = browser.begin().await;
    browser.visit(|s| s.insert("seed", 2).unwrap()).await;
    browser.visit(|s| s.insert("later", true).unwrap()).await;
    slow.insert("own", 1).unwrap();
    // It goes on to see what it loaded.
    assert_eq!(slow.get::<u8>("seed").unwrap(), Some(1));
    slow.finish().await.assert_ok();
    let record = tested.dump().await.only();
    assert_eq!(record["seed"], "2");
    assert_eq!(record["later"], "true");
    assert_eq!(record["own"], "1");
}

async fn a_modify_can_remove_and_create(tested: impl TestStore) {
    let browser = seeded(&tested).await;
    let (first, second) = (browser.begin().await, browser.begin().await);
    // Whoever comes second finds what the first left, not what it loaded.
    let toggle = |n: Option<u32>| match n {
        Some(_) => None,
        None => Some(7),
    };
    first.modify("seed", toggle).unwrap();
    second.modify("seed", toggle).unwrap();
    assert!(!first.contains_key("seed") && !second.contains_key("seed"));
    first.finish().await.assert_ok();
    assert!(!tested.dump().await.only().contains_key("seed"));
    second.finish().await.assert_ok();
    assert_eq!(tested.dump().await.only()["seed"], "7");
}

/// Whatever the closure makes of what others have stored, the entry was removed after it.
async fn a_remove_after_a_modify_counts(tested: impl TestStore) {
    let browser = seeded(&tested).await;
    let flight = browser.begin().await;
    let toggle = |n: Option<u32>| if n == Some(7) { Some(8) } else { None };
    flight.modify("seed", toggle).unwrap();
    assert_eq!(flight.remove("seed"), None);
    browser.visit(|s| s.insert("seed", 7).unwrap()).await;
    flight.finish().await.assert_ok();
    assert!(!tested.dump().await.only().contains_key("seed"));
}

async fn a_modify_that_meets_another_type_commits_nothing(tested: impl TestStore) {
    let browser = seeded(&tested).await;
    let counter = browser.begin().await;
    browser.visit(|s| s.insert("seed", "text").unwrap()).await;
    let before = tested.dump().await.sorted();
    counter
        .modify("seed", |n: Option<u32>| n.map(|n| n + 1))
        .unwrap();
    counter.insert("beside", 1).unwrap();
    counter.finish().await.assert_opaque();
    assert_eq!(tested.dump().await.sorted(), before);
}

async fn update_alone_is_kept(tested: impl TestStore) {
    let browser = seeded(&tested).await;
    let answer = browser
        .visit(|s| s.update("seed", |n: u32| n + 1).unwrap())
        .await;
    answer.assert_ok().assert_no_cookie();
    assert_eq!(tested.dump().await.only()["seed"], "2");
    let answer = browser
        .visit(|s| s.update_or("seed", 0, |n: u32| n + 1).unwrap())
        .await;
    answer.assert_ok();
    assert_eq!(tested.dump().await.only()["seed"], "3");
    // It does nothing to a missing entry.
    browser
        .visit(|s| s.update("none", |n: u32| n + 1).unwrap())
        .await;
    assert_eq!(tested.dump().await.only().len(), 1);
    assert_eq!(browser.number("seed").await, Some(3));
}

async fn logins_in_parallel_leave_no_guest_data_behind(tested: impl TestStore) {
    let browser = tested.browser().await;
    browser
        .visit(|s| s.insert("basket", "guest").unwrap())
        .await;
    let flights = begin_many(&browser).await;
    for (n, flight) in flights.iter().enumerate() {
        flight.insert("form", n).unwrap();
        flight.login("user-42").unwrap();
    }
    let answers = join_all(flights.into_iter().map(Flight::finish)).await;
    let keys: BTreeSet<String> = answers
        .iter()
        .map(|answer| {
            answer
                .cookie()
                .expect("each is logged in")
                .value()
                .to_owned()
        })
        .collect();
    assert_eq!(keys.len(), MANY);
    let dump = tested.dump().await;
    let records = dump.records();
    assert_eq!(records.len(), MANY);
    assert_eq!(dump.redirects(), 1);
    // The basket went with exactly one of them; nobody copied it.
    let baskets = records.iter().filter(|r| r.contains_key("basket"));
    assert_eq!(baskets.count(), 1);
    let forms: BTreeSet<&String> = records.iter().map(|r| &r["form"]).collect();
    assert_eq!(forms.len(), MANY);
}

/// Handlers that wait until all requests of a round have loaded.
fn routes(barrier: &Arc<Barrier>) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let barrier = Arc::clone(barrier);
    move |config| {
        config
            .app_data(web::Data::from(Arc::clone(&barrier)))
            .route("/seed", web::to(seed))
            .route("/insert/{n}", web::to(insert))
            .route("/modify", web::to(modify));
    }
}

async fn seed(session: Session) -> HttpResponse {
    session.insert("seed", 1).unwrap();
    HttpResponse::Ok().finish()
}

async fn insert(session: Session, n: web::Path<usize>, all: web::Data<Barrier>) -> HttpResponse {
    session.insert(format!("entry-{n}"), *n).unwrap();
    all.wait().await;
    HttpResponse::Ok().finish()
}

async fn modify(session: Session, all: web::Data<Barrier>) -> HttpResponse {
    session
        .modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))
        .unwrap();
    all.wait().await;
    HttpResponse::Ok().finish()
}

/// Sends all requests of a round at once, to a server of four workers.
async fn on_workers<S>(store: S, path: impl Fn(usize) -> String)
where
    S: SessionStore + Clone + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(MANY));
    let key = Key::generate();
    let server = Server::start(
        4,
        move || SessionMiddleware::new(store.clone(), key.clone()),
        routes(&barrier),
    );
    let (status, cookie) = http_get(server.address, "/seed", None).await;
    assert_eq!(status, StatusCode::OK.as_u16());
    let cookie = cookie.expect("a new session has a cookie");
    let round = (0..MANY).map(|n| {
        let (address, path, cookie) = (server.address, path(n), &cookie);
        async move { http_get(address, &path, Some(cookie)).await }
    });
    for (status, cookie) in join_all(round).await {
        assert_eq!((status, cookie), (200, None));
    }
    server.stop().await;
}

/// The stores that workers share.
trait Shared: TestStore<Store: Send> {}

impl<B: TestStore<Store: Send>> Shared for B {}

async fn distinct_entries_land_on_several_workers(tested: impl Shared) {
    on_workers(tested.store(), |n| format!("/insert/{n}")).await;
    let record = tested.dump().await.only();
    assert_eq!(record.len(), MANY + 1, "{record:?}");
    for n in 0..MANY {
        assert_eq!(record[&format!("entry-{n}")], n.to_string());
    }
}

async fn modifies_add_up_on_several_workers(tested: impl Shared) {
    on_workers(tested.store(), |_| "/modify".to_owned()).await;
    assert_eq!(tested.dump().await.only()["n"], MANY.to_string());
}

#[actix_web::test]
async fn who_keeps_losing_is_told_and_has_changed_nothing() {
    let tested = Memory::start().await;
    // No time for a second attempt.
    let builder = tested.middleware().commit_budget(Duration::ZERO);
    let browser = tested.browser_of(builder).await;
    browser
        .visit(|s| s.insert("seed", 1).unwrap())
        .await
        .assert_sets_cookie();
    let loser = browser.begin().await;
    browser
        .visit(|s| s.insert("first", 1).unwrap())
        .await
        .assert_ok();
    let before = tested.dump().await.sorted();
    loser.insert("second", 2).unwrap();
    let answer = loser.finish().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    answer.assert_no_cookie();
    assert!(answer.body.is_empty());
    assert_eq!(tested.dump().await.sorted(), before);
}
