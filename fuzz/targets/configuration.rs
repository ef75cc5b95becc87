//! Settings that a deployment may get wrong: secret keys and addresses. No error shows a secret.
#![no_main]

use actix_session::{config::secret_key, fuzzing, storage::AnySessionStore};
use actix_session_fuzz::cursor::Cursor;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};

const PASSWORD: &str = "hunter2:Correct*Horse";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut cursor = Cursor::new(bytes);
    match cursor.below(3) {
        0 => parse(&cursor.rest()),
        1 => encoded(&mut cursor),
        _ => address(&mut cursor),
    }
});

/// Any text gives a key of 64 bytes or more, or an error that does not contain the text.
fn parse(text: &str) {
    match secret_key::parse(text) {
        Ok(key) => {
            let stripped: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            assert!(stripped.len() >= 86, "64 bytes are 86 characters at least");
            assert!(stripped.is_ascii());
            assert!(key.master().len() >= 64);
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            let words: Vec<&str> = text.split_whitespace().filter(|w| w.len() > 12).collect();
            assert!(words.iter().all(|word| !shown.contains(word)), "{shown}");
        }
    }
}

/// A key is read back from each encoding.
fn encoded(cursor: &mut Cursor<'_>) {
    let form = cursor.below(6);
    let (blank, place) = (cursor.one_of(&["", "\n", " ", "\r\n\t"]), cursor.below(86));
    let bytes = cursor.rest_of_bytes();
    let hexadecimal = |upper: bool| -> String {
        let digits = bytes.iter();
        digits
            .map(|b| {
                if upper {
                    format!("{b:02X}")
                } else {
                    format!("{b:02x}")
                }
            })
            .collect()
    };
    let mut text = match form {
        0 => STANDARD.encode(bytes),
        1 => STANDARD_NO_PAD.encode(bytes),
        2 => URL_SAFE.encode(bytes),
        3 => URL_SAFE_NO_PAD.encode(bytes),
        other => hexadecimal(other == 4),
    };
    let ambiguous = form < 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.insert_str(place.min(text.len()), blank);
    match secret_key::parse(&text) {
        // The chance that base64 of a key has only hexadecimal digits is one in 10^51.
        _ if ambiguous => {}
        // The first 64 bytes are the key, as with `Key::from`.
        Ok(key) => assert!(key.master() == &bytes[..64]),
        Err(_) => assert!(bytes.len() < 64, "{} bytes are enough", bytes.len()),
    }
}

const SCHEMES: [&str; 12] = [
    "redis",
    "rediss",
    "redis+cluster",
    "redis+sentinel",
    "redis+unix",
    "unix",
    "postgres",
    "mysql",
    "sqlite",
    "memory",
    "http",
    "",
];

/// An address with a password in it.
fn address(cursor: &mut Cursor<'_>) {
    let scheme = match cursor.below(SCHEMES.len() + 1) {
        12 => cursor.text(),
        known => SCHEMES[known].to_owned(),
    };
    // Text after a question mark is not a password.
    let (user, separator) = (
        cursor.text().replace('?', ""),
        cursor.one_of(&["://", ":", "//", ":/"]),
    );
    let scheme = scheme.replace('?', "");
    let url = format!("{scheme}{separator}{user}:{PASSWORD}@{}", cursor.rest());
    let hides = |shown: &str| assert!(!shown.contains("Correct*Horse"), "{shown}");
    if let Err(error) = AnySessionStore::check_url(&url) {
        hides(&format!("{error:#} {error:?}"));
    }
    if let Err(shown) = fuzzing::redis_address(&url) {
        hides(&shown);
    }
}
