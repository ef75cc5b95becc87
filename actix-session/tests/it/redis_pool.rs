//! Connections from a pool of the application's.

use std::time::Duration;

use actix_session::{
    Session,
    storage::{RedisSessionStore, SessionStore as _},
};
use actix_web::{cookie::time, http::StatusCode};
use deadpool_redis::{Config, PoolConfig, Runtime};
use servers::RedisServer;
use tokio::time::timeout;

use crate::support::{Answer, Browser, PATIENCE, connect, count, fill_store, load::Load, soon};

fn pool(server: &RedisServer, size: usize) -> deadpool_redis::Pool {
    let mut config = Config::from_url(server.url());
    config.pool = Some(PoolConfig::new(size));
    config.create_pool(Some(Runtime::Tokio1)).unwrap()
}

#[actix_web::test]
async fn a_pool_heals_when_the_server_restarts() {
    let mut server =
        RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "always")]).unwrap();
    let store = RedisSessionStore::new_pooled(pool(&server, 4))
        .await
        .unwrap();
    let load = Load::start(store.clone()).await;
    load.works_for(100).await;
    server.restart().unwrap();
    load.works_for(100).await;
    load.stop().await.assert_whole();
    let here = Browser::with(store).await;
    here.visit(count).await.assert_sets_cookie();
    server.restart().unwrap();
    here.visit(count).await.assert_ok();
    here.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(here.number("n").await, Some(2));
}

#[actix_web::test]
async fn a_store_starts_before_the_server_of_its_pool() {
    let mut server = RedisServer::start().unwrap();
    server.kill();
    let store = soon(RedisSessionStore::new_pooled(pool(&server, 1))).await;
    let here = Browser::with(store.unwrap()).await;
    soon(here.visit(count)).await.assert_opaque();
    server.restart().unwrap();
    here.visit(count).await.assert_sets_cookie();
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    answer.assert_no_cookie();
}

#[actix_web::test]
async fn a_pool_that_gives_no_connection_is_a_refusal_in_bounded_time() {
    let server = RedisServer::start().unwrap();
    let pool = pool(&server, 1);
    let builder = RedisSessionStore::builder_pooled(pool.clone());
    let quick = builder.connect_timeout(Duration::from_millis(100));
    let here = Browser::with(quick.build().await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    let late = here.begin().await;
    let taken = pool.get().await.unwrap();
    assert_unavailable(&soon(here.visit(count)).await);
    // Refused, hence not done.
    count(&late);
    late.renew();
    assert_unavailable(&soon(late.finish()).await);
    drop(taken);
    here.visit(count).await.assert_ok();
    assert_eq!(here.number("n").await, Some(2));
}

/// By default, a request waits no longer than until it can still say so.
#[actix_web::test]
async fn a_pool_that_gives_no_connection_is_a_refusal_and_nothing_unknown() {
    let server = RedisServer::start().unwrap();
    let pool = pool(&server, 1);
    let store = RedisSessionStore::new_pooled(pool.clone()).await.unwrap();
    let here = Browser::with(store).await;
    here.visit(count).await.assert_sets_cookie();
    let late = here.begin().await;
    let taken = pool.get().await.unwrap();
    assert_unavailable(&here.visit(count).await);
    count(&late);
    late.renew();
    assert_unavailable(&late.finish().await);
    drop(taken);
    here.visit(count).await.assert_ok();
    assert_eq!(here.number("n").await, Some(2));
}

#[actix_web::test]
async fn a_connection_whose_answer_is_late_goes_to_nobody_else() {
    let mut server = RedisServer::start().unwrap();
    let builder = RedisSessionStore::builder_pooled(pool(&server, 1));
    let quick = builder.command_timeout(Duration::from_millis(200));
    let here = Browser::with(quick.build().await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    let other = here.fork();
    other.forget();
    other
        .visit(|s| s.insert("n", 100).unwrap())
        .await
        .assert_ok();
    server.pause().unwrap();
    soon(here.visit(count)).await.assert_opaque();
    server.resume().unwrap();
    assert_eq!(other.number("n").await, Some(100));
    assert_eq!(here.number("n").await, Some(1));
}

/// Says by which number the server knows the connection that the pool lends.
async fn id_in(pool: &deadpool_redis::Pool) -> i64 {
    let mut connection = pool.get().await.unwrap();
    let mut id = redis::cmd("CLIENT");
    id.arg("ID").query_async(&mut connection).await.unwrap()
}

#[actix_web::test]
async fn whoever_gives_up_costs_an_application_no_connection() {
    let server = RedisServer::start().unwrap();
    let mut redis = connect(&server.url()).await;
    let pool = pool(&server, 1);
    let builder = RedisSessionStore::builder_pooled(pool.clone());
    let store = builder.command_timeout(PATIENCE).build().await.unwrap();
    let key = fill_store(&store, 0).await;
    let before = id_in(&pool).await;
    let pause = |command: &str| redis::cmd("CLIENT").arg(command).to_owned();
    let mut stop = pause("PAUSE");
    stop.arg(60_000)
        .arg("WRITE")
        .exec_async(&mut redis)
        .await
        .unwrap();
    let extending = store.update_ttl(&key, &time::Duration::HOUR);
    let limit = Duration::from_millis(100);
    timeout(limit, extending).await.unwrap_err();
    pause("UNPAUSE").exec_async(&mut redis).await.unwrap();
    assert_eq!(soon(id_in(&pool)).await, before);
}

#[actix_web::test]
async fn whoever_gives_up_while_the_pool_looks_at_a_connection_does_not_close_it() {
    let mut server = RedisServer::start().unwrap();
    let pool = pool(&server, 1);
    let store = RedisSessionStore::new_pooled(pool.clone()).await.unwrap();
    let key = fill_store(&store, 0).await;
    let before = id_in(&pool).await;
    server.pause().unwrap();
    let limit = Duration::from_millis(100);
    timeout(limit, store.load(&key)).await.unwrap_err();
    server.resume().unwrap();
    assert_eq!(soon(id_in(&pool)).await, before);
}
