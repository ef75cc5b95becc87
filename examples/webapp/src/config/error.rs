use std::{io, path::PathBuf};

/// A variable that cannot be used, and what to set it to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `APP_ENV` is neither of the two.
    #[error("APP_ENV is `{0}`; set it to `development` or `production`")]
    Environment(String),
    /// The development key can be neither read nor made.
    #[error(
        "the development key {path} cannot be read or made ({source}); make its folder writable, \
         set DATABASE_FILE to a file in another folder, or set APP_SECRET_KEY"
    )]
    DevelopmentKey {
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The secret is neither base64 nor hexadecimal.
    #[error("APP_SECRET_KEY is neither base64 nor hexadecimal; {HOW_TO_MAKE_ONE}")]
    SecretFormat,
    /// Production without a secret.
    #[error("APP_SECRET_KEY is not set, and APP_ENV=production needs it; {HOW_TO_MAKE_ONE}")]
    SecretMissing,
    /// The secret is too short.
    #[error("APP_SECRET_KEY has {0} bytes and needs at least 64; {HOW_TO_MAKE_ONE}")]
    SecretShort(usize),
    /// `SESSION_STORE` names no store that this application knows.
    #[error("SESSION_STORE `{url}` cannot be used: {source}")]
    Store {
        /// What it says, without its password.
        url: String,
        /// Why not, and what there is.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

const HOW_TO_MAKE_ONE: &str = "make one with `openssl rand -base64 64`, keep it secret, and give \
                               every server the same";
