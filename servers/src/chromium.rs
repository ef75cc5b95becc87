//! Chromium, without a window, driven over a pipe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command};

use tempfile::TempDir;

use crate::Error;
use crate::process::Process;
use crate::software::Software;
use crate::wait::LIMIT;

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
/// shell puts them there: this process would need `unsafe` to do so.
const ON_PIPES: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >&2"#;

/// It talks to this machine alone: names under `.test` lead here, and it knows no others. There is
/// no sandbox: root and many containers cannot have one, and the pages are our own.
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

/// Whether pages in frames of other sites get cookies that are not partitioned. Distributions have
/// different defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThirdParties {
    /// Chromium's own default.
    Kept,
    /// The choice of many users, distributions and other browsers.
    Blocked,
}

/// A browser with an empty profile of its own. Dropping it kills it and removes the profile.
#[derive(Debug)]
pub struct Chromium {
    // Dropped in this order: the process is gone before its folder is removed.
    process: Option<Process>,
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

impl Chromium {
    /// Starts a browser. It answers as soon as it can; what is written earlier waits in the pipe.
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

    /// Starts the browser again with the same profile. If it still runs, it is killed first, and
    /// what it has not written yet is lost.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> Result<Pipe, Error> {
        self.process = None;
        self.launch()
    }

    /// Waits for the end of a browser that was asked to close, as when a user closes it.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn wait_until_closed(&mut self) -> Result<(), Error> {
        if let Some(process) = &mut self.process {
            process.wait(LIMIT)?;
        }
        self.process = None;
        Ok(())
    }

    /// The last lines that the browser wrote.
    pub fn log_tail(&self) -> String {
        self.process
            .as_ref()
            .map_or_else(|| "(it does not run)".to_owned(), Process::log_tail)
    }

    fn launch(&mut self) -> Result<Pipe, Error> {
        let folder = self.folder.path();
        let command = command(&self.program, folder);
        let (process, commands, messages) =
            Process::start_on_pipes(SOFTWARE.name, command, folder)?;
        self.process = Some(process);
        Ok(Pipe { commands, messages })
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
    command.arg(profile).arg("about:blank");
    // What it would leave in the user's folders, it leaves here.
    command
        .env("HOME", folder)
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_CACHE_HOME");
    command
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

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
        // The other side of the pipe is closed: no process of the group holds it any more.
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
