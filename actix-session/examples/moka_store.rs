//! Sessions in moka, a concurrent cache in memory, by the five published methods.
//!
//! Five methods are enough for requests that come one after the other. What such a store cannot
//! promise, `actix_session::testing::conformance` says.
//!
//! cargo run --manifest-path actix-session/Cargo.toml --example moka_store

use std::{collections::HashMap, time::SystemTime};

use actix_session::{
    Clock, Session, SessionMiddleware, SystemClock,
    storage::{
        Gone, LoadError, SaveError, SessionKey, SessionStore, UpdateError, generate_session_key,
    },
};
use actix_web::{
    App, HttpServer,
    cookie::{Key, time::Duration},
    web,
};
use moka::{
    ops::compute::{CompResult, Op},
    sync::Cache,
};

type State = HashMap<String, String>;

/// A state, and when it ends.
#[derive(Clone)]
struct Entry {
    state: State,
    end: SystemTime,
}

/// Clones share the cache.
#[derive(Clone)]
pub(crate) struct MokaStore<C = SystemClock> {
    entries: Cache<String, Entry>,
    clock: C,
}

impl<C: Clock + Clone> MokaStore<C> {
    /// Makes a store for so many sessions: if there are more, moka forgets some of those that are used
    /// least, and their users are logged out.
    pub(crate) fn new(max_sessions: u64, clock: C) -> Self {
        Self {
            entries: Cache::new(max_sessions),
            clock,
        }
    }

    fn entry(&self, state: State, ttl: &Duration) -> Entry {
        let end = self.clock.now() + *ttl;
        Entry { state, end }
    }

    /// Changes an entry if there is a live one, in one step. Answers whether there was.
    fn change(&self, key: &SessionKey, change: impl FnOnce(&mut Entry)) -> bool {
        let now = self.clock.now();
        let entry = self.entries.entry(key.as_ref().to_owned());
        let changed = entry.and_compute_with(|found| match found {
            Some(found) if found.value().end > now => {
                let mut entry = found.into_value();
                change(&mut entry);
                Op::Put(entry)
            }
            Some(_) => Op::Remove,
            None => Op::Nop,
        });
        matches!(changed, CompResult::ReplacedWith(_))
    }
}

impl<C: Clock + Clone> SessionStore for MokaStore<C> {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        let found = self.entries.get(key.as_ref());
        let live = found.filter(|entry| entry.end > self.clock.now());
        Ok(live.map(|entry| entry.state))
    }

    async fn save(&self, state: State, ttl: &Duration) -> Result<SessionKey, SaveError> {
        let key = generate_session_key();
        let entry = self.entry(state, ttl);
        self.entries.insert(key.as_ref().to_owned(), entry);
        Ok(key)
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        let new = self.entry(state, ttl);
        if self.change(&key, |entry| *entry = new) {
            return Ok(key);
        }
        // Never saved again: an ended session must not come back.
        Err(UpdateError::Other(Gone.into()))
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> anyhow::Result<()> {
        let end = self.clock.now() + *ttl;
        self.change(key, |entry| entry.end = end);
        Ok(())
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        // Not `invalidate`: it does not wait for a change that is under way and would bring the entry back.
        let entry = self.entries.entry(key.as_ref().to_owned());
        entry.and_compute_with(|_| Op::Remove);
        Ok(())
    }
}

async fn count(session: Session) -> actix_web::Result<String> {
    let visits = session.get::<u64>("visits")?.unwrap_or(0) + 1;
    session.insert("visits", visits)?;
    Ok(format!("visits: {visits}\n"))
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let store = MokaStore::new(100_000, SystemClock);
    // In production, read the key from your configuration: all sessions end when it changes.
    let secret_key = Key::generate();
    let app = move || {
        let sessions = SessionMiddleware::builder(store.clone(), secret_key.clone());
        // For development over http.
        let sessions = sessions.cookie_secure(false).build();
        App::new().wrap(sessions).route("/", web::get().to(count))
    };
    HttpServer::new(app).bind(("127.0.0.1", 8080))?.run().await
}
