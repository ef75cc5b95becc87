#![doc = include_str!("../../docs/testing.md")]

mod client;
mod clock;
pub mod conformance;
mod faulty;
pub(crate) mod seeds;
mod sessions;

pub use self::{
    client::TestClient,
    clock::ManualClock,
    faulty::{Fault, FaultyStore, StoreCall},
    seeds::SessionTestRequest,
    sessions::TestSessions,
};
