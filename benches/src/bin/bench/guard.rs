//! The guard: a few counts, which must not grow by more than a little.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::callgrind::{Above, Numbers};
use crate::peers::Peers;
use crate::table::whole;
use actix_session_benches::case::Case;
use actix_session_benches::say;

/// How much a count may grow, as a share.
const TOLERANCE: f64 = 0.03;

/// Counts repeat, so fewer requests than for the tables are enough.
const NUMBERS: Numbers = Numbers(100, 400);

/// A case and the instructions that it may take.
#[derive(Debug)]
struct Line {
    words: String,
    case: Case,
    allowed: f64,
}

/// Counts the cases of the file again, and fails if one has grown.
///
/// # Errors
/// A count has grown by more than 3 %, or valgrind is missing and cannot be installed.
pub(crate) fn check() -> anyhow::Result<()> {
    let lines = read(&fs::read_to_string(file())?)?;
    let mut grown = Vec::new();
    for (line, now) in count(lines)? {
        let share = now / line.allowed - 1.0;
        let (before, after) = (whole(line.allowed), whole(now));
        let text = format!(
            "{}: {before} to {after} ({:+.1} %)",
            line.words,
            share * 100.0
        );
        say(&text);
        if share > TOLERANCE {
            grown.push(text);
        }
    }
    ensure!(
        grown.is_empty(),
        "more instructions than benches/guard.txt allows:\n    {}\nMake it cheaper, or accept the \
         growth: cargo xtask bench --accept. Another compiler or processor counts differently; the \
         file says which one counted.",
        grown.join("\n    ")
    );
    Ok(())
}

/// Counts the cases of the file again, and writes what they take now.
///
/// # Errors
/// As [`check`].
pub(crate) fn accept() -> anyhow::Result<()> {
    let text = fs::read_to_string(file())?;
    let lines = read(&text)?;
    let kept = text
        .lines()
        .take_while(|line| line.starts_with('#') && !line.starts_with("# Counted"));
    let mut new: Vec<String> = kept.map(str::to_owned).collect();
    new.push(format!("# Counted with {}.", compiler()?));
    for (line, now) in count(lines)? {
        new.push(format!("{} {now:.0}", line.words));
    }
    new.push(String::new());
    let new = new.join("\n");
    say(&new);
    Ok(fs::write(file(), new)?)
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guard.txt")
}

fn compiler() -> anyhow::Result<String> {
    let output = std::process::Command::new("rustc")
        .arg("--version")
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn count(lines: Vec<Line>) -> anyhow::Result<Vec<(Line, f64)>> {
    let peers = Peers::default();
    let mut above = Above::new(&peers, NUMBERS);
    let mut counted = Vec::new();
    for line in lines {
        let now = above.measure(&line.case)?.instructions;
        counted.push((line, now));
    }
    Ok(counted)
}

fn read(text: &str) -> anyhow::Result<Vec<Line>> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let lines: Vec<Line> = lines.map(line).collect::<anyhow::Result<_>>()?;
    ensure!(!lines.is_empty(), "the file has no case");
    Ok(lines)
}

fn line(text: &str) -> anyhow::Result<Line> {
    let (words, allowed) = text.rsplit_once(' ').context("a line has one word")?;
    Ok(Line {
        words: words.to_owned(),
        case: Case::read(&mut words.split(' ').map(str::to_owned))?,
        allowed: allowed
            .parse()
            .with_context(|| format!("`{allowed}` must be a number"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_six_cases() {
        let lines = read(&fs::read_to_string(file()).unwrap()).unwrap();
        assert_eq!(lines.len(), 6);
        assert!(read("# nothing\n").is_err());
        assert!(read("ours memory read cookie x\n").is_err());
    }
}
