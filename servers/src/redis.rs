//! Redis, or Valkey, which speaks the same protocol.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::shared::Shared;
use crate::software::Software;
use crate::{Error, port, wait};

/// How Redis is found and installed.
pub const SOFTWARE: Software = Software {
    name: "Redis",
    programs: &["redis-server", "valkey-server"],
    variable: "REDIS_SERVER_BIN",
    debian_packages: &["redis-server", "valkey-server"],
    elsewhere: "Fedora: dnf install valkey; macOS: brew install redis",
};

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long one question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// A Redis server of its own: nothing is kept on disk unless the configuration says so.
#[derive(Debug)]
pub struct RedisServer {
    // Dropped in this order: the process is gone before its folder is removed.
    process: Option<Process>,
    program: PathBuf,
    port: u16,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// If there is no program to start, or it does not answer in time.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// Starts a server with further lines of configuration, such as `("appendonly", "yes")`.
    ///
    /// # Errors
    /// As [`start`](Self::start); a line that Redis refuses is in the error's log.
    pub fn start_with(config: &[(&str, &str)]) -> Result<Self, Error> {
        let program = SOFTWARE.find()?;
        let folder = tempfile::Builder::new()
            .prefix("redis-")
            .tempdir()
            .map_err(Error::io("cannot make a folder for Redis"))?;
        let mut server = Self {
            process: None,
            program,
            port: 0,
            folder,
        };
        wait::retry(|| {
            server.port = port::free().map_err(Error::io("cannot start Redis"))?;
            write_config(server.folder.path(), server.port, config)?;
            server.launch()
        })?;
        Ok(server)
    }

    /// A server that tests share: the one that `REDIS_URL` names, as under `cargo xtask test`, or one
    /// that is started for this process at the first call and ends with it. Whoever shares it uses keys
    /// that nobody else has, and neither empties nor pauses it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn shared_url() -> Result<String, Error> {
        static SHARED: Shared<RedisServer> = Shared::new("REDIS_URL");
        SHARED.url(Self::start, Self::url)
    }

    /// The address as clients take it: `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}:{}", Ipv4Addr::LOCALHOST, self.port)
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
    /// If there is no answer in time, or another one than `PONG`.
    pub fn ping(&self) -> io::Result<()> {
        ping(&mut connect(self.port)?)
    }

    /// Kills the server (SIGKILL): it gets no chance to save or to say good-bye.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills the server if it runs, and starts it again on the same port with the same folder.
    ///
    /// What it had saved is there again; without persistence in its configuration, that is nothing.
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
            Error::io("cannot signal Redis")(killed)
        })
    }

    fn launch(&mut self) -> Result<(), Error> {
        let mut command = Command::new(&self.program);
        command.arg(config_file(self.folder.path()));
        let mut process = Process::start(SOFTWARE.name, command, self.folder.path())?;
        let (port, id) = (self.port, process.id());
        wait::until_ready(&mut process, START_LIMIT, || answers_as(port, id))?;
        self.process = Some(process);
        Ok(())
    }
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("redis.conf")
}

/// A file, not arguments: its lines are what Redis documents, and later lines win.
fn write_config(folder: &Path, port: u16, config: &[(&str, &str)]) -> Result<(), Error> {
    let port = port.to_string();
    let own = [
        ("bind", "127.0.0.1"),
        ("port", &port),
        ("save", "\"\""),
        ("appendonly", "no"),
    ];
    let lines: String = own
        .iter()
        .chain(config)
        .map(|(name, value)| format!("{name} {value}\n"))
        .collect();
    let file = config_file(folder);
    fs::write(&file, lines).map_err(Error::io(format!("cannot write {}", file.display())))
}

/// Alive, and the very process that was started: on a port lost to another test's server, that one
/// would answer while ours is about to give up.
fn answers_as(port: u16, process_id: u32) -> io::Result<()> {
    let mut connection = connect(port)?;
    ping(&mut connection)?;
    let info = ask_bulk(&mut connection, "INFO server")?;
    let told = info
        .lines()
        .find_map(|line| line.strip_prefix("process_id:"));
    if told == Some(&process_id.to_string()) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "process {} answers on the port",
        told.unwrap_or("unknown")
    )))
}

fn connect(port: u16) -> io::Result<BufReader<TcpStream>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    Ok(BufReader::new(stream))
}

fn ping(connection: &mut BufReader<TcpStream>) -> io::Result<()> {
    match ask(connection, "PING")?.as_str() {
        "+PONG" => Ok(()),
        other => Err(io::Error::other(format!("PING was answered by {other:?}"))),
    }
}

/// Sends a command and reads the first line of its answer.
fn ask(connection: &mut BufReader<TcpStream>, command: &str) -> io::Result<String> {
    connection
        .get_mut()
        .write_all(format!("{command}\r\n").as_bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Sends a command whose answer is one text: its length in the first line, then itself.
fn ask_bulk(connection: &mut BufReader<TcpStream>, command: &str) -> io::Result<String> {
    let header = ask(connection, command)?;
    let length = header
        .strip_prefix('$')
        .and_then(|length| length.parse().ok())
        .ok_or_else(|| io::Error::other(format!("{command} was answered by {header:?}")))?;
    let mut text = String::new();
    connection.take(length).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_elses_server_on_our_port_does_not_count_as_ours() {
        let server = RedisServer::start().unwrap();
        let id = server.process_id().unwrap();
        answers_as(server.port, id).unwrap();
        let told = answers_as(server.port, id + 1).unwrap_err().to_string();
        assert!(told.contains(&format!("process {id} answers")), "{told}");
    }
}
