use std::fmt;

use super::ConfigError;

/// Where the sessions are kept, as `SESSION_STORE` says.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`, in this process: a restart forgets them.
    Memory,
    /// `cookie:`, encrypted, in the visitor's browser.
    Cookie,
    /// `redis://` or `rediss://`: the whole URL, password included.
    Redis(String),
}

impl StoreUrl {
    pub(super) fn parse(value: Option<&str>) -> Result<Self, ConfigError> {
        let Some(value) = value.map(str::trim) else {
            return Ok(Self::Memory);
        };
        match value.split_once(':') {
            Some(("memory", "" | "//")) => Ok(Self::Memory),
            Some(("cookie", "" | "//")) => Ok(Self::Cookie),
            Some(("redis" | "rediss", rest)) if rest.starts_with("//") => {
                Ok(Self::Redis(value.to_owned()))
            }
            _ => Err(ConfigError::Store(without_password(value))),
        }
    }
}

/// The URL without user name and password, fit for logs and messages.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Cookie => f.write_str("cookie:"),
            Self::Redis(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

fn without_password(url: &str) -> String {
    match (url.split_once("//"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}//{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_recognised() {
        let redis = "redis://127.0.0.1:6379";
        assert_eq!(StoreUrl::parse(None).unwrap(), StoreUrl::Memory);
        assert_eq!(StoreUrl::parse(Some("memory:")).unwrap(), StoreUrl::Memory);
        assert_eq!(StoreUrl::parse(Some("cookie:")).unwrap(), StoreUrl::Cookie);
        assert_eq!(
            StoreUrl::parse(Some(redis)).unwrap(),
            StoreUrl::Redis(redis.to_owned())
        );
    }

    #[test]
    fn an_unknown_scheme_lists_those_there_are() {
        let error = StoreUrl::parse(Some("mongodb://me:hunter2@db"))
            .unwrap_err()
            .to_string();
        for scheme in ["memory:", "cookie:", "redis://", "rediss://"] {
            assert!(error.contains(scheme), "{error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = StoreUrl::parse(Some("rediss://me:hunter2@db:6380/1")).unwrap();
        assert_eq!(url.to_string(), "rediss://db:6380/1");
        assert_eq!(format!("{url:?}"), "StoreUrl(rediss://db:6380/1)");
    }
}
