//! What the integration tests share.
//!
//! A test is written once, for any [`Bench`], and [`on_each_store!`] instantiates it for the memory
//! store and for a real Redis. It drives requests step by step: [`Browser::begin`] is a request
//! whose session is loaded and whose handler stands still; [`Flight::finish`] lets it answer. So
//! every interleaving is written down as it happens, and none depends on time.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file uses a part of it"
)]

mod actor;
mod bench;
mod browser;
mod spy;
mod sql;
mod wire;

#[cfg(feature = "redis-actor-session")]
pub(crate) use self::actor::*;
#[cfg(any(
    feature = "sqlite-session",
    feature = "postgres-session",
    feature = "mysql-session"
))]
pub(crate) use self::sql::*;
pub(crate) use self::{
    bench::{Bench, Dump, Memory, PATIENCE, Redis, connect, expected, millis, random_name},
    browser::{Answer, Browser, Flight, Site, count, may_fail, stop},
    spy::{DETAIL, Spy},
    wire::{Proxy, Server, http_get},
};

/// Instantiates generic tests for the memory store, for Redis and for the SQL stores of this build.
macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => {
        mod on_memory {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::common::Memory as crate::common::Bench>::start().await).await;
            })+
        }
        mod on_redis {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::common::Redis as crate::common::Bench>::start().await).await;
            })+
        }
        #[cfg(feature = "redis-actor-session")]
        mod on_redis_actor {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::common::RedisActor as crate::common::Bench>::start().await).await;
            })+
        }
        #[cfg(feature = "sqlite-session")]
        mod on_sqlite {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::common::Sqlite as crate::common::Bench>::start().await).await;
            })+
        }
        #[cfg(feature = "postgres-session")]
        mod on_postgres {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::common::Postgres as crate::common::Bench>::start().await).await;
            })+
        }
        #[cfg(feature = "mysql-session")]
        mod on_mysql {
            $(#[actix_web::test] async fn $test() {
                super::$test(<crate::common::MySql as crate::common::Bench>::start().await).await;
            })+
        }
    };
}
pub(crate) use on_each_store;
