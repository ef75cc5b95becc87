//! Sessions in an SQL database: one implementation over three small dialects.

mod database;
mod migrate;
#[cfg(feature = "mysql-session")]
mod mysql;
#[cfg(feature = "postgres-session")]
mod postgres;
mod public;
mod run;
mod schema;
#[cfg(feature = "sqlite-session")]
mod sqlite;
mod statement;
mod steps;
mod sweep;

use std::{sync::Arc, time::Duration};

use sqlx::Pool;

#[cfg(feature = "mysql-session")]
pub use self::public::{MySqlSessionStore, MySqlSessionStoreBuilder};
#[cfg(feature = "postgres-session")]
pub use self::public::{PostgresSessionStore, PostgresSessionStoreBuilder};
#[cfg(feature = "sqlite-session")]
pub use self::public::{SqliteSessionStore, SqliteSessionStoreBuilder};
pub use self::sweep::Sweeper;
use self::{
    database::Database,
    run::Connections,
    schema::{Place, Statements},
    steps::Step,
};
use crate::{
    clock::{Millis, SharedClock},
    contract::{Extension, Terms},
    error::{CommitError, Contended},
    key::SessionKey,
    protocol::{Backend, Name, Op, Reply, Slot},
    random,
};

/// What all handles of a store share.
pub(crate) struct Store<D: Database>(Arc<Inner<D>>);

struct Inner<D: Database> {
    connections: Connections<D>,
    place: Place,
    statements: Statements,
    clock: SharedClock,
}

/// How long things may take, and how many at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) command: Duration,
    pub(crate) connections: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            command: Duration::from_secs(1),
            connections: 10,
        }
    }
}

impl<D: Database> Clone for Store<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Database> Store<D> {
    pub(crate) fn new(pool: Pool<D>, place: Place, limits: Limits, clock: SharedClock) -> Self {
        Self(Arc::new(Inner {
            connections: Connections::new(pool, limits),
            statements: Statements::new::<D>(&place),
            place,
            clock,
        }))
    }

    async fn look_at(&self, step: Step<'_>, terms: &Terms) -> anyhow::Result<Slot> {
        match self.step(step, terms).await? {
            Reply::Found(slot) => Ok(slot),
            _ => anyhow::bail!("the session database answered a read with something else"),
        }
    }

    /// Extends and reads. Where others keep the database locked, reading alone is better than an
    /// error: one extension more or less is nothing that a session depends on.
    async fn touch_or_read(&self, at: &str, terms: &Terms) -> anyhow::Result<Slot> {
        match self.look_at(Step::Touch(at), terms).await {
            Err(error) if error.is::<Contended>() => {
                tracing::warn!(%error, "a session could not be extended; it is read as it is");
                self.look_at(Step::Run(&Op::Read { at: at.to_owned() }), terms)
                    .await
            }
            result => result,
        }
    }
}

impl<D: Database> Backend for Store<D> {
    const REMOTE: bool = true;

    async fn run(&self, op: &Op, terms: &Terms) -> Result<Reply, anyhow::Error> {
        self.step(Step::Run(op), terms).await
    }

    async fn look(&self, at: &str, terms: &Terms) -> Result<Slot, anyhow::Error> {
        let read = Op::Read { at: at.to_owned() };
        match terms.extend {
            Extension::Never => self.look_at(Step::Run(&read), terms).await,
            Extension::Always => self.touch_or_read(at, terms).await,
            // Most requests come before the interval is over, and then need no write.
            Extension::AtMostEvery(_) => {
                let slot = self.look_at(Step::Run(&read), terms).await?;
                let is_due = |record: &crate::record::Record| {
                    let end = record.end().unwrap_or(Millis::ZERO);
                    terms.extends_at(record, end)
                };
                match &slot {
                    Slot::Record(record) if is_due(record) => self.touch_or_read(at, terms).await,
                    _ => Ok(slot),
                }
            }
        }
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> Result<(), anyhow::Error> {
        let terms = self.own_terms();
        let end = terms.now + ttl;
        self.step(Step::SetEnd(at, end), &terms).await.map(drop)
    }

    fn name(&self, key: &SessionKey) -> Name {
        statement::digest(key.as_ref())
    }

    fn draw_key(&self, _beside: Option<&str>) -> Result<(SessionKey, Name), CommitError> {
        let key = random::session_key().map_err(CommitError::Other)?;
        let name = self.name(&key);
        Ok((key, name))
    }

    fn own_terms(&self) -> Terms {
        Terms {
            now: self.0.clock.now(),
            ..Terms::default()
        }
    }
}

/// What is made of a row's columns.
#[cfg(fuzzing)]
pub(crate) fn slot_of(row: database::Row) -> Slot {
    steps::slot(Some(database::Found::Row(row)))
}

#[cfg(fuzzing)]
pub(crate) use self::database::Row;
