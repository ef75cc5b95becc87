//! MariaDB.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::shared::Shared;
use crate::software::Software;
use crate::user::User;
use crate::{Error, port, wait};

/// How MariaDB is found and installed.
pub const SOFTWARE: Software = Software {
    name: "MariaDB",
    programs: &["mariadbd"],
    variable: "MARIADB_BIN",
    debian_packages: &["mariadb-server"],
    elsewhere: "Fedora: dnf install mariadb-server; macOS: brew install mariadb",
};

/// How long a server may take until it answers, the repair after a kill included.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long one question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The user that tests connect as, and the database that they find.
const SETUP: &str = "CREATE DATABASE IF NOT EXISTS sessions;\n\
    CREATE USER IF NOT EXISTS tester@'127.0.0.1';\n\
    GRANT ALL ON *.* TO tester@'127.0.0.1' WITH GRANT OPTION;\n";

/// A MariaDB server of its own, with the database `sessions` and a user `tester` without password.
///
/// As root, it runs as the user `mysql` or `nobody`, since it refuses root.
#[derive(Debug)]
pub struct MariaDbServer {
    // Dropped in this order: the process is gone before its folder is removed.
    process: Option<Process>,
    program: PathBuf,
    user: User,
    port: u16,
    options: Vec<String>,
    folder: TempDir,
}

impl MariaDbServer {
    /// Makes the system tables, starts a server and waits until it answers.
    ///
    /// # Errors
    /// If there is no program to start, or it does not answer in time.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// Starts a server with further settings, such as `("max-connections", "10")`.
    ///
    /// # Errors
    /// As [`start`](Self::start); a setting that MariaDB refuses is in the error's log.
    pub fn start_with(config: &[(&str, &str)]) -> Result<Self, Error> {
        let program = SOFTWARE.find()?;
        let folder = tempfile::Builder::new()
            .prefix("mariadb-")
            .tempdir()
            .map_err(Error::io("cannot make a folder for MariaDB"))?;
        let user = User::ordinary(&["mysql", "nobody"])?;
        let mut server = Self {
            process: None,
            program,
            user,
            port: 0,
            options: option_lines(config),
            folder,
        };
        server.init()?;
        wait::retry(|| {
            server.port = port::free().map_err(Error::io("cannot start MariaDB"))?;
            server.launch()
        })?;
        Ok(server)
    }

    /// A server that tests share: the one that `MYSQL_URL` names, as under `cargo xtask test`, or one
    /// that is started for this process at the first call and ends with it. Whoever shares it uses
    /// tables that nobody else has, and neither restarts nor pauses it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn shared_url() -> Result<String, Error> {
        static SHARED: Shared<MariaDbServer> = Shared::new("MYSQL_URL");
        SHARED.url(Self::start, Self::url)
    }

    /// The address as clients take it: `mysql://tester@127.0.0.1:PORT/sessions`.
    pub fn url(&self) -> String {
        format!(
            "mysql://tester@{}:{}/sessions",
            Ipv4Addr::LOCALHOST,
            self.port
        )
    }

    /// The port, the same for the server's whole life, restarts included.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the server's process, unless it was killed.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The folder where the server keeps its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks for a sign of life, and waits a second for it.
    ///
    /// # Errors
    /// If there is no answer in time, or another one than a greeting.
    pub fn ping(&self) -> io::Result<()> {
        greet(self.port)
    }

    /// Kills the server (SIGKILL), in the midst of whatever.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills the server if it runs, and starts it again on the same port with the same folder.
    ///
    /// What was committed is there again.
    ///
    /// # Errors
    /// As [`start`](Self::start), and if somebody else keeps the port.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill();
        port::wait_until_free(self.port, START_LIMIT);
        wait::retry(|| self.launch())
    }

    /// Freezes the server (SIGSTOP): connections stay open, and nothing is answered.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.running()?.pause()
    }

    /// Lets a frozen server go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.running()?.resume()
    }

    fn running(&mut self) -> Result<&mut Process, Error> {
        self.process.as_mut().ok_or_else(|| {
            let killed = io::Error::other("it was killed; call restart() first");
            Error::io("cannot signal MariaDB")(killed)
        })
    }

    /// Makes the files of an empty server.
    fn init(&self) -> Result<(), Error> {
        let folder = self.folder.path();
        let setup = folder.join("setup.sql");
        fs::write(&setup, SETUP).map_err(Error::io("cannot write for MariaDB"))?;
        fs::create_dir(data(folder)).map_err(Error::io("cannot make a folder for MariaDB"))?;
        for path in [folder, &data(folder), &setup] {
            self.user.owns(path)?;
        }
        let mut command = Command::new(installer(&self.program));
        command
            .args(["--no-defaults", "--skip-test-db"])
            .arg("--auth-root-authentication-method=normal")
            .arg(format!("--datadir={}", data(folder).display()));
        self.user.runs(&mut command);
        Process::run("mariadb-install-db", command, folder, START_LIMIT)
    }

    fn launch(&mut self) -> Result<(), Error> {
        let folder = self.folder.path();
        let path = |option: &str, name: &str| format!("{option}={}", folder.join(name).display());
        let mut command = Command::new(&self.program);
        command
            // First of all options, so that no file of the machine says anything.
            .arg("--no-defaults")
            .arg(path("--datadir", "data"))
            .args([path("--socket", "socket"), path("--pid-file", "pid")])
            .arg(path("--init-file", "setup.sql"))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
            .arg(format!("--port={}", self.port))
            // What survives a kill of the server need not be on the disk.
            .arg("--innodb-flush-log-at-trx-commit=2")
            .args(["--innodb-buffer-pool-size=64M", "--max-connections=300"])
            .args(&self.options);
        self.user.runs(&mut command);
        let mut process = Process::start(SOFTWARE.name, command, folder)?;
        let (port, id) = (self.port, process.id());
        wait::until_ready(&mut process, START_LIMIT, || answers_as(folder, port, id))?;
        self.process = Some(process);
        Ok(())
    }
}

fn option_lines(config: &[(&str, &str)]) -> Vec<String> {
    let options = config
        .iter()
        .map(|(name, value)| format!("--{name}={value}"));
    options.collect()
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// The script that makes system tables: beside the server, or in `bin` where that is in `sbin`.
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

/// Alive, and the very process that was started: a server that does not get its port ends, so the one
/// that names itself in our folder is the one that answers.
fn answers_as(folder: &Path, port: u16, process_id: u32) -> io::Result<()> {
    let told = fs::read_to_string(folder.join("pid"))?;
    if told.trim() != process_id.to_string() {
        return Err(io::Error::other("it is not ready yet"));
    }
    greet(port)
}

/// Connects, and reads the head of the greeting: its length, number 0, and protocol 10.
fn greet(port: u16) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    match answer {
        [_, _, _, 0, 10] => Ok(()),
        other => Err(io::Error::other(format!("it answered {other:?}"))),
    }
}
