//! Headers that tell the browser what these pages never do, so that it blocks attacks.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
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

/// Adds the headers to every response. A failure in a middleware, such as a session store that is
/// down, arrives here as an error and becomes a page, too.
pub(crate) async fn add(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let line = format!("{} {}", request.method(), request.path());
    match next.call(request).await {
        Ok(mut response) => {
            insert_into(response.headers_mut());
            Ok(response)
        }
        Err(error) => Err(as_page(error, &line)),
    }
}

/// The access log sees responses, not errors, so errors are logged here.
fn as_page(error: Error, line: &str) -> Error {
    let mut response = error.error_response();
    let status = response.status();
    log::warn!("\"{line}\" {status}");
    if status.is_server_error() {
        response = pages::failure(status);
    }
    insert_into(response.headers_mut());
    InternalError::from_response(error, response).into()
}

fn insert_into(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
