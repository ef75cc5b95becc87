//! Where sessions are kept: the stores, and the trait that they implement.

#[cfg(feature = "cookie-session")]
mod cookie;
mod errors;
mod fallback;
mod interface;
#[cfg(feature = "memory-session")]
mod memory;
pub(crate) mod random;
#[cfg(feature = "redis-session")]
mod redis;
pub(crate) mod revocation;
mod session_key;
#[cfg(any(feature = "memory-session", feature = "redis-session", test))]
mod shared;
pub(crate) mod terms;

#[cfg(feature = "cookie-session")]
pub use self::cookie::CookieSessionStore;
#[cfg(feature = "memory-session")]
pub use self::memory::{MemorySessionStore, MemorySessionStoreBuilder};
#[cfg(feature = "redis-session")]
pub use self::redis::{RedisSessionStore, RedisSessionStoreBuilder};
pub(crate) use self::{errors::Degraded, terms::Extension};
pub use self::{
    errors::{CommitError, Contended, Gone, LoadError, OutcomeUnknown, SaveError, UpdateError},
    interface::{Committed, End, Opened, Rotated, SessionStore},
    random::generate_session_key,
    revocation::{RevocationFuture, RevocationStore},
    session_key::{InvalidSessionKeyError, SessionKey},
    terms::Terms,
};
pub use crate::{
    changes::Changes,
    record::{DecodeError, Record},
};
