//! The protocol's atomic steps on all shards.

use std::sync::{Mutex, MutexGuard};

use foldhash::fast::RandomState;

use super::{
    entry::{Entry, Rank},
    room::Room,
    shard::{Key, Shard},
};
use crate::{
    clock::Millis,
    contract::Terms,
    error::StoreFull,
    protocol::{Redirect, Reply, Stored, Until},
    record::{Record, Version},
    sync::lock,
};

const SHARDS: usize = 64;
/// How many expired entries are dropped at once: others wait no longer than that takes.
const AT_ONCE: usize = 512;
/// Among how many entries an insertion searches for those that end soonest, about. In a store of
/// more, the next insertions search on.
const SEARCHED: usize = 8_000;

/// Records and redirects by name. Each shard has a lock of its own. They share the room.
pub(super) struct Map {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    room: Room,
}

/// A record that replaces the expected one.
pub(super) struct Write<'a> {
    pub(super) at: &'a str,
    pub(super) expect: &'a Version,
    pub(super) new: &'a Record,
}

impl Map {
    pub(super) fn new(max_entries: usize) -> Self {
        // Each store has a seed of its own.
        let hasher = RandomState::default();
        let shard = |_| Mutex::new(Shard::new(hasher.clone()));
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            hasher,
            room: Room::new(max_entries),
        }
    }

    pub(super) fn read(&self, at: &str, now: Millis) -> Stored {
        let at = self.key(at);
        self.shard(at).read(at, now)
    }

    /// Reads a record, and extends it if the terms say so.
    pub(super) fn touch(&self, at: &str, terms: &Terms) -> Stored {
        let at = self.key(at);
        let mut shard = self.shard(at);
        let found = shard.read(at, terms.now).live(terms);
        let Stored::Record(record) = found else {
            return found;
        };
        let extends = |end| terms.extends_at(&record, end);
        if !record.end().is_some_and(extends) {
            return Stored::Record(record);
        }
        let end = terms.until(&record);
        shard.set_end(at, end, terms.now);
        Stored::Record(record.with_end(Some(end)).extended())
    }

    pub(super) fn set_ttl(&self, at: &str, ttl: Millis, now: Millis) {
        let at = self.key(at);
        let mut shard = self.shard(at);
        if let Stored::Record(record) = shard.read(at, now) {
            let cap = record.absolute_end().unwrap_or(Millis(i64::MAX));
            shard.set_end(at, (now + ttl).min(cap), now);
        }
    }

    pub(super) fn replace(&self, write: &Write<'_>, until: Until, now: Millis) -> Reply {
        let at = self.key(write.at);
        // Made before the lock is taken, and what it replaces is dropped after that.
        let mut entry = Entry::record(write.new, now);
        let mut shard = self.shard(at);
        let Some(present) = shard.end_if_expected(at, write.expect, now) else {
            return Reply::Found(shard.read(at, now));
        };
        entry.end = match until {
            Until::At(end) if end <= now => return Reply::Found(Stored::Nothing),
            Until::At(end) => end,
            Until::Same => present,
            Until::AtMost(end) => present.min(end),
        };
        let replaced = shard.put(at, entry);
        drop(shard);
        drop(replaced);
        Reply::Done
    }

    /// # Errors
    /// The store is full of what does not give way.
    pub(super) fn insert(
        &self,
        at: &str,
        new: &Record,
        end: Millis,
        now: Millis,
    ) -> Result<Reply, StoreFull> {
        let at = self.key(at);
        let entry = Entry::record(new, end);
        loop {
            let mut shard = self.shard(at);
            if shard.is_taken(at, now) {
                return Ok(Reply::Taken);
            }
            if self.room.take() {
                let replaced = self.put_new(&mut shard, at, entry);
                drop(shard);
                drop(replaced);
                return Ok(Reply::Done);
            }
            drop(shard);
            self.make_room(entry.rank(), at, now)?;
        }
    }

    /// # Errors
    /// The store is full of what does not give way.
    pub(super) fn rotate(
        &self,
        write: &Write<'_>,
        redirect: &Redirect,
        until: Millis,
        terms: &Terms,
    ) -> Result<Reply, StoreFull> {
        if until <= terms.now {
            return Ok(Reply::Found(Stored::Nothing));
        }
        let [at, target] = [write.at, &*redirect.target].map(|name| self.key(name));
        let new = Entry::record(write.new, until);
        let left = Entry::redirect(redirect, &new, terms.now + terms.grace);
        let mut is_beyond = false;
        loop {
            let mut shards = self.lock_both(at, target);
            if let Some(refusal) = shards.refusal(at, write.expect, target, terms.now) {
                return Ok(refusal);
            }
            if is_beyond {
                self.room.take_beyond();
            }
            if is_beyond || self.room.take() {
                let moved = shards.from.put(at, left);
                let replaced = self.put_new(shards.to(), target, new);
                drop(shards);
                drop((moved, replaced));
                return Ok(Reply::Done);
            }
            drop(shards);
            let made = self.make_room(left.rank(), at, terms.now);
            // A user's renewal neither fails for want of a redirect's room, nor ends another's
            // session for it. It is one redirect beyond the bound, which goes first.
            is_beyond = made.is_err() && left.rank() == Rank::UsersRedirect;
            if !is_beyond {
                made?;
            }
        }
    }

    pub(super) fn end(&self, at: &str, terms: &Terms) -> Reply {
        let at = self.key(at);
        let mut shard = self.shard(at);
        let ended = shard.end_record(at, terms.now + terms.grace);
        if ended.is_none() {
            return Reply::Found(shard.read(at, terms.now));
        }
        drop(shard);
        Reply::Done
    }

    /// Removes what has expired, and returns how much that was.
    pub(super) fn sweep(&self, now: Millis) -> usize {
        let mut swept = 0;
        for shard in &self.shards {
            loop {
                let some = self.sweep_some(shard, now);
                swept += some;
                if some < AT_ONCE {
                    break;
                }
            }
        }
        swept
    }

    /// Removes some of what has expired. It is dropped without the lock.
    fn sweep_some(&self, shard: &Mutex<Shard>, now: Millis) -> usize {
        let expired = lock(shard).take_expired(now, AT_ONCE);
        self.room.give(expired.len());
        expired.len()
    }

    /// Removes some of what has expired, or else what is worth least. The caller holds no lock, and
    /// takes the room in competition with others.
    fn make_room(&self, rank: Rank, spared: Key<'_>, now: Millis) -> Result<(), StoreFull> {
        let mut shards = self.shards_from(spared);
        if shards.any(|shard| self.sweep_some(shard, now) > 0) {
            return Ok(());
        }
        self.evict(rank, spared).ok_or(StoreFull)
    }

    /// Locks one shard after the other, so that others may come first. `None` if nothing gives way.
    fn evict(&self, rank: Rank, spared: Key<'_>) -> Option<()> {
        let mut ranks = rank.gives_way().iter();
        let (rank, shard) = ranks.find_map(|rank| Some((*rank, self.soonest(*rank, spared)?)))?;
        let evicted = lock(shard).evict(rank, spared);
        if evicted.is_some() {
            self.room.give(1);
            tracing::debug!("the memory store is full: a session made room for another");
        }
        Some(())
    }

    /// The shard with the entry of this rank that ends first, or one of the first.
    fn soonest(&self, rank: Rank, spared: Key<'_>) -> Option<&Mutex<Shard>> {
        let (mut soonest, mut searched) = (None, 0);
        for shard in self.shards_from(spared) {
            let mut found = lock(shard);
            let mut end = found.known_soonest(rank, spared);
            if end.is_none() && found.has(rank) && (searched < SEARCHED || soonest.is_none()) {
                searched += found.len();
                end = found.find_soonest(rank, spared);
            }
            if let Some(end) = end
                && soonest.is_none_or(|(least, _)| end < least)
            {
                soonest = Some((end, shard));
            }
        }
        soonest.map(|(_, shard)| shard)
    }

    /// All shards. Another one comes first for each name, so that all have their turn.
    fn shards_from(&self, at: Key<'_>) -> impl Iterator<Item = &Mutex<Shard>> {
        let (before, from) = self.shards.split_at(at.shard(SHARDS));
        from.iter().chain(before)
    }

    /// Puts an entry for which room was taken where nothing live is.
    fn put_new(&self, shard: &mut Shard, at: Key<'_>, entry: Entry) -> Option<Entry> {
        let replaced = shard.put(at, entry);
        if replaced.is_some() {
            self.room.give(1);
        }
        replaced
    }

    /// How many records there are.
    pub(super) fn sessions(&self) -> usize {
        let sessions = |shard: &Mutex<Shard>| lock(shard).sessions();
        self.shards.iter().map(sessions).sum()
    }

    /// How many records, redirects and tombstones there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let all = self.shards.iter().map(|shard| lock(shard).len()).sum();
        assert_eq!(all, self.room.used());
        all
    }

    pub(super) fn all(&self) -> Vec<(String, String)> {
        let all = self.shards.iter().map(|shard| lock(shard).all());
        all.flatten().collect()
    }

    fn key<'a>(&self, name: &'a str) -> Key<'a> {
        Key::new(name, &self.hasher)
    }

    fn shard(&self, at: Key<'_>) -> MutexGuard<'_, Shard> {
        lock(&self.shards[at.shard(SHARDS)])
    }

    /// Everybody locks two shards in this order, so nobody waits in a circle.
    fn lock_both(&self, from: Key<'_>, to: Key<'_>) -> Pair<'_> {
        let [from, to] = [from, to].map(|name| name.shard(SHARDS));
        let low = lock(&self.shards[from.min(to)]);
        if from == to {
            return Pair {
                from: low,
                to: None,
            };
        }
        let high = lock(&self.shards[from.max(to)]);
        let (from, to) = if from < to { (low, high) } else { (high, low) };
        Pair { from, to: Some(to) }
    }
}

/// The shards of two names.
struct Pair<'a> {
    from: MutexGuard<'a, Shard>,
    /// `None` if both names lie in one shard.
    to: Option<MutexGuard<'a, Shard>>,
}

impl Pair<'_> {
    /// Why the record cannot move.
    fn refusal(
        &mut self,
        at: Key<'_>,
        expect: &Version,
        target: Key<'_>,
        now: Millis,
    ) -> Option<Reply> {
        let from = &self.from;
        if from.end_if_expected(at, expect, now).is_none() {
            return Some(Reply::Found(from.read(at, now)));
        }
        self.to().is_taken(target, now).then_some(Reply::Taken)
    }

    fn to(&mut self) -> &mut Shard {
        self.to.as_mut().unwrap_or(&mut self.from)
    }
}
