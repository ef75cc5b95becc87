//! The README's first program: its commands, as printed, by somebody who has only cloned the
//! repository.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a project that cannot be made is a failed test"
)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn the_first_program_of_the_readme_builds() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(repository.join("README.md")).unwrap();
    let commands = block(&readme, "console", "library=");
    let program = block(&readme, "rust,no_run", "use actix_session");

    let folder = tempfile::tempdir().unwrap();
    let clone = lookalike(repository, folder.path());
    let made = folder.path().join("clicks");
    let script = format!("set -e\n{commands}\ncp \"$PROGRAM\" src/main.rs\ncargo check\n");
    let source = folder.path().join("program.rs");
    fs::write(&source, program).unwrap();

    // Crates that were downloaded before are enough, if they are there.
    if run(&script, &clone, &source, true).is_err() {
        let _never_made = fs::remove_dir_all(&made);
        run(&script, &clone, &source, false).unwrap_or_else(|output| panic!("{output}"));
    }
    let lock = fs::read_to_string(made.join("Cargo.lock")).unwrap();
    let (_, ours) = lock.split_once("name = \"actix-session\"").unwrap();
    let (ours, _) = ours.split_once("[[package]]").unwrap();
    assert!(!ours.contains("source = "), "the published one: {ours}");
}

/// The code block in this language that begins with these words.
fn block<'a>(page: &'a str, language: &str, begins: &str) -> &'a str {
    let start = format!("```{language}\n");
    let mut blocks = page.split(start.as_str()).skip(1);
    let block = blocks.find(|block| block.starts_with(begins));
    let block = block.unwrap_or_else(|| panic!("no {language} block begins with {begins:?}"));
    block.split_once("```").expect("the block ends").0
}

/// A folder with the repository's contents. What the commands make beside it is made in `parent`.
fn lookalike(repository: &Path, parent: &Path) -> PathBuf {
    let clone = parent.join("clone");
    fs::create_dir(&clone).unwrap();
    for entry in fs::read_dir(repository).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), clone.join(entry.file_name())).unwrap();
    }
    clone
}

fn run(script: &str, clone: &Path, program: &Path, offline: bool) -> Result<(), String> {
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(clone)
        .env("PWD", clone)
        .env("PROGRAM", program)
        .env("CARGO_NET_OFFLINE", offline.to_string())
        // Kept, so that only the first run builds everything.
        .env("CARGO_TARGET_DIR", target().join("interop"))
        .output()
        .expect("there is a shell");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The workspace's target folder.
fn target() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = temporary.parent();
    target.expect("it is inside the target folder").to_owned()
}
