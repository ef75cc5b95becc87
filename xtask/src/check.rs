//! `cargo xtask check`: everything that judges the code without running it.

use std::process::ExitCode;

use crate::Result;
use crate::bench;
use crate::features::Library;
use crate::fuzz;
use crate::runner::Runner;
use crate::step::Step;

/// Runs the checks, all of them even if one fails.
pub(crate) fn run(only: &[String]) -> Result<ExitCode> {
    let runner = Runner::new()?;
    servers::install::ensure_openssl()?;
    let mut steps = steps(&Library::find("actix-session")?);
    steps.extend(bench::checks());
    steps.extend(fuzz::checks()?);
    runner.run(steps, only)
}

/// The checks, in order.
fn steps(library: &Library) -> Vec<Step> {
    let mut steps = vec![
        Step::cargo("format", ["fmt", "--all", "--check"]),
        Step::cargo("lints", LINTS),
        // Before the public pages, so that these are the ones left in the target folder.
        doc(
            "internal documentation",
            &["--workspace", "--document-private-items"],
        ),
        doc("documentation", &["--workspace"]),
        package(library),
        feature(library, "no feature", None),
    ];
    steps.extend(
        library
            .features
            .iter()
            .map(|name| feature(library, &format!("feature {name}"), Some(name))),
    );
    steps
}

const LINTS: [&str; 7] = [
    "clippy",
    "--workspace",
    "--all-targets",
    "--all-features",
    "--",
    "-D",
    "warnings",
];

fn doc(name: &str, selection: &[&str]) -> Step {
    let arguments = ["doc", "--no-deps", "--all-features"]
        .iter()
        .chain(selection);
    Step::cargo(name, arguments).with("RUSTDOCFLAGS", "-D warnings")
}

/// What the registry would get. Building it again would show nothing that the other steps do not.
fn package(library: &Library) -> Step {
    let words = ["package", "--no-verify", "--allow-dirty", "--package"];
    Step::cargo("package", words.iter().chain(&[&*library.id]))
}

/// The library must build with each feature alone: applications choose one, and `--all-features`
/// would hide a dependency that the feature forgets to enable. A warning is a failure, too.
fn feature(library: &Library, name: &str, feature: Option<&str>) -> Step {
    let own = ["clippy", "--package", &library.id, "--no-default-features"];
    let chosen = feature
        .into_iter()
        .flat_map(|feature| ["--features", feature]);
    Step::cargo(
        name,
        own.into_iter()
            .chain(chosen)
            .chain(["--", "-D", "warnings"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_has_a_step_of_its_own() {
        let features = vec!["one".to_owned(), "two".to_owned()];
        let steps = steps(&Library {
            id: "path+file:///x#lib@1.0.0".into(),
            features,
            stores: Vec::new(),
            target: "t".into(),
        });
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert!(
            names.ends_with(&["no feature", "feature one", "feature two"]),
            "{names:?}"
        );
        let last = format!("{:?}", steps.last().unwrap().command);
        assert!(
            last.contains(r#""--no-default-features" "--features" "two""#),
            "{last}"
        );
    }
}
