//! `cargo xtask bench`: what is in `benches/`.

use std::path::Path;
use std::process::ExitCode;

use crate::Result;
use crate::runner::Runner;
use crate::step::Step;

const MANIFEST: &str = "benches/Cargo.toml";

/// Builds the programs and runs the one that measures. It installs and starts what it needs.
pub(crate) fn run(words: Vec<String>) -> Result<ExitCode> {
    let runner = Runner::new()?;
    let guard = words.iter().any(|word| word == "--check");
    let built = runner.run(vec![build(guard)], &[])?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    runner.run(vec![measure(words)], &[])
}

/// The guard needs no peer, and is built in a fraction of the time without them.
fn build(guard: bool) -> Step {
    let words = ["build", "--release", "--bins", "--manifest-path", MANIFEST];
    let alone = guard.then_some("--no-default-features");
    here(Step::cargo("build", words.into_iter().chain(alone)))
}

fn measure(words: Vec<String>) -> Step {
    let program = folder().join("release/bench");
    let mut command = std::process::Command::new(program);
    command.args(words);
    let name = "measure".to_owned();
    here(Step { name, command })
}

/// The step in the repository's root, with a folder of its own for what is built.
fn here(mut step: Step) -> Step {
    step.command.current_dir(root());
    step.with("CARGO_TARGET_DIR", folder())
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn folder() -> std::path::PathBuf {
    root().join("target/bench")
}
