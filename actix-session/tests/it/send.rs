//! A store's calls may be made from any thread: programs put stores behind a trait of their own whose
//! futures are `Send`, as those of the published stores are.

use std::collections::HashMap;

use actix_session::storage::{
    CookieSessionStore, MemorySessionStore, MySqlSessionStore, PostgresSessionStore,
    RedisSessionStore, SessionStore as _, SqliteSessionStore,
};
use actix_web::cookie::time::Duration;
use servers::RedisServer;

fn send<F: Future + Send>(call: F) -> F {
    call
}

/// What is not `Send` does not compile.
macro_rules! calls {
    ($store:expr) => {{
        let (store, ttl) = ($store, Duration::minutes(1));
        let state = HashMap::from([("n".to_owned(), "1".to_owned())]);
        let key = send(store.save(state.clone(), &ttl)).await.unwrap();
        let key = send(store.update(key, state.clone(), &ttl)).await.unwrap();
        send(store.update_ttl(&key, &ttl)).await.unwrap();
        let stored = send(store.load(&key)).await.unwrap().unwrap();
        assert_eq!(stored["n"], "1");
        send(store.delete(&key)).await.unwrap();
    }};
}

#[actix_web::test]
async fn each_call_of_a_store_is_send() {
    calls!(MemorySessionStore::new());
    calls!(CookieSessionStore::default());
    calls!(CookieSessionStore::default().with_revocation(MemorySessionStore::new()));
    let server = RedisServer::start().unwrap();
    calls!(RedisSessionStore::new(server.url()).await.unwrap());
}

#[actix_web::test]
async fn each_way_to_make_a_store_is_send() {
    let server = RedisServer::start().unwrap();
    let pool = || {
        let config = deadpool_redis::Config::from_url(server.url());
        config.create_pool(None).unwrap()
    };
    let (named, pooled) = (
        RedisSessionStore::builder(server.url()),
        RedisSessionStore::builder_pooled(pool()),
    );
    let keygen = |key: &str| format!("s:{key}");
    send(RedisSessionStore::new(server.url())).await.unwrap();
    send(RedisSessionStore::new_pooled(pool())).await.unwrap();
    send(named.cache_keygen(keygen).build()).await.unwrap();
    send(pooled.cache_keygen(keygen).build()).await.unwrap();
    let nowhere = "127.0.0.1:1/sessions";
    send(SqliteSessionStore::new("sqlite::memory:"))
        .await
        .unwrap();
    drop(send(PostgresSessionStore::new(format!(
        "postgres://{nowhere}"
    ))));
    drop(send(MySqlSessionStore::new(format!("mysql://{nowhere}"))));
}
