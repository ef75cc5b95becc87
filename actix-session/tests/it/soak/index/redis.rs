//! Redis by itself, and clusters, each with servers of its own: their statistics are looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use actix_session::{
    Clock, SystemClock,
    storage::{RedisSessionStore, RedisSessionStoreBuilder},
};
use redis::{AsyncCommands as _, AsyncConnectionConfig, ScanOptions, aio::MultiplexedConnection};
use servers::{RedisCluster, RedisServer};

use super::{Lying, Place, child::Order, judge::is_owned};
use crate::support::{PATIENCE, hidden};

const PREFIX: &str = "index:";

pub(super) struct Servers {
    kind: &'static str,
    urls: Vec<String>,
    masters: Vec<MultiplexedConnection>,
    store: RedisSessionStore,
    _single: Option<RedisServer>,
    _cluster: Option<RedisCluster>,
}

/// The same store for sites and for the judge.
fn builder(kind: &str, urls: &[String]) -> RedisSessionStoreBuilder {
    let builder = match kind {
        "redis" => RedisSessionStore::builder(&urls[0]),
        "cluster" => RedisSessionStore::builder_cluster(urls.to_vec()),
        _ => RedisSessionStore::builder_cluster(urls.to_vec()).cache_keygen(hidden),
    };
    builder.key_prefix(PREFIX).connect_timeout(PATIENCE)
}

pub(super) async fn store(order: &Order) -> RedisSessionStore {
    builder(&order.kind, &order.urls).build().await.unwrap()
}

/// A name, and what lies there.
type Found = (String, Option<String>, i64);

impl Servers {
    pub(super) async fn single() -> Self {
        let server = RedisServer::start().unwrap();
        let urls = vec![server.url()];
        Self::of("redis", urls, 1, Some(server), None).await
    }

    pub(super) async fn cluster() -> Self {
        Self::clustered("cluster").await
    }

    pub(super) async fn hiding_cluster() -> Self {
        Self::clustered("hiding cluster").await
    }

    async fn clustered(kind: &'static str) -> Self {
        // A busy machine is no reason for a failover.
        let config = [("cluster-node-timeout", "600000")];
        let cluster = RedisCluster::start_with(&config).unwrap();
        Self::of(kind, cluster.urls(), 3, None, Some(cluster)).await
    }

    async fn of(
        kind: &'static str,
        urls: Vec<String>,
        masters: usize,
        single: Option<RedisServer>,
        cluster: Option<RedisCluster>,
    ) -> Self {
        let mut connections = Vec::new();
        for url in &urls[..masters] {
            connections.push(patient(url).await);
        }
        Self {
            kind,
            masters: connections,
            store: builder(kind, &urls)
                .command_timeout(PATIENCE)
                .build()
                .await
                .unwrap(),
            urls,
            _single: single,
            _cluster: cluster,
        }
    }

    /// Whatever lies on the masters, with the ms that it has left, or -1 if it has no end.
    async fn all(&self) -> Vec<Found> {
        self.assert_nobody_searched().await;
        let mut all = Vec::new();
        for master in &self.masters {
            let mut connection = master.clone();
            let mut names: Vec<String> = Vec::new();
            let options = ScanOptions::default().with_count(1_000);
            let mut scan = connection.scan_options::<String>(options).await.unwrap();
            while let Some(name) = scan.next_item().await {
                names.push(name.unwrap());
            }
            drop(scan);
            names.sort();
            names.dedup();
            for names in names.chunks(500) {
                all.extend(look(&mut connection, names).await);
            }
            let reset = redis::cmd("CONFIG").arg("RESETSTAT").to_owned();
            let () = reset.query_async(&mut connection).await.unwrap();
        }
        all
    }

    async fn indexes(&self, all: &[Found]) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::new();
        for (name, _, _) in all
            .iter()
            .filter(|(name, _, _)| name.ends_with(":sessions"))
        {
            for master in &self.masters {
                let mut connection = master.clone();
                let mut fields = redis::cmd("HGETALL");
                let fields = fields.arg(name).query_async(&mut connection).await;
                // Another master has it.
                let fields: BTreeMap<String, String> = fields.unwrap_or_default();
                entries.extend(fields.into_iter().filter(|(id, _)| id != "mark"));
            }
        }
        entries
    }
}

/// A connection for looks at everything, which take long on a busy machine.
async fn patient(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    connecting.await.unwrap()
}

/// What lies under names, in two round trips.
async fn look(connection: &mut MultiplexedConnection, names: &[String]) -> Vec<Found> {
    let (mut ends, mut texts) = (redis::pipe(), redis::pipe());
    for name in names {
        ends.pttl(name);
        // An index is no text.
        if name.ends_with(":sessions") {
            texts.cmd("ECHO").arg("");
        } else {
            texts.get(name);
        }
    }
    let texts: Vec<Option<String>> = texts.query_async(connection).await.unwrap();
    let ends: Vec<i64> = ends.query_async(connection).await.unwrap();
    let found = names.iter().cloned().zip(texts).zip(ends);
    let found = found.map(|((name, text), left)| (name, text, left));
    // What has expired in between.
    found.filter(|(_, _, left)| *left != -2).collect()
}

/// A record: of a session, or of a lock, which belongs to nobody.
fn is_record((name, text, _): &Found) -> bool {
    let is_record = text.as_ref().is_some_and(|text| text.starts_with('{'));
    is_record && !name.ends_with(":moved")
}

impl Place for Servers {
    type Store = RedisSessionStore;

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }

    fn name(&self) -> String {
        PREFIX.to_owned()
    }

    fn store(&self) -> RedisSessionStore {
        self.store.clone()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn records(&self) -> Vec<Lying> {
        let all = self.all().await.into_iter().filter(is_record);
        let lying = all.filter_map(|(_, text, left)| {
            Some(Lying {
                text: text?,
                left: u64::try_from(left).ok().map(Duration::from_millis),
            })
        });
        lying.collect()
    }

    async fn halves(&self) -> BTreeSet<String> {
        if self.masters.len() == 1 {
            // There, no step is a half.
            return BTreeSet::new();
        }
        let all = self.all().await;
        let entries = self.indexes(&all).await;
        let listed = entries.values().filter_map(|it| it.split_once('|'));
        let listed: BTreeSet<&str> = listed.map(|(_, at)| at).collect();
        let owned = all.iter().filter(|it| is_record(it));
        let owned = owned.filter(|(_, text, _)| is_owned(text.as_deref().unwrap_or_default()));
        let halves = owned.filter(|(name, _, _)| !listed.contains(name.as_str()));
        halves.map(|(name, _, _)| name.clone()).collect()
    }

    async fn pass(&self, span: Duration) {
        let span = i64::try_from(span.as_millis()).unwrap();
        for (name, _, left) in self.all().await {
            // 0 is less than a millisecond.
            assert_ne!(left, -1, "{name} has no end");
            for master in &self.masters {
                let mut older = redis::cmd(if left > span { "PEXPIRE" } else { "DEL" });
                older.arg(&name);
                if left > span {
                    older.arg(left - span);
                }
                // Another master has it.
                let _: Result<i64, _> = older.query_async(&mut master.clone()).await;
            }
        }
    }

    async fn assert_nobody_searched(&self) {
        for master in &self.masters {
            let info = redis::cmd("INFO").arg("commandstats").to_owned();
            let info: String = info.query_async(&mut master.clone()).await.unwrap();
            let searched = |line: &&str| {
                line.starts_with("cmdstat_scan:") || line.starts_with("cmdstat_keys:")
            };
            assert_eq!(info.lines().find(searched), None);
        }
    }

    async fn leftovers(&self) -> Vec<String> {
        let all = self.all().await;
        let entries = self.indexes(&all).await;
        let names: Vec<&String> = all.iter().map(|(name, _, _)| name).collect();
        let dead = entries.into_iter().filter(|(_, entry)| {
            let at = entry.split_once('|').map(|(_, at)| at.to_owned());
            !at.is_some_and(|at| names.contains(&&at))
        });
        let dead = dead.map(|(id, entry)| format!("the entry {id}: {entry}"));
        let beside = all
            .iter()
            .filter(|it| !is_record(it) && !it.0.ends_with(":sessions"));
        dead.chain(beside.map(|it| format!("{it:?}"))).collect()
    }
}
