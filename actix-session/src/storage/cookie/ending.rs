//! How cookie-stored sessions end: by their time, or before it by notes on a list, which follow
//! renewals.

use super::{CookieSessionStore, REVOCATION_TTL};
use crate::{
    changes::Changes,
    clock::Millis,
    contract::{self, Older, Stamp, Terms},
    error::CommitError,
    handed::handed,
    key::SessionKey,
    record::{Metadata, Record},
    storage::revocation::{note_of, renewed_id},
};

impl CookieSessionStore {
    /// Whether the session has ended since the request loaded it.
    pub(super) async fn has_ended(
        &self,
        key: &SessionKey,
        base: &Record,
        terms: &Terms,
    ) -> Result<bool, CommitError> {
        if is_past_its_end(base, terms) {
            return Ok(true);
        }
        let ended = self.is_revoked(base).await.map_err(CommitError::of_store)?;
        Ok(ended || self.is_ended_as_told(key, base, terms).await?)
    }

    /// Whether it has ended as its facts say, if the entry that names the principal says otherwise.
    async fn is_ended_as_told(
        &self,
        key: &SessionKey,
        base: &Record,
        terms: &Terms,
    ) -> Result<bool, CommitError> {
        let Some(revocation) = &self.revocation else {
            return Ok(false);
        };
        let told = self.record_of(key, terms.now, terms.keys.as_ref()).ok();
        let told = told
            .and_then(|told| told.id())
            .filter(|id| Some(*id) != base.id());
        let Some(id) = told else { return Ok(false) };
        let ended = revocation.store.revoked_at(&note_of("session", id)).await;
        Ok(ended.map_err(CommitError::of_store)?.is_some())
    }

    /// Ends all values of the session that have this id, and returns whether nobody had ended them
    /// before.
    async fn revoke(&self, metadata: &Metadata, id: u128) -> anyhow::Result<bool> {
        let Some(revocation) = &self.revocation else {
            return Ok(true);
        };
        let now = self.clock.now();
        // Another value of this session may have a longer TTL than this one, and a request in
        // flight may make one more. Only the absolute end is common to all, until a renewal.
        let grace = now + contract::GRACE;
        let longest = grace + REVOCATION_TTL;
        let end = metadata.absolute_end.filter(|_| id == metadata.id);
        let until = end.map_or(longest, |end| end.min(longest));
        let until = until.max(metadata.idle_end.unwrap_or(now)).max(grace);
        revocation.revoke(&note_of("session", id), now, until).await
    }

    /// When a renewal or a `clear` ended this value, if that is remembered.
    pub(super) async fn renewed_at(&self, id: u128) -> anyhow::Result<Option<Millis>> {
        let Some(revocation) = &self.revocation else {
            return Ok(None);
        };
        let renewed = revocation.store.revoked_at(&note_of("renewed", id)).await?;
        Ok(renewed.map(Millis::from))
    }

    /// The same for all that a session is known as: it has ended if it has as any of it.
    pub(super) async fn where_all_are(
        &self,
        all: Vec<Metadata>,
    ) -> anyhow::Result<Option<Vec<Metadata>>> {
        let mut now = Vec::new();
        for known in all {
            let Some(known) = self.where_now(known).await? else {
                return Ok(None);
            };
            now.push(known);
        }
        Ok(Some(now))
    }

    /// What the session is known as now, after renewals. `None`: it has ended, or is another one.
    async fn where_now(&self, mut known: Metadata) -> anyhow::Result<Option<Metadata>> {
        let Some(revocation) = &self.revocation else {
            return Ok(None);
        };
        while self.has_revoked(&known).await? {
            let renewed = note_of("renewed", known.id);
            let left = note_of("left", known.id);
            if revocation.store.revoked_at(&renewed).await?.is_none()
                || revocation.store.revoked_at(&left).await?.is_some()
            {
                return Ok(None);
            }
            known.id = renewed_id(known.id);
        }
        Ok(Some(known))
    }

    /// Leaves it to whoever has handed this call on, if there is somebody, to end all of this once the
    /// new value is known to fit.
    pub(super) fn end_later(&self, all: &[Metadata]) -> bool {
        let later = handed().and_then(|handed| handed.later);
        let Some(later) = later.filter(|_| self.revocation.is_some()) else {
            return false;
        };
        let (store, all) = (self.clone(), all.to_vec());
        later.put(Older::ended_by(async move { store.end_all(&all).await }));
        true
    }

    /// All of what a value may be known as. Returns whether nobody had ended any of it before.
    pub(super) async fn end_all(&self, all: &[Metadata]) -> anyhow::Result<bool> {
        let mut first = true;
        for metadata in all {
            first &= self.revoke_ahead(metadata).await?;
        }
        Ok(first)
    }

    /// Ends the session, and whatever it was renewed to while this request was in flight. Returns
    /// whether nobody had ended it before.
    pub(super) async fn revoke_ahead(&self, metadata: &Metadata) -> anyhow::Result<bool> {
        let Some(revocation) = &self.revocation else {
            return Ok(true);
        };
        let mut id = metadata.id;
        // As long as renewals are remembered, whatever their number: a thief may renew all the time.
        loop {
            let first = self.revoke(metadata, id).await?;
            let renewed = note_of("renewed", id);
            if first || revocation.store.revoked_at(&renewed).await?.is_none() {
                return Ok(first && id == metadata.id);
            }
            id = renewed_id(id);
        }
    }

    /// If older values must end, gives the session a new id, and returns what ends them.
    pub(super) fn ending_older(
        &self,
        stamp: &mut Stamp<'_>,
        base: &Record,
        changes: &Changes,
    ) -> Older {
        stamp.new_id = self.revocation.is_some() && (changes.renews() || changes.cleared.is_some());
        let (true, Some(metadata)) = (stamp.new_id, base.metadata()) else {
            return Older::none();
        };
        stamp.fresh_id = renewed_id(metadata.id);
        let (store, metadata, clears) = (self.clone(), metadata.clone(), logs_out(changes));
        let leaves = changes.cleared.is_some() || changes.log_in_another(base);
        Older::ended_by(async move {
            let first = store.end_older(&metadata, leaves).await?;
            if clears && !first {
                store.revoke_ahead(&metadata).await?;
            }
            Ok(first)
        })
    }

    /// A logout by `clear` follows a renewal that was faster.
    pub(super) async fn clear_ahead(
        &self,
        base: &Record,
        changes: &Changes,
    ) -> Result<(), CommitError> {
        if let Some(metadata) = base.metadata().filter(|_| logs_out(changes)) {
            let ended = self.revoke_ahead(metadata).await;
            ended.map_err(CommitError::of_store)?;
        }
        Ok(())
    }

    /// Ends the values from before a renewal, and returns whether nobody had ended the session
    /// before. `leaves`: what comes after it is another session.
    async fn end_older(&self, metadata: &Metadata, leaves: bool) -> anyhow::Result<bool> {
        let Some(revocation) = &self.revocation else {
            return Ok(true);
        };
        // These notes come first, so that whoever finds the session ended also finds where it went.
        let now = self.clock.now();
        let grace = now + contract::GRACE;
        if leaves {
            let left = note_of("left", metadata.id);
            revocation.revoke(&left, now, grace).await?;
        }
        let renewed = note_of("renewed", metadata.id);
        revocation.revoke(&renewed, now, grace).await?;
        self.revoke(metadata, metadata.id).await
    }
}

/// Whether a session that was live at the load has ended by its time. Where loads extend sessions,
/// this request's load has done so.
fn is_past_its_end(base: &Record, terms: &Terms) -> bool {
    let idle_end = base.idle_end().filter(|_| !terms.extends_on_read());
    terms.is_over(base) || idle_end.is_some_and(|end| end <= terms.now)
}

fn logs_out(changes: &Changes) -> bool {
    changes.cleared.is_some() && changes.login.is_none()
}
