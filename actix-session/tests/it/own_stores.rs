//! A store with all nine methods, as its author would write it: with what is public alone.

use std::{collections::HashMap, time::Duration};

use actix_session::{
    Clock as _, Session, SessionMiddleware,
    config::{PersistentSession, SessionMiddlewareBuilder, TtlExtensionPolicy},
    storage::{
        Changes, CommitError, Committed, LoadError, MemorySessionStore, Opened, Record, SaveError,
        SessionKey, SessionStore, Terms, UpdateError,
    },
    testing::ManualClock,
};
use actix_web::cookie::{Key, time::Duration as CookieDuration};

use crate::{
    attacks::capture,
    compare_and_set_store::CompareAndSetStore,
    five_methods::{FiveMethods, Wrapper, custom},
    support::{Browser, Site, count, soon},
};

type State = HashMap<String, String>;

/// The example, and its clock.
#[derive(Clone)]
struct Own {
    store: CompareAndSetStore<ManualClock>,
    clock: ManualClock,
    /// It opens whatever it finds, and looks at no time.
    forgetful: bool,
}

impl Own {
    fn new(forgetful: bool) -> Self {
        let clock = ManualClock::new();
        Self {
            store: CompareAndSetStore::new(clock.clone()),
            clock,
            forgetful,
        }
    }

    fn middleware(&self) -> SessionMiddlewareBuilder<Self> {
        SessionMiddleware::builder(self.clone(), Key::generate()).clock(self.clock.clone())
    }
}

impl SessionStore for Own {
    actix_session::forward_store_methods!(self => self.store; except open);

    async fn open(&self, key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
        if !self.forgetful {
            return self.store.open(key, terms).await;
        }
        let found = self
            .store
            .server
            .0
            .lock()
            .unwrap()
            .get(key.as_ref())
            .cloned();
        Ok(found.map_or(Opened::Nothing, |row| {
            let record = Record::decode(row.text).unwrap();
            Opened::Live(record.ending_at(row.end))
        }))
    }
}

async fn browser(middleware: SessionMiddlewareBuilder<Own>) -> Browser {
    Browser::new(Site::new(middleware.build()).await)
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

#[actix_web::test]
async fn parallel_changes_are_all_kept_and_a_clear_wins() {
    let store = Own::new(false);
    let browser = browser(store.middleware()).await;
    browser.visit(count).await.assert_sets_cookie();
    let mut flights = Vec::new();
    for _ in 0..32 {
        flights.push(browser.begin().await);
    }
    let late = browser.begin().await;
    for (n, flight) in flights.into_iter().enumerate() {
        count(&flight);
        flight.insert(format!("entry-{n}"), n).unwrap();
        flight.finish().await.assert_ok();
    }
    assert_eq!(browser.number("n").await, Some(33));
    let mut entries = 0;
    browser
        .visit(|s| entries = s.entries().len())
        .await
        .assert_ok();
    assert_eq!(entries, 33);
    browser.visit(Session::clear).await.assert_ok();
    late.insert("late", 1).unwrap();
    late.finish().await.assert_ok();
    assert!(browser.is_nobody().await);
}

#[actix_web::test]
async fn a_renewal_takes_the_merged_record_along_and_revives_nothing() {
    let store = Own::new(false);
    let browser = browser(store.middleware()).await;
    browser.visit(|s| s.login("user-42").unwrap()).await;
    let (old, renews) = (browser.fork(), browser.begin().await);
    browser.visit(count).await.assert_ok();
    renews.renew();
    renews.finish().await.assert_ok().assert_sets_cookie();
    assert_eq!(browser.number("n").await, Some(1));
    assert!(old.is_nobody().await);
    let late = browser.begin().await;
    browser.visit(Session::purge).await.assert_ok();
    late.insert("late", 1).unwrap();
    late.renew();
    late.finish().await.assert_ok().assert_no_cookie();
    assert!(store.store.server.0.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn its_sessions_keep_their_own_time() {
    let store = Own::new(false);
    let lifecycle = PersistentSession::default().session_ttl(CookieDuration::minutes(10));
    let lifecycle = lifecycle
        .session_ttl_extension_policy(TtlExtensionPolicy::AtMostEvery(CookieDuration::minutes(2)));
    let browser = browser(store.middleware().session_lifecycle(lifecycle)).await;
    let answer = browser.visit(count).await;
    assert_eq!(answer.max_age(), Some(600));
    // (minutes that pass, minutes that are left after a read)
    for (pass, left) in [(1, 9), (1, 10), (9, 10)] {
        store.clock.advance(minutes(pass));
        assert_eq!(browser.number("n").await, Some(1));
        let rows = store.store.server.0.lock().unwrap();
        let end = rows.values().next().unwrap().end;
        let now = Terms::default().with_now(store.clock.now()).now();
        assert_eq!(end, now + minutes(left));
    }
    let own = browser
        .visit(|s| s.set_ttl(CookieDuration::minutes(60)))
        .await;
    assert_eq!(own.max_age(), Some(3_600));
    store.clock.advance(minutes(59));
    assert_eq!(browser.number("n").await, Some(1));
    store.clock.advance(minutes(60));
    assert!(browser.is_nobody().await);
}

#[actix_web::test]
async fn quiet_requests_keep_its_ends_and_learn_them() {
    let store = Own::new(false);
    let lifecycle = PersistentSession::default().session_ttl(CookieDuration::minutes(10));
    let lifecycle = lifecycle.session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let builder = store.middleware().session_lifecycle(lifecycle);
    let browser = browser(builder.quiet_when(|req| req.path() == "/quiet")).await;
    browser.visit(count).await.assert_sets_cookie();
    for left in (1..10).rev() {
        store.clock.advance(minutes(1));
        let act = |s: &Session| {
            count(s);
            let idle = s.remaining().and_then(|left| left.idle());
            assert_eq!(idle, Some(minutes(left)));
        };
        let answer = browser.visit_path("/quiet", act).await;
        answer.assert_ok().assert_no_cookie();
    }
    store.clock.advance(minutes(1));
    assert!(browser.is_nobody().await);
}

/// Whatever a store answers, no session outlives its absolute end.
#[actix_web::test]
async fn the_middleware_checks_the_absolute_end_itself() {
    for forgetful in [false, true] {
        let store = Own::new(forgetful);
        let limited = store
            .middleware()
            .absolute_timeout(CookieDuration::hours(1));
        let browser = browser(limited).await;
        let login = |s: &Session| s.login("user-42").unwrap();
        browser.visit(login).await.assert_sets_cookie();
        store.clock.advance(minutes(59));
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
        store.clock.advance(minutes(1));
        assert!(browser.is_nobody().await);
        // A write makes another session, and a purge still ends this one.
        let ended = browser.fork();
        browser.visit(count).await.assert_sets_cookie();
        ended.visit(Session::purge).await.assert_removes_cookie();
        assert_eq!(browser.number("n").await, Some(1));
    }
}

/// An old server does not say when it made a session.
#[actix_web::test]
async fn an_absolute_end_of_old_records_counts_from_the_first_sight() {
    let store = Own::new(false);
    let limited = store
        .middleware()
        .absolute_timeout(CookieDuration::hours(1));
    let browser = browser(limited).await;
    browser.visit(count).await.assert_sets_cookie();
    for row in store.store.server.0.lock().unwrap().values_mut() {
        row.text = r#"{"n":"1"}"#.to_owned();
    }
    store.clock.advance(minutes(30));
    for pass in [59, 1] {
        assert_eq!(browser.number("n").await, Some(1));
        store.clock.advance(minutes(pass));
    }
    assert!(browser.is_nobody().await);
}

/// How many warnings name this store.
fn warnings(store: &str) -> usize {
    let lines = capture::own_lines();
    let warns = |text: &str| text.starts_with("WARN") && text.contains("five published methods");
    let ours = lines
        .iter()
        .filter(|line| warns(&line.text) && line.text.contains(store));
    ours.count()
}

#[actix_web::test]
async fn a_store_of_five_methods_is_told_of_once() {
    /// Another type than those of other tests.
    struct Unheard<S>(S);

    impl<S: SessionStore> SessionStore for Unheard<S> {
        actix_session::forward_store_methods!(self => self.0);
    }

    capture::install();
    let two_middlewares = [
        custom(Wrapper(Unheard(FiveMethods::default()))).await,
        custom(Wrapper(Unheard(FiveMethods::default()))).await,
    ];
    for browser in two_middlewares
        .into_iter()
        .chain([custom(Unheard(Own::new(false))).await])
    {
        for act in [count, count, Session::renew] {
            browser.visit(act).await.assert_ok();
        }
    }
    assert_eq!(warnings("::Wrapper<it::own_stores::"), 1);
    assert_eq!(warnings("::Own"), 0);
}

/// What a store does not answer.
#[derive(Clone, Copy, PartialEq)]
enum Silence {
    Load,
    Touch,
    /// It is refused.
    RefusedTouch,
}

/// A store of five methods.
#[derive(Clone)]
struct Silent(MemorySessionStore, Silence);

impl SessionStore for Silent {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        if self.1 == Silence::Load {
            std::future::pending::<()>().await;
        }
        self.0.load(key).await
    }

    async fn save(&self, state: State, ttl: &CookieDuration) -> Result<SessionKey, SaveError> {
        self.0.save(state, ttl).await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &CookieDuration,
    ) -> Result<SessionKey, UpdateError> {
        self.0.update(key, state, ttl).await
    }

    async fn update_ttl(
        &self,
        key: &SessionKey,
        ttl: &CookieDuration,
    ) -> Result<(), anyhow::Error> {
        match self.1 {
            Silence::Touch => std::future::pending().await,
            Silence::RefusedTouch => anyhow::bail!("not now"),
            Silence::Load => self.0.update_ttl(key, ttl).await,
        }
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.0.delete(key).await
    }
}

async fn silent(silence: Silence) -> Browser {
    let every = TtlExtensionPolicy::OnEveryRequest;
    let every = PersistentSession::default().session_ttl_extension_policy(every);
    let store = Silent(MemorySessionStore::new(), silence);
    let builder = SessionMiddleware::builder(store, Key::generate()).session_lifecycle(every);
    let builder = builder.load_budget(Duration::from_millis(200));
    let browser = Browser::new(Site::new(builder.build()).await);
    browser.visit(count).await.assert_sets_cookie();
    browser
}

#[actix_web::test]
async fn a_load_has_a_time_limit_whatever_the_store() {
    let browser = silent(Silence::Load).await;
    let mut ran = false;
    soon(browser.visit(|_| ran = true)).await.assert_opaque();
    assert!(!ran);
}

#[actix_web::test]
async fn a_touch_that_a_store_of_five_methods_refuses_or_never_answers_serves_the_read() {
    for silence in [Silence::RefusedTouch, Silence::Touch] {
        let browser = silent(silence).await;
        let mut seen = None;
        let answer = soon(browser.visit(|s| seen = s.get("n").unwrap())).await;
        answer.assert_ok().assert_no_cookie();
        assert_eq!(seen, Some(1));
    }
}

/// What it does itself may wait, and has a time limit.
struct Audited(MemorySessionStore);

impl SessionStore for Audited {
    actix_session::forward_store_methods!(self => self.0; except commit);

    async fn commit(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Committed, CommitError> {
        std::future::pending::<()>().await;
        self.0.commit(key, base, changes, terms).await
    }
}

#[actix_web::test]
async fn a_wrapper_that_commits_by_itself_has_a_time_limit() {
    let store = Audited(MemorySessionStore::new());
    assert!(!store.opens_at_once());
    let builder = SessionMiddleware::builder(store, Key::generate());
    let builder = builder.commit_budget(Duration::from_millis(10));
    let browser = Browser::new(Site::new(builder.build()).await);
    let write = |s: &Session| s.insert("n", 1).unwrap();
    browser.visit(write).await.assert_ok().assert_sets_cookie();
    let answer = browser.visit(|s| s.insert("n", 2).unwrap()).await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
}
