//! Ends of sessions, as PostgreSQL tells them.

use std::sync::Arc;

use anyhow::Context as _;
use sqlx::{
    PgPool, Postgres,
    pool::PoolOptions,
    postgres::{PgConnectOptions, PgListener},
};

use super::{
    database::Database as _,
    pooler::{self, Between},
    postgres::PostgresSessionStore,
    query::Query,
};
use crate::{
    contract::Terms,
    live::line::{Line, Refused, Said, Silent},
};

/// What listens through such a pooler leaves its channels with one of the server's connections, and
/// all who get that one afterwards are told: in the middle of their statements, which `sqlx` takes for
/// a broken connection.
const POOLER: &str = "a pooler that gives each transaction another connection to PostgreSQL lets no \
     notification through";

const REFUSES: &str = "PostgreSQL refuses the store's notifications";

/// From here on PostgreSQL warns of it, too.
const FULL: f64 = 0.5;

/// The channel of the table, and that on which this process asks for a sign of life.
pub(super) struct PgLine<'a> {
    store: &'a PostgresSessionStore,
    channel: String,
    own: String,
}

impl<'a> PgLine<'a> {
    pub(super) fn new(store: &'a PostgresSessionStore) -> Self {
        let channel = store.0.table.channel();
        let nonce = crate::random::u64().unwrap_or_default();
        Self {
            store,
            own: format!("{}_{nonce:x}", &channel[..40]),
            channel,
        }
    }
}

impl PgLine<'_> {
    /// As they are now: an application may give its pool another password, again and again.
    fn options(&self) -> Arc<PgConnectOptions> {
        self.store.0.connections.pool().connect_options()
    }

    /// Whoever prepares nothing has such a pooler. Some of these keep prepared statements apart.
    async fn is_pooled(&self) -> anyhow::Result<bool> {
        let options = self.options();
        if !Postgres::prepares(&options) {
            return Ok(true);
        }
        let limit = self.store.0.connections.limits().sign();
        let answer = pooler::lies_between(&options, limit).await;
        match answer.context("the database does not answer in time")? {
            Between::Nothing => Ok(false),
            Between::Pooler => Ok(true),
            // Somebody else's connection might be told.
            Between::Unknown => anyhow::bail!("the database has no second connection to spare"),
        }
    }
}

/// Asks how full the queue of notifications is. That has PostgreSQL forget what all have read: once
/// the queue is full, nothing else does. Whoever begins to listen reads what is left, and keeps it
/// from being forgotten meanwhile: gigabytes, if somebody else's transaction is open.
async fn room(pool: &PgPool) -> anyhow::Result<()> {
    let used = sqlx::query_scalar::<_, f64>("SELECT pg_notification_queue_usage()");
    // Whoever may not ask listens all the same.
    if used.fetch_one(pool).await.unwrap_or_default() > FULL {
        let error = anyhow::Error::from(Silent);
        return Err(error.context("more than half of the queue of notifications is in use"));
    }
    Ok(())
}

impl Line for PgLine<'_> {
    type Open = PgListener;

    /// A connection of its own: one of the application's pool would be missed there.
    async fn open(&self) -> anyhow::Result<PgListener> {
        if self.is_pooled().await? {
            return Err(Refused(POOLER).into());
        }
        let pool = PoolOptions::<Postgres>::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_with(PgConnectOptions::clone(&self.options()))
            .await?;
        room(&pool).await?;
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
        match self.store.ask(Query::Tell(self.own.clone()), &terms).await {
            Ok(_) => Ok(()),
            // The line would stay silent, and be opened again and again.
            Err(failure) if failure.refuses_to_tell::<Postgres>() => Err(Refused(REFUSES).into()),
            Err(failure) => Err(failure.into_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use servers::PostgresServer;
    use sqlx::{Connection as _, PgConnection};

    use super::*;
    use crate::random;

    /// Against a test that hangs; nothing is measured.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Whoever would wait for a sign of life learns that none can come.
    #[actix_web::test]
    async fn a_user_who_may_not_tell_is_refused_the_sign_of_life() {
        let url = PostgresServer::shared_url().unwrap();
        let (scheme, rest) = url.split_once("://").unwrap();
        let (_, address) = rest.split_once('@').unwrap();
        let (address, _) = address.rsplit_once('/').unwrap();
        let name = random::alphanumeric(16).unwrap().to_lowercase();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        for sql in [
            format!("CREATE DATABASE d_{name}"),
            format!("CREATE ROLE u_{name} LOGIN"),
        ] {
            Postgres::run(&mut connection, &sql).await.unwrap();
        }
        let own = format!("{}/d_{name}", url.rsplit_once('/').unwrap().0);
        let mut connection = PgConnection::connect(&own).await.unwrap();
        let rights = "EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC";
        let revoke = format!("REVOKE {rights}");
        Postgres::run(&mut connection, &revoke).await.unwrap();
        let user = format!("{scheme}://u_{name}@{address}/d_{name}");
        let store = PostgresSessionStore::builder(user)
            .migrate(false)
            .connect_timeout(PATIENCE)
            .command_timeout(PATIENCE);
        let store = store.build().await.unwrap();
        // Once it is known as well.
        for _ in 0..2 {
            let asked = PgLine::new(&store).ask().await;
            assert!(asked.unwrap_err().is::<Refused>());
        }
    }
    /// An application that signs in with passwords of some minutes gives its pool another one each time.
    #[actix_web::test]
    async fn the_line_is_opened_as_the_pool_says_now() {
        let pool = PgPool::connect(&PostgresServer::shared_url().unwrap()).await;
        let pool = pool.unwrap();
        let store = PostgresSessionStore::builder_from_pool(pool.clone())
            .connect_timeout(PATIENCE)
            .command_timeout(PATIENCE);
        let store = store.build().await.unwrap();
        let line = PgLine::new(&store);
        line.open().await.unwrap();
        let known = PgConnectOptions::clone(&pool.connect_options());
        pool.set_connect_options(known.username("nobody_of_this_name"));
        assert!(line.open().await.is_err());
    }
}
