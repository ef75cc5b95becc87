//! What clients asked and were answered, and what is left in the store.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use actix_session::storage::Record;

use super::script::Op;
use crate::support::TOMBSTONE;

/// Entry names and their JSON texts.
pub(crate) type Entries = BTreeMap<String, String>;

/// Points in time of a round: of two, the lower one came first.
#[derive(Debug, Default)]
pub(crate) struct Order(AtomicU64);

impl Order {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// What a handler found.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// When the session had been loaded.
    pub(crate) loaded: u64,
    pub(crate) entries: Entries,
    pub(crate) principal: Option<String>,
    /// When the handler was about to answer; the commit comes after that.
    pub(crate) left: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CookieSent {
    None,
    Removed,
    Set(String),
}

/// One request with its answer.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) who: String,
    pub(crate) ops: Vec<Op>,
    /// The session key that it came with.
    pub(crate) sent: Option<String>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// `None`: the handler did not run.
    pub(crate) seen: Option<Seen>,
    pub(crate) status: u16,
    pub(crate) cookie: CookieSent,
}

impl Event {
    /// Answered as done.
    pub(crate) fn acknowledged(&self) -> bool {
        self.status == 200
    }

    pub(crate) fn does(&self, op: &Op) -> bool {
        self.ops.contains(op)
    }

    /// Changes nothing but entries, one by one.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |op: &Op| matches!(op, Op::Set(..) | Op::Remove(_) | Op::Modify(_));
        self.ops.iter().all(plain)
    }

    /// It found a session with something in it.
    pub(crate) fn found_live(&self) -> bool {
        self.seen.as_ref().is_some_and(|s| !s.entries.is_empty())
    }

    pub(crate) fn set(&self) -> Option<&str> {
        match &self.cookie {
            CookieSent::Set(key) => Some(key),
            _ => None,
        }
    }
}

/// All that a store holds, by session key.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) records: HashMap<String, Entries>,
    /// Old key to new key.
    pub(crate) redirects: HashMap<String, String>,
}

impl Left {
    /// Adds a record or a redirect under a key.
    pub(crate) fn add(&mut self, key: &str, text: &str, plain: impl Fn(&str) -> String) {
        if text.starts_with('{') {
            let record = Record::decode(text.to_owned()).expect("a record that can be read");
            let entries = record.to_map().into_iter().collect();
            let before = self.records.insert(key.to_owned(), entries);
            assert!(before.is_none(), "two records under one key");
        } else if text != TOMBSTONE {
            let target = text
                .splitn(3, '|')
                .nth(2)
                .expect("a redirect names its target");
            self.redirects.insert(key.to_owned(), plain(target));
        }
    }
}

/// A whole round.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// In the order of their starts; the first one made the session.
    pub(crate) events: Vec<Event>,
    pub(crate) left: Left,
}

/// Keys are long, and their beginnings differ.
fn short(key: &str) -> &str {
    &key[..key.len().min(5)]
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            let sent = event.sent.as_deref().map_or("no cookie", short);
            let cookie = match &event.cookie {
                CookieSent::None => "",
                CookieSent::Removed => "removed",
                CookieSent::Set(key) => short(key),
            };
            let Event {
                who,
                ops,
                start,
                end,
                status,
                ..
            } = event;
            writeln!(
                f,
                "{start}-{end} {who} [{sent}] {ops:?} -> {status} [{cookie}]"
            )?;
            if let Some(seen) = &event.seen {
                let Seen {
                    loaded,
                    entries,
                    principal,
                    left,
                } = seen;
                writeln!(
                    f,
                    "    at {loaded} {principal:?} {entries:?}, left at {left}"
                )?;
            }
        }
        for (from, to) in &self.left.redirects {
            writeln!(f, "redirect {} -> {}", short(from), short(to))?;
        }
        for (key, entries) in &self.left.records {
            writeln!(f, "record {} {entries:?}", short(key))?;
        }
        Ok(())
    }
}
