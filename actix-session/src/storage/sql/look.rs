//! Reading for a request, and extending what is read.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    database::{SqlDatabase, Verdict},
    failure::Failure,
    query::Query,
    store::SqlSessionStore,
};
use crate::{
    clock::Millis,
    contract::{ExtendOnRead, Terms},
    event,
    protocol::{Reply, Stored},
    record::Record,
};

/// An extension may take as long as this, however short the time-outs are.
const LEAST: Duration = Duration::from_millis(100);

impl<D: SqlDatabase> SqlSessionStore<D> {
    pub(super) async fn look_and_extend(
        &self,
        at: &str,
        terms: &Terms,
    ) -> Result<Stored, anyhow::Error> {
        match terms.extend {
            ExtendOnRead::Never | ExtendOnRead::Quiet => self.read(at, terms).await,
            ExtendOnRead::Always => self.touch_or_read(at, terms).await,
            // Most requests come before the interval is over, and then need no write.
            ExtendOnRead::AtMostEvery(_) => match self.read(at, terms).await? {
                Stored::Record(record) if is_due(&record, terms) => {
                    self.touch_or_read(at, terms).await
                }
                found => Ok(found),
            },
        }
    }

    async fn read(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        let found = self.query(Query::Read(at.into()), terms).await;
        found_by(found.map_err(Failure::into_error)?)
    }

    /// Extends and reads. A missed extension is better than an error: if this takes longer than half
    /// of what one statement may, or fails, the record is read as it is.
    async fn touch_or_read(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        if self.0.connections.search().is_in_vain() {
            return Ok(self.read(at, terms).await?.not_extended());
        }
        let limit = (self.0.connections.limits().command / 2).max(LEAST);
        let soon = Terms {
            budget: terms.budget.min(limit),
            ..terms.clone()
        };
        let touching = self.query(Query::Touch(at.into()), &soon);
        let failure = match timeout(limit, touching).await {
            Ok(Ok(reply)) => return found_by(reply),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::late("extending a session", Verdict::Lost),
        };
        // If reading fails too, that is the error.
        let found = self.read(at, terms).await?;
        // The search for another server has told it, once for all requests.
        if !failure.verdict.is_about_server() {
            event::not_extended(&failure.error);
        }
        Ok(found.not_extended())
    }
}

fn is_due(record: &Record, terms: &Terms) -> bool {
    let end = record.end().unwrap_or(Millis::ZERO);
    terms.extends_at(record, end)
}

fn found_by(reply: Reply) -> anyhow::Result<Stored> {
    match reply {
        Reply::Found(found) => Ok(found),
        _ => anyhow::bail!("the session database gave an unexpected reply to a read"),
    }
}
