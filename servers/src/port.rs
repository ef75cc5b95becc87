//! Free loopback ports.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};
use std::{io, thread};

/// Below the ports that systems hand out to outgoing connections (from 32,768 on Linux). One of
/// those could be lost while its server is down for a restart, even to a client of that very
/// server: a connection to a free port of that range may reach itself. Half of what is below stays
/// free for the second port of a Redis Cluster node, 10,000 above its first.
const RANGE: Range<u16> = 15_000..22_000;

/// How many random ports are tried before the machine counts as full.
const ATTEMPTS: u16 = 200;

/// The pause before a taken port is looked at again.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a server may take to accept a connection or to answer a question.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A reserved loopback port: it stays its owner's while the server is down, too.
///
/// The server needs the TCP port itself, so a UDP socket with the same number reserves it. Every
/// test process passes over ports whose UDP socket is taken, and the system closes that socket
/// however its owner ends.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reserved: UdpSocket,
}

impl Port {
    /// Reserves a port that nobody listens on.
    ///
    /// A program that ignores reservations can still take it, so a server that fails to start is
    /// started again on another port.
    ///
    /// # Errors
    /// If no free port is found.
    pub fn reserve() -> io::Result<Self> {
        (0..ATTEMPTS)
            .find_map(|_| Self::reserve_this(random()))
            .ok_or_else(|| {
                let message = format!(
                    "no free port found in {ATTEMPTS} attempts between {} and {}",
                    RANGE.start, RANGE.end
                );
                io::Error::new(io::ErrorKind::AddrInUse, message)
            })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Reserves before it looks: looking binds the port for a moment, which may be the very moment
    /// in which its owner's server starts.
    fn reserve_this(number: u16) -> Option<Self> {
        let reserved = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        (!is_taken(number)).then_some(Self {
            number,
            _reserved: reserved,
        })
    }
}

/// A loopback port that nobody listens on and nobody has reserved. It may be gone a moment later.
///
/// # Errors
/// If no free port is found.
pub fn free() -> io::Result<u16> {
    Port::reserve().map(|port| port.number)
}

/// Whether somebody listens on this loopback port.
pub fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err()
}

/// Waits while somebody listens on the port, for at most `limit`. If it is still taken then, the
/// server that is started on it reports so.
pub fn wait_until_free(port: u16, limit: Duration) {
    let started = Instant::now();
    while is_taken(port) && started.elapsed() < limit {
        thread::sleep(PAUSE);
    }
}

/// Connects to a loopback port. Neither this nor reading nor writing takes longer than the limit.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
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
    fn a_reserved_port_is_in_range_and_can_be_bound_but_not_reserved_again() {
        let port = Port::reserve().unwrap();
        assert!(RANGE.contains(&port.number()));
        assert!(Port::reserve_this(port.number()).is_none());
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
        assert!(is_taken(port.number()));
    }
}
