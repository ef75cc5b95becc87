//! Transactions that write.

use sqlx::{Connection as _, Error, Transaction, TransactionManager as _};

use super::{
    backend::{Attempt, done_or_taken_or_ended, insert},
    database::Database,
    statement::Values,
};
use crate::protocol::{Reply, Stored};

/// Begins a transaction that writes.
pub(crate) async fn begin<D: Database>(
    connection: &mut D::Connection,
) -> Result<Transaction<'_, D>, Error> {
    forget_undone::<D>(connection).await?;
    connection.begin_with(D::BEGIN).await
}

/// Has `sqlx` forget a transaction that is over.
///
/// SQLite undoes one by itself if, for instance, the disk is full. Then there is nothing to roll back,
/// so that `sqlx` goes on counting it, and would never begin another one on this connection.
async fn forget_undone<D: Database>(connection: &mut D::Connection) -> Result<(), Error> {
    if !D::LOCAL || depth::<D>(connection) == 0 {
        return Ok(());
    }
    // A rollback that waits in line comes first.
    connection.ping().await?;
    if depth::<D>(connection) == 0 {
        return Ok(());
    }
    // Something to roll back. If the transaction is not over after all, this is refused.
    let _ = D::run(connection, "BEGIN").await;
    D::TransactionManager::rollback(connection).await
}

impl<D: Database> Attempt<'_, D> {
    /// A renewal where it takes more than one statement.
    pub(super) async fn rotate_in_transaction(
        &mut self,
        values: &Values<'_>,
    ) -> Result<Reply, Error> {
        let rotated = self.try_to_rotate(values).await;
        if rotated.is_err() {
            // A pool of the application's gets the connection back as it was.
            let _ = forget_undone::<D>(self.connection).await;
        }
        rotated
    }

    async fn try_to_rotate(&mut self, values: &Values<'_>) -> Result<Reply, Error> {
        let statements = self.statements;
        let mut transaction = begin::<D>(self.connection).await?;
        let move_away = statements.move_away.of(values);
        let reply = match D::execute(&mut transaction, move_away, values).await? {
            0 => Reply::Found(Stored::Nothing),
            _ => done_or_taken_or_ended(insert::<D>(&mut transaction, statements, values).await)?,
        };
        match reply {
            Reply::Done => transaction.commit().await?,
            _ => transaction.rollback().await?,
        }
        Ok(reply)
    }
}

fn depth<D: Database>(connection: &D::Connection) -> usize {
    D::TransactionManager::get_transaction_depth(connection)
}
