//! `save` and `take`: what is committed before the handler has answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_session::{
    Level, Saved, Session, SessionMiddleware, SessionSaveError,
    config::OnLoadError,
    forward_store_methods,
    storage::{
        Changes, CommitError, Committed, CookieSessionStore, MemorySessionStore, Record,
        SessionKey, SessionStore, Terms,
    },
};
use actix_web::{ResponseError as _, cookie::Key, http::StatusCode, rt};
use futures_util::{future::join_all, poll};
use tokio::sync::{Notify, Semaphore};

use crate::support::{
    Browser, Flight, Memory, Site, Spy, TestStore, count, fill, guest, on_each_store, soon,
};

on_each_store! {
    what_was_saved_stays_if_the_handler_fails,
    a_request_goes_on_from_what_it_has_saved,
    saved_clicks_add_up,
    a_saved_logout_of_entries_counts_once,
    what_others_have_committed_shows_after_it,
    nothing_is_saved_while_a_login_or_a_new_session_is_pending,
    what_was_ended_does_not_come_back,
    an_equal_value_is_not_saved_in_a_session_that_has_ended,
    what_is_saved_travels_behind_a_renewal,
    of_those_who_take_a_value_one_gets_it,
    a_value_that_has_changed_is_not_taken,
    a_value_that_the_request_ends_meanwhile_is_not_called_used,
    a_ttl_that_was_saved_reaches_the_cookie,
    a_login_after_a_save_renews_all_of_it,
    a_value_that_was_taken_before_a_clear_is_not_taken_again,
    a_save_after_a_clear_brings_nothing_back,
    an_equal_value_that_was_saved_undoes_nothing,
    what_a_request_has_made_itself_can_be_taken,
    what_a_failed_load_hides_is_not_removed_in_silence,
}

async fn what_was_saved_stays_if_the_handler_fails(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    assert_eq!(flight.save().await.unwrap(), Saved::Done);
    assert_eq!(tested.dump().await.only()["b"], "2");
    flight.insert("c", 3).unwrap();
    flight.fail().await;
    let record = tested.dump().await.only();
    assert_eq!((record["a"].as_str(), record["b"].as_str()), ("1", "2"));
}

async fn a_request_goes_on_from_what_it_has_saved(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    flight.remove("a");
    assert_eq!(flight.save().await.unwrap(), Saved::Done);
    assert_eq!(flight.get("b").unwrap(), Some(2));
    assert!(!flight.contains_key("a"));
    // There is nothing left to save.
    assert_eq!(flight.save().await.unwrap(), Saved::Done);
    flight.insert("a", 4).unwrap();
    flight.insert("c", 3).unwrap();
    flight.finish().await.assert_ok();
    let record = tested.dump().await.only();
    assert_eq!(record.len(), 3, "{record:?}");
    assert_eq!((record["a"].as_str(), record["b"].as_str()), ("4", "2"));
}

async fn saved_clicks_add_up(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flights = join_all((0..8).map(|_| browser.begin())).await;
    let clicks = flights.iter().map(async |flight| {
        count(flight);
        flight.save().await.unwrap();
        count(flight);
    });
    join_all(clicks).await;
    for flight in flights {
        flight.finish().await.assert_ok();
    }
    assert_eq!(tested.dump().await.only()["n"], "16");
}

async fn a_saved_logout_of_entries_counts_once(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let (first, second) = (browser.begin().await, browser.begin().await);
    first.clear();
    assert_eq!(first.save().await.unwrap(), Saved::Done);
    assert!(first.is_empty());
    second.insert("b", 2).unwrap();
    // It had loaded before the `clear`, so it counts as having come before it.
    second.finish().await.assert_ok();
    assert!(tested.dump().await.only().is_empty());
    first.insert("c", 3).unwrap();
    first.finish().await.assert_ok();
    assert_eq!(tested.dump().await.only()["c"], "3");
}

async fn what_others_have_committed_shows_after_it(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    browser.visit(|s| s.insert("other", 7).unwrap()).await;
    flight.insert("b", 2).unwrap();
    assert_eq!(flight.save().await.unwrap(), Saved::Done);
    assert_eq!(flight.get("other").unwrap(), Some(7));
    flight.finish().await.assert_ok();
    assert_eq!(tested.dump().await.only().len(), 3);
}

async fn nothing_is_saved_while_a_login_or_a_new_session_is_pending(tested: impl TestStore) {
    let browser = tested.browser().await;
    let flight = browser.begin().await;
    flight.insert("a", 1).unwrap();
    assert_eq!(flight.save().await.unwrap(), Saved::WithResponse);
    assert!(tested.dump().await.records().is_empty());
    flight.finish().await.assert_ok().assert_sets_cookie();

    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    flight.login("alice").unwrap();
    assert_eq!(flight.save().await.unwrap(), Saved::WithResponse);
    assert_eq!(tested.dump().await.only().len(), 1);
    flight.finish().await.assert_ok().assert_sets_cookie();
    assert_eq!(tested.dump().await.only().len(), 2);

    let flight = browser.begin().await;
    flight.purge();
    assert_eq!(flight.save().await.unwrap(), Saved::WithResponse);
    assert_eq!(tested.dump().await.records().len(), 1);
    flight.finish().await.assert_ok().assert_removes_cookie();
    assert!(tested.dump().await.records().is_empty());
}

async fn what_was_ended_does_not_come_back(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    browser.fork().visit(|s| s.purge()).await;
    flight.insert("b", 2).unwrap();
    let error = flight.save().await.unwrap_err();
    assert!(error.is_gone() && !error.is_outcome_unknown(), "{error}");
    flight.insert("c", 3).unwrap();
    flight.finish().await.assert_ok().assert_no_cookie();
    assert!(tested.dump().await.records().is_empty());
}

/// Whoever charges a card then must not take it for saved.
async fn an_equal_value_is_not_saved_in_a_session_that_has_ended(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    flight.insert("a", 1).unwrap();
    assert_eq!(flight.save().await.unwrap(), Saved::Done);
    browser.fork().visit(|s| s.purge()).await;
    flight.insert("a", 1).unwrap();
    assert!(flight.save().await.unwrap_err().is_gone());
    flight.finish().await.assert_ok().assert_no_cookie();
    assert!(tested.dump().await.records().is_empty());
    // Another person's session comes after it.
    let browser = guest(&tested).await;
    browser.visit(|s| s.login("ada").unwrap()).await.assert_ok();
    let flight = browser.begin().await;
    browser.visit(|s| s.login("eve").unwrap()).await.assert_ok();
    flight.insert("a", 1).unwrap();
    assert!(flight.save().await.unwrap_err().is_gone());
    flight.finish().await.assert_ok().assert_no_cookie();
}

async fn what_is_saved_travels_behind_a_renewal(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    browser.visit(|s| s.renew()).await.assert_sets_cookie();
    flight.insert("b", 2).unwrap();
    assert_eq!(flight.save().await.unwrap(), Saved::Done);
    assert_eq!(flight.get("b").unwrap(), Some(2));
    flight.insert("b", 3).unwrap();
    flight.finish().await.assert_ok().assert_no_cookie();
    let record = tested.dump().await.only();
    assert_eq!((record["a"].as_str(), record["b"].as_str()), ("1", "3"));
}

async fn of_those_who_take_a_value_one_gets_it(tested: impl TestStore) {
    let browser = guest(&tested).await;
    browser.visit(|s| s.insert("token", "once").unwrap()).await;
    let flights = join_all((0..8).map(|_| browser.begin())).await;
    let taken = join_all(flights.iter().map(|it| it.take::<String>("token"))).await;
    let got: Vec<_> = taken.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(got, ["once"]);
    for flight in flights {
        assert_eq!(flight.take::<String>("token").await.unwrap(), None);
        flight.finish().await.assert_ok();
    }
    assert_eq!(tested.dump().await.only().len(), 1);
}

async fn a_value_that_has_changed_is_not_taken(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    browser.visit(|s| s.insert("a", 2).unwrap()).await;
    assert_eq!(flight.take::<u32>("a").await.unwrap(), None);
    assert_eq!(flight.get("a").unwrap(), Some(2));
    flight.finish().await.assert_ok();
    assert_eq!(tested.dump().await.only()["a"], "2");
}

async fn a_value_that_the_request_ends_meanwhile_is_not_called_used(tested: impl TestStore) {
    let ends: [fn(&Session); 2] = [Session::purge, |s| s.login("eve").unwrap()];
    for end in ends {
        let browser = tested.browser().await;
        let begin = |s: &Session| {
            s.login("ada").unwrap();
            s.insert("token", 1).unwrap();
        };
        browser.visit(begin).await.assert_ok();
        let flight = browser.begin().await;
        let mut taken = Box::pin(flight.take::<u32>("token"));
        assert!(poll!(&mut taken).is_pending());
        // Another task, before the store is asked.
        end(&flight);
        assert!(taken.await.is_err());
        flight.finish().await.assert_ok();
    }
}

async fn a_ttl_that_was_saved_reaches_the_cookie(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    flight.set_ttl(actix_web::cookie::time::Duration::days(30));
    assert_eq!(flight.save().await.unwrap(), Saved::Done);
    let answer = flight.finish().await;
    assert_eq!(answer.assert_ok().max_age(), Some(2_592_000));
}

async fn a_login_after_a_save_renews_all_of_it(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    flight.save().await.unwrap();
    flight.login("alice").unwrap();
    flight.insert("c", 3).unwrap();
    flight.finish().await.assert_ok().assert_sets_cookie();
    assert_eq!(tested.dump().await.only().len(), 3);
}

async fn a_value_that_was_taken_before_a_clear_is_not_taken_again(tested: impl TestStore) {
    for renews in [false, true] {
        let browser = tested.browser().await;
        browser.visit(|s| s.insert("token", 1).unwrap()).await;
        let late = browser.begin().await;
        let first = browser.begin().await;
        assert_eq!(first.take::<u32>("token").await.unwrap(), Some(1));
        first.finish().await.assert_ok();
        if renews {
            browser.visit(|s| s.renew()).await.assert_sets_cookie();
        }
        browser.visit(|s| s.clear()).await.assert_ok();
        assert_eq!(late.take::<u32>("token").await.unwrap(), None);
        late.finish().await.assert_ok();
        browser.visit(|s| s.purge()).await.assert_ok();
    }
}

async fn a_save_after_a_clear_brings_nothing_back(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    browser.visit(|s| s.clear()).await.assert_ok();
    flight.insert("b", 2).unwrap();
    flight.save().await.unwrap();
    flight.insert("secret", 3).unwrap();
    flight.save().await.unwrap();
    flight.insert("secret", 4).unwrap();
    flight.finish().await.assert_ok();
    assert!(tested.dump().await.only().is_empty());
}

async fn an_equal_value_that_was_saved_undoes_nothing(tested: impl TestStore) {
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    flight.insert("a", 1).unwrap();
    flight.remove("none");
    assert_eq!(flight.save().await.unwrap(), Saved::Done);
    assert_eq!(flight.get("a").unwrap(), Some(1));
    let others = |s: &Session| {
        s.insert("a", 2).unwrap();
        s.insert("none", 0).unwrap();
    };
    browser.visit(others).await.assert_ok();
    flight.insert("b", 3).unwrap();
    flight.finish().await.assert_ok();
    let record = tested.dump().await.only();
    assert_eq!((record["a"].as_str(), record["b"].as_str()), ("2", "3"));
    assert_eq!(record["none"], "0");
}

/// A long upload keeps its session alive so.
#[actix_web::test]
async fn to_save_an_equal_value_extends_the_session() {
    let tested = <Memory as TestStore>::start().await;
    let browser = guest(&tested).await;
    let flight = browser.begin().await;
    for _ in 0..3 {
        tested.clock().advance(Duration::from_secs(18 * 60 * 60));
        flight.insert("a", 1).unwrap();
        assert_eq!(flight.save().await.unwrap(), Saved::Done);
    }
    flight.insert("b", 2).unwrap();
    flight.finish().await.assert_ok();
    assert_eq!(tested.dump().await.only()["b"], "2");
}

#[actix_web::test]
async fn a_refused_removal_of_the_principal_ends_no_times() {
    let store = Spy::new(MemorySessionStore::new());
    let middleware = SessionMiddleware::builder(store.clone(), Key::generate());
    let middleware = middleware.principal_entry("user").build();
    let browser = Browser::new(Site::new(middleware).await);
    let login = |s: &Session| s.insert("user", "ada").unwrap();
    browser.visit(login).await.assert_sets_cookie();
    for is_refused in [true, false] {
        let flight = browser.begin().await;
        flight.set_ttl(actix_web::cookie::time::Duration::hours(2));
        if is_refused {
            store.refuse_next("commit");
        }
        let taken = flight.take::<String>("user").await;
        assert_eq!(taken.is_err(), is_refused);
        let answer = flight.finish().await;
        let age = answer.assert_ok().max_age();
        assert_eq!(age, is_refused.then_some(7_200));
    }
}

#[actix_web::test]
async fn a_value_that_the_store_refuses_to_remove_can_be_taken_later() {
    let store = Spy::new(MemorySessionStore::new());
    let browser = Browser::with(store.clone()).await;
    fill(&browser).await;
    let flight = browser.begin().await;
    store.refuse_next("commit");
    assert!(flight.take::<u32>("a").await.is_err());
    assert_eq!(flight.get("a").unwrap(), Some(1));
    assert_eq!(flight.take::<u32>("a").await.unwrap(), Some(1));
    flight.finish().await.assert_ok();
    browser.visit(|s| assert!(!s.contains_key("a"))).await;
}

/// A store that does not know the session yet has no say.
async fn what_a_request_has_made_itself_can_be_taken(tested: impl TestStore) {
    let browser = tested.browser().await;
    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    count(&flight);
    assert_eq!(flight.take("n").await.unwrap(), Some(1));
    assert_eq!(flight.take::<u32>("n").await.unwrap(), None);
    flight.finish().await.assert_ok().assert_sets_cookie();
    let only_b = |s: &Session| assert_eq!(s.entries().keys().collect::<Vec<_>>(), ["b"]);
    browser.visit(only_b).await.assert_ok();
}

async fn what_a_failed_load_hides_is_not_removed_in_silence(tested: impl TestStore) {
    let spy = Spy::new(tested.store());
    let builder = SessionMiddleware::builder(spy.clone(), tested.key().clone())
        .clock(tested.clock().clone())
        .on_load_error(OnLoadError::Anonymous);
    let browser = tested.browser_of(builder).await;
    let log_in = |s: &Session| {
        s.login("ada").unwrap();
        s.insert("a", 1).unwrap();
    };
    browser.visit(log_in).await.assert_ok();
    let acts: [fn(&Session); 3] = [
        |s| drop(s.remove("a")),
        |s| s.demand_reauth("fraud"),
        |s| s.lower_level(Level::Zero),
    ];
    for act in acts {
        spy.refuse(&["open"]);
        let answer = browser.visit(act).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        spy.refuse(&[]);
    }
    spy.refuse(&["open"]);
    let flight = browser.begin().await;
    let error = flight.take::<u32>("a").await.unwrap_err();
    assert_eq!(error.status_code(), StatusCode::SERVICE_UNAVAILABLE);
    // What the request has ended itself is not there.
    flight.clear();
    assert_eq!(flight.take::<u32>("a").await.unwrap(), None);
    spy.refuse(&[]);
    let answer = flight.finish().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(browser.number("a").await, Some(1));
}

#[actix_web::test]
async fn a_value_of_its_own_that_the_store_refuses_can_be_taken_later() {
    let store = Spy::new(MemorySessionStore::new());
    let browser = Browser::with(store.clone()).await;
    fill(&browser).await;
    let flight = browser.begin().await;
    flight.insert("a", 2).unwrap();
    store.refuse_next("commit");
    assert!(flight.take::<u32>("a").await.is_err());
    assert_eq!(flight.take("a").await.unwrap(), Some(2));
    assert_eq!(flight.take::<u32>("a").await.unwrap(), None);
    flight.finish().await.assert_ok();
    browser.visit(|s| assert!(!s.contains_key("a"))).await;
}

#[actix_web::test]
async fn what_is_set_after_a_clear_is_not_taken_for_what_was_saved() {
    let (store, browser) = gated().await;
    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    let saves = begin_to_save(&store, &flight).await;
    flight.clear();
    flight.insert("b", 2).unwrap();
    store.gate.open.close();
    assert_eq!(soon(saves).await.unwrap().unwrap(), Saved::Done);
    assert_eq!(flight.get("b").unwrap(), Some(2));
    flight.finish().await.assert_ok();
    browser
        .visit(|s| {
            assert_eq!(
                (s.get("a").unwrap(), s.get("b").unwrap()),
                (None::<u32>, Some(2))
            );
        })
        .await;
}

#[actix_web::test]
async fn a_modify_made_meanwhile_shows_what_was_saved() {
    let (store, browser) = gated().await;
    let flight = browser.begin().await;
    let other = browser.begin().await;
    flight.insert("b", 2).unwrap();
    let saves = begin_to_save(&store, &flight).await;
    count(&flight);
    assert_eq!(flight.get("n").unwrap(), Some(1));
    store.gate.open.close();
    soon(saves).await.unwrap().unwrap();
    // The store has the other one's clicks first, and shows them after the next commit.
    count(&other);
    other.finish().await.assert_ok();
    flight.save().await.unwrap();
    assert_eq!(flight.get("n").unwrap(), Some(2));
    flight.finish().await.assert_ok();
}

#[actix_web::test]
async fn what_the_store_refuses_waits_for_the_response() {
    let store = Spy::new(MemorySessionStore::new());
    let browser = Browser::with(store.clone()).await;
    fill(&browser).await;
    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    store.refuse_next("commit");
    let error = flight.save().await.unwrap_err();
    assert!(!error.is_gone() && !error.is_outcome_unknown());
    flight.finish().await.assert_ok();
    browser
        .visit(|s| assert_eq!(s.get("b").unwrap(), Some(2)))
        .await;
}

#[actix_web::test]
async fn a_cookie_stored_session_is_saved_with_the_response() {
    let browser = Browser::with(CookieSessionStore::default()).await;
    fill(&browser).await;
    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    assert_eq!(flight.save().await.unwrap(), Saved::WithResponse);
    assert_eq!(flight.take::<u32>("a").await.unwrap(), Some(1));
    flight.finish().await.assert_ok().assert_sets_cookie();
    browser
        .visit(|s| {
            assert_eq!(
                (s.get("a").unwrap(), s.get("b").unwrap()),
                (None::<u32>, Some(2))
            )
        })
        .await;
}

#[actix_web::test]
async fn a_handle_without_a_middleware_saves_nothing() {
    let session = actix_session::Session::new();
    session.insert("a", 1).unwrap();
    assert!(session.save().await.is_err());
    assert_eq!(session.take::<u32>("a").await.unwrap(), Some(1));
    assert_eq!(session.take::<u32>("a").await.unwrap(), None);
}

#[actix_web::test]
async fn what_cannot_be_taken_stays() {
    let browser = Browser::with(MemorySessionStore::new()).await;
    fill(&browser).await;
    let flight = browser.begin().await;
    assert!(flight.take::<String>("a").await.is_err(), "another type");
    flight.renew();
    assert!(
        flight.take::<u32>("a").await.is_err(),
        "a renewal is pending"
    );
    assert_eq!(flight.get("a").unwrap(), Some(1));
    flight.finish().await.assert_ok();
    browser
        .visit(|s| assert_eq!(s.get("a").unwrap(), Some(1)))
        .await;
}

/// A store whose `commit` waits until its gate is open, and may then lose the answer.
#[derive(Clone)]
struct Gated {
    inner: MemorySessionStore,
    gate: Arc<Gate>,
}

struct Gate {
    open: Semaphore,
    asked: Notify,
    loses: AtomicBool,
}

impl Gated {
    fn new() -> Self {
        let gate = Gate {
            open: Semaphore::new(0),
            asked: Notify::new(),
            loses: AtomicBool::new(false),
        };
        Self {
            inner: MemorySessionStore::new(),
            gate: Arc::new(gate),
        }
    }
}

impl SessionStore for Gated {
    forward_store_methods!(self => self.inner; except commit, opens_at_once);

    fn opens_at_once(&self) -> bool {
        false
    }

    async fn commit(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Committed, CommitError> {
        self.gate.asked.notify_one();
        // Never granted, but refused once the gate is open.
        drop(self.gate.open.acquire().await);
        let committed = self.inner.commit(key, base, changes, terms).await;
        if self.gate.loses.load(Ordering::SeqCst) {
            return Err(CommitError::OutcomeUnknown);
        }
        committed
    }
}

/// A visitor with a session there.
async fn gated() -> (Gated, Browser) {
    let store = Gated::new();
    let browser = Browser::with(store.clone()).await;
    fill(&browser).await;
    (store, browser)
}

/// Returns once the store has been asked.
async fn begin_to_save(
    store: &Gated,
    flight: &Flight,
) -> rt::task::JoinHandle<Result<Saved, SessionSaveError>> {
    let handle = flight.handle();
    let saves = rt::spawn(async move { handle.save().await });
    soon(store.gate.asked.notified()).await;
    saves
}

#[actix_web::test]
async fn what_nobody_knows_is_not_tried_again() {
    let (store, browser) = gated().await;
    store.gate.open.close();
    store.gate.loses.store(true, Ordering::SeqCst);
    let flight = browser.begin().await;
    count(&flight);
    assert!(flight.save().await.unwrap_err().is_outcome_unknown());
    store.gate.loses.store(false, Ordering::SeqCst);
    let answer = flight.finish().await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    browser
        .visit(|s| assert_eq!(s.get("n").unwrap(), Some(1)))
        .await;
}

#[actix_web::test]
async fn a_dropped_request_finishes_what_it_saves() {
    let (store, browser) = gated().await;
    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    let saves = begin_to_save(&store, &flight).await;
    flight.abort().await;
    store.gate.open.close();
    assert_eq!(soon(saves).await.unwrap().unwrap(), Saved::Done);
    browser
        .visit(|s| assert_eq!(s.get("b").unwrap(), Some(2)))
        .await;
}

#[actix_web::test]
async fn changes_made_meanwhile_wait_for_the_next_commit() {
    let (store, browser) = gated().await;
    let flight = browser.begin().await;
    count(&flight);
    flight.insert("b", 2).unwrap();
    let saves = begin_to_save(&store, &flight).await;
    count(&flight);
    flight.insert("b", 3).unwrap();
    flight.insert("c", 4).unwrap();
    store.gate.open.close();
    assert_eq!(soon(saves).await.unwrap().unwrap(), Saved::Done);
    assert_eq!(flight.get("n").unwrap(), Some(2));
    flight.finish().await.assert_ok();
    browser
        .visit(|s| {
            let all = ["n", "b", "c"].map(|name| s.get(name).unwrap());
            assert_eq!(all, [Some(2), Some(3), Some(4)]);
        })
        .await;
}

#[actix_web::test]
async fn a_lazy_session_is_loaded_for_it() {
    let store = MemorySessionStore::new();
    let key = Key::generate();
    let builder = SessionMiddleware::builder(store, key).lazy();
    let browser = Browser::new(Site::new(builder.build()).await);
    fill(&browser).await;
    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    assert_eq!(flight.save().await.unwrap(), Saved::Done);
    assert_eq!(flight.get("a").unwrap(), Some(1));
    flight.finish().await.assert_ok();
    browser
        .visit(|s| assert_eq!(s.get("b").unwrap(), Some(2)))
        .await;
}
