//! `cargo run --manifest-path actix-session/Cargo.toml --example flash --features memory-session`
//!
//! Open <http://127.0.0.1:8080> and press the button: the page says once what was done, and no more
//! when you reload it. Of several tabs that load at once, one shows it.

use actix_session::{Flash, Session, SessionEntry, SessionMiddleware, storage::MemorySessionStore};
use actix_web::{
    App, HttpServer, Responder, Result,
    cookie::Key,
    get, post,
    web::{Html, Redirect},
};

// Names and types are written down once, so that no handler can get them wrong.
const BASKET: SessionEntry<Vec<u32>> = SessionEntry::new("basket");
const NOTICES: Flash<String> = Flash::new("notices");

#[get("/")]
async fn index(session: Session) -> Result<Html> {
    let notices = NOTICES.take(&session).await?.concat();
    let basket = BASKET.get(&session)?.unwrap_or_default();
    let form = "<form method=post><button>Put one more into the basket</button></form>";
    Ok(Html::new(format!(
        "<b>{notices}</b> <p>{basket:?}</p> {form}"
    )))
}

#[post("/")]
async fn add(session: Session) -> Result<impl Responder> {
    // Runs again if another request commits first: of parallel additions none is lost.
    BASKET.modify(&session, |basket| {
        let mut basket = basket.unwrap_or_default();
        basket.push(7);
        Some(basket)
    })?;
    NOTICES.push(&session, &"It is in your basket.".to_owned())?;
    Ok(Redirect::to("/").see_other())
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (store, key) = (MemorySessionStore::new(), Key::generate());
    let app = move || {
        let sessions = SessionMiddleware::builder(store.clone(), key.clone());
        let sessions = sessions.cookie_secure(false).build(); // plain http, on this computer alone
        App::new().service(index).service(add).wrap(sessions)
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
