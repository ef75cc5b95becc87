//! A login that comes back from another site, under `SameSite=Strict`: what the documentation of
//! `actix_session::csrf` shows, between two sites.

use std::{
    net::{Ipv4Addr, TcpListener},
    thread,
};

use actix_session::{
    NamedSession, Session, SessionMiddleware, SessionName, csrf::CrossSiteGuard,
    storage::MemorySessionStore,
};
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    cookie::{Key, SameSite},
    error::ErrorBadRequest,
    http::header::{COOKIE, LOCATION},
    web,
};

use crate::devtools::{Browser, Page};

/// Two sites.
const SHOP: &str = "www.shop-of-returns.test";
const PROVIDER: &str = "www.provider.test";

/// The visitor's own session, beside that of the pending login.
struct Main;

impl SessionName for Main {
    const COOKIE: &'static str = "id";
}

fn html(body: &str) -> HttpResponse {
    let page = format!("<!doctype html><title>page</title>{body}");
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .body(page)
}

fn see_other(to: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((LOCATION, to))
        .finish()
}

async fn home(main: Session) -> actix_web::Result<HttpResponse> {
    let user = main.principal().unwrap_or_else(|| "nobody".to_owned());
    let cart = main.get::<u32>("cart")?.unwrap_or_default();
    Ok(html(&format!(
        "{user} with {cart} in the cart <a href=\"/login/begin\">Log in</a>
         <form method=post action=\"/cart\"><button>Add</button></form>"
    )))
}

async fn add(main: Session) -> actix_web::Result<HttpResponse> {
    main.modify("cart", |n: Option<u32>| Some(n.unwrap_or(0) + 1))?;
    Ok(see_other("/"))
}

async fn begin(flow: Session, port: web::Data<u16>) -> actix_web::Result<HttpResponse> {
    flow.insert("pending", "state")?;
    let port = **port;
    Ok(see_other(&format!("http://{PROVIDER}:{port}/provider")))
}

/// The other site's page.
async fn provider(port: web::Data<u16>) -> HttpResponse {
    let shop = format!("http://{SHOP}:{}", **port);
    html(&format!(
        "<a id=approve href=\"{shop}/login/callback?state=state\">Approve</a>
         <a id=visit href=\"{shop}/\">Visit the shop</a>
         <form method=post action=\"{shop}/cart\"><button>Add</button></form>"
    ))
}

fn names(req: &HttpRequest) -> Vec<&str> {
    let fields = req
        .headers()
        .get(COOKIE)
        .map(|field| field.to_str().unwrap());
    let pairs = fields.unwrap_or_default().split("; ");
    let names = pairs.map(|pair| pair.split('=').next().unwrap());
    names.filter(|name| !name.is_empty()).collect()
}

async fn callback(req: HttpRequest, flow: Session) -> actix_web::Result<HttpResponse> {
    assert_eq!(names(&req), ["flow"], "the strict cookie stays away");
    let pending: Option<String> = flow.take("pending").await?;
    if pending.as_deref() != Some("state") || req.query_string() != "state=state" {
        return Err(ErrorBadRequest("no such login is pending"));
    }
    flow.insert("verified", "ada")?;
    Ok(html(
        r#"<meta http-equiv="refresh" content="0;url=/login/finish">"#,
    ))
}

async fn finish(flow: Session, main: NamedSession<Main>) -> actix_web::Result<HttpResponse> {
    let Some(user) = flow.take::<String>("verified").await? else {
        return Err(ErrorBadRequest("no login is pending"));
    };
    flow.purge();
    main.login(user)?;
    Ok(see_other("/"))
}

/// One server for both sites. It ends with this process.
fn serve() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (key, main, flow) = (
            Key::generate(),
            MemorySessionStore::new(),
            MemorySessionStore::new(),
        );
        let named = move |store: &MemorySessionStore, name: &str, path: &str, same_site| {
            SessionMiddleware::builder(store.clone(), key.clone())
                .cookie_name(name.to_owned())
                .cookie_path(path.to_owned())
                .cookie_same_site(same_site)
                .cookie_secure(false)
                .try_build()
                .unwrap()
        };
        let app = move || {
            let login = web::scope("/login")
                .wrap(named(&flow, "flow", "/login", SameSite::Lax))
                .route("/begin", web::get().to(begin))
                .route("/callback", web::get().to(callback))
                .route("/finish", web::get().to(finish));
            App::new()
                .app_data(web::Data::new(port))
                .service(login)
                .route("/", web::get().to(home))
                .route("/cart", web::post().to(add))
                .route("/provider", web::get().to(provider))
                .wrap(named(&main, "id", "/", SameSite::Strict))
                .wrap(CrossSiteGuard::new())
        };
        let server = HttpServer::new(app).workers(1).disable_signals();
        let server = server.listen(listener)?;
        actix_web::rt::System::new().block_on(server.run())
    });
    port
}

#[test]
fn a_strict_session_survives_a_login_at_another_site() {
    let port = serve();
    let connection = Browser::shared();
    let page = Page::open(&connection);
    let home = format!("http://{SHOP}:{port}/");
    let click =
        |element: &str| page.follow(&format!("document.querySelector('{element}').click()"));
    let assert_sees = |text: &str| {
        let shown = page.text();
        assert!(
            shown.contains(text),
            "no {text:?} in {shown:?} of {}",
            page.url()
        );
    };
    page.goto(&home);
    click("button");
    assert_sees("nobody with 1 in the cart");

    click("a");
    assert_sees("Approve");
    assert!(page.url().starts_with(&format!("http://{PROVIDER}")));
    click("#approve");
    page.wait_for_another_page();
    assert_eq!(page.url(), home);
    assert_sees("ada with 1 in the cart");

    // It was taken once.
    page.goto(&format!("{home}login/finish"));
    assert_sees("no login is pending");
    page.goto(&home);
    assert_sees("ada with 1 in the cart");

    // What makes the detour necessary: whoever comes from there is nobody, and its forms are refused.
    let elsewhere = format!("http://{PROVIDER}:{port}/provider");
    page.goto(&elsewhere);
    click("#visit");
    assert_sees("nobody with 0 in the cart");
    page.goto(&elsewhere);
    click("button");
    assert_sees("The request comes from another site.");
    page.goto(&home);
    assert_sees("ada with 1 in the cart");
}
