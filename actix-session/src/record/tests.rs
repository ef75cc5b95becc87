//! Formats, by properties and by the texts that older versions wrote.

use std::collections::{BTreeMap, HashMap};

use actix_web::cookie::Key;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{format::is_json, metadata::tests::metadata, *};

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
    let keys = keys(1);
    let draft = Draft {
        keys: Some(&keys),
        place: PLACE,
        ..Draft::new(format, commit, metadata)
    };
    draft.write(&entries, false)
}

const FORMATS: [WireFormat; 2] = [WireFormat::V1, WireFormat::V0_11];
const PLACE: Place<'_> = Place::Named("a record");

fn keys(byte: u8) -> Arc<MetadataKeys> {
    Arc::new(MetadataKeys::new(&Key::from(&[byte; 64]), &[]))
}

/// As a store of the middleware that wrote the text reads it.
fn read(text: &str) -> Record {
    let record = Record::decode(text.to_owned()).unwrap();
    record.proven(PLACE, Some(&keys(1)))
}

/// Whether these metadata are an entry for the five methods, or for old servers. There an idle end
/// alone is none.
fn has_entry(format: WireFormat, metadata: &Metadata) -> bool {
    let in_blanks = metadata.idle_end.and_then(blanks::of).is_some();
    let in_blanks = in_blanks && format == WireFormat::V0_11;
    let rest = Metadata {
        idle_end: metadata.idle_end.filter(|_| !in_blanks),
        ..metadata.clone()
    };
    rest.say_more() || rest.epoch != 0
}

fn logged_in(principal: &str) -> Metadata {
    Metadata {
        auth: Some(Auth::new(principal, Millis(9)).into()),
        ..Metadata::new(7, Millis(5))
    }
}

fn map_of(record: &Record) -> BTreeMap<String, String> {
    record.to_map().into_iter().collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read(map in entries(), metadata in metadata(), commit: u64) {
        for format in FORMATS {
            let record = written(format, commit, metadata.clone(), &map);
            prop_assert_eq!(map_of(&record), map.clone(), "the writer's own view, {:?}", format);
            let text = record.as_text().unwrap().to_owned();
            let read = read(&text);
            prop_assert_eq!(map_of(&read), map.clone());
            let kept = format == WireFormat::V1 || has_entry(format, &metadata);
            prop_assert_eq!(read.metadata(), kept.then_some(&metadata));
            prop_assert_eq!(record.metadata(), read.metadata(), "and its writer sees no more");
            prop_assert_eq!(read.commit_id(), if kept { commit } else { 0 });
            prop_assert!(read.is_same_commit(&record) && read.is_same_session(&record));
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
        for format in FORMATS {
            let says_more = has_entry(format, &metadata);
            let record = written(format, commit, metadata.clone(), &map);
            let back = Record::from_map(record.to_map_with_metadata());
            prop_assert_eq!(back.metadata(), None, "not without a key");
            let back = back.proven(Place::Unnamed, Some(&keys(1)));
            prop_assert_eq!(map_of(&back), map.clone());
            prop_assert_eq!(back.metadata(), says_more.then_some(&metadata));
            prop_assert_eq!(back.commit_id(), if says_more { commit } else { 0 });
        }
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
        let says_more = has_entry(WireFormat::V0_11, &metadata);
        let record = written(WireFormat::V0_11, 7, metadata, &map);
        let mut old: BTreeMap<String, String> =
            serde_json::from_str(record.as_text().unwrap()).unwrap();
        let reserved = old.remove(RESERVED);
        prop_assert_eq!(reserved.is_some(), says_more);
        // Old servers parse a value if asked for it, so this one must be JSON like all others.
        prop_assert!(reserved.is_none_or(|json| is_json(&json)));
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
        // A text may go on with blanks.
        let place = cut.index(bytes.trim_ascii_end().len());
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
    ];
    for text in damaged {
        assert!(Record::decode(text.to_owned()).is_err(), "{text}");
    }
}

/// An application on an old server can set the reserved entry to anything.
#[test]
fn an_entry_without_our_mac_gives_nothing() {
    let record = written(WireFormat::V0_11, 1, logged_in("alice"), &BTreeMap::new());
    let text = record.as_text().unwrap();
    assert_eq!(read(text).principal(), Some("alice"));

    let mac = text.split_once(':').unwrap().1.split_once(':').unwrap();
    let (metadata, mac) = (mac.0.trim_start_matches("\"\\\""), &mac.1[..43]);
    let forged = [
        "nonsense".to_owned(),
        metadata.to_owned(),
        format!("{metadata}:"),
        format!("{metadata}:{}", "A".repeat(43)),
        format!("{metadata}:{}", &mac[..42]),
        format!("{metadata}:{mac}:{mac}"),
        format!("{}:{mac}", metadata.replacen('7', "8", 1)),
        format!("{metadata}.:{mac}"),
    ];
    for forged in forged {
        let text = format!(r#"{{"n":"1","{RESERVED}":"\"{forged}\""}}"#);
        let read = read(&text);
        assert_eq!((read.metadata(), read.times()), (None, None), "{forged}");
        assert_eq!((read.commit_id(), read.epoch()), (0, 0), "{forged}");
        let map = read.to_map_with_metadata();
        assert_eq!(map, HashMap::from([("n".to_owned(), "1".to_owned())]));
    }
    for json in [
        "nonsense",
        "\"nonsense\"",
        "7",
        "null",
        r#""1.7.5...0.\":\"""#,
    ] {
        let map = HashMap::from([(RESERVED.to_owned(), json.to_owned())]);
        assert_eq!(Record::from_map(map).times(), None, "{json}");
    }
}

#[test]
fn a_mac_holds_for_one_record_under_the_key_that_made_it() {
    let record = written(WireFormat::V0_11, 1, logged_in("alice"), &BTreeMap::new());
    let text = record.as_text().unwrap().to_owned();
    let principal = |place, keys: Option<Arc<MetadataKeys>>| {
        let record = Record::decode(text.clone()).unwrap();
        let record = record.proven(place, keys.as_ref());
        record.principal().map(str::to_owned)
    };
    assert_eq!(principal(PLACE, Some(keys(1))).as_deref(), Some("alice"));
    let copied = Place::Named("another record");
    for (place, keys) in [
        (copied, Some(keys(1))),
        (Place::Unnamed, Some(keys(1))),
        (PLACE, Some(keys(2))),
        (PLACE, None),
    ] {
        assert_eq!(principal(place, keys), None, "{place:?}");
    }
}

/// What has no key passes the entry on as it is, and gives no rights.
#[test]
fn without_a_key_the_entry_stays_as_it_is() {
    let record = written(WireFormat::V0_11, 1, logged_in("alice"), &BTreeMap::new());
    let text = record.as_text().unwrap();
    let unread = Record::decode(text.to_owned()).unwrap();
    assert_eq!((unread.principal(), unread.id()), (None, None));
    assert_eq!(unread.times().unwrap().since(), Millis(9));
    let copied = Record::from_map(unread.to_map_with_metadata()).with_claim_as_it_is();
    assert_eq!(copied.as_text(), Some(text));
}

/// As a program does that calls `update` itself, and has no key.
#[test]
fn an_update_by_a_program_keeps_what_it_brings_back_and_logs_in_nobody() {
    for format in FORMATS {
        let stored = written(format, 1, logged_in("alice"), &BTreeMap::new());
        let stored = Record::decode(stored.as_text().unwrap().to_owned()).unwrap();
        let updated = |map| Record::from_map(map).in_place_of(&stored, true);
        let mut map = stored.to_map_with_metadata();
        let reserved = map.insert(RESERVED.to_owned(), "\"1.9.5...0..3.YQ:x\"".to_owned());
        let forged = updated(map.clone());
        assert_eq!((forged.principal(), forged.id()), (None, None));
        map.insert(RESERVED.to_owned(), reserved.unwrap());
        let same = updated(map);
        assert_eq!(same.metadata(), stored.metadata());
        assert_eq!(same.times(), stored.times());
        let bare = updated(HashMap::new());
        assert_eq!(bare.principal(), None);
        let known = stored.id().is_some();
        assert_eq!(
            bare.times().map(|times| times.created),
            known.then_some(Millis(5))
        );
        assert!(!known || bare.id() != stored.id());
    }
}

#[test]
fn a_record_for_old_servers_says_no_more_than_it_must() {
    let map = BTreeMap::from([("n".to_owned(), "1".to_owned())]);
    let plain = written(WireFormat::V0_11, 1, Metadata::new(7, Millis(5)), &map);
    assert_eq!(plain.as_text(), Some(r#"{"n":"1"}"#));
    let empty = written(
        WireFormat::V0_11,
        1,
        Metadata::new(7, Millis(5)),
        &BTreeMap::new(),
    );
    assert_eq!(empty.as_text(), Some("{}"));
    for says_more in [
        logged_in("alice"),
        Metadata {
            ttl: Some(Millis(1)),
            ..Metadata::new(7, Millis(5))
        },
        Metadata {
            absolute_end: Some(Millis(1)),
            ..Metadata::new(7, Millis(5))
        },
    ] {
        let record = written(WireFormat::V0_11, 1, says_more.clone(), &map);
        let text = record.as_text().unwrap();
        assert!(text.contains(RESERVED));
        assert_eq!(read(text).metadata(), Some(&says_more));
    }
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
    let metadata = logged_in("alice");
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

#[test]
fn an_epoch_that_leaves_the_text_stays_beside_the_record() {
    let metadata = Metadata {
        epoch: 9,
        ..logged_in("alice")
    };
    let before = written(WireFormat::V1, 1, metadata.clone(), &BTreeMap::new());
    let keys = keys(1);
    let draft = Draft {
        keys: Some(&keys),
        place: PLACE,
        keeps_epoch: false,
        ..Draft::new(WireFormat::V0_11, 2, metadata)
    };
    let new = draft.write(&[], true);
    assert_eq!((new.epoch(), new.epoch_since(&before)), (9, Some(9)));
    let read = |beside| {
        let record = Record::decode(new.as_text().unwrap().to_owned()).unwrap();
        let record = record.with_epoch_beside(beside);
        record.proven(PLACE, Some(&keys))
    };
    for beside in [None, Some(9)] {
        let read = read(beside);
        assert_eq!(read.epoch(), beside.unwrap_or_default());
        assert_eq!(read.principal(), Some("alice"));
    }
    assert_eq!(new.epoch_since(&read(Some(9))), None, "it is there");
}

/// Nobody writes such a text, and the general reader reads it.
#[test]
fn metadata_with_an_escape_are_read() {
    let plain = r#"{"v":1,"f":"0000000000000001.000a7.5...0.","state":{"n":1}}"#;
    let escaped = plain.replace("000a7", r"000\u00617");
    let ids = [plain, &escaped].map(|text| Record::decode(text.to_owned()).unwrap().id());
    assert_eq!(ids, [Some(0xa7); 2]);
}
