//! The pages over this library.

#[cfg(feature = "full")]
use std::env;

use actix_session::storage::{CookieSessionStore, MemorySessionStore};
#[cfg(feature = "full")]
use actix_session::storage::{PostgresSessionStore, RedisSessionStore, SqliteSessionStore};

use crate::{
    case::{Kind, Peer},
    library::library,
};

library!(actix_session);

pub(crate) async fn run(case: &Case, seed: &Seed, job: Job) -> anyhow::Result<Done> {
    match case.store.kind {
        Kind::Cookie => over(CookieSessionStore::default, case, seed, job).await,
        Kind::Memory => {
            let store = memory(job);
            over(move || store.clone(), case, seed, job).await
        }
        Kind::Five => {
            let store = FiveMethods::default();
            over(move || store.clone(), case, seed, job).await
        }
        #[cfg(feature = "full")]
        Kind::Redis => {
            let url = env::var("REDIS_URL").context("REDIS_URL must be set")?;
            let store = RedisSessionStore::new(url).await?;
            over(move || store.clone(), case, seed, job).await
        }
        #[cfg(feature = "full")]
        Kind::Sqlite => {
            let folder = tempfile::tempdir()?;
            let url = format!("sqlite://{}/sessions.sqlite3", folder.path().display());
            let store = SqliteSessionStore::new(url).await?;
            over(move || store.clone(), case, seed, job).await
        }
        #[cfg(feature = "full")]
        Kind::Postgres => {
            let url = env::var("POSTGRES_URL").context("POSTGRES_URL must be set")?;
            let store = PostgresSessionStore::new(url).await?;
            over(move || store.clone(), case, seed, job).await
        }
        #[cfg(not(feature = "full"))]
        other => anyhow::bail!("{other}: built without the feature `full`"),
    }
}

/// A store that is full once it is filled.
fn memory(job: Job) -> MemorySessionStore {
    let builder = MemorySessionStore::builder();
    match job {
        Job::Fill(n) => builder.max_sessions(n as usize).build(),
        Job::Repeat(_) | Job::Serve(_) => builder.build(),
    }
}

fn adjust<S: SessionStore>(
    builder: SessionMiddlewareBuilder<S>,
    case: &Case,
) -> SessionMiddlewareBuilder<S> {
    match case.peer {
        Peer::OursLazy => builder.lazy(),
        _ => builder,
    }
}
