//! The processes that belong to a server: its process group, and children that left it, as
//! PostgreSQL's do.

use std::process::Child;
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process};

/// How long signalled processes may take to stop or end.
const LIMIT: Duration = Duration::from_secs(20);

/// The pause before they are looked at again.
const PAUSE: Duration = Duration::from_millis(5);

/// The processes that a server leads or has started, apart from itself. As long as it stands still,
/// there will be no more of them.
#[derive(Debug)]
pub(crate) struct Family(Vec<Pid>);

impl Family {
    /// The living family of the server with this process id.
    pub(crate) fn of(server: u32) -> Self {
        let members = processes().filter(|known| {
            known.id != server
                && (known.parent == server || known.group == server)
                && !known.is_dead()
        });
        Self(members.filter_map(|known| pid(known.id)).collect())
    }

    /// A server without its family.
    pub(crate) fn just(server: &Child) -> Self {
        Self(vec![Pid::from_child(server)])
    }

    /// Pauses every member, and returns when they stand still. A signal is only on its way when it
    /// is sent: without the wait, one more request might be answered.
    pub(crate) fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        self.wait_while_any(|known| !known.is_dead() && !known.is_still());
        Ok(())
    }

    /// Lets every member go on.
    pub(crate) fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills every member, and returns when they are gone.
    pub(crate) fn kill(&self) {
        // Refused only for a process that has ended and whose id is somebody else's by now.
        let _ = self.signal(Signal::KILL);
        self.wait_while_any(|known| !known.is_dead());
    }

    /// Signals every member; one that has ended meanwhile is not an error.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        for member in &self.0 {
            match kill_process(*member, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait_while_any(&self, holds: impl Fn(&Known) -> bool) {
        let started = Instant::now();
        let is_member = |known: &Known| pid(known.id).is_some_and(|id| self.0.contains(&id));
        while !self.0.is_empty()
            && started.elapsed() < LIMIT
            && processes().any(|known| is_member(&known) && holds(&known))
        {
            thread::sleep(PAUSE);
        }
    }
}

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

/// A process, as the system lists it.
struct Known {
    id: u32,
    parent: u32,
    group: u32,
    state: String,
}

impl Known {
    /// Reads `STATE PARENT GROUP`.
    fn read(id: u32, rest: &str) -> Option<Self> {
        let mut fields = rest.split_whitespace();
        Some(Self {
            id,
            state: fields.next()?.to_owned(),
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    }

    /// Ended, though its parent may not have waited for it yet.
    fn is_dead(&self) -> bool {
        self.state.starts_with(['Z', 'X'])
    }

    /// Stopped, or waiting in the kernel and stopped before it leaves it.
    fn is_still(&self) -> bool {
        self.state.starts_with(['T', 't', 'D', 'U'])
    }
}

#[cfg(target_os = "linux")]
fn processes() -> impl Iterator<Item = Known> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name, in brackets, may contain anything.
        Known::read(id, stat.rsplit_once(')')?.1)
    })
}

#[cfg(not(target_os = "linux"))]
fn processes() -> impl Iterator<Item = Known> {
    let listing = std::process::Command::new("ps")
        .args(["-A", "-o", "pid=,state=,ppid=,pgid="])
        .output();
    let text = listing.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let lines: Vec<String> = text
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.into_iter().filter_map(|line| {
        let (id, rest) = line.trim_start().split_once(' ')?;
        Known::read(id.parse().ok()?, rest)
    })
}
