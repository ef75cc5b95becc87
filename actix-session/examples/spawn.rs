//! `cargo run --manifest-path actix-session/Cargo.toml --example spawn --features memory-session`
//!
//! Open <http://127.0.0.1:8080>, log in and start the report: the answer comes at once, the work goes
//! on, and three seconds later the session has its result. Log out meanwhile: the job's change goes
//! nowhere, since no job brings a session back.

use std::time::Duration;

use actix_session::{
    Session, SessionHandle, SessionManager, SessionManagerError, SessionMiddleware,
    storage::MemorySessionStore,
};
use actix_web::{App, HttpServer, Responder, Result, cookie::Key, get, post, rt, web};

/// It knows the session by its handle: a `Session` can only be read once its request is answered.
async fn work(sessions: SessionManager, user: String, session: SessionHandle) -> Outcome {
    rt::time::sleep(Duration::from_secs(3)).await;
    let Some(opened) = sessions.open(&user, &session).await? else {
        return Ok("logged out meanwhile");
    };
    opened.session().insert("report", "42 pages")?;
    opened.commit().await?;
    Ok("done")
}

type Outcome = Result<&'static str, SessionManagerError>;

#[post("/report")]
async fn start(session: Session, sessions: web::Data<SessionManager>) -> Result<impl Responder> {
    if let Some((user, handle)) = session.principal().zip(session.handle()) {
        let work = work(sessions.get_ref().clone(), user, handle);
        rt::spawn(async { eprintln!("the job: {:?}", work.await) });
    }
    Ok(web::Redirect::to("/").see_other())
}

#[get("/")]
async fn index(session: Session) -> Result<web::Html> {
    let (user, report) = (session.principal(), session.get::<String>("report")?);
    let form = |it| format!("<form method=post action=/{it}><button>{it}</button></form>");
    let forms = ["login", "report", "logout"].map(form).concat();
    let page = format!("{user:?}, report: {report:?} <a href=/>again</a> {forms}");
    Ok(web::Html::new(page))
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
        let app = App::new().app_data(web::Data::new(sessions.manager()));
        let app = app.service(index).service(start).service(act);
        app.wrap(sessions)
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
