//! What can go wrong.

use std::error::Error as StdError;

use actix_web::{HttpResponse, ResponseError, body::BoxBody, http::StatusCode};
use derive_more::Display;

use crate::{
    error::{CommitError, Gone, OutcomeUnknown},
    session::status_of,
};

/// Error returned by [`SessionManager`](crate::SessionManager).
///
/// As a response it is an empty 401 if the session has ended, an empty 503 if the same request may
/// succeed later, and an empty 500 otherwise: only the log names the cause.
///
/// # Examples
/// ```
/// use actix_session::{Session, SessionManager, storage::MemorySessionStore};
///
/// # actix_web::rt::System::new().block_on(async {
/// let sessions = SessionManager::of_store(&MemorySessionStore::new());
/// let nobody = Session::new();
/// assert!(sessions.revoke_others(&nobody).await.unwrap_err().is_gone());
/// # });
/// ```
#[derive(Debug, Display)]
#[display("{_0}")]
pub struct SessionManagerError(anyhow::Error);

impl SessionManagerError {
    pub(super) fn new(error: anyhow::Error) -> Self {
        Self(error)
    }

    pub(super) fn gone() -> Self {
        Self(Gone.into())
    }

    /// Whether the session that this is about has ended.
    pub fn is_gone(&self) -> bool {
        self.0.is::<Gone>()
    }

    /// Whether nobody knows what was done.
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.is::<OutcomeUnknown>()
    }
}

impl From<CommitError> for SessionManagerError {
    fn from(error: CommitError) -> Self {
        Self(error.into_anyhow())
    }
}

impl From<crate::SessionInsertError> for SessionManagerError {
    fn from(error: crate::SessionInsertError) -> Self {
        Self(error.into())
    }
}

impl From<crate::SessionUpdateError> for SessionManagerError {
    fn from(error: crate::SessionUpdateError) -> Self {
        Self(error.into())
    }
}

impl From<crate::SessionGetError> for SessionManagerError {
    fn from(error: crate::SessionGetError) -> Self {
        Self(error.into())
    }
}

impl StdError for SessionManagerError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.0.as_ref())
    }
}

impl ResponseError for SessionManagerError {
    fn status_code(&self) -> StatusCode {
        status_of(&self.0)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        HttpResponse::new(self.status_code())
    }
}
