//! The ways in which a store can fail.

use std::error::Error as StdError;

use derive_more::Display;

fn source_of(error: &anyhow::Error) -> Option<&(dyn StdError + 'static)> {
    Some(error.as_ref())
}

/// Possible failures of [`SessionStore::load`](crate::storage::SessionStore::load).
#[derive(Debug, Display)]
pub enum LoadError {
    /// The state is there and cannot be decoded.
    #[display("Failed to deserialize session state")]
    Deserialization(anyhow::Error),

    /// The store did not answer as it should.
    #[display("Something went wrong when retrieving the session state")]
    Other(anyhow::Error),
}

/// Possible failures of [`SessionStore::save`](crate::storage::SessionStore::save).
#[derive(Debug, Display)]
pub enum SaveError {
    /// The state cannot be encoded.
    #[display("Failed to serialize session state")]
    Serialization(anyhow::Error),

    /// The store did not answer as it should.
    #[display("Something went wrong when persisting the session state")]
    Other(anyhow::Error),
}

/// Possible failures of [`SessionStore::update`](crate::storage::SessionStore::update).
///
/// That the record is [`Gone`], that commits were [`Contended`] and that an outcome is unknown
/// ([`OutcomeUnknown`]) come inside of `Other`:
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

    /// The store did not answer as it should, or refused.
    #[display("Something went wrong when updating the session state.")]
    Other(anyhow::Error),
}

/// Possible failures of [`SessionStore::commit`](crate::storage::SessionStore::commit),
/// [`SessionStore::rotate`](crate::storage::SessionStore::rotate) and
/// [`SessionStore::create`](crate::storage::SessionStore::create).
#[derive(Debug, Display)]
#[non_exhaustive]
pub enum CommitError {
    /// A change cannot be applied: a `modify` met a value of another type, or made one that does
    /// not serialize. Nothing was committed.
    #[display("a change to the session cannot be applied")]
    Serialization(anyhow::Error),

    /// Other requests kept winning until the budget was used up. Nothing was committed; the
    /// middleware answers 503.
    #[display("the session is contended: other requests kept changing it")]
    Contended,

    /// An answer was lost, and whether the commit has happened could not be learnt.
    #[display("whether the session was changed could not be learnt in time")]
    OutcomeUnknown,

    /// The store did not answer as it should, or refused.
    #[display("something went wrong when committing the session")]
    Other(anyhow::Error),
}

impl CommitError {
    pub(crate) fn unreadable() -> Self {
        Self::Other(anyhow::anyhow!(
            "the stored record cannot be read by this version, and is left as it is"
        ))
    }

    pub(crate) fn degraded() -> Self {
        Self::Other(Degraded.into())
    }

    /// A step that was not done because others kept winning tells so by [`Contended`].
    pub(crate) fn of_step(error: anyhow::Error) -> Self {
        if error.is::<Contended>() {
            return Self::Contended;
        }
        Self::Other(error)
    }

    pub(crate) fn unexpected() -> Self {
        Self::Other(anyhow::anyhow!(
            "the store gave an answer that makes no sense to its request"
        ))
    }

    pub(crate) fn taken() -> Self {
        Self::Other(anyhow::anyhow!(
            "several new session keys in a row were taken; does `cache_keygen` map different keys \
            to one name?"
        ))
    }

    pub(crate) fn late() -> Self {
        Self::Other(anyhow::anyhow!("the store did not answer in time"))
    }

    /// The same failure as the five methods of a store report it.
    pub(crate) fn into_anyhow(self) -> anyhow::Error {
        match self {
            Self::Serialization(error) | Self::Other(error) => error,
            Self::Contended => Contended.into(),
            Self::OutcomeUnknown => OutcomeUnknown.into(),
        }
    }
}

macro_rules! error_with_source {
    ($($name:ty: $($variant:ident)|+;)+) => {$(
        impl StdError for $name {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                match self {
                    $(Self::$variant(error) => source_of(error),)+
                    #[allow(unreachable_patterns, reason = "not all have variants without source")]
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
            UpdateError::Other(error) if error.is::<Contended>() => Self::Contended,
            UpdateError::Other(error) if error.is::<OutcomeUnknown>() => Self::OutcomeUnknown,
            UpdateError::Other(error) => Self::Other(error),
        }
    }
}

impl From<SaveError> for CommitError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Serialization(error) => Self::Serialization(error),
            SaveError::Other(error) => Self::Other(error),
        }
    }
}

impl From<LoadError> for CommitError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Deserialization(_) => Self::unreadable(),
            LoadError::Other(error) => Self::Other(error),
        }
    }
}

/// The record that was to be updated is not there: it ended, or it expired.
///
/// Inside of [`UpdateError::Other`]. An update never makes a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display("the session is gone")]
pub struct Gone;

/// Other commits kept winning until the budget was used up.
///
/// Inside of [`UpdateError::Other`]; [`CommitError::Contended`] where the method has that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display("the session is contended: other requests kept changing it")]
pub struct Contended;

/// Whether a command was carried out could not be learnt.
///
/// Inside of [`UpdateError::Other`]; [`CommitError::OutcomeUnknown`] where the method has that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display("whether the session was changed could not be learnt in time")]
pub struct OutcomeUnknown;

/// The session's record would have become larger than the middleware's `max_state_size`, or than
/// the 16 MiB that any store takes.
///
/// Inside of [`CommitError::Serialization`]; nothing was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display(
    "the session's state would have {size} octets, and {limit} are allowed: keep large things \
     elsewhere and their names in the session, or raise `max_state_size`"
)]
pub struct StateTooLarge {
    pub(crate) size: usize,
    pub(crate) limit: usize,
}

impl StateTooLarge {
    /// How many octets the record would have had.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many octets it may have.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl StdError for StateTooLarge {}

/// A request whose session could not be loaded asked for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display("the session could not be loaded, so it cannot be changed")]
pub(crate) struct Degraded;

impl StdError for Degraded {}
impl StdError for Gone {}
impl StdError for Contended {}
impl StdError for OutcomeUnknown {}
