//! The source of time. It is injected: tests move a clock instead of sleeping.

use std::{
    fmt,
    hash::{DefaultHasher, Hasher as _},
    ops::{Add, Sub},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// A source of wall-clock time.
///
/// Absolute ends and times of authentication are compared with this clock; so are idle ends, in
/// stores without a TTL of their own. Give the middleware and its store the same clock.
///
/// # Examples
/// ```
/// use std::time::{Duration, SystemTime};
/// use actix_session::{Clock, SystemClock};
///
/// struct Yesterday;
///
/// impl Clock for Yesterday {
///     fn now(&self) -> SystemTime {
///         SystemClock.now() - Duration::from_secs(86_400)
///     }
/// }
///
/// assert!(Yesterday.now() < SystemClock.now());
/// ```
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> SystemTime;

    /// The latest times of a login and of a revocation by this clock, if it keeps them: so that they
    /// hold for every middleware that it is given to.
    #[doc(hidden)]
    fn __latest(&self) -> Option<&Latest> {
        None
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> SystemTime {
        (**self).now()
    }

    fn __latest(&self) -> Option<&Latest> {
        (**self).__latest()
    }
}

/// The operating system's clock, the default everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn __latest(&self) -> Option<&Latest> {
        Some(&LATEST)
    }
}

/// A clock that a middleware and its store can share. `None` is the system's, which each session
/// has without sharing anything.
#[derive(Clone, Default)]
pub(crate) struct SharedClock(Option<Arc<Injected>>);

struct Injected<C: ?Sized = dyn Clock> {
    /// For a clock that keeps none.
    latest: Latest,
    clock: C,
}

/// The latest times that this process has given to logins and revocations, by the system's clock: of
/// two in one millisecond, the later one has to count as later.
static LATEST: Latest = Latest::none();

/// The latest times of a login and of a revocation, for each share of the principals: if the clock was
/// ahead for a while, others do not notice.
#[doc(hidden)]
#[derive(Debug)]
pub struct Latest([[AtomicI64; 2]; SHARES]);

const SHARES: usize = 256;

impl Latest {
    pub(crate) const fn none() -> Self {
        Self([const { [const { AtomicI64::new(i64::MIN) }; 2] }; SHARES])
    }

    fn of(&self, principal: &str) -> &[AtomicI64; 2] {
        let mut hasher = DefaultHasher::new();
        hasher.write(principal.as_bytes());
        let share = hasher.finish() % SHARES as u64;
        &self.0[usize::try_from(share).unwrap_or_default()]
    }
}

/// When a login is made.
#[derive(Clone, Copy)]
pub(crate) struct LoginTime {
    /// Later than what this process has ended before.
    pub(crate) at: Millis,
    /// What the clock says.
    pub(crate) now: Millis,
}

impl LoginTime {
    /// When the user authenticated, if that was earlier than the login.
    pub(crate) fn proven(self, proven: Option<Millis>) -> Option<Millis> {
        let ahead = self.is_ahead().then_some(self.now);
        proven.filter(|proven| *proven < self.now).or(ahead)
    }

    /// Whether the clock was ahead when something was ended.
    pub(crate) fn is_ahead(self) -> bool {
        self.at > self.now + Millis::secs(1)
    }
}

impl SharedClock {
    pub(crate) fn new(clock: impl Clock) -> Self {
        Self(Some(Arc::new(Injected {
            latest: Latest::none(),
            clock,
        })))
    }

    pub(crate) fn is_systems(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn now(&self) -> Millis {
        Millis::from(match &self.0 {
            Some(injected) => injected.clock.now(),
            None => SystemClock.now(),
        })
    }

    fn latest(&self, principal: &str) -> &[AtomicI64; 2] {
        let latest = match &self.0 {
            Some(injected) => injected.clock.__latest().unwrap_or(&injected.latest),
            None => &LATEST,
        };
        latest.of(principal)
    }

    /// The time of a revocation that is made now: it ends what this process has logged in before.
    pub(crate) fn revocation_time(&self, principal: &str) -> Millis {
        let [login, revocation] = self.latest(principal);
        let last = Millis(login.load(Ordering::SeqCst));
        let at = self.now().max(last);
        revocation.fetch_max(at.0, Ordering::SeqCst);
        at
    }

    /// The time of the latest login that this process has made.
    pub(crate) fn latest_login(&self, principal: &str) -> Millis {
        Millis(self.latest(principal)[0].load(Ordering::SeqCst))
    }

    /// The time of a login that is made now: later than what this process has ended before.
    pub(crate) fn login_time(&self, principal: &str) -> LoginTime {
        let [login, revocation] = self.latest(principal);
        let last = Millis(revocation.load(Ordering::SeqCst));
        let now = self.now();
        let at = now.max(last + Millis(1));
        login.fetch_max(at.0, Ordering::SeqCst);
        LoginTime { at, now }
    }
}

impl fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedClock")
    }
}

/// No request waits for as long.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// When a wait that begins now is over. No configured duration can overflow it.
pub(crate) fn deadline(span: Duration) -> Instant {
    Instant::now() + span.min(LONGEST_WAIT)
}

/// A point in time or a duration, in milliseconds. Points count from the Unix epoch.
///
/// All arithmetic saturates: no configured duration can overflow it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Millis(pub(crate) i64);

impl Millis {
    pub(crate) const ZERO: Self = Self(0);

    pub(crate) const fn secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    pub(crate) fn to_system_time(self) -> SystemTime {
        let distance = Duration::from_millis(self.0.unsigned_abs());
        let time = if self.0 < 0 {
            UNIX_EPOCH.checked_sub(distance)
        } else {
            UNIX_EPOCH.checked_add(distance)
        };
        time.unwrap_or(UNIX_EPOCH)
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Millis {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl From<SystemTime> for Millis {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self::from(since),
            Err(before) => Self(-Self::from(before.duration()).0),
        }
    }
}

impl From<Duration> for Millis {
    fn from(span: Duration) -> Self {
        Self(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
    }
}

impl From<actix_web::cookie::time::Duration> for Millis {
    fn from(span: actix_web::cookie::time::Duration) -> Self {
        // What is a little less than zero stays so.
        let millis = span.whole_nanoseconds().div_euclid(1_000_000);
        let bound = if millis < 0 { i64::MIN } else { i64::MAX };
        Self(i64::try_from(millis).unwrap_or(bound))
    }
}

impl From<Millis> for actix_web::cookie::time::Duration {
    fn from(span: Millis) -> Self {
        Self::milliseconds(span.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that somebody sets.
    struct Set(Arc<AtomicI64>);

    impl Clock for Set {
        fn now(&self) -> SystemTime {
            Millis(self.0.load(Ordering::SeqCst)).to_system_time()
        }
    }

    #[test]
    fn a_clock_that_was_ahead_dates_nobody_elses_logins() {
        let time = Arc::new(AtomicI64::new(5_000_000));
        let clock = SharedClock::new(Set(Arc::clone(&time)));
        let ahead = clock.revocation_time("ada");
        time.store(1_000_000, Ordering::SeqCst);
        // Whoever was ended then logs in later than that, and has proven it now.
        let again = clock.login_time("ada");
        assert!(again.at > ahead && again.is_ahead());
        assert_eq!(again.now, Millis(1_000_000));
        assert!(clock.revocation_time("ada") >= again.at);
        let others = (0..100).map(|n| format!("user-{n}"));
        let dated = others.filter(|who| clock.login_time(who).is_ahead());
        assert!(dated.count() < 10);
    }

    #[test]
    fn conversions_saturate_instead_of_panicking() {
        assert_eq!(Millis::from(Duration::MAX).0, i64::MAX);
        let max = actix_web::cookie::time::Duration::MAX;
        assert_eq!(Millis::from(max).0, i64::MAX);
        let min = actix_web::cookie::time::Duration::MIN;
        assert_eq!(Millis::from(min).0, i64::MIN);
        assert_eq!(Millis(i64::MAX) + Millis(1), Millis(i64::MAX));
        let _ = Millis(i64::MIN).to_system_time();
        let _ = Millis(i64::MAX).to_system_time();
    }

    #[test]
    fn a_point_before_the_epoch_survives_the_round_trip() {
        let before = UNIX_EPOCH - Duration::from_millis(1500);
        assert_eq!(Millis::from(before), Millis(-1500));
        assert_eq!(Millis(-1500).to_system_time(), before);
    }
}
