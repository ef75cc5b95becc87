//! The pages over axum, bare and with tower-sessions.

use std::{env, thread};

use anyhow::{Context as _, ensure};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Path,
    http::{
        Request, StatusCode,
        header::{COOKIE, HeaderValue, SET_COOKIE},
    },
    response::Response,
    routing::get,
};
use tokio::{net::TcpListener, runtime::Builder};
use tower_service::Service as _;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer, SessionStore, cookie::Key};
use tower_sessions_redis_store::{RedisStore, fred::prelude as fred};
use tower_sessions_sqlx_store::{PostgresStore, SqliteStore, sqlx};

use crate::{
    Done, Job, bare,
    case::{Case, Kind, Peer, Seal},
    pages::{Pages, fill, repeat},
    seed::Seed,
    server::answer_questions,
};

pub(crate) fn run(case: &Case, seed: &Seed, job: Job) -> anyhow::Result<Done> {
    let runtime = match job {
        Job::Serve(threads) => Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build(),
        Job::Repeat(_) | Job::Fill(_) => Builder::new_current_thread().enable_all().build(),
    };
    runtime?.block_on(async {
        match case.peer {
            Peer::BareAxum => finish(bare_pages(), case, job).await,
            _ => with_sessions(case, seed, job).await,
        }
    })
}

async fn with_sessions(case: &Case, seed: &Seed, job: Job) -> anyhow::Result<Done> {
    match case.store.kind {
        Kind::Memory => over(MemoryStore::default(), case, seed, job).await,
        Kind::Redis => {
            use fred::ClientLike as _;
            let url = env::var("REDIS_URL").context("REDIS_URL must be set")?;
            let pool = fred::Pool::new(fred::Config::from_url(&url)?, None, None, None, 1)?;
            pool.init().await?;
            over(RedisStore::new(pool), case, seed, job).await
        }
        Kind::Sqlite => {
            let folder = tempfile::tempdir()?;
            let url = format!(
                "sqlite://{}/sessions.sqlite3?mode=rwc",
                folder.path().display()
            );
            let store = SqliteStore::new(sqlx::SqlitePool::connect(&url).await?);
            store.migrate().await?;
            over(store, case, seed, job).await
        }
        Kind::Postgres => {
            let url = env::var("POSTGRES_URL").context("POSTGRES_URL must be set")?;
            let store = PostgresStore::new(sqlx::PgPool::connect(&url).await?);
            store.migrate().await?;
            over(store, case, seed, job).await
        }
        other => anyhow::bail!("tower-sessions has no store `{other}`"),
    }
}

fn bare_pages() -> Router {
    Router::new()
        .route("/static", get(async || "ok"))
        .route("/read", get(bare::read))
        .route("/write", get(bare::write))
        .route("/login", get(async || "ok"))
}

/// Does the job over this store.
async fn over<S>(store: S, case: &Case, seed: &Seed, job: Job) -> anyhow::Result<Done>
where
    S: SessionStore + Clone,
{
    let (layer, seed) = (SessionManagerLayer::new(store), seed.clone());
    let app = Router::new()
        .route("/static", get(async || "ok"))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/login", get(login))
        .route("/seed", get(move |session| seed_it(session, seed)))
        .route("/own/{name}", get(count));
    let key = Key::from(&[7; 64]);
    let app = match case.store.seal {
        None => app.layer(layer),
        Some(Seal::Private) => app.layer(layer.with_private(key)),
        Some(Seal::Signed) => app.layer(layer.with_signed(key)),
    };
    finish(app, case, job).await
}

async fn finish(app: Router, case: &Case, job: Job) -> anyhow::Result<Done> {
    Ok(match job {
        Job::Repeat(n) => Done::Repeated(repeat(app, case, n).await?),
        Job::Fill(n) => Done::Filled(fill(app, n).await?),
        Job::Serve(_) => {
            serve(app).await?;
            Done::Served
        }
    })
}

async fn serve(app: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let (end, ended) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        answer_questions(address);
        let _ = end.send(());
    });
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served?,
        _ = ended => {}
    }
    Ok(())
}

type Answer<T> = Result<T, StatusCode>;

/// The error goes to nobody: the loop stops at the first.
fn failed(error: tower_sessions::session::Error) -> StatusCode {
    eprintln!("{error}");
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn read(session: Session) -> Answer<String> {
    let name: Option<String> = session.get("name").await.map_err(failed)?;
    let visits: Option<i64> = session.get("visits").await.map_err(failed)?;
    Ok(format!(
        "{} {}",
        name.unwrap_or_default(),
        visits.unwrap_or_default()
    ))
}

async fn write(session: Session) -> Answer<String> {
    let counter: Option<i64> = session.get("counter").await.map_err(failed)?;
    let next = counter.unwrap_or_default() + 1;
    session.insert("counter", next).await.map_err(failed)?;
    Ok(next.to_string())
}

async fn login(session: Session) -> Answer<&'static str> {
    session.insert("user_id", 7_129_034).await.map_err(failed)?;
    session.cycle_id().await.map_err(failed)?;
    Ok("ok")
}

async fn count(session: Session, Path(name): Path<String>) -> Answer<String> {
    let counter: Option<i64> = session.get(&name).await.map_err(failed)?;
    let next = counter.unwrap_or_default() + 1;
    session.insert(&name, next).await.map_err(failed)?;
    Ok(next.to_string())
}

async fn seed_it(session: Session, seed: Seed) -> Answer<&'static str> {
    for (name, value) in seed.0 {
        session.insert_value(&name, value).await.map_err(failed)?;
    }
    Ok("ok")
}

impl Pages for Router {
    type Header = HeaderValue;
    type Answer = Response;

    async fn ask(
        &mut self,
        path: &'static str,
        cookie: Option<&HeaderValue>,
    ) -> anyhow::Result<Response> {
        let mut request = Request::builder().uri(path);
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie.clone());
        }
        let answer = self.call(request.body(Body::empty())?).await?;
        ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        Ok(answer)
    }

    fn set_cookie(answer: &Response) -> Option<&HeaderValue> {
        answer.headers().get(SET_COOKIE)
    }

    async fn body(answer: Response) -> anyhow::Result<String> {
        let bytes = to_bytes(answer.into_body(), usize::MAX).await?;
        Ok(String::from_utf8(bytes.into())?)
    }

    fn header(bytes: &[u8]) -> anyhow::Result<HeaderValue> {
        Ok(HeaderValue::from_bytes(bytes)?)
    }

    fn bytes(header: &HeaderValue) -> &[u8] {
        header.as_bytes()
    }
}
