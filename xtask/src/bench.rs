//! `cargo xtask bench`: the programs in `benches/`, which compare what requests cost.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::Result;
use crate::runner::Runner;
use crate::step::{Step, root};

const MANIFEST: &str = "benches/Cargo.toml";

/// Leaves out the peers and the drivers of databases, whose builds take most of the time.
const LIBRARY_ALONE: &str = "--no-default-features";

/// Builds the programs and runs the one that measures. It installs and starts whatever it needs.
pub(crate) fn run(words: Vec<String>) -> Result<ExitCode> {
    let runner = Runner::new()?;
    let built = runner.run(vec![build(is_guard(&words))], &[])?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    runner.run(vec![measure(words)], &[])
}

/// Checks the format of the programs, and the lints of what the guard needs.
pub(crate) fn checks() -> Vec<Step> {
    let format = ["fmt", "--manifest-path", MANIFEST, "--check"];
    // In the profile of the build, which needs the same macros and build scripts.
    let lints = [
        "clippy",
        "--release",
        "--all-targets",
        "--manifest-path",
        MANIFEST,
    ];
    let lints = lints.iter().chain(&[LIBRARY_ALONE, "--", "-D", "warnings"]);
    vec![
        Step::cargo("benches format", format),
        here(Step::cargo("benches lints", lints)),
    ]
}

fn is_guard(words: &[String]) -> bool {
    words
        .iter()
        .any(|word| word == "--check" || word == "--accept")
}

fn build(guard: bool) -> Step {
    let words = ["build", "--release", "--bins", "--manifest-path", MANIFEST];
    let alone = guard.then_some(LIBRARY_ALONE);
    here(Step::cargo("build", words.into_iter().chain(alone)))
}

fn measure(words: Vec<String>) -> Step {
    let mut command = Command::new(folder().join("release/bench"));
    command.args(words);
    let name = "measure".to_owned();
    here(Step { name, command })
}

/// The same in the repository, with a folder of its own for what is built. Incremental compilation
/// cuts crates into more units, between which less is inlined: it would change every count.
fn here(mut step: Step) -> Step {
    step.command.current_dir(root());
    step.with("CARGO_TARGET_DIR", folder())
        .with("CARGO_INCREMENTAL", "0")
}

fn folder() -> PathBuf {
    root().join("target/bench")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_is_built_without_the_peers() {
        let built = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            format!("{:?}", build(is_guard(&words)).command)
        };
        assert!(built(&["--check"]).contains(LIBRARY_ALONE));
        assert!(!built(&["times"]).contains(LIBRARY_ALONE));
    }
}
