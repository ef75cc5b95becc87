//! What a person has a right to: to see what is kept of them, and to have it erased.

use std::{fmt, time::SystemTime};

use actix_web::cookie::time::{OffsetDateTime, format_description::well_known::Rfc3339};
use serde::Serialize;

use super::{ListedSession, SessionManager, SessionManagerError, to_the_end};
use crate::{ClientAddress, SessionEventKind, storage::index::Live};

/// What is kept of a person's session, apart from the application's own entries: see
/// [`SessionManager::export`].
///
/// It contains nothing that opens or names a session. As JSON, with times in UTC:
///
/// ```json
/// {
///   "created": "2026-11-27T10:00:00Z",
///   "logged_in": "2026-11-27T10:01:00Z",
///   "authenticated": "2026-11-27T10:01:00Z",
///   "last_seen": "2026-11-27T10:15:00Z",
///   "ends": "2026-11-28T10:15:00Z",
///   "level": 1,
///   "method": "password",
///   "device": "Firefox on Linux",
///   "address": "192.0.2.0/24"
/// }
/// ```
///
/// What is not known is left out.
///
/// # Examples
/// ```
/// use actix_session::{Session, SessionManager};
/// use actix_web::{HttpResponse, web};
///
/// async fn my_data(
///     session: Session,
///     sessions: web::Data<SessionManager>,
/// ) -> actix_web::Result<HttpResponse> {
///     let principal = session.principal().unwrap_or_default();
///     Ok(HttpResponse::Ok().json(sessions.export(&principal).await?))
/// }
/// # actix_web::web::to(my_data);
/// ```
#[derive(Clone, Serialize)]
pub struct ExportedSession {
    created: String,
    logged_in: String,
    authenticated: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<String>,
    level: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<ClientAddress>,
}

/// What a list knows of a session, without its handle.
impl From<&ListedSession> for ExportedSession {
    fn from(session: &ListedSession) -> Self {
        Self {
            created: text_of(session.created_at()),
            logged_in: text_of(session.logged_in_at()),
            authenticated: text_of(session.authenticated_at()),
            last_seen: session.last_seen().map(text_of),
            ends: session.ends_at().map(text_of),
            level: session.level().number(),
            method: session.method().map(str::to_owned),
            device: session.device().map(str::to_owned),
            address: session.address(),
        }
    }
}

/// In UTC, as RFC 3339 writes it. A time that it has no number for is left empty.
fn text_of(at: SystemTime) -> String {
    let since = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()),
        Err(before) => i128::try_from(before.duration().as_nanos()).map(|nanos| -nanos),
    };
    let nanos = since.unwrap_or(i128::MAX);
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_default()
}

/// Shows nothing: it is personal data.
impl fmt::Debug for ExportedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportedSession").finish_non_exhaustive()
    }
}

impl SessionManager {
    /// Exports what is kept of a principal's live sessions, the latest login first: for whoever asks
    /// what is known of them (GDPR, article 15).
    ///
    /// The application's own entries are not in it, since they may hold secrets. Whoever knows what
    /// they mean adds them, as in the example.
    ///
    /// # Errors
    /// The store fails, or does not answer in time.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionManager, SessionManagerError};
    /// use serde_json::{Value, json};
    ///
    /// async fn all_data(
    ///     sessions: &SessionManager,
    ///     principal: &str,
    /// ) -> Result<Value, SessionManagerError> {
    ///     let mut baskets = Vec::new();
    ///     let mut list = sessions.list(principal).await?;
    ///     loop {
    ///         let next = list.next_page();
    ///         for listed in list {
    ///             if let Some(opened) = sessions.open(principal, &listed.handle()).await? {
    ///                 baskets.push(opened.session().get::<Vec<u32>>("basket")?);
    ///             }
    ///         }
    ///         // A list has up to 50 sessions.
    ///         let Some(next) = next else { break };
    ///         list = sessions.list_page(principal, next, 50).await?;
    ///     }
    ///     Ok(json!({ "sessions": sessions.export(principal).await?, "baskets": baskets }))
    /// }
    /// # let _ = all_data;
    /// ```
    pub async fn export(
        &self,
        principal: &str,
    ) -> Result<Vec<ExportedSession>, SessionManagerError> {
        let (terms, mut exported) = (self.terms(), Vec::new());
        // Those that are logged in again meanwhile, too.
        let exporting = |live: Vec<Live>| {
            let listed = live.iter().map(|live| self.listed(live, &terms));
            exported.extend(listed.map(|session| ExportedSession::from(&session)));
            None::<()>
        };
        let done = self.0.index.each(principal, &terms, exporting).await;
        self.told(done)?;
        Ok(exported)
    }

    /// Ends all sessions of a principal as [`revoke_all`](Self::revoke_all) does, and takes away
    /// whatever else the store keeps of them, expired sessions included (GDPR, article 17). Returns
    /// how many sessions there were.
    ///
    /// What stays for 400 days is a time under a digest of the principal, so that a login that began
    /// before and commits later does not count. In an SQL database that time stays under the
    /// principal's name, too, for ten minutes; then sweeping deletes it.
    ///
    /// What is kept of logins at an upstream ([`Login::upstream`](crate::Login::upstream)) names the
    /// principal. This takes the name away as far as live sessions come from there. If all such sessions
    /// have ended or expired before, or a login is refused in this moment, or this fails, it may stay until
    /// its own end: for as long as the session could have lived, and up to 30 days more.
    ///
    /// # Errors
    /// The store fails, or does not answer in time: something may be left. It is safe to repeat this.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionManager, SessionManagerError};
    ///
    /// async fn delete_account(
    ///     sessions: &SessionManager,
    ///     principal: &str,
    /// ) -> Result<(), SessionManagerError> {
    ///     // ... the account itself, so that nobody can log in again
    ///     sessions.erase(principal).await?;
    ///     Ok(())
    /// }
    /// # let _ = delete_account;
    /// ```
    pub async fn erase(&self, principal: &str) -> Result<u64, SessionManagerError> {
        let (this, principal) = (self.clone(), principal.to_owned());
        to_the_end(async move {
            let (end, terms) = (this.end_by(&principal, Vec::new(), None), this.terms());
            let ended = this.told(this.0.index.erase(&principal, end, &terms).await)?;
            this.tell(SessionEventKind::Revoked(ended), Some(&principal));
            Ok(ended)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        assert_eq!(text_of(at), "2023-11-14T22:13:20.25Z");
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(text_of(before), "1969-12-31T23:59:59Z");
        let beyond = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(text_of(beyond), "");
    }
}
