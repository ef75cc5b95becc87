//! Sessions in a database of the application's own.
//!
//! `database.rs` is what its author supplies, `layout.rs` what lies there, `backend.rs` has the
//! protocol's steps, `attempt.rs` one transaction of a step, and `index.rs` the sessions by
//! principal.

mod attempt;
mod backend;
mod database;
mod index;
mod layout;
mod revocation;
mod sweep;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

pub use self::database::{KeyValueDatabase, KeyValueOutcome, KeyValueTransaction, KeyValueWrite};
use crate::{
    AnyDuration,
    clock::{Clock, SharedClock},
    live::hub::Hub,
};

/// Keeps sessions in a transactional database of the application's own, with every promise that the
/// library's own stores keep.
///
/// The database is embedded or remote, and its author writes three methods: see
/// [`KeyValueDatabase`]. `conformance!` with `key_value` (feature `testing`) tells whether they are right.
///
/// Clones share the database. Each commit, renewal and ending is one transaction. A request of
/// somebody who is logged in reads twice: the record, and what is known of its principal. A
/// principal's sessions are one value, so logins, renewals and logouts of one principal queue up.
///
/// # Examples
/// ```
/// use actix_session::{
///     SessionMiddleware,
///     storage::{KeyValueDatabase, KeyValueSessionStore},
/// };
/// use actix_web::cookie::Key;
///
/// fn middleware<D: KeyValueDatabase>(
///     store: &KeyValueSessionStore<D>,
///     secret_key: &Key,
/// ) -> SessionMiddleware<KeyValueSessionStore<D>> {
///     SessionMiddleware::new(store.clone(), secret_key.clone())
/// }
/// ```
pub struct KeyValueSessionStore<D>(Arc<Inner<D>>);

struct Inner<D> {
    database: D,
    command_timeout: Duration,
    clock: SharedClock,
    /// Whoever waits for the end of a session.
    hub: Arc<Hub>,
    /// Whether the sweeper was started.
    sweeping: AtomicBool,
    /// How many values are removed at once: fewer if the database was late.
    batch: AtomicUsize,
}

impl<D> Clone for KeyValueSessionStore<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Does not show the database: its address may contain a password.
impl<D> fmt::Debug for KeyValueSessionStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValueSessionStore")
            .finish_non_exhaustive()
    }
}

impl<D: KeyValueDatabase> KeyValueSessionStore<D> {
    /// Makes a store over a database, with the default settings.
    pub fn new(database: D) -> Self {
        Self::builder(database).build()
    }

    /// Starts from the default settings.
    pub fn builder(database: D) -> KeyValueSessionStoreBuilder<D> {
        KeyValueSessionStoreBuilder {
            database,
            command_timeout: Duration::from_secs(1),
            clock: SharedClock::default(),
        }
    }

    /// The database.
    pub fn database(&self) -> &D {
        &self.0.database
    }
}

/// Settings of a [`KeyValueSessionStore`].
///
/// # Examples
/// ```
/// use actix_session::storage::{KeyValueDatabase, KeyValueSessionStore};
/// use actix_web::cookie::time::Duration;
///
/// fn store<D: KeyValueDatabase>(database: D) -> KeyValueSessionStore<D> {
///     KeyValueSessionStore::builder(database)
///         .command_timeout(Duration::milliseconds(500))
///         .build()
/// }
/// ```
#[must_use]
pub struct KeyValueSessionStoreBuilder<D> {
    database: D,
    command_timeout: Duration,
    clock: SharedClock,
}

impl<D> fmt::Debug for KeyValueSessionStoreBuilder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValueSessionStoreBuilder")
            .field("command_timeout", &self.command_timeout)
            .finish_non_exhaustive()
    }
}

impl<D: KeyValueDatabase> KeyValueSessionStoreBuilder<D> {
    /// Sets how long one call of the database may take: a second by default, and a millisecond at least. A
    /// read that takes longer fails; of a transaction that takes longer nobody knows whether it was done.
    ///
    /// # Examples
    /// See [`KeyValueSessionStoreBuilder`].
    pub fn command_timeout(mut self, limit: impl AnyDuration) -> Self {
        self.command_timeout = limit.unsigned().max(Duration::from_millis(1));
        self
    }

    /// Sets the clock that sessions expire by. Give the middleware the same one.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{
    ///     storage::{KeyValueDatabase, KeyValueSessionStore},
    ///     testing::ManualClock,
    /// };
    ///
    /// fn store<D: KeyValueDatabase>(database: D, clock: &ManualClock) -> KeyValueSessionStore<D> {
    ///     KeyValueSessionStore::builder(database).clock(clock.clone()).build()
    /// }
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = SharedClock::new(clock);
        self
    }

    /// Makes the store.
    ///
    /// # Examples
    /// See [`KeyValueSessionStoreBuilder`].
    pub fn build(self) -> KeyValueSessionStore<D> {
        KeyValueSessionStore(Arc::new(Inner {
            database: self.database,
            command_timeout: self.command_timeout,
            clock: self.clock,
            hub: Arc::default(),
            sweeping: AtomicBool::new(false),
            batch: AtomicUsize::new(sweep::BATCH),
        }))
    }
}
