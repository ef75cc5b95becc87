//! What a stored text means, read with `serde_json` alone, and what must hold for it.

use std::collections::{BTreeMap, HashMap};

use actix_session::{
    fuzzing::{self, Doing, Read, Told, WireFormat},
    storage::{Changes, Merged, Record, Terms},
};
use serde_json::value::RawValue;

/// The entry that carries the metadata in a map of strings.
pub const RESERVED: &str = "__actix_session";

/// Entries and their JSON texts.
pub type Map = BTreeMap<String, String>;

/// A text that can be read.
#[derive(Debug)]
pub struct Meaning {
    /// The entries, without the reserved one.
    pub entries: Map,
    /// The metadata, if there is any.
    pub metadata: Option<Told>,
    /// An application on an old server can have written the metadata.
    pub claimed: bool,
    /// The time in blanks behind the text, which a cookie's end may be.
    pub blanks: Option<i64>,
}

/// What actix-session 0.6 to 0.11 sees in a text.
pub fn old_reader(text: &str) -> Option<HashMap<String, String>> {
    serde_json::from_str(text).ok()
}

/// What a text means; `None` if it must be refused.
pub fn meaning(text: &str) -> Option<Meaning> {
    if let Some(flat) = old_reader(text) {
        let mut entries: Map = flat.into_iter().collect();
        let reserved = entries.remove(RESERVED);
        let blanks = time_in_blanks(text);
        let told = reserved.and_then(|json| metadata_in(&json));
        return Some(Meaning {
            entries,
            metadata: told.map(|told| Told {
                idle_end: told.idle_end.or(blanks),
                ..told
            }),
            claimed: true,
            blanks,
        });
    }
    let outer: HashMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
    if outer.get("v")?.get() != "1" {
        return None;
    }
    let state: HashMap<String, Box<RawValue>> =
        serde_json::from_str(outer.get("state")?.get()).ok()?;
    let metadata = match outer.get("f") {
        Some(raw) => Some(fuzzing::metadata(
            &serde_json::from_str::<String>(raw.get()).ok()?,
        )?),
        None => None,
    };
    let entries = state.into_iter();
    let entries = entries.map(|(name, json)| (name, json.get().to_owned()));
    Some(Meaning {
        entries: entries.filter(|(name, _)| name != RESERVED).collect(),
        metadata,
        claimed: false,
        blanks: None,
    })
}

/// 24 blanks of two bits each.
fn time_in_blanks(text: &str) -> Option<i64> {
    let kinds = [' ', '\t', '\n', '\r'];
    let (_, blanks) = text.split_at(text.trim_end_matches(kinds).len());
    let bits = blanks.chars().map(|blank| match blank {
        ' ' => 0,
        '\t' => 1,
        '\n' => 2,
        _ => 3,
    });
    (blanks.len() == 24).then(|| bits.fold(0, |time, bits| time * 4 + bits))
}

/// The metadata before the MAC; what cannot be read says nothing.
pub fn metadata_in(json: &str) -> Option<Told> {
    let text: String = serde_json::from_str(json).ok()?;
    let (metadata, mac) = text.split_once(':').unwrap_or((&text, ""));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~".contains(&byte);
    fuzzing::metadata(metadata).filter(|_| mac.bytes().all(plain))
}

/// Whether a text in an envelope can be read again as it was.
fn is_json(text: &str) -> bool {
    let read = serde_json::from_str::<Box<RawValue>>(text);
    read.is_ok_and(|raw| raw.get() == text)
}

fn entries(record: &Record) -> Map {
    record.to_map().into_iter().collect()
}

/// The metadata that a record says. Through the published methods go those that say more than the
/// defaults do, and claims.
pub fn metadata(record: &Record) -> Option<Told> {
    let own = Read::from(record.clone()).told;
    let carried = carried(record);
    match (&own, &carried) {
        (Some(own), Some(carried)) => assert_eq!(own, carried),
        (Some(own), None) => assert!(!says_more(own), "{own:?} must be carried"),
        (None, _) => {}
    }
    carried.or(own)
}

fn carried(record: &Record) -> Option<Told> {
    let map = record.to_map_with_metadata();
    let json = map.get(RESERVED)?;
    Some(metadata_in(json).expect("the reserved entry is JSON, and holds metadata"))
}

fn says_more(told: &Told) -> bool {
    let default = Told {
        commit: told.commit,
        id: told.id,
        created: told.created,
        ..Told::default()
    };
    *told != default
}

/// Checks all that must hold for any text.
pub fn check(text: &str) {
    let read = Record::decode(text.to_owned());
    let Some(expected) = meaning(text) else {
        assert!(read.is_err(), "an unreadable text must be refused");
        return;
    };
    let read = read.expect("a text of a known format is read");
    assert_eq!(entries(&read), expected.entries);
    assert_eq!(metadata(&read), expected.metadata);
    assert_eq!(read.as_text(), Some(text), "the text itself is kept");
    for (name, json) in &expected.entries {
        assert_eq!(fuzzing::value(&read, name).as_ref(), Some(json));
    }
    let again = Record::from_map(read.to_map_with_metadata());
    assert_eq!(entries(&again), expected.entries, "through a map");
    assert_eq!(metadata(&again), carried(&read));
    let proven = (!expected.claimed)
        .then_some(())
        .and(expected.metadata.as_ref());
    for format in [WireFormat::V1, WireFormat::V0_11] {
        rewrite(&read, &expected.entries, proven, format);
        // Without a MAC it is a claim, from wherever it came.
        rewrite(&again, &expected.entries, None, format);
        change_one(&read, &expected.entries, proven, format);
    }
}

fn terms(format: WireFormat) -> Terms {
    Terms::default()
        .with_now(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000))
        .with_format(format)
}

fn merged(record: &Record, doing: Doing, format: WireFormat) -> Record {
    let changes = Changes::from(doing);
    let merged = changes.made_on(record).merge_into(record, &terms(format));
    match merged.expect("what is set is JSON and short") {
        Merged::Write(record) => record,
        other => panic!("a record has its own epoch: {other:?}"),
    }
}

/// A rewritten record says the same, and old servers can read what is written for them.
fn rewrite(read: &Record, expected: &Map, told: Option<&Told>, format: WireFormat) {
    let written = merged(read, Doing::default(), format);
    same(&written, expected, told, format);
}

/// A change of one entry leaves the others as they are, byte by byte.
fn change_one(read: &Record, expected: &Map, told: Option<&Told>, format: WireFormat) {
    let mut map = expected.clone();
    let mut doing = Doing::default();
    if let Some((first, _)) = map.pop_first() {
        doing.entries.push((first, None));
    }
    let (name, json) = ("\"odd\" \u{7f}\n", r#"{"a":[1.0e2,"\u00e9"]}"#);
    map.insert(name.into(), json.into());
    doing.entries.push((name.into(), Some(json.into())));
    let written = merged(read, doing, format);
    same(&written, &map, told, format);
}

fn same(written: &Record, map: &Map, told: Option<&Told>, format: WireFormat) {
    assert_eq!(&entries(written), map, "the writer's own view");
    let text = written.as_text().expect("a written record has a text");
    let read = Record::decode(text.to_owned()).expect("what was written is read");
    assert_eq!(&entries(&read), map, "{text}");
    let new = metadata(&read);
    if let Some(told) = told {
        let new = new.as_ref().expect("what is known stays");
        // For old servers the epoch lies elsewhere.
        let epoch = if format == WireFormat::V1 {
            told.epoch
        } else {
            0
        };
        let kept = Told {
            commit: new.commit,
            idle_end: None,
            epoch,
            ..told.clone()
        };
        assert_eq!(new, &kept);
    }
    if format == WireFormat::V1 && map.values().all(|json| is_json(json)) {
        let commit = new.expect("an envelope has metadata").commit;
        let start = format!(r#"{{"v":1,"f":"{commit:016x}."#);
        assert!(text.starts_with(&start), "compare-and-set compares this");
        return;
    }
    let mut old: Map = old_reader(text)
        .expect("old servers read it")
        .into_iter()
        .collect();
    let reserved = old.remove(RESERVED);
    let needed = told.is_some() || format == WireFormat::V1;
    assert_eq!(
        reserved.is_some(),
        needed,
        "no entry more than the program's"
    );
    assert!(
        reserved.is_none_or(|json| is_json(&json)),
        "as all entries of old servers are"
    );
    assert_eq!(&old, map);
}
