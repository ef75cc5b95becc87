//! Ends of sessions, as PostgreSQL tells them.

use anyhow::Context as _;
use sqlx::{
    Postgres,
    pool::PoolOptions,
    postgres::{PgConnectOptions, PgListener},
};

use super::{failure::Failure, postgres::PostgresSessionStore, query::Query};
use crate::{
    contract::Terms,
    live::line::{Line, Said},
};

/// The channel of the table, and that on which this process asks for a sign of life.
pub(super) struct PgLine<'a> {
    store: &'a PostgresSessionStore,
    options: PgConnectOptions,
    channel: String,
    own: String,
}

impl<'a> PgLine<'a> {
    pub(super) fn new(store: &'a PostgresSessionStore) -> Self {
        let channel = store.0.table.channel();
        let nonce = crate::random::u64().unwrap_or_default();
        let options = store.0.connections.pool().connect_options();
        Self {
            store,
            options: PgConnectOptions::clone(&options),
            own: format!("{}_{nonce:x}", &channel[..40]),
            channel,
        }
    }
}

impl Line for PgLine<'_> {
    type Open = PgListener;

    /// A connection of its own: one of the application's pool would be missed there.
    async fn open(&self) -> anyhow::Result<PgListener> {
        let pool = PoolOptions::<Postgres>::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_with(self.options.clone())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen_all([&*self.channel, &self.own]).await?;
        Ok(listener)
    }

    async fn next(&self, open: &mut PgListener) -> anyhow::Result<Said> {
        let told = open.try_recv().await?;
        let told = told.context("the server has closed the connection")?;
        if told.channel() == self.own {
            return Ok(Said::Alive);
        }
        Ok(Said::read(told.payload()))
    }

    async fn ask(&self) -> anyhow::Result<()> {
        let terms = Terms::default();
        let asked = self.store.ask(Query::Tell(self.own.clone()), &terms).await;
        asked.map(drop).map_err(Failure::into_error)
    }
}
