//! Seals and opens cookie values, in the published formats.
//!
//! Private: base64 of nonce, AES-256-GCM ciphertext and tag, with the cookie's name as associated
//! data. Signed: base64 of the HMAC-SHA-256, then the value. The MAC covers the name too; in
//! actix-session 0.11 and older it did not.

use actix_web::cookie::Key;
use base64::Engine as _;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};

use super::base64::standard;
use crate::{config::CookieContentSecurity, random, record::WireFormat};

/// The length of a MAC of 32 bytes in base64.
const MAC_LENGTH: usize = 44;
/// The purpose that the key of our MACs is derived for. MACs over a bare value use the key itself.
/// A prefix of the value could not separate the two: an application may sign what users type.
const PURPOSE: &[u8] = b"actix-session signed cookie v1\0";
/// The purpose of the keys for values in a header field of their own: no value of a cookie passes for
/// one of these, nor the other way round.
const HEADER_PURPOSE: &[u8] = b"actix-session header v1\0";

/// The secret keys, prepared for one cookie or one header field.
pub(crate) struct Sealer {
    name: String,
    /// The first one seals; all of them open.
    first: Mode,
    previous: Vec<Mode>,
    /// Write what actix-session 0.11 and older can open.
    old_mac: bool,
}

enum Mode {
    Private(Box<LessSafeKey>),
    Signed(Box<Macs>),
}

struct Macs {
    /// For values whose MAC does not cover the name. Old servers made them, in cookies alone.
    bare: Option<hmac::Key>,
    bound: hmac::Key,
}

impl Macs {
    /// Derives with another hash than cookies are signed with: no MAC in a cookie may equal the
    /// key.
    fn new(key: &Key) -> Self {
        let derived = derive(key.signing(), PURPOSE);
        Self {
            bare: Some(hmac::Key::new(hmac::HMAC_SHA256, key.signing())),
            bound: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
        }
    }

    fn of_header(key: &Key) -> Self {
        let derived = derive(key.signing(), HEADER_PURPOSE);
        Self {
            bare: None,
            bound: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
        }
    }
}

/// 64 bytes for one purpose.
fn derive(secret: &[u8], purpose: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, secret), purpose)
}

impl Mode {
    fn new(key: &Key, security: CookieContentSecurity) -> Self {
        match security {
            CookieContentSecurity::Private => Self::private(key.encryption()),
            CookieContentSecurity::Signed => Self::Signed(Box::new(Macs::new(key))),
        }
    }

    fn of_header(key: &Key, security: CookieContentSecurity) -> Self {
        match security {
            CookieContentSecurity::Private => {
                let derived = derive(key.encryption(), HEADER_PURPOSE);
                Self::private(&derived.as_ref()[..AES_256_GCM.key_len()])
            }
            CookieContentSecurity::Signed => Self::Signed(Box::new(Macs::of_header(key))),
        }
    }

    fn private(key: &[u8]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key);
        let key = key.expect("the key has 32 bytes");
        Self::Private(Box::new(LessSafeKey::new(key)))
    }
}

/// A sealed value.
#[derive(Debug)]
pub(crate) enum Sealed {
    /// Written as base64, of which no character needs an escape.
    Private(Vec<u8>),
    Signed(String),
}

#[cfg(any(test, fuzzing))]
impl Sealed {
    /// The value as a cookie carries it, before percent-encoding.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Private(data) => standard().encode(data),
            Self::Signed(text) => text,
        }
    }
}

/// An opened value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsealed {
    pub(crate) value: String,
    /// The MAC does not cover the cookie's name.
    pub(crate) unbound: bool,
    /// An older key opened it.
    pub(crate) old_key: bool,
    /// Its nonce, which no other value has. A signed value has none.
    pub(crate) nonce: Option<u128>,
}

impl Sealer {
    pub(crate) fn new(
        key: &Key,
        previous: &[Key],
        security: CookieContentSecurity,
        name: &str,
        format: WireFormat,
    ) -> Self {
        Self {
            name: name.to_owned(),
            first: Mode::new(key, security),
            previous: previous
                .iter()
                .map(|key| Mode::new(key, security))
                .collect(),
            old_mac: format == WireFormat::V0_11,
        }
    }

    /// For values in a header field. They are bound to its name, and to the cookie's: two middlewares
    /// with cookies of their own never open each other's values.
    pub(crate) fn of_header(
        key: &Key,
        previous: &[Key],
        security: CookieContentSecurity,
        header: &str,
        cookie: &str,
    ) -> Self {
        let mode = |key| Mode::of_header(key, security);
        Self {
            // No header's name contains the separator.
            name: format!("{header}\0{cookie}"),
            first: mode(key),
            previous: previous.iter().map(mode).collect(),
            old_mac: false,
        }
    }

    pub(crate) fn seal(&self, value: &str) -> anyhow::Result<Sealed> {
        match &self.first {
            Mode::Private(key) => self.encrypt(key, value).map(Sealed::Private),
            Mode::Signed(keys) => {
                let mac = match &keys.bare {
                    Some(bare) if self.old_mac => hmac::sign(bare, value.as_bytes()),
                    _ => self.bound(&keys.bound, value).sign(),
                };
                let mut text = standard().encode(mac);
                text.push_str(value);
                Ok(Sealed::Signed(text))
            }
        }
    }

    /// Returns `None` for every value that none of the keys sealed for this cookie.
    pub(crate) fn open(&self, sealed: impl AsRef<[u8]>) -> Option<Unsealed> {
        let sealed = sealed.as_ref();
        if let Some(unsealed) = self.open_with(&self.first, sealed) {
            return Some(unsealed);
        }
        let older = self
            .previous
            .iter()
            .find_map(|key| self.open_with(key, sealed));
        older.map(|unsealed| Unsealed {
            old_key: true,
            ..unsealed
        })
    }

    fn open_with(&self, key: &Mode, sealed: &[u8]) -> Option<Unsealed> {
        match key {
            Mode::Private(key) => {
                let (value, nonce) = self.decrypt(key, sealed)?;
                Some(Unsealed {
                    value,
                    unbound: false,
                    old_key: false,
                    nonce: Some(nonce),
                })
            }
            Mode::Signed(keys) => self.verify(keys, sealed),
        }
    }

    fn encrypt(&self, key: &LessSafeKey, value: &str) -> anyhow::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        random::fill(&mut nonce)?;
        let mut data = Vec::with_capacity(NONCE_LEN + value.len() + AES_256_GCM.tag_len());
        data.extend_from_slice(&nonce);
        data.extend_from_slice(value.as_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (_, text) = data.split_at_mut(NONCE_LEN);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(self.name.as_bytes()), text)
            .map_err(|_| anyhow::anyhow!("the session state is too long to encrypt"))?;
        data.extend_from_slice(tag.as_ref());
        Ok(data)
    }

    fn decrypt(&self, key: &LessSafeKey, sealed: &[u8]) -> Option<(String, u128)> {
        let mut data = standard().decode(sealed).ok()?;
        let nonce = data.get(..NONCE_LEN)?;
        let number = nonce.iter().fold(0, |n, byte| (n << 8) | u128::from(*byte));
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let value = key
            .open_within(
                nonce,
                Aad::from(self.name.as_bytes()),
                &mut data,
                NONCE_LEN..,
            )
            .ok()?;
        let length = value.len();
        data.truncate(length);
        Some((String::from_utf8(data).ok()?, number))
    }

    fn verify(&self, keys: &Macs, sealed: &[u8]) -> Option<Unsealed> {
        let (mac, value) = std::str::from_utf8(sealed)
            .ok()?
            .split_at_checked(MAC_LENGTH)?;
        let mac = standard().decode(mac).ok()?;
        let unsealed = |unbound| Unsealed {
            value: value.to_owned(),
            unbound,
            old_key: false,
            nonce: None,
        };
        if self.bound(&keys.bound, value).verify(&mac) {
            return Some(unsealed(false));
        }
        let old = hmac::verify(keys.bare.as_ref()?, value.as_bytes(), &mac);
        old.is_ok().then(|| unsealed(true))
    }

    fn bound<'a>(&'a self, key: &'a hmac::Key, value: &'a str) -> Bound<'a> {
        Bound {
            key,
            name: &self.name,
            value,
        }
    }
}

/// What our MACs cover: the length of the name, the name and the value.
struct Bound<'a> {
    key: &'a hmac::Key,
    name: &'a str,
    value: &'a str,
}

impl Bound<'_> {
    fn message(&self) -> Vec<u8> {
        let length = (self.name.len() as u64).to_be_bytes();
        [&length, self.name.as_bytes(), self.value.as_bytes()].concat()
    }

    fn sign(&self) -> hmac::Tag {
        hmac::sign(self.key, &self.message())
    }

    /// Compares in constant time.
    fn verify(&self, mac: &[u8]) -> bool {
        hmac::verify(self.key, &self.message(), mac).is_ok()
    }
}

/// Does not show the keys.
impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use actix_web::cookie::{Cookie, CookieJar};
    use proptest::prelude::*;

    use super::*;

    const MODES: [CookieContentSecurity; 2] = [
        CookieContentSecurity::Private,
        CookieContentSecurity::Signed,
    ];

    fn key(byte: u8) -> Key {
        Key::from(&[byte; 64])
    }

    fn sealer(byte: u8, mode: CookieContentSecurity, name: &str, format: WireFormat) -> Sealer {
        Sealer::new(&key(byte), &[], mode, name, format)
    }

    /// A value as actix-session 0.11 seals it.
    fn published(mode: CookieContentSecurity, name: &str, value: &str) -> String {
        let mut jar = CookieJar::new();
        let cookie = Cookie::new(name.to_owned(), value.to_owned());
        match mode {
            CookieContentSecurity::Private => jar.private_mut(&key(1)).add(cookie),
            CookieContentSecurity::Signed => jar.signed_mut(&key(1)).add(cookie),
        }
        jar.get(name).unwrap().value().to_owned()
    }

    fn opened_by_published(mode: CookieContentSecurity, sealed: &str) -> Option<String> {
        let mut jar = CookieJar::new();
        jar.add_original(Cookie::new("id", sealed.to_owned()));
        let cookie = match mode {
            CookieContentSecurity::Private => jar.private(&key(1)).get("id"),
            CookieContentSecurity::Signed => jar.signed(&key(1)).get("id"),
        };
        cookie.map(|cookie| cookie.value().to_owned())
    }

    /// T-37.
    #[test]
    fn nonces_do_not_repeat() {
        let sealer = sealer(1, CookieContentSecurity::Private, "id", WireFormat::V1);
        let mut seen = std::collections::HashSet::with_capacity(1_000_000);
        for _ in 0..1_000_000 {
            let sealed = sealer.seal("the same").unwrap().into_text();
            let start = standard().decode(&sealed.as_bytes()[..16]).unwrap();
            let nonce: [u8; 12] = start.try_into().unwrap();
            assert!(seen.insert(nonce));
        }
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_here_and_for_old_servers(value in ".*") {
            for mode in MODES {
                let new = sealer(1, mode, "id", WireFormat::V1);
                let sealed = new.seal(&value).unwrap().into_text();
                let opened = new.open(&sealed).unwrap();
                prop_assert_eq!((&opened.value, opened.unbound), (&value, false));
                prop_assert!(!opened.old_key);
                let again = new.open(new.seal(&value).unwrap().into_text()).unwrap();
                let is_private = matches!(mode, CookieContentSecurity::Private);
                prop_assert_eq!(opened.nonce != again.nonce, is_private);
                let old = new.open(published(mode, "id", &value)).unwrap();
                prop_assert_eq!(&old.value, &value);
                prop_assert_eq!(old.unbound, matches!(mode, CookieContentSecurity::Signed));
                let compatible = sealer(1, mode, "id", WireFormat::V0_11).seal(&value).unwrap().into_text();
                // The published jar does not open an empty encrypted value either.
                prop_assert_eq!(opened_by_published(mode, &compatible), Some(value.clone()));
            }
        }

        #[test]
        fn no_text_opens_that_was_not_sealed(text in ".*") {
            for mode in MODES {
                prop_assert_eq!(sealer(1, mode, "id", WireFormat::V1).open(&text), None);
            }
        }
    }

    #[test]
    fn another_name_or_key_opens_nothing() {
        for mode in MODES {
            let sealed = sealer(1, mode, "id", WireFormat::V1)
                .seal("value")
                .unwrap()
                .into_text();
            assert_eq!(sealer(1, mode, "idx", WireFormat::V1).open(&sealed), None);
            assert_eq!(sealer(2, mode, "id", WireFormat::V1).open(&sealed), None);
        }
    }

    #[test]
    fn a_cookie_and_a_header_never_pass_for_each_other() {
        let header =
            |mode, name: &str, cookie: &str| Sealer::of_header(&key(1), &[], mode, name, cookie);
        for mode in MODES {
            let of_header = header(mode, "x-session", "id");
            let sealed = of_header.seal("value").unwrap().into_text();
            assert_eq!(of_header.open(&sealed).unwrap().value, "value");
            let others = [
                sealer(1, mode, "id", WireFormat::V1),
                sealer(1, mode, "id", WireFormat::V0_11),
                sealer(1, mode, "x-session", WireFormat::V1),
                sealer(1, mode, "x-session\0id", WireFormat::V1),
                header(mode, "x-other", "id"),
                header(mode, "x-session", "admin"),
                header(mode, "x-session\0", "id"),
            ];
            for other in others {
                assert_eq!(other.open(&sealed), None, "{mode:?} {:?}", other.name);
                let theirs = other.seal("value").unwrap().into_text();
                assert_eq!(of_header.open(&theirs), None, "{mode:?} {:?}", other.name);
            }
        }
        // What users type may be signed, with the same key.
        let bare = published(CookieContentSecurity::Signed, "note", "value");
        let of_header = header(CookieContentSecurity::Signed, "x-session", "id");
        assert_eq!(of_header.open(&bare), None);
    }

    #[test]
    fn older_keys_open_header_values_and_say_so() {
        for mode in MODES {
            let with = |first, previous: &[u8]| {
                let previous: Vec<Key> = previous.iter().map(|byte| key(*byte)).collect();
                Sealer::of_header(&key(first), &previous, mode, "x-session", "id")
            };
            let sealed = with(1, &[]).seal("value").unwrap().into_text();
            assert!(with(2, &[3, 1]).open(&sealed).unwrap().old_key);
            assert!(!with(1, &[2]).open(&sealed).unwrap().old_key);
            assert_eq!(with(2, &[3]).open(&sealed), None);
        }
    }

    #[test]
    fn no_octet_of_a_value_passes_for_one_of_the_name() {
        let signed = |name| sealer(1, CookieContentSecurity::Signed, name, WireFormat::V1);
        for (one, two, rest) in [("id", "i", "d"), ("id", "idx", "x")] {
            let (long, short) = if one.len() > two.len() {
                (one, two)
            } else {
                (two, one)
            };
            let sealed = signed(long).seal("value").unwrap().into_text();
            let moved = format!("{}{rest}value", &sealed[..MAC_LENGTH]);
            assert_eq!(signed(short).open(&moved), None, "{long} as {short}");
            let sealed = signed(short)
                .seal(&format!("{rest}value"))
                .unwrap()
                .into_text();
            let moved = format!("{}value", &sealed[..MAC_LENGTH]);
            assert_eq!(signed(long).open(&moved), None, "{short} as {long}");
        }
    }

    /// Applications may sign what users type, with the same key.
    #[test]
    fn the_mac_of_a_bare_value_never_passes_for_ours() {
        let length = 2_u64.to_be_bytes();
        let derived = Macs::new(&key(1)).bound;
        for typed in [
            [PURPOSE, &length, b"id", b"mine"].concat(),
            [&length, b"id".as_slice(), b"mine"].concat(),
        ] {
            let typed = String::from_utf8(typed).unwrap();
            let signed = published(CookieContentSecurity::Signed, "name", &typed);
            let forged = format!("{}mine", &signed[..MAC_LENGTH]);
            let sealer = sealer(1, CookieContentSecurity::Signed, "id", WireFormat::V1);
            assert_eq!(sealer.open(&forged), None);
        }
        let of_purpose = String::from_utf8(PURPOSE.to_vec()).unwrap();
        let signed = published(CookieContentSecurity::Signed, "name", &of_purpose);
        let shown = standard().decode(&signed[..MAC_LENGTH]).unwrap();
        let shown = hmac::Key::new(hmac::HMAC_SHA256, &shown);
        let mac = |key| hmac::sign(key, b"x").as_ref().to_vec();
        assert_ne!(
            mac(&shown),
            mac(&derived),
            "no cookie shows the derived key"
        );
    }

    #[test]
    fn older_keys_open_and_say_so_in_any_order_and_removed_ones_do_not() {
        for mode in MODES {
            let with = |first, previous: &[u8]| {
                let previous: Vec<Key> = previous.iter().map(|byte| key(*byte)).collect();
                Sealer::new(&key(first), &previous, mode, "id", WireFormat::V1)
            };
            let sealed = with(1, &[]).seal("value").unwrap().into_text();
            for previous in [[1, 3], [3, 1]] {
                let opened = with(2, &previous).open(&sealed).unwrap();
                assert_eq!((opened.value.as_str(), opened.old_key), ("value", true));
            }
            assert!(!with(1, &[2, 3]).open(&sealed).unwrap().old_key);
            assert_eq!(with(2, &[3]).open(&sealed), None);
            let many: Vec<u8> = (2..=255).collect();
            assert_eq!(with(2, &many).open(&sealed), None);
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        for mode in MODES {
            let sealer = sealer(1, mode, "id", WireFormat::V1);
            let sealed = sealer.seal("value").unwrap().into_text();
            for place in 0..sealed.len() {
                let mut bytes = sealed.clone().into_bytes();
                bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(sealer.open(&changed), None, "{mode:?} at {place}");
                assert_eq!(
                    sealer.open(&sealed[..place]),
                    None,
                    "{mode:?} cut at {place}"
                );
            }
            assert_eq!(sealer.open(sealed.repeat(2)), None);
        }
    }
}
