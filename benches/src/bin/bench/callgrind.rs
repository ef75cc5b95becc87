//! Instructions and allocations, which repeat: the same requests under valgrind, more and fewer.

use std::collections::HashMap;
use std::fs;
use std::thread;

use anyhow::Context as _;
use servers::install;
use servers::software::Software;

use crate::peers::{Peers, finish};
use actix_session_benches::case::Case;

/// How valgrind is found and installed.
const VALGRIND: Software = Software {
    name: "Valgrind",
    programs: &["valgrind"],
    variable: "VALGRIND_BIN",
    debian_packages: &["valgrind"],
    elsewhere: "Fedora: dnf install valgrind",
};

/// What a program has used, or what one request uses.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Use {
    /// Instructions in user space.
    pub(crate) instructions: f64,
    /// Calls that take memory from the heap, or another size of it.
    pub(crate) allocations: f64,
}

impl Use {
    /// What is used beyond `other`.
    #[must_use]
    pub(crate) fn above(self, other: Self) -> Self {
        Self {
            instructions: self.instructions - other.instructions,
            allocations: self.allocations - other.allocations,
        }
    }

    fn divided(self, by: f64) -> Self {
        Self {
            instructions: self.instructions / by,
            allocations: self.allocations / by,
        }
    }
}

/// The numbers of requests whose difference is divided by how many there are between them: what
/// the start of the program and the making of the session cost is in both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers(pub u32, pub u32);

impl Default for Numbers {
    fn default() -> Self {
        Self(1_000, 3_000)
    }
}

/// What one request of this case uses. `more` are further words for the program.
///
/// # Errors
/// Valgrind is missing and cannot be installed, or the program fails.
pub(crate) fn a_request(
    peers: &Peers,
    case: &Case,
    numbers: Numbers,
    more: &[String],
) -> anyhow::Result<Use> {
    let valgrind = install::ensure(&VALGRIND)?;
    let folder = tempfile::tempdir()?;
    let run = |n: u32| {
        let file = folder.path().join(n.to_string());
        let out = format!("--callgrind-out-file={}", file.display());
        let wrapper = [
            &*valgrind.to_string_lossy(),
            "--tool=callgrind",
            "--quiet",
            &out,
        ];
        let mut command = peers.command(&wrapper.map(str::to_owned))?;
        command.arg("repeat").args(case.words());
        command.arg(n.to_string()).args(more);
        finish(command)?;
        let text = fs::read_to_string(file)?;
        parse(&text).context("callgrind's file has no totals")
    };
    let (fewer, all) = thread::scope(|scope| {
        let fewer = scope.spawn(|| run(numbers.0));
        let all = run(numbers.1);
        (fewer.join(), all)
    });
    let fewer = fewer.map_err(|_| anyhow::anyhow!("a run of valgrind panicked"))??;
    Ok(all?.above(fewer).divided(f64::from(numbers.1 - numbers.0)))
}

/// What cases use above the bare framework, which is measured once for each kind of request.
#[derive(Debug)]
pub(crate) struct Above<'a> {
    peers: &'a Peers,
    numbers: Numbers,
    floors: HashMap<String, Use>,
}

impl<'a> Above<'a> {
    /// Nothing is measured yet.
    #[must_use]
    pub(crate) fn new(peers: &'a Peers, numbers: Numbers) -> Self {
        Self {
            peers,
            numbers,
            floors: HashMap::new(),
        }
    }

    /// What one request of this case uses above the bare framework.
    ///
    /// # Errors
    /// As [`a_request`].
    pub(crate) fn measure(&mut self, case: &Case) -> anyhow::Result<Use> {
        let all = a_request(self.peers, case, self.numbers, &[])?;
        let bare = case.bare();
        let name = bare.words().join(" ");
        if let Some(floor) = self.floors.get(&name) {
            return Ok(all.above(*floor));
        }
        let floor = a_request(self.peers, &bare, self.numbers, &[])?;
        self.floors.insert(name, floor);
        Ok(all.above(floor))
    }
}

/// The allocator's functions that take memory.
const TAKE: [&str; 6] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
];

/// Reads callgrind's format: a function's name stands beside its number only the first time.
fn parse(text: &str) -> Option<Use> {
    let (mut names, mut called, mut calls) = (HashMap::new(), "", 0.0);
    let mut totals = None;
    for line in text.lines() {
        let Some((field, value)) = line.split_once(['=', ':']) else {
            continue;
        };
        match field {
            "fn" | "cfn" => {
                let (number, name) = value.split_once(' ').unwrap_or((value, ""));
                let known = names.entry(number).or_insert(name);
                called = known;
            }
            "calls" if TAKE.contains(&called) => {
                calls += value.split(' ').next()?.parse::<f64>().ok()?;
            }
            "totals" => totals = value.trim().parse().ok(),
            _ => {}
        }
    }
    Some(Use {
        instructions: totals?,
        allocations: calls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_read() {
        let text = "\
version: 1
events: Ir
fn=(1) main
16 400
cfn=(2) malloc
calls=3 0
17 90
cfn=(3) free
calls=2 0
18 20
fn=(4) other
cfn=(2)
calls=4 0
19 120
fn=(2)
20 210
totals: 840
";
        let expected = Use {
            instructions: 840.0,
            allocations: 7.0,
        };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("fn=(1) main\n"), None);
    }
}
