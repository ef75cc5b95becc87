//! Both kinds of duration, wherever one is asked for.

use std::time::Duration;

use actix_web::cookie::time::Duration as SignedDuration;

/// A length of time: a [`std::time::Duration`], or the signed one of Actix Web's cookies
/// ([`actix_web::cookie::time::Duration`]).
///
/// Only these two implement it. If a length of time must not be negative, a negative one counts as
/// zero. One that is longer than the other kind can say counts as the longest that it can.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_session::{Login, Session};
///
/// let session = Session::new();
/// let login = Login::new("user-42").idle(actix_web::cookie::time::Duration::days(30));
/// session.login_with(login.absolute(Duration::from_secs(90 * 24 * 3_600)))?;
/// # Ok::<(), actix_session::SessionLoginError>(())
/// ```
pub trait AnyDuration: convert::Convert {}

impl AnyDuration for Duration {}

impl AnyDuration for SignedDuration {}

/// Out of reach for other crates, so that they neither call nor implement it.
pub(crate) mod convert {
    use super::{Duration, SignedDuration};

    #[expect(unnameable_types, reason = "no other crate calls or implements it")]
    pub trait Convert {
        fn signed(self) -> SignedDuration;

        fn unsigned(self) -> Duration;
    }

    impl Convert for Duration {
        fn signed(self) -> SignedDuration {
            self.try_into().unwrap_or(SignedDuration::MAX)
        }

        fn unsigned(self) -> Duration {
            self
        }
    }

    impl Convert for SignedDuration {
        fn signed(self) -> SignedDuration {
            self
        }

        fn unsigned(self) -> Duration {
            // Only a negative one cannot be converted.
            self.try_into().unwrap_or(Duration::ZERO)
        }
    }
}

/// Refuses a time-out within which nothing could be done.
///
/// # Errors
/// It is shorter than a millisecond.
#[cfg(any(feature = "redis-session", feature = "_sql"))]
pub(crate) fn check_timeout(name: &str, limit: Duration) -> anyhow::Result<()> {
    anyhow::ensure!(
        limit >= Duration::from_millis(1),
        "`{name}` must be a millisecond or longer"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{convert::Convert as _, *};

    #[test]
    fn both_kinds_say_the_same() {
        let (unsigned, signed) = (
            Duration::from_millis(1_500),
            SignedDuration::milliseconds(1_500),
        );
        assert_eq!((unsigned.signed(), unsigned.unsigned()), (signed, unsigned));
        assert_eq!((signed.signed(), signed.unsigned()), (signed, unsigned));
    }

    #[test]
    fn what_one_kind_cannot_say_is_the_nearest_that_it_can() {
        assert_eq!(Duration::MAX.signed(), SignedDuration::MAX);
        assert_eq!(SignedDuration::MAX.unsigned().as_secs(), i64::MAX as u64);
        assert_eq!(SignedDuration::seconds(-1).unsigned(), Duration::ZERO);
    }
}
