//! Installing a missing server, if one command can do that.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::geteuid;

use crate::Error;
use crate::process::last_lines;
use crate::software::Software;

/// The package manager's environment.
///
/// It must not ask questions, and packages must not start services, which these tests do not use:
/// `SYSTEMD_OFFLINE` makes `systemctl` behave as if the machine were not booted, and `RUNLEVEL`
/// does the same for older scripts.
const SETTINGS: [&str; 3] = [
    "DEBIAN_FRONTEND=noninteractive",
    "SYSTEMD_OFFLINE=1",
    "RUNLEVEL=1",
];

/// Another installation may be in progress: wait for it, but not forever.
const LOCK: &str = "-oDPkg::Lock::Timeout=300";

/// How often the lists of packages are asked for while somebody else has them locked, once a second.
const TRIES: u32 = 120;

/// Finds a server's program. A missing one is installed if the machine has `apt-get` and this
/// process may use it: as root, or with a `sudo` that does not ask for a password.
///
/// # Errors
/// [`Error::Missing`] with what to install by hand, or [`Error::Install`] with the output of
/// `apt-get`.
pub fn ensure(software: &Software) -> Result<PathBuf, Error> {
    let missing = match software.find() {
        Err(error @ Error::Missing { .. }) => error,
        found => return found,
    };
    // If a variable names a wrong program, a person must correct it; an installation would not
    // help.
    let named = std::env::var_os(software.variable).is_some_and(|value| !value.is_empty());
    match Manager::find() {
        Some(manager) if !named => manager.install(software)?,
        _ => return Err(missing),
    }
    software.find()
}

/// Makes sure that the OpenSSL headers are there, and installs them as [`ensure`] installs servers.
/// On Linux, `redis-session-native-tls` does not compile without them, nor does a build with all
/// features.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_openssl() -> Result<(), Error> {
    // Other systems use a library of their own, and whoever names a folder has the headers.
    if !cfg!(target_os = "linux") || std::env::var_os("OPENSSL_DIR").is_some() {
        return Ok(());
    }
    ensure_packages(&Packages {
        name: "OpenSSL (headers, found through pkg-config)",
        hint: "install them (Debian, Ubuntu: apt-get install libssl-dev pkg-config; Fedora: dnf \
               install openssl-devel pkgconf), or name their folder in OPENSSL_DIR",
        probe: &["pkg-config", "--exists", "openssl"],
        debian: &["libssl-dev", "pkg-config"],
    })
}

/// Makes sure that `python3 -m pip` works, and installs it as [`ensure`] installs servers.
pub(crate) fn ensure_pip() -> Result<(), Error> {
    ensure_packages(&Packages {
        name: "pip (python3 -m pip)",
        hint: "install it (Debian, Ubuntu: apt-get install python3-pip; Fedora: dnf install \
               python3-pip)",
        probe: &["python3", "-m", "pip", "--version"],
        debian: &["python3-pip"],
    })
}

/// What is no server, and how to know whether it is there.
struct Packages {
    name: &'static str,
    hint: &'static str,
    /// A command that succeeds if it is.
    probe: &'static [&'static str],
    debian: &'static [&'static str],
}

fn ensure_packages(wanted: &Packages) -> Result<(), Error> {
    let is_there = || output(wanted.probe).is_ok_and(|output| output.status.success());
    if is_there() {
        return Ok(());
    }
    let missing = || Error::Missing {
        name: wanted.name,
        hint: wanted.hint.to_owned(),
    };
    let manager = Manager::find().ok_or_else(missing)?;
    eprintln!("{} is missing: installing it with apt-get", wanted.name);
    // A failure does not matter yet: the lists may be fresh enough, or an unrelated source broken.
    let updated = manager.update();
    let installed = manager.install_packages(wanted.debian);
    installed.or_else(|error| updated.and(Err(error)))?;
    if is_there() {
        return Ok(());
    }
    Err(missing())
}

/// `apt-get`, and how to call it with the right to install.
#[derive(Debug)]
struct Manager {
    prefix: &'static [&'static str],
}

impl Manager {
    fn find() -> Option<Self> {
        let prefix: &[&str] = if geteuid().is_root() {
            &["env"]
        } else {
            &["sudo", "-n", "env"]
        };
        let manager = Self { prefix };
        manager
            .run(&["apt-get", "--version"])
            .is_ok()
            .then_some(manager)
    }

    /// Tries the packages in order: a release knows one name or the other.
    fn install(&self, software: &Software) -> Result<(), Error> {
        eprintln!("{} is missing: installing it with apt-get", software.name);
        // A failure does not matter yet: the lists may be fresh enough, or an unrelated source
        // broken.
        let updated = self.update();
        let mut result = Ok(());
        for package in software.debian_packages {
            result = self.install_packages(&[package]);
            if result.is_ok() {
                eprintln!("installed {package}; the service that comes with it is not used here");
                return Ok(());
            }
        }
        updated.and(result)
    }

    /// Gets the lists of packages. That lock has no time-out of its own.
    fn update(&self) -> Result<(), Error> {
        for _ in 1..TRIES {
            match self.run(&["apt-get", "update"]) {
                Err(error) if error.to_string().contains("/lock") => sleep(Duration::from_secs(1)),
                updated => return updated,
            }
        }
        self.run(&["apt-get", "update"])
    }

    fn install_packages(&self, packages: &[&str]) -> Result<(), Error> {
        let install = ["apt-get", "install", "-y", "--no-install-recommends", LOCK];
        self.run(&[&install, packages].concat())
    }

    fn run(&self, command: &[&str]) -> Result<(), Error> {
        let words: Vec<&str> = self
            .prefix
            .iter()
            .chain(&SETTINGS)
            .chain(command)
            .copied()
            .collect();
        checked(&words)
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be run, or it fails: the error has the last lines that it printed.
pub(crate) fn checked(words: &[&str]) -> Result<(), Error> {
    let failed = |output: String| Error::Install {
        command: words.join(" "),
        output,
    };
    let output = output(words).map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(last_lines(&[output.stdout, output.stderr].concat())))
}

fn output(words: &[&str]) -> std::io::Result<Output> {
    Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
}
