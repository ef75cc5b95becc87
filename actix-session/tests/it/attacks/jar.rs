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
    let attributes = Attributes::read(parts);
    attributes.are_taken(name).then(|| Stored {
        name: name.to_owned(),
        value: value.to_owned(),
        path: attributes.path.unwrap_or("/app").to_owned(),
        domain: attributes.domain,
        partitioned: attributes.partitioned,
        expired: attributes.expired,
    })
}

#[derive(Default)]
struct Attributes<'a> {
    secure: bool,
    http_only: bool,
    same_site: &'a str,
    partitioned: bool,
    domain: Option<String>,
    path: Option<&'a str>,
    expired: bool,
}

impl<'a> Attributes<'a> {
    fn read(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for part in parts {
            let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
            // An attribute that is too long is as if it were not there.
            if value.len() > 1024 {
                continue;
            }
            match attribute.to_ascii_lowercase().as_str() {
                "secure" => all.secure = true,
                "httponly" => all.http_only = true,
                "samesite" => all.same_site = value,
                "partitioned" => all.partitioned = true,
                "domain" => all.domain = Some(value.trim_start_matches('.').to_lowercase()),
                "path" if value.starts_with('/') => all.path = Some(value),
                "max-age" => all.expired = value.parse::<i64>().is_ok_and(|age| age <= 0),
                _ => {}
            }
        }
        all
    }

    /// For a cookie of this name.
    fn are_taken(&self, name: &str) -> bool {
        let of_this_host = |domain: &str| HOST == domain || HOST.ends_with(&format!(".{domain}"));
        let lower = name.to_ascii_lowercase();
        let prefix = |prefix: &str| lower.starts_with(prefix);
        let whole_host = self.domain.is_none() && self.path == Some("/");
        let needs_secure = self.partitioned
            || self.same_site.eq_ignore_ascii_case("none")
            || ["__secure-", "__host-", "__http-"].into_iter().any(prefix);
        let needs_http_only = prefix("__http-") || prefix("__host-http-");
        self.domain.as_deref().is_none_or(of_this_host)
            && (self.secure || !needs_secure)
            && (self.http_only || !needs_http_only)
            && (whole_host || !prefix("__host-"))
    }
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
