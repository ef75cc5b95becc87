//! An extension that is asked for outside of the session's own requests.

use tokio::time::Instant;

use super::{checked, look};
use crate::{
    changes::Changes,
    clock::deadline,
    contract::{Committed, Terms},
    error::CommitError,
    protocol::{Backend, CommitMachine, Name, Stored, Trail},
    storage::index::is_of,
};

/// Extends a principal's session as a request of its own would that extends it. Renewals are followed.
/// Any other session that lies there by now keeps its end.
pub(crate) async fn touch<B: Backend>(
    store: &B,
    mut at: Name,
    principal: &str,
    id: u128,
    terms: &Terms,
) -> Result<Committed, CommitError> {
    let (quiet, touching) = (terms.quiet(), terms.touching());
    let (mut trail, deadline) = (Trail::default(), deadline(terms.budget));
    loop {
        // A look that extends would extend whatever is there.
        let mut found = look(store, &at, &quiet).await?;
        if matches!(&found, Stored::Record(record) if is_of(record, principal, id)) {
            found = look(store, &at, &touching).await?;
        }
        match found {
            Stored::Record(record) if !is_of(&record, principal, id) => return Ok(Committed::Gone),
            Stored::Record(record) if terms.is_undated(&record) => {
                let changes = Changes::none();
                let mut machine = CommitMachine::new(at, Some(record), changes, &touching);
                return store.drive(&mut machine, &touching).await;
            }
            Stored::Redirect(redirect) => at = redirect.target,
            found => return Ok(checked(&found, terms)),
        }
        if trail.comes_back_to(&at) {
            return Ok(Committed::Gone);
        }
        if Instant::now() >= deadline {
            return Err(CommitError::Contended);
        }
    }
}
