//! `cargo xtask minimal`: whether the library builds with the least versions that it asks for.
//!
//! An application may have them in its lock file. The repository's own has later ones, so that a
//! requirement that is too low shows nowhere else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Result;
use crate::runner::Runner;
use crate::step::{Step, root};

/// Makes a workspace of the library alone, chooses the versions, and builds it.
pub(crate) fn run() -> Result<ExitCode> {
    let runner = Runner::new()?;
    lay_out()?;
    let chosen = runner.run(vec![choose()], &[])?;
    if chosen != ExitCode::SUCCESS {
        return Ok(chosen);
    }
    runner.run(vec![build()], &[])
}

/// Without its tests, whose dependencies would ask for later versions.
fn lay_out() -> Result<()> {
    let library = folder().join("actix-session");
    if folder().exists() {
        fs::remove_dir_all(folder())?;
    }
    fs::create_dir_all(&library)?;
    let workspace = fs::read_to_string(root().join("Cargo.toml"))?;
    fs::write(folder().join("Cargo.toml"), alone(&workspace))?;
    let manifest = fs::read_to_string(root().join("actix-session/Cargo.toml"))?;
    fs::write(library.join("Cargo.toml"), without_tests(&manifest))?;
    let folder = fs::canonicalize(root().join("actix-session"))?;
    for part in ["src", "docs"] {
        symlink(folder.join(part), library.join(part))?;
    }
    Ok(())
}

/// The workspace with the library as its only member.
fn alone(manifest: &str) -> String {
    let lines = manifest
        .lines()
        .filter_map(|line| match line.split(' ').next() {
            Some("members") => Some("members = [\"actix-session\"]"),
            Some("default-members") => None,
            _ => Some(line),
        });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The manifest without what is about tests, examples and benches.
fn without_tests(manifest: &str) -> String {
    const LEFT_OUT: [&str; 4] = ["[dev-dependencies]", "[[example]]", "[[test]]", "[[bench]]"];
    let mut is_kept = true;
    let mut kept = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_kept = !LEFT_OUT.contains(&line.trim_end());
        }
        if is_kept {
            kept.extend([line, "\n"]);
        }
    }
    kept
}

/// Writes the lock file. Stable compilers do that only if they are told to behave like others.
fn choose() -> Step {
    let update = ["update", "-Zdirect-minimal-versions"];
    step("least versions: choose", &update).with("RUSTC_BOOTSTRAP", "1")
}

fn build() -> Step {
    let check = ["check", "--locked", "--all-features"];
    step("least versions: build", &check)
        .with("CARGO_TARGET_DIR", root().join("target/minimal-build"))
}

fn step(name: &str, words: &[&str]) -> Step {
    let mut step = Step::cargo(name, words);
    step.command.current_dir(folder());
    step
}

fn folder() -> PathBuf {
    root().join("target/minimal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_ask_for_is_left_out() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\n\n[dev-dependencies]\nb = \"2\"\n\
            [[test]]\nname = \"t\"\nrequired-features = [\n    \"f\",\n]\n[lints]\nworkspace = true\n";
        assert_eq!(
            without_tests(manifest),
            "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\n\n[lints]\nworkspace = true\n"
        );
    }

    #[test]
    fn the_workspace_has_one_member() {
        let manifest =
            "[workspace]\nmembers = [\"a\", \"b\"]\ndefault-members = [\"a\"]\nresolver = \"3\"\n";
        assert_eq!(
            alone(manifest),
            "[workspace]\nmembers = [\"actix-session\"]\nresolver = \"3\"\n"
        );
        let ours = alone(&fs::read_to_string(root().join("Cargo.toml")).unwrap());
        assert!(!ours.contains("xtask"), "{ours}");
    }
}
