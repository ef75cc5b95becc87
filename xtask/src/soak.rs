//! `cargo xtask soak`: mixed load on a real Redis, with a fault every few seconds.

use std::process::ExitCode;

use servers::{install, redis};

use crate::Result;
use crate::runner::Runner;
use crate::step::Step;

/// Runs the load for so many seconds and shows what it observed. It fails if something was lost or
/// came back.
pub(crate) fn run(seconds: u32) -> Result<ExitCode> {
    let runner = Runner::new()?;
    let program = install::ensure(&redis::SOFTWARE)?;
    let step = Step::cargo("soak", ARGUMENTS)
        .with("SOAK_SECONDS", seconds.to_string())
        .with(redis::SOFTWARE.variable, program);
    runner.run(vec![step], &[])
}

const ARGUMENTS: [&str; 9] = [
    "test",
    "--manifest-path",
    "actix-session/Cargo.toml",
    "--all-features",
    "--test",
    "it",
    "redis_soak",
    "--",
    "--nocapture",
];
