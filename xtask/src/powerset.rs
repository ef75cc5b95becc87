//! `cargo xtask powerset`: combinations of features, beside each alone that `cargo xtask check` has.

use std::process::ExitCode;

use crate::Result;
use crate::features::Library;
use crate::runner::Runner;
use crate::step::{Step, root};
use crate::tool::Tool;

const TOOL: Tool = Tool {
    name: "hack",
    version: "0.6.46",
};

/// Lints every combination of stores, and every two of all features.
pub(crate) fn run() -> Result<ExitCode> {
    let library = Library::find("actix-session")?;
    TOOL.run(&Runner::new()?, steps(&library))
}

fn steps(library: &Library) -> Vec<Step> {
    vec![
        step("every combination of stores", &library.stores, None),
        step("every two features", &library.features, Some(2)),
    ]
}

/// Combinations of so many features, or of all.
fn step(name: &str, features: &[String], depth: Option<usize>) -> Step {
    let hack = ["hack", "clippy", "--feature-powerset", "--keep-going"];
    let mut step = Step::cargo(name, hack);
    let command = &mut step.command;
    command.current_dir(root());
    command.args(["--manifest-path", "actix-session/Cargo.toml"]);
    command.args(["--include-features", &features.join(",")]);
    if let Some(depth) = depth {
        command.args(["--depth", &depth.to_string()]);
    }
    command.args(["--", "-D", "warnings"]);
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_stores_are_those_of_the_documentation() {
        let library = Library::find("actix-session").unwrap();
        let stores = "cookie key-value memory mysql postgres redis sqlite".split(' ');
        let stores: Vec<_> = stores.map(|store| format!("{store}-session")).collect();
        assert_eq!(library.stores, stores);
        assert!(library.features.len() > stores.len());
    }
}
