//! A Redis that is started, killed, restarted, paused, dropped, and orphaned.
#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};
use servers::{Error, RedisServer, wait};

/// Sends one command over a connection of its own, and returns the first line of the answer.
fn ask(server: &RedisServer, command: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn runs(process: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    test_kill_process(pid).is_ok()
}

/// Polls, for at most as long as anything here may take.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < wait::LIMIT, "not yet: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_started_server_answers_on_its_url() {
    let server = RedisServer::start().unwrap();
    server.ping().unwrap();
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
}

#[test]
fn two_servers_share_nothing() {
    let (one, two) = (RedisServer::start().unwrap(), RedisServer::start().unwrap());
    assert_ne!(one.port(), two.port());
    assert_eq!(ask(&one, "SET here 1"), "+OK");
    assert_eq!(ask(&two, "EXISTS here"), ":0");
}

#[test]
fn tests_that_share_a_server_get_the_same_one() {
    let url = RedisServer::shared_url().unwrap();
    assert_eq!(RedisServer::shared_url().unwrap(), url);
    TcpStream::connect(url.strip_prefix("redis://").unwrap()).unwrap();
}

#[test]
fn a_restart_keeps_port_and_saved_data() {
    let config = [("appendonly", "yes"), ("appendfsync", "always")];
    let mut server = RedisServer::start_with(&config).unwrap();
    let (port, process) = (server.port(), server.process_id());
    assert_eq!(ask(&server, "SET kept 1"), "+OK");
    server.kill();
    assert!(server.ping().is_err());
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(server.process_id(), process);
    assert_eq!(ask(&server, "EXISTS kept"), ":1");
}

#[test]
fn a_restart_of_a_running_server_without_persistence_forgets() {
    let mut server = RedisServer::start().unwrap();
    assert_eq!(ask(&server, "SET kept 1"), "+OK");
    server.restart().unwrap();
    assert_eq!(ask(&server, "EXISTS kept"), ":0");
}

#[test]
fn a_restart_waits_for_a_port_that_is_taken_for_a_while() {
    let mut server = RedisServer::start().unwrap();
    server.kill();
    let squatter = TcpListener::bind((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    let leaving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        drop(squatter);
    });
    server.restart().unwrap();
    leaving.join().unwrap();
    server.ping().unwrap();
}

#[test]
fn a_paused_server_is_silent_until_it_is_resumed() {
    let mut server = RedisServer::start().unwrap();
    server.pause().unwrap();
    let silence = server.ping().unwrap_err();
    assert!(
        matches!(
            silence.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
        "{silence}"
    );
    server.resume().unwrap();
    server.ping().unwrap();
}

#[test]
fn a_killed_server_cannot_be_paused() {
    let mut server = RedisServer::start().unwrap();
    server.kill();
    assert!(
        server
            .pause()
            .unwrap_err()
            .to_string()
            .contains("restart()")
    );
}

#[test]
fn dropping_leaves_no_process_and_no_folder() {
    for paused in [false, true] {
        let mut server = RedisServer::start().unwrap();
        let (process, folder) = (server.process_id().unwrap(), server.folder().to_owned());
        assert!(runs(process) && folder.exists());
        if paused {
            server.pause().unwrap();
        }
        drop(server);
        assert!(!runs(process) && !folder.exists());
    }
}

#[test]
fn a_refused_setting_ends_the_start_and_is_shown_with_the_log() {
    let error = RedisServer::start_with(&[("no-such-setting", "1")]).unwrap_err();
    // Not `NotReady`, for which a process that has ended would be waited for.
    assert!(matches!(&error, Error::Ended { .. }), "{error}");
    assert!(error.to_string().contains("no-such-setting"), "{error}");
}

#[test]
fn a_server_does_not_outlive_an_owner_that_is_killed() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_redis-until-killed"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    let (process, folder) = (line().parse().unwrap(), line());
    assert!(runs(process) && Path::new(&folder).exists());

    owner.kill().unwrap();
    owner.wait().unwrap();

    // It is up to the system's first process to wait for the orphan, so a zombie counts as gone.
    eventually("the server ends", || !runs(process) || is_zombie(process));
    eventually("its folder is removed", || !Path::new(&folder).exists());
}

fn is_zombie(process: u32) -> bool {
    let mut status = String::new();
    std::fs::File::open(format!("/proc/{process}/stat"))
        .and_then(|mut file| file.read_to_string(&mut status))
        .is_ok_and(|_| {
            status
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('Z'))
        })
}
