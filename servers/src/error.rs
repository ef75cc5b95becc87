//! What can go wrong with a server.

use std::process::ExitStatus;
use std::time::Duration;
use std::{fmt, io};

/// Why a server could not be found, installed, started or reached.
///
/// Its debug output is its message, so that a test that unwraps it shows the log line by line.
#[non_exhaustive]
pub enum Error {
    /// This machine has no program of this kind.
    Missing {
        /// The kind of server.
        name: &'static str,
        /// What to do about it.
        hint: String,
    },
    /// The package manager failed.
    Install {
        /// The command that failed.
        command: String,
        /// The last lines that it printed.
        output: String,
    },
    /// The operating system refused something.
    Io {
        /// What was being done.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The server ended too early, or an operation needs it to run.
    Ended {
        /// The kind of server.
        name: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The server runs, but was not ready in time.
    NotReady {
        /// The kind of server.
        name: &'static str,
        /// How long the test waited.
        waited: Duration,
        /// The result of the last attempt.
        last: io::Error,
        /// The last lines of its log.
        log: String,
    },
}

impl Error {
    /// For `map_err`: adds what was being done to the system's answer.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, hint } => write!(f, "{name} is missing on this machine: {hint}"),
            Self::Install { command, output } => write!(f, "`{command}` failed:\n{output}"),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Ended { name, status, log } => {
                write!(f, "{name} has ended ({status}); its log ends with:\n{log}")
            }
            Self::NotReady {
                name,
                waited,
                last,
                log,
            } => write!(
                f,
                "{name} was not ready within {waited:?} ({last}); its log ends with:\n{log}"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::NotReady { last: source, .. } => Some(source),
            Self::Missing { .. } | Self::Install { .. } | Self::Ended { .. } => None,
        }
    }
}
