//! What the integration tests share.
//!
//! A test is written once, for any [`TestStore`], and [`on_each_store!`] instantiates it for every
//! store. It drives requests step by step: [`Browser::begin`] is a request whose session is loaded
//! and whose handler stands still; [`Flight::finish`] lets it answer. So every interleaving is
//! written down as it happens, and none depends on time.

mod actor;
mod acts;
mod answer;
mod browser;
mod in_memory;
mod key_value;
pub(crate) mod load;
mod proxy;
mod random;
mod redis;
mod shared;
mod spy;
mod sql;
mod stores;
mod way;
mod wire;

pub(crate) use crate::attacks::arena::InCookie;

pub(crate) use self::{
    actor::RedisActor,
    acts::{
        alone, aside, assert_passed, count, fill, guest, opened, private, serve_count, soon,
        within_patience,
    },
    answer::Answer,
    browser::{Browser, Flight, Site, may_fail, stop},
    in_memory::InMemory,
    key_value::KeyValue,
    proxy::Proxy,
    random::Random,
    redis::{Cluster, HidingCluster, Redis, RedisPool, Sentinel, connect, hidden},
    spy::{DETAIL, Spy},
    sql::{MySql, Pooled, Postgres, SqlTestStore, Sqlite, fill_store, on_each_database},
    stores::{Dump, Memory, PATIENCE, TOMBSTONE, TestStore, expected, millis, random_name},
    way::Way,
    wire::{HttpAnswer, Server, http_get},
};

/// Instantiates generic tests for every store. A test that is in no list is dead code.
macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => {
        $crate::support::on_store!(on_memory Memory: $($test)+);
        $crate::support::on_store!(on_key_value KeyValue: $($test)+);
        $crate::support::on_store!(on_redis Redis: $($test)+);
        $crate::support::on_store!(on_redis_actor RedisActor: $($test)+);
        $crate::support::on_store!(on_redis_pool RedisPool: $($test)+);
        $crate::support::on_store!(on_sentinel Sentinel: $($test)+);
        $crate::support::on_store!(on_cluster Cluster: $($test)+);
        $crate::support::on_store!(on_hiding_cluster HidingCluster: $($test)+);
        $crate::support::on_store!(on_sqlite Sqlite: $($test)+);
        $crate::support::on_store!(on_postgres Postgres: $($test)+);
        $crate::support::on_store!(on_mysql MySql: $($test)+);
    };
}
pub(crate) use on_each_store;

/// The same for stores that have an index: the store of 0.9 stays on its thread, and has none. A pool
/// and Sentinel differ only in where a connection comes from.
macro_rules! on_each_index {
    ($($test:ident),+ $(,)?) => {
        $crate::support::on_store!(on_memory Memory: $($test)+);
        $crate::support::on_store!(on_key_value KeyValue: $($test)+);
        $crate::support::on_store!(on_redis Redis: $($test)+);
        $crate::support::on_store!(on_cluster Cluster: $($test)+);
        $crate::support::on_store!(on_sqlite Sqlite: $($test)+);
        $crate::support::on_store!(on_postgres Postgres: $($test)+);
        $crate::support::on_store!(on_mysql MySql: $($test)+);
    };
}
pub(crate) use on_each_index;

/// The same as for every store, and PostgreSQL behind a pooler: for tests of what happens between a statement and the
/// next.
macro_rules! on_each_store_and_pooler {
    ($($test:ident),+ $(,)?) => {
        $crate::support::on_each_store!($($test),+);
        $crate::support::on_store!(on_pgbouncer Pooled: $($test)+);
    };
}
pub(crate) use on_each_store_and_pooler;

/// The same as for every store, and for sessions whose state is in the cookie.
macro_rules! on_each_store_and_in_cookies {
    ($($test:ident),+ $(,)?) => {
        $crate::support::on_each_store!($($test),+);
        $crate::support::on_store!(in_cookies InCookie: $($test)+);
    };
}
pub(crate) use on_each_store_and_in_cookies;

/// Instantiates generic tests for one store.
macro_rules! on_store {
    ($module:ident $store:ident: $($test:ident)+) => {
        mod $module {
            #[allow(unused_imports, reason = "of Redis there are several kinds")]
            use $crate::support::TestStore as _;

            $(#[actix_web::test]
            async fn $test() {
                super::$test($crate::support::$store::start().await).await;
            })+
        }
    };
}
pub(crate) use on_store;
