//! The way out: makes the store call that was decided, and seals the cookie if one is sent.

use std::{cell::Cell, rc::Rc};

use actix_web::{HttpResponse, error::InternalError, http::StatusCode};

use super::{
    Parts,
    decide::{CookieFate, Decision, Exit, Finished, NewCookie, Origin, Silence},
    end::end,
    load::Incoming,
};
use crate::{
    changes::Changes,
    clock::Millis,
    contract::{Committed, Rotated, Terms},
    cookie::write,
    error::{CommitError, Degraded},
    event::{self, Why},
    key::SessionKey,
    session::Snapshot,
    storage::SessionStore,
};

/// What the response's headers do with the cookie.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SetCookie {
    Leave,
    /// The finished pair, and how long it lives from now.
    Set(String, Option<Millis>),
    Remove,
}

/// Whether the client has gone, which nobody but the guard sees.
#[derive(Clone, Default)]
pub(crate) struct Departure(Rc<Cell<bool>>);

impl Departure {
    pub(crate) fn note(&self) {
        self.0.set(true);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.get()
    }
}

/// Commits, renews, creates or ends, and returns what becomes of the cookie.
pub(crate) async fn commit<S: SessionStore>(
    parts: &Parts<S>,
    incoming: &Incoming,
    snapshot: &Snapshot,
    exit: Exit,
    ended: bool,
    departure: &Departure,
) -> Result<SetCookie, CommitError> {
    // The time of the response: the handler may have taken long.
    let terms = parts.terms();
    let request = Finished {
        incoming,
        snapshot,
        exit,
        policy: parts.policy(),
        now: terms.now,
    };
    let work = Work {
        parts,
        request,
        terms: &terms,
        departure,
    };
    work.deliver(work.request.decide(), ended).await
}

struct Work<'a, S: SessionStore> {
    parts: &'a Parts<S>,
    request: Finished<'a>,
    terms: &'a Terms,
    departure: &'a Departure,
}

impl<S: SessionStore> Work<'_, S> {
    /// A cookie that cannot be refreshed stays as it is: the request has changed nothing.
    async fn deliver(&self, decision: Decision, ended: bool) -> Result<SetCookie, CommitError> {
        let refreshes = matches!(decision, Decision::Check | Decision::Touch);
        match self.answer(decision, ended).await {
            Err(error) if refreshes => {
                event::store_failed("refresh", &error);
                Ok(SetCookie::Leave)
            }
            answer => answer,
        }
    }

    async fn answer(&self, decision: Decision, ended: bool) -> Result<SetCookie, CommitError> {
        match self.ask(decision, ended).await? {
            CookieFate::Leave(silence) => Ok(self.leave(silence)),
            CookieFate::Remove => Ok(SetCookie::Remove),
            CookieFate::Send(cookie) => self.send(cookie).await,
        }
    }

    async fn ask(&self, decision: Decision, ended: bool) -> Result<CookieFate, CommitError> {
        let request = &self.request;
        match decision {
            Decision::Leave(silence) => Ok(CookieFate::Leave(silence)),
            Decision::Refuse => Err(CommitError::degraded()),
            Decision::Check => self.commit(&Changes::default(), self.terms).await,
            Decision::Touch => {
                let terms = self.terms.touching();
                self.commit(&Changes::default(), &terms).await
            }
            Decision::Commit => self.commit(&request.snapshot.changes, self.terms).await,
            Decision::Rotate => self.rotate().await,
            Decision::Create => self.create().await,
            Decision::End { then_create } => {
                if !ended {
                    let ended = end(self.parts, request.incoming.keys()).await;
                    ended.map_err(CommitError::Other)?;
                }
                if then_create && !self.departure.is_over() {
                    self.create().await
                } else {
                    Ok(request.after_end())
                }
            }
        }
    }

    async fn commit(&self, changes: &Changes, terms: &Terms) -> Result<CookieFate, CommitError> {
        let loaded = &self.request.incoming.loaded;
        let answer = match loaded.key() {
            Some(key) => {
                let store = &self.parts.store;
                let committed = store.commit(key, loaded.record(), changes, terms);
                committed.await?
            }
            None => Committed::Gone,
        };
        Ok(self.request.after_commit(answer))
    }

    async fn rotate(&self) -> Result<CookieFate, CommitError> {
        let (loaded, changes) = (
            &self.request.incoming.loaded,
            &self.request.snapshot.changes,
        );
        let answer = match loaded.key() {
            Some(key) => {
                let store = &self.parts.store;
                let rotated = store.rotate(key, loaded.record(), changes, self.terms);
                rotated.await?
            }
            None => Rotated::Gone,
        };
        Ok(self.request.after_rotate(answer))
    }

    async fn create(&self) -> Result<CookieFate, CommitError> {
        let changes = &self.request.snapshot.changes;
        let created = self.parts.store.create(changes, self.terms).await?;
        Ok(self.request.after_create(created))
    }

    /// Ends older values only once the new cookie is known to fit: otherwise the session would be
    /// lost.
    async fn send(&self, cookie: NewCookie) -> Result<SetCookie, CommitError> {
        let line = self.seal(&cookie)?;
        if cookie.older.end().await.map_err(CommitError::Other)? {
            return Ok(line);
        }
        if self.departure.is_over() {
            return Ok(self.leave(Silence::Dropped(Why::NoResponse)));
        }
        match self.ask(self.request.after_overtaken(), true).await? {
            CookieFate::Send(cookie) => self.seal(&cookie),
            CookieFate::Leave(silence) => Ok(self.leave(silence)),
            CookieFate::Remove => Ok(SetCookie::Remove),
        }
    }

    fn seal(&self, cookie: &NewCookie) -> Result<SetCookie, CommitError> {
        let came = self.request.incoming.loaded.key();
        let Some(key) = cookie.key.as_ref().or(came) else {
            return Ok(self.leave(Silence::Unneeded));
        };
        log(cookie.origin, came, key);
        let sealer = &self.parts.cookies.own.sealer;
        let sealed = sealer.seal(key.as_ref()).map_err(CommitError::Other)?;
        let pair = write::pair(&self.parts.configuration.cookie, &sealed);
        Ok(SetCookie::Set(
            pair.map_err(CommitError::Other)?,
            cookie.max_age,
        ))
    }

    fn leave(&self, silence: Silence) -> SetCookie {
        let key = self.request.incoming.loaded.key();
        match (silence, key) {
            (Silence::Dropped(why), key) => event::dropped(why, key),
            (Silence::Forwarded, Some(key)) => event::forwarded(key),
            (Silence::Gone, Some(key)) => event::gone(key),
            (Silence::Unneeded | Silence::Forwarded | Silence::Gone, _) => {}
        }
        SetCookie::Leave
    }
}

fn log(origin: Origin, came: Option<&SessionKey>, key: &SessionKey) {
    match (origin, came) {
        (Origin::Renewed, Some(old)) => event::renewed(old, key),
        (Origin::Renewed | Origin::Created, _) => event::created(key),
        (Origin::Refreshed, _) => {}
    }
}

/// An error response without a body: only the log says what went wrong.
pub(crate) fn opaque<E>(error: E) -> actix_web::Error
where
    E: std::fmt::Debug + std::fmt::Display + 'static,
{
    with_status(error, StatusCode::INTERNAL_SERVER_ERROR)
}

pub(crate) fn commit_failed(error: CommitError) -> actix_web::Error {
    let status = match error {
        CommitError::Contended | CommitError::Full => StatusCode::SERVICE_UNAVAILABLE,
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
