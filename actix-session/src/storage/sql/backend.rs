//! The atomic steps of the protocol: one statement or one transaction each.

use std::sync::Arc;

use sqlx::Error;

use super::{
    database::{Database, SqlDatabase},
    failure::Failure,
    query::{Answer, Query},
    row::{RecordColumns, RedirectColumns, number, revision, stored},
    statement::Values,
    statements::Statements,
    store::SqlSessionStore,
    upkeep::erased_column,
};
use crate::{
    boxed::boxed,
    clock::{Millis, SharedClock},
    contract::Terms,
    digest,
    key::SessionKey,
    live::{EndReason, hub::Hub},
    protocol::{Backend, Flag, Name, OwnerBefore, Redirect, Reply, Step, Stored, Until},
    record::{Metadata, Record, Version},
    storage::{SessionIndex as _, StoreIndex, backend::shared_store},
};

shared_store!(SqlSessionStore<D>, impl[D: SqlDatabase]);

impl<D: SqlDatabase> Backend for SqlSessionStore<D> {
    const REMOTE: bool = true;

    async fn run(&self, step: &Step, terms: &Terms) -> Result<Reply, anyhow::Error> {
        let reply = boxed(|| self.query(Query::Run(step.clone()), terms)).await;
        let reply = reply.map_err(Failure::into_error)?;
        self.0.hub.after(step, &reply);
        Ok(reply)
    }

    async fn look(&self, at: &str, terms: &Terms) -> Result<Stored, anyhow::Error> {
        boxed(|| self.look_and_extend(at, terms)).await
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
        let terms = self.own_terms();
        let end = terms.now + ttl;
        let reply = boxed(|| self.query(Query::SetEnd(at.into(), end), &terms)).await;
        reply.map(drop).map_err(Failure::into_error)
    }

    fn name(&self, key: &SessionKey) -> Name {
        digest::base64(key.as_ref()).into()
    }

    fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    fn ends(&self) -> Option<(Arc<Hub>, StoreIndex)> {
        Some((Arc::clone(&self.0.hub), self.index()))
    }
}

/// One attempt at a query, on one connection.
pub(super) struct Attempt<'a, D: Database> {
    pub(super) statements: &'a Statements,
    pub(super) connection: &'a mut D::Connection,
    pub(super) terms: &'a Terms,
}

/// A change that requires the record to be the expected version.
#[derive(Debug, Clone, Copy)]
enum Change {
    Replace,
    /// The same where the record may become another session.
    ReplaceOther,
    Rotate,
    /// The same where it does.
    RotateOther,
    End,
    /// The same, since the principal has too many.
    EndOverLimit,
}

impl<D: Database> Attempt<'_, D> {
    pub(super) async fn perform(mut self, query: &Query) -> Result<Answer, Error> {
        let reply = match query {
            Query::Run(step) => self.run(step).await?,
            Query::Read(at) => Reply::Found(self.read(at).await?),
            Query::Touch(at) => Reply::Found(self.touch(at).await?),
            Query::SetEnd(at, end) => {
                let values = Values {
                    idle_end: number(*end),
                    ..self.values(at)
                };
                D::execute(self.connection, &self.statements.set_end, &values).await?;
                Reply::Done
            }
            Query::List(principal, page) => return self.list(principal, *page).await,
            Query::Mark(principal, mark, by) => return self.mark(principal, mark, *by).await,
            Query::EndMarked(principal, mark) => return self.end_marked(principal, mark).await,
            Query::Tell(channel) => {
                let values = self.values(channel);
                D::execute(self.connection, &self.statements.tell, &values).await?;
                Reply::Done
            }
            Query::Forget(principal, mark) => return self.forget(principal, *mark).await,
            Query::Count => return self.count().await,
            Query::Prove => {
                self.prove().await?;
                Reply::Done
            }
        };
        Ok(reply.into())
    }

    /// Some users may write where others may not: what counts is whether the server refuses to.
    async fn prove(&mut self) -> Result<(), Error> {
        if D::finds(self.connection, D::MAY_BE_READ_ONLY).await? {
            let values = self.values("");
            D::execute(self.connection, &self.statements.delete_expired, &values).await?;
        }
        Ok(())
    }

    async fn run(&mut self, step: &Step) -> Result<Reply, Error> {
        let reply = self.run_once(step).await?;
        // What has expired is nothing, swept or not, and does not keep its name.
        match (&reply, name_to_take(step)) {
            (Reply::Taken, Some(name)) if self.delete_expired(name).await? => {
                self.run_once(step).await
            }
            _ => Ok(reply),
        }
    }

    async fn delete_expired(&mut self, at: &str) -> Result<bool, Error> {
        let values = self.values(at);
        let delete = &self.statements.delete_expired;
        let deleted = D::execute(self.connection, delete, &values).await?;
        Ok(deleted > 0)
    }

    async fn run_once(&mut self, step: &Step) -> Result<Reply, Error> {
        match step {
            Step::Read { at } => self.read(at).await.map(Reply::Found),
            Step::Cas {
                at,
                expect,
                new,
                until,
                epoch,
                owner_before,
            } => {
                let is_same = epoch.is_none() && *owner_before == OwnerBefore::Same;
                let change = if is_same {
                    Change::Replace
                } else {
                    Change::ReplaceOther
                };
                self.replace(change, (at, expect), new, *until).await
            }
            Step::Rotate {
                at,
                expect,
                new,
                until,
                redirect,
                ..
            } => self.rotate(at, expect, (new, *until), redirect).await,
            Step::Insert { at, new, until } => self.insert(at, new, *until).await,
            Step::End { at, .. } => self.end(at).await,
            Step::EndIf {
                at, expect, why, ..
            } => self.end_if(at, expect, *why).await,
        }
    }

    async fn read(&mut self, at: &str) -> Result<Stored, Error> {
        let values = self.values(at);
        let found = D::fetch(self.connection, &self.statements.read, &values).await?;
        Ok(stored(found))
    }

    async fn touch(&mut self, at: &str) -> Result<Stored, Error> {
        let values = Values {
            idle_end: number(self.terms.now + self.terms.ttl),
            absolute: self.terms.absolute.map(number),
            ..self.values(at)
        };
        let touch = &self.statements.touch;
        if !D::RETURNS {
            let touched = D::execute(self.connection, touch, &values).await? > 0;
            let found = self.read(at).await?;
            return Ok(if touched { found.extended() } else { found });
        }
        if let found @ Some(_) = D::fetch(self.connection, touch, &values).await? {
            return Ok(stored(found).extended());
        }
        self.read(at).await
    }

    async fn replace(
        &mut self,
        change: Change,
        (at, expect): (&str, &Version),
        new: &Record,
        until: Until,
    ) -> Result<Reply, Error> {
        let (expires, latest) = match until {
            Until::At(end) if end <= self.terms.now => return Ok(Reply::Found(Stored::Nothing)),
            Until::At(end) => (Some(number(end)), i64::MAX),
            Until::Same => (None, i64::MAX),
            Until::AtMost(end) => (None, number(end)),
        };
        let record = match change {
            Change::ReplaceOther => made(new, self.terms.now),
            _ => RecordColumns::of(new, self.terms.now),
        };
        let values = Values {
            record,
            expires,
            idle_end: latest,
            ..self.expecting(at, expect)
        };
        self.change(change, expect, values).await
    }

    async fn rotate(
        &mut self,
        at: &str,
        expect: &Version,
        (new, until): (&Record, Millis),
        redirect: &Redirect,
    ) -> Result<Reply, Error> {
        let Terms { now, grace, .. } = *self.terms;
        if until <= now {
            return Ok(Reply::Found(Stored::Nothing));
        }
        let values = Values {
            record: made(new, now),
            expires: Some(number(until)),
            redirect: RedirectColumns::of(redirect, now + grace),
            ..self.expecting(at, expect)
        };
        let change = match redirect.flag {
            Flag::Ended => Change::RotateOther,
            Flag::Plain | Flag::Login => Change::Rotate,
        };
        self.change(change, expect, values).await
    }

    async fn insert(&mut self, at: &str, new: &Record, until: Millis) -> Result<Reply, Error> {
        let mut values = Values {
            record: made(new, self.terms.now),
            expires: Some(number(until)),
            ..self.values(at)
        };
        values.redirect.target = Some(at);
        done_or_taken_or_ended(insert::<D>(self.connection, self.statements, &values).await)
    }

    async fn end(&mut self, at: &str) -> Result<Reply, Error> {
        let values = Values {
            redirect: RedirectColumns::of_tombstone(self.terms.now + self.terms.grace),
            ..self.values(at)
        };
        if D::execute(self.connection, &self.statements.end, &values).await? > 0 {
            return Ok(Reply::Done);
        }
        self.read(at).await.map(Reply::Found)
    }

    async fn end_if(&mut self, at: &str, expect: &Version, why: EndReason) -> Result<Reply, Error> {
        let values = Values {
            redirect: RedirectColumns::of_tombstone(self.terms.now + self.terms.grace),
            ..self.expecting(at, expect)
        };
        let change = match why {
            EndReason::OverLimit => Change::EndOverLimit,
            _ => Change::End,
        };
        self.change(change, expect, values).await
    }

    /// Changes the expected record, or answers what is there instead.
    async fn change(
        &mut self,
        change: Change,
        expect: &Version,
        mut values: Values<'_>,
    ) -> Result<Reply, Error> {
        match self.change_once(change, &values).await? {
            Reply::Found(_) => {}
            reply => return Ok(reply),
        }
        let found = self.read(values.id).await?;
        // Somebody may have written this text by hand, with another revision or without one.
        if let Some(text) = expected_text(&found, expect) {
            (values.expect, values.whole) = (None, Some(text.as_bytes()));
            match self.change_once(change, &values).await? {
                Reply::Found(_) => {}
                reply => return Ok(reply),
            }
        }
        let may_have_ended = match change {
            Change::Rotate | Change::RotateOther => true,
            // What is newer may be somebody else's.
            Change::ReplaceOther => is_expected(&found, expect),
            Change::Replace | Change::End | Change::EndOverLimit => false,
        };
        if may_have_ended && self.has_ended(&values).await? {
            return Ok(Reply::Ended);
        }
        Ok(Reply::Found(found))
    }

    /// Whether the new owner's sessions have ended together since the login.
    async fn has_ended(&mut self, values: &Values<'_>) -> Result<bool, Error> {
        if values.record.principal.is_none() {
            return Ok(false);
        }
        let has_ended = &self.statements.index.has_ended;
        let found = D::fetch(self.connection, has_ended, values).await?;
        Ok(found.is_some())
    }

    /// Changes the expected record, or answers that it found nothing.
    async fn change_once(&mut self, change: Change, values: &Values<'_>) -> Result<Reply, Error> {
        let statements = self.statements;
        let statement = match (change, &statements.rotate) {
            (Change::Replace, _) => &statements.replace,
            (Change::ReplaceOther, _) => &statements.replace_other,
            (Change::End, _) => &statements.revoke,
            (Change::EndOverLimit, _) => &statements.revoke_over_limit,
            (Change::Rotate, Some(rotate)) => &rotate.same,
            (Change::RotateOther, Some(rotate)) => &rotate.other,
            (Change::Rotate | Change::RotateOther, None) => {
                return self.rotate_in_transaction(values).await;
            }
        };
        done_or_taken(D::execute(self.connection, statement.of(values), values).await)
    }

    pub(super) fn values<'v>(&self, at: &'v str) -> Values<'v> {
        Values {
            id: at,
            now: number(self.terms.now),
            ..Values::default()
        }
    }

    fn expecting<'v>(&self, at: &'v str, expect: &'v Version) -> Values<'v> {
        let (prefix, whole) = match expect {
            Version::Prefix(prefix) => (Some(prefix.as_bytes()), None),
            Version::Whole(text) => (None, Some(text.as_bytes())),
        };
        Values {
            expect: revision(expect),
            prefix,
            whole,
            ..self.values(at)
        }
    }
}

/// The columns of a record that a step makes, unless its owner's sessions have ended.
fn made(new: &Record, now: Millis) -> RecordColumns<'_> {
    let owner = new.times().and_then(Metadata::principal);
    RecordColumns {
        erased: owner.map(erased_column),
        ..RecordColumns::of(new, now)
    }
}

/// Inserts a record. Nothing is done if it has ended together with its owner's others.
pub(super) async fn insert<D: Database>(
    connection: &mut D::Connection,
    statements: &Statements,
    values: &Values<'_>,
) -> Result<Option<u64>, Error> {
    if values.record.principal.is_none() {
        return D::execute(connection, &statements.insert, values)
            .await
            .map(Some);
    }
    let inserted = D::execute(connection, &statements.insert_owned, values).await?;
    Ok((inserted > 0).then_some(inserted))
}

/// The name under which a step makes a record.
fn name_to_take(step: &Step) -> Option<&str> {
    match step {
        Step::Insert { at, .. } => Some(at.as_str()),
        Step::Rotate { redirect, .. } => Some(redirect.target.as_str()),
        Step::Read { .. } | Step::Cas { .. } | Step::End { .. } | Step::EndIf { .. } => None,
    }
}

/// Whether the expected record is there, so that something else kept it from being changed.
fn is_expected(found: &Stored, expect: &Version) -> bool {
    let Stored::Record(record) = found else {
        return false;
    };
    record.as_text().is_some_and(|text| expect.matches(text))
}

/// The text that is there, if it is the expected one although its revision column says otherwise.
fn expected_text<'a>(found: &'a Stored, expect: &Version) -> Option<&'a str> {
    match (found, expect) {
        (Stored::Record(record), Version::Prefix(_)) => {
            record.as_text().filter(|text| expect.matches(text))
        }
        _ => None,
    }
}

pub(super) fn done_or_taken_or_ended(result: Result<Option<u64>, Error>) -> Result<Reply, Error> {
    match result {
        Ok(None) => Ok(Reply::Ended),
        Ok(Some(rows)) => done_or_taken(Ok(rows)),
        Err(error) => done_or_taken(Err(error)),
    }
}

pub(super) fn done_or_taken(result: Result<u64, Error>) -> Result<Reply, Error> {
    match result {
        Ok(0) => Ok(Reply::Found(Stored::Nothing)),
        Ok(_) => Ok(Reply::Done),
        Err(Error::Database(error)) if error.is_unique_violation() => Ok(Reply::Taken),
        Err(error) => Err(error),
    }
}
