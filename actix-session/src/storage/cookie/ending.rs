//! How cookie-stored sessions end: by their time, or before it by notes on a list, which follow
//! renewals.

use super::{CookieSessionStore, REVOCATION_TTL};
use crate::{
    changes::Changes,
    clock::Millis,
    contract::{self, Older, Stamp, Terms},
    error::CommitError,
    handed::handed,
    record::{Metadata, Record},
    storage::revocation::{Revocation, left_id, note_of, renewed_id},
};

impl CookieSessionStore {
    /// Whether the session has ended since the request loaded it.
    pub(super) async fn has_ended(
        &self,
        base: &Record,
        terms: &Terms,
    ) -> Result<bool, CommitError> {
        if is_past_its_end(base, terms) {
            return Ok(true);
        }
        let ended = self.ended_as(base).await.map_err(CommitError::of_store)?;
        Ok(ended.is_some())
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

    /// When a renewal or a logout that leaves the record ended this value, if that is remembered.
    pub(super) async fn renewed_at(&self, id: u128) -> anyhow::Result<Option<Millis>> {
        let Some(revocation) = &self.revocation else {
            return Ok(None);
        };
        let renewed = revocation.store.revoked_at(&note_of("renewed", id)).await?;
        Ok(renewed.map(Millis::from))
    }

    /// All that the session is known as now, after renewals. `None`: it has ended, or is another one.
    pub(super) async fn where_now(
        &self,
        mut all: Vec<Metadata>,
    ) -> anyhow::Result<Option<Vec<Metadata>>> {
        let Some(revocation) = &self.revocation else {
            return Ok(None);
        };
        let mut at = 0;
        while let Some(known) = all.get_mut(at) {
            if !revocation.has_ended(known).await? {
                at += 1;
                continue;
            }
            // The value goes with any of them; what goes on is this one's.
            if at > 0 {
                return Ok(None);
            }
            let renewed = note_of("renewed", known.id);
            let left = note_of("left", known.id);
            if revocation.store.revoked_at(&renewed).await?.is_none()
                || revocation.store.revoked_at(&left).await?.is_some()
            {
                return Ok(None);
            }
            known.id = renewed_id(known.id);
            // A renewal takes along what the session goes on as, and nothing else.
            all.truncate(1);
        }
        Ok(Some(all))
    }

    /// Leaves it to whoever has handed this call on, if there is somebody, to end this value once the
    /// new one is known to fit.
    pub(super) fn end_later(&self, older: &Record) -> bool {
        let later = handed().and_then(|handed| handed.later);
        let Some(later) = later.filter(|_| self.revocation.is_some()) else {
            return false;
        };
        let (store, older) = (self.clone(), older.clone());
        let end = async move { store.end_all(older.all_known(), Follow::All).await };
        later.put(Older::ended_by(end));
        true
    }

    /// Ends all that a value may be known as, and what comes after it. Returns whether nobody had ended the
    /// first of it before: that alone decides who was first, since others may be under way.
    pub(super) async fn end_all<'a>(
        &self,
        all: impl Iterator<Item = &'a Metadata> + Send,
        follow: Follow,
    ) -> anyhow::Result<bool> {
        let mut first = None;
        for known in all {
            let is_first = self.revoke_ahead(known, follow).await?;
            first.get_or_insert(is_first);
        }
        Ok(first.unwrap_or(true))
    }

    /// Ends the session, and what comes after it by now. Returns whether nobody had ended it before.
    async fn revoke_ahead(&self, metadata: &Metadata, follow: Follow) -> anyhow::Result<bool> {
        let Some(revocation) = &self.revocation else {
            return Ok(true);
        };
        let end = async |id| {
            // This note comes first: a renewal that loses against this end has noted that it was under way.
            let was_left = !self.note_left(revocation, id).await?;
            let is_first = self.revoke(metadata, id).await?;
            anyhow::Ok((!is_first).then_some((id, was_left)))
        };
        let mut ended = Vec::from_iter(end(metadata.id).await?);
        let is_first = ended.is_empty();
        // As long as that is remembered, whatever their number: a thief may renew all the time. Who notes
        // what comes next need not have been first, so that there may be nothing under that id.
        while let Some((id, was_left)) = ended.pop() {
            let renewed = self.renewed_at(id).await?.map(|_| renewed_id(id));
            let left = was_left && matches!(follow, Follow::All);
            for next in renewed.into_iter().chain(left.then(|| left_id(id))) {
                ended.extend(end(next).await?);
            }
        }
        Ok(is_first)
    }

    /// Notes that what comes after a value, if anything does, is another session. Returns whether nobody had
    /// noted it before.
    async fn note_left(&self, revocation: &Revocation, id: u128) -> anyhow::Result<bool> {
        let now = self.clock.now();
        let left = note_of("left", id);
        revocation.revoke(&left, now, now + contract::GRACE).await
    }

    /// If older values must end, gives the session a new id, and returns what ends them.
    pub(super) fn ending_older(
        &self,
        stamp: &mut Stamp<'_>,
        base: &Record,
        changes: &Changes,
    ) -> Older {
        let entry = stamp.principal_entry;
        let leaves = self.revocation.is_some() && changes.leave(base, entry);
        stamp.new_id = leaves || self.revocation.is_some() && changes.renews();
        let (true, Some(metadata)) = (stamp.new_id, base.metadata()) else {
            return Older::none();
        };
        stamp.fresh_id = match leaves {
            true => left_id(metadata.id),
            false => renewed_id(metadata.id),
        };
        let logs_out = leaves && !changes.leave_login(entry);
        let (store, base) = (self.clone(), base.clone());
        Older::ended_by(async move {
            let first = store.end_older(&base, leaves).await?;
            if logs_out {
                // If it was first, only this request's new value comes after it.
                let others = base.all_known().skip(first.into());
                store.end_all(others, Follow::Renewals).await?;
            }
            Ok(first)
        })
    }

    /// A logout follows a renewal that was faster.
    pub(super) async fn log_out_ahead(
        &self,
        base: &Record,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(), CommitError> {
        let entry = terms.principal_entry.as_deref();
        if changes.leave(base, entry) && !changes.leave_login(entry) {
            let ended = self.end_all(base.all_known(), Follow::Renewals).await;
            ended.map_err(CommitError::of_store)?;
        }
        Ok(())
    }

    /// Ends the values from before a renewal, and returns whether nobody had ended the session
    /// before. `leaves`: what comes after it is another session.
    async fn end_older(&self, base: &Record, leaves: bool) -> anyhow::Result<bool> {
        let (Some(revocation), Some(metadata)) = (&self.revocation, base.metadata()) else {
            return Ok(true);
        };
        // These notes come first, so that whoever finds the session ended also finds where it went.
        let now = self.clock.now();
        let grace = now + contract::GRACE;
        if leaves {
            self.note_left(revocation, metadata.id).await?;
        }
        let renewed = note_of("renewed", metadata.id);
        revocation.revoke(&renewed, now, grace).await?;
        self.revoke(metadata, metadata.id).await
    }
}

/// What an end follows.
#[derive(Clone, Copy)]
pub(super) enum Follow {
    All,
    /// A logout leaves alone what another one has left of the session, and whoever has logged in over it.
    Renewals,
}

/// Whether a session that was live at the load has ended by its time. Where loads extend sessions,
/// this request's load has done so.
fn is_past_its_end(base: &Record, terms: &Terms) -> bool {
    let idle_end = base.idle_end().filter(|_| !terms.extends_on_read());
    terms.is_over(base) || idle_end.is_some_and(|end| end <= terms.now)
}
