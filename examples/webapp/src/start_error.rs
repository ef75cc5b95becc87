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
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address} ({source}); set BIND to a free ADDRESS:PORT, for example BIND=127.0.0.1:8081"
    )]
    Bind {
        /// What `BIND` says.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(
        "cannot open the database {file} ({source}); set DATABASE_FILE to a file that can be written"
    )]
    Database {
        /// What `DATABASE_FILE` says.
        file: PathBuf,
        /// Why not.
        source: Cause,
    },
    /// No password can be hashed on this machine.
    #[error("cannot hash passwords: {0}")]
    Passwords(Cause),
    /// The session store cannot be reached.
    #[error(
        "cannot reach the session store {url} ({source}); start it, or set SESSION_STORE to another one, for example `memory:`"
    )]
    Store {
        /// What `SESSION_STORE` says, without its password.
        url: String,
        /// Why not.
        source: Cause,
    },
}

impl StartError {
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
        }
    }
}

/// A certificate that does not fit is behind "does not answer": tell the causes as well, each
/// once, though some errors repeat theirs.
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
