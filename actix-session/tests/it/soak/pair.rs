//! A PostgreSQL primary and a replica that has everything before it is acknowledged, behind one
//! address.

use std::time::Duration;

use actix_web::rt;
use servers::PostgresServer;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use crate::support::{Way, aside};

const SETTINGS: [(&str, &str); 2] = [
    ("synchronous_commit", "on"),
    // A primary that comes back acknowledges nothing before its replica is there again.
    ("wal_retrieve_retry_interval", "100ms"),
];

pub(super) struct Pair {
    pub(super) way: Way,
    primary: PostgresServer,
    replica: Option<PostgresServer>,
    /// The primary of before, if it still runs.
    pub(super) old: Option<PostgresServer>,
}

impl Pair {
    pub(super) async fn start() -> Self {
        let primary = aside(|| PostgresServer::start_with(&SETTINGS).unwrap()).await;
        let pair = Self {
            way: Way::to(primary.port()),
            primary,
            replica: None,
            old: None,
        };
        pair.complete().await
    }

    /// The store's address.
    pub(super) fn url(&self) -> String {
        let port = self.way.port();
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }

    /// Copies the primary if there is no replica. From then on it acknowledges only what both have.
    pub(super) async fn complete(mut self) -> Self {
        if self.replica.is_none() {
            let copying = move || {
                self.replica = Some(self.primary.start_replica(&SETTINGS).unwrap());
                self
            };
            self = aside(copying).await;
            // Not before: a copy must not wait for one of its own when it is promoted.
            set(&self.primary, "synchronous_standby_names = '*'").await;
        }
        self.follows().await;
        self
    }

    /// Waits until the replica follows.
    pub(super) async fn follows(&self) {
        let follows = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')";
        holds(&self.primary, follows).await;
    }

    /// Does what blocks to the primary, and waits until it acknowledges again.
    pub(super) async fn with_primary(
        mut self,
        act: impl FnOnce(&mut PostgresServer) + Send + 'static,
    ) -> Self {
        let acting = move || {
            act(&mut self.primary);
            self
        };
        let pair = aside(acting).await;
        pair.follows().await;
        pair
    }

    pub(super) async fn with_replica(
        mut self,
        act: impl FnOnce(&mut PostgresServer) + Send + 'static,
    ) -> Self {
        let acting = move || {
            act(self.replica.as_mut().unwrap());
            self
        };
        let pair = aside(acting).await;
        pair.follows().await;
        pair
    }

    /// Closes the connections of the store, from the server's side.
    pub(super) async fn disconnect(&self) {
        let disconnect = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let mut connection = connect(&self.primary).await;
        connection.execute(disconnect).await.unwrap();
    }

    /// The primary is killed, and the replica takes its place.
    pub(super) async fn fail_over(mut self) -> Self {
        let killing = move || {
            self.primary.kill();
            self
        };
        let mut pair = aside(killing).await;
        pair.promote().await;
        pair.old = None;
        pair
    }

    /// After a while, the replica takes the primary's place. That one stays, and takes no writes from
    /// the beginning.
    pub(super) async fn switch_over(mut self, span: Duration) -> Self {
        set(&self.primary, "default_transaction_read_only = on").await;
        let is_set = "SELECT current_setting('default_transaction_read_only') = 'on'";
        holds(&self.primary, is_set).await;
        rt::time::sleep(span).await;
        self.promote().await;
        self
    }

    /// For a while, new connections lead to the replica, which is read-only.
    pub(super) async fn mislead(&self, span: Duration) {
        self.way.lead_to(self.replica.as_ref().unwrap().port());
        self.way.cut();
        rt::time::sleep(span).await;
        self.way.lead_to(self.primary.port());
    }

    async fn promote(&mut self) {
        let replica = self.replica.take().unwrap();
        let mut connection = connect(&replica).await;
        connection.execute("SELECT pg_promote()").await.unwrap();
        holds(&replica, "SELECT NOT pg_is_in_recovery()").await;
        self.way.lead_to(replica.port());
        self.old = Some(std::mem::replace(&mut self.primary, replica));
    }
}

async fn connect(server: &PostgresServer) -> PgConnection {
    PgConnection::connect(&server.url()).await.unwrap()
}

async fn set(server: &PostgresServer, setting: &str) {
    let mut connection = connect(server).await;
    let alter = format!("ALTER SYSTEM SET {setting}");
    connection.execute(alter.as_str()).await.unwrap();
    connection.execute("SELECT pg_reload_conf()").await.unwrap();
}

/// Waits until something is so, which each new connection says anew.
async fn holds(server: &PostgresServer, question: &str) {
    loop {
        let answer = connect(server).await.fetch_one(question).await.unwrap();
        if answer.get(0) {
            return;
        }
        rt::time::sleep(Duration::from_millis(20)).await;
    }
}
