//! Servers of several processes: one of each kind for all tests of this one.

use std::sync::{LazyLock, OnceLock};

use servers::{PgBouncer, PostgresServer, RedisCluster, RedisSentinel, resp::lines_of};

/// One master with its sentinels; nobody fails it over.
pub(crate) fn sentinel() -> &'static RedisSentinel {
    static SHARED: OnceLock<RedisSentinel> = OnceLock::new();

    SHARED.get_or_init(patient_sentinel)
}

/// A busy machine is no reason for a failover.
fn patient_sentinel() -> RedisSentinel {
    let shared = RedisSentinel::start().unwrap();
    for url in shared.sentinel_urls() {
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        let name = RedisSentinel::MASTER;
        let set = format!("SENTINEL SET {name} down-after-milliseconds 600000");
        assert_eq!(lines_of(port, &set).unwrap(), ["+OK"]);
    }
    shared
}

/// A cluster; its masters stay the first three, however busy the machine is.
pub(crate) fn cluster_urls() -> Vec<String> {
    static SHARED: OnceLock<RedisCluster> = OnceLock::new();

    let config = [("cluster-node-timeout", "600000")];
    let start = || RedisCluster::start_with(&config).unwrap();
    SHARED.get_or_init(start).urls()
}

/// PostgreSQL behind a pooler that gives each transaction another connection.
pub(crate) fn pooled_url() -> String {
    static POOLER: LazyLock<PgBouncer> = LazyLock::new(|| {
        let url = PostgresServer::shared_url().unwrap();
        PgBouncer::before(&url).unwrap()
    });
    format!("{}{UNPREPARED}", POOLER.url())
}

/// What the documentation recommends for such poolers.
pub(crate) const UNPREPARED: &str = "?statement-cache-capacity=0";
