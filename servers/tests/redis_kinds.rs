//! A cluster and a Sentinel that start, fail over, and end.
#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::time::{Duration, Instant};

use servers::{RedisCluster, RedisSentinel, resp::lines_of, wait};

#[test]
fn a_cluster_distributes_its_slots_and_a_replica_takes_over() {
    let mut cluster = RedisCluster::start().unwrap();
    assert_eq!(cluster.urls().len(), 6);
    assert_eq!(cluster.owner(0, 5).unwrap(), 0);
    assert_eq!(cluster.owner(16_383, 0).unwrap(), 2);
    cluster.fail_over(3).unwrap();
    assert_eq!(cluster.owner(0, 1).unwrap(), 3);
    // A slot moves with its content: `foo` is in slot 12,182.
    let port = cluster.nodes()[2].port();
    assert_eq!(lines_of(port, "SET foo bar").unwrap(), ["+OK"]);
    cluster.begin_moving(12_182, 2, 1).unwrap();
    cluster.move_keys(12_182, 2, 1).unwrap();
    cluster.end_moving(12_182, 2, 1).unwrap();
    assert_eq!(cluster.owner(12_182, 1).unwrap(), 1);
    let port = cluster.nodes()[1].port();
    assert_eq!(lines_of(port, "GET foo").unwrap(), ["$3", "bar"]);
}

#[test]
fn sentinels_choose_the_replica_when_the_master_is_gone() {
    let mut sentinel = RedisSentinel::start().unwrap();
    assert_eq!(sentinel.sentinel_urls().len(), 3);
    let first = sentinel.servers()[0].port();
    assert_eq!(sentinel.master_port().unwrap(), first);
    sentinel.servers()[0].kill();
    let started = Instant::now();
    while sentinel.master_port().unwrap() == first {
        assert!(started.elapsed() < wait::LIMIT, "no failover");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(
        sentinel.master_port().unwrap(),
        sentinel.servers()[1].port()
    );
}
