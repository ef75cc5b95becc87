//! Where sessions are kept: the stores, and the trait that they implement.

mod any;
#[cfg(feature = "cookie-session")]
mod cookie;
mod errors;
mod fallback;
mod interface;
#[cfg(feature = "memory-session")]
mod memory;
pub(crate) mod random;
#[cfg(feature = "redis-session")]
pub(crate) mod redis;
pub(crate) mod revocation;
mod session_key;
#[cfg(any(
    feature = "memory-session",
    feature = "redis-session",
    feature = "sqlite-session",
    feature = "postgres-session",
    feature = "mysql-session",
    test
))]
mod shared;
#[cfg(any(
    feature = "sqlite-session",
    feature = "postgres-session",
    feature = "mysql-session"
))]
pub(crate) mod sql;
pub(crate) mod terms;

#[cfg(feature = "cookie-session")]
pub use self::cookie::CookieSessionStore;
#[cfg(feature = "memory-session")]
pub use self::memory::{MemorySessionStore, MemorySessionStoreBuilder};
#[cfg(feature = "redis-actor-session")]
pub use self::redis::actor::{RedisActorSessionStore, RedisActorSessionStoreBuilder};
#[cfg(feature = "redis-session")]
pub use self::redis::{RedisSessionStore, RedisSessionStoreBuilder};
#[cfg(any(
    feature = "sqlite-session",
    feature = "postgres-session",
    feature = "mysql-session"
))]
pub use self::sql::Sweeper;
#[cfg(feature = "mysql-session")]
pub use self::sql::{MySqlSessionStore, MySqlSessionStoreBuilder};
#[cfg(feature = "postgres-session")]
pub use self::sql::{PostgresSessionStore, PostgresSessionStoreBuilder};
#[cfg(feature = "sqlite-session")]
pub use self::sql::{SqliteSessionStore, SqliteSessionStoreBuilder};
pub use self::{
    any::AnySessionStore,
    errors::{
        CommitError, Contended, Gone, LoadError, OutcomeUnknown, SaveError, StateTooLarge,
        UpdateError,
    },
    interface::{Committed, End, Older, Opened, Rotated, SessionStore},
    random::generate_session_key,
    revocation::{RevocationFuture, RevocationStore},
    session_key::{InvalidSessionKeyError, SessionKey},
    terms::Terms,
};
pub(crate) use self::{errors::Degraded, terms::Extension};
pub use crate::{
    changes::Changes,
    record::{DecodeError, Record},
};
