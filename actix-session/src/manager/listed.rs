//! What a list says of a session.

use std::{fmt, time::SystemTime, vec};

use super::SessionHandle;
use crate::{
    ClientAddress, Level, Session,
    clock::Millis,
    contract::Terms,
    record::{Metadata, Origin},
    storage::index::{After, Live},
};

/// A principal's session, as it was when it was listed.
///
/// # Examples
/// ```
/// use actix_session::ListedSession;
///
/// fn line(session: &ListedSession) -> String {
///     format!("{}: {:?}", session.device().unwrap_or("?"), session.last_seen())
/// }
/// # let _ = line;
/// ```
#[derive(Clone)]
pub struct ListedSession {
    id: u128,
    principal: String,
    metadata: Metadata,
    ends_at: Option<Millis>,
    last_seen: Option<Millis>,
}

/// Live sessions of a principal: an iterator, the latest login first.
///
/// # Examples
/// ```
/// use actix_session::{SessionManager, storage::MemorySessionStore};
///
/// # actix_web::rt::System::new().block_on(async {
/// let sessions = SessionManager::of_store(&MemorySessionStore::new());
/// let list = sessions.list("user-42").await?;
/// assert!(list.next_page().is_none());
/// assert_eq!(list.count(), 0);
/// # Ok::<(), actix_session::SessionManagerError>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct SessionList {
    found: vec::IntoIter<ListedSession>,
    next: Option<NextPage>,
}

/// Where a list goes on, for
/// [`SessionManager::list_page`](crate::SessionManager::list_page).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NextPage(pub(super) After);

/// Shows nothing: it contains a session's id.
impl fmt::Debug for NextPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextPage").finish_non_exhaustive()
    }
}

impl SessionList {
    pub(super) fn new(found: Vec<ListedSession>, next: Option<After>) -> Self {
        Self {
            found: found.into_iter(),
            next: next.map(NextPage),
        }
    }

    /// Where the list goes on, if it may.
    pub fn next_page(&self) -> Option<NextPage> {
        self.next
    }
}

impl Iterator for SessionList {
    type Item = ListedSession;

    fn next(&mut self) -> Option<ListedSession> {
        self.found.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.found.size_hint()
    }
}

impl ExactSizeIterator for SessionList {}

impl ListedSession {
    /// `idle` is the idle timeout of sessions without a TTL of their own, if it is known.
    pub(super) fn new(live: &Live, terms: &Terms, idle: Option<Millis>) -> Self {
        let now = terms.now;
        let metadata = live.record.times().cloned();
        let metadata = metadata.unwrap_or_else(|| Metadata::new(live.id, now));
        let ends_at = live.record.end();
        let idle = metadata.ttl.or(idle);
        // Where the absolute end comes first, the end does not say. Stores may round it.
        let cap = terms.absolute_end_of(&live.record);
        let idle_end = ends_at.filter(|end| cap.is_none_or(|cap| *end + Millis::secs(1) < cap));
        let seen = idle_end.zip(idle).map(|(end, idle)| end - idle);
        Self {
            id: live.id,
            principal: metadata.principal().unwrap_or_default().to_owned(),
            // No earlier than the login, if the configured timeout has changed.
            last_seen: seen.map(|seen| seen.max(metadata.since()).min(now)),
            metadata,
            ends_at,
        }
    }

    pub(super) fn principal(&self) -> &str {
        &self.principal
    }

    /// The session's name for [`SessionManager`](crate::SessionManager), and for forms.
    pub fn handle(&self) -> SessionHandle {
        SessionHandle::of(&self.principal, self.id)
    }

    /// Whether it is this request's session. If that is not loaded
    /// ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)), none is, and a warning says so once.
    pub fn is(&self, session: &Session) -> bool {
        let identity = session.identity().ok().flatten();
        identity.is_some_and(|identity| identity.ids.contains(&self.id))
    }

    /// When the session began, be it before the login.
    pub fn created_at(&self) -> SystemTime {
        self.metadata.created.to_system_time()
    }

    /// When the principal logged in.
    pub fn logged_in_at(&self) -> SystemTime {
        let auth = self.metadata.auth.as_deref();
        let login = auth.map_or(self.metadata.created, crate::record::Auth::login);
        login.to_system_time()
    }

    /// When the principal last proved who they are.
    pub fn authenticated_at(&self) -> SystemTime {
        self.metadata.since().to_system_time()
    }

    /// When the session was last used, as exact as it is extended: under
    /// [`OnEveryRequest`](crate::config::TtlExtensionPolicy::OnEveryRequest) its last request, and
    /// otherwise its last extension or change. `None` if the store does not say when it ends, and if the
    /// manager was made from a store alone, which does not know the idle timeout: then only a session
    /// with a TTL of its own ([`Session::set_ttl`]) says it. `None`, too, if the session ends by its
    /// absolute timeout before its idle timeout is over: then no activity moves the end, as with a login
    /// whose [`idle`](crate::Login::idle) and [`absolute`](crate::Login::absolute) times are equal.
    ///
    /// Nothing is written for it: it is the end less the idle timeout. So it is of no use once the
    /// configured timeout has changed, until the session is extended again.
    pub fn last_seen(&self) -> Option<SystemTime> {
        self.last_seen.map(Millis::to_system_time)
    }

    /// When the session ends unless it is used.
    pub fn ends_at(&self) -> Option<SystemTime> {
        self.ends_at.map(Millis::to_system_time)
    }

    /// The label that the application gave with [`Login::device`](crate::Login::device). It may hold
    /// what a visitor has sent: escape it.
    pub fn device(&self) -> Option<&str> {
        let auth = self.metadata.auth.as_deref();
        auth.and_then(|auth| auth.device.as_deref())
    }

    /// How the login began, as the application said with [`Login::method`](crate::Login::method).
    pub fn method(&self) -> Option<&str> {
        let method = self.origin().map(|origin| origin.method.as_str());
        method.filter(|method| !method.is_empty())
    }

    /// Where the login came from, if the application gave it with
    /// [`Login::address`](crate::Login::address).
    pub fn address(&self) -> Option<ClientAddress> {
        self.origin().and_then(|origin| origin.address)
    }

    /// How strongly the principal has proven who they are. [`Level::Two`] or higher says that a second
    /// factor was shown.
    pub fn level(&self) -> Level {
        let auth = self.metadata.auth.as_deref();
        auth.map_or(Level::Zero, crate::record::Auth::level)
    }

    fn origin(&self) -> Option<&Origin> {
        self.metadata.auth.as_deref()?.origin.as_deref()
    }
}

/// Shows no principal and no device: they are personal data.
impl fmt::Debug for ListedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedSession")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
