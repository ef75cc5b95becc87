//! Merging, forwarding and metadata, by properties.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    contract::IdleEnd,
    error::StateTooLarge,
    record::{Metadata, Place, WireFormat},
};

type Map = BTreeMap<String, String>;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn stamp(commit: u64) -> Stamp<'static> {
    Stamp {
        commit,
        fresh_id: 7,
        now: Millis(1_000),
        absolute: None,
        format: WireFormat::V1,
        max_state: 1 << 20,
        idle_ttl: None,
        new_id: false,
        idle: IdleEnd::Anew,
        keys: None,
        place: Place::Unnamed,
        keeps_epoch: true,
        keeps_entry: false,
        principal_entry: None,
        lists: false,
    }
}

fn record(map: &Map) -> Record {
    let entries: Vec<_> = map
        .iter()
        .map(|(n, v)| (n.as_str().into(), v.as_str().into()))
        .collect();
    Record::written(WireFormat::V1, 1, Metadata::new(7, Millis(0)), &entries)
}

fn map_of(record: &Record) -> Map {
    record.to_map().into_iter().collect()
}

fn maps() -> impl Strategy<Value = Map> {
    let entry = (prop::sample::select(NAMES.to_vec()), 0..9_u8);
    prop::collection::vec(entry, 0..6).prop_map(|all| {
        all.into_iter()
            .map(|(n, v)| (n.to_owned(), v.to_string()))
            .collect()
    })
}

#[derive(Debug, Clone)]
enum Act {
    Set(u8),
    Remove,
    Add(u8),
}

fn acts() -> impl Strategy<Value = BTreeMap<&'static str, Act>> {
    let act = prop_oneof![
        (0..99_u8).prop_map(Act::Set),
        Just(Act::Remove),
        (1..9_u8).prop_map(Act::Add),
    ];
    prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), act, 0..5)
}

fn add(n: u8) -> Modify {
    let run = move |stored: Option<&str>| {
        let before: i64 = stored.map_or(Ok(0), str::parse)?;
        Ok(Some((before + i64::from(n)).to_string()))
    };
    Modify(Arc::new(run), None)
}

fn changes(acts: &BTreeMap<&'static str, Act>) -> Changes {
    let mut changes = Changes::default();
    for (name, act) in acts {
        let effect = match act {
            Act::Set(n) => Effect::Set(n.to_string()),
            Act::Remove => Effect::Removed,
            Act::Add(n) => Effect::Modify(vec![add(*n)]),
        };
        changes.effects.set(*name, effect);
    }
    changes
}

fn after(act: &Act, before: Option<&String>) -> Option<String> {
    match act {
        Act::Set(n) => Some(n.to_string()),
        Act::Remove => None,
        Act::Add(n) => {
            let before: i64 = before.map_or(0, |b| b.parse().unwrap());
            Some((before + i64::from(*n)).to_string())
        }
    }
}

fn write(applied: Result<Applied, ApplyError>) -> Record {
    match applied {
        Ok(Applied::Write(record)) => record,
        other => panic!("expected a record, got {other:?}"),
    }
}

/// More acts on top, as a request adds them.
fn add_acts(changes: &mut Changes, acts: &BTreeMap<&'static str, Act>) -> Since {
    let mut since = Since::default();
    for (name, act) in acts {
        let known = changes.effects.get(name).cloned();
        let effect = match (known, act) {
            (Some(Effect::Modify(mut all)), Act::Add(n)) => {
                all.push(add(*n));
                Effect::Modify(all)
            }
            (Some(Effect::Set(json)), Act::Add(_)) => {
                after(act, Some(&json)).map_or(Effect::Removed, Effect::Set)
            }
            (Some(Effect::Removed), Act::Add(_)) => {
                after(act, None).map_or(Effect::Removed, Effect::Set)
            }
            (_, Act::Set(n)) => Effect::Set(n.to_string()),
            (_, Act::Remove) => Effect::Removed,
            (None, Act::Add(n)) => Effect::Modify(vec![add(*n)]),
        };
        if !matches!(effect, Effect::Modify(_)) {
            since.names.insert((*name).to_owned());
        }
        changes.effects.set(*name, effect);
    }
    since
}

proptest! {
    /// What is committed in two parts comes to what one commit would have written.
    #[test]
    fn what_was_saved_is_not_applied_again(stored in maps(), first in acts(), second in acts()) {
        let saved = changes(&first);
        let mut all = saved.clone();
        let since = add_acts(&mut all, &second);
        let at_once = write(overwrite(&record(&stored), &all, stamp(2)));
        let base = write(overwrite(&record(&stored), &saved, stamp(2)));
        all.forget(&saved, &since);
        let in_parts = write(overwrite(&base, &all, stamp(3)));
        prop_assert_eq!(map_of(&in_parts), map_of(&at_once));
        let nothing_new = second.is_empty();
        prop_assert!(!nothing_new || all.is_empty());
    }

    #[test]
    fn a_merge_changes_what_it_names_and_nothing_else(stored in maps(), acts in acts()) {
        let merged = write(overwrite(&record(&stored), &changes(&acts), stamp(2)));
        let mut expected = stored.clone();
        for (name, act) in &acts {
            match after(act, stored.get(*name)) {
                Some(value) => expected.insert((*name).to_owned(), value),
                None => expected.remove(*name),
            };
        }
        prop_assert_eq!(map_of(&merged), expected);
        prop_assert_eq!(merged.commit_id(), 2);
    }

    /// Disjoint changes of two requests are both kept, whichever commits first.
    #[test]
    fn no_disjoint_change_is_lost(base in maps(), one in acts(), two in acts()) {
        let two: BTreeMap<_, _> =
            two.into_iter().filter(|(name, _)| !one.contains_key(name)).collect();
        let base = record(&base);
        let both = |first: &Changes, second: &Changes| {
            let stored = write(overwrite(&base, first, stamp(2)));
            map_of(&write(overwrite(&stored, second, stamp(3))))
        };
        let (one, two) = (changes(&one), changes(&two));
        prop_assert_eq!(both(&one, &two), both(&two, &one));
    }

    #[test]
    fn a_clear_starts_from_nothing_and_counts_by_its_epoch(stored in maps(), acts in acts()) {
        let mut changes = changes(&acts);
        changes.cleared = Some(9);
        let merged = write(overwrite(&record(&stored), &changes, stamp(2)));
        let expected: Map = acts
            .iter()
            .filter_map(|(name, act)| Some(((*name).to_owned(), after(act, None)?)))
            .collect();
        prop_assert_eq!(map_of(&merged), expected);
        prop_assert_eq!(merged.epoch(), 9);
        prop_assert_ne!(merged.id(), Some(7), "a logout draws another id");
    }

    /// Behind a redirect, or after a lost answer, an effect happens only if nothing else changed
    /// the entry.
    #[test]
    fn guarded_effects_touch_only_what_is_as_it_was(
        base in maps(),
        stored in maps(),
        acts in acts(),
    ) {
        let (base_record, stored_record) = (record(&base), record(&stored));
        let left = reduce(&changes(&acts), &stored_record, Some(&base_record));
        let got = match write_reduced(&stored_record, &left, stamp(2)).unwrap() {
            Applied::Write(record) => map_of(&record),
            _ => stored.clone(),
        };
        let mut expected = stored.clone();
        for (name, act) in &acts {
            let unchanged = base.get(*name) == stored.get(*name);
            if unchanged || matches!(act, Act::Add(_)) {
                match after(act, stored.get(*name)) {
                    Some(value) => expected.insert((*name).to_owned(), value),
                    None => expected.remove(*name),
                };
            }
        }
        prop_assert_eq!(got, expected);
    }

    /// To apply changes twice is to apply them once, unless one of them is a `modify`.
    #[test]
    fn a_repeat_after_it_was_applied_writes_nothing(base in maps(), acts in acts()) {
        let acts: BTreeMap<_, _> =
            acts.into_iter().filter(|(_, act)| !matches!(act, Act::Add(_))).collect();
        let base = record(&base);
        let changes = changes(&acts);
        let applied = write(overwrite(&base, &changes, stamp(2)));
        let left = reduce(&changes, &applied, Some(&base));
        prop_assert!(matches!(write_reduced(&applied, &left, stamp(3)), Ok(Applied::Nothing)));
    }

    #[test]
    fn a_forwarded_clear_takes_the_login_and_what_the_base_held(base in maps(), stored in maps()) {
        let stored_record = logged_in(&stored, "alice");
        let cleared =
            forwarded_clear(&stored_record, Some(&record(&base)), 5, stamp(2));
        let expected: Map = stored
            .iter()
            .filter(|(name, value)| base.get(*name) != Some(value))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        prop_assert_eq!(map_of(&cleared), expected);
        prop_assert_eq!(cleared.principal(), None);
        prop_assert_eq!(cleared.epoch(), 5);
        prop_assert_ne!(cleared.id(), stored_record.id());
    }

    #[test]
    fn nothing_changed_is_seen(base in maps(), acts in acts()) {
        let changes = changes(&acts);
        let unchanged = acts.iter().all(|(name, act)| {
            after(act, base.get(*name)).as_ref() == base.get(*name)
        });
        prop_assert_eq!(changes.leave_unchanged(&record(&base)), unchanged);
    }
}

fn logged_in(map: &Map, principal: &str) -> Record {
    write(overwrite(&record(map), &login(principal, 500), stamp(1)))
}

fn login(principal: &str, at: i64) -> Changes {
    let login = LoginChange {
        principal: principal.into(),
        at: Millis(at),
        device: None,
        proven: None,
        id: 99,
        span: None,
        keep_times: false,
        level: Default::default(),
        demand: String::new(),
        origin: None,
        by_entry: false,
    };
    Changes {
        login: Some(login.into()),
        ..Changes::default()
    }
}

fn some_map() -> Map {
    Map::from([("a".to_owned(), "1".to_owned())])
}

#[test]
fn the_stored_metadata_stands_and_only_what_the_request_set_comes_on_top() {
    let changes = Changes {
        ttl: Some(TtlChange::Set(Millis(5))),
        ..Changes::default()
    };
    let with_ttl = write(overwrite(
        &logged_in(&some_map(), "alice"),
        &changes,
        stamp(2),
    ));
    let other = Changes {
        effects: [("b".into(), Effect::Set("2".into()))].into(),
        ..Default::default()
    };
    let merged = write(overwrite(&with_ttl, &other, stamp(3)));
    assert_eq!(merged.metadata().unwrap().ttl, Some(Millis(5)));
    assert_eq!(merged.principal(), Some("alice"));
    assert_eq!(merged.metadata().unwrap().id, 7);
}

/// What is left for a repeat, or behind a redirect, is set only if nobody has set another since.
#[test]
fn a_ttl_stays_that_somebody_set_since() {
    let with_ttl = |ttl: Option<i64>| {
        let mut metadata = Metadata::new(7, Millis(0));
        metadata.ttl = ttl.map(Millis);
        Record::written(WireFormat::V1, 1, metadata, &[])
    };
    let changes = Changes {
        ttl: Some(TtlChange::Set(Millis(5))),
        ..Changes::default()
    };
    let left = |before, stored| {
        let (before, stored) = (with_ttl(before), with_ttl(stored));
        reduce(&changes, &stored, Some(&before)).ttl.is_some()
    };
    assert!(left(None, None));
    assert!(left(Some(9), Some(9)));
    assert!(!left(None, Some(9)), "somebody has set one");
    assert!(!left(Some(8), Some(9)), "somebody has set another");
    assert!(!left(Some(9), None), "somebody has ended it");
    assert!(reduce(&changes, &with_ttl(None), None).ttl.is_none());
}

#[test]
fn another_persons_login_starts_empty_under_another_id() {
    let alice = logged_in(&some_map(), "alice");
    let again = write(overwrite(&alice, &login("alice", 600), stamp(2)));
    assert_eq!(map_of(&again), some_map());
    assert_eq!(again.metadata().unwrap().id, 7);
    let bob = write(overwrite(&alice, &login("bob", 600), stamp(2)));
    assert!(map_of(&bob).is_empty());
    assert_eq!(bob.metadata().unwrap().id, 99);
    assert_eq!(bob.metadata().unwrap().created, Millis(600));
}

#[test]
fn an_id_is_one_persons() {
    let id = |record: &Record| record.id().unwrap();
    let guest = record(&some_map());
    let alice = logged_in(&some_map(), "alice");
    assert_eq!(id(&alice), id(&guest), "a login from nobody keeps it");
    let renewed = Changes {
        renew: true,
        ..Changes::default()
    };
    assert_eq!(id(&write(overwrite(&alice, &renewed, stamp(2)))), 7);
    let clear = |epoch| Changes {
        cleared: Some(epoch),
        ..Changes::default()
    };
    let cleared = write(overwrite(&alice, &clear(3), stamp(2)));
    let again = write(overwrite(&alice, &clear(4), stamp(2)));
    assert!(id(&cleared) != 7 && id(&again) != 7 && id(&cleared) != id(&again));
    // As a handler does that clears and then logs the same person in.
    let back = Changes {
        cleared: Some(3),
        ..login("alice", 600)
    };
    assert_ne!(id(&write(overwrite(&alice, &back, stamp(2)))), 7);
    let own = write(own_record(&back, stamp(2)));
    assert_eq!(
        id(&own),
        99,
        "of its own changes: the id that the login drew"
    );
}

#[test]
fn what_was_set_before_another_person_logs_in_reaches_nobody() {
    let stored = Map::from([("theirs".to_owned(), "1".to_owned())]);
    let alice = write(overwrite(&record(&stored), &login("alice", 500), stamp(1)));
    let before: Effects = [("draft".into(), Effect::Set("1".into()))].into();
    let mut after = login("bob", 600);
    after.before_login = Some(Box::new(Before::of(&before)));
    after.effects = before;
    after.effects.set("own", Effect::Set("2".into()));
    let own = |base| write(own_record(&after.alone(base), stamp(2))).to_map();
    // Whether there is a record to log in to still, or no more.
    for map in [
        own(Some(&alice)),
        write(overwrite(&alice, &after, stamp(2))).to_map(),
    ] {
        assert!(
            map.contains_key("own") && !map.contains_key("draft"),
            "{map:?}"
        );
    }
    assert!(own(None).contains_key("draft"));
    let terms = Terms::default();
    let renewed = after.made_on(&alice).renew(None, &terms).unwrap().unwrap();
    assert!(!renewed.to_map().contains_key("draft"));
}

fn with_rest(record: &Record) -> Record {
    let metadata = Metadata {
        rest: Some("later~.version".into()),
        ..record.metadata().unwrap().clone()
    };
    let entries: Vec<_> = map_of(record)
        .into_iter()
        .map(|(n, v)| (n.into(), v.into()))
        .collect();
    Record::written(WireFormat::V1, 1, metadata, &entries)
}

#[test]
fn fields_of_a_later_version_stay_as_long_as_the_id() {
    let stored = with_rest(&logged_in(&some_map(), "alice"));
    let rest = |record: &Record| record.metadata().unwrap().rest.clone();
    let kept = rest(&stored);
    let mut changes = vec![Changes::default(), login("alice", 700), set("a", 1)];
    changes[0].renew = true;
    for changes in &changes {
        for format in [WireFormat::V1, WireFormat::V0_11] {
            let stamp = Stamp { format, ..stamp(2) };
            assert_eq!(rest(&write(overwrite(&stored, changes, stamp))), kept);
        }
    }
    assert_eq!(
        rest(&write(write_reduced(&stored, &set("a", 1), stamp(2)))),
        kept
    );
    let cleared = Changes {
        cleared: Some(3),
        ..Changes::default()
    };
    let new_id = Stamp {
        new_id: true,
        ..stamp(2)
    };
    for dropped in [
        write(overwrite(&stored, &cleared, stamp(2))),
        write(overwrite(&stored, &login("bob", 700), stamp(2))),
        forwarded_clear(&stored, None, 3, stamp(2)),
        write(overwrite(
            &stored,
            &Changes::default(),
            Stamp {
                fresh_id: 8,
                ..new_id
            },
        )),
    ] {
        assert_eq!(rest(&dropped), None);
    }
}

#[test]
fn a_reauthentication_needs_somebody_logged_in() {
    let proof = Changes {
        reauthenticated: Some(Proof {
            at: Millis(900),
            level: Level::One,
            answers: None,
        }),
        ..Changes::default()
    };
    assert!(matches!(
        overwrite(&record(&some_map()), &proof, stamp(2)),
        Ok(Applied::Gone)
    ));
    let alice = write(overwrite(
        &logged_in(&some_map(), "alice"),
        &proof,
        stamp(2),
    ));
    assert_eq!(
        alice.metadata().unwrap().auth.as_deref().unwrap().at,
        Millis(900)
    );
}

/// An old server has given the session to another person, under the same key.
#[test]
fn a_proof_is_not_written_onto_another_persons_session() {
    let proof = Proof {
        at: Millis(900),
        level: Level::Two,
        answers: None,
    };
    let mut changes = Changes {
        reauthenticated: Some(proof),
        ..set("a", 1)
    };
    let terms = Terms::default();
    let [alice, bob] = ["alice", "bob"].map(|who| logged_in(&some_map(), who));
    let onto = |changes: &Changes, base: &Record, stored: &Record| {
        let renewed = changes.made_on(base).renew(Some(stored), &terms).unwrap();
        renewed.map(|record| record.principal().map(str::to_owned))
    };
    let nobodys = record(&some_map());
    assert_eq!(onto(&changes, &alice, &bob), None);
    assert_eq!(onto(&changes, &nobodys, &bob), None);
    assert_eq!(
        onto(&changes, &alice, &alice),
        Some(Some("alice".to_owned()))
    );
    // What else there is does not depend on whose it is.
    changes.reauthenticated = None;
    assert!(onto(&changes, &alice, &bob).is_some());
    changes.reauthenticated = Some(proof);
    // A login says itself whose it is.
    changes.login = login("alice", 600).login;
    assert_eq!(onto(&changes, &alice, &bob), Some(Some("alice".to_owned())));
}

/// Other metadata stays behind when changes come late, or may come twice.
#[test]
fn a_lowered_level_comes_along_when_changes_are_reduced() {
    let demand = Changes {
        lowered: Some(Box::new(Lowered {
            to: Level::Zero,
            at: Millis(900),
            reason: "why".into(),
        })),
        ..Changes::default()
    };
    let stored = logged_in(&some_map(), "alice");
    let left = reduce(&demand, &stored, None);
    let once = write(write_reduced(&stored, &left, stamp(2)));
    let demanded = |record: &Record| {
        let auth = record
            .metadata()
            .and_then(|metadata| metadata.auth.as_deref());
        auth.and_then(|auth| auth.demand().map(str::to_owned))
    };
    assert_eq!(demanded(&once).as_deref(), Some("why"));
    let twice = write_reduced(&once, &left, stamp(3));
    assert!(matches!(twice, Ok(Applied::Nothing)));
    assert!(demand.leave_unchanged(&once) && !demand.leave_unchanged(&stored));
    let nobodys = record(&some_map());
    assert!(demand.leave_unchanged(&nobodys));
}

#[test]
fn the_absolute_end_moves_with_authentication_alone() {
    let limited = Stamp {
        absolute: Some(Millis(10_000)),
        ..stamp(1)
    };
    let own = Changes {
        effects: [("a".into(), Effect::Set("1".into()))].into(),
        ..Default::default()
    };
    let new = write(own_record(&own, limited));
    assert_eq!(new.absolute_end(), Some(Millis(11_000)));
    let later = Stamp {
        now: Millis(5_000),
        ..limited
    };
    let renewed = Changes { renew: true, ..own };
    assert_eq!(
        write(overwrite(&new, &renewed, later)).absolute_end(),
        Some(Millis(11_000))
    );
    let alice = write(overwrite(&new, &login("alice", 5_000), later));
    assert_eq!(alice.absolute_end(), Some(Millis(15_000)));
}

#[test]
fn a_modify_behind_a_login_is_refused_if_the_login_changed_the_entry() {
    let base = record(&some_map());
    let modify = Changes {
        effects: [("a".into(), Effect::Modify(vec![add(1)]))].into(),
        ..Changes::default()
    };
    assert!(!refused_behind_login(&base, Some(&base), &modify));
    let changed = record(&Map::from([("a".to_owned(), "2".to_owned())]));
    assert!(refused_behind_login(&changed, Some(&base), &modify));
}

#[test]
fn a_modify_of_another_type_fails_and_commits_nothing() {
    let text = record(&Map::from([("a".to_owned(), "\"text\"".to_owned())]));
    let modify = Changes {
        effects: [
            ("b".into(), Effect::Set("1".into())),
            ("a".into(), Effect::Modify(vec![add(1)])),
        ]
        .into(),
        ..Changes::default()
    };
    assert!(overwrite(&text, &modify, stamp(2)).is_err());
}

#[test]
fn a_record_grows_to_the_limit_and_no_further_but_may_shrink() {
    let stored = write(overwrite(&Record::empty(), &set("a", 100), stamp(1)));
    let size = |record: &Record| record.as_text().unwrap().len();
    let limited = |max_state| Stamp {
        max_state,
        ..stamp(2)
    };
    let grown = size(&stored) + 10;
    assert!(overwrite(&stored, &set("a", 110), limited(grown)).is_ok());
    let ApplyError(refused) = overwrite(&stored, &set("a", 111), limited(grown)).unwrap_err();
    let refused = refused.downcast_ref::<StateTooLarge>().unwrap();
    assert_eq!((refused.size(), refused.limit()), (grown + 1, grown));
    assert!(write_reduced(&stored, &set("a", 111), limited(grown)).is_err());
    // The record is larger than a limit that was set later.
    for length in [99, 100] {
        assert!(overwrite(&stored, &set("a", length), limited(10)).is_ok());
    }
    assert!(overwrite(&stored, &set("b", 1), limited(10)).is_err());
}

fn set(name: &str, length: usize) -> Changes {
    let mut changes = Changes::default();
    let json = format!("\"{}\"", "x".repeat(length));
    changes.effects.set(name, Effect::Set(json));
    changes
}

/// Through a redirect, or after a lost answer.
#[test]
fn a_clear_logs_out_a_record_that_has_gone_on() {
    let base = logged_in(&some_map(), "alice");
    let stored = write(overwrite(&base, &set("new", 1), stamp(2)));
    let clear = Changes {
        cleared: Some(9),
        ..set("late", 1)
    };
    let merged = clear
        .made_on(&base)
        .merge_guarded_into(&stored, &Terms::default());
    let Merged::Write(left) = merged.unwrap() else {
        panic!("there is somebody to log out");
    };
    assert_eq!(left.principal(), None);
    let names: Vec<String> = map_of(&left).into_keys().collect();
    assert_eq!(names, ["new"]);
}

/// What panics when it is dropped.
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("as meant");
    }
}

#[test]
fn a_closure_that_panics_with_what_panics_in_turn_is_an_error() {
    let panics = |_: Option<&str>| std::panic::panic_any(Fragile);
    let found = Modify::run_all(&[Modify(Arc::new(panics), None)], None);
    assert!(found.is_err());
}
