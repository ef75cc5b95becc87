//! Ready handlers.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, ContentType, RETRY_AFTER},
    },
};

use crate::{Remaining, Session};

/// Answers how long the visitor's session still lives, for a page that warns before the end
/// (WCAG 2.2.1).
///
/// The response is JSON that no cache keeps, in whole seconds, rounded down:
///
/// | status | when | body |
/// | --- | --- | --- |
/// | 200 | the session lives | `{"idle_seconds":540,"absolute_seconds":7200}` |
/// | 401 | there is no session, or it has ended | both are `null` |
/// | 503, with `Retry-After: 1` | nobody can say: another request has just renewed the session, so that this one came with the old cookie; or the store has failed, and [`OnLoadError::Anonymous`] is set | both are `null` |
///
/// `idle_seconds` is what is left unless somebody uses the session, and `absolute_seconds` what is
/// left in any case: if both are the same, only a new login helps. Under 200, `null` says that the
/// store does not tell ([`Remaining::idle`]), or that there is no absolute timeout.
///
/// A session of nobody's lives, too: after a logout that left a message, the answer is a 200. A page
/// that told its visitor of the end must not take that back.
///
/// Name its path in [`quiet_when`]: otherwise the question itself is activity, and an open page
/// keeps the session alive. Then all tabs get the same answer. "Stay logged in" is any other
/// request.
///
/// [`OnLoadError::Anonymous`]: crate::config::OnLoadError::Anonymous
/// [`quiet_when`]: crate::config::SessionMiddlewareBuilder::quiet_when
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory-session")]
/// # {
/// use actix_session::{SessionMiddleware, handlers, storage::MemorySessionStore};
/// use actix_web::{App, cookie::Key, web};
///
/// # let (store, secret_key) = (MemorySessionStore::new(), Key::generate());
/// let session = SessionMiddleware::builder(store, secret_key)
///     .quiet_when(|req| req.path() == "/session/remaining")
///     .build();
/// let app = App::new()
///     .route("/session/remaining", web::get().to(handlers::remaining))
///     .wrap(session);
/// # let _ = app;
/// # }
/// ```
pub async fn remaining(session: Session) -> HttpResponse {
    match session.remaining() {
        Some(left) => told(StatusCode::OK, Some(left)),
        None if session.is_hidden() => {
            let mut response = told(StatusCode::SERVICE_UNAVAILABLE, None);
            let soon = actix_web::http::header::HeaderValue::from_static("1");
            response.headers_mut().insert(RETRY_AFTER, soon);
            response
        }
        None => told(StatusCode::UNAUTHORIZED, None),
    }
}

fn told(status: StatusCode, left: Option<Remaining>) -> HttpResponse {
    let seconds = |span: Option<std::time::Duration>| {
        span.map_or_else(|| "null".to_owned(), |span| span.as_secs().to_string())
    };
    let idle = seconds(left.and_then(|left| left.idle()));
    let absolute = seconds(left.and_then(|left| left.absolute()));
    HttpResponse::build(status)
        .insert_header(ContentType::json())
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(format!(
            "{{\"idle_seconds\":{idle},\"absolute_seconds\":{absolute}}}"
        ))
}

/// Takes a logout token of an OpenID Provider (OpenID Connect Back-Channel Logout 1.0), and ends what
/// it names.
///
/// It needs a [`BackChannelLogout`](crate::BackChannelLogout) as application data, which has an
/// example, and a route for `POST`. The request is the provider's own and has no session: if your
/// application refuses requests without a CSRF token, except its path. No cache keeps the response:
///
/// | status | when | body |
/// | --- | --- | --- |
/// | 200 | the sessions have ended, or had already | none |
/// | 400 | the request or the token is invalid | `{"error":"invalid_request","error_description":"…"}` |
/// | 503 | the keys cannot be had, or the store fails: the provider should repeat it | `{"error":"temporarily_unavailable","error_description":"…"}` |
#[cfg(feature = "_backend")]
pub async fn backchannel_logout(
    form: Result<actix_web::web::Form<Vec<(String, String)>>, actix_web::Error>,
    logout: actix_web::web::Data<crate::BackChannelLogout>,
) -> Result<HttpResponse, crate::BackChannelLogoutError> {
    let accepting = async {
        let form = form.map_err(|_| "the body must be a form with a logout_token")?;
        logout.accept(crate::oidc::token_in(&form)?).await
    };
    match accepting.await {
        Ok(_) => Ok(HttpResponse::Ok()
            .insert_header((CACHE_CONTROL, "no-store"))
            .finish()),
        Err(error) => {
            // The provider shows the response to nobody.
            if error.is_invalid() {
                crate::event::logout_token_refused(&error);
            }
            Err(error)
        }
    }
}
