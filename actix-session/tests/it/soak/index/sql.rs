//! SQL databases: the row is the index.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_session::{
    Clock, SessionOperator,
    storage::{MySqlSessionStore, PostgresSessionStore, SessionIndex, SqliteSessionStore},
};
use sqlx::Row as _;

use super::{Lying, Place, child::Order};
use crate::support::{MySql, PATIENCE, Postgres, Sqlite, TestStore, fill_store};

/// Rows that are none of the sites', so that the table is worth an index.
const OTHERS: usize = 800;

pub(super) struct Table<T> {
    tested: T,
    /// What the server counts of reads from the beginning to the end, before there was a site.
    before: Option<i64>,
}

macro_rules! store {
    ($name:ident, $store:ident) => {
        pub(super) async fn $name(order: &Order) -> $store {
            let builder = $store::builder(&order.urls[0]).table(&order.name);
            let builder = builder.connect_timeout(PATIENCE).max_connections(4);
            builder.build().await.unwrap()
        }
    };
}

store!(sqlite, SqliteSessionStore);
store!(postgres, PostgresSessionStore);
store!(mysql, MySqlSessionStore);

/// A row that has not expired, and what decides whether a load opens it.
struct Owned {
    state: Vec<u8>,
    left: u64,
    principal: Option<Vec<u8>>,
    id: Vec<u8>,
    login: i64,
}

/// What ended a principal's sessions.
struct Mark {
    at: i64,
    spared: Vec<u8>,
}

impl Owned {
    fn is_ended(&self, marks: &HashMap<Vec<u8>, Mark>) -> bool {
        let mark = self.principal.as_ref().and_then(|it| marks.get(it));
        mark.is_some_and(|mark| {
            mark.at >= self.login && !mark.spared.chunks(16).any(|id| id == self.id)
        })
    }
}

fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

macro_rules! place {
    ($tested:ident, $database:ty, $kind:literal) => {
        impl Table<$tested> {
            pub(super) async fn new(tested: $tested) -> Self {
                fill_store(&tested.store(), OTHERS).await;
                let mut table = Self {
                    tested,
                    before: None,
                };
                table.before = table.searches().await;
                table
            }

            async fn rows(&self, sql: &str) -> Vec<<$database as sqlx::Database>::Row> {
                let sql = self.tested.sql(sql);
                let rows = sqlx::query::<$database>(&sql);
                rows.fetch_all(crate::support::SqlTestStore::pool(&self.tested))
                    .await
                    .unwrap()
            }

            async fn owned(&self) -> Vec<Owned> {
                let now = millis(self.tested.clock().now());
                let sql = format!(
                    "SELECT state, expires, principal, session_id, \
                     COALESCE(logged_in, authenticated, created) \
                     FROM {{t}} WHERE moved_to IS NULL AND expires > {now}"
                );
                let rows = self.rows(&sql).await;
                let rows = rows.iter().map(|row| Owned {
                    state: row.get::<Option<Vec<u8>>, _>(0).unwrap_or_default(),
                    left: u64::try_from(row.get::<i64, _>(1) - now).unwrap(),
                    principal: row.get_unchecked(2),
                    id: row.get::<Option<Vec<u8>>, _>(3).unwrap_or_default(),
                    login: row.get(4),
                });
                rows.collect()
            }

            async fn marks(&self) -> HashMap<Vec<u8>, Mark> {
                let rows = self
                    .rows("SELECT principal, ended_at, spared FROM {not_before}")
                    .await;
                let marks = rows.iter().map(|row| {
                    let mark = Mark {
                        at: row.get(1),
                        spared: row.get(2),
                    };
                    (row.get_unchecked::<Vec<u8>, _>(0), mark)
                });
                marks.collect()
            }
        }

        impl Place for Table<$tested> {
            type Store = <$tested as TestStore>::Store;

            fn kind(&self) -> &'static str {
                $kind
            }

            fn urls(&self) -> Vec<String> {
                vec![crate::support::SqlTestStore::url(&self.tested).to_owned()]
            }

            fn name(&self) -> String {
                self.tested.table.clone()
            }

            fn store(&self) -> Self::Store {
                self.tested.store()
            }

            fn clock(&self) -> Arc<dyn Clock> {
                Arc::new(self.tested.clock().clone())
            }

            async fn records(&self) -> Vec<Lying> {
                let marks = self.marks().await;
                let live = self
                    .owned()
                    .await
                    .into_iter()
                    .filter(|row| !row.is_ended(&marks));
                let live = live.map(|row| Lying {
                    text: String::from_utf8(row.state).unwrap(),
                    left: Some(Duration::from_millis(row.left)),
                });
                live.collect()
            }

            async fn pass(&self, span: Duration) {
                let clock = self.tested.clock();
                let behind = SystemTime::now().duration_since(clock.now()).unwrap();
                clock.advance(behind + span);
            }

            async fn assert_nobody_searched(&self) {
                assert_eq!(self.searches().await, self.before);
            }

            async fn leftovers(&self) -> Vec<String> {
                sweep(&self.tested.store()).await;
                let now = millis(self.tested.clock().now());
                let sql =
                    format!("SELECT id FROM {{t}} WHERE moved_to IS NOT NULL OR expires <= {now}");
                let mut left = self.rows(&sql).await;
                // Marks end as well.
                let longest = now + 400 * 86_400_000;
                let sql = format!(
                    "SELECT principal FROM {{not_before}} WHERE expires <= {now} OR expires > {longest}"
                );
                left.extend(self.rows(&sql).await);
                left.iter()
                    .map(|row| row.get_unchecked::<String, _>(0))
                    .collect()
            }
        }
    };
}

place!(Sqlite, sqlx::Sqlite, "sqlite");
place!(Postgres, sqlx::Postgres, "postgres");
place!(MySql, sqlx::MySql, "mysql");

async fn sweep(store: &impl SessionIndex) {
    SessionOperator::of_store(store).sweep().await.unwrap();
}

impl Table<Sqlite> {
    async fn searches(&self) -> Option<i64> {
        None
    }
}

impl Table<MySql> {
    async fn searches(&self) -> Option<i64> {
        None
    }
}

impl Table<Postgres> {
    /// How often the server has read the table from its beginning to its end, as far as it has said so.
    async fn searches(&self) -> Option<i64> {
        use crate::support::SqlTestStore as _;

        self.tested.execute("ANALYZE {t}").await;
        // The statistics come a moment later.
        actix_web::rt::time::sleep(Duration::from_millis(1_200)).await;
        let name = &self.tested.table;
        let sql = format!(
            "SELECT coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_user_tables WHERE relname = '{name}'"
        );
        Some(self.tested.number(&sql).await)
    }
}
