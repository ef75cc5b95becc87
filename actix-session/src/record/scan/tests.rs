//! The scanner against the general reader.

use proptest::prelude::*;

use super::{
    super::{Record, WireFormat, format::Undecodable, metadata::tests::metadata},
    *,
};

const METADATA: &str = "0000000000000001.00000000000000000000000000000007.5...0.";

/// Values as programs and attackers write them, with what the scanner makes of them.
const VALUES: [(&str, bool); 46] = [
    ("0", true),
    ("-0", true),
    ("7", true),
    ("-12", true),
    ("1.5", true),
    ("0.25e-3", true),
    ("1E+9", true),
    ("1e400", true),
    ("01", false),
    ("-", false),
    ("+1", false),
    (".5", false),
    ("1.", false),
    ("1.e1", false),
    ("1e", false),
    ("1e+", false),
    ("0x1", false),
    ("NaN", false),
    ("true", true),
    ("false", true),
    ("null", true),
    ("tru", false),
    ("nulls", false),
    (r#""""#, true),
    (r#""a long text with an é and a \" in it""#, true),
    (r#""\\\/\b\f\n\r\t""#, true),
    (r#""\u00e9\ud83d\ude00""#, true),
    (r#""\ud800""#, true),
    (r#""\u12""#, false),
    (r#""\x41""#, false),
    (r#""\"#, false),
    ("\"1234567\u{1f}\"", false),
    ("\"\n\"", false),
    ("\"\u{7f}\u{80}\"", true),
    ("[]", true),
    ("[1,\"]\",[[]],{}]", true),
    ("[1,]", false),
    ("[,1]", false),
    ("[1 ,2]", false),
    ("[", false),
    ("{}", true),
    (r#"{"a":1,"a":{"b":[null]}}"#, true),
    (r#"{"\"}":"}"}"#, true),
    (r#"{"a":1,}"#, false),
    (r#"{"a"}"#, false),
    (r#"{1:1}"#, false),
];

const NAMES: [(&str, bool); 8] = [
    ("a", true),
    ("", true),
    ("a name of many letters", true),
    ("na\u{ef}ve", true),
    ("__actix_session", false),
    ("\\u0061", false),
    ("\\\"", false),
    ("\t", false),
];

fn envelope(entries: &[(String, String)]) -> String {
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{HEAD}{METADATA}{STATE}{}}}}}", entries.join(","))
}

fn entries() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        4 => "[a-z]{1,9}".boxed(),
        1 => (0..NAMES.len()).prop_map(|index| NAMES[index].0.to_owned()).boxed(),
    ];
    let value = prop_oneof![
        1 => "\"[ -!#-~é]{0,40}\"".boxed(),
        1 => (0..VALUES.len())
            .prop_filter("valid", |index| VALUES[*index].1)
            .prop_map(|index| VALUES[index].0.to_owned())
            .boxed(),
    ];
    prop_oneof![
        4 => proptest::collection::vec((name.clone(), value.clone()), 0..6),
        1 => proptest::collection::vec((name, value), 14..20),
    ]
}

/// What a reader makes of a text.
fn meaning(read: Result<Record, Undecodable>) -> Option<impl PartialEq + std::fmt::Debug> {
    let record = read.ok()?;
    let mut entries = Vec::new();
    record
        .state()
        .for_each(|name, json| entries.push((name.to_owned(), json.into_owned())));
    Some((
        entries,
        record.metadata().cloned(),
        record.commit_id(),
        record.epoch(),
        record.format() == WireFormat::V1,
        record.as_text().map(str::to_owned),
    ))
}

/// Whether the scanner reads the text, and both readers agree on it.
fn is_scanned(text: &str) -> bool {
    let read = Record::read(text.to_owned());
    let slowly = Record::read_slowly(text.to_owned());
    assert_eq!(meaning(read), meaning(slowly), "{text}");
    scan(text).is_some()
}

#[test]
fn each_value_is_read_or_left_to_the_general_reader() {
    for (value, scanned) in VALUES {
        let text = envelope(&[("a".to_owned(), value.to_owned())]);
        assert_eq!(is_scanned(&text), scanned, "{text}");
        // Behind all sorts of places in a word.
        for length in 0..9 {
            let before = ("b".to_owned(), format!("\"{}\"", "x".repeat(length)));
            let text = envelope(&[before, ("a".to_owned(), value.to_owned())]);
            assert_eq!(is_scanned(&text), scanned, "{text}");
        }
    }
}

#[test]
fn each_name_is_read_or_left_to_the_general_reader() {
    for (name, scanned) in NAMES {
        let text = envelope(&[(name.to_owned(), "1".to_owned())]);
        assert_eq!(is_scanned(&text), scanned, "{text}");
    }
}

#[test]
fn a_name_that_comes_twice_is_left_to_the_general_reader() {
    for many in [2, 16, 17, 100] {
        let mut entries: Vec<_> = (0..many)
            .map(|n| (format!("n{n}"), n.to_string()))
            .collect();
        assert!(is_scanned(&envelope(&entries)));
        entries[many - 1].0 = "n0".to_owned();
        assert!(!is_scanned(&envelope(&entries)));
        entries[many - 1].0 = RESERVED.to_owned();
        assert!(!is_scanned(&envelope(&entries)));
    }
}

#[test]
fn what_is_too_deep_is_left_to_the_general_reader() {
    for (depth, scanned) in [(64, true), (65, false), (50_000, false)] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let text = envelope(&[("a".to_owned(), deep)]);
        assert_eq!(is_scanned(&text), scanned);
    }
}

/// An envelope of another form: the general reader's.
#[test]
fn only_the_form_that_is_written_is_scanned() {
    let usual = envelope(&[("a".to_owned(), "1".to_owned())]);
    assert!(is_scanned(&usual));
    let others = [
        usual.replace("{\"v\":1", "{ \"v\":1"),
        usual.replace("\"v\":1", "\"v\":2"),
        usual.replace(",\"state\"", ",\"x\":7,\"state\""),
        usual.replace("}}", "},\"v\":1}"),
        usual.replace(":1}", ":1 }"),
        usual
            .replace("{\"v\":1,\"f\":\"", "{\"f\":\"")
            .replace("}}", "},\"v\":1}"),
        format!("{usual} "),
        format!("{usual}}}"),
        usual[..usual.len() - 1].to_owned(),
    ];
    for text in others {
        assert!(!is_scanned(&text), "{text}");
    }
}

proptest! {
    #[test]
    fn both_readers_agree(
        entries in entries(),
        place: prop::sample::Index,
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[]:,0-.eu \n".as_slice())],
        what in 0..4_u8,
    ) {
        let text = envelope(&entries);
        is_scanned(&text);
        let mut bytes = text.into_bytes();
        let place = place.index(bytes.len());
        match what {
            0 => bytes[place] = byte,
            1 => bytes.insert(place, byte),
            2 => drop(bytes.remove(place)),
            _ => bytes.truncate(place),
        }
        if let Ok(text) = String::from_utf8(bytes) {
            is_scanned(&text);
        }
    }

    #[test]
    fn what_is_written_is_scanned(
        names in proptest::collection::btree_set("[a-zé]{1,20}", 0..30),
        value in ".{0,60}",
        metadata in metadata(),
        commit: u64,
    ) {
        let json = serde_json::json!({ "text": value, "numbers": [1, -2.5, null] }).to_string();
        let entries: Vec<_> = names.iter().map(|name| (name.into(), (&json).into())).collect();
        let written = Record::written(WireFormat::V1, commit, metadata, &entries);
        prop_assert!(is_scanned(written.as_text().unwrap()));
        let read = Record::read(written.as_text().unwrap().to_owned());
        prop_assert_eq!(meaning(read), meaning(Ok(written)));
    }

    #[test]
    fn all_special_bytes_are_found_in_order(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        specials in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\"\\\x00\x1f".as_slice())), 0..20),
        from in 0..300_usize,
    ) {
        for (place, special) in specials {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = special;
            }
        }
        let mut found = Specials::of(&bytes, from);
        let found: Vec<_> = std::iter::from_fn(|| found.next(&bytes)).collect();
        let are: Vec<_> = (from..bytes.len()).filter(|at| is_special(bytes[*at])).collect();
        prop_assert_eq!(found, are);
    }
}
