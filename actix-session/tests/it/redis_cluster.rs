//! A real cluster: keys in slots, failover, and slots on the move.

use std::{collections::BTreeSet, time::Duration};

use actix_session::{
    Session, SessionManager,
    storage::{RedisSessionStore, RedisSessionStoreBuilder, SessionKey, SessionStore as _},
};
use servers::{RedisCluster, RedisServer, resp::lines_of};

use crate::support::{Browser, aside, count, hidden, load::Load};

/// Every name in the cluster, on whichever master it is.
fn names(cluster: &mut RedisCluster) -> BTreeSet<String> {
    let ports: Vec<u16> = cluster.nodes().iter().map(|node| node.port()).collect();
    let mut names = BTreeSet::new();
    for port in ports {
        let told = lines_of(port, "KEYS *").unwrap();
        names.extend(told.into_iter().skip(2).step_by(2));
    }
    names
}

fn slot(cluster: &mut RedisCluster, name: &str) -> u16 {
    let port = cluster.nodes()[0].port();
    let told = lines_of(port, &format!("CLUSTER KEYSLOT {name}")).unwrap();
    told[0][1..].parse().unwrap()
}

async fn does_everything(store: RedisSessionStore, name: &str) {
    let browser = Browser::with(store).await;
    for n in 1..40 {
        browser.visit(count).await.assert_ok();
        assert_eq!(browser.number("n").await, Some(n), "{name}");
        let (old, late) = (browser.fork(), browser.begin().await);
        browser.visit(Session::renew).await.assert_sets_cookie();
        // A commit in flight is forwarded, and the old key opens nothing.
        late.insert("late", n).unwrap();
        late.finish().await.assert_ok().assert_no_cookie();
        assert!(old.is_nobody().await, "{name}");
        assert_eq!(browser.number("late").await, Some(n), "{name}");
    }
    // An ending follows the redirect too.
    let old = browser.fork();
    browser
        .visit(|s| s.login("user-42").unwrap())
        .await
        .assert_sets_cookie();
    old.visit(Session::purge)
        .await
        .assert_ok()
        .assert_removes_cookie();
    assert!(browser.is_nobody().await, "{name}");
}

#[actix_web::test]
async fn sessions_live_in_every_slot_under_every_kind_of_name() {
    let mut cluster = RedisCluster::start().unwrap();
    let urls = cluster.urls();
    let list = urls.join(",").replace("redis://", "");
    let build = async |builder: actix_session::storage::RedisSessionStoreBuilder| {
        builder.build().await.unwrap()
    };
    let by_url = RedisSessionStore::builder(format!("redis+cluster://{list}"));
    does_everything(build(by_url).await, "plain").await;
    let one_node = RedisSessionStore::builder_cluster([urls[4].clone()]);
    does_everything(build(one_node.key_prefix("shop:")).await, "prefix").await;
    let builder = || RedisSessionStore::builder_cluster(urls.clone());
    let tagged = builder().cache_keygen(|key| format!("s:{{{key}}}:x"));
    does_everything(build(tagged).await, "tagged").await;
    let one_slot = builder().cache_keygen(|key| format!("{{shop}}:{key}"));
    does_everything(build(one_slot).await, "one slot").await;
    does_everything(build(builder().hashed_keys()).await, "hashed").await;
    // Two steps a renewal: the key cannot be drawn for a slot.
    does_everything(build(builder().cache_keygen(hidden)).await, "hidden").await;
    // Nothing but redirects and indexes is left: neither a record, nor half of a renewal.
    let left = names(&mut cluster);
    let is_beside = |name: &String| name.ends_with(":moved") || name.ends_with(":sessions");
    assert!(left.iter().all(is_beside), "{left:?}");
}

#[actix_web::test]
async fn a_renewed_record_lies_in_the_old_ones_slot() {
    let mut cluster = RedisCluster::start().unwrap();
    let builder = || RedisSessionStore::builder_cluster(cluster.urls());
    let plain = builder().build().await.unwrap();
    let hashed = builder().hashed_keys().build().await.unwrap();
    for n in 0..10 {
        let store = if n % 2 == 0 { &plain } else { &hashed };
        let browser = Browser::with(store.clone()).await;
        browser.visit(count).await.assert_sets_cookie();
        let before = names(&mut cluster);
        browser.visit(Session::renew).await.assert_sets_cookie();
        let after = names(&mut cluster);
        let gone: Vec<&String> = before.difference(&after).collect();
        let new: Vec<&String> = after.difference(&before).collect();
        assert_eq!((gone.len(), new.len()), (1, 2), "{gone:?} {new:?}");
        let wanted = slot(&mut cluster, gone[0]);
        for name in new {
            assert_eq!(slot(&mut cluster, name), wanted);
        }
    }
}

/// The only index in the cluster, and the records.
fn index_and_records(cluster: &mut RedisCluster) -> (String, Vec<String>) {
    let mut names: Vec<String> = names(cluster).into_iter().collect();
    names.retain(|name| !name.ends_with(":moved"));
    let is_index = |name: &String| name.ends_with(":sessions");
    let (mut indexes, records): (Vec<_>, Vec<_>) = names.into_iter().partition(is_index);
    assert_eq!(indexes.len(), 1, "{indexes:?}");
    (indexes.remove(0), records)
}

#[actix_web::test]
async fn a_users_records_lie_in_the_slot_of_their_index() {
    lie_with_their_index(|builder| builder).await;
    lie_with_their_index(RedisSessionStoreBuilder::hashed_keys).await;
}

async fn lie_with_their_index(
    named: impl FnOnce(RedisSessionStoreBuilder) -> RedisSessionStoreBuilder,
) {
    let mut cluster = RedisCluster::start().unwrap();
    let builder = named(RedisSessionStore::builder_cluster(cluster.urls()));
    let store = builder.key_prefix("shop:").build().await.unwrap();
    let login = |s: &Session| s.login("user-42").unwrap();
    let [guest, renewed, new] = [
        Browser::with(store.clone()).await,
        Browser::with(store.clone()).await,
        Browser::with(store.clone()).await,
    ];
    // The record of a visitor lies anywhere.
    guest.visit(count).await.assert_sets_cookie();
    guest.visit(login).await.assert_sets_cookie();
    renewed.visit(login).await.assert_sets_cookie();
    renewed.visit(Session::renew).await.assert_sets_cookie();
    new.visit(login).await.assert_sets_cookie();
    let (index, records) = index_and_records(&mut cluster);
    let wanted = slot(&mut cluster, &index);
    let owner = cluster.owner(wanted, 0).unwrap();
    let port = cluster.nodes()[owner].port();
    assert_eq!(records.len(), 3);
    for name in &records {
        assert_eq!(slot(&mut cluster, name), wanted);
        let left = lines_of(port, &format!("PTTL {name}")).unwrap();
        let left: u32 = left[0][1..].parse().unwrap();
        assert!(left > 86_000_000, "longer than the grace: {left}");
    }
    assert_eq!(lines_of(port, &format!("HLEN {index}")).unwrap(), [":3"]);

    // A login does not wait until the slot has been moved: its record lies elsewhere.
    let sessions = SessionManager::of_store(&store);
    let to = (owner + 1) % 3;
    cluster.begin_moving(wanted, owner, to).unwrap();
    let elsewhere = Browser::with(store.clone()).await;
    elsewhere.visit(login).await.assert_sets_cookie();
    assert!(!elsewhere.is_nobody().await);
    let mut cluster = aside(move || {
        cluster.move_keys(wanted, owner, to).unwrap();
        cluster.end_moving(wanted, owner, to).unwrap();
        cluster
    })
    .await;
    assert_eq!(sessions.count("user-42").await.unwrap(), 4);
    // Its next renewal brings it to the others.
    elsewhere.visit(Session::renew).await.assert_sets_cookie();
    for name in index_and_records(&mut cluster).1 {
        assert_eq!(slot(&mut cluster, &name), wanted);
    }
    assert_eq!(sessions.revoke_all("user-42").await.unwrap(), 4);
    for browser in [guest, renewed, new, elsewhere] {
        assert!(browser.is_nobody().await);
    }
}

#[actix_web::test]
async fn a_renewal_in_two_steps_leaves_nothing_when_it_comes_too_late() {
    let mut cluster = RedisCluster::start().unwrap();
    let builder = RedisSessionStore::builder_cluster(cluster.urls()).cache_keygen(hidden);
    let browser = Browser::with(builder.build().await.unwrap()).await;
    browser.visit(count).await.assert_sets_cookie();
    let (late, other) = (browser.begin().await, browser.fork());
    late.renew();
    other.visit(Session::purge).await.assert_removes_cookie();
    late.finish().await.assert_ok().assert_no_cookie();
    let left = names(&mut cluster);
    assert_eq!(left.len(), 1, "the tombstone of the purge: {left:?}");
    // Against a commit of somebody else it is merged, and there is one record.
    browser.forget();
    browser.visit(count).await.assert_sets_cookie();
    let (late, other) = (browser.begin().await, browser.fork());
    other
        .visit(|s| s.insert("beside", 1).unwrap())
        .await
        .assert_ok();
    late.renew();
    late.finish().await.assert_ok().assert_sets_cookie();
    assert_eq!(browser.number("beside").await, Some(1));
    let new = names(&mut cluster).difference(&left).count();
    assert_eq!(new, 2, "a record and a redirect");
}

#[actix_web::test]
async fn a_renewal_in_two_steps_leaves_nothing_when_the_second_is_refused() {
    let mut cluster = RedisCluster::start().unwrap();
    let builder = RedisSessionStore::builder_cluster(cluster.urls()).cache_keygen(hidden);
    let browser = Browser::with(builder.build().await.unwrap()).await;
    browser.visit(count).await.assert_sets_cookie();
    let before = names(&mut cluster);
    let old = slot(&mut cluster, before.first().unwrap());
    let owner = cluster.owner(old, 0).unwrap();
    let port = cluster.nodes()[owner].port();
    lines_of(port, "CONFIG SET min-replicas-to-write 10").unwrap();
    // Of these new records, most lie elsewhere.
    for _ in 0..4 {
        browser.visit(Session::renew).await.assert_opaque();
    }
    assert_eq!(names(&mut cluster), before);
    lines_of(port, "CONFIG SET min-replicas-to-write 0").unwrap();
    browser.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(browser.number("n").await, Some(1));
}

#[actix_web::test]
async fn names_with_odd_braces_are_refused() {
    let mut cluster = RedisCluster::start().unwrap();
    let urls = cluster.urls();
    for form in [
        |key: &str| format!("a}}{key}"),
        |key: &str| format!("{{}}{key}"),
    ] {
        let builder = RedisSessionStore::builder_cluster(urls.clone()).cache_keygen(form);
        let told = builder.build().await.unwrap_err().to_string();
        assert!(told.contains("braces"), "{told}");
    }
    assert_eq!(names(&mut cluster), BTreeSet::new());
}

#[actix_web::test]
async fn a_failover_that_is_asked_for_loses_nothing() {
    let mut cluster = RedisCluster::start().unwrap();
    let store = RedisSessionStore::builder_cluster(cluster.urls())
        .build()
        .await
        .unwrap();
    let load = Load::start(store).await;
    load.works_for(200).await;
    for replica in 3..6 {
        cluster = aside(move || {
            cluster.fail_over(replica).unwrap();
            cluster
        })
        .await;
        load.works_for(200).await;
    }
    load.stop().await.assert_whole();
    assert_eq!(cluster.owner(0, 1).unwrap(), 3);
}

#[actix_web::test]
async fn a_master_that_is_killed_is_replaced_and_requests_work_again() {
    let mut cluster = RedisCluster::start().unwrap();
    let store = RedisSessionStore::builder_cluster(cluster.urls())
        .build()
        .await
        .unwrap();
    let load = Load::start(store).await;
    load.works_for(200).await;
    cluster.nodes()[0].kill();
    load.fails().await;
    let cluster = aside(move || {
        let started = std::time::Instant::now();
        while cluster.owner(0, 1).ok() != Some(3) {
            assert!(started.elapsed() < Duration::from_secs(30), "no failover");
            std::thread::sleep(Duration::from_millis(50));
        }
        cluster
    })
    .await;
    // What the dead master had acknowledged and not passed on may be lost; what comes now is not.
    load.works_for(400).await;
    let report = load.stop().await;
    assert_eq!(report.panics, 0, "{report}");
    let store = RedisSessionStore::builder_cluster(cluster.urls()).lazy_connect();
    does_everything(store.build().await.unwrap(), "after the failover").await;
}

#[actix_web::test]
async fn slots_on_the_move_lose_nothing() {
    let mut cluster = RedisCluster::start().unwrap();
    let one_slot = RedisSessionStore::builder_cluster(cluster.urls())
        .cache_keygen(|key| format!("{{shop}}:{key}"));
    let store = one_slot.build().await.unwrap();
    let moving = slot(&mut cluster, "{shop}");
    let browser = Browser::with(store.clone()).await;
    browser.visit(count).await.assert_sets_cookie();
    let mut leaving = Vec::new();
    for _ in 0..6 {
        let browser = Browser::with(store.clone()).await;
        browser.visit(count).await.assert_sets_cookie();
        leaving.push((browser.fork(), browser));
    }
    let load = Load::start(store).await;
    load.works_for(100).await;
    for _ in 0..3 {
        let from = cluster.owner(moving, 0).unwrap();
        let to = (from + 1) % 3;
        cluster.begin_moving(moving, from, to).unwrap();
        // The record is at the old owner, its redirect would be at the new one: reads, commits and
        // endings go on.
        browser.visit(count).await.assert_ok();
        let (ended, old) = leaving.pop().unwrap();
        ended.visit(Session::purge).await.assert_ok();
        assert!(old.is_nobody().await);
        cluster = aside(move || {
            cluster.move_keys(moving, from, to).unwrap();
            cluster
        })
        .await;
        // It has gone ahead of its slot.
        browser.visit(count).await.assert_ok();
        let (ended, old) = leaving.pop().unwrap();
        ended.visit(Session::purge).await.assert_ok();
        assert!(old.is_nobody().await);
        cluster = aside(move || {
            cluster.move_keys(moving, from, to).unwrap();
            cluster.end_moving(moving, from, to).unwrap();
            cluster
        })
        .await;
        load.works_for(100).await;
    }
    load.stop().await.assert_whole();
    assert_eq!(browser.number("n").await, Some(7));
}

/// Managed services have one address for a cluster. Programs that never renewed a session across slots
/// worked with it.
#[actix_web::test]
async fn a_cluster_is_followed_from_an_address_that_does_not_say_so() {
    let cluster = RedisCluster::start().unwrap();
    let store = RedisSessionStore::new(&cluster.urls()[2]).await.unwrap();
    does_everything(store, "by one server's address").await;
}

/// A single node may have a name for itself by which it cannot be reached from here.
#[actix_web::test]
async fn a_cluster_of_one_node_is_where_its_address_says() {
    let server = cluster_of_one(("cluster-announce-ip", "192.0.2.1")).await;
    let store = RedisSessionStore::new(server.url()).await.unwrap();
    does_everything(store, "one node").await;
}

/// Whoever does not connect at the start is told by the first error.
#[actix_web::test]
async fn a_cluster_that_is_taken_for_one_server_says_what_to_change() {
    let cluster = RedisCluster::start().unwrap();
    let builder = RedisSessionStore::builder(&cluster.urls()[0]).lazy_connect();
    let store = builder.build().await.unwrap();
    let mut told = String::new();
    for n in 0..40 {
        let key = SessionKey::try_from(format!("{n:064}")).unwrap();
        if let Err(error) = store.load(&key).await {
            told = format!("{:#}", anyhow::Error::from(error));
        }
    }
    assert!(told.contains("redis+cluster://"), "{told:?}");
}

/// A proxy before a cluster has slots, and says nothing of nodes.
#[actix_web::test]
async fn slots_without_nodes_are_minded() {
    let server = cluster_of_one(("user", "app on >x ~* &* +@all -cluster -info")).await;
    let url = server.url().replace("redis://", "redis://app:x@");
    let store = RedisSessionStore::new(&url).await.unwrap();
    does_everything(store, "a proxy").await;
    // As for a pool of the application's.
    let config = deadpool_redis::Config::from_url(url);
    let pool = config.create_pool(Some(deadpool_redis::Runtime::Tokio1));
    let store = RedisSessionStore::new_pooled(pool.unwrap()).await.unwrap();
    does_everything(store, "a pool").await;
}

/// A node with this setting that has all slots.
async fn cluster_of_one(setting: (&str, &str)) -> RedisServer {
    let settings = [("cluster-enabled", "yes"), setting];
    let server = RedisServer::start_with(&settings).unwrap();
    // Redis 6.2 knows no ranges, and no line may be longer than 64 KiB.
    let slots: Vec<_> = (0..16_384).map(|slot| slot.to_string()).collect();
    for some in slots.chunks(4_096) {
        let told = lines_of(
            server.port(),
            &format!("CLUSTER ADDSLOTS {}", some.join(" ")),
        );
        assert_eq!(told.unwrap(), ["+OK"]);
    }
    let is_ready = || {
        let told = lines_of(server.port(), "CLUSTER INFO").unwrap_or_default();
        told.iter().any(|line| line == "cluster_state:ok")
    };
    while !is_ready() {
        actix_web::rt::time::sleep(Duration::from_millis(10)).await;
    }
    server
}
