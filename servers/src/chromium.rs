//! Chromium, without a window, driven over a pipe.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use tempfile::TempDir;

use crate::Error;
use crate::process::{Group, Watchdog, last_lines, lead_group};
use crate::software::Software;

/// How Chromium is found and installed.
pub const SOFTWARE: Software = Software {
    name: "Chromium",
    programs: &[
        "chromium",
        "chromium-browser",
        "google-chrome-stable",
        "google-chrome",
    ],
    variable: "CHROMIUM_BIN",
    debian_packages: &["chromium"],
    elsewhere: "Fedora: dnf install chromium; macOS: brew install --cask chromium",
};

/// The browser speaks the DevTools protocol on its descriptors 3 and 4, and ends when they close. A
/// shell puts them there: to do so in this process would need `unsafe`.
const ON_PIPES: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >&2"#;

/// Only this machine is spoken to: names under `.test` are this machine, and no other name is known.
/// No sandbox: it cannot be had as root or in many containers, and the pages are our own.
const FLAGS: [&str; 16] = [
    "--headless",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--ignore-certificate-errors",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
];

/// Whether pages in frames of other sites get cookies that are not partitioned. Distributions differ
/// in what they preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThirdParties {
    /// As Chromium is made.
    Kept,
    /// As many users, distributions and other browsers have it.
    Blocked,
}

/// How long a browser that was asked to end may take to write its profile.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

/// The pause before a browser that is to end is looked at again.
const PAUSE: Duration = Duration::from_millis(10);

/// A browser with an empty profile of its own. Dropping it kills it and removes the profile.
#[derive(Debug)]
pub struct Chromium {
    // Dropped in this order: the process is gone before its folder is removed.
    process: Option<Running>,
    program: PathBuf,
    folder: TempDir,
}

/// The two ends of the pipe to a browser: NUL-terminated DevTools messages go in and come out.
#[derive(Debug)]
pub struct Pipe {
    /// For commands. The browser ends when this is closed.
    pub commands: ChildStdin,
    /// For answers and events.
    pub messages: ChildStdout,
}

#[derive(Debug)]
struct Running {
    child: Child,
    _watchdog: Watchdog,
}

impl Chromium {
    /// Starts a browser. It answers as soon as it can: what is written before that waits in the pipe.
    ///
    /// # Errors
    /// If there is no program to start, or the system refuses to start it.
    pub fn start(third_parties: ThirdParties) -> Result<(Self, Pipe), Error> {
        let program = SOFTWARE.find()?;
        let folder = tempfile::Builder::new()
            .prefix("chromium-")
            .tempdir()
            .map_err(Error::io("cannot make a folder for Chromium"))?;
        write_preferences(folder.path(), third_parties)?;
        let mut browser = Self {
            process: None,
            program,
            folder,
        };
        let pipe = browser.launch()?;
        Ok((browser, pipe))
    }

    /// Starts the browser again, with the profile that it had. If it still runs, it is killed first;
    /// what it had not yet written is lost then.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> Result<Pipe, Error> {
        self.process = None;
        self.launch()
    }

    /// Waits for the end of a browser that was asked to close, as a user's that is closed.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn wait_until_closed(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        while self.ended()?.is_none() {
            if started.elapsed() > CLOSE_LIMIT {
                return Err(Error::NotReady {
                    name: SOFTWARE.name,
                    waited: CLOSE_LIMIT,
                    last: std::io::Error::other("it was asked to close and runs still"),
                    log: self.log_tail(),
                });
            }
            thread::sleep(PAUSE);
        }
        self.process = None;
        Ok(())
    }

    /// The last lines that the browser wrote.
    pub fn log_tail(&self) -> String {
        let mut bytes = Vec::new();
        let read = fs::File::open(self.log()).and_then(|mut log| log.read_to_end(&mut bytes));
        match read {
            Ok(_) => last_lines(&bytes),
            Err(error) => format!("(its log cannot be read: {error})"),
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        let Some(running) = &mut self.process else {
            return Ok(Some(ExitStatus::default()));
        };
        let ended = running.child.try_wait();
        ended.map_err(Error::io("cannot look after Chromium"))
    }

    fn launch(&mut self) -> Result<Pipe, Error> {
        let folder = self.folder.path();
        let log = fs::File::create(self.log()).map_err(Error::io("cannot write Chromium's log"))?;
        let mut command = command(&self.program, folder);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let started = lead_group(&mut command).spawn();
        let mut child = started.map_err(Error::io("cannot start Chromium"))?;
        let pipe = Pipe {
            commands: child.stdin.take().expect("its input is a pipe"),
            messages: child.stdout.take().expect("its output is a pipe"),
        };
        let watchdog = Watchdog::over(Group::of(&child), Some(folder));
        self.process = Some(Running {
            child,
            _watchdog: watchdog.map_err(Error::io("cannot start `sh`, which watches"))?,
        });
        Ok(pipe)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("browser.log")
    }
}

fn write_preferences(folder: &Path, third_parties: ThirdParties) -> Result<(), Error> {
    let blocked = third_parties == ThirdParties::Blocked;
    let preferences = format!(
        r#"{{"profile": {{"cookie_controls_mode": {}, "block_third_party_cookies": {blocked}}}}}"#,
        u8::from(blocked)
    );
    let defaults = folder.join("profile/Default");
    fs::create_dir_all(&defaults)
        .and_then(|()| fs::write(defaults.join("Preferences"), preferences))
        .map_err(Error::io("cannot write Chromium's preferences"))
}

fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", ON_PIPES]).arg(program).args(FLAGS);
    let mut profile = std::ffi::OsString::from("--user-data-dir=");
    profile.push(folder.join("profile"));
    // What it would leave in the user's folders, it leaves here.
    command.arg(profile).arg("about:blank");
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_CACHE_HOME");
    command
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The group, not the leader alone: what it started would write on in its folder.
            let _ = Group::of(&self.child).kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::install;

    /// A browser that has answered.
    fn answering() -> (Chromium, Pipe) {
        install::ensure(&SOFTWARE).unwrap();
        let (browser, mut pipe) = Chromium::start(ThirdParties::Kept).unwrap();
        let ask = br#"{"id": 1, "method": "Browser.getVersion"}"#;
        pipe.commands.write_all(ask).unwrap();
        pipe.commands.write_all(b"\0").unwrap();
        let mut first = [0];
        let answered = pipe.messages.read_exact(&mut first);
        answered.unwrap_or_else(|error| panic!("{error}: {}", browser.log_tail()));
        assert_eq!(&first, b"{");
        (browser, pipe)
    }

    #[test]
    fn a_browser_ends_with_its_value_and_leaves_nothing() {
        let (browser, mut pipe) = answering();
        let folder = browser.folder.path().to_owned();
        drop(browser);
        // The pipe is closed on the other side: nobody of the group holds it any more.
        pipe.messages.read_to_end(&mut Vec::new()).unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_browser_ends_with_its_pipe() {
        let (mut browser, pipe) = answering();
        drop(pipe);
        browser.wait_until_closed().unwrap();
    }
}
