//! Reads what Redis answers.

use anyhow::bail;
use redis::Value;

use crate::{
    clock::Millis,
    contract::Terms,
    protocol::{Redirect, Reply, Stored},
    record::Record,
};

/// What a script answered; [`script`](super::script) has the codes.
pub(super) fn reply(value: Value, terms: &Terms) -> anyhow::Result<Reply> {
    let Value::Array(parts) = value else {
        bail!("the answer of a Redis script must be an array");
    };
    let mut parts = parts.into_iter();
    let Some(Value::Int(code)) = parts.next() else {
        bail!("the answer of a Redis script must begin with a code");
    };
    Ok(match code {
        0 => Reply::Found(Stored::Nothing),
        1 => {
            let found = timed(record(parts.next()), parts.next().as_ref(), terms.now);
            let extended = matches!(parts.next(), Some(Value::Int(1)));
            Reply::Found(if extended { found.extended() } else { found })
        }
        2 => Reply::Found(redirect(parts.next())),
        3 => Reply::Done,
        4 => Reply::Taken,
        6 => Reply::Ended,
        _ => Reply::Found(Stored::Unreadable),
    })
}

/// What was found, with the end that its TTL in ms says.
pub(super) fn timed(found: Stored, pttl: Option<&Value>, now: Millis) -> Stored {
    let end = match pttl {
        Some(Value::Int(pttl)) if *pttl >= 0 => Some(now + Millis(*pttl)),
        _ => None,
    };
    match found {
        Stored::Record(record) => Stored::Record(record.with_end(end)),
        other => other,
    }
}

pub(super) fn record(value: Option<Value>) -> Stored {
    let record = text(value).and_then(|text| Record::decode(text).ok());
    record.map_or(Stored::Unreadable, Stored::Record)
}

/// A redirect that cannot be read leads nowhere.
pub(super) fn redirect(value: Option<Value>) -> Stored {
    let redirect = text(value).and_then(|text| Redirect::decode(&text));
    redirect.map_or(Stored::Nothing, Stored::Redirect)
}

/// What lies beside a record whose text does not keep its epoch.
pub(super) fn epoch(value: Option<Value>) -> Option<u64> {
    u64::from_str_radix(&text(value)?, 16).ok()
}

pub(super) fn text(value: Option<Value>) -> Option<String> {
    match value? {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}
