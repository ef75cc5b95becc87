//! A former session cookie.

use super::ConfigError;
use crate::cookie::attributes::{CookieAttributes, Promises, check_name, check_place};

/// A former session cookie: its name, and the attributes that a browser needs to drop it. See
/// [`read_also`](super::SessionMiddlewareBuilder::read_also).
///
/// # Examples
/// ```
/// use actix_session::{SessionMiddleware, config::OldCookie, storage::MemorySessionStore};
/// use actix_web::cookie::Key;
///
/// # let secret_key = Key::generate();
/// // It was for all of the company's hosts; with `__Host-` it is for this one alone.
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
    /// `Some(None)` is a cookie without a `Domain`.
    domain: Option<Option<String>>,
    partitioned: Option<bool>,
}

impl OldCookie {
    /// A cookie of this name. Its path, its domain and `Partitioned` are those of the current
    /// cookie unless they are set.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            path: None,
            domain: None,
            partitioned: None,
        }
    }

    /// Sets its `Path`, if the current cookie has another one.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Sets its `Domain`, if the current cookie has another one or none.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(Some(domain.into()));
        self
    }

    /// Sets that it had no `Domain`, if the current cookie has one.
    ///
    /// # Examples
    /// ```
    /// # use actix_session::{SessionMiddleware, config::OldCookie, storage::MemorySessionStore};
    /// # use actix_web::cookie::Key;
    /// # let secret_key = Key::generate();
    /// // It was for this host alone; now it is for all hosts of the domain.
    /// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
    ///     .cookie_domain(Some("example.com".to_owned()))
    ///     .read_also(OldCookie::named("id").host_only())
    ///     .try_build()?;
    /// # let _ = middleware;
    /// # Ok::<(), actix_session::config::ConfigError>(())
    /// ```
    pub fn host_only(mut self) -> Self {
        self.domain = Some(None);
        self
    }

    /// Sets whether it was `Partitioned`, if the current cookie differs.
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.partitioned = Some(partitioned);
        self
    }

    pub(super) fn check(&self, present: &CookieAttributes) -> Result<(), ConfigError> {
        check_name(&self.name)?;
        let domain = self.domain.as_ref().and_then(Option::as_deref);
        check_place(self.path.as_deref(), domain)?;
        if self.attributes(present).is_same_cookie(present) {
            return Err(ConfigError::OldCookie);
        }
        Ok(())
    }

    /// The attributes of the header field that removes it.
    pub(crate) fn attributes(&self, present: &CookieAttributes) -> CookieAttributes {
        let promises = Promises::of(&self.name);
        let domain = self.domain.as_ref().unwrap_or(&present.domain).clone();
        let path = self.path.as_ref().unwrap_or(&present.path).clone();
        CookieAttributes {
            name: self.name.clone(),
            path: if promises.whole_host {
                "/".into()
            } else {
                path
            },
            domain: domain.filter(|_| !promises.whole_host),
            secure: present.secure || promises.secure,
            http_only: present.http_only || promises.http_only,
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
