//! The configuration, from environment variables.

mod error;
mod secret;
mod store;

use std::{
    env, fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use actix_web::cookie::Key;

pub(crate) use self::secret::create_private_dir;
pub use self::{error::ConfigError, store::StoreUrl};

/// Whether the application runs on a developer's computer or in public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Plain HTTP on this computer. If there is no secret key, one is made.
    Development,
    /// Behind HTTPS. A missing secret key is an error.
    Production,
}

/// The settings of the application, each from one environment variable.
///
/// | variable | meaning | default |
/// | --- | --- | --- |
/// | `ADMIN_USERS` | names of users, with commas between them, who may end all sessions of any user: register them before you name them | nobody |
/// | `APP_ENV` | `development` or `production` | `development` |
/// | `APP_SECRET_KEY` | encrypts the session cookie: at least 64 random bytes, as base64 or hexadecimal | in development, one is made and kept in `dev-secret.key` beside the database |
/// | `BIND` | address and port to listen on | `127.0.0.1:8080` |
/// | `DATABASE_FILE` | the SQLite file with the users | `data/webapp.sqlite3`, in the package's folder under `cargo run`, otherwise in the current one |
/// | `METRICS_ADDRESS` | address and port at which `/metrics` shows counters to a monitoring server; keep it away from visitors | nowhere |
/// | `SESSION_MINUTES` | how long a session lasts after the last request, in minutes | a day |
/// | `SESSION_STORE` | `memory:`, `cookie:`, `sqlite://FILE`, `redis://HOST:PORT` (TLS: `rediss://`), `postgres://USER@HOST/DATABASE` or `mysql://USER@HOST/DATABASE` | `sessions.sqlite3` beside the users |
/// | `TRUSTED_PROXIES` | IP addresses, with commas between them, of the proxies whose `X-Forwarded-For` says where a request comes from | none: it comes from its peer |
#[derive(Clone)]
pub struct Config {
    /// `ADMIN_USERS`.
    pub admins: Vec<String>,
    /// `APP_ENV`.
    pub environment: Environment,
    /// `APP_SECRET_KEY`.
    pub secret_key: Key,
    /// `BIND`.
    pub bind: String,
    /// `DATABASE_FILE`.
    pub database_file: PathBuf,
    /// `METRICS_ADDRESS`.
    pub metrics_address: Option<String>,
    /// `SESSION_MINUTES`.
    pub idle_timeout: Duration,
    /// `SESSION_STORE`.
    pub session_store: StoreUrl,
    /// `TRUSTED_PROXIES`.
    pub trusted_proxies: Vec<IpAddr>,
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// If a variable is invalid; the error says what to set it to.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| {
            let value = env::var_os(name)?;
            Some(value.to_string_lossy().into_owned())
        })
    }

    /// Reads the same variables from `lookup`. An empty variable counts as unset.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn from_lookup(
        lookup: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let lookup = |name| lookup(name).filter(|value| !value.trim().is_empty());
        let environment = Environment::parse(lookup("APP_ENV").as_deref())?;
        let session_store = StoreUrl::parse(lookup("SESSION_STORE").as_deref())?;
        let trusted_proxies = addresses(lookup("TRUSTED_PROXIES").as_deref())?;
        let database_file = lookup("DATABASE_FILE").map_or_else(
            || default_data_dir(lookup("CARGO_MANIFEST_DIR")).join("webapp.sqlite3"),
            PathBuf::from,
        );
        let secret_key = match lookup("APP_SECRET_KEY") {
            Some(text) => secret::parse(&text)?,
            None if environment == Environment::Development => {
                secret::development_key(data_dir(&database_file))?
            }
            None => return Err(ConfigError::SecretMissing),
        };
        Ok(Self {
            admins: names(lookup("ADMIN_USERS").as_deref()),
            idle_timeout: idle_timeout(lookup("SESSION_MINUTES").as_deref())?,
            environment,
            secret_key,
            bind: lookup("BIND").unwrap_or_else(|| "127.0.0.1:8080".to_owned()),
            database_file,
            metrics_address: lookup("METRICS_ADDRESS"),
            session_store,
            trusted_proxies,
        })
    }
}

/// Shows everything but the secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("admins", &self.admins)
            .field("idle_timeout", &self.idle_timeout)
            .field("environment", &self.environment)
            .field("bind", &self.bind)
            .field("database_file", &self.database_file)
            .field("metrics_address", &self.metrics_address)
            .field("session_store", &self.session_store)
            .field("trusted_proxies", &self.trusted_proxies)
            .finish_non_exhaustive()
    }
}

impl Environment {
    fn parse(value: Option<&str>) -> Result<Self, ConfigError> {
        match value {
            None | Some("development") => Ok(Self::Development),
            Some("production") => Ok(Self::Production),
            Some(other) => Err(ConfigError::Environment(other.to_owned())),
        }
    }
}

/// The value of `ADMIN_USERS`.
fn names(list: Option<&str>) -> Vec<String> {
    let items = list.into_iter().flat_map(|list| list.split(','));
    let names = items.map(|name| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// The value of `SESSION_MINUTES`.
fn idle_timeout(minutes: Option<&str>) -> Result<Duration, ConfigError> {
    const DAY: u64 = 24 * 60;
    let invalid = |text: &str| ConfigError::SessionMinutes(text.to_owned());
    let minutes = match minutes {
        None => DAY,
        Some(text) => text.trim().parse().map_err(|_| invalid(text))?,
    };
    if !(1..=30 * DAY).contains(&minutes) {
        return Err(invalid(&minutes.to_string()));
    }
    Ok(Duration::from_secs(60 * minutes))
}

/// The value of `TRUSTED_PROXIES`.
fn addresses(list: Option<&str>) -> Result<Vec<IpAddr>, ConfigError> {
    let items = list.into_iter().flat_map(|list| list.split(','));
    let address = |text: &str| {
        let address: Result<IpAddr, _> = text.parse();
        address.map(|address| address.to_canonical())
    };
    items
        .map(str::trim)
        .map(|text| address(text).map_err(|_| ConfigError::TrustedProxies(text.to_owned())))
        .collect()
}

/// `cargo run` passes the package's folder, so the files are in one place wherever in the workspace
/// it was typed.
fn default_data_dir(package: Option<String>) -> PathBuf {
    package.map(PathBuf::from).unwrap_or_default().join("data")
}

/// The folder of the database.
pub(crate) fn data_dir(database_file: &Path) -> &Path {
    match database_file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let key = "ab".repeat(64);
        Config::from_lookup(|name| {
            let set = variables.iter().find(|(key, _)| *key == name);
            match (set, name) {
                (Some((_, value)), _) => Some((*value).to_owned()),
                (None, "APP_SECRET_KEY") => Some(key.clone()),
                _ => None,
            }
        })
    }

    #[test]
    fn the_defaults_suit_development() {
        let config = config(&[]).unwrap();
        assert_eq!(config.environment, Environment::Development);
        assert_eq!(config.bind, "127.0.0.1:8080");
        assert_eq!(config.admins, [""; 0]);
        assert_eq!(config.idle_timeout, Duration::from_secs(86_400));
        assert_eq!(config.session_store, StoreUrl::File);
        assert_eq!(config.database_file, Path::new("data/webapp.sqlite3"));
    }

    #[test]
    fn production_needs_a_secret_key() {
        let error = config(&[("APP_ENV", "production"), ("APP_SECRET_KEY", " ")]).unwrap_err();
        assert!(error.to_string().contains("openssl rand"), "{error}");
    }

    #[test]
    fn an_unknown_environment_is_refused_with_the_two_known_ones() {
        let error = config(&[("APP_ENV", "prod")]).unwrap_err().to_string();
        assert!(
            error.contains("`development`") && error.contains("`production`"),
            "{error}"
        );
    }

    #[test]
    fn a_session_lasts_for_whole_minutes() {
        let minutes = |text| config(&[("SESSION_MINUTES", text)]);
        let two = minutes("2").unwrap().idle_timeout;
        assert_eq!(two, Duration::from_secs(120));
        for text in ["0", "-1", "1.5", "an hour", "43201"] {
            let error = minutes(text).unwrap_err().to_string();
            assert!(
                error.contains("SESSION_MINUTES") && error.contains(text),
                "{error}"
            );
        }
    }

    #[test]
    fn administrators_are_names() {
        let config = config(&[("ADMIN_USERS", " ada, ,bob ")]).unwrap();
        assert_eq!(config.admins, ["ada", "bob"]);
    }

    #[test]
    fn trusted_proxies_are_addresses() {
        let proxies = |list| config(&[("TRUSTED_PROXIES", list)]);
        let two = proxies("10.0.0.1, ::ffff:10.0.0.2")
            .unwrap()
            .trusted_proxies;
        assert_eq!(two, [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from));
        let error = proxies("10.0.0.1,proxy.example").unwrap_err().to_string();
        assert!(
            error.contains("TRUSTED_PROXIES") && error.contains("`proxy.example`"),
            "{error}"
        );
    }

    #[test]
    fn a_bare_file_name_is_in_the_current_folder() {
        assert_eq!(data_dir(Path::new("users.sqlite3")), Path::new("."));
        assert_eq!(data_dir(Path::new("a/users.sqlite3")), Path::new("a"));
    }
}
