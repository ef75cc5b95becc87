//! One shard of the map.

use std::{cmp::Reverse, collections::HashMap};

use crate::{
    clock::Millis,
    protocol::{Name, Redirect, Stored, TOMBSTONE},
    record::{Record, Version},
};

#[derive(Default)]
pub(super) struct Shard {
    entries: HashMap<Name, Entry>,
    /// How many entries there are of each rank.
    count: [usize; 4],
    /// No entry expires before this.
    quiet_until: Option<Millis>,
    /// Some of those to evict next, the very next one last.
    candidates: Vec<(Name, Millis)>,
}

pub(super) struct Entry {
    held: Held,
    end: Millis,
    rank: Rank,
}

enum Held {
    Record(Record),
    Redirect(Redirect),
    Tombstone,
}

/// What an entry is worth in a full store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    Tombstone,
    /// A session without a principal, or the redirect to one.
    Guest,
    /// The redirect to a session with a principal.
    UsersRedirect,
    User,
}

impl Rank {
    /// Those that make room for an entry of this rank, first the one that goes first.
    pub(super) const fn gives_way(self) -> &'static [Self] {
        match self {
            Self::Tombstone | Self::Guest => &[Self::Tombstone, Self::Guest],
            Self::UsersRedirect => &[Self::Tombstone, Self::Guest, Self::UsersRedirect],
            Self::User => &[
                Self::Tombstone,
                Self::Guest,
                Self::UsersRedirect,
                Self::User,
            ],
        }
    }
}

impl Entry {
    pub(super) fn record(record: &Record, end: Millis) -> Self {
        let rank = match record.principal() {
            Some(_) => Rank::User,
            None => Rank::Guest,
        };
        let held = Held::Record(record.clone());
        Self { held, end, rank }
    }

    /// The redirect to a record.
    pub(super) fn redirect(redirect: &Redirect, to: &Self, end: Millis) -> Self {
        let rank = match to.rank {
            Rank::Tombstone | Rank::Guest => Rank::Guest,
            Rank::UsersRedirect | Rank::User => Rank::UsersRedirect,
        };
        let held = Held::Redirect(redirect.clone());
        Self { held, end, rank }
    }

    /// Until `end`, the name is not used again.
    const fn tombstone(end: Millis) -> Self {
        Self {
            held: Held::Tombstone,
            end,
            rank: Rank::Tombstone,
        }
    }

    pub(super) const fn rank(&self) -> Rank {
        self.rank
    }

    fn as_record(&self) -> Option<&Record> {
        match &self.held {
            Held::Record(record) => Some(record),
            Held::Redirect(_) | Held::Tombstone => None,
        }
    }
}

impl Shard {
    pub(super) fn read(&self, at: &str, now: Millis) -> Stored {
        let Some(entry) = self.live(at, now) else {
            return Stored::Nothing;
        };
        match &entry.held {
            Held::Record(record) => Stored::Record(record.clone().with_end(Some(entry.end))),
            Held::Redirect(redirect) => Stored::Redirect(redirect.clone()),
            Held::Tombstone => Stored::Nothing,
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
        let entry = self.live(at, now)?;
        let text = entry.as_record()?.as_text()?;
        expect.matches(text).then_some(entry.end)
    }

    /// Sets when the live record at a name ends.
    pub(super) fn set_end(&mut self, at: &str, end: Millis, now: Millis) {
        let live = self.entries.get_mut(at).filter(|entry| entry.end > now);
        if let Some(entry) = live.filter(|entry| entry.as_record().is_some()) {
            entry.end = end;
            let rank = entry.rank;
            self.note_end(end, rank);
        }
    }

    /// Returns what was at the name, expired or not.
    pub(super) fn put(&mut self, at: &str, entry: Entry) -> Option<Entry> {
        self.note_end(entry.end, entry.rank);
        self.count[entry.rank as usize] += 1;
        let replaced = self.entries.insert(at.into(), entry);
        if let Some(replaced) = &replaced {
            self.count[replaced.rank as usize] -= 1;
        }
        replaced
    }

    /// Whether there was a record, expired or not. A tombstone takes its room until `end`.
    pub(super) fn end_record(&mut self, at: &str, end: Millis) -> bool {
        let entry = self.entries.get(at);
        let is_record = entry.is_some_and(|entry| entry.as_record().is_some());
        if is_record {
            self.put(at, Entry::tombstone(end));
        }
        is_record
    }

    fn remove(&mut self, at: &str) -> Option<Entry> {
        let removed = self.entries.remove(at)?;
        self.count[removed.rank as usize] -= 1;
        Some(removed)
    }

    /// Removes what has expired, and returns how much that was.
    pub(super) fn sweep(&mut self, now: Millis) -> usize {
        if self.quiet_until.is_none_or(|until| until > now) {
            return 0;
        }
        let before = self.entries.len();
        let count = &mut self.count;
        self.entries.retain(|_, entry| {
            let stays = entry.end > now;
            if !stays {
                count[entry.rank as usize] -= 1;
            }
            stays
        });
        self.quiet_until = self.entries.values().map(|entry| entry.end).min();
        before - self.entries.len()
    }

    /// When the first entry of this rank ends. The one at `spared` does not count.
    pub(super) fn soonest(&mut self, rank: Rank, spared: &str) -> Option<Millis> {
        if self.count[rank as usize] == 0 {
            return None;
        }
        let known = self.next_candidate(rank, spared);
        known.or_else(|| {
            self.find_candidates(rank, spared);
            self.next_candidate(rank, spared)
        })
    }

    /// Removes the entry of this rank that ends first. Returns whether there is one.
    pub(super) fn evict(&mut self, rank: Rank, spared: &str) -> bool {
        let found = self.soonest(rank, spared);
        let found = found.and_then(|_| self.candidates.pop());
        found.is_some_and(|(name, _)| self.remove(name.as_str()).is_some())
    }

    /// Drops candidates that have gone or changed.
    fn next_candidate(&mut self, rank: Rank, spared: &str) -> Option<Millis> {
        while let Some((name, end)) = self.candidates.last() {
            let is_same = |entry: &Entry| entry.rank == rank && entry.end == *end;
            if name.as_str() != spared && self.entries.get(name.as_str()).is_some_and(is_same) {
                return Some(*end);
            }
            self.candidates.pop();
        }
        None
    }

    /// Finds more than one, so that the next insertions need not search again.
    fn find_candidates(&mut self, rank: Rank, spared: &str) {
        let all = self.entries.iter();
        let of_rank = all.filter(|(name, entry)| entry.rank == rank && name.as_str() != spared);
        let mut found: Vec<_> = of_rank.map(|(name, entry)| (name, entry.end)).collect();
        let some = self.entries.len() / 16 + 1;
        if found.len() > some {
            found.select_nth_unstable_by_key(some, |(_, end)| *end);
            found.truncate(some);
        }
        found.sort_unstable_by_key(|(_, end)| Reverse(*end));
        let found = found.into_iter().map(|(name, end)| (name.clone(), end));
        self.candidates = found.collect();
    }

    /// How many records there are.
    pub(super) fn sessions(&self) -> usize {
        let entries = self.entries.values();
        entries.filter(|entry| entry.as_record().is_some()).count()
    }

    pub(super) fn all(&self) -> Vec<(String, String)> {
        let text = |entry: &Entry| match &entry.held {
            Held::Record(record) => record.as_text().unwrap_or_default().to_owned(),
            Held::Redirect(redirect) => redirect.encode(),
            Held::Tombstone => TOMBSTONE.to_owned(),
        };
        let all = self.entries.iter();
        all.map(|(name, entry)| (name.as_str().to_owned(), text(entry)))
            .collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Candidates of the same rank that end later are no longer the next ones.
    fn note_end(&mut self, end: Millis, rank: Rank) {
        let until = self.quiet_until.map_or(end, |until| until.min(end));
        self.quiet_until = Some(until);
        let later = self.candidates.partition_point(|(_, other)| *other > end);
        let is_of_rank = |(name, _): &(Name, Millis)| {
            let entry = self.entries.get(name.as_str());
            entry.is_some_and(|entry| entry.rank == rank)
        };
        if self.candidates[..later].iter().any(is_of_rank) {
            self.candidates.drain(..later);
        }
    }

    fn live(&self, at: &str, now: Millis) -> Option<&Entry> {
        self.entries.get(at).filter(|entry| entry.end > now)
    }
}
