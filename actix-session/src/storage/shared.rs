//! The nine methods of a store with a shared back end, once for all of them.

use std::collections::HashMap;

use actix_web::cookie::time::Duration;

use super::fallback::age;
use crate::{
    changes::{Changes, overwrite, written},
    clock::Millis,
    contract::{Committed, End, Opened, Rotated, Terms},
    error::{CommitError, Gone, LoadError, SaveError, UpdateError},
    key::SessionKey,
    protocol::{
        Backend, CommitMachine, EndMachine, Machine, Name, Next, Op, OsDraw, Reply, RotateMachine,
        Slot, Until, drive,
    },
    random,
    record::{Record, facts_of_map},
};

/// Whether a key is one that these stores make; others never reach a back end.
fn is_ours(key: &SessionKey) -> bool {
    let text = key.as_ref();
    text.len() == random::KEY_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

pub(crate) async fn open<B: Backend>(
    store: &B,
    key: &SessionKey,
    terms: &Terms,
) -> Result<Opened, LoadError> {
    if !is_ours(key) {
        return Ok(Opened::Nothing);
    }
    let slot = store
        .look(&store.name(key), terms)
        .await
        .map_err(LoadError::Other)?;
    Ok(match slot.live(terms) {
        Slot::Record(record) => Opened::Live(record),
        Slot::Mark(mark) => Opened::Moved(age(terms, mark.made_at)),
        Slot::Nothing => Opened::Nothing,
        Slot::Unreadable => Opened::Unreadable,
    })
}

pub(crate) async fn create<B: Backend>(
    store: &B,
    changes: &Changes,
    terms: &Terms,
) -> Result<(SessionKey, End), CommitError> {
    let machine = RotateMachine::creating(changes, terms, OsDraw(store));
    match drive(store, machine, terms).await? {
        Rotated::Rotated(key, end, _) => Ok((key, end)),
        Rotated::Moved | Rotated::Gone => Err(CommitError::unexpected()),
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
        return check(store, &at, terms).await;
    }
    let machine = CommitMachine::new(at, base.cloned(), changes, terms, OsDraw(store));
    drive(store, machine, terms).await
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
    let machine = RotateMachine::new(at, base.cloned(), changes, terms, OsDraw(store));
    drive(store, machine, terms).await
}

/// Says whether a key is current, for a request without changes.
async fn check<B: Backend>(store: &B, at: &str, terms: &Terms) -> Result<Committed, CommitError> {
    let slot = store.look(at, terms).await.map_err(CommitError::Other)?;
    Ok(match slot.live(terms) {
        Slot::Record(record) => {
            Committed::Saved(End(record.end().unwrap_or_else(|| terms.end(&record))))
        }
        Slot::Mark(_) => Committed::Forwarded,
        Slot::Nothing | Slot::Unreadable => Committed::Gone,
    })
}

/// A map with the facts as the reserved entry, so that wrappers keep them.
pub(crate) async fn load<B: Backend>(
    store: &B,
    key: &SessionKey,
) -> Result<Option<HashMap<String, String>>, LoadError> {
    if !is_ours(key) {
        return Ok(None);
    }
    let terms = store.own_terms();
    let slot = store
        .look(&store.name(key), &terms)
        .await
        .map_err(LoadError::Other)?;
    match slot.live(&terms) {
        Slot::Record(record) => Ok(Some(record.to_map_with_facts())),
        Slot::Mark(_) | Slot::Nothing => Ok(None),
        Slot::Unreadable => Err(LoadError::Deserialization(anyhow::anyhow!(
            "the stored record is not one that this version reads"
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
    let new = whole(&Record::from_map(state), &terms).map_err(failed)?;
    let until = terms.end(&new);
    let machine = SaveMachine {
        store,
        new,
        until,
        key: None,
        lost: false,
        draws: 0,
    };
    drive(store, machine, &terms).await.map_err(failed)
}

/// Replaces a whole record. Facts that the state brings along replace the stored ones.
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
    let machine = ReplaceMachine {
        at: store.name(&key),
        state,
        terms: &terms,
        op: None,
    };
    match drive(store, machine, &terms).await {
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
            "a time to live of {}ms would end the session: use `delete`",
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
    let machine = EndMachine::new(store.name(key));
    let terms = store.own_terms();
    drive(store, machine, &terms)
        .await
        .map_err(CommitError::into_anyhow)
}

fn terms<B: Backend>(store: &B, ttl: &Duration) -> Terms {
    let ttl = Millis::from(*ttl).max(Millis(1));
    Terms {
        ttl,
        ..store.own_terms()
    }
}

/// A record as it is to be written, under a commit id of its own.
fn whole(record: &Record, terms: &Terms) -> Result<Record, CommitError> {
    let commit = random::u64().map_err(CommitError::Other)?;
    let id = random::u128().map_err(CommitError::Other)?;
    let grounds = terms.grounds(commit, id);
    written(overwrite(record, &Changes::default(), grounds))?.ok_or_else(CommitError::unexpected)
}

/// Inserts a record under a key that is free.
struct SaveMachine<'a, B> {
    store: &'a B,
    new: Record,
    until: Millis,
    key: Option<(SessionKey, Name)>,
    lost: bool,
    draws: u8,
}

impl<B: Backend> SaveMachine<'_, B> {
    fn answer(&mut self) -> Next<SessionKey> {
        match self.key.take() {
            Some((key, _)) => Next::Answer(key),
            None => Next::Fail(CommitError::unexpected()),
        }
    }

    fn insert(&self) -> Next<SessionKey> {
        match &self.key {
            Some((_, at)) => Next::Do(Op::Insert {
                at: at.clone(),
                new: self.new.clone(),
                until: self.until,
            }),
            None => Next::Fail(CommitError::unexpected()),
        }
    }
}

impl<B> SaveMachine<'_, B> {
    fn look(&self) -> Next<SessionKey> {
        match &self.key {
            Some((_, at)) => Next::Do(Op::Read { at: at.clone() }),
            None => Next::Fail(CommitError::unexpected()),
        }
    }

    fn is_own(&self, record: &Record) -> bool {
        let id = |record: &Record| record.facts().map(|facts| facts.id);
        id(record) == id(&self.new)
    }
}

impl<B: Backend> Machine for SaveMachine<'_, B> {
    type Answer = SessionKey;

    fn start(&mut self) -> Next<SessionKey> {
        match self.store.draw_key(None) {
            Ok(drawn) => self.key = Some(drawn),
            Err(error) => return Next::Fail(error),
        }
        self.insert()
    }

    fn on(&mut self, reply: Reply) -> Next<SessionKey> {
        match reply {
            Reply::Done => self.answer(),
            Reply::Lost => {
                self.lost = true;
                self.insert()
            }
            // By an earlier attempt, or by another session's: its id tells.
            Reply::Taken if self.lost => self.look(),
            Reply::Found(Slot::Record(record)) if self.is_own(&record) => self.answer(),
            Reply::Taken | Reply::Found(_) if self.draws < 5 => {
                self.draws += 1;
                self.lost = false;
                self.start()
            }
            Reply::Taken | Reply::Found(_) => Next::Fail(CommitError::taken()),
        }
    }
}

/// Replaces the record at a name; answers whether there was one.
struct ReplaceMachine<'a> {
    at: Name,
    state: HashMap<String, String>,
    terms: &'a Terms,
    op: Option<(Op, u64)>,
}

impl ReplaceMachine<'_> {
    fn replace(&mut self, stored: &Record) -> Next<bool> {
        let facts = facts_of_map(&self.state).or_else(|| stored.facts().cloned());
        let record = Record::from_map(self.state.clone()).with_facts(facts);
        let new = match whole(&record, self.terms) {
            Ok(new) => new,
            Err(error) => return Next::Fail(error),
        };
        let id = new.commit_id();
        let until = Until::At(self.terms.end(&new));
        let op = Op::Cas {
            at: self.at.clone(),
            expect: stored.version(),
            new,
            until,
        };
        self.op = Some((op.clone(), id));
        Next::Do(op)
    }
}

impl Machine for ReplaceMachine<'_> {
    type Answer = bool;

    fn start(&mut self) -> Next<bool> {
        Next::Do(Op::Read {
            at: self.at.clone(),
        })
    }

    fn on(&mut self, reply: Reply) -> Next<bool> {
        match (reply, &self.op) {
            (Reply::Done, _) => Next::Answer(true),
            (Reply::Lost, Some((op, _))) => Next::Do(op.clone()),
            (Reply::Lost, None) => self.start(),
            (Reply::Taken, _) => Next::Fail(CommitError::unexpected()),
            (Reply::Found(slot), _) => match slot.live(self.terms) {
                Slot::Record(record) => match &self.op {
                    Some((_, id)) if *id == record.commit_id() => Next::Answer(true),
                    _ => self.replace(&record),
                },
                Slot::Unreadable => Next::Fail(CommitError::unreadable()),
                Slot::Mark(_) | Slot::Nothing => Next::Answer(false),
            },
        }
    }
}

/// Implements [`SessionStore`](super::SessionStore) for a back end.
macro_rules! shared_store {
    ($(impl[$($generic:tt)*])? $store:ty) => {
        impl $(<$($generic)*>)? $crate::storage::RevocationStore for $store {
            fn revoke<'a>(
                &'a self,
                name: &'a str,
                at: std::time::SystemTime,
                until: std::time::SystemTime,
            ) -> $crate::storage::RevocationFuture<'a, bool> {
                Box::pin($crate::storage::revocation::shared::revoke(self, name, at, until))
            }

            fn revoked_at<'a>(
                &'a self,
                name: &'a str,
            ) -> $crate::storage::RevocationFuture<'a, Option<std::time::SystemTime>> {
                Box::pin($crate::storage::revocation::shared::revoked_at(self, name))
            }
        }

        $crate::storage::shared::shared_store!(local $(impl[$($generic)*])? $store);
    };
    // A store that stays on the thread that made it.
    (local $(impl[$($generic:tt)*])? $store:ty) => {
        impl $(<$($generic)*>)? $crate::storage::SessionStore for $store {
            $crate::__store_methods! { [] self [$crate::storage::shared::call] [] }
        }
    };
}
pub(crate) use shared_store;

macro_rules! call {
    ([] $self:ident.$method:ident($($argument:expr),*)) => {
        $crate::storage::shared::$method($self, $($argument),*)
    };
}
pub(crate) use call;

#[cfg(all(test, feature = "memory-session"))]
mod tests {
    use super::*;
    use crate::storage::MemorySessionStore;

    fn insert(next: Next<SessionKey>) -> (Name, Record) {
        match next {
            Next::Do(Op::Insert { at, new, .. }) => (at, new),
            _ => panic!("a creation was expected"),
        }
    }

    fn read(next: &Next<SessionKey>, expected: &str) -> bool {
        matches!(next, Next::Do(Op::Read { at }) if at == expected)
    }

    /// Only the session's id tells whose record lies under a name that is taken after all.
    #[test]
    fn a_save_whose_answer_was_lost_takes_nobody_elses_record_for_its_own() {
        let store = MemorySessionStore::new();
        let record = || whole(&Record::empty(), &store.own_terms()).unwrap();
        let mut machine = SaveMachine {
            store: &store,
            new: record(),
            until: Millis(i64::MAX),
            key: None,
            lost: false,
            draws: 0,
        };
        let (first, new) = insert(machine.start());
        assert_eq!(
            insert(machine.on(Reply::Lost)).0,
            first,
            "the same is repeated"
        );
        assert!(read(&machine.on(Reply::Taken), &first));
        let (second, _) = insert(machine.on(Reply::Found(Slot::Record(record()))));
        assert_ne!(first, second);
        // This time it was its own.
        machine.on(Reply::Lost);
        assert!(read(&machine.on(Reply::Taken), &second));
        let done = machine.on(Reply::Found(Slot::Record(new)));
        assert!(matches!(done, Next::Answer(key) if store.name(&key) == second));
    }
}
