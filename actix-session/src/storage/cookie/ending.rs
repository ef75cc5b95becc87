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
    storage::revocation::{Revocation, left_id, note_of, renewed_id},
};

/// A renewal of a value was under way, or a logout or a login over it.
const RENEWED: &str = "renewed";

/// What comes after a value, if anything does, is another session.
const LEFT: &str = "left";

/// How long after a renewal was under way it has become known whose session came after it.
const SETTLED: Millis = Millis::secs(10);

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
        // flight may make one more. Only the absolute end is common to all, until a renewal; a value
        // of 0.11, which its seal names, has none.
        let grace = now + contract::GRACE;
        let longest = grace + REVOCATION_TTL;
        let is_common = id == metadata.id && !SessionKey::is_seal(id);
        let end = metadata.absolute_end.filter(|_| is_common);
        let until = end.map_or(longest, |end| end.min(longest));
        let until = until.max(metadata.idle_end.unwrap_or(now)).max(grace);
        revocation.revoke(&note_of("session", id), now, until).await
    }

    /// When a renewal or a logout that leaves the record ended this value, if that is remembered.
    pub(super) async fn renewed_at(&self, id: u128) -> anyhow::Result<Option<Millis>> {
        let Some(revocation) = &self.revocation else {
            return Ok(None);
        };
        let renewed = revocation.store.revoked_at(&note_of(RENEWED, id)).await?;
        Ok(renewed.map(Millis::from))
    }

    /// All that the session is known as now, after renewals. `None`: it has ended, or is another one. A renewal
    /// of a moment ago may turn out to be a login over the session: until then, the next look begins before it.
    pub(super) async fn where_now(
        &self,
        mut all: Vec<Metadata>,
    ) -> anyhow::Result<Option<Vec<Metadata>>> {
        let Some(revocation) = &self.revocation else {
            return Ok(None);
        };
        let (mut at, mut before) = (0, None);
        while let Some(known) = all.get_mut(at) {
            if !revocation.has_ended(known).await? {
                at += 1;
                continue;
            }
            // The value goes with any of them; what goes on is this one's.
            if at > 0 {
                return Ok(None);
            }
            let left = note_of(LEFT, known.id);
            let Some(renewed) = self.renewed_at(known.id).await? else {
                return Ok(None);
            };
            if revocation.store.revoked_at(&left).await?.is_some() {
                return Ok(None);
            }
            let is_young = renewed + SETTLED > self.clock.now();
            if is_young && before.is_none() {
                before = Some(known.clone());
            }
            known.id = renewed_id(known.id);
            // A renewal takes along what the session goes on as, and nothing else.
            all.truncate(1);
        }
        Ok(Some(before.map_or(all, |before| vec![before])))
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
            self.note(revocation, LEFT, id).await?;
            let is_first = self.revoke(metadata, id).await?;
            anyhow::Ok((!is_first).then_some(id))
        };
        let mut ended = Vec::from_iter(end(metadata.id).await?);
        let is_first = ended.is_empty();
        // For as long as renewals are remembered, however many: a thief may renew all the time. Who has noted
        // one need not have been first, so that there may be nothing under an id that follows.
        while let Some(id) = ended.pop() {
            if self.renewed_at(id).await?.is_none() {
                continue;
            }
            let left = matches!(follow, Follow::All).then(|| left_id(id));
            for next in left.into_iter().chain([renewed_id(id)]) {
                ended.extend(end(next).await?);
            }
        }
        Ok(is_first)
    }

    /// Notes what comes after a value, for as long as that may be asked for.
    async fn note(&self, revocation: &Revocation, kind: &str, id: u128) -> anyhow::Result<()> {
        let now = self.clock.now();
        let until = now + contract::GRACE;
        revocation.revoke(&note_of(kind, id), now, until).await?;
        Ok(())
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
            let logs_in = leaves && !logs_out;
            let first = store.end_older(&base, logs_out, logs_in).await?;
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
    /// before.
    async fn end_older(
        &self,
        base: &Record,
        logs_out: bool,
        logs_in: bool,
    ) -> anyhow::Result<bool> {
        let (Some(revocation), Some(metadata)) = (&self.revocation, base.metadata()) else {
            return Ok(true);
        };
        // These notes come first, so that whoever finds the session ended also finds where it went.
        if logs_out {
            self.note(revocation, LEFT, metadata.id).await?;
        }
        self.note(revocation, RENEWED, metadata.id).await?;
        let first = self.revoke(metadata, metadata.id).await?;
        // Whoever logs in over it and loses leaves it alone.
        if logs_in && first {
            self.note(revocation, LEFT, metadata.id).await?;
        }
        Ok(first)
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
