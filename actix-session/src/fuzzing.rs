//! Doors to the inside for the targets in `fuzz/`. Built with `--cfg fuzzing` alone; what holds is
//! asserted by the targets, which share no code with what they judge.

#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "for the fuzz targets"
)]

use actix_web::{cookie::Key, http::header::HeaderMap};

pub use crate::record::WireFormat;
use crate::{
    changes::{Changes, Effect, LoginFact},
    clock::Millis,
    config::CookieContentSecurity,
    contract::{End, Older, Terms},
    cookie::{read, seal::Sealer},
    protocol::{Mark, Reply, Slot},
    record::{Auth, Facts, Record},
    storage::{redis, sql},
};

/// The values of one cookie, percent-decoded.
pub fn cookie_values(headers: &HeaderMap, name: &str) -> Vec<String> {
    read::values(headers, name).collect()
}

pub fn cookie_is_sent(headers: &HeaderMap, name: &str) -> bool {
    read::is_sent(headers, name)
}

/// Seals and opens the values of one cookie.
#[derive(Debug)]
pub struct Seals(Sealer);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub value: String,
    pub unbound: bool,
    pub old_key: bool,
}

impl Seals {
    pub fn new(
        key: &Key,
        previous: &[Key],
        security: CookieContentSecurity,
        name: &str,
        format: WireFormat,
    ) -> Self {
        Self(Sealer::new(key, previous, security, name, format))
    }

    pub fn seal(&self, value: &str) -> String {
        self.0.seal(value).expect("short texts can be sealed")
    }

    pub fn open(&self, sealed: &str) -> Option<Opened> {
        let opened = self.0.open(sealed)?;
        Some(Opened {
            value: opened.value,
            unbound: opened.unbound,
            old_key: opened.old_key,
        })
    }
}

/// All that the text of the facts says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    pub commit: u64,
    pub id: u128,
    pub created: i64,
    pub absolute_end: Option<i64>,
    pub ttl: Option<i64>,
    pub epoch: u64,
    pub idle_end: Option<i64>,
    pub auth: Option<ToldAuth>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToldAuth {
    pub who: String,
    pub at: i64,
    pub device: Option<String>,
    pub login: Option<i64>,
}

pub fn facts(text: &str) -> Option<Told> {
    let (commit, facts) = Facts::decode(text)?;
    Some(Told {
        commit,
        id: facts.id,
        created: facts.created.0,
        absolute_end: facts.absolute_end.map(|end| end.0),
        ttl: facts.ttl.map(|ttl| ttl.0),
        epoch: facts.epoch,
        idle_end: facts.idle_end.map(|end| end.0),
        auth: facts.auth.map(|auth| ToldAuth {
            who: auth.principal,
            at: auth.at.0,
            device: auth.device,
            login: auth.login.map(|at| at.0),
        }),
    })
}

pub fn facts_text(told: &Told) -> String {
    let auth = |auth: ToldAuth| Auth {
        principal: auth.who,
        at: Millis(auth.at),
        device: auth.device,
        login: auth.login.map(Millis),
    };
    let facts = Facts {
        id: told.id,
        created: Millis(told.created),
        absolute_end: told.absolute_end.map(Millis),
        ttl: told.ttl.map(Millis),
        epoch: told.epoch,
        idle_end: told.idle_end.map(Millis),
        auth: told.auth.clone().map(auth),
    };
    let mut text = String::new();
    facts.encode(told.commit, &mut text);
    text
}

/// One entry's JSON text, as a session gets it.
pub fn value(record: &Record, name: &str) -> Option<String> {
    record.state().get(name).map(std::borrow::Cow::into_owned)
}

/// Changes of a request: entries that are set (to JSON text) or removed, in order.
#[derive(Debug, Clone, Default)]
pub struct Doing {
    pub entries: Vec<(String, Option<String>)>,
    /// The epoch that a `clear` draws; it comes before the entries.
    pub cleared: Option<u64>,
    pub ttl: Option<i64>,
    pub renew: bool,
    /// Who, and when.
    pub login: Option<(String, i64, u128)>,
}

impl From<Doing> for Changes {
    fn from(doing: Doing) -> Self {
        let mut changes = Self {
            cleared: doing.cleared,
            ttl: doing.ttl.map(Millis),
            renew: doing.renew,
            ..Self::default()
        };
        for (name, json) in &doing.entries {
            let effect = json.clone().map_or(Effect::Removed, Effect::Set);
            changes.set_effect(name, effect);
        }
        changes.login = doing.login.map(|(principal, at, id)| LoginFact {
            principal,
            at: Millis(at),
            device: None,
            proven: None,
            id,
        });
        changes
    }
}

/// The terms of a middleware that is configured so; times in ms.
pub fn terms(now: i64, ttl: i64, absolute: Option<i64>, extend: bool) -> Terms {
    Terms {
        now: Millis(now),
        ttl: Millis(ttl),
        absolute: absolute.map(Millis),
        ..Terms::default().with_extension(extend)
    }
}

/// When something ends, in ms.
pub fn end_of(end: End) -> i64 {
    end.0.0
}

/// Ends what came before a renewal, as the middleware does.
pub async fn end_older(older: Older) -> anyhow::Result<bool> {
    older.end().await
}

/// What a store's answer shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Nothing,
    Unreadable,
    /// Flag, time and target.
    Mark(char, i64, String),
    /// The text, and until when the store keeps it.
    Record(String, Option<i64>),
    /// A step was done, or a name was taken.
    Other,
}

impl From<Slot> for Shown {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::Nothing => Self::Nothing,
            Slot::Unreadable => Self::Unreadable,
            Slot::Mark(mark) => Self::mark(&mark),
            Slot::Record(record) => Self::Record(
                record.as_text().unwrap_or_default().to_owned(),
                record.end().map(|end| end.0),
            ),
        }
    }
}

impl Shown {
    fn mark(mark: &Mark) -> Self {
        let encoded = mark.encode();
        assert_eq!(Mark::decode(&encoded).as_ref(), Some(mark), "{encoded}");
        let flag = encoded.chars().next().expect("the flag comes first");
        Self::Mark(flag, mark.made_at.0, mark.target.clone())
    }
}

/// What is made of a script's answer as it comes from the wire; `None` where that is no RESP.
pub fn redis_answer(wire: &[u8], now: i64) -> Option<Result<Shown, String>> {
    let value = ::redis::parse_redis_value(wire).ok()?;
    let terms = Terms {
        now: Millis(now),
        ..Terms::default()
    };
    Some(match redis::answer(value, &terms) {
        Ok(Reply::Found(slot)) => Ok(slot.into()),
        Ok(_) => Ok(Shown::Other),
        Err(error) => Err(error.to_string()),
    })
}

/// What is made of a row's columns.
pub fn sql_row(
    state: Option<Vec<u8>>,
    expires: i64,
    moved_to: Option<String>,
    moved_flag: Option<String>,
    moved_at: Option<i64>,
) -> Shown {
    sql::slot_of(sql::Row {
        state,
        expires,
        moved_to,
        moved_flag,
        moved_at,
    })
    .into()
}

/// Whether an address of Redis is understood; the error as `Display` and as `Debug` show it.
pub fn redis_address(url: &str) -> Result<(), String> {
    redis::check_address(url).map_err(|error| format!("{error:#} {error:?}"))
}
