//! How many sessions a principal may have.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, UNIX_EPOCH},
};

use actix_session::{
    Clock as _, Session, SessionMiddleware,
    config::{ConfigError, OverLimit, SessionMiddlewareBuilder, WireFormat},
    forward_store_methods,
    storage::{
        AnySessionStore, Changes, CommitError, End, MemorySessionStore, Record, Rotated,
        SessionIndex, SessionKey, SessionStore, StoreIndex, Terms,
    },
};
use actix_web::{ResponseError as _, cookie::Key, http::StatusCode, rt};
use futures_util::future::{join, join_all};
use servers::RedisServer;
use tokio::sync::Notify;

use crate::{
    devices::{log_in, tick},
    support::{Browser, Proxy, Redis, Site, TestStore, fill, on_each_index, on_store, soon},
};

// What is in memory alone never waits, and needs no limit.
on_store!(on_redis_alone Redis: a_login_behind_a_limit_has_the_time_that_is_left);
on_store!(on_sqlite_alone Sqlite: a_login_behind_a_limit_has_the_time_that_is_left);

on_each_index! {
    the_oldest_session_makes_room,
    a_login_on_the_same_session_ends_no_other,
    parallel_logins_leave_as_many_as_are_allowed,
    a_login_too_many_is_refused_and_changes_nothing,
    of_parallel_logins_as_many_pass_as_are_allowed,
    what_has_ended_does_not_count,
    a_handler_learns_of_a_refusal,
    a_session_that_was_renewed_meanwhile_goes_first,
    whoever_was_ended_before_the_limit_was_looked_at_is_not_logged_in,
    a_login_beside_a_clear_is_a_login,
    a_login_that_is_taken_back_counts_for_nothing,
    a_login_whose_session_has_moved_is_an_error,
    nobody_waits_for_a_login_before_1970,
    a_session_that_is_purged_makes_room,
    of_two_logins_of_one_session_the_later_one_stays,
}

fn capped<T: TestStore>(
    tested: &T,
    most: usize,
    over: OverLimit,
) -> SessionMiddlewareBuilder<T::Store>
where
    T::Store: SessionIndex,
{
    tested.middleware().max_sessions(most, over)
}

async fn site_of<T: TestStore>(tested: &T, most: usize, over: OverLimit) -> Site
where
    T::Store: SessionIndex,
{
    Site::new(capped(tested, most, over).build()).await
}

fn login(session: &Session) {
    session.login("user-42").unwrap();
}

async fn are_in(browsers: &[Browser]) -> Vec<bool> {
    let mut are_in = Vec::new();
    for browser in browsers {
        are_in.push(browser.principal().await.is_some());
    }
    are_in
}

/// Whatever is created has ended once its answer comes, as by a login that came later.
struct EndsAtOnce<S>(S);

impl<S: SessionStore> SessionStore for EndsAtOnce<S> {
    forward_store_methods!(self => self.0; except create);

    async fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(SessionKey, End), CommitError> {
        let created = self.0.create(changes, terms).await?;
        self.0.delete(&created.0).await.unwrap();
        Ok(created)
    }
}

impl<S: SessionIndex> SessionIndex for EndsAtOnce<S> {
    fn index(&self) -> StoreIndex {
        self.0.index()
    }
}

async fn whoever_was_ended_before_the_limit_was_looked_at_is_not_logged_in(
    tested: impl TestStore<Store: SessionIndex>,
) {
    for over in [OverLimit::EvictOldest, OverLimit::Refuse] {
        let store = EndsAtOnce(tested.store());
        let middleware = SessionMiddleware::builder(store, Key::generate())
            .clock(tested.clock().clone())
            .max_sessions(2, over)
            .build();
        let browser = Browser::new(Site::new(middleware).await);
        let answer = browser.visit(login).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        answer.assert_no_cookie();
    }
}

/// The first login stands still in the middle, while it holds the lock. It hears how much time each has.
#[derive(Clone)]
struct StandsStill<S> {
    inner: S,
    budgets: Arc<Mutex<Vec<Duration>>>,
    gate: Arc<Notify>,
}

impl<S: SessionStore> SessionStore for StandsStill<S> {
    forward_store_methods!(self => self.inner; except rotate);

    async fn rotate(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Rotated, CommitError> {
        let is_first = {
            let mut budgets = self.budgets.lock().unwrap();
            budgets.push(terms.budget());
            budgets.len() == 1
        };
        if is_first {
            self.gate.notified().await;
        }
        self.inner.rotate(key, base, changes, terms).await
    }
}

impl<S: SessionIndex> SessionIndex for StandsStill<S> {
    fn index(&self) -> StoreIndex {
        self.inner.index()
    }
}

/// The limit and the renewal share one budget.
async fn a_login_behind_a_limit_has_the_time_that_is_left(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let budget = Duration::from_secs(60);
    let store = StandsStill {
        inner: tested.store(),
        budgets: Arc::default(),
        gate: Arc::default(),
    };
    let (budgets, gate) = (Arc::clone(&store.budgets), Arc::clone(&store.gate));
    let middleware = SessionMiddleware::builder(store, tested.key().clone())
        .clock(tested.clock().clone())
        .max_sessions(3, OverLimit::Refuse)
        .commit_budget(budget);
    let site = Site::new(middleware.build()).await;
    let browsers = [(); 2].map(|()| Browser::new(site.clone()));
    let mut logins = Vec::new();
    for browser in &browsers {
        fill(browser).await;
        let flight = browser.begin().await;
        login(&flight.handle());
        logins.push(flight);
    }
    let (first, second) = (logins.remove(0), logins.remove(0));
    let first = rt::spawn(first.finish());
    let holds = async {
        while budgets.lock().unwrap().is_empty() {
            rt::task::yield_now().await;
        }
    };
    soon(holds).await;
    let second = rt::spawn(second.finish());
    for _ in 0..100 {
        rt::task::yield_now().await;
    }
    // Its time runs, and the lock is not free.
    let waits_since = Instant::now();
    rt::time::sleep(Duration::from_millis(50)).await;
    let waited = waits_since.elapsed();
    gate.notify_one();
    for login in [first, second] {
        soon(login).await.unwrap().assert_ok();
    }
    let budgets = budgets.lock().unwrap();
    assert!(budgets[0] < budget, "the lock took some");
    assert!(
        budgets[1] <= budget - waited,
        "{budgets:?} after {waited:?}"
    );
}

/// The clear draws another id, which the login knows nothing of.
async fn a_login_beside_a_clear_is_a_login(tested: impl TestStore<Store: SessionIndex>) {
    for over in [OverLimit::EvictOldest, OverLimit::Refuse] {
        let site = site_of(&tested, 2, over).await;
        let browser = Browser::new(site);
        browser
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_ok();
        tick(&tested);
        let flight = browser.begin().await;
        browser.fork().visit(Session::clear).await.assert_ok();
        login(&flight.handle());
        flight.finish().await.assert_ok();
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
        browser.visit(Session::purge).await.assert_ok();
        tick(&tested);
    }
}

/// A lock that was given back is free, whatever the clock says.
async fn nobody_waits_for_a_login_before_1970(tested: impl TestStore<Store: SessionIndex>) {
    let since = tested.clock().now().duration_since(UNIX_EPOCH).unwrap();
    tested
        .clock()
        .turn_back(since + Duration::from_secs(86_400));
    let site = site_of(&tested, 2, OverLimit::Refuse).await;
    for _ in 0..2 {
        Browser::new(site.clone()).visit(login).await.assert_ok();
        tick(&tested);
    }
    let third = Browser::new(site).visit(login).await;
    assert_eq!(third.status, StatusCode::FORBIDDEN);
}

/// Whoever gives the lock back finds out whether that has reached the server.
#[actix_web::test]
async fn nobody_waits_for_a_lock_that_was_given_back_in_vain() {
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::before_redis(server.port());
    let tested = Redis::through(&proxy.redis_url(), &server.url()).await;
    let middleware = capped(&tested, 3, OverLimit::Refuse);
    let middleware = middleware.commit_budget(Duration::from_secs(2)).build();
    let site = Site::new(middleware).await;
    Browser::new(site.clone()).visit(login).await.assert_ok();
    // What says that nobody holds it.
    proxy.hold_back("-9223372036854775808");
    Browser::new(site.clone()).visit(login).await.assert_ok();
    assert!(proxy.has_lost());
    Browser::new(site).visit(login).await.assert_ok();
}

async fn the_oldest_session_makes_room(tested: impl TestStore<Store: SessionIndex>) {
    let site = site_of(&tested, 2, OverLimit::EvictOldest).await;
    let browsers = [(); 4].map(|()| Browser::new(site.clone()));
    for browser in &browsers {
        log_in(browser, "user-42", "device").await;
        tick(&tested);
    }
    assert_eq!(are_in(&browsers).await, [false, false, true, true]);
    // Others' sessions and guests are none of this.
    log_in(&browsers[0], "user-43", "device").await;
    browsers[1].visit(|s| s.insert("n", 1).unwrap()).await;
    assert_eq!(are_in(&browsers).await, [true, false, true, true]);
}

async fn a_login_on_the_same_session_ends_no_other(tested: impl TestStore<Store: SessionIndex>) {
    for over in [OverLimit::EvictOldest, OverLimit::Refuse] {
        let site = site_of(&tested, 2, over).await;
        let browsers = [(); 2].map(|()| Browser::new(site.clone()));
        for _ in 0..3 {
            for browser in &browsers {
                log_in(browser, "user-42", "device").await;
                tick(&tested);
            }
        }
        assert_eq!(are_in(&browsers).await, [true, true]);
        for browser in &browsers {
            browser.visit(|s| s.purge()).await.assert_ok();
        }
    }
}

async fn parallel_logins_leave_as_many_as_are_allowed(tested: impl TestStore<Store: SessionIndex>) {
    let middleware = capped(&tested, 3, OverLimit::EvictOldest)
        .commit_budget(Duration::from_secs(20))
        .build();
    let sessions = middleware.manager();
    let site = Site::new(middleware).await;
    let browsers = [(); 20].map(|()| Browser::new(site.clone()));
    let answers = join_all(browsers.iter().map(|browser| browser.visit(login))).await;
    let allowed = [StatusCode::OK, StatusCode::UNAUTHORIZED];
    assert!(answers.iter().all(|it| allowed.contains(&it.status)));
    assert_eq!(sessions.count("user-42").await.unwrap(), 3);
    let are_in = are_in(&browsers).await;
    assert_eq!(are_in.iter().filter(|is_in| **is_in).count(), 3);
}

async fn a_login_too_many_is_refused_and_changes_nothing(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let site = site_of(&tested, 1, OverLimit::Refuse).await;
    let [first, second] = [(); 2].map(|()| Browser::new(site.clone()));
    log_in(&first, "user-42", "device").await;
    second.visit(|s| s.insert("basket", 3).unwrap()).await;
    let before = second.value();
    for _ in 0..2 {
        let refused = second.visit(login).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        refused.assert_no_cookie();
    }
    assert_eq!(second.value(), before);
    assert_eq!(second.number("basket").await, Some(3));
    assert_eq!(second.principal().await, None);
    // A visitor without a session is refused, too.
    let third = Browser::new(site.clone());
    assert_eq!(third.visit(login).await.status, StatusCode::FORBIDDEN);
    log_in(&third, "user-43", "device").await;
    first.visit(|s| s.purge()).await.assert_removes_cookie();
    log_in(&second, "user-42", "device").await;
    assert_eq!(second.number("basket").await, Some(3));
}

async fn of_parallel_logins_as_many_pass_as_are_allowed(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let middleware = capped(&tested, 3, OverLimit::Refuse)
        .commit_budget(Duration::from_secs(60))
        .build();
    let sessions = middleware.manager();
    let site = Site::new(middleware).await;
    let browsers = [(); 20].map(|()| Browser::new(site.clone()));
    let answers = join_all(browsers.iter().map(|browser| browser.visit(login))).await;
    let count = |status| answers.iter().filter(|it| it.status == status).count();
    assert_eq!(
        (count(StatusCode::OK), count(StatusCode::FORBIDDEN)),
        (3, 17)
    );
    assert_eq!(sessions.count("user-42").await.unwrap(), 3);
}

async fn what_has_ended_does_not_count(tested: impl TestStore<Store: SessionIndex>) {
    let middleware = capped(&tested, 2, OverLimit::Refuse)
        .absolute_timeout(actix_web::cookie::time::Duration::hours(1))
        .build();
    let sessions = middleware.manager();
    let site = Site::new(middleware).await;
    let browsers = [(); 5].map(|()| Browser::new(site.clone()));
    log_in(&browsers[0], "user-42", "device").await;
    log_in(&browsers[1], "user-42", "device").await;
    assert_eq!(browsers[2].visit(login).await.status, StatusCode::FORBIDDEN);
    browsers[0].visit(Session::clear).await.assert_ok();
    log_in(&browsers[2], "user-42", "device").await;
    tested.clock().advance(Duration::from_secs(3_600));
    log_in(&browsers[3], "user-42", "device").await;
    log_in(&browsers[4], "user-42", "device").await;
    assert_eq!(browsers[2].visit(login).await.status, StatusCode::FORBIDDEN);
    sessions.revoke_all("user-42").await.unwrap();
    tick(&tested);
    log_in(&browsers[2], "user-42", "device").await;
}

async fn a_handler_learns_of_a_refusal(tested: impl TestStore<Store: SessionIndex>) {
    let site = site_of(&tested, 1, OverLimit::Refuse).await;
    let [first, second] = [(); 2].map(|()| Browser::new(site.clone()));
    let flight = first.begin().await;
    flight.handle().login("user-42").unwrap();
    flight.handle().save().await.unwrap();
    flight.finish().await.assert_sets_cookie();
    let flight = second.begin().await;
    flight.handle().login("user-42").unwrap();
    let session = flight.handle();
    let (refused, also) = join(session.save(), session.save()).await;
    let (refused, also) = (refused.unwrap_err(), also.unwrap_err());
    // Whoever asks beside somebody else is told the same.
    assert!(also.is_too_many_sessions());
    assert_eq!(also.status_code(), StatusCode::FORBIDDEN);
    assert!(refused.is_too_many_sessions());
    assert!(!refused.is_gone());
    // The handler takes the login back, and says so itself.
    flight.handle().clear();
    flight.finish().await.assert_ok().assert_no_cookie();
    assert_eq!(first.principal().await.as_deref(), Some("user-42"));
}

async fn a_session_that_is_purged_makes_room(tested: impl TestStore<Store: SessionIndex>) {
    let site = site_of(&tested, 1, OverLimit::Refuse).await;
    let browser = Browser::new(site);
    log_in(&browser, "user-42", "device").await;
    let before = browser.value();
    let flight = browser.begin().await;
    flight.handle().purge();
    login(&flight.handle());
    flight.handle().save().await.unwrap();
    flight.finish().await.assert_sets_cookie();
    assert_ne!(browser.value(), before);
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
}

async fn a_session_that_was_renewed_meanwhile_goes_first(
    tested: impl TestStore<Store: SessionIndex>,
) {
    // A form that is sent twice.
    let site = site_of(&tested, 2, OverLimit::EvictOldest).await;
    let [other, browser] = [(); 2].map(|()| Browser::new(site.clone()));
    log_in(&other, "user-42", "device").await;
    browser.visit(|s| s.insert("basket", 3).unwrap()).await;
    tick(&tested);
    let (first, second) = (browser.begin().await, browser.fork().begin().await);
    login(&first.handle());
    tick(&tested);
    login(&second.handle());
    first.finish().await.assert_sets_cookie();
    let doubled = browser.fork();
    second.finish().await.assert_sets_cookie();
    assert_eq!(other.principal().await.as_deref(), Some("user-42"));
    assert_eq!(doubled.principal().await, None);
}

/// Whichever is committed first: or each of them could end the other.
async fn of_two_logins_of_one_session_the_later_one_stays(
    tested: impl TestStore<Store: SessionIndex>,
) {
    for (most, later_comes_first) in [(1, true), (1, false), (2, true), (2, false)] {
        let site = site_of(&tested, most, OverLimit::EvictOldest).await;
        let browser = Browser::new(site.clone());
        let other = Browser::new(site);
        log_in(&other, "user-42", "device").await;
        browser.visit(|s| s.insert("basket", 3).unwrap()).await;
        let both = [browser.fork(), browser.fork()];
        let [earlier, later] = [both[0].begin().await, both[1].begin().await];
        for flight in [&earlier, &later] {
            tick(&tested);
            login(&flight.handle());
        }
        let statuses = if later_comes_first {
            let later = later.finish().await.status;
            (earlier.finish().await.status, later)
        } else {
            (earlier.finish().await.status, later.finish().await.status)
        };
        let refused = match later_comes_first {
            true => StatusCode::UNAUTHORIZED,
            false => StatusCode::OK,
        };
        assert_eq!(statuses, (refused, StatusCode::OK));
        assert_eq!(are_in(&both).await, [false, true]);
        assert_eq!(are_in(&[other]).await, [most == 2]);
        tick(&tested);
    }
}

/// Its logins would all be errors.
#[actix_web::test]
async fn a_limit_needs_lists() {
    let refused = async |url: &str| {
        let store = AnySessionStore::new(url).await.unwrap();
        SessionMiddleware::builder(store, Key::generate())
            .max_sessions(3, OverLimit::Refuse)
            .try_build()
            .err()
    };
    assert_eq!(refused("cookie:").await, Some(ConfigError::CapWithoutLists));
    assert_eq!(refused("memory:").await, None);
}

#[test]
fn a_limit_beside_old_servers_must_be_asked_for() {
    let builder = || {
        SessionMiddleware::builder(MemorySessionStore::new(), Key::generate())
            .wire_format(WireFormat::V0_11)
            .max_sessions(3, OverLimit::Refuse)
    };
    let refused = builder().try_build().unwrap_err();
    assert_eq!(refused, ConfigError::CapInMixedFleet);
    assert!(builder().mixed_fleet().try_build().is_ok());
}

#[test]
fn a_limit_of_none_is_refused_or_counts_as_one() {
    let builder = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate());
    let refused = builder.max_sessions(0, OverLimit::Refuse).try_build();
    assert_eq!(refused.unwrap_err(), ConfigError::MaxSessions);
}

async fn a_login_that_is_taken_back_counts_for_nothing(
    tested: impl TestStore<Store: SessionIndex>,
) {
    for over in [OverLimit::EvictOldest, OverLimit::Refuse] {
        let middleware = capped(&tested, 1, over).principal_entry("user");
        let site = Site::new(middleware.build()).await;
        let (other, browser) = (Browser::new(site.clone()), Browser::new(site));
        other.visit(login).await.assert_ok();
        browser.visit(|s| s.insert("a", 1).unwrap()).await;
        let fails = |s: &Session| {
            login(s);
            s.remove("user");
        };
        browser.visit(fails).await.assert_ok();
        assert_eq!(browser.number("a").await, Some(1));
        assert_eq!(browser.principal().await, None);
        assert_eq!(other.principal().await.as_deref(), Some("user-42"));
        other.visit(Session::purge).await.assert_ok();
    }
}

/// Answers each renewal as if another had come first.
struct Moves<S>(S);

impl<S: SessionStore> SessionStore for Moves<S> {
    forward_store_methods!(self => self.0; except rotate);

    async fn rotate(
        &self,
        _: &SessionKey,
        _: Option<&Record>,
        _: &Changes,
        _: &Terms,
    ) -> Result<Rotated, CommitError> {
        Ok(Rotated::Moved)
    }
}

async fn a_login_whose_session_has_moved_is_an_error(tested: impl TestStore<Store: SessionIndex>) {
    let middleware = SessionMiddleware::builder(Moves(tested.store()), Key::generate());
    let middleware = middleware.clock(tested.clock().clone()).build();
    let browser = Browser::new(Site::new(middleware).await);
    browser.visit(|s| s.insert("a", 1).unwrap()).await;
    let answer = browser.visit(login).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let answer = browser.visit(Session::renew).await;
    answer.assert_ok().assert_no_cookie();
}
