//! The protocol's atomic steps on all shards.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard},
};

use super::{
    room::Room,
    shard::{Entry, Rank, Shard},
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
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            room: Room::new(max_entries),
        }
    }

    pub(super) fn read(&self, at: &str, now: Millis) -> Stored {
        self.shard(at).read(at, now)
    }

    /// Reads a record, and extends it if the terms say so.
    pub(super) fn touch(&self, at: &str, terms: &Terms) -> Stored {
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
        let mut shard = self.shard(at);
        if let Stored::Record(record) = shard.read(at, now) {
            let cap = record.absolute_end().unwrap_or(Millis(i64::MAX));
            shard.set_end(at, (now + ttl).min(cap), now);
        }
    }

    pub(super) fn replace(&self, write: &Write<'_>, until: Until, now: Millis) -> Reply {
        let mut shard = self.shard(write.at);
        let Some(present) = shard.end_if_expected(write.at, write.expect, now) else {
            return Reply::Found(shard.read(write.at, now));
        };
        let end = match until {
            Until::At(end) if end <= now => return Reply::Found(Stored::Nothing),
            Until::At(end) => end,
            Until::Same => present,
            Until::AtMost(end) => present.min(end),
        };
        shard.put(write.at, Entry::record(write.new, end));
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
        let entry = Entry::record(new, end);
        loop {
            let mut shard = self.shard(at);
            if shard.is_taken(at, now) {
                return Ok(Reply::Taken);
            }
            if self.room.take() {
                self.put_new(&mut shard, at, entry);
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
        let new = Entry::record(write.new, until);
        let left = Entry::redirect(redirect, &new, terms.now + terms.grace);
        let mut is_beyond = false;
        loop {
            let mut shards = self.lock_both(write.at, &redirect.target);
            if let Some(refusal) = shards.refusal(write, &redirect.target, terms.now) {
                return Ok(refusal);
            }
            if is_beyond {
                self.room.take_beyond();
            }
            if is_beyond || self.room.take() {
                shards.from.put(write.at, left);
                self.put_new(shards.to(), &redirect.target, new);
                return Ok(Reply::Done);
            }
            drop(shards);
            let made = self.make_room(left.rank(), write.at, terms.now);
            // A user's renewal neither fails for want of a redirect's room, nor ends another's
            // session for it. It is one redirect beyond the bound, which goes first.
            is_beyond = made.is_err() && left.rank() == Rank::UsersRedirect;
            if !is_beyond {
                made?;
            }
        }
    }

    pub(super) fn end(&self, at: &str, terms: &Terms) -> Reply {
        let mut shard = self.shard(at);
        if shard.end_record(at, terms.now + terms.grace) {
            return Reply::Done;
        }
        Reply::Found(shard.read(at, terms.now))
    }

    /// Removes what has expired, and returns how much that was.
    pub(super) fn sweep(&self, now: Millis) -> usize {
        let shards = self.shards.iter();
        let swept = shards.map(|shard| lock(shard).sweep(now)).sum();
        self.room.give(swept);
        swept
    }

    /// Removes what has expired, or else what is worth least. The caller holds no lock, and takes
    /// the room in competition with others.
    fn make_room(&self, rank: Rank, spared: &str, now: Millis) -> Result<(), StoreFull> {
        if self.sweep(now) > 0 {
            return Ok(());
        }
        self.evict(rank, spared).ok_or(StoreFull)
    }

    /// Locks one shard after the other, so that others may come first. `None` if nothing gives way.
    fn evict(&self, rank: Rank, spared: &str) -> Option<()> {
        let (rank, shard) = rank.gives_way().iter().find_map(|rank| {
            let soonest = |shard: &Mutex<Shard>| lock(shard).soonest(*rank, spared);
            let shards = self.shards.iter();
            let ends = shards.filter_map(|shard| Some((soonest(shard)?, shard)));
            let (_, shard) = ends.min_by_key(|(end, _)| *end)?;
            Some((*rank, shard))
        })?;
        if lock(shard).evict(rank, spared) {
            self.room.give(1);
            tracing::debug!("the memory store is full: a session made room for another");
        }
        Some(())
    }

    /// Puts an entry for which room was taken where nothing live is.
    fn put_new(&self, shard: &mut Shard, at: &str, entry: Entry) {
        if shard.put(at, entry).is_some() {
            self.room.give(1);
        }
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

    fn shard(&self, name: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.index(name)])
    }

    fn index(&self, name: &str) -> usize {
        let hash = self.hasher.hash_one(name);
        usize::try_from(hash % SHARDS as u64).unwrap_or_default()
    }

    /// Everybody locks two shards in this order, so nobody waits in a circle.
    fn lock_both(&self, from: &str, to: &str) -> Pair<'_> {
        let (from, to) = (self.index(from), self.index(to));
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
    fn refusal(&mut self, write: &Write<'_>, target: &str, now: Millis) -> Option<Reply> {
        let from = &self.from;
        if from.end_if_expected(write.at, write.expect, now).is_none() {
            return Some(Reply::Found(from.read(write.at, now)));
        }
        self.to().is_taken(target, now).then_some(Reply::Taken)
    }

    fn to(&mut self) -> &mut Shard {
        self.to.as_mut().unwrap_or(&mut self.from)
    }
}
