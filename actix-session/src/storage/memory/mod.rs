//! Sessions in this process's memory.
//!
//! `map.rs` has the protocol's steps on all shards, `shard.rs` one shard, `entry.rs` what lies under a
//! name, `room.rs` the bound, `evict.rs` what gives way then, and `sweep.rs` the thread that removes
//! expired sessions.

mod entry;
mod evict;
mod map;
mod owners;
mod room;
mod shard;
mod sweep;

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
    thread::{self, ThreadId},
};

use self::{
    map::{Map, Write},
    sweep::Sweeper,
};
use super::{
    backend::shared_store,
    index::{Index, Listed, Page, SessionIndex, StoreIndex},
    upkeep::{Counts, Upkeep},
};
use crate::{
    clock::{Clock, Millis, SharedClock},
    config::LONGEST,
    contract::Terms,
    error::CommitError,
    key::SessionKey,
    live::hub::Hub,
    middleware::guard::is_workers_thread,
    protocol::{Backend, Machine, Name, NotBefore, Reply, Step, Stored, drive_at_once},
    sync::{FirstTime, lock},
};

/// Keeps sessions in the memory of this process: for one server, for development and for tests.
///
/// Clones share one map. Make the store once, **outside** the closure that `HttpServer::new`
/// takes. A store made inside it is another one for each worker, and sessions created by one worker
/// are unknown to the others (a warning says so).
///
/// Each commit, renewal and ending is atomic under a lock, and never waits for a handler. A read
/// copies nothing. A restart loses all sessions.
///
/// The number of sessions is bounded ([`max_sessions`]). If the store is full, a new session
/// displaces an expired one or else, of the sessions without a principal, one of those that end
/// soonest. If all have a principal, a new one with a principal displaces one that ends soonest; one
/// without is refused, and the response is a 503 ([`StoreFull`](super::StoreFull)). The redirect of
/// a renewal displaces no session of a user: if nothing else gives way, it lies beyond the bound, and
/// is the first to go.
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
#[derive(Clone)]
pub struct MemorySessionStore {
    inner: Arc<Inner>,
}

struct Inner {
    map: Map,
    /// Whoever waits for the end of a session.
    hub: Arc<Hub>,
    clock: SharedClock,
    sweeper: Sweeper,
    made_on: ThreadId,
}

impl MemorySessionStore {
    /// Makes an empty store for up to 100,000 sessions and redirects.
    #[allow(
        clippy::new_without_default,
        reason = "a store made by `Default` hides that it is new"
    )]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts from the default settings.
    pub fn builder() -> MemorySessionStoreBuilder {
        MemorySessionStoreBuilder {
            max_sessions: 100_000,
            clock: SharedClock::default(),
        }
    }

    /// Every record, redirect and tombstone as text under its name.
    pub(super) fn all(&self) -> Vec<(String, String)> {
        self.inner.map.all()
    }

    /// Whose sessions the store holds.
    #[cfg(feature = "testing")]
    pub(super) fn owners(&self) -> Vec<String> {
        self.inner.map.owners()
    }

    /// How many sessions the store holds, including expired ones that it has not removed yet. What it
    /// keeps beside them counts too, such as logins at an upstream: see [`SessionStats::live`].
    ///
    /// [`SessionStats::live`]: crate::SessionStats::live
    pub fn len(&self) -> usize {
        self.inner.map.sessions()
    }

    /// Whether the store holds no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for MemorySessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySessionStore").finish_non_exhaustive()
    }
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

impl MemorySessionStoreBuilder {
    /// Sets how many sessions the store holds at most, with the redirects of recent renewals:
    /// 100,000 by default, and at least 2, because a renewal leaves a redirect.
    pub fn max_sessions(mut self, most: usize) -> Self {
        self.max_sessions = most;
        self
    }

    /// Sets the clock that sessions expire by. Give the middleware the same one.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Makes the store.
    pub fn build(self) -> MemorySessionStore {
        let hub = Arc::new(Hub::default());
        let inner = Arc::new(Inner {
            map: Map::new(self.max_sessions, Arc::clone(&hub)),
            hub,
            clock: self.clock,
            sweeper: Sweeper::default(),
            made_on: thread::current().id(),
        });
        if is_workers_thread() {
            warn_if_made_on_each_worker(&inner);
        }
        MemorySessionStore { inner }
    }
}

/// Two live stores made on two workers are a store for each worker.
fn warn_if_made_on_each_worker(made: &Arc<Inner>) {
    static ON_WORKERS: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());
    static FIRST: FirstTime = FirstTime::new();

    let mut known = lock(&ON_WORKERS);
    known.retain(|store| store.strong_count() > 0);
    let mut others = known.iter().filter_map(Weak::upgrade);
    let is_elsewhere = others.any(|store| store.made_on != made.made_on);
    known.push(Arc::downgrade(made));
    drop(known);
    if is_elsewhere && FIRST.is_now() {
        tracing::warn!(
            "a MemorySessionStore was made for each worker, so sessions created by one worker \
             are unknown to the others: make it once, before `HttpServer::new`, and clone it \
             inside"
        );
    }
}

impl MemorySessionStore {
    fn carry_out(&self, step: &Step, terms: &Terms) -> Result<Reply, anyhow::Error> {
        let reply = self.reply(step, terms)?;
        self.inner.hub.after(step, &reply);
        Ok(reply)
    }

    fn reply(&self, step: &Step, terms: &Terms) -> Result<Reply, anyhow::Error> {
        let map = &self.inner.map;
        Ok(match step {
            Step::Read { at } => Reply::Found(map.read(at, terms.now)),
            Step::Cas {
                at,
                expect,
                new,
                until,
                owner_before,
                ..
            } => {
                let write = Write {
                    at,
                    expect,
                    new,
                    owner_before,
                };
                map.replace(&write, *until, terms.now)
            }
            Step::Rotate {
                at,
                expect,
                new,
                until,
                redirect,
                owner_before,
                ..
            } => {
                let write = Write {
                    at,
                    expect,
                    new,
                    owner_before,
                };
                map.rotate(&write, redirect, *until, terms)?
            }
            Step::Insert { at, new, until } => {
                self.start_sweeper();
                map.insert(at, new, *until, terms.now)?
            }
            Step::End { at, .. } => map.end(at, terms),
            Step::EndIf { at, expect, .. } => map.end_if(at, expect, terms),
        })
    }
}

impl Backend for MemorySessionStore {
    const REMOTE: bool = false;
    const NAMED_BY_KEY: bool = true;

    async fn run(&self, step: &Step, terms: &Terms) -> Result<Reply, anyhow::Error> {
        self.carry_out(step, terms)
    }

    async fn drive<M: Machine>(
        &self,
        machine: &mut M,
        terms: &Terms,
    ) -> Result<M::Answer, CommitError> {
        drive_at_once(self, |step| self.carry_out(step, terms), machine, terms)
    }

    async fn drive_in_line<M: Machine>(
        &self,
        _at: &Name,
        machine: &mut M,
        terms: &Terms,
    ) -> Result<M::Answer, CommitError> {
        self.drive(machine, terms).await
    }

    async fn look(&self, at: &str, terms: &Terms) -> Result<Stored, anyhow::Error> {
        Ok(self.inner.map.touch(at, terms))
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
        self.inner.map.set_ttl(at, ttl, self.inner.clock.now());
        Ok(())
    }

    fn name(&self, key: &SessionKey) -> Name {
        key.as_ref().into()
    }

    fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }

    fn ends(&self) -> Option<(Arc<Hub>, StoreIndex)> {
        Some((Arc::clone(&self.inner.hub), self.index()))
    }
}

impl Index for MemorySessionStore {
    async fn sessions(
        &self,
        principal: &str,
        page: Page,
        terms: &Terms,
    ) -> anyhow::Result<Vec<Listed>> {
        Ok(self.inner.map.page(principal, page, terms.now))
    }

    async fn mark(
        &self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        terms: &Terms,
    ) -> anyhow::Result<bool> {
        let until = terms.now + LONGEST;
        let marked = self.inner.map.mark(principal, mark, by, until);
        if marked {
            self.inner.hub.marked(principal, mark);
        }
        Ok(marked)
    }

    async fn end_marked(
        &self,
        principal: &str,
        mark: &NotBefore,
        terms: &Terms,
    ) -> anyhow::Result<u64> {
        Ok(self.inner.map.end_marked(principal, mark, terms))
    }
}

impl Upkeep for MemorySessionStore {
    async fn forget(&self, _: &str, _: &NotBefore, terms: &Terms) -> anyhow::Result<()> {
        self.inner.map.sweep(terms.now);
        Ok(())
    }

    async fn counts(&self, _: &Terms) -> anyhow::Result<Counts> {
        Ok(Counts {
            live: Some(self.len() as u64),
            ..Counts::default()
        })
    }

    async fn sweep_all(&self, terms: &Terms) -> anyhow::Result<Option<u64>> {
        Ok(Some(self.inner.map.sweep(terms.now) as u64))
    }
}

impl SessionIndex for MemorySessionStore {
    fn index(&self) -> StoreIndex {
        StoreIndex::new(self.clone())
    }
}

shared_store!(MemorySessionStore);

#[cfg(test)]
mod tests;
