use std::{fmt, path::Path};

use actix_session::storage::AnySessionStore;

use super::{ConfigError, data_dir};

/// Where the sessions are stored: the value of `SESSION_STORE`.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In an SQLite file beside the users' one: they survive a restart.
    File,
    /// `memory:`, in this process: a restart loses them.
    Memory,
    /// `cookie:`, encrypted in the visitor's browser.
    Cookie,
    /// In a server or a file of its own: the whole URL, including the password.
    At(String),
}

impl StoreUrl {
    pub(super) fn parse(value: Option<&str>) -> Result<Self, ConfigError> {
        let Some(value) = value.map(str::trim) else {
            return Ok(Self::File);
        };
        AnySessionStore::check_url(value).map_err(|source| ConfigError::Store {
            url: without_password(value),
            source: source.into(),
        })?;
        Ok(match value.trim_end_matches("//") {
            "memory:" => Self::Memory,
            "cookie:" => Self::Cookie,
            _ => Self::At(value.to_owned()),
        })
    }

    /// The URL that the session library takes.
    pub(crate) fn resolve(&self, database_file: &Path) -> String {
        match self {
            Self::File => {
                let file = data_dir(database_file).join("sessions.sqlite3");
                format!("sqlite://{}", escaped(&file.to_string_lossy()))
            }
            Self::Memory => "memory:".to_owned(),
            Self::Cookie => "cookie:".to_owned(),
            Self::At(url) => url.clone(),
        }
    }

    /// What to do if the store cannot be opened.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::File => "make the folder of DATABASE_FILE writable for this user",
            Self::At(url) if url.starts_with("sqlite:") => {
                "make sure that its folder exists and that this user may write there"
            }
            Self::Memory | Self::Cookie | Self::At(_) => {
                "make sure that it runs and that the address is right"
            }
        }
    }
}

/// Escapes what would end a path in a URL.
fn escaped(path: &str) -> String {
    path.replace('%', "%25")
        .replace('?', "%3F")
        .replace('#', "%23")
}

/// Shows the URL without user name and password, for logs and messages.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("a file beside the database"),
            Self::Memory => f.write_str("memory:"),
            Self::Cookie => f.write_str("cookie:"),
            Self::At(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// The options go, too: they may name a user and a password.
fn without_password(url: &str) -> String {
    let place = url.split_once('?').map_or(url, |(place, _)| place);
    match (url.split_once("//"), place.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}//{host}"),
        (None, Some((_, host))) => host.to_owned(),
        // A password with a question mark that is not escaped.
        (Some((scheme, _)), None) if url.contains('@') => format!("{scheme}//"),
        (_, None) => place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_recognised() {
        assert_eq!(StoreUrl::parse(None).unwrap(), StoreUrl::File);
        assert_eq!(StoreUrl::parse(Some("memory:")).unwrap(), StoreUrl::Memory);
        assert_eq!(
            StoreUrl::parse(Some("cookie://")).unwrap(),
            StoreUrl::Cookie
        );
        for url in [
            "redis://127.0.0.1:6379",
            "rediss://127.0.0.1:6379",
            "sqlite://sessions.sqlite3",
            "postgres://me@127.0.0.1/app",
            "mysql://me@127.0.0.1/app",
        ] {
            let parsed = StoreUrl::parse(Some(url)).unwrap();
            assert_eq!(parsed, StoreUrl::At(url.to_owned()));
        }
    }

    #[test]
    fn an_unknown_scheme_is_refused_with_the_known_ones() {
        let error = StoreUrl::parse(Some("mongodb://me:hunter2@db"))
            .unwrap_err()
            .to_string();
        for scheme in [
            "memory:",
            "cookie:",
            "redis://",
            "sqlite://",
            "postgres://",
            "mysql://",
        ] {
            assert!(error.contains(scheme), "{error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_word_that_is_no_address_is_refused_in_the_words_of_whoever_typed_it() {
        for (typed, says) in [
            (
                "foo",
                "SESSION_STORE `foo` is invalid: the address of a session store must begin",
            ),
            ("redis", "SESSION_STORE `redis` is invalid: the address"),
            ("memory:/x", "must look like memory:"),
        ] {
            let error = StoreUrl::parse(Some(typed)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("`:`"), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = StoreUrl::parse(Some("rediss://me:hunter2@db:6380/1")).unwrap();
        assert_eq!(url.to_string(), "rediss://db:6380/1");
        assert_eq!(format!("{url:?}"), "StoreUrl(rediss://db:6380/1)");
        for (url, shown) in [
            (
                "redis+unix:///run/redis.sock?user=me&pass=hunter@2",
                "redis+unix://",
            ),
            ("postgres://db/app?password=hunter2", "postgres://db/app"),
            ("postgres://me:hunter?2@db/app", "postgres://"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn the_file_is_beside_the_database() {
        let url = StoreUrl::File.resolve(Path::new("a%b/users.sqlite3"));
        assert_eq!(url, "sqlite://a%25b/sessions.sqlite3");
    }
}
