//! Reads what Redis answers.

use anyhow::bail;
use redis::Value;

use crate::{
    clock::Millis,
    contract::Terms,
    protocol::{Mark, Reply, Slot},
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
        0 => Reply::Found(Slot::Nothing),
        1 => Reply::Found(timed_record(parts.next(), parts.next().as_ref(), terms.now)),
        2 => Reply::Found(mark(parts.next())),
        3 => Reply::Done,
        4 => Reply::Taken,
        _ => Reply::Found(Slot::Unreadable),
    })
}

fn timed_record(text: Option<Value>, pttl: Option<&Value>, now: Millis) -> Slot {
    let end = match pttl {
        Some(Value::Int(pttl)) if *pttl >= 0 => Some(now + Millis(*pttl)),
        _ => None,
    };
    match record(text) {
        Slot::Record(record) => Slot::Record(record.with_end(end)),
        other => other,
    }
}

pub(super) fn record(value: Option<Value>) -> Slot {
    let record = text(value).and_then(|text| Record::decode(text).ok());
    record.map_or(Slot::Unreadable, Slot::Record)
}

/// A mark that cannot be read leads nowhere.
pub(super) fn mark(value: Option<Value>) -> Slot {
    let mark = text(value).and_then(|text| Mark::decode(&text));
    mark.map_or(Slot::Nothing, Slot::Mark)
}

pub(super) fn text(value: Option<Value>) -> Option<String> {
    match value? {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
