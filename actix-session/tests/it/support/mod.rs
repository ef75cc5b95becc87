//! What the integration tests share.
//!
//! A test is written once, for any [`TestStore`], and [`on_each_store!`] instantiates it for the memory
//! store and for a real Redis. It drives requests step by step: [`Browser::begin`] is a request
//! whose session is loaded and whose handler stands still; [`Flight::finish`] lets it answer. So
//! every interleaving is written down as it happens, and none depends on time.

mod actor;
mod browser;
pub(crate) mod load;
mod spy;
mod sql;
mod stores;
mod wire;

pub(crate) use self::actor::*;
pub(crate) use self::sql::*;
pub(crate) use self::{
    browser::{Answer, Browser, Flight, Site, count, may_fail, stop},
    spy::{DETAIL, Spy},
    stores::{Dump, Memory, PATIENCE, Redis, TestStore, connect, expected, millis, random_name},
    wire::{Proxy, Server, http_get},
};

/// Instantiates generic tests for the memory store, for Redis and for the SQL stores of this build.
macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => {
        mod on_memory {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::support::Memory as crate::support::TestStore>::start().await).await;
            })+
        }
        mod on_redis {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::support::Redis as crate::support::TestStore>::start().await).await;
            })+
        }
        mod on_redis_actor {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::support::RedisActor as crate::support::TestStore>::start().await).await;
            })+
        }
        mod on_sqlite {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::support::Sqlite as crate::support::TestStore>::start().await).await;
            })+
        }
        mod on_postgres {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::support::Postgres as crate::support::TestStore>::start().await).await;
            })+
        }
        mod on_mysql {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::support::MySql as crate::support::TestStore>::start().await).await;
            })+
        }
    };
}
pub(crate) use on_each_store;
