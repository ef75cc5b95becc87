//! Refuses forms that another site sends in a visitor's name (cross-site request forgery).
//!
//! `SameSite=Strict` already keeps the session cookie out of such requests. This second line of
//! defence also stops sibling subdomains, which count as the same *site*, and login forms, which
//! need no cookie.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName},
    middleware::Next,
};

use crate::error::AppError;

/// Lets a request pass if it only reads, or if it comes from our own pages.
pub(crate) async fn refuse_cross_site(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if request.method().is_safe() || is_own(request.headers()) {
        return next.call(request).await;
    }
    Err(AppError::CrossSite.into())
}

/// Modern browsers say where a request comes from. Older ones send `Origin` with every POST. A
/// request with neither does not come from a browser, so no visitor's cookies were added to it.
fn is_own(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = text(headers, header::ORIGIN) else {
        return !headers.contains_key(header::ORIGIN);
    };
    let host = origin.split_once("://").map(|(_scheme, host)| host);
    host.is_some() && host == text(headers, header::HOST)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn passes(headers: &[(&'static str, &'static str)]) -> bool {
        let mut request = TestRequest::post().insert_header(("host", "notes.example:8080"));
        for header in headers {
            request = request.insert_header(*header);
        }
        is_own(request.to_http_request().headers())
    }

    #[test]
    fn what_a_modern_browser_says_outweighs_the_origin() {
        let own = ("origin", "http://notes.example:8080");
        assert!(passes(&[("sec-fetch-site", "same-origin")]));
        assert!(passes(&[("sec-fetch-site", "none")]));
        assert!(!passes(&[("sec-fetch-site", "same-site"), own]));
        assert!(!passes(&[("sec-fetch-site", "cross-site"), own]));
    }

    #[test]
    fn an_older_browser_is_judged_by_its_origin() {
        assert!(passes(&[("origin", "http://notes.example:8080")]));
        assert!(!passes(&[("origin", "http://notes.example")]));
        assert!(!passes(&[("origin", "https://evil.example")]));
        assert!(!passes(&[("origin", "null")]));
    }

    #[test]
    fn a_program_that_is_not_a_browser_may_post() {
        assert!(passes(&[]));
    }
}
