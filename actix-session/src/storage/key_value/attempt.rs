//! One attempt at a step: what it has read, and what it is about to write.

use std::collections::BTreeMap;

use super::{
    KeyValueDatabase, KeyValueSessionStore, KeyValueTransaction, KeyValueWrite,
    layout::{self, Held, Sessions, principal_name},
};
use crate::{
    clock::Millis,
    config::LONGEST,
    contract::Terms,
    protocol::{Name, Owner, OwnerBefore, Stored},
    record::{Record, Version},
};

/// From how many sessions on a login looks whether some of them have gone.
const MANY: usize = 16;
/// For how long an extension relies on what an earlier step has written of the owner.
const KEPT_AFTER: Millis = Millis::secs(30 * 86_400);
/// At how many of them it looks.
const LOOKED_AT: usize = 8;

/// Whatever it has read is expected to be there still when it writes.
pub(super) struct Attempt<'a, D> {
    store: &'a KeyValueSessionStore<D>,
    now: Millis,
    read: BTreeMap<String, Option<Vec<u8>>>,
    writes: BTreeMap<String, KeyValueWrite>,
}

/// A record that replaces another one or none.
pub(super) struct Owned<'a> {
    pub(super) new: &'a Record,
    pub(super) before: &'a OwnerBefore,
    pub(super) from: &'a Name,
    pub(super) to: &'a Name,
}

impl<'a, D: KeyValueDatabase> Attempt<'a, D> {
    pub(super) fn new(store: &'a KeyValueSessionStore<D>, terms: &Terms) -> Self {
        Self {
            store,
            now: terms.now,
            read: BTreeMap::new(),
            writes: BTreeMap::new(),
        }
    }

    /// Reads what has not been read yet, in one call.
    pub(super) async fn read(&mut self, names: Vec<Name>) -> anyhow::Result<()> {
        let mut names: Vec<_> = names.into_iter().map(String::from).collect();
        names.retain(|name| !self.read.contains_key(name));
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(());
        }
        let values = self.store.get(&names).await?;
        self.read.extend(names.into_iter().zip(values));
        Ok(())
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        self.read.get(name)?.as_deref()
    }

    /// What lies under a name that has been read.
    pub(super) fn held(&self, name: &str) -> Held {
        Held::of(self.value(name), self.now)
    }

    /// The live record under a name that has been read, if it is the expected one.
    pub(super) fn expected(&self, at: &str, expect: &Version) -> Option<Record> {
        match self.held(at) {
            Held::Record(record) => {
                let is_it = expect.matches(record.as_text().unwrap_or_default());
                is_it.then_some(record)
            }
            _ => None,
        }
    }

    /// What lies under a name, unless it has ended together with its owner's others.
    pub(super) async fn living(&mut self, at: &Name) -> anyhow::Result<Stored> {
        self.read(vec![at.clone()]).await?;
        let found = self.held(at).stored();
        Ok(match found {
            Stored::Record(record) if self.has_ended(&record).await? => Stored::Nothing,
            found => found,
        })
    }

    pub(super) async fn has_ended(&mut self, record: &Record) -> anyhow::Result<bool> {
        match Owner::of(record) {
            Some(owner) => Ok(self.sessions(&owner.principal).await?.ends(&owner)),
            None => Ok(false),
        }
    }

    /// What is known of a principal.
    ///
    /// # Errors
    /// The database fails, or this version cannot read what it has.
    pub(super) async fn sessions(&mut self, principal: &str) -> anyhow::Result<Sessions> {
        let sessions = self.readable_sessions(principal).await?;
        sessions.ok_or_else(|| {
            anyhow::anyhow!("this version cannot read the list of a principal's sessions")
        })
    }

    /// The same. `None`: this version cannot read it.
    async fn readable_sessions(&mut self, principal: &str) -> anyhow::Result<Option<Sessions>> {
        let name = principal_name(principal);
        self.read(vec![name.clone()]).await?;
        // One step may write it twice.
        let value = match self.writes.get(name.as_str()) {
            Some(KeyValueWrite::Put { value, .. }) => Some(value.as_slice()),
            Some(KeyValueWrite::Remove { .. }) => None,
            None => self.value(&name),
        };
        Ok(Sessions::of(value, self.now))
    }

    pub(super) fn put_sessions(
        &mut self,
        principal: &str,
        sessions: &Sessions,
    ) -> anyhow::Result<()> {
        let name = principal_name(principal);
        if sessions.is_empty() {
            let name = String::from(name);
            self.writes
                .insert(name.clone(), KeyValueWrite::Remove { name });
            return Ok(());
        }
        let end = self.now + LONGEST;
        let value = sessions.encode(end)?;
        self.put(&name, value, end);
        Ok(())
    }

    pub(super) fn put(&mut self, name: &Name, value: Vec<u8>, end: Millis) {
        let name = String::from(name.clone());
        let put = KeyValueWrite::Put {
            name: name.clone(),
            value,
            end: layout::end(end),
        };
        self.writes.insert(name, put);
    }

    pub(super) fn put_record(&mut self, at: &Name, record: &Record, end: Millis) {
        self.put(at, layout::record(record, end), end);
    }

    /// Notes whose the record is that a step writes; `false` if it has ended together with its
    /// owner's others.
    pub(super) async fn change_owner(&mut self, owned: &Owned<'_>) -> anyhow::Result<bool> {
        if *owned.before == OwnerBefore::Same && owned.from == owned.to {
            return Ok(true);
        }
        if let Some(owner) = Owner::of(owned.new)
            && !self.enter(&owner, owned.to).await?
        {
            return Ok(false);
        }
        if let OwnerBefore::Other(Some(owner)) = owned.before {
            self.leave(owner, owned.from).await?;
        }
        Ok(true)
    }

    /// Notes where a session lies; `false` if it has ended together with its owner's others.
    pub(super) async fn enter(&mut self, owner: &Owner, at: &Name) -> anyhow::Result<bool> {
        let mut sessions = self.sessions(&owner.principal).await?;
        if sessions.ends(owner) {
            return Ok(false);
        }
        if sessions.all.len() >= MANY {
            self.heal(&mut sessions).await?;
        }
        sessions.enter(owner, at);
        self.put_sessions(&owner.principal, &sessions)?;
        Ok(true)
    }

    /// Keeps what is known of a session's owner for as long as the session may live, which an extension
    /// prolongs.
    pub(super) async fn keep_listed(&mut self, record: &Record, at: &Name) -> anyhow::Result<()> {
        let Some(owner) = Owner::of(record) else {
            return Ok(());
        };
        let known = self.sessions(&owner.principal).await?;
        let is_known = known.all.iter().any(|it| it.id == owner.id && it.at == *at);
        let name = principal_name(&owner.principal);
        let end = self.value(&name).and_then(layout::end_of);
        let lasts = end.is_some_and(|end| end > self.now + LONGEST - KEPT_AFTER);
        if !(is_known && lasts) {
            self.enter(&owner, at).await?;
        }
        Ok(())
    }

    /// Removes what lies under a name that has been read, if it has expired: nothing leads to it once it is
    /// on no list.
    pub(super) fn remove_expired(&mut self, at: &Name) {
        if self.value(at).is_some() && matches!(self.held(at), Held::Nothing) {
            let name = String::from(at.clone());
            let remove = KeyValueWrite::Remove { name: name.clone() };
            self.writes.insert(name, remove);
        }
    }

    /// Takes out some of the oldest sessions that have expired. Nobody told.
    async fn heal(&mut self, sessions: &mut Sessions) -> anyhow::Result<()> {
        let mut oldest: Vec<_> = sessions.all.iter().map(|it| (it.login, it.id)).collect();
        oldest.sort_unstable();
        oldest.truncate(LOOKED_AT);
        let known = sessions.all.iter();
        let oldest: Vec<_> = known
            .filter(|it| oldest.contains(&(it.login, it.id)))
            .cloned()
            .collect();
        let names: Vec<_> = oldest
            .iter()
            .map(|it| String::from(it.at.clone()))
            .collect();
        let values = self.store.get(&names).await?;
        for (session, value) in oldest.into_iter().zip(values) {
            let held = Held::of(value.as_deref(), self.now);
            if matches!(held, Held::Nothing | Held::Tombstone) {
                sessions.leave(session.id, &session.at);
            }
            // A name that is free again is never written again: nothing else of this is to be expected.
            if matches!(held, Held::Nothing) && value.is_some() {
                let name = String::from(session.at.clone());
                self.read.entry(name).or_insert(value);
                self.remove_expired(&session.at);
            }
        }
        Ok(())
    }

    /// Forgets a session, if it lies there still. On a list that this version cannot read its entry stays,
    /// and leads to nothing: an end needs no list.
    pub(super) async fn leave(&mut self, owner: &Owner, at: &Name) -> anyhow::Result<()> {
        let Some(mut sessions) = self.readable_sessions(&owner.principal).await? else {
            return Ok(());
        };
        if sessions.leave(owner.id, at) {
            self.put_sessions(&owner.principal, &sessions)?;
        }
        Ok(())
    }

    /// `None` if there is nothing to write.
    pub(super) fn transaction(self) -> Option<KeyValueTransaction> {
        if self.writes.is_empty() {
            return None;
        }
        Some(KeyValueTransaction {
            expected: self.read.into_iter().collect(),
            writes: self.writes.into_values().collect(),
        })
    }
}
