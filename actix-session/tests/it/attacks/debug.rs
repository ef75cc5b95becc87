//! T-67: what public types print.

use std::path::{Path, PathBuf};

use super::{attacks, capture, types};

attacks! {
    every: [],
    lasting: [],
    server: [],
    timed: [],
    cookie: [],
    alone: [t67_debug, t67_list_is_complete],
}

/// All files of the library.
pub(crate) fn sources() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

async fn t67_debug() {
    capture::install();
    for (name, text) in types::all().await {
        assert!(!text.is_empty());
        let leaks = capture::leaks_in(&text);
        assert!(leaks.is_empty(), "{name} shows {leaks:?}: {text}");
    }
}

/// A new public type has to be added to the table.
async fn t67_list_is_complete() {
    capture::install();
    let shown: Vec<&str> = types::all().await.iter().map(|(name, _)| *name).collect();
    // Made by a macro.
    let mut public: Vec<String> = ["Get", "Insert", "Update", "Login", "Purge"]
        .map(|kind| format!("Session{kind}Error"))
        .into();
    // Built for the fuzzing targets alone.
    let shipped = |path: &PathBuf| !path.ends_with("src/fuzzing.rs");
    for file in sources().into_iter().filter(shipped) {
        public.extend(public_types(&file));
    }
    assert!(public.len() > 40, "{public:?}");
    for name in public {
        assert!(shown.contains(&&*name), "add {name} to `types.rs`");
    }
}

fn public_types(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let name = |line: &str| {
        let rest = line
            .strip_prefix("pub struct ")
            .or_else(|| line.strip_prefix("pub enum "))?;
        let end = rest.find(|c: char| !c.is_alphanumeric());
        Some(rest[..end.unwrap_or(rest.len())].to_owned())
    };
    text.lines().filter_map(name).collect()
}
