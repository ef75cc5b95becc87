//! How the table of an SQL store comes to be.

use std::{env, process::Stdio, time::Duration};

use actix_session::storage::{
    AnySessionStore, MySqlSessionStore, PostgresSessionStore, SessionKey, SessionStore,
    SqliteSessionStore,
};
use futures_util::future::join_all;

use crate::{
    attacks::capture,
    support::{
        MySql, PATIENCE, Postgres, SqlTestStore, Sqlite, TestStore, alone, assert_passed, count,
        fill_store, on_each_database, random_name,
    },
};

macro_rules! migrates {
    ($tested:ident, $store:ident) => {
        let table = format!("new_{}", random_name());
        let stores = (0..10).map(|_| $store::builder($tested.url()).table(&table).build());
        let stores: Vec<$store> = join_all(stores)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let again = stores.iter().map(|store| store.migrate());
        join_all(again).await.into_iter().for_each(Result::unwrap);
        let key = fill_store(&stores[0], 0).await;
        assert!(stores[9].load(&key).await.unwrap().is_some());
    };
}

on_each_database!(ten_servers_make_the_table_at_once, migrates);

macro_rules! needs_table {
    ($tested:ident, $store:ident) => {
        let pool = $tested.store().pool().clone();
        let store = $store::builder_from_pool(pool)
            .table("nobody_has_made")
            .build();
        let store = store.await.unwrap();
        let key = SessionKey::try_from("a".repeat(64)).unwrap();
        let error = store.load(&key).await.unwrap_err();
        let told = format!("{:?}", error);
        assert!(told.contains("migrate"), "{told}");
        for name in ["a\"; DROP TABLE x", "a`b", "", "ä"] {
            let refused = $store::builder_from_pool($tested.store().pool().clone());
            assert!(refused.table(name).build().await.is_err());
        }
    };
}

on_each_database!(
    a_missing_table_is_told_and_a_strange_name_refused,
    needs_table
);

macro_rules! in_schema {
    ($tested:ident, $store:ident) => {
        let builder = $store::builder($tested.url()).schema(format!("s_{}", random_name()));
        let store = builder.build().await.unwrap();
        let key = fill_store(&store, 0).await;
        assert!(store.load(&key).await.unwrap().is_some());
        assert_eq!(store.sweep(10).await.unwrap(), 0);
        assert!(store.schema_sql().contains("CREATE TABLE IF NOT EXISTS"));
    };
}

#[actix_web::test]
async fn a_schema_is_made_with_the_table() {
    let tested = Postgres::start().await;
    in_schema!(tested, PostgresSessionStore);
    let tested = MySql::start().await;
    in_schema!(tested, MySqlSessionStore);
}

/// A user who may do nothing but read and write rows starts with a table that is there, and is told
/// what is missing otherwise. `$schema` is one that this user may fill and could not have made.
macro_rules! rights_on_rows {
    ($tested:ident, $store:ident, $schema:ident) => {
        let url = $tested.user(10).await;
        let builder = $store::builder(&url).table(&$tested.table);
        let store = builder.build().await.unwrap();
        let key = fill_store(&store, 0).await;
        assert!(store.load(&key).await.unwrap().is_some());

        let other = format!("other_{}", random_name());
        let missing = $store::builder(&url).schema(&$tested.table).table(&other);
        let told = format!("{:#}", missing.build().await.unwrap_err());
        for part in [
            "administrator",
            "CREATE TABLE IF NOT EXISTS",
            &other,
            "denied",
        ] {
            assert!(told.contains(part), "{told}");
        }

        let user = url.split_once("://").unwrap().1;
        let schema = $schema(&$tested, user.split_once('@').unwrap().0).await;
        let builder = $store::builder(&url).schema(schema).table(other);
        let store = builder.build().await.unwrap();
        let key = fill_store(&store, 0).await;
        assert!(store.load(&key).await.unwrap().is_some());
    };
}

async fn postgres_schema(tested: &Postgres, user: &str) -> String {
    let schema = format!("s_{}", random_name());
    tested.execute(&format!("CREATE SCHEMA \"{schema}\"")).await;
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA \"{schema}\" TO {user}");
    tested.execute(&grant).await;
    schema
}

async fn mysql_schema(tested: &MySql, user: &str) -> String {
    let schema = format!("s_{}", random_name());
    tested.execute(&format!("CREATE DATABASE `{schema}`")).await;
    let grant = format!("GRANT ALL ON `{schema}`.* TO {user}@'127.0.0.1'");
    tested.execute(&grant).await;
    schema
}

#[actix_web::test]
async fn rights_on_rows_are_enough_on_postgres() {
    let tested = Postgres::start().await;
    rights_on_rows!(tested, PostgresSessionStore, postgres_schema);
}

#[actix_web::test]
async fn rights_on_rows_are_enough_on_mysql() {
    let tested = MySql::start().await;
    rights_on_rows!(tested, MySqlSessionStore, mysql_schema);
}

macro_rules! earlier_table {
    ($tested:ident, $store:ident) => {
        let browser = $tested.browser().await;
        browser
            .visit(|s| s.login("alice").unwrap())
            .await
            .assert_ok();
        make_earlier(&$tested).await;

        let builder = $store::builder($tested.url()).table(&$tested.table);
        builder.build().await.unwrap().migrate().await.unwrap();
        assert_eq!(browser.principal().await.as_deref(), Some("alice"));
        browser
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_ok();
        assert_eq!($tested.number(NAMED).await, 1);
        assert_eq!($tested.number("SELECT COUNT(*) FROM {not_before}").await, 0);
    };
}

/// Rows that say whose session they are.
const NAMED: &str = "SELECT COUNT(*) FROM {t} WHERE length(session_id) = 16 AND logged_in > 0";

/// What a version made that knew no more.
async fn make_earlier(tested: &impl SqlTestStore) {
    for sql in [
        "ALTER TABLE {t} DROP COLUMN session_id",
        "ALTER TABLE {t} DROP COLUMN logged_in",
        "DROP TABLE {not_before}",
    ] {
        tested.execute(sql).await;
    }
}

on_each_database!(a_table_of_an_earlier_version_grows, earlier_table);

/// With rights on rows alone, whoever starts is told what an administrator has to run.
macro_rules! earlier_table_of_another {
    ($tested:ident, $store:ident) => {
        let url = $tested.user(10).await;
        make_earlier(&$tested).await;
        let builder = $store::builder(&url).table(&$tested.table);
        let told = format!("{:#}", builder.build().await.unwrap_err());
        for part in [
            "administrator",
            "_not_before",
            " session_id ",
            " logged_in ",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert_eq!(told.matches("ADD COLUMN").count(), 2, "{told}");
        // Not those that this version makes itself.
        let statements = told.split_once(":\n").unwrap().1;
        for sql in statements
            .split(";\n")
            .filter(|sql| sql.starts_with("ALTER"))
        {
            $tested.execute(sql).await;
        }
        let told = format!("{:#}", {
            let builder = $store::builder(&url).table(&$tested.table);
            builder.build().await.unwrap_err()
        });
        assert!(!told.contains("ADD COLUMN"), "{told}");
    };
}

#[actix_web::test]
async fn a_table_of_an_earlier_version_is_told_to_postgres_users() {
    let tested = Postgres::start().await;
    earlier_table_of_another!(tested, PostgresSessionStore);
}

#[actix_web::test]
async fn a_table_of_an_earlier_version_is_told_to_mysql_users() {
    let tested = MySql::start().await;
    earlier_table_of_another!(tested, MySqlSessionStore);
}

/// The indexes of a table and of the one beside it: how many, and how to drop one.
struct Indexes {
    count: &'static str,
    drop: &'static str,
}

const OF_SQLITE: Indexes = Indexes {
    count: "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND tbl_name LIKE 'TABLE%'",
    drop: "DROP INDEX \"INDEX\"",
};
const OF_POSTGRES: Indexes = Indexes {
    count: "SELECT COUNT(*) FROM pg_indexes WHERE tablename LIKE 'TABLE%'",
    drop: "DROP INDEX \"INDEX\"",
};
const OF_MYSQL: Indexes = Indexes {
    count: "SELECT COUNT(DISTINCT table_name, index_name) FROM information_schema.statistics \
            WHERE table_schema = DATABASE() AND table_name LIKE 'TABLE%'",
    drop: "DROP INDEX `INDEX` ON ON_TABLE",
};

impl Indexes {
    async fn count(&self, tested: &impl SqlTestStore) -> i64 {
        tested
            .number(&self.count.replace("TABLE", tested.table()))
            .await
    }

    /// Drops the index with that end of its name.
    async fn drop(&self, tested: &impl SqlTestStore, table: &str, suffix: &str) {
        let name = format!("{}_{suffix}", tested.table());
        let drop = self.drop.replace("INDEX`", &format!("{name}`"));
        let drop = drop.replace("INDEX\"", &format!("{name}\""));
        tested.execute(&drop.replace("ON_TABLE", table)).await;
    }
}

/// After a restore that left them out, sweeps and lists would go through the whole table.
async fn indexes_come_back(tested: impl SqlTestStore, indexes: Indexes) {
    let start = || tested.store_through(tested.url(), PATIENCE);
    let all = indexes.count(&tested).await;
    for suffix in ["by_expires", "by_principal"] {
        indexes.drop(&tested, "{t}", suffix).await;
    }
    assert_eq!(indexes.count(&tested).await, all - 2);
    start().await;
    assert_eq!(indexes.count(&tested).await, all);
    // One of the administrator's own is as good.
    indexes.drop(&tested, "{t}", "by_expires").await;
    let own = format!("CREATE INDEX own_{} ON {{t}} (expires, id)", tested.table());
    tested.execute(&own).await;
    start().await;
    assert_eq!(indexes.count(&tested).await, all);
}

#[actix_web::test]
async fn an_index_that_is_missing_is_made_again() {
    indexes_come_back(Sqlite::start().await, OF_SQLITE).await;
    indexes_come_back(Postgres::start().await, OF_POSTGRES).await;
    indexes_come_back(MySql::start().await, OF_MYSQL).await;
}

/// Those of an earlier version had none.
async fn marks_get_an_index(tested: impl SqlTestStore, indexes: Indexes) {
    let all = indexes.count(&tested).await;
    indexes.drop(&tested, "{not_before}", "marks_by_end").await;
    assert_eq!(indexes.count(&tested).await, all - 1);
    tested.store_through(tested.url(), PATIENCE).await;
    assert_eq!(indexes.count(&tested).await, all);
}

#[actix_web::test]
async fn marks_that_are_there_already_get_an_index() {
    marks_get_an_index(Sqlite::start().await, OF_SQLITE).await;
    marks_get_an_index(Postgres::start().await, OF_POSTGRES).await;
    marks_get_an_index(MySql::start().await, OF_MYSQL).await;
}

/// Whoever may not make it starts without, and is told.
macro_rules! without_an_index {
    ($tested:ident, $store:ident, $indexes:ident) => {
        capture::install();
        let url = $tested.user(10).await;
        $indexes.drop(&$tested, "{t}", "by_expires").await;
        let all = $indexes.count(&$tested).await;
        let builder = $store::builder(&url).table(&$tested.table);
        let store = builder.build().await.unwrap();
        let key = fill_store(&store, 0).await;
        assert!(store.load(&key).await.unwrap().is_some());
        assert_eq!($indexes.count(&$tested).await, all);
        let lines = capture::own_lines();
        let told = |text: &str| text.contains("CREATE INDEX") && text.contains(&$tested.table);
        assert_eq!(lines.iter().filter(|line| told(&line.text)).count(), 1);
    };
}

#[actix_web::test]
async fn rights_on_rows_are_enough_without_an_index_on_postgres() {
    let tested = Postgres::start().await;
    without_an_index!(tested, PostgresSessionStore, OF_POSTGRES);
}

#[actix_web::test]
async fn rights_on_rows_are_enough_without_an_index_on_mysql() {
    let tested = MySql::start().await;
    without_an_index!(tested, MySqlSessionStore, OF_MYSQL);
}

macro_rules! rows_name_sessions {
    ($tested:ident, $store:ident) => {
        let _of_this_kind: $store = $tested.store();
        let browser = $tested.browser().await;
        let same = "SELECT COUNT(DISTINCT session_id) FROM {t} WHERE session_id IS NOT NULL";
        let later = "SELECT COUNT(*) FROM {t} WHERE authenticated > logged_in";
        browser
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_ok();
        browser
            .visit(|s| s.login("alice").unwrap())
            .await
            .assert_ok();
        assert_eq!($tested.number(NAMED).await, 1);
        assert_eq!($tested.number(later).await, 0);
        $tested.clock().advance(Duration::from_secs(60));
        browser
            .visit(|s| s.reauthenticated().unwrap())
            .await
            .assert_ok();
        assert_eq!($tested.number(NAMED).await, 1);
        assert_eq!($tested.number(later).await, 1, "logged in when it was");
        browser.visit(|s| s.purge()).await.assert_ok();
        assert_eq!($tested.number(same).await, 0);
    };
}

on_each_database!(a_row_says_whose_session_it_is, rows_name_sessions);

#[actix_web::test]
async fn a_missing_folder_is_told() {
    let url = "sqlite:///nobody/made/this/sessions.sqlite3";
    let error = SqliteSessionStore::new(url).await.unwrap_err();
    let told = format!("{error:#}");
    assert!(told.contains("/nobody/made/this does not exist"), "{told}");
}

/// Names that the database's own encoding cannot hold.
async fn any_name_can_log_in(url: &str, create: &str, tested: impl SqlTestStore) {
    let database = format!("e_{}", random_name().to_lowercase());
    tested.execute(&create.replace("NAME", &database)).await;
    let url = format!("{}/{database}", url.rsplit_once('/').unwrap().0);
    let encoded = at(&tested, &url).await;
    let browser = encoded.browser().await;
    for name in ["Łukasz", "Ørsted", "Ferris 🦀", r"\305\201"] {
        let login = |s: &actix_session::Session| {
            s.insert("name", name).unwrap();
            s.login(name).unwrap();
        };
        browser.visit(login).await.assert_ok().assert_sets_cookie();
        assert_eq!(browser.principal().await.as_deref(), Some(name));
        let seen = "SELECT COUNT(*) FROM {t} WHERE principal IS NOT NULL";
        assert_eq!(encoded.number(seen).await, 1);
    }
}

/// Another database of the same kind.
async fn at<T: SqlTestStore>(_: &T, url: &str) -> T {
    T::at(url).await
}

#[actix_web::test]
async fn any_name_can_log_in_whatever_the_encoding() {
    for encoding in ["LATIN1", "SQL_ASCII", "UTF8"] {
        let tested = Postgres::start().await;
        let create = format!(
            "CREATE DATABASE NAME ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' \
             TEMPLATE template0"
        );
        let url = tested.url().to_owned();
        any_name_can_log_in(&url, &create, tested).await;
    }
    let tested = MySql::start().await;
    let url = tested.url().to_owned();
    let create = "CREATE DATABASE NAME CHARACTER SET latin1";
    any_name_can_log_in(&url, create, tested).await;
}

/// What the documentation shows is what runs.
#[actix_web::test]
async fn the_documented_sql_is_the_sql() {
    let docs = include_str!("../../docs/stores-sql.md");
    let (sqlite, postgres, mysql) = (
        AnySql(Sqlite::start().await.store().schema_sql()),
        AnySql(Postgres::start().await.store().schema_sql()),
        AnySql(MySql::start().await.store().schema_sql()),
    );
    for AnySql(sql) in [sqlite, postgres, mysql] {
        let table = sql
            .split('"')
            .chain(sql.split('`'))
            .find(|part| part.starts_with("test_"));
        let sql = sql.replace(table.unwrap(), "actix_sessions");
        assert!(docs.contains(&sql), "docs/stores-sql.md lacks:\n{sql}");
    }
}

struct AnySql(String);

const URL: &str = "SQL_TABLES_MIGRATE";

/// What each of ten processes runs; by itself it makes a table of its own.
#[actix_web::test]
async fn one_process_makes_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let own = format!("sqlite://{}/own.sqlite3", folder.path().display());
    let url = env::var(URL).unwrap_or(own);
    let store = AnySessionStore::new(&url).await.unwrap();
    let key = fill_store(&store, 0).await;
    assert!(store.load(&key).await.unwrap().is_some());
}

#[actix_web::test]
async fn ten_processes_make_the_table_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let own = format!("db_{}", random_name());
    let postgres = Postgres::start().await;
    postgres
        .execute(&format!("CREATE DATABASE \"{own}\""))
        .await;
    let mysql = MySql::start().await;
    mysql.execute(&format!("CREATE DATABASE `{own}`")).await;
    let at = |url: &str| format!("{}/{own}", url.rsplit_once('/').unwrap().0);
    for url in [
        format!("sqlite://{}/new.sqlite3", folder.path().display()),
        at(postgres.url()),
        at(mysql.url()),
    ] {
        let start = || {
            let mut command = alone("sql_tables::one_process_makes_the_table");
            command.env(URL, &url).stdout(Stdio::piped());
            command.spawn().unwrap()
        };
        let processes: Vec<_> = (0..10).map(|_| start()).collect();
        for process in processes {
            assert_passed(&process.wait_with_output().unwrap());
        }
    }
    postgres.execute(&format!("DROP DATABASE \"{own}\"")).await;
    mysql.execute(&format!("DROP DATABASE `{own}`")).await;
}

async fn is_spoken_of(tested: impl SqlTestStore) {
    capture::install();
    let table = tested.table().to_owned();
    let warnings = || {
        let lines = capture::own_lines();
        let warns = |text: &str| text.contains("expired more than a day ago");
        let ours = lines.iter().filter(|line| warns(&line.text));
        ours.filter(|line| line.text.contains(&table)).count()
    };
    let start = || tested.store_through(tested.url(), PATIENCE);
    tested.browser().await.visit(count).await.assert_ok();
    tested.clock().advance(Duration::from_secs(36 * 3600));
    start().await;
    assert_eq!(warnings(), 0, "it expired half a day ago");
    tested.clock().advance(Duration::from_secs(24 * 3600));
    let store = start().await;
    assert_eq!(warnings(), 1);
    drop(store);
    tested.execute("DELETE FROM {t}").await;
    start().await;
    assert_eq!(warnings(), 1, "somebody has swept");
}

#[actix_web::test]
async fn a_table_that_nobody_sweeps_is_spoken_of_at_the_start() {
    is_spoken_of(Sqlite::start().await).await;
    is_spoken_of(Postgres::start().await).await;
    is_spoken_of(MySql::start().await).await;
}
