//! One shard of the map.

use std::{
    cmp::Reverse,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table};

use super::{
    entry::{Entry, RANKS, Rank},
    evict::Hint,
};
use crate::{
    clock::Millis,
    protocol::{Owner, Stored},
    record::Version,
};

/// What all shards know together.
pub(super) struct Totals {
    /// How many entries there are of each rank.
    counts: [AtomicUsize; RANKS],
    /// No entry expires before this.
    quiet_until: AtomicI64,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            counts: Default::default(),
            quiet_until: AtomicI64::new(i64::MAX),
        }
    }
}

impl Totals {
    pub(super) fn has(&self, rank: Rank) -> bool {
        self.count(rank) > 0
    }

    pub(super) fn count(&self, rank: Rank) -> usize {
        self.counts[rank as usize].load(Ordering::Relaxed)
    }

    pub(super) fn may_have_expired(&self, now: Millis) -> bool {
        self.quiet_until.load(Ordering::Relaxed) <= now.0
    }

    /// Each shard that is asked for what has expired says anew until when it is quiet. What is added
    /// meanwhile counts as well.
    pub(super) fn begin_look(&self) {
        self.quiet_until.store(i64::MAX, Ordering::Relaxed);
    }

    /// Something may expire then.
    pub(super) fn note_end(&self, end: Millis) {
        // Seldom: what comes later mostly ends later.
        if end.0 < self.quiet_until.load(Ordering::Relaxed) {
            self.quiet_until.fetch_min(end.0, Ordering::Relaxed);
        }
    }
}

pub(super) struct Shard {
    entries: HashTable<Slot>,
    hasher: RandomState,
    /// How many entries there are of each rank.
    count: [usize; RANKS],
    totals: Arc<Totals>,
    /// No entry expires before this.
    quiet_until: Option<Millis>,
    /// Some of those of one rank to evict next, the very next one last.
    candidates: Vec<Candidate>,
    candidates_rank: Rank,
    /// Where it says when the next one to evict ends, and at which place.
    hints: (Arc<[Hint]>, usize),
}

/// An entry under its name.
pub(super) struct Slot {
    name: Box<str>,
    entry: Entry,
}

impl Slot {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a session, not what is kept beside sessions.
    pub(super) fn is_session(&self) -> bool {
        self.entry.is_record() && matches!(self.entry.rank(), Rank::Guest | Rank::User)
    }
}

/// A name, which is hashed once.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    name: &'a str,
    hash: u64,
}

/// The hash and the end tell an entry from others well enough: of two that are equal in both,
/// either may go.
#[derive(Clone, Copy)]
struct Candidate {
    hash: u64,
    end: Millis,
}

impl<'a> Key<'a> {
    pub(super) fn new(name: &'a str, hasher: &RandomState) -> Self {
        let hash = hash(hasher, name);
        Self { name, hash }
    }

    /// The shard of the name, out of so many. The table uses the other bits.
    pub(super) fn shard(&self, shards: usize) -> usize {
        shard_of(self.hash, shards)
    }

    /// The hash of the name, which is enough to find it again.
    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    fn is_of(&self, slot: &Slot) -> bool {
        *slot.name == *self.name
    }
}

impl Slot {
    /// Whose record it is, if it is somebody's, and the hash of its name.
    pub(super) fn owner(&self, hasher: &RandomState) -> Option<(Owner, u64)> {
        let owner = self.entry.owner()?;
        Some((owner, hash(hasher, &self.name)))
    }
}

/// The shard of the name that has this hash, out of so many.
pub(super) fn shard_of(hash: u64, shards: usize) -> usize {
    usize::try_from((hash >> 32) % shards as u64).unwrap_or_default()
}

fn hash(hasher: &RandomState, name: &str) -> u64 {
    use std::hash::BuildHasher as _;

    hasher.hash_one(name)
}

impl Shard {
    pub(super) fn new(
        hasher: RandomState,
        totals: Arc<Totals>,
        hints: (Arc<[Hint]>, usize),
    ) -> Self {
        Self {
            totals,
            hints,
            entries: HashTable::new(),
            hasher,
            count: [0; RANKS],
            quiet_until: None,
            candidates: Vec::new(),
            candidates_rank: Rank::Tombstone,
        }
    }

    pub(super) fn read(&self, at: Key<'_>, now: Millis) -> Stored {
        self.live(at, now).map_or(Stored::Nothing, Entry::stored)
    }

    pub(super) fn is_taken(&self, at: Key<'_>, now: Millis) -> bool {
        self.live(at, now).is_some()
    }

    /// When the record at a name ends, if it is live and the expected one.
    pub(super) fn end_if_expected(
        &self,
        at: Key<'_>,
        expect: &Version,
        now: Millis,
    ) -> Option<Millis> {
        let entry = self.live(at, now)?;
        expect.matches(entry.text()?).then_some(entry.end)
    }

    /// Sets when the live record at a name ends.
    pub(super) fn set_end(&mut self, at: Key<'_>, end: Millis, now: Millis) {
        let found = self.entries.find_mut(at.hash, |slot| at.is_of(slot));
        let live = found.map(|slot| &mut slot.entry);
        let live = live.filter(|entry| entry.end > now && entry.is_record());
        if let Some(entry) = live {
            entry.end = end;
            let rank = entry.rank();
            self.note_end(end, rank);
        }
    }

    /// Returns what was at the name, expired or not. It is best dropped without the lock.
    pub(super) fn put(&mut self, at: Key<'_>, entry: Entry) -> Option<Entry> {
        let rank = entry.rank();
        self.note_end(entry.end, rank);
        let hasher = &self.hasher;
        let place = self.entries.entry(
            at.hash,
            |slot| at.is_of(slot),
            |slot| hash(hasher, &slot.name),
        );
        match place {
            hash_table::Entry::Occupied(mut found) => {
                let replaced = std::mem::replace(&mut found.get_mut().entry, entry);
                if replaced.rank() != rank {
                    self.one_less(replaced.rank());
                    self.one_more(rank);
                }
                Some(replaced)
            }
            hash_table::Entry::Vacant(free) => {
                let name = at.name.into();
                free.insert(Slot { name, entry });
                self.one_more(rank);
                None
            }
        }
    }

    /// The name and the record of a session, by the hash of its name.
    pub(super) fn session(&self, hash: u64, id: u128, now: Millis) -> Option<(Box<str>, Stored)> {
        let found = self.entries.find(hash, |slot| slot.entry.is_session(id))?;
        let live = found.entry.end > now;
        live.then(|| (found.name.clone(), found.entry.stored()))
    }

    /// Leaves a tombstone until `end` if there is a record, expired or not.
    pub(super) fn end_record(&mut self, at: Key<'_>, end: Millis) -> Option<Entry> {
        let found = self.entries.find(at.hash, |slot| at.is_of(slot))?;
        if found.entry.is_record() {
            self.put(at, Entry::tombstone(end))
        } else {
            None
        }
    }

    /// Takes out at most so many of those that have expired.
    pub(super) fn take_expired(&mut self, now: Millis, most: usize) -> Vec<Slot> {
        let taken = self.take_some_expired(now, most);
        if let Some(until) = self.quiet_until {
            self.totals.note_end(until);
        }
        taken
    }

    fn take_some_expired(&mut self, now: Millis, most: usize) -> Vec<Slot> {
        if self.quiet_until.is_none_or(|until| until > now) {
            return Vec::new();
        }
        let expired = self.entries.extract_if(|slot| slot.entry.end <= now);
        let taken: Vec<_> = expired.take(most).collect();
        for slot in &taken {
            self.one_less(slot.entry.rank());
        }
        if taken.len() < most {
            self.quiet_until = self.entries.iter().map(|slot| slot.entry.end).min();
        }
        taken
    }

    fn one_more(&mut self, rank: Rank) {
        self.count[rank as usize] += 1;
        self.totals.counts[rank as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn one_less(&mut self, rank: Rank) {
        self.count[rank as usize] -= 1;
        self.totals.counts[rank as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether there may be an entry of this rank to evict.
    pub(super) const fn has(&self, rank: Rank) -> bool {
        self.count[rank as usize] > 0
    }

    /// When the first entry of this rank ends, as far as that is known. The one at `spared` does not
    /// count.
    pub(super) fn known_soonest(&mut self, rank: Rank, spared: Key<'_>) -> Option<Millis> {
        if self.candidates_rank != rank {
            return None;
        }
        // Those that have gone or changed are none any more.
        while let Some(candidate) = self.candidates.last() {
            let is_same = |slot: &Slot| candidate.is(slot, rank) && !spared.is_of(slot);
            if self.entries.find(candidate.hash, is_same).is_some() {
                return Some(candidate.end);
            }
            self.candidates.pop();
            self.give_hint();
        }
        None
    }

    /// Says when the next one to evict ends.
    fn give_hint(&self) {
        let (hints, place) = &self.hints;
        let end = self.candidates.last().map(|candidate| candidate.end);
        hints[*place].set(self.candidates_rank, end);
    }

    /// As [`known_soonest`](Self::known_soonest), after a search.
    pub(super) fn find_soonest(&mut self, rank: Rank, spared: Key<'_>) -> Option<Millis> {
        self.find_candidates(rank);
        self.known_soonest(rank, spared)
    }

    /// Takes out the entry of this rank that ends first, if that is known, and if it ends by then.
    pub(super) fn evict_known(&mut self, rank: Rank, spared: Key<'_>, by: Millis) -> Option<Slot> {
        if self.known_soonest(rank, spared)? > by {
            return None;
        }
        let candidate = self.candidates.pop()?;
        self.give_hint();
        let is_same = |slot: &Slot| candidate.is(slot, rank) && !spared.is_of(slot);
        let found = self.entries.find_entry(candidate.hash, is_same).ok()?;
        let (slot, _) = found.remove();
        self.one_less(rank);
        Some(slot)
    }

    /// Finds more than one, so that the next insertions need not search again.
    /// One of them may be spared, so there are two at least. The names are not looked at, since each
    /// lies elsewhere.
    fn find_candidates(&mut self, rank: Rank) {
        let all = self.entries.iter();
        let of_rank = all.filter(|slot| slot.entry.rank() == rank);
        let mut ends: Vec<_> = of_rank.clone().map(|slot| slot.entry.end).collect();
        let some = self.entries.len() / 16 + 2;
        let last = if ends.len() > some {
            *ends.select_nth_unstable(some).1
        } else {
            Millis(i64::MAX)
        };
        let sooner = of_rank.clone().filter(|slot| slot.entry.end < last);
        let equal = of_rank.filter(|slot| slot.entry.end == last);
        let candidate = |slot: &Slot| Candidate {
            hash: hash(&self.hasher, &slot.name),
            end: slot.entry.end,
        };
        let mut found: Vec<_> = sooner.chain(equal).take(some).map(candidate).collect();
        found.sort_unstable_by_key(|candidate| Reverse(candidate.end));
        self.candidates = found;
        self.candidates_rank = rank;
        self.give_hint();
    }

    /// How many records there are.
    pub(super) fn sessions(&self) -> usize {
        let slots = self.entries.iter();
        slots.filter(|slot| slot.entry.is_record()).count()
    }

    pub(super) fn all(&self) -> Vec<(String, String)> {
        let slots = self.entries.iter();
        slots
            .map(|slot| (slot.name.to_string(), slot.entry.to_text()))
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Candidates of the same rank that end later are no longer the next ones.
    fn note_end(&mut self, end: Millis, rank: Rank) {
        let until = self.quiet_until.map_or(end, |until| until.min(end));
        self.quiet_until = Some(until);
        self.totals.note_end(end);
        if rank == self.candidates_rank && !self.candidates.is_empty() {
            let later = self.candidates.partition_point(|other| other.end > end);
            self.candidates.drain(..later);
            if self.candidates.is_empty() {
                self.give_hint();
            }
        }
    }

    fn live(&self, at: Key<'_>, now: Millis) -> Option<&Entry> {
        let found = self.entries.find(at.hash, |slot| at.is_of(slot))?;
        Some(&found.entry).filter(|entry| entry.end > now)
    }
}

impl Candidate {
    fn is(&self, slot: &Slot, rank: Rank) -> bool {
        slot.entry.end == self.end && slot.entry.rank() == rank
    }
}
