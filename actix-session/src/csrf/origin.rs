//! Origins, as browsers write them, and hosts.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use derive_more::Display;

/// A trusted origin that no browser would send.
///
/// # Examples
/// ```
/// use actix_session::csrf::CrossSiteGuard;
///
/// for origin in ["https://*.example.com", "https://example.com/", "example.com", "null"] {
///     let refused = CrossSiteGuard::new().trust(origin).unwrap_err();
///     assert!(refused.to_string().contains("https://"));
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Display)]
#[display(
    "a trusted origin must be what browsers send, such as `https://pay.example.com`: a scheme and a \
     host in lower case, and a port if it is not the scheme's own, without a path, blanks or wildcards"
)]
#[non_exhaustive]
pub struct InvalidOrigin;

impl std::error::Error for InvalidOrigin {}

/// Checks that an origin is written as browsers do (RFC 6454, 6.2).
pub(super) fn check(origin: &str) -> Result<(), InvalidOrigin> {
    let (scheme, authority) = origin.split_once("://").ok_or(InvalidOrigin)?;
    let in_scheme = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let in_scheme = |byte: u8| in_scheme(byte) || matches!(byte, b'+' | b'-' | b'.');
    let begins = scheme.starts_with(|first: char| first.is_ascii_lowercase());
    let (host, port) = split(authority).ok_or(InvalidOrigin)?;
    let own_port = port.is_some() && port == default_port(scheme);
    let shortest = port.is_none_or(|port| authority.ends_with(&format!(":{port}")));
    let numeric = default_port(scheme).is_some() && ends_in_number(host);
    let known = !numeric || is_written(host, Ipv4Addr::to_string);
    let valid = begins && scheme.bytes().all(in_scheme) && is_host(host) && known;
    (valid && shortest && !own_port)
        .then_some(())
        .ok_or(InvalidOrigin)
}

/// A host name or address, as it is in an origin.
fn is_host(host: &str) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = bracketed {
        return is_written(address, ipv6);
    }
    let in_host = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    !host.is_empty() && host.bytes().all(in_host)
}

/// Whether an address is written in the one way that browsers use.
fn is_written<A: FromStr>(text: &str, write: fn(&A) -> String) -> bool {
    let address = text.parse::<A>();
    address.is_ok_and(|address| write(&address) == text)
}

/// Browsers write no part of it as IPv4.
fn ipv6(address: &Ipv6Addr) -> String {
    let [.., high, low] = address.segments();
    match address.to_ipv4_mapped() {
        Some(_) => format!("::ffff:{high:x}:{low:x}"),
        None => address.to_string(),
    }
}

/// Whether browsers take the host for an IPv4 address.
fn ends_in_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal || last.strip_prefix("0x").is_some_and(is_hex)
}

/// Whether an `Origin` has the host and port of the request. Whether it is `http` or `https` is not
/// compared, since TLS may end at a proxy; it says which port goes without saying. What has another
/// scheme, such as a browser's extension, is another origin.
pub(super) fn is_own(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let Some(default) = default_port(scheme) else {
        return false;
    };
    let (Some((theirs, port)), Some((ours, own_port))) = (split(authority), split(host)) else {
        return false;
    };
    let same_port = port.unwrap_or(default) == own_port.unwrap_or(default);
    !theirs.is_empty() && theirs.eq_ignore_ascii_case(ours) && same_port
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Host and port. `None` if the port is not a number.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_host = authority.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = authority[after_host..].find(':') else {
        return Some((authority, None));
    };
    let (host, port) = authority.split_at(after_host + colon);
    let port = &port[1..];
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits)?;
    Some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_browsers_send_can_be_trusted() {
        for origin in [
            "https://example.com",
            "http://localhost:3000",
            "https://a-b.example:8443",
            "http://127.0.0.1",
            "http://[::1]:8080",
            "http://[2001:db8::1:0:0:1]",
            "http://[::ffff:c000:201]",
            "http://192.0.2.1:81",
            "https://a.example:81",
            "https://1.example",
            "chrome-extension://127",
            "https://xn--bcher-kva.example",
            "chrome-extension://abcdefgh",
            // Apps in a WebView, on iOS.
            "capacitor://localhost",
        ] {
            assert_eq!(check(origin), Ok(()), "{origin}");
        }
        for origin in [
            "",
            "null",
            "*",
            "example.com",
            "//example.com",
            "https://",
            "https://*",
            "https://*.example.com",
            "https://example.com/",
            "https://example.com/a",
            "https://example.com?",
            "https://example.com:443",
            "http://example.com:80",
            "https://example.com:",
            "https://example.com:https",
            "https://example.com:+1",
            "https://example.com:70000",
            "https://Example.com",
            "HTTPS://example.com",
            "https://a@example.com",
            "https://bücher.example",
            " https://example.com",
            "https://a.example, https://b.example",
            "http://[::1",
            "http://[]",
            "http://[0:0:0:0:0:0:0:1]",
            "http://[::01]",
            "http://[::ffff:192.0.2.1]",
            "http://[:::]",
            "http://127.1",
            "http://127.0.0.01",
            "http://127.0.0.1.",
            "http://0x7f.1",
            "http://a.0x7f",
            "http://2130706433",
            "http://256.0.0.1",
            "https://example.com:0444",
            "1https://example.com",
        ] {
            assert_eq!(check(origin), Err(InvalidOrigin), "{origin}");
        }
    }

    #[test]
    fn host_and_port_are_compared() {
        for (origin, host) in [
            ("https://example.com", "example.com"),
            ("https://example.com", "example.com:443"),
            ("http://example.com", "example.com:80"),
            ("https://example.com", "EXAMPLE.com"),
            ("http://localhost:8080", "localhost:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]"),
        ] {
            assert!(is_own(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "example.com"),
            ("", ""),
            ("https://", ""),
            ("https://example.com", ""),
            ("https://example.com", "example.com:80"),
            ("http://example.com", "example.com:8080"),
            ("https://example.com.evil.test", "example.com"),
            ("https://evil.test/example.com", "example.com"),
            ("https://evil.test@example.com", "example.com"),
            ("https://example.com", "example.com:x"),
            ("https://example.com:", "example.com"),
            ("example.com", "example.com"),
            ("http://[::1]:8080", "[::1]"),
            ("chrome-extension://localhost", "localhost"),
            ("capacitor://localhost:8080", "localhost:8080"),
            ("ftp://localhost", "localhost"),
        ] {
            assert!(!is_own(origin, host), "{origin} {host}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(origin in ".*", host in ".*") {
            let _ = (check(&origin), is_own(&origin, &host));
            let _ = is_own(&format!("https://{origin}"), &host);
        }

        #[test]
        fn another_host_is_never_own(a in "[a-z]{1,4}", b in "[a-z]{1,4}") {
            prop_assert_eq!(is_own(&format!("https://{a}"), &b), a == b);
        }
    }
}
