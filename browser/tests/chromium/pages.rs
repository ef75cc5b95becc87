//! The pages that the server sends.

use std::collections::HashMap;

use actix_session::Session;
use actix_web::{
    Error, HttpRequest, HttpResponse, Result,
    error::{ErrorBadRequest, ErrorNotFound},
    http::header::{COOKIE, SET_COOKIE},
    web::{Query, ServiceConfig, get, resource},
};
use serde_json::json;

type Arguments = Query<HashMap<String, String>>;

/// A page whose script requests addresses, from the page itself or from a frame in it.
const DRIVER: &str = "\
<!doctype html><title>driver</title><script>
const ask = async address => {
  try {
    const answer = await fetch(address, {credentials: 'include', cache: 'no-store'});
    return {status: answer.status, text: await answer.text()};
  } catch (error) {
    return {status: 0, text: String(error)};
  }
};
const here = addresses => Promise.all(addresses.map(ask));
const inside = addresses => new Promise(resolve => {
  addEventListener('message', event => resolve(event.data), {once: true});
  frames[0].postMessage(addresses, '*');
});
if (parent !== window) {
  addEventListener('message', async event =>
    event.source.postMessage(await here(event.data), '*'));
}
</script>";

pub(crate) fn routes(config: &mut ServiceConfig) {
    config
        .service(resource("/driver").route(get().to(driver)))
        .service(resource("/links").route(get().to(links)))
        .service(resource("/raw").route(get().to(raw)))
        .service(resource("/favicon.ico").to(HttpResponse::NoContent));
}

/// The page with the script, around the frame that `frame` names.
async fn driver(arguments: Arguments) -> HttpResponse {
    let frame = arguments.get("frame").map(|address| {
        let address = escape(address);
        format!("<iframe src=\"{address}\"></iframe>")
    });
    HttpResponse::Ok()
        .content_type("text/html")
        .body(format!("{DRIVER}{}", frame.unwrap_or_default()))
}

/// A page with a link and a form that lead to `to`.
async fn links(arguments: Arguments) -> HttpResponse {
    let to = escape(&arguments["to"]);
    let page = format!(
        "<!doctype html><title>links</title><a href=\"{to}\">link</a>\
         <form method=post action=\"{to}\"><button>send</button></form>"
    );
    HttpResponse::Ok().content_type("text/html").body(page)
}

/// Sets the cookie that `line` spells.
async fn raw(arguments: Arguments) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((SET_COOKIE, arguments["line"].as_str()))
        .body("{}")
}

/// Does to the session what the last part of the path says. Answers which cookies came and what the
/// session holds.
pub(crate) async fn act(req: HttpRequest, arguments: Arguments) -> Result<HttpResponse> {
    if !arguments.contains_key("as") {
        return Err(ErrorNotFound("no such page"));
    }
    let session = actix_session::SessionExt::get_session(&req);
    match req.path().rsplit('/').next().unwrap_or_default() {
        "who" => {}
        "set" => session.insert("n", 0)?,
        "count" => session.modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))?,
        "login" => session.login("alice").map_err(Error::from)?,
        "renew" => session.renew(),
        "purge" => session.purge(),
        "fill" => {
            let size: Option<usize> = arguments["size"].parse().ok();
            session.insert(
                "text",
                "x".repeat(size.ok_or_else(|| ErrorBadRequest("size"))?),
            )?;
        }
        _ => return Err(ErrorNotFound("no such act")),
    }
    Ok(HttpResponse::Ok()
        .content_type("text/plain")
        .body(seen(&req, &session)?))
}

fn seen(req: &HttpRequest, session: &Session) -> Result<String> {
    let fields = req.headers().get_all(COOKIE);
    let fields: Vec<_> = fields.filter_map(|field| field.to_str().ok()).collect();
    let pairs = fields.iter().flat_map(|field| field.split("; "));
    let came: Vec<_> = pairs
        .map(|pair| pair.split('=').next().unwrap_or_default())
        .collect();
    let text: Option<String> = session.get("text")?;
    Ok(json!({
        "came": came,
        "n": session.get::<u32>("n")?,
        "who": session.principal(),
        "text": text.map(|text| text.len()),
    })
    .to_string())
}

fn escape(address: &str) -> String {
    address.replace('&', "&amp;").replace('"', "&quot;")
}
