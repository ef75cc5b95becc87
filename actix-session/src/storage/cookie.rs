//! Sessions inside of their cookie.

use actix_web::cookie::time::Duration;

use super::{
    CommitError, Committed, End, LoadError, Opened, Rotated, SaveError, SessionKey, SessionStore,
    Terms, UpdateError, interface::SessionState,
};
use crate::{
    changes::{Applied, ApplyError, Changes, Grounds, fresh, overwrite, own_record, written},
    clock::{Millis, SharedClock},
    record::Record,
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
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CookieSessionStore {
    clock: SharedClock,
}

impl CookieSessionStore {
    fn read(&self, key: &SessionKey, now: Millis) -> Result<Option<Record>, anyhow::Error> {
        let record = Record::decode(key.as_ref().to_owned())?.sealed();
        let idle_end = record.facts().and_then(|facts| facts.idle_end);
        if idle_end.is_none() {
            warn_untimed();
        }
        let expired = idle_end.is_some_and(|end| end <= now);
        Ok((!expired).then(|| record.with_end(idle_end)))
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
        let record = record.map_err(LoadError::Deserialization)?;
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

    async fn delete(&self, _session_key: &SessionKey) -> Result<(), anyhow::Error> {
        Ok(())
    }

    async fn open(&self, session_key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
        Ok(match self.read(session_key, terms.now) {
            Err(_) => Opened::Unreadable,
            Ok(Some(record)) if !terms.is_over(&record) => Opened::Live(record),
            Ok(_) => Opened::Nothing,
        })
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
        let mut grounds = Self::grounds(terms)?;
        let extends = |end| terms.extends_at(base, end);
        if changes.is_empty() && !base.end().is_some_and(extends) {
            // Sealing anew moves no time that is there.
            grounds.keep_idle = true;
        }
        let sealed = Self::seal(overwrite(base, changes, grounds), terms)?;
        Ok(sealed.map_or(Committed::Gone, |(key, end)| Committed::Resealed(key, end)))
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
        let sealed = Self::seal(overwrite(base, changes, Self::grounds(terms)?), terms)?;
        Ok(sealed.map_or(Rotated::Gone, |(key, end)| Rotated::Rotated(key, end)))
    }
}
