//! Sessions inside their cookies.

mod ending;

use std::sync::Arc;

use actix_web::cookie::time::Duration;

use self::ending::Follow;
use super::{
    RevocationStore, SessionStore,
    five_methods::age,
    revocation::{Revocation, note_name},
};
use crate::{
    changes::{Applied, ApplyError, Changes, fresh, overwrite, own_record, written},
    clock::{Clock, Millis, SharedClock},
    contract::{
        Committed, End, GRACE, IdleEnd, Older, Opened, Rotated, SessionState, Stamp, Terms,
    },
    error::{CommitError, LoadError, SaveError, UpdateError},
    handed::keep_end,
    key::SessionKey,
    live::{self, Watch},
    record::{Place, Record},
    sync::FirstTime,
    to_the_end::to_the_end,
};

/// Keeps the whole state inside the session cookie, sealed.
///
/// There is no shared record, so **the last `Set-Cookie` wins**: if two requests write in parallel,
/// the changes of one are lost. A slow response can undo a logout or a login. A copied value opens
/// the session until its own end, even after a logout. If that matters, use a store on the server.
///
/// The value contains its own times, so an expired one is refused however long the browser keeps
/// the cookie. Values from actix-session 0.11 or older contain no times. The store accepts them
/// with a warning, and adds times when it first sees them.
///
/// # Limits
/// Name and value together must fit into 4,096 octets. Otherwise the request fails, with an error
/// that names both numbers. Choose [`CookieContentSecurity::Private`], the default: anybody can
/// read a signed cookie.
///
/// # Examples
/// ```
/// use actix_session::{SessionMiddleware, storage::CookieSessionStore};
/// use actix_web::cookie::Key;
///
/// let secret_key = Key::generate();
/// let middleware = SessionMiddleware::new(CookieSessionStore::default(), secret_key);
/// # let _ = middleware;
/// ```
///
/// [`CookieContentSecurity::Private`]: crate::config::CookieContentSecurity::Private
///
/// # Ending sessions on the server
/// [`with_revocation`](Self::with_revocation) keeps a list of ended sessions on the server, so that
/// a logout ends copies of the cookie too. It costs one look-up for each request (two if somebody
/// is logged in), and as many again if the response sets the cookie.
///
/// The list keeps a note until the session's absolute end, or for 400 days if it has no absolute
/// end or began as a cookie of 0.11, since another value of the session may live that long. Set an
/// [`absolute_timeout`](crate::config::SessionMiddlewareBuilder::absolute_timeout) to keep the list
/// short. Keep the list in a store that evicts nothing: a full `MemorySessionStore` evicts notes, and
/// every visitor can add some by a logout, so that whoever floods it can push others' logouts out.
///
/// Encrypted cookies of actix-session 0.11 or older can be ended like others. A signed one has nothing
/// that tells it from another visitor's cookie with the same state, so nothing ends it before the
/// store has first seen it and given it an id. (If
/// [`principal_entry`](crate::config::SessionMiddlewareBuilder::principal_entry) says whose it is, cookies
/// with the same state end together.)
///
/// If another request renews the session while a logout is in flight, the logout ends the renewed
/// session too. This holds for 60 seconds after the renewal, as with a store on the server.
///
/// What a server of actix-session 0.11 writes with the cookie of a session that has ended ends with it,
/// even another person's login: that server copies the metadata. A cookie that it made for a session of
/// its own, or after a `clear`, carries none, so what it still writes with that one opens.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct CookieSessionStore {
    clock: SharedClock,
    revocation: Option<Arc<Revocation>>,
}

/// As published. A clock or a list of the application's own answers for itself.
impl std::panic::UnwindSafe for CookieSessionStore {}
impl std::panic::RefUnwindSafe for CookieSessionStore {}

/// How long an ended session stays ended: no cookie lives longer.
const REVOCATION_TTL: Millis = crate::config::LONGEST;

/// A state in a cookie has no name.
const PLACE: Place<'_> = Place::Named("");

impl CookieSessionStore {
    /// Keeps a list of ended sessions in a store on the server.
    ///
    /// A purge then ends copies of the session's cookie too. A renewal, a `clear` and a logout by the
    /// [entry](crate::config::SessionMiddlewareBuilder::principal_entry) that names the user end the
    /// older copies. If the list does not answer, requests fail as they do if a store fails. Times are
    /// by this store's [`clock`](Self::clock).
    #[must_use]
    pub fn with_revocation(mut self, store: impl RevocationStore) -> Self {
        let store = Box::new(store);
        self.revocation = Some(Arc::new(Revocation { store }));
        self
    }

    /// Sets the clock for the five published methods and for revocation. Give the middleware the
    /// same one.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Ends all sessions that a principal has logged in to until now: "sign out everywhere".
    ///
    /// A login in the same millisecond counts as ended, unless this process makes it after this call.
    ///
    /// # Errors
    /// There is no list of ended sessions ([`with_revocation`](Self::with_revocation)), or its
    /// store fails.
    ///
    /// # Examples
    /// ```
    /// # actix_web::rt::System::new().block_on(async {
    /// use actix_session::storage::{CookieSessionStore, MemorySessionStore};
    ///
    /// let store = CookieSessionStore::default();
    /// assert!(store.revoke_principal("user-42").await.is_err());
    /// let store = store.with_revocation(MemorySessionStore::new());
    /// assert!(store.revoke_principal("user-42").await.is_ok());
    /// # });
    /// ```
    pub async fn revoke_principal(&self, principal: &str) -> anyhow::Result<()> {
        let Some(revocation) = self.revocation.clone() else {
            anyhow::bail!("to end cookie-stored sessions early, set a store by `with_revocation`");
        };
        let at = self.clock.revocation_time(principal);
        let name = note_name("principal", principal);
        to_the_end(async move {
            let noted = revocation.revoke(&name, at, at + REVOCATION_TTL).await;
            noted.map(drop)
        })
        .await
    }

    /// As what the list says that the record's session has ended, if it has.
    async fn ended_as(&self, record: &Record) -> anyhow::Result<Option<u128>> {
        let Some(revocation) = &self.revocation else {
            return Ok(None);
        };
        for known in record.all_known() {
            if revocation.has_ended(known).await? {
                return Ok(Some(known.id));
            }
        }
        Ok(None)
    }

    /// The terms of a call that brings none.
    fn own_terms(&self) -> Terms {
        Terms::of_store(self.clock.now())
    }

    /// The record that a value is. If it has no id, as one from 0.11 or older, the list knows it by
    /// its seal.
    fn record_of(&self, key: &SessionKey, terms: &Terms) -> anyhow::Result<Record> {
        let record = Record::decode(key.as_ref().to_owned())?.in_cookie();
        let record = record.proven(PLACE, terms.keys.as_ref());
        if self.revocation.is_none() {
            // Whose it is, the middleware asks alone.
            return Ok(record);
        }
        let record = match (record.metadata(), key.seal()) {
            (None, Some(seal)) => record.known_as(seal, terms.now),
            _ => record,
        };
        Ok(terms.prove(record, PLACE))
    }

    fn read(&self, key: &SessionKey, terms: &Terms) -> anyhow::Result<Option<Record>> {
        let record = self.record_of(key, terms)?;
        let idle_end = record.idle_end();
        if idle_end.is_none() {
            warn_untimed();
        }
        let expired = idle_end.is_some_and(|end| end <= terms.now);
        Ok((!expired).then(|| record.with_end(idle_end)))
    }

    /// The record that a request has loaded, or would have if its session had not ended.
    fn base(&self, key: &SessionKey, base: Option<&Record>, terms: &Terms) -> Option<Record> {
        base.cloned().or_else(|| self.record_of(key, terms).ok())
    }

    fn value_of(
        applied: Result<Applied, ApplyError>,
        terms: &Terms,
    ) -> Result<Option<(SessionKey, End)>, CommitError> {
        let Some(record) = written(applied)? else {
            return Ok(None);
        };
        let end = record.idle_end().unwrap_or_else(|| terms.until(&record));
        let end = End::of(&record, end);
        let text = record.into_text().unwrap_or_default();
        Ok(Some((SessionKey::generated(text), end)))
    }

    fn stamp<'a>(&self, terms: &'a Terms) -> Result<Stamp<'a>, CommitError> {
        Ok(Stamp {
            idle_ttl: Some(terms.ttl),
            place: PLACE,
            // The list names a session by its id.
            keeps_entry: self.revocation.is_some(),
            ..fresh(terms)?
        })
    }

    /// What `save` and `update` make of a map. `anew`: as a session with another id.
    fn value_of_map(
        &self,
        state: SessionState,
        ttl: Duration,
        anew: bool,
    ) -> Result<SessionKey, SaveError> {
        let failed = |error: CommitError| SaveError::Other(error.into_anyhow());
        let terms = Terms {
            ttl: Millis::from(ttl),
            ..Terms::of_store(self.clock.now())
        };
        let mut stamp = self.stamp(&terms).map_err(failed)?;
        stamp.new_id = anew;
        let record = terms.record_of(state);
        let record = overwrite(&record, &Changes::default(), stamp);
        let value = Self::value_of(record, &terms).map_err(failed)?;
        let (key, _) = value.ok_or_else(|| SaveError::Other(anyhow::anyhow!("nothing to save")))?;
        // The published limit. The finished cookie has a limit of its own.
        String::from(key)
            .try_into()
            .map_err(|error: super::InvalidSessionKeyError| SaveError::Other(error.into()))
    }
}

/// Shows nothing of the list.
impl std::fmt::Debug for CookieSessionStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CookieSessionStore")
            .field("revocation", &self.revocation.is_some())
            .finish_non_exhaustive()
    }
}

fn warn_untimed() {
    static FIRST: FirstTime = FirstTime::new();
    if FIRST.is_now() {
        tracing::warn!(
            "accepting cookie-stored sessions without times, as actix-session 0.11 and older made \
             them: a copy of such a cookie opens its session until the secret key changes"
        );
    }
}

impl SessionStore for CookieSessionStore {
    async fn load(&self, session_key: &SessionKey) -> Result<Option<SessionState>, LoadError> {
        keep_end();
        let terms = self.own_terms();
        let record = self.read(session_key, &terms);
        let Some(record) = record.map_err(LoadError::Deserialization)? else {
            return Ok(None);
        };
        let ended = self.ended_as(&record).await.map_err(LoadError::Other)?;
        let lives = ended.is_none();
        Ok(lives.then(|| record.with_keys(terms.keys).into_map_with_metadata()))
    }

    async fn save(
        &self,
        session_state: SessionState,
        ttl: &Duration,
    ) -> Result<SessionKey, SaveError> {
        // What a default body saves is a renewal, and the old value is deleted then: that ends
        // whatever has its id.
        let anew = self.revocation.is_some();
        self.value_of_map(session_state, *ttl, anew)
    }

    async fn update(
        &self,
        _session_key: SessionKey,
        session_state: SessionState,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        let value = self.value_of_map(session_state, *ttl, false);
        value.map_err(|error| match error {
            SaveError::Serialization(error) => UpdateError::Serialization(error),
            SaveError::Other(error) => UpdateError::Other(error),
        })
    }

    async fn update_ttl(
        &self,
        _session_key: &SessionKey,
        _ttl: &Duration,
    ) -> Result<(), anyhow::Error> {
        keep_end();
        Ok(())
    }

    async fn delete(&self, session_key: &SessionKey) -> Result<(), anyhow::Error> {
        // A value that cannot be read can never open.
        let Ok(record) = self.record_of(session_key, &self.own_terms()) else {
            return Ok(());
        };
        if self.end_later(&record) {
            return Ok(());
        }
        self.end_all(record.all_known(), Follow::All)
            .await
            .map(drop)
    }

    async fn open(&self, session_key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
        let record = match self.read(session_key, terms) {
            Err(_) => return Ok(Opened::Unreadable),
            Ok(Some(record)) if !terms.is_over(&record) => record,
            Ok(_) => return Ok(Opened::Nothing),
        };
        let ended = self.ended_as(&record).await.map_err(LoadError::Other)?;
        let Some(id) = ended else {
            return Ok(Opened::Live(record));
        };
        let renewed = self.renewed_at(id).await.map_err(LoadError::Other)?;
        Ok(renewed.map_or(Opened::Nothing, |at| Opened::Moved(age(terms, at))))
    }

    fn opens_at_once(&self) -> bool {
        self.revocation.is_none()
    }

    fn knows_ends(&self) -> bool {
        self.revocation.is_some()
    }

    /// The list alone counts: the session may have got a later value, with a later end.
    async fn watch(&self, session_key: &SessionKey, watch: Watch, terms: &Terms) {
        let Ok(record) = self.record_of(session_key, terms) else {
            return;
        };
        let mut all: Vec<_> = record.all_known().cloned().collect();
        if all.is_empty() {
            return;
        }
        // Renewals are not remembered for longer.
        let half_grace = std::time::Duration::from_millis(GRACE.0.unsigned_abs() / 2);
        let (unwanted, lease) = (live::unwanted(&watch), watch.looking.lease.min(half_grace));
        while !watch.is_unwanted() {
            let look = self.where_now(all.clone());
            match live::ask(look, terms, &unwanted).await {
                Some(Some(Some(renewed))) => all = renewed,
                // Nobody knows.
                Some(None) => {}
                // It has ended, or nobody waits any more.
                Some(Some(None)) | None => return,
            }
            live::wait(lease, &unwanted).await;
        }
    }

    async fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(SessionKey, End), CommitError> {
        changes.refuse_upstream()?;
        let record = own_record(changes, self.stamp(terms)?);
        Self::value_of(record, terms)?.ok_or_else(CommitError::unexpected)
    }

    async fn commit(
        &self,
        session_key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Committed, CommitError> {
        let Some(base) = self.base(session_key, base, terms) else {
            return Ok(Committed::Gone);
        };
        if terms.is_over(&base) || self.has_ended(&base, terms).await? {
            self.log_out_ahead(&base, changes, terms).await?;
            return Ok(Committed::Gone);
        }
        let mut stamp = self.stamp(terms)?;
        let extends = |end| terms.extends_at(&base, end);
        if changes.is_empty() && !base.end().is_some_and(extends) {
            // Without changes, the new value keeps its idle end.
            stamp.idle = IdleEnd::Kept;
        } else if terms.keeps_end() {
            stamp.idle = IdleEnd::NoLater;
        }
        let older = self.ending_older(&mut stamp, &base, changes);
        let value = Self::value_of(overwrite(&base, changes, stamp), terms)?;
        Ok(value.map_or(Committed::Gone, |(key, end)| {
            Committed::NewValue(key, end, older)
        }))
    }

    async fn rotate(
        &self,
        session_key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Rotated, CommitError> {
        changes.refuse_upstream()?;
        let Some(base) = self.base(session_key, base, terms) else {
            return Ok(Rotated::Gone);
        };
        if terms.is_over(&base) || self.has_ended(&base, terms).await? {
            self.log_out_ahead(&base, changes, terms).await?;
            // As with a store on the server, only this request's own changes may live.
            if !changes.may_live_alone(Some(&base)) {
                return Ok(Rotated::Gone);
            }
            let (key, end) = self.create(&changes.alone(Some(&base)), terms).await?;
            return Ok(Rotated::Rotated(key, end, Older::none()));
        }
        let mut stamp = self.stamp(terms)?;
        if terms.keeps_end() && !changes.authenticate() {
            stamp.idle = IdleEnd::NoLater;
        }
        let older = self.ending_older(&mut stamp, &base, changes);
        let value = Self::value_of(overwrite(&base, changes, stamp), terms)?;
        Ok(value.map_or(Rotated::Gone, |(key, end)| {
            Rotated::Rotated(key, end, older)
        }))
    }
}
