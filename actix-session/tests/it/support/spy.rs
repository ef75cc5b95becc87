//! A store around a store: it counts the calls, and refuses those that a test names.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use actix_session::storage::{
    Changes, CommitError, Committed, End, LoadError, Opened, Record, Rotated, SaveError,
    SessionKey, SessionStore, Terms, UpdateError,
};
use actix_web::cookie::time::Duration;

#[derive(Clone)]
pub(crate) struct Spy<S> {
    inner: S,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    calls: Vec<&'static str>,
    refused: Vec<&'static str>,
    refused_once: Option<&'static str>,
}

/// What no response may show.
pub(crate) const DETAIL: &str = "a detail for the log alone";

impl<S> Spy<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            told: Arc::default(),
        }
    }

    /// The calls since this was asked last.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.told.lock().unwrap().calls)
    }

    /// From now on these methods fail, before they have done anything.
    pub(crate) fn refuse(&self, methods: &[&'static str]) {
        self.told.lock().unwrap().refused = methods.to_vec();
    }

    /// The next call of this method fails, before it has done anything.
    pub(crate) fn refuse_next(&self, method: &'static str) {
        self.told.lock().unwrap().refused_once = Some(method);
    }

    fn call(&self, method: &'static str) -> Result<(), anyhow::Error> {
        let mut told = self.told.lock().unwrap();
        told.calls.push(method);
        let once = told.refused_once.take_if(|once| *once == method);
        anyhow::ensure!(once.is_none() && !told.refused.contains(&method), DETAIL);
        Ok(())
    }
}

type State = HashMap<String, String>;

impl<S: SessionStore> SessionStore for Spy<S> {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        self.call("load").map_err(LoadError::Other)?;
        self.inner.load(key).await
    }

    async fn save(&self, state: State, ttl: &Duration) -> Result<SessionKey, SaveError> {
        self.call("save").map_err(SaveError::Other)?;
        self.inner.save(state, ttl).await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        self.call("update").map_err(UpdateError::Other)?;
        self.inner.update(key, state, ttl).await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        self.call("update_ttl")?;
        self.inner.update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.call("delete")?;
        self.inner.delete(key).await
    }

    fn opens_at_once(&self) -> bool {
        self.inner.opens_at_once()
    }

    async fn open(&self, key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
        self.call("open").map_err(LoadError::Other)?;
        self.inner.open(key, terms).await
    }

    async fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(SessionKey, End), CommitError> {
        self.call("create").map_err(CommitError::Other)?;
        self.inner.create(changes, terms).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Committed, CommitError> {
        self.call("commit").map_err(CommitError::Other)?;
        self.inner.commit(key, base, changes, terms).await
    }

    async fn rotate(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Rotated, CommitError> {
        self.call("rotate").map_err(CommitError::Other)?;
        self.inner.rotate(key, base, changes, terms).await
    }
}
