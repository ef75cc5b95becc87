//! Redis, or Valkey, which speaks the same protocol.

use std::io;
use std::process::Command;
use std::sync::Mutex;

use crate::resp::lines_of;
use crate::server::{Kind, Server, Setup, Shareable};
use crate::software::Software;

/// How Redis is found and installed.
pub const SOFTWARE: Software = Software {
    name: "Redis",
    programs: &["redis-server", "valkey-server"],
    variable: "REDIS_SERVER_BIN",
    debian_packages: &["redis-server", "valkey-server"],
    elsewhere: "Fedora: dnf install valkey; macOS: brew install redis",
};

/// A Redis server. It keeps nothing on disk unless its settings say so: `("appendonly", "yes")`.
pub type RedisServer = Server<Redis>;

/// The kind of server.
#[derive(Debug)]
pub enum Redis {}

impl Kind for Redis {
    const SOFTWARE: Software = SOFTWARE;
    const FOLDER: &'static str = "redis-";

    /// Later lines win.
    fn config(setup: &Setup, settings: &[(&str, &str)]) -> String {
        let own = format!(
            "bind 127.0.0.1\nport {}\nsave \"\"\nappendonly no\n",
            setup.port()
        );
        own + &lines(settings)
    }

    fn command(setup: &Setup) -> Command {
        let mut command = Command::new(setup.program());
        command.arg(setup.config_file());
        command
    }

    fn answers(setup: &Setup, process_id: u32) -> io::Result<()> {
        answers_as(setup.port(), process_id)
    }

    fn ping(port: u16) -> io::Result<()> {
        match &lines_of(port, "PING")?[..] {
            [pong] if pong == "+PONG" => Ok(()),
            other => Err(io::Error::other(format!("the answer to PING is {other:?}"))),
        }
    }

    fn url(port: u16) -> String {
        format!("redis://127.0.0.1:{port}")
    }
}

impl Shareable for Redis {
    const URL_VARIABLE: &'static str = "REDIS_URL";

    fn shared() -> &'static Mutex<Option<RedisServer>> {
        static SHARED: Mutex<Option<RedisServer>> = Mutex::new(None);
        &SHARED
    }
}

/// Settings, as a configuration file has them.
pub(crate) fn lines(settings: &[(&str, &str)]) -> String {
    let lines = settings
        .iter()
        .map(|(name, value)| format!("{name} {value}\n"));
    lines.collect()
}

/// Checks that the process with this id answers. A server that still loads its data does not.
pub(crate) fn answers_as(port: u16, process_id: u32) -> io::Result<()> {
    Redis::ping(port)?;
    let info = lines_of(port, "INFO server")?;
    let actual = info
        .iter()
        .find_map(|line| line.strip_prefix("process_id:"));
    if actual == Some(&process_id.to_string()) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "process {} answers on the port",
        actual.unwrap_or("unknown")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_on_the_port_is_not_taken_for_this_one() {
        let server = RedisServer::start().unwrap();
        let id = server.process_id().unwrap();
        answers_as(server.port(), id).unwrap();
        let message = answers_as(server.port(), id + 1).unwrap_err().to_string();
        assert!(
            message.contains(&format!("process {id} answers")),
            "{message}"
        );
    }
}
