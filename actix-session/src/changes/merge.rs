//! Changes applied to a record. Pure: time and randomness are arguments.

use std::borrow::Cow;

use super::{Changes, Effect, Modify};
use crate::{
    clock::Millis,
    error::StateTooLarge,
    record::{Auth, Facts, Record, WireFormat},
};

/// On what a new record is written: all that is neither in the record nor in the changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grounds {
    pub(crate) commit: u64,
    /// For a record that has no id yet.
    pub(crate) fresh_id: u128,
    pub(crate) now: Millis,
    /// The policy's cap on a session's whole life.
    pub(crate) absolute: Option<Millis>,
    pub(crate) format: WireFormat,
    /// How many octets the record may have, unless it had as many before.
    pub(crate) max_state: usize,
    /// The policy's idle TTL, where the record itself has to say when it ends.
    pub(crate) seal: Option<Millis>,
    /// The session gets another id: values from before are to be told from it.
    pub(crate) new_id: bool,
    /// An idle end that is there already stays as it is.
    pub(crate) keep_idle: bool,
}

/// What became of changes.
#[derive(Debug)]
pub(crate) enum Applied {
    /// There is nothing to write.
    Nothing,
    Write(Record),
    /// Refused: what these changes were made for is not there any more.
    Gone,
}

/// An effect that cannot be computed: a `modify` met a value of another type, or made one that
/// does not serialize.
#[derive(Debug, derive_more::Display)]
#[display("{_0}")]
pub(crate) struct ApplyError(pub(crate) anyhow::Error);

/// An entry and its new JSON text; `None` removes it.
type Values<'a> = Vec<(&'a str, Option<Cow<'a, str>>)>;

/// The stored record with the changes on top: each named entry overwrites, `modify` runs on what
/// is stored, and what is not named stays.
pub(crate) fn overwrite(
    stored: &Record,
    changes: &Changes,
    grounds: Grounds,
) -> Result<Applied, ApplyError> {
    let another = match (stored.principal(), &changes.login) {
        (Some(stored), Some(login)) => stored != login.principal,
        _ => false,
    };
    if changes.reauthenticated.is_some() && changes.login.is_none() && stored.principal().is_none()
    {
        return Ok(Applied::Gone);
    }
    let mut facts = facts_after(stored, changes, another, grounds);
    if grounds.new_id {
        facts.id = grounds.fresh_id;
    }
    if changes.cleared.is_some() || another {
        let nothing = Record::empty();
        let values = values(&nothing, changes)?;
        return bounded(rewrite(&nothing, &values, facts, grounds), stored, grounds);
    }
    let values = values(stored, changes)?;
    bounded(rewrite(stored, &values, facts, grounds), stored, grounds)
}

/// A session of these changes alone.
pub(crate) fn own_record(changes: &Changes, grounds: Grounds) -> Result<Applied, ApplyError> {
    overwrite(&Record::empty(), changes, grounds)
}

/// What is left of the changes for a record that may have seen them, or that they were not made
/// on: a `Set` or a removal stays only where the stored value is the one in `before`.
///
/// Facts do not stay, except a TTL that nobody has set since.
pub(crate) fn reduce(changes: &Changes, stored: &Record, before: Option<&Record>) -> Changes {
    let value = |name: &str| before.and_then(|before| before.state().get(name));
    let unchanged = |name: &str| stored.state().get(name) == value(name);
    let kept = changes
        .effects
        .iter()
        .filter(|(name, effect)| matches!(effect, Effect::Modify(_)) || unchanged(name));
    let ttl = |record: &Record| record.facts().and_then(|facts| facts.ttl);
    Changes {
        effects: kept.cloned().collect(),
        ttl: changes
            .ttl
            .filter(|_| before.is_some_and(|before| ttl(before) == ttl(stored))),
        ..Changes::default()
    }
}

/// The effects (and the TTL) of reduced changes on top of a record; its other facts stand.
pub(crate) fn write_reduced(
    stored: &Record,
    changes: &Changes,
    grounds: Grounds,
) -> Result<Applied, ApplyError> {
    let values = values(stored, changes)?;
    let same = |(name, value): &(&str, Option<Cow<'_, str>>)| {
        stored.state().get(name).as_deref() == value.as_deref()
    };
    let mut facts = facts_of(stored, grounds);
    if values.iter().all(same) && changes.ttl.is_none_or(|ttl| facts.ttl == Some(ttl)) {
        return Ok(Applied::Nothing);
    }
    facts.ttl = changes.ttl.or(facts.ttl);
    bounded(rewrite(stored, &values, facts, grounds), stored, grounds)
}

/// Refuses a record that is too large, unless it was no smaller before: what is there may shrink.
fn bounded(new: Record, stored: &Record, grounds: Grounds) -> Result<Applied, ApplyError> {
    let size = |record: &Record| record.as_text().map_or(0, str::len);
    if size(&new) <= grounds.max_state || size(&new) <= size(stored) {
        return Ok(Applied::Write(new));
    }
    Err(ApplyError(
        StateTooLarge {
            size: size(&new),
            limit: grounds.max_state,
        }
        .into(),
    ))
}

/// Whether an effect behind the mark of a login is refused: a `modify` of what the login changed.
pub(crate) fn refused_behind_login(
    stored: &Record,
    base: Option<&Record>,
    changes: &Changes,
) -> bool {
    let before = |name: &str| base.and_then(|base| base.state().get(name));
    changes.effects.iter().any(|(name, effect)| {
        matches!(effect, Effect::Modify(_)) && stored.state().get(name) != before(name)
    })
}

/// A logout behind a mark: nobody is logged in, and what the base held is gone where unchanged.
pub(crate) fn forwarded_clear(
    stored: &Record,
    base: Option<&Record>,
    epoch: u64,
    grounds: Grounds,
) -> Record {
    let mut facts = facts_of(stored, grounds);
    facts.epoch = epoch;
    facts.auth = None;
    let mut names = Vec::new();
    stored.state().for_each(|name, json| {
        let before = base.and_then(|base| base.state().get(name));
        if before.as_deref() == Some(&*json) {
            names.push(name.to_owned());
        }
    });
    let removed: Values<'_> = names.iter().map(|name| (name.as_str(), None)).collect();
    rewrite(stored, &removed, facts, grounds)
}

fn values<'a>(stored: &Record, changes: &'a Changes) -> Result<Values<'a>, ApplyError> {
    let mut values = Values::with_capacity(changes.effects.len());
    for (name, effect) in &changes.effects {
        let value = match effect {
            Effect::Set(json) => Some(Cow::Borrowed(json.as_str())),
            Effect::Removed => None,
            Effect::Modify(ops) => {
                let now = stored.state().get(name);
                let then = Modify::run_all(ops, now.as_deref()).map_err(ApplyError)?;
                then.map(Cow::Owned)
            }
        };
        values.push((name.as_str(), value));
    }
    Ok(values)
}

/// The stored facts, and on top what this request itself set.
fn facts_after(stored: &Record, changes: &Changes, another: bool, grounds: Grounds) -> Facts {
    let mut facts = facts_of(stored, grounds);
    if let Some(epoch) = changes.cleared {
        facts.epoch = epoch;
        facts.auth = None;
    }
    facts.ttl = changes.ttl.or(facts.ttl);
    if let Some(login) = &changes.login {
        if another {
            // Another person's session: nothing of this one's life counts for it.
            facts.id = login.id;
            facts.created = login.at;
            facts.ttl = changes.ttl;
            facts.absolute_end = None;
        }
        facts.auth = Some(Auth {
            principal: login.principal.clone(),
            at: login.proven.unwrap_or(login.at),
            device: login.device.clone(),
            login: login.proven.and(Some(login.at)),
        });
    }
    if let (Some(at), Some(auth)) = (changes.reauthenticated, &mut facts.auth)
        && at > auth.at
    {
        auth.login = Some(auth.login());
        auth.at = at;
    }
    if changes.login.is_some() || changes.reauthenticated.is_some() {
        facts.absolute_end = absolute_end(&facts, grounds).or(facts.absolute_end);
    }
    facts
}

/// The record's facts, or those of one that is seen for the first time.
fn facts_of(stored: &Record, grounds: Grounds) -> Facts {
    let mut facts = match stored.facts() {
        Some(facts) => facts.clone(),
        None => Facts::new(grounds.fresh_id, grounds.now),
    };
    facts.absolute_end = facts.absolute_end.or_else(|| absolute_end(&facts, grounds));
    facts
}

fn absolute_end(facts: &Facts, grounds: Grounds) -> Option<Millis> {
    grounds.absolute.map(|span| facts.since() + span)
}

/// The stored entries with some of them replaced; the others are copied as they are.
fn rewrite(stored: &Record, values: &Values<'_>, mut facts: Facts, grounds: Grounds) -> Record {
    if let Some(ttl) = grounds.seal {
        if !(grounds.keep_idle && facts.idle_end.is_some()) {
            let end = grounds.now + facts.ttl.unwrap_or(ttl);
            facts.idle_end = Some(facts.absolute_end.map_or(end, |cap| cap.min(end)));
        }
    } else {
        facts.idle_end = None;
    }
    let mut entries: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(stored.len() + 1);
    stored.state().for_each(|name, json| {
        if !values.iter().any(|(changed, _)| *changed == name) {
            entries.push((name.into(), json));
        }
    });
    for (name, value) in values {
        if let Some(json) = value {
            entries.push(((*name).into(), Cow::Borrowed(json)));
        }
    }
    // What requests set was serialized a moment ago; what is stored may be older than the checks.
    if stored.state().is_checked() {
        Record::written_as(grounds.format, grounds.commit, facts, &entries)
    } else {
        Record::written(grounds.format, grounds.commit, facts, &entries)
    }
}
