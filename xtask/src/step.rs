//! One thing to run.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A named command.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) command: Command,
}

impl Step {
    /// A call to cargo with these arguments.
    pub(crate) fn cargo<A: AsRef<OsStr>>(
        name: impl Into<String>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut command = cargo();
        command.args(arguments);
        Self {
            name: name.into(),
            command,
        }
    }

    /// The same with a variable set for the command.
    pub(crate) fn with(mut self, variable: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(variable, value);
        self
    }

    /// The same without a variable.
    pub(crate) fn without(mut self, variable: &str) -> Self {
        self.command.env_remove(variable);
        self
    }

    /// Whether the user's choice, if any, includes this step.
    pub(crate) fn is_chosen(&self, only: &[String]) -> bool {
        only.is_empty() || only.iter().any(|start| self.name.starts_with(start))
    }
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cargo that runs this program, as a person at a terminal would call it.
///
/// The variables that describe the package `xtask` are removed: build scripts that depend on them
/// would run again, here and in the next `cargo test` typed by hand.
pub(crate) fn cargo() -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_about_this_package) {
            command.env_remove(name);
        }
    }
    command
}

fn is_about_this_package(variable: &str) -> bool {
    [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
    ]
    .iter()
    .any(|start| variable.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_the_beginning_of_a_name_and_no_choice_is_everything() {
        let step = Step::cargo("feature memory-session", ["check"]);
        assert!(step.is_chosen(&[]));
        assert!(step.is_chosen(&["other".into(), "feature".into()]));
        assert!(!step.is_chosen(&["memory".into()]));
    }

    #[test]
    fn cargo_is_not_told_about_this_package() {
        let forgotten = |wanted: &str| {
            cargo()
                .get_envs()
                .any(|(name, value)| name == OsStr::new(wanted) && value.is_none())
        };
        assert!(forgotten("CARGO_PKG_NAME"), "cargo sets it for every test");
        assert!(!forgotten("CARGO_HOME"));
    }
}
