//! Entries do not name whoever was erased.

use std::collections::BTreeSet;

use super::{Entering, entry_names, is_over, notes_terms};
use crate::{
    contract::Terms,
    error::CommitError,
    live::EndReason,
    record::UpstreamLogin,
    storage::index::{Door as _, Index, Live, each},
};

/// The entries that a principal's live sessions come with.
pub(crate) async fn entries_of<B: Index>(
    store: &B,
    principal: &str,
    terms: &Terms,
) -> Result<BTreeSet<String>, CommitError> {
    let live = live(store, principal, terms).await?;
    let names = live.iter().flat_map(|(_, origin)| entry_names(origin));
    Ok(names.collect())
}

/// Whoever has logged in again meanwhile stays in the entries. A notice that has missed such a session,
/// since the entry was not there, has left itself for it.
pub(crate) async fn keep_others<B: Index>(
    store: &B,
    principal: &str,
    terms: &Terms,
) -> Result<(), CommitError> {
    for (live, _) in live(store, principal, terms).await? {
        // A claim counts: whoever erases may have no key that proves it.
        let auth = live.record.times().and_then(|it| it.auth.as_deref());
        if let Some(entering) = auth.and_then(|auth| Entering::of_auth(auth, terms)) {
            entering.enter(store, terms).await?;
        }
    }
    for (live, origin) in live(store, principal, terms).await? {
        if is_over(store, &origin, &notes_terms(terms)).await? {
            let (why, latest) = (EndReason::Revoked, live.login());
            let end = store.end(live.at, principal, live.id, latest, why, terms);
            end.await?;
        }
    }
    Ok(())
}

/// A principal's live sessions that come from an upstream.
async fn live<B: Index>(
    store: &B,
    principal: &str,
    terms: &Terms,
) -> Result<Vec<(Live, UpstreamLogin)>, CommitError> {
    let mut found = Vec::new();
    let keep = |live: Vec<Live>| {
        found.extend(live.into_iter().filter_map(|live| {
            let auth = live.record.times()?.auth.as_deref()?;
            let origin = auth.upstream()?;
            Some((live, origin))
        }));
        None::<()>
    };
    each(store, principal, terms, keep).await?;
    Ok(found)
}
