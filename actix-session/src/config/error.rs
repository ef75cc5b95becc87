//! Settings that cannot be.

use derive_more::Display;

/// Settings that contradict each other, or that browsers refuse; each says what to change.
///
/// # Examples
/// ```
/// use actix_session::config::ConfigError;
///
/// assert!(ConfigError::AbsoluteTimeout.to_string().contains("longer than zero"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Display)]
#[non_exhaustive]
pub enum ConfigError {
    /// The absolute timeout would end every session at once.
    #[display("the absolute timeout has to be longer than zero")]
    AbsoluteTimeout,

    /// Old servers do not keep what an absolute timeout needs.
    #[display(
        "an absolute timeout under WireFormat::V0_11 is best effort, since old servers may drop or \
         copy what it is computed from: leave one of both, or say `.mixed_fleet()`"
    )]
    MixedFleet,

    /// The time to live cannot be.
    #[display(
        "the time to live has to be longer than zero, and no longer than 400 days for a \
         persistent cookie: browsers keep none for longer (RFC 6265bis)"
    )]
    Ttl,
}

impl std::error::Error for ConfigError {}
