//! The default bodies for a store of five methods. They look before they write, and save before
//! they delete.

use std::{any::type_name, sync::Mutex, time::Duration as StdDuration};

use actix_web::cookie::time::Duration;
use tokio::time::timeout;

use super::SessionStore;
use crate::{
    changes::{Changes, Merged},
    clock::Millis,
    contract::{Committed, End, Older, Opened, Rotated, Terms},
    error::{CommitError, Gone, LoadError, UpdateError},
    event,
    handed::{self, Handed, Later},
    key::SessionKey,
    record::Record,
    sync::lock,
};

pub(crate) async fn open<S: SessionStore + ?Sized>(
    store: &S,
    key: &SessionKey,
    terms: &Terms,
) -> Result<Opened, LoadError> {
    let (loaded, in_cookie) = handed::hand(terms.handed(), store.load(key)).await;
    let record = match loaded {
        Ok(Some(state)) if in_cookie => in_its_cookie(terms.record_of(state)),
        Ok(Some(state)) => terms.record_of(state),
        Ok(None) => return Ok(Opened::Nothing),
        Err(LoadError::Deserialization(error)) => {
            tracing::debug!(%error, "a session record cannot be decoded");
            return Ok(Opened::Unreadable);
        }
        Err(error) => return Err(error),
    };
    if terms.is_over(&record) {
        return Ok(Opened::Nothing);
    }
    if !terms.extends_on_read() {
        return Ok(Opened::Live(record));
    }
    Ok(Opened::Live(
        match extend(store, key, &record, terms).await {
            Ok(Extended::Done) => record,
            Ok(Extended::ByAnotherKey) => in_its_cookie(record),
            // It never fails the read.
            Err(error) => {
                event::not_extended(&error);
                record.not_extended()
            }
        },
    ))
}

/// The key is the state, and says when it ends.
fn in_its_cookie(record: Record) -> Record {
    let end = record.times().and_then(|metadata| metadata.idle_end);
    record.in_cookie().with_end(end)
}

/// What came of an extension.
enum Extended {
    Done,
    /// The key is the state, and says when it ends.
    ByAnotherKey,
}

async fn extend<S: SessionStore + ?Sized>(
    store: &S,
    key: &SessionKey,
    record: &Record,
    terms: &Terms,
) -> anyhow::Result<Extended> {
    let ttl = span(terms, terms.until(record));
    let extending = handed::hand(terms.handed(), store.update_ttl(key, &ttl));
    // A request may carry several cookies, and a missed extension is better than an error.
    let Ok((extended, kept)) = timeout(terms.budget / 4, extending).await else {
        anyhow::bail!("the store did not extend the session in time");
    };
    extended?;
    Ok(if kept {
        Extended::ByAnotherKey
    } else {
        Extended::Done
    })
}

pub(crate) async fn create<S: SessionStore + ?Sized>(
    store: &S,
    changes: &Changes,
    terms: &Terms,
) -> Result<(SessionKey, End), CommitError> {
    save(store, changes.new_map(terms)?, terms).await
}

pub(crate) async fn commit<S: SessionStore + ?Sized>(
    store: &S,
    key: &SessionKey,
    base: Option<&Record>,
    changes: &Changes,
    terms: &Terms,
) -> Result<Committed, CommitError> {
    warn_once::<S>();
    let Some((stored, base)) = current(store, key, terms).await?.zip(base) else {
        return Ok(Committed::Gone);
    };
    // Such a state gets its times at first sight.
    let is_untimed = base.is_in_cookie() && base.end().is_none();
    let end = terms.until(&stored);
    if changes.is_empty() && !terms.is_undated(&stored) {
        let extended = match terms.extends_on_read() && !is_untimed {
            true => extend(store, key, &stored, terms).await,
            false => Ok(Extended::Done),
        };
        let extended = match extended {
            Ok(extended) => extended,
            // The session is there, and nothing was to be written.
            Err(error) => {
                event::not_extended(&error);
                return Ok(Committed::NotExtended);
            }
        };
        if is_untimed || matches!(extended, Extended::ByAnotherKey) {
            return replace(store, key, stored, None, terms).await;
        }
        return Ok(Committed::Saved(End::of(&stored, end)));
    }
    let unchanged = Committed::Saved(End::of(&stored, end));
    let before = stored.idle_end();
    let record = match changes.made_on(base).merge_into_map(stored, terms)? {
        Merged::Write(record) => record,
        Merged::Unchanged => return Ok(unchanged),
        Merged::Gone => return Ok(Committed::Gone),
    };
    match replace(store, key, record, before, terms).await? {
        // Older values of a cookie end with a logout, if the store knows how to end them. The new
        // value has an id of its own.
        Committed::NewValue(value, end, _)
            if changes.leave(base, terms.principal_entry.as_deref()) =>
        {
            let older = end_older(store, key, terms).await;
            let older = older.map_err(CommitError::of_store)?;
            Ok(Committed::NewValue(value, end, older))
        }
        answer => Ok(answer),
    }
}

async fn replace<S: SessionStore + ?Sized>(
    store: &S,
    key: &SessionKey,
    record: Record,
    before: Option<Millis>,
    terms: &Terms,
) -> Result<Committed, CommitError> {
    let until = terms.until_over(&record, before);
    let end = End::of(&record, until);
    let (state, ttl) = (record.into_map_with_metadata(), span(terms, until));
    let answer = match hand(terms, store.update(key.duplicate(), state, &ttl)).await {
        Err(UpdateError::Other(error)) if error.is::<Gone>() => return Ok(Committed::Gone),
        answer => answer?,
    };
    if answer == *key {
        return Ok(Committed::Saved(end));
    }
    // A store whose key is the state answers another key. So does one that saves a session again
    // after it has ended meanwhile. Only the former still knows the old key.
    if hand(terms, store.load(key)).await?.is_some() {
        return Ok(Committed::NewValue(answer, end, Older::none()));
    }
    let deleted = hand(terms, store.delete(&answer)).await;
    deleted.map_err(CommitError::of_store)?;
    Ok(Committed::Gone)
}

pub(crate) async fn rotate<S: SessionStore + ?Sized>(
    store: &S,
    key: &SessionKey,
    base: Option<&Record>,
    changes: &Changes,
    terms: &Terms,
) -> Result<Rotated, CommitError> {
    warn_once::<S>();
    let stored = current(store, key, terms).await?;
    let is_there = stored.is_some() && base.is_some();
    let Some(record) = changes.made_on(base).renew_map(stored, terms)? else {
        return Ok(Rotated::Gone);
    };
    let (new, end) = save(store, record, terms).await?;
    if !is_there {
        return Ok(Rotated::Rotated(new, end, Older::none()));
    }
    let error = match end_older(store, key, terms).await {
        Ok(older) => return Ok(Rotated::Rotated(new, end, older)),
        Err(error) => error,
    };
    // The old key still works, so the new one must not. Nobody has it yet.
    if hand(terms, store.delete(&new)).await.is_err() {
        tracing::warn!(
            "a failed renewal left a record that could not be deleted: it stays until its TTL is \
             over, under a key that nobody has"
        );
    }
    Err(CommitError::of_store(error))
}

/// Deletes what a new key replaces. A store whose key is the state may answer what is to be ended once
/// the new value is known to fit into a cookie.
async fn end_older<S: SessionStore + ?Sized>(
    store: &S,
    key: &SessionKey,
    terms: &Terms,
) -> anyhow::Result<Older> {
    let later = Later::default();
    let handed = Handed {
        later: Some(later.clone()),
        ..terms.handed()
    };
    handed::hand(handed, store.delete(key)).await.0?;
    Ok(later.take())
}

/// Nobody else knows whether a store has more than five methods: a wrapper may have lost them.
fn warn_once<S: ?Sized>() {
    static WARNED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let store = type_name::<S>();
    let mut warned = lock(&WARNED);
    if warned.contains(&store) {
        return;
    }
    warned.push(store);
    drop(warned);
    tracing::warn!(
        store,
        "this session store commits in two calls, since it has only the five published methods: if \
         requests of one session run in parallel, changes can be lost, those of `modify` too, and a \
         session that has ended can come back. If it wraps another store, forward all methods with \
         `forward_store_methods!`; otherwise override `commit`, `rotate` and `create`"
    );
}

async fn current<S: SessionStore + ?Sized>(
    store: &S,
    key: &SessionKey,
    terms: &Terms,
) -> Result<Option<Record>, CommitError> {
    let state = hand(terms, store.load(key)).await?;
    let record = state.map(|state| terms.record_of(state));
    Ok(record.filter(|record| !terms.is_over(record)))
}

/// Asks the store, and hands on what its wrappers do not.
async fn hand<F: Future>(terms: &Terms, call: F) -> F::Output {
    handed::hand(terms.handed(), call).await.0
}

async fn save<S: SessionStore + ?Sized>(
    store: &S,
    record: Record,
    terms: &Terms,
) -> Result<(SessionKey, End), CommitError> {
    let until = terms.until(&record);
    let end = End::of(&record, until);
    let state = record.into_map_with_metadata();
    let key = hand(terms, store.save(state, &span(terms, until))).await?;
    Ok((key, end))
}

/// How long until an end, as the five methods take it.
fn span(terms: &Terms, end: Millis) -> Duration {
    (end - terms.now).max(Millis(1)).into()
}

/// The age of a redirect.
pub(crate) fn age(terms: &Terms, made_at: Millis) -> StdDuration {
    StdDuration::from_millis(u64::try_from((terms.now - made_at).0).unwrap_or_default())
}
