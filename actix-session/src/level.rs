//! How strongly somebody has proven who they are.

/// How strongly somebody has proven who they are.
///
/// An application says it of each authentication ([`Login::level`](crate::Login::level),
/// [`Session::reauthenticated_at_level`](crate::Session::reauthenticated_at_level)), and asks for it
/// before what is sensitive ([`Session::require_auth`](crate::Session::require_auth)). The levels are
/// in order. What each means is the application's decision; the usual meaning is below, and
/// corresponds to the levels of NIST SP 800-63B-4.
///
/// # Examples
/// ```
/// use actix_session::Level;
///
/// assert!(Level::One < Level::Two);
/// assert_eq!(Level::default(), Level::One);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Level {
    /// Nothing was proven in this session: the user is remembered, say by a persistent cookie of the
    /// application's.
    Zero,

    /// One factor, such as a password.
    #[default]
    One,

    /// Two factors, or a passkey with user verification.
    Two,

    /// Two factors, one of them hardware that resists phishing.
    Three,
}

impl Level {
    /// Its number, as the responses of [`SessionAuthError`](crate::SessionAuthError) name it.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(actix_session::Level::Two.number(), 2);
    /// ```
    pub const fn number(self) -> u8 {
        self as u8
    }
}
