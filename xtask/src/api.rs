//! `cargo xtask api`: what programs can name of the library, compared with what they could name
//! before, and with what the published version offers.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use public_api::Builder;

use crate::features::Library;
use crate::runner::Runner;
use crate::step::{Step, root};
use crate::{Result, say};

/// The library's, as it was when somebody last accepted it.
const PRESENT: &str = "api/present.txt";
/// That of the published version.
const PUBLISHED: &str = "api/published-0.11.0.txt";
/// Lines of the published version that the library says in another way.
const EXCEPTIONS: &str = "api/exceptions.txt";

/// Markers that the compiler gives, and that no program asks for.
const UNASKED: [&str; 2] = ["core::marker::Freeze", "core::marker::UnsafeUnpin"];

type Lines = BTreeSet<String>;

/// Compares, or with `accept` writes down what there is. Of what was published, nothing may be missing
/// either way.
pub(crate) fn run(accept: bool) -> Result<ExitCode> {
    let library = Library::find("actix-session")?;
    let documented = Runner::new()?.run(vec![document()?], &[])?;
    if documented != ExitCode::SUCCESS {
        return Ok(documented);
    }
    let present = listed(&library.target.join("doc/actix_session.json"))?;
    let (published, exceptions) = (read(PUBLISHED)?, read(EXCEPTIONS)?);
    let missing = missing(&published, &present, &exceptions);
    for line in &missing {
        say(&format!("published, and missing here: {line}"));
    }
    if accept {
        let text: String = present.iter().map(|line| format!("{line}\n")).collect();
        fs::write(root().join(PRESENT), text)?;
    }
    let changes = changes(&read(PRESENT)?, &present);
    for line in &changes {
        say(line);
    }
    if !changes.is_empty() {
        say("if that is meant: `cargo xtask api --accept`, and a line in CHANGELOG.md");
    }
    let is_same = missing.is_empty() && changes.is_empty();
    Ok(if is_same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Has the library documented for programs to read, with all that is documented for people: so nothing that
/// it needs is built once more. This program stands in for the compiler of documentation.
fn document() -> Result<Step> {
    let words = ["doc", "--no-deps", "--all-features", "--workspace"];
    Ok(Step::cargo("public API", words)
        .with("RUSTDOCFLAGS", "-Zunstable-options --output-format json")
        .with("RUSTDOC", env::current_exe()?)
        .with(STANDS_IN, "1"))
}

/// Set if cargo calls this program as if it were `rustdoc`.
const STANDS_IN: &str = "XTASK_IS_RUSTDOC";

/// Calls `rustdoc` with these arguments, if cargo has asked for that. Stable compilers document for programs
/// only if they are told to behave like others. The rest of cargo must not hear of it: it would build
/// everything anew.
pub(crate) fn stand_in(arguments: impl Iterator<Item = OsString>) -> Option<Result<ExitCode>> {
    env::var_os(STANDS_IN)?;
    let mut rustdoc = Command::new("rustdoc");
    rustdoc.args(arguments).env("RUSTC_BOOTSTRAP", "1");
    Some(match rustdoc.status() {
        Ok(status) if status.success() => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::FAILURE),
        Err(error) => Err(format!("rustdoc: {error}").into()),
    })
}

fn listed(documentation: &Path) -> Result<Lines> {
    let api = Builder::from_rustdoc_json(documentation)
        .omit_blanket_impls(true)
        .build()
        .map_err(|error| {
            format!(
                "the version of `public-api` in xtask/Cargo.toml must be the one for this compiler: {error}"
            )
        })?;
    let lines = api.items().map(ToString::to_string);
    let is_asked_for = |line: &String| !UNASKED.iter().any(|marker| line.contains(marker));
    Ok(lines.filter(is_asked_for).collect())
}

/// Empty lines and those that begin with `#` are for people.
fn read(path: &str) -> Result<Lines> {
    let text = fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))?;
    let lines = text.lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("# "));
    Ok(lines.map(str::to_owned).collect())
}

fn missing<'a>(published: &'a Lines, present: &Lines, exceptions: &Lines) -> Vec<&'a String> {
    let all = published.iter();
    all.filter(|line| !present.contains(*line) && !exceptions.contains(*line))
        .collect()
}

fn changes(before: &Lines, now: &Lines) -> Vec<String> {
    let gone = before.difference(now).map(|line| format!("- {line}"));
    let new = now.difference(before).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(all: &[&str]) -> Lines {
        all.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn what_was_published_is_there_or_an_exception() {
        let published = lines(&["fn a()", "fn b()", "fn c()"]);
        let (present, exceptions) = (lines(&["fn a()", "fn d()"]), lines(&["fn b()"]));
        assert_eq!(missing(&published, &present, &exceptions), ["fn c()"]);
    }

    #[test]
    fn a_change_says_what_has_gone_and_what_is_new() {
        let (before, now) = (lines(&["fn a()", "fn b()"]), lines(&["fn b()", "fn c()"]));
        assert_eq!(changes(&before, &now), ["- fn a()", "+ fn c()"]);
        assert!(changes(&now, &now).is_empty());
    }

    /// An exception for what nobody has published is left over.
    #[test]
    fn each_exception_is_for_a_line_that_was_published() {
        let (published, exceptions) = (read(PUBLISHED).unwrap(), read(EXCEPTIONS).unwrap());
        let left_over: Vec<_> = exceptions.difference(&published).collect();
        assert!(left_over.is_empty(), "{left_over:?}");
    }
}
