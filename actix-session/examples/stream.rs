//! `cargo run --manifest-path actix-session/Cargo.toml --example stream --features memory-session`
//!
//! Run `curl -c jar -b jar http://127.0.0.1:8080` twice. The second answer comes line by line, long
//! after the handler has returned, and still reads the session as the handler saw it. Nothing can be
//! written there, as its last line says; the example `spawn` shows how to write later.

use std::time::Duration;

use actix_session::{Session, SessionMiddleware, storage::MemorySessionStore};
use actix_web::{App, HttpResponse, HttpServer, Result, cookie::Key, get, rt, web::Bytes};
use futures_util::{StreamExt as _, stream};

#[get("/")]
async fn rows(session: Session) -> Result<HttpResponse> {
    session.modify("visits", |n: Option<u64>| Some(n.unwrap_or(0) + 1))?;
    let rows = stream::iter(0..=5).then(move |row| {
        let session = session.clone();
        async move {
            rt::time::sleep(Duration::from_millis(300)).await;
            Ok::<_, actix_web::Error>(Bytes::from(line(&session, row)?))
        }
    });
    Ok(HttpResponse::Ok().streaming(rows.boxed_local()))
}

fn line(session: &Session, row: u32) -> Result<String> {
    if row < 5 {
        let visits = session.get::<u64>("visits")?;
        return Ok(format!("row {row}, visits {visits:?}\n"));
    }
    let refused = session.insert("row", row).err();
    let refused = refused.map(|it| it.to_string());
    Ok(format!("{}\n", refused.unwrap_or_default()))
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (store, key) = (MemorySessionStore::new(), Key::generate());
    let app = move || {
        let sessions = SessionMiddleware::builder(store.clone(), key.clone());
        let sessions = sessions.cookie_secure(false).build(); // plain http, on this computer alone
        App::new().service(rows).wrap(sessions)
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
