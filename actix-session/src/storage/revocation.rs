//! A list of ended sessions on the server, which ends cookie-stored sessions early.

use std::{future::Future, pin::Pin, time::SystemTime};

/// A future of a [`RevocationStore`].
pub type RevocationFuture<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + 'a>>;

/// Keeps the list of ended sessions for a [`CookieSessionStore`](super::CookieSessionStore).
///
/// The stores of this crate that keep records on the server implement it. A name is the digest of
/// what was revoked, and reveals nothing of it.
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
    /// Notes that `name` was revoked at the time `at`, and keeps the note until `until`. Returns
    /// whether there was no note before.
    ///
    /// If there is a note already, the later times win. If several calls note one name at once,
    /// exactly one must return `true`: a renewal that is not the first to end its old cookie has
    /// lost against a logout. If that cannot be known, `false` is the safe answer.
    fn revoke<'a>(
        &'a self,
        name: &'a str,
        at: SystemTime,
        until: SystemTime,
    ) -> RevocationFuture<'a, bool>;

    /// When `name` was revoked, or `None` if there is no note, or no longer one.
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
        // Few calls revoke one thing at once. A call that loses sees the other's note, and adds to
        // it.
        for _ in 0..16 {
            let step = match look(store, &name, &terms).await? {
                None => Step::Insert {
                    at: name.clone(),
                    new: note(at)?,
                    until,
                },
                Some(known) => {
                    let at = at.max(revoked(&known));
                    let until = Until::At(until.max(known.end().unwrap_or(until)));
                    Step::Cas {
                        at: name.clone(),
                        expect: known.version(),
                        new: note(at)?,
                        until,
                    }
                }
            };
            // After a lost answer, the next turn looks again. A note that it finds then may be
            // anybody's.
            if let Reply::Done = store.run(&step, &terms).await? {
                return Ok(matches!(step, Step::Insert { .. }));
            }
        }
        anyhow::bail!("a revocation could not be noted: other requests kept changing the note")
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
            Stored::Record(record) => Ok(Some(record)),
            Stored::Nothing => Ok(None),
            Stored::Redirect(_) | Stored::Unreadable => {
                anyhow::bail!("a revocation note cannot be read")
            }
        }
    }

    /// The creation in the metadata is the time of the revocation.
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
}
