//! The application in `examples/webapp`, as a visitor uses it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use servers::port::Port;

use crate::devtools::{Browser, Connection, Page};

const CLICKS: u64 = 16;

/// The application as a process. It ends with the test, however the test ends.
struct Running(Child);

impl Running {
    /// Starts it with nothing configured but its address and a quiet log.
    fn start(folder: &Path, port: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_webapp-to-visit"));
        command
            .env_clear()
            .env("BIND", format!("127.0.0.1:{port}"))
            .env("RUST_LOG", "error")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut running = Self(command.spawn().unwrap());
        let mut line = String::new();
        let output = running.0.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), format!("Open http://127.0.0.1:{port}"));
        running
    }
}

impl Drop for Running {
    /// By SIGKILL.
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _status = self.0.wait();
    }
}

struct User {
    page: Page,
    connection: Connection,
    url: String,
}

impl User {
    fn goto(&self, path: &str) {
        self.page.goto(&format!("{}{path}", self.url));
    }

    fn fill(&self, field: &str, text: &str) {
        let script = format!(
            "document.querySelector('[name={field}]').value = {}",
            json!(text)
        );
        self.page.evaluate(&script);
    }

    /// Presses the button of the form that goes to this address.
    fn press(&self, action: &str) {
        let form = format!(
            "document.querySelector('form[action={}] button')",
            json!(action)
        );
        self.page.follow(&format!("{form}.click()"));
    }

    fn assert_sees(&self, text: &str) {
        let shown = self.page.text();
        assert!(shown.contains(text), "no {text:?} in {shown}");
    }

    fn assert_misses(&self, text: &str) {
        let shown = self.page.text();
        assert!(!shown.contains(text), "{text:?} in {shown}");
    }

    fn clicks(&self) -> u64 {
        self.goto("/");
        let figure = self
            .page
            .evaluate("document.querySelector('.figure').textContent");
        let figure = figure
            .as_str()
            .unwrap()
            .trim_start_matches("Clicks so far: ");
        figure.parse().unwrap()
    }

    /// Whether the account page opens; otherwise it leads to the login page.
    fn is_logged_in(&self) -> bool {
        self.goto("/account");
        self.page.url().ends_with("/account")
    }

    fn cookies(&self) -> Vec<Value> {
        let ours = json!({"urls": [self.url]});
        let mut kept = self.page.call("Network.getCookies", &ours);
        let kept: Value = kept["cookies"].take();
        kept.as_array().unwrap().clone()
    }

    /// Clicks the counter many times at once in this window, and in another at the same time.
    fn click_in_parallel(&self) {
        self.goto("/");
        let other = Self {
            page: Page::open(&self.connection),
            connection: self.connection.clone(),
            url: self.url.clone(),
        };
        other.goto("/");
        let script = format!(
            "window.all = Promise.all(Array.from({{length: {}}}, () => \
             fetch('/clicks', {{method: 'POST'}}).then(answer => answer.ok))); 0",
            CLICKS - 1
        );
        self.page.evaluate(&script);
        other.press("/clicks");
        let all = self.page.evaluate("window.all");
        assert!(all.as_array().unwrap().iter().all(|ok| ok == true), "{all}");
    }
}

impl User {
    fn in_new_profile(connection: &Connection, url: &str) -> Self {
        Self {
            page: Page::open_in_new_profile(connection),
            connection: connection.clone(),
            url: url.to_owned(),
        }
    }

    fn log_in(&self) {
        self.goto("/login");
        self.fill("name", "ada");
        self.fill("password", "correct horse battery");
        self.press("/login");
    }

    /// Waits until the page's own connection is so far.
    fn wait_for_live(&self, state: &str) {
        let script = format!(
            "new Promise((done) => {{ const look = () => \
             document.documentElement.dataset.live === {} ? done() : setTimeout(look, 10); look(); }})",
            json!(state)
        );
        self.page.evaluate(&script);
    }

    /// Keeps a picture of the page, where somebody has asked for it.
    fn keep_picture(&self, name: &str) {
        let size = json!({"width": 1000, "height": 720, "deviceScaleFactor": 1, "mobile": false});
        self.page.call("Emulation.setDeviceMetricsOverride", &size);
        let picture = self.page.picture();
        assert!(picture.starts_with(b"\x89PNG"));
        if let Some(folder) = std::env::var_os("PICTURES") {
            std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
        }
    }
}

#[test]
fn one_device_signs_another_out_and_its_open_page_knows_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let reserved = Port::reserve().unwrap();
    let port = reserved.number();
    let _running = Running::start(folder.path(), port);
    let (connection, url) = (Browser::shared(), format!("http://127.0.0.1:{port}"));
    let [laptop, phone] = [(); 2].map(|()| User::in_new_profile(&connection, &url));
    laptop.goto("/register");
    laptop.fill("name", "ada");
    laptop.fill("password", "correct horse battery");
    laptop.press("/register");
    let agent = json!({"userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) \
        AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1"});
    phone.page.call("Emulation.setUserAgentOverride", &agent);
    phone.log_in();
    assert!(phone.is_logged_in());
    phone.goto("/notes");
    phone.wait_for_live("open");

    laptop.goto("/session");
    laptop.keep_picture("session");
    laptop.goto("/account");
    laptop.assert_sees("this device");
    laptop.keep_picture("devices");
    laptop
        .page
        .follow("document.querySelector('.devices form button').click()");
    // The open page is told, without a click.
    phone.wait_for_live("ended");
    phone.assert_sees("signed out from another device");
    // And its next click leads to the login.
    assert!(!phone.is_logged_in());
    assert!(laptop.is_logged_in());
}

#[test]
fn a_user_of_the_application_keeps_everything_until_the_logout_and_nothing_after_it() {
    let folder = tempfile::tempdir().unwrap();
    // Reserved, since the application leaves it for a moment.
    let reserved = Port::reserve().unwrap();
    let port = reserved.number();
    let running = Running::start(folder.path(), port);
    let connection = Browser::shared();
    let user = User {
        page: Page::open(&connection),
        connection,
        url: format!("http://127.0.0.1:{port}"),
    };

    // A note made before there is an account moves into it.
    user.goto("/notes");
    user.fill("text", "buy <b>milk</b>");
    user.press("/notes");
    user.assert_sees("buy <b>milk</b>");
    user.goto("/register");
    user.fill("name", "ada");
    user.fill("password", "correct horse battery");
    user.press("/register");
    user.assert_sees("Your account is ready");
    assert!(user.is_logged_in());
    user.click_in_parallel();
    assert_eq!(user.clicks(), CLICKS);

    // The server is killed, and another one takes over.
    drop(running);
    let _running = Running::start(folder.path(), port);
    assert!(user.is_logged_in());
    assert_eq!(user.clicks(), CLICKS);
    user.goto("/notes");
    user.assert_sees("buy <b>milk</b>");

    // The logout: neither the back button nor the cookie from before it opens anything.
    let old = user.cookies();
    assert_eq!(old.len(), 1, "{old:?}");
    user.press("/logout");
    user.assert_sees("Goodbye!");
    assert!(
        user.cookies()
            .iter()
            .all(|cookie| cookie["value"] != old[0]["value"])
    );
    user.page.back();
    assert!(user.page.url().ends_with("/notes"), "{}", user.page.url());
    user.assert_misses("milk");
    user.assert_sees("Log in");
    assert!(!user.is_logged_in());
    let (name, value) = (&old[0]["name"], &old[0]["value"]);
    let again = json!({"name": name, "value": value, "url": user.url});
    user.page.call("Network.setCookie", &again);
    assert_eq!(user.cookies()[0]["value"], *value);
    assert!(!user.is_logged_in());
    assert_eq!(user.clicks(), 0);
    user.goto("/notes");
    user.assert_misses("milk");
}
