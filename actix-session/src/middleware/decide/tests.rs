//! The table of outcomes.

use std::sync::Arc;

use super::*;
use crate::{
    Level,
    changes::{Effect, Effects, LoginChange, Modify, TtlChange},
    clock::Millis,
    key::SessionKey,
    record::{Lowered, Record, WireFormat},
};

const QUIET: Policy = Policy {
    extend: ExtendOnRead::Never,
    persistent: false,
    absolute: None,
};
const EXTENDING: Policy = Policy {
    extend: ExtendOnRead::Always,
    ..QUIET
};
const PERSISTENT: Policy = Policy {
    persistent: true,
    ..EXTENDING
};

fn key() -> SessionKey {
    SessionKey::generated("key".into())
}

fn record() -> Record {
    Record::decode(r#"{"v":1,"state":{"a":1}}"#.into()).unwrap()
}

fn live() -> Incoming {
    Incoming {
        loaded: Loaded::Live(key(), record()),
        cookie_came: true,
        extended: true,
        ..Incoming::default()
    }
}

fn moved(seconds: u64) -> Incoming {
    let loaded = Loaded::Moved(key(), Duration::from_secs(seconds));
    Incoming {
        loaded,
        cookie_came: true,
        ..Incoming::default()
    }
}

fn lost() -> Incoming {
    Incoming {
        loaded: Loaded::Lost(key()),
        cookie_came: true,
        ..Incoming::default()
    }
}

fn set(name: &str, json: &str) -> Changes {
    Changes {
        effects: [(name.into(), Effect::Set(json.into()))].into(),
        ..Changes::default()
    }
}

fn renew(changes: Changes) -> Changes {
    Changes {
        renew: true,
        ..changes
    }
}

fn login() -> Changes {
    let login = LoginChange {
        principal: "alice".into(),
        at: Millis(0),
        device: None,
        proven: None,
        id: 1,
        span: None,
        keep_times: false,
        level: Default::default(),
        demand: String::new(),
        origin: None,
        by_entry: false,
    };
    renew(Changes {
        login: Some(login.into()),
        ..Changes::default()
    })
}

fn finished<'a>(
    incoming: &'a Incoming,
    snapshot: &'a Snapshot,
    exit: Exit,
    policy: Policy,
) -> Finished<'a> {
    Finished {
        incoming,
        snapshot,
        exit,
        policy,
        now: Millis(1_000),
    }
}

fn with(incoming: &Incoming, changes: Changes, policy: Policy) -> Decision {
    let snapshot = Snapshot {
        purged: false,
        changes,
        ..Snapshot::default()
    };
    finished(incoming, &snapshot, Exit::Response, policy).decide()
}

fn without_head(incoming: &Incoming, changes: Changes) -> Decision {
    let snapshot = Snapshot {
        purged: false,
        changes,
        ..Snapshot::default()
    };
    finished(incoming, &snapshot, Exit::NoHead, PERSISTENT).decide()
}

#[test]
fn a_request_that_changes_nothing_writes_nothing() {
    let removal = Changes {
        effects: [("b".into(), Effect::Removed)].into(),
        ..Changes::default()
    };
    for changes in [Changes::default(), removal.clone()] {
        assert_eq!(with(&live(), changes.clone(), QUIET), UNNEEDED);
        assert_eq!(with(&live(), changes.clone(), EXTENDING), UNNEEDED);
        assert_eq!(with(&live(), changes, PERSISTENT), Decision::Check);
    }
    // To set an entry to the value that it has is activity.
    for policy in [QUIET, EXTENDING, PERSISTENT] {
        assert_eq!(with(&live(), set("a", "1"), policy), Decision::Touch);
    }
    for incoming in [Incoming::default(), lost(), moved(1), moved(20)] {
        assert_eq!(with(&incoming, removal.clone(), PERSISTENT), UNNEEDED);
        assert_eq!(
            with(&incoming, renew(Changes::default()), PERSISTENT),
            UNNEEDED
        );
    }
}

#[test]
fn if_anything_changed_all_effects_are_committed() {
    let mut changes = set("a", "1");
    changes.effects.set("b", Effect::Set("2".into()));
    assert_eq!(with(&live(), changes, QUIET), Decision::Commit);
    assert_eq!(
        with(&live(), renew(Changes::default()), QUIET),
        Decision::Rotate
    );
    assert_eq!(with(&live(), login(), QUIET), Decision::Rotate);
}

#[test]
fn a_key_without_a_record_is_never_adopted() {
    assert_eq!(with(&lost(), set("a", "1"), QUIET), Decision::Create);
    assert_eq!(with(&lost(), renew(set("a", "1")), QUIET), Decision::Create);
    assert_eq!(with(&Incoming::default(), login(), QUIET), Decision::Create);
}

#[test]
fn soon_after_a_renewal_only_a_login_makes_a_session() {
    let dropped = Decision::Leave(Silence::Dropped(Why::JustRenewed));
    assert_eq!(with(&moved(9), set("a", "1"), QUIET), dropped);
    assert_eq!(with(&moved(10), set("a", "1"), QUIET), Decision::Create);
    for age in [1, 20] {
        assert_eq!(with(&moved(age), login(), QUIET), Decision::Create);
        // What nobody could see is not removed in silence.
        let removal = Changes {
            effects: [("a".into(), Effect::Removed)].into(),
            ..Changes::default()
        };
        let unseen = |changes: Changes| Snapshot {
            removed_unseen: true,
            ..asked(changes)
        };
        let lowered = Lowered {
            to: Level::Zero,
            at: Millis::ZERO,
            reason: String::new(),
        };
        let lowers = Changes {
            lowered: Some(lowered.into()),
            ..Changes::default()
        };
        let to_nothing = Modify(Arc::new(|_| Ok(None)), None);
        let modifies = Changes {
            effects: [("a".into(), Effect::Modify(vec![to_nothing]))].into(),
            ..Changes::default()
        };
        for snapshot in [
            unseen(removal.clone()),
            unseen(renew(removal)),
            asked(modifies),
            asked(lowers),
        ] {
            let incoming = moved(age);
            let decision = answered(&incoming, &snapshot, QUIET).decide();
            let expected = if age < 10 { dropped } else { UNNEEDED };
            assert_eq!(decision, expected, "{age}");
        }
        let renewal = with(&moved(age), renew(set("a", "1")), QUIET);
        let expected = if age < 10 {
            Decision::Rotate
        } else {
            Decision::Create
        };
        assert_eq!(renewal, expected);
        let cleared = Changes {
            cleared: Some(1),
            ..set("a", "1")
        };
        let decision = with(&moved(age), cleared, QUIET);
        let expected = if age < 10 {
            Decision::Commit
        } else {
            Decision::CreateAfterClear
        };
        assert_eq!(decision, expected);
        let cleared = Changes {
            cleared: Some(1),
            ..renew(set("a", "1"))
        };
        let expected = if age < 10 {
            Decision::Rotate
        } else {
            Decision::CreateAfterClear
        };
        assert_eq!(with(&moved(age), cleared.clone(), QUIET), expected);
        let alone = Changes {
            effects: Effects::default(),
            ..cleared
        };
        assert_eq!(with(&moved(age), alone, QUIET), Decision::Commit);
    }
}

#[test]
fn a_purge_wins_over_everything_and_later_entries_start_a_new_session() {
    for incoming in [live(), lost(), moved(1), Incoming::default()] {
        for exit in [Exit::Response, Exit::NoHead] {
            let purge = |changes| {
                finished(
                    &incoming,
                    &Snapshot {
                        purged: true,
                        changes,
                        ..Snapshot::default()
                    },
                    exit,
                    PERSISTENT,
                )
                .decide()
            };
            let new = exit == Exit::Response;
            assert_eq!(
                purge(renew(Changes::default())),
                Decision::End { then_create: false }
            );
            assert_eq!(purge(set("flash", "1")), Decision::End { then_create: new });
        }
    }
}

#[test]
fn without_a_response_nothing_happens_that_needs_a_cookie() {
    let dropped = Decision::Leave(Silence::Dropped(Why::NoResponse));
    assert_eq!(without_head(&live(), set("a", "2")), Decision::Commit);
    assert_eq!(without_head(&live(), renew(set("a", "2"))), dropped);
    assert_eq!(without_head(&live(), login()), dropped);
    assert_eq!(without_head(&Incoming::default(), set("a", "2")), dropped);
    assert_eq!(without_head(&live(), Changes::default()), UNNEEDED);
}

#[test]
fn cookie_stored_records_are_sealed_again_if_their_time_moves_or_is_missing() {
    let sealed = |end, extended| Incoming {
        loaded: Loaded::Live(key(), record().in_cookie().with_end(end)),
        extended,
        ..Incoming::default()
    };
    let end = Some(Millis(5));
    let unchanged = |incoming: &Incoming| with(incoming, Changes::default(), QUIET);
    assert_eq!(unchanged(&sealed(end, false)), UNNEEDED);
    assert_eq!(unchanged(&sealed(end, true)), Decision::Check);
    assert_eq!(unchanged(&sealed(None, false)), Decision::Check);
}

const THROTTLED: Policy = Policy {
    extend: ExtendOnRead::AtMostEvery(Millis(10)),
    ..PERSISTENT
};

#[test]
fn under_an_interval_only_what_the_load_extended_is_refreshed() {
    let in_time = Incoming {
        extended: false,
        ..live()
    };
    for (changes, decision) in [
        (Changes::default(), Decision::Check),
        (set("a", "1"), Decision::Touch),
    ] {
        assert_eq!(with(&live(), changes.clone(), THROTTLED), decision);
        assert_eq!(with(&in_time, changes, THROTTLED), UNNEEDED);
    }
    assert_eq!(with(&in_time, set("a", "2"), THROTTLED), Decision::Commit);
}

#[test]
fn a_quiet_request_sends_no_cookie_but_a_new_one() {
    let quiet = Incoming {
        quiet: true,
        extended: false,
        stale: true,
        ..live()
    };
    for changes in [Changes::default(), set("a", "1")] {
        assert_eq!(with(&quiet, changes, PERSISTENT), UNNEEDED);
    }
    assert_eq!(with(&quiet, set("a", "2"), PERSISTENT), Decision::Commit);
    let renewal = renew(Changes::default());
    assert_eq!(with(&quiet, renewal, PERSISTENT), Decision::Rotate);
    let own_ttl = Changes {
        ttl: Some(TtlChange::Set(Millis(500))),
        ..Changes::default()
    };
    for (changes, is_sent) in [(set("a", "2"), false), (own_ttl, true)] {
        let snapshot = asked(changes);
        let fate = answered(&quiet, &snapshot, PERSISTENT).after_commit(Committed::Saved(end()));
        assert_eq!(matches!(fate, CookieFate::Send(_)), is_sent);
    }
    let bounded = Policy {
        absolute: Some(Millis(1)),
        ..PERSISTENT
    };
    assert_eq!(with(&quiet, Changes::default(), bounded), Decision::Check);
}

#[test]
fn the_first_sight_of_a_record_without_metadata_is_written_down() {
    let bounded = Policy {
        absolute: Some(Millis(1)),
        ..QUIET
    };
    let old = live();
    assert_eq!(with(&old, Changes::default(), bounded), Decision::Check);
    let snapshot = asked(Changes::default());
    let lost = finished(&old, &snapshot, Exit::NoHead, bounded).decide();
    assert_eq!(lost, Decision::Check);
}

#[test]
fn a_clear_past_the_absolute_end_of_the_creation_ends_the_session() {
    let cleared = |changes| Changes {
        cleared: Some(1),
        ..changes
    };
    let metadata = crate::record::Metadata::new(1, Millis(0));
    let record = Record::written(WireFormat::V1, 1, metadata, &[]);
    let incoming = Incoming {
        loaded: Loaded::Live(key(), record),
        ..live()
    };
    let bounded = |absolute| Policy {
        absolute: Some(Millis(absolute)),
        ..QUIET
    };
    let ends = |then_create| Decision::End { then_create };
    let writes = || cleared(set("a", "1"));
    let bare = || cleared(renew(Changes::default()));
    assert_eq!(with(&incoming, writes(), bounded(1_001)), Decision::Commit);
    assert_eq!(with(&incoming, writes(), bounded(1_000)), ends(true));
    assert_eq!(with(&incoming, bare(), bounded(1_000)), ends(false));
    assert_eq!(
        with(&incoming, cleared(login()), bounded(1_001)),
        Decision::Rotate
    );
}

#[test]
fn a_login_whose_time_is_over_ends_the_session() {
    let bounded = |absolute| Policy {
        absolute: Some(Millis(absolute)),
        ..QUIET
    };
    let ends = Decision::End { then_create: false };
    for incoming in [live(), Incoming::default()] {
        assert_eq!(with(&incoming, login(), bounded(1_000)), ends);
        assert_ne!(with(&incoming, login(), bounded(1_001)), ends);
    }
    // Without a response it is half a login, which is none.
    let snapshot = asked(login());
    let lost = finished(&live(), &snapshot, Exit::NoHead, bounded(1_000)).decide();
    assert_eq!(lost, Decision::Leave(Silence::Dropped(Why::NoResponse)));
}

#[test]
fn a_session_with_a_ttl_of_its_own_has_its_cookie_refreshed() {
    let metadata = crate::record::Metadata {
        ttl: Some(Millis(9)),
        ..crate::record::Metadata::new(1, Millis(0))
    };
    let record = Record::written(WireFormat::V1, 1, metadata, &[]);
    let incoming = Incoming {
        loaded: Loaded::Live(key(), record),
        extended: true,
        ..Incoming::default()
    };
    let unchanged = |incoming: &Incoming| with(incoming, Changes::default(), EXTENDING);
    assert_eq!(unchanged(&incoming), Decision::Check);
    let incoming = Incoming {
        extended: false,
        ..incoming
    };
    assert_eq!(unchanged(&incoming), UNNEEDED);
}

#[test]
fn without_a_store_only_reading_is_served() {
    let degraded = Incoming {
        degraded: true,
        ..Incoming::default()
    };
    assert_eq!(with(&degraded, Changes::default(), PERSISTENT), UNNEEDED);
    assert_eq!(with(&degraded, set("a", "1"), PERSISTENT), Decision::Refuse);
    assert_eq!(
        with(&degraded, renew(Changes::default()), PERSISTENT),
        Decision::Refuse
    );
    let purged = Snapshot {
        purged: true,
        changes: Changes::default(),
        ..Snapshot::default()
    };
    assert_eq!(
        finished(&degraded, &purged, Exit::Response, QUIET).decide(),
        Decision::Refuse
    );
    // There is nobody to tell.
    assert_eq!(
        finished(&degraded, &purged, Exit::NoHead, QUIET).decide(),
        Decision::End { then_create: false }
    );
}

#[test]
fn a_clear_ends_what_cannot_be_read() {
    let cleared = |changes: Changes| Changes {
        cleared: Some(1),
        ..changes
    };
    assert_eq!(
        with(&lost(), cleared(Changes::default()), PERSISTENT),
        Decision::End { then_create: false }
    );
    assert_eq!(
        with(&lost(), cleared(set("a", "1")), PERSISTENT),
        Decision::End { then_create: true }
    );
}

/// A request that was answered, and its changes.
fn answered<'a>(incoming: &'a Incoming, snapshot: &'a Snapshot, policy: Policy) -> Finished<'a> {
    finished(incoming, snapshot, Exit::Response, policy)
}

fn asked(changes: Changes) -> Snapshot {
    Snapshot {
        purged: false,
        changes,
        ..Snapshot::default()
    }
}

fn end() -> End {
    End::from(Millis(61_000).to_system_time())
}

/// Origin, whether it names a key of its own, and the `Max-Age`.
fn sent(fate: CookieFate) -> (Origin, bool, Option<Millis>) {
    match fate {
        CookieFate::Send(cookie) => (cookie.origin, cookie.key.is_some(), cookie.max_age),
        other => panic!("a cookie was expected: {other:?}"),
    }
}

fn silence(fate: CookieFate) -> Silence {
    match fate {
        CookieFate::Leave(silence) => silence,
        other => panic!("no cookie was expected: {other:?}"),
    }
}

const MINUTE: Option<Millis> = Some(Millis(60_000));

#[test]
fn the_stores_answer_says_whether_the_cookie_has_an_age() {
    let metadata = |ttl| crate::record::Metadata {
        ttl,
        ..crate::record::Metadata::new(1, Millis(0))
    };
    let own = |ttl| Record::written(WireFormat::V1, 1, metadata(ttl), &[]);
    let (with_ttl, without) = (own(Some(Millis(9))), own(None));
    let at = Millis(61_000);
    for (base, stored, age) in [
        (&without, &with_ttl, MINUTE),
        (&with_ttl, &without, None),
        (&with_ttl, &with_ttl, MINUTE),
    ] {
        let incoming = Incoming {
            loaded: Loaded::Live(key(), base.clone()),
            ..live()
        };
        let snapshot = asked(set("a", "2"));
        let request = answered(&incoming, &snapshot, QUIET);
        let saved = request.after_commit(Committed::Saved(End::of(stored, at)));
        assert_eq!(sent(saved), (Origin::Refreshed, false, age));
        let renewed = Rotated::Rotated(key(), End::of(stored, at), Older::none());
        assert_eq!(sent(request.after_rotate(renewed)).2, age);
    }
}

#[test]
fn a_current_key_is_sent_again_if_the_cookie_has_an_age_or_is_stale() {
    let saved = || Committed::Saved(end());
    let (plain, own_ttl) = (
        asked(set("a", "2")),
        asked(Changes {
            ttl: Some(TtlChange::Set(Millis(60_000))),
            ..Changes::default()
        }),
    );
    let stale = Incoming {
        stale: true,
        ..live()
    };
    let after = |incoming: &Incoming, snapshot: &Snapshot, policy| {
        answered(incoming, snapshot, policy).after_commit(saved())
    };
    assert_eq!(
        silence(after(&live(), &plain, EXTENDING)),
        Silence::Unneeded
    );
    let refreshed = |max_age| (Origin::Refreshed, false, max_age);
    assert_eq!(sent(after(&live(), &plain, PERSISTENT)), refreshed(MINUTE));
    assert_eq!(sent(after(&live(), &own_ttl, QUIET)), refreshed(MINUTE));
    assert_eq!(sent(after(&stale, &plain, QUIET)), refreshed(None));
}

#[test]
fn only_a_key_of_its_own_request_is_handed_out() {
    let (incoming, snapshot) = (live(), asked(set("a", "2")));
    let request = answered(&incoming, &snapshot, QUIET);
    let value = Committed::NewValue(key(), end(), Older::none());
    let committed = sent(request.after_commit(value));
    assert_eq!(committed, (Origin::Refreshed, true, None));
    let renewed = Rotated::Rotated(key(), end(), Older::none());
    assert_eq!(
        sent(request.after_rotate(renewed)),
        (Origin::Renewed, true, None)
    );
    let created = sent(request.after_create((key(), end())));
    assert_eq!(created, (Origin::Created, true, None));
}

#[test]
fn what_could_not_be_extended_gets_no_fresh_cookie() {
    let (incoming, snapshot) = (live(), asked(Changes::default()));
    let request = answered(&incoming, &snapshot, PERSISTENT);
    let left = request.after_commit(Committed::NotExtended);
    assert_eq!(silence(left), Silence::Unneeded);
}

#[test]
fn what_has_moved_or_ended_gets_no_cookie_and_loses_none() {
    let (incoming, snapshot) = (live(), asked(renew(set("a", "2"))));
    let request = answered(&incoming, &snapshot, PERSISTENT);
    let fates = [
        request.after_commit(Committed::Forwarded),
        request.after_commit(Committed::Gone),
        request.after_rotate(Rotated::Moved),
        request.after_rotate(Rotated::Gone),
    ];
    assert_eq!(
        fates.map(silence),
        [
            Silence::Forwarded,
            Silence::Gone,
            Silence::Gone,
            Silence::Gone
        ]
    );
}

#[test]
fn after_an_end_a_cookie_that_came_is_removed() {
    let old = Incoming {
        old_cookies: vec![0],
        ..Incoming::default()
    };
    for (incoming, removed) in [(live(), true), (old, true), (Incoming::default(), false)] {
        let snapshot = asked(Changes::default());
        let fate = answered(&incoming, &snapshot, QUIET).after_end();
        assert_eq!(matches!(fate, CookieFate::Remove), removed, "{incoming:?}");
    }
}

#[test]
fn a_renewal_that_a_logout_overtook_leaves_its_own_changes_alone() {
    let incoming = live();
    let after = |changes| {
        let snapshot = asked(changes);
        answered(&incoming, &snapshot, QUIET).after_overtaken()
    };
    assert_eq!(after(renew(set("b", "1"))), Decision::Create);
    assert_eq!(after(login()), Decision::Create);
    for changes in [set("b", "1"), renew(Changes::default())] {
        assert_eq!(after(changes), Decision::Leave(Silence::Gone));
    }
}

#[test]
fn a_state_in_a_cookie_is_sealed_anew_if_an_entry_is_set_to_its_value() {
    let mut incoming = live();
    incoming.loaded = Loaded::Live(key(), record().in_cookie());
    for extend in [
        ExtendOnRead::Never,
        ExtendOnRead::Always,
        ExtendOnRead::AtMostEvery(Millis(60_000)),
    ] {
        incoming.extended = false;
        let policy = Policy { extend, ..QUIET };
        // If it does not fit any more, that is no error.
        assert_eq!(with(&incoming, set("a", "1"), policy), Decision::Touch);
    }
}
