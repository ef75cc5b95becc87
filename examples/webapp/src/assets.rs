//! The files that pages refer to, served from the binary.

use actix_web::{HttpResponse, http::header, web};

use crate::pages::read;

const STYLE: &str = include_str!("../assets/style.css");
const SCRIPT: &str = include_str!("../assets/live.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// Part of the files' addresses: each version has its own, so browsers may cache it forever.
pub(crate) const VERSION: u32 =
    fingerprint(STYLE.as_bytes()) ^ fingerprint(SCRIPT.as_bytes()) ^ fingerprint(ICON.as_bytes());

pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let style = read().to(async || file("text/css; charset=utf-8", STYLE));
    let script = read().to(async || file("text/javascript; charset=utf-8", SCRIPT));
    let icon = read().to(async || file("image/svg+xml", ICON));
    config
        .service(web::resource("/static/style.css").route(style))
        .service(web::resource("/static/live.js").route(script))
        .service(web::resource("/static/icon.svg").route(icon));
}

fn file(kind: &'static str, body: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(kind)
        .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .body(body)
}

/// FNV-1a: good enough to distinguish versions, and it runs at compile time.
pub(crate) const fn fingerprint(bytes: &[u8]) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}
