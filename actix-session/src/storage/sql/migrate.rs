//! Making the table.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::{Connection as _, Error};
use tokio::time::timeout;

use super::{
    Store,
    database::Database,
    run::{Attempts, Failure},
    schema::Place,
    statement::Values,
};

/// How long a migration may take, the wait for other servers' included.
const LIMIT: Duration = Duration::from_secs(90);

/// The statements that make the table, for who runs them by other means.
pub(crate) fn sql<D: Database>(place: &Place) -> String {
    let statements = D::tables(place);
    let lines = statements.iter().map(|statement| format!("{statement};\n"));
    lines.collect()
}

impl<D: Database> Store<D> {
    pub(crate) async fn migrate(&self) -> anyhow::Result<()> {
        // As a rule it is there, and then a user without the right to make it is as good.
        if self.table_is_there().await {
            return Ok(());
        }
        let mut attempts = Attempts::within(LIMIT);
        loop {
            let failure = match self.make_table().await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let again = attempts.again(failure, true).await;
            again
                .map_err(|failure| failure.error)
                .context("the session table cannot be made")?;
        }
    }

    async fn table_is_there(&self) -> bool {
        let connections = &self.0.connections;
        let Ok(mut held) = connections.hold(false).await else {
            return false;
        };
        let work = async {
            let values = Values::default();
            D::fetch(held.get()?, &self.0.statements.probe, &values).await
        };
        let result = connections.bounded(work).await;
        connections.settle(held, result).is_ok()
    }

    async fn make_table(&self) -> Result<(), Failure> {
        let connections = &self.0.connections;
        let mut held = connections.hold(true).await?;
        let work = async { make::<D>(held.get()?, &self.0.place).await };
        let result = timeout(LIMIT, work).await.ok();
        connections.settle(held, result)
    }
}

/// In one transaction where the database can, and never two at once.
async fn make<D: Database>(connection: &mut D::Connection, place: &Place) -> Result<(), Error> {
    let mut transaction = connection.begin_with(D::BEGIN).await?;
    D::lock_for_migration(&mut transaction, place).await?;
    for statement in D::tables(place) {
        D::run(&mut transaction, &statement).await?;
    }
    D::unlock_after_migration(&mut transaction, place).await?;
    transaction.commit().await
}
