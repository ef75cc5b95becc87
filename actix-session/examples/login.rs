//! `cargo run --manifest-path actix-session/Cargo.toml --example login --features memory-session`
//!
//! Open <http://127.0.0.1:8080> and log in as `ada` with the password `engine`. The cookie `id` has
//! another value after the login: whoever planted the old one in your browser has nothing. After the
//! logout it is gone, and a copy of it opens nothing.

use actix_session::{
    Session, SessionMiddleware, csrf::CrossSiteGuard, storage::MemorySessionStore,
};
use actix_web::{
    App, HttpServer, Responder, Result,
    cookie::Key,
    error::ErrorForbidden,
    get, post,
    web::{Form, Html, Redirect},
};

const LOGIN: &str = "<form method=post action=/login><input name=user placeholder=Name>
    <input name=password type=password placeholder=Password><button>Log in</button></form>";
const LOGOUT: &str = "<form method=post action=/logout><button>Log out</button></form>";

#[derive(serde::Deserialize)]
struct Credentials {
    user: String,
    password: String,
}

#[get("/")]
async fn index(session: Session) -> Html {
    Html::new(match session.principal() {
        // `ada` needs no escaping. Your users' names do.
        Some(user) => format!("<p>Hello, {user}.</p>{LOGOUT}"),
        None => LOGIN.to_owned(),
    })
}

#[post("/login")]
async fn login(session: Session, given: Form<Credentials>) -> Result<impl Responder> {
    // Your users have hashed passwords in a database.
    if given.user != "ada" || given.password != "engine" {
        return Err(ErrorForbidden("The name or the password is wrong."));
    }
    session.login("ada")?;
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
        let sessions = SessionMiddleware::builder(store.clone(), key.clone());
        let sessions = sessions.cookie_secure(false).build(); // plain http, on this computer alone
        let app = App::new().service(index).service(login).service(logout);
        // No other site logs a visitor in, or out.
        app.wrap(sessions).wrap(CrossSiteGuard::new())
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
