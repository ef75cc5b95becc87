//! Redis Sentinel: a master, a replica, and three sentinels that watch them.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use tempfile::TempDir;

use crate::process::Process;
use crate::redis::{RedisServer, SOFTWARE};
use crate::resp::lines_of;
use crate::{Error, port, wait};

/// How long until all of them know each other.
const LIMIT: Duration = Duration::from_secs(20);

/// How long a master is silent before sentinels agree that it is down, in milliseconds.
const DOWN_AFTER: &str = "800";

const PAUSE: Duration = Duration::from_millis(50);

/// A master and a replica that three sentinels watch, under the name [`MASTER`](Self::MASTER).
#[derive(Debug)]
pub struct RedisSentinel {
    sentinels: Vec<Sentinel>,
    servers: Vec<RedisServer>,
}

#[derive(Debug)]
struct Sentinel {
    // Dropped in this order: the process is gone before its folder is removed.
    _process: Process,
    port: u16,
    _folder: TempDir,
}

impl RedisSentinel {
    /// The name by which the sentinels know the master.
    pub const MASTER: &str = "sessions";

    /// Starts all of them, and waits until the sentinels know the replica and each other.
    ///
    /// # Errors
    /// If there is no program to start, or they don't find each other in time.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// The same with further lines of configuration for the master and the replica.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(config: &[(&str, &str)]) -> Result<Self, Error> {
        let master = RedisServer::start_with(config)?;
        let of = format!("127.0.0.1 {}", master.port());
        let own = [
            ("replicaof", of.as_str()),
            ("repl-diskless-sync-delay", "0"),
        ];
        let replica = RedisServer::start_with(&[config, &own].concat())?;
        let sentinels = (0..3).map(|_| Sentinel::start(master.port()));
        let all = Self {
            sentinels: sentinels.collect::<Result<_, _>>()?,
            servers: vec![master, replica],
        };
        all.wait_until_ready()?;
        Ok(all)
    }

    /// The sentinels' addresses.
    pub fn sentinel_urls(&self) -> Vec<String> {
        let ports = self.sentinels.iter().map(|sentinel| sentinel.port);
        ports
            .map(|port| format!("redis://127.0.0.1:{port}"))
            .collect()
    }

    /// The master and the replica, in the order in which they were started.
    pub fn servers(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    /// The port of the server that the sentinels name as the master now.
    ///
    /// # Errors
    /// If no sentinel answers.
    pub fn master_port(&self) -> io::Result<u16> {
        let mut last = io::Error::other("there is no sentinel");
        for sentinel in &self.sentinels {
            match sentinel.master_port() {
                Ok(port) => return Ok(port),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Tells the sentinels to make the replica the master, as an operator does, without waiting for it.
    ///
    /// # Errors
    /// If the sentinels refuse: the replica is not good enough, or a failover is going on.
    pub fn fail_over(&self) -> io::Result<()> {
        let command = format!("SENTINEL FAILOVER {}", Self::MASTER);
        match lines_of(self.sentinels[0].port, &command)?.first() {
            Some(line) if line == "+OK" => Ok(()),
            other => Err(io::Error::other(format!("{command}: {other:?}"))),
        }
    }

    fn wait_until_ready(&self) -> Result<(), Error> {
        let started = Instant::now();
        while let Some(told) = self.missing() {
            if started.elapsed() > LIMIT {
                return Err(Error::io("the sentinels have not found each other")(
                    io::Error::other(told),
                ));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// What is not there yet: the replica's copy, or something that a sentinel does not know.
    fn missing(&self) -> Option<String> {
        let told = lines_of(self.servers[1].port(), "INFO replication").unwrap_or_default();
        if !told.iter().any(|line| line == "master_link_status:up") {
            return Some("the replica has no copy".into());
        }
        let wanted = [("num-slaves", "1"), ("num-other-sentinels", "2")];
        let command = format!("SENTINEL MASTER {}", Self::MASTER);
        for sentinel in &self.sentinels {
            let lines = lines_of(sentinel.port, &command).unwrap_or_default();
            for (field, value) in wanted {
                // A field's value stands two lines after its name: its length comes between.
                let at = lines.iter().position(|line| line == field);
                let told = at.and_then(|at| lines.get(at + 2)).cloned();
                if told.as_deref() != Some(value) {
                    return Some(format!("{field} is {told:?}, not {value}"));
                }
            }
        }
        None
    }
}

impl Sentinel {
    fn start(master: u16) -> Result<Self, Error> {
        let program = SOFTWARE.find()?;
        let folder = tempfile::Builder::new()
            .prefix("sentinel-")
            .tempdir()
            .map_err(Error::io("cannot make a folder for a sentinel"))?;
        let mut started = None;
        wait::retry(|| {
            let port = port::free().map_err(Error::io("cannot start a sentinel"))?;
            let config = write_config(&folder, port, master)?;
            let mut command = Command::new(&program);
            command.arg(config).arg("--sentinel");
            let mut process = Process::start("Redis Sentinel", command, folder.path())?;
            wait::until_ready(&mut process, LIMIT, || {
                match lines_of(port, "PING")?.first() {
                    Some(line) if line == "+PONG" => Ok(()),
                    other => Err(io::Error::other(format!("PING: {other:?}"))),
                }
            })?;
            started = Some((process, port));
            Ok(())
        })?;
        let (process, port) = started.expect("the loop ends with a start or an error");
        Ok(Self {
            _process: process,
            port,
            _folder: folder,
        })
    }

    fn master_port(&self) -> io::Result<u16> {
        let command = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {}", RedisSentinel::MASTER);
        let lines = lines_of(self.port, &command)?;
        let port = lines.last().and_then(|line| line.parse().ok());
        port.ok_or_else(|| io::Error::other(format!("{command}: {lines:?}")))
    }
}

/// A sentinel writes what it learns into its file.
fn write_config(folder: &TempDir, port: u16, master: u16) -> Result<PathBuf, Error> {
    let name = RedisSentinel::MASTER;
    let lines = format!(
        "bind 127.0.0.1\n\
         port {port}\n\
         dir {}\n\
         sentinel monitor {name} 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds {name} {DOWN_AFTER}\n\
         sentinel failover-timeout {name} 5000\n\
         sentinel parallel-syncs {name} 1\n",
        folder.path().display()
    );
    let file = folder.path().join("sentinel.conf");
    fs::write(&file, lines).map_err(Error::io(format!("cannot write {}", file.display())))?;
    Ok(file)
}
