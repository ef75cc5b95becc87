//! A clock for tests.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use crate::{AnyDuration, Clock, clock::Latest};

/// A clock that stands still until a test moves it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_session::{Clock, testing::ManualClock};
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), before + Duration::from_secs(60));
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    time: Mutex<SystemTime>,
    latest: Latest,
}

impl ManualClock {
    /// Creates a clock that shows the current time.
    #[allow(
        clippy::new_without_default,
        reason = "two default clocks would differ"
    )]
    pub fn new() -> Self {
        Self::at(SystemTime::now())
    }

    /// Creates a clock that shows this time.
    pub fn at(time: SystemTime) -> Self {
        Self(Arc::new(Shown {
            time: Mutex::new(time),
            latest: Latest::none(),
        }))
    }

    /// Moves the clock forward, at most to the last time that the system can express. Clones show the
    /// same time.
    pub fn advance(&self, span: impl AnyDuration) {
        self.step(span.unsigned(), SystemTime::checked_add);
    }

    /// Moves the clock back, as a correction of a server's time can do: at most to the first time that
    /// the system can express.
    pub fn turn_back(&self, span: impl AnyDuration) {
        self.step(span.unsigned(), SystemTime::checked_sub);
    }

    fn step(&self, span: Duration, step: fn(&SystemTime, Duration) -> Option<SystemTime>) {
        let mut time = crate::sync::lock(&self.0.time);
        *time = step(&time, span).unwrap_or_else(|| last(*time, step));
    }
}

/// The last time in a direction, to the second.
fn last(time: SystemTime, step: fn(&SystemTime, Duration) -> Option<SystemTime>) -> SystemTime {
    let spans = (0..u64::BITS)
        .rev()
        .map(|bit| Duration::from_secs(1 << bit));
    spans.fold(time, |time, span| step(&time, span).unwrap_or(time))
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *crate::sync::lock(&self.0.time)
    }

    fn __latest(&self) -> Option<&Latest> {
        Some(&self.0.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_stops_at_the_ends_of_time() {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
        for span in [Duration::from_secs(1 << 40), Duration::MAX, Duration::MAX] {
            let before = clock.now();
            clock.advance(span);
            assert!(clock.now() >= before);
        }
        assert_eq!(clock.now().checked_add(Duration::from_secs(1)), None);
        for _ in 0..2 {
            clock.turn_back(Duration::MAX);
        }
        assert_eq!(clock.now().checked_sub(Duration::from_secs(1)), None);
        clock.advance(Duration::from_secs(1));
        assert!(clock.now() < SystemTime::UNIX_EPOCH);
    }
}
