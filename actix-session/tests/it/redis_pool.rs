//! Connections from a pool of the application's.

use std::time::Duration;

use actix_session::{Session, storage::RedisSessionStore};
use deadpool_redis::{Config, PoolConfig, Runtime};
use servers::RedisServer;

use crate::support::{Browser, count, load::Load, soon};

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
async fn a_pool_that_gives_no_connection_is_a_refusal_in_bounded_time() {
    let server = RedisServer::start().unwrap();
    let pool = pool(&server, 1);
    let builder = RedisSessionStore::builder_pooled(pool.clone());
    let quick = builder.connect_timeout(Duration::from_millis(100));
    let here = Browser::with(quick.build().await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    let late = here.begin().await;
    let taken = pool.get().await.unwrap();
    soon(here.visit(count)).await.assert_opaque();
    // Refused, hence not done.
    count(&late);
    late.renew();
    soon(late.finish()).await.assert_opaque();
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
