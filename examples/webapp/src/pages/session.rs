//! The session behind the page: what the library knows and does, and a race to try.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use actix_session::{EndReason, ListedSession, Session, SessionManager, handlers};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    rt::time::timeout,
    web::{self, Bytes},
};
use askama::Template;
use futures_util::{FutureExt as _, StreamExt as _, future::ready, stream};
use serde_json::json;

use super::{Frame, home, html, read, see_other};
use crate::{
    app::{self, State},
    assets::fingerprint,
    error::AppError,
    flash,
    visitor::Visitor,
};

pub(crate) const SESSION: &str = "/session";

/// What an open page asks by itself. It is no activity: otherwise a page that is left open would keep
/// its session alive.
const REMAINING: &str = "/session/remaining";

/// Where an open page learns that its session has ended. To listen is no activity either.
const EVENTS: &str = "/session/events";

/// What an open page asks by itself.
pub(crate) const QUIET: [&str; 2] = [REMAINING, EVENTS];

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource(SESSION).route(read().to(show)))
        .service(web::resource(REMAINING).route(read().to(handlers::remaining)))
        .service(web::resource(EVENTS).get(events))
        .service(web::resource("/session/stay").post(stay))
        .service(web::resource("/session/renew").post(renew))
        .service(web::resource("/session/clicks").route(read().to(clicks)));
}

#[derive(Template)]
#[template(path = "session.html")]
struct SessionPage {
    frame: Frame,
    clicks: u64,
    sessions_are_shared: bool,
    /// None if there is no session.
    ends: Option<Ends>,
    cookie: Option<String>,
    /// None if nobody is logged in, or if there is no list.
    listed: Option<Listed>,
}

struct Ends {
    idle: Option<String>,
    absolute: Option<String>,
}

struct Listed {
    handle: String,
    created: String,
    authenticated: String,
    method: String,
    address: String,
}

async fn show(
    state: web::Data<State>,
    visitor: Visitor,
    sessions: web::Data<SessionManager>,
    request: HttpRequest,
) -> Result<HttpResponse, AppError> {
    let left = visitor.session.remaining();
    let listed = match state.sessions_are_shared {
        true => this(&visitor, &sessions).await?,
        false => None,
    };
    let page = SessionPage {
        clicks: home::clicks(&visitor)?,
        sessions_are_shared: state.sessions_are_shared,
        ends: left.map(|left| Ends {
            idle: left.idle().map(span),
            absolute: left.absolute().map(span),
        }),
        cookie: left.and_then(|_| cookie(&request)),
        listed: listed.map(|listed| known(&listed)),
        frame: Frame::of(&visitor, SESSION),
    };
    html(StatusCode::OK, &page)
}

/// This session in the list of its user's.
async fn this(
    visitor: &Visitor,
    sessions: &SessionManager,
) -> Result<Option<ListedSession>, AppError> {
    let session = &visitor.session;
    let Some((principal, handle)) = session.principal().zip(session.handle()) else {
        return Ok(None);
    };
    Ok(sessions.operator().find(&principal, &handle).await?)
}

fn known(listed: &ListedSession) -> Listed {
    let age = |at: SystemTime| SystemTime::now().duration_since(at).unwrap_or_default();
    let address = listed.address().map(|address| address.to_string());
    Listed {
        handle: listed.handle().to_string(),
        created: format!("{} ago", span(age(listed.created_at()))),
        authenticated: format!("{} ago", span(age(listed.authenticated_at()))),
        method: listed.method().unwrap_or("unknown").to_owned(),
        address: address.unwrap_or_else(|| "unknown".to_owned()),
    }
}

/// What identifies the cookie, and opens nothing: 32 bits of it, mixed up.
fn cookie(request: &HttpRequest) -> Option<String> {
    let cookie = [app::COOKIE.to_owned(), format!("__Host-{}", app::COOKIE)]
        .iter()
        .find_map(|name| request.cookie(name))?;
    Some(format!("{:08x}", fingerprint(cookie.value().as_bytes())))
}

fn span(span: Duration) -> String {
    let (number, unit) = match span.as_secs() {
        seconds @ 0..=119 => (seconds, "second"),
        seconds @ 120..=7_199 => (seconds / 60, "minute"),
        seconds @ 7_200..=172_799 => (seconds / 3_600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

/// A stream that stays open as long as the session lives, and then says why it has ended.
async fn events(session: Session) -> Result<HttpResponse, AppError> {
    let ended = match session.ended() {
        Ok(ended) if session.principal().is_some() => ended,
        // There is nothing to wait for, or sessions live in cookies. The browser does not ask again.
        _ => return Ok(HttpResponse::NoContent().finish()),
    };
    // Something at once, so that the browser knows that the stream is open.
    let open = ready(": open\n\n".to_owned()).into_stream();
    let lines = open.chain(stream::unfold(Some(ended), |ended| async move {
        let mut ended = ended?;
        Some(match timeout(PING, &mut ended).await {
            Ok(reason) => (told(reason), None),
            Err(_) => (": ping\n\n".to_owned(), Some(ended)),
        })
    }));
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(lines.map(|line| Ok::<_, Infallible>(Bytes::from(line)))))
}

/// How long the stream is silent at most: proxies cut what is silent, and a client that has gone without
/// a word is noticed when something is written.
const PING: Duration = Duration::from_secs(25);

fn told(reason: EndReason) -> String {
    let reason = match reason {
        EndReason::LoggedOut => "logged out",
        EndReason::Revoked => "revoked",
        EndReason::OverLimit => "too many sessions",
        _ => "gone",
    };
    format!("event: ended\ndata: {reason}\n\n")
}

/// "Stay logged in": any request is activity, and this one does nothing else.
async fn stay(_: Visitor) -> HttpResponse {
    HttpResponse::NoContent().finish()
}

async fn renew(visitor: Visitor, request: HttpRequest) -> Result<HttpResponse, AppError> {
    let Some(before) = cookie(&request).filter(|_| visitor.session.remaining().is_some()) else {
        return Ok(see_other(SESSION));
    };
    visitor.session.renew();
    let text = format!("The key is renewed. The cookie before, #{before}, opens nothing any more.");
    flash::leave(&visitor.session, text)?;
    Ok(see_other(SESSION))
}

/// For the race: how many clicks there are, and whether somebody is logged in.
async fn clicks(visitor: Visitor) -> Result<HttpResponse, AppError> {
    let told = json!({
        "clicks": home::clicks(&visitor)?,
        "logged_in": visitor.user.is_some(),
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_roughly() {
        let told = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(told(1), "1 second");
        assert_eq!(told(119), "119 seconds");
        assert_eq!(told(120), "2 minutes");
        assert_eq!(told(86_399), "23 hours");
        assert_eq!(told(30 * 86_400), "30 days");
    }
}
