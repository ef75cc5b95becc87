//! The program `peer`, and the servers that it needs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use servers::{PostgresServer, RedisServer};

use crate::select::Row;
use actix_session_benches::case::{Case, Kind};

/// Runs peers.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    redis: Option<RedisServer>,
    postgres: Option<PostgresServer>,
}

impl Peers {
    /// Starts the servers that these rows need, and installs them if they are missing.
    ///
    /// # Errors
    /// A server cannot be installed or started.
    pub(crate) fn start(rows: &[Row]) -> anyhow::Result<Self> {
        let need = |kind| rows.iter().any(|row| row.store.kind == kind);
        let mut peers = Self::default();
        if need(Kind::Redis) {
            servers::install::ensure(&servers::redis::SOFTWARE)?;
            peers.redis = Some(RedisServer::start()?);
        }
        if need(Kind::Postgres) {
            servers::install::ensure(&servers::postgres::SOFTWARE)?;
            peers.postgres = Some(PostgresServer::start()?);
        }
        Ok(peers)
    }

    /// The Redis server.
    ///
    /// # Errors
    /// No row needed it.
    pub(crate) fn redis(&self) -> anyhow::Result<&RedisServer> {
        self.redis.as_ref().context("no Redis was started")
    }

    /// The program, with the addresses of the servers. It is run by `wrapper` if that has words.
    pub(crate) fn command(&self, wrapper: &[String]) -> anyhow::Result<Command> {
        let program = std::env::current_exe()?.with_file_name("peer");
        ensure!(program.exists(), "{} is missing", program.display());
        let mut command = match wrapper {
            [] => Command::new(&program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        if let Some(redis) = &self.redis {
            command.env("REDIS_URL", redis.url());
        }
        if let Some(postgres) = &self.postgres {
            command.env("POSTGRES_URL", postgres.url());
        }
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Makes `n` requests, and returns the CPU time of one.
    pub(crate) fn repeat(&self, case: &Case, n: u32) -> anyhow::Result<Duration> {
        let mut command = self.command(&[])?;
        command.arg("repeat").args(case.words()).arg(n.to_string());
        let all = Duration::from_nanos(finish(command)?.trim().parse()?);
        Ok(all / n.max(1))
    }

    /// Makes `n` sessions. Returns the bytes of one, the time of reading one, and the longest time
    /// of making one, in nanoseconds.
    pub(crate) fn fill(&self, row: &Row, n: u32) -> anyhow::Result<[f64; 3]> {
        let mut command = self.command(&[])?;
        command.arg("fill");
        command.args([row.peer.to_string(), row.store.to_string(), n.to_string()]);
        let line = finish(command)?;
        let numbers: Vec<f64> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        <[f64; 3]>::try_from(numbers)
            .ok()
            .with_context(|| format!("{line:?} must be three numbers"))
    }

    /// Starts a server with so many threads.
    pub(crate) fn serve(&self, row: &Row, threads: usize) -> anyhow::Result<Served> {
        let mut command = self.command(&[])?;
        command.arg("serve");
        command.args([
            row.peer.to_string(),
            row.store.to_string(),
            threads.to_string(),
        ]);
        Served::start(command)
    }
}

/// Runs a command to its end, and returns what it printed.
pub(crate) fn finish(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A peer that serves. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) port: u16,
}

impl Served {
    /// Starts a program that prints its port, and ends when its input does.
    ///
    /// # Errors
    /// It cannot be started, or says no port.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = child.stdin.take().context("the input is not piped")?;
        let answers = child.stdout.take().context("the output is not piped")?;
        let answers = BufReader::new(answers);
        let mut served = Self {
            child,
            questions: Some(questions),
            answers,
            port: 0,
        };
        served.port = served.line()?.parse()?;
        Ok(served)
    }

    /// The CPU time that the process has used.
    pub(crate) fn cpu(&mut self) -> anyhow::Result<Duration> {
        let questions = self.questions.as_mut().context("the input is closed")?;
        questions.write_all(b"\n")?;
        Ok(Duration::from_nanos(self.line()?.parse()?))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the peer ended");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.questions = None;
        // It ends because its input has.
        let _ = self.child.wait();
    }
}
