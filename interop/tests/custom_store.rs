//! Stores with the five published methods, written once for every version.

#![allow(
    clippy::unwrap_used,
    reason = "tests, functions that no `#[test]` stands on included"
)]

mod support;

use std::{collections::HashMap, sync::Arc, time::Duration as StdDuration};

use actix_session::{
    config::WireFormat,
    storage::{
        LoadError, MemorySessionStore, RedisSessionStore, SaveError, SessionKey, SessionStore,
        UpdateError,
    },
    testing::ManualClock,
};
use actix_web::cookie::time::Duration;
use serde_json::json;

use self::support::{
    Client, Entries, Seal, Server, entries, insert, ours, redis, redis_url, settings, values,
};

/// A store as applications have written it, against the names of one version.
macro_rules! custom_store {
    ($module:ident, $krate:ident, $draw:expr) => {
        mod $module {
            use std::{collections::HashMap, sync::Arc, sync::Mutex};

            use actix_web::cookie::time::Duration;
            use $krate::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};

            #[derive(Clone, Default)]
            pub(crate) struct Custom {
                pub(crate) map: Arc<Mutex<HashMap<String, String>>>,
            }

            impl SessionStore for Custom {
                async fn load(
                    &self,
                    session_key: &SessionKey,
                ) -> Result<Option<HashMap<String, String>>, LoadError> {
                    let text = self.map.lock().unwrap().get(session_key.as_ref()).cloned();
                    match text {
                        None => Ok(None),
                        Some(text) => Ok(serde_json::from_str(&text)
                            .map_err(Into::into)
                            .map_err(LoadError::Deserialization)?),
                    }
                }

                async fn save(
                    &self,
                    session_state: HashMap<String, String>,
                    _ttl: &Duration,
                ) -> Result<SessionKey, SaveError> {
                    let body = serde_json::to_string(&session_state)
                        .map_err(Into::into)
                        .map_err(SaveError::Serialization)?;
                    let session_key: SessionKey = $draw;
                    let name = session_key.as_ref().to_owned();
                    self.map.lock().unwrap().insert(name, body);
                    Ok(session_key)
                }

                async fn update(
                    &self,
                    session_key: SessionKey,
                    session_state: HashMap<String, String>,
                    ttl: &Duration,
                ) -> Result<SessionKey, UpdateError> {
                    let body = serde_json::to_string(&session_state)
                        .map_err(Into::into)
                        .map_err(UpdateError::Serialization)?;
                    if let Some(known) = self.map.lock().unwrap().get_mut(session_key.as_ref()) {
                        *known = body;
                        return Ok(session_key);
                    }
                    // The published Redis store does the same: it saves an ended session again.
                    self.save(session_state, ttl)
                        .await
                        .map_err(|err| match err {
                            SaveError::Serialization(err) => UpdateError::Serialization(err),
                            SaveError::Other(err) => UpdateError::Other(err),
                        })
                }

                async fn update_ttl(
                    &self,
                    _session_key: &SessionKey,
                    _ttl: &Duration,
                ) -> Result<(), anyhow::Error> {
                    Ok(())
                }

                async fn delete(&self, session_key: &SessionKey) -> Result<(), anyhow::Error> {
                    self.map.lock().unwrap().remove(session_key.as_ref());
                    Ok(())
                }
            }
        }
    };
}

// The same source compiles against the published versions, so applications can have such stores.
custom_store!(
    for_ours,
    actix_session,
    actix_session::storage::generate_session_key()
);
#[allow(dead_code, reason = "that it compiles is all")]
mod published {
    // (0.9 has no public function that draws a key.)
    custom_store!(for_0_9, published_0_9, "k".repeat(64).try_into().unwrap());
    custom_store!(
        for_0_10,
        published_0_10,
        published_0_10::storage::generate_session_key()
    );
    custom_store!(
        for_0_11,
        published_0_11,
        published_0_11::storage::generate_session_key()
    );
}

use for_ours::Custom;

async fn works(server: &Server) {
    let mut client = Client::default();
    client.send(server, insert(&values())).await;
    assert_eq!(client.read(server).await, values());
    client
        .send(server, json!([["remove", "v"], ["count", "n"]]))
        .await;
    client.send(server, json!([["count", "n"]])).await;
    let mut expected = values();
    expected.remove("v");
    expected.insert("n".into(), json!(2));
    assert_eq!(client.read(server).await, expected);

    let mut before = client.clone();
    client.send(server, json!([["login", "ferris"]])).await;
    assert_eq!(before.read(server).await, Entries::new());
    let answer = client.send(server, json!([["insert", "a", 1]])).await;
    assert_eq!(answer.before, expected);
    assert_eq!(answer.principal.as_deref(), Some("ferris"));
    before = client.clone();
    client.send(server, json!([["renew"]])).await;
    assert_eq!(before.read(server).await, Entries::new());
    let answer = client.send(server, json!([["clear"]])).await;
    assert_eq!(answer.principal.as_deref(), Some("ferris"));
    let answer = client.send(server, json!([["insert", "b", 1]])).await;
    assert_eq!((answer.before, answer.principal), (Entries::new(), None));

    let mut kept = client.clone();
    client.send(server, json!([["purge"]])).await;
    assert_eq!(client.cookie, None);
    assert_eq!(kept.read(server).await, Entries::new());
}

#[actix_web::test]
async fn a_store_of_five_methods_works_unchanged() {
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let store = Custom::default();
        works(&ours(store.clone(), |b| b.wire_format(format)).await).await;
        works(&ours(Arc::new(store.clone()), |b| b.wire_format(format)).await).await;
        works(&ours(std::rc::Rc::new(store.clone()), |b| b.wire_format(format)).await).await;
        works(&ours(Box::new(store.clone()), |b| b.wire_format(format)).await).await;
        // Every session was purged in the end.
        assert_eq!(store.map.lock().unwrap().len(), 0);
    }
}

/// Such a store saves an ended session again. Nobody gets its new key, and its record is deleted.
#[actix_web::test]
async fn what_ended_does_not_come_back_through_a_store_that_saves_it_anew() {
    let store = Custom::default();
    let inner = Racing {
        inner: store.clone(),
    };
    let server = ours(inner, |builder| builder).await;
    let mut client = Client::default();
    client.send(&server, json!([["insert", "n", 1]])).await;
    let answer = client.send(&server, json!([["insert", "n", 2]])).await;
    assert_eq!(answer.set_cookie, None);
    assert_eq!(store.map.lock().unwrap().len(), 0);
}

/// Another request's purge comes in just before each update.
struct Racing {
    inner: Custom,
}

impl SessionStore for Racing {
    async fn load(&self, key: &SessionKey) -> Result<Option<HashMap<String, String>>, LoadError> {
        self.inner.load(key).await
    }

    async fn save(
        &self,
        state: HashMap<String, String>,
        ttl: &Duration,
    ) -> Result<SessionKey, SaveError> {
        self.inner.save(state, ttl).await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: HashMap<String, String>,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        self.inner.delete(&key).await.map_err(UpdateError::Other)?;
        self.inner.update(key, state, ttl).await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        self.inner.update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.inner.delete(key).await
    }
}

/// Forwards the five published methods, as wrappers for metrics and the like do.
#[derive(Clone)]
struct Wrapper<S>(S);

impl<S: SessionStore> SessionStore for Wrapper<S> {
    async fn load(&self, key: &SessionKey) -> Result<Option<HashMap<String, String>>, LoadError> {
        self.0.load(key).await
    }

    async fn save(
        &self,
        state: HashMap<String, String>,
        ttl: &Duration,
    ) -> Result<SessionKey, SaveError> {
        self.0.save(state, ttl).await
    }

    async fn update(
        &self,
        key: SessionKey,
        state: HashMap<String, String>,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        self.0.update(key, state, ttl).await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        self.0.update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.0.delete(key).await
    }
}

#[actix_web::test]
async fn a_wrapper_of_our_stores_works() {
    works(&ours(Wrapper(MemorySessionStore::new()), |b| b).await).await;
    works(&ours(Wrapper(redis().await), |b| b).await).await;
}

#[actix_web::test]
async fn metadata_survives_a_wrapper() {
    let clock = ManualClock::new();
    let memory = MemorySessionStore::builder().clock(clock.clone()).build();
    let redis = RedisSessionStore::builder(redis_url())
        .clock(clock.clone())
        .build();
    let redis = redis.await.unwrap();
    for format in [WireFormat::V1, WireFormat::V0_11] {
        metadata_survives(memory.clone(), &clock, format).await;
        metadata_survives(redis.clone(), &clock, format).await;
    }
}

async fn metadata_survives<S: SessionStore + Clone + 'static>(
    store: S,
    clock: &ManualClock,
    format: WireFormat,
) {
    let configured = |absolute: Duration| {
        let clock = clock.clone();
        move |builder| builder_with(builder, clock, absolute, format)
    };
    let wrapped = ours(Wrapper(store.clone()), configured(Duration::hours(1))).await;
    // A later, longer policy does not move an end that is set.
    let bare = {
        let clock = clock.clone();
        ours(store, move |builder| {
            builder_with(builder, clock, Duration::days(9), format)
        })
        .await
    };
    let minutes = |n: u64| clock.advance(StdDuration::from_secs(60 * n));

    let mut client = Client::default();
    client.send(&wrapped, json!([["insert", "n", 1]])).await;
    minutes(30);
    client.send(&wrapped, json!([["login", "ferris"]])).await;
    for (server, name) in [(&wrapped, "a"), (&bare, "b"), (&wrapped, "c"), (&bare, "d")] {
        minutes(10);
        let answer = client.send(server, json!([["insert", name, 1]])).await;
        assert_eq!(answer.principal.as_deref(), Some("ferris"), "{format:?}");
        client.send(server, json!([["renew"]])).await;
    }
    minutes(19);
    for server in [&wrapped, &bare] {
        let answer = client.send(server, json!([])).await;
        let expected = json!({"n": 1, "a": 1, "b": 1, "c": 1, "d": 1});
        assert_eq!(answer.before, entries(expected), "{format:?}");
        assert_eq!(answer.principal.as_deref(), Some("ferris"), "{format:?}");
    }
    minutes(1);
    for server in [&wrapped, &bare] {
        let answer = client.clone().send(server, json!([])).await;
        assert_eq!(answer.before, Entries::new(), "{format:?}");
        assert_eq!(answer.principal, None, "{format:?}");
    }
}

fn builder_with<S: SessionStore>(
    builder: actix_session::config::SessionMiddlewareBuilder<S>,
    clock: ManualClock,
    absolute: Duration,
    format: WireFormat,
) -> actix_session::config::SessionMiddlewareBuilder<S> {
    settings(builder, Seal::Private, format)
        .clock(clock)
        .absolute_timeout(absolute)
}
