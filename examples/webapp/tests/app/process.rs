//! The program, as a user starts it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use crate::site::Visitor;

fn webapp(folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webapp"));
    command
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(folder);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the program when it cannot start, and returns what it says.
fn refusal(variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = webapp(folder.path(), variables).output().unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&stdout), "");
    String::from_utf8_lossy(&stderr).into_owned()
}

#[test]
fn production_without_a_key_does_not_start() {
    let says = refusal(&[("APP_ENV", "production"), ("BIND", "127.0.0.1:0")]);
    assert!(
        says.contains("APP_SECRET_KEY") && says.contains("openssl rand -base64 64"),
        "{says}"
    );
}

#[test]
fn a_key_that_is_too_short_is_refused() {
    let says = refusal(&[("APP_SECRET_KEY", "c2hvcnQ="), ("BIND", "127.0.0.1:0")]);
    for part in ["APP_SECRET_KEY", "5 bytes", "openssl rand -base64 64"] {
        assert!(says.contains(part), "{says}");
    }
}

#[test]
fn an_unknown_store_is_refused() {
    let says = refusal(&[
        ("SESSION_STORE", "memcached://127.0.0.1"),
        ("BIND", "127.0.0.1:0"),
    ]);
    assert!(
        says.contains("memcached://127.0.0.1") && says.contains("redis://"),
        "{says}"
    );
}

#[test]
fn a_store_that_is_no_address_is_refused_in_the_words_of_whoever_typed_it() {
    let says = refusal(&[("SESSION_STORE", "foo"), ("BIND", "127.0.0.1:0")]);
    assert!(
        says.contains("SESSION_STORE `foo` is invalid: the address of a session store must begin")
            && says.contains("memory:"),
        "{says}"
    );
}

#[test]
fn a_file_that_cannot_be_opened_is_not_told_to_start() {
    let says = refusal(&[
        ("SESSION_STORE", "sqlite://no-such-folder/sessions.sqlite3"),
        ("BIND", "127.0.0.1:0"),
    ]);
    assert!(
        says.contains("make sure that its folder exists") && !says.contains("start it"),
        "{says}"
    );
}

#[test]
fn a_taken_port_is_explained() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let says = refusal(&[("BIND", &address)]);
    assert!(
        says.contains(&address) && says.contains("set BIND"),
        "{says}"
    );
}

/// Ends the program, even if a test fails half-way.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Starts the program with nothing configured, and reads its address.
fn start(folder: &Path) -> (Running, reqwest::Url) {
    let (running, [url]) = start_with(folder, &[], ["Open "]);
    (running, url)
}

/// Starts the program, and reads the addresses that its first lines name after these words.
fn start_with<const N: usize>(
    folder: &Path,
    variables: &[(&str, &str)],
    words: [&str; N],
) -> (Running, [reqwest::Url; N]) {
    let variables = [&[("BIND", "127.0.0.1:0")], variables].concat();
    let mut running = Running(webapp(folder, &variables).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stdout.as_mut().unwrap());
    let urls = words.map(|words| {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix(words);
        url.expect("the line names an address").parse().unwrap()
    });
    (running, urls)
}

#[actix_web::test]
async fn the_counters_are_on_an_address_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("METRICS_ADDRESS", "127.0.0.1:0")];
    let (_running, [url, metrics]) = start_with(folder.path(), &variables, ["Open ", "Metrics: "]);
    Visitor::at(url.clone()).register("eve").await;
    let shown = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    let logins = shown
        .lines()
        .any(|line| line == "actix_session_logins_total 1");
    assert!(logins, "{shown}");
    assert!(!shown.contains("eve"), "{shown}");
    let elsewhere = url.join("/metrics").unwrap();
    assert_eq!(reqwest::get(elsewhere).await.unwrap().status(), 404);
}

#[test]
fn an_address_for_counters_that_is_taken_is_explained() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let says = refusal(&[("BIND", "127.0.0.1:0"), ("METRICS_ADDRESS", &address)]);
    assert!(
        says.contains(&address) && says.contains("METRICS_ADDRESS"),
        "{says}"
    );
}

#[actix_web::test]
async fn a_login_survives_a_kill_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let (running, url) = start(folder.path());
    let eve = Visitor::at(url);
    eve.register("eve").await;
    eve.add_note("remember me").await;
    assert!(eve.is_logged_in().await);
    // Kills the program (SIGKILL) and waits for its end.
    drop(running);

    let (_running, url) = start(folder.path());
    let eve_later = Visitor::at(url);
    eve_later.take_cookie(&eve.cookies().unwrap());
    assert!(eve_later.is_logged_in().await);
    assert!(eve_later.page("/notes").await.contains("remember me"));
}

#[cfg(unix)]
#[actix_web::test]
async fn it_starts_with_nothing_configured_and_stops_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (mut running, url) = start(folder.path());
    let page = reqwest::get(url).await.unwrap();
    assert!(page.text().await.unwrap().contains("Notes and clicks"));
    assert!(folder.path().join("data/dev-secret.key").exists());

    let pid = running.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    let mut log = String::new();
    running
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    assert!(log.contains("made a key for development"), "{log}");
}
