//! What waits for the ends of sessions: a server of streams, and subscriptions that come and go.

use std::env;
use std::fs;

use actix_session::storage::{
    MemorySessionStore, PostgresSessionStore, RedisSessionStore, SessionIndex, SessionStore,
};
use actix_session::{Session, SessionEnded, SessionManager, SessionMiddleware};
use actix_web::body::MessageBody;
use actix_web::cookie::Key;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, HttpResponse, web};
use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, stream};

use crate::actix;

/// Sessions of [`subscribe`]: each has so many subscriptions as it takes.
const SESSIONS: usize = 1_000;
/// How many of the sessions end in each round: their subscriptions are told, the others are dropped.
const ENDED: usize = 100;

/// Serves one process's streams over a store, until the standard input ends.
///
/// # Errors
/// The store is not there.
pub async fn serve(store: &str) -> anyhow::Result<()> {
    match store {
        "redis" => serve_over(RedisSessionStore::new(url("REDIS_URL")?).await?).await,
        "postgres" => serve_over(PostgresSessionStore::new(url("POSTGRES_URL")?).await?).await,
        other => anyhow::bail!("`{other}` must be `redis` or `postgres`"),
    }
}

/// Makes `n` subscriptions in each of so many rounds, and lets go of them. Returns the resident bytes
/// while they are held and after, for each round.
///
/// # Errors
/// The store is not there, or a request fails.
pub async fn subscribe(store: &str, n: usize, rounds: usize) -> anyhow::Result<Vec<[u64; 2]>> {
    match store {
        "memory" => subscribe_over(MemorySessionStore::new(), n, rounds).await,
        "redis" => {
            let store = RedisSessionStore::new(url("REDIS_URL")?).await?;
            subscribe_over(store, n, rounds).await
        }
        other => anyhow::bail!("`{other}` must be `memory` or `redis`"),
    }
}

fn url(name: &str) -> anyhow::Result<String> {
    env::var(name).with_context(|| format!("{name} must be set"))
}

/// The processes of one application have one key.
fn key() -> Key {
    Key::from(&[7; 64])
}

async fn serve_over<S>(store: S) -> anyhow::Result<()>
where
    S: SessionStore + SessionIndex + Clone + Send + 'static,
{
    let app = move || {
        let sessions = SessionMiddleware::builder(store.clone(), key()).build();
        App::new()
            .app_data(web::Data::new(sessions.manager()))
            .wrap(sessions)
            .route("/login/{user}", web::get().to(login))
            .route("/stream", web::get().to(stream_until_the_end))
            .route("/revoke/{user}", web::get().to(revoke))
    };
    actix::serve(app, 1).await
}

async fn login(session: Session, user: web::Path<String>) -> actix_web::Result<HttpResponse> {
    session.login(user.into_inner())?;
    Ok(HttpResponse::Ok().finish())
}

/// Says that it is open, and then, once, why the session has ended.
async fn stream_until_the_end(session: Session) -> actix_web::Result<HttpResponse> {
    let ended = session.ended()?;
    let text = |text: String| Ok::<_, actix_web::Error>(web::Bytes::from(text));
    let open = stream::once(async move { text("open\n".to_owned()) });
    let end = stream::once(async move { text(format!("ended: {:?}\n", ended.await)) });
    Ok(HttpResponse::Ok().streaming(open.chain(end).boxed_local()))
}

async fn revoke(
    sessions: web::Data<SessionManager>,
    user: web::Path<String>,
) -> actix_web::Result<String> {
    Ok(sessions.revoke_all(&user).await?.to_string())
}

async fn subscribe_over<S>(store: S, n: usize, rounds: usize) -> anyhow::Result<Vec<[u64; 2]>>
where
    S: SessionStore + SessionIndex + Clone + 'static,
{
    let sessions = SessionMiddleware::builder(store, key()).build();
    let manager = sessions.manager();
    let app = App::new()
        .wrap(sessions)
        .route("/login/{user}", web::get().to(login))
        .route("/handle", web::get().to(hand_over));
    let app = init_service(app).await;
    let mut cookies = vec![None; SESSIONS];
    let mut seen = Vec::new();
    for _ in 0..rounds {
        let mut held = Vec::with_capacity(n);
        for (number, cookie) in cookies.iter_mut().enumerate() {
            let known = match cookie.take() {
                Some(known) => known,
                None => logged_in(&app, &user(number)).await?,
            };
            for _ in 0..n / SESSIONS {
                held.push(subscription(&app, &known).await?);
            }
            *cookie = Some(known);
        }
        let most = resident()?;
        for number in 0..ENDED {
            manager.revoke_all(&user(number)).await?;
            cookies[number] = None;
        }
        // Those of the sessions that go on are dropped.
        let others = held.split_off(ENDED * (n / SESSIONS));
        drop(others);
        for ended in held {
            ended.await;
        }
        seen.push([most, resident()?]);
    }
    Ok(seen)
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

/// Answers with a subscription, beside the response.
async fn hand_over(session: Session) -> actix_web::Result<HttpResponse> {
    let mut response = HttpResponse::Ok().finish();
    response.extensions_mut().insert(session.ended()?);
    Ok(response)
}

async fn logged_in<S, B>(app: &S, user: &str) -> anyhow::Result<String>
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    let request = TestRequest::with_uri(&format!("/login/{user}")).to_request();
    let answer = app.call(request).await.map_err(failed)?;
    let set = answer.response().cookies().next();
    let set = set.context("a login sets a cookie")?;
    Ok(format!("{}={}", set.name(), set.value()))
}

async fn subscription<S, B>(app: &S, cookie: &str) -> anyhow::Result<SessionEnded>
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    let request = TestRequest::with_uri("/handle").insert_header(("cookie", cookie));
    let mut answer = app.call(request.to_request()).await.map_err(failed)?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    let response = answer.response_mut();
    let ended = response.extensions_mut().remove::<SessionEnded>();
    ended.context("the handler hands a subscription over")
}

fn failed(error: actix_web::Error) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

/// What this process has in memory, in bytes.
fn resident() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("the kernel says no VmRSS")?.parse::<u64>()? * 1_024)
}
