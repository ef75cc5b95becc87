//! What is the memory store's own: bounds, sweeping, and one map for all clones.

use std::collections::HashMap;

use actix_web::cookie::time::Duration;

use super::*;
use crate::{
    changes::{Changes, Effect, LoginChange},
    record::{Metadata, Record, WireFormat},
    storage::{
        CommitError, Opened, Rotated, SaveError, SessionStore, StoreFull, index::Page, lease,
        upstream::ANSWERED,
    },
};

fn set(n: usize) -> Changes {
    let effect = Effect::Set(n.to_string());
    Changes {
        effects: [("n".into(), effect)].into(),
        ..Changes::default()
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
    Changes {
        login: Some(login.into()),
        ..Changes::default()
    }
}

fn store_for(max_sessions: usize) -> MemorySessionStore {
    MemorySessionStore::builder()
        .max_sessions(max_sessions)
        .build()
}

async fn create(store: &MemorySessionStore, changes: &Changes, terms: &Terms) -> SessionKey {
    store.create(changes, terms).await.unwrap().0
}

async fn users(store: &MemorySessionStore, count: usize) -> Vec<SessionKey> {
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(create(store, &login(), &Terms::default()).await);
    }
    keys
}

async fn count_live(store: &MemorySessionStore, keys: &[SessionKey]) -> usize {
    let mut live = 0;
    for key in keys {
        live += usize::from(store.load(key).await.unwrap().is_some());
    }
    live
}

async fn renew(store: &MemorySessionStore, key: &SessionKey, terms: &Terms) -> SessionKey {
    rotate(store, key, terms).await.unwrap()
}

async fn rotate(
    store: &MemorySessionStore,
    key: &SessionKey,
    terms: &Terms,
) -> Result<SessionKey, CommitError> {
    let Ok(Opened::Live(base)) = store.open(key, terms).await else {
        panic!("the session is live");
    };
    let renewal = Changes {
        renew: true,
        ..Changes::default()
    };
    match store.rotate(key, Some(&base), &renewal, terms).await? {
        Rotated::Rotated(key, ..) => Ok(key),
        other => panic!("{other:?}"),
    }
}

/// In whatever shards they are.
#[actix_web::test]
async fn a_guest_displaces_a_guest_and_never_a_user() {
    let (store, terms) = (store_for(900), Terms::default());
    let keys = users(&store, 840).await;
    for n in 0..2_000 {
        create(&store, &set(n), &terms).await;
        assert!(store.len() <= 900);
    }
    assert_eq!(store.len(), 900, "no more than needed is evicted");
    assert_eq!(count_live(&store, &keys).await, 840);
}

/// What an upstream has ended stays, and users' sessions displace who has come from there.
#[actix_web::test]
async fn in_a_full_store_a_notice_stays_and_an_entry_makes_room_for_users() {
    let (store, terms) = (store_for(100), Terms::default());
    let until = terms.now + Millis::secs(600);
    let note = || Record::written(WireFormat::V1, 7, Metadata::new(1, Millis(0)), &[]);
    for name in ["upstream.a", "upstream.b", "notice.a"] {
        let inserted = store.insert_note(name, note(), until, &terms).await;
        assert!(matches!(inserted, Ok(Reply::Done)), "{name}");
    }
    let is_there = async |name: &str| {
        let found = store.read_note(name, &terms).await.unwrap();
        matches!(found, Stored::Record(_))
    };
    // Guests displace guests.
    for n in 0..200 {
        create(&store, &set(n), &terms).await;
    }
    assert!(is_there("upstream.a").await && is_there("upstream.b").await);
    users(&store, 300).await;
    assert!(!is_there("upstream.a").await && !is_there("upstream.b").await);
    assert!(is_there("notice.a").await);
    // An entry displaces a user rather than to refuse the login.
    let inserted = store.insert_note("upstream.c", note(), until, &terms).await;
    assert!(matches!(inserted, Ok(Reply::Done)));
    assert!(is_there("notice.a").await && store.len() == 100);
}

/// Whoever logs in may be refused, and holds the lock meanwhile.
#[actix_web::test]
async fn in_a_full_store_a_lock_displaces_nobody_and_stays_while_it_is_held() {
    let (store, terms) = (store_for(100), Terms::default());
    let mut keys = users(&store, 100).await;
    let held = lease::take(&store, "alice", &terms).await.unwrap();
    let other = lease::take(&store, "bob", &terms).await.unwrap();
    assert_eq!(count_live(&store, &keys).await, 100);
    let refused = store.create(&set(1), &terms).await.unwrap_err();
    assert!(matches!(refused, CommitError::Full), "{refused}");
    keys.extend(users(&store, 50).await);
    assert_eq!(count_live(&store, &keys).await, 100);
    let brief = Terms {
        budget: std::time::Duration::from_millis(30),
        ..terms.clone()
    };
    for principal in ["alice", "bob"] {
        let refused = lease::take(&store, principal, &brief).await.unwrap_err();
        assert!(matches!(refused, CommitError::Contended), "{refused}");
    }
    // What was given back goes first.
    lease::release(&store, held, &terms).await;
    lease::release(&store, other, &terms).await;
    keys.extend(users(&store, 1).await);
    assert_eq!(count_live(&store, &keys).await, 100);
    assert_eq!(store.inner.map.len(), 100);
    lease::take(&store, "alice", &terms).await.unwrap();
}

/// A back-channel logout finds sessions by entries, and is not to be answered by an error once it has
/// ended them.
#[actix_web::test]
async fn guests_displace_nothing_of_an_upstream_and_its_answer_finds_room_among_users() {
    let (store, terms) = (store_for(100), Terms::default());
    let until = terms.now + Millis::secs(600);
    let note = || Record::written(WireFormat::V1, 7, Metadata::new(1, Millis(0)), &[]);
    let answered = format!("{ANSWERED}.a");
    for name in ["upstream.a", &answered] {
        let inserted = store.insert_note(name, note(), until, &terms).await;
        assert!(matches!(inserted, Ok(Reply::Done)), "{name}");
    }
    let keys = users(&store, 98).await;
    for n in 0..200 {
        let refused = store.create(&set(n), &terms).await.unwrap_err();
        assert!(matches!(refused, CommitError::Full), "{refused}");
    }
    for name in ["upstream.a", &answered] {
        let found = store.read_note(name, &terms).await.unwrap();
        assert!(matches!(found, Stored::Record(_)), "{name}");
    }
    assert_eq!(count_live(&store, &keys).await, 98);
    users(&store, 2).await;
    assert_eq!(count_live(&store, &keys).await, 98);
    let answer = format!("{ANSWERED}.b");
    let inserted = store.insert_note(&answer, note(), until, &terms).await;
    assert!(matches!(inserted, Ok(Reply::Done)));
}

#[actix_web::test]
async fn where_only_users_are_a_guest_is_refused_and_a_user_is_not() {
    let (store, terms) = (store_for(100), Terms::default());
    let mut keys = users(&store, 100).await;
    for n in 0..200 {
        let refused = store.create(&set(n), &terms).await.unwrap_err();
        assert!(matches!(refused, CommitError::Full), "{refused}");
        let refused = store.save(HashMap::new(), &Duration::days(1)).await;
        let Err(SaveError::Other(refused)) = refused else {
            panic!("a full store saved a guest");
        };
        assert!(refused.is::<StoreFull>());
    }
    assert_eq!(count_live(&store, &keys).await, 100);
    keys.extend(users(&store, 50).await);
    assert_eq!(count_live(&store, &keys).await, 100);
    // Once a user has left or expired, a guest finds room.
    store.delete(keys.last().unwrap()).await.unwrap();
    create(&store, &set(1), &terms).await;
    let tomorrow = Terms {
        now: terms.now + terms.ttl,
        ..terms
    };
    for n in 0..100 {
        create(&store, &set(n), &tomorrow).await;
    }
    assert_eq!(store.inner.map.len(), 100);
}

#[actix_web::test]
async fn redirects_count_and_those_of_users_go_before_users() {
    let (store, terms) = (store_for(100), Terms::default());
    let mut keys = users(&store, 100).await;
    let mut busy = keys.pop().unwrap();
    for _ in 0..500 {
        busy = renew(&store, &busy, &terms).await;
        assert_eq!(store.inner.map.len(), 101, "one redirect beyond");
    }
    assert!(store.load(&busy).await.unwrap().is_some());
    assert_eq!(count_live(&store, &keys).await, 99);
    // With another user the bound holds again.
    keys.push(busy);
    keys.extend(users(&store, 1).await);
    assert_eq!(count_live(&store, &keys).await, 100);
    assert_eq!(store.inner.map.len(), 100);
}

#[actix_web::test]
async fn the_smallest_store_renews() {
    let terms = Terms::default();
    for most in [0, 1, 2] {
        let store = store_for(most);
        for changes in [set(7), login()] {
            let mut key = create(&store, &changes, &terms).await;
            for _ in 0..3 {
                key = renew(&store, &key, &terms).await;
            }
            assert!(store.load(&key).await.unwrap().is_some());
        }
    }
}

#[actix_web::test]
async fn a_guest_without_room_for_a_redirect_keeps_the_old_key() {
    let (store, terms) = (store_for(100), Terms::default());
    let keys = users(&store, 99).await;
    let guest = create(&store, &set(7), &terms).await;
    let refused = rotate(&store, &guest, &terms).await.unwrap_err();
    assert!(matches!(refused, CommitError::Full), "{refused}");
    assert_eq!(store.load(&guest).await.unwrap().unwrap()["n"], "7");
    assert_eq!(count_live(&store, &keys).await, 99);
    store.delete(&keys[0]).await.unwrap();
    let renewed = renew(&store, &guest, &terms).await;
    assert_eq!(store.load(&renewed).await.unwrap().unwrap()["n"], "7");
    assert_eq!(store.inner.map.len(), 100, "and the redirect");
}

/// The guest's own session does not make room for its redirect.
#[actix_web::test]
async fn a_login_in_a_full_store_takes_the_guests_entries_along() {
    let (store, terms) = (store_for(100), Terms::default());
    users(&store, 99).await;
    let guest = create(&store, &set(7), &terms).await;
    let Ok(Opened::Live(base)) = store.open(&guest, &terms).await else {
        panic!("the session is live");
    };
    let rotated = store.rotate(&guest, Some(&base), &login(), &terms).await;
    let Ok(Rotated::Rotated(key, ..)) = rotated else {
        panic!("{rotated:?}");
    };
    assert_eq!(store.load(&key).await.unwrap().unwrap()["n"], "7");
    assert_eq!(store.len(), 100, "users, and a redirect beyond them");
}

/// Time stands still.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH
    }
}

fn standing_store_for(max_sessions: usize) -> MemorySessionStore {
    let builder = MemorySessionStore::builder().max_sessions(max_sessions);
    builder.clock(Standing).build()
}

fn living(seconds: u64) -> Terms {
    Terms::default()
        .with_now(Standing.now())
        .with_ttl(std::time::Duration::from_secs(seconds))
}

#[actix_web::test]
async fn what_ends_soonest_goes_first_wherever_it_is() {
    let store = standing_store_for(20);
    let mut keys = Vec::new();
    for n in 0..20 {
        // 7 and 20 have no divisor in common: the ends are in no order.
        let seconds = 1 + 7 * n % 20;
        keys.push((seconds, create(&store, &set(1), &living(seconds)).await));
    }
    keys.sort_by_key(|(seconds, _)| *seconds);
    let keys: Vec<_> = keys.into_iter().map(|(_, key)| key).collect();
    for gone in 1..=20 {
        create(&store, &set(1), &living(100)).await;
        let left = &keys[gone..];
        let found = left.iter().filter(|key| store.is_there(key)).count();
        assert_eq!(
            (found, store.is_there(&keys[gone - 1])),
            (left.len(), false)
        );
    }
}

impl MemorySessionStore {
    /// Whether there is a record, by the time of these tests.
    fn is_there(&self, key: &SessionKey) -> bool {
        let found = self.inner.map.read(&self.name(key), Millis(0));
        matches!(found, Stored::Record(_))
    }
}

#[actix_web::test]
async fn a_candidate_that_was_extended_stays() {
    let store = standing_store_for(3);
    let first = create(&store, &set(1), &living(5)).await;
    let busy = [
        create(&store, &set(2), &living(10)).await,
        create(&store, &set(3), &living(10)).await,
    ];
    create(&store, &set(4), &living(20)).await;
    assert!(!store.is_there(&first));
    for key in &busy {
        let extends = living(30).with_extension(true);
        assert!(matches!(
            store.open(key, &extends).await,
            Ok(Opened::Live(_))
        ));
    }
    for n in 5..10 {
        create(&store, &set(n), &living(20)).await;
        assert!(busy.iter().all(|key| store.is_there(key)));
    }
}

/// A shard's first candidate was extended: what another shard has may end sooner than its next one.
#[actix_web::test]
async fn what_ends_soonest_goes_first_whatever_was_extended() {
    for round in 0..40 {
        let store = standing_store_for(24);
        let mut sessions: Vec<(u64, SessionKey)> = Vec::new();
        for n in 0..200_u64 {
            // In no order, and no two are equal.
            let seconds = 1_000 + 5 * n + (n * 7 + round) % 5 * 500;
            if let Some((end, key)) = sessions.get_mut(usize::try_from(n * 11 % 24).unwrap())
                && n % 3 != 0
            {
                *end = 10_000 + n;
                let extends = living(*end).with_extension(true);
                store.open(key, &extends).await.unwrap();
            }
            let key = create(&store, &set(1), &living(seconds)).await;
            if sessions.len() == 24 {
                let soonest = (0..24).min_by_key(|n| sessions[*n].0).unwrap();
                let (_, gone) = sessions.swap_remove(soonest);
                assert!(!store.is_there(&gone), "{round}, {n}");
            }
            sessions.push((seconds, key));
            let left = sessions.iter().filter(|(_, key)| store.is_there(key));
            assert_eq!(left.count(), sessions.len(), "{round}, {n}");
        }
    }
}

/// In one shard, whatever was looked for before.
#[actix_web::test]
async fn what_comes_later_and_ends_sooner_goes_first() {
    let store = standing_store_for(64);
    for n in 0..64 {
        create(&store, &set(n), &living(100)).await;
    }
    // Each shard that this fills has looked for candidates.
    let mut soon = create(&store, &set(0), &living(100)).await;
    for n in 0..200 {
        let next = create(&store, &set(n), &living(20)).await;
        if n > 0 {
            assert!(!store.is_there(&soon), "{n}");
        }
        soon = next;
    }
}

/// Nobody who lives gives way for want of a look, however little time has passed since the last one.
#[actix_web::test]
async fn what_has_just_expired_makes_room_at_once() {
    let store = standing_store_for(3);
    let at = |milliseconds| {
        let now = Standing.now() + std::time::Duration::from_millis(milliseconds);
        living(100).with_now(now)
    };
    let short = at(0).with_ttl(std::time::Duration::from_millis(10));
    create(&store, &login(), &short).await;
    let others = [
        create(&store, &login(), &at(0)).await,
        create(&store, &login(), &at(0)).await,
    ];
    let refused = store.create(&set(1), &at(0)).await.unwrap_err();
    assert!(matches!(refused, CommitError::Full), "{refused}");
    create(&store, &set(1), &at(20)).await;
    assert!(others.iter().all(|key| store.is_there(key)));
}

/// However large it is: the clone of a record is the record.
#[actix_web::test]
async fn a_read_copies_nothing() {
    let (store, terms) = (MemorySessionStore::new(), Terms::default());
    let key = create(&store, &set(1), &terms).await;
    let mut texts = Vec::new();
    for terms in [&terms, &terms.clone().with_extension(true)] {
        let Ok(Opened::Live(record)) = store.open(&key, terms).await else {
            panic!("the session is live");
        };
        texts.push(record.as_text().unwrap().as_ptr());
    }
    assert_eq!(texts[0], texts[1]);
}

#[actix_web::test]
async fn expired_sessions_and_redirects_are_swept_out() {
    let store = MemorySessionStore::new();
    let terms = Terms::default().with_ttl(std::time::Duration::from_secs(60));
    let (key, _) = store.create(&set(1), &terms).await.unwrap();
    renew(&store, &key, &terms).await;
    let map = &store.inner.map;
    assert_eq!(map.len(), 2, "the renewed record and the redirect");
    for (seconds, left) in [(59, 2), (61, 0)] {
        let now = terms.now + Millis::secs(seconds);
        map.sweep(now);
        assert_eq!(map.len(), left);
    }
}

/// Whoever lists reads where the session lies, and then what lies there.
#[actix_web::test]
async fn a_session_is_listed_while_another_thread_renews_it() {
    let (store, terms) = (store_for(100), Terms::default());
    let mut key = create(&store, &login(), &terms).await;
    let listing = {
        let (store, terms) = (store.clone(), terms.clone());
        let page = Page {
            after: None,
            limit: 10,
        };
        move || (0..50_000).all(|_| store.inner.map.page("alice", page, terms.now).len() == 1)
    };
    let listing = std::thread::spawn(listing);
    while !listing.is_finished() {
        key = renew(&store, &key, &terms).await;
    }
    assert!(listing.join().unwrap(), "a live session was not listed");
}

#[actix_web::test]
async fn clones_share_one_map() {
    let store = MemorySessionStore::new();
    let (key, _) = store.create(&set(1), &Terms::default()).await.unwrap();
    let clone = store.clone();
    assert_eq!(clone.load(&key).await.unwrap().unwrap()["n"], "1");
    clone.delete(&key).await.unwrap();
    assert!(store.is_empty());
}
