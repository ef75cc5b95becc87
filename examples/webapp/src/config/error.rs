use std::{io, path::PathBuf};

use actix_session::config::secret_key::SecretKeyError;

/// A variable that cannot be used, and what to set it to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `APP_ENV` is neither of the two.
    #[error("APP_ENV is `{0}`; set it to `development` or `production`")]
    Environment(String),
    /// The file of the development key holds no key.
    #[error("{0}, or delete it: the next start makes another one")]
    DevelopmentKey(SecretKeyError),
    /// The development key cannot be made.
    #[error(
        "the development key {path} cannot be made ({source}); make its folder writable, \
         set DATABASE_FILE to a file in another folder, or set APP_SECRET_KEY"
    )]
    NoDevelopmentKey {
        /// The file that would hold it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `APP_SECRET_KEY` holds no key.
    #[error("APP_SECRET_KEY cannot be used: {0}, keep it secret, and give every server the same")]
    Secret(SecretKeyError),
    /// Production without a secret key.
    #[error(
        "APP_SECRET_KEY is not set, and APP_ENV=production needs it; make one with \
         `openssl rand -base64 64`, keep it secret, and give every server the same"
    )]
    SecretMissing,
    /// `SESSION_STORE` names no store that this application knows.
    #[error("SESSION_STORE `{url}` cannot be used: {source}")]
    Store {
        /// What it says, without its password.
        url: String,
        /// Why not, and what there is.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
