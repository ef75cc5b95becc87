//! The only writer of our `Set-Cookie` fields, for setting and for removing.

use actix_web::{
    cookie::SameSite,
    http::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE},
};
use anyhow::Context as _;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{
    attributes::{CookieAttributes, wire_name},
    base64,
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

/// The session does not fit into what carries it. So many octets would have to be sent.
#[derive(Debug, derive_more::Display)]
pub(crate) enum TooLong {
    #[display(
        "the session cookie would have {_0} octets, but browsers drop cookies of more than \
         {LIMIT}: keep less in the session, or use a store on the server"
    )]
    Cookie(usize),
    #[display(
        "the session header would have {_0} octets, but at most {LIMIT} are sent: keep less in \
         the session, or use a store on the server"
    )]
    Header(usize),
}

impl std::error::Error for TooLong {}

/// For the attributes, behind the pair.
const ROOM: usize = 96;

/// The finished `name=value` pair. In bytes: nobody asks whether it is UTF-8.
///
/// # Errors
/// It is too long for browsers.
pub(crate) fn pair(wire_name: &str, value: &Sealed) -> anyhow::Result<Vec<u8>> {
    let start = wire_name.len() + 1;
    let mut pair = Vec::with_capacity(start + value_length(value) + ROOM);
    pair.extend_from_slice(wire_name.as_bytes());
    pair.push(b'=');
    push_value(&mut pair, value)?;
    let length = pair.len();
    anyhow::ensure!(length <= LIMIT, TooLong::Cookie(length));
    Ok(pair)
}

/// The finished value of a header field. Name and value together have the limit of cookies, so that a
/// session fits one if it fits the other.
///
/// # Errors
/// It is too long.
pub(crate) fn header_value(name: &HeaderName, value: &Sealed) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(value_length(value));
    push_value(&mut text, value)?;
    let length = name.as_str().len() + 1 + text.len();
    anyhow::ensure!(length <= LIMIT, TooLong::Header(length));
    Ok(text)
}

/// How long a value is, if nothing in it has to be escaped.
fn value_length(value: &Sealed) -> usize {
    match value {
        Sealed::Private(data) => base64::encoded_length(data.len()),
        Sealed::Signed(text) => text.len(),
    }
}

fn push_value(field: &mut Vec<u8>, value: &Sealed) -> anyhow::Result<()> {
    match value {
        Sealed::Private(data) => base64::push(data, field)?,
        Sealed::Signed(text) => {
            for piece in utf8_percent_encode(text, NOT_COOKIE_OCTET) {
                field.extend_from_slice(piece.as_bytes());
            }
        }
    }
    Ok(())
}

/// Adds the field that sets the cookie. Without `max_age`, the cookie ends with the browser's
/// session.
pub(crate) fn set(
    headers: &mut HeaderMap,
    attributes: &CookieAttributes,
    pair: Vec<u8>,
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
        format!("{}=", wire_name(&attributes.name)).into(),
        Some(0),
    )
}

fn append(
    headers: &mut HeaderMap,
    attributes: &CookieAttributes,
    mut field: Vec<u8>,
    max_age: Option<i64>,
) -> anyhow::Result<()> {
    let mut push = |text: &str| field.extend_from_slice(text.as_bytes());
    if attributes.http_only {
        push("; HttpOnly");
    }
    let same_site = match attributes.same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    push("; SameSite=");
    push(same_site);
    if attributes.secure {
        push("; Secure");
    }
    push("; Path=");
    push(&attributes.path);
    if let Some(domain) = &attributes.domain {
        push("; Domain=");
        push(domain);
    }
    if attributes.partitioned {
        push("; Partitioned");
    }
    if let Some(seconds) = max_age {
        push("; Max-Age=");
        push(itoa::Buffer::new().format(seconds));
    }
    if max_age == Some(0) {
        // For clients that do not know `Max-Age`.
        push("; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
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
        Sealed::Signed(text.to_owned())
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
            b"id=a".to_vec(),
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
            b"a%2C%20%C3%A9%25"
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

    #[test]
    fn a_name_is_written_as_published() {
        let tokens = "!#$&'*+-.^_`|~09azAZ";
        for name in (' '..='~')
            .chain(['é', '\u{1f36a}'])
            .map(String::from)
            .chain([tokens.into()])
        {
            let published = Cookie::new(name.clone(), "");
            let published = published.stripped().encoded().to_string();
            assert_eq!(Some(wire_name(&name).as_str()), published.strip_suffix('='));
        }
    }
}
