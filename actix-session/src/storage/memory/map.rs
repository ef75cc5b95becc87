//! The protocol's atomic steps on all shards.

use std::{
    cmp::Reverse,
    sync::{Arc, Mutex, MutexGuard},
};

use foldhash::fast::RandomState;

use super::{
    entry::{Entry, Rank},
    evict::Eviction,
    owners::{self, Owners},
    room::Room,
    shard::{Key, Shard, Slot, shard_of},
};
use crate::{
    clock::Millis,
    contract::Terms,
    error::StoreFull,
    live::hub::Hub,
    measure,
    protocol::{NotBefore, Owner, OwnerBefore, Redirect, Reply, Stored, Until},
    record::{Record, Version},
    storage::index::{Listed, Page},
    sync::lock,
};

const SHARDS: usize = 64;
/// How many expired entries are dropped at once: others wait no longer than that takes.
const AT_ONCE: usize = 512;

/// Records and redirects by name. Each shard has a lock of its own. They share the room.
pub(super) struct Map {
    pub(super) shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    pub(super) room: Room,
    pub(super) eviction: Eviction,
    owners: Owners,
    /// Whoever waits for the end of a session is told what no step ends.
    hub: Arc<Hub>,
}

/// A record that replaces the expected one.
pub(super) struct Write<'a> {
    pub(super) at: &'a str,
    pub(super) expect: &'a Version,
    pub(super) new: &'a Record,
    pub(super) owner_before: &'a OwnerBefore,
}

impl Map {
    pub(super) fn new(max_entries: usize, hub: Arc<Hub>) -> Self {
        // Each store has a seed of its own.
        let hasher = RandomState::default();
        let eviction = Eviction::new(SHARDS);
        let shard = |place| {
            let (totals, hints) = (eviction.totals(), eviction.hints());
            Mutex::new(Shard::new(hasher.clone(), totals, (hints, place)))
        };
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            owners: Owners::new(hasher.clone()),
            hasher,
            room: Room::new(max_entries),
            eviction,
            hub,
        }
    }

    pub(super) fn read(&self, at: &str, now: Millis) -> Stored {
        let at = self.key(at);
        let found = self.shard(at).read(at, now);
        self.owners.living(found)
    }

    /// Reads a record, and extends it if the terms say so.
    pub(super) fn touch(&self, at: &str, terms: &Terms) -> Stored {
        let at = self.key(at);
        let mut shard = self.shard(at);
        let found = self.owners.living(shard.read(at, terms.now)).live(terms);
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
        if let Stored::Record(record) = self.owners.living(shard.read(at, now)) {
            let cap = record.absolute_end().unwrap_or(Millis(i64::MAX));
            shard.set_end(at, (now + ttl).min(cap), now);
        }
    }

    pub(super) fn replace(&self, write: &Write<'_>, until: Until, now: Millis) -> Reply {
        let at = self.key(write.at);
        // Made before the lock is taken, and what it replaces is dropped after that.
        let mut entry = Entry::record(write.at, write.new, now);
        let mut shard = self.shard(at);
        let Some(present) = shard.end_if_expected(at, write.expect, now) else {
            return Reply::Found(self.owners.living(shard.read(at, now)));
        };
        if self.has_ended(&shard, at, now) {
            return Reply::Found(Stored::Nothing);
        }
        entry.end = match until {
            Until::At(end) if end <= now => return Reply::Found(Stored::Nothing),
            Until::At(end) => end,
            Until::Same => present,
            Until::AtMost(end) => present.min(end),
        };
        if !self.change_owner(write, at, at) {
            return Reply::Ended;
        }
        let replaced = shard.put(at, entry);
        drop(shard);
        drop(replaced);
        Reply::Done
    }

    /// Whether the record at a name has ended together with its owner's others.
    fn has_ended(&self, shard: &Shard, at: Key<'_>, now: Millis) -> bool {
        self.owners.has_marks()
            && matches!(self.owners.living(shard.read(at, now)), Stored::Nothing)
    }

    /// Notes that a record replaces another one; `false` if it has ended together with its owner's
    /// others.
    fn change_owner(&self, write: &Write<'_>, from: Key<'_>, to: Key<'_>) -> bool {
        if *write.owner_before == OwnerBefore::Same && from.hash() == to.hash() {
            return true;
        }
        let entered = match Owner::of(write.new) {
            Some(owner) => self.owners.enter(&owner, to.hash()),
            None => true,
        };
        if let (OwnerBefore::Other(Some(owner)), true) = (write.owner_before, entered) {
            self.owners.leave(owner, from.hash());
        }
        entered
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
        let entry = Entry::record(at, new, end);
        let at = self.key(at);
        let owner = Owner::of(new);
        loop {
            let mut shard = self.shard(at);
            if shard.is_taken(at, now) {
                return Ok(Reply::Taken);
            }
            if self.take_room(entry.rank()) {
                if !owner
                    .as_ref()
                    .is_none_or(|owner| self.owners.enter(owner, at.hash()))
                {
                    self.room.give(1);
                    return Ok(Reply::Ended);
                }
                let replaced = self.put_new(&mut shard, at, entry);
                drop(shard);
                self.forget(replaced.as_ref(), at);
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
        let new = Entry::record(&redirect.target, write.new, until);
        let left = Entry::redirect(redirect, &new, terms.now + terms.grace);
        let mut is_beyond = false;
        loop {
            let mut shards = self.lock_both(at, target);
            if let Some(refusal) = shards.refusal(at, write.expect, target, terms.now) {
                return Ok(match refusal {
                    Reply::Found(found) => Reply::Found(self.owners.living(found)),
                    refusal => refusal,
                });
            }
            if self.has_ended(&shards.from, at, terms.now) {
                return Ok(Reply::Found(Stored::Nothing));
            }
            if is_beyond {
                self.room.take_beyond();
            }
            if is_beyond || self.take_room(left.rank()) {
                if !self.change_owner(write, at, target) {
                    self.room.give(1);
                    return Ok(Reply::Ended);
                }
                let moved = shards.from.put(at, left);
                let replaced = self.put_new(shards.to(), target, new);
                drop(shards);
                drop(moved);
                self.forget(replaced.as_ref(), target);
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
            return Reply::Found(self.owners.living(shard.read(at, terms.now)));
        }
        drop(shard);
        self.forget(ended.as_ref(), at);
        Reply::Done
    }

    pub(super) fn end_if(&self, at: &str, expect: &Version, terms: &Terms) -> Reply {
        let key = self.key(at);
        let mut shard = self.shard(key);
        if shard.end_if_expected(key, expect, terms.now).is_none() {
            return Reply::Found(shard.read(key, terms.now));
        }
        let ended = shard.end_record(key, terms.now + terms.grace);
        drop(shard);
        self.forget(ended.as_ref(), key);
        Reply::Done
    }

    /// Takes a session that has gone from its owner.
    fn forget(&self, gone: Option<&Entry>, at: Key<'_>) {
        if let Some(owner) = gone.and_then(Entry::owner) {
            self.owners.leave(&owner, at.hash());
        }
    }

    /// A page of a principal's sessions.
    pub(super) fn page(&self, principal: &str, page: Page, now: Millis) -> Vec<Listed> {
        let sessions = self.sessions_of(principal, now).into_iter();
        let living = sessions.filter(|it| page.includes((it.login, it.id)));
        let living = living.map(|it| Listed {
            found: self.owners.living(it.found),
            ..it
        });
        living.take(page.limit).collect()
    }

    /// Deletes what a mark has ended, and returns how many sessions that were.
    pub(super) fn end_marked(&self, principal: &str, mark: &NotBefore, terms: &Terms) -> u64 {
        let kept = self.owners.not_before(principal);
        let sessions = self.sessions_of(principal, terms.now).into_iter();
        let ended = sessions.filter(|it| mark.ends_beside(kept.as_ref(), it.id, it.login));
        let versions = ended.filter_map(|it| match it.found {
            Stored::Record(record) => Some((it.at, record.version())),
            _ => None,
        });
        // What is renewed or written meanwhile has ended all the same.
        let done =
            versions.filter(|(at, version)| matches!(self.end_if(at, version, terms), Reply::Done));
        done.count() as u64
    }

    /// A principal's sessions that are there, ended together or not, the latest login first.
    fn sessions_of(&self, principal: &str, now: Millis) -> Vec<Listed> {
        let sessions = self.owners.sessions(principal).into_iter();
        let listed = sessions.filter_map(|it| self.listed(principal, it, now));
        let mut listed: Vec<Listed> = listed.collect();
        listed.sort_unstable_by_key(|it| Reverse((it.login, it.id)));
        listed
    }

    /// A session where it lies now: a renewal may move it once its place is read, since no step holds
    /// the lock of its owner while it waits for that of its record.
    fn listed(&self, principal: &str, mut it: owners::Session, now: Millis) -> Option<Listed> {
        loop {
            let found = lock(&self.shards[shard_of(it.at, SHARDS)]).session(it.at, it.id, now);
            if let Some((name, found)) = found {
                return Some(Listed {
                    id: it.id,
                    login: it.login,
                    at: (*name).into(),
                    reserved: false,
                    found,
                });
            }
            let place = self.owners.session(principal, it.id)?;
            if place.at == it.at {
                return None;
            }
            it = place;
        }
    }

    /// Ends a principal's sessions together. `false`: a mark before this one has ended the session of
    /// whoever asks.
    pub(super) fn mark(
        &self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        until: Millis,
    ) -> bool {
        self.owners.mark(principal, mark.clone(), by, until)
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
        self.owners.sweep(now);
        swept
    }

    /// Removes some of what has expired. It is dropped without the lock.
    pub(super) fn sweep_some(&self, shard: &Mutex<Shard>, now: Millis) -> usize {
        let expired = lock(shard).take_expired(now, AT_ONCE);
        self.room.give(expired.len());
        expired.iter().for_each(|slot| self.forget_slot(slot));
        measure::swept(expired.len() as u64);
        expired.len()
    }

    pub(super) fn forget_slot(&self, slot: &Slot) {
        self.hub.look_soon(slot.name());
        if let Some((owner, at)) = slot.owner(&self.hasher) {
            self.owners.leave(&owner, at);
        }
    }

    /// The places of all shards. Another one comes first for each name, so that all have their turn.
    pub(super) fn shards_from(&self, at: Key<'_>) -> impl Iterator<Item = usize> + use<> {
        let from = at.shard(SHARDS);
        (from..SHARDS).chain(0..from)
    }

    /// Takes the room of one entry, if there is any. Locks displace nobody: they lie beyond the bound,
    /// and whatever else there is has as much room as without them.
    fn take_room(&self, rank: Rank) -> bool {
        if rank == Rank::Lock {
            self.room.take_beyond();
            return true;
        }
        self.room.take(self.eviction.locks())
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

    #[cfg(feature = "testing")]
    pub(super) fn owners(&self) -> Vec<String> {
        self.owners.principals()
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
