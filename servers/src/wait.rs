//! Waiting for a server by connecting to it.

use std::process::ExitStatus;
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::Error;
use crate::process::Process;

/// The pause between two attempts: short beside any server's start, long beside one attempt.
const PAUSE: Duration = Duration::from_millis(10);

/// How often a server that ends at once is started before its error is told.
const LAUNCH_ATTEMPTS: usize = 5;

/// Probes until the server answers. Its end is noticed at once, its silence after `limit`.
///
/// A probe must have a time-out of its own.
///
/// # Errors
/// [`Error::Ended`] or [`Error::NotReady`], both with the end of the server's log.
pub fn until_ready(
    process: &mut Process,
    limit: Duration,
    mut probe: impl FnMut() -> io::Result<()>,
) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        let Err(last) = probe() else { return Ok(()) };
        if let Some(status) = process.ended()? {
            return Err(process.ended_with(status));
        }
        if started.elapsed() >= limit {
            return Err(process.not_ready(limit, last));
        }
        thread::sleep(PAUSE);
    }
}

/// Waits for the end of a program that is to do its work and end.
pub(crate) fn until_ended(process: &mut Process, limit: Duration) -> Result<ExitStatus, Error> {
    let started = Instant::now();
    loop {
        if let Some(status) = process.ended()? {
            return Ok(status);
        }
        if started.elapsed() >= limit {
            return Err(process.not_ready(limit, io::Error::other("it still runs")));
        }
        thread::sleep(PAUSE);
    }
}

/// Tries again while the server ends before it is ready. Most often somebody took its port first; that
/// cannot be asked afterwards, since they may have left again, and a refused configuration is told
/// after as many tries, which take no time that a person notices.
pub(crate) fn retry(mut launch: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
    for _ in 1..LAUNCH_ATTEMPTS {
        match launch() {
            Err(Error::Ended { .. }) => {}
            result => return result,
        }
    }
    launch()
}
