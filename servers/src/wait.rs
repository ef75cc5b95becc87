//! Waiting for a server.

use std::time::{Duration, Instant};
use std::{io, thread};

use crate::Error;
use crate::process::Process;

/// How long a server may take until it is ready, even on a busy machine and with repairs after a
/// kill. Only a failure takes that long.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The pause between two attempts: short compared with a server's start, long compared with an
/// attempt.
const PAUSE: Duration = Duration::from_millis(10);

/// How often a server that ends at once is started before its error is reported.
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

/// Polls until nothing is `missing`, for at most [`LIMIT`]. The error says what was.
pub(crate) fn until_complete(mut missing: impl FnMut() -> Option<String>) -> io::Result<()> {
    let started = Instant::now();
    while let Some(what) = missing() {
        if started.elapsed() >= LIMIT {
            return Err(io::Error::other(format!("still missing: {what}")));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Launches again if the server ends before it is ready; `launch` learns whether it does so. The
/// usual cause is another program that took the port, which may be gone by the time anybody looks.
/// A refused setting costs as many attempts, too short to notice.
pub(crate) fn retry<T>(mut launch: impl FnMut(bool) -> Result<T, Error>) -> Result<T, Error> {
    let mut result = launch(false);
    for _ in 1..LAUNCH_ATTEMPTS {
        match result {
            Err(Error::Ended { .. }) => result = launch(true),
            _ => break,
        }
    }
    result
}
