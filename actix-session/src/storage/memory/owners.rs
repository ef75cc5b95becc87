//! Which sessions are whose, and which of them have ended together.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;

use crate::{
    clock::Millis,
    protocol::{NotBefore, Owner, Stored},
    sync::lock,
};

const SHARDS: usize = 64;

/// The sessions of each principal. A step that holds the locks of its records takes one of these
/// last, so nobody waits in a circle.
pub(super) struct Owners {
    shards: Vec<Mutex<HashMap<Box<str>, Owned, RandomState>>>,
    hasher: RandomState,
    /// How many principals have sessions that ended together. Most stores have none, and then no
    /// load asks.
    marks: AtomicUsize,
}

/// One principal's sessions.
#[derive(Default)]
struct Owned {
    sessions: Vec<Session>,
    mark: Option<Mark>,
}

struct Mark {
    not_before: NotBefore,
    until: Millis,
}

/// A session of a principal.
#[derive(Clone, Copy)]
pub(super) struct Session {
    pub(super) id: u128,
    pub(super) login: Millis,
    /// The hash of its record's name.
    pub(super) at: u64,
}

type Shard<'a> = MutexGuard<'a, HashMap<Box<str>, Owned, RandomState>>;

impl Owners {
    pub(super) fn new(hasher: RandomState) -> Self {
        let shard = |_| Mutex::new(HashMap::with_hasher(hasher.clone()));
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            hasher,
            marks: AtomicUsize::new(0),
        }
    }

    /// What was found, unless it has ended together with others.
    pub(super) fn living(&self, found: Stored) -> Stored {
        if !self.has_marks() {
            return found;
        }
        match found {
            Stored::Record(record) if Owner::of(&record).is_some_and(|it| self.ends(&it)) => {
                Stored::Nothing
            }
            found => found,
        }
    }

    /// Whether any sessions have ended together.
    pub(super) fn has_marks(&self) -> bool {
        self.marks.load(Ordering::Acquire) > 0
    }

    fn ends(&self, owner: &Owner) -> bool {
        let shard = self.shard(&owner.principal);
        let owned = shard.get(&*owner.principal);
        owned.is_some_and(|owned| owned.ends(owner))
    }

    /// Notes where a session lies now; `false` if it has ended together with others.
    pub(super) fn enter(&self, owner: &Owner, at: u64) -> bool {
        let mut shard = self.shard(&owner.principal);
        if let Some(owned) = shard.get_mut(&*owner.principal) {
            let ended = owned.ends(owner);
            if !ended {
                owned.enter(owner, at);
            }
            return !ended;
        }
        let mut owned = Owned::default();
        owned.enter(owner, at);
        shard.insert(owner.principal.as_str().into(), owned);
        true
    }

    /// Forgets a session, if it lies there still.
    pub(super) fn leave(&self, owner: &Owner, at: u64) {
        let mut shard = self.shard(&owner.principal);
        let Some(owned) = shard.get_mut(&*owner.principal) else {
            return;
        };
        let is_it = |session: &Session| session.id == owner.id && session.at == at;
        owned.sessions.retain(|session| !is_it(session));
        if owned.is_empty() {
            shard.remove(&*owner.principal);
        }
    }

    pub(super) fn sessions(&self, principal: &str) -> Vec<Session> {
        let shard = self.shard(principal);
        let owned = shard.get(principal);
        owned.map_or_else(Vec::new, |owned| owned.sessions.clone())
    }

    /// Ends a principal's sessions together. `false`: a mark before this one has ended the session of
    /// whoever asks.
    pub(super) fn mark(
        &self,
        principal: &str,
        not_before: NotBefore,
        by: Option<(u128, Millis)>,
        until: Millis,
    ) -> bool {
        let mut shard = self.shard(principal);
        let owned = shard.entry(principal.into()).or_default();
        let earlier = owned.mark.as_ref();
        if let (Some(mark), Some((id, login))) = (earlier, by)
            && mark.not_before.ends(id, login)
        {
            return false;
        }
        let not_before = not_before.after(earlier.map(|mark| &mark.not_before));
        if owned.mark.replace(Mark { not_before, until }).is_none() {
            self.marks.fetch_add(1, Ordering::Release);
        }
        true
    }

    /// Forgets marks that have expired.
    pub(super) fn sweep(&self, now: Millis) {
        if !self.has_marks() {
            return;
        }
        for shard in &self.shards {
            lock(shard).retain(|_, owned| {
                if owned.mark.as_ref().is_some_and(|mark| mark.until <= now) {
                    owned.mark = None;
                    self.marks.fetch_sub(1, Ordering::Release);
                }
                !owned.is_empty()
            });
        }
    }

    fn shard(&self, principal: &str) -> Shard<'_> {
        use std::hash::BuildHasher as _;

        let hash = self.hasher.hash_one(principal) >> 32;
        lock(&self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()])
    }
}

impl Owned {
    fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.mark.is_none()
    }

    fn ends(&self, owner: &Owner) -> bool {
        let mark = self.mark.as_ref();
        mark.is_some_and(|mark| mark.not_before.ends(owner.id, owner.login))
    }

    fn enter(&mut self, owner: &Owner, at: u64) {
        let session = Session {
            id: owner.id,
            login: owner.login,
            at,
        };
        match self.sessions.iter_mut().find(|known| known.id == owner.id) {
            Some(known) => *known = session,
            None => self.sessions.push(session),
        }
    }
}
