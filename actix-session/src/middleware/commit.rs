//! The way out: makes the store call that was decided, and seals the cookie if one is sent.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    future::Future,
    time::Duration,
};

use actix_web::{
    HttpResponse,
    error::InternalError,
    http::{StatusCode, header::HeaderMap},
};
use tokio::time::{Instant, timeout_at};

use super::{
    Parts,
    cap::Cap,
    decide::{CookieFate, Decision, Exit, Finished, NewCookie, Origin, Silence},
    end::end,
    load::Incoming,
};
use crate::{
    Session,
    boxed::boxed,
    changes::Changes,
    clock::{LONGEST_WAIT, Millis, deadline},
    config::OnLoadError,
    contract::{Committed, End, Rotated, Terms},
    error::{CommitError, Contended, Degraded, Gone, LoadError, TooManySessions},
    event::{self, Why},
    handed::hand,
    key::SessionKey,
    measure::{self, timed},
    observe::{Observed, SessionEventKind},
    record::Record,
    session::Snapshot,
    storage::SessionStore,
};

/// What the response's headers do with the cookie, or with the header in its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SetCookie {
    Leave,
    /// The finished pair, or the header's value, and how long it lives from now.
    Set(Vec<u8>, Option<Millis>),
    Remove,
}

/// An error, and what the headers of its response do with the cookie all the same.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: CommitError,
    pub(crate) set_cookie: SetCookie,
    /// The log has it already.
    pub(crate) is_logged: bool,
}

impl Failed {
    pub(crate) fn log(&self, observed: &Observed) {
        if self.is_logged {
            return;
        }
        match self.error.refused_login() {
            Some(why) => event::login_refused(why),
            None => observed.not_committed("commit", &self.error),
        }
    }

    /// The session could not be loaded when it was asked for.
    pub(crate) fn at_load(error: LoadError) -> Self {
        let (LoadError::Deserialization(error) | LoadError::Other(error)) = error;
        Self {
            is_logged: true,
            ..CommitError::of_store(error).into()
        }
    }

    /// The same for whoever needs the session before the response.
    pub(crate) fn not_loaded(error: &LoadError) -> Self {
        let error = if is_contended(error) {
            CommitError::Contended
        } else {
            CommitError::Other(anyhow::anyhow!(NOT_LOADED))
        };
        Self {
            is_logged: true,
            ..error.into()
        }
    }
}

const NOT_LOADED: &str = "the session could not be loaded";

impl From<CommitError> for Failed {
    fn from(error: CommitError) -> Self {
        Self {
            error,
            set_cookie: SetCookie::Leave,
            is_logged: false,
        }
    }
}

/// Whether the client has gone, which nobody but the guard sees. The handle notes it.
pub(crate) struct Departure(Session);

impl Departure {
    pub(crate) fn of(session: &Session) -> Self {
        Self(session.clone())
    }

    pub(crate) fn note(&self) {
        self.0.lock().departed = true;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().departed
    }
}

/// How a request leaves, and until when it may ask the store for anything.
pub(crate) struct WayOut {
    exit: Exit,
    departure: Departure,
    /// The time limit for all that the request asks of the store.
    deadline: Instant,
    /// When whatever is still under way is given up.
    pub(crate) limit: Instant,
    /// Somebody waits for the end of the session that the request leaves.
    pub(crate) is_awaited: Cell<bool>,
    /// The key that the request has made, if somebody waits. Apart, since few do.
    pub(crate) made: RefCell<Option<Box<SessionKey>>>,
}

impl WayOut {
    /// Whether there is a response, which can tell of a failure, and somebody who waits for it.
    pub(crate) fn has_head(&self) -> bool {
        self.exit == Exit::Response && !self.departure.is_over()
    }

    pub(crate) fn new(exit: Exit, departure: Departure, budget: Duration) -> Self {
        let deadline = deadline(budget);
        Self {
            exit,
            departure,
            deadline,
            limit: deadline + margin(budget),
            is_awaited: Cell::default(),
            made: RefCell::default(),
        }
    }
}

/// Commits, renews, creates or ends, and returns what becomes of the cookie.
pub(crate) async fn commit<S: SessionStore>(
    parts: &Parts<S>,
    incoming: &Incoming,
    snapshot: &Snapshot,
    ended: bool,
    way_out: &WayOut,
) -> Result<SetCookie, Failed> {
    // The time of the response: the handler may have taken long.
    let terms = parts.terms(incoming.quiet);
    // The client may have gone since, and the store has not been asked yet.
    let exit = match way_out.departure.is_over() {
        true => Exit::NoHead,
        false => way_out.exit,
    };
    let mut work = Work {
        parts,
        request: Finished {
            incoming,
            snapshot,
            exit,
            policy: parts.policy(),
            now: terms.now,
        },
        terms,
        way_out,
    };
    let decision = work.request.decide();
    match decision {
        Decision::Leave(silence) => return Ok(work.leave(silence)),
        Decision::Touch => work.terms = work.terms.touching(),
        _ => {}
    }
    work.deliver(decision, ended).await
}

/// The client has gone, and nobody would get the new key.
const NO_RESPONSE: CookieFate = CookieFate::Leave(Silence::Dropped(Why::NoResponse));

/// The least time between the end of a budget and the moment when the middleware gives up, however
/// small the budget: a busy machine takes as long to run whatever has become ready.
const MARGIN: Duration = Duration::from_millis(500);

/// When whatever is still under way is given up. It is a little later than the budget ends: a store
/// that keeps to it says what went wrong.
pub(crate) fn limit(budget: Duration) -> Instant {
    deadline(budget) + margin(budget)
}

/// No configured budget can overflow it.
pub(super) fn margin(budget: Duration) -> Duration {
    MARGIN.max(budget.min(LONGEST_WAIT) / 8)
}

struct Work<'a, S: SessionStore> {
    parts: &'a Parts<S>,
    request: Finished<'a>,
    terms: Terms,
    way_out: &'a WayOut,
}

impl<S: SessionStore> Work<'_, S> {
    /// A cookie that cannot be refreshed stays as it is: the request has changed nothing.
    async fn deliver(&self, decision: Decision, ended: bool) -> Result<SetCookie, Failed> {
        match decision {
            Decision::End { then_create } => boxed(|| self.end(then_create, ended)).await,
            Decision::Check | Decision::Touch => {
                let refreshed = self.in_time(decision).await;
                Ok(refreshed.unwrap_or_else(|error| {
                    match error.turned_away().is_some() || error.is_handlers() {
                        true => event::not_refreshed(&error),
                        false => self.parts.observed().store_failed("refresh", &error),
                    }
                    SetCookie::Leave
                }))
            }
            // The load has told of it.
            Decision::Refuse => Err(Failed {
                is_logged: true,
                ..CommitError::degraded().into()
            }),
            decision => Ok(self.in_time(decision).await?),
        }
    }

    async fn in_time(&self, decision: Decision) -> Result<SetCookie, CommitError> {
        if self.parts.store.opens_at_once() {
            // It never waits, and has no use for a timer.
            return self.answer(decision).await;
        }
        let answer = boxed(|| timeout_at(self.way_out.limit, self.answer(decision)));
        answer.await.unwrap_or(Err(CommitError::OutcomeUnknown))
    }

    /// Once everything has ended, the cookie is removed even if the new session fails.
    async fn end(&self, then_create: bool, ended: bool) -> Result<SetCookie, Failed> {
        if !ended {
            let incoming = self.request.incoming;
            let (keys, owner) = (incoming.keys(), incoming.owner());
            let ended = end(self.parts, keys, owner.as_ref(), self.way_out.limit).await;
            ended.map_err(|error| self.not_ended(error))?;
        }
        if !then_create || self.way_out.departure.is_over() {
            return Ok(self.after_end());
        }
        let created = self.in_time(Decision::Create).await;
        created.map_err(|error| Failed {
            error,
            set_cookie: self.after_end(),
            is_logged: false,
        })
    }

    /// A load would have found out that the store is down, and the request would be degraded.
    fn not_ended(&self, error: anyhow::Error) -> CommitError {
        let anonymous = self.parts.configuration.on_load_error == OnLoadError::Anonymous;
        if anonymous && self.request.incoming.unopened {
            return CommitError::Other(error.context(Degraded));
        }
        CommitError::of_store(error)
    }

    fn leave(&self, silence: Silence) -> SetCookie {
        let key = self.request.incoming.loaded.key();
        match (silence, key) {
            (Silence::Dropped(why), key) => event::dropped(why, key),
            (Silence::Forwarded, Some(key)) => event::forwarded(key),
            (Silence::Gone, Some(key)) => event::gone(key),
            (Silence::Unneeded | Silence::Forwarded | Silence::Gone, _) => {}
        }
        if matches!(silence, Silence::Dropped(_) | Silence::Gone) {
            tell_dropped(self.parts, self.request.incoming);
        }
        SetCookie::Leave
    }

    fn tell(&self, kind: SessionEventKind, key: Option<&SessionKey>, principal: Option<&str>) {
        let observed = self.parts.observed();
        observed.tell(kind, key, principal);
    }

    fn after_end(&self) -> SetCookie {
        match self.request.after_end() {
            CookieFate::Remove => SetCookie::Remove,
            CookieFate::Leave(_) | CookieFate::Send(_) => SetCookie::Leave,
        }
    }

    async fn answer(&self, decision: Decision) -> Result<SetCookie, CommitError> {
        match self.ask(decision).await? {
            CookieFate::Leave(silence) => Ok(self.leave(silence)),
            CookieFate::Remove => Ok(SetCookie::Remove),
            CookieFate::Send(cookie) if cookie.older.is_none() => self.send_at_once(&cookie),
            CookieFate::Send(cookie) => boxed(|| self.send(cookie)).await,
        }
    }

    async fn ask(&self, decision: Decision) -> Result<CookieFate, CommitError> {
        let request = &self.request;
        match decision {
            Decision::Leave(silence) => Ok(CookieFate::Leave(silence)),
            Decision::Refuse => Err(CommitError::degraded()),
            Decision::Check | Decision::Touch => self.check().await,
            Decision::Commit => self.commit(&request.snapshot.changes).await,
            Decision::Rotate => self.rotate().await,
            Decision::Create => self.create().await,
            Decision::CreateAfterClear => boxed(|| self.create_after_clear()).await,
            Decision::End { .. } => Ok(request.after_end()),
        }
    }

    /// Nothing is dropped with a session that has ended or moved, and nothing follows it.
    async fn check(&self) -> Result<CookieFate, CommitError> {
        Ok(match self.commit(Changes::none()).await? {
            CookieFate::Leave(_) => CookieFate::Leave(Silence::Unneeded),
            fate => fate,
        })
    }

    async fn commit(&self, changes: &Changes) -> Result<CookieFate, CommitError> {
        let loaded = &self.request.incoming.loaded;
        let answer = match loaded.key() {
            Some(key) => boxed(|| self.commit_in_time_left(key, changes)).await?,
            None => Committed::Gone,
        };
        if !changes.is_empty() {
            measure::committed(&answer);
        }
        tell_lost_time(self.parts, self.request.incoming, changes, &answer);
        // A new value counts once the cookie with it is made.
        let is_made = !matches!(answer, Committed::NewValue(..));
        let told = is_made && self.tell_logout(changes, answer.is_written());
        if told && matches!(answer, Committed::Gone) && changes.effects.is_empty() {
            // It was all that there was to do.
            return Ok(CookieFate::Leave(Silence::Forwarded));
        }
        Ok(self.request.after_commit(answer))
    }

    async fn rotate(&self) -> Result<CookieFate, CommitError> {
        let (loaded, changes) = (
            &self.request.incoming.loaded,
            &self.request.snapshot.changes,
        );
        let answer = match loaded.key() {
            Some(key) => match self.cap() {
                None => self.rotate_in_time_left(key).await?,
                Some(cap) => {
                    let rotating = self.rotate_in_time_left(key);
                    match boxed(|| self.within(cap, rotating, Rotated::key)).await? {
                        Some(answer) => answer,
                        None => return Ok(NO_RESPONSE),
                    }
                }
            },
            None => Rotated::Gone,
        };
        let is_renewed = matches!(answer, Rotated::Rotated(..));
        if !is_renewed && changes.logs_in(loaded.record()) {
            // Whoever has logged in must know that it does not count.
            return Err(CommitError::gone());
        }
        if !is_renewed {
            self.tell_logout(changes, false);
        }
        Ok(self.request.after_rotate(answer))
    }

    async fn create(&self) -> Result<CookieFate, CommitError> {
        let created = match self.cap() {
            None => boxed(|| self.create_in_time_left()).await?,
            Some(cap) => {
                let creating = self.create_in_time_left();
                let created = self.within(cap, creating, |(key, _)| Some(key));
                match boxed(|| created).await? {
                    Some(created) => created,
                    None => return Ok(NO_RESPONSE),
                }
            }
        };
        Ok(self.request.after_create(created))
    }

    /// What limits the sessions of whoever logs in.
    fn cap(&self) -> Option<&Cap> {
        let cap = self.parts.configuration.cap.as_ref();
        cap.filter(|_| self.leaves_login())
    }

    fn leaves_login(&self) -> bool {
        let entry = self.terms.principal_entry.as_deref();
        self.request.snapshot.changes.leave_login(entry)
    }

    /// Logs somebody in, if their sessions allow it. `None`: the client went before the store was asked.
    async fn within<T>(
        &self,
        cap: &Cap,
        login: impl Future<Output = Result<T, CommitError>>,
        key_of: impl Fn(&T) -> Option<&SessionKey>,
    ) -> Result<Option<T>, CommitError> {
        let (base, changes) = (self.request.base(), &self.request.snapshot.changes);
        let terms = self.terms_left().quiet();
        let admitted = cap.admit(base, changes, &terms).await?;
        if self.way_out.departure.is_over() {
            cap.release(admitted, &terms).await?;
            return Ok(None);
        }
        match login.await {
            Ok(made) if key_of(&made).is_none() => {
                cap.release(admitted, &terms).await?;
                Ok(Some(made))
            }
            Ok(made) => {
                let settled = cap.settle(admitted, base, changes, &terms).await;
                if let Err(error) = &settled {
                    self.take_back(key_of(&made), error).await;
                }
                let evicted = settled?;
                if evicted > 0 {
                    let principal = changes.login.as_ref().map(|login| login.principal.as_str());
                    self.tell(SessionEventKind::Evicted(evicted), None, principal);
                }
                Ok(Some(made))
            }
            Err(error) => {
                cap.release(admitted, &terms).await?;
                Err(error)
            }
        }
    }

    /// Nobody will hold a session whose login fails once it is made. One that has ended needs no end.
    async fn take_back(&self, made: Option<&SessionKey>, error: &CommitError) {
        if let Some(key) = made.filter(|_| error.refused_login().is_none()) {
            let deleted = hand(self.terms_left().handed(), self.parts.store.delete(key)).await;
            if let Err(error) = deleted.0 {
                self.parts.observed().store_failed("delete", error.as_ref());
            }
        }
    }

    async fn commit_in_time_left(
        &self,
        key: &SessionKey,
        changes: &Changes,
    ) -> Result<Committed, CommitError> {
        let (store, loaded) = (&self.parts.store, &self.request.incoming.loaded);
        let terms = self.terms_in_time();
        timed(
            "commit",
            store.commit(key, loaded.record(), changes, &terms),
        )
        .await
    }

    async fn rotate_in_time_left(&self, key: &SessionKey) -> Result<Rotated, CommitError> {
        let (store, request) = (&self.parts.store, &self.request);
        let (base, changes) = (request.incoming.loaded.record(), &request.snapshot.changes);
        let terms = self.terms_in_time();
        boxed(|| timed("rotate", store.rotate(key, base, changes, &terms))).await
    }

    /// Behind a base that has ended, nothing of one person's reaches the next.
    async fn create_in_time_left(&self) -> Result<(SessionKey, End), CommitError> {
        let (store, changes) = (&self.parts.store, &self.request.snapshot.changes);
        let changes = &changes.alone(self.request.base());
        let terms = self.terms_in_time();
        timed("create", store.create(changes, &terms)).await
    }

    /// The terms for a store call that others may have come before. A store that never waits has all of
    /// its time.
    fn terms_in_time(&self) -> Cow<'_, Terms> {
        if self.parts.store.opens_at_once() {
            Cow::Borrowed(&self.terms)
        } else {
            Cow::Owned(self.terms_left())
        }
    }

    /// The terms for a store call that others have come before.
    fn terms_left(&self) -> Terms {
        Terms {
            budget: self
                .way_out
                .deadline
                .saturating_duration_since(Instant::now()),
            ..self.terms.clone()
        }
    }

    /// If the client has gone meanwhile, nobody gets a new key.
    async fn create_after_clear(&self) -> Result<CookieFate, CommitError> {
        let clear = self.request.snapshot.changes.without_rights();
        let cleared = self.commit(&clear).await?;
        if self.way_out.departure.is_over() {
            return Ok(cleared);
        }
        self.create().await
    }

    /// Ends older values only once the new cookie is known to fit: otherwise the session would be
    /// lost.
    async fn send(&self, cookie: NewCookie) -> Result<SetCookie, CommitError> {
        let line = self.seal(&cookie)?;
        let NewCookie {
            key, origin, older, ..
        } = cookie;
        if older.end().await.map_err(CommitError::of_store)? {
            self.made(origin, key.as_ref());
            return Ok(line);
        }
        if self.way_out.departure.is_over() {
            return Ok(self.leave(Silence::Dropped(Why::NoResponse)));
        }
        match boxed(|| self.ask(self.request.after_overtaken())).await? {
            CookieFate::Send(cookie) => self.send_at_once(&cookie),
            CookieFate::Leave(silence) => Ok(self.leave(silence)),
            CookieFate::Remove => Ok(SetCookie::Remove),
        }
    }

    /// If there is no older value to end.
    fn send_at_once(&self, cookie: &NewCookie) -> Result<SetCookie, CommitError> {
        let line = self.seal(cookie)?;
        self.made(cookie.origin, cookie.key.as_ref());
        Ok(line)
    }

    /// A session has a new key, and the cookie for it is made.
    fn made(&self, origin: Origin, new: Option<&SessionKey>) {
        let (incoming, changes) = (self.request.incoming, &self.request.snapshot.changes);
        let came = incoming.loaded.key();
        let Some(key) = new.or(came) else { return };
        let kind = match (origin, came) {
            (Origin::Refreshed, _) => {
                if new.is_some() {
                    self.tell_logout(changes, true);
                }
                return;
            }
            (Origin::Renewed, Some(old)) if !changes.left_the_old_one() => {
                event::renewed(old, key);
                let entry = self.terms.principal_entry.as_deref();
                let was = changes.logged_out_by_renewal(incoming.principal(), entry);
                told_logout(self.parts, incoming, was.as_deref());
                SessionEventKind::Renewed
            }
            (Origin::Renewed | Origin::Created, _) => {
                event::created(key);
                if origin == Origin::Renewed {
                    self.tell_logout(changes, false);
                }
                SessionEventKind::Created
            }
        };
        let login = changes.login.as_ref().filter(|_| self.leaves_login());
        let principal = match login {
            Some(login) => Some(&*login.principal),
            None => incoming.principal().filter(|_| {
                let entry = self.terms.principal_entry.as_deref();
                kind == SessionEventKind::Renewed && !changes.log_out(entry)
            }),
        };
        let kind = match login {
            Some(_) => SessionEventKind::LoggedIn,
            None => kind,
        };
        self.tell(kind, Some(key), principal);
    }

    fn tell_logout(&self, changes: &Changes, is_written: bool) -> bool {
        tell_logout(self.parts, self.request.incoming, changes, is_written)
    }

    fn seal(&self, cookie: &NewCookie) -> Result<SetCookie, CommitError> {
        let came = self.request.incoming.loaded.key();
        let Some(key) = cookie.key.as_ref().or(came) else {
            return Ok(self.leave(Silence::Unneeded));
        };
        if cookie.key.is_some() && self.way_out.is_awaited.get() {
            self.way_out.made.replace(Some(key.duplicate().into()));
        }
        let (cookies, by_header) = (&self.parts.cookies, self.request.incoming.by_header);
        let sealed = cookies.seal(key.as_ref(), by_header);
        Ok(SetCookie::Set(
            sealed.map_err(CommitError::Other)?,
            cookie.max_age,
        ))
    }
}

/// Tells whom changes have logged out, and whether they have.
pub(crate) fn tell_logout<S>(
    parts: &Parts<S>,
    incoming: &Incoming,
    changes: &Changes,
    is_written: bool,
) -> bool {
    let told = changes.logged_out(is_written, incoming.principal());
    told_logout(parts, incoming, told.as_deref())
}

fn told_logout<S>(parts: &Parts<S>, incoming: &Incoming, principal: Option<&str>) -> bool {
    if principal.is_some() {
        let kind = SessionEventKind::LoggedOut;
        let observed = &parts.configuration.observed;
        observed.tell(kind, incoming.loaded.key(), principal);
    }
    principal.is_some()
}

/// The changes of a request are lost.
pub(crate) fn tell_dropped<S>(parts: &Parts<S>, incoming: &Incoming) {
    let (key, principal) = (incoming.loaded.key(), incoming.principal());
    let observed = parts.observed();
    observed.tell(SessionEventKind::Dropped, key, principal);
}

/// What a session's own time is set to does not follow a renewal.
pub(crate) fn tell_lost_time<S>(
    parts: &Parts<S>,
    incoming: &Incoming,
    changes: &Changes,
    answer: &Committed,
) {
    let before = || incoming.loaded.record().and_then(Record::own_ttl);
    if matches!(answer, Committed::Forwarded)
        && changes.ttl.is_some_and(|ttl| ttl.own() != before())
    {
        event::dropped(Why::JustRenewed, incoming.loaded.key());
        tell_dropped(parts, incoming);
    }
}

/// An error response without a body: only the log says what went wrong.
pub(crate) fn opaque<E>(error: E) -> actix_web::Error
where
    E: std::fmt::Debug + std::fmt::Display + 'static,
{
    let response = HttpResponse::new(StatusCode::INTERNAL_SERVER_ERROR);
    InternalError::from_response(error, response).into()
}

/// The response to a failed commit, whose headers may still remove the cookie.
pub(crate) fn commit_failed(
    error: CommitError,
    write: impl FnOnce(&mut HeaderMap) -> anyhow::Result<()>,
) -> actix_web::Error {
    let status = match error {
        CommitError::Contended | CommitError::Full => StatusCode::SERVICE_UNAVAILABLE,
        CommitError::Other(ref cause) if cause.is::<Degraded>() => StatusCode::SERVICE_UNAVAILABLE,
        CommitError::Other(ref cause) if cause.is::<Gone>() => StatusCode::UNAUTHORIZED,
        CommitError::Other(ref cause) if cause.is::<TooManySessions>() => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = HttpResponse::new(status);
    match write(response.headers_mut()) {
        Ok(()) => InternalError::from_response(error, response).into(),
        Err(error) => opaque(error),
    }
}

pub(crate) fn load_failed(error: LoadError) -> actix_web::Error {
    let response = HttpResponse::new(status_of(&error));
    InternalError::from_response(error, response).into()
}

/// What an extractor answers, before the middleware does.
pub(crate) fn not_loaded(error: &LoadError) -> actix_web::Error {
    let response = HttpResponse::new(status_of(error));
    InternalError::from_response(NOT_LOADED, response).into()
}

fn status_of(error: &LoadError) -> StatusCode {
    if is_contended(error) {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

fn is_contended(error: &LoadError) -> bool {
    matches!(error, LoadError::Other(cause) if cause.is::<Contended>())
}
