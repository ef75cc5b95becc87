//! `actix-identity` and `actix-web-flash-messages`, as published, over this library: a separate project,
//! because a patch needs one.

#![expect(
    clippy::unwrap_used,
    reason = "a project that cannot be made is a failed test"
)]

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
        .env("CARGO_TARGET_DIR", target().join("interop"))
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

const FLASH: &str = r#"actix-web-flash-messages = { version = "=0.5.1", features = ["sessions"] }"#;

/// A published version, the line that its `[patch]` needs besides ours, and how it spells.
struct Dependant {
    version: &'static str,
    older: &'static str,
    spelling: &'static str,
    /// Whether the fixture `flash` is tested with it: its crate asks for 0.10 alone.
    flashes: bool,
}

#[test]
fn actix_identity_0_9_works_over_ours() {
    works_over_ours(&Dependant {
        version: "0.9.0",
        older: "",
        spelling: "behavior",
        flashes: false,
    });
}

#[test]
fn actix_identity_0_8_works_over_compat_0_10() {
    works_over_ours(&Dependant {
        version: "0.8.0",
        older: "actix-session-0-10 = { package = \"actix-session\", path = \"{{repository}}/compat/0.10\" }",
        spelling: "behaviour",
        flashes: true,
    });
}

#[test]
fn actix_identity_0_7_works_over_compat_0_9() {
    works_over_ours(&Dependant {
        version: "0.7.1",
        older: "actix-session-0-9 = { package = \"actix-session\", path = \"{{repository}}/compat/0.9\" }",
        spelling: "behaviour",
        flashes: false,
    });
}

fn works_over_ours(dependant: &Dependant) {
    let project = copy(dependant);
    // Crates that were downloaded before are enough, if they are there.
    if cargo(&project, &["generate-lockfile", "--offline"]).is_err() {
        cargo(&project, &["generate-lockfile"]).unwrap();
    }
    let used = fs::read_to_string(project.join("Cargo.lock")).unwrap();
    let sessions = used
        .split("[[package]]")
        .filter(|p| p.contains("\nname = \"actix-session\"\n"));
    let sessions: Vec<_> = sessions.collect();
    let expected = if dependant.older.is_empty() { 1 } else { 2 };
    assert_eq!(sessions.len(), expected, "{sessions:?}");
    let published = sessions.iter().any(|p| p.contains("source = "));
    assert!(!published, "all are ours: {sessions:?}");

    let tested = cargo(&project, &["test", "--locked"]);
    tested.unwrap_or_else(|output| panic!("{output}"));
}

/// The fixture as a project of its own, for this version.
fn copy(dependant: &Dependant) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixture = here.join("fixtures/identity");
    let name = format!("identity-{}", dependant.version);
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(project.join("src")).unwrap();

    let template = fs::read_to_string(fixture.join("Cargo.template.toml")).unwrap();
    let repository = here.parent().unwrap();
    let repository = repository.to_str().expect("a path that is text");
    let manifest = template
        .replace("{{actix-identity}}", dependant.version)
        .replace("{{older}}", dependant.older)
        .replace("{{flash}}", if dependant.flashes { FLASH } else { "" })
        .replace("{{repository}}", repository);
    assert!(!manifest.contains("{{"), "{manifest}");
    fs::write(project.join("Cargo.toml"), manifest).unwrap();

    let source = fs::read_to_string(fixture.join("src/lib.rs")).unwrap();
    let source = source.replace("behavior(", &format!("{}(", dependant.spelling));
    let behavior = dependant.spelling.replace("be", "Be");
    let source = source.replace("LogoutBehavior", &format!("Logout{behavior}"));
    let flash = if dependant.flashes {
        "mod flash;\n"
    } else {
        ""
    };
    fs::write(project.join("src/lib.rs"), source + flash).unwrap();
    fs::copy(fixture.join("src/flash.rs"), project.join("src/flash.rs")).unwrap();
    project
}
