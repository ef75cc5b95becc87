//! A transactional database as its author would write it, and some that have a race.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use actix_session::storage::{
    KeyValueDatabase, KeyValueOutcome, KeyValueTransaction, KeyValueWrite,
};

/// Values and their ends.
type Values = BTreeMap<String, (Vec<u8>, u64)>;

/// Clones share the values.
#[derive(Clone, Default)]
pub(crate) struct InMemory {
    values: Arc<Mutex<Values>>,
}

impl InMemory {
    pub(crate) fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap()
    }
}

impl KeyValueDatabase for InMemory {
    async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        let values = self.values();
        let get = |name| values.get(name).map(|(value, _)| value.clone());
        Ok(names.iter().map(get).collect())
    }

    async fn commit(&self, transaction: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
        let mut values = self.values();
        let get = |name: &str| anyhow::Ok(values.get(name).map(|(value, _)| value.clone()));
        if !transaction.is_as_expected(get)? {
            return Ok(KeyValueOutcome::Changed);
        }
        for write in transaction.writes {
            match write {
                KeyValueWrite::Put { name, value, end } => values.insert(name, (value, end)),
                KeyValueWrite::Remove { name } => values.remove(&name),
            };
        }
        Ok(KeyValueOutcome::Done)
    }

    async fn sweep(&self, now: u64, limit: usize) -> anyhow::Result<usize> {
        let mut values = self.values();
        let over = values.iter().filter(|(_, (_, end))| *end <= now);
        let over: Vec<_> = over.take(limit).map(|(name, _)| name.clone()).collect();
        for name in &over {
            values.remove(name);
        }
        Ok(over.len())
    }
}
