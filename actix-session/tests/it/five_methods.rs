//! Stores written for the published trait, which has five methods.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use actix_session::{
    Saved, Session, SessionMiddleware,
    config::{
        CookieContentSecurity, PersistentSession, SessionMiddlewareBuilder, TtlExtensionPolicy,
    },
    storage::{
        CookieSessionStore, Gone, LoadError, MemorySessionStore, SaveError, SessionKey,
        SessionStore, UpdateError, generate_session_key,
    },
};
use actix_web::cookie::{Key, time::Duration};

use crate::{
    attacks::arena::signed,
    support::{Browser, Site, TestStore, on_each_store, private},
};

on_each_store! {
    the_five_methods,
    an_update_of_a_missing_record_is_gone,
    a_wrapper_of_five_methods_keeps_what_the_library_knows,
}

/// A store as somebody wrote it for the published crate: five methods on a map.
#[derive(Clone, Default)]
pub(crate) struct FiveMethods(Rc<RefCell<HashMap<String, State>>>);

type State = HashMap<String, String>;

impl FiveMethods {
    pub(crate) fn states(&self) -> Vec<State> {
        self.0.borrow().values().cloned().collect()
    }

    /// Leaves what an old server would have written.
    pub(crate) fn forget_metadata(&self) {
        let mut states = self.0.borrow_mut();
        states
            .values_mut()
            .for_each(|state| drop(state.remove("__actix_session")));
    }
}

impl SessionStore for FiveMethods {
    async fn load(&self, session_key: &SessionKey) -> Result<Option<State>, LoadError> {
        Ok(self.0.borrow().get(session_key.as_ref()).cloned())
    }

    async fn save(&self, session_state: State, _ttl: &Duration) -> Result<SessionKey, SaveError> {
        let key = generate_session_key();
        let name = key.as_ref().to_owned();
        self.0.borrow_mut().insert(name, session_state);
        Ok(key)
    }

    async fn update(
        &self,
        session_key: SessionKey,
        session_state: State,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        let known = self.0.borrow().contains_key(session_key.as_ref());
        if !known {
            // As the published Redis store does.
            let saved = self.save(session_state, ttl).await;
            return saved.map_err(|error| UpdateError::Other(error.into()));
        }
        let name = session_key.as_ref().to_owned();
        self.0.borrow_mut().insert(name, session_state);
        Ok(session_key)
    }

    async fn update_ttl(&self, _: &SessionKey, _ttl: &Duration) -> Result<(), anyhow::Error> {
        Ok(())
    }

    async fn delete(&self, session_key: &SessionKey) -> Result<(), anyhow::Error> {
        self.0.borrow_mut().remove(session_key.as_ref());
        Ok(())
    }
}

pub(crate) async fn custom<S: SessionStore + 'static>(store: S) -> Browser {
    let builder = SessionMiddleware::builder(store, Key::generate());
    Browser::new(Site::new(builder.build()).await)
}

/// The key is the state.
struct InKey;

impl InKey {
    fn key(state: &State) -> Result<SessionKey, anyhow::Error> {
        Ok(serde_json::to_string(state)?.try_into()?)
    }
}

impl SessionStore for InKey {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        Ok(serde_json::from_str(key.as_ref()).ok())
    }

    async fn save(&self, state: State, _: &Duration) -> Result<SessionKey, SaveError> {
        Self::key(&state).map_err(SaveError::Other)
    }

    async fn update(
        &self,
        _: SessionKey,
        state: State,
        _: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        Self::key(&state).map_err(UpdateError::Other)
    }

    async fn update_ttl(&self, _: &SessionKey, _: &Duration) -> Result<(), anyhow::Error> {
        Ok(())
    }

    async fn delete(&self, _: &SessionKey) -> Result<(), anyhow::Error> {
        Ok(())
    }
}

#[actix_web::test]
async fn a_save_of_nothing_new_needs_no_extension() {
    let store = Disturbed::default();
    store.extends_nothing.set(true);
    let policy = TtlExtensionPolicy::OnEveryRequest;
    let extending = PersistentSession::default().session_ttl_extension_policy(policy);
    let builder = SessionMiddleware::builder(store, Key::generate());
    let site = Site::new(builder.session_lifecycle(extending).build()).await;
    let browser = Browser::new(site);
    let set = |s: &Session| s.insert("a", 1).unwrap();
    browser.visit(set).await.assert_sets_cookie();
    let flight = browser.begin().await;
    set(&flight);
    flight.save().await.unwrap();
    flight.finish().await.assert_ok().assert_no_cookie();
    browser.visit(|_| {}).await.assert_ok().assert_no_cookie();
    browser.visit(set).await.assert_ok().assert_no_cookie();
}

/// The response brings what is left.
#[actix_web::test]
async fn what_is_taken_from_a_key_is_taken() {
    let browser = custom(InKey).await;
    let set = |s: &Session| {
        s.insert("a", 1).unwrap();
        s.insert("b", 2).unwrap();
    };
    browser.visit(set).await.assert_sets_cookie();
    let flight = browser.begin().await;
    assert_eq!(flight.take("a").await.unwrap(), Some(1));
    assert_eq!(flight.take::<u32>("a").await.unwrap(), None);
    flight.finish().await.assert_sets_cookie();
    assert_eq!(browser.number("a").await, None);
    assert_eq!(browser.number("b").await, Some(2));
}

#[actix_web::test]
async fn a_store_of_five_methods_brings_nothing_back() {
    let store = FiveMethods::default();
    let browser = custom(store.clone()).await;
    let login = |s: &Session| {
        s.insert("a", 1).unwrap();
        s.login("user-42").unwrap();
    };
    browser.visit(login).await.assert_sets_cookie();
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    let (writes, renews) = (browser.begin().await, browser.begin().await);
    browser.visit(Session::purge).await.assert_removes_cookie();
    writes.insert("late", 1).unwrap();
    renews.insert("late", 1).unwrap();
    renews.renew();
    for late in [writes, renews] {
        late.finish().await.assert_ok().assert_no_cookie();
        assert_eq!(store.0.borrow().len(), 0);
    }
}

/// A store in whose calls something comes between.
#[derive(Clone, Default)]
struct Disturbed {
    inner: FiveMethods,
    /// Somebody ends the session between a commit's look and its write.
    ends_before_update: Rc<Cell<bool>>,
    extends_nothing: Rc<Cell<bool>>,
}

impl SessionStore for Disturbed {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        self.inner.load(key).await
    }

    async fn save(&self, state: State, ttl: &Duration) -> Result<SessionKey, SaveError> {
        self.inner.save(state, ttl).await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        if self.ends_before_update.get() {
            self.inner.delete(&key).await.unwrap();
        }
        self.inner.update(key, state, ttl).await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        anyhow::ensure!(!self.extends_nothing.get(), "read-only");
        self.inner.update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.inner.delete(key).await
    }
}

#[actix_web::test]
async fn what_a_published_store_saves_anew_is_deleted_again() {
    let store = Disturbed::default();
    let browser = custom(store.clone()).await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_sets_cookie();
    store.ends_before_update.set(true);
    let answer = browser.visit(|s| s.insert("a", 2).unwrap()).await;
    answer.assert_ok().assert_no_cookie();
    assert_eq!(store.inner.0.borrow().len(), 0);
}

async fn the_five_methods(tested: impl TestStore) {
    let store = tested.store();
    let ttl = Duration::seconds(60);
    let state = |n: u32| HashMap::from([("n".to_owned(), n.to_string())]);
    let entries = |loaded: Option<State>| loaded.map(|state| state["n"].clone());
    let missing = generate_session_key();
    assert!(store.load(&missing).await.unwrap().is_none());
    store.delete(&missing).await.unwrap();
    store.update_ttl(&missing, &ttl).await.unwrap();
    assert!(store.load(&missing).await.unwrap().is_none());

    let key = store.save(state(1), &ttl).await.unwrap();
    assert_eq!(
        entries(store.load(&key).await.unwrap()).as_deref(),
        Some("1")
    );
    let other = store.save(state(9), &ttl).await.unwrap();
    assert_ne!(key.as_ref(), other.as_ref());
    let same: SessionKey = key.as_ref().to_owned().try_into().unwrap();
    let answer = store.update(same, state(2), &ttl).await.unwrap();
    assert_eq!(answer.as_ref(), key.as_ref());
    assert_eq!(
        entries(store.load(&key).await.unwrap()).as_deref(),
        Some("2")
    );
    store
        .update_ttl(&key, &Duration::seconds(120))
        .await
        .unwrap();
    // A time of nothing would end it, which is not what the name says.
    for ttl in [Duration::ZERO, Duration::seconds(-1)] {
        assert!(store.update_ttl(&key, &ttl).await.is_err());
    }
    assert_eq!(
        entries(store.load(&key).await.unwrap()).as_deref(),
        Some("2")
    );
    store.delete(&key).await.unwrap();
    assert!(store.load(&key).await.unwrap().is_none());
    assert_eq!(tested.dump().await.records().len(), 1, "the other one");
}

/// The one meant difference: the published stores save the state under a new key.
async fn an_update_of_a_missing_record_is_gone(tested: impl TestStore) {
    let store = tested.store();
    let ttl = Duration::seconds(60);
    let state = || HashMap::from([("n".to_owned(), "1".to_owned())]);
    let is_gone = |result: Result<SessionKey, UpdateError>| matches!(result, Err(UpdateError::Other(error)) if error.is::<Gone>());
    let never = generate_session_key();
    assert!(is_gone(store.update(never, state(), &ttl).await));
    let ended = store.save(state(), &ttl).await.unwrap();
    store.delete(&ended).await.unwrap();
    assert!(is_gone(store.update(ended, state(), &ttl).await));
    assert_eq!(tested.dump().await.0.len(), 0);
}

/// A logging wrapper, say, that knows of five methods alone.
pub(crate) struct Wrapper<S>(pub(crate) S);

impl<S: SessionStore> SessionStore for Wrapper<S> {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        self.0.load(key).await
    }

    async fn save(&self, state: State, ttl: &Duration) -> Result<SessionKey, SaveError> {
        self.0.save(state, ttl).await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        self.0.update(key, state, ttl).await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        self.0.update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.0.delete(key).await
    }
}

async fn a_wrapper_of_five_methods_keeps_what_the_library_knows(tested: impl TestStore) {
    let builder = SessionMiddleware::builder(Wrapper(tested.store()), tested.key().clone())
        .clock(tested.clock().clone())
        .absolute_timeout(Duration::hours(1));
    let browser = tested.browser_of(builder).await;
    let login = |s: &Session| {
        s.login("user-42").unwrap();
        s.set_ttl(Duration::minutes(50));
    };
    browser.visit(login).await.assert_sets_cookie();
    tested
        .clock()
        .advance(std::time::Duration::from_secs(40 * 60));
    let late = browser.begin().await;
    let answer = browser.visit(|s| s.insert("n", 1).unwrap()).await;
    assert_eq!(answer.max_age(), Some(20 * 60));
    // Not atomic, but merged with what is there.
    late.insert("late", 1).unwrap();
    late.finish().await.assert_ok();
    assert_eq!(tested.dump().await.only().len(), 2);
    // The same record through the store itself.
    let direct = browser.at(Site::new(tested.middleware().build()).await);
    assert_eq!(direct.principal().await.as_deref(), Some("user-42"));
    browser.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    tested
        .clock()
        .advance(std::time::Duration::from_secs(20 * 60));
    assert!(browser.is_nobody().await);
}

/// The new value is refused as too large for a cookie, whatever the renewal has done by then.
#[actix_web::test]
async fn a_cookie_that_does_not_fit_leaves_the_session_behind_a_wrapper() {
    let acts: [fn(&Session); 4] = [
        Session::renew,
        |s| s.login("user-42").unwrap(),
        |s| s.reauthenticated().unwrap(),
        Session::clear,
    ];
    for act in acts {
        let list = MemorySessionStore::new();
        let store = CookieSessionStore::default().with_revocation(list);
        let browser = custom(Wrapper(store)).await;
        let login = |s: &Session| s.login("user-42").unwrap();
        browser.visit(login).await.assert_sets_cookie();
        let copy = browser.fork();
        let too_large = |s: &Session| {
            act(s);
            s.insert("large", "x".repeat(3_400)).unwrap();
        };
        browser
            .visit(too_large)
            .await
            .assert_opaque()
            .assert_no_cookie();
        assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
        // One that fits ends the older value.
        browser.visit(act).await.assert_sets_cookie();
        assert_eq!(copy.principal().await, None);
    }
}

const OLD_STATE: &str = r#"{"n":"7"}"#;

async fn behind_a_wrapper(
    security: CookieContentSecurity,
    value: fn(&Key) -> String,
    configure: fn(
        SessionMiddlewareBuilder<Wrapper<CookieSessionStore>>,
    ) -> SessionMiddlewareBuilder<Wrapper<CookieSessionStore>>,
) -> Browser {
    let key = Key::generate();
    let store = Wrapper(CookieSessionStore::default());
    let builder = SessionMiddleware::builder(store, key.clone());
    let builder = configure(builder.cookie_content_security(security));
    let browser = Browser::new(Site::new(builder.build()).await);
    browser.set_cookie("id", value(&key));
    browser
}

#[actix_web::test]
async fn a_cookie_of_another_name_opens_no_session_behind_a_wrapper() {
    // Its MAC does not cover the name.
    let other = |key: &Key| signed(key, "other", OLD_STATE);
    let signed = CookieContentSecurity::Signed;
    let browser = behind_a_wrapper(signed, other, |it| it).await;
    assert_eq!(browser.number("n").await, None);
    let accepted = behind_a_wrapper(signed, other, |it| it.accept_unbound_signatures(true)).await;
    assert_eq!(accepted.number("n").await, Some(7));
}

#[actix_web::test]
async fn old_cookies_get_their_times_behind_a_wrapper_or_are_refused() {
    let old = |key: &Key| private(key, "id", OLD_STATE);
    let browser = behind_a_wrapper(CookieContentSecurity::Private, old, |it| it).await;
    let before = browser.value();
    browser.visit(|_| ()).await.assert_ok().assert_sets_cookie();
    assert_ne!(browser.value(), before);
    assert_eq!(browser.number("n").await, Some(7));
    browser.visit(|_| ()).await.assert_ok().assert_no_cookie();
    let over = behind_a_wrapper(CookieContentSecurity::Private, old, |it| {
        it.legacy_cookies_until(std::time::UNIX_EPOCH)
    });
    assert_eq!(over.await.number("n").await, None);
}

#[actix_web::test]
async fn a_save_waits_for_the_response_behind_a_wrapper() {
    let browser = custom(Wrapper(CookieSessionStore::default())).await;
    browser.visit(|s| s.insert("a", 1).unwrap()).await;
    let flight = browser.begin().await;
    flight.insert("a", 2).unwrap();
    assert_eq!(flight.save().await.unwrap(), Saved::WithResponse);
    flight.finish().await.assert_ok().assert_sets_cookie();
    assert_eq!(browser.number("a").await, Some(2));
}
