//! The only writer of our `Set-Cookie` fields, for setting and for removing.

use std::fmt::Write as _;

use actix_web::{
    cookie::SameSite,
    http::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE},
};
use anyhow::Context as _;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{
    attributes::{CookieAttributes, wire_name},
    seal::Sealed,
};
use crate::clock::Millis;

/// The maximum length of name and value together, in octets: browsers drop longer cookies (RFC
/// 6265bis, 5.6).
const LIMIT: usize = 4096;

/// 400 days in seconds: browsers keep no cookie for longer (RFC 6265bis, 5.5).
const MAX_AGE: i64 = 400 * 86_400;

/// What a cookie's value must not contain (RFC 6265, 4.1.1), and `%`, which readers decode. In a header
/// field of their own, values are separated by commas.
const NOT_COOKIE_OCTET: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b',')
    .add(b';')
    .add(b'\\')
    .add(b'%');

/// The finished `name=value` pair.
///
/// # Errors
/// It is too long for browsers.
pub(crate) fn pair(wire_name: &str, value: &Sealed) -> anyhow::Result<String> {
    // With room for the attributes.
    let mut pair = String::with_capacity(wire_name.len() + value.text.len() + 96);
    pair.push_str(wire_name);
    pair.push('=');
    push_value(&mut pair, value);
    let length = pair.len();
    anyhow::ensure!(
        length <= LIMIT,
        "the session cookie would have {length} octets, but browsers drop cookies of more than \
         {LIMIT}: keep less in the session, or use a store on the server"
    );
    Ok(pair)
}

/// The finished value of a header field. Name and value together have the limit of cookies, so that a
/// session fits one if it fits the other.
///
/// # Errors
/// It is too long.
pub(crate) fn header_value(name: &HeaderName, value: &Sealed) -> anyhow::Result<String> {
    let mut text = String::with_capacity(value.text.len());
    push_value(&mut text, value);
    let length = name.as_str().len() + 1 + text.len();
    anyhow::ensure!(
        length <= LIMIT,
        "the session header would have {length} octets, but at most {LIMIT} are sent: keep less in \
         the session, or use a store on the server"
    );
    Ok(text)
}

fn push_value(text: &mut String, value: &Sealed) {
    if value.is_base64 {
        text.push_str(&value.text);
    } else {
        text.extend(utf8_percent_encode(&value.text, NOT_COOKIE_OCTET));
    }
}

/// Adds the field that sets the cookie. Without `max_age`, the cookie ends with the browser's
/// session.
pub(crate) fn set(
    headers: &mut HeaderMap,
    attributes: &CookieAttributes,
    pair: String,
    max_age: Option<Millis>,
) -> anyhow::Result<()> {
    // At least a second: 0 would remove the cookie. No more than browsers keep.
    let seconds = |span: Millis| (span.0.saturating_add(500) / 1000).clamp(1, MAX_AGE);
    let max_age = max_age.map(seconds);
    append(headers, attributes, pair, max_age)
}

/// Adds the field that removes the cookie. It differs from the other one only in value and age.
pub(crate) fn remove(headers: &mut HeaderMap, attributes: &CookieAttributes) -> anyhow::Result<()> {
    append(
        headers,
        attributes,
        format!("{}=", wire_name(&attributes.name)),
        Some(0),
    )
}

fn append(
    headers: &mut HeaderMap,
    attributes: &CookieAttributes,
    mut field: String,
    max_age: Option<i64>,
) -> anyhow::Result<()> {
    if attributes.http_only {
        field.push_str("; HttpOnly");
    }
    let same_site = match attributes.same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    field.push_str("; SameSite=");
    field.push_str(same_site);
    if attributes.secure {
        field.push_str("; Secure");
    }
    field.push_str("; Path=");
    field.push_str(&attributes.path);
    if let Some(domain) = &attributes.domain {
        field.push_str("; Domain=");
        field.push_str(domain);
    }
    if attributes.partitioned {
        field.push_str("; Partitioned");
    }
    if let Some(seconds) = max_age {
        // Writing to a `String` cannot fail.
        let _ = write!(field, "; Max-Age={seconds}");
    }
    if max_age == Some(0) {
        // For clients that do not know `Max-Age`.
        field.push_str("; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
    }
    let field = HeaderValue::try_from(field).context(
        "the session cookie's name, path or domain contains characters that are invalid in headers",
    )?;
    headers.append(SET_COOKIE, field);
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::cookie::Cookie;

    use super::*;

    fn attributes() -> CookieAttributes {
        CookieAttributes {
            name: "id".into(),
            path: "/app".into(),
            domain: Some("example.org".into()),
            secure: true,
            http_only: true,
            same_site: SameSite::Strict,
            partitioned: true,
        }
    }

    fn signed(text: &str) -> Sealed {
        Sealed {
            text: text.to_owned(),
            is_base64: false,
        }
    }

    fn line(headers: &HeaderMap) -> &str {
        headers.get(SET_COOKIE).unwrap().to_str().unwrap()
    }

    #[test]
    fn what_is_set_is_what_is_removed() {
        let (mut set_field, mut removal) = (HeaderMap::new(), HeaderMap::new());
        let pair = pair("id", &signed("a\"b;c")).unwrap();
        set(&mut set_field, &attributes(), pair, Some(Millis(59_600))).unwrap();
        remove(&mut removal, &attributes()).unwrap();
        let set = Cookie::parse_encoded(line(&set_field)).unwrap();
        let removed = Cookie::parse_encoded(line(&removal)).unwrap();
        let mut late = HeaderMap::new();
        super::set(
            &mut late,
            &attributes(),
            "id=a".to_owned(),
            Some(Millis(i64::MAX)),
        )
        .unwrap();
        assert!(line(&late).ends_with("; Max-Age=34560000"), "{late:?}");
        assert_eq!(set.value(), "a\"b;c");
        assert_eq!(set.max_age().unwrap().whole_seconds(), 60);
        assert_eq!(removed.max_age().unwrap().whole_seconds(), 0);
        assert_eq!(
            (set.name(), set.path(), set.domain()),
            ("id", Some("/app"), removed.domain())
        );
        assert_eq!((removed.name(), removed.path()), ("id", Some("/app")));
        assert_eq!(set.secure(), removed.secure());
        assert_eq!(set.http_only(), removed.http_only());
        assert_eq!(set.same_site(), removed.same_site());
    }

    #[test]
    fn the_size_is_that_of_the_finished_pair() {
        let name = attributes().name.len() + 1;
        assert!(pair("id", &signed(&"a".repeat(LIMIT - name))).is_ok());
        let error = pair("id", &signed(&"\"".repeat(LIMIT / 2)))
            .unwrap_err()
            .to_string();
        assert!(error.contains("4096") && error.contains(&(name + LIMIT / 2 * 3).to_string()));
    }

    #[test]
    fn a_header_has_the_limit_of_cookies() {
        let name = HeaderName::from_static("x-session");
        let most = LIMIT - "x-session:".len();
        assert_eq!(
            header_value(&name, &signed(&"a".repeat(most)))
                .unwrap()
                .len(),
            most
        );
        let error = header_value(&name, &signed(&"a".repeat(most + 1))).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("4096") && error.contains("4097"), "{error}");
        assert_eq!(
            header_value(&name, &signed("a, é%")).unwrap(),
            "a%2C%20%C3%A9%25"
        );
    }

    #[test]
    fn nothing_injects_another_attribute_or_line() {
        for path in ["/\r\nSet-Cookie: a=b", "/\0"] {
            let attributes = CookieAttributes {
                path: path.into(),
                ..attributes()
            };
            assert!(remove(&mut HeaderMap::new(), &attributes).is_err());
        }
        assert_eq!(wire_name("my session;"), "my%20session%3B");
    }
}
