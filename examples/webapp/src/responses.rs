//! What every response has: headers that tell the browser what these pages never do, so that it
//! blocks attacks, and, if it is a failure, a page that says what to do.

use actix_web::{
    Error, HttpResponse,
    body::{BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
};

use crate::pages;

const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
         object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not `no-referrer`: it would turn the `Origin` of our own forms into `null`.
    (header::REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// Completes every response. A failure in a middleware, such as a session store that is down,
/// arrives here as an error and becomes a page, too.
pub(crate) async fn complete<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    let line = format!("{} {}", request.method(), request.path());
    match next.call(request).await {
        Ok(response) => {
            let mut response = with_page(response);
            insert_into(response.headers_mut());
            Ok(response)
        }
        Err(error) => Err(as_page(error, &line)),
    }
}

/// Failures that no page of ours has explained yet: a wrong method, an address that does not parse.
fn with_page<B: MessageBody>(
    response: ServiceResponse<B>,
) -> ServiceResponse<EitherBody<B, BoxBody>> {
    if !lacks_page(response.status(), response.headers()) {
        return response.map_into_left_body();
    }
    let (request, bare) = response.into_parts();
    let page = page_for(bare.status(), bare.headers());
    ServiceResponse::new(request, page).map_into_right_body()
}

/// The access log sees responses, not errors, so errors are logged here.
fn as_page(error: Error, line: &str) -> Error {
    let mut response = error.error_response();
    let status = response.status();
    log::warn!("\"{line}\" {status}");
    if lacks_page(status, response.headers()) {
        response = page_for(status, response.headers());
    }
    insert_into(response.headers_mut());
    InternalError::from_response(error, response).into()
}

fn lacks_page(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    // JSON is for the script, which shows a text of its own.
    let kinds = [&b"text/html"[..], b"application/json"];
    let is_page = kind.is_some_and(|kind| {
        let kind = kind.as_bytes();
        kinds.iter().any(|known| kind.starts_with(known))
    });
    (status.is_client_error() || status.is_server_error()) && !is_page
}

/// Keeps what else the response says: `Allow`, `Retry-After`, cookies.
fn page_for(status: StatusCode, said: &HeaderMap) -> HttpResponse {
    let mut page = pages::failure(status);
    for (name, value) in said {
        if name != header::CONTENT_TYPE && name != header::CACHE_CONTROL {
            page.headers_mut().append(name.clone(), value.clone());
        }
    }
    page
}

fn insert_into(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
