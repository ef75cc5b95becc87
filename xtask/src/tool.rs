//! Programs of others that extend cargo.

use std::process::{ExitCode, Stdio};

use crate::Result;
use crate::runner::Runner;
use crate::step::{Step, cargo};

/// A subcommand of cargo, in the registry as `cargo-NAME`.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    /// What is installed if there is none: another version may find other things.
    pub(crate) version: &'static str,
}

impl Tool {
    /// Installs the tool if it is missing, and runs the steps.
    pub(crate) fn run(&self, runner: &Runner, steps: Vec<Step>) -> Result<ExitCode> {
        if !self.is_installed() {
            let installed = runner.run(vec![self.install()], &[])?;
            if installed != ExitCode::SUCCESS {
                return Ok(installed);
            }
        }
        runner.run(steps, &[])
    }

    fn is_installed(&self) -> bool {
        let mut asked = cargo();
        asked.args([self.name, "--version"]);
        asked.stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success())
    }

    fn install(&self) -> Step {
        let package = format!("cargo-{}@{}", self.name, self.version);
        let name = format!("install cargo-{}", self.name);
        // Such programs run for seconds, and take minutes less to build so.
        Step::cargo(name, ["install", "--debug", "--locked", &package])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_is_installed() {
        let tool = Tool {
            name: "absent-from-every-machine",
            version: "1.2.3",
        };
        assert!(!tool.is_installed());
        let install = format!("{:?}", tool.install().command);
        assert!(
            install.ends_with(
                r#""install" "--debug" "--locked" "cargo-absent-from-every-machine@1.2.3""#
            ),
            "{install}"
        );
    }
}
