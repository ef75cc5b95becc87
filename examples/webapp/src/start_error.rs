use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use crate::{config::StoreUrl, error::AppError};

type Cause = Box<dyn Error + Send + Sync>;

/// Why the application cannot start, and what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The application cannot listen on the address.
    #[error(
        "cannot listen on {address} ({source}); set BIND to a free ADDRESS:PORT, for example BIND=127.0.0.1:8081"
    )]
    Bind {
        /// The value of `BIND`.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(
        "cannot open the database {file} ({source}); set DATABASE_FILE to a file that this user may write"
    )]
    Database {
        /// The value of `DATABASE_FILE`.
        file: PathBuf,
        /// The cause.
        source: Cause,
    },
    /// The counters cannot be shown.
    #[error(
        "cannot serve metrics on {address} ({source}); set METRICS_ADDRESS to a free ADDRESS:PORT, or not at all"
    )]
    Metrics {
        /// The value of `METRICS_ADDRESS`.
        address: String,
        /// The cause.
        source: Cause,
    },
    /// This machine cannot hash passwords.
    #[error("cannot hash passwords: {0}")]
    Passwords(Cause),
    /// A setting of the sessions is invalid.
    #[error("invalid session settings in src/app.rs: {0}")]
    Sessions(actix_session::config::ConfigError),
    /// The session store cannot be opened.
    #[error(
        "cannot open the session store {url} ({source}); {advice}, or set SESSION_STORE to another one, for example `memory:`"
    )]
    Store {
        /// The value of `SESSION_STORE`, without the password.
        url: String,
        /// The cause.
        source: Cause,
        /// What to do if this store is the right one.
        advice: &'static str,
    },
}

impl StartError {
    pub(crate) fn metrics(address: &str, source: Cause) -> Self {
        Self::Metrics {
            address: address.to_owned(),
            source,
        }
    }

    pub(crate) fn bind(address: &str, source: io::Error) -> Self {
        Self::Bind {
            address: address.to_owned(),
            source,
        }
    }

    pub(crate) fn database(file: &Path, source: impl Into<Cause>) -> Self {
        Self::Database {
            file: file.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn passwords(source: AppError) -> Self {
        Self::Passwords(source.into())
    }

    pub(crate) fn store(url: &StoreUrl, source: impl Into<Cause>) -> Self {
        Self::Store {
            url: url.to_string(),
            source: with_causes(&*source.into()).into(),
            advice: url.advice(),
        }
    }
}

/// Adds the causes: "does not answer" may be due to an invalid certificate. Some errors repeat
/// their cause, so each is added once.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
