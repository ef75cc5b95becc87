//! A Redis Cluster: three masters, each with a replica.

use std::time::{Duration, Instant};
use std::{io, thread};

use crate::Error;
use crate::redis::RedisServer;
use crate::resp::lines_of;

/// How long until every node agrees.
const LIMIT: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(50);

const SLOTS: u16 = 16_384;

/// How long a node is silent before the others agree that it has failed.
const CONFIG: [(&str, &str); 5] = [
    ("cluster-enabled", "yes"),
    ("cluster-config-file", "nodes.conf"),
    ("cluster-node-timeout", "1500"),
    ("cluster-require-full-coverage", "no"),
    ("repl-diskless-sync-delay", "0"),
];

/// Six servers that are a cluster: the first three were started as masters, and the one three after each
/// is its replica.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes, joins them, and waits until they agree.
    ///
    /// # Errors
    /// If there is no program to start, or they don't agree in time.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// The same with further lines of configuration for every node.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(config: &[(&str, &str)]) -> Result<Self, Error> {
        let config = [&CONFIG, config].concat();
        let nodes = (0..6).map(|_| RedisServer::start_with(&config));
        let cluster = Self {
            nodes: nodes.collect::<Result<_, _>>()?,
        };
        let failed = Error::io("cannot join the nodes of a cluster");
        cluster.join().map_err(failed)?;
        Ok(cluster)
    }

    /// The nodes' addresses.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// The nodes, in the order in which they were started.
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// The place, among the nodes, of the master that has a slot, as the node at `seen_by` sees it.
    ///
    /// # Errors
    /// If that node does not answer, or knows no such master.
    pub fn owner(&self, slot: u16, seen_by: usize) -> io::Result<usize> {
        let told = lines_of(self.nodes[seen_by].port(), "CLUSTER NODES")?;
        let owner = told.iter().find(|line| {
            let mut words = line.split(' ').skip(2);
            let flags = words.next().unwrap_or_default();
            let ranges = words.skip(5);
            flags.contains("master")
                && !flags.contains("fail")
                && ranges
                    .filter_map(range)
                    .any(|(from, to)| (from..=to).contains(&slot))
        });
        owner
            .and_then(|line| self.node_of(line))
            .ok_or_else(|| io::Error::other(format!("no master has slot {slot}")))
    }

    /// Makes the replica of a master its successor, as an operator does, and waits until everybody says so.
    ///
    /// # Errors
    /// If the replica refuses, or the nodes don't agree in time.
    pub fn fail_over(&self, to: usize) -> io::Result<()> {
        self.told_ok(to, "CLUSTER FAILOVER")?;
        self.eventually("the failover", |all| {
            (0..all.nodes.len()).all(|node| {
                let told = lines_of(all.nodes[node].port(), "CLUSTER NODES").unwrap_or_default();
                told.iter()
                    .any(|line| all.node_of(line) == Some(to) && line.contains("master"))
            })
        })
    }

    /// Starts to move a slot: from here on, keys that are not at the old owner are asked for at the new one.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn begin_moving(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        let (from_id, to_id) = (self.id(from)?, self.id(to)?);
        self.told_ok(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"))?;
        self.told_ok(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"))
    }

    /// Moves the keys of the slot that are there now.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        let port = self.nodes[to].port();
        loop {
            let told = lines_of(
                self.nodes[from].port(),
                &format!("CLUSTER GETKEYSINSLOT {slot} 100"),
            )?;
            // Lengths and keys take turns.
            let keys: Vec<&str> = told.iter().skip(2).step_by(2).map(String::as_str).collect();
            if keys.is_empty() {
                return Ok(());
            }
            for key in keys {
                let answer = lines_of(
                    self.nodes[from].port(),
                    &format!("MIGRATE 127.0.0.1 {port} {key} 0 2000"),
                )?;
                if !answer
                    .first()
                    .is_some_and(|line| line == "+OK" || line == "+NOKEY")
                {
                    return Err(io::Error::other(format!("MIGRATE: {answer:?}")));
                }
            }
        }
    }

    /// Ends the move: the slot is the new owner's.
    ///
    /// # Errors
    /// If a master refuses.
    pub fn end_moving(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        let id = self.id(to)?;
        let command = format!("CLUSTER SETSLOT {slot} NODE {id}");
        self.told_ok(to, &command)?;
        self.told_ok(from, &command)
    }

    fn id(&self, node: usize) -> io::Result<String> {
        let told = lines_of(self.nodes[node].port(), "CLUSTER MYID")?;
        told.into_iter()
            .nth(1)
            .ok_or_else(|| io::Error::other("CLUSTER MYID was answered by nothing"))
    }

    /// The place of the node that a line of `CLUSTER NODES` is about.
    fn node_of(&self, line: &str) -> Option<usize> {
        let address = line.split(' ').nth(1)?;
        self.nodes
            .iter()
            .position(|node| address.starts_with(&format!("127.0.0.1:{}@", node.port())))
    }

    fn join(&self) -> io::Result<()> {
        for (node, epoch) in (0..self.nodes.len()).zip(1..) {
            // Different ones from the start, so that nobody has to settle who has which slot.
            self.told_ok(node, &format!("CLUSTER SET-CONFIG-EPOCH {epoch}"))?;
        }
        for node in 1..self.nodes.len() {
            let first = self.nodes[0].port();
            self.told_ok(node, &format!("CLUSTER MEET 127.0.0.1 {first}"))?;
        }
        for master in 0..3_u16 {
            let node = usize::from(master);
            let (from, to) = (SLOTS / 3 * master, SLOTS / 3 * (master + 1));
            let to = if master == 2 { SLOTS } else { to };
            let slots: Vec<String> = (from..to).map(|slot| slot.to_string()).collect();
            self.told_ok(node, &format!("CLUSTER ADDSLOTS {}", slots.join(" ")))?;
        }
        self.eventually("meeting", |all| {
            all.everybody_says(|told| told.len() >= 6 && !told.concat().contains("handshake"))
        })?;
        for master in 0..3 {
            let id = self.id(master)?;
            self.eventually("a replica", |all| {
                all.told_ok(master + 3, &format!("CLUSTER REPLICATE {id}"))
                    .is_ok()
            })?;
        }
        self.eventually("agreement", |all| {
            let states = all.nodes.iter().all(|node| {
                lines_of(node.port(), "CLUSTER INFO")
                    .is_ok_and(|told| told.iter().any(|line| line == "cluster_state:ok"))
            });
            let replicas = all.nodes[3..].iter().all(|node| {
                lines_of(node.port(), "INFO replication")
                    .is_ok_and(|told| told.iter().any(|line| line == "master_link_status:up"))
            });
            states
                && replicas
                && all.everybody_says(|told| {
                    told.iter().filter(|line| line.contains("slave")).count() == 3
                })
        })
    }

    fn everybody_says(&self, holds: impl Fn(&[String]) -> bool) -> bool {
        self.nodes.iter().all(|node| {
            let told = lines_of(node.port(), "CLUSTER NODES").unwrap_or_default();
            let told: Vec<String> = told.into_iter().filter(|line| line.contains('@')).collect();
            holds(&told)
        })
    }

    fn told_ok(&self, node: usize, command: &str) -> io::Result<()> {
        let told = lines_of(self.nodes[node].port(), command)?;
        if told.first().is_some_and(|line| line == "+OK") {
            return Ok(());
        }
        let command: String = command.chars().take(40).collect();
        Err(io::Error::other(format!("{command}: {told:?}")))
    }

    fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) -> io::Result<()> {
        let started = Instant::now();
        while !holds(self) {
            if started.elapsed() > LIMIT {
                return Err(io::Error::other(format!("still no {what}")));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// `5` or `5-9`; what is on the move stands in brackets, and does not count.
fn range(word: &str) -> Option<(u16, u16)> {
    let (from, to) = word.split_once('-').unwrap_or((word, word));
    Some((from.parse().ok()?, to.parse().ok()?))
}
