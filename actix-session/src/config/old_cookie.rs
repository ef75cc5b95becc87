//! A cookie that sessions come from.

use super::ConfigError;
use crate::cookie::attributes::{CookieAttributes, check_name, check_place};

/// A cookie that sessions had before this one: its name, and what a browser has to be told again to
/// drop it. See [`read_also`](super::SessionMiddlewareBuilder::read_also).
///
/// # Examples
/// ```
/// use actix_session::{SessionMiddleware, config::OldCookie, storage::MemorySessionStore};
/// use actix_web::cookie::Key;
///
/// # let secret_key = Key::generate();
/// // It was for all of the company's hosts, and `__Host-` wants this one alone.
/// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
///     .strict()
///     .read_also(OldCookie::named("id").domain("example.com"))
///     .try_build()?;
/// # let _ = middleware;
/// # Ok::<(), actix_session::config::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct OldCookie {
    pub(crate) name: String,
    path: Option<String>,
    domain: Option<String>,
    partitioned: Option<bool>,
}

impl OldCookie {
    /// A cookie of this name, with the path of the present one, no domain where that has none, and
    /// partitioned where that is.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            path: None,
            domain: None,
            partitioned: None,
        }
    }

    /// Sets its `Path`, where that was another one.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Sets its `Domain`, where that was another one than the present cookie has, or that has none.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Sets whether it was `Partitioned`, where the present cookie is and this was not, or the other
    /// way around.
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.partitioned = Some(partitioned);
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_name(&self.name)?;
        check_place(self.path.as_deref(), self.domain.as_deref())
    }

    /// What the line that removes it says.
    pub(crate) fn attributes(&self, present: &CookieAttributes) -> CookieAttributes {
        // Browsers compare these prefixes without regard to case.
        let of_host = self.name.to_ascii_lowercase().starts_with("__host-");
        let domain = self.domain.clone().or_else(|| present.domain.clone());
        CookieAttributes {
            name: self.name.clone(),
            path: self.path.clone().unwrap_or_else(|| present.path.clone()),
            domain: domain.filter(|_| !of_host),
            partitioned: self.partitioned.unwrap_or(present.partitioned),
            ..present.clone()
        }
    }
}

impl From<&str> for OldCookie {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

impl From<String> for OldCookie {
    fn from(name: String) -> Self {
        Self::named(name)
    }
}
