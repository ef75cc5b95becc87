//! The response's headers: the cookie, and what caches may do.

use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, SET_COOKIE, VARY};

use super::{Parts, commit::SetCookie, load::Incoming};
use crate::{Session, cookie::write, event};

/// Sets or removes the cookie, and keeps one visitor's response out of shared caches.
///
/// # Errors
/// The cookie's attributes contain characters that are invalid in headers.
pub(crate) fn write_headers<S>(
    parts: &Parts<S>,
    incoming: &Incoming,
    session: &Session,
    headers: &mut HeaderMap,
    set_cookie: SetCookie,
) -> anyhow::Result<()> {
    let cookie = &parts.configuration.cookie;
    if session.lock().asked {
        vary_by_cookie(headers);
    }
    if set_cookie == SetCookie::Leave {
        return Ok(());
    }
    drop_lines_of(headers, &parts.cookies.own.wire_name);
    match set_cookie {
        SetCookie::Set(pair, age) => write::set(headers, cookie, pair, age)?,
        SetCookie::Remove if incoming.cookie_came => write::remove(headers, cookie)?,
        SetCookie::Remove | SetCookie::Leave => {}
    }
    // The session has moved to the current name, or ended under the old one.
    for old in &incoming.old_cookies {
        if let Some(old) = parts.cookies.old(*old) {
            drop_lines_of(headers, old.wire_name());
            write::remove(headers, &old.attributes)?;
        }
    }
    keep_private(headers);
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

fn vary_by_cookie(headers: &mut HeaderMap) {
    let names = |field: &HeaderValue| {
        let field = field.as_bytes().to_ascii_lowercase();
        let mut names = field.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.any(|name| name == b"cookie" || name == b"*")
    };
    if !headers.get_all(VARY).any(names) {
        headers.append(VARY, HeaderValue::from_static("Cookie"));
    }
}

/// A response with a session cookie is for one visitor only (RFC 9111, 7.3; OWASP ASVS 5.0,
/// 14.3.2).
fn keep_private(headers: &mut HeaderMap) {
    let given: Vec<String> = headers
        .get_all(CACHE_CONTROL)
        .flat_map(|field| {
            let field = String::from_utf8_lossy(field.as_bytes()).into_owned();
            field
                .split(',')
                .map(|part| part.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|part| !part.is_empty())
        .collect();
    if given.is_empty() {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return;
    }
    let name = |part: &str| {
        let name = part.split('=').next().unwrap_or_default();
        name.trim().to_ascii_lowercase()
    };
    let mut kept: Vec<&str> = given
        .iter()
        .map(String::as_str)
        .filter(|part| !matches!(name(part).as_str(), "public" | "s-maxage" | "private"))
        .collect();
    if !kept.iter().any(|part| name(part) == "no-store") {
        kept.push("private");
    }
    if let Ok(field) = HeaderValue::try_from(kept.join(", ")) {
        headers.insert(CACHE_CONTROL, field);
    }
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
            (Some("public"), "private"),
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
    fn vary_names_the_cookie_once() {
        for (given, after) in [
            ("Accept", vec!["Accept", "Cookie"]),
            ("Accept, COOKIE", vec!["Accept, COOKIE"]),
            ("*", vec!["*"]),
            ("X-Cookie", vec!["X-Cookie", "Cookie"]),
        ] {
            let mut headers = headers(&[(VARY, given)]);
            vary_by_cookie(&mut headers);
            vary_by_cookie(&mut headers);
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
