//! A message that waits in the session for the next page and is shown there once.

use actix_session::Session;
use serde::{Deserialize, Serialize};

use crate::error::AppError;

const KEY: &str = "flash";

/// Leaves `text` for the next page that this visitor sees.
pub(crate) fn leave(session: &Session, text: impl Into<String>) -> Result<(), AppError> {
    Ok(session.insert(KEY, Flash { text: text.into() })?)
}

/// Takes the message out, if there is one. One that an older version wrote and this one cannot
/// read is dropped: it is not worth an error page.
pub(crate) fn take(session: &Session) -> Option<String> {
    let flash: Flash = session.remove_as(KEY)?.ok()?;
    Some(flash.text)
}

#[derive(Serialize, Deserialize)]
struct Flash {
    text: String,
}
