//! The methods of every store with a shared back end.

mod again;
mod touch;

use std::collections::HashMap;

use actix_web::cookie::time::Duration;

use super::{five_methods::age, upstream::Entering};
use crate::{
    changes::Changes,
    clock::Millis,
    contract::{Committed, End, Opened, Rotated, Terms},
    error::{CommitError, Gone, LoadError, SaveError, UpdateError},
    event,
    handed::handed,
    key::SessionKey,
    live::{Watch, poll_backend},
    protocol::{
        Backend, CommitMachine, EndMachine, Flag, Name, ReplaceMachine, RotateMachine, SaveMachine,
        Stored,
    },
    random,
    record::Record,
};

pub(crate) use self::touch::touch;

/// Whether a key is one that these stores make. Others never reach a back end.
fn is_ours(key: &SessionKey) -> bool {
    let text = key.as_ref();
    // Without an early exit, the compiler tests many bytes at a time.
    let is_other = |byte: u8| !byte.is_ascii_alphanumeric();
    let any_other = || text.bytes().fold(false, |any, byte| any | is_other(byte));
    text.len() == random::KEY_LENGTH && !any_other()
}

pub(crate) async fn open<B: Backend>(
    store: &B,
    key: &SessionKey,
    terms: &Terms,
) -> Result<Opened, LoadError> {
    if !is_ours(key) {
        return Ok(Opened::Nothing);
    }
    let name;
    let at = if B::NAMED_BY_KEY {
        key.as_ref()
    } else {
        name = store.name(key);
        name.as_str()
    };
    Ok(match look(store, at, terms).await? {
        Stored::Record(record) => Opened::Live(record),
        Stored::Redirect(redirect) => Opened::Moved(age(terms, redirect.made_at)),
        Stored::Nothing => Opened::Nothing,
        Stored::Unreadable => Opened::Unreadable,
    })
}

/// Looks for a load. Whoever has a session that no list knows of enters it.
async fn look<B: Backend>(store: &B, at: &str, terms: &Terms) -> Result<Stored, LoadError> {
    let found = store.look(at, terms).await.map_err(LoadError::Other)?;
    match found.proven(at, terms).live(terms) {
        Stored::Record(record) if record.is_unlisted() => {
            Box::pin(listed(store, at, record, terms)).await
        }
        Stored::Record(record) if is_forgotten::<B>(&record, terms) => {
            Box::pin(again::listed(store, at, record, terms)).await
        }
        found => Ok(found),
    }
}

/// Whether a list may have forgotten the session: that of its owner's, or of whose come from an upstream.
fn is_forgotten<B: Backend>(record: &Record, terms: &Terms) -> bool {
    record.was_listed_long_ago(terms.now) && (B::FORGETS_OWNERS || record.upstream().is_some())
}

/// Writes down whose a record is, which another program has made somebody's: the step compares it with
/// what has ended its owner's sessions, and puts it on the list.
async fn listed<B: Backend>(
    store: &B,
    at: &str,
    record: Record,
    terms: &Terms,
) -> Result<Stored, LoadError> {
    let (changes, quiet) = (Changes::default(), terms.quiet());
    let mut machine = CommitMachine::new(at.into(), Some(record), &changes, &quiet);
    let committed = store.drive(&mut machine, &quiet).await;
    if matches!(committed.map_err(load_error)?, Committed::Gone) {
        return Ok(Stored::Nothing);
    }
    let found = store.look(at, terms).await.map_err(LoadError::Other)?;
    Ok(found.proven(at, terms).live(terms))
}

fn load_error(error: CommitError) -> LoadError {
    LoadError::Other(error.into_anyhow())
}

pub(crate) fn opens_at_once<B: Backend>(_: &B) -> bool {
    !B::REMOTE
}

pub(crate) fn knows_ends<B: Backend>(_: &B) -> bool {
    true
}

pub(crate) async fn watch<B: Backend>(store: &B, key: &SessionKey, watch: Watch, _: &Terms) {
    if !is_ours(key) {
        return;
    }
    let at = store.name(key);
    match store.ends() {
        Some((hub, index)) => hub.add(at, watch, || index),
        None => poll_backend(store, at, watch).await,
    }
}

pub(crate) async fn create<B: Backend>(
    store: &B,
    changes: &Changes,
    terms: &Terms,
) -> Result<(SessionKey, End), CommitError> {
    let upstream = Entering::of(changes, None, terms);
    if let Some(entering) = &upstream {
        Box::pin(entering.enter(store, terms)).await?;
    }
    let mut machine = RotateMachine::creating(changes, terms);
    match store.drive(&mut machine, terms).await? {
        Rotated::Rotated(key, end, _) => {
            if let Some(entering) = &upstream {
                Box::pin(entering.pass(store, &key, terms)).await?;
            }
            Ok((key, end))
        }
        Rotated::Gone => Err(CommitError::gone()),
        Rotated::Moved => Err(CommitError::unexpected()),
    }
}

pub(crate) async fn commit<B: Backend>(
    store: &B,
    key: &SessionKey,
    base: Option<&Record>,
    changes: &Changes,
    terms: &Terms,
) -> Result<Committed, CommitError> {
    if !is_ours(key) {
        return Ok(Committed::Gone);
    }
    let at = store.name(key);
    if changes.is_empty() {
        let found = if terms.extends_on_read() {
            store.look(&at, terms).await
        } else {
            // A cookie that is sealed anew lives as long as the record, so its end is asked for.
            Box::pin(async { store.look(&at, &terms.quiet()).await }).await
        };
        let found = found.map_err(CommitError::of_store)?;
        return match found.proven(&at, terms).live(terms) {
            Stored::Record(record) if terms.is_undated(&record) => {
                Box::pin(write_down(store, at, record, terms)).await
            }
            found => Ok(checked(&found, terms)),
        };
    }
    let mut machine = CommitMachine::new(at.clone(), base.cloned(), changes, terms);
    store.drive_in_line(&at, &mut machine, terms).await
}

/// Writes what has to be written down without any changes. What only a previous key proves has time until
/// that key is taken out.
async fn write_down<B: Backend>(
    store: &B,
    at: Name,
    record: Record,
    terms: &Terms,
) -> Result<Committed, CommitError> {
    let has_time = record.is_by_previous_key();
    let found = Stored::Record(record.clone());
    if has_time && (record.has_kept_end() || store.spares_writes()) {
        // The store takes no writes at present.
        return Ok(checked(&found, terms));
    }
    let changes = Changes::none();
    let mut machine = CommitMachine::new(at, Some(record), changes, terms);
    match store.drive(&mut machine, terms).await {
        Err(error) if has_time => {
            store.write_has_failed();
            event::not_refreshed(&error);
            Ok(checked(&found, terms))
        }
        written => written,
    }
}

pub(crate) async fn rotate<B: Backend>(
    store: &B,
    key: &SessionKey,
    base: Option<&Record>,
    changes: &Changes,
    terms: &Terms,
) -> Result<Rotated, CommitError> {
    if !is_ours(key) {
        return Ok(Rotated::Gone);
    }
    let at = store.name(key);
    let upstream = Entering::of(changes, base, terms);
    if let Some(entering) = &upstream {
        Box::pin(entering.enter(store, terms)).await?;
    }
    let mut machine = RotateMachine::new(at.clone(), base.cloned(), changes, terms);
    let rotated = store.drive_in_line(&at, &mut machine, terms).await?;
    if let (Some(entering), Rotated::Rotated(key, ..)) = (&upstream, &rotated) {
        Box::pin(entering.pass(store, key, terms)).await?;
    }
    Ok(rotated)
}

/// Whether a key is current, for a request without changes.
fn checked(found: &Stored, terms: &Terms) -> Committed {
    match found {
        Stored::Record(record) if record.has_kept_end() => Committed::NotExtended,
        Stored::Record(record) => Committed::Saved(End::of_stored(record, terms)),
        Stored::Redirect(redirect) if redirect.flag != Flag::Ended => Committed::Forwarded,
        Stored::Redirect(_) | Stored::Nothing | Stored::Unreadable => Committed::Gone,
    }
}

/// A map with the metadata as the reserved entry, so that wrappers keep it.
pub(crate) async fn load<B: Backend>(
    store: &B,
    key: &SessionKey,
) -> Result<Option<HashMap<String, String>>, LoadError> {
    if !is_ours(key) {
        return Ok(None);
    }
    let (at, terms) = (store.name(key), store.own_terms());
    match look(store, &at, &terms).await? {
        Stored::Record(record) => Ok(Some(record.with_keys(terms.keys).to_map_with_metadata())),
        Stored::Redirect(_) | Stored::Nothing => Ok(None),
        Stored::Unreadable => Err(LoadError::Deserialization(anyhow::anyhow!(
            "this version cannot read the stored record"
        ))),
    }
}

pub(crate) async fn save<B: Backend>(
    store: &B,
    state: HashMap<String, String>,
    ttl: &Duration,
) -> Result<SessionKey, SaveError> {
    let terms = terms(store, ttl);
    let failed = |error: CommitError| SaveError::Other(error.into_anyhow());
    let mut machine = SaveMachine::new(state, &terms);
    store.drive(&mut machine, &terms).await.map_err(failed)
}

/// Replaces a whole record, with its metadata.
pub(crate) async fn update<B: Backend>(
    store: &B,
    key: SessionKey,
    state: HashMap<String, String>,
    ttl: &Duration,
) -> Result<SessionKey, UpdateError> {
    if !is_ours(&key) {
        return Err(UpdateError::Other(Gone.into()));
    }
    let terms = terms(store, ttl);
    let mut machine = ReplaceMachine::new(store.name(&key), state, &terms);
    match store.drive(&mut machine, &terms).await {
        Ok(true) => Ok(key),
        Ok(false) => Err(UpdateError::Other(Gone.into())),
        Err(CommitError::Serialization(error)) => Err(UpdateError::Serialization(error)),
        Err(error) => Err(UpdateError::Other(error.into_anyhow())),
    }
}

pub(crate) async fn update_ttl<B: Backend>(
    store: &B,
    key: &SessionKey,
    ttl: &Duration,
) -> Result<(), anyhow::Error> {
    let ttl = Millis::from(*ttl);
    if ttl <= Millis::ZERO {
        anyhow::bail!(
            "the time to live must be positive, and is {} ms: to end the session, use `delete`",
            ttl.0
        );
    }
    if !is_ours(key) {
        return Ok(());
    }
    store.set_ttl(&store.name(key), ttl).await
}

pub(crate) async fn delete<B: Backend>(store: &B, key: &SessionKey) -> Result<(), anyhow::Error> {
    if !is_ours(key) {
        return Ok(());
    }
    let mut terms = store.own_terms();
    let owner = handed().and_then(|handed| {
        terms.grace = handed.grace;
        handed.owner
    });
    let mut machine = EndMachine::of(store.name(key), owner);
    store
        .drive(&mut machine, &terms)
        .await
        .map_err(CommitError::into_anyhow)
}

fn terms<B: Backend>(store: &B, ttl: &Duration) -> Terms {
    let mut terms = store.own_terms();
    terms.ttl = Millis::from(*ttl).max(Millis(1));
    terms
}

/// Implements [`SessionStore`](super::SessionStore) for a back end.
macro_rules! shared_store {
    ($store:ty $(, impl[$($generic:tt)*])?) => {
        impl $(<$($generic)*>)? $crate::storage::RevocationStore for $store {
            fn revoke<'a>(
                &'a self,
                name: &'a str,
                at: std::time::SystemTime,
                until: std::time::SystemTime,
            ) -> $crate::storage::RevocationFuture<'a, bool> {
                Box::pin($crate::storage::notes::revoke(self, name, at, until))
            }

            fn revoked_at<'a>(
                &'a self,
                name: &'a str,
            ) -> $crate::storage::RevocationFuture<'a, Option<std::time::SystemTime>> {
                Box::pin($crate::storage::notes::revoked_at(self, name))
            }
        }

        $crate::storage::backend::shared_store!(local $store $(, impl[$($generic)*])?);
    };
    // A store that stays on the thread that made it.
    (local $store:ty $(, impl[$($generic:tt)*])?) => {
        impl $(<$($generic)*>)? $crate::storage::SessionStore for $store {
            $crate::__store_methods! { [] self [$crate::storage::backend::call] [] }
        }
    };
}
pub(crate) use shared_store;

macro_rules! call {
    ([] $self:ident.$method:ident($($argument:expr),*)) => {
        $crate::storage::backend::$method($self, $($argument),*)
    };
}
pub(crate) use call;
