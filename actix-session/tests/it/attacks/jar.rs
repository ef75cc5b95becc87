//! A browser's jar as RFC 6265bis describes it, as far as one host needs it.

use std::collections::BTreeMap;

use actix_web::http::header::{HeaderMap, SET_COOKIE};

/// A cookie of `https://shop.example/app/page`, or the reason why the browser drops it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) value: String,
    domain: Option<String>,
    path: String,
    partitioned: bool,
    expired: bool,
}

const HOST: &str = "shop.example";

/// What the browser makes of a `Set-Cookie` field; `None`: it drops it.
pub(crate) fn taken(line: &str) -> Option<Stored> {
    if line
        .bytes()
        .any(|byte| byte.is_ascii_control() && byte != b'\t')
    {
        return None;
    }
    let mut parts = line.split(';').map(|part| part.trim_matches([' ', '\t']));
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    if name.len() + value.len() > 4096 || name.is_empty() {
        return None;
    }
    let mut stored = Stored {
        name: name.to_owned(),
        value: value.to_owned(),
        domain: None,
        path: "/app".to_owned(),
        partitioned: false,
        expired: false,
    };
    let (mut secure, mut http_only, mut same_site, mut has_path) = (false, false, "", false);
    for part in parts {
        let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
        // An attribute that is too long is as if it were not there.
        if value.len() > 1024 {
            continue;
        }
        match attribute.to_ascii_lowercase().as_str() {
            "secure" => secure = true,
            "httponly" => http_only = true,
            "samesite" => same_site = value,
            "partitioned" => stored.partitioned = true,
            "domain" => stored.domain = Some(value.trim_start_matches('.').to_lowercase()),
            "path" if value.starts_with('/') => {
                stored.path = value.to_owned();
                has_path = true;
            }
            "max-age" => stored.expired = value.parse::<i64>().is_ok_and(|age| age <= 0),
            _ => {}
        }
    }
    let of_this_host = |domain: &str| HOST == domain || HOST.ends_with(&format!(".{domain}"));
    if stored.domain.as_deref().is_some_and(|d| !of_this_host(d)) {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let prefix = |prefix: &str| lower.starts_with(prefix);
    let whole_host = stored.domain.is_none() && has_path && stored.path == "/";
    let needs_secure = stored.partitioned
        || same_site.eq_ignore_ascii_case("none")
        || ["__secure-", "__host-", "__http-"].into_iter().any(prefix);
    let needs_http_only = prefix("__http-") || prefix("__host-http-");
    let refused = (needs_secure && !secure)
        || (needs_http_only && !http_only)
        || (prefix("__host-") && !whole_host);
    (!refused).then_some(stored)
}

type Place = (String, Option<String>, String, bool);

/// Cookies by name, domain, path and partition: what is to be replaced has to agree in all four.
#[derive(Debug, Default)]
pub(crate) struct Jar(BTreeMap<Place, Stored>);

impl Jar {
    pub(crate) fn absorb(&mut self, headers: &HeaderMap) {
        for field in headers.get_all(SET_COOKIE) {
            let Some(stored) = taken(field.to_str().unwrap()) else {
                continue;
            };
            let place = (
                stored.name.clone(),
                stored.domain.clone(),
                stored.path.clone(),
                stored.partitioned,
            );
            if stored.expired {
                self.0.remove(&place);
            } else {
                self.0.insert(place, stored);
            }
        }
    }

    /// The `Cookie` field for any page of the site.
    pub(crate) fn field(&self) -> String {
        let pairs = self.0.values().map(|c| format!("{}={}", c.name, c.value));
        pairs.collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
