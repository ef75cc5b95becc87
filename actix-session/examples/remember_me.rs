//! `cargo run --manifest-path actix-session/Cargo.toml --example remember_me --features memory-session`
//!
//! Open <http://127.0.0.1:8080> and log in both ways. Without the tick the session ends after an hour
//! without a request, after twelve hours in any case, and with the browser. With it the times are 30
//! and 90 days, and the cookie has an age. They end with the login.

use std::time::Duration;

use actix_session::{
    Login, Session, SessionMiddleware, config::SessionPolicy, storage::MemorySessionStore,
};
use actix_web::{
    App, HttpServer, Responder, Result,
    cookie::Key,
    get, post,
    web::{Form, Html, Redirect},
};

const HOUR: Duration = Duration::from_secs(3600);
const PAGE: &str = "<form method=post action=/login><button>Log in</button>
    <label><input type=checkbox name=remember value=true> Keep me logged in</label></form>
    <form method=post action=/logout><button>Log out</button></form>";

#[derive(serde::Deserialize)]
struct Choice {
    #[serde(default)]
    remember: bool,
}

#[get("/")]
async fn index(session: Session) -> Html {
    let left = session.principal().and_then(|_| session.remaining());
    Html::new(format!("<pre>{left:#?}</pre>{PAGE}"))
}

#[post("/login")]
async fn login(session: Session, choice: Form<Choice>) -> Result<impl Responder> {
    let mut login = Login::new("ada");
    if choice.remember {
        login = login.idle(30 * 24 * HOUR).absolute(90 * 24 * HOUR);
    }
    session.login_with(login)?;
    Ok(Redirect::to("/").see_other())
}

#[post("/logout")]
async fn logout(session: Session) -> impl Responder {
    session.logout();
    Redirect::to("/").see_other()
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (store, key) = (MemorySessionStore::new(), Key::generate());
    let app = move || {
        let policy = SessionPolicy::new("website", Some(HOUR), 12 * HOUR);
        let sessions = SessionMiddleware::builder(store.clone(), key.clone()).policy(&policy);
        let app = App::new().service(index).service(login).service(logout);
        app.wrap(sessions.cookie_secure(false).build()) // plain http, on this computer alone
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
