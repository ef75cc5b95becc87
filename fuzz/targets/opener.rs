//! Damaged and transplanted sealed values. A value that opens was sealed for this cookie, with one of
//! the keys.
#![no_main]

use actix_session::{
    config::CookieContentSecurity,
    fuzzing::{Opened, Seals, WireFormat},
};
use actix_session_fuzz::cursor::Cursor;
use actix_web::cookie::{Cookie, CookieJar, Key};
use ring::digest::{SHA512, digest};

const NAMES: [&str; 4] = ["id", "ix", "idx", "__Host-id"];
const FORMATS: [WireFormat; 2] = [WireFormat::V1, WireFormat::V0_11];
const MODES: [CookieContentSecurity; 2] = [
    CookieContentSecurity::Private,
    CookieContentSecurity::Signed,
];
const MAC: usize = 44;

/// A value that some key has sealed.
struct Sealed {
    text: String,
    value: String,
    /// 0 is the present key, 1 an older one, 2 a stranger's.
    key: usize,
    mode: CookieContentSecurity,
    name: &'static str,
    /// Whether its MAC leaves out the cookie's name.
    unbound: bool,
}

/// Keys for this run alone: the fuzzer remembers all compared bytes, including sealed values.
fn keys(input: &[u8]) -> [Key; 3] {
    let key = |number: u8| {
        let digest = digest(&SHA512, &[input, &[number]].concat());
        Key::from(digest.as_ref())
    };
    [key(0), key(1), key(2)]
}

fn signed(mode: CookieContentSecurity) -> bool {
    matches!(mode, CookieContentSecurity::Signed)
}

fn seal(cursor: &mut Cursor<'_>, keys: &[Key; 3]) -> Sealed {
    let (key_number, mode) = (cursor.below(3), cursor.one_of(&MODES));
    let (name, format) = (cursor.one_of(&NAMES), cursor.one_of(&FORMATS));
    let theirs = cursor.flag();
    let value = cursor.text();
    let key = &keys[key_number];
    let text = if theirs {
        by_application(key, mode, name, &value)
    } else {
        Seals::new(key, &[], mode, name, format).seal(&value)
    };
    Sealed {
        text,
        value,
        key: key_number,
        mode,
        name,
        unbound: signed(mode) && (theirs || format == WireFormat::V0_11),
    }
}

/// A cookie of the application's own, or of actix-session 0.11.
fn by_application(key: &Key, mode: CookieContentSecurity, name: &str, value: &str) -> String {
    let mut jar = CookieJar::new();
    let cookie = Cookie::new(name.to_owned(), value.to_owned());
    if signed(mode) {
        jar.signed_mut(key).add(cookie);
    } else {
        jar.private_mut(key).add(cookie);
    }
    let cookie = jar.get(name).expect("it was added a moment ago");
    cookie.value().to_owned()
}

/// Damages a text, or takes parts of another.
fn damage(cursor: &mut Cursor<'_>, text: &str, other: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let place = cursor.below(bytes.len());
    match cursor.below(9) {
        0 => bytes.truncate(place),
        1 => bytes.extend_from_within(..),
        2 => bytes.rotate_left(place),
        3 if !bytes.is_empty() => bytes[place] ^= 1 << cursor.below(8),
        4 => bytes.insert(place.min(bytes.len()), cursor.byte()),
        5 => bytes.extend_from_slice(other.as_bytes()),
        // The MAC of one value, the text of the other.
        6 if text.len() >= MAC => {
            bytes.truncate(MAC);
            bytes.extend(other.bytes().skip(MAC));
        }
        7 if text.len() >= MAC => {
            bytes.truncate(MAC);
            bytes.extend_from_slice(cursor.bytes());
        }
        _ => {
            let text = String::from_utf8_lossy(&bytes);
            return text.replace('+', "-").replace('/', "_").replace('=', "");
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (keys, mut cursor) = (keys(bytes), Cursor::new(bytes));
    let older = std::slice::from_ref(&keys[1]);
    let known = [seal(&mut cursor, &keys), seal(&mut cursor, &keys)];
    let mut candidates: Vec<String> = known.iter().map(|sealed| sealed.text.clone()).collect();
    candidates.push(damage(&mut cursor, &known[0].text, &known[1].text));
    let twice = damage(&mut cursor, &candidates[2], &known[1].text);
    candidates.push(twice);
    candidates.push(cursor.rest());
    for mode in MODES {
        for format in FORMATS {
            let seals = Seals::new(&keys[0], older, mode, "id", format);
            for candidate in &candidates {
                assert_eq!(seals.open(candidate), expected(&known, mode, candidate));
            }
        }
    }
});

/// A candidate that opens is one of the sealed values.
fn expected(known: &[Sealed], mode: CookieContentSecurity, candidate: &str) -> Option<Opened> {
    let fits = |sealed: &&Sealed| {
        sealed.text == candidate
            && sealed.key < 2
            && signed(sealed.mode) == signed(mode)
            && (sealed.name == "id" || sealed.unbound)
    };
    let sealed = known.iter().find(fits)?;
    Some(Opened {
        value: sealed.value.clone(),
        unbound: sealed.unbound,
        old_key: sealed.key == 1,
    })
}
