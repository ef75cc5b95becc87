//! The errors of stores.

use std::error::Error as StdError;

use derive_more::Display;

use crate::{
    cookie::write::TooLong,
    event::{RefusedLogin, TurnedAway},
};

/// Possible failures of [`SessionStore::load`](crate::storage::SessionStore::load).
#[derive(Debug, Display)]
pub enum LoadError {
    /// The state exists, but it cannot be decoded.
    #[display("Failed to deserialize session state")]
    Deserialization(anyhow::Error),

    /// The store failed, or its answer was invalid.
    #[display("Something went wrong when retrieving the session state")]
    Other(anyhow::Error),
}

/// Possible failures of [`SessionStore::save`](crate::storage::SessionStore::save).
#[derive(Debug, Display)]
pub enum SaveError {
    /// The state cannot be encoded.
    #[display("Failed to serialize session state")]
    Serialization(anyhow::Error),

    /// The store failed, or its answer was invalid.
    #[display("Something went wrong when persisting the session state")]
    Other(anyhow::Error),
}

/// Possible failures of [`SessionStore::update`](crate::storage::SessionStore::update).
///
/// `Other` contains [`Gone`] if the record does not exist, [`Contended`] if other requests kept
/// committing first, and [`OutcomeUnknown`] if the outcome is unknown:
///
/// ```
/// use actix_session::storage::{Gone, UpdateError};
///
/// fn is_gone(error: &UpdateError) -> bool {
///     matches!(error, UpdateError::Other(inner) if inner.is::<Gone>())
/// }
/// assert!(is_gone(&UpdateError::Other(Gone.into())));
/// ```
#[derive(Debug, Display)]
pub enum UpdateError {
    /// The state cannot be encoded.
    #[display("Failed to serialize session state")]
    Serialization(anyhow::Error),

    /// The store failed, or refused the change.
    #[display("Something went wrong when updating the session state.")]
    Other(anyhow::Error),
}

/// Possible failures of [`SessionStore::commit`](crate::storage::SessionStore::commit),
/// [`SessionStore::rotate`](crate::storage::SessionStore::rotate) and
/// [`SessionStore::create`](crate::storage::SessionStore::create).
#[derive(Debug, Display)]
#[non_exhaustive]
pub enum CommitError {
    /// A change cannot be applied: a `modify` found a value of another type, or returned one that
    /// does not serialize. Nothing was committed.
    #[display("a change to the session cannot be applied")]
    Serialization(anyhow::Error),

    /// Other requests kept committing first until the budget was used up. Nothing was committed;
    /// the response is a 503.
    #[display(
        "the session is contended: other requests kept changing it, or one has just renewed it"
    )]
    Contended,

    /// The store is full, and no other session makes room for this one. Nothing was committed; the
    /// response is a 503.
    #[display("the store is full, so that it refuses the session")]
    Full,

    /// An answer was lost, so it is unknown whether the commit happened.
    #[display("it is unknown whether the session was changed: the store's answer was lost")]
    OutcomeUnknown,

    /// The store failed, or refused the change.
    #[display("something went wrong when committing the session")]
    Other(anyhow::Error),
}

/// Inside an error: a step was not done, and will not be for a while, under this name alone.
#[allow(dead_code, reason = "the Redis store alone makes it")]
#[derive(Debug, Display)]
#[display("the slot of the new session's name is being moved")]
pub(crate) struct PutOff;

impl CommitError {
    pub(crate) fn unreadable() -> Self {
        Self::Other(anyhow::anyhow!(
            "this version cannot read the stored record, and leaves it as it is"
        ))
    }

    /// A new session has ended before its key was handed out.
    pub(crate) fn gone() -> Self {
        Self::Other(Gone.into())
    }

    pub(crate) fn degraded() -> Self {
        Self::Other(Degraded.into())
    }

    /// What a store's error means: [`Contended`], [`StoreFull`] and [`OutcomeUnknown`] may be inside.
    pub(crate) fn of_store(error: anyhow::Error) -> Self {
        if error.is::<Contended>() {
            Self::Contended
        } else if error.is::<StoreFull>() {
            Self::Full
        } else if error.is::<OutcomeUnknown>() {
            Self::OutcomeUnknown
        } else {
            Self::Other(error)
        }
    }

    pub(crate) fn unexpected() -> Self {
        Self::Other(anyhow::anyhow!(
            "the store's answer does not match the request"
        ))
    }

    pub(crate) fn taken() -> Self {
        Self::Other(anyhow::anyhow!(
            "several new session keys in a row were already taken: the store must keep \
            different keys under different names, and find nothing under a new one (in a cluster, a \
            name counts as taken while its slot is being moved)"
        ))
    }

    pub(crate) fn late() -> Self {
        Self::Other(anyhow::anyhow!("the store did not answer in time"))
    }

    /// Why a login does not count, if it says so: then nothing has failed.
    pub(crate) fn refused_login(&self) -> Option<RefusedLogin> {
        match self {
            Self::Other(cause) if cause.is::<Gone>() => Some(RefusedLogin::Ended),
            Self::Other(cause) if cause.is::<TooManySessions>() => Some(RefusedLogin::TooMany),
            _ => None,
        }
    }

    /// Why the same request may succeed later, if it says so: the store has answered, and clients can
    /// cause it.
    pub(crate) fn turned_away(&self) -> Option<TurnedAway> {
        match self {
            Self::Full => Some(TurnedAway::Full),
            Self::Contended => Some(TurnedAway::Contended),
            Self::Serialization(_) | Self::OutcomeUnknown | Self::Other(_) => None,
        }
    }

    /// Whether the store has nothing to do with it: what the handler has set does not fit, or does not
    /// go together with what is there.
    pub(crate) fn is_handlers(&self) -> bool {
        match self {
            Self::Serialization(_) => true,
            Self::Other(cause) => cause.is::<TooLong>(),
            Self::Contended | Self::Full | Self::OutcomeUnknown => false,
        }
    }

    /// This error as the five methods of a store report it.
    pub(crate) fn into_anyhow(self) -> anyhow::Error {
        match self {
            Self::Serialization(error) | Self::Other(error) => error,
            Self::Contended => Contended.into(),
            Self::Full => StoreFull.into(),
            Self::OutcomeUnknown => OutcomeUnknown.into(),
        }
    }
}

fn source_of(error: &anyhow::Error) -> Option<&(dyn StdError + 'static)> {
    Some(error.as_ref())
}

macro_rules! error_with_source {
    ($($name:ty: $($variant:ident)|+;)+) => {$(
        impl StdError for $name {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                match self {
                    $(Self::$variant(error) => source_of(error),)+
                    #[allow(unreachable_patterns, reason = "some have a source in all variants")]
                    _ => None,
                }
            }
        }
    )+};
}

error_with_source! {
    LoadError: Deserialization | Other;
    SaveError: Serialization | Other;
    UpdateError: Serialization | Other;
    CommitError: Serialization | Other;
}

impl From<UpdateError> for CommitError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Serialization(error) => Self::Serialization(error),
            UpdateError::Other(error) => Self::of_store(error),
        }
    }
}

impl From<SaveError> for CommitError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Serialization(error) => Self::Serialization(error),
            SaveError::Other(error) => Self::of_store(error),
        }
    }
}

impl From<LoadError> for CommitError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Deserialization(_) => Self::unreadable(),
            LoadError::Other(error) => Self::of_store(error),
        }
    }
}

/// The record to update does not exist: it has ended or expired.
///
/// Wrapped in [`UpdateError::Other`]. An update never creates a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display("the session has ended or expired")]
pub struct Gone;

/// Other requests kept committing first until the budget was used up.
///
/// Wrapped in [`UpdateError::Other`]. Methods that return [`CommitError`] report
/// [`CommitError::Contended`] instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display("the session is contended: other requests kept changing it, or one has just renewed it")]
pub struct Contended;

/// The store is full, and no other session makes room for the new one.
///
/// Wrapped in [`SaveError::Other`]. Methods that return [`CommitError`] report
/// [`CommitError::Full`] instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display(
    "the store is full of sessions that belong to principals, so that it refuses one that does not: \
     raise `MemorySessionStoreBuilder::max_sessions`"
)]
pub struct StoreFull;

/// It is unknown whether a command was carried out.
///
/// Wrapped in [`UpdateError::Other`]. Methods that return [`CommitError`] report
/// [`CommitError::OutcomeUnknown`] instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display("it is unknown whether the session was changed: the store's answer was lost")]
pub struct OutcomeUnknown;

/// The principal has as many sessions as are allowed, so that this login is refused.
///
/// Wrapped in [`CommitError::Other`]. The response is a 403.
/// [`SessionSaveError::is_too_many_sessions`](crate::SessionSaveError::is_too_many_sessions) tells it
/// inside the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display("the principal has as many sessions as are allowed: one must end before the next login")]
pub struct TooManySessions;

/// The session's record would be larger than the middleware's `max_state_size`, or than the 16 MiB
/// that every store accepts.
///
/// Wrapped in [`CommitError::Serialization`], or by `save` in [`SaveError::Other`]. Nothing was
/// committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display(
    "the session's state would have {size} octets, but at most {limit} are allowed: keep large \
     values elsewhere and only their names in the session, or raise `max_state_size`"
)]
pub struct StateTooLarge {
    pub(crate) size: usize,
    pub(crate) limit: usize,
}

impl StateTooLarge {
    /// The size that the record would have had, in octets.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The maximum size, in octets.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl StdError for StateTooLarge {}

/// Somebody must be logged in, and nobody is: perhaps no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display("nobody is logged in: call `login` once the user has proven who they are")]
pub(crate) struct NobodyLoggedIn;

/// The upstream has authenticated the user too long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display(
    "the authentication is older than the absolute timeout: the user must sign in again at the \
     identity provider"
)]
pub(crate) struct AuthenticatedTooLongAgo;

/// A request tried to change a session that could not be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display("the session could not be loaded, so it cannot be changed")]
pub(crate) struct Degraded;

impl StdError for NobodyLoggedIn {}
impl StdError for AuthenticatedTooLongAgo {}
impl StdError for Degraded {}
impl StdError for Gone {}
impl StdError for Contended {}
impl StdError for StoreFull {}
impl StdError for OutcomeUnknown {}
impl StdError for TooManySessions {}
