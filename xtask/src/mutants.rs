//! `cargo xtask mutants`: changes the core in one place at a time, and asks whether a test notices.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Result;
use crate::runner::Runner;
use crate::step::{Step, root};
use crate::tool::Tool;

const TOOL: Tool = Tool {
    name: "mutants",
    version: "27.1.0",
};

/// What is pure, so that unit tests alone can judge it.
const CORE: [&str; 5] = [
    "actix-session/src/changes/**",
    "actix-session/src/cookie/**",
    "actix-session/src/middleware/decide.rs",
    "actix-session/src/protocol/**",
    "actix-session/src/record/**",
];

/// The core names no feature, and without drivers of databases each change is built much sooner.
const FEATURES: &str = "cookie-session,memory-session,testing";

/// Runs the unit tests on every change. It fails if one is not noticed.
pub(crate) fn run(extra: Vec<String>) -> Result<ExitCode> {
    let runner = Runner::new()?;
    // The program makes no folder above the one for its results.
    fs::create_dir_all(folder())?;
    TOOL.run(&runner, vec![step(extra)])
}

fn step(extra: Vec<String>) -> Step {
    let mut step = Step::cargo("mutants", arguments(extra));
    step.command.current_dir(root());
    // The dependencies are built once for all runs, and for nobody else's build.
    step.with("CARGO_TARGET_DIR", folder())
}

/// The folder for what is built, and for the results.
fn folder() -> PathBuf {
    root().join("target/mutants")
}

/// Without a choice of the user's: all of the core. The user's words are the last: behind `--`, they go to the
/// tests.
fn arguments(extra: Vec<String>) -> Vec<String> {
    let output = format!("--output={}", folder().display());
    let mut words = vec![
        "mutants",
        &output,
        "--package=actix-session",
        "--cargo-arg=--lib",
        "--no-default-features",
        "--features",
        FEATURES,
    ];
    if !names_files(&extra) {
        words.extend(CORE.iter().flat_map(|files| ["--file", files]));
    }
    words.into_iter().map(str::to_owned).chain(extra).collect()
}

fn names_files(extra: &[String]) -> bool {
    let names = |word: &String| {
        let option = word.split('=').next().unwrap_or_default();
        option == "--file" || (word.starts_with("-f") && !word.starts_with("--"))
    };
    extra.iter().any(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(extra: &[&str]) -> String {
        arguments(extra.iter().map(|word| (*word).to_owned()).collect()).join(" ")
    }

    #[test]
    fn all_of_the_core_is_changed_unless_files_are_named() {
        for extra in [&[][..], &["--list"]] {
            let arguments = with(extra);
            assert!(CORE.iter().all(|files| arguments.contains(files)));
        }
        let behind = ["-fx.rs", "--", "--", "--skip", "x"];
        for extra in [
            &["--file", "x.rs"][..],
            &["--file=x.rs"],
            &["-fx.rs"],
            &behind,
        ] {
            let arguments = with(extra);
            assert!(!CORE.iter().any(|files| arguments.contains(files)));
            assert!(arguments.ends_with(&extra.join(" ")), "{arguments}");
        }
    }

    #[test]
    fn every_part_of_the_core_is_there() {
        for files in CORE {
            assert!(
                root().join(files.trim_end_matches("/**")).exists(),
                "{files}"
            );
        }
    }
}
