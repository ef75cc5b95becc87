//! The whole decision on a request: what it says of itself, and what comes of that.

use actix_web::http::{
    Method,
    header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, UPGRADE},
};
use derive_more::Display;

use super::origin;

pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request counts as another site's.
///
/// # Examples
/// ```
/// use actix_session::csrf::CrossSiteReason;
///
/// assert_eq!(CrossSiteReason::CrossSite.to_string(), "cross-site");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display)]
#[non_exhaustive]
pub enum CrossSiteReason {
    /// The browser says that a page of another origin made it (`Sec-Fetch-Site`), be it a sibling
    /// subdomain.
    #[display("cross-site")]
    CrossSite,

    /// Its `Origin` is not the host that it was sent to.
    #[display("other-origin")]
    OtherOrigin,

    /// Its `Origin` is `null`: a sandboxed frame, a file, or a page that hides where it is.
    ///
    /// Under `Referrer-Policy: no-referrer`, an application's own pages hide it with their own forms. A
    /// browser says `Sec-Fetch-Site` as well, which counts, but not over plain `http` (except to
    /// `localhost`). There, `same-origin` is a policy that hides nothing from the application itself.
    #[display("null-origin")]
    NullOrigin,

    /// Its `Origin`, `Host` or `Sec-Fetch-Site` is repeated or cannot be read.
    #[display("malformed")]
    Malformed,
}

/// Whether handlers of this request must not change anything. The handshake of a WebSocket is a `GET`,
/// and opens all that the socket does.
pub(super) fn is_safe(method: &Method, headers: &HeaderMap) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    reads && !headers.contains_key(UPGRADE)
}

/// The rules, in order. `authority` is the one of the request's address, if it has one (HTTP/2).
pub(super) fn judge(
    headers: &HeaderMap,
    authority: Option<&str>,
    trusted: &[String],
) -> Result<(), CrossSiteReason> {
    let own = text(headers, &ORIGIN)?;
    if own.is_some_and(|own| trusted.iter().any(|trusted| trusted == own)) {
        return Ok(());
    }
    match (text(headers, &SEC_FETCH_SITE)?, own) {
        (Some("same-origin" | "none"), _) => Ok(()),
        (Some(_), _) => Err(CrossSiteReason::CrossSite),
        // No browser since 2020, so that nobody added cookies by itself.
        (None, None) => Ok(()),
        (None, Some("null")) => Err(CrossSiteReason::NullOrigin),
        (None, Some(own)) => {
            let host = text(headers, &HOST)?.or(authority);
            let host = host.ok_or(CrossSiteReason::Malformed)?;
            let is_own = origin::is_own(own, host);
            is_own.then_some(()).ok_or(CrossSiteReason::OtherOrigin)
        }
    }
}

/// A field that comes once at most.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, CrossSiteReason> {
    let fields: &[HeaderValue] = headers.get_all(name).as_slice();
    match fields {
        [] => Ok(None),
        [field] => match field.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(CrossSiteReason::Malformed),
        },
        _ => Err(CrossSiteReason::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{CrossSiteReason::*, *};

    fn verdict(fields: &[(&'static str, &[u8])]) -> Result<(), CrossSiteReason> {
        let mut request = TestRequest::post();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value).unwrap();
            request = request.append_header((*name, value));
        }
        let trusted = ["https://pay.example".to_owned()];
        judge(request.to_http_request().headers(), None, &trusted)
    }

    #[test]
    fn the_rules_hold_in_their_order() {
        const HERE: (&str, &[u8]) = ("host", b"shop.example");
        let site = |value: &'static [u8]| ("sec-fetch-site", value);
        let origin = |value: &'static [u8]| ("origin", value);
        let (own, evil) = (
            origin(b"https://shop.example"),
            origin(b"https://evil.example"),
        );
        let trusted = origin(b"https://pay.example");
        for (fields, expected) in [
            // 2: trusted, whatever the browser says.
            (&[HERE, trusted, site(b"cross-site")][..], Ok(())),
            (&[HERE, trusted], Ok(())),
            (&[trusted], Ok(())),
            // 3: the browser's word.
            (&[HERE, site(b"same-origin")], Ok(())),
            (&[HERE, site(b"none")], Ok(())),
            (&[HERE, site(b"same-origin"), evil], Ok(())),
            (&[HERE, site(b"same-site"), own], Err(CrossSite)),
            (&[HERE, site(b"cross-site"), own], Err(CrossSite)),
            (&[HERE, site(b"")], Err(CrossSite)),
            (&[HERE, site(b"Same-Origin")], Err(CrossSite)),
            // 4: no browser.
            (&[HERE], Ok(())),
            (&[], Ok(())),
            // 5: the origin alone.
            (&[HERE, own], Ok(())),
            (&[HERE, evil], Err(OtherOrigin)),
            (
                &[HERE, origin(b"https://shop.example:444")],
                Err(OtherOrigin),
            ),
            (
                &[HERE, origin(b"https://pay.example:444")],
                Err(OtherOrigin),
            ),
            (&[HERE, origin(b"https://a.pay.example")], Err(OtherOrigin)),
            (&[HERE, origin(b"null")], Err(NullOrigin)),
            (&[HERE, origin(b"")], Err(OtherOrigin)),
            (&[own], Err(Malformed)),
            // What is repeated or unreadable says nothing.
            (&[HERE, own, own], Err(Malformed)),
            (&[HERE, own, trusted], Err(Malformed)),
            (&[HERE, HERE, own], Err(Malformed)),
            (&[HERE, site(b"none"), site(b"none")], Err(Malformed)),
            (&[HERE, origin(b"https://\xff")], Err(Malformed)),
            (&[HERE, site(b"\xff")], Err(Malformed)),
        ] {
            assert_eq!(verdict(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_request_over_http_2_has_its_host_in_the_address() {
        let request = TestRequest::post().insert_header((ORIGIN, "https://shop.example"));
        let request = request.to_http_request();
        let judged = |authority| judge(request.headers(), authority, &[]);
        assert_eq!(judged(Some("shop.example")), Ok(()));
        assert_eq!(judged(Some("evil.example")), Err(OtherOrigin));
    }

    #[test]
    fn reading_is_safe_unless_it_opens_a_socket() {
        let headers = |upgrade: bool| {
            let mut headers = HeaderMap::new();
            if upgrade {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            }
            headers
        };
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(is_safe(&method, &headers(false)));
            assert!(!is_safe(&method, &headers(true)));
        }
        for method in [
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::TRACE,
        ] {
            assert!(!is_safe(&method, &headers(false)));
        }
        assert!(!is_safe(
            &Method::from_bytes(b"get").unwrap(),
            &headers(false)
        ));
    }
}
