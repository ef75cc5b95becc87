//! A million sessions in PostgreSQL and in SQLite: how long loads and commits take, how large a
//! session is, how fast sweeping is, and how much it slows requests down.
//!
//! `cargo bench --manifest-path actix-session/Cargo.toml --bench sql_scale --features \
//! memory-session,sqlite-session,postgres-session,testing`. `SQL_SCALE_ROWS` sets the number
//! of sessions; `SQL_SCALE_ONLY=postgres` or `sqlite` selects one database.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures are for the person who asked")]

use std::{
    collections::HashMap,
    env,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix_session::{
    Session, SessionMiddleware,
    storage::{
        Changes, CommitError, Committed, End, LoadError, MemorySessionStore, Opened,
        PostgresSessionStore, SaveError, SessionKey, SessionStore, SqliteSessionStore, Terms,
        UpdateError, generate_session_key,
    },
};
use actix_web::{
    App,
    cookie::{Key, time},
    test, web,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use servers::PostgresServer;
use sqlx::QueryBuilder;

/// The number of requests for one figure, and of clients that make them at once.
const SAMPLES: usize = 20_000;
const CLIENTS: usize = 4;

fn digest(key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

/// The key of a row: live and expired rows have separate numbers.
fn key(kind: char, number: usize) -> String {
    format!("{kind}{number:063}")
}

fn state() -> HashMap<String, String> {
    let entries = [
        ("user_id", "\"0c5ae2d5-87b2-4a8a-bf5d-c2d43a4e8c37\""),
        ("locale", "\"en-GB\""),
        (
            "basket",
            "[{\"sku\":\"A-1001\",\"n\":2},{\"sku\":\"B-2002\",\"n\":1}]",
        ),
        ("flash", "\"Welcome back\""),
    ];
    let own = entries.map(|(name, json)| (name.to_owned(), json.to_owned()));
    HashMap::from(own)
}

/// Keeps the changes of a request that makes a session.
struct Tap(MemorySessionStore, Arc<Mutex<Option<Changes>>>);

impl SessionStore for Tap {
    async fn load(&self, key: &SessionKey) -> Result<Option<HashMap<String, String>>, LoadError> {
        self.0.load(key).await
    }

    async fn save(
        &self,
        state: HashMap<String, String>,
        ttl: &time::Duration,
    ) -> Result<SessionKey, SaveError> {
        self.0.save(state, ttl).await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: HashMap<String, String>,
        ttl: &time::Duration,
    ) -> Result<SessionKey, UpdateError> {
        self.0.update(key, state, ttl).await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &time::Duration) -> anyhow::Result<()> {
        self.0.update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        self.0.delete(key).await
    }

    async fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(SessionKey, End), CommitError> {
        *self.1.lock().unwrap() = Some(changes.clone());
        self.0.create(changes, terms).await
    }
}

/// The changes of a request that increments a counter, as the middleware hands them to a store.
async fn changes() -> Changes {
    let kept = Arc::new(Mutex::new(None));
    let store = Tap(MemorySessionStore::new(), Arc::clone(&kept));
    let count = async |session: Session| {
        let add = |clicks: Option<u64>| Some(clicks.unwrap_or(0) + 1);
        session.modify("clicks", add).unwrap();
        ""
    };
    let app = App::new()
        .wrap(SessionMiddleware::new(store, Key::generate()))
        .default_service(web::to(count));
    let app = test::init_service(app).await;
    test::call_service(&app, test::TestRequest::default().to_request()).await;
    kept.lock().unwrap().take().unwrap()
}

/// The median and the 99th percentile.
fn show(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what}: p50 {:?}, p99 {:?}", at(50), at(99));
    at(99)
}

/// Repeats what a client does, with a random key each time, and returns how long each took.
async fn measure<F: Future<Output = Duration>>(
    rows: usize,
    act: impl Fn(SessionKey) -> F,
) -> Vec<Duration> {
    let client = async |client: usize| {
        let mut times = Vec::with_capacity(SAMPLES / CLIENTS);
        for n in 0..SAMPLES / CLIENTS {
            // Every row is equally likely, in random order.
            let row = (n * CLIENTS + client).wrapping_mul(2_654_435_761) % rows;
            let key = SessionKey::try_from(key('L', row)).unwrap();
            times.push(act(key).await);
        }
        times
    };
    join_all((0..CLIENTS).map(client)).await.concat()
}

macro_rules! bench {
    ($name:literal, $store:expr, $database:ty, $size:literal, $analyze:literal) => {{
        let store = $store;
        let rows = env::var("SQL_SCALE_ROWS").map_or(1_000_000, |n| n.parse().unwrap());
        let pool = store.pool().clone();
        let first = store.save(state(), &time::Duration::days(1)).await.unwrap();
        let (text, revision, expires): (Vec<u8>, i64, i64) =
            sqlx::query_as("SELECT state, revision, expires FROM actix_sessions")
                .fetch_one(&pool)
                .await
                .unwrap();
        store.delete(&first).await.unwrap();
        println!("{}: a state of {} bytes", $name, text.len());
        let fill = async |kind: char, from: usize, to: usize, expires: i64| {
            for start in (from..to).step_by(1_000) {
                let mut insert = QueryBuilder::<$database>::new(
                    "INSERT INTO actix_sessions (id, state, revision, created, expires) ",
                );
                insert.push_values(start..(start + 1_000).min(to), |mut row, n| {
                    row.push_bind(digest(&key(kind, n)))
                        .push_bind(text.clone())
                        .push_bind(revision)
                        .push_bind(expires)
                        .push_bind(expires + i64::try_from(n).unwrap());
                });
                insert.build().execute(&pool).await.unwrap();
            }
            sqlx::query($analyze).execute(&pool).await.unwrap();
        };
        let (terms, changes) = (Terms::default(), changes().await);
        let load = async |key: SessionKey| {
            let started = Instant::now();
            let opened = store.open(&key, &terms).await.unwrap();
            assert!(matches!(opened, Opened::Live(_)));
            started.elapsed()
        };
        let commit = async |key: SessionKey| {
            let Opened::Live(base) = store.open(&key, &terms).await.unwrap() else {
                panic!("it was put there")
            };
            let started = Instant::now();
            let committed = store.commit(&key, Some(&base), &changes, &terms).await;
            assert!(matches!(committed.unwrap(), Committed::Saved(_)));
            started.elapsed()
        };
        let few = rows / 100;
        fill('L', 0, few, expires).await;
        show(
            &format!("{} load, {few} rows", $name),
            measure(few, load).await,
        );
        show(
            &format!("{} commit, {few} rows", $name),
            measure(few, commit).await,
        );
        fill('L', few, rows, expires).await;
        let size: i64 = sqlx::query_scalar($size).fetch_one(&pool).await.unwrap();
        println!(
            "{}: {} bytes a session",
            $name,
            size / i64::try_from(rows).unwrap()
        );
        show(
            &format!("{} load, {rows} rows", $name),
            measure(rows, load).await,
        );
        show(
            &format!("{} commit, {rows} rows", $name),
            measure(rows, commit).await,
        );

        fill('E', 0, rows, 1).await;
        let before = show(
            &format!("{} load before sweeping", $name),
            measure(rows, load).await,
        );
        let sweeper = store.spawn_sweeper(Duration::from_millis(1), 1_000);
        let started = Instant::now();
        let during = measure(rows, load).await;
        let (swept, elapsed) = (sweeper.swept(), started.elapsed());
        let during = show(&format!("{} load while sweeping", $name), during);
        println!(
            "{}: {swept} rows swept in {elapsed:?} beside the loads",
            $name
        );
        println!(
            "{}: p99 while sweeping is {:.2} times",
            $name,
            during.as_secs_f64() / before.as_secs_f64()
        );
        while sweeper.swept() < rows as u64 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!(
            "{}: {:.0} rows swept a second in all",
            $name,
            rows as f64 / started.elapsed().as_secs_f64()
        );
        sweeper.stop().await;
    }};
}

#[actix_web::main]
async fn main() {
    // Make sure that the bench's own keys look like the store's.
    assert_eq!(generate_session_key().as_ref().len(), key('L', 0).len());
    let only = env::var("SQL_SCALE_ONLY").unwrap_or_default();
    if only != "postgres" {
        sqlite().await;
    }
    if only != "sqlite" {
        postgres().await;
    }
}

async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/sessions.sqlite3", folder.path().display());
    let store = SqliteSessionStore::new(url).await.unwrap();
    bench!(
        "SQLite",
        store,
        sqlx::Sqlite,
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        "ANALYZE"
    );
}

async fn postgres() {
    let server = PostgresServer::start_with(&[("fsync", "on"), ("shared_buffers", "512MB")]);
    let server = server.unwrap();
    let store = PostgresSessionStore::new(server.url()).await.unwrap();
    bench!(
        "PostgreSQL",
        store,
        sqlx::Postgres,
        "SELECT pg_total_relation_size('actix_sessions')",
        "VACUUM ANALYZE actix_sessions"
    );
}
