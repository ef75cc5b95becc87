//! The session stores, and the trait that they implement.

mod any;
#[cfg(any(feature = "_backend", test))]
pub(crate) mod backend;
#[cfg(feature = "cookie-session")]
mod cookie;
mod five_methods;
#[cfg(any(feature = "_backend", test))]
pub(crate) mod index;
#[cfg(feature = "key-value-session")]
mod key_value;
#[cfg(any(feature = "_backend", test))]
pub(crate) mod lease;
#[cfg(feature = "memory-session")]
mod memory;
#[cfg(all(feature = "memory-session", feature = "testing"))]
#[path = "memory/dump.rs"]
mod memory_dump;
mod methods;
#[cfg(any(feature = "_backend", test))]
mod notes;
#[cfg(feature = "redis-session")]
pub(crate) mod redis;
pub(crate) mod revocation;
#[cfg(feature = "_sql")]
pub(crate) mod sql;
mod store;
#[cfg(test)]
#[cfg(all(
    feature = "key-value-session",
    feature = "memory-session",
    feature = "redis-actor-session",
    feature = "sqlite-session",
    feature = "postgres-session",
    feature = "mysql-session"
))]
mod tests;
#[cfg(any(feature = "_backend", test))]
pub(crate) mod upkeep;
#[cfg(any(feature = "_backend", test))]
pub(crate) mod upstream;
#[cfg(any(feature = "_backend", test))]
pub(crate) mod walk;

#[cfg(feature = "cookie-session")]
pub use self::cookie::CookieSessionStore;
#[cfg(feature = "_backend")]
pub use self::index::{SessionIndex, StoreIndex};
#[cfg(feature = "key-value-session")]
pub use self::key_value::{
    KeyValueDatabase, KeyValueOutcome, KeyValueSessionStore, KeyValueSessionStoreBuilder,
    KeyValueTransaction, KeyValueWrite,
};
#[cfg(feature = "memory-session")]
pub use self::memory::{MemorySessionStore, MemorySessionStoreBuilder};
#[cfg(feature = "redis-actor-session")]
pub use self::redis::actor::{RedisActorSessionStore, RedisActorSessionStoreBuilder};
#[cfg(feature = "redis-session")]
pub use self::redis::{RedisSessionStore, RedisSessionStoreBuilder};
#[cfg(feature = "mysql-session")]
pub use self::sql::{MySqlSessionStore, MySqlSessionStoreBuilder};
#[cfg(feature = "postgres-session")]
pub use self::sql::{PostgresSessionStore, PostgresSessionStoreBuilder};
#[cfg(feature = "_sql")]
pub use self::sql::{SqlDatabase, SqlSessionStore, SqlSessionStoreBuilder, Sweeper};
#[cfg(feature = "sqlite-session")]
pub use self::sql::{SqliteSessionStore, SqliteSessionStoreBuilder};
pub use self::{
    any::AnySessionStore,
    revocation::{RevocationFuture, RevocationStore},
    store::SessionStore,
};
pub use crate::{
    changes::{Changes, MadeOn, Merged},
    contract::{Committed, End, Older, Opened, Rotated, Terms},
    error::{
        CommitError, Contended, Gone, LoadError, OutcomeUnknown, SaveError, StateTooLarge,
        StoreFull, TooManySessions, UpdateError,
    },
    key::{InvalidSessionKeyError, SessionKey},
    live::Watch,
    random::generate_session_key,
    record::{DecodeError, Record},
};
