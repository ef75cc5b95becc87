//! What gives way in a full store.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use super::{
    entry::Rank,
    map::Map,
    shard::{Key, Slot, Totals},
};
use crate::{clock::Millis, error::StoreFull, measure, sync::lock};

/// Among how many entries an insertion searches for those that end soonest, about. In a store of
/// more, later insertions search on.
const SEARCHED: usize = 8_000;

/// What full stores remember, so that not every insertion locks all shards.
pub(super) struct Eviction {
    totals: Arc<Totals>,
    hints: Arc<[Hint]>,
}

/// What a shard knows of the entry that it would evict next. It may have gone, or end later by now.
pub(super) struct Hint {
    rank: AtomicUsize,
    /// The greatest time if the shard would have to search.
    end: AtomicI64,
}

const UNKNOWN: i64 = i64::MAX;

impl Hint {
    fn unknown() -> Self {
        Self {
            rank: AtomicUsize::new(0),
            end: AtomicI64::new(UNKNOWN),
        }
    }

    /// Only whoever holds the shard's lock calls it.
    pub(super) fn set(&self, rank: Rank, end: Option<Millis>) {
        self.rank.store(rank as usize, Ordering::Relaxed);
        let end = end.map_or(UNKNOWN, |end| end.0);
        self.end.store(end, Ordering::Relaxed);
    }

    fn of_rank(&self, rank: Rank) -> Option<Millis> {
        let end = self.end.load(Ordering::Relaxed);
        let is_known = end != UNKNOWN && self.rank.load(Ordering::Relaxed) == rank as usize;
        is_known.then_some(Millis(end))
    }
}

enum Evicted {
    Slot(Slot),
    /// It went meanwhile, and made room by that, or it ends later now.
    Gone,
}

impl Eviction {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            totals: Arc::default(),
            hints: (0..shards).map(|_| Hint::unknown()).collect(),
        }
    }

    /// Whoever adds entries to the map, or takes them out, notes it here.
    pub(super) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }

    /// How many locks there are.
    pub(super) fn locks(&self) -> usize {
        self.totals.count(Rank::Lock)
    }

    /// Those of all shards, by their places.
    pub(super) fn hints(&self) -> Arc<[Hint]> {
        Arc::clone(&self.hints)
    }
}

impl Map {
    /// Removes some of what has expired, or else what is worth least. The caller holds no lock, and
    /// takes the room in competition with others.
    ///
    /// # Errors
    /// Nothing gives way.
    pub(super) fn make_room(
        &self,
        rank: Rank,
        spared: Key<'_>,
        now: Millis,
    ) -> Result<(), StoreFull> {
        if self.eviction.totals.may_have_expired(now) {
            self.eviction.totals.begin_look();
            let mut shards = self.shards_from(spared);
            if shards.any(|shard| self.sweep_some(&self.shards[shard], now) > 0) {
                // The others have not said until when they are quiet.
                self.eviction.totals.note_end(now);
                return Ok(());
            }
        }
        let mut ranks = rank.gives_way().iter();
        let evicted = ranks.find_map(|rank| self.evict(*rank, spared));
        if let Evicted::Slot(slot) = evicted.ok_or(StoreFull)? {
            self.room.give(1);
            self.forget_slot(&slot);
            if slot.is_session() {
                measure::gave_way();
                tracing::debug!("the memory store is full: a session made room for another");
            }
        }
        Ok(())
    }

    /// Takes out the entry of this rank that ends first, or one of the first. `None` if there is none.
    fn evict(&self, rank: Rank, spared: Key<'_>) -> Option<Evicted> {
        if !self.eviction.totals.has(rank) {
            return None;
        }
        let (end, shard) = self.soonest(rank, spared)?;
        // If it was extended, what ends first now may lie in another shard.
        let evicted = lock(&self.shards[shard]).evict_known(rank, spared, end);
        Some(evicted.map_or(Evicted::Gone, Evicted::Slot))
    }

    /// When the entry of this rank ends that ends first, or one of the first, and the shard that has it.
    /// It locks one shard after the other, and only those that have to search.
    fn soonest(&self, rank: Rank, spared: Key<'_>) -> Option<(Millis, usize)> {
        let (mut soonest, mut searched) = (None, 0);
        for shard in self.shards_from(spared) {
            let mut end = self.eviction.hints[shard].of_rank(rank);
            if end.is_none() && (searched < SEARCHED || soonest.is_none()) {
                let mut found = lock(&self.shards[shard]);
                if found.has(rank) {
                    searched += found.len();
                    end = found.find_soonest(rank, spared);
                }
            }
            if let Some(end) = end
                && soonest.is_none_or(|(least, _)| end < least)
            {
                soonest = Some((end, shard));
            }
        }
        soonest
    }
}
