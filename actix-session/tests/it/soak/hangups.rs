//! Clients that hang up at any moment, on three stores at once.

use std::time::{Duration, Instant};

use actix_session::{
    SessionMiddleware,
    storage::{MemorySessionStore, PostgresSessionStore, RedisSessionStore, SessionStore},
};
use actix_web::{cookie::Key, rt};
use futures_util::future::join_all;
use servers::{PostgresServer, RedisServer};

use super::{Plan, assert_undisturbed};
use crate::support::{
    Server,
    load::{Client, Load, Ran},
    random_name,
};

/// A store that clients reach through sockets.
struct Place {
    store: &'static str,
    server: Server,
    load: Load,
}

impl Place {
    fn open<S: SessionStore + Clone + Send + 'static>(
        name: &'static str,
        store: S,
        plan: &Plan,
    ) -> Self {
        let (key, ran) = (Key::generate(), Ran::default());
        let middleware = move || SessionMiddleware::builder(store.clone(), key.clone()).build();
        let routes = ran.clone();
        let server = Server::start(2, middleware, move |config| routes.clone().serve(config));
        let load = Load::of(&Client::through(server.address), ran, plan.seed);
        Self {
            store: name,
            server,
            load,
        }
    }

    /// Answers how many requests were dropped.
    async fn close(self, took: Duration) -> u64 {
        let report = self.load.stop().await;
        let dropped = self.server.dropped();
        println!(
            "{} in {took:?}, {dropped} requests dropped: {report}",
            self.store
        );
        assert_undisturbed(&report);
        self.server.stop().await;
        dropped
    }
}

#[actix_web::test]
async fn what_clients_begin_that_hang_up_is_never_half_done() {
    let plan = Plan::read(Duration::from_secs(2));
    let redis = RedisSessionStore::builder(RedisServer::shared_url().unwrap())
        .key_prefix(format!("soak:{}:", random_name()));
    let postgres = PostgresSessionStore::builder(PostgresServer::shared_url().unwrap())
        .table(format!("soak_{}", random_name()));
    let places = [
        Place::open("memory", MemorySessionStore::new(), &plan),
        Place::open("Redis", redis.build().await.unwrap(), &plan),
        Place::open("PostgreSQL", postgres.build().await.unwrap(), &plan),
    ];
    let started = Instant::now();
    rt::time::sleep(plan.run).await;
    let took = started.elapsed();
    let dropped = join_all(places.map(|place| place.close(took))).await;
    assert!(dropped.iter().sum::<u64>() > 0, "no client hung up in time");
}
