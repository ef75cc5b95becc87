//! Sessions in this process' memory.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration as StdDuration,
};

use super::shared::shared_store;
use crate::{
    clock::{Clock, Millis, SharedClock},
    contract::Terms,
    error::CommitError,
    key::SessionKey,
    protocol::{Backend, Mark, Name, Op, Reply, Slot, Until},
    random,
    record::{Record, Version},
};

const SHARDS: usize = 64;
/// How often expired sessions are swept out, requests or not.
const SWEEP: StdDuration = StdDuration::from_secs(30);

/// Keeps sessions in the memory of this process: for one server, for development and for tests.
///
/// Clones share one map. Make the store once, **outside** of the closure that `HttpServer::new`
/// takes: a store made inside is another one for each worker, and a session that one worker made
/// is unknown to the next (a warning says so).
///
/// Commits, renewals and endings are atomic under a lock for each shard, and never wait for a
/// handler. The number of sessions is bounded ([`max_sessions`]): where it is reached, expired
/// sessions go first, then anonymous ones that end soonest, then the others. A restart forgets all.
///
/// [`max_sessions`]: MemorySessionStoreBuilder::max_sessions
///
/// # Examples
/// ```
/// use actix_session::{SessionMiddleware, storage::MemorySessionStore};
/// use actix_web::{App, HttpServer, cookie::Key};
///
/// # async fn run() -> std::io::Result<()> {
/// let store = MemorySessionStore::new();
/// let secret_key = Key::generate();
///
/// HttpServer::new(move || {
///     App::new().wrap(SessionMiddleware::new(store.clone(), secret_key.clone()))
/// })
/// .bind(("127.0.0.1", 0))?
/// # ; Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MemorySessionStore {
    inner: Arc<Inner>,
}

/// Settings of a [`MemorySessionStore`].
///
/// # Examples
/// ```
/// use actix_session::storage::MemorySessionStore;
///
/// let store = MemorySessionStore::builder().max_sessions(10_000).build();
/// assert!(store.is_empty());
/// ```
#[derive(Debug)]
#[must_use]
pub struct MemorySessionStoreBuilder {
    max_sessions: usize,
    clock: SharedClock,
}

struct Inner {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    most_a_shard: usize,
    clock: SharedClock,
    sweeping: AtomicBool,
    made_on: ThreadId,
}

#[derive(Default)]
struct Shard(HashMap<Name, Entry>);

enum Entry {
    Record { record: Record, end: Millis },
    Mark { mark: Mark, end: Millis },
}

impl MemorySessionStore {
    /// Makes an empty store for up to 100,000 sessions.
    #[allow(
        clippy::new_without_default,
        reason = "a store made by `Default` hides that it is new"
    )]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Settings other than the default ones.
    pub fn builder() -> MemorySessionStoreBuilder {
        MemorySessionStoreBuilder {
            max_sessions: 100_000,
            clock: SharedClock::default(),
        }
    }

    /// How many sessions there are, expired ones that are not swept out yet included.
    pub fn len(&self) -> usize {
        let records = |shard: &Mutex<Shard>| lock(shard).records().count();
        self.inner.shards.iter().map(records).sum()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every record and mark as text under its name, for tests that look for what must not be.
    #[cfg(feature = "testing")]
    pub fn dump(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for shard in &self.inner.shards {
            all.extend(lock(shard).0.iter().map(|(name, entry)| {
                let text = match entry {
                    Entry::Record { record, .. } => record.as_text().unwrap_or_default().into(),
                    Entry::Mark { mark, .. } => mark.encode(),
                };
                (name.clone(), text)
            }));
        }
        all
    }
}

impl MemorySessionStoreBuilder {
    /// Sets how many sessions are kept at most; 64 or more.
    ///
    /// The bound holds for each of 64 parts of the map, so that some sessions may go when little
    /// less than this many are there.
    pub fn max_sessions(mut self, most: usize) -> Self {
        self.max_sessions = most;
        self
    }

    /// Sets the clock that expired sessions are swept out by; the middleware should have the same.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Makes the store.
    pub fn build(self) -> MemorySessionStore {
        let inner = Arc::new(Inner {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            most_a_shard: self.max_sessions.div_ceil(SHARDS).max(1),
            clock: self.clock,
            sweeping: AtomicBool::new(false),
            made_on: thread::current().id(),
        });
        warn_if_one_a_worker(&inner);
        MemorySessionStore { inner }
    }
}

/// Servers make their workers' services on threads of their own: two live stores of two such
/// threads are a store for each worker.
fn warn_if_one_a_worker(inner: &Arc<Inner>) {
    static ON_WORKERS: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());
    static ONCE: std::sync::Once = std::sync::Once::new();

    let name = thread::current()
        .name()
        .map(str::to_owned)
        .unwrap_or_default();
    if !name.starts_with("actix-rt|") && !name.starts_with("actix-server worker") {
        return;
    }
    let mut known = lock(&ON_WORKERS);
    known.retain(|store| store.strong_count() > 0);
    let stores = known.iter().filter_map(Weak::upgrade);
    if stores
        .into_iter()
        .any(|store| store.made_on != inner.made_on)
    {
        ONCE.call_once(|| {
            tracing::warn!(
                "a MemorySessionStore was made for each worker, so that workers do not know each \
                 other's sessions: make it once, before `HttpServer::new`, and clone it inside"
            );
        });
    }
    known.push(Arc::downgrade(inner));
}

/// A panic elsewhere cannot leave a map half changed, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn records(&self) -> impl Iterator<Item = (&Record, Millis)> {
        self.0.values().filter_map(|entry| match entry {
            Entry::Record { record, end } => Some((record, *end)),
            Entry::Mark { .. } => None,
        })
    }

    fn slot(&self, at: &str, now: Millis) -> Slot {
        match self.0.get(at) {
            Some(Entry::Record { record, end }) if *end > now => {
                Slot::Record(record.clone().with_end(Some(*end)))
            }
            Some(Entry::Mark { mark, end }) if *end > now => Slot::Mark(mark.clone()),
            _ => Slot::Nothing,
        }
    }

    /// The end of the record at a name, if it is live and the expected one.
    fn expected(&self, at: &str, expect: &Version, now: Millis) -> Option<Millis> {
        match self.0.get(at) {
            Some(Entry::Record { record, end }) if *end > now => {
                let text = record.as_text().unwrap_or_default();
                expect.matches(text).then_some(*end)
            }
            _ => None,
        }
    }

    fn sweep(&mut self, now: Millis) {
        self.0.retain(|_, entry| match entry {
            Entry::Record { end, .. } | Entry::Mark { end, .. } => *end > now,
        });
    }

    /// Makes room for one more record.
    fn make_room(&mut self, most: usize, now: Millis) {
        if self.0.len() < most {
            return;
        }
        self.sweep(now);
        let records = self.records().count();
        if records < most {
            return;
        }
        // Some more than needed, so that the next insertions need not look again.
        let excess = records - most + 1 + most / 16;
        let mut order: Vec<(bool, Millis, Name)> = self
            .0
            .iter()
            .filter_map(|(name, entry)| match entry {
                Entry::Record { record, end } => {
                    Some((record.principal().is_some(), *end, name.clone()))
                }
                Entry::Mark { .. } => None,
            })
            .collect();
        order.sort_unstable_by_key(|(logged_in, end, _)| (*logged_in, *end));
        for (_, _, name) in order.into_iter().take(excess) {
            self.0.remove(&name);
        }
        tracing::debug!(evicted = excess, "the memory store is full");
    }
}

impl Inner {
    fn index(&self, name: &str) -> usize {
        let hash = self.hasher.hash_one(name);
        usize::try_from(hash % SHARDS as u64).unwrap_or_default()
    }

    fn shard(&self, name: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.index(name)])
    }

    fn cas(&self, at: &str, expect: &Version, new: &Record, until: Until, now: Millis) -> Reply {
        let mut shard = self.shard(at);
        let Some(end) = shard.expected(at, expect, now) else {
            return Reply::Found(shard.slot(at, now));
        };
        let end = match until {
            Until::At(end) => end,
            Until::Same => end,
        };
        shard.0.insert(
            at.to_owned(),
            Entry::Record {
                record: new.clone(),
                end,
            },
        );
        Reply::Done
    }

    fn insert(&self, at: &str, new: &Record, end: Millis, now: Millis) -> Reply {
        let mut shard = self.shard(at);
        if !matches!(shard.slot(at, now), Slot::Nothing) {
            return Reply::Taken;
        }
        shard.make_room(self.most_a_shard, now);
        shard.0.insert(
            at.to_owned(),
            Entry::Record {
                record: new.clone(),
                end,
            },
        );
        Reply::Done
    }

    fn rotate(&self, step: &Rotation<'_>, terms: &Terms) -> Reply {
        let now = terms.now;
        let (from, to) = (self.index(step.at), self.index(&step.mark.target));
        // Locked in one order by everybody.
        let mut low = lock(&self.shards[from.min(to)]);
        let mut high = (from != to).then(|| lock(&self.shards[from.max(to)]));
        let (old, new) = match &mut high {
            None => (&mut *low, None),
            Some(high) if from < to => (&mut *low, Some(&mut **high)),
            Some(high) => (&mut **high, Some(&mut *low)),
        };
        if old.expected(step.at, step.expect, now).is_none() {
            return Reply::Found(old.slot(step.at, now));
        }
        let target = &step.mark.target;
        let taken = new.as_deref().unwrap_or(&*old).slot(target, now);
        if !matches!(taken, Slot::Nothing) {
            return Reply::Taken;
        }
        let mark = Entry::Mark {
            mark: step.mark.clone(),
            end: now + terms.grace,
        };
        old.0.insert(step.at.to_owned(), mark);
        let into = new.unwrap_or(old);
        into.make_room(self.most_a_shard, now);
        let record = Entry::Record {
            record: step.new.clone(),
            end: step.until,
        };
        into.0.insert(target.clone(), record);
        Reply::Done
    }

    fn end(&self, at: &str, now: Millis) -> Reply {
        let mut shard = self.shard(at);
        if let Some(Entry::Record { .. }) = shard.0.get(at) {
            shard.0.remove(at);
            return Reply::Done;
        }
        Reply::Found(shard.slot(at, now))
    }

    fn touch(&self, at: &str, terms: &Terms) -> Slot {
        let mut shard = self.shard(at);
        let slot = shard.slot(at, terms.now).live(terms);
        let (Slot::Record(record), Some(Entry::Record { end, .. })) = (&slot, shard.0.get_mut(at))
        else {
            return slot;
        };
        if !terms.extends_at(record, *end) {
            return slot;
        }
        *end = terms.end(record);
        Slot::Record(record.clone().with_end(Some(*end)))
    }
}

struct Rotation<'a> {
    at: &'a str,
    expect: &'a Version,
    new: &'a Record,
    until: Millis,
    mark: &'a Mark,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("most_a_shard", &self.most_a_shard)
            .finish_non_exhaustive()
    }
}

impl MemorySessionStore {
    /// Starts the sweeper with the first session; it ends with the store.
    fn start_sweeping(&self) {
        // A fuzzer makes a store a run, thousands a second.
        if cfg!(fuzzing) || self.inner.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let store = Arc::downgrade(&self.inner);
        let sweeper = thread::Builder::new().name("actix-session sweeper".to_owned());
        let sweeper = sweeper.spawn(move || {
            loop {
                thread::park_timeout(SWEEP);
                let Some(store) = store.upgrade() else {
                    return;
                };
                let now = store.clock.now();
                store.shards.iter().for_each(|shard| lock(shard).sweep(now));
            }
        });
        if let Err(error) = sweeper {
            tracing::warn!(%error, "expired sessions are swept out only when there is no room");
        }
    }
}

impl Backend for MemorySessionStore {
    const REMOTE: bool = false;

    async fn run(&self, op: &Op, terms: &Terms) -> Result<Reply, anyhow::Error> {
        Ok(match op {
            Op::Read { at } => Reply::Found(self.inner.shard(at).slot(at, terms.now)),
            Op::Cas {
                at,
                expect,
                new,
                until,
            } => self.inner.cas(at, expect, new, *until, terms.now),
            Op::Rotate {
                at,
                expect,
                new,
                until,
                mark,
            } => {
                let step = Rotation {
                    at,
                    expect,
                    new,
                    until: *until,
                    mark,
                };
                self.inner.rotate(&step, terms)
            }
            Op::Insert { at, new, until } => {
                self.start_sweeping();
                self.inner.insert(at, new, *until, terms.now)
            }
            Op::End { at } => self.inner.end(at, terms.now),
        })
    }

    async fn look(&self, at: &str, terms: &Terms) -> Result<Slot, anyhow::Error> {
        Ok(self.inner.touch(at, terms))
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
        let now = self.inner.clock.now();
        let mut shard = self.inner.shard(at);
        if let Some(Entry::Record { record, end }) = shard.0.get_mut(at)
            && *end > now
        {
            let cap = record.absolute_end().unwrap_or(Millis(i64::MAX));
            *end = (now + ttl).min(cap);
        }
        Ok(())
    }

    fn name(&self, key: &SessionKey) -> Name {
        key.as_ref().to_owned()
    }

    fn draw_key(&self, _beside: Option<&str>) -> Result<(SessionKey, Name), CommitError> {
        let key = random::session_key().map_err(CommitError::Other)?;
        let name = self.name(&key);
        Ok((key, name))
    }

    fn own_terms(&self) -> Terms {
        Terms {
            now: self.inner.clock.now(),
            ..Terms::default()
        }
    }
}

shared_store!(MemorySessionStore);

#[cfg(test)]
mod tests;
