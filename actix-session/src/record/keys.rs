//! The MAC of metadata that lie where an application on an old server can write.
//!
//! Under `WireFormat::V0_11`, and through the five published methods, the metadata are one more
//! entry of the session. An application on an old server may set it to anything, so only a MAC
//! makes it count.

use std::fmt;

use actix_web::cookie::Key;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

/// The purpose that the keys are derived for. Derived with another hash than cookies are signed
/// with, as the keys of cookies are: no MAC in a cookie may equal a key.
const PURPOSE: &[u8] = b"actix-session metadata v1\0";

/// The keys of a middleware, prepared for metadata. The first one makes MACs; all of them count.
pub(crate) struct MetadataKeys {
    first: hmac::Key,
    previous: Vec<hmac::Key>,
}

/// Where metadata lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// Beside the entries of the record with this name. The name of a state in a cookie is empty.
    Named(&'a str),
    /// In a map for the five published methods, which name a record after it is written.
    Unnamed,
}

/// The key that made a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    First,
    /// The MAC counts until this key is taken out.
    Previous,
}

impl MetadataKeys {
    pub(crate) fn new(key: &Key, previous: &[Key]) -> Self {
        Self {
            first: derived(key),
            previous: previous.iter().map(derived).collect(),
        }
    }

    /// The same before the first key came.
    pub(super) fn before(&self) -> Option<Self> {
        let (first, previous) = self.previous.split_first()?;
        Some(Self {
            first: first.clone(),
            previous: previous.to_vec(),
        })
    }

    /// The MAC of a metadata's text, in 43 characters that need no escaping.
    pub(super) fn mac(&self, text: &str, place: Place<'_>) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.first, &message(text, place)))
    }

    /// Which key made the MAC, for this place or for the five methods, which can copy an entry
    /// anywhere.
    pub(super) fn maker(&self, text: &str, mac: &str, place: Place<'_>) -> Option<Maker> {
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        let places = [message(text, place), message(text, Place::Unnamed)];
        let made = |key: &hmac::Key| {
            // Compares in constant time.
            let verifies = |message: &Vec<u8>| hmac::verify(key, message, &mac).is_ok();
            places.iter().any(verifies)
        };
        if made(&self.first) {
            return Some(Maker::First);
        }
        self.previous.iter().any(made).then_some(Maker::Previous)
    }
}

fn derived(key: &Key) -> hmac::Key {
    let deriving = hmac::Key::new(hmac::HMAC_SHA512, key.signing());
    let derived = hmac::sign(&deriving, PURPOSE);
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

/// What a MAC covers: whether there is a name, its length, the name, and the metadata.
fn message(text: &str, place: Place<'_>) -> Vec<u8> {
    let (kind, name) = match place {
        Place::Named(name) => (1, name),
        Place::Unnamed => (0, ""),
    };
    let length = (name.len() as u64).to_be_bytes();
    [&[kind], length.as_slice(), name.as_bytes(), text.as_bytes()].concat()
}

/// Does not show the keys.
impl fmt::Debug for MetadataKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataKeys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [Place<'_>; 4] = [
        Place::Named(""),
        Place::Named("a"),
        Place::Named("ab"),
        Place::Unnamed,
    ];

    fn key(byte: u8) -> Key {
        Key::from(&[byte; 64])
    }

    fn keys(first: u8, previous: &[u8]) -> MetadataKeys {
        let previous: Vec<Key> = previous.iter().map(|byte| key(*byte)).collect();
        MetadataKeys::new(&key(first), &previous)
    }

    #[test]
    fn a_mac_holds_for_its_text_and_its_place_alone() {
        let keys = keys(1, &[]);
        for made in PLACES {
            let mac = keys.mac("bc", made);
            assert_eq!(mac.len(), 43);
            for place in PLACES {
                let holds = made == place || made == Place::Unnamed;
                let maker = keys.maker("bc", &mac, place);
                assert_eq!(maker, holds.then_some(Maker::First), "{made:?} {place:?}");
                assert_eq!(keys.maker("c", &mac, place), None);
            }
            for end in 0..mac.len() {
                assert_eq!(keys.maker("bc", &mac[..end], made), None);
            }
        }
    }

    #[test]
    fn the_first_key_makes_macs_and_all_of_them_count() {
        let mac = keys(1, &[]).mac("text", Place::Unnamed);
        assert_eq!(keys(1, &[2]).mac("text", Place::Unnamed), mac);
        let maker = |keys: MetadataKeys| keys.maker("text", &mac, Place::Unnamed);
        assert_eq!(maker(keys(1, &[2])), Some(Maker::First));
        assert_eq!(maker(keys(2, &[3, 1])), Some(Maker::Previous));
        assert_eq!(maker(keys(2, &[3])), None);
    }

    /// An application may sign what users type, with the same secret key.
    #[test]
    fn no_mac_of_a_cookie_counts() {
        let message = message("text", Place::Unnamed);
        let signing = hmac::Key::new(hmac::HMAC_SHA256, key(1).signing());
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&signing, &message));
        assert_eq!(keys(1, &[]).maker("text", &mac, Place::Unnamed), None);
    }
}
