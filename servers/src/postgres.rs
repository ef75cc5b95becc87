//! PostgreSQL.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::Process;
use crate::shared::Shared;
use crate::software::Software;
use crate::user::User;
use crate::{Error, family, port, wait};

/// How PostgreSQL is found and installed.
pub const SOFTWARE: Software = Software {
    name: "PostgreSQL",
    programs: &["postgres"],
    variable: "POSTGRES_BIN",
    debian_packages: &["postgresql"],
    elsewhere: "Fedora: dnf install postgresql-server; macOS: brew install postgresql",
};

/// How long a server may take until it answers, the repair after a kill included.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long one question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Protocol 3.0, user and database `postgres`.
const HELLO: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";

/// A PostgreSQL server of its own, with the superuser and database `postgres` and no password.
///
/// As root, it runs as the user `postgres` or `nobody`, since it refuses root.
#[derive(Debug)]
pub struct PostgresServer {
    // Dropped in this order: the process is gone before its folder is removed.
    process: Option<Process>,
    program: PathBuf,
    user: User,
    port: u16,
    folder: TempDir,
}

impl PostgresServer {
    /// Makes a database cluster, starts a server and waits until it answers.
    ///
    /// # Errors
    /// If there is no program to start, or it does not answer in time.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// Starts a server with further settings, such as `("max_connections", "10")`.
    ///
    /// What survives a kill of the server needs no `fsync`, which is off unless set.
    ///
    /// # Errors
    /// As [`start`](Self::start); a setting that PostgreSQL refuses is in the error's log.
    pub fn start_with(config: &[(&str, &str)]) -> Result<Self, Error> {
        let program = SOFTWARE.find()?;
        let folder = tempfile::Builder::new()
            .prefix("postgres-")
            .tempdir()
            .map_err(Error::io("cannot make a folder for PostgreSQL"))?;
        let user = User::ordinary(&["postgres", "nobody"])?;
        user.owns(folder.path())?;
        let mut server = Self {
            process: None,
            program,
            user,
            port: 0,
            folder,
        };
        server.init()?;
        wait::retry(|| {
            server.port = port::free().map_err(Error::io("cannot start PostgreSQL"))?;
            write_config(server.folder.path(), server.port, config)?;
            server.launch()
        })?;
        Ok(server)
    }

    /// A server that tests share: the one that `POSTGRES_URL` names, as under `cargo xtask test`, or
    /// one that is started for this process at the first call and ends with it. Whoever shares it uses
    /// tables that nobody else has, and neither restarts nor pauses it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn shared_url() -> Result<String, Error> {
        static SHARED: Shared<PostgresServer> = Shared::new("POSTGRES_URL");
        SHARED.url(Self::start, Self::url)
    }

    /// The address as clients take it: `postgres://postgres@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> String {
        format!(
            "postgres://postgres@{}:{}/postgres",
            Ipv4Addr::LOCALHOST,
            self.port
        )
    }

    /// The port, the same for the server's whole life, restarts included.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the server's first process, unless it was killed.
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
    /// If there is no answer in time, or none that lets a client in.
    pub fn ping(&self) -> io::Result<()> {
        greet(self.port)
    }

    /// Kills the server and the processes of its connections (SIGKILL), in the midst of whatever.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        // It starts no further ones while it stands still; one that ended has none.
        let _ = process.pause();
        let family = family::children(process.id());
        drop(process);
        family::kill(&family);
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

    /// Freezes the server and the processes of its connections (SIGSTOP): nothing is answered.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.running()?.pause()?;
        self.signal_family(Signal::STOP)
    }

    /// Lets a frozen server go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.signal_family(Signal::CONT)?;
        self.running()?.resume()
    }

    fn signal_family(&mut self, signal: Signal) -> Result<(), Error> {
        let family = family::children(self.running()?.id());
        family::signal(&family, signal)
            .map_err(Error::io("cannot signal the connections of PostgreSQL"))
    }

    fn running(&mut self) -> Result<&mut Process, Error> {
        self.process.as_mut().ok_or_else(|| {
            let killed = io::Error::other("it was killed; call restart() first");
            Error::io("cannot signal PostgreSQL")(killed)
        })
    }

    /// Makes the files of an empty server.
    fn init(&self) -> Result<(), Error> {
        let mut command = Command::new(self.program.with_file_name("initdb"));
        command
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "--no-instructions"])
            .arg("--pgdata")
            .arg(data(self.folder.path()));
        self.user.runs(&mut command);
        Process::run("initdb", command, self.folder.path(), START_LIMIT)
    }

    fn launch(&mut self) -> Result<(), Error> {
        let folder = self.folder.path();
        let mut command = Command::new(&self.program);
        command
            .arg("-D")
            .arg(data(folder))
            .arg("-c")
            .arg(format!("config_file={}", config_file(folder).display()));
        self.user.runs(&mut command);
        let mut process = Process::start(SOFTWARE.name, command, folder)?;
        let (port, id) = (self.port, process.id());
        wait::until_ready(&mut process, START_LIMIT, || answers_as(folder, port, id))?;
        self.process = Some(process);
        Ok(())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // Its group does not hold its children, and they would keep writing into the folder.
        self.kill();
    }
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("postgresql.conf")
}

fn write_config(folder: &Path, port: u16, config: &[(&str, &str)]) -> Result<(), Error> {
    let port = port.to_string();
    let own = [
        ("listen_addresses", "127.0.0.1"),
        ("port", &port),
        ("unix_socket_directories", ""),
        ("max_connections", "200"),
        ("fsync", "off"),
        // In the folder, so that a killed server leaves nothing behind.
        ("dynamic_shared_memory_type", "mmap"),
    ];
    let lines: String = own
        .iter()
        .chain(config)
        .map(|(name, value)| format!("{name} = '{value}'\n"))
        .collect();
    let file = config_file(folder);
    fs::write(&file, lines).map_err(Error::io(format!("cannot write {}", file.display())))
}

/// Alive, and the very process that was started: a server that does not get its port ends, so the one
/// that names itself in our folder as ready is the one that answers.
fn answers_as(folder: &Path, port: u16, process_id: u32) -> io::Result<()> {
    let told = fs::read_to_string(data(folder).join("postmaster.pid"))?;
    let mut lines = told.lines().map(str::trim);
    let (id, status) = (lines.next(), lines.nth(6));
    if id != Some(&process_id.to_string()) || status != Some("ready") {
        return Err(io::Error::other("it is not ready yet"));
    }
    greet(port)
}

/// Connects, and reads whether the server lets this client in.
fn greet(port: u16) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(HELLO)?;
    let mut answer = [0; 9];
    stream.read_exact(&mut answer)?;
    // Kind, length, and 0 for "you are in".
    if answer == *b"R\0\0\0\x08\0\0\0\0" {
        return stream.write_all(b"X\0\0\0\x04");
    }
    Err(io::Error::other(format!("it answered {answer:?}")))
}
