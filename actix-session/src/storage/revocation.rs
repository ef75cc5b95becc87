//! What ends cookie-stored sessions before their time: a list of the ended ones on the server.

use std::{future::Future, pin::Pin, time::SystemTime};

/// A future of a [`RevocationStore`].
pub type RevocationFuture<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + 'a>>;

/// Where a [`CookieSessionStore`](super::CookieSessionStore) keeps which sessions have ended.
///
/// The stores of this crate that keep records on the server implement it. A name is the digest of
/// what was revoked, and tells nothing of it.
///
/// # Examples
/// ```
/// # #[cfg(all(feature = "cookie-session", feature = "memory-session"))] {
/// use actix_session::storage::{CookieSessionStore, MemorySessionStore};
///
/// let store = CookieSessionStore::default().with_revocation(MemorySessionStore::new());
/// # let _ = store;
/// # }
/// ```
pub trait RevocationStore: Send + Sync + 'static {
    /// Notes that what is named was revoked at that time, and keeps the note until then; answers
    /// whether there was no note before.
    ///
    /// A note that is there already keeps its later times. Of several that note one name at once
    /// exactly one is answered `true`: a renewal that is not the first to end its old cookie has
    /// lost against a logout. Where that cannot be known, `false` is the safe answer.
    fn revoke<'a>(
        &'a self,
        name: &'a str,
        at: SystemTime,
        until: SystemTime,
    ) -> RevocationFuture<'a, bool>;

    /// When what is named was revoked, where it was and the note is kept still.
    fn revoked_at<'a>(&'a self, name: &'a str) -> RevocationFuture<'a, Option<SystemTime>>;
}

/// Notes in a store with a shared back end: records under names that no key of a session has.
#[cfg(feature = "_backend")]
pub(crate) mod shared {
    use super::SystemTime;
    use crate::{
        clock::Millis,
        contract::Terms,
        key::SessionKey,
        protocol::{Backend, Op, Reply, Slot, Until},
        random,
        record::{Facts, Record, WireFormat},
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
            let op = match look(store, &name, &terms).await? {
                None => Op::Insert {
                    at: name.clone(),
                    new: note(at)?,
                    until,
                },
                Some(known) => {
                    let at = at.max(revoked(&known));
                    let until = Until::At(until.max(known.end().unwrap_or(until)));
                    Op::Cas {
                        at: name.clone(),
                        expect: known.version(),
                        new: note(at)?,
                        until,
                    }
                }
            };
            // A lost answer is looked after by looking again; what is there then may be anybody's.
            if let Reply::Done = store.run(&op, &terms).await? {
                return Ok(matches!(op, Op::Insert { .. }));
            }
        }
        anyhow::bail!("a revocation could not be noted: others kept changing the note")
    }

    pub(crate) async fn revoked_at<B: Backend>(
        store: &B,
        name: &str,
    ) -> anyhow::Result<Option<SystemTime>> {
        let name = store.name(&SessionKey::generated(name.to_owned()));
        let known = look(store, &name, &store.own_terms()).await?;
        Ok(known.map(|record| revoked(&record).to_system_time()))
    }

    async fn look<B: Backend>(
        store: &B,
        name: &str,
        terms: &Terms,
    ) -> anyhow::Result<Option<Record>> {
        match store.look(name, terms).await? {
            Slot::Record(record) => Ok(Some(record)),
            Slot::Nothing => Ok(None),
            Slot::Mark(_) | Slot::Unreadable => {
                anyhow::bail!("a revocation note cannot be read")
            }
        }
    }

    /// The facts' creation is the time of the revocation.
    fn note(at: Millis) -> anyhow::Result<Record> {
        let facts = Facts::new(0, at);
        Ok(Record::written(WireFormat::V1, random::u64()?, facts, &[]))
    }

    fn revoked(record: &Record) -> Millis {
        record
            .facts()
            .map_or(Millis(i64::MAX), |facts| facts.created)
    }
}
