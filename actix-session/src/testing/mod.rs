//! [`principal_entry`]: crate::config::SessionMiddlewareBuilder::principal_entry
//! [`conformance!`]: crate::conformance
//! [`KeyValueDatabase`]: crate::storage::KeyValueDatabase
//! [`KeyValueSessionStore`]: crate::storage::KeyValueSessionStore
//! [`SessionStore`]: crate::storage::SessionStore
//!
#![doc = include_str!("../../docs/testing.md")]

mod client;
mod clock;
pub mod conformance;
mod faulty;
mod polls;
pub(crate) mod seeds;
mod sessions;

pub use self::{
    client::TestClient,
    clock::ManualClock,
    faulty::{Fault, FaultyStore, StoreCall},
    polls::dropped_after,
    seeds::SessionTestRequest,
    sessions::TestSessions,
};
