//! Formats, by properties and by the texts that older versions wrote.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{metadata::tests::metadata, *};

/// An application's names and values, with many awkward ones.
fn entries() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop_oneof![
        Just("v".to_owned()),
        Just("f".to_owned()),
        Just("state".to_owned()),
        Just(String::new()),
        "[a-z]{1,6}",
        ".{0,12}",
    ];
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<bool>().prop_map(|b| b.to_string()),
        ".{0,20}".prop_map(|text| json!(text).to_string()),
        ".{0,20}".prop_map(|text| json!({ "v": 1, "state": [text, null] }).to_string()),
    ];
    prop::collection::btree_map(name, value, 0..24)
        .prop_filter("reserved", |map| !map.contains_key(RESERVED))
}

fn written(
    format: WireFormat,
    commit: u64,
    metadata: Metadata,
    map: &BTreeMap<String, String>,
) -> Record {
    let entries: Vec<_> = map
        .iter()
        .map(|(n, v)| (n.as_str().into(), v.as_str().into()))
        .collect();
    Record::written(format, commit, metadata, &entries)
}

fn map_of(record: &Record) -> BTreeMap<String, String> {
    record.to_map().into_iter().collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read(map in entries(), metadata in metadata(), commit: u64) {
        for format in [WireFormat::V1, WireFormat::V0_11] {
            let record = written(format, commit, metadata.clone(), &map);
            prop_assert_eq!(map_of(&record), map.clone(), "the writer's own view, {:?}", format);
            let text = record.as_text().unwrap().to_owned();
            let read = Record::decode(text.clone()).unwrap();
            prop_assert_eq!(map_of(&read), map.clone());
            prop_assert_eq!(read.metadata(), Some(&metadata));
            prop_assert_eq!(read.commit_id(), commit);
            for (name, json) in &map {
                let value = read.state().get(name);
                prop_assert_eq!(value.as_deref(), Some(json.as_str()));
            }
            prop_assert!(read.version().matches(&text));
            prop_assert_eq!(read.version(), record.version());
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        }
    }

    #[test]
    fn the_five_methods_carry_everything(map in entries(), metadata in metadata(), commit: u64) {
        let record = written(WireFormat::V1, commit, metadata.clone(), &map);
        let back = Record::from_map(record.to_map_with_metadata());
        prop_assert_eq!(map_of(&back), map);
        prop_assert_eq!(back.metadata(), Some(&metadata));
        prop_assert_eq!(back.commit_id(), commit);
    }

    /// What 0.6 to 0.11 wrote: a map of JSON texts as strings.
    #[test]
    fn the_published_format_opens(map in entries()) {
        let read = Record::decode(serde_json::to_string(&map).unwrap()).unwrap();
        prop_assert_eq!(map_of(&read), map);
        prop_assert_eq!(read.metadata(), None);
        prop_assert!(matches!(read.version(), Version::Whole(_)));
    }

    /// What the unreleased successor writes.
    #[test]
    fn the_envelope_without_metadata_opens(map in entries()) {
        let state: BTreeMap<&String, Value> =
            map.iter().map(|(n, v)| (n, serde_json::from_str(v).unwrap())).collect();
        for text in [
            json!({ "v": 1, "state": state }).to_string(),
            format!(" {{ \"state\" : {} , \"v\" : 1 }} ", json!(state)),
        ] {
            let read = Record::decode(text).unwrap();
            for (name, json) in &map {
                let value: Value = serde_json::from_str(&read.state().get(name).unwrap()).unwrap();
                prop_assert_eq!(value, serde_json::from_str::<Value>(json).unwrap());
            }
            prop_assert_eq!(read.metadata(), None);
        }
    }

    #[test]
    fn an_old_server_can_read_what_is_written_for_it(map in entries(), metadata in metadata()) {
        let record = written(WireFormat::V0_11, 7, metadata, &map);
        let mut old: BTreeMap<String, String> =
            serde_json::from_str(record.as_text().unwrap()).unwrap();
        let reserved = old.remove(RESERVED).unwrap();
        // Old servers parse a value if asked for it, so this one must be JSON like all others.
        prop_assert!(is_json(&reserved));
        prop_assert_eq!(old, map);
    }

    #[test]
    fn no_text_makes_the_decoder_panic(text in ".{0,200}") {
        let _ = Record::decode(text);
    }

    #[test]
    fn no_near_miss_makes_the_decoder_panic(
        map in entries(),
        metadata in metadata(),
        cut in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        nested: bool,
    ) {
        let format = if nested { WireFormat::V0_11 } else { WireFormat::V1 };
        let mut bytes = written(format, 1, metadata, &map).as_text().unwrap().as_bytes().to_vec();
        let place = cut.index(bytes.len());
        bytes[place] = byte;
        let near = String::from_utf8(bytes.clone()).map(Record::decode);
        if let Ok(Ok(record)) = near {
            record.to_map();
        }
        bytes.truncate(place);
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(Record::decode(text).is_err());
        }
    }
}

#[test]
fn literal_records_of_older_versions_open() {
    let old = r#"{"user_id":"\"ferris\"","counter":"7","v":"1","state":"{\"a\":[1,2]}"}"#;
    let map = map_of(&Record::decode(old.to_owned()).unwrap());
    assert_eq!(map["user_id"], r#""ferris""#);
    assert_eq!(map["counter"], "7");
    assert_eq!(map["v"], "1");
    assert_eq!(map["state"], r#"{"a":[1,2]}"#);
    let empty = Record::decode("{}".to_owned()).unwrap();
    assert!(empty.state().is_empty());
}

#[test]
fn what_is_no_record_of_this_version_is_refused() {
    for text in [
        "",
        "null",
        "[]",
        "7",
        "\"text\"",
        "{",
        r#"{"v":2,"state":{}}"#,
        r#"{"v":1}"#,
        r#"{"v":1,"state":[]}"#,
        r#"{"a":1}"#,
        r#"{"v":1,"state":{}} x"#,
        r#"{"v":1,"state":{},"v":2}"#,
        r#"{"v":-1,"state":{}}"#,
    ] {
        assert!(Record::decode(text.to_owned()).is_err(), "{text}");
    }
    let newer = Record::decode(r#"{"v":2,"state":{}}"#.to_owned()).unwrap_err();
    assert!(newer.to_string().contains("newer"));
}

/// The parser accepts half a surrogate pair in a value that it skips, but no string can hold it.
#[test]
fn a_flat_record_with_a_value_that_no_string_holds_is_refused_whole() {
    for value in [r"\ud800", r"\udc00x", r"\ud83d\u0041"] {
        let text = format!(r#"{{"a":"1","b":"{value}"}}"#);
        assert!(serde_json::from_str::<BTreeMap<String, String>>(&text).is_err());
        assert!(Record::decode(text).is_err(), "{value}");
    }
    assert!(Record::decode(r#"{"b":"\ud83d\ude00"}"#.to_owned()).is_ok());
}

#[test]
fn metadata_that_cannot_be_read_is_not_passed_over() {
    let damaged = [
        r#"{"v":1,"f":"nonsense","state":{"n":1}}"#,
        r#"{"v":1,"f":7,"state":{"n":1}}"#,
        r#"{"f":"nonsense","state":{"n":1},"v":1}"#,
        r#"{"n":"1","__actix_session":"nonsense"}"#,
        r#"{"n":"1","__actix_session":"\"nonsense\""}"#,
    ];
    for text in damaged {
        assert!(Record::decode(text.to_owned()).is_err(), "{text}");
    }
    let map = |metadata: &str| HashMap::from([(RESERVED.to_owned(), metadata.to_owned())]);
    assert!(Record::from_stored(map("nonsense")).is_err());
    assert!(Record::from_stored(HashMap::new()).is_ok());
}

#[test]
fn blanks_around_a_value_are_kept() {
    let read = Record::decode(r#"{"a":" 1\n"}"#.to_owned()).unwrap();
    let rewritten = written(
        WireFormat::V1,
        1,
        Metadata::new(1, Millis(0)),
        &map_of(&read),
    );
    let again = Record::decode(rewritten.as_text().unwrap().to_owned()).unwrap();
    assert_eq!(again.state().get("a").unwrap(), " 1\n");
}

#[test]
fn a_value_that_is_no_json_is_kept_as_it_is() {
    let old = r#"{"odd":"not json","n":"1"}"#;
    let read = Record::decode(old.to_owned()).unwrap();
    let metadata = Metadata::new(1, Millis(0));
    let map: BTreeMap<_, _> = map_of(&read);
    let rewritten = written(WireFormat::V1, 1, metadata, &map);
    let again = Record::decode(rewritten.as_text().unwrap().to_owned()).unwrap();
    assert_eq!(again.state().get("odd").unwrap(), "not json");
    assert_eq!(again.state().get("n").unwrap(), "1");
}

#[test]
fn of_entries_of_one_name_the_last_counts_however_many_there_are() {
    for many in [2, 100_000] {
        let entries: Vec<String> = (0..many).map(|n| format!("\"a\":{n}")).collect();
        let text = format!("{{\"v\":1,\"state\":{{{}}}}}", entries.join(","));
        let read = Record::decode(text).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read.state().get("a").unwrap(), (many - 1).to_string());
    }
}

#[test]
fn a_hostile_depth_costs_nothing_until_somebody_asks() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let read = Record::decode(format!("{{\"v\":1,\"state\":{{\"a\":{deep}}}}}")).unwrap();
    let value: Result<Value, _> = serde_json::from_str(&read.state().get("a").unwrap());
    assert!(value.is_err());
}

#[test]
fn the_log_sees_no_entry_and_no_principal() {
    let mut metadata = Metadata::new(0x1234_5678, Millis(0));
    metadata.auth = Some(Auth {
        principal: "alice".into(),
        at: Millis(0),
        device: None,
        login: None,
        span: None,
    });
    let map = BTreeMap::from([("token".to_owned(), "\"hunter2\"".to_owned())]);
    let shown = format!("{:?}", written(WireFormat::V1, 1, metadata, &map));
    assert!(!shown.contains("hunter2") && !shown.contains("token") && !shown.contains("alice"));
}

#[test]
fn a_clear_whose_epoch_is_not_kept_any_more_does_not_matter() {
    let of = |epoch: u64| Record::empty().with_epoch_beside(Some(epoch));
    let is_older = |base: u64, stored: u64| of(base).is_from_before_clear(&of(stored));
    assert!(is_older(0, 7) && is_older(5, 7));
    assert!(!is_older(7, 7) && !is_older(7, 0) && !is_older(0, 0));
    // A text that keeps the epoch counts for more than what lies beside it.
    assert_eq!(of(7).with_epoch_beside(Some(9)).epoch(), 7);
    assert_eq!(of(7).epoch_since(&of(0)), Some(7));
    assert_eq!(of(7).epoch_since(&of(7)), None);
}
