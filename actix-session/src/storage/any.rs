//! A store that is chosen at run time.

#[cfg(feature = "cookie-session")]
use std::sync::Arc;
use std::{collections::HashMap, fmt};

use actix_web::cookie::time::Duration;

#[cfg(feature = "cookie-session")]
use super::CookieSessionStore;
#[cfg(feature = "memory-session")]
use super::MemorySessionStore;
#[cfg(feature = "mysql-session")]
use super::MySqlSessionStore;
#[cfg(feature = "postgres-session")]
use super::PostgresSessionStore;
#[cfg(feature = "redis-session")]
use super::RedisSessionStore;
use super::SessionStore;
#[cfg(feature = "sqlite-session")]
use super::SqliteSessionStore;
use crate::{
    changes::Changes,
    contract::{Committed, End, Opened, Rotated, Terms},
    error::{CommitError, LoadError, SaveError, UpdateError},
    key::SessionKey,
    record::Record,
};

/// A store of any kind that this build has, chosen by a URL at run time.
///
/// | URL | store | feature |
/// | --- | --- | --- |
/// | `memory:` | `MemorySessionStore` | `memory-session` |
/// | `cookie:` | `CookieSessionStore` | `cookie-session` |
/// | `redis://`, `rediss://` | `RedisSessionStore` | `redis-session` (and one for TLS) |
/// | `redis+cluster://`, `redis+sentinel://` | `RedisSessionStore` | `redis-session` |
/// | `sqlite://FILE` | `SqliteSessionStore` | `sqlite-session` |
/// | `postgres://`, `postgresql://` | `PostgresSessionStore` | `postgres-session` |
/// | `mysql://`, `mariadb://` | `MySqlSessionStore` | `mysql-session` |
///
/// Each is made with its default settings. Clones share one store.
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory-session")]
/// # async fn run() -> anyhow::Result<()> {
/// use actix_session::{SessionMiddleware, storage::AnySessionStore};
/// use actix_web::cookie::Key;
///
/// let url = std::env::var("SESSION_STORE").unwrap_or("memory:".into());
/// let store = AnySessionStore::new(&url).await?;
/// let middleware = SessionMiddleware::new(store, Key::generate());
/// # let _ = middleware; Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AnySessionStore(Kind);

#[derive(Clone)]
enum Kind {
    #[cfg(feature = "memory-session")]
    Memory(MemorySessionStore),
    #[cfg(feature = "cookie-session")]
    Cookie(Arc<CookieSessionStore>),
    #[cfg(feature = "redis-session")]
    Redis(RedisSessionStore),
    #[cfg(feature = "sqlite-session")]
    Sqlite(SqliteSessionStore),
    #[cfg(feature = "postgres-session")]
    Postgres(PostgresSessionStore),
    #[cfg(feature = "mysql-session")]
    MySql(MySqlSessionStore),
    /// A build without any store has this and nothing else, which nobody can make.
    #[allow(dead_code, reason = "never made")]
    None(std::convert::Infallible),
}

/// A kind of store that URLs can name.
struct Scheme {
    names: &'static [&'static str],
    example: &'static str,
    feature: &'static str,
    is_built: bool,
}

const SCHEMES: [Scheme; 8] = [
    Scheme {
        names: &["memory"],
        example: "memory:",
        feature: "memory-session",
        is_built: cfg!(feature = "memory-session"),
    },
    Scheme {
        names: &["cookie"],
        example: "cookie:",
        feature: "cookie-session",
        is_built: cfg!(feature = "cookie-session"),
    },
    Scheme {
        names: &["redis", "rediss", "valkey", "valkeys"],
        example: "redis://HOST:PORT",
        feature: "redis-session",
        is_built: cfg!(feature = "redis-session"),
    },
    Scheme {
        names: &["redis+cluster"],
        example: "redis+cluster://HOST:PORT",
        feature: "redis-session",
        is_built: cfg!(feature = "redis-session"),
    },
    Scheme {
        names: &["redis+sentinel"],
        example: "redis+sentinel://HOST:PORT",
        feature: "redis-session",
        is_built: cfg!(feature = "redis-session"),
    },
    Scheme {
        names: &["sqlite"],
        example: "sqlite://FILE",
        feature: "sqlite-session",
        is_built: cfg!(feature = "sqlite-session"),
    },
    Scheme {
        names: &["postgres", "postgresql"],
        example: "postgres://USER@HOST/DATABASE",
        feature: "postgres-session",
        is_built: cfg!(feature = "postgres-session"),
    },
    Scheme {
        names: &["mysql", "mariadb"],
        example: "mysql://USER@HOST/DATABASE",
        feature: "mysql-session",
        is_built: cfg!(feature = "mysql-session"),
    },
];

/// The URL names no store, or one that this build does not have.
#[derive(Debug)]
struct NoSuchStore(String);

impl fmt::Display for NoSuchStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoSuchStore {}

impl AnySessionStore {
    /// Makes the store that a URL names. SQL stores make their table where there is none.
    ///
    /// # Errors
    /// The URL names no store, or one whose feature this build does not have: the error lists those
    /// that it has. Or the store's server does not answer.
    pub async fn new(url: &str) -> Result<Self, anyhow::Error> {
        let url = url.trim();
        check(url)?;
        open(url).await.map(Self)
    }

    /// Whether a URL names a store that this build has, without making it.
    ///
    /// # Errors
    /// As [`new`](Self::new), but for the store's own.
    pub fn check_url(url: &str) -> Result<(), anyhow::Error> {
        Ok(check(url.trim())?)
    }

    /// The store's kind, for a log: `memory`, `cookie`, `Redis`, `SQLite`, `PostgreSQL` or `MySQL`.
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            #[cfg(feature = "memory-session")]
            Kind::Memory(_) => "memory",
            #[cfg(feature = "cookie-session")]
            Kind::Cookie(_) => "cookie",
            #[cfg(feature = "redis-session")]
            Kind::Redis(_) => "Redis",
            #[cfg(feature = "sqlite-session")]
            Kind::Sqlite(_) => "SQLite",
            #[cfg(feature = "postgres-session")]
            Kind::Postgres(_) => "PostgreSQL",
            #[cfg(feature = "mysql-session")]
            Kind::MySql(_) => "MySQL",
            Kind::None(never) => match *never {},
        }
    }

    /// Sweeps ended sessions out in the background, where the store does not do so by itself:
    /// in SQL databases. See `SqliteSessionStore::spawn_sweeper`.
    ///
    /// # Panics
    /// Outside of a Tokio (or Actix) runtime.
    #[cfg(any(
        feature = "sqlite-session",
        feature = "postgres-session",
        feature = "mysql-session"
    ))]
    pub fn spawn_sweeper(
        &self,
        interval: std::time::Duration,
        batch: u32,
    ) -> Option<super::Sweeper> {
        match &self.0 {
            #[cfg(feature = "sqlite-session")]
            Kind::Sqlite(store) => Some(store.spawn_sweeper(interval, batch)),
            #[cfg(feature = "postgres-session")]
            Kind::Postgres(store) => Some(store.spawn_sweeper(interval, batch)),
            #[cfg(feature = "mysql-session")]
            Kind::MySql(store) => Some(store.spawn_sweeper(interval, batch)),
            _ => None,
        }
    }
}

/// Shows the kind, and nothing of the address, which may hold a password.
impl fmt::Debug for AnySessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnySessionStore")
            .field(&self.kind())
            .finish()
    }
}

async fn open(url: &str) -> anyhow::Result<Kind> {
    match scheme_of(url) {
        #[cfg(feature = "memory-session")]
        "memory" => Ok(Kind::Memory(MemorySessionStore::new())),
        #[cfg(feature = "cookie-session")]
        "cookie" => Ok(Kind::Cookie(Arc::new(CookieSessionStore::default()))),
        #[cfg(feature = "sqlite-session")]
        "sqlite" => Ok(Kind::Sqlite(SqliteSessionStore::new(url).await?)),
        #[cfg(feature = "postgres-session")]
        "postgres" | "postgresql" => Ok(Kind::Postgres(PostgresSessionStore::new(url).await?)),
        #[cfg(feature = "mysql-session")]
        "mysql" | "mariadb" => Ok(Kind::MySql(MySqlSessionStore::new(url).await?)),
        #[cfg(feature = "redis-session")]
        _ => Ok(Kind::Redis(RedisSessionStore::new(url).await?)),
        #[cfg(not(feature = "redis-session"))]
        _ => Err(unknown(url).into()),
    }
}

fn scheme_of(url: &str) -> &str {
    url.split_once(':').map_or(url, |(scheme, _)| scheme)
}

fn check(url: &str) -> Result<(), NoSuchStore> {
    let name = scheme_of(url);
    let Some(scheme) = SCHEMES.iter().find(|scheme| scheme.names.contains(&name)) else {
        return Err(unknown(url));
    };
    if !scheme.is_built {
        return Err(NoSuchStore(format!(
            "stores at `{name}:` need the feature `{}`, which this build does not have; it has {}",
            scheme.feature,
            built()
        )));
    }
    let rest = url.get(name.len()..).unwrap_or_default();
    let fits = match name {
        "memory" | "cookie" => matches!(rest, ":" | "://"),
        // `sqlite:file` is as good as `sqlite://file`.
        "sqlite" => rest.len() > 1,
        _ => rest.starts_with("://"),
    };
    if fits {
        return Ok(());
    }
    Err(NoSuchStore(format!(
        "the address of a session store at `{name}:` should look like {}",
        scheme.example
    )))
}

/// Tells the scheme alone: an address may hold a password.
fn unknown(url: &str) -> NoSuchStore {
    let name = url.split_once(':').map_or("", |(scheme, _)| scheme);
    NoSuchStore(format!(
        "`{name}:` names no kind of session store; this build has {}",
        built()
    ))
}

fn built() -> String {
    let examples: Vec<&str> = SCHEMES
        .iter()
        .filter(|scheme| scheme.is_built)
        .map(|scheme| scheme.example)
        .collect();
    if examples.is_empty() {
        return "none: turn on a feature such as `memory-session`".to_owned();
    }
    examples.join(", ")
}

/// Calls the method of the store that there is.
macro_rules! forward {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match &$self.0 {
            #[cfg(feature = "memory-session")]
            Kind::Memory(store) => store.$method($($argument),*).await,
            #[cfg(feature = "cookie-session")]
            Kind::Cookie(store) => store.$method($($argument),*).await,
            #[cfg(feature = "redis-session")]
            Kind::Redis(store) => store.$method($($argument),*).await,
            #[cfg(feature = "sqlite-session")]
            Kind::Sqlite(store) => store.$method($($argument),*).await,
            #[cfg(feature = "postgres-session")]
            Kind::Postgres(store) => store.$method($($argument),*).await,
            #[cfg(feature = "mysql-session")]
            Kind::MySql(store) => store.$method($($argument),*).await,
            Kind::None(never) => match *never {},
        }
    };
}

#[cfg_attr(
    not(feature = "memory-session"),
    allow(unused_variables, reason = "a build without stores forwards nothing")
)]
impl SessionStore for AnySessionStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<HashMap<String, String>>, LoadError> {
        forward!(self.load(key))
    }

    async fn save(
        &self,
        state: HashMap<String, String>,
        ttl: &Duration,
    ) -> Result<SessionKey, SaveError> {
        forward!(self.save(state, ttl))
    }

    async fn update(
        &self,
        key: SessionKey,
        state: HashMap<String, String>,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        forward!(self.update(key, state, ttl))
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        forward!(self.update_ttl(key, ttl))
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        forward!(self.delete(key))
    }

    async fn open(&self, key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
        forward!(self.open(key, terms))
    }

    async fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(SessionKey, End), CommitError> {
        forward!(self.create(changes, terms))
    }

    async fn commit(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Committed, CommitError> {
        forward!(self.commit(key, base, changes, terms))
    }

    async fn rotate(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Rotated, CommitError> {
        forward!(self.rotate(key, base, changes, terms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scheme_lists_what_there_is_and_shows_no_password() {
        for url in ["mongodb://me:hunter2@db", "hunter2", ""] {
            let told = AnySessionStore::check_url(url).unwrap_err().to_string();
            assert!(!told.contains("hunter2"), "{told}");
            for scheme in SCHEMES.iter().filter(|scheme| scheme.is_built) {
                assert!(told.contains(scheme.example), "{told}");
            }
        }
    }

    #[test]
    fn a_scheme_that_is_not_built_names_its_feature() {
        for scheme in &SCHEMES {
            let checked = AnySessionStore::check_url(&format!("{}://x", scheme.names[0]));
            match (scheme.is_built, scheme.names[0]) {
                (true, "memory" | "cookie") => assert!(checked.is_err(), "they have no host"),
                (true, _) => checked.unwrap(),
                (false, _) => {
                    let told = checked.unwrap_err().to_string();
                    assert!(told.contains(scheme.feature), "{told}");
                }
            }
        }
    }

    #[cfg(feature = "memory-session")]
    #[actix_web::test]
    async fn memory_is_memory() {
        let store = AnySessionStore::new("memory:").await.unwrap();
        assert_eq!(store.kind(), "memory");
        assert_eq!(format!("{store:?}"), "AnySessionStore(\"memory\")");
    }
}
