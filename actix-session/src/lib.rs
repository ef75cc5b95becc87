// Of two definitions of a link the first counts. Read as files, the pages have their own.
#![doc = "[glossary]: #glossary"]
#![doc = "[dependants]: #dependants"]
#![doc = "[`ended_lease`]: config::SessionMiddlewareBuilder::ended_lease"]
#![doc = "[`max_sessions`]: config::SessionMiddlewareBuilder::max_sessions"]
#![doc = "[`principal_entry`]: config::SessionMiddlewareBuilder::principal_entry"]
#![doc = "[`CookieSessionStore::revoke_principal`]: storage::CookieSessionStore::revoke_principal"]
#![doc = "[`absolute_timeout`]: config::SessionMiddlewareBuilder::absolute_timeout"]
#![doc = "[`quiet_when`]: config::SessionMiddlewareBuilder::quiet_when"]
#![doc = "[`CrossSiteGuard`]: csrf::CrossSiteGuard"]
#![doc = "[`header`]: config::SessionMiddlewareBuilder::header"]
#![doc = "[`lazy`]: config::SessionMiddlewareBuilder::lazy"]
#![doc = "[`load_when`]: config::SessionMiddlewareBuilder::load_when"]
#![doc = "[`MemorySessionStore`]: storage"]
#![doc = "[`RedisSessionStore`]: storage"]
#![doc = "[`SqliteSessionStore`]: storage"]
#![doc = "[`PostgresSessionStore`]: storage"]
#![doc = "[`MySqlSessionStore`]: storage"]
#![doc = "[`CookieSessionStore`]: storage"]
#![doc = "[`AnySessionStore`]: storage::AnySessionStore"]
#![doc = ""]
#![doc = include_str!("../docs/overview.md")]
#![doc = ""]
#![doc = include_str!("../docs/request.svg")]
#![doc = ""]
#![doc = include_str!("../docs/migrating.md")]
#![doc = ""]
#![doc = include_str!("../docs/glossary.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Features that no user turns on by themselves.
#![cfg_attr(docsrs, doc(auto_cfg(hide(feature = "_backend", feature = "_sql"))))]
#![cfg_attr(
    not(all(
        feature = "cookie-session",
        feature = "memory-session",
        feature = "redis-session",
        feature = "_sql",
        feature = "testing"
    )),
    allow(
        dead_code,
        unused_imports,
        reason = "all stores share merging and formats; with every feature, nothing is unused"
    )
)]

// A file of the tests is part of two programs, and names the library as others do.
#[cfg(test)]
extern crate self as actix_session;

mod address;
mod boxed;
mod changes;
mod clock;
pub mod config;
mod contract;
#[cfg(all(
    any(doc, doctest),
    feature = "cookie-session",
    feature = "memory-session",
    feature = "sqlite-session"
))]
#[doc = include_str!("../docs/cookbook.md")]
pub mod cookbook {}
mod cookie;
pub mod csrf;
mod digest;
mod duration;
mod error;
mod event;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handed;
pub mod handlers;
mod key;
mod level;
#[cfg(test)]
mod lines;
mod live;
#[cfg(feature = "_backend")]
mod manager;
#[cfg(feature = "metrics")]
mod measure;
#[cfg(not(feature = "metrics"))]
#[path = "no_measure.rs"]
mod measure;
mod middleware;
mod observe;
#[cfg(feature = "_backend")]
mod oidc;
#[cfg(any(feature = "_backend", test))]
mod protocol;
mod random;
mod record;
mod session;
pub mod storage;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(any(feature = "_backend", feature = "cookie-session"))]
mod to_the_end;

#[cfg(feature = "_backend")]
pub use self::manager::{
    ExportedSession, InvalidSessionHandle, ListedSession, NextPage, OpenedSession, SessionHandle,
    SessionList, SessionManager, SessionManagerError, SessionOperator, SessionStats,
    UpstreamNotice,
};
#[doc(hidden)]
pub use self::middleware::InnerSessionMiddleware;
#[cfg(feature = "_backend")]
pub use self::oidc::{BackChannelLogout, BackChannelLogoutError, InvalidJwkSet, JwkSet};
pub use self::{
    address::ClientAddress,
    clock::{Clock, SystemClock},
    duration::AnyDuration,
    event::{Refusal, TurnedAway},
    level::Level,
    live::{EndReason, SessionEnded},
    middleware::SessionMiddleware,
    observe::{SessionEvent, SessionEventKind, SessionObserver},
    session::{
        AuthRefusal, Entries, ExtractNamedSession, ExtractSession, Flash, Login, NamedSession,
        Remaining, Saved, Session, SessionAuthError, SessionEndedError, SessionEntry, SessionExt,
        SessionGetError, SessionInsertError, SessionLoginError, SessionName, SessionPurgeError,
        SessionSaveError, SessionStatus, SessionTakeError, SessionUpdateError, Upstream,
    },
};

#[doc = "[`on_event`]: crate::config::SessionMiddlewareBuilder::on_event"]
#[doc = "[`SessionObserver::lost`]: crate::SessionObserver::lost"]
#[doc = "[`Session::ended`]: crate::Session::ended"]
#[doc = "[logger]: crate::cookbook#where-does-logger-belong"]
#[doc = ""]
#[doc = include_str!("../docs/observability.md")]
pub mod observability {}

#[cfg(all(any(doc, doctest), feature = "postgres-session"))]
#[doc = "[sql]: crate::stores_sql"]
#[doc = "[clocks]: crate::stores_sql#clocks"]
#[doc = "[crashes]: crate::stores_sql#crashes-and-failures"]
#[doc = "[upstream]: crate#logouts-at-an-identity-provider"]
#[doc = ""]
#[doc = include_str!("../docs/stores.md")]
pub mod stores {}

#[cfg(all(any(doc, doctest), feature = "postgres-session"))]
#[doc = "[upstream]: crate#logouts-at-an-identity-provider"]
#[doc = "[redis-fails]: crate::stores#when-redis-fails"]
#[doc = "[late]: crate::stores#what-comes-late"]
#[doc = ""]
#[doc = include_str!("../docs/stores-sql.md")]
pub mod stores_sql {}

#[cfg(all(
    any(doc, doctest),
    feature = "cookie-session",
    feature = "memory-session",
    feature = "sqlite-session"
))]
#[doc = "[moved]: crate::cookbook#how-do-i-notice-a-cookie-that-has-moved-to-another-client"]
#[doc = ""]
#[doc = include_str!("../docs/threats.md")]
pub mod threats {}

/// Re-exports for the store macros: an application need not depend on these crates.
#[doc(hidden)]
pub mod __private {
    pub use crate::clock::Latest;
    pub use std::collections::HashMap;

    pub use actix_web::cookie::time::Duration;
    pub use anyhow::Error as AnyError;
}
