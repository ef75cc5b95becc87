//! `cargo xtask soak`: mixed load, and a fault every few seconds.

use std::process::ExitCode;
use std::str::FromStr;

use servers::software::Software;
use servers::{install, mariadb, postgres, redis};

use crate::Result;
use crate::runner::Runner;
use crate::step::Step;

/// What happens during the load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// Redis is killed, frozen, cut off, paused and filled.
    Redis,
    /// PostgreSQL is killed, frozen, cut off, failed over and forgotten by a firewall.
    Sql,
    /// Clients hang up at any moment.
    HangUps,
    /// Processes are killed between the steps of logins and renewals.
    Index,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Redis, Self::Sql, Self::HangUps, Self::Index];

    /// The word for it, which is the name of the tests' module too.
    fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Sql => "sql",
            Self::HangUps => "hangups",
            Self::Index => "index",
        }
    }

    fn needs(self) -> &'static [Software] {
        match self {
            Self::Redis => &[redis::SOFTWARE],
            Self::Sql => &[postgres::SOFTWARE],
            Self::HangUps => &[redis::SOFTWARE, postgres::SOFTWARE],
            Self::Index => &[redis::SOFTWARE, postgres::SOFTWARE, mariadb::SOFTWARE],
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Self, String> {
        let mode = Self::ALL.into_iter().find(|mode| mode.name() == word);
        mode.ok_or_else(|| format!("`{word}` must be `redis`, `sql`, `hangups` or `index`"))
    }
}

/// Runs the load for so many seconds each, and shows what was observed. It fails if something was
/// lost or came back, or if requests did not work soon enough once the back end did.
pub(crate) fn run(modes: &[Mode], seconds: u32) -> Result<ExitCode> {
    let runner = Runner::new()?;
    let modes = if modes.is_empty() { &Mode::ALL } else { modes };
    let steps = modes.iter().map(|mode| step(*mode, seconds));
    runner.run(steps.collect::<Result<_>>()?, &[])
}

fn step(mode: Mode, seconds: u32) -> Result<Step> {
    let tests = format!("soak::{}::", mode.name());
    let arguments = [&BUILD[..], &[&tests, "--", "--nocapture"]].concat();
    let step = Step::cargo(format!("soak {}", mode.name()), arguments)
        .with("SOAK_SECONDS", seconds.to_string());
    mode.needs().iter().try_fold(step, |step, software| {
        Ok(step.with(software.variable, install::ensure(software)?))
    })
}

const BUILD: [&str; 6] = [
    "test",
    "--manifest-path",
    "actix-session/Cargo.toml",
    "--all-features",
    "--test",
    "it",
];
