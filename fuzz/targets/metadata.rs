//! The metadata of a session, as text.
#![no_main]

use actix_session::fuzzing;
use actix_session_fuzz::cursor::Cursor;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some(told) = fuzzing::metadata(text) else {
        return;
    };
    assert!(is_readable(text), "an invalid field must be refused");
    let written = fuzzing::metadata_text(&told);
    assert_eq!(fuzzing::metadata(&written).as_ref(), Some(&told));
    assert_eq!(
        fuzzing::metadata_text(&told),
        written,
        "one way to write it"
    );
    // The text needs no escaping in JSON, nor in JSON inside JSON.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~".contains(&byte);
    assert!(written.bytes().all(plain), "{written}");
    script(&written, &told);
    // Fields of a later version change nothing in the fields that are read, and are kept.
    let all = written.split('.').count().max(19);
    let filler = ".".repeat(all - written.split('.').count());
    let added = Cursor::new(bytes).byte().to_string();
    let longer = fuzzing::metadata(&format!("{written}{filler}.{added}")).expect("it is longer");
    let rest = match &told.rest {
        Some(rest) => format!("{rest}.{added}"),
        None => added,
    };
    let expected = fuzzing::Told {
        rest: Some(rest),
        ..told
    };
    assert_eq!(longer, expected);
});

/// Whether each field of a text is valid: a number, text in base64, or absent.
fn is_readable(text: &str) -> bool {
    let fields: Vec<&str> = text.splitn(20, '.').collect();
    let number = |field: &str| field.parse::<i64>().is_ok();
    let or_none = |field: &str| field.is_empty() || number(field);
    let hexadecimal = |field: &str| u128::from_str_radix(field, 16).is_ok();
    let [commit, id, created, end, ttl, epoch, idle, auth @ ..] = &fields[..] else {
        return false;
    };
    let mut auth = auth.iter().copied().chain(std::iter::repeat(""));
    let [at, rest @ ..]: [&str; 12] = std::array::from_fn(|_| auth.next().unwrap_or_default());
    let [
        _,
        _,
        login,
        span,
        two,
        three,
        demand,
        _,
        address,
        origin,
        listed,
    ] = rest;
    let demand_is = match demand.split_once('~') {
        None => demand.is_empty(),
        Some((at, _)) => number(at),
    };
    let origin_is = match &origin.split('~').collect::<Vec<_>>()[..] {
        [""] => true,
        [at, user, ""] => number(at) && hexadecimal(user),
        [at, user, session] => number(at) && hexadecimal(user) && hexadecimal(session),
        _ => false,
    };
    let auth_is = match at {
        "" => rest.concat().is_empty(),
        at => {
            let times = [login, span, two, three, listed];
            number(at)
                && times.into_iter().all(or_none)
                && demand_is
                && address_is(address)
                && origin_is
        }
    };
    let numbers = number(created) && [end, ttl, idle].into_iter().all(|field| or_none(field));
    auth_is
        && numbers
        && [commit, id, epoch]
            .into_iter()
            .all(|field| hexadecimal(field))
}

/// Whether it is nothing, or three or four bytes of one kind of address, or six or sixteen of the other.
fn address_is(field: &str) -> bool {
    let is_hexadecimal = field.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hexadecimal && [0, 6, 8, 12, 32].contains(&field.len())
}

/// What the Redis script that extends a record finds:
/// `^%x+%.%x+%.(%-?%d+)%.(%-?%d*)%.(%-?%d*)%.%x+%.%-?%d*%.?(%-?%d*)`.
fn script(written: &str, told: &fuzzing::Told) {
    let fields: Vec<&str> = written.splitn(9, '.').collect();
    let or_none = |number: Option<i64>| number.map_or_else(String::new, |n| n.to_string());
    assert_eq!(fields[2], told.created.to_string());
    assert_eq!(fields[3], or_none(told.absolute_end));
    assert_eq!(fields[4], or_none(told.ttl));
    let at = told.auth.as_ref().map(|auth| auth.at);
    assert_eq!(fields.get(7).copied().unwrap_or_default(), or_none(at));
    let hexadecimal = |field: &str| field.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(
        [0, 1, 5]
            .into_iter()
            .all(|n| hexadecimal(fields[n]) && !fields[n].is_empty())
    );
}
