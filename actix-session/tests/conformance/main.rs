//! The kit for stores, as their authors use it: every store of ours and both examples pass it, and
//! stores with a planted fault fail it, in words.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed"
)]

#[path = "../../examples/compare_and_set_store.rs"]
#[allow(dead_code, reason = "its server does not run here")]
mod compare_and_set_store;
mod elsewhere;
mod erased;
mod handlers;
#[path = "../it/support/in_memory.rs"]
mod in_memory;
mod lost_answers;
#[path = "../../examples/moka_store.rs"]
#[allow(dead_code, reason = "its server does not run here")]
mod moka_store;
mod planted;
#[path = "../../examples/redb_store.rs"]
#[allow(dead_code, reason = "its server does not run here")]
mod redb_store;
#[path = "../it/support/shared.rs"]
mod shared;
mod stores;
