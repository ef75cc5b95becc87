//! Child processes that do not outlive whoever started them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::Error;
use crate::family::Family;

/// The pause between two looks at a program.
const PAUSE: Duration = Duration::from_millis(10);

/// How many lines of a log an error shows. MariaDB's closing advice alone has some thirty.
const LOG_LINES: usize = 60;

/// What the watchdog runs. Its input is a pipe that only its parent holds open, so `read` returns
/// when the parent is gone, for whatever reason. `$1` is the group to kill, `$2` the folder to
/// remove, if any. Children of a killed PostgreSQL still write there for a moment, so one attempt
/// may not be enough.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
read -r _
kill -s KILL -- "-$1"
[ -n "$2" ] || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$2" && exit 0
    sleep 1
done
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
    /// If the group no longer has a process.
    pub fn terminate(self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Ends every process of the group, paused ones included.
    ///
    /// # Errors
    /// If the group no longer has a process.
    pub fn kill(self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(self, signal: Signal) -> io::Result<()> {
        Ok(kill_process_group(self.0, signal)?)
    }
}

/// Makes the child the leader of its own process group: a signal reaches it with everything that it
/// starts, and a Ctrl-C at the terminal does not reach it before its owner has decided what to end
/// first.
pub fn lead_group(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// Kills a process group as soon as this process is gone, even by `kill -9`, when no destructor
/// runs.
#[derive(Debug)]
pub struct Watchdog(Child);

impl Watchdog {
    /// Watches over a group, and over a folder that is removed with it.
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
        // Killed before its input closes: if its owner ends in order, there is nothing left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server: its process, its log, and a watchdog. Dropping it kills it with everything
/// that it has started, and waits for their end.
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
    /// The folder is its temporary folder too. In a shared one, servers disturb each other:
    /// MariaDB, for example, starts by deleting every temporary table that it finds there.
    ///
    /// # Errors
    /// If the log cannot be written or the process cannot be started.
    pub fn start(name: &'static str, mut command: Command, folder: &Path) -> Result<Self, Error> {
        let log = Log::create(folder)?;
        command
            .stdin(Stdio::null())
            .stdout(log.share()?)
            .stderr(log.share()?);
        Self::spawn(name, command, folder, log)
    }

    /// Starts `command` likewise, with its input and output on pipes. Only its errors go to the
    /// log.
    pub(crate) fn start_on_pipes(
        name: &'static str,
        mut command: Command,
        folder: &Path,
    ) -> Result<(Self, ChildStdin, ChildStdout), Error> {
        let log = Log::create(folder)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.share()?);
        let mut process = Self::spawn(name, command, folder, log)?;
        let input = process.child.stdin.take().expect("its input is a pipe");
        let output = process.child.stdout.take().expect("its output is a pipe");
        Ok((process, input, output))
    }

    /// Runs `command` as [`start`](Self::start) does, and waits for its end.
    ///
    /// # Errors
    /// If it cannot be started, fails, or takes longer than `limit`. The last two show its log.
    pub fn run(
        name: &'static str,
        command: Command,
        folder: &Path,
        limit: Duration,
    ) -> Result<(), Error> {
        let mut process = Self::start(name, command, folder)?;
        let status = process.wait(limit)?;
        if status.success() {
            return Ok(());
        }
        Err(process.ended_with(status))
    }

    /// Waits until the program ends by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if started.elapsed() >= limit {
                return Err(self.not_ready(limit, io::Error::other("it still runs")));
            }
            thread::sleep(PAUSE);
        }
    }

    fn spawn(
        name: &'static str,
        mut command: Command,
        folder: &Path,
        log: Log,
    ) -> Result<Self, Error> {
        command.current_dir(folder).env("TMPDIR", folder);
        let failed = format!("cannot start {}", command.get_program().display());
        let mut child = lead_group(&mut command)
            .spawn()
            .map_err(Error::io(failed))?;
        let watchdog = Watchdog::over(Group::of(&child), Some(folder)).map_err(|error| {
            end(&mut child);
            Error::io("cannot start `sh`, which watches over servers")(error)
        })?;
        Ok(Self {
            name,
            child,
            log: log.path,
            _watchdog: watchdog,
        })
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
    /// If the system does not know.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child
            .try_wait()
            .map_err(Error::io(format!("cannot check on {}", self.name)))
    }

    /// Pauses the server (SIGSTOP) with everything that it has started, and returns when all of it
    /// stands still.
    ///
    /// # Errors
    /// If it no longer runs.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.check_running()?;
        stop(&self.child)
            .and_then(|()| Family::of(self.id()).pause())
            .map_err(Error::io(format!("cannot pause {}", self.name)))
    }

    /// Lets a paused server go on (SIGCONT).
    ///
    /// # Errors
    /// If it no longer runs.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.check_running()?;
        Family::of(self.id())
            .resume()
            .and_then(|()| Group::of(&self.child).signal(Signal::CONT))
            .map_err(Error::io(format!("cannot resume {}", self.name)))
    }

    /// The last lines that the server wrote.
    pub fn log_tail(&self) -> String {
        match fs::read(&self.log) {
            Ok(bytes) => last_lines(&bytes),
            Err(error) => format!("(its log cannot be read: {error})"),
        }
    }

    /// The error for this end.
    pub(crate) fn ended_with(&self, status: ExitStatus) -> Error {
        Error::Ended {
            name: self.name,
            status,
            log: self.log_tail(),
        }
    }

    /// The error for a server that is not ready in time, with the result of the last attempt.
    pub(crate) fn not_ready(&self, waited: Duration, last: io::Error) -> Error {
        Error::NotReady {
            name: self.name,
            waited,
            last,
            log: self.log_tail(),
        }
    }

    /// Must precede any signal: once a process was waited for, its id may be reused.
    fn check_running(&mut self) -> Result<(), Error> {
        match self.ended()? {
            Some(status) => Err(self.ended_with(status)),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The file that a process writes to.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn create(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("server.log");
        let file =
            File::create(&path).map_err(Error::io(format!("cannot write {}", path.display())))?;
        Ok(Self { path, file })
    }

    fn share(&self) -> Result<File, Error> {
        self.file
            .try_clone()
            .map_err(Error::io("cannot share a server's log"))
    }
}

/// Kills a child with everything that it has started, and waits for their end. There is no grace:
/// tests want the worst case, and what a server would tidy up is in a folder that is removed.
fn end(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    // Refused only if it ends by itself at this moment.
    let _ = stop(child);
    let family = Family::of(child.id());
    let _ = Group::of(child).kill();
    let _ = child.wait();
    family.kill();
}

/// Stops a child, and returns when it stands still. It alone, not its group: while it starts another
/// process, it waits in the kernel until that one runs, which it never does if it is stopped as well.
fn stop(child: &Child) -> io::Result<()> {
    Family::just(child).pause()
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
    fn a_program_runs_in_its_folder_and_puts_its_temporary_files_there() {
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
    fn a_program_that_keeps_starting_others_can_be_paused_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do /bin/true; done"]);
            let mut process = Process::start("Example", command, folder.path()).unwrap();
            for _ in 0..5 {
                process.pause().unwrap();
                process.resume().unwrap();
            }
        }
    }

    #[test]
    fn pausing_a_process_that_has_ended_fails_and_shows_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo farewell"]);
        let mut process = Process::start("Example", command, folder.path()).unwrap();
        process.child.wait().unwrap();
        let message = process.pause().unwrap_err().to_string();
        assert!(message.contains("farewell"), "{message}");
    }
}
