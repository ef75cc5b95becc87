//! Sessions inside of their cookie.

use std::sync::Arc;

use actix_web::cookie::time::Duration;

use super::{RevocationStore, SessionStore};
use crate::{
    changes::{Applied, ApplyError, Changes, Grounds, fresh, overwrite, own_record, written},
    clock::{Clock, Millis, SharedClock},
    contract::{self, Committed, End, Older, Opened, Rotated, SessionState, Terms},
    error::{CommitError, LoadError, SaveError, UpdateError},
    key::SessionKey,
    record::{Facts, Record},
};

/// Keeps the whole state inside the session cookie, sealed.
///
/// There is no shared record, so **the last `Set-Cookie` wins**: of two parallel requests that
/// write, one is lost; a slow answer can undo a logout or a login; and a value that somebody
/// copied opens the session until its own end, logged out or not. Where that matters, use a store
/// on the server.
///
/// The value carries its own times, so an expired one is refused however the browser's cookie was
/// kept. Values that actix-session 0.11 or older made have none: they are accepted, with a warning,
/// and get times when they are first seen.
///
/// # Limits
/// Name and value together fit 4,096 octets, or the request fails with an error that names both
/// numbers. Choose [`CookieContentSecurity::Private`], the default: a signed cookie can be read.
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
/// a logout is final for copies of the cookie too. It costs a look-up a request (two where somebody
/// is logged in), and as many again where the answer carries the cookie anew.
///
/// A note on the list is kept until the session's absolute end, or for 400 days where there is none,
/// since another value of it may live as long: set an
/// [`absolute_timeout`](crate::config::SessionMiddlewareBuilder::absolute_timeout), and the list stays
/// short. Keep it where nothing is evicted: a `MemorySessionStore` that is full lets notes go.
///
/// A logout that was in flight while another request renewed the session ends what that led to, for as
/// long as a store on the server would follow it: 60 seconds.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct CookieSessionStore {
    clock: SharedClock,
    revocation: Option<Arc<Revocation>>,
}

struct Revocation {
    store: Box<dyn RevocationStore>,
}

/// How long what was ended stays ended: no cookie lives longer.
const KEPT: Millis = crate::config::LONGEST;
/// How often a session is renewed within the time that one request takes, at most.
const MOST_RENEWALS: u32 = 64;

impl CookieSessionStore {
    /// Keeps a list of ended sessions in a store on the server.
    ///
    /// A purge then ends the session for copies of its cookie too, and so do a renewal and a `clear`
    /// for those from before. Where the list cannot be asked, requests fail as they do when a store
    /// fails. Times are by this store's clock, see [`clock`](Self::clock).
    #[must_use]
    pub fn with_revocation(mut self, store: impl RevocationStore) -> Self {
        let store = Box::new(store);
        self.revocation = Some(Arc::new(Revocation { store }));
        self
    }

    /// Sets the clock of the five published methods and of revocation; the middleware should have
    /// the same.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Ends all sessions of a principal that were logged in until now: "sign out everywhere".
    ///
    /// Sessions whose login was at the very same millisecond count as ended.
    ///
    /// # Errors
    /// There is no list of ended sessions ([`with_revocation`](Self::with_revocation)), or its store
    /// fails.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(all(feature = "cookie-session", feature = "memory-session"))]
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
        let Some(revocation) = &self.revocation else {
            anyhow::bail!("sessions in cookies end early only `with_revocation`");
        };
        let now = self.clock.now();
        revocation
            .revoke(&digest("principal", principal), now, now + KEPT)
            .await
            .map(drop)
    }

    /// The record, unless it has been ended.
    async fn unrevoked(&self, record: Record) -> anyhow::Result<Option<Record>> {
        let (Some(revocation), Some(facts)) = (&self.revocation, record.facts()) else {
            return Ok(Some(record));
        };
        let id = note_of("session", facts.id);
        if revocation.store.revoked_at(&id).await?.is_some() {
            return Ok(None);
        }
        if let Some(auth) = &facts.auth {
            let name = digest("principal", &auth.principal);
            let revoked = revocation.store.revoked_at(&name).await?;
            if revoked.is_some_and(|at| auth.login() <= Millis::from(at)) {
                return Ok(None);
            }
        }
        Ok(Some(record))
    }

    /// Ends the session for all values that it has under this id; answers whether nobody had before.
    async fn revoke(&self, facts: &Facts, id: u128) -> anyhow::Result<bool> {
        let Some(revocation) = &self.revocation else {
            return Ok(true);
        };
        let now = self.clock.now();
        // Another value of this session may have a longer TTL than this one, and a request in flight may
        // seal one more; only the absolute end is that of all.
        let grace = now + contract::GRACE;
        let longest = grace + KEPT;
        let until = facts.absolute_end.map_or(longest, |end| end.min(longest));
        let until = until.max(facts.idle_end.unwrap_or(now)).max(grace);
        revocation.revoke(&note_of("session", id), now, until).await
    }

    /// Ends the session, and what it was renewed to while this request was in flight.
    async fn revoke_ahead(&self, facts: &Facts) -> anyhow::Result<()> {
        let Some(revocation) = &self.revocation else {
            return Ok(());
        };
        let mut id = facts.id;
        for _ in 0..MOST_RENEWALS {
            let first = self.revoke(facts, id).await?;
            let renewed = note_of("renewed", id);
            if first || revocation.store.revoked_at(&renewed).await?.is_none() {
                return Ok(());
            }
            id = renewed_id(id);
        }
        anyhow::bail!("a session was renewed over and over again while it was to be ended")
    }

    fn read(&self, key: &SessionKey, now: Millis) -> Result<Option<Record>, anyhow::Error> {
        let record = Record::decode(key.as_ref().to_owned())?.in_cookie();
        let idle_end = record.facts().and_then(|facts| facts.idle_end);
        if idle_end.is_none() {
            warn_untimed();
        }
        let expired = idle_end.is_some_and(|end| end <= now);
        Ok((!expired).then(|| record.with_end(idle_end)))
    }

    /// Gives the session a new id if values from before are to end, and answers what ends them.
    fn ending_older(&self, grounds: &mut Grounds, base: &Record, changes: &Changes) -> Older {
        grounds.new_id =
            self.revocation.is_some() && (changes.renews() || changes.cleared.is_some());
        let (true, Some(facts)) = (grounds.new_id, base.facts()) else {
            return Older::none();
        };
        grounds.fresh_id = renewed_id(facts.id);
        let (store, facts) = (self.clone(), facts.clone());
        Older::ended_by(async move { store.end_older(&facts).await })
    }

    /// Ends the values from before a renewal; answers whether nobody had ended the session before.
    async fn end_older(&self, facts: &Facts) -> anyhow::Result<bool> {
        let Some(revocation) = &self.revocation else {
            return Ok(true);
        };
        // First, so that whoever finds the session ended finds where it went.
        let now = self.clock.now();
        let grace = now + contract::GRACE;
        let renewed = note_of("renewed", facts.id);
        revocation.revoke(&renewed, now, grace).await?;
        self.revoke(facts, facts.id).await
    }

    /// Whether the session has ended since the request loaded it.
    async fn has_ended(&self, base: &Record) -> Result<bool, CommitError> {
        let base = self.unrevoked(base.clone()).await;
        Ok(base.map_err(CommitError::Other)?.is_none())
    }

    fn seal(
        applied: Result<Applied, ApplyError>,
        terms: &Terms,
    ) -> Result<Option<(SessionKey, End)>, CommitError> {
        let Some(record) = written(applied)? else {
            return Ok(None);
        };
        let end = record.facts().and_then(|facts| facts.idle_end);
        let text = record.as_text().unwrap_or_default().to_owned();
        Ok(Some((
            SessionKey::generated(text),
            End(end.unwrap_or_else(|| terms.end(&record))),
        )))
    }

    fn grounds(terms: &Terms) -> Result<Grounds, CommitError> {
        let seal = Some(terms.ttl);
        Ok(Grounds {
            seal,
            ..fresh(terms)?
        })
    }
}

impl Revocation {
    async fn revoke(&self, name: &str, at: Millis, until: Millis) -> anyhow::Result<bool> {
        self.store
            .revoke(name, at.to_system_time(), until.to_system_time())
            .await
    }
}

fn note_of(kind: &str, id: u128) -> String {
    digest(kind, &format!("{id:032x}"))
}

/// The id that a renewal gives: a logout that knows the old one alone can tell it.
fn renewed_id(id: u128) -> u128 {
    let name = note_of("id after", id);
    u128::from_str_radix(&name[..32], 16).expect("a digest is hexadecimal")
}

/// A name of 64 hexadecimal digits, which tells nothing of what it names.
fn digest(kind: &str, what: &str) -> String {
    let text = format!("actix-session revoked {kind}\0{what}");
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            "accepting cookie-stored sessions without times, as actix-session 0.11 and older made \
             them: a copy of such a cookie opens its session until the secret key changes"
        );
    });
}

impl SessionStore for CookieSessionStore {
    async fn load(&self, session_key: &SessionKey) -> Result<Option<SessionState>, LoadError> {
        let record = self.read(session_key, self.clock.now());
        let Some(record) = record.map_err(LoadError::Deserialization)? else {
            return Ok(None);
        };
        let record = self.unrevoked(record).await.map_err(LoadError::Other)?;
        Ok(record.map(|record| record.to_map_with_facts()))
    }

    async fn save(
        &self,
        session_state: SessionState,
        ttl: &Duration,
    ) -> Result<SessionKey, SaveError> {
        let now = self.clock.now();
        let terms = Terms {
            now,
            ttl: Millis::from(*ttl),
            ..Terms::default()
        };
        let grounds = Self::grounds(&terms).map_err(|e| SaveError::Other(e.into_anyhow()))?;
        let record = overwrite(
            &Record::from_map(session_state),
            &Changes::default(),
            grounds,
        );
        let sealed = Self::seal(record, &terms).map_err(|e| SaveError::Other(e.into_anyhow()))?;
        let (key, _) =
            sealed.ok_or_else(|| SaveError::Other(anyhow::anyhow!("nothing to save")))?;
        // The published limit; the finished cookie is measured besides.
        String::from(key)
            .try_into()
            .map_err(|error: super::InvalidSessionKeyError| SaveError::Other(error.into()))
    }

    async fn update(
        &self,
        _session_key: SessionKey,
        session_state: SessionState,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        self.save(session_state, ttl)
            .await
            .map_err(|error| match error {
                SaveError::Serialization(error) => UpdateError::Serialization(error),
                SaveError::Other(error) => UpdateError::Other(error),
            })
    }

    async fn update_ttl(
        &self,
        _session_key: &SessionKey,
        _ttl: &Duration,
    ) -> Result<(), anyhow::Error> {
        Ok(())
    }

    async fn delete(&self, session_key: &SessionKey) -> Result<(), anyhow::Error> {
        match Record::decode(session_key.as_ref().to_owned()) {
            Ok(record) => match record.facts() {
                Some(facts) => self.revoke_ahead(facts).await,
                None => Ok(()),
            },
            // Nothing that could ever open.
            Err(_) => Ok(()),
        }
    }

    async fn open(&self, session_key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
        let record = match self.read(session_key, terms.now) {
            Err(_) => return Ok(Opened::Unreadable),
            Ok(Some(record)) if !terms.is_over(&record) => record,
            Ok(_) => return Ok(Opened::Nothing),
        };
        let record = self.unrevoked(record).await.map_err(LoadError::Other)?;
        Ok(record.map_or(Opened::Nothing, Opened::Live))
    }

    async fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(SessionKey, End), CommitError> {
        let record = own_record(changes, Self::grounds(terms)?);
        Self::seal(record, terms)?.ok_or_else(CommitError::unexpected)
    }

    async fn commit(
        &self,
        _session_key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Committed, CommitError> {
        let Some(base) = base else {
            return Ok(Committed::Gone);
        };
        if self.has_ended(base).await? {
            return Ok(Committed::Gone);
        }
        let mut grounds = Self::grounds(terms)?;
        let extends = |end| terms.extends_at(base, end);
        if changes.is_empty() && !base.end().is_some_and(extends) {
            // Sealing anew moves no time that is there.
            grounds.keep_idle = true;
        }
        let older = self.ending_older(&mut grounds, base, changes);
        let sealed = Self::seal(overwrite(base, changes, grounds), terms)?;
        Ok(sealed.map_or(Committed::Gone, |(key, end)| {
            Committed::NewValue(key, end, older)
        }))
    }

    async fn rotate(
        &self,
        _session_key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Rotated, CommitError> {
        let Some(base) = base else {
            return Ok(Rotated::Gone);
        };
        if self.has_ended(base).await? {
            // As on the server: what this request itself has done is all that may live.
            if !changes.may_live_alone(Some(base)) {
                return Ok(Rotated::Gone);
            }
            let (key, end) = self.create(changes, terms).await?;
            return Ok(Rotated::Rotated(key, end, Older::none()));
        }
        let mut grounds = Self::grounds(terms)?;
        let older = self.ending_older(&mut grounds, base, changes);
        let sealed = Self::seal(overwrite(base, changes, grounds), terms)?;
        Ok(sealed.map_or(Rotated::Gone, |(key, end)| {
            Rotated::Rotated(key, end, older)
        }))
    }
}
