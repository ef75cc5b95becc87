//! Entries: which principals a user, or a session, of an upstream is here.

use std::collections::BTreeSet;

use futures_util::future::{join, try_join_all};
use tokio::time::Instant;

use super::{ENTRY, NOTICE, name_of, note_in, notes_terms};
use crate::{
    clock::{Millis, deadline},
    config::LONGEST,
    contract::Terms,
    error::CommitError,
    live::EndReason,
    protocol::{Backend, Name, OwnerBefore, Reply, Step, Until},
    random,
    record::{Metadata, Record, WireFormat},
    storage::lease::untraced,
};

/// Entries are not written anew for less than this.
const SLACK: Millis = Millis::secs(30 * 86_400);
/// The field of an entry.
const PRINCIPALS: &str = "principals";

/// Adds a principal to an entry, which then lasts for as long as a session of this span may live, and a
/// little longer, so that not every login writes it anew. Usually that is so already, or there is no
/// entry: so both are asked for at once.
///
/// No read extends an entry, only a step that compares: so no login takes from what another one has
/// added meanwhile.
pub(super) async fn add<B: Backend>(
    store: &B,
    what: &str,
    principal: &str,
    span: Millis,
    terms: &Terms,
) -> Result<(), CommitError> {
    let (at, terms) = (name_of(store, ENTRY, what), terms.quiet());
    let least = terms.now + span + NOTICE;
    let until = least + SLACK.min(Millis(span.0 / 8));
    let deadline = deadline(terms.budget);
    while Instant::now() < deadline {
        let first = entry(&[principal.to_owned()], &terms)?;
        let inserting = store.insert_note(&at, first, until, &terms);
        let (inserted, found) = join(inserting, store.look(&at, &terms)).await;
        if let Reply::Done = inserted.map_err(CommitError::of_store)? {
            return Ok(());
        }
        // It may have gone meanwhile, or only come.
        let Some(known) = note_in(found)? else {
            continue;
        };
        let mut principals = principals(&known)?;
        let is_in = principals.iter().any(|known| known == principal);
        if is_in && known.end().is_some_and(|end| end >= least) {
            return Ok(());
        }
        if !is_in {
            principals.push(principal.to_owned());
        }
        // If the read could not tell the end, the entry may be kept for as long as any.
        let any = || least.max(terms.now + LONGEST) + SLACK;
        let end = known.end().unwrap_or_else(any);
        let step = replace(&at, &known, &principals, Until::At(end.max(until)), &terms)?;
        let replaced = store.run(&step, &terms).await;
        if let Reply::Done = replaced.map_err(CommitError::of_store)? {
            return Ok(());
        }
    }
    Err(CommitError::Contended)
}

/// Whether entries name a principal.
pub(super) async fn name<B: Backend>(
    store: &B,
    entries: &[String],
    principal: &str,
    terms: &Terms,
) -> Result<bool, CommitError> {
    let looks = entries.iter().map(|what| named_by(store, what, terms));
    let named = try_join_all(looks).await?;
    Ok(named.iter().all(|it| it.iter().any(|it| it == principal)))
}

/// The principals that an entry names.
pub(super) async fn named_by<B: Backend>(
    store: &B,
    what: &str,
    terms: &Terms,
) -> Result<Vec<String>, CommitError> {
    let at = name_of(store, ENTRY, what);
    let found = note_in(store.read_note(&at, terms).await)?;
    found.map_or_else(|| Ok(Vec::new()), |entry| principals(&entry))
}

/// Takes a principal out of entries.
pub(crate) async fn take_out<B: Backend>(
    store: &B,
    entries: &BTreeSet<String>,
    principal: &str,
    terms: &Terms,
) -> Result<(), CommitError> {
    let terms = notes_terms(terms);
    for what in entries {
        take_out_of(store, what, principal, &terms).await?;
    }
    Ok(())
}

/// An entry that names nobody is deleted.
async fn take_out_of<B: Backend>(
    store: &B,
    what: &str,
    principal: &str,
    terms: &Terms,
) -> Result<(), CommitError> {
    let (at, terms) = (name_of(store, ENTRY, what), untraced(terms));
    let deadline = deadline(terms.budget);
    while Instant::now() < deadline {
        let Some(known) = note_in(store.read_note(&at, &terms).await)? else {
            return Ok(());
        };
        let named = principals(&known)?;
        let others: Vec<_> = named
            .iter()
            .filter(|it| *it != principal)
            .cloned()
            .collect();
        if others.len() == named.len() {
            return Ok(());
        }
        let step = if others.is_empty() {
            Step::EndIf {
                at: at.clone(),
                expect: known.version(),
                why: EndReason::Gone,
                owner: None,
            }
        } else {
            replace(&at, &known, &others, Until::Same, &terms)?
        };
        let taken = store.run(&step, &terms).await;
        if let Reply::Done = taken.map_err(CommitError::of_store)? {
            return Ok(());
        }
    }
    Err(CommitError::Contended)
}

fn replace(
    at: &Name,
    known: &Record,
    principals: &[String],
    until: Until,
    terms: &Terms,
) -> Result<Step, CommitError> {
    Ok(Step::Cas {
        at: at.clone(),
        expect: known.version(),
        new: entry(principals, terms)?,
        until,
        epoch: None,
        owner_before: OwnerBefore::Same,
    })
}

fn entry(principals: &[String], terms: &Terms) -> Result<Record, CommitError> {
    let (commit, id) = random::ids().map_err(CommitError::Other)?;
    let metadata = Metadata::new(id, terms.now);
    let json =
        serde_json::to_string(principals).map_err(|error| CommitError::Other(error.into()))?;
    let entries = [(PRINCIPALS.into(), json.into())];
    Ok(Record::written(WireFormat::V1, commit, metadata, &entries))
}

fn principals(entry: &Record) -> Result<Vec<String>, CommitError> {
    let json = entry.state().get(PRINCIPALS);
    let json = json.as_deref().unwrap_or("[]");
    serde_json::from_str(json).map_err(|error| CommitError::Other(error.into()))
}
