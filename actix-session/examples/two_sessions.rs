//! `cargo run --manifest-path actix-session/Cargo.toml --example two_sessions --features memory-session`
//!
//! Open <http://127.0.0.1:8080/shop> and <http://127.0.0.1:8080/admin>, and reload them. There are two
//! cookies, with keys, stores and times of their own, and neither session sees the other's entries.
//! The cookie of the admin pages comes with requests below `/admin` alone.

use std::time::Duration;

use actix_session::{
    NamedSession, Session, SessionMiddleware, SessionName, storage::MemorySessionStore,
};
use actix_web::{App, HttpServer, Result, cookie::Key, cookie::SameSite, web};

struct Admin;

impl SessionName for Admin {
    const COOKIE: &'static str = "admin";
}

async fn shop(session: Session) -> Result<String> {
    session.modify("visits", |n: Option<u32>| Some(n.unwrap_or(0) + 1))?;
    Ok(format!("the shop: {:?}", session.get::<u32>("visits")?))
}

/// Both sessions: a plain `Session` would be the innermost one, which is the admin's here.
async fn admin(admin: NamedSession<Admin>, shop: NamedSession<Shop>) -> Result<String> {
    admin.modify("visits", |n: Option<u32>| Some(n.unwrap_or(0) + 1))?;
    let (admin, shop) = (admin.get::<u32>("visits")?, shop.get::<u32>("visits")?);
    Ok(format!("the admin pages: {admin:?}, the shop: {shop:?}"))
}

struct Shop;

impl SessionName for Shop {
    const COOKIE: &'static str = "shop";
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (shops, admins) = (MemorySessionStore::new(), MemorySessionStore::new());
    let (shop_key, admin_key) = (Key::generate(), Key::generate());
    let app = move || {
        let shops = SessionMiddleware::builder(shops.clone(), shop_key.clone())
            .cookie_name(Shop::COOKIE.to_owned())
            .cookie_secure(false); // plain http, on this computer alone
        let admins = SessionMiddleware::builder(admins.clone(), admin_key.clone())
            .cookie_name(Admin::COOKIE.to_owned())
            .cookie_path("/admin".to_owned())
            .cookie_same_site(SameSite::Strict)
            .absolute_timeout(Duration::from_secs(3600))
            .cookie_secure(false);
        let admin = web::resource("/admin").get(admin).wrap(admins.build());
        let app = App::new().route("/shop", web::get().to(shop));
        app.service(admin).wrap(shops.build())
    };
    HttpServer::new(app).bind("127.0.0.1:8080")?.run().await
}
