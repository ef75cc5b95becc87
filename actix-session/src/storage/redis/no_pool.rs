//! Stands in for `pool.rs` in a build without `redis-pool`: nobody can make a pool there.

use std::time::Duration;

use redis::{RedisError, aio::MultiplexedConnection};

#[derive(Clone)]
pub(crate) enum Pool {}

pub(super) type Lent = MultiplexedConnection;

impl Pool {
    #[allow(clippy::unused_async, reason = "as the pool that it stands in for")]
    pub(super) async fn lend(&self, _: Duration) -> Result<Lent, RedisError> {
        match *self {}
    }
}

pub(super) fn discard(_: Lent) {}
