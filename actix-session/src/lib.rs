#![doc = include_str!("../docs/overview.md")]
#![doc = ""]
#![doc = include_str!("../docs/migrating.md")]
#![doc = ""]
#![doc = include_str!("../docs/glossary.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
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
mod changes;
mod clock;
pub mod config;
mod contract;
mod cookie;
mod digest;
mod error;
mod event;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handed;
pub mod handlers;
mod key;
mod level;
mod live;
#[cfg(feature = "_backend")]
mod manager;
mod middleware;
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
    level::Level,
    live::{EndReason, SessionEnded},
    middleware::SessionMiddleware,
    session::{
        AuthRefusal, Entries, ExtractSession, Login, Remaining, Saved, Session, SessionAuthError,
        SessionEndedError, SessionExt, SessionGetError, SessionInsertError, SessionLoginError,
        SessionPurgeError, SessionSaveError, SessionStatus, SessionTakeError, SessionUpdateError,
        Upstream,
    },
};

/// Re-exports for the store macros: an application need not depend on these crates.
#[doc(hidden)]
pub mod __private {
    pub use std::collections::HashMap;

    pub use actix_web::cookie::time::Duration;
    pub use anyhow::Error as AnyError;
}
