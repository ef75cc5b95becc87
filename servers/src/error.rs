//! What can go wrong around a server.

use std::process::ExitStatus;
use std::time::Duration;
use std::{fmt, io};

/// Why a server could not be found, installed, started or spoken to.
///
/// Its debug output is its message, so that a test that unwraps it shows the log line by line.
#[non_exhaustive]
pub enum Error {
    /// No program of this kind is on this machine.
    Missing {
        /// The kind of server.
        name: &'static str,
        /// What a person can do about it.
        hint: String,
    },
    /// The package manager was asked and failed.
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
        /// What the system answered.
        source: io::Error,
    },
    /// The server ended before it was ready.
    Ended {
        /// The kind of server.
        name: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The server runs, but did not answer in time.
    NotReady {
        /// The kind of server.
        name: &'static str,
        /// How long it was waited for.
        waited: Duration,
        /// What the last attempt met.
        last: io::Error,
        /// The last lines of its log.
        log: String,
    },
}

impl Error {
    /// For `map_err`: the system's answer, with what was being done.
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
            Self::Missing { name, hint } => write!(f, "no {name} on this machine: {hint}"),
            Self::Install { command, output } => write!(f, "`{command}` failed:\n{output}"),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Ended { name, status, log } => {
                write!(
                    f,
                    "{name} ended before it was ready ({status}); its log ends with:\n{log}"
                )
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
