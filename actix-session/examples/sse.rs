//! `cargo run --manifest-path actix-session/Cargo.toml --example sse --features memory-session`
//!
//! Open <http://127.0.0.1:8080> in two tabs and log in: each counts seconds, as server-sent events.
//! Log out in one tab: both streams end, although nobody has closed them. Without `take_until` they
//! would go on, logged in for as long as the tab is open.

use std::time::Duration;

use actix_session::{Session, SessionMiddleware, storage::MemorySessionStore};
use actix_web::{App, HttpResponse, HttpServer, Responder, Result, rt, web};
use actix_web::{cookie::Key, get, post};
use futures_util::{StreamExt as _, stream};

#[get("/events")]
async fn events(session: Session) -> Result<HttpResponse> {
    if session.principal().is_none() {
        // The browser's EventSource does not come again after a 204.
        return Ok(HttpResponse::NoContent().finish());
    }
    let ended = session.ended()?;
    let ticks = stream::iter(0_u32..).then(|n| async move {
        rt::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, actix_web::Error>(web::Bytes::from(format!("data: {n}\n\n")))
    });
    let mut response = HttpResponse::Ok();
    let response = response.content_type("text/event-stream");
    Ok(response.streaming(ticks.take_until(ended).boxed_local()))
}

const PAGE: &str = "<form method=post action=/login><button>Log in</button></form>
    <form method=post action=/logout><button>Log out</button></form> <b id=n></b>
    <script>const events = new EventSource('/events');
    events.onmessage = it => n.textContent = it.data;
    events.onerror = () => n.textContent = 'ended';</script>";

#[get("/")]
async fn index() -> web::Html {
    web::Html::new(PAGE)
}

#[post("/{login_or_logout}")]
async fn act(act: web::Path<String>, session: Session) -> Result<impl Responder> {
    match act.as_str() {
        "login" => session.login("ada")?,
        _ => session.logout(),
    }
    Ok(web::Redirect::to("/").see_other())
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (store, key) = (MemorySessionStore::new(), Key::generate());
    let app = move || {
        let sessions = SessionMiddleware::builder(store.clone(), key.clone());
        let sessions = sessions.cookie_secure(false).build(); // plain http, on this computer alone
        let app = App::new().service(index).service(events).service(act);
        app.wrap(sessions)
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
