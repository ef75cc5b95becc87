//! `cargo xtask servers`, ended by a person or by the system: no server may be left.
#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Starts the command and returns it with the address that its first line names; nobody reads the
/// other lines, and that must not end it.
fn start() -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .arg("servers")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let Some(address) = line.trim_end().strip_prefix("REDIS_URL=redis://") else {
        let mut log = String::new();
        child.stderr.unwrap().read_to_string(&mut log).unwrap();
        panic!("the servers did not start: {line}{log}");
    };
    (child, address.to_owned())
}

fn end_by(signal: Signal) -> ExitStatus {
    let (mut child, address) = start();
    TcpStream::connect(&address).unwrap();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let status = child.wait().unwrap();
    assert!(
        TcpStream::connect(&address).is_err(),
        "a server is left at {address}"
    );
    status
}

#[test]
fn ctrl_c_stops_the_servers() {
    assert_eq!(end_by(Signal::INT).code(), Some(130));
}

#[test]
fn sigterm_stops_the_servers() {
    assert_eq!(end_by(Signal::TERM).code(), Some(143));
}
