//! A way to servers: an address that leads to one server now and to another later, and that can
//! close connections or forget them.

use std::{net::Ipv4Addr, thread};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch::{Receiver, Sender, channel},
};

/// Runs on a thread of its own until the process ends.
pub(crate) struct Way {
    port: u16,
    orders: Sender<Orders>,
}

/// Where new connections lead, and how often something was done to all that were open.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Orders {
    to: u16,
    cut: u32,
    forgotten: u32,
    left_others: u32,
}

impl Way {
    pub(crate) fn to(port: u16) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let own = listener.local_addr().unwrap().port();
        let (orders, seen) = channel(Orders {
            to: port,
            cut: 0,
            forgotten: 0,
            left_others: 0,
        });
        thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(accept(listener, seen));
        });
        Self { port: own, orders }
    }

    /// The address.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// New connections lead to this server from now on; those that are open stay where they are.
    pub(crate) fn lead_to(&self, port: u16) {
        self.orders.send_modify(|orders| orders.to = port);
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        self.orders.send_modify(|orders| orders.cut += 1);
    }

    /// Closes the connections that lead elsewhere than new ones do.
    pub(crate) fn cut_others(&self) {
        self.orders.send_modify(|orders| orders.left_others += 1);
    }

    /// Forgets all connections, as a firewall does: what is sent on them meets silence.
    pub(crate) fn forget(&self) {
        self.orders.send_modify(|orders| orders.forgotten += 1);
    }
}

async fn accept(listener: std::net::TcpListener, seen: Receiver<Orders>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(lead(client, seen.clone()));
    }
}

async fn lead(mut client: TcpStream, mut seen: Receiver<Orders>) {
    let first = *seen.borrow_and_update();
    // If nobody is there, the client learns it from the end of its connection.
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, first.to)).await else {
        return;
    };
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        is_forgotten = is_over(&mut seen, first) => if is_forgotten {
            std::future::pending().await
        }
    }
}

/// Waits until something was done to a connection that has been open since those orders. Answers
/// whether it is forgotten; otherwise it is closed.
async fn is_over(seen: &mut Receiver<Orders>, first: Orders) -> bool {
    while seen.changed().await.is_ok() {
        let now = *seen.borrow_and_update();
        let leads_elsewhere = now.left_others != first.left_others && now.to != first.to;
        if now.cut != first.cut || leads_elsewhere {
            return false;
        }
        if now.forgotten != first.forgotten {
            return true;
        }
    }
    // The test is over.
    false
}
