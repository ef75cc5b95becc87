//! What the session layer costs: the same handlers over bare frameworks, over this library and over
//! its peers.
//!
//! The program `peer` is one of them, and does nothing else: run it under a profiler. The program
//! `bench` runs it for all, and makes the tables and plots.

pub mod case;
#[cfg(feature = "live")]
pub mod live;
pub mod seed;

mod actix;
mod bare;
mod library;
mod ours;
mod pages;
mod server;

#[cfg(feature = "full")]
mod tower;
#[cfg(feature = "full")]
mod upstream;

use std::io::Write as _;
use std::time::Duration;

use actix_web::rt::System;

use case::{Case, Peer};
pub use pages::Filled;
use seed::Seed;

/// What a peer is to do.
#[derive(Debug, Clone, Copy)]
pub enum Job {
    /// Make so many requests, without a network.
    Repeat(u32),
    /// Make so many sessions, without a network.
    Fill(u32),
    /// Serve with so many threads, until the standard input ends.
    Serve(usize),
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub enum Done {
    /// The CPU time of all requests.
    Repeated(Duration),
    /// What the sessions cost.
    Filled(Filled),
    /// The server has ended.
    Served,
}

/// Has a peer do its job. The case's route and cookie count only for [`Job::Repeat`].
///
/// # Errors
/// The peer has no such store, a server is missing, or a response is not what it must be.
pub fn run(case: &Case, seed: &Seed, job: Job) -> anyhow::Result<Done> {
    match case.peer {
        Peer::Bare => System::new().block_on(bare::run(case, job)),
        Peer::Ours | Peer::OursLazy => System::new().block_on(ours::run(case, seed, job)),
        #[cfg(feature = "full")]
        Peer::Upstream => System::new().block_on(upstream::run(case, seed, job)),
        #[cfg(feature = "full")]
        Peer::BareAxum | Peer::Tower => tower::run(case, seed, job),
        #[cfg(not(feature = "full"))]
        _ => anyhow::bail!("{}: built without the feature `full`", case.peer),
    }
}

/// Prints a line at once, for the program that waits for it.
pub fn say(line: &str) {
    // Nobody who has gone away misses it.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
