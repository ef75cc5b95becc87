//! The cookie's attributes, and whether browsers accept them.

use actix_web::cookie::SameSite;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::error::ConfigError;

/// What a token must not contain (RFC 9110, 5.6.2), and `%`, which readers decode.
const NOT_TOKEN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
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
    /// Checks that browsers accept and keep a cookie with these attributes (RFC 6265bis, CHIPS).
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_name(&self.name)?;
        check_place(Some(&self.path), self.domain.as_deref())?;
        // Browsers ignore the case of these prefixes.
        let name = self.name.to_ascii_lowercase();
        let of_host = name.starts_with("__host-");
        let http_only = name.starts_with("__http-") || name.starts_with("__host-http-");
        let prefixed = of_host || http_only || name.starts_with("__secure-");
        let whole_host = self.path == "/" && self.domain.is_none();
        if of_host && !(self.secure && whole_host) {
            return Err(ConfigError::HostPrefix);
        }
        if prefixed && !self.secure {
            return Err(ConfigError::SecurePrefix);
        }
        if http_only && !self.http_only {
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

/// A name must be a token (RFC 9110, 5.6.2), or headers cannot carry it unchanged.
pub(crate) fn check_name(name: &str) -> Result<(), ConfigError> {
    let is_token = !name.is_empty() && wire_name(name) == name;
    if is_token && name.len() <= 256 {
        Ok(())
    } else {
        Err(ConfigError::Name)
    }
}

pub(crate) fn check_place(path: Option<&str>, domain: Option<&str>) -> Result<(), ConfigError> {
    if path.is_some_and(|path| !path.starts_with('/') || !is_attribute(path)) {
        return Err(ConfigError::Path);
    }
    if domain.is_some_and(|domain| domain.is_empty() || !is_attribute(domain)) {
        return Err(ConfigError::Domain);
    }
    Ok(())
}

/// Browsers drop an attribute of more than 1,024 octets, and end one at a semicolon.
fn is_attribute(value: &str) -> bool {
    let visible = |byte: u8| (0x20..0x7f).contains(&byte) && !matches!(byte, b';' | b',');
    value.len() <= 1024 && value.bytes().all(visible)
}

/// The name as headers carry it: percent-encoded if it is not a token, as published.
pub(crate) fn wire_name(name: &str) -> String {
    utf8_percent_encode(name, NOT_TOKEN).to_string()
}
