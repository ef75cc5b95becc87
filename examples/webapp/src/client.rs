//! What is known of the client: its address, and its browser's name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::{HttpRequest, http::header};

/// The address that a request comes from: the peer's. If the peer is a trusted proxy, it is the last
/// address in `X-Forwarded-For` that is not such a proxy. What stands before it is the client's word,
/// and anybody can write there whatever they like.
pub(crate) fn address(request: &HttpRequest, trusted: &[IpAddr]) -> IpAddr {
    let peer = request.peer_addr();
    let unknown = || Ipv4Addr::UNSPECIFIED.into();
    let mut address = peer.map_or_else(unknown, |peer| peer.ip());
    let headers = request.headers().get_all("x-forwarded-for");
    let forwarded: Vec<&[u8]> = headers
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .collect();
    // What cannot be read ends the way back. Without it, what stands before it would count, which is the
    // client's word.
    for text in forwarded.into_iter().rev() {
        if !trusted.contains(&address.to_canonical()) {
            break;
        }
        let Some(before) = parse(text) else {
            break;
        };
        address = before;
    }
    address
}

/// Some proxies add the port.
fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    text.parse().ok().or_else(with_port)
}

/// A label for the client, such as `Firefox on Linux`, if it says what it is.
pub(crate) fn device(request: &HttpRequest) -> Option<String> {
    let agent = request.headers().get(header::USER_AGENT)?.to_str().ok()?;
    let named = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(part, _)| agent.contains(part));
        found.map(|(_, name)| *name)
    };
    Some(match (named(&BROWSERS), named(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => "Another program".to_owned(),
    })
}

/// Browsers name their relatives as well, so those that others name come last.
const BROWSERS: [(&str, &str); 6] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// Android is a Linux, and an iPhone's browser names the Mac.
const SYSTEMS: [(&str, &str); 7] = [
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let lines: Vec<&[u8]> = forwarded.iter().map(|line| line.as_bytes()).collect();
        seen_bytes(peer, &lines)
    }

    fn seen_bytes(peer: &str, forwarded: &[&[u8]]) -> String {
        let mut request = TestRequest::get().peer_addr(format!("{peer}:4711").parse().unwrap());
        for line in forwarded {
            let line = header::HeaderValue::from_bytes(line).unwrap();
            request = request.append_header(("x-forwarded-for", line));
        }
        let proxies = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        address(&request.to_http_request(), &proxies).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_says_where_a_request_comes_from() {
        assert_eq!(seen("192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(seen("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
    }

    #[test]
    fn what_the_client_itself_claims_does_not_count() {
        assert_eq!(seen("10.0.0.1", &["127.0.0.1, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &["127.0.0.1", "192.0.2.1"]), "192.0.2.1");
        let through_both = ["127.0.0.1, 192.0.2.1, 10.0.0.2"];
        assert_eq!(seen("10.0.0.1", &through_both), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &["192.0.2.1, nonsense"]), "10.0.0.1");
    }

    #[test]
    fn what_cannot_be_read_hides_nothing() {
        let seen = |lines: &[&[u8]]| seen_bytes("10.0.0.1", lines);
        assert_eq!(seen(&[b"127.0.0.1", b"\xff, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(seen(&[b"127.0.0.1, \xff, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(seen(&[b"127.0.0.1", b"\xff"]), "10.0.0.1");
        assert_eq!(seen(&[b"127.0.0.1, \xff"]), "10.0.0.1");
    }

    #[test]
    fn devices_are_called_what_their_users_call_them() {
        for (agent, label) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/140.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 \
                 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
                "Safari on iPhone",
            ),
            ("curl/8.14.1", "Another program"),
        ] {
            let request = TestRequest::get().insert_header((header::USER_AGENT, agent));
            let device = device(&request.to_http_request());
            assert_eq!(device.as_deref(), Some(label), "{agent}");
        }
        assert_eq!(device(&TestRequest::get().to_http_request()), None);
    }
}
