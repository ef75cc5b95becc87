//! The table of outcomes.

use super::*;
use crate::{
    changes::{Effect, LoginFact},
    clock::Millis,
    key::SessionKey,
    record::{Record, WireFormat},
};

const QUIET: Policy = Policy {
    extend: false,
    persistent: false,
};
const EXTENDING: Policy = Policy {
    extend: true,
    persistent: false,
};
const PERSISTENT: Policy = Policy {
    extend: true,
    persistent: true,
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
        effects: vec![(name.into(), Effect::Set(json.into()))],
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
    let login = LoginFact {
        principal: "alice".into(),
        at: Millis(0),
        device: None,
        proven: None,
        id: 1,
    };
    renew(Changes {
        login: Some(login),
        ..Changes::default()
    })
}

fn with(incoming: &Incoming, changes: Changes, policy: Policy) -> Outcome {
    let snapshot = Snapshot {
        purged: false,
        changes,
    };
    decide(incoming, &snapshot, Exit::Response, policy)
}

fn without_head(incoming: &Incoming, changes: Changes) -> Outcome {
    decide(
        incoming,
        &Snapshot {
            purged: false,
            changes,
        },
        Exit::NoHead,
        PERSISTENT,
    )
}

#[test]
fn a_request_that_changes_nothing_writes_nothing() {
    let removal = Changes {
        effects: vec![("b".into(), Effect::Removed)],
        ..Changes::default()
    };
    for changes in [Changes::default(), set("a", "1"), removal.clone()] {
        assert_eq!(with(&live(), changes.clone(), QUIET), Outcome::Nothing);
        assert_eq!(with(&live(), changes.clone(), EXTENDING), Outcome::Nothing);
        assert_eq!(with(&live(), changes, PERSISTENT), Outcome::Check);
    }
    for incoming in [Incoming::default(), lost(), moved(1), moved(20)] {
        assert_eq!(
            with(&incoming, removal.clone(), PERSISTENT),
            Outcome::Nothing
        );
        assert_eq!(
            with(&incoming, renew(Changes::default()), PERSISTENT),
            Outcome::Nothing
        );
    }
}

#[test]
fn where_anything_changed_all_effects_are_committed() {
    let mut changes = set("a", "1");
    changes.set_effect("b", Effect::Set("2".into()));
    assert_eq!(with(&live(), changes, QUIET), Outcome::Commit);
    assert_eq!(
        with(&live(), renew(Changes::default()), QUIET),
        Outcome::Rotate
    );
    assert_eq!(with(&live(), login(), QUIET), Outcome::Rotate);
}

#[test]
fn a_key_without_a_record_is_never_adopted() {
    assert_eq!(with(&lost(), set("a", "1"), QUIET), Outcome::Create);
    assert_eq!(with(&lost(), renew(set("a", "1")), QUIET), Outcome::Create);
    assert_eq!(with(&Incoming::default(), login(), QUIET), Outcome::Create);
}

#[test]
fn soon_after_a_renewal_only_a_login_makes_a_session() {
    let dropped = Outcome::Dropped(Why::JustRenewed);
    assert_eq!(with(&moved(9), set("a", "1"), QUIET), dropped);
    assert_eq!(with(&moved(10), set("a", "1"), QUIET), Outcome::Create);
    for age in [1, 20] {
        assert_eq!(with(&moved(age), login(), QUIET), Outcome::Create);
        assert_eq!(
            with(&moved(age), renew(set("a", "1")), QUIET),
            Outcome::Rotate
        );
        let cleared = Changes {
            cleared: Some(1),
            ..set("a", "1")
        };
        assert_eq!(with(&moved(age), cleared, QUIET), Outcome::Commit);
    }
}

#[test]
fn a_purge_wins_over_everything_and_what_is_set_after_it_starts_anew() {
    for incoming in [live(), lost(), moved(1), Incoming::default()] {
        for exit in [Exit::Response, Exit::NoHead] {
            let purge = |changes| {
                decide(
                    &incoming,
                    &Snapshot {
                        purged: true,
                        changes,
                    },
                    exit,
                    PERSISTENT,
                )
            };
            let new = exit == Exit::Response;
            assert_eq!(
                purge(renew(Changes::default())),
                Outcome::End { then_create: false }
            );
            assert_eq!(purge(set("flash", "1")), Outcome::End { then_create: new });
        }
    }
}

#[test]
fn without_a_response_nothing_happens_that_needs_a_cookie() {
    let dropped = Outcome::Dropped(Why::NoResponse);
    assert_eq!(without_head(&live(), set("a", "2")), Outcome::Commit);
    assert_eq!(without_head(&live(), renew(set("a", "2"))), dropped);
    assert_eq!(without_head(&live(), login()), dropped);
    assert_eq!(without_head(&Incoming::default(), set("a", "2")), dropped);
    assert_eq!(without_head(&live(), Changes::default()), Outcome::Nothing);
}

#[test]
fn sealed_records_are_sealed_anew_where_their_time_moves_or_is_missing() {
    let sealed = |end| Incoming {
        loaded: Loaded::Live(key(), record().sealed().with_end(end)),
        ..Incoming::default()
    };
    let end = Some(Millis(5));
    assert_eq!(
        with(&sealed(end), Changes::default(), QUIET),
        Outcome::Nothing
    );
    assert_eq!(
        with(&sealed(end), Changes::default(), EXTENDING),
        Outcome::Check
    );
    assert_eq!(
        with(&sealed(None), Changes::default(), QUIET),
        Outcome::Check
    );
}

#[test]
fn a_session_with_a_ttl_of_its_own_has_its_cookie_refreshed() {
    let facts = crate::record::Facts {
        ttl: Some(Millis(9)),
        ..crate::record::Facts::new(1, Millis(0))
    };
    let record = Record::written(WireFormat::V1, 1, facts, &[]);
    let incoming = Incoming {
        loaded: Loaded::Live(key(), record),
        ..Incoming::default()
    };
    assert_eq!(
        with(&incoming, Changes::default(), EXTENDING),
        Outcome::Check
    );
    assert_eq!(with(&incoming, Changes::default(), QUIET), Outcome::Nothing);
}

#[test]
fn without_a_store_only_reading_is_served() {
    let degraded = Incoming {
        degraded: true,
        ..Incoming::default()
    };
    assert_eq!(
        with(&degraded, Changes::default(), PERSISTENT),
        Outcome::Nothing
    );
    assert_eq!(with(&degraded, set("a", "1"), PERSISTENT), Outcome::Refused);
    assert_eq!(
        with(&degraded, renew(Changes::default()), PERSISTENT),
        Outcome::Refused
    );
    let purged = Snapshot {
        purged: true,
        changes: Changes::default(),
    };
    assert_eq!(
        decide(&degraded, &purged, Exit::Response, QUIET),
        Outcome::Refused
    );
}
