//! The terms on which a store keeps a record.

use std::time::{Duration, SystemTime};

use crate::{
    changes::Grounds,
    clock::Millis,
    record::{Facts, Record, WireFormat},
};

/// The terms on which a store reads and writes records: the time, the times to live and the
/// format that the middleware's configuration asks for.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_session::storage::Terms;
///
/// let terms = Terms::default().with_ttl(Duration::from_secs(60));
/// assert_eq!(terms.ttl(), Duration::from_secs(60));
/// assert!(!terms.extends());
/// ```
#[derive(Debug, Clone)]
pub struct Terms {
    pub(crate) now: Millis,
    pub(crate) ttl: Millis,
    pub(crate) absolute: Option<Millis>,
    pub(crate) extend: Extension,
    pub(crate) budget: Duration,
    pub(crate) grace: Millis,
    pub(crate) format: WireFormat,
    /// How many octets a record may have.
    pub(crate) max_state: usize,
}

/// Whether reading a record extends its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    Never,
    Always,
    /// Unless that has been done so shortly before.
    AtMostEvery(Millis),
}

/// How long all attempts of one commit may take together.
pub(crate) const BUDGET: Duration = Duration::from_secs(3);
/// How long a renewal leaves its mark.
pub(crate) const GRACE: Millis = Millis::secs(60);
/// How large a record may become: far more than any session needs, and what every back end takes.
pub(crate) const MAX_STATE: usize = 16 << 20;

impl Default for Terms {
    /// One day to live, no absolute limit, no extension by reading, the system's clock.
    fn default() -> Self {
        Self {
            now: SystemTime::now().into(),
            ttl: Millis::secs(86_400),
            absolute: None,
            extend: Extension::Never,
            budget: BUDGET,
            grace: GRACE,
            format: WireFormat::V1,
            max_state: MAX_STATE,
        }
    }
}

impl Terms {
    /// Sets the idle time to live.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Sets the present time.
    #[must_use]
    pub fn with_now(mut self, now: SystemTime) -> Self {
        self.now = now.into();
        self
    }

    /// Sets whether reading extends a record's life.
    #[must_use]
    pub fn with_extension(mut self, extend: bool) -> Self {
        self.extend = if extend {
            Extension::Always
        } else {
            Extension::Never
        };
        self
    }

    /// Sets the format that is written.
    #[must_use]
    pub fn with_format(mut self, format: WireFormat) -> Self {
        self.format = format;
        self
    }

    /// The present time, by the middleware's clock.
    pub fn now(&self) -> SystemTime {
        self.now.to_system_time()
    }

    /// The idle time to live of a session that has none of its own.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl.0.unsigned_abs())
    }

    /// Whether reading a record extends its life.
    pub fn extends(&self) -> bool {
        self.extend != Extension::Never
    }

    /// Whether a record that ends then is to be extended now.
    pub(crate) fn extends_at(&self, record: &Record, end: Millis) -> bool {
        match self.extend {
            Extension::Never => false,
            Extension::Always => true,
            Extension::AtMostEvery(interval) => self.end(record) - end >= interval,
        }
    }

    pub(crate) fn grounds(&self, commit: u64, fresh_id: u128) -> Grounds {
        Grounds {
            commit,
            fresh_id,
            now: self.now,
            absolute: self.absolute,
            format: self.format,
            max_state: self.max_state,
            seal: None,
            new_id: false,
            keep_idle: false,
        }
    }

    /// When a record ends that is written or extended now.
    pub(crate) fn end(&self, record: &Record) -> Millis {
        record
            .facts()
            .map_or(self.now + self.ttl, |facts| self.end_of(facts))
    }

    pub(crate) fn end_of(&self, facts: &Facts) -> Millis {
        let idle = self.now + facts.ttl.unwrap_or(self.ttl);
        let absolute = self.absolute.map(|span| facts.since() + span);
        let cap = facts.absolute_end.or(absolute);
        cap.map_or(idle, |cap| cap.min(idle))
    }

    /// Whether a record is past its absolute end.
    pub(crate) fn is_over(&self, record: &Record) -> bool {
        record.is_over(self.now, self.absolute)
    }
}
