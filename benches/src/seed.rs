//! The session that requests are about.

use std::str::FromStr;

use anyhow::Context as _;
use serde_json::{Map, Value};

/// The first number of the counter that `/write` increments.
pub const COUNTER: i64 = 100_000;

/// What the session has before the first request.
#[derive(Debug, Clone)]
pub struct Seed(pub(crate) Map<String, Value>);

impl Default for Seed {
    /// The case of all tables: ten entries, whose names and JSON texts have 984 bytes.
    fn default() -> Self {
        let entries = serde_json::from_str(include_str!("session.json"));
        Self(entries.expect("the file is an object"))
    }
}

impl FromStr for Seed {
    type Err = anyhow::Error;

    /// Reads `entries=100` or `bytes=1024`.
    fn from_str(word: &str) -> anyhow::Result<Self> {
        let wrong = || format!("`{word}` must be `entries=…` or `bytes=…`");
        let (what, count) = word.split_once('=').with_context(wrong)?;
        let count = count.parse().with_context(wrong)?;
        match what {
            "entries" => Ok(Self::of_entries(count)),
            "bytes" => Ok(Self::of_bytes(count)),
            _ => anyhow::bail!(wrong()),
        }
    }
}

impl Seed {
    /// So many entries of some 20 bytes: the ones that pages ask for, and others.
    #[must_use]
    pub fn of_entries(count: usize) -> Self {
        let mut seed = Self::asked_for();
        for n in seed.0.len()..count {
            seed.0.insert(format!("entry_{n:05}"), n.into());
        }
        seed
    }

    /// The entries that pages ask for, and one of so many bytes.
    #[must_use]
    pub fn of_bytes(bytes: usize) -> Self {
        let mut seed = Self::asked_for();
        seed.0.insert("text".to_owned(), "x".repeat(bytes).into());
        seed
    }

    fn asked_for() -> Self {
        let mut seed = Self::default();
        seed.0
            .retain(|name, _| ["name", "visits", "counter"].contains(&&**name));
        seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_case_has_the_size_that_the_figures_are_for() {
        let Seed(entries) = Seed::default();
        let texts: Map<String, Value> = entries
            .into_iter()
            .map(|(name, value)| (name, value.to_string().into()))
            .collect();
        let length = |(name, text): (&String, &Value)| name.len() + text.as_str().unwrap().len();
        assert_eq!(texts.len(), 10);
        assert_eq!(texts.iter().map(length).sum::<usize>(), 984);
        assert_eq!(Value::from(texts).to_string().len(), 1_171);
    }
}
