//! What is left of whoever is gone, how much a store holds, and room for more.

use std::future::Future;

use super::{
    StoreIndex,
    index::{Answer, EndAll, Index, NoIndex, end_together, logged_in_ahead, no_index},
    lease, upstream,
};
use crate::{
    contract::Terms,
    error::CommitError,
    protocol::{Backend, NotBefore},
};

/// How much a store holds, as far as that can be told without a look at all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) live: Option<u64>,
    pub(crate) owned: Option<u64>,
    pub(crate) expired: Option<u64>,
}

/// What a back end with an index does for operators.
pub(crate) trait Upkeep: Backend {
    /// Takes away whatever names a principal whose sessions have just ended by this mark. The mark
    /// stays, under a digest.
    fn forget(
        &self,
        principal: &str,
        mark: &NotBefore,
        terms: &Terms,
    ) -> impl Future<Output = anyhow::Result<()>>;

    fn counts(&self, terms: &Terms) -> impl Future<Output = anyhow::Result<Counts>> {
        let _ = terms;
        async { Ok(Counts::default()) }
    }

    /// Deletes what has expired, and returns how much that was. `None`: the back end does so itself.
    fn sweep_all(&self, terms: &Terms) -> impl Future<Output = anyhow::Result<Option<u64>>> {
        let _ = terms;
        async { Ok(None) }
    }
}

/// The same, whatever the type of the back end.
pub(crate) trait Caretaker {
    /// Ends a principal's sessions together, keeps nothing that names the principal, and returns how
    /// many sessions there were.
    fn erase<'a>(&'a self, principal: &'a str, end: EndAll, terms: &'a Terms) -> Answer<'a, u64>;

    fn counts<'a>(&'a self, terms: &'a Terms) -> Answer<'a, Counts>;

    fn sweep_all<'a>(&'a self, terms: &'a Terms) -> Answer<'a, Option<u64>>;
}

impl<B: Index> Caretaker for B {
    fn erase<'a>(&'a self, principal: &'a str, end: EndAll, terms: &'a Terms) -> Answer<'a, u64> {
        Box::pin(async move {
            // At once: who logs in later goes on.
            let ahead = logged_in_ahead(self, principal, &end, terms).await?;
            // As long as the records say which entries there are. To end the sessions comes first all
            // the same, and whoever lives stays in the entries.
            let entries = upstream::entries_of(self, principal, terms).await;
            let ended = end_together(self, principal, &end, ahead, terms).await?;
            let forgotten = Upkeep::forget(self, principal, &end.mark, terms).await;
            forgotten.map_err(CommitError::of_store)?;
            lease::forget(self, principal, terms).await?;
            let entries = entries?;
            if !entries.is_empty() {
                upstream::take_out(self, &entries, principal, terms).await?;
                upstream::keep_others(self, principal, terms).await?;
            }
            Ok(ended.unwrap_or_default())
        })
    }

    fn counts<'a>(&'a self, terms: &'a Terms) -> Answer<'a, Counts> {
        Box::pin(async move {
            let counts = Upkeep::counts(self, terms).await;
            counts.map_err(CommitError::of_store)
        })
    }

    fn sweep_all<'a>(&'a self, terms: &'a Terms) -> Answer<'a, Option<u64>> {
        Box::pin(async move {
            let swept = Upkeep::sweep_all(self, terms).await;
            swept.map_err(CommitError::of_store)
        })
    }
}

impl Caretaker for NoIndex {
    fn erase<'a>(&'a self, _: &'a str, _: EndAll, _: &'a Terms) -> Answer<'a, u64> {
        Box::pin(async { no_index() })
    }

    fn counts<'a>(&'a self, _: &'a Terms) -> Answer<'a, Counts> {
        Box::pin(async { no_index() })
    }

    fn sweep_all<'a>(&'a self, _: &'a Terms) -> Answer<'a, Option<u64>> {
        Box::pin(async { no_index() })
    }
}

impl StoreIndex {
    /// Ends a principal's sessions together, keeps nothing that names the principal, and returns how
    /// many sessions there were.
    pub(crate) async fn erase(
        &self,
        principal: &str,
        end: EndAll,
        terms: &Terms,
    ) -> Result<u64, CommitError> {
        self.0.erase(principal, end, terms).await
    }
}
