//! Whose session it is.

use super::{Identity, Session, unloaded};
use crate::error::Degraded;

impl Session {
    /// The principal that is logged in. `None` too if the session is [not
    /// loaded](Session#not-loaded).
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// assert_eq!(session.principal(), None);
    /// session.login("user-42")?;
    /// assert_eq!(session.principal().as_deref(), Some("user-42"));
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn principal(&self) -> Option<String> {
        self.read().principal().map(str::to_owned)
    }

    /// The principal and the id of the session that the request came with, as far as they are this
    /// session's still.
    pub(crate) fn stored_identity(&self) -> Option<(String, u128)> {
        let pending = self.read();
        let (principal, id) = pending.stored_identity()?;
        Some((principal.to_owned(), id))
    }

    /// Whose session it is, for whoever acts on the principal's other sessions.
    ///
    /// # Errors
    /// Nobody has loaded the session, or it could not be loaded.
    pub(crate) fn identity(&self) -> anyhow::Result<Option<Identity>> {
        let pending = self.lock();
        if pending.degraded {
            return Err(Degraded.into());
        }
        if pending.is_unloaded_or_cleared() {
            drop(pending);
            unloaded::warn();
            return Err(unloaded::error());
        }
        Ok(pending.identity())
    }
}
