//! Changes applied to a record. Pure: time and randomness are arguments.

use std::{borrow::Cow, collections::HashMap};

use smallvec::SmallVec;

use super::{Changes, Effect, LoginChange, Modify, TtlChange};
use crate::{
    clock::Millis,
    contract::{IdleEnd, Stamp},
    error::StateTooLarge,
    record::{Draft, Metadata, Record, Value, Values, principal_of},
};

/// The result of applying changes.
#[derive(Debug)]
pub(crate) enum Applied {
    /// There is nothing to write.
    Nothing,
    Write(Record),
    /// Refused: the session that these changes were made for no longer exists.
    Gone,
}

/// An effect cannot be computed: a `modify` met a value of another type, or made one that does not
/// serialize.
#[derive(Debug, derive_more::Display)]
#[display("{_0}")]
pub(crate) struct ApplyError(pub(crate) anyhow::Error);

/// The stored record with the changes applied: a changed entry replaces the stored one, `modify`
/// runs on the stored value, and all other entries stay.
pub(crate) fn overwrite(
    stored: &Record,
    changes: &Changes,
    stamp: Stamp<'_>,
) -> Result<Applied, ApplyError> {
    let Some(plan) = plan(stored, changes, stamp)? else {
        return Ok(Applied::Gone);
    };
    let nothing = plan.starts_over.then(Record::empty);
    let from = nothing.as_ref().unwrap_or(stored);
    let new = rewrite(from, &plan.values, plan.metadata, stamp);
    bounded(new, stored.size(), stamp)
}

/// The same for a store that takes maps, without a text.
pub(crate) fn overwrite_map(
    stored: Record,
    changes: &Changes,
    stamp: Stamp<'_>,
) -> Result<Applied, ApplyError> {
    let Some(plan) = plan(&stored, changes, stamp)? else {
        return Ok(Applied::Gone);
    };
    let before = stored.size();
    let mut entries = if plan.starts_over {
        HashMap::new()
    } else {
        stored.into_map()
    };
    for (name, value) in plan.values {
        match value {
            Some(json) => drop(entries.insert(name.to_owned(), json.into_owned())),
            None => drop(entries.remove(name)),
        }
    }
    bounded(draft(plan.metadata, stamp).map(entries), before, stamp)
}

/// Few requests change more entries.
type OwnValues<'a> = SmallVec<[Value<'a>; 2]>;

/// What changes make of a record.
struct Plan<'a> {
    metadata: Metadata,
    values: OwnValues<'a>,
    /// No stored entry stays.
    starts_over: bool,
}

/// `None` if the session that the changes were made for no longer exists.
fn plan<'a>(
    stored: &Record,
    changes: &'a Changes,
    stamp: Stamp<'_>,
) -> Result<Option<Plan<'a>>, ApplyError> {
    let another = changes.log_in_another(stored);
    if changes.reauthenticated.is_some() && changes.login.is_none() && stored.principal().is_none()
    {
        return Ok(None);
    }
    let mut metadata = metadata_after(stored, changes, another, stamp);
    let starts_over = changes.cleared.is_some() || another;
    let kept = (!starts_over).then_some(stored);
    let values = values(kept, changes, another)?;
    settle_owner(&mut metadata, kept, (&values, changes.ttl), stamp);
    if stamp.new_id {
        // Whoever is logged out here too: those who know the old id find the new one.
        metadata.set_id(stamp.fresh_id);
    }
    if let Some(auth) = metadata.auth.as_deref_mut()
        && stamp.lists
        && stamp.now > auth.listed()
    {
        auth.listed = Some(stamp.now);
    }
    if let Some(made) = &changes.made {
        made.note(&metadata);
    }
    Ok(Some(Plan {
        metadata,
        values,
        starts_over,
    }))
}

/// Whom the entry names, if there is such an entry, is whose record it is.
fn settle_owner(
    metadata: &mut Metadata,
    kept: Option<&Record>,
    (values, ttl): (&Values<'_>, Option<TtlChange>),
    stamp: Stamp<'_>,
) {
    let Some(entry) = stamp.principal_entry else {
        return;
    };
    let named = match values.iter().find(|(name, _)| *name == entry) {
        Some((_, value)) => value.as_deref().and_then(principal_of),
        None => kept
            .and_then(|kept| kept.state().get(entry))
            .and_then(|json| principal_of(&json)),
    };
    if named.as_deref() != metadata.principal() {
        give_to(metadata, named, ttl, stamp);
    }
}

/// Whoever had the record before takes their times along. `ttl` is what this request has set since.
pub(super) fn give_to(
    metadata: &mut Metadata,
    principal: Option<String>,
    ttl: Option<TtlChange>,
    stamp: Stamp<'_>,
) {
    metadata.belong_to(principal, stamp.now);
    metadata.ttl = ttl.map_or(metadata.ttl, TtlChange::own);
    metadata.absolute_end = absolute_end(metadata, stamp);
}

/// A session with these changes alone.
pub(crate) fn own_record(changes: &Changes, stamp: Stamp<'_>) -> Result<Applied, ApplyError> {
    overwrite(&Record::empty(), changes, stamp)
}

/// What is left of the changes for a record that may contain them already, or that they were not
/// made on: a `Set` or a removal stays only if the stored value is the one in `before`.
///
/// No metadata stays, except a TTL if no other request has set one since, and a lowered level: that
/// leaves what was proven later, so that it may come late and twice.
pub(crate) fn reduce(changes: &Changes, stored: &Record, before: Option<&Record>) -> Changes {
    let kept = changes.effects.iter().filter(|(name, effect)| {
        matches!(effect, Effect::Modify(_)) || unchanged(stored, before, name)
    });
    let same_ttl = |before: &Record| before.own_ttl() == stored.own_ttl();
    Changes {
        effects: kept.cloned().collect(),
        ttl: changes.ttl.filter(|_| before.is_some_and(same_ttl)),
        lowered: changes.lowered.clone(),
        logout: changes.logout.clone(),
        ..Changes::default()
    }
}

/// The record with the effects, the TTL and the level of reduced changes applied. Its other metadata
/// stays.
pub(crate) fn write_reduced(
    stored: &Record,
    changes: &Changes,
    stamp: Stamp<'_>,
) -> Result<Applied, ApplyError> {
    let values = values(Some(stored), changes, false)?;
    let same = |(name, value): &(&str, Option<Cow<'_, str>>)| {
        stored.state().get(name).as_deref() == value.as_deref()
    };
    let mut metadata = metadata_of(stored, stamp);
    let lowers = lower(&mut metadata, changes);
    if !lowers && values.iter().all(same) && changes.ttl.is_none_or(|ttl| metadata.ttl == ttl.own())
    {
        return Ok(Applied::Nothing);
    }
    metadata.ttl = changes.ttl.map_or(metadata.ttl, TtlChange::own);
    settle_owner(&mut metadata, Some(stored), (&values, changes.ttl), stamp);
    let new = rewrite(stored, &values, metadata, stamp);
    bounded(new, stored.size(), stamp)
}

/// Refuses a record that is too large, unless it has not grown: a large record may shrink.
fn bounded(new: Record, before: usize, stamp: Stamp<'_>) -> Result<Applied, ApplyError> {
    let (size, limit) = (new.size(), stamp.max_state);
    if size <= limit || size <= before {
        return Ok(Applied::Write(new));
    }
    Err(ApplyError(StateTooLarge { size, limit }.into()))
}

/// Whether an effect behind a login's redirect is refused: a `modify` of an entry that the login
/// changed.
pub(crate) fn refused_behind_login(
    stored: &Record,
    base: Option<&Record>,
    changes: &Changes,
) -> bool {
    changes
        .effects
        .iter()
        .any(|(name, effect)| matches!(effect, Effect::Modify(_)) && !unchanged(stored, base, name))
}

/// Whether an entry has the value that it had before; absent is a value too.
fn unchanged(stored: &Record, before: Option<&Record>, name: &str) -> bool {
    stored.state().get(name) == before.and_then(|before| before.state().get(name))
}

/// A logout behind a redirect: nobody is logged in any more, and the base's entries are removed if
/// they are unchanged.
pub(crate) fn forwarded_clear(
    stored: &Record,
    base: Option<&Record>,
    epoch: u64,
    stamp: Stamp<'_>,
) -> Record {
    let mut metadata = metadata_of(stored, stamp);
    metadata.clear(epoch);
    metadata.absolute_end = absolute_end(&metadata, stamp);
    let mut names = Vec::new();
    stored.state().for_each(|name, json| {
        let before = base.and_then(|base| base.state().get(name));
        if before.as_deref() == Some(&*json) || stamp.principal_entry == Some(name) {
            names.push(name.to_owned());
        }
    });
    let removed: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
    rewrite(stored, &removed, metadata, stamp)
}

/// `another`: whoever logs in is not whoever was.
fn values<'a>(
    stored: Option<&Record>,
    changes: &'a Changes,
    another: bool,
) -> Result<OwnValues<'a>, ApplyError> {
    let before = changes.before_login.as_ref().filter(|_| another);
    let mut values = OwnValues::with_capacity(changes.effects.len());
    for (name, effect) in changes.effects.iter() {
        let earlier = before.and_then(|before| before.get(name));
        if earlier.is_some_and(|earlier| effect.closures() <= earlier) {
            continue;
        }
        let value = match effect {
            Effect::Set(json) => Some(Cow::Borrowed(json.as_str())),
            Effect::Removed => None,
            Effect::Modify(closures) => {
                let now = stored.and_then(|stored| stored.state().get(name));
                let closures = closures.get(earlier.unwrap_or(0)..).unwrap_or_default();
                let then = Modify::run_all(closures, now.as_deref()).map_err(ApplyError)?;
                then.map(Cow::Owned)
            }
        };
        values.push((name.as_str(), value));
    }
    Ok(values)
}

/// The stored metadata, with what this request set. Renewals keep the id, and so does a login from
/// nobody; `clear` and the login of another draw one.
pub(super) fn metadata_after(
    stored: &Record,
    changes: &Changes,
    another: bool,
    stamp: Stamp<'_>,
) -> Metadata {
    let mut metadata = metadata_of(stored, stamp);
    if let Some(epoch) = changes.cleared {
        metadata.clear(epoch);
        metadata.absolute_end = absolute_end(&metadata, stamp);
    }
    if let Some(login) = &changes.login {
        if stored.id().is_none() {
            metadata.set_id(login.id);
        }
        log_in(&mut metadata, login, another);
        metadata.absolute_end = absolute_end(&metadata, stamp);
    }
    metadata.ttl = changes.ttl.map_or(metadata.ttl, TtlChange::own);
    lower(&mut metadata, changes);
    if let Some(proof) = changes.reauthenticated {
        if let Some(auth) = &mut metadata.auth {
            auth.prove(proof);
        }
        metadata.absolute_end = absolute_end(&metadata, stamp).or(metadata.absolute_end);
    }
    metadata
}

/// Whether that changes anything.
fn lower(metadata: &mut Metadata, changes: &Changes) -> bool {
    let somebody = metadata.auth.as_deref_mut().zip(changes.lowered.as_deref());
    somebody.is_some_and(|(auth, lowered)| auth.lower(lowered))
}

/// A session's own times belong to its login: they end with the next one, unless that keeps them.
fn log_in(metadata: &mut Metadata, login: &LoginChange, another: bool) {
    let keeps = login.keep_times && metadata.principal() == Some(&*login.principal);
    let span = metadata.own_span().filter(|_| keeps);
    if another {
        // It is another person's session now: no time of the old one counts.
        metadata.start_over(login.id, login.at);
    }
    if !keeps {
        metadata.ttl = None;
    }
    let mut auth = login.auth(login.span.or(span));
    let before = metadata.auth.take().filter(|_| !another);
    auth.keep_upstream(before.as_deref());
    auth.keep_demand(before.map(|before| *before));
    metadata.auth = Some(auth.into());
}

/// The record's metadata, or new metadata if it has none yet.
fn metadata_of(stored: &Record, stamp: Stamp<'_>) -> Metadata {
    let mut metadata = match stored.metadata() {
        Some(metadata) => metadata.clone(),
        None => Metadata {
            idle_end: stored.end().filter(|_| stored.is_in_cookie()),
            ..Metadata::new(stamp.fresh_id, stamp.now)
        },
    };
    metadata.epoch = stored.epoch();
    metadata.absolute_end = metadata
        .absolute_end
        .or_else(|| absolute_end(&metadata, stamp));
    metadata
}

fn absolute_end(metadata: &Metadata, stamp: Stamp<'_>) -> Option<Millis> {
    let span = metadata.own_span().or(stamp.absolute);
    span.map(|span| metadata.since() + span)
}

/// When the session ends unless it is used, if the record itself must say so.
fn idle_end(metadata: &Metadata, stamp: Stamp<'_>) -> Option<Millis> {
    let ttl = stamp.idle_ttl?;
    let end = stamp.now + metadata.ttl.unwrap_or(ttl);
    let end = metadata.absolute_end.map_or(end, |cap| cap.min(end));
    Some(match (stamp.idle, metadata.idle_end) {
        (IdleEnd::Kept, Some(kept)) => kept,
        (IdleEnd::NoLater, Some(kept)) => kept.min(end),
        (IdleEnd::Anew, _) | (_, None) => end,
    })
}

/// The stored entries, some of them replaced and the others copied as they are.
fn rewrite(stored: &Record, values: &Values<'_>, metadata: Metadata, stamp: Stamp<'_>) -> Record {
    draft(metadata, stamp).write_onto(stored, values)
}

fn draft(mut metadata: Metadata, stamp: Stamp<'_>) -> Draft<'_> {
    metadata.idle_end = idle_end(&metadata, stamp);
    Draft {
        format: stamp.format,
        commit: stamp.commit,
        metadata,
        keys: stamp.keys,
        place: stamp.place,
        keeps_epoch: stamp.keeps_epoch,
        keeps_entry: stamp.keeps_entry,
    }
}
