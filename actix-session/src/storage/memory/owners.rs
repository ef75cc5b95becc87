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
    digest,
    protocol::{NotBefore, Owner, Stored},
    sync::lock,
};

const SHARDS: usize = 64;

/// The sessions of each principal. A step that holds the locks of its records takes one of these
/// last, so nobody waits in a circle.
pub(super) struct Owners {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// How many principals have sessions that ended together. Most stores have none, and then no
    /// load asks.
    marks: AtomicUsize,
}

/// Some principals' sessions.
#[derive(Default)]
struct Shard {
    sessions: HashMap<Box<str>, Vec<Session>, RandomState>,
    /// By a digest of the principal, so that nobody can be read out of a mark.
    marks: HashMap<u128, Mark, RandomState>,
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

impl Owners {
    pub(super) fn new(hasher: RandomState) -> Self {
        let shard = |_| {
            Mutex::new(Shard {
                sessions: HashMap::with_hasher(hasher.clone()),
                marks: HashMap::with_hasher(hasher.clone()),
            })
        };
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
        self.shard(&owner.principal).ends(owner)
    }

    /// Notes where a session lies now; `false` if it has ended together with others.
    pub(super) fn enter(&self, owner: &Owner, at: u64) -> bool {
        let mut shard = self.shard(&owner.principal);
        let ended = shard.ends(owner);
        if !ended {
            shard.enter(owner, at);
        }
        !ended
    }

    /// Forgets a session, if it lies there still.
    pub(super) fn leave(&self, owner: &Owner, at: u64) {
        let mut shard = self.shard(&owner.principal);
        let Some(sessions) = shard.sessions.get_mut(&*owner.principal) else {
            return;
        };
        let is_it = |session: &Session| session.id == owner.id && session.at == at;
        sessions.retain(|session| !is_it(session));
        if sessions.is_empty() {
            shard.sessions.remove(&*owner.principal);
        }
    }

    pub(super) fn sessions(&self, principal: &str) -> Vec<Session> {
        let shard = self.shard(principal);
        shard.sessions.get(principal).cloned().unwrap_or_default()
    }

    pub(super) fn session(&self, principal: &str, id: u128) -> Option<Session> {
        let shard = self.shard(principal);
        let sessions = shard.sessions.get(principal)?;
        sessions.iter().find(|session| session.id == id).copied()
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
        let name = name_of(principal);
        let mut shard = self.shard(principal);
        let earlier = shard.marks.get(&name);
        if let (Some(mark), Some((id, login))) = (earlier, by)
            && mark.not_before.ends(id, login)
        {
            return false;
        }
        let not_before = not_before.after(earlier.map(|mark| &mark.not_before));
        let mark = Mark { not_before, until };
        if shard.marks.insert(name, mark).is_none() {
            self.marks.fetch_add(1, Ordering::Release);
        }
        true
    }

    /// What has ended a principal's sessions together.
    pub(super) fn not_before(&self, principal: &str) -> Option<NotBefore> {
        let shard = self.shard(principal);
        let mark = shard.marks.get(&name_of(principal));
        mark.map(|mark| mark.not_before.clone())
    }

    /// Forgets marks that have expired.
    pub(super) fn sweep(&self, now: Millis) {
        if !self.has_marks() {
            return;
        }
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.marks.len();
            shard.marks.retain(|_, mark| mark.until > now);
            let swept = before - shard.marks.len();
            self.marks.fetch_sub(swept, Ordering::Release);
        }
    }

    /// The principals that have sessions, for tests.
    #[cfg(feature = "testing")]
    pub(super) fn principals(&self) -> Vec<String> {
        let of = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            let names = shard.sessions.keys().map(|name| name.to_string());
            names.collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of).collect()
    }

    fn shard(&self, principal: &str) -> MutexGuard<'_, Shard> {
        use std::hash::BuildHasher as _;

        let hash = self.hasher.hash_one(principal) >> 32;
        lock(&self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()])
    }
}

impl Shard {
    fn ends(&self, owner: &Owner) -> bool {
        if self.marks.is_empty() {
            return false;
        }
        let mark = self.marks.get(&name_of(&owner.principal));
        mark.is_some_and(|mark| mark.not_before.ends(owner.id, owner.login))
    }

    fn enter(&mut self, owner: &Owner, at: u64) {
        let session = Session {
            id: owner.id,
            login: owner.login,
            at,
        };
        let Some(sessions) = self.sessions.get_mut(&*owner.principal) else {
            let principal = owner.principal.as_str().into();
            self.sessions.insert(principal, vec![session]);
            return;
        };
        match sessions.iter_mut().find(|known| known.id == owner.id) {
            Some(known) => *known = session,
            None => sessions.push(session),
        }
    }
}

fn name_of(principal: &str) -> u128 {
    digest::id(&format!("actix-session not before\0{principal}"))
}
