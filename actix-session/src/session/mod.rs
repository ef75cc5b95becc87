//! The handle through which applications use a session.

mod auth;
mod ended;
mod ending;
mod entries;
mod errors;
mod ext;
mod level;
mod lifecycle;
mod lock;
mod named;
mod owner;
mod pending;
mod remaining;
mod saving;
mod typed;
mod unloaded;
mod update;
mod upstream;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
};

use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    auth::Login,
    entries::Entries,
    errors::{
        AuthRefusal, SessionAuthError, SessionEndedError, SessionGetError, SessionInsertError,
        SessionLoginError, SessionPurgeError, SessionSaveError, SessionTakeError,
        SessionUpdateError,
    },
    ext::{ExtractSession, SessionExt},
    named::{ExtractNamedSession, NamedSession, SessionName},
    remaining::Remaining,
    saving::Saved,
    typed::{Flash, SessionEntry},
    upstream::Upstream,
};
pub(crate) use self::{
    ending::{Asked, Outcome},
    errors::status_of,
    ext::{Held, InRequest, LoadLater},
    pending::{Identity, Pending, Served, Shown, Snapshot},
    remaining::Times,
    saving::{AskedToSave, Kept},
    upstream::check_name,
};
use self::{
    errors::{inside, not_serializable, of_another_type, reserved},
    lock::{Lock, Running},
};
use crate::{
    changes::Effect,
    clock::Millis,
    event,
    record::{RESERVED, principal_of},
};

/// The session of a request.
///
/// It is an extractor; [`SessionExt`] also gets it from requests, responses and
/// guards. All clones are the same session. A session is `Send` and `Sync`, so tasks and body
/// streams may keep it. Once the response is sent, it can still be read, as the handler left it,
/// but no longer be changed: what returns a `Result` is an error then, and other changes do nothing
/// and log a warning.
///
/// A handler makes *changes* to its session. Once it has answered, the middleware commits them, in
/// one atomic step, to what is stored *at that time*. If parallel requests change different
/// entries, all changes are kept. If two of them set the same entry, the later commit wins.
/// [`modify`](Self::modify) loses no update.
///
/// # Which one to use
/// | method | the record | the cookie |
/// | --- | --- | --- |
/// | [`remove`](Self::remove) | loses one entry | stays |
/// | [`clear`](Self::clear) | loses all entries and the login | stays |
/// | [`renew`](Self::renew) | moves to a new key; the old one opens nothing | new |
/// | [`login`](Self::login) | the same, and belongs to a principal | new |
/// | [`purge`](Self::purge), [`logout`](Self::logout) | ends, for requests in flight too | removed |
///
/// [`save`](Self::save) and [`take`](Self::take) commit at once, before the handler has answered.
///
/// # Not loaded
/// Under [`lazy`](crate::config::SessionMiddlewareBuilder::lazy), whoever gets the session without the
/// extractor may find that it is *not loaded*. Then [`get`](Self::get) and the updates are errors; the
/// other methods know what this request itself has set, and nothing of what is stored. Changes are
/// committed all the same.
///
/// # Examples
/// ```
/// use actix_session::Session;
///
/// async fn index(session: Session) -> actix_web::Result<String> {
///     // loses no click, however many requests run at once
///     session.modify("clicks", |clicks: Option<u64>| Some(clicks.unwrap_or(0) + 1))?;
///     let clicks = session.get::<u64>("clicks")?.unwrap_or(0);
///     Ok(format!("{clicks} clicks"))
/// }
/// # actix_web::web::to(index);
/// ```
#[derive(Clone, Default)]
pub struct Session(Arc<Mutex<Pending>>);

/// What a handler has done to its session so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SessionStatus {
    /// The state has been changed; the changes will be committed.
    Changed,

    /// The session will end, and its cookie will be removed. Entries set afterwards start a new
    /// session.
    Purged,

    /// The session will get a new key.
    Renewed,

    /// Nothing has changed.
    #[default]
    Unchanged,
}

impl Session {
    /// Creates a session that no middleware saves, for tests and for code that needs one of its
    /// own.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    ///
    /// let session = Session::new();
    /// session.insert("user", "ferris")?;
    /// assert_eq!(session.get::<String>("user")?.as_deref(), Some("ferris"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// `principal_entry` names the principal, if there is such an entry.
    pub(crate) fn of_request(served: Arc<Served>, shown: Shown) -> Self {
        Self(Arc::new(Mutex::new(Pending::of_request(served, shown))))
    }

    pub(crate) fn lock(&self) -> Lock<'_> {
        Lock::of(&self.0)
    }

    /// The present time. A clock is the application's code: it runs without the lock.
    fn now(&self) -> Millis {
        let clock = self.lock().clock();
        clock.now()
    }

    /// Makes a change that cannot fail, unless it is too late.
    fn change(&self, change: impl FnOnce(&mut Pending)) {
        if !self.is_finished() {
            change(&mut self.lock());
        }
    }

    /// Whether changes would be lost, which is logged: the log is the application's code, too.
    fn is_finished(&self) -> bool {
        let finished = self.lock().is_finished();
        if finished {
            event::changed_too_late();
        }
        finished
    }

    /// The JSON text of an entry, to be read without the lock.
    fn text(&self, key: &str) -> Option<String> {
        self.lock().value(key).map(Cow::into_owned)
    }

    /// The same for whoever must know whether there is one.
    ///
    /// # Errors
    /// The session is not loaded, and this request did not set the entry.
    fn loaded_text(&self, key: &str) -> anyhow::Result<Option<String>> {
        self.read_loaded(key, str::to_owned)
    }

    /// The same for whoever needs no copy. It runs without the lock.
    ///
    /// # Errors
    /// As for [`loaded_text`](Self::loaded_text).
    fn read_loaded<T>(&self, key: &str, read: impl FnOnce(&str) -> T) -> anyhow::Result<Option<T>> {
        let pending = self.lock();
        if pending.is_unknown(key) {
            drop(pending);
            unloaded::warn();
            return Err(unloaded::error());
        }
        if let Some(record) = pending.unchanged(key).cloned() {
            drop(pending);
            return Ok(record.state().get(key).map(|json| read(&json)));
        }
        let value = pending.value(key).map(Cow::into_owned);
        drop(pending);
        Ok(value.as_deref().map(read))
    }

    /// The lock, for reading what may not be loaded.
    fn read(&self) -> Lock<'_> {
        if self.lock().is_unloaded() {
            // Without the lock: the log is the application's code.
            unloaded::warn();
        }
        self.lock()
    }

    /// Sets an entry, unless the closure of this very entry asks for it.
    fn set(&self, key: String, json: String) -> anyhow::Result<()> {
        anyhow::ensure!(!Running::is_inside(self, &key), inside(&key));
        let mut pending = self.lock();
        if pending.is_principal_entry(&key) {
            drop(pending);
            match principal_of(&json) {
                Some(principal) => return self.set_principal(&key, principal, json),
                // An `Option` without a value says so.
                None if json == "null" => {}
                // Without the lock: the log is the application's code.
                None => event::no_principal(&key),
            }
            pending = self.lock();
        }
        pending.writable()?;
        pending.set(key, Effect::Set(json));
        Ok(())
    }

    /// Gets a value.
    ///
    /// # Errors
    /// The value is not of this type; or the session is not loaded
    /// ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)).
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.insert("n", 1)?;
    /// assert_eq!(session.get::<u32>("n")?, Some(1));
    /// assert_eq!(session.get::<u32>("m")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, SessionGetError> {
        let value = self.read_loaded(key, |json| parse(key, json));
        value.and_then(Option::transpose).map_err(SessionGetError)
    }

    /// Whether there is an entry of this name, as far as the session is [loaded](Session#not-loaded).
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.insert("n", 1)?;
    /// assert!(session.contains_key("n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn contains_key(&self, key: &str) -> bool {
        self.read().contains(key)
    }

    /// All entries with their values as JSON text, as they are now.
    ///
    /// This is a snapshot: later changes to the session do not affect it. Of a session that is [not
    /// loaded](Session#not-loaded), these are the entries that this request has set.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.insert("n", 1)?;
    /// let entries = session.entries();
    /// session.insert("n", 2)?;
    /// assert_eq!(entries["n"], "1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(self.read().entries())
    }

    /// Whether there are no [`entries`](Self::entries).
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// assert!(session.is_empty());
    /// session.insert("n", 1)?;
    /// assert!(!session.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.read().entries().is_empty()
    }

    /// What the handler has done to the session so far.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// use actix_session::SessionStatus;
    ///
    /// session.insert("n", 1)?;
    /// assert_eq!(session.status(), SessionStatus::Changed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn status(&self) -> SessionStatus {
        self.lock().status.clone()
    }

    /// Whether the store failed to load the session, and the request was served without it.
    ///
    /// This happens only with [`OnLoadError::Anonymous`](crate::config::OnLoadError::Anonymous).
    /// The session is then empty, whatever the store holds, and must not be changed.
    ///
    /// # Examples
    /// ```
    /// assert!(!actix_session::Session::new().is_degraded());
    /// ```
    pub fn is_degraded(&self) -> bool {
        self.lock().degraded
    }

    /// Sets an entry. If parallel requests set the same one, the last commit wins.
    ///
    /// # Errors
    /// The value does not serialize as JSON, the name is reserved, the closure of a
    /// [`modify`](Self::modify) of this very entry asks for it, or the response has been sent. The session
    /// is then unchanged.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.insert("user", "ferris")?;
    /// assert_eq!(session.get::<String>("user")?.as_deref(), Some("ferris"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert<T: Serialize>(
        &self,
        key: impl Into<String>,
        value: T,
    ) -> Result<(), SessionInsertError> {
        let key = key.into();
        if key == RESERVED {
            return Err(SessionInsertError(reserved(&key)));
        }
        let json = serde_json::to_string(&value)
            .map_err(|error| SessionInsertError(not_serializable::<T>(&key, error)))?;
        self.set(key, json).map_err(SessionInsertError)
    }

    /// Removes an entry and returns its value as JSON text, if there was one. If the session is [not
    /// loaded](Session#not-loaded), it is removed all the same, and its value is not known.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.insert("user", "ferris")?;
    /// assert_eq!(session.remove("user").as_deref(), Some(r#""ferris""#));
    /// assert_eq!(session.remove("user"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&self, key: &str) -> Option<String> {
        if self.is_finished() {
            return self.text(key);
        }
        if Running::is_inside(self, key) {
            tracing::warn!("{}", inside(key));
            return self.text(key);
        }
        self.read().remove(key)
    }

    /// Removes an entry and returns its value, or its JSON text if the value is of another type.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.insert("n", 1)?;
    /// assert_eq!(session.remove_as::<u32>("n"), Some(Ok(1)));
    /// assert_eq!(session.remove_as::<u32>("n"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_as<T: DeserializeOwned>(&self, key: &str) -> Option<Result<T, String>> {
        self.remove(key)
            .map(|json| serde_json::from_str(&json).map_err(|_| json))
    }
}

fn parse<T: DeserializeOwned>(name: &str, json: &str) -> anyhow::Result<T> {
    serde_json::from_str(json).map_err(|error| of_another_type::<T>(name, &error))
}

/// Shows the status, never the content.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
