//! PostgreSQL.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::Error;
use crate::port::connect;
use crate::server::{Kind, Server, Setup, Shareable};
use crate::software::Software;

/// How PostgreSQL is found and installed.
pub const SOFTWARE: Software = Software {
    name: "PostgreSQL",
    programs: &["postgres"],
    variable: "POSTGRES_BIN",
    debian_packages: &["postgresql"],
    elsewhere: "Fedora: dnf install postgresql-server; macOS: brew install postgresql",
};

/// Protocol 3.0, user and database `postgres`.
const HELLO: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";

/// A PostgreSQL server with the superuser and database `postgres` and no password.
///
/// Settings are those of `postgresql.conf`: `("max_connections", "10")`. `fsync` is off unless set:
/// what survives a kill of the server does not need it.
pub type PostgresServer = Server<Postgres>;

/// The port of the server to copy: not a setting of PostgreSQL.
const PRIMARY: &str = "primary";

/// The kind of server.
#[derive(Debug)]
pub enum Postgres {}

impl PostgresServer {
    /// Starts a copy of this server that follows it, and that can be promoted. Settings are the
    /// copy's.
    ///
    /// # Errors
    /// As [`start`](Self::start), and if this server cannot be copied.
    pub fn start_replica(&self, settings: &[(&str, &str)]) -> Result<Self, Error> {
        let port = self.port().to_string();
        let primary = [(PRIMARY, port.as_str())];
        Self::start_with(&[settings, &primary].concat())
    }
}

impl Kind for Postgres {
    const SOFTWARE: Software = SOFTWARE;
    const FOLDER: &'static str = "postgres-";

    /// It refuses to run as root.
    const USERS: &'static [&'static str] = &["postgres", "nobody"];

    fn init(setup: &Setup, settings: &[(&str, &str)]) -> Result<(), Error> {
        if let Some((_, port)) = settings.iter().find(|(name, _)| *name == PRIMARY) {
            return copy(setup, port);
        }
        let mut command = Command::new(beside(setup.program(), "initdb"));
        command
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "--no-instructions"])
            .arg("--pgdata")
            .arg(data(setup));
        setup.run("initdb", command)
    }

    /// Later lines win.
    fn config(setup: &Setup, settings: &[(&str, &str)]) -> String {
        let port = setup.port().to_string();
        let own = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port),
            ("unix_socket_directories", ""),
            ("max_connections", "200"),
            ("fsync", "off"),
            // In the folder, so that a killed server leaves nothing behind.
            ("dynamic_shared_memory_type", "mmap"),
        ];
        let settings = settings.iter().filter(|(name, _)| *name != PRIMARY);
        let all = own.iter().chain(settings);
        all.map(|(name, value)| format!("{name} = '{value}'\n"))
            .collect()
    }

    fn command(setup: &Setup) -> Command {
        let mut command = Command::new(setup.program());
        command
            .arg("-D")
            .arg(data(setup))
            .arg("-c")
            .arg(format!("config_file={}", setup.config_file().display()));
        command
    }

    /// A server that does not get its port ends, so the one that this folder's file names as ready
    /// is the one that answers.
    fn answers(setup: &Setup, process_id: u32) -> io::Result<()> {
        let text = fs::read_to_string(data(setup).join("postmaster.pid"))?;
        let mut lines = text.lines().map(str::trim);
        let (id, status) = (lines.next(), lines.nth(6));
        if id != Some(&process_id.to_string()) || status != Some("ready") {
            return Err(io::Error::other("it is not ready yet"));
        }
        Self::ping(setup.port())
    }

    fn ping(port: u16) -> io::Result<()> {
        greets(port)
    }

    fn url(port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }
}

impl Shareable for Postgres {
    const URL_VARIABLE: &'static str = "POSTGRES_URL";

    fn shared() -> &'static Mutex<Option<PostgresServer>> {
        static SHARED: Mutex<Option<PostgresServer>> = Mutex::new(None);
        &SHARED
    }
}

/// Another program of the same installation, even if a link names this one.
fn beside(program: &Path, name: &str) -> PathBuf {
    let real = program.canonicalize();
    real.as_deref().unwrap_or(program).with_file_name(name)
}

/// Copies the server at a port; the copy follows it once it is started.
fn copy(setup: &Setup, port: &str) -> Result<(), Error> {
    let mut command = Command::new(beside(setup.program(), "pg_basebackup"));
    command
        .args(["--host=127.0.0.1", "--username=postgres", "--no-password"])
        .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
        .arg(format!("--port={port}"))
        .arg("--pgdata")
        .arg(data(setup));
    setup.run("pg_basebackup", command)
}

/// Reads whether the server, or a pooler before it, lets this client in.
pub(crate) fn greets(port: u16) -> io::Result<()> {
    let mut stream = connect(port)?;
    stream.write_all(HELLO)?;
    let mut answer = [0; 9];
    stream.read_exact(&mut answer)?;
    // Kind, length, and 0 for "you are in".
    if answer == *b"R\0\0\0\x08\0\0\0\0" {
        return stream.write_all(b"X\0\0\0\x04");
    }
    Err(io::Error::other(format!("its answer is {answer:?}")))
}

fn data(setup: &Setup) -> PathBuf {
    setup.folder().join("data")
}
