//! Changes that depend on the value that was there.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Session, SessionUpdateError,
    errors::{changes_itself, inside, not_serializable, reserved},
    lock::Running,
    parse,
};
use crate::{changes::Modify, record::RESERVED};

/// How often a closure of `modify` runs at most in one call: far more often than threads that
/// compete for an entry need.
pub(super) const MOST_RUNS: u32 = 1_000;

impl Session {
    /// Replaces a value, if there is one, with what a function makes of it.
    ///
    /// The function runs once, on the value that this request sees, outside any lock. If parallel
    /// requests update the same entry, the last commit overwrites the others. For counters and the
    /// like, use [`modify`](Self::modify).
    ///
    /// # Errors
    /// The value is of another type, the new one does not serialize, the session is not loaded
    /// ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)), or the response has been sent. The
    /// session is then unchanged.
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
        let json = self.loaded_text(&key).map_err(SessionUpdateError)?;
        let Some(json) = json else {
            self.lock().update_unseen(&key);
            return Ok(());
        };
        let value = parse(&key, &json).map_err(SessionUpdateError)?;
        let json = serde_json::to_string(&updater(value))
            .map_err(|error| SessionUpdateError(not_serializable::<T>(&key, error)))?;
        self.set(key, json).map_err(SessionUpdateError)
    }

    /// Replaces a value with what a function makes of it, or sets a default value if there is none.
    ///
    /// As with [`update`](Self::update), the function runs once.
    ///
    /// # Errors
    /// As for [`update`](Self::update).
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
        let json = self.loaded_text(key).map_err(SessionUpdateError)?;
        if json.is_some() {
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
    /// is reserved, the response has been sent, or the function changes the entry that it is called for on
    /// another thread. The session is then unchanged. (On its own thread such a change is refused by
    /// itself: an `insert` is an error, and a `remove` does nothing.) If this happens only when the commit merges,
    /// the response is a 500 and nothing of this request is committed.
    ///
    /// # Panics
    /// If the function does. If it panics only when the commit merges, the commit fails in the same way.
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
    ///
    /// What the function captures is used each time that it runs, so a list gets a copy:
    /// ```
    /// # let session = actix_session::Session::new();
    /// let book = "Dracula".to_owned();
    /// session.modify("basket", move |basket: Option<Vec<String>>| {
    ///     let mut basket = basket.unwrap_or_default();
    ///     basket.push(book.clone());
    ///     Some(basket)
    /// })?;
    /// assert_eq!(session.get::<Vec<String>>("basket")?, Some(vec!["Dracula".to_owned()]));
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
        let run = move |stored: Option<&str>| {
            let value = stored.map(|json| parse::<T>(&name, json)).transpose()?;
            modifier(value)
                .map(|value| serde_json::to_string(&value))
                .transpose()
                .map_err(|error| not_serializable::<T>(&name, error))
        };
        let modify = Modify(Arc::new(run), None);
        self.run(&key, modify).map_err(SessionUpdateError)
    }

    /// Runs a closure without the lock, again if another thread has changed the entry meanwhile.
    pub(super) fn run(&self, key: &str, modify: Modify) -> anyhow::Result<()> {
        anyhow::ensure!(!Running::is_inside(self, key), inside(key));
        for _ in 0..MOST_RUNS {
            if self.lock().is_principal_entry(key) {
                return self.run_once(key, &modify);
            }
            let before = self.text(key);
            let now = {
                let _running = Running::new(self, key);
                (modify.0)(before.as_deref())?
            };
            let mut pending = self.lock();
            pending.writable()?;
            // Since a middleware has taken the session over, it may name the principal.
            let is_same = pending.value(key).as_deref() == before.as_deref();
            if is_same && !pending.is_principal_entry(key) {
                pending.modify(key, modify, now);
                return Ok(());
            }
        }
        Err(anyhow::anyhow!(changes_itself(key)))
    }

    /// The principal is not computed again from what others have written.
    fn run_once(&self, key: &str, modify: &Modify) -> anyhow::Result<()> {
        let before = self.loaded_text(key)?;
        let now = {
            let _running = Running::new(self, key);
            (modify.0)(before.as_deref())?
        };
        match now {
            Some(json) => self.set(key.to_owned(), json),
            None => {
                self.remove(key);
                Ok(())
            }
        }
    }
}
