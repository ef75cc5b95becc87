//! Random values, straight from the operating system.

use anyhow::Context as _;

use crate::key::SessionKey;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The alphabet over and over. The first [`FAIR`] places give each symbol an equal share.
const SYMBOLS: [u8; 256] = {
    let mut symbols = [0; 256];
    let mut place = 0;
    while place < symbols.len() {
        symbols[place] = ALPHABET[place % ALPHABET.len()];
        place += 1;
    }
    symbols
};
/// Four times the alphabet.
const FAIR: u8 = 248;
pub(crate) const KEY_LENGTH: usize = 64;
/// As many are drawn at once as seldom leave a key too short. With the ids that makes 96 bytes: the
/// kernel makes the next ones in a block of their own.
const DRAWN: usize = 72;

/// Draws a session key from the operating system: 64 alphanumeric characters, about 381 bits.
///
/// The stores of this crate use it. It exceeds the [OWASP recommendation] of 128 bits.
///
/// # Panics
/// Panics if the operating system's generator fails, which does not happen on a running system.
/// (The stores of this crate return an error instead.)
///
/// # Examples
/// ```
/// use actix_session::storage::generate_session_key;
///
/// let key = generate_session_key();
/// assert_eq!(key.as_ref().len(), 64);
/// assert_ne!(key, generate_session_key());
/// ```
///
/// [OWASP recommendation]: https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html#session-id-entropy
pub fn generate_session_key() -> SessionKey {
    session_key().expect("a running operating system has a random number generator")
}

pub(crate) fn fill(bytes: &mut [u8]) -> anyhow::Result<()> {
    // `getrandom`'s error does not implement `std::error::Error` in every build.
    getrandom::fill(bytes)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .context("the operating system's random number generator failed")
}

pub(crate) fn u64() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    // 0 stands for "no commit" and "no clear".
    Ok(u64::from_le_bytes(bytes).max(1))
}

/// A commit id and a session id.
pub(crate) type Ids = (u64, u128);

/// Both at once.
pub(crate) fn ids() -> anyhow::Result<Ids> {
    let mut bytes = [0; 24];
    fill(&mut bytes)?;
    Ok(ids_of(bytes))
}

fn ids_of(bytes: [u8; 24]) -> Ids {
    let (low, high) = bytes.split_at(8);
    let commit = low.try_into().map_or(0, u64::from_le_bytes);
    let session = high.try_into().map_or(0, u128::from_le_bytes);
    (commit.max(1), session)
}

pub(crate) fn u128() -> anyhow::Result<u128> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

pub(crate) fn alphanumeric(length: usize) -> anyhow::Result<String> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; DRAWN];
        fill(&mut bytes)?;
        push_symbols(&mut text, &bytes, length);
    }
    Ok(text)
}

/// Appends the symbols of as many bytes as are needed.
fn push_symbols(text: &mut String, bytes: &[u8; DRAWN], length: usize) {
    // As long as a `u8` counts: no place has to be checked.
    let mut symbols = [0; 256];
    let mut count = 0_u8;
    for byte in bytes {
        symbols[usize::from(count)] = SYMBOLS[usize::from(*byte)];
        // The next one takes the place of a byte that has no fair share.
        count = count.wrapping_add(u8::from(*byte < FAIR));
    }
    let needed = &symbols[..usize::from(count).min(length - text.len())];
    text.push_str(std::str::from_utf8(needed).expect("all symbols are ASCII"));
}

pub(crate) fn session_key() -> anyhow::Result<SessionKey> {
    Ok(SessionKey::generated(alphanumeric(KEY_LENGTH)?))
}

/// A key and ids for its first record, from one call of the operating system.
pub(crate) fn session_key_and_ids() -> anyhow::Result<(SessionKey, Ids)> {
    let mut bytes = [0; 24 + DRAWN];
    fill(&mut bytes)?;
    let (symbols, ids) = bytes.split_first_chunk().expect("it has 24 bytes more");
    let mut text = String::with_capacity(KEY_LENGTH);
    push_symbols(&mut text, symbols, KEY_LENGTH);
    if text.len() < KEY_LENGTH {
        text.push_str(&alphanumeric(KEY_LENGTH - text.len())?);
    }
    let ids = ids.try_into().map(ids_of)?;
    Ok((SessionKey::generated(text), ids))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_symbol_comes_up_at_every_place() {
        let mut seen = vec![HashSet::new(); KEY_LENGTH];
        for _ in 0..5_000 {
            let key = generate_session_key();
            assert_eq!(key.as_ref().len(), KEY_LENGTH);
            for (place, symbol) in key.as_ref().chars().enumerate() {
                assert!(symbol.is_ascii_alphanumeric());
                seen[place].insert(symbol);
            }
        }
        // At each place, 5,000 draws miss one of the 62 symbols with a probability of 10^-33.
        assert!(seen.iter().all(|symbols| symbols.len() == ALPHABET.len()));
    }
}
