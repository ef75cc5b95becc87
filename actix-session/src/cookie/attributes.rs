//! The cookie's attributes, and whether browsers accept them.

use actix_web::cookie::SameSite;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::error::ConfigError;

/// What the published crate percent-encodes in names: whatever a token must not contain (RFC 9110,
/// 5.6.2), and `#`, `^`, `` ` `` and `|`, which it may. Browsers hold cookies of such names.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The session cookie's attributes, as set on the builder.
#[derive(Debug, Clone)]
pub(crate) struct CookieAttributes {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) domain: Option<String>,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: SameSite,
    pub(crate) partitioned: bool,
}

impl Default for CookieAttributes {
    /// The published defaults.
    fn default() -> Self {
        Self {
            name: "id".to_owned(),
            path: "/".to_owned(),
            domain: None,
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
            partitioned: false,
        }
    }
}

impl CookieAttributes {
    /// Whether browsers keep these two as one cookie.
    pub(crate) fn is_same_cookie(&self, other: &Self) -> bool {
        let host = |cookie: &Self| {
            let domain = cookie.domain.as_deref()?;
            Some(domain.trim_start_matches('.').to_ascii_lowercase())
        };
        wire_name(&self.name) == wire_name(&other.name)
            && self.path == other.path
            && host(self) == host(other)
            && self.partitioned == other.partitioned
    }

    /// Checks that browsers accept and keep a cookie with these attributes (RFC 6265bis, CHIPS).
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_name(&self.name)?;
        check_place(Some(&self.path), self.domain.as_deref())?;
        let promises = Promises::of(&self.name);
        let whole_host = self.path == "/" && self.domain.is_none();
        if promises.whole_host && !(self.secure && whole_host) {
            return Err(ConfigError::HostPrefix);
        }
        if promises.secure && !self.secure {
            return Err(ConfigError::SecurePrefix);
        }
        if promises.http_only && !self.http_only {
            return Err(ConfigError::HttpPrefix);
        }
        if self.same_site == SameSite::None && !self.secure {
            return Err(ConfigError::SameSiteNone);
        }
        if self.partitioned && !(self.secure && self.same_site == SameSite::None) {
            return Err(ConfigError::Partitioned);
        }
        Ok(())
    }
}

/// What the prefix of a cookie's name promises, so that browsers drop a cookie which breaks it.
pub(crate) struct Promises {
    pub(crate) secure: bool,
    /// It is for the path `/`, and has no domain.
    pub(crate) whole_host: bool,
    pub(crate) http_only: bool,
}

impl Promises {
    pub(crate) fn of(name: &str) -> Self {
        // Browsers ignore the case of these prefixes.
        let name = name.to_ascii_lowercase();
        let whole_host = name.starts_with("__host-");
        let http_only = name.starts_with("__http-") || name.starts_with("__host-http-");
        Self {
            secure: whole_host || http_only || name.starts_with("__secure-"),
            whole_host,
            http_only,
        }
    }
}

/// A name must be a token (RFC 9110, 5.6.2) without `%`, which readers decode.
pub(crate) fn check_name(name: &str) -> Result<(), ConfigError> {
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    let is_token = !name.is_empty() && name.bytes().all(in_token);
    if is_token && name.len() <= 256 {
        Ok(())
    } else {
        Err(ConfigError::Name)
    }
}

pub(crate) fn check_place(path: Option<&str>, domain: Option<&str>) -> Result<(), ConfigError> {
    if path.is_some_and(|path| !is_path(path)) {
        return Err(ConfigError::Path);
    }
    if domain.is_some_and(|domain| !is_host(domain)) {
        return Err(ConfigError::Domain);
    }
    Ok(())
}

/// A path that a request can have, or browsers never send the cookie. They end an attribute at a
/// semicolon, and drop one of more than 1,024 octets.
fn is_path(path: &str) -> bool {
    // What URLs have in no path, or only percent-encoded.
    const NOT_PATH: &[u8] = b"\"#,;<>?\\^`{}";
    let stays = |byte: u8| byte.is_ascii_graphic() && !NOT_PATH.contains(&byte);
    let resolved = |part: &str| !matches!(part, "." | "..");
    path.starts_with('/')
        && path.len() <= 1024
        && path.bytes().all(stays)
        && path.split('/').all(resolved)
}

/// A host name (RFC 1123) without a port. Browsers ignore a leading dot.
fn is_host(domain: &str) -> bool {
    let in_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| {
        let hyphen = label.starts_with('-') || label.ends_with('-');
        (1..=63).contains(&label.len()) && !hyphen && label.bytes().all(in_label)
    };
    let host = domain.strip_prefix('.').unwrap_or(domain);
    host.len() <= 253 && host.split('.').all(is_label)
}

/// The name as headers carry it, percent-encoded as published.
pub(crate) fn wire_name(name: &str) -> String {
    utf8_percent_encode(name, ENCODED).to_string()
}
