//! A Redis Cluster: three masters, each with a replica.

use std::io;
use std::time::{Duration, Instant};

use crate::redis::RedisServer;
use crate::resp::lines_of;
use crate::{Error, wait};

const SLOTS: u16 = 16_384;

/// A node that has been silent for the time-out has failed, if the others agree. It is short, since
/// tests wait for it, but longer than a busy machine keeps a living node waiting.
const SETTINGS: [(&str, &str); 5] = [
    ("cluster-enabled", "yes"),
    ("cluster-config-file", "nodes.conf"),
    ("cluster-node-timeout", "2500"),
    ("cluster-require-full-coverage", "no"),
    ("repl-diskless-sync-delay", "0"),
];

/// A replica gives up a failover after five seconds. It is asked again after those have passed.
const FAILOVER_LIMIT: Duration = Duration::from_secs(6);

/// Six servers that are a cluster: the first three start as masters, and the node three places
/// after each is its replica.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes, joins them, and waits until they agree.
    ///
    /// # Errors
    /// If there is no program to start, or they do not agree in time.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// The same with further settings for every node.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self, Error> {
        let settings = [&SETTINGS, settings].concat();
        let nodes = (0..6).map(|_| RedisServer::start_with(&settings));
        let cluster = Self {
            nodes: nodes.collect::<Result<_, _>>()?,
        };
        let failed = Error::io("cannot join the nodes of a cluster");
        cluster.join().map_err(failed)?;
        Ok(cluster)
    }

    /// The nodes' URLs.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// The nodes, in the order in which they were started.
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// The index of the master that has a slot, as the node at index `seen_by` sees it.
    ///
    /// # Errors
    /// If that node does not answer, or knows no such master.
    pub fn owner(&self, slot: u16, seen_by: usize) -> io::Result<usize> {
        let answer = lines_of(self.nodes[seen_by].port(), "CLUSTER NODES")?;
        answer
            .iter()
            .find(|line| is_living_master(line) && has_slot(line, slot))
            .and_then(|line| self.node_of(line))
            .ok_or_else(|| io::Error::other(format!("no master has slot {slot}")))
    }

    /// Makes a replica the successor of its master, as an operator does, and waits until every node
    /// says so.
    ///
    /// # Errors
    /// If the replica refuses, or the nodes do not agree in time.
    pub fn fail_over(&self, to: usize) -> io::Result<()> {
        self.expect_ok(to, "CLUSTER FAILOVER")?;
        let mut asked = Instant::now();
        self.eventually("the failover", |all| {
            if asked.elapsed() > FAILOVER_LIMIT {
                // Refused if it is the master by now.
                let _ = all.expect_ok(to, "CLUSTER FAILOVER");
                asked = Instant::now();
            }
            all.every_node_says(|lines| {
                lines
                    .iter()
                    .any(|line| all.node_of(line) == Some(to) && line.contains("master"))
            })
        })
    }

    /// Starts to move a slot: from now on, the old owner refers to the new one for keys that it
    /// does not have.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn begin_moving(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        let (from_id, to_id) = (self.id(from)?, self.id(to)?);
        self.expect_ok(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"))?;
        self.expect_ok(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"))
    }

    /// Moves the keys that are now in the slot.
    ///
    /// # Errors
    /// If a node refuses.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        let (from, to) = (self.nodes[from].port(), self.nodes[to].port());
        loop {
            let answer = lines_of(from, &format!("CLUSTER GETKEYSINSLOT {slot} 100"))?;
            // Lengths and keys take turns.
            let mut keys = answer.iter().skip(2).step_by(2).peekable();
            if keys.peek().is_none() {
                return Ok(());
            }
            for key in keys {
                move_key(key, from, to)?;
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
        self.expect_ok(to, &command)?;
        self.expect_ok(from, &command)
    }

    fn id(&self, node: usize) -> io::Result<String> {
        let answer = lines_of(self.nodes[node].port(), "CLUSTER MYID")?;
        answer
            .into_iter()
            .nth(1)
            .ok_or_else(|| io::Error::other("the answer to CLUSTER MYID is empty"))
    }

    /// The index of the node that a line of `CLUSTER NODES` is about.
    fn node_of(&self, line: &str) -> Option<usize> {
        let address = line.split(' ').nth(1)?;
        self.nodes
            .iter()
            .position(|node| address.starts_with(&format!("127.0.0.1:{}@", node.port())))
    }

    fn join(&self) -> io::Result<()> {
        for (node, epoch) in (0..self.nodes.len()).zip(1..) {
            // Different from the start, so that the nodes need not settle who has which slot.
            self.expect_ok(node, &format!("CLUSTER SET-CONFIG-EPOCH {epoch}"))?;
        }
        let first = self.nodes[0].port();
        for node in 1..self.nodes.len() {
            self.expect_ok(node, &format!("CLUSTER MEET 127.0.0.1 {first}"))?;
        }
        for (master, slots) in slots_of_masters().into_iter().enumerate() {
            self.expect_ok(master, &format!("CLUSTER ADDSLOTS {slots}"))?;
        }
        self.eventually("the meeting of the nodes", |all| {
            all.every_node_says(|lines| lines.len() >= 6 && !lines.concat().contains("handshake"))
        })?;
        for master in 0..3 {
            let command = format!("CLUSTER REPLICATE {}", self.id(master)?);
            self.eventually("a replica", |all| {
                all.expect_ok(master + 3, &command).is_ok()
            })?;
        }
        self.eventually("agreement", Self::agrees)
    }

    fn agrees(&self) -> bool {
        let replicas = |lines: &[String]| {
            let replicas = lines.iter().filter(|line| line.contains("slave"));
            replicas.count() == 3
        };
        all_say(&self.nodes, "CLUSTER INFO", "cluster_state:ok")
            && all_say(
                &self.nodes[3..],
                "INFO replication",
                "master_link_status:up",
            )
            && self.every_node_says(replicas)
    }

    /// Whether it holds for what each node says of all of them, a line for each.
    fn every_node_says(&self, holds: impl Fn(&[String]) -> bool) -> bool {
        self.nodes.iter().all(|node| {
            let answer = lines_of(node.port(), "CLUSTER NODES").unwrap_or_default();
            let lines: Vec<String> = answer
                .into_iter()
                .filter(|line| line.contains('@'))
                .collect();
            holds(&lines)
        })
    }

    fn expect_ok(&self, node: usize, command: &str) -> io::Result<()> {
        let answer = lines_of(self.nodes[node].port(), command)?;
        if answer.first().is_some_and(|line| line == "+OK") {
            return Ok(());
        }
        let command: String = command.chars().take(40).collect();
        Err(io::Error::other(format!("{command}: {answer:?}")))
    }

    fn eventually(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> io::Result<()> {
        wait::until_complete(|| (!holds(self)).then(|| what.to_owned()))
    }
}

/// Three words of numbers, for `CLUSTER ADDSLOTS`.
fn slots_of_masters() -> [String; 3] {
    [0, 1, 2].map(|master| {
        let end = if master == 2 {
            SLOTS
        } else {
            SLOTS / 3 * (master + 1)
        };
        let slots: Vec<String> = (SLOTS / 3 * master..end)
            .map(|slot| slot.to_string())
            .collect();
        slots.join(" ")
    })
}

fn move_key(key: &str, from: u16, to: u16) -> io::Result<()> {
    let answer = lines_of(from, &format!("MIGRATE 127.0.0.1 {to} {key} 0 5000"))?;
    match answer.first().map(String::as_str) {
        Some("+OK" | "+NOKEY") => Ok(()),
        _ => Err(io::Error::other(format!("MIGRATE: {answer:?}"))),
    }
}

fn all_say(nodes: &[RedisServer], command: &str, wanted: &str) -> bool {
    nodes.iter().all(|node| {
        lines_of(node.port(), command).is_ok_and(|answer| answer.iter().any(|line| line == wanted))
    })
}

fn is_living_master(line: &str) -> bool {
    let flags = line.split(' ').nth(2).unwrap_or_default();
    flags.contains("master") && !flags.contains("fail")
}

fn has_slot(line: &str, slot: u16) -> bool {
    let mut ranges = line.split(' ').skip(8).filter_map(range);
    ranges.any(|(from, to)| (from..=to).contains(&slot))
}

/// `5` or `5-9`; a slot that is being moved is in brackets, and does not count.
fn range(word: &str) -> Option<(u16, u16)> {
    let (from, to) = word.split_once('-').unwrap_or((word, word));
    Some((from.parse().ok()?, to.parse().ok()?))
}
