//! A store in which something goes wrong, or happens meanwhile.

use std::sync::{Arc, Mutex};

use super::*;
use crate::sync::lock;

/// Clones share what is still to come.
#[derive(Clone)]
pub(super) struct Disturbed {
    pub(super) store: MemorySessionStore,
    /// A step is carried out and its answer lost, after so many others.
    pub(super) loses_after: Arc<Mutex<Option<u32>>>,
    /// Whose session is logged in again once the first page of a list has been read.
    pub(super) moves: Arc<Mutex<Option<SessionKey>>>,
}

impl Disturbed {
    pub(super) fn over(store: MemorySessionStore) -> Self {
        Self {
            store,
            loses_after: Arc::default(),
            moves: Arc::default(),
        }
    }

    /// Whether the answer to this step is lost.
    fn loses(&self) -> bool {
        let mut after = lock(&self.loses_after);
        match *after {
            Some(0) => after.take().is_some(),
            Some(n) => {
                *after = Some(n - 1);
                false
            }
            None => false,
        }
    }

    async fn log_in_again(&self, key: &SessionKey, terms: &Terms) -> anyhow::Result<()> {
        let Stored::Record(base) = self.store.look(key.as_ref(), terms).await? else {
            anyhow::bail!("it lives");
        };
        let again = login(None);
        let rotated = backend::rotate(&self.store, key, Some(&base), &again, terms).await;
        let is_in = matches!(rotated, Ok(Rotated::Rotated(..)));
        anyhow::ensure!(is_in, "it is logged in again");
        Ok(())
    }
}

impl Backend for Disturbed {
    const REMOTE: bool = false;

    async fn run(&self, step: &Step, terms: &Terms) -> anyhow::Result<Reply> {
        let reply = self.store.run(step, terms).await?;
        // A store asks again for what it only reads.
        let reads = matches!(step, Step::Read { .. });
        Ok(match !reads && self.loses() {
            true => Reply::Lost,
            false => reply,
        })
    }

    async fn look(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        self.store.look(at, terms).await
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> anyhow::Result<()> {
        self.store.set_ttl(at, ttl).await
    }

    fn name(&self, key: &SessionKey) -> Name {
        self.store.name(key)
    }

    fn clock(&self) -> &SharedClock {
        Backend::clock(&self.store)
    }
}

impl Upkeep for Disturbed {
    async fn forget(&self, principal: &str, mark: &NotBefore, terms: &Terms) -> anyhow::Result<()> {
        self.store.forget(principal, mark, terms).await
    }
}

impl Index for Disturbed {
    async fn sessions(
        &self,
        principal: &str,
        page: Page,
        terms: &Terms,
    ) -> anyhow::Result<Vec<Listed>> {
        let listed = self.store.sessions(principal, page, terms).await?;
        // A look at one alone is for the latest login.
        let is_first = page.after.is_none() && page.limit > 1;
        let next = lock(&self.moves).take_if(|_| is_first);
        if let Some(key) = next {
            self.log_in_again(&key, terms).await?;
        }
        Ok(listed)
    }

    async fn mark(
        &self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        terms: &Terms,
    ) -> anyhow::Result<bool> {
        self.store.mark(principal, mark, by, terms).await
    }

    async fn end_marked(
        &self,
        principal: &str,
        mark: &NotBefore,
        terms: &Terms,
    ) -> anyhow::Result<u64> {
        self.store.end_marked(principal, mark, terms).await
    }
}
