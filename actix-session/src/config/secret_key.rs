//! Reads a secret key from where a deployment keeps it.
//!
//! Replace a key before it has sealed 2^32 private cookies, on all servers together: the nonces of
//! AES-GCM are random, and more would make two equal ones too likely (NIST SP 800-38D, 8.3).
//! [`previous_keys`] keeps the old key's cookies valid. At 100 sealed cookies a second that is once a
//! year, and at 1,000 a second once a month. A cookie is sealed whenever a response sets it: at each
//! new session and each renewal, with persistent cookies at each request that extends the session,
//! and with cookie-stored sessions at each change too. Signed cookies have no such limit.
//!
//! [`previous_keys`]: crate::config::SessionMiddlewareBuilder::previous_keys

use std::{fmt, path::Path};

use actix_web::cookie::Key;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use derive_more::Display;

/// The minimum length of a key, in bytes: 32 for signing and 32 for encryption.
const LENGTH: usize = 64;

/// Reads a key from an environment variable: at least 64 bytes, as base64 or hexadecimal.
///
/// # Errors
/// The variable is not set, or it contains no valid key. The error says how to make one.
///
/// # Examples
/// ```
/// use actix_session::config::secret_key;
///
/// let error = secret_key::from_env("NO_SUCH_VARIABLE").err().unwrap();
/// assert!(error.to_string().contains("openssl rand"));
/// ```
pub fn from_env(variable: &str) -> Result<Key, SecretKeyError> {
    let place = format!("the environment variable {variable}");
    match std::env::var(variable) {
        Ok(text) => parse_at(&text, place),
        Err(_) => Err(SecretKeyError {
            place,
            problem: Problem::Missing,
        }),
    }
}

/// Reads a key from a file, such as a mounted secret: at least 64 bytes, as base64 or hexadecimal.
///
/// # Errors
/// The file cannot be read, or it contains no valid key. The error says how to make one.
///
/// # Examples
/// ```
/// use actix_session::config::secret_key;
///
/// let error = secret_key::from_file("no-such-file").err().unwrap();
/// assert!(error.to_string().contains("no-such-file"));
/// ```
pub fn from_file(path: impl AsRef<Path>) -> Result<Key, SecretKeyError> {
    let path = path.as_ref();
    let place = format!("the file {}", path.display());
    match std::fs::read_to_string(path) {
        Ok(text) => parse_at(&text, place),
        Err(error) => Err(SecretKeyError {
            place,
            problem: Problem::Unreadable(error.kind()),
        }),
    }
}

/// Reads a key from a text: at least 64 bytes, as base64 or hexadecimal. Whitespace is ignored.
///
/// # Errors
/// The text is not a valid key. The error says how to make one, and never shows the text.
///
/// # Examples
/// ```
/// use actix_session::config::secret_key;
///
/// let key = secret_key::parse(&"ab".repeat(64))?;
/// assert_eq!(key.master(), [0xab; 64]);
/// # Ok::<(), secret_key::SecretKeyError>(())
/// ```
pub fn parse(text: &str) -> Result<Key, SecretKeyError> {
    parse_at(text, "the text".to_owned())
}

fn parse_at(text: &str, place: String) -> Result<Key, SecretKeyError> {
    let text: String = text.split_whitespace().collect();
    let failed = |problem| SecretKeyError { place, problem };
    if text.is_empty() {
        return Err(failed(Problem::Missing));
    }
    let Some(bytes) = hexadecimal(&text).or_else(|| base64(&text)) else {
        return Err(failed(Problem::Encoding));
    };
    if bytes.len() < LENGTH {
        return Err(failed(Problem::Short(bytes.len())));
    }
    Ok(Key::from(&bytes))
}

/// A text that is both counts as hexadecimal: 64 random bytes in base64 practically never consist
/// of hexadecimal digits alone.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16)?).ok())
        .collect();
    Some(
        digits?
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

fn base64(text: &str) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
}

/// The error for a missing or invalid secret key.
#[derive(Debug)]
pub struct SecretKeyError {
    place: String,
    problem: Problem,
}

#[derive(Debug, Display)]
enum Problem {
    #[display("is not set, or empty")]
    Missing,
    #[display("cannot be read ({_0})")]
    Unreadable(std::io::ErrorKind),
    #[display("must be base64 or hexadecimal")]
    Encoding,
    #[display("holds {_0} bytes, but a key must have at least {LENGTH}")]
    Short(usize),
}

impl fmt::Display for SecretKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, problem } = self;
        write!(
            f,
            "{place} {problem}; make a secret key with `openssl rand -base64 {LENGTH}`"
        )
    }
}

impl std::error::Error for SecretKeyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_encodings_are_read() {
        let bytes: Vec<u8> = (100..164).collect();
        let wrapped = STANDARD.encode(&bytes).replacen('k', "\n k", 1);
        for text in [
            STANDARD.encode(&bytes),
            URL_SAFE_NO_PAD.encode(&bytes),
            bytes.iter().map(|b| format!("{b:02X}")).collect(),
            wrapped,
        ] {
            assert_eq!(parse(&text).unwrap().master(), bytes);
        }
    }

    #[test]
    fn an_invalid_key_is_reported_without_being_shown() {
        for (text, word) in [
            ("", "empty"),
            ("c2hvcnQ=", "holds 5 bytes"),
            ("s3cret!", "must be base64"),
        ] {
            let error = parse(text).err().unwrap();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(word), "{shown}");
            assert!(text.is_empty() || !shown.contains(text), "{shown}");
        }
    }
}
