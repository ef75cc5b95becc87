//! `cargo run --manifest-path actix-session/Cargo.toml --example websocket --features memory-session`
//!
//! Open <http://127.0.0.1:8080> in two tabs, log in, and press "Click": the session counts, over
//! each tab's socket. Log out in one tab: both sockets close at once. Elsewhere, wrap a `CrossSiteGuard`
//! around it, as the example `login` does: it refuses sockets that pages of other origins open.

use actix_session::storage::MemorySessionStore;
use actix_session::{OpenedSession, Session, SessionManager, SessionMiddleware};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Responder, Result, rt, web};
use actix_web::{cookie::Key, error::ErrorUnauthorized, get, post};

#[get("/socket")]
async fn socket(
    (request, body): (HttpRequest, web::Payload),
    (session, sessions): (Session, web::Data<SessionManager>),
) -> Result<HttpResponse> {
    let own = session.principal().zip(session.handle());
    let (user, handle) = own.ok_or_else(|| ErrorUnauthorized("log in"))?;
    let mut ended = session.ended()?;
    let (response, mut socket, mut messages) = actix_ws::handle(&request, body)?;
    // Proxies cut what is silent for a minute. To notice clients that are gone, look for their pongs.
    let mut beat = rt::time::interval(std::time::Duration::from_secs(20));
    rt::spawn(async move {
        loop {
            tokio::select! {
                _why = &mut ended => return socket.close(None).await.ok(),
                _ = beat.tick() => { socket.ping(b"").await.ok()?; continue }
                it = messages.recv() => if !matches!(it?.ok()?, actix_ws::Message::Text(_)) { continue },
            };
            // What the handler saw is old by now, so each message opens the session again.
            let opened = sessions.open(&user, &handle).await.ok()??;
            // No request comes, so that nothing else shows that somebody is there.
            opened.extend().await.ok()?;
            socket.text(count(opened).await?.to_string()).await.ok()?;
        }
    });
    Ok(response)
}

async fn count(opened: OpenedSession) -> Option<u32> {
    let session = opened.session().clone();
    let one_more = |n: Option<u32>| Some(n.unwrap_or(0) + 1);
    session.modify("n", one_more).ok()?;
    opened.commit().await.ok()?;
    session.get("n").ok()?
}

const PAGE: &str = "<form method=post><button formaction=login>Log in</button>
    <button formaction=logout>Log out</button></form> <b id=n>?</b>
    <button onclick=ws.send(1)>Click</button> <script>const ws = new WebSocket('/socket');
    ws.onmessage = e => n.textContent = e.data; ws.onclose = () => n.textContent = 'closed';</script>";

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
        let app = app.route("/", web::get().to(|| async { web::Html::new(PAGE) }));
        app.service(act).service(socket).wrap(sessions)
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
