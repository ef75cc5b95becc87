//! Where sessions are kept: memory, and Redis with or without a proxy before it.

use std::pin::Pin;

use actix_session::storage::{MemorySessionStore, RedisSessionStore};

use super::{
    history::Left,
    run::Round,
    script::Plan,
    site::{Pause, Site, site},
};
use crate::support::{PATIENCE, Proxy, connect};

pub(crate) type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Where sessions are kept.
pub(crate) trait Place: Send + Sync {
    /// An application in this thread.
    fn site<'a>(&'a self, round: &'a Round) -> Local<'a, Site>;

    /// From now on what can get lost may get lost, or not any more.
    fn lose(&self, losses: u32);

    fn dump(&self) -> Local<'_, Left>;

    /// What the store calls the record of a session key.
    fn name_of(&self, key: &str) -> String {
        key.to_owned()
    }
}

pub(crate) struct Memory(MemorySessionStore);

pub(crate) struct Redis {
    /// The server itself.
    url: String,
    /// The way that the store takes.
    store_url: String,
    proxy: Option<Proxy>,
    seed: u64,
    prefix: String,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self(MemorySessionStore::new())
    }
}

impl Place for Memory {
    fn site<'a>(&'a self, round: &'a Round) -> Local<'a, Site> {
        Box::pin(site(self.0.clone(), round, Pause::Yields))
    }

    fn lose(&self, _: u32) {}

    fn dump(&self) -> Local<'_, Left> {
        let mut left = Left::default();
        for (name, text) in self.0.dump() {
            left.add(&name, &text, str::to_owned);
        }
        Box::pin(std::future::ready(left))
    }
}

impl Redis {
    pub(crate) fn new(url: &str, seed: u64) -> Self {
        Self {
            url: url.to_owned(),
            store_url: url.to_owned(),
            proxy: None,
            seed,
            prefix: format!("round-{seed}:"),
        }
    }

    pub(crate) fn through(url: &str, proxy: &Proxy, plan: &Plan) -> Self {
        Self {
            store_url: proxy.redis_url(),
            proxy: Some(proxy.clone()),
            ..Self::new(url, plan.seed)
        }
    }

    async fn store(&self) -> RedisSessionStore {
        for _ in 0..100 {
            let prefix = self.prefix.clone();
            let builder = RedisSessionStore::builder(&self.store_url)
                .cache_keygen(move |key| format!("{prefix}{key}"))
                .command_timeout(PATIENCE);
            match builder.build().await {
                Ok(store) => return store,
                Err(error) => assert!(self.proxy.is_some(), "{error}"),
            }
        }
        panic!("the proxy lets nobody through");
    }
}

impl Place for Redis {
    fn site<'a>(&'a self, round: &'a Round) -> Local<'a, Site> {
        Box::pin(async move {
            let pause = Pause::Trips(connect(&self.url).await);
            site(self.store().await, round, pause).await
        })
    }

    fn lose(&self, losses: u32) {
        match &self.proxy {
            Some(proxy) if losses > 0 => proxy.lose_at_random(losses, !self.seed),
            Some(proxy) => proxy.lose_nothing(),
            None => {}
        }
    }

    fn dump(&self) -> Local<'_, Left> {
        Box::pin(async move {
            let mut connection = connect(&self.url).await;
            let mut left = Left::default();
            let plain = |name: &str| name.replace(&self.prefix, "");
            let keys = redis::cmd("KEYS")
                .arg(format!("*{}*", self.prefix))
                .to_owned();
            let names: Vec<String> = keys.query_async(&mut connection).await.unwrap();
            // The epoch of a clear is neither a record nor a redirect, and nor is a user's index.
            let is_beside = |name: &str| name.ends_with(":cleared") || name.ends_with(":sessions");
            let of_sessions = names.iter().filter(|name| !is_beside(name));
            for name in of_sessions {
                let get = redis::cmd("GET").arg(name).to_owned();
                let text: String = get.query_async(&mut connection).await.unwrap();
                let key = plain(name).replace(":moved", "").replace(['{', '}'], "");
                left.add(&key, &text, plain);
            }
            left
        })
    }
}
