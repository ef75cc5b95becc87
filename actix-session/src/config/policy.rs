//! Idle and absolute timeouts, in one value that an application can print and document.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Idle and absolute timeouts that belong together.
///
/// The presets have the figures of NIST SP 800-63B-4 (July 2025), sections 2.1.3, 2.2.3 and 2.3.3.
/// A policy can be printed, for a log line at the start and for the document that OWASP ASVS 5.0,
/// 7.1.1 requires. It can also be (de)serialized.
///
/// # Examples
/// ```
/// use actix_session::config::SessionPolicy;
///
/// assert_eq!(
///     SessionPolicy::aal2().to_string(),
///     "NIST SP 800-63B-4 AAL2: ends 1h after the last request, 24h after authentication",
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPolicy {
    name: String,
    #[serde(with = "millis_option", rename = "idle_ms")]
    idle: Option<Duration>,
    #[serde(with = "millis", rename = "absolute_ms")]
    absolute: Duration,
}

impl SessionPolicy {
    /// Creates a policy of your own. It prints its name.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use actix_session::config::SessionPolicy;
    ///
    /// let kiosk = SessionPolicy::new(
    ///     "kiosk",
    ///     Some(Duration::from_secs(5 * 60)),
    ///     Duration::from_secs(8 * 3600),
    /// );
    /// assert_eq!(kiosk.idle(), Some(Duration::from_secs(300)));
    /// ```
    pub fn new(name: impl Into<String>, idle: Option<Duration>, absolute: Duration) -> Self {
        Self {
            name: name.into(),
            idle,
            absolute,
        }
    }

    /// Authentication assurance level 1: 30 days overall, no limit on inactivity.
    pub fn aal1() -> Self {
        Self::new("NIST SP 800-63B-4 AAL1", None, hours(30 * 24))
    }

    /// Authentication assurance level 2: 24 hours overall, 1 hour of inactivity.
    pub fn aal2() -> Self {
        Self::new("NIST SP 800-63B-4 AAL2", Some(hours(1)), hours(24))
    }

    /// Authentication assurance level 3: 12 hours overall, 15 minutes of inactivity.
    pub fn aal3() -> Self {
        Self::new(
            "NIST SP 800-63B-4 AAL3",
            Some(Duration::from_secs(15 * 60)),
            hours(12),
        )
    }

    /// The idle timeout: how long a session lives without a request.
    pub fn idle(&self) -> Option<Duration> {
        self.idle
    }

    /// The absolute timeout: how long a session may live after its creation or the last
    /// authentication.
    pub fn absolute(&self) -> Duration {
        self.absolute
    }
}

const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

impl fmt::Display for SessionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ends ", self.name)?;
        if let Some(idle) = self.idle {
            write!(f, "{} after the last request, ", Short(idle))?;
        }
        write!(f, "{} after authentication", Short(self.absolute))
    }
}

/// Shows a duration in the largest unit that divides it.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            n if n % 3_600_000 == 0 => write!(f, "{}h", n / 3_600_000),
            n if n % 60_000 == 0 => write!(f, "{}min", n / 60_000),
            n if n % 1_000 == 0 => write!(f, "{}s", n / 1_000),
            n => write!(f, "{n}ms"),
        }
    }
}

mod millis {
    use super::{Deserialize, Duration};

    pub(super) fn serialize<S: serde::Serializer>(
        span: &Duration,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        d: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}

mod millis_option {
    use super::{Deserialize, Duration};

    pub(super) fn serialize<S: serde::Serializer>(
        span: &Option<Duration>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::millis::serialize(span, s),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_the_standard() {
        let minutes = |policy: &SessionPolicy| {
            (
                policy.idle().map(|i| i.as_secs() / 60),
                policy.absolute().as_secs() / 60,
            )
        };
        assert_eq!(minutes(&SessionPolicy::aal1()), (None, 30 * 24 * 60));
        assert_eq!(minutes(&SessionPolicy::aal2()), (Some(60), 24 * 60));
        assert_eq!(minutes(&SessionPolicy::aal3()), (Some(15), 12 * 60));
    }

    #[test]
    fn a_printed_policy_reads_back() {
        let own = SessionPolicy::new("own", Some(Duration::from_millis(1_500)), hours(1));
        assert_eq!(
            own.to_string(),
            "own: ends 1500ms after the last request, 1h after authentication"
        );
        for policy in [SessionPolicy::aal1(), SessionPolicy::aal2(), own] {
            let text = serde_json::to_string(&policy).unwrap();
            assert_eq!(
                serde_json::from_str::<SessionPolicy>(&text).unwrap(),
                policy
            );
        }
    }
}
