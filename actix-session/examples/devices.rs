//! `cargo run --manifest-path actix-session/Cargo.toml --example devices --features memory-session`
//!
//! Open <http://127.0.0.1:8080> in a window, and in another browser or a private window. Log in in
//! both: each lists both, and can end the other. Whoever is ended is a guest at their next request.

use actix_session::storage::MemorySessionStore;
use actix_session::{Login, Session, SessionHandle, SessionManager, SessionMiddleware};
use actix_web::{App, HttpRequest, HttpServer, Responder, Result, cookie::Key, get, post, web};

fn button(action: &str, label: &str) -> String {
    format!("<form method=post action=/{action}><button>{label}</button></form>")
}

#[get("/")]
async fn index(session: Session, sessions: Sessions) -> Result<web::Html> {
    let Some(user) = session.principal() else {
        return Ok(web::Html::new(button("login", "Log in as Ada")));
    };
    let mut page = button("end", "Log out everywhere else");
    for device in sessions.list(&user).await? {
        let this = device.is(&session).then_some(" (this one)");
        page += device.device().unwrap_or("unknown");
        page += this.unwrap_or_default();
        page += &button(&format!("end/{}", device.handle()), "Log out");
    }
    Ok(web::Html::new(page))
}

#[post("/login")]
async fn login(session: Session, request: HttpRequest) -> Result<impl Responder> {
    let agent = request.headers().get("user-agent").map(|it| it.to_str());
    let is_firefox = matches!(agent, Some(Ok(agent)) if agent.contains("Firefox"));
    // Never the field itself: whoever sends it may write markup there.
    let label = if is_firefox {
        "Firefox"
    } else {
        "Another browser"
    };
    session.login_with(Login::new("ada").device(label))?;
    Ok(web::Redirect::to("/").see_other())
}

type Sessions = web::Data<SessionManager>;
type Handle = web::Path<SessionHandle>;

#[post("/end/{device}")]
async fn end(it: Handle, session: Session, sessions: Sessions) -> Result<impl Responder> {
    let user = session.principal().unwrap_or_default(); // never a name from the form
    sessions.revoke(&user, &it).await?;
    Ok(web::Redirect::to("/").see_other())
}

#[post("/end")]
async fn end_others(session: Session, sessions: Sessions) -> Result<impl Responder> {
    sessions.revoke_others(&session).await?;
    Ok(web::Redirect::to("/").see_other())
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (store, key) = (MemorySessionStore::new(), Key::generate());
    let app = move || {
        let sessions = SessionMiddleware::builder(store.clone(), key.clone());
        let sessions = sessions.cookie_secure(false).build(); // plain http, on this computer alone
        let app = App::new().app_data(web::Data::new(sessions.manager()));
        let app = app.service(index).service(login).service(end);
        app.service(end_others).wrap(sessions)
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
