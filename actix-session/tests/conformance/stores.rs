//! The stores that pass.

use std::{cell::RefCell, collections::HashMap};

use actix_session::{
    Clock as _, Session, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    conformance,
    storage::{
        KeyValueDatabase as _, KeyValueSessionStore, LoadError, MemorySessionStore,
        MySqlSessionStore, PostgresSessionStore, RedisSessionStore, SaveError, SessionKey,
        SessionStore as _, SqliteSessionStore, UpdateError, generate_session_key,
    },
    testing::{ManualClock, TestClient, TestSessions},
};
use actix_web::{
    App, HttpResponse,
    cookie::{Key, time::Duration},
    test::{self, TestRequest},
    web,
};
use redb::{Database, backends::InMemoryBackend};
use servers::{MariaDbServer, PostgresServer, RedisServer};
use tempfile::TempDir;

use crate::{
    compare_and_set_store::CompareAndSetStore, in_memory::InMemory, moka_store::MokaStore,
    redb_store::Redb,
};

conformance!(memory, async |clock| {
    MemorySessionStore::builder().clock(clock).build()
});

conformance!(
    in_memory_database,
    async |clock| {
        KeyValueSessionStore::builder(InMemory::default())
            .clock(clock)
            .build()
    },
    key_value
);

// Whoever expires values by a clock of its own says so.
conformance!(
    in_memory_database_without_a_clock,
    async |_clock| KeyValueSessionStore::new(InMemory::default()),
    key_value,
    without a clock
);

conformance!(
    redb_example,
    async |clock| {
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        let database = Redb::new(database.unwrap()).unwrap();
        KeyValueSessionStore::builder(database).clock(clock).build()
    },
    key_value
);

conformance!(
    moka_example,
    async |clock| MokaStore::new(1_000, clock),
    five_methods
);

conformance!(
    compare_and_set_example,
    async |clock| CompareAndSetStore::new(clock),
    compare_and_set
);

conformance!(sqlite, async |clock| {
    thread_local! {
        /// As long as its test's thread.
        static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
    }
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("sessions.db").display());
    FOLDER.replace(Some(folder));
    let builder = SqliteSessionStore::builder(&url).clock(clock);
    builder.build().await.unwrap()
});

conformance!(postgres, async |clock| {
    let builder = PostgresSessionStore::builder(PostgresServer::shared_url().unwrap());
    let builder = builder.table(own_name()).clock(clock);
    builder.build().await.unwrap()
});

conformance!(mysql, async |clock| {
    let builder = MySqlSessionStore::builder(MariaDbServer::shared_url().unwrap());
    let builder = builder.table(own_name()).clock(clock);
    builder.build().await.unwrap()
});

// It expires by the server's clock.
conformance!(
    redis,
    async |clock| {
        let builder = RedisSessionStore::builder(RedisServer::shared_url().unwrap());
        let builder = builder.key_prefix(own_name()).clock(clock);
        builder.build().await.unwrap()
    },
    without a clock
);

pub(crate) fn own_name() -> String {
    let key = generate_session_key();
    format!("kit_{}", &key.as_ref()[..16]).to_lowercase()
}

/// What was acknowledged is in the file.
#[actix_web::test]
async fn the_redb_example_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let store = || KeyValueSessionStore::new(Redb::open(&path).unwrap());
    let state = HashMap::from([("n".to_owned(), "1".to_owned())]);
    let first = store();
    let key = first.save(state, &Duration::hours(1)).await.unwrap();
    drop(first);
    let loaded = store().load(&key).await.unwrap();
    assert_eq!(loaded.unwrap()["n"], "1");
}

/// Sweeping takes what is over, and nothing else.
#[actix_web::test]
async fn the_redb_example_sweeps() {
    let database = Database::builder().create_with_backend(InMemoryBackend::new());
    let database = Redb::new(database.unwrap()).unwrap();
    let store = KeyValueSessionStore::new(database.clone());
    for minutes in [1, 2, 3, 60] {
        let ttl = Duration::minutes(minutes);
        store.save(HashMap::new(), &ttl).await.unwrap();
    }
    let now = std::time::SystemTime::now() + Duration::minutes(30);
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = u64::try_from(now.as_millis()).unwrap();
    for swept in [2, 1, 0] {
        assert_eq!(database.sweep(now, 2).await.unwrap(), swept);
    }
}

/// Five methods over a map whose calls wait: a real database's do.
#[derive(Clone, Default)]
pub(crate) struct Waiting(std::sync::Arc<std::sync::Mutex<HashMap<String, State>>>);

type State = HashMap<String, String>;

impl actix_session::storage::SessionStore for Waiting {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        let found = self.0.lock().unwrap().get(key.as_ref()).cloned();
        actix_web::rt::task::yield_now().await;
        Ok(found)
    }

    async fn save(&self, state: State, _: &Duration) -> Result<SessionKey, SaveError> {
        let key = generate_session_key();
        self.0
            .lock()
            .unwrap()
            .insert(key.as_ref().to_owned(), state);
        Ok(key)
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        _: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        match self.0.lock().unwrap().get_mut(key.as_ref()) {
            Some(stored) => *stored = state,
            None => return Err(UpdateError::Other(actix_session::storage::Gone.into())),
        }
        Ok(key)
    }

    async fn update_ttl(&self, _: &SessionKey, _: &Duration) -> anyhow::Result<()> {
        Ok(())
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        self.0.lock().unwrap().remove(key.as_ref());
        Ok(())
    }
}

conformance!(waiting, async |_clock| Waiting::default(), five_methods, without a clock);

/// What is known of a principal has an end of its own, which comes later than that of each session.
#[actix_web::test]
async fn a_session_that_lives_for_years_stays_listed() {
    const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

    let clock = ManualClock::new();
    let builder = KeyValueSessionStore::builder(InMemory::default());
    let store = builder.clock(clock.clone()).build();
    let policy = TtlExtensionPolicy::OnEveryRequest;
    let lifecycle = PersistentSession::default().session_ttl(Duration::days(300));
    let builder = SessionMiddleware::builder(store.clone(), Key::generate())
        .session_lifecycle(lifecycle.session_ttl_extension_policy(policy))
        .clock(clock.clone());
    let middleware = builder.build();
    let (manager, sessions) = (middleware.manager(), TestSessions::new(&middleware));
    let visit = async |session: Session, clicks: web::Path<bool>| {
        if *clicks {
            session.modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))?;
        }
        Ok::<_, actix_web::Error>(HttpResponse::Ok())
    };
    let app = App::new()
        .wrap(middleware)
        .route("/{clicks}", web::get().to(visit));
    let client = TestClient::new(test::init_service(app).await);
    client.set_cookie(sessions.cookie(|s| s.login("ferris").unwrap()).await);
    for path in ["/true", "/false", "/true", "/true", "/false", "/false"] {
        for _ in 0..2 {
            clock.advance(DAY * 250);
            store.database().sweep(millis(&clock), 100).await.unwrap();
            client.send(TestRequest::with_uri(path)).await;
            assert_eq!(manager.count("ferris").await.unwrap(), 1, "{path}");
        }
    }
    assert_eq!(manager.revoke_all("ferris").await.unwrap(), 1);
}

fn millis(clock: &ManualClock) -> u64 {
    let since = clock.now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap().as_millis()).unwrap()
}
