//! The way out: carries out what was decided.

use actix_web::{HttpResponse, error::InternalError, http::StatusCode};

use super::{
    Shared,
    decide::{Exit, Outcome, decide},
    open::{Incoming, Loaded},
};
use crate::{
    changes::Changes,
    clock::Millis,
    contract::{Committed, End, Older, Rotated, Terms},
    cookie::write,
    error::{CommitError, Degraded},
    event,
    key::SessionKey,
    record::Record,
    session::Snapshot,
    storage::SessionStore,
};

/// What the response says of the cookie.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CookieAction {
    Leave,
    /// The finished pair, and for how long from now.
    Set(String, Option<Millis>),
    Remove,
}

/// Commits, renews, creates or ends, and says what becomes of the cookie.
pub(crate) async fn finish<S: SessionStore>(
    shared: &Shared<S>,
    incoming: &Incoming,
    snapshot: &Snapshot,
    exit: Exit,
    ended: bool,
) -> Result<CookieAction, CommitError> {
    let terms = shared.terms();
    let changes = &snapshot.changes;
    let work = Work {
        shared,
        incoming,
        changes,
        terms: &terms,
    };
    match decide(incoming, snapshot, exit, shared.policy()) {
        Outcome::Nothing => Ok(CookieAction::Leave),
        Outcome::Refused => Err(CommitError::degraded()),
        Outcome::Dropped(why) => {
            event::dropped(why, incoming.loaded.key());
            Ok(CookieAction::Leave)
        }
        Outcome::Check => work.commit(&Changes::default()).await,
        Outcome::Commit => work.commit(changes).await,
        Outcome::Rotate => work.rotate().await,
        Outcome::Create => work.create().await,
        Outcome::End { then_create } => {
            if !ended {
                end(shared, incoming).await.map_err(CommitError::Other)?;
            }
            match (
                then_create,
                incoming.cookie_came || !incoming.old_cookies.is_empty(),
            ) {
                (true, _) => work.create().await,
                (false, true) => Ok(CookieAction::Remove),
                (false, false) => Ok(CookieAction::Leave),
            }
        }
    }
}

/// Ends every session whose key came and verified.
pub(crate) async fn end<S: SessionStore>(
    shared: &Shared<S>,
    incoming: &Incoming,
) -> anyhow::Result<()> {
    let mut result = Ok(());
    for key in incoming.loaded.key().into_iter().chain(&incoming.others) {
        match shared.store.delete(key).await {
            Ok(()) => event::ended(key),
            // The others are ended all the same.
            Err(error) => result = Err(error),
        }
    }
    result
}

struct Work<'a, S: SessionStore> {
    shared: &'a Shared<S>,
    incoming: &'a Incoming,
    changes: &'a Changes,
    terms: &'a Terms,
}

impl<S: SessionStore> Work<'_, S> {
    fn base(&self) -> (Option<&SessionKey>, Option<&Record>) {
        match &self.incoming.loaded {
            Loaded::Live(key, record) => (Some(key), Some(record)),
            loaded => (loaded.key(), None),
        }
    }

    async fn commit(&self, changes: &Changes) -> Result<CookieAction, CommitError> {
        let (Some(key), base) = self.base() else {
            return Ok(CookieAction::Leave);
        };
        match self
            .shared
            .store
            .commit(key, base, changes, self.terms)
            .await?
        {
            Committed::Saved(end) if self.refreshes(changes) => self.set(key, end),
            Committed::Saved(_) => Ok(CookieAction::Leave),
            Committed::NewValue(sealed, end, older) => {
                let action = self.set(&sealed, end)?;
                self.unless_ended(key, older, action).await
            }
            Committed::Forwarded => {
                event::forwarded(key);
                Ok(CookieAction::Leave)
            }
            Committed::Gone => {
                event::gone(key);
                Ok(CookieAction::Leave)
            }
        }
    }

    async fn rotate(&self) -> Result<CookieAction, CommitError> {
        let (Some(old), base) = self.base() else {
            return Ok(CookieAction::Leave);
        };
        match self
            .shared
            .store
            .rotate(old, base, self.changes, self.terms)
            .await?
        {
            Rotated::Rotated(key, end, older) => {
                event::renewed(old, &key);
                let action = self.set(&key, end)?;
                self.unless_ended(old, older, action).await
            }
            Rotated::Moved | Rotated::Gone => {
                event::gone(old);
                Ok(CookieAction::Leave)
            }
        }
    }

    async fn create(&self) -> Result<CookieAction, CommitError> {
        let (key, end) = self.shared.store.create(self.changes, self.terms).await?;
        event::created(&key);
        self.set(&key, end)
    }

    /// A renewal or a `clear` of a cookie-stored session ends the values from before it. Not before
    /// the new one is known to fit: else the session would be lost. If a logout was faster, the new
    /// one is not sent; what this request itself has done may be a session, as on the server.
    async fn unless_ended(
        &self,
        old: &SessionKey,
        older: Older,
        action: CookieAction,
    ) -> Result<CookieAction, CommitError> {
        if older.end().await.map_err(CommitError::Other)? {
            return Ok(action);
        }
        let (_, base) = self.base();
        if self.changes.renews() && self.changes.may_live_alone(base) {
            return self.create().await;
        }
        event::gone(old);
        Ok(CookieAction::Leave)
    }

    /// Whether an answer that the key is current sends the cookie again.
    fn refreshes(&self, changes: &Changes) -> bool {
        self.persistent() || self.incoming.stale || changes.ttl.is_some()
    }

    /// Whether the cookie has an age: that is configured, or the session has a TTL of its own.
    fn persistent(&self) -> bool {
        let (_, base) = self.base();
        let own = |base: &Record| base.facts().is_some_and(|facts| facts.ttl.is_some());
        self.shared.configuration.persistent || self.changes.ttl.is_some() || base.is_some_and(own)
    }

    fn set(&self, key: &SessionKey, end: End) -> Result<CookieAction, CommitError> {
        let sealed = self
            .shared
            .cookies
            .own
            .sealer
            .seal(key.as_ref())
            .map_err(CommitError::Other)?;
        let pair = write::pair(&self.shared.configuration.cookie, &sealed);
        let pair = pair.map_err(CommitError::Other)?;
        let age = self.persistent().then(|| end.0 - self.terms.now);
        Ok(CookieAction::Set(pair, age))
    }
}

/// An error response without a body: what went wrong is for the log.
pub(crate) fn opaque<E>(error: E) -> actix_web::Error
where
    E: std::fmt::Debug + std::fmt::Display + 'static,
{
    with_status(error, StatusCode::INTERNAL_SERVER_ERROR)
}

pub(crate) fn commit_failed(error: CommitError) -> actix_web::Error {
    let status = match error {
        CommitError::Contended => StatusCode::SERVICE_UNAVAILABLE,
        CommitError::Other(ref cause) if cause.is::<Degraded>() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    with_status(error, status)
}

fn with_status<E>(error: E, status: StatusCode) -> actix_web::Error
where
    E: std::fmt::Debug + std::fmt::Display + 'static,
{
    InternalError::from_response(error, HttpResponse::new(status)).into()
}
