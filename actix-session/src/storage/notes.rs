//! The list of ended sessions in a store with a back end: records under names that no session key
//! has.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::{
    clock::{Millis, deadline},
    config::LONGEST,
    contract::Terms,
    key::SessionKey,
    protocol::{Backend, Name, OwnerBefore, Reply, Step, Stored, Until},
    random,
    record::{Metadata, Record, WireFormat},
};

pub(crate) async fn revoke<B: Backend>(
    store: &B,
    name: &str,
    at: SystemTime,
    until: SystemTime,
) -> anyhow::Result<bool> {
    leave(store, name_of(store, name), at.into(), until.into()).await
}

/// Leaves a note under a name. Returns whether there was none.
pub(crate) async fn leave<B: Backend>(
    store: &B,
    name: Name,
    at: Millis,
    until: Millis,
) -> anyhow::Result<bool> {
    let terms = store.own_terms().quiet();
    let own_id = random::u128()?;
    let deadline = deadline(terms.budget);
    // Few revoke one thing at once; whoever loses sees the other's note and adds to it.
    while Instant::now() < deadline {
        let known = look(store, &name, &terms).await?;
        // After a lost answer, the note may be this call's own.
        let is_first = known
            .as_ref()
            .is_none_or(|known| known.id() == Some(own_id));
        if is_first && known.is_some() {
            return Ok(true);
        }
        let reply = match known {
            None => {
                let note = note(own_id, at)?;
                store.insert_note(&name, note, until, &terms).await?
            }
            Some(known) => {
                let step = add(&name, &known, at, until.max(end_of(&known, &terms)))?;
                store.run(&step, &terms).await?
            }
        };
        if let Reply::Done = reply {
            return Ok(is_first);
        }
    }
    anyhow::bail!("a revocation could not be noted: others kept changing the note")
}

/// If the read could not tell, it may be as late as any.
fn end_of(known: &Record, terms: &Terms) -> Millis {
    known.end().unwrap_or(terms.now + LONGEST)
}

/// The later times win. The id stays that of the call that was first.
fn add(name: &str, known: &Record, at: Millis, until: Millis) -> anyhow::Result<Step> {
    Ok(Step::Cas {
        at: name.into(),
        expect: known.version(),
        new: note(known.id().unwrap_or_default(), at.max(revoked(known)))?,
        until: Until::At(until),
        epoch: None,
        owner_before: OwnerBefore::Same,
    })
}

pub(crate) async fn revoked_at<B: Backend>(
    store: &B,
    name: &str,
) -> anyhow::Result<Option<SystemTime>> {
    let name = name_of(store, name);
    let known = look(store, &name, &store.own_terms()).await?;
    Ok(known.map(|record| revoked(&record).to_system_time()))
}

/// No session key contains a full stop, so a note is never a session.
fn name_of<B: Backend>(store: &B, name: &str) -> Name {
    store.name(&SessionKey::generated(format!("note.{name}")))
}

async fn look<B: Backend>(store: &B, name: &str, terms: &Terms) -> anyhow::Result<Option<Record>> {
    match store.look(name, terms).await? {
        Stored::Record(record) => Ok(Some(record)),
        Stored::Nothing => Ok(None),
        Stored::Redirect(_) | Stored::Unreadable => {
            anyhow::bail!("a revocation note cannot be read")
        }
    }
}

/// The metadata's creation time is the time of the revocation.
pub(crate) fn note(id: u128, at: Millis) -> anyhow::Result<Record> {
    let metadata = Metadata::new(id, at);
    Ok(Record::written(
        WireFormat::V1,
        random::u64()?,
        metadata,
        &[],
    ))
}

pub(crate) fn revoked(record: &Record) -> Millis {
    record
        .metadata()
        .map_or(Millis(i64::MAX), |metadata| metadata.created)
}
