//! One failure for all who waited for the same thing.

use std::sync::Mutex;

use redis::RedisError;

use crate::sync::lock;

/// How often something has failed that several jobs wait for, and why it has failed last.
#[derive(Default)]
pub(super) struct LastFailure(Mutex<(u64, Option<RedisError>)>);

impl LastFailure {
    pub(super) fn count(&self) -> u64 {
        lock(&self.0).0
    }

    pub(super) fn note(&self, error: &RedisError) {
        let mut last = lock(&self.0);
        *last = (last.0 + 1, Some(error.clone()));
    }

    /// Why it has failed, if it has since it was counted.
    pub(super) fn since(&self, count: u64) -> Option<RedisError> {
        let last = lock(&self.0);
        last.1.clone().filter(|_| last.0 != count)
    }
}
