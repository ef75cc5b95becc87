//! A message that waits in the session and is shown once, on the next page.

use actix_session::Session;
use serde::{Deserialize, Serialize};

use crate::error::AppError;

const KEY: &str = "flash";

/// Leaves `text` for the next page that this visitor opens.
pub(crate) fn leave(session: &Session, text: impl Into<String>) -> Result<(), AppError> {
    Ok(session.insert(KEY, Flash { text: text.into() })?)
}

/// Takes the message out, if there is one. A message from an older version that this one cannot
/// read is dropped: it is not worth an error page.
pub(crate) fn take(session: &Session) -> Option<String> {
    let flash: Flash = session.remove_as(KEY)?.ok()?;
    Some(flash.text)
}

/// The message, which stays: nobody sees the body of a response to `HEAD`.
pub(crate) fn peek(session: &Session) -> Option<String> {
    let flash: Option<Flash> = session.get(KEY).ok()?;
    Some(flash?.text)
}

#[derive(Serialize, Deserialize)]
struct Flash {
    text: String,
}
