//! Both halves of what tells the end of a session.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    clock::SharedClock,
    contract::Terms,
    record::{Metadata, Record, WireFormat},
    sync::lock,
};

/// Why a session has ended, as far as it is known.
///
/// # Examples
/// ```
/// use actix_session::EndReason;
///
/// fn farewell(reason: EndReason) -> &'static str {
///     match reason {
///         EndReason::LoggedOut => "you have logged out",
///         EndReason::Revoked => "you were signed out on another device",
///         EndReason::OverLimit => "you have signed in on too many devices",
///         _ => "your session has ended",
///     }
/// }
/// # assert_eq!(farewell(EndReason::Gone), "your session has ended");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// A request of its own has ended it: a purge, a logout, a `clear`, or another person's login.
    LoggedOut,

    /// It was ended from outside, by a [`SessionManager`](crate::SessionManager).
    Revoked,

    /// Its principal has logged in elsewhere, and has too many sessions: it was the oldest
    /// ([`max_sessions`](crate::config::SessionMiddlewareBuilder::max_sessions)).
    OverLimit,

    /// It is no longer there. It may have expired or been evicted, or whoever has ended it could not
    /// tell.
    Gone,
}

/// Resolves when a session has ended: see [`Session::ended`](crate::Session::ended).
///
/// It is `Send`, and independent of its request. Dropping it is cheap, and leaves nothing behind. Once
/// it has resolved, it resolves to the same reason again.
///
/// # Examples
/// ```
/// use actix_session::{EndReason, SessionEnded};
///
/// /// Sends a message each second, until the session ends.
/// async fn ticks(mut ended: SessionEnded, mut send: impl FnMut(&str)) -> EndReason {
///     let mut clock = actix_web::rt::time::interval(std::time::Duration::from_secs(1));
///     loop {
///         tokio::select! {
///             reason = &mut ended => return reason,
///             _ = clock.tick() => send("tick"),
///         }
///     }
/// }
/// # let _ = |ended| ticks(ended, |_| {});
/// ```
#[must_use = "it does nothing unless it is awaited"]
pub struct SessionEnded(Arc<Slot>);

/// What a store tells the end of a session to: see
/// [`SessionStore::watch`](crate::storage::SessionStore::watch).
///
/// Dropping it tells that the session is gone.
pub struct Watch {
    waits: Waits,
    /// The session's id, if it is known. A record that keeps none counts as the same session.
    pub(crate) id: Option<u128>,
    /// It is nobody's, or has just been made: the record may turn out to keep no id.
    may_lose_id: bool,
    /// Whose session it is, as far as is known.
    #[cfg(any(feature = "_backend", test))]
    pub(crate) owner: Option<crate::protocol::Owner>,
    pub(crate) looking: Looking,
}

/// How a middleware looks for ends.
#[derive(Clone)]
pub(crate) struct Looking {
    /// Its settings.
    pub(crate) terms: Arc<Terms>,
    /// The application's code: never asked nor dropped under a lock.
    pub(crate) clock: SharedClock,
    /// How long after a look the next one comes.
    pub(crate) lease: Duration,
}

/// The other half of a [`SessionEnded`], until a store has it.
pub(crate) struct Waits(Arc<Slot>);

#[derive(Default)]
struct Slot(Mutex<State>);

type Forget = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    reason: Option<EndReason>,
    waker: Option<Waker>,
    /// Takes the watch out of where its store keeps it.
    forget: Option<Forget>,
    is_unwanted: bool,
}

/// What waits, and what its store gets.
pub(crate) fn pair() -> (SessionEnded, Waits) {
    let slot = Arc::new(Slot::default());
    (SessionEnded(Arc::clone(&slot)), Waits(slot))
}

impl Future for SessionEnded {
    type Output = EndReason;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<EndReason> {
        let mut state = lock(&self.0.0);
        if let Some(reason) = state.reason {
            return Poll::Ready(reason);
        }
        let waker = state.waker.take();
        drop(state);
        // Wakers are the application's code: they are cloned and dropped without the lock.
        let waker = waker
            .filter(|waker| waker.will_wake(cx.waker()))
            .unwrap_or_else(|| cx.waker().clone());
        let mut state = lock(&self.0.0);
        if let Some(reason) = state.reason {
            return Poll::Ready(reason);
        }
        let before = state.waker.replace(waker);
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl SessionEnded {
    /// Whether the session has ended, as far as is known now.
    pub fn reason(&self) -> Option<EndReason> {
        lock(&self.0.0).reason
    }
}

impl Drop for SessionEnded {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0);
        state.is_unwanted = true;
        let (forget, waker) = (state.forget.take(), state.waker.take());
        drop(state);
        drop(waker);
        if let Some(forget) = forget {
            forget();
        }
    }
}

impl fmt::Debug for SessionEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEnded")
            .field("reason", &self.reason())
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// For the session of a record that knows this of itself.
    pub(crate) fn new(waits: Waits, known: Option<&Metadata>, looking: Looking) -> Self {
        Self {
            waits,
            id: known.map(|known| known.id),
            may_lose_id: known.is_some_and(|known| known.auth.is_none()),
            #[cfg(any(feature = "_backend", test))]
            owner: known.and_then(crate::protocol::Owner::of_metadata),
            looking,
        }
    }

    /// The record has just been made with these metadata, which it keeps unless they say nothing. Old
    /// servers' format keeps none then, so that a login's id will be the first.
    pub(crate) fn of_made(self, known: Option<&Metadata>) -> Self {
        let is_flat = self.looking.terms.format == WireFormat::V0_11;
        let keeps_none = is_flat && known.is_some_and(|known| !known.say_more_than_an_end());
        Self {
            id: self.id.filter(|_| !keeps_none),
            may_lose_id: true,
            ..self
        }
    }

    /// Tells that the session has ended.
    pub fn tell(self, reason: EndReason) {
        self.waits.0.tell(reason);
    }

    /// Whether nobody waits any more.
    pub fn is_unwanted(&self) -> bool {
        lock(&self.waits.0.0).is_unwanted
    }

    /// Sets what happens when nobody waits any more: at once, if that is so already.
    pub(crate) fn when_unwanted(&self, forget: impl FnOnce() + Send + 'static) {
        let forget: Forget = Box::new(forget);
        let mut state = lock(&self.waits.0.0);
        if !state.is_unwanted {
            state.forget = Some(forget);
            return;
        }
        drop(state);
        forget();
    }

    /// Whether a record that was found is still the session. If its id was not known, it is now.
    pub(crate) fn is_same(&mut self, found: &Record) -> bool {
        let known = self.looking.known(found);
        let id = known.map(|known| known.id);
        let keeps_none = self.may_lose_id && id.is_none();
        let is_same = self.id.is_none() || self.id == id || keeps_none;
        if is_same {
            self.id = id;
            self.may_lose_id = known.is_some_and(|known| known.auth.is_none());
        }
        is_same
    }
}

impl Looking {
    /// The terms of a look made now, which extends nothing.
    pub(crate) fn terms_now(&self) -> Terms {
        Terms {
            now: self.clock.now(),
            ..self.terms.quiet()
        }
    }

    /// A lease that is no longer than the redirect of a renewal that nobody tells.
    #[cfg(any(feature = "_backend", test))]
    pub(super) fn within_grace(&self, lease: Duration) -> Duration {
        let grace = Duration::from_millis(self.terms.grace.0.max(0).unsigned_abs());
        lease.min((grace / 2).max(LEAST))
    }

    /// What a record knows of itself. Without a key that proves it, its word counts.
    pub(crate) fn known<'a>(&self, record: &'a Record) -> Option<&'a Metadata> {
        match self.terms.keys {
            Some(_) => record.metadata(),
            None => record.times(),
        }
    }
}

/// The shortest time between two looks, however short the grace is.
#[cfg(any(feature = "_backend", test))]
const LEAST: Duration = Duration::from_millis(10);

/// When a look that has failed is repeated, at the latest: one late answer must not cost a lease.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// How long to wait for the next look at a record that was found on these terms.
pub(crate) fn pause(found: &Record, terms: &Terms, lease: Duration) -> Duration {
    let ends = [found.end(), terms.absolute_end_of(found)];
    let left = ends.into_iter().flatten().min().map(|end| end - terms.now);
    let left = left.map(|left| Duration::from_millis(left.0.max(0).unsigned_abs()));
    // A moment after its end, whatever the clocks round.
    left.map_or(lease, |left| lease.min(left + Duration::from_millis(2)))
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.tell(EndReason::Gone);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Slot {
    /// The first reason counts.
    fn tell(&self, reason: EndReason) {
        let mut state = lock(&self.0);
        state.reason.get_or_insert(reason);
        let (waker, forget) = (state.waker.take(), mem::take(&mut state.forget));
        drop(state);
        drop(forget);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::clock::Millis;

    pub(crate) fn looking() -> Looking {
        Looking {
            terms: Arc::default(),
            clock: SharedClock::default(),
            lease: Duration::from_secs(5),
        }
    }

    fn new() -> (SessionEnded, Watch) {
        let (ended, waits) = pair();
        (ended, Watch::new(waits, None, looking()))
    }

    #[test]
    fn the_first_reason_counts_and_stays() {
        let (mut ended, watch) = new();
        assert_eq!((&mut ended).now_or_never(), None);
        watch.tell(EndReason::Revoked);
        assert_eq!(ended.reason(), Some(EndReason::Revoked));
        for _ in 0..2 {
            assert_eq!((&mut ended).now_or_never(), Some(EndReason::Revoked));
        }
    }

    #[test]
    fn a_watch_that_is_dropped_tells_that_the_session_is_gone() {
        let (ended, watch) = new();
        drop(watch);
        assert_eq!(ended.now_or_never(), Some(EndReason::Gone));
    }

    /// Whatever of it the store knows.
    #[test]
    fn the_next_look_comes_when_the_session_ends() {
        let lease = Duration::from_secs(60);
        let terms = |absolute| Terms {
            now: Millis::secs(100),
            absolute,
            ..Terms::default()
        };
        let record = |end| {
            let metadata = Metadata::new(1, Millis::secs(90));
            let format = crate::record::WireFormat::V1;
            Record::written(format, 1, metadata, &[]).with_end(end)
        };
        for (end, absolute, wanted) in [
            (None, None, 60),
            (Some(Millis::secs(130)), None, 30),
            (None, Some(Millis::secs(15)), 5),
            (Some(Millis::secs(130)), Some(Millis::secs(15)), 5),
            (Some(Millis::secs(103)), Some(Millis::secs(15)), 3),
            (Some(Millis::secs(50)), None, 0),
            (Some(Millis(i64::MAX)), Some(Millis(i64::MAX)), 60),
        ] {
            let pause = pause(&record(end), &terms(absolute), lease);
            assert_eq!(pause.as_secs(), wanted, "{end:?} {absolute:?}");
        }
    }

    #[test]
    fn a_store_learns_that_nobody_waits() {
        let (ended, watch) = new();
        let forgotten = Arc::new(Mutex::new(0));
        let count = || {
            let forgotten = Arc::clone(&forgotten);
            move || *lock(&forgotten) += 1
        };
        watch.when_unwanted(count());
        assert!(!watch.is_unwanted());
        drop(ended);
        assert!(watch.is_unwanted());
        assert_eq!(*lock(&forgotten), 1);
        watch.when_unwanted(count());
        assert_eq!(*lock(&forgotten), 2, "it is told at once");
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let (ended, watch) = new();
        let waits = tokio::spawn(ended);
        tokio::task::yield_now().await;
        watch.tell(EndReason::LoggedOut);
        assert_eq!(waits.await.unwrap(), EndReason::LoggedOut);
    }

    /// A record that was made has the id that it was made with, or none.
    #[test]
    fn what_was_made_is_no_other() {
        for (found, is_same) in [(Some(1), true), (Some(2), false), (None, true)] {
            let mut watch = made(WireFormat::V1);
            assert_eq!(watch.is_same(&of_nobody(found)), is_same, "{found:?}");
        }
    }

    /// Nobody's record may lose its id; it is another once there is another id.
    #[test]
    fn what_is_nobodys_may_keep_no_id() {
        let mut watch = made(WireFormat::V1);
        assert!(watch.is_same(&of_nobody(Some(1))));
        assert!(watch.is_same(&of_nobody(None)));
        assert!(watch.is_same(&of_nobody(Some(2))));
        assert!(!watch.is_same(&of_nobody(Some(3))));
    }

    /// What somebody has logged out of is another.
    #[test]
    fn what_is_somebodys_keeps_its_id() {
        let mut metadata = Metadata::new(1, Millis::ZERO);
        metadata.belong_to(Some("ada".to_owned()), Millis(1));
        let (_ended, waits) = pair();
        let mut watch = Watch::new(waits, Some(&metadata), looking());
        assert!(!watch.is_same(&of_nobody(None)));
    }

    /// A record in the format of old servers gets its first id with a login.
    #[test]
    fn what_was_made_without_an_id_takes_the_first() {
        let mut watch = made(WireFormat::V0_11);
        assert!(watch.is_same(&of_nobody(Some(2))));
        assert!(!watch.is_same(&of_nobody(Some(3))));
    }

    fn made(format: WireFormat) -> Watch {
        let (_, waits) = pair();
        let metadata = Metadata::new(1, Millis::ZERO);
        let mut looking = looking();
        looking.terms = Arc::new(Terms {
            format,
            ..Terms::default()
        });
        Watch::new(waits, Some(&metadata), looking).of_made(Some(&metadata))
    }

    fn of_nobody(id: Option<u128>) -> Record {
        let written = |id| {
            let metadata = Metadata::new(id, Millis::ZERO);
            Record::written(WireFormat::V1, 1, metadata, &[])
        };
        id.map_or_else(Record::empty, written)
    }
}
