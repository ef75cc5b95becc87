//! `cargo xtask deny`: whether the dependencies may be used. `deny.toml` says what may.

use std::process::ExitCode;

use crate::Result;
use crate::runner::Runner;
use crate::step::{Step, root};
use crate::tool::Tool;

const TOOL: Tool = Tool {
    name: "deny",
    version: "0.20.2",
};

/// What applications get with the library.
const LIBRARY: &str = "actix-session/Cargo.toml";

/// All that is built here, tests and tools included.
const WORKSPACES: [&str; 3] = ["Cargo.toml", "benches/Cargo.toml", "fuzz/Cargo.toml"];

/// Judges licences, duplicates and sources; with `advisories` also whether something is known to be
/// unsafe, by a database that has to be fetched.
pub(crate) fn run(advisories: bool) -> Result<ExitCode> {
    TOOL.run(&Runner::new()?, steps(advisories))
}

fn steps(advisories: bool) -> Vec<Step> {
    let bans = ["bans", "licenses", "sources"];
    let mut steps = vec![step("what the library brings along", LIBRARY, &bans)];
    for manifest in WORKSPACES {
        let name = format!("licences of {manifest}");
        steps.push(step(&name, manifest, &["licenses", "sources"]));
    }
    if advisories {
        for manifest in WORKSPACES {
            let name = format!("advisories on {manifest}");
            steps.push(step(&name, manifest, &["advisories"]));
        }
    }
    steps
}

/// One file judges several graphs, so that none needs all that is allowed: that is not reported.
fn step(name: &str, manifest: &str, checks: &[&str]) -> Step {
    let chosen: &[&str] = if manifest == LIBRARY {
        &["--exclude-dev"]
    } else {
        &["--workspace"]
    };
    let deny = ["deny", "--locked", "--config=deny.toml", "--manifest-path"];
    let check = [
        "check",
        "--allow=license-not-encountered",
        "--allow=license-exception-not-encountered",
    ];
    let words = [&deny[..], &[manifest], chosen, &check, checks].concat();
    let mut step = Step::cargo(name, words);
    step.command.current_dir(root());
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_is_there() {
        for manifest in WORKSPACES.iter().chain(&[LIBRARY]) {
            assert!(root().join(manifest).exists(), "{manifest}");
        }
    }

    #[test]
    fn nothing_is_fetched_unless_somebody_asks() {
        let asks = |steps: Vec<Step>| {
            let commands = steps.iter().map(|step| format!("{:?}", step.command));
            commands.filter(|it| it.contains("advisories")).count()
        };
        assert_eq!(asks(steps(false)), 0);
        assert_eq!(asks(steps(true)), WORKSPACES.len());
    }
}
