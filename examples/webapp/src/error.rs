//! What can go wrong while a request is served, and what the visitor sees of it.

use actix_session::{
    SessionGetError, SessionInsertError, SessionLoginError, SessionManagerError, SessionUpdateError,
};
use actix_web::{HttpResponse, ResponseError, error::BlockingError, http::StatusCode};

use crate::pages;

/// Why a request fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    #[error("the form cannot be read: {0}")]
    BadForm(#[from] actix_web::error::UrlencodedError),
    #[error("no thread was available for hashing")]
    Blocking(#[from] BlockingError),
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    #[error("a password could not be hashed or compared: {0}")]
    Hash(#[from] argon2::password_hash::Error),
    #[error("a session entry could not be read: {0}")]
    SessionGet(#[from] SessionGetError),
    #[error("a session entry could not be written: {0}")]
    SessionInsert(#[from] SessionInsertError),
    #[error("the login failed: {0}")]
    SessionLogin(#[from] SessionLoginError),
    #[error("the list of sessions failed: {0}")]
    Sessions(#[from] SessionManagerError),
    #[error("a session entry could not be changed: {0}")]
    SessionUpdate(#[from] SessionUpdateError),
    #[error("a page could not be rendered: {0}")]
    Template(#[from] askama::Error),
}

impl ResponseError for AppError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::BadForm(error) => error.status_code(),
            Self::SessionLogin(error) => error.status_code(),
            Self::Sessions(error) => error.status_code(),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The visitor learns what to do. The cause goes to the log.
    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        if status.is_server_error() {
            log::error!("{self}");
        }
        pages::failure(status)
    }
}
