//! Every public type, as it prints itself with secrets wherever there is room for one.

mod kit;

use std::{
    collections::HashMap,
    error::Error as StdError,
    fmt::Debug,
    sync::{Arc, Mutex, mpsc},
    time::{Duration as StdDuration, SystemTime},
};

use actix_session::{
    BackChannelLogout, Clock as _, Flash, JwkSet, Level, Login, NamedSession, Refusal, Saved,
    Session, SessionEntry, SessionEvent, SessionEventKind, SessionHandle, SessionMiddleware,
    SessionName, SessionObserver, SessionStatus, SystemClock, TurnedAway, Upstream, UpstreamNotice,
    config::{
        BrowserSession, ConfigError, CookieContentSecurity, OldCookie, OnLoadError, OverLimit,
        PersistentSession, SessionLifecycle, SessionPolicy, TtlExtensionPolicy, WireFormat,
        secret_key,
    },
    csrf::{CrossSiteGuard, CrossSiteReason, CrossSiteRefusal, CsrfTokenError},
    storage::{
        AnySessionStore, Changes, CommitError, Committed, Contended, CookieSessionStore, End, Gone,
        LoadError, MemorySessionStore, MySqlSessionStore, Older, Opened, OutcomeUnknown,
        PostgresSessionStore, Record, RedisActorSessionStore, RedisSessionStore, Rotated,
        SaveError, SessionIndex as _, SessionKey, SessionStore, SqliteSessionStore, StateTooLarge,
        StoreFull, Terms, TooManySessions, UpdateError, Watch, generate_session_key,
    },
    testing::ManualClock,
};
use actix_web::{
    FromRequest as _,
    cookie::{Key, time::Duration},
    dev::{Service as _, Transform as _},
    test::{TestRequest, ok_service},
};

use super::{
    arena::{Sqlite, secret, site, somebody},
    capture,
};
use crate::support::{Browser, Memory, TestStore};

/// A type, and what it prints.
pub(super) type Row = (&'static str, String);

/// `{:?}` and `{:#?}`.
fn debug(name: &'static str, value: &dyn Debug) -> Row {
    (name, format!("{value:?} {value:#?}"))
}

/// All forms of an error and of its causes.
fn error(name: &'static str, value: &dyn StdError) -> Row {
    let mut shown = String::new();
    let mut next = Some(value);
    while let Some(error) = next {
        shown.push_str(&format!("{error:?} {error:#?} {error} "));
        next = error.source();
    }
    (name, shown)
}

/// The table.
pub(super) async fn all() -> Vec<Row> {
    let text = secret("a state value");
    [
        in_use(&text).await,
        without_a_middleware(&text).await,
        managed(&text).await,
        upstreams(&text).await,
        stores(&text).await,
        sqlite(&text).await,
        kit::key_value(&text).await,
        kit::kit(&text).await,
        unreachable_stores(&text).await,
        contract(&text),
        records(&text),
        errors(&text).await,
        cross_site().await,
        settings(),
    ]
    .concat()
}

/// A middleware at work, with all that passes between it and its store.
async fn in_use(text: &str) -> Vec<Row> {
    let (key, previous) = (Key::generate(), Key::generate());
    capture::plant_key(&key);
    capture::plant_key(&previous);
    let seen = Arc::default();
    let peek = Peek {
        inner: MemorySessionStore::new(),
        seen: Arc::clone(&seen),
    };
    let builder = SessionMiddleware::builder(peek, key.clone()).previous_keys([previous]);
    let mut rows = vec![debug("SessionMiddlewareBuilder", &builder)];
    let middleware = builder.build();
    rows.push(debug("SessionMiddleware", &middleware));
    let inner = middleware.new_transform(ok_service()).await;
    rows.push(debug("InnerSessionMiddleware", &inner.ok()));
    let browser = Browser::new(site(middleware, &key).await);
    let principal = somebody();
    let write = |s: &Session| s.insert("text", text).unwrap();
    browser.visit(write).await.assert_ok();
    let login = || Login::new(principal.as_str()).device(text);
    rows.push(debug("Login", &login()));
    let log_in = |s: &Session| {
        s.login_with(login()).unwrap();
        s.modify("text", |old: Option<String>| old).unwrap();
        rows.extend(session(s));
    };
    browser.visit(log_in).await.assert_ok();
    let write = |s: &Session| {
        s.insert("other", text).unwrap();
        drop(s.ended());
    };
    browser.visit(write).await.assert_ok();
    rows.append(&mut seen.lock().unwrap());
    rows
}

/// A session whose entry `text` is no number.
fn session(session: &Session) -> [Row; 5] {
    let wrong = session.modify("text", |old: Option<u8>| old).unwrap_err();
    [
        debug("Session", session),
        debug("Entries", &session.entries()),
        debug("SessionStatus", &session.status()),
        error("SessionGetError", &session.get::<u8>("text").unwrap_err()),
        error("SessionUpdateError", &wrong),
    ]
}

async fn without_a_middleware(text: &str) -> Vec<Row> {
    let session = Session::new();
    session.insert("text", text).unwrap();
    let reserved = session.insert("__actix_session", text).unwrap_err();
    let too_long = session.login(text.repeat(100)).unwrap_err();
    let who = Session::new();
    who.login(somebody()).unwrap();
    who.demand_reauth(text);
    let refused = who.require_auth(Level::One, StdDuration::MAX).unwrap_err();
    let untakable = session.take::<u8>("text").await.unwrap_err();
    let request = TestRequest::default().to_http_request();
    let named: NamedSession<Shop> = session.clone().into();
    vec![
        error("SessionInsertError", &reserved),
        error("SessionLoginError", &too_long),
        error("SessionPurgeError", &session.purge_now().await.unwrap_err()),
        debug("AuthRefusal", &refused.reason()),
        debug("Level", &refused.level()),
        debug("Remaining", &session.remaining()),
        error("SessionAuthError", &refused),
        error("SessionSaveError", &session.save().await.unwrap_err()),
        error("SessionTakeError", &untakable),
        debug("Saved", &Saved::Done),
        debug("SessionStatus", &SessionStatus::Renewed),
        debug("ExtractSession", &Session::extract(&request)),
        debug("NamedSession", &named),
        debug("SessionEntry", &SessionEntry::<u8>::new("text")),
        debug("Flash", &Flash::<u8>::new("text")),
        debug("Refusal", &Refusal::BadSeal),
        debug("TurnedAway", &TurnedAway::Full),
        debug("SessionObserver", &SessionObserver::new(drop)),
        debug("SessionEvent", &event(text).await),
        debug("SessionEventKind", &SessionEventKind::Renewed),
        debug(
            "ExtractNamedSession",
            &NamedSession::<Shop>::extract(&request),
        ),
    ]
}

/// What an observer is told of a login.
async fn event(text: &str) -> SessionEvent {
    let (sender, events) = mpsc::channel();
    let tested = Memory::start().await;
    let observing = tested
        .middleware()
        .on_event(move |event| sender.send(event).unwrap());
    let browser = tested.browser_of(observing).await;
    let login = |s: &Session| {
        s.insert("text", text).unwrap();
        s.login(somebody()).unwrap();
    };
    browser.visit(login).await.assert_ok();
    events.recv().unwrap()
}

struct Shop;

impl SessionName for Shop {
    const COOKIE: &'static str = "shop";
}

/// What an upstream says of its users.
async fn upstreams(text: &str) -> Vec<Row> {
    let tested = Memory::start().await;
    let logout = BackChannelLogout::new(tested.middleware().build().manager());
    let (principal, now) = (somebody(), SystemTime::now());
    vec![
        debug("Upstream", &Upstream::new(text, &principal, now)),
        debug(
            "UpstreamNotice",
            &UpstreamNotice::of_session(text, &principal, now),
        ),
        debug("JwkSet", &r#"{"keys":[]}"#.parse::<JwkSet>().unwrap()),
        error("InvalidJwkSet", &text.parse::<JwkSet>().unwrap_err()),
        debug("BackChannelLogout", &logout),
        error(
            "BackChannelLogoutError",
            &logout.accept(text).await.unwrap_err(),
        ),
    ]
}

/// A session that is listed, and opened from outside.
async fn managed(text: &str) -> Vec<Row> {
    let tested = Memory::start().await;
    let sessions = tested.middleware().build().manager();
    let browser = tested.browser().await;
    let principal = somebody();
    let log_in = |s: &Session| {
        s.insert("text", text).unwrap();
        s.login_with(Login::new(principal.as_str()).device(text))
            .unwrap();
    };
    browser.visit(log_in).await.assert_ok();
    let page = sessions.first_page(&principal, 1).await.unwrap();
    let mut list = sessions.list(&principal).await.unwrap();
    let listed = list.next().unwrap();
    let opened = sessions.open(&principal, &listed.handle()).await.unwrap();
    let nobody = sessions.revoke_others(&Session::new()).await.unwrap_err();
    vec![
        debug("SessionManager", &sessions),
        debug("SessionList", &page),
        debug("NextPage", &page.next_page()),
        debug("ListedSession", &listed),
        debug("SessionHandle", &listed.handle()),
        debug("OpenedSession", &opened),
        debug("SessionOperator", &sessions.operator()),
        debug("SessionStats", &sessions.operator().stats().await.unwrap()),
        debug(
            "ExportedSession",
            &sessions.export(&principal).await.unwrap(),
        ),
        debug("ClientAddress", &listed.address()),
        debug("SessionEnded", &opened.as_ref().map(|it| it.ended())),
        debug("EndReason", &actix_session::EndReason::Revoked),
        error("SessionEndedError", &Session::new().ended().unwrap_err()),
        error("SessionManagerError", &nobody),
        error(
            "InvalidSessionHandle",
            &text.parse::<SessionHandle>().unwrap_err(),
        ),
        debug("StoreIndex", &tested.store().index()),
        debug("OverLimit", &OverLimit::Refuse),
        error("TooManySessions", &TooManySessions),
    ]
}

async fn stores(text: &str) -> Vec<Row> {
    let memory = MemorySessionStore::new();
    let any = AnySessionStore::new("memory:").await.unwrap();
    let redis = RedisSessionStore::new(servers::RedisServer::shared_url().unwrap()).await;
    let actor = RedisActorSessionStore::builder(redis_url(text));
    let cookie = CookieSessionStore::default().with_revocation(memory.clone());
    vec![
        debug("MemorySessionStore", &memory),
        debug("MemorySessionStoreBuilder", &MemorySessionStore::builder()),
        debug("AnySessionStore", &any),
        debug("RedisSessionStore", &redis.unwrap()),
        debug("RedisActorSessionStoreBuilder", &actor),
        debug("RedisActorSessionStore", &actor.build()),
        debug("CookieSessionStore", &cookie),
    ]
}

fn redis_url(password: &str) -> String {
    format!("redis://user:{password}@127.0.0.1:1/0")
}

async fn sqlite(text: &str) -> Vec<Row> {
    let store = Sqlite::start().await.store();
    let sweeper = store.spawn_sweeper(StdDuration::from_secs(60), 1);
    let builder = SqliteSessionStore::builder(format!("sqlite://{text}"));
    vec![
        debug("SqlSessionStore", &store),
        debug("Sweeper", &sweeper),
        debug("SqlSessionStoreBuilder", &builder),
    ]
}

/// Stores that cannot be built, and how they say so.
async fn unreachable_stores(text: &str) -> Vec<Row> {
    let limit = StdDuration::from_millis(200);
    let redis = RedisSessionStore::builder(redis_url(text)).connect_timeout(limit);
    let postgres = format!("postgres://user:{text}@127.0.0.1:1/db");
    let postgres = PostgresSessionStore::builder(postgres).connect_timeout(limit);
    let mysql = format!("mysql://user:{text}@127.0.0.1:1/db");
    let mysql = MySqlSessionStore::builder(mysql).connect_timeout(limit);
    let no_url = RedisSessionStore::new(format!("no-url:{text}")).await;
    let no_store = AnySessionStore::new(&format!("no-store://user:{text}@host")).await;
    let mut rows = vec![
        debug("RedisSessionStoreBuilder", &redis),
        debug("SqlSessionStoreBuilder", &postgres),
        debug("SqlSessionStoreBuilder", &mysql),
    ];
    let failures = [
        no_url.err(),
        no_store.err(),
        redis.build().await.err(),
        postgres.build().await.err(),
        mysql.build().await.err(),
    ];
    let failures = failures.into_iter().map(Option::unwrap);
    rows.extend(failures.map(|failure| error("LoadError", &LoadError::Other(failure))));
    rows
}

/// What a store is asked and answers.
fn contract(text: &str) -> Vec<Row> {
    let session_key: String = generate_session_key().into();
    capture::plant("a session key", &session_key);
    let key = || SessionKey::try_from(session_key.clone()).unwrap();
    let too_long = SessionKey::try_from(session_key.repeat(70)).unwrap_err();
    let end = End::from(SystemClock.now());
    let record = Record::decode(format!(r#"{{"v":1,"state":{{"text":"{text}"}}}}"#)).unwrap();
    vec![
        debug("SessionKey", &key()),
        error("InvalidSessionKeyError", &too_long),
        debug("Older", &Older::none()),
        debug("Committed", &Committed::NewValue(key(), end, Older::none())),
        debug("Rotated", &Rotated::Rotated(key(), end, Older::none())),
        debug("Record", &record),
        debug("Opened", &Opened::Live(record)),
    ]
}

/// Records that cannot be read.
fn records(text: &str) -> Vec<Row> {
    let broken = [format!("[{text}"), format!(r#"{{"v":2,"a":"{text}"}}"#)];
    let row = |text| error("DecodeError", &Record::decode(text).unwrap_err());
    broken.into_iter().map(row).collect()
}

async fn errors(text: &str) -> Vec<Row> {
    let no_key = secret_key::parse(&format!("no key: {text}")).err();
    vec![
        error("SecretKeyError", &no_key.unwrap()),
        error("SaveError", &SaveError::Other(Gone.into())),
        error("UpdateError", &UpdateError::Other(Contended.into())),
        error("CommitError", &CommitError::Other(OutcomeUnknown.into())),
        error("Gone", &Gone),
        error("Contended", &Contended),
        error("OutcomeUnknown", &OutcomeUnknown),
        error("StoreFull", &StoreFull),
        error("StateTooLarge", &too_large(text).await),
        error("ConfigError", &ConfigError::Ttl),
    ]
}

/// How a store refuses a state that grows too large.
async fn too_large(text: &str) -> StateTooLarge {
    let state = HashMap::from([("text".to_owned(), format!("\"{}\"", text.repeat(1 << 20)))]);
    let saved = MemorySessionStore::new().save(state, &Duration::HOUR).await;
    match saved {
        Err(SaveError::Other(error)) => *error.downcast_ref().unwrap(),
        other => panic!("{}", other.is_ok()),
    }
}

/// A guard, and what it says to another site.
async fn cross_site() -> Vec<Row> {
    let guard = CrossSiteGuard::new();
    let untrusted = guard.clone().trust("example.com").unwrap_err();
    let inner = guard.new_transform(ok_service()).await.unwrap();
    let request = TestRequest::post().insert_header(("origin", "null"));
    let refused = inner.call(request.to_srv_request()).await.unwrap();
    let refusal = refused.response().error().unwrap();
    vec![
        debug("CrossSiteGuard", &guard),
        debug("InnerCrossSiteGuard", &inner),
        debug("CrossSiteReason", &CrossSiteReason::NullOrigin),
        error(
            "CrossSiteRefusal",
            refusal.as_error::<CrossSiteRefusal>().unwrap(),
        ),
        error("InvalidOrigin", &untrusted),
        error("CsrfTokenError", &CsrfTokenError::Invalid),
    ]
}

fn settings() -> Vec<Row> {
    let lifecycle: SessionLifecycle = BrowserSession::default().into();
    vec![
        debug("OldCookie", &OldCookie::named("id")),
        debug("SystemClock", &SystemClock),
        debug("Latest", &SystemClock.__latest()),
        debug("ManualClock", &ManualClock::new()),
        debug("CookieContentSecurity", &CookieContentSecurity::Private),
        debug("OnLoadError", &OnLoadError::Anonymous),
        debug("WireFormat", &WireFormat::V1),
        debug("SessionLifecycle", &lifecycle),
        debug("BrowserSession", &BrowserSession::default()),
        debug("PersistentSession", &PersistentSession::default()),
        debug("TtlExtensionPolicy", &TtlExtensionPolicy::OnEveryRequest),
        debug("SessionPolicy", &SessionPolicy::aal1()),
    ]
}

/// Shows what passes between the middleware and a store.
struct Peek {
    inner: MemorySessionStore,
    seen: Arc<Mutex<Vec<Row>>>,
}

impl Peek {
    fn show(&self, name: &'static str, value: &dyn Debug) {
        self.seen.lock().unwrap().push(debug(name, value));
    }
}

impl SessionStore for Peek {
    actix_session::forward_store_methods!(
        self => self.inner; except open, create, commit, rotate, watch
    );

    async fn watch(&self, key: &SessionKey, watch: Watch, terms: &Terms) {
        self.show("Watch", &watch);
        self.inner.watch(key, watch, terms).await;
    }

    async fn open(&self, key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
        let opened = self.inner.open(key, terms).await;
        self.show("SessionKey", key);
        self.show("Terms", terms);
        self.show("Opened", &opened);
        opened
    }

    async fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(SessionKey, End), CommitError> {
        self.show("Changes", changes);
        let created = self.inner.create(changes, terms).await;
        self.show("End", &created);
        created
    }

    async fn commit(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Committed, CommitError> {
        self.show("Changes", changes);
        self.show("Record", &base);
        let made_on = changes.made_on(base);
        self.show("MadeOn", &made_on);
        self.show("Merged", &base.map(|base| made_on.merge_into(base, terms)));
        let committed = self.inner.commit(key, base, changes, terms).await;
        self.show("Committed", &committed);
        committed
    }

    async fn rotate(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Rotated, CommitError> {
        self.show("Changes", changes);
        let rotated = self.inner.rotate(key, base, changes, terms).await;
        self.show("Rotated", &rotated);
        rotated
    }
}
