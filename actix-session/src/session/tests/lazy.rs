//! A session that is loaded late leaves what one leaves that was loaded first.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    Level,
    changes::TtlChange,
    clock::Millis,
    record::{Auth, PrincipalEntry},
};

const USER: &str = "user";

/// What a handler does.
#[derive(Debug, Clone)]
enum Act {
    Set(&'static str, u8),
    /// Of an entry that nothing else sets: on a value of this request's own, the result is kept.
    Count,
    Remove(&'static str),
    /// Sets the entry that names the principal, to nobody for `None`.
    Name(Option<&'static str>),
    /// Runs a closure on that entry.
    Alter(Alter),
    Login(&'static str),
    Lower,
    Remember,
    Renew,
    Clear,
    Purge,
}

/// What a closure makes of whom the entry names.
#[derive(Debug, Clone, Copy)]
enum Alter {
    Same,
    Nobody,
    /// Whoever is there becomes somebody else.
    Other,
    /// Even where nobody is.
    Ada,
}

impl Alter {
    fn of(self, named: Option<Option<String>>) -> Option<Option<String>> {
        match self {
            Self::Same => named,
            Self::Nobody => None,
            Self::Other => named.map(|_| Some("eve".to_owned())),
            Self::Ada => Some(Some("ada".to_owned())),
        }
    }
}

/// The same before a middleware serves the request: then a closure may run on what nobody has loaded.
fn early_act() -> impl Strategy<Value = Act> {
    let alter = prop::sample::select(vec![Alter::Same, Alter::Nobody, Alter::Other, Alter::Ada]);
    prop_oneof![4 => act(), 1 => alter.prop_map(Act::Alter)]
}

fn act() -> impl Strategy<Value = Act> {
    let entry = || prop::sample::select(vec!["a", "b", USER]);
    let plain = || prop::sample::select(vec!["a", "b"]);
    let user = || prop::sample::select(vec!["ada", "eve"]);
    prop_oneof![
        3 => (plain(), 0_u8..3).prop_map(|(name, value)| Act::Set(name, value)),
        2 => Just(Act::Count),
        2 => entry().prop_map(Act::Remove),
        6 => prop::option::weighted(0.9, user()).prop_map(Act::Name),
        2 => user().prop_map(Act::Login),
        1 => Just(Act::Lower),
        2 => Just(Act::Remember),
        2 => Just(Act::Renew),
        1 => Just(Act::Clear),
        1 => Just(Act::Purge),
    ]
}

fn terms() -> Terms {
    Terms {
        principal_entry: Some(PrincipalEntry::from(USER)),
        ..Terms::default()
    }
}

fn served() -> Arc<Served> {
    served_with(&terms())
}

fn served_with(terms: &Terms) -> Arc<Served> {
    Arc::new(Served {
        principal_entry: terms.principal_entry.clone(),
        clock: SharedClock::default(),
        times: Times::from(terms),
        knows_ends: true,
    })
}

fn session(shown: Shown) -> Session {
    Session::of_request(served(), shown)
}

/// One that somebody has asked for before a middleware serves the request.
fn early(acts: &[Act]) -> Session {
    let session = Session::new();
    session.lock().wait_for_middleware();
    acts.iter().for_each(|act| play(&session, act));
    session
}

fn play(session: &Session, act: &Act) {
    match *act {
        Act::Set(name, value) => session.insert(name, value).unwrap(),
        Act::Count => {
            let count = |n: Option<u8>| Some(n.unwrap_or(0).wrapping_add(1));
            session.modify("n", count).unwrap();
        }
        Act::Remove(name) => drop(session.remove(name)),
        Act::Name(user) => session.insert(USER, user).unwrap(),
        Act::Alter(alter) => session.modify(USER, move |it| alter.of(it)).unwrap(),
        Act::Login(user) => session.login(user).unwrap(),
        Act::Lower => session.lower_level(Level::Zero),
        Act::Remember => session.set_ttl(Duration::from_secs(77)),
        Act::Renew => session.renew(),
        Act::Clear => session.clear(),
        Act::Purge => session.purge(),
    }
}

/// A record of somebody, or of nobody.
fn base(user: Option<&str>) -> Record {
    let text = r#"{"v":1,"state":{"a":1,"z":1}}"#.to_owned();
    let base = Record::decode(text).unwrap();
    let shown = Shown {
        record: Some(base.clone()),
        ..Shown::default()
    };
    let made = session(shown);
    made.insert("z", 2).unwrap();
    if let Some(user) = user {
        made.login(user).unwrap();
    }
    let changes = made.lock().take_snapshot().changes;
    changes.on_top_of(&base, &terms()).unwrap()
}

/// What comes of a request.
#[derive(Debug, PartialEq)]
struct Outcome {
    purged: bool,
    renews: bool,
    entries: BTreeMap<String, String>,
    principal: Option<String>,
    level: Option<Level>,
    ttl: Option<TtlChange>,
}

fn outcome(session: &Session, base: &Record) -> Outcome {
    outcome_with(session, base, &terms())
}

fn outcome_with(session: &Session, base: &Record, terms: &Terms) -> Outcome {
    let mut snapshot = session.lock().take_snapshot();
    snapshot.settle_named(Some(base));
    let (purged, changes) = (snapshot.purged, snapshot.changes);
    let empty = Record::decode(r#"{"v":1,"state":{}}"#.to_owned()).unwrap();
    let stored = if purged { &empty } else { base };
    let left = changes.on_top_of(stored, terms);
    let left = left.as_ref().unwrap_or(stored);
    let auth = left
        .metadata()
        .and_then(|metadata| metadata.auth.as_deref());
    Outcome {
        purged,
        renews: changes.renews(),
        entries: left.to_map().into_iter().collect(),
        principal: left.principal().map(str::to_owned),
        level: auth.map(Auth::level),
        ttl: changes.ttl,
    }
}

/// What a login sets is set before or after it in the same request. To set the entry that names the
/// principal to the value that it has is no login that it could belong to.
#[test]
fn a_time_that_is_set_before_a_login_is_the_logins() {
    let kept = Some(TtlChange::Set(Millis::secs(77)));
    let (name, remember) = (Act::Name(Some("ada")), Act::Remember);
    for (user, ttl) in [(Some("ada"), kept), (Some("eve"), None), (None, None)] {
        for login in [Act::Login("ada"), Act::Login("eve"), Act::Name(Some("eve"))] {
            for acts in [[&name, &remember, &login], [&remember, &name, &login]] {
                for is_late in [false, true] {
                    let base = base(user);
                    let shown = Shown {
                        record: Some(base.clone()).filter(|_| !is_late),
                        ..Shown::default()
                    };
                    let session = session(shown);
                    session.lock().unloaded = is_late;
                    acts.iter().for_each(|act| play(&session, act));
                    let left = outcome(&session, &base);
                    assert_eq!(left.ttl, ttl, "{user:?} {acts:?} {is_late}");
                }
            }
        }
    }
}

/// Of several who are named before a middleware serves the request the last one counts, and what was set
/// for one does not reach the next.
#[test]
fn whoever_is_named_last_before_a_middleware_serves_is_logged_in() {
    use Act::{Clear, Count, Login, Name, Purge, Remove, Renew, Set};
    let acts: [&[Act]; 12] = [
        &[Clear, Name(Some("eve")), Login("ada")],
        &[Purge, Name(Some("eve")), Set("a", 2), Login("ada")],
        &[Login("ada"), Name(Some("eve")), Login("ada")],
        &[Set("a", 1), Name(Some("ada")), Set("a", 2)],
        &[Name(Some("ada")), Set("b", 2), Name(Some("ada"))],
        &[Count, Name(Some("ada")), Count],
        &[
            Name(Some("eve")),
            Set("b", 2),
            Login("ada"),
            Name(Some("ada")),
        ],
        &[Name(Some("eve")), Set("b", 2), Name(Some("ada"))],
        &[Set("b", 2), Login("ada"), Set("a", 2), Login("ada")],
        &[Name(Some("ada")), Renew, Name(Some("ada"))],
        &[Clear, Renew, Name(Some("ada"))],
        &[Login("eve"), Remove(USER), Name(Some("ada"))],
    ];
    for user in [None, Some("ada"), Some("eve")] {
        let base = base(user);
        let shown = || Shown {
            record: Some(base.clone()),
            ..Shown::default()
        };
        for acts in acts {
            let eager = session(shown());
            acts.iter().for_each(|act| play(&eager, act));
            let expected = outcome(&eager, &base);
            assert_eq!(expected.principal.as_deref(), Some("ada"), "{acts:?}");
            let early = early(acts);
            assert!(!early.attach_unloaded(&served()), "a load comes first");
            early.attach(&served(), shown()).unwrap();
            assert_eq!(early.principal().as_deref(), Some("ada"), "{acts:?}");
            assert_eq!(outcome(&early, &base), expected, "{user:?} {acts:?}");
        }
    }
}

/// Before the load it sees nobody, and so names nobody.
#[test]
fn a_closure_that_leaves_the_principal_as_it_is_logs_nobody_out() {
    let unserved = Session::new();
    unserved.lock().wait_for_middleware();
    unserved
        .modify(USER, |named: Option<String>| named)
        .unwrap();
    let base = base(Some("ada"));
    let shown = Shown {
        record: Some(base.clone()),
        ..Shown::default()
    };
    unserved.attach(&served(), shown).unwrap();
    let outcome = outcome(&unserved, &base);
    assert_eq!(outcome.principal.as_deref(), Some("ada"));
}

#[actix_web::test]
async fn what_is_set_before_a_middleware_serves_can_be_taken() {
    let unserved = Session::new();
    unserved.lock().wait_for_middleware();
    unserved.insert("a", 1).unwrap();
    assert_eq!(unserved.take::<u8>("a").await.unwrap(), Some(1));
    assert_eq!(unserved.take::<u8>("a").await.unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn what_is_done_before_a_middleware_serves_counts_as_after_that(
        is_named in prop::bool::weighted(0.8),
        user in prop::option::of(prop::sample::select(vec!["ada", "eve"])),
        acts in prop::collection::vec(early_act(), 1..8),
        served_after in 1_usize..9,
        loads_after in prop::option::of(0_usize..9),
    ) {
        let base = base(user);
        let shown = || Shown { record: Some(base.clone()), ..Shown::default() };
        let terms = if is_named { terms() } else { Terms::default() };
        let served = served_with(&terms);
        let eager = Session::of_request(Arc::clone(&served), shown());
        let (before, after) = acts.split_at(served_after.min(acts.len()));
        let early = early(before);
        // On a value of an unloaded session's own, a closure's result is kept.
        let may_be_late = !acts.iter().any(|act| matches!(act, Act::Alter(_)));
        let is_late = may_be_late && loads_after.is_some() && early.attach_unloaded(&served);
        let loads_after = loads_after.filter(|_| is_late);
        if !is_late {
            early.attach(&served, shown()).unwrap();
        }
        before.iter().for_each(|act| play(&eager, act));
        for (n, act) in after.iter().enumerate() {
            if loads_after == Some(n) {
                early.fill(shown());
            }
            play(&eager, act);
            play(&early, act);
        }
        let outcome = |session| outcome_with(session, &base, &terms);
        let (mut early, mut eager) = (outcome(&early), outcome(&eager));
        if acts.iter().any(|act| matches!(act, Act::Clear)) {
            (early.renews, eager.renews) = (false, false);
        }
        prop_assert_eq!(early, eager);
    }

    #[test]
    fn the_time_of_the_load_changes_nothing(
        user in prop::option::of(prop::sample::select(vec!["ada", "eve"])),
        acts in prop::collection::vec(act(), 1..7),
        loads_after in 0_usize..9,
    ) {
        let base = base(user);
        let shown = || Shown { record: Some(base.clone()), ..Shown::default() };
        let eager = session(shown());
        let late = session(Shown::default());
        late.lock().unloaded = true;
        for (n, act) in acts.iter().enumerate() {
            if n == loads_after {
                late.fill(shown());
            }
            play(&eager, act);
            play(&late, act);
        }
        let (mut late, mut eager) = (outcome(&late, &base), outcome(&eager, &base));
        if acts.iter().any(|act| matches!(act, Act::Clear)) {
            // Nobody knows whether a login came before it, and a new key harms nobody.
            (late.renews, eager.renews) = (false, false);
        }
        prop_assert_eq!(late, eager);
    }
}

#[test]
fn what_another_thread_adds_during_the_load_counts_from_the_record() {
    let late = session(Shown::default());
    late.lock().unloaded = true;
    let (runs, this) = (AtomicU32::new(0), late.clone());
    let count = move |n: Option<u32>| {
        if runs.fetch_add(1, Ordering::SeqCst) == 1 {
            let this = this.clone();
            let add = move || this.modify("z", |n: Option<u32>| Some(n.unwrap_or(0) + 10));
            thread::spawn(add).join().unwrap().unwrap();
        }
        Some(n.unwrap_or(0) + 100)
    };
    late.modify("z", count).unwrap();
    late.fill(Shown {
        record: Some(base(None)),
        ..Shown::default()
    });
    assert_eq!(late.get::<u32>("z").unwrap(), Some(112));
    late.lock().finish();
}
