//! What sites wrote down before they were killed: answers, failures, and where they died.

use std::{collections::BTreeMap, fs, path::Path};

fn lines(journal: &Path) -> Vec<String> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    // A line that was being written is none.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(str::to_owned).collect()
}

/// The last cookies, with whose they were.
pub(super) fn cookies(journal: &Path, most: usize) -> Vec<(usize, String)> {
    let lines = lines(journal);
    let told = lines.iter().rev().filter_map(|line| {
        let mut parts = line.split('\t');
        let is_cookie = matches!(parts.next(), Some("made" | "kept"));
        let (user, value) = (parts.next()?, parts.next()?);
        is_cookie.then_some((user.parse().ok()?, value.to_owned()))
    });
    let mut known: Vec<_> = told.take(most).collect();
    known.reverse();
    known
}

/// How many lines there are of each kind.
pub(super) fn tally(journal: &Path) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for line in lines(journal) {
        let mut parts = line.split('\t');
        let mut kind = parts.next().unwrap_or_default().to_owned();
        if kind == "failed" {
            kind = format!("failed {}", parts.next().unwrap_or_default());
        }
        *tally.entry(kind).or_default() += 1;
    }
    tally
}
