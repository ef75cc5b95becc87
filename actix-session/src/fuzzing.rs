//! Access to private parts for the targets in `fuzz/`; it exists only under `--cfg fuzzing`. The
//! targets assert the properties, and share no code with what they test.

#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "for the fuzz targets"
)]

use actix_web::{
    cookie::Key,
    http::header::{COOKIE, HeaderMap},
};

pub use crate::record::WireFormat;
use crate::{
    ClientAddress,
    changes::{Changes, Effect, LoginChange, TtlChange},
    clock::Millis,
    config::CookieContentSecurity,
    contract::{End, Older, Terms},
    cookie::{read, seal::Sealer},
    protocol::{Redirect, Reply, Stored},
    record::{Auth, Demand, Metadata, Origin, Proofs, Record, UpstreamLogin},
    storage::{redis, sql},
};

/// The values of one cookie, percent-decoded.
pub fn cookie_values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let fields = headers.get_all(COOKIE).as_slice();
    let values = read::values(fields, name);
    let texts = values.map(|value| String::from_utf8(value.into_owned()));
    texts.flatten().collect()
}

pub fn cookie_is_sent(headers: &HeaderMap, name: &str) -> bool {
    read::is_sent(headers.get_all(COOKIE).as_slice(), name)
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
        let sealed = self.0.seal(value);
        sealed.expect("short texts can be sealed").into_text()
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

/// Everything that the metadata's text contains.
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
    /// What a later version has added.
    pub rest: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToldAuth {
    pub who: String,
    pub at: i64,
    pub device: Option<String>,
    pub login: Option<i64>,
    pub span: Option<i64>,
    pub two: Option<i64>,
    pub three: Option<i64>,
    /// Its time and its reason.
    pub demand: Option<(i64, String)>,
    /// Empty if it is not known.
    pub method: String,
    pub address: Option<ClientAddress>,
    /// The time, the user and the session at an upstream.
    pub upstream: Option<(i64, u128, Option<u128>)>,
    /// When a list was last told, if that was long after the login.
    pub listed: Option<i64>,
}

pub fn metadata(text: &str) -> Option<Told> {
    let (commit, metadata) = Metadata::decode(text)?;
    Some(told(commit, metadata))
}

fn told(commit: u64, metadata: Metadata) -> Told {
    Told {
        commit,
        id: metadata.id,
        created: metadata.created.0,
        absolute_end: metadata.absolute_end.map(|end| end.0),
        ttl: metadata.ttl.map(|ttl| ttl.0),
        epoch: metadata.epoch,
        idle_end: metadata.idle_end.map(|end| end.0),
        auth: metadata.auth.map(|auth| ToldAuth {
            upstream: auth.upstream().map(|it| (it.at.0, it.user, it.session)),
            listed: auth.listed.map(|at| at.0),
            who: auth.principal,
            at: auth.at.0,
            device: auth.device,
            login: auth.login.map(|at| at.0),
            span: auth.span.map(|span| span.0),
            two: auth.proofs.two.map(|at| at.0),
            three: auth.proofs.three.map(|at| at.0),
            demand: auth.proofs.demand.map(|it| (it.at.0, it.reason)),
            address: auth.origin.as_ref().and_then(|origin| origin.address),
            method: auth.origin.map(|origin| origin.method).unwrap_or_default(),
        }),
        rest: metadata.rest.map(String::from),
    }
}

/// What a text contains for one of the readers of records.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// In order.
    pub entries: Vec<(String, String)>,
    pub told: Option<Told>,
    pub end: Option<i64>,
    pub is_envelope: bool,
    pub text: Option<String>,
}

impl From<Record> for Read {
    fn from(record: Record) -> Self {
        let mut entries = Vec::new();
        let mut add = |name: &str, json: &str| entries.push((name.to_owned(), json.to_owned()));
        record.state().for_each(|name, json| add(name, &json));
        let metadata = record.metadata().cloned();
        Self {
            entries,
            told: metadata.map(|metadata| told(record.commit_id(), metadata)),
            end: record.end().map(|end| end.0),
            is_envelope: record.format() == WireFormat::V1,
            text: record.as_text().map(str::to_owned),
        }
    }
}

/// A text as it is read, and as the general reader alone reads it.
pub fn both_readers(text: &str) -> [Option<Read>; 2] {
    [
        Record::decode(text.to_owned()).ok().map(Read::from),
        Record::read_slowly(text.to_owned()).ok().map(Read::from),
    ]
}

pub fn metadata_text(told: &Told) -> String {
    let auth = |auth: ToldAuth| Auth {
        principal: auth.who,
        at: Millis(auth.at),
        device: auth.device,
        login: auth.login.map(Millis),
        span: auth.span.map(Millis),
        proofs: Proofs {
            two: auth.two.map(Millis),
            three: auth.three.map(Millis),
            demand: auth.demand.map(|(at, reason)| Demand {
                at: Millis(at),
                reason,
            }),
        },
        origin: {
            let upstream = auth.upstream.map(|(at, user, session)| UpstreamLogin {
                at: Millis(at),
                user,
                session,
            });
            let origin = Origin {
                method: auth.method,
                address: auth.address,
                upstream,
            };
            (origin != Origin::default()).then(|| origin.into())
        },
        listed: auth.listed.map(Millis),
    };
    let metadata = Metadata {
        id: told.id,
        created: Millis(told.created),
        absolute_end: told.absolute_end.map(Millis),
        ttl: told.ttl.map(Millis),
        epoch: told.epoch,
        idle_end: told.idle_end.map(Millis),
        auth: told.auth.clone().map(|told| auth(told).into()),
        rest: told.rest.as_deref().map(Into::into),
    };
    let mut text = String::new();
    metadata.encode(told.commit, &mut text);
    text
}

/// One entry's JSON text, as a session reads it.
pub fn value(record: &Record, name: &str) -> Option<String> {
    record.state().get(name).map(std::borrow::Cow::into_owned)
}

/// A request's changes: entries that are set (to JSON text) or removed, in order.
#[derive(Debug, Clone, Default)]
pub struct Doing {
    pub entries: Vec<(String, Option<String>)>,
    /// The epoch of a `clear`, which comes before the entries.
    pub cleared: Option<u64>,
    pub ttl: Option<i64>,
    pub renew: bool,
    /// The principal, the time and the id.
    pub login: Option<(String, i64, u128)>,
}

impl From<Doing> for Changes {
    fn from(doing: Doing) -> Self {
        let mut changes = Self {
            cleared: doing.cleared,
            ttl: doing.ttl.map(|ttl| TtlChange::Set(Millis(ttl))),
            renew: doing.renew,
            ..Self::default()
        };
        for (name, json) in &doing.entries {
            let effect = json.clone().map_or(Effect::Removed, Effect::Set);
            changes.effects.set(name, effect);
        }
        changes.login = doing.login.map(|(principal, at, id)| {
            let login = LoginChange {
                principal,
                at: Millis(at),
                device: None,
                proven: None,
                id,
                span: None,
                keep_times: false,
                level: Default::default(),
                demand: String::new(),
                origin: None,
                by_entry: false,
            };
            login.into()
        });
        changes
    }
}

/// The terms of a middleware with this configuration; times in ms.
pub fn terms(now: i64, ttl: i64, absolute: Option<i64>, extend: bool) -> Terms {
    Terms {
        now: Millis(now),
        ttl: Millis(ttl),
        absolute: absolute.map(Millis),
        ..Terms::default().with_extension(extend)
    }
}

/// A session's end, in ms.
pub fn end_of(end: End) -> i64 {
    end.millis().0
}

/// Ends the older values of a renewed session, as the middleware does.
pub async fn end_older(older: Older) -> anyhow::Result<bool> {
    older.end().await
}

/// What a store's answer contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Nothing,
    Unreadable,
    /// Flag, time and target.
    Redirect(char, i64, String),
    /// The text, and the time until which the store keeps it.
    Record(String, Option<i64>),
    /// A step was done, or a name was taken.
    Other,
}

impl From<Stored> for Shown {
    fn from(found: Stored) -> Self {
        match found {
            Stored::Nothing => Self::Nothing,
            Stored::Unreadable => Self::Unreadable,
            Stored::Redirect(redirect) => Self::redirect(&redirect),
            Stored::Record(record) => Self::Record(
                record.as_text().unwrap_or_default().to_owned(),
                record.end().map(|end| end.0),
            ),
        }
    }
}

impl Shown {
    fn redirect(redirect: &Redirect) -> Self {
        let encoded = redirect.encode();
        assert_eq!(
            Redirect::decode(&encoded).as_ref(),
            Some(redirect),
            "{encoded}"
        );
        let flag = encoded.chars().next().expect("the flag comes first");
        Self::Redirect(
            flag,
            redirect.made_at.0,
            redirect.target.as_str().to_owned(),
        )
    }
}

/// Parses a script's answer from the wire; `None` if it is not RESP.
pub fn redis_answer(wire: &[u8], now: i64) -> Option<Result<Shown, String>> {
    let value = ::redis::parse_redis_value(wire).ok()?;
    let terms = Terms {
        now: Millis(now),
        ..Terms::default()
    };
    Some(match redis::answer(value, &terms) {
        Ok(Reply::Found(found)) => Ok(found.into()),
        Ok(_) => Ok(Shown::Other),
        Err(error) => Err(error.to_string()),
    })
}

/// Parses a row's columns.
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
        epoch: None,
    })
    .into()
}

/// Whether an address of Redis is valid. The error comes as both `Display` and `Debug` show it.
pub fn redis_address(url: &str) -> Result<(), String> {
    redis::check_address(url).map_err(|error| format!("{error:#} {error:?}"))
}
