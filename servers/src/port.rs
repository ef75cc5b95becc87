//! Free loopback ports.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::time::{Duration, Instant};
use std::{io, thread};

/// Below the ports that systems hand out to outgoing connections (from 32,768 on Linux). A port of
/// those could be lost while its server is down for a restart, even to a client of that very server:
/// a connection to a free port of that range may meet itself. Half of what is below stays free for
/// the second port of a Redis cluster's node, 10,000 above its first.
const RANGE: Range<u16> = 15_000..22_000;

/// How many random ports are tried before a machine counts as full.
const ATTEMPTS: u16 = 200;

/// The pause before a taken port is looked at again.
const PAUSE: Duration = Duration::from_millis(20);

/// A loopback port that nobody listens on at this moment.
///
/// It is not reserved: a server that fails to start on it is started again on another one.
///
/// # Errors
/// If no free port is found.
pub fn free() -> io::Result<u16> {
    (0..ATTEMPTS)
        .map(|_| random())
        .find(|port| !is_taken(*port))
        .ok_or_else(|| {
            let told = format!(
                "no free port found in {ATTEMPTS} tries between {} and {}",
                RANGE.start, RANGE.end
            );
            io::Error::new(io::ErrorKind::AddrInUse, told)
        })
}

/// Whether somebody listens on this loopback port.
pub fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err()
}

/// Waits while somebody listens on the port, for at most `limit`. After that, the
/// server that is started on it tells that it is taken.
pub fn wait_until_free(port: u16, limit: Duration) {
    let started = Instant::now();
    while is_taken(port) && started.elapsed() < limit {
        thread::sleep(PAUSE);
    }
}

/// Random, not counted up: several test processes look for ports at the same time.
fn random() -> u16 {
    let width = u64::from(RANGE.end - RANGE.start);
    let offset = RandomState::new().hash_one(()) % width;
    RANGE.start + u16::try_from(offset).expect("the offset is below the width of a range of u16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_in_range_and_can_be_bound() {
        let port = free().unwrap();
        assert!(RANGE.contains(&port));
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(is_taken(port));
    }
}
