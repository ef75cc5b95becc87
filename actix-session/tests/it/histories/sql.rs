//! Rounds on SQL databases.

use actix_session::storage::{MySqlSessionStore, PostgresSessionStore, SqliteSessionStore};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::Row as _;

use super::{
    history::Left,
    places::{Local, Place},
    run::Round,
    site::{Pause, Site, site},
};
use crate::support::{PATIENCE, TOMBSTONE, random_name};

macro_rules! place {
    ($place:ident, $store:ident, $database:ty, $quote:literal) => {
        /// A table for each round.
        pub(crate) struct $place {
            url: String,
            table: String,
        }

        impl $place {
            pub(crate) fn new(url: &str) -> Self {
                let table = format!("round_{}", random_name());
                Self {
                    url: url.to_owned(),
                    table,
                }
            }
        }

        impl Place for $place {
            fn site<'a>(&'a self, round: &'a Round) -> Local<'a, Site> {
                Box::pin(async move {
                    let store = $store::builder(&self.url)
                        .table(&self.table)
                        .clock(round.clock.clone())
                        .max_connections(4)
                        .connect_timeout(PATIENCE)
                        .command_timeout(PATIENCE);
                    site(store.build().await.unwrap(), round, Pause::Naps).await
                })
            }

            fn lose(&self, _: u32) {}

            /// Rows have the digests of keys for names.
            fn name_of(&self, key: &str) -> String {
                let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
                URL_SAFE_NO_PAD.encode(digest)
            }

            fn dump(&self) -> Local<'_, Left> {
                Box::pin(async move {
                    let pool = sqlx::Pool::<$database>::connect(&self.url).await.unwrap();
                    let table = format!("{}{}{}", $quote, self.table, $quote);
                    let sql = format!("SELECT id, state, moved_to FROM {table}");
                    let rows = sqlx::query::<$database>(&sql)
                        .fetch_all(&pool)
                        .await
                        .unwrap();
                    let mut left = Left::default();
                    for row in rows {
                        // MySQL shows texts of a binary collation as bytes.
                        let name: String = row.get_unchecked(0);
                        let state: Option<Vec<u8>> = row.get(1);
                        let target: Option<String> = row.get_unchecked(2);
                        let text = target.map_or_else(
                            || String::from_utf8(state.unwrap()).unwrap(),
                            |target| match target.as_str() {
                                "" => TOMBSTONE.to_owned(),
                                target => format!("||{target}"),
                            },
                        );
                        left.add(&name, &text, str::to_owned);
                    }
                    let drop = format!("DROP TABLE {table}");
                    sqlx::query::<$database>(&drop)
                        .execute(&pool)
                        .await
                        .unwrap();
                    pool.close().await;
                    left
                })
            }
        }
    };
}

place!(Sqlite, SqliteSessionStore, sqlx::Sqlite, '"');
place!(Postgres, PostgresSessionStore, sqlx::Postgres, '"');
place!(MySql, MySqlSessionStore, sqlx::MySql, '`');
