//! The store that the command line names.

use std::{fmt, str::FromStr as _, time::Duration};

use actix_session::{
    SessionOperator,
    storage::{
        AnySessionStore, MySqlSessionStore, PostgresSessionStore, RedisSessionStore, SqlDatabase,
        SqlSessionStoreBuilder, SqliteSessionStore,
    },
};
use anyhow::{Context as _, Result, bail, ensure};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use crate::told;

/// Where the sessions are, as the application has it.
pub(crate) struct Store {
    pub(crate) url: String,
    pub(crate) prefix: Option<String>,
    pub(crate) hashed_keys: bool,
    pub(crate) table: Option<String>,
    pub(crate) schema: Option<String>,
}

/// A kind of store that others can open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Redis,
    Sqlite,
    Postgres,
    MySql,
}

impl Store {
    /// Checks what can be known without the store.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            !self.url.trim().is_empty(),
            "the store is missing: set the variable SESSION_STORE, or pass --store"
        );
        let kind = self.kind()?;
        let is_sql = kind != Kind::Redis;
        if let Err(error) = AnySessionStore::check_url(&self.url) {
            bail!(self.hide(&told(&error)));
        }
        ensure!(
            !is_sql || self.prefix.is_none() && !self.hashed_keys,
            "`--prefix` and `--hashed-keys` are for Redis, and this store is an SQL database"
        );
        ensure!(
            is_sql || self.table.is_none() && self.schema.is_none(),
            "`--table` and `--schema` are for SQL databases, and this store is Redis"
        );
        match kind {
            Kind::Redis => Ok(()),
            Kind::Sqlite => self
                .named(SqliteSessionStore::builder(&self.url))
                .check_names(),
            Kind::Postgres => self
                .named(PostgresSessionStore::builder(&self.url))
                .check_names(),
            Kind::MySql => self
                .named(MySqlSessionStore::builder(&self.url))
                .check_names(),
        }
    }

    fn kind(&self) -> Result<Kind> {
        let scheme = self.url.trim().split(':').next().unwrap_or_default();
        Ok(match scheme {
            "sqlite" if self.url.contains(":memory:") || self.url.contains("mode=memory") => {
                bail!("a database in memory lies in the application: no other program sees it")
            }
            "sqlite" => Kind::Sqlite,
            "postgres" | "postgresql" => Kind::Postgres,
            "mysql" | "mariadb" => Kind::MySql,
            "memory" | "cookie" => bail!(
                "a `{scheme}:` store lies in the application, or in its users' browsers: no other \
                 program sees it"
            ),
            _ => Kind::Redis,
        })
    }

    /// Opens it. Nothing is created.
    pub(crate) async fn open(&self) -> Result<SessionOperator> {
        let url = self.url.trim();
        Ok(match self.kind()? {
            Kind::Redis => SessionOperator::of_store(&self.redis(url).await?),
            Kind::Sqlite => {
                let pool = open_file(url).await?;
                self.sql(SqliteSessionStore::builder_from_pool(pool))
                    .await?
            }
            Kind::Postgres => self.sql(PostgresSessionStore::builder(url)).await?,
            Kind::MySql => self.sql(MySqlSessionStore::builder(url)).await?,
        })
    }

    async fn redis(&self, url: &str) -> Result<RedisSessionStore> {
        let mut builder = RedisSessionStore::builder(url);
        if let Some(prefix) = &self.prefix {
            builder = builder.key_prefix(prefix);
        }
        if self.hashed_keys {
            builder = builder.hashed_keys();
        }
        builder.build().await
    }

    async fn sql<D: SqlDatabase>(
        &self,
        builder: SqlSessionStoreBuilder<D>,
    ) -> Result<SessionOperator> {
        let builder = self.named(builder).migrate(false);
        Ok(SessionOperator::of_store(&builder.build().await?))
    }

    fn named<D: SqlDatabase>(
        &self,
        mut builder: SqlSessionStoreBuilder<D>,
    ) -> SqlSessionStoreBuilder<D> {
        if let Some(table) = &self.table {
            builder = builder.table(table);
        }
        if let Some(schema) = &self.schema {
            builder = builder.schema(schema);
        }
        builder
    }

    /// A text without the store's address, which may hold a password.
    pub(crate) fn hide(&self, text: &str) -> String {
        let url = self.url.trim();
        // A scheme alone hides nothing, and is in examples of addresses.
        let names_more = url
            .split_once("://")
            .is_none_or(|(_, rest)| !rest.is_empty());
        let text = if names_more && !url.is_empty() {
            text.replace(url, "the store's address")
        } else {
            text.to_owned()
        };
        passwords(url).fold(text, |text, password| text.replace(password, "***"))
    }
}

/// How long it may take to open a file.
const OPENING: Duration = Duration::from_secs(2);

/// A pool that leaves a file as it is. The store's own makes one that is missing, and whoever mistypes a
/// name would be told of an empty store; and it sets the file's journal mode, which is the
/// application's to choose.
async fn open_file(url: &str) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::from_str(url)?.create_if_missing(false);
    let file = options.get_filename().to_owned();
    ensure!(file.exists(), "there is no file {}", file.display());
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(OPENING)
        .connect_with(options);
    let opened = pool.await;
    opened.with_context(|| format!("the file {} cannot be opened", file.display()))
}

/// What may be the password in an address: it ends before the host, and a query may have an `@` too. One
/// that is not percent-encoded may have what ends a host.
fn passwords(url: &str) -> impl Iterator<Item = &str> {
    let (_, whole) = url.split_once("//").unwrap_or_default();
    let host = whole.split(['/', '?', '#']).next();
    [Some(whole), host]
        .into_iter()
        .flatten()
        .filter_map(|part| {
            let (login, _) = part.rsplit_once('@')?;
            let (_, password) = login.split_once(':')?;
            Some(password).filter(|password| !password.is_empty())
        })
}

/// Shows no address.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(url: &str) -> Store {
        Store {
            url: url.to_owned(),
            prefix: None,
            hashed_keys: false,
            table: None,
            schema: None,
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for end in ["db/app", "db/app?application_name=a@b", "/x@db/app"] {
            let store = store(&format!("postgres://me:hunter2@{end}"));
            for text in ["no hunter2", &format!("at postgres://me:hunter2@{end}")] {
                let hidden = store.hide(text);
                assert!(!hidden.contains("hunter2"), "{hidden}");
            }
        }
        let store = store("postgres://me:hunter2@db/app");
        assert!(!format!("{store:?}").contains("hunter2"));
    }

    #[test]
    fn a_scheme_is_no_secret() {
        let example = "such as redis://127.0.0.1:6379";
        assert_eq!(store("redis://").hide(example), example);
    }

    #[test]
    fn settings_are_for_one_kind_of_store() {
        let prefixed = Store {
            prefix: Some("shop:".to_owned()),
            ..store("sqlite://file")
        };
        assert!(prefixed.check().is_err());
        let redis = Store {
            url: "redis+cluster://a:1".to_owned(),
            ..prefixed
        };
        redis.check().unwrap();
    }
}
