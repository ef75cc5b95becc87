//! Child processes that leave their parent's process group, as PostgreSQL's do.

use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process};

/// How long killed processes are waited for.
const LIMIT: Duration = Duration::from_secs(5);

/// The processes that `parent` has started and that run still.
pub(crate) fn children(parent: u32) -> Vec<Pid> {
    processes()
        .filter(|known| known.parent == parent && !known.is_dead)
        .filter_map(|known| Pid::from_raw(i32::try_from(known.id).ok()?))
        .collect()
}

/// Signals each of them; one that has ended meanwhile is no error.
pub(crate) fn signal(processes: &[Pid], signal: Signal) -> io::Result<()> {
    for process in processes {
        match kill_process(*process, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Kills each of them and waits for their ends.
pub(crate) fn kill(ids: &[Pid]) {
    // Who is gone or somebody else's needs no kill.
    let _ = signal(ids, Signal::KILL);
    let started = Instant::now();
    while any_lives(ids) && started.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(5));
    }
}

fn any_lives(ids: &[Pid]) -> bool {
    let named = |known: &Known| {
        ids.iter()
            .any(|id| u32::try_from(id.as_raw_nonzero().get()) == Ok(known.id))
    };
    processes().any(|known| !known.is_dead && named(&known))
}

struct Known {
    id: u32,
    parent: u32,
    /// Ended, and not waited for by its parent.
    is_dead: bool,
}

#[cfg(target_os = "linux")]
fn processes() -> impl Iterator<Item = Known> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name, in brackets, may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        Some(Known {
            id,
            is_dead: matches!(fields.next()?, "Z" | "X"),
            parent: fields.next()?.parse().ok()?,
        })
    })
}

#[cfg(not(target_os = "linux"))]
fn processes() -> impl Iterator<Item = Known> {
    let listing = std::process::Command::new("ps")
        .args(["-A", "-o", "pid=,ppid=,state="])
        .output();
    let text = listing.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let lines: Vec<String> = text
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.into_iter().filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some(Known {
            id: fields.next()?.parse().ok()?,
            parent: fields.next()?.parse().ok()?,
            is_dead: fields.next()?.starts_with('Z'),
        })
    })
}
