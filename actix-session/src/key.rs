//! The session key: the token that the cookie carries.

use std::fmt;

use derive_more::{Display, From};

/// The maximum length of a key, in bytes, as published.
const LIMIT: usize = 4064;

/// A session key: the string that names a session's state. The cookie carries it sealed.
///
/// Whoever has the key can open the session. `Debug` shows a short fingerprint, never the key.
///
/// # Validation
/// A key must be at most 4064 bytes long, to fit a cookie.
///
/// ```
/// use actix_session::storage::SessionKey;
///
/// let key: String = std::iter::repeat('a').take(4065).collect();
/// let session_key: Result<SessionKey, _> = key.try_into();
/// assert!(session_key.is_err());
/// ```
pub struct SessionKey {
    text: String,
    /// Tells apart the sealed values of one text, if they differ.
    seal: Option<Seal>,
}

/// A number in two halves: it needs less room in all that holds a key.
type Seal = [u64; 2];

impl SessionKey {
    /// Wraps a text of any length that this library has made: the finished cookie is measured.
    pub(crate) fn generated(text: String) -> Self {
        Self { text, seal: None }
    }

    /// Notes which sealed value this is the text of.
    pub(crate) fn sealed_as(self, seal: Option<u128>) -> Self {
        let half = |half: u128| u64::try_from(half & u128::from(u64::MAX)).unwrap_or_default();
        let seal = seal.map(|seal| [half(seal >> 64), half(seal)]);
        Self { seal, ..self }
    }

    /// A number that no other sealed value has, if there is one.
    pub(crate) fn seal(&self) -> Option<u128> {
        let seal = self.seal?;
        Some(
            seal.iter()
                .fold(0, |all, half| all << 64 | u128::from(*half)),
        )
    }

    /// Whether an id is a seal, which has 96 bits: so has one drawn id in 2^32.
    #[cfg(feature = "cookie-session")]
    pub(crate) fn is_seal(id: u128) -> bool {
        id >> 96 == 0
    }

    /// `Clone` is missing on purpose: nobody should copy a secret by accident.
    pub(crate) fn duplicate(&self) -> Self {
        Self {
            text: self.text.clone(),
            seal: self.seal,
        }
    }

    /// What logs may show of a key: enough to distinguish two keys, and useless to a thief.
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::generate_session_key;
    ///
    /// let key = generate_session_key();
    /// assert_eq!(key.fingerprint().len(), 8);
    /// assert!(!key.as_ref().contains(&key.fingerprint()));
    /// ```
    pub fn fingerprint(&self) -> String {
        crate::digest::fingerprint(&self.text)
    }
}

impl TryFrom<String> for SessionKey {
    type Error = InvalidSessionKeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() > LIMIT {
            let length = text.len();
            return Err(InvalidSessionKeyError(anyhow::anyhow!(
                "the session key has {length} bytes; it must have at most {LIMIT} to fit a cookie"
            )));
        }
        Ok(Self::generated(text))
    }
}

/// Two keys are equal if their texts are.
impl PartialEq for SessionKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SessionKey {}

impl AsRef<str> for SessionKey {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl From<SessionKey> for String {
    fn from(key: SessionKey) -> Self {
        key.text
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey(#{})", self.fingerprint())
    }
}

/// The error for a string that is not a valid session key.
#[derive(Debug, Display, From)]
#[display("The provided string is not a valid session key")]
pub struct InvalidSessionKeyError(anyhow::Error);

impl std::error::Error for InvalidSessionKeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}
