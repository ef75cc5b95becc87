//! The list of ended sessions in a store with a back end: records under names that no session key
//! has.

use std::time::SystemTime;

use crate::{
    clock::Millis,
    contract::Terms,
    key::SessionKey,
    protocol::{Backend, Reply, Step, Stored, Until},
    random,
    record::{Metadata, Record, WireFormat},
};

pub(crate) async fn revoke<B: Backend>(
    store: &B,
    name: &str,
    at: SystemTime,
    until: SystemTime,
) -> anyhow::Result<bool> {
    let name = store.name(&SessionKey::generated(name.to_owned()));
    let terms = store.own_terms();
    let (at, until) = (Millis::from(at), Millis::from(until));
    // Few revoke one thing at once; who loses sees the other's note and adds to it.
    for _ in 0..16 {
        let known = look(store, &name, &terms).await?;
        let is_new = known.is_none();
        let reply = match known {
            None => store.insert_note(&name, note(at)?, until, &terms).await?,
            Some(known) => {
                let step = later(&name, &known, at, until)?;
                store.run(&step, &terms).await?
            }
        };
        // A lost answer is looked after by looking again; what is there then may be anybody's.
        if let Reply::Done = reply {
            return Ok(is_new);
        }
    }
    anyhow::bail!("a revocation could not be noted: others kept changing the note")
}

/// Moves a note to the later time, and keeps it for as long as either needs.
fn later(name: &str, known: &Record, at: Millis, until: Millis) -> anyhow::Result<Step> {
    let at = at.max(revoked(known));
    Ok(Step::Cas {
        at: name.into(),
        expect: known.version(),
        new: note(at)?,
        until: Until::At(until.max(known.end().unwrap_or(until))),
        epoch: None,
    })
}

pub(crate) async fn revoked_at<B: Backend>(
    store: &B,
    name: &str,
) -> anyhow::Result<Option<SystemTime>> {
    let name = store.name(&SessionKey::generated(name.to_owned()));
    let known = look(store, &name, &store.own_terms()).await?;
    Ok(known.map(|record| revoked(&record).to_system_time()))
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
fn note(at: Millis) -> anyhow::Result<Record> {
    let metadata = Metadata::new(0, at);
    Ok(Record::written(
        WireFormat::V1,
        random::u64()?,
        metadata,
        &[],
    ))
}

fn revoked(record: &Record) -> Millis {
    record
        .metadata()
        .map_or(Millis(i64::MAX), |metadata| metadata.created)
}
