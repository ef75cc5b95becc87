//! Reads our cookie's values from all `Cookie` fields of a request. Names are compared as they are,
//! without decoding or Unicode trimming.

use std::{borrow::Cow, iter};

use actix_web::http::header::HeaderValue;
use memchr::memchr;
use percent_encoding::percent_decode;

/// The values under exactly this name, percent-decoded, in order.
///
/// Works on bytes, because no cookie need be UTF-8. Reads all values, however many: junk
/// in front must not hide the right one.
pub(crate) fn values<'a>(
    fields: &'a [HeaderValue],
    name: &'a str,
) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let pairs = fields.iter().flat_map(|field| pairs(field.as_bytes()));
    pairs.filter_map(|pair| value_of(trim(pair), name.as_bytes()).map(decode))
}

/// Whether the request carries a cookie of this name, readable or not.
pub(crate) fn is_sent(fields: &[HeaderValue], name: &str) -> bool {
    values(fields, name).next().is_some()
}

fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(field);
    iter::from_fn(move || {
        let text = left?;
        let end = memchr(b';', text);
        left = end.map(|end| &text[end + 1..]);
        Some(end.map_or(text, |end| &text[..end]))
    })
}

fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = pair.strip_prefix(name)?;
    let at = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    (rest[at] == b'=').then(|| unquoted(trim(&rest[at + 1..])))
}

/// RFC 6265 lets a client put a value in quotes. One pair comes off, as published.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inside @ .., b'"'] => inside,
        value => value,
    }
}

/// RFC 6265bis lets a parser strip spaces and tabs, and nothing else.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// A `%` without two digits after it stays, as published.
fn decode(value: &[u8]) -> Cow<'_, [u8]> {
    match memchr(b'%', value) {
        // The usual case: what we write needs no escapes.
        None => Cow::Borrowed(value),
        Some(_) => percent_decode(value).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[&[u8]], name: &str) -> Vec<String> {
        let fields = fields
            .iter()
            .map(|field| HeaderValue::from_bytes(field).unwrap());
        let fields: Vec<_> = fields.collect();
        let values = values(&fields, name).map(Cow::into_owned);
        values.filter_map(|it| String::from_utf8(it).ok()).collect()
    }

    #[test]
    fn the_name_is_compared_byte_by_byte() {
        assert_eq!(read(&[b"id=a; Id=b; xid=c; id2=d; id"], "id"), ["a"]);
        assert_eq!(read(&[b"%69d=a; i%64=b"], "id"), [""; 0]);
        assert_eq!(read(&[b"%5F%5FHost-id=a"], "__Host-id"), [""; 0]);
        for blank in ["\u{85}", "\u{a0}", "\u{2000}", "\u{3000}"] {
            let field = format!("{blank}__Host-id=a; __Host-id{blank}=a");
            assert_eq!(read(&[field.as_bytes()], "__Host-id"), [""; 0], "{blank:?}");
        }
        assert_eq!(read(&[b"=__Host-id=x; ;;__Host-id;"], "__Host-id"), [""; 0]);
    }

    #[test]
    fn all_fields_and_all_values_are_read() {
        assert_eq!(
            read(&[b"a=1;id=x", b"id=y ;\tid = z; id=x"], "id"),
            ["x", "y", "z", "x"]
        );
    }

    #[test]
    fn one_pair_of_quotes_comes_off() {
        for (field, value) in [
            ("id=\"a b\"", "a b"),
            ("id=\t\"a%2Fb\" ; x=1", "a/b"),
            ("id=\"\"a\"\"", "\"a\""),
            ("id=\"\"", ""),
            ("id=\"", "\""),
            ("id=\"a", "\"a"),
            ("id=%22a%22", "\"a\""),
        ] {
            assert_eq!(read(&[field.as_bytes()], "id"), [value], "{field}");
        }
    }

    #[test]
    fn siblings_that_cannot_be_parsed_harm_nobody() {
        assert_eq!(
            read(&[b"bad=\xff\xfe; novalue; =; id=a%2Fb%zz%"], "id"),
            ["a/b%zz%"]
        );
        assert_eq!(read(&[b"id=\xff; id=%ff; id=ok"], "id"), ["ok"]);
    }

    proptest! {
        #[test]
        fn fields_are_cut_at_every_semicolon(field in "[a;= ]*") {
            let expected: Vec<&[u8]> = field.as_bytes().split(|byte| *byte == b';').collect();
            prop_assert_eq!(pairs(field.as_bytes()).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(0x20_u8..=0xff, 0..200)) {
            if let Ok(field) = HeaderValue::from_bytes(&bytes) {
                let fields = [field];
                let found = values(&fields, "id").count();
                prop_assert!(found == 0 || is_sent(&fields, "id"));
            }
        }
    }
}
