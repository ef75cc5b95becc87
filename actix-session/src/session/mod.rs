//! The handle through which applications use a session.

mod auth;
mod ending;
mod entries;
mod errors;
mod ext;
mod lifecycle;
mod lock;
mod pending;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
};

use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    auth::Login,
    entries::Entries,
    errors::{
        SessionGetError, SessionInsertError, SessionLoginError, SessionPurgeError,
        SessionUpdateError, StaleAuthenticationError,
    },
    ext::SessionExt,
};
pub(crate) use self::{
    ending::{Asked, Outcome},
    ext::InRequest,
    pending::{Pending, Snapshot},
};
use self::{
    errors::{changes_itself, inside, not_serializable, of_another_type, reserved},
    lock::{Lock, Running},
};
use crate::{
    changes::{Effect, Modify},
    clock::{Millis, SharedClock},
    record::RESERVED,
};

/// How often a closure of `modify` runs at most in one call: far more often than threads that
/// compete for an entry need.
const MOST_RUNS: u32 = 1_000;

/// The session of a request.
///
/// It is an extractor; [`SessionExt`] also gets it from requests, responses and
/// guards. All clones are the same session. A session is `Send` and `Sync`, so tasks and body
/// streams may keep it. Once the response is sent, it can still be read, as the handler left it,
/// but no longer be changed.
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

    pub(crate) fn of_request(clock: SharedClock, absolute: Option<Millis>) -> Self {
        Self(Arc::new(Mutex::new(Pending::of_request(clock, absolute))))
    }

    pub(crate) fn lock(&self) -> Lock<'_> {
        Lock::of(&self.0)
    }

    /// The present time. A clock is the application's code: it runs without the lock.
    fn now(&self) -> Millis {
        let clock = self.lock().clock().clone();
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
            tracing::warn!(
                "a session was changed after its response had been sent: the change is lost"
            );
        }
        finished
    }

    /// The JSON text of an entry, to be read without the lock.
    fn text(&self, key: &str) -> Option<String> {
        self.lock().value(key).map(Cow::into_owned)
    }

    /// Sets an entry, unless the closure of this very entry asks for it.
    fn set(&self, key: &str, json: String) -> anyhow::Result<()> {
        anyhow::ensure!(!Running::is_inside(self, key), inside(key));
        let mut pending = self.lock();
        pending.writable()?;
        pending.set(key, Effect::Set(json));
        Ok(())
    }

    /// Gets a value.
    ///
    /// # Errors
    /// The value is not of this type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, SessionGetError> {
        let json = self.text(key);
        json.map(|json| parse(key, &json).map_err(SessionGetError))
            .transpose()
    }

    /// Whether there is an entry of this name.
    pub fn contains_key(&self, key: &str) -> bool {
        self.lock().contains(key)
    }

    /// All entries with their values as JSON text, as they are now.
    ///
    /// This is a snapshot: later changes to the session do not affect it.
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
        Entries::new(self.lock().entries())
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.lock().entries().is_empty()
    }

    /// What the handler has done to the session so far.
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
    /// The value does not serialize as JSON, or the name is reserved. The session is then
    /// unchanged.
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
        self.set(&key, json).map_err(SessionInsertError)
    }

    /// Replaces a value, if there is one, with what a function makes of it.
    ///
    /// The function runs once, on the value that this request sees, outside any lock. If parallel
    /// requests update the same entry, the last commit overwrites the others. For counters and the
    /// like, use [`modify`](Self::modify).
    ///
    /// # Errors
    /// The value is of another type, or the new one does not serialize. The session is then
    /// unchanged.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.insert("n", 1)?;
    /// session.update("n", |n: u32| n + 1)?;
    /// assert_eq!(session.get("n")?, Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update<T: Serialize + DeserializeOwned, F>(
        &self,
        key: impl Into<String>,
        updater: F,
    ) -> Result<(), SessionUpdateError>
    where
        F: FnOnce(T) -> T,
    {
        let key = key.into();
        let Some(json) = self.text(&key) else {
            return Ok(());
        };
        let value = parse(&key, &json).map_err(SessionUpdateError)?;
        let json = serde_json::to_string(&updater(value))
            .map_err(|error| SessionUpdateError(not_serializable::<T>(&key, error)))?;
        self.set(&key, json).map_err(SessionUpdateError)
    }

    /// Replaces a value with what a function makes of it, or sets a default value if there is none.
    ///
    /// As with [`update`](Self::update), the function runs once.
    ///
    /// # Errors
    /// The value is of another type, or the new one does not serialize. The session is then
    /// unchanged.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.update_or("n", 1, |n: u32| n + 1)?;
    /// session.update_or("n", 1, |n: u32| n + 1)?;
    /// assert_eq!(session.get("n")?, Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update_or<T: Serialize + DeserializeOwned, F>(
        &self,
        key: &str,
        default_value: T,
        updater: F,
    ) -> Result<(), SessionUpdateError>
    where
        F: FnOnce(T) -> T,
    {
        if self.contains_key(key) {
            self.update(key, updater)
        } else {
            self.insert(key, default_value)
                .map_err(|error| SessionUpdateError(error.0))
        }
    }

    /// Changes a value atomically: if another request has changed it since this one loaded the
    /// session, the function runs again, on the value that is stored by then.
    ///
    /// So 32 parallel increments add 32, from several threads of one request too. The function gets
    /// `None` if there is no value, and removes the entry if it returns `None`. It may run several
    /// times, on another worker too, so it should only compute.
    ///
    /// Two kinds of store cannot keep this promise between requests. A custom store with the five
    /// published methods alone reads and then writes, so that one of two parallel updates is lost in
    /// between (a warning says so at its first commit). With cookie-stored sessions, the last
    /// response wins.
    ///
    /// # Errors
    /// The value that this request sees is of another type, the new one does not serialize, the name
    /// is reserved, or the function changes the entry that it is called for, be it on another thread.
    /// The session is then unchanged. If this happens only when the commit merges, the response is a
    /// 500 and nothing of this request is committed.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// session.modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))?;
    /// session.modify("n", |n: Option<u32>| n.map(|n| n * 10))?;
    /// assert_eq!(session.get("n")?, Some(10));
    /// session.modify("n", |_: Option<u32>| None)?;
    /// assert!(!session.contains_key("n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn modify<T, F>(
        &self,
        key: impl Into<String>,
        modifier: F,
    ) -> Result<(), SessionUpdateError>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Option<T>) -> Option<T> + Send + Sync + 'static,
    {
        let key = key.into();
        if key == RESERVED {
            return Err(SessionUpdateError(reserved(&key)));
        }
        let name = key.clone();
        let modify = Modify(Arc::new(move |stored: Option<&str>| {
            let value = stored.map(|json| parse::<T>(&name, json)).transpose()?;
            modifier(value)
                .map(|value| serde_json::to_string(&value))
                .transpose()
                .map_err(|error| not_serializable::<T>(&name, error))
        }));
        self.run(&key, modify).map_err(SessionUpdateError)
    }

    /// Runs a closure without the lock, again if another thread has changed the entry meanwhile.
    fn run(&self, key: &str, modify: Modify) -> anyhow::Result<()> {
        anyhow::ensure!(!Running::is_inside(self, key), inside(key));
        for _ in 0..MOST_RUNS {
            let before = self.text(key);
            let now = {
                let _running = Running::new(self, key);
                (modify.0)(before.as_deref())?
            };
            let mut pending = self.lock();
            pending.writable()?;
            if pending.value(key).as_deref() == before.as_deref() {
                pending.modify(key, modify, now);
                return Ok(());
            }
        }
        Err(anyhow::anyhow!(changes_itself(key)))
    }

    /// Removes an entry and returns its value as JSON text, if there was one.
    pub fn remove(&self, key: &str) -> Option<String> {
        if self.is_finished() {
            return self.text(key);
        }
        if Running::is_inside(self, key) {
            tracing::warn!("{}", inside(key));
            return self.text(key);
        }
        self.lock().remove(key)
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
