//! Connections for jobs that wait for replicas.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use redis::RedisError;
use tokio::time::Instant;

use super::{Job, Outcome, Target, Timeouts, Topology};

/// How many jobs wait for replicas at once on one runtime: more of them wait in line.
const WAYS: usize = 16;

/// Waiting blocks a connection, so that each job takes the one with the fewest others on it. Those that
/// nobody needs are never made.
#[derive(Clone)]
pub(super) struct Ways(Arc<[Way]>);

struct Way {
    topology: Topology,
    busy: AtomicUsize,
}

/// A job is under way.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn with(busy: &'a AtomicUsize) -> Self {
        busy.fetch_add(1, Ordering::Relaxed);
        Self(busy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ways {
    /// Ways to the same servers.
    ///
    /// # Errors
    /// The client library cannot connect to an address of this kind.
    pub(super) fn beside(
        topology: &Topology,
        target: &Target,
        timeouts: Timeouts,
    ) -> Result<Self, RedisError> {
        // A pool lends each job a connection of its own.
        let most = if matches!(target, Target::Pool(_)) {
            1
        } else {
            WAYS
        };
        let way = |_| {
            Ok(Way {
                topology: topology.beside(target, timeouts)?,
                busy: AtomicUsize::new(0),
            })
        };
        (0..most).map(way).collect::<Result<_, _>>().map(Self)
    }

    pub(super) async fn run_until(
        &self,
        job: &Job<'_>,
        deadline: Instant,
    ) -> Result<Outcome, RedisError> {
        let free = self
            .0
            .iter()
            .min_by_key(|way| way.busy.load(Ordering::Relaxed));
        let way = free.expect("there is at least one way");
        let _busy = Busy::with(&way.busy);
        way.topology.run_until(job, deadline).await
    }
}
