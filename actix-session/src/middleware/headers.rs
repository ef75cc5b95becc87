//! The response's headers: the cookie, and what caches may do.

use actix_web::http::header::{
    CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, VARY,
};

use actix_web::{HttpResponse, ResponseError, http::StatusCode};

use super::{Parts, commit::SetCookie, lazy::WayIn, load::Incoming};
use crate::{Session, cookie::write, event};

const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Sets or removes the cookie, or the header in its place, and keeps one visitor's response out of
/// shared caches.
///
/// # Errors
/// The cookie's attributes contain characters that are invalid in headers.
pub(crate) fn write_headers<S>(
    parts: &Parts<S>,
    way_in: &WayIn<S>,
    session: &Session,
    headers: &mut HeaderMap,
    set_cookie: SetCookie,
) -> anyhow::Result<()> {
    if session.lock().asked {
        vary(headers, parts.cookies.header_name());
    }
    if set_cookie == SetCookie::Leave {
        return Ok(());
    }
    let incoming = way_in.incoming();
    match &parts.cookies.header {
        Some(header) if incoming.by_header => match set_cookie {
            SetCookie::Set(value, _) => header.write(headers, value)?,
            SetCookie::Remove => header.write(headers, Vec::new())?,
            SetCookie::Leave => {}
        },
        _ => write_cookies(parts, incoming, headers, set_cookie)?,
    }
    keep_private(headers);
    keep_out_of_cdns(headers);
    Ok(())
}

fn write_cookies<S>(
    parts: &Parts<S>,
    incoming: &Incoming,
    headers: &mut HeaderMap,
    set_cookie: SetCookie,
) -> anyhow::Result<()> {
    let cookie = &parts.configuration.cookie;
    let old = incoming.old_cookies.iter();
    let old = old.filter_map(|index| parts.cookies.old(*index));
    drop_lines_of(headers, &parts.cookies.own.wire_name);
    for old in old.clone() {
        drop_lines_of(headers, old.wire_name());
    }
    // The session has moved to the current cookie, or ended under the old one. An old cookie may have
    // the current name: its removal comes first, for clients that look at nothing but the name.
    for old in old {
        write::remove(headers, &old.attributes)?;
    }
    match set_cookie {
        SetCookie::Set(pair, age) => write::set(headers, cookie, pair, age)?,
        SetCookie::Remove if incoming.cookie_came => write::remove(headers, cookie)?,
        SetCookie::Remove | SetCookie::Leave => {}
    }
    Ok(())
}

/// A response has one `Set-Cookie` per name (RFC 6265bis, 4.1.1): ours replaces the application's.
fn drop_lines_of(headers: &mut HeaderMap, name: &str) {
    let is_ours = |line: &HeaderValue| {
        let rest = line.as_bytes().strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
    };
    if !headers.get_all(SET_COOKIE).any(is_ours) {
        return;
    }
    event::replaced_line();
    let others: Vec<_> = headers
        .remove(SET_COOKIE)
        .filter(|line| !is_ours(line))
        .collect();
    for line in others {
        headers.append(SET_COOKIE, line);
    }
}

/// The error of an inner service, whose response differs from one visitor to the next.
pub(crate) fn varying(error: actix_web::Error, header: Option<HeaderName>) -> actix_web::Error {
    Varying(error, header).into()
}

/// An error whose response has `Vary: Cookie` too, and the name of the header in its place.
#[derive(derive_more::Display)]
#[display("{_0}")]
struct Varying(actix_web::Error, Option<HeaderName>);

impl std::fmt::Debug for Varying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Varying {
    fn status_code(&self) -> StatusCode {
        self.0.as_response_error().status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.0.error_response();
        vary(response.headers_mut(), self.1.as_ref());
        response
    }
}

/// The response differs by all that may carry a session, whichever did. All of it goes into one field:
/// `actix-cors` keeps the first one alone.
pub(crate) fn vary(headers: &mut HeaderMap, header: Option<&HeaderName>) {
    if header.is_none() && !headers.contains_key(VARY) {
        headers.insert(VARY, HeaderValue::from_static("Cookie"));
        return;
    }
    let own = [Some("Cookie"), header.map(HeaderName::as_str)];
    let fields: Vec<&[u8]> = headers.get_all(VARY).map(HeaderValue::as_bytes).collect();
    let missing = own.into_iter().flatten();
    let missing: Vec<_> = missing.filter(|own| !is_named(&fields, own)).collect();
    if missing.is_empty() {
        return;
    }
    let missing = missing.into_iter().map(str::as_bytes);
    let all: Vec<_> = fields.iter().copied().chain(missing).collect();
    // Valid fields with a comma between them are one.
    if let Ok(field) = HeaderValue::from_bytes(&all.join(&b", "[..])) {
        headers.insert(VARY, field);
    }
}

/// Whether one of the fields has this name in its list, or stands for all.
fn is_named(fields: &[&[u8]], name: &str) -> bool {
    let mut names = fields
        .iter()
        .flat_map(|field| field.split(|byte| *byte == b','));
    names.any(|named| {
        let named = named.trim_ascii();
        named.eq_ignore_ascii_case(name.as_bytes()) || named == b"*"
    })
}

/// A response with a session cookie is for one visitor only (RFC 9111, 7.3; OWASP ASVS 5.0,
/// 14.3.2).
fn keep_private(headers: &mut HeaderMap) {
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return;
    }
    let fields = headers.get_all(CACHE_CONTROL).map(HeaderValue::as_bytes);
    let fields: Vec<_> = fields.map(String::from_utf8_lossy).collect();
    let given: Option<Vec<_>> = fields.iter().map(|field| directives(field)).collect();
    // What is left open would swallow the directive that is added.
    let given = given.unwrap_or_default().concat();
    if given.is_empty() {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return;
    }
    let name = |part: &str| {
        let name = part.split('=').next().unwrap_or_default();
        name.trim().to_ascii_lowercase()
    };
    let mut kept: Vec<&str> = given
        .into_iter()
        .filter(|part| !matches!(name(part).as_str(), "public" | "s-maxage" | "private"))
        .collect();
    let has = |directive: &str| kept.iter().any(|part| name(part) == directive);
    // Whoever understands `must-understand` passes over `no-store` (RFC 9111, 5.2.2.3).
    if !has("no-store") || has("must-understand") {
        kept.push("private");
    }
    if let Ok(field) = HeaderValue::try_from(kept.join(", ")) {
        headers.insert(CACHE_CONTROL, field);
    }
}

/// The directives of a `Cache-Control` field. A comma in quotes belongs to a directive. `None` if a
/// quote is left open.
fn directives(field: &str) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = field.split(|letter| {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        letter == ',' && !quoted
    });
    let parts: Vec<&str> = parts
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    (!quoted).then_some(parts)
}

/// Fields for one kind of shared cache, which then ignores `Cache-Control` (RFC 9213, and what came
/// before it). Without them it obeys `Cache-Control`.
fn keep_out_of_cdns(headers: &mut HeaderMap) {
    const OLDER: [&str; 2] = ["edge-control", "x-accel-expires"];
    let is_for_cdns = |name: &&HeaderName| {
        let name = name.as_str();
        let targeted = name == "cdn-cache-control" || name.ends_with("-cdn-cache-control");
        targeted || OLDER.contains(&name)
    };
    let concerns_others = |name: &HeaderName| is_for_cdns(&name) || *name == SURROGATE_CONTROL;
    if !headers.keys().any(concerns_others) {
        return;
    }
    let found: Vec<HeaderName> = headers.keys().filter(is_for_cdns).cloned().collect();
    for name in found {
        headers.remove(&name);
    }
    // It may also say what a surrogate does with the body.
    let content: Vec<HeaderValue> = headers
        .remove(SURROGATE_CONTROL)
        .filter_map(|field| without_times(&field))
        .collect();
    for field in content {
        headers.append(SURROGATE_CONTROL, field);
    }
}

/// What a `Surrogate-Control` says of the body, or `None` if it says nothing.
fn without_times(field: &HeaderValue) -> Option<HeaderValue> {
    let field = String::from_utf8_lossy(field.as_bytes()).into_owned();
    let parts = field.split(',').map(str::trim);
    let content = parts.filter(|part| part.to_ascii_lowercase().starts_with("content="));
    let kept: Vec<&str> = std::iter::once("no-store").chain(content).collect();
    if kept.len() == 1 {
        return None;
    }
    HeaderValue::try_from(kept.join(", ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(actix_web::http::header::HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    fn all(headers: &HeaderMap, name: actix_web::http::header::HeaderName) -> Vec<&str> {
        headers
            .get_all(name)
            .map(|value| value.to_str().unwrap())
            .collect()
    }

    #[test]
    fn shared_caches_are_kept_out() {
        for (given, kept) in [
            (None, "no-store"),
            (Some("no-cache"), "no-cache, private"),
            (
                Some("Public, max-age=60, S-MaxAge=600"),
                "max-age=60, private",
            ),
            (Some("private, max-age=5"), "max-age=5, private"),
            (Some("no-store"), "no-store"),
            (
                Some("must-understand, no-store, max-age=5"),
                "must-understand, no-store, max-age=5, private",
            ),
            (Some("public"), "private"),
            (
                Some("private=\"x-a, x-b\", max-age=5"),
                "max-age=5, private",
            ),
            (
                Some("no-cache=\"x-a, public\", public"),
                "no-cache=\"x-a, public\", private",
            ),
            (
                Some(r#"x="\", public", s-maxage=5"#),
                r#"x="\", public", private"#,
            ),
            (Some("max-age=\"5"), "no-store"),
            (Some(" , "), "no-store"),
        ] {
            let mut headers = match given {
                None => HeaderMap::new(),
                Some(given) => headers(&[(CACHE_CONTROL, given)]),
            };
            keep_private(&mut headers);
            assert_eq!(all(&headers, CACHE_CONTROL), [kept], "{given:?}");
        }
    }

    #[test]
    fn what_only_shared_caches_read_goes() {
        let mut headers = headers(&[
            (HeaderName::from_static("cdn-cache-control"), "max-age=600"),
            (
                HeaderName::from_static("cloudflare-cdn-cache-control"),
                "public",
            ),
            (HeaderName::from_static("x-accel-expires"), "600"),
            (HeaderName::from_static("edge-control"), "!no-store"),
            (SURROGATE_CONTROL, "max-age=600"),
            (SURROGATE_CONTROL, "max-age=600, Content=\"ESI/1.0\""),
            (HeaderName::from_static("x-page"), "7"),
        ]);
        keep_out_of_cdns(&mut headers);
        assert_eq!(
            all(&headers, SURROGATE_CONTROL),
            ["no-store, Content=\"ESI/1.0\""]
        );
        assert_eq!(headers.len(), 2, "{headers:?}");
    }

    #[test]
    fn vary_names_the_cookie_once() {
        for (given, after) in [
            ("Accept", vec!["Accept, Cookie"]),
            ("Accept, COOKIE", vec!["Accept, COOKIE"]),
            ("*", vec!["*"]),
            ("X-Cookie", vec!["X-Cookie, Cookie"]),
        ] {
            let mut headers = headers(&[(VARY, given)]);
            vary(&mut headers, None);
            vary(&mut headers, None);
            assert_eq!(all(&headers, VARY), after);
        }
    }

    #[test]
    fn vary_names_the_header_too() {
        let header = HeaderName::from_static("x-session");
        for (given, after) in [
            ("Accept", vec!["Accept, Cookie, x-session"]),
            ("Cookie, X-Session", vec!["Cookie, X-Session"]),
            ("*", vec!["*"]),
        ] {
            let mut headers = headers(&[(VARY, given)]);
            vary(&mut headers, Some(&header));
            vary(&mut headers, Some(&header));
            assert_eq!(all(&headers, VARY), after);
        }
    }

    #[test]
    fn a_line_of_our_name_is_replaced_and_others_stay() {
        let mut headers = headers(&[
            (SET_COOKIE, "id=theirs"),
            (SET_COOKIE, "ids=b"),
            (SET_COOKIE, "id =c; Path=/"),
        ]);
        drop_lines_of(&mut headers, "id");
        assert_eq!(all(&headers, SET_COOKIE), ["ids=b"]);
    }
}
