//! The pages over actix-session 0.11.0, as published.

use std::env;

use upstream::storage::{CookieSessionStore, RedisSessionStore};

use crate::{case::Kind, library::library};

library!(upstream);

pub(crate) async fn run(case: &Case, seed: &Seed, job: Job) -> anyhow::Result<Done> {
    match case.store.kind {
        Kind::Cookie => over(CookieSessionStore::default, case, seed, job).await,
        // It has no store in memory, so everybody writes one.
        Kind::Memory | Kind::Five => {
            let store = FiveMethods::default();
            over(move || store.clone(), case, seed, job).await
        }
        Kind::Redis => {
            let url = env::var("REDIS_URL").context("REDIS_URL must be set")?;
            let store = RedisSessionStore::new(url).await?;
            over(move || store.clone(), case, seed, job).await
        }
        other => anyhow::bail!("the published library has no store `{other}`"),
    }
}

fn adjust<S: SessionStore>(
    builder: SessionMiddlewareBuilder<S>,
    _case: &Case,
) -> SessionMiddlewareBuilder<S> {
    builder
}
