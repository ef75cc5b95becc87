//! T-60 to T-68: what stores, logs and errors show.

use std::{
    collections::HashMap,
    error::Error as StdError,
    fmt::{Debug, Display},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use actix_session::{
    Clock as _, Login, Session, SessionMiddleware, SessionStatus, SystemClock,
    config::{
        BrowserSession, ConfigError, CookieContentSecurity, OldCookie, OnLoadError,
        PersistentSession, SessionLifecycle, SessionPolicy, TtlExtensionPolicy, WireFormat,
        secret_key,
    },
    storage::{
        AnySessionStore, Changes, CommitError, Committed, Contended, CookieSessionStore, End, Gone,
        LoadError, MemorySessionStore, Opened, OutcomeUnknown, Record, RedisSessionStore, Rotated,
        SaveError, SessionKey, SessionStore, StateTooLarge, Terms, UpdateError,
        generate_session_key,
    },
    testing::ManualClock,
};
use actix_web::{
    App, HttpResponse,
    cookie::{Key, time::Duration},
    dev::Transform as _,
    http::{StatusCode, header::USER_AGENT},
    test::{TestRequest, init_service, ok_service},
    web,
};
use redis::AsyncCommands as _;

use super::{
    arena::{
        Arena, InCookie, Memory, Redis, Revocable, fingerprint, key_of, private, secret, signed,
        site, somebody,
    },
    attacks, capture,
};
use crate::support::{Answer, Browser, DETAIL, Server, Site, Spy, TestStore, http_get};

attacks! {
    every: [t65_log_injection, t68_error_bodies],
    lasting: [],
    server: [t68_failed_modify],
    timed: [],
    cookie: [],
    alone: [
        t60_digests_in_redis,
        t60_digests_in_the_list,
        t65b_refusals,
        t65b_life_cycle,
        t65b_flood,
        t66_over_http,
        t67_debug,
        t67_list_is_complete,
        t68_redis_says_no,
    ],
}

/// All files of the library.
pub(crate) fn sources() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

/// With `hashed_keys` the key is nowhere in Redis. (By default it is the name, as published.)
async fn t60_digests_in_redis() {
    let arena: Redis = crate::attacks::arena::begin().await;
    let store = RedisSessionStore::builder(servers::RedisServer::shared_url().unwrap())
        .key_prefix(arena.prefix.clone())
        .hashed_keys()
        .clock(arena.clock().clone())
        .build()
        .await
        .unwrap();
    let builder = SessionMiddleware::builder(store, arena.key().clone());
    let browser = arena.visitor_of(builder.clock(arena.clock().clone())).await;
    let mut keys = Vec::new();
    let name = somebody();
    let steps: [&dyn Fn(&Session); 3] = [
        &|s| s.insert("a", 1).unwrap(),
        &|s| s.login(&name).unwrap(),
        &Session::renew,
    ];
    for step in steps {
        browser.visit(step).await.assert_ok();
        keys.push(key_of(&arena, &browser));
    }
    let dump = arena.dump().await;
    assert_eq!((dump.records().len(), dump.marks()), (1, 2), "{dump:?}");
    for key in keys {
        let shown = dump
            .0
            .iter()
            .any(|(at, text)| at.contains(&key) || text.contains(&key));
        assert!(!shown);
    }
    assert_eq!(browser.principal().await.as_deref(), Some(&*name));
}

/// The list of ended sessions holds digests of ids and principals.
async fn t60_digests_in_the_list() {
    let arena: Revocable = crate::attacks::arena::begin().await;
    let browser = arena.visitor().await;
    let name = somebody();
    browser.visit(|s| s.login(&name).unwrap()).await.assert_ok();
    let inside = key_of(&arena, &browser);
    let id = inside.split('.').nth(1).unwrap().to_owned();
    assert_eq!(id.len(), 32);
    browser.visit(Session::purge).await.assert_ok();
    arena.store().revoke_principal(&name).await.unwrap();
    let dump = arena.dump().await;
    assert_eq!(dump.0.len(), 2, "{dump:?}");
    for (at, text) in dump.0 {
        assert!(at.len() == 64 && at.bytes().all(|byte| byte.is_ascii_hexdigit()));
        for secret in [&name, &id] {
            assert!(!at.contains(secret.as_str()) && !text.contains(secret.as_str()));
        }
    }
}

const EVIL: &str = "evil\r\nERROR forged=1\u{1b}[31m\u{202e}\u{2066}\u{9b}\u{2028}";

fn is_harmless(text: &str) -> bool {
    let bidi = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| c.is_control() || bidi(c))
}

#[track_caller]
fn assert_harmless_log() {
    for line in capture::own_lines() {
        assert!(is_harmless(&line.text), "{line:?}");
    }
}

/// Line ends, escapes and marks of direction, from wherever a client or its data may bring them.
async fn t65_log_injection(arena: impl Arena) {
    let browser = arena.visitor_of(arena.rolling()).await;
    let encoded: String = EVIL.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let bidi = "id=\u{202e}evil\u{2066}; \u{202e}=evil; id=x".to_owned();
    let sealed = format!("id={}", private(arena.key(), "id", EVIL));
    for field in [format!("id={encoded}; {encoded}=evil"), bidi, sealed] {
        let request = TestRequest::get()
            .insert_header(("cookie", field.into_bytes()))
            .insert_header((USER_AGENT, "\u{202e}evil".as_bytes()));
        let fresh = Browser::new(browser.site.clone());
        fresh
            .visit_with(request, |s| s.insert("a", 1).unwrap())
            .await
            .assert_ok();
    }
    let principal = format!("{EVIL}{}", somebody());
    let act = |s: &Session| {
        s.login_with(Login::new(principal.as_str()).device(EVIL))
            .unwrap();
        s.insert(EVIL, EVIL).unwrap();
    };
    browser.visit(act).await.assert_ok();
    // An entry's name stands in the error of a `modify` that meets another type when it merges.
    let flight = browser.begin().await;
    let longer = |text: Option<String>| text.map(|text| text + "!");
    flight.modify(EVIL, longer).unwrap();
    browser
        .visit(|s| s.insert(EVIL, 1).unwrap())
        .await
        .assert_ok();
    flight.finish().await;
    let mut error = String::new();
    browser
        .visit(|s| {
            if let Err(wrong) = s.get::<Vec<u8>>(EVIL) {
                error = wrong.to_string();
            }
        })
        .await
        .assert_ok();
    assert!(error.contains("evil"));
    browser.visit(Session::purge).await.assert_ok();
    arena.assert_sessions(3).await;
    assert_harmless_log();
}

fn count(words: &[&str]) -> usize {
    let lines = capture::own_lines();
    let told = |text: &str| words.iter().all(|word| text.contains(word));
    lines.iter().filter(|line| told(&line.text)).count()
}

/// A refusal that a client cannot repeat without end is one event, with a reason and a fingerprint.
async fn t65b_refusals() {
    let arena: InCookie = crate::attacks::arena::begin().await;
    let text = secret("a state value");
    let newer = format!(r#"{{"v":2,"state":{{"text":"{text}"}}}}"#);
    let browser = arena.visitor().await;
    browser.set_cookie("id", private(arena.key(), "id", &newer));
    browser.visit(|_| ()).await.assert_ok();
    assert_eq!(
        count(&["reason=unreadable-record", &fingerprint(&newer)]),
        1
    );

    let state = format!(r#"{{"text":"\"{text}\""}}"#);
    let mode = CookieContentSecurity::Signed;
    let browser = arena
        .visitor_of(arena.middleware().cookie_content_security(mode))
        .await;
    let value = signed(arena.key(), "id", &state);
    let field: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    browser.set_cookie("id", field);
    assert!(browser.is_nobody().await);
    assert_eq!(
        count(&["reason=unbound-signature", &fingerprint(&state)]),
        1
    );

    let memory: Memory = crate::attacks::arena::begin().await;
    let (a, b) = (memory.visitor().await, memory.visitor().await);
    for browser in [&a, &b] {
        browser
            .visit(|s| s.insert("text", &text).unwrap())
            .await
            .assert_ok();
    }
    let both = [&a, &b].map(|browser| format!("id={}", browser.value().unwrap()));
    a.visit_as(&[both.join("; ")], |_| ()).await.assert_ok();
    let second = fingerprint(&key_of(&memory, &b));
    assert_eq!(count(&["reason=duplicate-cookie", &second]), 1);
    assert_eq!(
        count(&[
            "reason=duplicate-cookie",
            &fingerprint(&key_of(&memory, &a))
        ]),
        0
    );
}

/// Created, renewed, forwarded, dropped, gone, ended: one event each, with fingerprints.
async fn t65b_life_cycle() {
    let arena: Memory = crate::attacks::arena::begin().await;
    let browser = arena.visitor().await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    let first = fingerprint(&key_of(&arena, &browser));
    assert_eq!(count(&["session created", &first]), 1);
    let (flight, old) = (browser.begin().await, browser.fork());
    browser.visit(Session::renew).await.assert_ok();
    let second = fingerprint(&key_of(&arena, &browser));
    assert_eq!(
        count(&["session renewed", &format!("before={first}"), &second]),
        1
    );
    flight.insert("b", 1).unwrap();
    flight.finish().await.assert_ok();
    assert_eq!(count(&["the changes followed", &first]), 1);
    old.visit(|s| s.insert("c", 1).unwrap()).await.assert_ok();
    assert_eq!(count(&["WARN", "are dropped", &first]), 1);
    let flight = browser.begin().await;
    browser.visit(Session::purge).await.assert_ok();
    assert_eq!(count(&["session ended", &second]), 1);
    flight.insert("d", 1).unwrap();
    flight.finish().await.assert_ok();
    assert_eq!(
        count(&["INFO", "while a request was in flight", &second]),
        1
    );
    let spy = Spy::new(arena.store());
    spy.refuse(&["open"]);
    let builder = SessionMiddleware::builder(spy, arena.key().clone());
    let failing = arena.visitor_of(builder).await;
    failing.set_cookie("id", private(arena.key(), "id", &"a".repeat(64)));
    let before = count(&[
        "ERROR",
        "operation=load",
        "the session store failed",
        DETAIL,
    ]);
    failing.visit(|_| ()).await.assert_opaque();
    let after = count(&[
        "ERROR",
        "operation=load",
        "the session store failed",
        DETAIL,
    ]);
    assert!(after > before);
}

/// A thousand refused cookies of each kind are counted, not told one by one. In a process of its
/// own: the limit is the process'.
async fn t65b_flood() {
    const CHILD: &str = "ATTACKS_FLOOD_ALONE";
    capture::install();
    if std::env::var_os(CHILD).is_none() {
        let run = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "attacks::logs::alone::t65b_flood",
                "--test-threads=1",
            ])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let arena: Memory = crate::attacks::arena::begin().await;
    let browser = arena.visitor().await;
    let started = std::time::Instant::now();
    for n in 0..1_000 {
        browser
            .visit_as(&[format!("id=junk{n}")], |_| ())
            .await
            .assert_ok();
        let unknown: String = generate_session_key().into();
        let sealed = private(arena.key(), "id", &unknown);
        browser
            .visit_as(&[format!("id={sealed}")], |_| ())
            .await
            .assert_ok();
    }
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    for reason in ["reason=bad-seal", "reason=unknown-key"] {
        let events = count(&[reason, "unreported="]);
        assert!(
            (1..=seconds + 2).contains(&events),
            "{reason}: {events} in {seconds} s"
        );
        assert!(count(&[reason, "unreported=0"]) >= 1);
    }
    arena.assert_sessions(0).await;
}

async fn fill(session: Session, text: web::Path<String>) -> HttpResponse {
    session.insert("text", text.into_inner()).unwrap();
    session.renew();
    HttpResponse::Ok().finish()
}

/// Over a socket, so that the server's own log is among what is searched.
async fn t66_over_http() {
    capture::install();
    let (key, text) = (Key::generate(), secret("a state value"));
    capture::plant_key(&key);
    let store = MemorySessionStore::new();
    let make_key = key.clone();
    let server = Server::start(
        1,
        move || SessionMiddleware::new(store.clone(), make_key.clone()),
        |routes| {
            routes.route("/{text}", web::get().to(fill));
        },
    );
    let mut cookie = None;
    for _ in 0..3 {
        let (status, pair) =
            http_get(server.address, &format!("/{}", "plain"), cookie.as_deref()).await;
        assert_eq!(status, 200);
        let pair = pair.unwrap();
        let value = pair.strip_prefix("id=").unwrap();
        capture::plant("a sealed value", value);
        capture::plant(
            "a session key",
            &crate::attacks::arena::opened(&key, "id", value).unwrap(),
        );
        cookie = Some(pair);
    }
    server.stop().await;
    let _ = text;
}

/// Runs all attacks once, one after the other, and searches what was logged for every secret.
#[actix_web::test]
async fn t66_secrets_in_logs() {
    capture::install();
    crate::attacks::arena::listen();
    for (name, run) in crate::attacks::all() {
        println!("{name}");
        run().await;
    }
    let (secrets, lines) = capture::sizes();
    assert!(secrets > 5_000 && lines > 5_000, "{secrets} {lines}");
    // What the search is worth: it finds a secret, and it has seen the most talkative level.
    let planted = secret("a probe");
    assert!(!capture::leaks_in(&format!("before {planted} after")).is_empty());
    tracing::trace!(target: "probe", "heard");
    log::trace!(target: "probe", "heard");
    assert!(capture::heard("probe") >= 2);
    let leaks = capture::leaks();
    let shown = &leaks[..leaks.len().min(5)];
    assert!(leaks.is_empty(), "{} leaks: {shown:#?}", leaks.len());
    assert_harmless_log();
}

type Shown = Arc<Mutex<Vec<(&'static str, String)>>>;

/// Shows what passes between the middleware and a store.
struct Peek {
    inner: MemorySessionStore,
    shown: Shown,
}

impl Peek {
    fn show(&self, name: &'static str, value: &dyn Debug) {
        let text = format!("{value:?} {value:#?}");
        self.shown.lock().unwrap().push((name, text));
    }
}

type State = HashMap<String, String>;

impl SessionStore for Peek {
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
        self.inner.update(key, state, ttl).await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        self.inner.update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.inner.delete(key).await
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

/// How a store refuses a state that grows too large.
async fn too_large(text: &str) -> StateTooLarge {
    let state = HashMap::from([("text".to_owned(), format!("\"{}\"", text.repeat(1 << 20)))]);
    let saved = MemorySessionStore::new().save(state, &Duration::HOUR).await;
    match saved {
        Err(SaveError::Other(error)) => *error.downcast_ref().unwrap(),
        other => panic!("{}", other.is_ok()),
    }
}

/// `{:?}` and `{:#?}` of every public type, full of secrets.
async fn shown_types() -> Vec<(&'static str, String)> {
    let shown = Shown::default();
    let add = |name: &'static str, value: &dyn Debug| {
        let text = format!("{value:?} {value:#?}");
        shown.lock().unwrap().push((name, text));
    };
    let error = |name: &'static str, value: &dyn StdError| {
        let mut text = format!("{value:?} {value:#?} {value}");
        let mut cause = value.source();
        while let Some(value) = cause {
            text.push_str(&format!(" {value:?} {value:#?} {value}"));
            cause = value.source();
        }
        shown.lock().unwrap().push((name, text));
    };
    let text = secret("a state value");
    let (key, previous) = (Key::generate(), Key::generate());
    capture::plant_key(&key);
    capture::plant_key(&previous);

    let memory = MemorySessionStore::new();
    let peek = Peek {
        inner: memory.clone(),
        shown: Arc::clone(&shown),
    };
    let builder = SessionMiddleware::builder(peek, key.clone()).previous_keys([previous]);
    add("SessionMiddlewareBuilder", &builder);
    let middleware = builder.build();
    add("SessionMiddleware", &middleware);
    let inner = middleware.new_transform(ok_service()).await;
    add("InnerSessionMiddleware", &inner.ok());
    let browser = Browser::new(site(middleware, &key).await);
    let principal = somebody();
    browser
        .visit(|s| s.insert("text", &text).unwrap())
        .await
        .assert_ok();
    let login = || Login::new(principal.as_str()).device(text.as_str());
    add("Login", &login());
    browser
        .visit(|s| {
            s.login_with(login()).unwrap();
            s.modify("text", |old: Option<String>| old).unwrap();
            add("Session", s);
            add("Entries", &s.entries());
            add("SessionStatus", &s.status());
            error("SessionGetError", &s.get::<u8>("text").unwrap_err());
            let wrong = s.modify("text", |old: Option<u8>| old).unwrap_err();
            error("SessionUpdateError", &wrong);
        })
        .await
        .assert_ok();
    browser
        .visit(|s| s.insert("other", &text).unwrap())
        .await
        .assert_ok();
    let session = Session::new();
    session.insert("text", &text).unwrap();
    let reserved = session.insert("__actix_session", &text).unwrap_err();
    error("SessionInsertError", &reserved);
    let long = text.repeat(100);
    error(
        "SessionLoginError",
        &session.login(long.as_str()).unwrap_err(),
    );
    error("SessionPurgeError", &session.purge_now().await.unwrap_err());
    add("SessionStatus", &SessionStatus::Renewed);

    add("MemorySessionStore", &memory);
    add("MemorySessionStoreBuilder", &MemorySessionStore::builder());
    add(
        "CookieSessionStore",
        &CookieSessionStore::default().with_revocation(memory),
    );
    let url = format!("redis://user:{text}@127.0.0.1:1/0");
    let builder = RedisSessionStore::builder(url.as_str())
        .connect_timeout(std::time::Duration::from_millis(200));
    add("RedisSessionStoreBuilder", &builder);
    error(
        "LoadError",
        &LoadError::Other(builder.build().await.unwrap_err()),
    );
    let wrong = RedisSessionStore::new(format!("no-url:{text}")).await;
    error("LoadError", &LoadError::Other(wrong.err().unwrap()));
    let redis = RedisSessionStore::new(servers::RedisServer::shared_url().unwrap()).await;
    add("RedisSessionStore", &redis.unwrap());

    add(
        "AnySessionStore",
        &AnySessionStore::new("memory:").await.unwrap(),
    );
    let wrong = AnySessionStore::new(&format!("no-store://user:{text}@host")).await;
    error("LoadError", &LoadError::Other(wrong.err().unwrap()));

    {
        let builder = actix_session::storage::RedisActorSessionStore::builder(url.as_str());
        add("RedisActorSessionStoreBuilder", &builder);
        add("RedisActorSessionStore", &builder.build());
    }
    {
        use actix_session::storage::SqliteSessionStore;
        let arena = <crate::support::Sqlite as TestStore>::start().await;
        add("SqliteSessionStore", &arena.store());
        let sweeper = arena
            .store()
            .spawn_sweeper(std::time::Duration::from_secs(60), 1);
        add("Sweeper", &sweeper);
        add(
            "SqliteSessionStoreBuilder",
            &SqliteSessionStore::builder(format!("sqlite://{text}")),
        );
    }
    {
        use actix_session::storage::PostgresSessionStore;
        let url = format!("postgres://user:{text}@127.0.0.1:1/db");
        let builder = PostgresSessionStore::builder(url)
            .connect_timeout(std::time::Duration::from_millis(200));
        add("PostgresSessionStoreBuilder", &builder);
        error(
            "LoadError",
            &LoadError::Other(builder.build().await.err().unwrap()),
        );
    }
    {
        use actix_session::storage::MySqlSessionStore;
        let url = format!("mysql://user:{text}@127.0.0.1:1/db");
        let builder =
            MySqlSessionStore::builder(url).connect_timeout(std::time::Duration::from_millis(200));
        add("MySqlSessionStoreBuilder", &builder);
        error(
            "LoadError",
            &LoadError::Other(builder.build().await.err().unwrap()),
        );
    }

    let session_key: String = generate_session_key().into();
    capture::plant("a session key", &session_key);
    let as_key = || SessionKey::try_from(session_key.clone()).unwrap();
    add("SessionKey", &as_key());
    let long = SessionKey::try_from(session_key.repeat(70)).unwrap_err();
    error("InvalidSessionKeyError", &long);
    let end = End::from(SystemClock.now());
    add("Committed", &Committed::Resealed(as_key(), end));
    add("Rotated", &Rotated::Rotated(as_key(), end));
    let record = Record::decode(format!(r#"{{"v":1,"state":{{"text":"{text}"}}}}"#)).unwrap();
    add("Record", &record);
    add("Opened", &Opened::Live(record));
    error(
        "DecodeError",
        &Record::decode(format!("[{text}")).unwrap_err(),
    );
    error(
        "DecodeError",
        &Record::decode(format!(r#"{{"v":2,"a":"{text}"}}"#)).unwrap_err(),
    );

    let no_key = secret_key::parse(&format!("no key: {text}")).err().unwrap();
    error("SecretKeyError", &no_key);
    error("SaveError", &SaveError::Other(Gone.into()));
    error("UpdateError", &UpdateError::Other(Contended.into()));
    error("CommitError", &CommitError::Other(OutcomeUnknown.into()));
    error("Gone", &Gone);
    error("Contended", &Contended);
    error("OutcomeUnknown", &OutcomeUnknown);
    let stale = Session::new().require_recent_authentication(std::time::Duration::ZERO);
    error("StaleAuthenticationError", &stale.unwrap_err());
    error("StateTooLarge", &too_large(&text).await);
    add("OldCookie", &OldCookie::named("id"));
    error("ConfigError", &ConfigError::Ttl);
    add("SystemClock", &SystemClock);
    add("ManualClock", &ManualClock::new());
    add("CookieContentSecurity", &CookieContentSecurity::Private);
    add("OnLoadError", &OnLoadError::Anonymous);
    add("WireFormat", &WireFormat::V1);
    let lifecycle: SessionLifecycle = BrowserSession::default().into();
    add("SessionLifecycle", &lifecycle);
    add("BrowserSession", &BrowserSession::default());
    add("PersistentSession", &PersistentSession::default());
    add("TtlExtensionPolicy", &TtlExtensionPolicy::OnEveryRequest);
    add("SessionPolicy", &SessionPolicy::aal1());
    let shown = shown.lock().unwrap();
    shown.clone()
}

async fn t67_debug() {
    capture::install();
    for (name, text) in shown_types().await {
        assert!(!text.is_empty());
        let leaks = capture::leaks_in(&text);
        assert!(leaks.is_empty(), "{name} shows {leaks:?}: {text}");
    }
}

/// A new public type has to be added above.
async fn t67_list_is_complete() {
    capture::install();
    let shown: Vec<&str> = shown_types().await.iter().map(|(name, _)| *name).collect();
    // What this build does not have. (The names in `sql/public.rs` come from a macro.)
    let elsewhere = |path: &str| {
        // Built for the fuzzing targets alone.
        path.ends_with("src/fuzzing.rs")
            || (path.ends_with("redis/actor.rs") && cfg!(not(feature = "redis-actor-session")))
            || (path.contains("/storage/sql/") && cfg!(not(feature = "sqlite-session")))
    };
    // Made by a macro.
    let mut public: Vec<String> = ["Get", "Insert", "Update", "Login", "Purge"]
        .map(|kind| format!("Session{kind}Error"))
        .into();
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        if elsewhere(&file.to_string_lossy().replace('\\', "/")) {
            continue;
        }
        for line in text.lines() {
            let line = line
                .strip_prefix("pub struct ")
                .or_else(|| line.strip_prefix("pub enum "));
            let Some(rest) = line else { continue };
            let end = rest
                .find(|c: char| !c.is_alphanumeric())
                .unwrap_or(rest.len());
            public.push(rest[..end].to_owned());
        }
    }
    assert!(public.len() > 40, "{public:?}");
    for name in public {
        assert!(shown.contains(&&*name), "add {name} to `shown_types`");
    }
}

async fn wrong_type(session: Session) -> actix_web::Result<String> {
    let number: Option<u8> = session.get("text")?;
    Ok(format!("{number:?}"))
}

/// The method that is refused, and what asks for it.
type Step<'a> = (&'static str, &'a dyn Fn(&Session));

/// Whatever fails, the body is empty and the error names no value.
async fn t68_error_bodies(arena: impl Arena) {
    let text = secret("a state value");
    let spy = Spy::new(arena.store());
    let builder = || {
        SessionMiddleware::builder(spy.clone(), arena.key().clone()).clock(arena.clock().clone())
    };
    let browser = arena.visitor_of(builder()).await;
    browser
        .visit(|s| s.insert("text", &text).unwrap())
        .await
        .assert_ok();
    let (value, before) = (browser.value(), arena.dump().await.sorted());
    let again = |s: &Session| s.insert("again", &text).unwrap();
    let steps: [Step<'_>; 4] = [
        ("open", &again),
        ("commit", &again),
        ("rotate", &|s| s.login(&text).unwrap()),
        ("delete", &Session::purge),
    ];
    for (method, step) in steps {
        spy.refuse(&[method]);
        browser.visit(step).await.assert_opaque();
        assert_eq!(browser.value(), value, "{method}");
        assert_eq!(arena.dump().await.sorted(), before, "{method}");
    }
    spy.refuse(&["create"]);
    let fresh = Browser::new(browser.site.clone());
    fresh.visit(again).await.assert_opaque();
    spy.refuse(&["open"]);
    let degraded = browser.at(site(
        builder().on_load_error(OnLoadError::Anonymous).build(),
        arena.key(),
    )
    .await);
    let answer = degraded.visit(again).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body.is_empty());
    answer.assert_no_cookie();
    spy.refuse(&[]);
    assert!(!browser.is_nobody().await);

    let app = App::new()
        .wrap(builder().build())
        .route("/", web::get().to(wrong_type));
    let pair = format!("id={}", browser.value().unwrap());
    let request = TestRequest::get().insert_header(("cookie", pair));
    let answer: Answer = Site::of(init_service(app).await).answer(request).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.body.is_empty());
    let mut errors: Vec<Box<dyn StdError>> = Vec::new();
    browser
        .visit(|s| {
            errors.push(Box::new(s.get::<u8>("text").unwrap_err()));
            errors.push(Box::new(s.update("text", |n: u8| n).unwrap_err()));
            errors.push(Box::new(s.update_or("text", 1, |n: u8| n).unwrap_err()));
            errors.push(Box::new(s.modify("text", |n: Option<u8>| n).unwrap_err()));
            errors.push(Box::new(s.insert("__actix_session", &text).unwrap_err()));
            errors.push(Box::new(s.login("").unwrap_err()));
            errors.push(Box::new(s.login(text.repeat(40)).unwrap_err()));
        })
        .await
        .assert_ok();
    for error in errors {
        assert_no_value(&*error);
    }
    arena.assert_sessions(1).await;
}

fn assert_no_value(error: &dyn StdError) {
    let mut next = Some(error);
    while let Some(error) = next {
        let (display, debug): (&dyn Display, &dyn Debug) = (&error, &error);
        for shown in [
            format!("{display}"),
            format!("{debug:?}"),
            format!("{debug:#?}"),
        ] {
            assert!(capture::leaks_in(&shown).is_empty(), "{shown}");
        }
        next = error.source();
    }
}

/// A `modify` that meets another type when it merges: what it met is a value.
async fn t68_failed_modify(arena: impl Arena) {
    let browser = arena.visitor().await;
    browser
        .visit(|s| s.insert("n", 1).unwrap())
        .await
        .assert_ok();
    let flight = browser.begin().await;
    flight
        .modify("n", |n: Option<u8>| n.map(|n| n + 1))
        .unwrap();
    let text = secret("a state value");
    browser
        .visit(|s| s.insert("n", &text).unwrap())
        .await
        .assert_ok();
    flight.finish().await.assert_opaque();
    assert!(capture::told(&[
        "ERROR",
        "operation=commit",
        "attached to key `n`"
    ]));
    let stored = arena.dump().await.only();
    assert_eq!(stored["n"], format!("\"{text}\""));
}

/// Of a Redis that says no: its words are for the log, and hold no value.
async fn t68_redis_says_no() {
    let arena: Redis = crate::attacks::arena::begin().await;
    let browser = arena.visitor().await;
    let text = secret("a state value");
    browser
        .visit(|s| s.insert("text", &text).unwrap())
        .await
        .assert_ok();
    let flight = browser.begin().await;
    let mut redis = arena.connection.clone();
    let name = arena.only_name().await;
    let _: () = redis.del(&name).await.unwrap();
    let _: () = redis.rpush(&name, &text).await.unwrap();
    flight.insert("text", format!("{text}{text}")).unwrap();
    flight.finish().await.assert_opaque();
    let list: Vec<String> = redis.lrange(&name, 0, -1).await.unwrap();
    assert_eq!(list, [text]);
}
