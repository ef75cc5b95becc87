//! Creating the tables.

use std::time::Duration;

use sqlx::Error;
use tokio::time::{Instant, timeout_at};

use super::{
    attempts::Attempts,
    database::{Database, Part, SqlDatabase, Verdict},
    failure::Failure,
    statement::Values,
    store::SqlSessionStore,
    table::Table,
    transaction::begin,
};
use crate::clock::{self, Millis};

const DAY: Millis = Millis::secs(86_400);

/// How long a migration may take, including the wait for other servers' migrations.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(90);

/// For how long a start tries to make an index that is missing: all works without it.
const INDEX_TIMEOUT: Duration = Duration::from_secs(5);

impl<D: SqlDatabase> SqlSessionStore<D> {
    /// Creates the session table and the table beside it if they are missing, and adds the columns and
    /// indexes that a table lacks, of an earlier version or after a restore. It is harmless to repeat this,
    /// and to call it from many servers at once.
    ///
    /// # Errors
    /// The database does not answer, or would undo what is written: MySQL with `autocommit = 0`. A
    /// pool of the application's prepares statements behind a pooler that mixes them up. Or
    /// something is missing and this user may not create it: the error shows the SQL that an
    /// administrator has to run. If all is there, the right to read and to write rows is enough. If an index
    /// alone is missing and cannot be made, that is a warning.
    pub async fn migrate(&self) -> Result<(), anyhow::Error> {
        if self.0.runtime.is_none()
            && let Some(must_change) = self.0.connections.check_pool().await
        {
            anyhow::bail!(must_change);
        }
        // Usually the table exists. Then a user that may not create it is good enough.
        let look = |store: Self| async move { Ok(store.has_tables().await) };
        if self.there(look).await.map_err(Failure::into_error)?? {
            return Ok(());
        }
        let create = |store: Self| async move {
            match store.create_patiently(all::<D>, MIGRATION_TIMEOUT).await {
                Ok(()) => Ok(Ok(())),
                Err(failure) => Ok(Err(store.cannot_create(failure).await)),
            }
        };
        self.there(create).await.map_err(Failure::into_error)?
    }

    /// What an administrator has to do if the database refuses it to this user.
    async fn cannot_create(&self, failure: Failure) -> anyhow::Error {
        let is_refused = matches!(failure.verdict, Verdict::Refused | Verdict::NoTable);
        if failure.late || !is_refused || failure.has_hint::<D>() {
            return failure.error.context("the session table cannot be created");
        }
        let told = format!(
            "the session tables cannot be used, and the database refuses to create them; its own \
             words come last. If this user may not create tables, an administrator has to run the \
             following, and to allow the user to SELECT, INSERT, UPDATE and DELETE rows of both \
             tables:\n{}{}",
            self.schema_sql(),
            lines(self.missing_later().await.iter()),
        );
        failure.error.context(told)
    }

    async fn create_patiently(
        &self,
        parts: fn(&Table) -> Vec<Part>,
        limit: Duration,
    ) -> Result<(), Failure> {
        let mut attempts = Attempts::within(limit, self.0.connections.search());
        loop {
            let failure = match self.create_parts(parts, limit).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            attempts.again(failure, true).await?;
        }
    }

    /// The SQL that [`migrate`](Self::migrate) runs, for applications that run it by other means.
    pub fn schema_sql(&self) -> String {
        lines(D::parts(&self.0.table).iter())
    }

    /// What a table lacks that is there, as far as this user can tell, and `schema_sql` does not have.
    async fn missing_later(&self) -> Vec<Part> {
        let table = &self.0.table;
        let later = D::later_columns(table).into_iter().chain(D::indexes(table));
        let (missing, schema_sql) = (self.missing(later.collect()).await, self.schema_sql());
        let is_new = |part: &Part| !schema_sql.contains(&part.create);
        missing.into_iter().filter(is_new).collect()
    }

    /// The parts that are missing, as far as this user can tell.
    async fn missing(&self, parts: Vec<Part>) -> Vec<Part> {
        let connections = &self.0.connections;
        let until = clock::deadline(MIGRATION_TIMEOUT);
        let Ok(mut held) = connections.hold(false, until).await else {
            return Vec::new();
        };
        let work = async { missing::<D>(held.get()?, parts).await };
        let result = connections.bounded(work).await;
        connections
            .settle(held, result, until)
            .await
            .unwrap_or_default()
    }

    /// Makes the indexes that are missing, as after a restore that left them out. All works without them, but
    /// lists and sweeps go through the whole table.
    async fn make_indexes(&self) {
        let missing = self.missing(D::indexes(&self.0.table)).await;
        if missing.is_empty() {
            return;
        }
        if let Err(failure) = self.create_patiently(D::indexes, INDEX_TIMEOUT).await {
            tracing::warn!(
                error = %format_args!("{:#}", failure.error),
                "an index is missing and could not be made, so that lists and sweeps go through whole tables; \
                 an administrator has to run:\n{}",
                lines(missing.iter()),
            );
        }
    }

    /// Whether the tables are there, and connections keep what they write. If none can be asked,
    /// creating the tables tells why.
    async fn has_tables(&self) -> anyhow::Result<bool> {
        let connections = &self.0.connections;
        let until = clock::deadline(MIGRATION_TIMEOUT);
        let Ok(mut held) = connections.hold(false, until).await else {
            return Ok(false);
        };
        let work = async {
            let must_change = D::check(held.get()?).await?;
            if must_change.is_none() {
                let values = Values::default();
                D::fetch(held.get()?, &self.0.statements.now().probe, &values).await?;
            }
            Ok(must_change)
        };
        let result = connections.bounded(work).await;
        match connections.settle(held, result, until).await {
            Ok(Some(must_change)) => anyhow::bail!(must_change),
            Ok(None) => {
                self.make_indexes().await;
                self.warn_if_nobody_sweeps(until).await;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// Warns of rows that no sweeper would have left: a table that nobody sweeps only grows. Whoever
    /// cannot find out in time is not warned.
    async fn warn_if_nobody_sweeps(&self, until: Instant) {
        let connections = &self.0.connections;
        if let Ok(mut held) = connections.hold(false, until).await {
            let work = async { self.warn_of_rows(held.get()?).await };
            let result = connections.bounded(work).await;
            let _ = connections.settle(held, result, until).await;
        }
    }

    async fn warn_of_rows(&self, connection: &mut D::Connection) -> Result<(), Error> {
        let day_ago = self.0.clock.now() - DAY;
        let expired = format!(
            "SELECT 1 FROM {{table}} WHERE expires < {} LIMIT 1",
            day_ago.0
        );
        if D::finds(connection, &self.0.table.fill(&expired, D::QUOTE)).await? {
            tracing::warn!(
                table = self.0.table.fill("{table}", D::QUOTE),
                "the session table has rows that expired more than a day ago: nothing deletes them by \
                 itself, so keep what `spawn_sweeper` returns, or call `sweep` in a job of your own"
            );
        }
        Ok(())
    }

    async fn create_parts(
        &self,
        parts: fn(&Table) -> Vec<Part>,
        limit: Duration,
    ) -> Result<(), Failure> {
        let connections = &self.0.connections;
        let until = clock::deadline(limit);
        let mut held = connections.hold(true, until).await?;
        let work = async {
            let connection = held.get()?;
            create::<D>(connection, &self.0.table, parts, limit).await?;
            // They may have been there, but not for this user, or without a column.
            let (probe, values) = (&self.0.statements.now().probe, Values::default());
            D::fetch(connection, probe, &values).await.map(drop)
        };
        let result = timeout_at(until, work).await.ok();
        connections.settle(held, result, until).await
    }
}

/// All that there should be.
fn all<D: Database>(table: &Table) -> Vec<Part> {
    [D::parts(table), D::later_columns(table), D::indexes(table)]
        .into_iter()
        .flatten()
        .collect()
}

/// Creates what is missing, in one transaction if the database can, and never twice at once.
async fn create<D: Database>(
    connection: &mut D::Connection,
    table: &Table,
    parts: fn(&Table) -> Vec<Part>,
    limit: Duration,
) -> Result<(), Error> {
    let mut transaction = begin::<D>(connection).await?;
    D::limit_migration(&mut transaction, limit).await?;
    D::lock_for_migration(&mut transaction, table).await?;
    let created = create_parts::<D>(&mut transaction, parts(table)).await;
    // Whatever came of it: MySQL's lock outlives a transaction.
    D::unlock_after_migration(&mut transaction, table).await?;
    created?;
    transaction.commit().await
}

async fn create_parts<D: Database>(
    connection: &mut D::Connection,
    parts: Vec<Part>,
) -> Result<(), Error> {
    for part in parts {
        if !is_there::<D>(connection, &part).await? {
            D::run(connection, &part.create).await?;
        }
    }
    Ok(())
}

/// The parts that a look does not find.
async fn missing<D: Database>(
    connection: &mut D::Connection,
    parts: Vec<Part>,
) -> Result<Vec<Part>, Error> {
    let mut missing = Vec::new();
    for part in parts {
        if !is_there::<D>(connection, &part).await? {
            missing.push(part);
        }
    }
    Ok(missing)
}

async fn is_there<D: Database>(connection: &mut D::Connection, part: &Part) -> Result<bool, Error> {
    match &part.look {
        Some(look) => D::finds(connection, look).await,
        None => Ok(false),
    }
}

fn lines<'a>(parts: impl Iterator<Item = &'a Part>) -> String {
    parts.map(|part| format!("{};\n", part.create)).collect()
}
