//! The page with the figures. People write it; the parts between two comments are measured.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The folder of the documentation.
fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../actix-session/docs")
}

/// Replaces a measured part of the page.
///
/// # Errors
/// The page has no such part, or cannot be read or written.
pub(crate) fn replace(part: &str, text: &str) -> anyhow::Result<()> {
    replace_in(&docs().join("performance.md"), part, text)
}

/// Replaces the short table of the README.
///
/// # Errors
/// As [`replace`].
pub(crate) fn replace_in_readme(text: &str) -> anyhow::Result<()> {
    replace_in(&docs().join("../../README.md"), "short", text)
}

fn replace_in(file: &Path, part: &str, text: &str) -> anyhow::Result<()> {
    let old = fs::read_to_string(file)?;
    let new = replaced(&old, part, text);
    let new = new.with_context(|| format!("{} has no part `{part}`", file.display()))?;
    Ok(fs::write(file, new)?)
}

fn replaced(page: &str, part: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- measured: {part} -->\n");
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once("<!-- end -->")?;
    Some(format!(
        "{before}{begin}\n{}\n\n<!-- end -->{after}",
        text.trim()
    ))
}

/// Writes a plot beside the page.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn plot(name: &str, svg: &str) -> anyhow::Result<()> {
    let folder = docs().join("performance");
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(format!("{name}.svg")), svg)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_have_every_part() {
        let page = fs::read_to_string(docs().join("performance.md")).unwrap();
        for measure in crate::measure::ALL {
            assert!(
                replaced(&page, &measure.to_string(), "x").is_some(),
                "{measure}"
            );
        }
        let readme = fs::read_to_string(docs().join("../../README.md")).unwrap();
        assert!(replaced(&readme, "short", "x").is_some());
    }

    #[test]
    fn only_the_part_is_replaced() {
        let page = "a\n<!-- measured: x -->\nold\n<!-- end -->\nb\n<!-- measured: y -->\nkept\n<!-- end -->\n";
        let new = replaced(page, "x", "new\n").unwrap();
        assert!(
            new.starts_with("a\n<!-- measured: x -->\n\nnew\n\n<!-- end -->\nb\n"),
            "{new}"
        );
        assert!(new.contains("kept") && !new.contains("old"), "{new}");
        assert_eq!(replaced(&new, "x", "new").as_deref(), Some(&*new));
        assert_eq!(replaced(page, "z", ""), None);
    }
}
