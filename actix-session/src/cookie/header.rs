//! The header field that carries a session in place of a cookie.

use std::{borrow::Cow, rc::Rc};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode;

use super::{
    jar::{Candidate, Found},
    seal::{Sealer, Unsealed},
    write,
};
use crate::{
    config::Configuration,
    event::{self, Refusal},
    key::SessionKey,
    observe::Observed,
};

/// Beginnings of names that HTTP, browsers and proxies keep for themselves.
const TAKEN_PREFIXES: [&str; 8] = [
    "accept-",
    "access-control-",
    "cf-",
    "content-",
    "if-",
    "proxy-",
    "sec-",
    "x-forwarded-",
];

/// Names that clients, proxies and servers understand: most are forbidden to scripts (Fetch, 2.2.2),
/// the others would change what a request or a response means.
const TAKEN: [&str; 43] = [
    "accept",
    "age",
    "allow",
    "alt-svc",
    "authorization",
    "cache-control",
    "clear-site-data",
    "connection",
    "cookie",
    "cookie2",
    "date",
    "dnt",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "keep-alive",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    // `Session::verify_csrf_header` reads it.
    "x-csrf-token",
    "x-real-ip",
];

/// The name of a field of the application's own, or `None`.
pub(crate) fn header_name(name: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let text = name.as_str();
    let taken = TAKEN.contains(&text) || TAKEN_PREFIXES.iter().any(|it| text.starts_with(it));
    (!taken && text.len() <= 256).then_some(name)
}

/// The field, and what opens its values.
pub(crate) struct Header {
    pub(crate) name: HeaderName,
    /// The name with a colon, which no cookie's name has.
    pub(crate) label: Rc<str>,
    own: Sealer,
    /// For the former names of the cookie.
    also: Vec<Sealer>,
}

impl Header {
    pub(crate) fn of(configuration: &Configuration) -> Option<Self> {
        let name = header_name(configuration.header.as_deref()?)?;
        let sealer = |cookie: &str| {
            Sealer::of_header(
                &configuration.key,
                &configuration.previous_keys,
                configuration.content_security,
                name.as_str(),
                cookie,
            )
        };
        let own = &configuration.cookie.name;
        let also = configuration.read_also.iter();
        Some(Self {
            label: format!("{name}:").into(),
            own: sealer(own),
            also: also
                .filter(|old| old.name != *own)
                .map(|old| sealer(&old.name))
                .collect(),
            name,
        })
    }

    /// What the fields contain. Several are read as several cookies are.
    pub(crate) fn find(&self, fields: &[HeaderValue], observed: &Observed) -> Found {
        let mut found = Found {
            by_header: true,
            ..Found::default()
        };
        let mut is_bad = false;
        for value in values(fields) {
            found.came = true;
            let Some((unsealed, is_old)) = self.open(&value) else {
                is_bad = true;
                continue;
            };
            found.add(Candidate {
                key: SessionKey::generated(unsealed.value).sealed_as(unsealed.nonce),
                unbound: unsealed.unbound,
                stale: is_old || unsealed.old_key,
                is_old,
            });
        }
        if is_bad {
            observed.refused(Refusal::BadSeal, None);
        }
        found
    }

    fn open(&self, value: &[u8]) -> Option<(Unsealed, bool)> {
        let own = self.own.open(value).map(|unsealed| (unsealed, false));
        own.or_else(|| {
            let mut old = self.also.iter();
            old.find_map(|old| old.open(value))
                .map(|unsealed| (unsealed, true))
        })
    }

    /// The finished value.
    ///
    /// # Errors
    /// It is too long.
    pub(crate) fn seal(&self, value: &str) -> anyhow::Result<Vec<u8>> {
        write::header_value(&self.name, &self.own.seal(value)?)
    }

    /// Writes the field; an empty value tells the client to forget the one that it has.
    pub(crate) fn write(&self, headers: &mut HeaderMap, value: Vec<u8>) -> anyhow::Result<()> {
        let mut value = HeaderValue::try_from(value)?;
        value.set_sensitive(true);
        if headers.contains_key(&self.name) {
            event::replaced_field();
        }
        headers.insert(self.name.clone(), value);
        Ok(())
    }
}

/// The values, in order. Whoever passes fields on may make one of several, with commas between them
/// (RFC 9110, 5.3); no value of ours contains one. An empty value is none.
fn values(fields: &[HeaderValue]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let values = fields
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    let values = values.map(<[u8]>::trim_ascii);
    let values = values.filter(|value| !value.is_empty());
    values.map(|value| percent_decode(value).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[&[u8]]) -> Vec<Vec<u8>> {
        let fields = fields.iter().map(|it| HeaderValue::from_bytes(it).unwrap());
        let fields: Vec<_> = fields.collect();
        values(&fields).map(Cow::into_owned).collect()
    }

    #[test]
    fn fields_and_their_parts_are_read_alike() {
        let all: [&[u8]; 3] = [b"a", b"b%2Cc", b"d\xff"];
        assert_eq!(read(&all), read(&[b" a ,b%2Cc,,\td\xff"]));
        assert_eq!(read(&all), [&b"a"[..], b"b,c", b"d\xff"]);
        for empty in [&b""[..], b" ", b",", b"\t, ,"] {
            assert_eq!(read(&[empty]), [b""; 0]);
        }
    }

    #[test]
    fn only_a_name_of_the_applications_own_is_taken() {
        for name in ["X-Session", "x-session", "App-Token", "Session", "X!#$%&'*"] {
            let taken = header_name(name).unwrap();
            assert_eq!(taken.as_str(), name.to_ascii_lowercase());
        }
        let long = "x".repeat(257);
        for name in [
            "",
            " ",
            "X Session",
            "X-Session:",
            "X-Séssion",
            "X\r\nSet-Cookie: a",
            "Cookie",
            "sEt-cookie",
            "Authorization",
            "Vary",
            "Content-Type",
            "Sec-Fetch-Site",
            "Proxy-X",
            "Access-Control-Allow-Origin",
            "Accept",
            "Accept-Language",
            "Accept-Ranges",
            "If-None-Match",
            "If-Match",
            "If-Modified-Since",
            "If-Unmodified-Since",
            "If-Range",
            "From",
            "Max-Forwards",
            "Refresh",
            "Retry-After",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "X-Real-IP",
            "X-CSRF-Token",
            &long,
        ] {
            assert_eq!(header_name(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(0x20_u8..=0xff, 0..200)) {
            if let Ok(field) = HeaderValue::from_bytes(&bytes) {
                let fields = [field];
                let read = values(&fields).count();
                prop_assert!(read <= bytes.len());
            }
        }
    }
}
