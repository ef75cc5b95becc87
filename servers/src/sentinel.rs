//! Redis Sentinel: a master, a replica, and three sentinels that watch them.

use std::io;
use std::process::Command;

use crate::Error;
use crate::redis::{self, Redis, RedisServer};
use crate::resp::lines_of;
use crate::server::{Kind, Server, Setup};
use crate::software::Software;
use crate::wait;

/// How long a master is silent before sentinels agree that it is down, in milliseconds: short,
/// since tests wait for it, but longer than a busy machine keeps a living server waiting.
const DOWN_AFTER: &str = "1500";

/// A master and a replica that three sentinels watch, under the name [`MASTER`](Self::MASTER).
#[derive(Debug)]
pub struct RedisSentinel {
    sentinels: Vec<Server<Sentinel>>,
    servers: Vec<RedisServer>,
}

impl RedisSentinel {
    /// The name by which the sentinels know the master.
    pub const MASTER: &str = "sessions";

    /// Starts all of them, and waits until the sentinels know the replica and each other.
    ///
    /// # Errors
    /// If there is no program to start, or they do not find each other in time.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// The same with further settings for the master and the replica.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self, Error> {
        let master = RedisServer::start_with(settings)?;
        let of = format!("127.0.0.1 {}", master.port());
        let own = [
            ("replicaof", of.as_str()),
            ("repl-diskless-sync-delay", "0"),
        ];
        let replica = RedisServer::start_with(&[settings, &own].concat())?;
        let sentinels = (0..3).map(|_| watching(master.port()));
        let all = Self {
            sentinels: sentinels.collect::<Result<_, _>>()?,
            servers: vec![master, replica],
        };
        wait::until_complete(|| all.missing())
            .map_err(Error::io("the sentinels have not found each other"))?;
        Ok(all)
    }

    /// The sentinels' URLs.
    pub fn sentinel_urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }

    /// The master and the replica, in the order in which they were started.
    pub fn servers(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    /// The port of the server that the sentinels now call the master.
    ///
    /// # Errors
    /// If no sentinel answers.
    pub fn master_port(&self) -> io::Result<u16> {
        let mut last = io::Error::other("there is no sentinel");
        for sentinel in &self.sentinels {
            match master_port(sentinel.port()) {
                Ok(port) => return Ok(port),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Tells the sentinels to make the replica the master, as an operator does, without waiting for
    /// it.
    ///
    /// # Errors
    /// If the sentinels refuse: the replica is not good enough, or a failover is going on.
    pub fn fail_over(&self) -> io::Result<()> {
        let command = format!("SENTINEL FAILOVER {}", Self::MASTER);
        match lines_of(self.sentinels[0].port(), &command)?.first() {
            Some(line) if line == "+OK" => Ok(()),
            other => Err(io::Error::other(format!("{command}: {other:?}"))),
        }
    }

    /// What is not there yet: the replica's copy, or something that a sentinel does not know.
    fn missing(&self) -> Option<String> {
        let answer = lines_of(self.servers[1].port(), "INFO replication").unwrap_or_default();
        if !answer.iter().any(|line| line == "master_link_status:up") {
            return Some("the replica's copy".into());
        }
        let command = format!("SENTINEL MASTER {}", Self::MASTER);
        self.sentinels.iter().find_map(|sentinel| {
            let lines = lines_of(sentinel.port(), &command).unwrap_or_default();
            [("num-slaves", "1"), ("num-other-sentinels", "2")]
                .into_iter()
                .find(|(field, value)| field_of(&lines, field) != Some(value))
                .map(|(field, value)| {
                    let answer = field_of(&lines, field);
                    format!("{field} must be {value}, and a sentinel says {answer:?}")
                })
        })
    }
}

/// A field's value is two lines after its name: its length comes between.
fn field_of<'a>(lines: &'a [String], field: &str) -> Option<&'a str> {
    let at = lines.iter().position(|line| line == field)?;
    lines.get(at + 2).map(String::as_str)
}

fn master_port(sentinel: u16) -> io::Result<u16> {
    let command = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {}", RedisSentinel::MASTER);
    let lines = lines_of(sentinel, &command)?;
    let port = lines.last().and_then(|line| line.parse().ok());
    port.ok_or_else(|| io::Error::other(format!("{command}: {lines:?}")))
}

/// A sentinel that watches the master at this port.
fn watching(master: u16) -> Result<Server<Sentinel>, Error> {
    let name = RedisSentinel::MASTER;
    Server::start_with(&[
        ("sentinel monitor", &format!("{name} 127.0.0.1 {master} 2")),
        (
            "sentinel down-after-milliseconds",
            &format!("{name} {DOWN_AFTER}"),
        ),
        ("sentinel failover-timeout", &format!("{name} 5000")),
        ("sentinel parallel-syncs", &format!("{name} 1")),
    ])
}

/// The kind of server. It writes what it learns into its configuration file.
#[derive(Debug)]
enum Sentinel {}

impl Kind for Sentinel {
    const SOFTWARE: Software = Software {
        name: "Redis Sentinel",
        ..redis::SOFTWARE
    };
    const FOLDER: &'static str = "sentinel-";

    fn config(setup: &Setup, settings: &[(&str, &str)]) -> String {
        format!("bind 127.0.0.1\nport {}\n", setup.port()) + &redis::lines(settings)
    }

    fn command(setup: &Setup) -> Command {
        let mut command = Redis::command(setup);
        command.arg("--sentinel");
        command
    }

    fn answers(setup: &Setup, process_id: u32) -> io::Result<()> {
        Redis::answers(setup, process_id)
    }

    fn ping(port: u16) -> io::Result<()> {
        Redis::ping(port)
    }

    fn url(port: u16) -> String {
        Redis::url(port)
    }
}
