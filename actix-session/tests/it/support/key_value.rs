//! A store over a database of one's own.

use actix_session::{storage::KeyValueSessionStore, testing::ManualClock};
use actix_web::cookie::Key;

use super::{Dump, InMemory, TestStore};

pub(crate) struct KeyValue {
    store: KeyValueSessionStore<InMemory>,
    clock: ManualClock,
    key: Key,
}

impl TestStore for KeyValue {
    type Store = KeyValueSessionStore<InMemory>;

    async fn start() -> Self {
        let clock = ManualClock::new();
        let builder = KeyValueSessionStore::builder(InMemory::default());
        Self {
            store: builder.clock(clock.clone()).build(),
            clock,
            key: Key::generate(),
        }
    }

    fn store(&self) -> KeyValueSessionStore<InMemory> {
        self.store.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn key(&self) -> &Key {
        &self.key
    }

    async fn dump(&self) -> Dump {
        let values = self.store.database().values();
        let texts = values.iter().filter_map(|(name, (value, _))| {
            let digest = name.strip_prefix("s.")?;
            Some((digest.to_owned(), text(value)))
        });
        Dump::of(texts.collect())
    }
}

/// What a value says besides its end.
fn text(value: &[u8]) -> String {
    let value = str::from_utf8(value).unwrap();
    let (_, value) = value.split_once(' ').unwrap();
    match value.split_once(' ') {
        Some(("record", record)) => record.split_once(' ').unwrap().1.to_owned(),
        Some((_, redirect)) => redirect.to_owned(),
        None => value.to_owned(),
    }
}
