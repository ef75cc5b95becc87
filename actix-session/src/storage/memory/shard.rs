//! One shard of the map.

use std::collections::HashMap;

use crate::{
    clock::Millis,
    protocol::{Name, Redirect, Stored, TOMBSTONE},
    record::{Record, Version},
};

#[derive(Default)]
pub(super) struct Shard(HashMap<Name, Entry>);

pub(super) enum Entry {
    Record { record: Record, end: Millis },
    Redirect { redirect: Redirect, end: Millis },
    Tombstone { end: Millis },
}

impl Entry {
    pub(super) fn record(record: &Record, end: Millis) -> Self {
        let record = record.clone();
        Self::Record { record, end }
    }

    pub(super) fn redirect(redirect: &Redirect, end: Millis) -> Self {
        let redirect = redirect.clone();
        Self::Redirect { redirect, end }
    }

    const fn end(&self) -> Millis {
        match self {
            Self::Record { end, .. } | Self::Redirect { end, .. } | Self::Tombstone { end } => *end,
        }
    }
}

impl Shard {
    pub(super) fn read(&self, at: &str, now: Millis) -> Stored {
        match self.live(at, now) {
            Some(Entry::Record { record, end }) => {
                Stored::Record(record.clone().with_end(Some(*end)))
            }
            Some(Entry::Redirect { redirect, .. }) => Stored::Redirect(redirect.clone()),
            Some(Entry::Tombstone { .. }) | None => Stored::Nothing,
        }
    }

    pub(super) fn is_taken(&self, at: &str, now: Millis) -> bool {
        self.live(at, now).is_some()
    }

    /// When the record at a name ends, if it is live and the expected one.
    pub(super) fn end_if_expected(
        &self,
        at: &str,
        expect: &Version,
        now: Millis,
    ) -> Option<Millis> {
        let Some(Entry::Record { record, end }) = self.live(at, now) else {
            return None;
        };
        let text = record.as_text()?;
        expect.matches(text).then_some(*end)
    }

    /// When the live record at a name ends, to change it.
    pub(super) fn end_mut(&mut self, at: &str, now: Millis) -> Option<&mut Millis> {
        match self.0.get_mut(at) {
            Some(Entry::Record { end, .. }) if *end > now => Some(end),
            _ => None,
        }
    }

    pub(super) fn put(&mut self, at: &str, entry: Entry) {
        self.0.insert(at.into(), entry);
    }

    /// Whether there was a record, expired or not. Until `end`, its name is not used again.
    pub(super) fn end_record(&mut self, at: &str, end: Millis) -> bool {
        match self.0.get_mut(at) {
            Some(entry @ Entry::Record { .. }) => *entry = Entry::Tombstone { end },
            _ => return false,
        }
        true
    }

    pub(super) fn sweep(&mut self, now: Millis) {
        self.0.retain(|_, entry| entry.end() > now);
    }

    /// Makes room for one more record.
    pub(super) fn make_room(&mut self, max: usize, now: Millis) {
        if self.0.len() < max {
            return;
        }
        self.sweep(now);
        let records = self.records().count();
        if records < max {
            return;
        }
        // Some more than needed, so that the next insertions need not search again.
        let excess = records - max + 1 + max / 16;
        for name in self.first_to_evict(excess) {
            self.0.remove(&name);
        }
        tracing::debug!(evicted = excess, "the memory store is full");
    }

    /// Anonymous sessions first, then whichever end soonest.
    fn first_to_evict(&self, count: usize) -> Vec<Name> {
        let mut order: Vec<_> = self
            .records()
            .map(|(name, record, end)| (record.principal().is_some(), end, name))
            .collect();
        order.sort_unstable_by_key(|(logged_in, end, _)| (*logged_in, *end));
        let first = order.into_iter().take(count);
        first.map(|(_, _, name)| name.clone()).collect()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (&Name, &Record, Millis)> {
        self.0.iter().filter_map(|(name, entry)| match entry {
            Entry::Record { record, end } => Some((name, record, *end)),
            Entry::Redirect { .. } | Entry::Tombstone { .. } => None,
        })
    }

    pub(super) fn all(&self) -> Vec<(String, String)> {
        let text = |entry: &Entry| match entry {
            Entry::Record { record, .. } => record.as_text().unwrap_or_default().to_owned(),
            Entry::Redirect { redirect, .. } => redirect.encode(),
            Entry::Tombstone { .. } => TOMBSTONE.to_owned(),
        };
        let all = self.0.iter();
        all.map(|(name, entry)| (name.as_str().to_owned(), text(entry)))
            .collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn live(&self, at: &str, now: Millis) -> Option<&Entry> {
        self.0.get(at).filter(|entry| entry.end() > now)
    }
}
