use std::{io, path::PathBuf};

use actix_session::config::secret_key::SecretKeyError;

/// An invalid environment variable, and what to set it to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `APP_ENV` is neither of the two.
    #[error("APP_ENV must be `development` or `production`, not `{0}`")]
    Environment(String),
    /// The development key's file contains no valid key.
    #[error("{0}, or delete it: the next start makes another one")]
    DevelopmentKey(SecretKeyError),
    /// The development key cannot be made.
    #[error(
        "the development key {path} cannot be made ({source}); make its folder writable, \
         set DATABASE_FILE to a file in another folder, or set APP_SECRET_KEY"
    )]
    NoDevelopmentKey {
        /// Its file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// `APP_SECRET_KEY` contains no valid key.
    #[error("APP_SECRET_KEY is invalid: {0}, keep it secret, and give every server the same")]
    Secret(SecretKeyError),
    /// There is no secret key in production.
    #[error(
        "APP_SECRET_KEY must be set under APP_ENV=production; make one with \
         `openssl rand -base64 64`, keep it secret, and give every server the same"
    )]
    SecretMissing,
    /// `SESSION_MINUTES` is no time that a session can last.
    #[error("SESSION_MINUTES must be a whole number from 1 to 43200 (30 days), not `{0}`")]
    SessionMinutes(String),
    /// `SESSION_STORE` names no known store.
    #[error("SESSION_STORE `{url}` is invalid: {source}")]
    Store {
        /// Its value, without the password.
        url: String,
        /// The cause, with the known stores.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// `TRUSTED_PROXIES` contains something else than addresses.
    #[error(
        "TRUSTED_PROXIES must be IP addresses with commas between them, for example \
         `10.0.0.1,10.0.0.2`; `{0}` is not an IP address"
    )]
    TrustedProxies(String),
}
