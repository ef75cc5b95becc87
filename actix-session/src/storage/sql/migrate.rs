//! Creating the table.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::{Connection as _, Error};
use tokio::time::timeout_at;

use super::{
    attempts::Attempts,
    database::{Database, SqlDatabase},
    failure::Failure,
    statement::Values,
    store::SqlSessionStore,
    table::Table,
};
use crate::clock;

/// How long a migration may take, including the wait for other servers' migrations.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(90);

impl<D: SqlDatabase> SqlSessionStore<D> {
    /// Creates the session table if it is missing. It is harmless to repeat this, and to call it
    /// from many servers at once.
    ///
    /// # Errors
    /// The database does not answer, does not let this user create a table, or would undo what is
    /// written: MySQL with `autocommit = 0`.
    pub async fn migrate(&self) -> Result<(), anyhow::Error> {
        // Usually the table exists. Then a user that may not create it is good enough.
        let look = |store: Self| async move { Ok(store.has_table().await) };
        if self.there(look).await.map_err(Failure::into_error)?? {
            return Ok(());
        }
        let create = |store: Self| async move { store.create_patiently().await };
        let created = self.there(create).await;
        created
            .map_err(|failure| failure.error)
            .context("the session table cannot be created")
    }

    async fn create_patiently(&self) -> Result<(), Failure> {
        let mut attempts = Attempts::within(MIGRATION_TIMEOUT, self.0.connections.search());
        loop {
            let failure = match self.create_table().await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            attempts.again(failure, true).await?;
        }
    }

    /// The SQL that [`migrate`](Self::migrate) runs, for applications that run it by other means.
    pub fn schema_sql(&self) -> String {
        let statements = D::create_table(&self.0.table);
        let lines = statements.iter().map(|statement| format!("{statement};\n"));
        lines.collect()
    }

    /// Whether the table is there, and connections keep what they write. If none can be asked,
    /// creating the table tells why.
    async fn has_table(&self) -> anyhow::Result<bool> {
        let connections = &self.0.connections;
        let until = clock::deadline(MIGRATION_TIMEOUT);
        let Ok(mut held) = connections.hold(false, until).await else {
            return Ok(false);
        };
        let work = async {
            let must_change = D::check(held.get()?).await?;
            if must_change.is_none() {
                let values = Values::default();
                D::fetch(held.get()?, &self.0.statements.probe, &values).await?;
            }
            Ok(must_change)
        };
        let result = connections.bounded(work).await;
        match connections.settle(held, result) {
            Ok(Some(must_change)) => anyhow::bail!(must_change),
            Ok(None) => Ok(true),
            Err(_) => Ok(false),
        }
    }

    async fn create_table(&self) -> Result<(), Failure> {
        let connections = &self.0.connections;
        let until = clock::deadline(MIGRATION_TIMEOUT);
        let mut held = connections.hold(true, until).await?;
        let work = async { create::<D>(held.get()?, &self.0.table).await };
        let result = timeout_at(until, work).await.ok();
        connections.settle(held, result)
    }
}

/// Creates the table in one transaction if the database can, and never twice at once.
async fn create<D: Database>(connection: &mut D::Connection, table: &Table) -> Result<(), Error> {
    let mut transaction = connection.begin_with(D::BEGIN).await?;
    D::lock_for_migration(&mut transaction, table).await?;
    for statement in D::create_table(table) {
        D::run(&mut transaction, &statement).await?;
    }
    D::unlock_after_migration(&mut transaction, table).await?;
    transaction.commit().await
}
