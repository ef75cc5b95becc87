//! What is left of whoever is gone, how many rows there are, and room for more.

use std::time::Duration;

use sqlx::Error;

use super::{
    backend::Attempt,
    database::{Database, SqlDatabase},
    failure::Failure,
    query::{Answer, Query},
    row::{number, principal_column},
    statement::{Statement, Values},
    store::SqlSessionStore,
};
use crate::{
    clock::Millis,
    contract::Terms,
    protocol::NotBefore,
    storage::upkeep::{Counts, Upkeep},
};

/// For how long a mark stays under the name of somebody who was erased: a statement that began before
/// it, and did not see it, has ended long before.
const NAMED_FOR: Millis = Millis::secs(600);

/// How long it may take to count: in proportion to the table, and no visitor waits for it.
const COUNTING: Duration = Duration::from_secs(60);

/// How many rows are deleted at once.
const BATCH: u32 = 1_000;

/// Statements for operators.
#[derive(Debug)]
pub(crate) struct UpkeepStatements {
    counts: Statement,
    /// The time of a principal's mark.
    mark: Statement,
    forget_sessions: Statement,
    forget_mark: Statement,
}

impl UpkeepStatements {
    pub(super) fn new<D: Database>(make: impl Fn(&str) -> Statement) -> Self {
        let login = D::LOGIN;
        Self {
            // Each is answered by an index.
            counts: make(
                "SELECT (SELECT COUNT(*) FROM {table} WHERE expires > :now), \
                 (SELECT COUNT(*) FROM {table} WHERE principal IS NOT NULL), \
                 (SELECT COUNT(*) FROM {table} WHERE expires <= :now)",
            ),
            mark: make(
                "SELECT COALESCE((SELECT ended_at FROM {not_before} WHERE principal = :principal), \
                 :mark), :mark, :mark",
            ),
            forget_sessions: make(&format!(
                "DELETE FROM {{table}} WHERE principal = :principal AND {login} <= :mark \
                 AND expires <= :now"
            )),
            forget_mark: make(
                "UPDATE {not_before} SET expires = :expires WHERE principal = :principal \
                 AND ended_at <= :mark",
            ),
        }
    }
}

/// The name that keeps the mark of somebody who was erased, as the column has it. Every login looks at
/// it, too.
pub(super) fn erased_column(principal: &str) -> String {
    principal_column(&erased(principal)).into_owned()
}

/// No column contains it as it is: it is one of those names that become a digest.
fn erased(principal: &str) -> String {
    format!("erased\0{principal}")
}

impl<D: SqlDatabase> Upkeep for SqlSessionStore<D> {
    async fn forget(&self, principal: &str, mark: &NotBefore, terms: &Terms) -> anyhow::Result<()> {
        let query = Query::Forget(principal.into(), mark.at);
        let forgotten = self.ask(query, terms).await;
        forgotten.map(drop).map_err(Failure::into_error)
    }

    async fn counts(&self, terms: &Terms) -> anyhow::Result<Counts> {
        let terms = Terms {
            budget: COUNTING,
            ..terms.clone()
        };
        match self.ask(Query::Count, &terms).await {
            Ok(Answer::Counts(counts)) => Ok(counts),
            Ok(_) => anyhow::bail!("the session database gave an unexpected reply"),
            Err(failure) => Err(failure.into_error()),
        }
    }

    async fn sweep_all(&self, _: &Terms) -> anyhow::Result<Option<u64>> {
        self.sweep_whole(BATCH).await.map(Some)
    }
}

impl<D: Database> Attempt<'_, D> {
    /// Keeps the mark under a digest, deletes what has expired of a principal, and lets the mark that
    /// names them expire soon.
    pub(super) async fn forget(&mut self, principal: &str, mark: Millis) -> Result<Answer, Error> {
        let mark = self.latest_mark(principal, mark).await?;
        let unnamed = NotBefore {
            at: mark,
            spared: Vec::new(),
        };
        self.mark(&erased(principal), &unnamed, None).await?;
        let statements = &self.statements.upkeep;
        let values = Values {
            mark: number(mark),
            expires: Some(number(self.terms.now + NAMED_FOR)),
            ..self.values_of(principal)
        };
        let forgotten = D::execute(self.connection, &statements.forget_sessions, &values).await?;
        D::execute(self.connection, &statements.forget_mark, &values).await?;
        Ok(Answer::Ended(forgotten))
    }

    /// The mark that is stored may be of a later time, by a clock that is ahead.
    async fn latest_mark(&mut self, principal: &str, mark: Millis) -> Result<Millis, Error> {
        let values = Values {
            mark: number(mark),
            ..self.values_of(principal)
        };
        let stored = &self.statements.upkeep.mark;
        let [stored, ..] = D::counts(self.connection, stored, &values).await?;
        Ok(mark.max(Millis(stored)))
    }

    pub(super) async fn count(&mut self) -> Result<Answer, Error> {
        let (statements, values) = (&self.statements.upkeep, self.values(""));
        let [live, owned, expired] =
            D::counts(self.connection, &statements.counts, &values).await?;
        let count = |number: i64| u64::try_from(number).ok();
        Ok(Answer::Counts(Counts {
            live: count(live),
            owned: count(owned),
            expired: count(expired),
        }))
    }
}
