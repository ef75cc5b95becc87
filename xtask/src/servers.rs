//! The servers that tests need, and `cargo xtask servers`.

use std::process::ExitCode;

use servers::{
    MariaDbServer, PostgresServer, RedisServer, install, mariadb, pgbouncer, postgres, redis,
};

use crate::runner::Runner;
use crate::step::Step;
use crate::{Result, say};

/// The servers of a run. Dropping this stops them.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The environment of the tests.
    variables: Vec<(&'static str, String)>,
    _redis: RedisServer,
    _postgres: PostgresServer,
    _mariadb: MariaDbServer,
}

impl Servers {
    /// Installs what is missing and starts everything.
    pub(crate) fn start() -> Result<Self> {
        let kinds = [
            redis::SOFTWARE,
            postgres::SOFTWARE,
            mariadb::SOFTWARE,
            pgbouncer::SOFTWARE,
        ];
        let mut variables = Vec::new();
        for kind in &kinds {
            let program = install::ensure(kind)?;
            variables.push((kind.variable, program.display().to_string()));
        }
        let redis = RedisServer::start()?;
        let postgres = PostgresServer::start()?;
        let mariadb = MariaDbServer::start()?;
        variables.extend([
            ("REDIS_URL", redis.url()),
            ("POSTGRES_URL", postgres.url()),
            ("MYSQL_URL", mariadb.url()),
        ]);
        Ok(Self {
            variables,
            _redis: redis,
            _postgres: postgres,
            _mariadb: mariadb,
        })
    }

    /// Adds the servers' URLs to a step's environment.
    pub(crate) fn add_to(&self, step: Step) -> Step {
        self.variables
            .iter()
            .fold(step, |step, (name, value)| step.with(name, value))
    }
}

/// Starts the servers, prints their URLs, and waits.
pub(crate) fn run() -> Result<ExitCode> {
    let runner = Runner::new()?;
    let servers = Servers::start()?;
    let is_url = |name: &str| name.ends_with("_URL");
    for (name, value) in servers.variables.iter().filter(|(name, _)| is_url(name)) {
        say(&format!("{name}={value}"));
    }
    eprintln!("the servers are up until Ctrl-C");
    Ok(runner.wait_for_signal())
}
