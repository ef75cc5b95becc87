//! A lock on a principal, which all servers share: a record that says until when it is held.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    clock::{Millis, deadline},
    contract::Terms,
    digest,
    error::CommitError,
    key::SessionKey,
    live::EndReason,
    protocol::{Backend, Name, OwnerBefore, Reply, Step, Stored, Until},
    random,
    record::{Metadata, Record, WireFormat},
};

/// The names of locks begin with this, and a full stop.
pub(crate) const LOCK: &str = "lock";
/// For how long a lock is held at most, beyond the budget of whoever holds it: if the holder dies,
/// others go on after that. Its record is there for as much longer, so that it never goes before.
const MARGIN: Millis = Millis::secs(5);
/// Since when a lock is free that was given back.
const FREE: Millis = Millis(i64::MIN);
/// How far the clocks of two servers may be apart. A lock that is held for longer is nobody's: a clock
/// that was set wrong has written it, or something has damaged it.
const APART: Millis = Millis::secs(600);
/// The pause before a lost answer is asked for again.
const AGAIN: Duration = Duration::from_millis(10);
/// The longest pause before another look.
const PAUSE: u64 = 20_000;

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Lease {
    at: Name,
    held: Record,
}

/// Waits for the lock.
pub(crate) async fn take<B: Backend>(
    store: &B,
    principal: &str,
    terms: &Terms,
) -> Result<Lease, CommitError> {
    let at = name_of(store, principal);
    let deadline = deadline(terms.budget);
    let now = store.clock().now().max(terms.now);
    let held_until = now + Millis::from(terms.budget) + MARGIN;
    // One for all attempts: whatever an attempt writes whose answer is lost, be it late, is its own.
    let held = note(held_until)?;
    while Instant::now() < deadline {
        if try_to_take(store, &at, &held, held_until, terms).await? {
            return Ok(Lease { at, held });
        }
        let pause = random::u64().map_or(PAUSE, |n| n % PAUSE);
        sleep(Duration::from_micros(pause)).await;
    }
    Err(CommitError::Contended)
}

async fn try_to_take<B: Backend>(
    store: &B,
    at: &Name,
    held: &Record,
    held_until: Millis,
    terms: &Terms,
) -> Result<bool, CommitError> {
    let now = store.clock().now().max(terms.now);
    let step = match look(store, at, terms).await? {
        Stored::Record(known) if known.is_same_commit(held) => return Ok(true),
        Stored::Record(known) if is_held(&known, now, held_until) => return Ok(false),
        Stored::Record(known) => replace(at, &known, held.clone(), held_until + MARGIN),
        // Nobody can say until when it is held, and it would be in the way for ever. Whoever takes it
        // away a moment after another one may let one login too many pass, once.
        Stored::Unreadable => {
            let (at, owner) = (at.clone(), None);
            let step = Step::End { at, owner };
            let ended = store.run(&step, &untraced(terms)).await;
            return ended.map(|_| false).map_err(CommitError::of_store);
        }
        Stored::Redirect(_) | Stored::Nothing => Step::Insert {
            at: at.clone(),
            new: held.clone(),
            until: held_until + MARGIN,
        },
    };
    let reply = match step {
        Step::Insert { at, new, until } => store.insert_note(&at, new, until, terms).await,
        step => store.run(&step, terms).await,
    };
    Ok(match reply.map_err(CommitError::of_store)? {
        Reply::Done => true,
        // Perhaps it was taken all the same.
        Reply::Lost => match look(store, at, terms).await? {
            Stored::Record(known) => known.is_same_commit(held),
            _ => false,
        },
        _ => false,
    })
}

/// Gives the lock back. If that fails, it lapses. To repeat it is harmless: it compares with this lease.
pub(crate) async fn release<B: Backend>(store: &B, lease: Lease, terms: &Terms) {
    let Ok(free) = note(FREE) else {
        return;
    };
    // Whoever logs in again at once finds it. To delete it would be told as an end.
    let step = replace(&lease.at, &lease.held, free, terms.now + MARGIN);
    let deadline = deadline(terms.budget);
    loop {
        match store.run(&step, terms).await {
            Ok(Reply::Lost) if Instant::now() < deadline => sleep(AGAIN).await,
            Ok(Reply::Lost) => return lapses(&"its answer was lost"),
            Ok(_) => return,
            Err(error) => return lapses(&error),
        }
    }
}

fn lapses(why: &dyn std::fmt::Display) {
    tracing::debug!(%why, "the lock on a principal lapses by itself");
}

/// Takes a lock away that nobody holds.
pub(crate) async fn forget<B: Backend>(
    store: &B,
    principal: &str,
    terms: &Terms,
) -> Result<(), CommitError> {
    let at = name_of(store, principal);
    let now = store.clock().now().max(terms.now);
    let free = match look(store, &at, terms).await? {
        Stored::Record(known) if free_from(&known) <= now => known,
        _ => return Ok(()),
    };
    let expect = free.version();
    let why = EndReason::Gone;
    let step = Step::EndIf {
        at,
        expect,
        why,
        owner: None,
    };
    let ended = store.run(&step, &untraced(terms)).await;
    ended.map(drop).map_err(CommitError::of_store)
}

/// A tombstone would stand in the way of whoever wants the lock next.
pub(super) fn untraced(terms: &Terms) -> Terms {
    Terms {
        grace: Millis(0),
        ..terms.clone()
    }
}

/// No session key contains a full stop, so it is never a session.
pub(crate) fn name_of<B: Backend>(store: &B, principal: &str) -> Name {
    let name = digest::hex(&format!("actix-session lock\0{principal}"));
    store.name(&SessionKey::generated(format!("{LOCK}.{name}")))
}

async fn look<B: Backend>(store: &B, at: &Name, terms: &Terms) -> Result<Stored, CommitError> {
    let found = store.read_note(at, terms).await;
    found.map_err(CommitError::of_store)
}

fn replace(at: &Name, known: &Record, new: Record, until: Millis) -> Step {
    Step::Cas {
        at: at.clone(),
        expect: known.version(),
        new,
        until: Until::At(until),
        epoch: None,
        owner_before: OwnerBefore::Same,
    }
}

/// The metadata's creation time is the time from which on the lock is free.
fn note(free_from: Millis) -> Result<Record, CommitError> {
    let (commit, id) = random::ids().map_err(CommitError::Other)?;
    let metadata = Metadata::new(id, free_from);
    Ok(Record::written(WireFormat::V1, commit, metadata, &[]))
}

fn is_held(known: &Record, now: Millis, held_until: Millis) -> bool {
    let free_from = free_from(known);
    free_from > now && free_from <= held_until + APART
}

/// Whether it was given back.
pub(crate) fn is_free(record: &Record) -> bool {
    free_from(record) == FREE
}

/// A record that does not say is no lock.
fn free_from(record: &Record) -> Millis {
    record.metadata().map_or(FREE, |metadata| metadata.created)
}
