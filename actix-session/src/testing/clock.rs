//! A clock for tests.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use crate::Clock;

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
pub struct ManualClock(Arc<Mutex<SystemTime>>);

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
        Self(Arc::new(Mutex::new(time)))
    }

    /// Moves the clock forward. Clones show the same time.
    pub fn advance(&self, span: Duration) {
        *crate::sync::lock(&self.0) += span;
    }

    /// Moves the clock back, as a correction of a server's time can do.
    pub fn turn_back(&self, span: Duration) {
        *crate::sync::lock(&self.0) -= span;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *crate::sync::lock(&self.0)
    }
}
