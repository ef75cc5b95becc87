//! `cargo run --manifest-path actix-session/Cargo.toml --example redis --features redis-session`
//!
//! `REDIS_URL` names the server; `redis://127.0.0.1:6379` if it is not set. The program starts whether
//! Redis runs or not. Open <http://127.0.0.1:8080>, then stop Redis: `/health` still answers, since it
//! asks for no session; `/` is served without one, in bounded time; and a click is refused.

use std::{env, time::Duration};

use actix_session::{
    Session, SessionMiddleware, config::OnLoadError, config::SessionMiddlewareBuilder,
    storage::RedisSessionStore,
};
use actix_web::{App, HttpServer, Responder, Result, cookie::Key, get, post, web};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

#[get("/health")]
async fn health() -> &'static str {
    "well"
}

#[get("/")]
async fn index(session: Session) -> Result<web::Html> {
    let text = match session.is_degraded() {
        true => "Your session cannot be had at the moment.".to_owned(),
        false => format!("{:?} clicks", session.get::<u64>("clicks")?),
    };
    let form = "<form method=post><button>Click</button></form>";
    Ok(web::Html::new(format!("<p>{text}</p>{form}")))
}

#[post("/")]
async fn click(session: Session) -> Result<impl Responder> {
    session.modify("clicks", |n: Option<u64>| Some(n.unwrap_or(0) + 1))?;
    Ok(web::Redirect::to("/").see_other())
}

fn configured(store: RedisSessionStore, key: Key) -> SessionMiddlewareBuilder<RedisSessionStore> {
    SessionMiddleware::builder(store, key)
        .cookie_secure(false) // plain http, on this computer alone
        .lazy() // whoever asks for no session asks Redis nothing
        .load_budget(HALF_A_SECOND)
        .commit_budget(2 * HALF_A_SECOND)
        .on_load_error(OnLoadError::Anonymous)
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let store = RedisSessionStore::builder(url)
        .command_timeout(HALF_A_SECOND)
        .lazy_connect() // starts without Redis
        .build();
    let (store, key) = (store.await?, Key::generate());
    let app = move || {
        let app = App::new().service(health).service(index).service(click);
        app.wrap(configured(store.clone(), key.clone()).build())
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await?;
    Ok(())
}
