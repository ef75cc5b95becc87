//! SHA-256 as text.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{Digest, SHA256, digest};

/// The digest in 64 hexadecimal digits.
pub(crate) fn hex(text: &str) -> String {
    use std::fmt::Write as _;

    let mut hex = String::with_capacity(64);
    for byte in sha256(text).as_ref() {
        // Writing to a `String` cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The digest in 43 characters that need no escaping in URLs and databases.
pub(crate) fn base64(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(text))
}

/// The first half of the digest, as a session's id.
pub(crate) fn id(text: &str) -> u128 {
    let digest = sha256(text);
    let half = &digest.as_ref()[..16];
    half.iter().fold(0, |id, byte| id << 8 | u128::from(*byte))
}

fn sha256(text: &str) -> Digest {
    digest(&SHA256, text.as_bytes())
}

/// The first 32 bits of a key's SHA-256, in hexadecimal digits.
pub(crate) fn fingerprint(key: &str) -> String {
    let mut digest = hex(key);
    digest.truncate(8);
    digest
}
