//! `actix-identity`, as published, over this library: a separate project, because a patch needs one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn cargo(project: &Path, arguments: &[&str]) -> Result<(), String> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(project)
        // Kept, so that only the first run builds everything.
        .env("CARGO_TARGET_DIR", target().join("interop-identity"))
        .output()
        .expect("cargo exists, since it runs this test");
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!(
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    ))
}

/// The workspace's target folder.
fn target() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = temporary
        .parent()
        .expect("CARGO_TARGET_TMPDIR is inside the target folder");
    target.to_owned()
}

#[test]
fn actix_identity_works_over_ours() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixture = here.join("fixtures/identity");
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("identity");
    fs::create_dir_all(project.join("src")).unwrap();

    let template = fs::read_to_string(fixture.join("Cargo.template.toml")).unwrap();
    let library = here.parent().unwrap().join("actix-session");
    let library = library.to_str().expect("a path that is text");
    let manifest = template.replace("{{actix-session}}", library);
    assert_ne!(manifest, template);
    fs::write(project.join("Cargo.toml"), manifest).unwrap();
    fs::copy(fixture.join("src/lib.rs"), project.join("src/lib.rs")).unwrap();

    // Crates that were downloaded before are enough, if they are there.
    if cargo(&project, &["generate-lockfile", "--offline"]).is_err() {
        cargo(&project, &["generate-lockfile"]).unwrap();
    }
    let used = fs::read_to_string(project.join("Cargo.lock")).unwrap();
    let ours = used
        .split("[[package]]")
        .filter(|p| p.contains("\nname = \"actix-session\"\n"));
    let ours: Vec<_> = ours.collect();
    assert_eq!(ours.len(), 1, "one actix-session");
    assert!(!ours[0].contains("source = "), "and it is ours: {ours:?}");

    let tested = cargo(&project, &["test", "--locked"]);
    tested.unwrap_or_else(|output| panic!("{output}"));
}
