//! A store that is chosen at run time.

use std::{fmt, time::Duration};

/// A store of any kind that this build has, chosen by a URL at run time.
///
/// | URL | store | feature |
/// | --- | --- | --- |
/// | `memory:` | `MemorySessionStore` | `memory-session` |
/// | `cookie:` | `CookieSessionStore` | `cookie-session` |
/// | `redis://`, `rediss://`, `valkey://`, `valkeys://` | `RedisSessionStore` | `redis-session` (and one for TLS) |
/// | `redis+cluster://`, `redis+sentinel://`, and `rediss` in their place | `RedisSessionStore` | `redis-session` (and one for TLS) |
/// | `redis+unix:///PATH`, `valkey+unix:///PATH`, `unix:///PATH` | `RedisSessionStore` | `redis-session` |
/// | `sqlite://FILE` | `SqliteSessionStore` | `sqlite-session` |
/// | `postgres://`, `postgresql://` | `PostgresSessionStore` | `postgres-session` |
/// | `mysql://`, `mariadb://` | `MySqlSessionStore` | `mysql-session` |
///
/// Each store has its default settings. Clones share one store.
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

/// A kind of store that URLs can name.
struct Scheme {
    names: &'static [&'static str],
    example: &'static str,
    feature: &'static str,
    is_built: bool,
}

/// Everything about the stores that URLs can name: for each, its feature, its type, its name for
/// logs, how to make it from a URL, what sweeps it, and its schemes with an example each.
macro_rules! stores {
    ($(
        $feature:literal $kind:ident($store:ty) $name:literal
        = |$url:ident| $open:expr, |$text:ident| $parse:expr, $sweep:ident, $index:ident {
            $($($scheme:literal)|+ => $example:literal,)+
        }
    )+) => {
        #[derive(Clone)]
        enum Kind {
            $(#[cfg(feature = $feature)] $kind($store),)+
            /// The only variant of a build without stores. It cannot be made.
            #[allow(dead_code, reason = "never made")]
            None(std::convert::Infallible),
        }

        const SCHEMES: &[Scheme] = &[$(
            $(Scheme {
                names: &[$($scheme),+],
                example: $example,
                feature: $feature,
                is_built: cfg!(feature = $feature),
            },)+
        )+];

        impl Kind {
            fn name(&self) -> &'static str {
                match self {
                    $(#[cfg(feature = $feature)] Self::$kind(_) => $name,)+
                    Self::None(never) => match *never {},
                }
            }

            fn opens_at_once(&self) -> bool {
                match self {
                    $(#[cfg(feature = $feature)]
                    Self::$kind(store) => super::SessionStore::opens_at_once(store),)+
                    Self::None(never) => match *never {},
                }
            }

            fn knows_ends(&self) -> bool {
                match self {
                    $(#[cfg(feature = $feature)]
                    Self::$kind(store) => super::SessionStore::knows_ends(store),)+
                    Self::None(never) => match *never {},
                }
            }

            async fn open(url: &str) -> anyhow::Result<Self> {
                $(#[cfg(feature = $feature)]
                if [$($($scheme),+),+].contains(&scheme_of(url)) {
                    let $url = url;
                    return Ok(Self::$kind($open));
                })+
                Err(unknown(url).into())
            }

            /// What can be known of a URL without the server.
            fn parse(url: &str) -> anyhow::Result<()> {
                $(#[cfg(feature = $feature)]
                if [$($($scheme),+),+].contains(&scheme_of(url)) {
                    let $text = url;
                    return $parse;
                })+
                Err(unknown(url).into())
            }

            #[cfg(feature = "_backend")]
            fn index(&self) -> super::StoreIndex {
                match self {
                    $(#[cfg(feature = $feature)]
                    Self::$kind(store) => stores!(@index $index store),)+
                    Self::None(never) => match *never {},
                }
            }

            #[cfg(feature = "_sql")]
            fn spawn_sweeper(&self, interval: Duration, batch: u32) -> Option<super::Sweeper> {
                match self {
                    $(#[cfg(feature = $feature)]
                    Self::$kind(store) => stores!(@sweep $sweep store, interval, batch),)+
                    Self::None(never) => match *never {},
                }
            }
        }

        macro_rules! forward {
            ([] $self:ident.$method:ident $arguments:tt) => {
                async move {
                    match &$self.0 {
                        $(#[cfg(feature = $feature)]
                        Kind::$kind(store) => store.$method $arguments.await,)+
                        // A build without any store needs no argument.
                        Kind::None(never) => {
                            let _ = $arguments;
                            match *never {}
                        }
                    }
                }
            };
        }
    };
    (@index indexed $store:ident) => {
        super::SessionIndex::index($store)
    };
    (@index unindexed $store:ident) => {{
        let _ = $store;
        super::StoreIndex::none()
    }};
    (@sweep by_itself $store:ident, $interval:ident, $batch:ident) => {{
        let _ = $store;
        None
    }};
    (@sweep swept $store:ident, $interval:ident, $batch:ident) => {
        Some($store.spawn_sweeper($interval, $batch))
    };
}

stores! {
    "memory-session" Memory(super::MemorySessionStore) "memory"
    = |_url| super::MemorySessionStore::new(), |_url| Ok(()), by_itself, indexed {
        "memory" => "memory:",
    }
    "cookie-session" Cookie(super::CookieSessionStore) "cookie"
    = |_url| super::CookieSessionStore::default(), |_url| Ok(()), by_itself, unindexed {
        "cookie" => "cookie:",
    }
    "redis-session" Redis(super::RedisSessionStore) "Redis"
    = |url| super::RedisSessionStore::new(url).await?, |url| super::RedisSessionStore::parse(url), by_itself, indexed {
        "redis" | "rediss" | "valkey" | "valkeys" => "redis://HOST:PORT",
        "redis+cluster" | "rediss+cluster" => "redis+cluster://HOST:PORT",
        "redis+sentinel" | "rediss+sentinel" => "redis+sentinel://HOST:PORT/MASTER",
        "redis+unix" | "valkey+unix" | "unix" => "redis+unix:///PATH",
    }
    "sqlite-session" Sqlite(super::SqliteSessionStore) "SQLite"
    = |url| super::SqliteSessionStore::new(url).await?, |url| super::SqliteSessionStore::parse(url), swept, indexed {
        "sqlite" => "sqlite://FILE",
    }
    "postgres-session" Postgres(super::PostgresSessionStore) "PostgreSQL"
    = |url| super::PostgresSessionStore::new(url).await?, |url| super::PostgresSessionStore::parse(url), swept, indexed {
        "postgres" | "postgresql" => "postgres://USER@HOST/DATABASE",
    }
    "mysql-session" MySql(super::MySqlSessionStore) "MySQL"
    = |url| super::MySqlSessionStore::new(url).await?, |url| super::MySqlSessionStore::parse(url), swept, indexed {
        "mysql" | "mariadb" => "mysql://USER@HOST/DATABASE",
    }
}

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
    /// Makes the store that a URL names. SQL stores create their table if it is missing.
    ///
    /// # Errors
    /// The URL names no store, or one whose feature is off in this build (the error lists the
    /// stores that this build has). Or the store's server does not answer.
    pub async fn new(url: &str) -> Result<Self, anyhow::Error> {
        let url = url.trim();
        check(url)?;
        Kind::open(url).await.map(Self)
    }

    /// Checks that a URL can be parsed and names a store that this build has, without making the store.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), except the server's own.
    pub fn check_url(url: &str) -> Result<(), anyhow::Error> {
        let url = url.trim();
        check(url)?;
        Kind::parse(url)
    }

    /// The store's kind, for a log: `memory`, `cookie`, `Redis`, `SQLite`, `PostgreSQL` or `MySQL`.
    pub fn kind(&self) -> &'static str {
        self.0.name()
    }

    /// Deletes expired sessions in the background if the store is an SQL database. The other stores
    /// do so themselves: for them, this returns `None`. See `SqliteSessionStore::spawn_sweeper`.
    ///
    /// # Panics
    /// Outside of a Tokio (or Actix) runtime.
    #[cfg(feature = "_sql")]
    pub fn spawn_sweeper(
        &self,
        interval: impl crate::AnyDuration,
        batch: u32,
    ) -> Option<super::Sweeper> {
        self.0.spawn_sweeper(interval.unsigned(), batch)
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
            "stores at `{name}:` need the feature `{}`, which is off; this build \
             has {}",
            scheme.feature,
            built()
        )));
    }
    let rest = url.get(name.len()..).unwrap_or_default();
    let fits = match name {
        "memory" | "cookie" => matches!(rest, ":" | "://"),
        // `sqlite:file` is as good as `sqlite://file`. Without a file, SQLite would open one that
        // disappears with its connection.
        "sqlite" => !matches!(rest, "" | ":" | "://"),
        _ => rest.starts_with("://"),
    };
    if fits {
        return Ok(());
    }
    Err(NoSuchStore(format!(
        "the address of a session store at `{name}:` must look like {}",
        scheme.example
    )))
}

/// Shows the scheme alone: an address may hold a password.
fn unknown(url: &str) -> NoSuchStore {
    let found = match url.split_once(':') {
        Some((name, _)) if !name.is_empty() => format!("`{name}:` is not a kind of session store"),
        _ => "the address of a session store must begin with its kind and a colon".to_owned(),
    };
    NoSuchStore(format!("{found}; this build has {}", built()))
}

fn built() -> String {
    let examples: Vec<&str> = SCHEMES
        .iter()
        .filter(|scheme| scheme.is_built)
        .map(|scheme| scheme.example)
        .collect();
    if examples.is_empty() {
        return "no store: turn on a feature such as `memory-session`".to_owned();
    }
    examples.join(", ")
}

impl super::SessionStore for AnySessionStore {
    crate::__store_methods! { [opens_at_once knows_ends] self [forward] [] }

    fn opens_at_once(&self) -> bool {
        self.0.opens_at_once()
    }

    fn knows_ends(&self) -> bool {
        self.0.knows_ends()
    }
}

/// A store that keeps sessions in the cookie has no list of them: what its index is asked is an error.
#[cfg(feature = "_backend")]
impl super::SessionIndex for AnySessionStore {
    fn index(&self) -> super::StoreIndex {
        self.0.index()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scheme_lists_what_there_is_and_shows_no_password() {
        for url in ["mongodb://me:hunter2@db", "hunter2", ""] {
            let error = AnySessionStore::check_url(url).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
            for scheme in SCHEMES.iter().filter(|scheme| scheme.is_built) {
                assert!(error.contains(scheme.example), "{error}");
            }
        }
    }

    #[test]
    fn an_address_without_a_scheme_is_told_what_it_lacks() {
        for url in ["foo", "", ":", "://me:hunter2@db"] {
            let error = AnySessionStore::check_url(url).unwrap_err().to_string();
            assert!(error.contains("must begin with its kind"), "{error}");
            assert!(!error.contains("`:`"), "{error}");
        }
    }

    #[cfg(feature = "sqlite-session")]
    #[test]
    fn an_sqlite_address_names_a_file() {
        for url in ["sqlite", "sqlite:", "sqlite://"] {
            let error = AnySessionStore::check_url(url).unwrap_err().to_string();
            assert!(error.contains("sqlite://FILE"), "{error}");
        }
        for url in ["sqlite:file", "sqlite://file", "sqlite:///a/file"] {
            AnySessionStore::check_url(url).unwrap();
        }
    }

    #[test]
    fn an_address_that_cannot_be_parsed_is_refused_without_a_server() {
        for url in [
            "redis://",
            "redis://host:port",
            "redis://me:hunter2@host:99999",
            "redis+cluster://",
            "redis+sentinel://host",
            "redis+sentinel://host/main/hunter2",
            "postgres://me:hunter2@host:99999/db",
            "postgres://me:hunter2@host/db?sslmode=some",
            "mysql://me:hunter2@host:port/db",
            "mysql://me:hunter2@host/db?ssl-mode=some",
            "sqlite://file?mode=some",
            "sqlite://file?hunter2=1",
        ] {
            let error = AnySessionStore::check_url(url).unwrap_err();
            assert!(!format!("{error:?}").contains("me:hunter2"), "{error:?}");
        }
        #[cfg(feature = "redis-session")]
        AnySessionStore::check_url("redis+sentinel://a,b:1/main/2").unwrap();
    }

    #[test]
    fn a_scheme_that_is_not_built_names_its_feature() {
        for scheme in SCHEMES {
            let name = scheme.names[0];
            let at = if name.ends_with("+unix") { "/x" } else { "x" };
            let checked = AnySessionStore::check_url(&format!("{name}://{at}"));
            match (scheme.is_built, name) {
                (true, "memory" | "cookie") => assert!(checked.is_err(), "they have no host"),
                // The master's name is missing.
                (true, name) if name.ends_with("+sentinel") => assert!(checked.is_err()),
                (true, _) => checked.unwrap(),
                (false, _) => {
                    let error = checked.unwrap_err().to_string();
                    assert!(error.contains(scheme.feature), "{error}");
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
