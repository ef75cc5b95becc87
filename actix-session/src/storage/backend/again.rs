//! Sessions that began long ago: the lists that know of them forget after 400 days without a step.

use crate::{
    changes::Changes,
    clock::Millis,
    config::LONGEST,
    contract::{Committed, Terms},
    error::{CommitError, LoadError},
    protocol::{Backend, CommitMachine, Machine as _, Stored},
    record::Record,
    storage::upstream::Entering,
};

/// Lists are kept for a little longer than they are relied on.
const SLACK: Millis = Millis::secs(86_400);

/// Tells the lists of a session again. The step compares it with what has ended its owner's sessions.
///
/// As long as the list is certain to be there, that has ended this one too, and the load may do without.
pub(super) async fn listed<B: Backend>(
    store: &B,
    at: &str,
    record: Record,
    terms: &Terms,
) -> Result<Stored, LoadError> {
    let is_certain = !B::FORGETS_OWNERS || !record.was_listed_by(terms.now - LONGEST + SLACK);
    if is_certain && (record.has_kept_end() || store.spares_writes()) {
        // The store takes no writes at present.
        return Ok(Stored::Record(record));
    }
    let share = if is_certain { 4 } else { 1 };
    let quiet = Terms {
        budget: terms.budget / share,
        ..terms.quiet()
    };
    match list(store, at, &record, &quiet).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => {
            let found = store.look(at, terms).await.map_err(LoadError::Other)?;
            Ok(found.proven(at, terms).live(terms))
        }
        Err(error) if is_certain => {
            store.write_has_failed();
            tracing::debug!(%error, "a session could not be listed again: a later load tries it");
            Ok(Stored::Record(record))
        }
        Err(error) => Err(super::load_error(error)),
    }
}

/// What is there then. `None`: others have written it meanwhile.
async fn list<B: Backend>(
    store: &B,
    at: &str,
    record: &Record,
    quiet: &Terms,
) -> Result<Option<Stored>, CommitError> {
    if let Some(entering) = Entering::again(record, quiet) {
        entering.enter(store, quiet).await?;
    }
    let base = Some(record.clone());
    let mut machine = CommitMachine::new(at.into(), base, Changes::none(), quiet).listing();
    if let Committed::Gone = store.drive(&mut machine, quiet).await? {
        return Ok(Some(Stored::Nothing));
    }
    let written = machine.written().map(|written| match record.is_extended() {
        true => written.extended(),
        false => written,
    });
    Ok(written.map(Stored::Record))
}
