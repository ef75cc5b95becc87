//! How many sessions a principal may have.

use std::cmp::Reverse;

use crate::{
    changes::Changes,
    config::OverLimit,
    contract::Terms,
    error::{CommitError, TooManySessions},
    live::EndReason,
    protocol::Owner,
    record::Record,
    session::Identity,
    storage::{StoreIndex, index::Live, lease::Lease},
};

/// A limit on the sessions of a principal.
#[derive(Clone)]
pub(crate) struct Cap {
    pub(crate) most: usize,
    pub(crate) over: OverLimit,
    pub(crate) index: StoreIndex,
}

/// A login that may go on.
#[derive(Default)]
pub(crate) struct Admitted(Option<Lease>);

impl Cap {
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Whether the store has lists of its sessions.
    pub(crate) fn has_lists(&self) -> bool {
        self.index.0.has_lists()
    }

    pub(crate) fn at_least_one(self) -> Self {
        Self {
            most: self.most.max(1),
            ..self
        }
    }

    /// Decides whether somebody may log in, before any record is touched. Logins of one principal wait
    /// for each other here if they may be refused.
    ///
    /// # Errors
    /// The principal has as many sessions as are allowed.
    pub(crate) async fn admit(
        &self,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Admitted, CommitError> {
        let Some(identity) = self.limits(base, changes, terms) else {
            return Ok(Admitted::default());
        };
        let lease = self.index.0.lock(&identity.principal, terms).await?;
        match self.check(&identity, terms).await {
            Ok(()) => Ok(Admitted(Some(lease))),
            Err(error) => {
                self.index.0.unlock(lease, terms).await?;
                Err(error)
            }
        }
    }

    /// The same for whoever wants to know before the response, without a lock.
    pub(crate) async fn look(
        &self,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(), CommitError> {
        match self.limits(base, changes, terms) {
            Some(identity) => self.check(&identity, terms).await,
            None => Ok(()),
        }
    }

    /// Who logs in, if that may be refused.
    fn limits(&self, base: Option<&Record>, changes: &Changes, terms: &Terms) -> Option<Identity> {
        let logs_in = changes.leave_login(terms.principal_entry.as_deref());
        let refuses = self.over == OverLimit::Refuse && logs_in;
        refuses.then(|| Identity::of(base, changes)).flatten()
    }

    async fn check(&self, identity: &Identity, terms: &Terms) -> Result<(), CommitError> {
        let live = self.live(&identity.principal, terms).await?;
        let others = live.iter().filter(|it| !identity.ids.contains(&it.id));
        if others.count() < self.most {
            return Ok(());
        }
        Err(CommitError::Other(TooManySessions.into()))
    }

    /// Once the record is there, and before its key leaves: ends what is too much, and returns how
    /// many that were.
    ///
    /// # Errors
    /// The session that has just been made is among that, or has ended already.
    pub(crate) async fn settle(
        &self,
        admitted: Admitted,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<usize, CommitError> {
        let settled = match Identity::of(base, changes) {
            Some(identity) if changes.login.is_some() => self.evict(&identity, terms).await,
            _ => Ok(0),
        };
        self.release(admitted, terms).await?;
        settled
    }

    /// Lets others log in.
    pub(crate) async fn release(
        &self,
        admitted: Admitted,
        terms: &Terms,
    ) -> Result<(), CommitError> {
        match admitted.0 {
            Some(lease) => self.index.0.unlock(lease, terms).await,
            None => Ok(()),
        }
    }

    async fn evict(&self, identity: &Identity, terms: &Terms) -> Result<usize, CommitError> {
        let mut live = self.live(&identity.principal, terms).await?;
        let is_there = |id: &u128| live.iter().any(|it| it.id == *id);
        // The one that it drew last is its own, if it is there.
        let own = identity.ids.iter().rev().copied().find(is_there);
        // A record that another request has written meanwhile keeps the id that it got there.
        let own = own.or_else(|| {
            let is_of_login = |it: &&Live| it.login() == Some(identity.login);
            live.iter().find(is_of_login).map(|it| it.id)
        });
        // This one and the one that the base has moved to are one browser's: the earlier login goes first.
        // Only the request that drew a new id knows both: the other one has kept the base's. So if both look
        // at the same time, the other one may end a third session for nothing; and if it looks last, its own
        // may have gone already.
        let is_one = |id: u128| Some(id) == own || identity.ids.contains(&id);
        let latest = live.iter().map(|it| it.id).find(|id| is_one(*id));
        live.sort_by_key(|it| Some(it.id) != latest && is_one(it.id));
        let surplus = live.split_off(self.most.min(live.len()));
        let count = surplus.len();
        // Another login may have ended it before it was looked at.
        let is_gone = own.is_none_or(|own| surplus.iter().any(|it| it.id == own));
        for live in surplus {
            let (principal, why) = (&identity.principal, EndReason::OverLimit);
            // Whoever has logged in to it again since is no longer the earliest.
            let latest = live.login();
            let index = &self.index.0;
            let end = index.end(live.at, principal, live.id, latest, why, terms);
            end.await?;
        }
        if is_gone {
            return Err(CommitError::gone());
        }
        Ok(count)
    }

    /// All live sessions of a principal, the latest login first.
    async fn live(&self, principal: &str, terms: &Terms) -> Result<Vec<Live>, CommitError> {
        let mut all = Vec::new();
        let collect = |live| {
            all.extend::<Vec<Live>>(live);
            None::<()>
        };
        self.index.each(principal, terms, collect).await?;
        // What was logged in again meanwhile was found last.
        all.sort_by_cached_key(|it| {
            let login = Owner::of(&it.record).map(|owner| owner.login);
            Reverse((login, it.id))
        });
        Ok(all)
    }
}
