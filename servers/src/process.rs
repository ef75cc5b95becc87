//! Child processes that do not outlive whoever started them.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::{Error, wait};

/// How many lines of a log an error shows. MariaDB's closing advice alone has some thirty.
const LOG_LINES: usize = 60;

/// What the watchdog runs. Its input is a pipe that only its parent holds open, so `read` ends when
/// the parent is gone, however it went. `$1` is the group to kill, `$2` the folder to remove, if any.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
read -r _
kill -s KILL -- "-$1"
[ -z "$2" ] || rm -rf -- "$2"
"#;

/// The process group that a child leads, with whatever the child starts.
#[derive(Clone, Copy, Debug)]
pub struct Group(Pid);

impl Group {
    /// The group of a child that was started with [`lead_group`].
    pub fn of(child: &Child) -> Self {
        Self(Pid::from_child(child))
    }

    /// Asks every process of the group to end.
    ///
    /// # Errors
    /// If the group has no process any more.
    pub fn terminate(self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Ends every process of the group, paused ones included.
    ///
    /// # Errors
    /// If the group has no process any more.
    pub fn kill(self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(self, signal: Signal) -> io::Result<()> {
        Ok(kill_process_group(self.0, signal)?)
    }
}

/// Makes the child leader of a process group of its own: a signal reaches it with all that it starts,
/// and a Ctrl-C at the terminal does not reach it before its owner has decided what to end first.
pub fn lead_group(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// Kills a process group as soon as this process is gone, by `kill -9` too, when no destructor runs.
#[derive(Debug)]
pub struct Watchdog(Child);

impl Watchdog {
    /// Watches over a group, and over a folder to remove with it.
    ///
    /// # Errors
    /// If `sh` cannot be started.
    pub fn over(group: Group, folder: Option<&Path>) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", WATCHDOG, "watchdog", &group.0.to_string()]);
        command.arg(folder.unwrap_or_else(|| Path::new("")));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        lead_group(&mut command).spawn().map(Self)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Killed before its input closes: it has nothing to do when its owner ends in order.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server: its process, its log, and a watchdog. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    _watchdog: Watchdog,
}

impl Process {
    /// Starts `command` in `folder`, with its output in `server.log` there.
    ///
    /// The folder is its temporary folder too. In a shared one, servers disturb each other: MariaDB,
    /// for example, deletes every temporary table that it finds there at its start.
    ///
    /// # Errors
    /// If the log cannot be written or a process cannot be started.
    pub fn start(name: &'static str, mut command: Command, folder: &Path) -> Result<Self, Error> {
        let log = folder.join("server.log");
        let out =
            File::create(&log).map_err(Error::io(format!("cannot write {}", log.display())))?;
        let err = out
            .try_clone()
            .map_err(Error::io("cannot share a server's log"))?;
        command.current_dir(folder).env("TMPDIR", folder);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let failed = format!("cannot start {}", command.get_program().display());
        let mut child = lead_group(&mut command)
            .spawn()
            .map_err(Error::io(failed))?;
        match Watchdog::over(Group::of(&child), Some(folder)) {
            Ok(watchdog) => Ok(Self {
                name,
                child,
                log,
                _watchdog: watchdog,
            }),
            Err(error) => {
                end(&mut child);
                Err(Error::io("cannot start `sh`, which watches over servers")(
                    error,
                ))
            }
        }
    }

    /// Runs `command` as [`start`](Self::start) does, and waits for its end, for at most `limit`.
    ///
    /// # Errors
    /// If it cannot be started, fails, or takes longer; the last two with the end of its log.
    pub fn run(
        name: &'static str,
        command: Command,
        folder: &Path,
        limit: Duration,
    ) -> Result<(), Error> {
        let mut process = Self::start(name, command, folder)?;
        let status = wait::until_ended(&mut process, limit)?;
        if status.success() {
            return Ok(());
        }
        Err(process.ended_with(status))
    }

    /// The kind of server.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it did.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child
            .try_wait()
            .map_err(Error::io(format!("cannot look after {}", self.name)))
    }

    /// Stops the server in its tracks (SIGSTOP), and returns when it stands still.
    ///
    /// # Errors
    /// If it runs no more.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.signal(Signal::STOP)?;
        // The signal is only on its way: without this wait one more request might be answered. A
        // server that is killed meanwhile counts too; NOWAIT leaves its status for `ended`.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), options)
            .map(drop)
            .map_err(|error| {
                Error::io(format!("cannot wait for {} to pause", self.name))(error.into())
            })
    }

    /// Lets a paused server go on (SIGCONT).
    ///
    /// # Errors
    /// If it runs no more.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// The last lines that the server wrote.
    pub fn log_tail(&self) -> String {
        match fs::read(&self.log) {
            Ok(bytes) => last_lines(&bytes),
            Err(error) => format!("(its log cannot be read: {error})"),
        }
    }

    /// The error that reports this end.
    pub(crate) fn ended_with(&self, status: ExitStatus) -> Error {
        Error::Ended {
            name: self.name,
            status,
            log: self.log_tail(),
        }
    }

    /// The error that reports that the server is not ready yet, with what the last look met.
    pub(crate) fn not_ready(&self, waited: Duration, last: io::Error) -> Error {
        Error::NotReady {
            name: self.name,
            waited,
            last,
            log: self.log_tail(),
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        // Looked at first: the id of a process that was waited for may be somebody else's by now.
        if let Some(status) = self.ended()? {
            return Err(self.ended_with(status));
        }
        Group::of(&self.child)
            .signal(signal)
            .map_err(Error::io(format!("cannot signal {}", self.name)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a child with its group and waits for its end. No grace: tests want the worst case, and
/// what a server would tidy up lies in a folder that is removed.
fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        let _ = Group::of(child).kill();
        let _ = child.wait();
    }
}

/// The last lines of some output, for an error.
pub(crate) fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_shown() {
        let many: String = (0..100).map(|n| format!("{n}\n")).collect();
        let shown = last_lines(many.as_bytes());
        assert_eq!(shown.lines().count(), LOG_LINES);
        assert!(shown.starts_with("40\n") && shown.ends_with("\n99"));
        assert_eq!(last_lines(b""), "");
    }

    fn run(script: &str, folder: &Path, limit: Duration) -> Result<(), Error> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::run("Example", command, folder, limit)
    }

    #[test]
    fn a_program_runs_in_its_folder_and_has_it_for_its_temporary_files() {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"[ "$TMPDIR" = "$(pwd -P)" ] && : > "$TMPDIR/mark""#;
        let real = folder.path().canonicalize().unwrap();
        run(script, &real, Duration::MAX).unwrap();
        assert!(folder.path().join("mark").exists());
    }

    #[test]
    fn a_program_that_fails_or_hangs_is_reported_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let failed = run("echo cause; exit 3", folder.path(), Duration::MAX).unwrap_err();
        assert!(matches!(failed, Error::Ended { .. }), "{failed}");
        assert!(failed.to_string().contains("cause"), "{failed}");
        let hung = run("sleep 600", folder.path(), Duration::ZERO).unwrap_err();
        assert!(matches!(hung, Error::NotReady { .. }), "{hung}");
    }

    #[test]
    fn a_signal_to_a_process_that_ended_is_refused_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo farewell"]);
        let mut process = Process::start("Example", command, folder.path()).unwrap();
        process.child.wait().unwrap();
        let told = process.pause().unwrap_err().to_string();
        assert!(told.contains("farewell"), "{told}");
    }
}
