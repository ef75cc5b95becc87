//! Stands in for `pool.rs` in a build without `redis-pool`, which never makes a pool.

use std::time::Duration;

use redis::{ErrorKind, RedisError, aio::MultiplexedConnection};

#[derive(Clone)]
#[allow(dead_code, reason = "never made")]
pub(crate) struct Pool;

pub(super) type Lent = MultiplexedConnection;

impl Pool {
    #[allow(clippy::unused_async, reason = "as the pool that it stands in for")]
    pub(super) async fn lend(&self, _: Duration) -> Result<Lent, RedisError> {
        let message = "a pool needs the feature redis-pool";
        Err((ErrorKind::InvalidClientConfig, message).into())
    }

    pub(super) async fn open(&self) -> Result<Lent, RedisError> {
        self.lend(Duration::ZERO).await
    }

    #[allow(clippy::unused_self, reason = "as the pool that it stands in for")]
    pub(super) fn era(&self) -> u64 {
        0
    }

    #[allow(clippy::unused_self, reason = "as the pool that it stands in for")]
    pub(super) fn leave(&self, _: u64) {}
}

pub(super) fn discard(_: Lent) {}
