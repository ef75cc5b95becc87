//! Stores under test, and a look at everything that they hold.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use actix_session::{
    SessionMiddleware,
    config::SessionMiddlewareBuilder,
    storage::{MemorySessionStore, Record, SessionStore, generate_session_key},
    testing::ManualClock,
};
use actix_web::cookie::Key;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Browser, Site};

/// A store with its clock, and a way to see all of it.
pub(crate) trait TestStore: Sized {
    type Store: SessionStore + Clone + 'static;

    async fn start() -> Self;

    fn store(&self) -> Self::Store;

    fn clock(&self) -> &ManualClock;

    fn key(&self) -> &Key;

    /// Every record and redirect.
    async fn dump(&self) -> Dump;

    fn middleware(&self) -> SessionMiddlewareBuilder<Self::Store> {
        SessionMiddleware::builder(self.store(), self.key().clone()).clock(self.clock().clone())
    }

    /// Lets redirects end.
    async fn pass_grace(&self) {
        self.clock().advance(Duration::from_secs(61));
    }

    /// The state is in the value itself.
    fn is_in_cookies(&self) -> bool {
        false
    }

    async fn browser(&self) -> Browser {
        self.browser_of(self.middleware()).await
    }

    async fn browser_of<S: SessionStore + 'static>(
        &self,
        middleware: SessionMiddlewareBuilder<S>,
    ) -> Browser {
        Browser::new(Site::new(middleware.build()).await)
    }
}

pub(crate) struct Memory {
    store: MemorySessionStore,
    clock: ManualClock,
    key: Key,
}

impl TestStore for Memory {
    type Store = MemorySessionStore;

    async fn start() -> Self {
        let clock = ManualClock::new();
        Self {
            store: MemorySessionStore::builder().clock(clock.clone()).build(),
            clock,
            key: Key::generate(),
        }
    }

    fn store(&self) -> MemorySessionStore {
        self.store.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn key(&self) -> &Key {
        &self.key
    }

    async fn dump(&self) -> Dump {
        Dump::of(self.store.dump())
    }
}

/// The time limit of tests that are not about time limits: no busy machine exceeds it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn random_name() -> String {
    generate_session_key().as_ref()[..16].to_owned()
}

/// What an ending leaves beside the record's name, as text.
pub(crate) const TOMBSTONE: &str = "ended";

/// Everything that a store holds: names and texts. Tombstones are nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dump(pub(crate) Vec<(String, String)>);

pub(crate) type Entries = BTreeMap<String, String>;

impl Dump {
    pub(crate) fn of(mut all: Vec<(String, String)>) -> Self {
        all.retain(|(_, text)| text != TOMBSTONE);
        Self(all)
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let records = self.0.iter().filter(|(_, text)| text.starts_with('{'));
        records.map(|(_, text)| text.as_str())
    }

    /// The names of all that is there.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The entries of every record, without the metadata.
    pub(crate) fn records(&self) -> Vec<Entries> {
        self.texts().map(entries).collect()
    }

    /// The entries of the only record.
    pub(crate) fn only(&self) -> Entries {
        let mut records = self.records();
        assert_eq!(records.len(), 1, "one record, not {self:?}");
        records.remove(0)
    }

    pub(crate) fn redirects(&self) -> usize {
        self.0.len() - self.texts().count()
    }

    /// Whether a record, metadata included, holds this text.
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.texts().any(|record| record.contains(text))
    }

    /// Whether somebody is logged in to a record as this principal: records hold it encoded.
    pub(crate) fn is_of(&self, principal: &str) -> bool {
        let field = format!(".{}", URL_SAFE_NO_PAD.encode(principal));
        let mut ends = [".", ":", "\"", "\\"].iter();
        ends.any(|end| self.holds(&format!("{field}{end}")))
    }

    /// No record at all, whatever redirects there are.
    #[track_caller]
    pub(crate) fn assert_no_record(&self) {
        assert_eq!(self.texts().count(), 0, "{self:?}");
    }

    /// Sorted, so that two looks can be compared.
    pub(crate) fn sorted(mut self) -> Self {
        self.0.sort();
        self
    }
}

fn entries(text: &str) -> Entries {
    let record = Record::decode(text.to_owned()).unwrap();
    record.to_map().into_iter().collect()
}

/// What a record should hold: names and JSON texts.
pub(crate) fn expected(entries: &[(&str, &str)]) -> Entries {
    let own = |(name, json): &(&str, &str)| ((*name).to_owned(), (*json).to_owned());
    entries.iter().map(own).collect()
}

/// The whole millisecond that a clock shows, as records keep it.
pub(crate) fn millis(at: SystemTime) -> u128 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_millis()
}
