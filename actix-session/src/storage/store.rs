//! What a store promises.

use std::{future::Future, rc::Rc, sync::Arc};

use actix_web::cookie::time::Duration;

use super::five_methods;
use crate::{
    changes::Changes,
    contract::{Committed, End, Opened, Rotated, SessionState, Terms},
    error::{CommitError, LoadError, SaveError, UpdateError},
    key::SessionKey,
    record::Record,
};

/// Where sessions are kept.
///
/// Implement the first five methods for a store of your own; the other four have bodies that are
/// built from them. The state is a map of entry names to JSON texts. One entry is reserved: it
/// carries what the library itself knows of a session (its creation, absolute end, principal), and
/// has to be kept like any other.
///
/// # What the default bodies cannot promise
/// They look before they write, since five methods allow no more: between the look and the write
/// another request may commit, and is overwritten; a session may end, and a write that started
/// before comes after it. A store that can compare and set in one step should override
/// [`commit`](Self::commit), [`rotate`](Self::rotate) and [`create`](Self::create).
///
/// # Wrappers
/// References, `Box`, `Rc` and `Arc` forward all nine methods. A store that wraps another one
/// should do so too: one that forwards five alone is as safe as five methods are.
///
/// # Examples
/// ```
/// use std::{cell::RefCell, collections::HashMap};
/// use actix_session::storage::{
///     LoadError, SaveError, SessionKey, SessionStore, UpdateError, generate_session_key,
/// };
/// use actix_web::cookie::time::Duration;
///
/// #[derive(Default)]
/// struct OneThread(RefCell<HashMap<String, HashMap<String, String>>>);
///
/// impl SessionStore for OneThread {
///     async fn load(&self, key: &SessionKey) -> Result<Option<HashMap<String, String>>, LoadError> {
///         Ok(self.0.borrow().get(key.as_ref()).cloned())
///     }
///
///     async fn save(
///         &self,
///         state: HashMap<String, String>,
///         _ttl: &Duration,
///     ) -> Result<SessionKey, SaveError> {
///         let key = generate_session_key();
///         self.0.borrow_mut().insert(key.as_ref().to_owned(), state);
///         Ok(key)
///     }
///
///     async fn update(
///         &self,
///         key: SessionKey,
///         state: HashMap<String, String>,
///         _ttl: &Duration,
///     ) -> Result<SessionKey, UpdateError> {
///         match self.0.borrow_mut().get_mut(key.as_ref()) {
///             Some(stored) => *stored = state,
///             // Never saved anew: what was ended does not come back.
///             None => return Err(UpdateError::Other(actix_session::storage::Gone.into())),
///         }
///         Ok(key)
///     }
///
///     async fn update_ttl(&self, _key: &SessionKey, _ttl: &Duration) -> anyhow::Result<()> {
///         Ok(())
///     }
///
///     async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
///         self.0.borrow_mut().remove(key.as_ref());
///         Ok(())
///     }
/// }
/// # let _ = OneThread::default();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a session store",
    label = "this must implement `actix_session::storage::SessionStore`",
    note = "each store of this crate is behind a feature named for it, such as `memory-session`"
)]
pub trait SessionStore {
    /// Loads the state that belongs to a key; `None` where there is none, or its time is up.
    ///
    /// # Errors
    /// The state is there and cannot be decoded, or the store fails.
    fn load(
        &self,
        session_key: &SessionKey,
    ) -> impl Future<Output = Result<Option<SessionState>, LoadError>>;

    /// Saves the state of a new session under a new key, and answers the key.
    ///
    /// A key that exists is never handed out.
    ///
    /// # Errors
    /// The state cannot be encoded, or the store fails.
    fn save(
        &self,
        session_state: SessionState,
        ttl: &Duration,
    ) -> impl Future<Output = Result<SessionKey, SaveError>>;

    /// Replaces the state that belongs to a key.
    ///
    /// Answers the same key, except where the key *is* the state.
    ///
    /// # Errors
    /// [`Gone`](super::Gone), inside of [`UpdateError::Other`], where there is no such record: an
    /// update never makes one. Else the state cannot be encoded, or the store fails.
    fn update(
        &self,
        session_key: SessionKey,
        session_state: SessionState,
        ttl: &Duration,
    ) -> impl Future<Output = Result<SessionKey, UpdateError>>;

    /// Sets the time to live of the state that belongs to a key. Makes and revives nothing.
    ///
    /// # Errors
    /// The store fails.
    fn update_ttl(
        &self,
        session_key: &SessionKey,
        ttl: &Duration,
    ) -> impl Future<Output = Result<(), anyhow::Error>>;

    /// Deletes the state that belongs to a key, and what it was renewed to. Nothing is no error.
    ///
    /// # Errors
    /// The store fails; the state may be there still.
    fn delete(&self, session_key: &SessionKey) -> impl Future<Output = Result<(), anyhow::Error>>;

    /// Loads a record for a request, and extends its life where the terms say so.
    ///
    /// # Errors
    /// The store fails. What cannot be decoded is no error but [`Opened::Unreadable`].
    fn open(
        &self,
        session_key: &SessionKey,
        terms: &Terms,
    ) -> impl Future<Output = Result<Opened, LoadError>> {
        five_methods::open(self, session_key, terms)
    }

    /// Makes a session of the changes of a request that had none, under a new key.
    ///
    /// # Errors
    /// A change cannot be applied, or the store fails.
    fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> impl Future<Output = Result<(SessionKey, End), CommitError>> {
        five_methods::create(self, changes, terms)
    }

    /// Commits a request's changes to the record that its key leads to.
    ///
    /// `base` is the record that the request loaded, `None` where [`open`](Self::open) answered
    /// [`Opened::Moved`]. Where another request has committed since, the changes are merged into
    /// what it left; where it renewed the key, they follow. Without changes this asks whether the
    /// key is current, and extends the record where the terms say so.
    ///
    /// # Errors
    /// A change cannot be applied, others keep winning, an outcome is not known, or the store
    /// fails.
    fn commit(
        &self,
        session_key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> impl Future<Output = Result<Committed, CommitError>> {
        five_methods::commit(self, session_key, base, changes, terms)
    }

    /// Renews: gives the record, with the request's changes, to a new key, and deletes the old one.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit). After a definite refusal the old key works still.
    fn rotate(
        &self,
        session_key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> impl Future<Output = Result<Rotated, CommitError>> {
        five_methods::rotate(self, session_key, base, changes, terms)
    }
}

macro_rules! forward_to_pointee {
    ($($pointer:ty),+) => {$(
        impl<S: SessionStore + ?Sized> SessionStore for $pointer {
            crate::forward_store_methods!(self => **self);
        }
    )+};
}

forward_to_pointee!(&S, Box<S>, Rc<S>, Arc<S>);
