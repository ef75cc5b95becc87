//! What is spliced is what would be written anew.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    super::{Draft, Record, WireFormat, metadata::tests::metadata},
    Values,
};

/// A name and a number, with a text beside it that has commas and braces.
fn json(number: u16) -> String {
    format!(
        r#"{{"n":{number},"text":",}}{}"}}"#,
        "x".repeat(usize::from(number % 50))
    )
}

fn entries(names: impl IntoIterator<Item = String>) -> BTreeMap<String, String> {
    let names = names.into_iter().enumerate();
    names
        .map(|(index, name)| (name, index.to_string()))
        .collect()
}

fn written(map: &BTreeMap<String, String>, metadata: super::super::Metadata) -> Record {
    let entries: Vec<_> = map
        .iter()
        .map(|(name, json)| (name.into(), json.into()))
        .collect();
    Record::written(WireFormat::V1, 1, metadata, &entries)
}

/// Names and texts in the order of the record, as its writer knows them.
fn in_order(record: &Record) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    record
        .state()
        .for_each(|name, json| entries.push((name.to_owned(), json.into_owned())));
    entries
}

proptest! {
    #[test]
    fn changed_entries_change_and_others_stay(
        names in proptest::collection::btree_set("[a-z]{1,9}", 0..24),
        changed in proptest::collection::vec((any::<prop::sample::Index>(), proptest::option::of(any::<u16>())), 0..6),
        added in proptest::collection::btree_map("[A-Z]{1,9}|\"[A-Z]", proptest::option::of(any::<u16>()), 0..4),
        before in metadata(),
        after in metadata(),
    ) {
        let mut map = entries(names);
        let stored = written(&map, before);
        let mut values: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (place, number) in changed {
            if !map.is_empty() {
                let name = map.keys().nth(place.index(map.len())).unwrap();
                values.insert(name.clone(), number.map(json));
            }
        }
        values.extend(added.into_iter().map(|(name, number)| (name, number.map(json))));
        let all: Vec<_> = values.iter().map(|(name, json)| (name.as_str(), json.as_deref().map(Into::into))).collect();
        let new = onto(&stored, &all, after.clone());
        for (name, json) in &values {
            match json {
                Some(json) => drop(map.insert(name.clone(), json.clone())),
                None => drop(map.remove(name)),
            }
        }
        let text = new.as_text().unwrap();
        let read = Record::decode(text.to_owned()).unwrap();
        prop_assert_eq!(in_order(&read), in_order(&new), "{}", text);
        prop_assert_eq!(in_order(&new).into_iter().collect::<BTreeMap<_, _>>(), map);
        prop_assert_eq!((read.metadata(), read.commit_id()), (Some(&after), 2));
        prop_assert_eq!(new.metadata(), Some(&after));
    }
}

fn onto(stored: &Record, values: &Values<'_>, metadata: super::super::Metadata) -> Record {
    Draft::new(WireFormat::V1, 2, metadata).write_onto(stored, values)
}

#[test]
fn a_changed_entry_keeps_its_place_and_the_text_its_room() {
    let text = r#"{"v":1,"f":"0000000000000001.00000000000000000000000000000007.5...0.","state":{"a":1,"b":[2],"c":3}}"#;
    let stored = Record::decode(text.to_owned()).unwrap();
    let metadata = stored.metadata().unwrap().clone();
    let spliced = |values: &Values<'_>| {
        let new = onto(&stored, values, metadata.clone());
        let (_, state) = new.as_text().unwrap().split_once("state\":").unwrap();
        state.to_owned()
    };
    let same = onto(&stored, &[], metadata.clone());
    let after = text.replacen("0000000000000001", "0000000000000002", 1);
    assert_eq!(same.as_text(), Some(&*after));
    let mut other = metadata.clone();
    other.created = super::super::Millis(6);
    let other = onto(&stored, &[], other);
    assert_eq!(other.as_text(), Some(&*after.replacen(".5.", ".6.", 1)));
    let some = |json: &'static str| Some(json.into());
    assert_eq!(spliced(&[]), r#"{"a":1,"b":[2],"c":3}}"#);
    assert_eq!(
        spliced(&[("b", some("true"))]),
        r#"{"a":1,"b":true,"c":3}}"#
    );
    assert_eq!(spliced(&[("c", None)]), r#"{"a":1,"b":[2]}}"#);
    assert_eq!(spliced(&[("a", None)]), r#"{"b":[2],"c":3}}"#);
    assert_eq!(spliced(&[("b", None), ("a", None)]), r#"{"c":3}}"#);
    let all = [("b", None), ("a", None), ("c", None)];
    assert_eq!(spliced(&all), "{}}");
    let more = [("d", some("4")), ("c", None), ("x", None)];
    assert_eq!(spliced(&more), r#"{"a":1,"b":[2],"d":4}}"#);
}

/// What is not of our writing may say one thing twice: only the last of it counts, and nothing else comes
/// back.
#[test]
fn what_was_read_as_gone_stays_gone() {
    let of = |between: &str, state: &str| {
        let head = r#"{"v":1,"f":"0000000000000001.00000000000000000000000000000007.5...0.""#;
        let text = format!("{head}{between},\"state\":{{{state}}}}}");
        let stored = Record::decode(text).unwrap();
        let metadata = stored.metadata().unwrap().clone();
        let new = onto(&stored, &[("a", None)], metadata);
        new.as_text().unwrap().to_owned()
    };
    let after = of("", "");
    assert_eq!(of("", r#""a":2"#), after);
    assert_eq!(of("", r#""a":1,"a":2"#), after);
    assert_eq!(of(r#","later":1"#, r#""a":2"#), after);
}
