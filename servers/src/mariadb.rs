//! MariaDB.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::Error;
use crate::port::connect;
use crate::server::{Kind, Server, Setup, Shareable};
use crate::software::Software;

/// How MariaDB is found and installed.
pub const SOFTWARE: Software = Software {
    name: "MariaDB",
    programs: &["mariadbd"],
    variable: "MARIADB_BIN",
    debian_packages: &["mariadb-server"],
    elsewhere: "Fedora: dnf install mariadb-server; macOS: brew install mariadb",
};

/// The user that tests connect as, and the database that they find.
const SETUP: &str = "CREATE DATABASE IF NOT EXISTS sessions;\n\
    CREATE USER IF NOT EXISTS tester@'127.0.0.1';\n\
    GRANT ALL ON *.* TO tester@'127.0.0.1' WITH GRANT OPTION;\n";

/// A MariaDB server with the database `sessions` and a user `tester` without a password.
///
/// Settings are those of `my.cnf`: `("max-connections", "10")`.
pub type MariaDbServer = Server<MariaDb>;

/// The kind of server.
#[derive(Debug)]
pub enum MariaDb {}

impl Kind for MariaDb {
    const SOFTWARE: Software = SOFTWARE;
    const FOLDER: &'static str = "mariadb-";

    /// It refuses to run as root.
    const USERS: &'static [&'static str] = &["mysql", "nobody"];

    fn init(setup: &Setup, _settings: &[(&str, &str)]) -> Result<(), Error> {
        setup.write("setup.sql", SETUP)?;
        let mut command = Command::new(installer(setup.program()));
        command
            .args(["--no-defaults", "--skip-test-db"])
            .arg("--auth-root-authentication-method=normal")
            .arg(option(setup, "--datadir", "data"));
        setup.run("mariadb-install-db", command)
    }

    /// Later lines win.
    fn config(setup: &Setup, settings: &[(&str, &str)]) -> String {
        let port = setup.port().to_string();
        let own = [
            ("bind-address", "127.0.0.1"),
            ("port", &port),
            // Not needed, and a long temporary folder would not fit into its path.
            ("socket", ""),
            ("skip-name-resolve", "on"),
            // What survives a kill of the server need not be on the disk.
            ("innodb-flush-log-at-trx-commit", "2"),
            ("innodb-buffer-pool-size", "64M"),
            ("max-connections", "300"),
        ];
        let lines = own.iter().chain(settings);
        let lines: String = lines
            .map(|(name, value)| format!("{name} = \"{value}\"\n"))
            .collect();
        format!("[mysqld]\n{lines}")
    }

    fn command(setup: &Setup) -> Command {
        let mut command = Command::new(setup.program());
        command
            // First of all options, so that no file of the machine is read.
            .arg(option(setup, "--defaults-file", "server.conf"))
            .arg(option(setup, "--datadir", "data"))
            .arg(option(setup, "--pid-file", "pid"))
            .arg(option(setup, "--init-file", "setup.sql"));
        command
    }

    /// A server that does not get its port ends, so the one that this folder's file names is the
    /// one that answers.
    fn answers(setup: &Setup, process_id: u32) -> io::Result<()> {
        let text = fs::read_to_string(setup.folder().join("pid"))?;
        if text.trim() != process_id.to_string() {
            return Err(io::Error::other("it is not ready yet"));
        }
        Self::ping(setup.port())
    }

    /// Reads the head of the greeting: its length, number 0, and protocol 10.
    fn ping(port: u16) -> io::Result<()> {
        let mut answer = [0; 5];
        connect(port)?.read_exact(&mut answer)?;
        match answer {
            [_, _, _, 0, 10] => Ok(()),
            other => Err(io::Error::other(format!("its answer is {other:?}"))),
        }
    }

    fn url(port: u16) -> String {
        format!("mysql://tester@127.0.0.1:{port}/sessions")
    }
}

impl Shareable for MariaDb {
    const URL_VARIABLE: &'static str = "MYSQL_URL";

    fn shared() -> &'static Mutex<Option<MariaDbServer>> {
        static SHARED: Mutex<Option<MariaDbServer>> = Mutex::new(None);
        &SHARED
    }
}

/// An option whose value is a file or folder of the server.
fn option(setup: &Setup, name: &str, file: &str) -> String {
    format!("{name}={}", setup.folder().join(file).display())
}

/// The script that makes system tables: beside the server, or in `bin` if the server is in `sbin`.
fn installer(program: &Path) -> PathBuf {
    let beside = program.with_file_name("mariadb-install-db");
    let in_bin = program
        .parent()
        .map(|folder| folder.with_file_name("bin").join("mariadb-install-db"));
    match in_bin {
        Some(in_bin) if !beside.exists() && in_bin.exists() => in_bin,
        _ => beside,
    }
}
