//! Tells the application what happens to sessions, without waiting for it.

use std::{
    error::Error as StdError,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use crate::{
    EndReason,
    error::CommitError,
    event::{self, Refusal, TurnedAway},
    key::SessionKey,
    measure,
    sync::drop_panic,
};

/// How many events wait for an observer at most.
const MOST_WAITING: usize = 4_096;

/// What has happened to a session.
///
/// # Examples
/// ```
/// use actix_session::{SessionEvent, SessionEventKind};
///
/// fn audit(event: &SessionEvent) -> Option<String> {
///     let who = event.principal().unwrap_or("nobody");
///     match event.kind() {
///         SessionEventKind::LoggedIn => Some(format!("{who} logged in")),
///         SessionEventKind::Refused(reason) => Some(format!("a cookie was refused: {reason}")),
///         _ => None,
///     }
/// }
/// # let _ = audit;
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SessionEvent {
    kind: SessionEventKind,
    session: Option<String>,
    principal: Option<String>,
}

/// The kinds of [`SessionEvent`].
///
/// # Examples
/// ```
/// use actix_session::{EndReason, SessionEventKind};
///
/// let is_end = |kind: &SessionEventKind| matches!(kind, SessionEventKind::Ended(_));
/// assert!(is_end(&SessionEventKind::Ended(EndReason::LoggedOut)));
/// assert!(!is_end(&SessionEventKind::Renewed));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEventKind {
    /// A session was stored under a new key, and nobody has logged in.
    Created,

    /// A login was stored. The session has a new key.
    LoggedIn,

    /// A `clear` has logged the user out, or the removal of the
    /// [entry that names them](crate::config::SessionMiddlewareBuilder::principal_entry) (or a value in
    /// it that names nobody), or the login of somebody else in the same session. The session goes on as
    /// nobody's, or as that of whoever logs in: then [`LoggedIn`](Self::LoggedIn) follows.
    LoggedOut,

    /// The session got a new key, without a login.
    Renewed,

    /// The session is no more.
    Ended(EndReason),

    /// A manager has ended all sessions of a principal, all but one's own, or those of a login at an
    /// identity provider: so many.
    Revoked(u64),

    /// A login has ended so many of its principal's sessions, since there are only so many allowed
    /// ([`max_sessions`](crate::config::SessionMiddlewareBuilder::max_sessions)).
    Evicted(usize),

    /// A request's changes were dropped, since its session had ended or been renewed meanwhile.
    Dropped,

    /// A cookie or a header that came opens no session.
    Refused(Refusal),

    /// A key came that a renewal has replaced, later than a cookie needs for its way. Either the
    /// client lost the response with the new key, or somebody uses a copy of the old one.
    KeyReused,

    /// What a request or a manager wanted is refused for now: a 503 that is nobody's failure.
    TurnedAway(TurnedAway),

    /// The store does not answer, or refuses: at a load, a commit, a `save`, or a call of a
    /// [`SessionManager`](crate::SessionManager). With few exceptions the response is an error.
    StoreFailed,
}

impl SessionEvent {
    /// What has happened.
    pub fn kind(&self) -> SessionEventKind {
        self.kind
    }

    /// The fingerprint of the session's key, as the log shows it. It opens nothing.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Whose session it is, or was: the principal of the login, if the event has to do with one.
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }
}

/// Does not name the principal: who that is belongs into no log by accident.
impl fmt::Debug for SessionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEvent")
            .field("kind", &self.kind)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Gets the events of sessions, on a thread of its own.
///
/// Requests never wait for it: if it is slower than they are, up to 4,096 events wait, and further
/// ones are lost and counted. If it panics, the log says so, and the next event is delivered. Clones
/// share the thread, which ends with the last of them.
///
/// Events come in the order in which one request or several have caused them, each once it is true: the
/// store has done it. Ends that no request causes, such as an expiry, cause none.
///
/// # Examples
/// ```
/// use std::sync::mpsc;
/// use actix_session::{
///     Session, SessionEventKind, SessionMiddleware, SessionObserver, storage::MemorySessionStore,
/// };
/// use actix_web::{App, Result, cookie::Key, test, web};
///
/// async fn login(session: Session) -> Result<&'static str> {
///     session.login("user-42")?;
///     Ok("welcome")
/// }
///
/// # actix_web::rt::System::new().block_on(async {
/// let (sender, events) = mpsc::channel();
/// // Made once, outside the closure that each worker calls.
/// let observer = SessionObserver::new(move |event| drop(sender.send(event)));
/// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate())
///     .observer(&observer)
///     .build();
/// let app = test::init_service(App::new().wrap(middleware).route("/", web::get().to(login))).await;
/// test::call_service(&app, test::TestRequest::default().to_request()).await;
///
/// let event = events.recv()?;
/// assert_eq!(event.kind(), SessionEventKind::LoggedIn);
/// assert_eq!(event.principal(), Some("user-42"));
/// # Ok::<(), mpsc::RecvError>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct SessionObserver(Arc<Sending>);

struct Sending {
    /// `None` if there is no thread.
    events: Option<SyncSender<SessionEvent>>,
    lost: AtomicU64,
}

impl SessionObserver {
    /// Starts a thread for an observer. If the system has none left, the log says so, and all events
    /// are lost.
    pub fn new(observe: impl FnMut(SessionEvent) + Send + 'static) -> Self {
        let (sender, events) = sync_channel(MOST_WAITING);
        let thread = thread::Builder::new().name("session-events".to_owned());
        let started = thread.spawn(move || deliver(&events, observe));
        if let Err(error) = &started {
            tracing::error!(%error, "session events are not delivered: no thread could be started");
        }
        Self(Arc::new(Sending {
            events: started.is_ok().then_some(sender),
            lost: AtomicU64::new(0),
        }))
    }

    /// How many events were lost, because too many waited.
    ///
    /// # Examples
    /// ```
    /// use actix_session::SessionObserver;
    ///
    /// assert_eq!(SessionObserver::new(|_| {}).lost(), 0);
    /// ```
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    fn tell(&self, event: SessionEvent) {
        let sent = self.0.events.as_ref().map(|events| events.try_send(event));
        if let None | Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) = sent {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for SessionObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionObserver")
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

fn deliver(events: &Receiver<SessionEvent>, mut observe: impl FnMut(SessionEvent)) {
    for event in events {
        let observed = catch_unwind(AssertUnwindSafe(|| observe(event)));
        if let Err(panic) = observed {
            tracing::error!("the observer of session events has panicked");
            drop_panic(panic);
        }
    }
}

/// The observer of a middleware, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed(Option<SessionObserver>);

impl Observed {
    pub(crate) fn by(observer: SessionObserver) -> Self {
        Self(Some(observer))
    }

    /// Logs a refusal too.
    pub(crate) fn refused(&self, reason: Refusal, key: Option<&SessionKey>) {
        event::refused(reason, key);
        self.tell(SessionEventKind::Refused(reason), key, None);
    }

    /// Logs what has failed, too. That a session has ended, or a login is refused, is no failure; and if a
    /// handler has set what cannot be kept, or a client may come again later, the store has not failed.
    pub(crate) fn not_committed(&self, operation: &'static str, error: &CommitError) {
        if error.refused_login().is_some() {
            return;
        }
        if let Some(reason) = error.turned_away() {
            event::turned_away(operation, reason);
            self.tell(SessionEventKind::TurnedAway(reason), None, None);
        } else if error.is_handlers() {
            event::not_kept(operation, error);
        } else {
            self.store_failed(operation, error);
        }
    }

    /// Logs a failure of the store too.
    pub(crate) fn store_failed(&self, operation: &'static str, error: &dyn StdError) {
        event::store_failed(operation, error);
        self.tell(SessionEventKind::StoreFailed, None, None);
    }

    pub(crate) fn tell(
        &self,
        kind: SessionEventKind,
        key: Option<&SessionKey>,
        principal: Option<&str>,
    ) {
        measure::told(kind);
        if let Some(observer) = &self.0 {
            observer.tell(SessionEvent {
                kind,
                session: key.map(SessionKey::fingerprint),
                principal: principal.map(str::to_owned),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing::Level;

    use super::*;
    use crate::lines::Lines;

    fn tell(observer: &SessionObserver, ended: u64) {
        Observed::by(observer.clone()).tell(SessionEventKind::Revoked(ended), None, Some("ada"));
    }

    #[test]
    fn an_observer_that_panics_gets_the_next_event() {
        let (sender, events) = mpsc::channel();
        let observer = SessionObserver::new(move |event| {
            assert_ne!(event.kind(), SessionEventKind::Revoked(1), "a test's panic");
            sender.send(event).unwrap();
        });
        tell(&observer, 1);
        tell(&observer, 2);
        assert_eq!(events.recv().unwrap().kind(), SessionEventKind::Revoked(2));
        assert_eq!(observer.lost(), 0);
    }

    #[test]
    fn what_clients_can_cause_is_no_failure_and_floods_no_log() {
        for error in [CommitError::Full, CommitError::Contended] {
            let reason = error.turned_away().unwrap();
            let (sender, events) = mpsc::channel();
            let observer = SessionObserver::new(move |event| sender.send(event.kind()).unwrap());
            let observed = Observed::by(observer);
            let lines = Lines::default();
            tracing::subscriber::with_default(lines.clone(), || {
                for _ in 0..2_000 {
                    observed.not_committed("commit", &error);
                }
            });
            drop(observed);
            // One in each second, however slow the machine is.
            let lines = lines.levels();
            assert!(lines.len() < 1_000, "{}", lines.len());
            assert!(lines.iter().all(|level| *level == Level::WARN), "{lines:?}");
            let told: Vec<_> = events.iter().collect();
            assert_eq!(told, [SessionEventKind::TurnedAway(reason); 2_000]);
        }
    }

    #[test]
    fn nobody_waits_for_an_observer_that_is_slow() {
        let (go, wait) = mpsc::channel::<()>();
        let (sender, events) = mpsc::channel();
        let observer = SessionObserver::new(move |event| {
            let _ = wait.recv();
            sender.send(event).unwrap();
        });
        let most = u64::try_from(MOST_WAITING).unwrap();
        // One of them is being observed already, or not yet.
        for n in 0..most + 10 {
            tell(&observer, n);
        }
        assert!((9..=10).contains(&observer.lost()), "{observer:?}");
        drop(go);
        let lost = observer.lost();
        drop(observer);
        assert_eq!(events.iter().count() as u64, most + 10 - lost);
    }
}
