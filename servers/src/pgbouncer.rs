//! PgBouncer, a pooler before PostgreSQL.

use std::fs;
use std::io;
use std::process::Command;

use crate::Error;
use crate::postgres::{Postgres, greets};
use crate::server::{Kind, Server, Setup};
use crate::software::Software;

/// How PgBouncer is found and installed.
pub const SOFTWARE: Software = Software {
    name: "PgBouncer",
    programs: &["pgbouncer"],
    variable: "PGBOUNCER_BIN",
    debian_packages: &["pgbouncer"],
    elsewhere: "Fedora: dnf install pgbouncer; macOS: brew install pgbouncer",
};

/// A pooler that gives each transaction another connection to a PostgreSQL server, with its user
/// and database `postgres`.
///
/// Settings are those of the section `[pgbouncer]`, and `postgres`, the server's port.
pub type PgBouncer = Server<Pooler>;

/// The kind of server.
#[derive(Debug)]
pub enum Pooler {}

impl PgBouncer {
    /// Starts a pooler before the server at a URL.
    ///
    /// # Errors
    /// As [`start`](Self::start), and if the URL has no port.
    pub fn before(url: &str) -> Result<Self, Error> {
        let port = url.rsplit_once(':').and_then(|(_, rest)| {
            let digits = rest.split('/').next()?;
            digits.parse::<u16>().ok()
        });
        let lacking = || io::Error::other(format!("{url} has no port"));
        let port = port.ok_or_else(|| Error::io("cannot find PostgreSQL")(lacking()))?;
        Self::start_with(&[("postgres", &port.to_string())])
    }
}

impl Kind for Pooler {
    const SOFTWARE: Software = SOFTWARE;
    const FOLDER: &'static str = "pgbouncer-";

    /// It refuses to run as root.
    const USERS: &'static [&'static str] = Postgres::USERS;

    fn config(setup: &Setup, settings: &[(&str, &str)]) -> String {
        let behind = settings.iter().find(|(name, _)| *name == "postgres");
        let behind = behind.map_or("5432", |(_, port)| port);
        let (port, process) = (setup.port().to_string(), process_file(setup));
        let own = [
            ("listen_addr", "127.0.0.1"),
            ("listen_port", &port),
            ("unix_socket_dir", ""),
            ("auth_type", "any"),
            ("pool_mode", "transaction"),
            ("max_client_conn", "1000"),
            ("pidfile", &process),
        ];
        let others = settings.iter().filter(|(name, _)| *name != "postgres");
        let lines = own.iter().chain(others);
        let lines = lines.map(|(name, value)| format!("{name} = {value}\n"));
        format!(
            "[databases]\n* = host=127.0.0.1 port={behind} user=postgres\n[pgbouncer]\n{}",
            lines.collect::<String>()
        )
    }

    fn command(setup: &Setup) -> Command {
        let mut command = Command::new(setup.program());
        command.arg(setup.config_file());
        command
    }

    /// It writes its id once it has its port, so the one that this folder's file names is the one
    /// that answers.
    fn answers(setup: &Setup, process_id: u32) -> io::Result<()> {
        let id = fs::read_to_string(process_file(setup))?;
        if id.trim() != process_id.to_string() {
            return Err(io::Error::other("it is not ready yet"));
        }
        greets(setup.port())
    }

    fn ping(port: u16) -> io::Result<()> {
        greets(port)
    }

    fn url(port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }
}

fn process_file(setup: &Setup) -> String {
    let file = setup.folder().join("process-id");
    file.display().to_string()
}
