//! Cookie-stored sessions, with and without a list of ended ones: which values open, and when.
#![no_main]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, UNIX_EPOCH},
};

use actix_session::{
    fuzzing::{self, Doing, Told, ToldAuth},
    storage::{
        Changes, Committed, CookieSessionStore, MemorySessionStore, Older, Opened, Record, Rotated,
        SessionKey, SessionStore as _, Terms,
    },
    testing::ManualClock,
};
use actix_session_fuzz::{
    cursor::Cursor,
    records::{Map, meaning},
};
use futures_util::FutureExt as _;

const START: i64 = 1_000_000_000_000;
const SPANS: [i64; 8] = [0, 1, 999, 5_000, 20_000, 61_000, 120_000, 90_000_000];
const PRINCIPALS: [&str; 3] = ["alice", "bob", ""];

struct World {
    store: CookieSessionStore,
    clock: ManualClock,
    now: i64,
    ttl: i64,
    absolute: Option<i64>,
    extend: bool,
    revocation: bool,
    /// Every value that was ever made.
    values: Vec<String>,
    /// Ids of sessions that have ended.
    ended: BTreeSet<u128>,
    /// The session that each session was renewed to, and how long a logout follows the renewal.
    renewed: BTreeMap<u128, (u128, i64)>,
    /// Principals, and the time up to which their logins are ended.
    principals: Vec<(String, i64)>,
    logins: u128,
}

/// Nothing here waits: the list is in memory.
fn now<T>(future: impl Future<Output = T>) -> T {
    future
        .now_or_never()
        .expect("a store in memory does not wait")
}

fn key(text: &str) -> Option<SessionKey> {
    text.to_owned().try_into().ok()
}

fn told(text: &str) -> Option<Told> {
    meaning(text)?.metadata
}

/// The metadata that nobody but us can have written.
fn known(text: &str) -> Option<Told> {
    meaning(text).filter(|meaning| !meaning.claimed)?.metadata
}

fn entries(text: &str) -> Map {
    meaning(text).expect("this one can be read").entries
}

impl World {
    fn new(cursor: &mut Cursor<'_>) -> Self {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_millis(START.unsigned_abs()));
        let mut store = CookieSessionStore::default().clock(clock.clone());
        let revocation = cursor.flag();
        if revocation {
            let list = MemorySessionStore::builder().clock(clock.clone()).build();
            store = store.with_revocation(list);
        }
        Self {
            store,
            clock,
            now: START,
            ttl: cursor.one_of(&[1_000, 20_000, 86_400_000]),
            absolute: cursor.one_of(&[None, Some(30_000), Some(100_000)]),
            extend: cursor.flag(),
            revocation,
            values: Vec::new(),
            ended: BTreeSet::new(),
            renewed: BTreeMap::new(),
            principals: Vec::new(),
            logins: 0,
        }
    }

    fn terms(&self) -> Terms {
        fuzzing::terms(self.now, self.ttl, self.absolute, self.extend)
    }

    /// Whether a value must open.
    fn opens(&self, text: &str) -> bool {
        let Some(meaning) = meaning(text) else {
            return false;
        };
        let Some(told) = meaning.metadata else {
            return meaning.blanks.is_none_or(|end| self.now < end);
        };
        let since = told.auth.as_ref().map_or(told.created, |auth| auth.at);
        let policy = self.absolute.map(|span| since.saturating_add(span));
        let ends = [told.idle_end, told.absolute_end.or(policy)];
        ends.into_iter().flatten().all(|end| self.now < end) && self.is_free(Some(&told))
    }

    fn open(&self, text: &str) -> Option<Record> {
        let opened = now(self.store.open(&key(text)?, &self.terms())).expect("the list is there");
        let record = match opened {
            Opened::Live(record) => Some(record),
            Opened::Unreadable => {
                assert!(meaning(text).is_none());
                None
            }
            _ => None,
        };
        assert_eq!(record.is_some(), self.opens(text), "{text}");
        let record = record?;
        let shown: Map = record.to_map().into_iter().collect();
        assert_eq!(shown, entries(text));
        Some(record)
    }

    fn doing(&mut self, cursor: &mut Cursor<'_>) -> Doing {
        let kind = cursor.byte();
        let mut doing = Doing {
            cleared: (kind & 1 != 0).then(|| u64::from(cursor.byte()) + 1),
            ttl: (kind & 2 != 0).then(|| cursor.one_of(&SPANS).max(1)),
            renew: kind & 4 != 0,
            ..Doing::default()
        };
        if kind & 8 != 0 {
            // The operating system draws no id twice.
            self.logins += 1;
            let id = u128::from(cursor.number().cast_unsigned()) << 64 | self.logins;
            doing.login = Some((cursor.one_of(&PRINCIPALS).to_owned(), self.now, id));
        }
        for _ in 0..cursor.below(3) {
            let value = cursor.flag().then(|| cursor.number().to_string());
            doing.entries.push((cursor.text(), value));
        }
        doing
    }

    fn pick(&self, cursor: &mut Cursor<'_>) -> Option<String> {
        let text = self.values.get(cursor.below(self.values.len()))?;
        Some(text.clone())
    }

    /// A value that a store has just made.
    fn made(&mut self, key: &SessionKey, end: i64, base: Option<&Told>, doing: &Doing) -> Told {
        let text = key.as_ref().to_owned();
        let told = told(&text).expect("what is sealed has metadata");
        let idle = told.idle_end.expect("and its times");
        assert_eq!(idle, end, "the cookie ends with the value");
        assert!(told.absolute_end.is_none_or(|cap| idle <= cap));
        let fresh = doing.login.is_some() || base.is_none();
        if let Some(base) = base.filter(|_| !fresh) {
            // No renewal and no extension reaches past the absolute end. A `clear` takes back what
            // a login has made of it.
            let kept = base.absolute_end.is_none() || told.absolute_end == base.absolute_end;
            let policy = self.absolute.map(|span| told.created + span);
            let cleared = doing.cleared.is_some();
            assert!(if cleared {
                told.absolute_end == policy
            } else {
                kept
            });
            assert_eq!(told.created, base.created);
        }
        if self.absolute.is_some() {
            assert!(told.absolute_end.is_some(), "from the first sight on");
        }
        for (name, value) in last_of_each(doing) {
            if name != actix_session_fuzz::records::RESERVED {
                assert_eq!(entries(&text).get(name), value.as_ref());
            }
        }
        self.values.push(text);
        told
    }

    fn create(&mut self, cursor: &mut Cursor<'_>) {
        let doing = self.doing(cursor);
        let (key, end) = now(self
            .store
            .create(&Changes::from(doing.clone()), &self.terms()))
        .expect("it is small");
        self.made(&key, fuzzing::end_of(end), None, &doing);
    }

    fn commit(&mut self, cursor: &mut Cursor<'_>) {
        let Some(text) = self.pick(cursor) else {
            return;
        };
        let Some(base) = self.open(&text) else { return };
        // Time goes by, and things happen, between the load and the answer.
        self.advance(cursor.one_of(&SPANS));
        if cursor.below(4) == 3 {
            self.end(cursor);
        }
        let mut doing = self.doing(cursor);
        doing.login = None;
        doing.renew = false;
        let changes = Changes::from(doing.clone());
        let key = key(&text).expect("it opened");
        let committed = now(self
            .store
            .commit(&key, Some(&base), &changes, &self.terms()));
        let (before, known) = (told(&text), known(&text));
        let id = known.as_ref().map(|told| told.id);
        match committed.expect("it is small") {
            Committed::Gone => {
                // It ended while the request was in flight, or a clear leaves nothing of its time.
                let over = |told: &Told| {
                    let cleared = doing.cleared.is_some();
                    let absolute = self.absolute.map(|absolute| told.created + absolute);
                    let mut ends = [told.idle_end, told.absolute_end]
                        .into_iter()
                        .chain([absolute.filter(|_| cleared)])
                        .flatten();
                    ends.any(|end| end <= self.now)
                };
                // The times of metadata are believed, whoever wrote it.
                assert!(!self.is_free(before.as_ref()) || before.as_ref().is_some_and(over));
                self.clear_ahead(known.as_ref(), &doing);
            }
            Committed::NewValue(sealed, end, older) => {
                assert!(
                    self.is_free(before.as_ref()),
                    "what has ended is not sealed anew"
                );
                let new = self.made(&sealed, fuzzing::end_of(end), known.as_ref(), &doing);
                let another = doing.cleared.is_some();
                assert!(id.is_none_or(|id| (id == new.id) != another));
                let unasked = changes.is_empty() && !self.extend;
                if let Some(idle) = before.and_then(|told| told.idle_end).filter(|_| unasked) {
                    assert_eq!(new.idle_end, Some(idle), "sealing anew moves no time");
                }
                if doing.cleared.is_some() {
                    assert_eq!(new.auth, None, "nobody is logged in after a clear");
                    self.end_older(older, &text, new.id);
                }
            }
            other => panic!("a cookie-stored session does not answer {other:?}"),
        }
    }

    /// Whether nothing on the list ends a session, whatever its times are.
    fn is_free(&self, told: Option<&Told>) -> bool {
        told.is_none_or(|told| {
            let logged_out = self.principals.iter().any(|(principal, until)| {
                let of = |auth: &ToldAuth| {
                    auth.who == *principal && auth.login.unwrap_or(auth.at) <= *until
                };
                told.auth.as_ref().is_some_and(of)
            });
            !self.ended.contains(&told.id) && !logged_out
        })
    }

    fn rotate(&mut self, cursor: &mut Cursor<'_>) {
        let Some(text) = self.pick(cursor) else {
            return;
        };
        let Some(base) = self.open(&text) else { return };
        if cursor.below(4) == 3 {
            self.end(cursor);
        }
        let doing = Doing {
            renew: true,
            ..self.doing(cursor)
        };
        let changes = Changes::from(doing.clone());
        let key = key(&text).expect("it opened");
        let rotated = now(self
            .store
            .rotate(&key, Some(&base), &changes, &self.terms()));
        let (before, known) = (told(&text), known(&text));
        let free = self.is_free(before.as_ref());
        match rotated.expect("it is small") {
            Rotated::Rotated(sealed, end, older) => {
                let base = known.as_ref().filter(|_| free);
                let new = self.made(&sealed, fuzzing::end_of(end), base, &doing);
                if self.revocation {
                    assert!(before.is_none_or(|old| old.id != new.id));
                }
                if let Some((principal, ..)) = &doing.login {
                    assert_eq!(new.auth.map(|auth| auth.who).as_ref(), Some(principal));
                }
                if free {
                    self.end_older(older, &text, new.id);
                } else {
                    self.clear_ahead(known.as_ref(), &doing);
                }
            }
            Rotated::Gone => {
                assert!(!free);
                self.clear_ahead(known.as_ref(), &doing);
            }
            other => panic!("a cookie-stored session does not answer {other:?}"),
        }
    }

    fn delete(&mut self, text: &str) {
        let Some(key) = key(text) else { return };
        now(self.store.delete(&key)).expect("the list is there");
        if let Some(told) = told(text).filter(|_| self.revocation) {
            self.end_ahead(told.id);
        }
    }

    /// A logout by `clear` that comes too late ends what the session was renewed to, and its other
    /// values.
    fn clear_ahead(&mut self, known: Option<&Told>, doing: &Doing) {
        let logs_out = doing.cleared.is_some() && doing.login.is_none();
        if let Some(told) = known.filter(|_| logs_out && self.revocation) {
            self.end_ahead(told.id);
        }
    }

    fn end_ahead(&mut self, mut id: u128) {
        while !self.ended.insert(id) {
            match self.renewed.get(&id) {
                Some((next, until)) if self.now < *until => id = *next,
                _ => return,
            }
        }
    }

    /// What the middleware does once a renewed value is known to fit.
    fn end_older(&mut self, older: Older, text: &str, new: u128) {
        let first = now(fuzzing::end_older(older)).expect("the list is there");
        let Some(told) = known(text).filter(|_| self.revocation) else {
            assert!(first, "nobody ends anything");
            return;
        };
        assert_eq!(first, self.ended.insert(told.id), "one renewal wins");
        self.renewed.insert(told.id, (new, self.now + 60_000));
    }

    /// Ends one session, or all of a principal.
    fn end(&mut self, cursor: &mut Cursor<'_>) {
        if cursor.flag() {
            if let Some(text) = self.pick(cursor) {
                self.delete(&text);
            }
            return;
        }
        let principal = cursor.one_of(&PRINCIPALS);
        let done = now(self.store.revoke_principal(principal));
        assert_eq!(done.is_ok(), self.revocation);
        if done.is_ok() {
            self.principals.push((principal.to_owned(), self.now));
        }
    }

    fn advance(&mut self, span: i64) {
        self.now += span;
        self.clock
            .advance(Duration::from_millis(span.unsigned_abs()));
    }
}

fn last_of_each(doing: &Doing) -> std::collections::BTreeMap<&str, Option<String>> {
    let entries = doing.entries.iter();
    entries
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut cursor = Cursor::new(bytes);
    let mut world = World::new(&mut cursor);
    for _ in 0..24 {
        if cursor.is_done() {
            break;
        }
        match cursor.below(7) {
            0 => world.create(&mut cursor),
            1 | 2 => world.commit(&mut cursor),
            3 => world.rotate(&mut cursor),
            4 => world.end(&mut cursor),
            5 => world.advance(cursor.one_of(&SPANS)),
            _ => world.values.push(cursor.text()),
        }
        for text in &world.values {
            world.open(text);
        }
    }
});
