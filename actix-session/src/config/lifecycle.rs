//! How long sessions and their cookies live.

use actix_web::cookie::time::Duration;
use derive_more::From;

/// Whether the session cookie ends with the browser's session or at a fixed time, and how long the
/// state lives.
///
/// Used by [`SessionMiddlewareBuilder::session_lifecycle`].
///
/// [`SessionMiddlewareBuilder::session_lifecycle`]: super::SessionMiddlewareBuilder::session_lifecycle
#[derive(Debug, Clone, From)]
#[non_exhaustive]
pub enum SessionLifecycle {
    /// The browser drops the cookie when its own session ends. Browsers differ in this: some keep
    /// running in the background, or restore cookies at the next start.
    BrowserSession(BrowserSession),

    /// The cookie has a `Max-Age`, and outlives the browser.
    PersistentSession(PersistentSession),
}

/// A [lifecycle](SessionLifecycle) in which the cookie ends with the browser's session.
///
/// # Examples
/// ```
/// use actix_session::config::{BrowserSession, TtlExtensionPolicy};
/// use actix_web::cookie::time::Duration;
///
/// let lifecycle = BrowserSession::default()
///     .state_ttl(Duration::hours(2))
///     .state_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
/// # let _ = lifecycle;
/// ```
#[derive(Debug, Clone)]
pub struct BrowserSession {
    pub(crate) state_ttl: Duration,
    pub(crate) state_ttl_extension_policy: TtlExtensionPolicy,
}

impl BrowserSession {
    /// Sets how long the state lives in the store unless it is extended; 1 day by default. A shorter
    /// time counts as it does for a [persistent session](PersistentSession::session_ttl).
    ///
    /// The server does not learn when a browser's session ends; this is the upper bound. A session is
    /// loaded before the body of the request comes: an upload that takes longer has to extend it (the
    /// cookbook says how).
    #[must_use]
    pub fn state_ttl(mut self, ttl: Duration) -> Self {
        self.state_ttl = ttl;
        self
    }

    /// Sets what extends the state's life; [`TtlExtensionPolicy::OnStateChanges`] by default.
    #[must_use]
    pub fn state_ttl_extension_policy(mut self, ttl_extension_policy: TtlExtensionPolicy) -> Self {
        self.state_ttl_extension_policy = ttl_extension_policy;
        self
    }
}

impl Default for BrowserSession {
    fn default() -> Self {
        Self {
            state_ttl: default_ttl(),
            state_ttl_extension_policy: TtlExtensionPolicy::OnStateChanges,
        }
    }
}

/// A [lifecycle](SessionLifecycle) in which the cookie outlives the browser.
///
/// # Examples
/// ```
/// use actix_session::config::{PersistentSession, TtlExtensionPolicy};
/// use actix_web::cookie::time::Duration;
///
/// let lifecycle = PersistentSession::default()
///     .session_ttl(Duration::weeks(1))
///     .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
/// # let _ = lifecycle;
/// ```
#[derive(Debug, Clone)]
pub struct PersistentSession {
    pub(crate) session_ttl: Duration,
    pub(crate) ttl_extension_policy: TtlExtensionPolicy,
}

impl PersistentSession {
    /// Sets how long the cookie and the state live unless they are extended; 1 day by default.
    ///
    /// A session keeps the end that it got until something extends it. So a shorter time counts for a
    /// session from its next extension, and one that nobody uses lives as long as it was promised. If
    /// the time is to count for all at once, end those that live.
    ///
    /// A session is loaded before the body of the request comes: an upload that takes longer has to
    /// extend it (the cookbook says how).
    #[doc(alias = "max_age", alias = "max age", alias = "expires")]
    #[must_use]
    pub fn session_ttl(mut self, session_ttl: Duration) -> Self {
        self.session_ttl = session_ttl;
        self
    }

    /// Sets what extends the session's life; [`TtlExtensionPolicy::OnStateChanges`] by default.
    #[must_use]
    pub fn session_ttl_extension_policy(
        mut self,
        ttl_extension_policy: TtlExtensionPolicy,
    ) -> Self {
        self.ttl_extension_policy = ttl_extension_policy;
        self
    }
}

impl Default for PersistentSession {
    fn default() -> Self {
        Self {
            session_ttl: default_ttl(),
            ttl_extension_policy: TtlExtensionPolicy::OnStateChanges,
        }
    }
}

/// What extends a session's life.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TtlExtensionPolicy {
    /// Every request with a live session.
    ///
    /// Stores on the server extend the session as they load it. Each response sends a persistent
    /// cookie again, once the store has confirmed that its key is current, which takes one more
    /// command.
    OnEveryRequest,

    /// A change of the state, or a renewal of the key.
    OnStateChanges,

    /// Every request with a live session, but at most once in this interval.
    ///
    /// After its last request, a session then lives for its time to live, or for up to this interval
    /// less (or more, if the time to live has just become shorter). A busy session costs hardly
    /// more than with [`OnStateChanges`](Self::OnStateChanges): a persistent cookie is sent again
    /// only by the response to a request that extends. The interval must be shorter than the time
    /// to live. A session with a time of its own ([`set_ttl`](crate::Session::set_ttl)) is extended
    /// once half of that time is over, if that is sooner. A store of the five published methods
    /// does not say when a session ends, so with it each request extends.
    AtMostEvery(Duration),
}

const fn default_ttl() -> Duration {
    Duration::days(1)
}
