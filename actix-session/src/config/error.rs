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

    /// The cookie's domain is none.
    #[display(
        "the cookie's domain is to be a host name without `;`, `,` or control characters; leave it \
         out for a cookie of this host alone"
    )]
    Domain,

    /// `__Host-` promises what the other attributes do not keep.
    #[display(
        "browsers drop a cookie whose name begins with `__Host-` unless it is Secure, has the path \
         `/` and no domain: set these, or use another name (`__Secure-` where subdomains share it)"
    )]
    HostPrefix,

    /// `__Http-` promises what the other attributes do not keep.
    #[display(
        "a cookie whose name begins with `__Http-` or `__Host-Http-` has to be HttpOnly: set that, \
         or use another name"
    )]
    HttpPrefix,

    /// Old servers do not keep what an absolute timeout needs.
    #[display(
        "an absolute timeout under WireFormat::V0_11 is best effort, since old servers may drop or \
         copy what it is computed from: leave one of both, or say `.mixed_fleet()`"
    )]
    MixedFleet,

    /// The cookie's name is none.
    #[display(
        "the cookie's name is to be a token (letters, digits, and no blanks, `=`, `;` or `,`) of at \
         most 256 characters"
    )]
    Name,

    /// `Partitioned` needs others beside it.
    #[display(
        "browsers ignore `Partitioned` unless the cookie is Secure, and it is for embedded pages, \
         which get cookies with SameSite=None alone: set both, or leave it"
    )]
    Partitioned,

    /// The cookie's path is none.
    #[display(
        "the cookie's path is to begin with `/`, without `;`, `,` or control characters, and to \
         have at most 1,024 characters"
    )]
    Path,

    /// `SameSite=None` without `Secure`.
    #[display(
        "browsers refuse a cookie with SameSite=None that is not Secure: set `.cookie_secure(true)`, \
         or choose Lax"
    )]
    SameSiteNone,

    /// A prefix promises `Secure`.
    #[display(
        "browsers drop a cookie whose name begins with `__Secure-` unless it is Secure: set \
         `.cookie_secure(true)`, or use another name"
    )]
    SecurePrefix,

    /// The time to live cannot be.
    #[display(
        "the time to live has to be longer than zero, and no longer than 400 days for a \
         persistent cookie: browsers keep none for longer (RFC 6265bis)"
    )]
    Ttl,
}

impl std::error::Error for ConfigError {}
