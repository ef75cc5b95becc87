//! Why a statement was not carried out.

use sqlx::Error;

use super::database::{Database, Verdict, hint, verdict};
use crate::error::Contended;

/// Why something was not done, or may not have been.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) verdict: Verdict,
    pub(crate) error: anyhow::Error,
    /// The time limit has passed.
    pub(crate) late: bool,
}

impl Failure {
    pub(crate) fn late(doing: &str, verdict: Verdict) -> Self {
        Self {
            verdict,
            error: anyhow::anyhow!("the session database did not answer in time: {doing}"),
            late: true,
        }
    }

    /// The work for a request ended in the middle: it panicked.
    pub(crate) fn unfinished() -> Self {
        Self {
            verdict: Verdict::Lost,
            error: anyhow::anyhow!("the session store panicked"),
            late: true,
        }
    }

    pub(crate) fn of<D: Database>(error: Error) -> Self {
        let (verdict, hint) = (verdict::<D>(&error), hint::<D>(&error));
        let mut failure = Self::with::<D>(error, verdict);
        if let Some(hint) = hint {
            failure.error = failure.error.context(hint);
        }
        failure
    }

    /// Whether the database's words alone would not say what caused it.
    pub(crate) fn has_hint<D: Database>(&self) -> bool {
        let error = self.error.downcast_ref::<Error>();
        error.is_some_and(|error| hint::<D>(error).is_some())
    }

    /// Whether the database itself has answered that it does not do it.
    pub(crate) fn is_refusal(&self) -> bool {
        let error = self.error.downcast_ref::<Error>();
        let is_its_own = error.is_some_and(|error| error.as_database_error().is_some());
        self.verdict == Verdict::Refused && is_its_own
    }

    /// Whether only a message was refused, and not what it came with.
    pub(crate) fn refuses_to_tell<D: Database>(&self) -> bool {
        let error = self.error.downcast_ref::<Error>();
        error.is_some_and(refuses_to_tell::<D>)
    }

    pub(crate) fn with<D: Database>(error: impl Into<anyhow::Error>, verdict: Verdict) -> Self {
        let context = format!("the {} session store failed", D::NAME);
        Self {
            verdict,
            error: error.into().context(context),
            late: false,
        }
    }

    /// The error for the application, with a hint if the table is missing.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self.verdict {
            Verdict::NoTable => self
                .error
                .context("the session table may be missing: call the store's `migrate`"),
            _ => self.error,
        }
    }

    /// Marks the error if only other requests caused it.
    pub(crate) fn contended(mut self) -> Self {
        if self.verdict == Verdict::Again {
            self.error = self.error.context(Contended);
        }
        self
    }
}

pub(super) fn refuses_to_tell<D: Database>(error: &Error) -> bool {
    error.as_database_error().is_some_and(D::refuses_to_tell)
}
