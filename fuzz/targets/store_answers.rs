//! Answers of servers: Redis on the wire, databases in columns.
#![no_main]

use actix_session::fuzzing::{self, Shown};
use actix_session_fuzz::{cursor::Cursor, records::meaning};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut cursor = Cursor::new(bytes);
    match cursor.below(3) {
        0 => {
            let now = 1_000;
            if let Some(Ok(shown)) = fuzzing::redis_answer(cursor.rest_of_bytes(), now) {
                check(&shown, None);
            }
        }
        1 => script(&mut cursor),
        _ => row(&mut cursor),
    }
});

/// Every record shown can be read, and every redirect says where to and when.
fn check(shown: &Shown, from: Option<&str>) {
    match shown {
        Shown::Record(text, _) => {
            assert!(meaning(text).is_some(), "{text}");
            assert!(from.is_none_or(|from| from == text));
        }
        Shown::Redirect(flag, ..) => assert!("ple".contains(*flag)),
        Shown::Nothing | Shown::Unreadable | Shown::Other => {}
    }
}

/// A redirect, read strictly.
fn redirect(text: &str) -> Option<Shown> {
    let (flag, rest) = text.split_once('|')?;
    let (at, target) = rest.split_once('|')?;
    let flag = ["p", "l", "e"].iter().find(|known| **known == flag)?;
    let at = at.parse().ok()?;
    Some(Shown::Redirect(flag.chars().next()?, at, target.to_owned()))
}

/// An answer in the shape that scripts return.
fn script(cursor: &mut Cursor<'_>) {
    let (code, pttl, now) = (cursor.below(7), cursor.number(), cursor.number());
    let payload = cursor.rest_of_bytes();
    let mut wire = format!("*3\r\n:{code}\r\n${}\r\n", payload.len()).into_bytes();
    wire.extend_from_slice(payload);
    wire.extend_from_slice(format!("\r\n:{pttl}\r\n").as_bytes());
    let answer = fuzzing::redis_answer(&wire, now).expect("this is RESP");
    let shown = answer.expect("and an answer");
    let text = std::str::from_utf8(payload).ok();
    check(&shown, text);
    let readable = text.and_then(meaning).is_some();
    match code {
        0 => assert_eq!(shown, Shown::Nothing),
        1 if readable => {
            let end = (pttl >= 0).then(|| now.saturating_add(pttl));
            assert_eq!(shown, Shown::Record(text.unwrap_or_default().into(), end));
        }
        1 => assert_eq!(shown, Shown::Unreadable),
        2 => assert_eq!(shown, text.and_then(redirect).unwrap_or(Shown::Nothing)),
        3 | 4 | 6 => assert_eq!(shown, Shown::Other),
        _ => assert_eq!(shown, Shown::Unreadable),
    }
}

fn row(cursor: &mut Cursor<'_>) {
    let expires = cursor.number();
    let moved_to = cursor.flag().then(|| cursor.text());
    let flag = cursor.flag().then(|| cursor.text());
    let moved_at = cursor.maybe();
    let state = cursor.flag().then(|| cursor.rest_of_bytes().to_vec());
    let shown = fuzzing::sql_row(
        state.clone(),
        expires,
        moved_to.clone(),
        flag.clone(),
        moved_at,
    );
    let expected = match (moved_to, flag, moved_at) {
        (Some(to), Some(flag), Some(at)) if ["p", "l", "e"].contains(&flag.as_str()) => {
            Shown::Redirect(flag.chars().next().unwrap_or('p'), at, to)
        }
        (Some(_), ..) => Shown::Nothing,
        (None, ..) => {
            let text = state.and_then(|bytes| String::from_utf8(bytes).ok());
            match text.filter(|text| meaning(text).is_some()) {
                Some(text) => Shown::Record(text, Some(expires)),
                None => Shown::Unreadable,
            }
        }
    };
    assert_eq!(shown, expected);
}
