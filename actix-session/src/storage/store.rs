//! The trait that session stores implement.

use std::{future::Future, rc::Rc, sync::Arc};

use actix_web::cookie::time::Duration;

use super::five_methods;
use crate::{
    changes::Changes,
    contract::{Committed, End, Opened, Rotated, SessionState, Terms},
    error::{CommitError, LoadError, SaveError, UpdateError},
    key::SessionKey,
    live::{self, Watch},
    record::Record,
};

/// A place to keep sessions.
///
/// For a store of your own, implement the first five methods: the others have default bodies that
/// call them. The state maps the names of entries to JSON texts. One entry is reserved for
/// metadata, which is what the library itself knows of a session (its creation, absolute end,
/// principal). A store must keep it like any other entry. A session has it only if its metadata say
/// more than the defaults do. It counts only with a MAC by the middleware's secret key, so a program
/// that writes it itself gains nothing.
///
/// # What the default bodies cannot promise
/// They read and then write, since the five methods have no atomic operation. In between, another
/// request may commit, and its changes are lost; or it may end the session, and the write may bring
/// it back. A warning says so at the first commit.
///
/// Over a transactional database there is nothing to override: implement
/// [`KeyValueDatabase`](crate::storage::KeyValueDatabase) instead (feature `key-value-session`), and
/// every promise holds.
///
/// A store that can compare and set one value in one step should override four methods.
/// `examples/compare_and_set_store.rs` is a whole one, and
/// `conformance!` (feature `testing`) with `compare_and_set` tests it. [`Terms`] says when a record
/// ends, whether it is over, and whether it is to be extended or dated.
///
/// - **What to keep and to compare:** the text of [`Record::as_text`], and the end. Compare a revision
///   that each write changes, or else the whole text that was read (which is like no other, unless the
///   middleware writes [`WireFormat::V0_11`](crate::config::WireFormat::V0_11)).
/// - **[`open`](Self::open)** returns the record with its end ([`Record::ending_at`]). Without one, cookies
///   and lists do not know it. An extension compares too: a logout may have come between.
///   [`load`](Self::load) returns [`Record::to_map_with_metadata`].
/// - **[`create`](Self::create)** inserts what [`Changes::new_record`] returns, if its key is free, and
///   draws another key if not. [`save`](Self::save) and [`update`](Self::update) get a map, which has no text:
///   they keep its JSON.
/// - **[`commit`](Self::commit)** reads, merges with
///   [`Changes::made_on`] and [`merge_into`](super::MadeOn::merge_into) (unless
///   [there are no changes](Changes::is_empty): then only the end can be new), and writes if what it has
///   read is there still; if not, it begins again, until [`Terms::budget`] is over
///   ([`CommitError::Contended`]).
/// - **[`rotate`](Self::rotate)** inserts the new record ([`renew`](super::MadeOn::renew)), and then deletes
///   the old one if it is what was read. If it is not, the new record must go before the next attempt: a
///   logout may have come first. If the answer to the deletion is lost, it must go too, and the answer is
///   [`CommitError::OutcomeUnknown`]. Nobody has the new key yet.
/// - **A lost answer:** look whether what was written is there, by its revision or its text; then it was
///   done. If not, answer [`CommitError::OutcomeUnknown`]. To repeat the merge could count a `modify` twice. Only a store
///   that knows better, since it follows renewals by notes of its own, repeats with
///   [`merge_guarded_into`](super::MadeOn::merge_guarded_into).
///
/// A store must also return no state whose TTL is over: the bodies check the absolute end alone.
/// (The example keeps its states for ever, to be short.)
///
/// # Wrappers
/// References, `Box`, `Rc` and `Arc` forward all methods. A store that wraps another one
/// should do so too, with [`forward_store_methods!`](crate::forward_store_methods): if it forwards
/// only five, it is only as safe as five methods are.
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
///             // Never saved again: an ended session must not come back.
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
    /// Loads the state under a key, or `None` if it is missing or expired.
    ///
    /// # Errors
    /// The state cannot be decoded, or the store fails.
    fn load(
        &self,
        session_key: &SessionKey,
    ) -> impl Future<Output = Result<Option<SessionState>, LoadError>>;

    /// Saves the state of a new session under a new key, and returns the key.
    ///
    /// It must never return a key that exists already.
    ///
    /// # Errors
    /// The state cannot be encoded, or the store fails.
    fn save(
        &self,
        session_state: SessionState,
        ttl: &Duration,
    ) -> impl Future<Output = Result<SessionKey, SaveError>>;

    /// Replaces the state under a key.
    ///
    /// Returns the same key, unless the key *is* the state.
    ///
    /// # Errors
    /// [`Gone`](super::Gone), inside [`UpdateError::Other`], if there is no such record: an update
    /// must never make one. Otherwise, the state cannot be encoded, or the store fails.
    fn update(
        &self,
        session_key: SessionKey,
        session_state: SessionState,
        ttl: &Duration,
    ) -> impl Future<Output = Result<SessionKey, UpdateError>>;

    /// Sets the time to live of the state under a key. It must never make or revive a session.
    ///
    /// In all of these methods, a time to live has from one millisecond to 400 days. A back end
    /// that counts in seconds rounds up: 0 would be an error there, or for ever.
    ///
    /// # Errors
    /// The store fails.
    fn update_ttl(
        &self,
        session_key: &SessionKey,
        ttl: &Duration,
    ) -> impl Future<Output = Result<(), anyhow::Error>>;

    /// Deletes the state under a key, wherever renewals have moved it. A missing session is not an
    /// error.
    ///
    /// # Errors
    /// The store fails. The state may still be there.
    fn delete(&self, session_key: &SessionKey) -> impl Future<Output = Result<(), anyhow::Error>>;

    /// Loads a record for a request, and extends its life if the terms say so.
    ///
    /// # Errors
    /// The store fails. A record that cannot be decoded is not an error: it is
    /// [`Opened::Unreadable`].
    fn open(
        &self,
        session_key: &SessionKey,
        terms: &Terms,
    ) -> impl Future<Output = Result<Opened, LoadError>> {
        five_methods::open(self, session_key, terms)
    }

    /// Whether [`open`](Self::open) never waits, because the records are in this process or in the
    /// cookie.
    ///
    /// Under [`lazy`](crate::config::SessionMiddlewareBuilder::lazy), such a store's sessions are
    /// loaded at first use wherever that is; others only by the extractor, which can wait. No method of
    /// such a store may wait: none has a time limit.
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::{MemorySessionStore, SessionStore};
    ///
    /// assert!(MemorySessionStore::new().opens_at_once());
    /// ```
    fn opens_at_once(&self) -> bool {
        false
    }

    /// Makes a session from the changes of a request that had none, under a new key.
    ///
    /// The middleware asks for that only if the changes make a session: if they set an entry, or log
    /// somebody in. To others, the stores of this crate that keep sessions on the server answer the error
    /// [`Gone`](super::Gone) ([`KeyValueSessionStore`](super::KeyValueSessionStore) too, if its feature is
    /// on); another store may make an empty session.
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
    /// `base` is the record that the request loaded, or `None` if [`open`](Self::open) returned
    /// [`Opened::Moved`]. If another request has committed since, the changes are merged into its
    /// record. If it has renewed the key, the changes follow. Without changes, this asks whether
    /// the key is current, and extends the record if the terms say so; one that is
    /// [undated](Terms::is_undated) is written.
    ///
    /// # Errors
    /// A change cannot be applied, other requests keep committing first, the outcome is unknown, or
    /// the store fails.
    fn commit(
        &self,
        session_key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> impl Future<Output = Result<Committed, CommitError>> {
        five_methods::commit(self, session_key, base, changes, terms)
    }

    /// Renews the session: writes the record, with the request's changes, under a new key, and
    /// deletes it under the old one.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit). After a refusal, the old key still works.
    fn rotate(
        &self,
        session_key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> impl Future<Output = Result<Rotated, CommitError>> {
        five_methods::rotate(self, session_key, base, changes, terms)
    }

    /// Whether the store knows when its sessions end, so that [`watch`](Self::watch) can tell.
    ///
    /// By default it does: whatever [`open`](Self::open) no longer finds has ended.
    fn knows_ends(&self) -> bool {
        true
    }

    /// Tells the watch when the session under a key ends. Meanwhile the session must not be extended.
    ///
    /// It may return before that, and leave the watch where others tell it. The default body returns
    /// when it has told: it calls [`open`](Self::open) every 5 s
    /// ([`ended_lease`](crate::config::SessionMiddlewareBuilder::ended_lease)), and cannot follow a
    /// renewal.
    fn watch(
        &self,
        session_key: &SessionKey,
        watch: Watch,
        terms: &Terms,
    ) -> impl Future<Output = ()> {
        let _ = terms;
        live::poll(self, session_key, watch)
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
