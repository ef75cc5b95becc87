//! The atomic steps of the protocol: one transaction each.

use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::{
    KeyValueDatabase, KeyValueOutcome, KeyValueSessionStore, KeyValueTransaction,
    attempt::{Attempt, Owned},
    layout::{self, Held, session_name},
};
use crate::{
    clock::{Millis, SharedClock, deadline},
    contract::Terms,
    error::Contended,
    event,
    key::SessionKey,
    live::hub::Hub,
    protocol::{Backend, Name, Owner, OwnerBefore, Redirect, Reply, Step, Stored, Until},
    record::{Record, Version},
    storage::{SessionIndex as _, StoreIndex, backend::shared_store},
};

shared_store!(local KeyValueSessionStore<D>, impl[D: KeyValueDatabase]);

impl<D: KeyValueDatabase> Backend for KeyValueSessionStore<D> {
    /// Another process may have the database too.
    const REMOTE: bool = true;

    async fn run(&self, step: &Step, terms: &Terms) -> Result<Reply, anyhow::Error> {
        if let Step::Insert { .. } = step {
            self.start_sweeper();
        }
        let reply = self
            .carry_out(terms, async |attempt| attempt.step(step, terms).await)
            .await?;
        self.0.hub.after(step, &reply);
        Ok(reply)
    }

    async fn look(&self, at: &str, terms: &Terms) -> Result<Stored, anyhow::Error> {
        let at = Name::from(at);
        let mut found = Stored::Nothing;
        let extended = self
            .carry_out(terms, async |attempt| {
                let (seen, reply) = attempt.touch(&at, terms).await?;
                found = seen;
                Ok(reply)
            })
            .await;
        match (extended, found) {
            (Ok(Reply::Found(found)), _) => Ok(found),
            (Ok(Reply::Done), Stored::Record(record)) => {
                let end = terms.until(&record);
                Ok(Stored::Record(record.with_end(Some(end)).extended()))
            }
            // What was read is served, even if the database takes no writes.
            (Ok(_), found @ Stored::Record(_)) => Ok(found.not_extended()),
            (Err(error), found @ Stored::Record(_)) => {
                event::not_extended(&error);
                Ok(found.not_extended())
            }
            (Ok(_), found) => Ok(found),
            (Err(error), _) => Err(error),
        }
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
        let (at, terms) = (Name::from(at), self.own_terms());
        let set = self.carry_out(&terms, async |attempt| {
            if let Stored::Record(record) = attempt.living(&at).await? {
                let cap = record.absolute_end().unwrap_or(Millis(i64::MAX));
                attempt.put_record(&at, &record, (terms.now + ttl).min(cap));
                attempt.keep_listed(&record, &at).await?;
            }
            Ok(Reply::Done)
        });
        match set.await? {
            Reply::Lost => anyhow::bail!("it is unknown whether the time to live was set"),
            _ => Ok(()),
        }
    }

    fn name(&self, key: &SessionKey) -> Name {
        session_name(key.as_ref())
    }

    fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    fn ends(&self) -> Option<(Arc<Hub>, StoreIndex)> {
        Some((Arc::clone(&self.0.hub), self.index()))
    }
}

impl<D: KeyValueDatabase> KeyValueSessionStore<D> {
    /// Decides, writes, and begins anew if something has changed in between. A reply with nothing to
    /// write stands; otherwise, it stands if the transaction was done.
    pub(super) async fn carry_out(
        &self,
        terms: &Terms,
        mut decide: impl AsyncFnMut(&mut Attempt<'_, D>) -> anyhow::Result<Reply>,
    ) -> anyhow::Result<Reply> {
        let deadline = deadline(terms.budget);
        loop {
            let mut attempt = Attempt::new(self, terms);
            let reply = decide(&mut attempt).await?;
            let Some(transaction) = attempt.transaction() else {
                return Ok(reply);
            };
            match self.commit(transaction).await {
                Ok(KeyValueOutcome::Done) => return Ok(reply),
                Ok(KeyValueOutcome::Refused(error)) => return Err(error),
                Ok(KeyValueOutcome::Changed) if Instant::now() >= deadline => {
                    return Err(Contended.into());
                }
                Ok(KeyValueOutcome::Changed) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::debug!(%error, "the answer to a transaction was lost");
                    return Ok(Reply::Lost);
                }
            }
        }
    }

    /// # Errors
    /// Nobody knows whether it was done.
    async fn commit(&self, transaction: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
        let commit = self.0.database.commit(transaction);
        timeout(self.0.command_timeout, commit).await?
    }

    /// # Errors
    /// The database fails, is late, or does not answer what was asked.
    pub(super) async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        let get = self.0.database.get(names);
        let values = timeout(self.0.command_timeout, get).await.map_err(|_| {
            anyhow::anyhow!("the session database did not answer within the time limit")
        })??;
        anyhow::ensure!(
            values.len() == names.len(),
            "the session database must return one value for each name: {} names, {} values",
            names.len(),
            values.len()
        );
        Ok(values)
    }
}

impl<D: KeyValueDatabase> Attempt<'_, D> {
    /// The reply to a step, once what it writes is written.
    async fn step(&mut self, step: &Step, terms: &Terms) -> anyhow::Result<Reply> {
        match step {
            Step::Read { at } => self.living(at).await.map(Reply::Found),
            Step::Cas {
                at,
                expect,
                new,
                until,
                owner_before,
                ..
            } => {
                let owned = Owned {
                    new,
                    before: owner_before,
                    from: at,
                    to: at,
                };
                self.replace(&owned, expect, *until, terms).await
            }
            Step::Rotate {
                at,
                expect,
                new,
                until,
                redirect,
                owner_before,
                ..
            } => {
                let owned = Owned {
                    new,
                    before: owner_before,
                    from: at,
                    to: &redirect.target,
                };
                self.rotate(&owned, expect, (redirect, *until), terms).await
            }
            Step::Insert { at, new, until } => self.insert(at, new, *until).await,
            Step::End { at, .. } => {
                self.read(vec![at.clone()]).await?;
                match self.held(at) {
                    held @ (Held::Record(_) | Held::Unreadable) => self.end(at, held, terms).await,
                    _ => self.living(at).await.map(Reply::Found),
                }
            }
            Step::EndIf { at, expect, .. } => {
                self.read(vec![at.clone()]).await?;
                match self.expected(at, expect) {
                    Some(record) => self.end(at, Held::Record(record), terms).await,
                    None => Ok(Reply::Found(self.held(at).stored())),
                }
            }
        }
    }

    /// Reads a record, and extends it if the terms say so.
    async fn touch(&mut self, at: &Name, terms: &Terms) -> anyhow::Result<(Stored, Reply)> {
        let found = self.living(at).await?.live(terms);
        if let Stored::Record(record) = &found
            && record
                .end()
                .is_some_and(|end| terms.extends_at(record, end))
        {
            self.put_record(at, record, terms.until(record));
            self.keep_listed(record, at).await?;
            return Ok((found, Reply::Done));
        }
        Ok((Stored::Nothing, Reply::Found(found)))
    }

    async fn replace(
        &mut self,
        owned: &Owned<'_>,
        expect: &Version,
        until: Until,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let at = owned.from;
        self.read(names_of(owned)).await?;
        let Some(present) = self.expected(at, expect) else {
            return self.living(at).await.map(Reply::Found);
        };
        if self.has_ended(&present).await? {
            return Ok(Reply::Found(Stored::Nothing));
        }
        let present = present.end().unwrap_or(terms.now);
        let end = match until {
            Until::At(end) if end <= terms.now => return Ok(Reply::Found(Stored::Nothing)),
            Until::At(end) => end,
            Until::Same => present,
            Until::AtMost(end) => present.min(end),
        };
        if !self.change_owner(owned).await? {
            return Ok(Reply::Ended);
        }
        if let (Until::At(_), OwnerBefore::Same) = (until, owned.before) {
            self.keep_listed(owned.new, at).await?;
        }
        self.put_record(at, owned.new, end);
        Ok(Reply::Done)
    }

    async fn rotate(
        &mut self,
        owned: &Owned<'_>,
        expect: &Version,
        (redirect, until): (&Redirect, Millis),
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        if until <= terms.now {
            return Ok(Reply::Found(Stored::Nothing));
        }
        self.read(names_of(owned)).await?;
        let Some(present) = self.expected(owned.from, expect) else {
            return self.living(owned.from).await.map(Reply::Found);
        };
        if !matches!(self.held(owned.to), Held::Nothing) {
            return Ok(Reply::Taken);
        }
        if self.has_ended(&present).await? {
            return Ok(Reply::Found(Stored::Nothing));
        }
        if !self.change_owner(owned).await? {
            return Ok(Reply::Ended);
        }
        let end = terms.now + terms.grace;
        self.put(owned.from, layout::redirect(redirect, end), end);
        self.put_record(owned.to, owned.new, until);
        Ok(Reply::Done)
    }

    async fn insert(&mut self, at: &Name, new: &Record, until: Millis) -> anyhow::Result<Reply> {
        let owned = Owned {
            new,
            before: &OwnerBefore::Other(None),
            from: at,
            to: at,
        };
        self.read(names_of(&owned)).await?;
        if !matches!(self.held(at), Held::Nothing) {
            return Ok(Reply::Taken);
        }
        if !self.change_owner(&owned).await? {
            return Ok(Reply::Ended);
        }
        self.put_record(at, new, until);
        Ok(Reply::Done)
    }

    /// Deletes what has been read, and leaves a tombstone.
    async fn end(&mut self, at: &Name, held: Held, terms: &Terms) -> anyhow::Result<Reply> {
        if let Held::Record(record) = &held
            && let Some(owner) = Owner::of(record)
        {
            self.leave(&owner, at).await?;
        }
        let end = terms.now + terms.grace;
        self.put(at, layout::tombstone(end), end);
        Ok(Reply::Done)
    }
}

/// All that a step reads, as far as that is known beforehand.
fn names_of(owned: &Owned<'_>) -> Vec<Name> {
    let new = Owner::of(owned.new);
    let left = match owned.before {
        OwnerBefore::Other(left) => left.as_deref(),
        OwnerBefore::Same => None,
    };
    let principals = new.iter().chain(left);
    let names = principals.map(|owner| layout::principal_name(&owner.principal));
    names
        .chain([owned.from.clone(), owned.to.clone()])
        .collect()
}
