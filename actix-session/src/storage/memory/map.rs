//! The protocol's atomic steps on all shards.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard},
};

use super::shard::{Entry, Shard};
use crate::{
    clock::Millis,
    contract::Terms,
    protocol::{Redirect, Reply, Stored, Until},
    record::{Record, Version},
    sync::lock,
};

const SHARDS: usize = 64;

/// Records and redirects by name. Each shard has a lock of its own.
pub(super) struct Map {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    max_per_shard: usize,
}

/// A record that replaces the expected one.
pub(super) struct Write<'a> {
    pub(super) at: &'a str,
    pub(super) expect: &'a Version,
    pub(super) new: &'a Record,
}

impl Map {
    pub(super) fn new(max_sessions: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            max_per_shard: max_sessions.div_ceil(SHARDS).max(1),
        }
    }

    pub(super) fn read(&self, at: &str, now: Millis) -> Stored {
        self.shard(at).read(at, now)
    }

    /// Reads a record, and extends it if the terms say so.
    pub(super) fn touch(&self, at: &str, terms: &Terms) -> Stored {
        let mut shard = self.shard(at);
        let found = shard.read(at, terms.now).live(terms);
        let (Stored::Record(record), Some(end)) = (&found, shard.end_mut(at, terms.now)) else {
            return found;
        };
        if !terms.extends_at(record, *end) {
            return found;
        }
        *end = terms.end(record);
        Stored::Record(record.clone().with_end(Some(*end)).extended())
    }

    pub(super) fn set_ttl(&self, at: &str, ttl: Millis, now: Millis) {
        let mut shard = self.shard(at);
        let Stored::Record(record) = shard.read(at, now) else {
            return;
        };
        if let Some(end) = shard.end_mut(at, now) {
            let cap = record.absolute_end().unwrap_or(Millis(i64::MAX));
            *end = (now + ttl).min(cap);
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
        };
        shard.put(write.at, Entry::record(write.new, end));
        Reply::Done
    }

    pub(super) fn insert(&self, at: &str, new: &Record, end: Millis, now: Millis) -> Reply {
        let mut shard = self.shard(at);
        if shard.is_taken(at, now) {
            return Reply::Taken;
        }
        shard.make_room(self.max_per_shard, now);
        shard.put(at, Entry::record(new, end));
        Reply::Done
    }

    pub(super) fn rotate(
        &self,
        write: &Write<'_>,
        redirect: &Redirect,
        until: Millis,
        terms: &Terms,
    ) -> Reply {
        let now = terms.now;
        if until <= now {
            return Reply::Found(Stored::Nothing);
        }
        let mut shards = self.lock_both(write.at, &redirect.target);
        let from = &mut shards.from;
        if from.end_if_expected(write.at, write.expect, now).is_none() {
            return Reply::Found(from.read(write.at, now));
        }
        if shards.to().is_taken(&redirect.target, now) {
            return Reply::Taken;
        }
        let left = Entry::redirect(redirect, now + terms.grace);
        shards.from.put(write.at, left);
        let to = shards.to();
        to.make_room(self.max_per_shard, now);
        to.put(&redirect.target, Entry::record(write.new, until));
        Reply::Done
    }

    pub(super) fn end(&self, at: &str, terms: &Terms) -> Reply {
        let mut shard = self.shard(at);
        if shard.end_record(at, terms.now + terms.grace) {
            return Reply::Done;
        }
        Reply::Found(shard.read(at, terms.now))
    }

    pub(super) fn sweep(&self, now: Millis) {
        self.shards.iter().for_each(|shard| lock(shard).sweep(now));
    }

    /// How many records there are.
    pub(super) fn sessions(&self) -> usize {
        let records = |shard: &Mutex<Shard>| lock(shard).records().count();
        self.shards.iter().map(records).sum()
    }

    /// How many records, redirects and tombstones there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
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
    fn to(&mut self) -> &mut Shard {
        self.to.as_mut().unwrap_or(&mut self.from)
    }
}
