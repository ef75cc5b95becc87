//! Invalid settings.

use derive_more::Display;

/// A setting that contradicts another one, or that browsers refuse. Each message says what to
/// change.
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
    #[display("the absolute timeout must be longer than zero")]
    AbsoluteTimeout,

    /// The budget leaves no time for a commit, or has no effect.
    #[display(
        "the commit budget must be longer than zero, and at most a day: no request waits for longer"
    )]
    CommitBudget,

    /// Ends would be looked for without a pause, or never.
    #[display("the lease of `ended` must be between 10 milliseconds and a day")]
    EndedLease,

    /// The budget leaves no time for a load, or has no effect.
    #[display(
        "the load budget must be longer than zero, and at most a day: no request waits for longer"
    )]
    LoadBudget,

    /// The cookie's domain is not a valid host name.
    #[display(
        "the cookie's domain must be a host name alone, such as `example.com`: without a scheme, a \
         port, a path, a wildcard, blanks or empty labels, and with international names in their \
         `xn--` form; leave it out if the cookie is for this host alone"
    )]
    Domain,

    /// The header's name is not one of the application's own.
    #[display(
        "the session header must have a name of its own of at most 256 letters, digits and hyphens, \
         such as `X-Session`: without blanks or `:`, and not one that HTTP, browsers or proxies use, \
         such as `Cookie` or `Authorization`"
    )]
    Header,

    /// The other attributes break the promise of `__Host-`.
    #[display(
        "a cookie whose name begins with `__Host-` must be Secure, with the path `/` and no \
         domain, or browsers drop it: set these, or use another name (`__Secure-` if subdomains \
         share it)"
    )]
    HostPrefix,

    /// The other attributes break the promise of `__Http-`.
    #[display(
        "a cookie whose name begins with `__Http-` or `__Host-Http-` must be HttpOnly, or browsers \
         drop it: set `.cookie_http_only(true)`, or use another name"
    )]
    HttpPrefix,

    /// The interval between two extensions leaves none.
    #[display(
        "the interval of `AtMostEvery` must not be negative, and must be shorter than the time to \
         live, or nothing extends a session: choose a shorter interval, or `OnStateChanges`"
    )]
    Interval,

    /// Nobody could log in.
    #[display("the limit on a principal's sessions must be at least 1, or nobody can log in")]
    MaxSessions,

    /// Records of this size hold nothing.
    #[display("the maximum size of a record must be at least 256 octets, or no session fits")]
    MaxStateSize,

    /// Old servers do not keep what an absolute timeout needs.
    #[display(
        "an absolute timeout under WireFormat::V0_11 is best effort, because old servers may drop \
         or copy the metadata that it needs: remove one of the two, or call `.mixed_fleet()`"
    )]
    MixedFleet,

    /// Old servers do not keep what a limit on sessions needs.
    #[display(
        "a limit on a principal's sessions under WireFormat::V0_11 is best effort, because old servers \
         may drop or copy the metadata that it needs: remove one of the two, or call \
         `.mixed_fleet()`"
    )]
    CapInMixedFleet,

    /// The store has no lists: a store that was opened by a URL for sessions in cookies.
    #[display(
        "a limit on a principal's sessions needs a store with lists of them, which sessions in cookies \
         do not have: open another store, or remove the limit"
    )]
    CapWithoutLists,

    /// The cookie's name is not a valid token.
    #[display(
        "the cookie's name must be a token (letters, digits, and no blanks, `=`, `;` or `,`) of at \
         most 256 characters"
    )]
    Name,

    /// The old cookie is the present one.
    #[display(
        "a cookie of `read_also` must differ from the present one in its name, path or domain: set \
         the one that it had (`OldCookie::host_only` if it had no domain), or leave it out"
    )]
    OldCookie,

    /// `Partitioned` requires other attributes.
    #[display(
        "a `Partitioned` cookie must be Secure, or browsers ignore the attribute, and it must have \
         SameSite=None, or embedded pages do not get it: set both, or leave `Partitioned` out"
    )]
    Partitioned,

    /// The cookie's path is invalid.
    #[display(
        "the cookie's path must begin with `/`, and be the path of a URL as requests have it: \
         without a query, blanks, `;`, `,` or `..`, percent-encoded, and with at most 1,024 \
         characters"
    )]
    Path,

    /// No handler can set this entry.
    #[display(
        "the entry that names the principal must not be `__actix_session`, which is reserved by \
         actix-session: choose the one that the application sets, such as `actix_identity.user_id`"
    )]
    PrincipalEntry,

    /// A redirect that ends at once, or that never does.
    #[display(
        "the renewal grace must be longer than zero, and at most 400 days: it must cover the \
         longest handler"
    )]
    RenewalGrace,

    /// `SameSite=None` requires `Secure`.
    #[display(
        "a cookie with SameSite=None must be Secure, or browsers refuse it: set \
         `.cookie_secure(true)`, or choose Lax"
    )]
    SameSiteNone,

    /// The prefix of the cookie's name requires `Secure`.
    #[display(
        "a cookie whose name begins with `__Secure-` or `__Http-` must be Secure, or browsers drop \
         it: set `.cookie_secure(true)`, or use another name"
    )]
    SecurePrefix,

    /// The time to live is invalid.
    #[display(
        "the time to live must be longer than zero, and at most 400 days for a persistent cookie, \
         since browsers keep no cookie longer (RFC 6265bis), or 100 years for one that ends with the \
         browser's session"
    )]
    Ttl,
}

impl std::error::Error for ConfigError {}
