//! How SQLite carries the statements out: by an index, each of them.

use sqlx::{Connection as _, Row as _, Sqlite, SqliteConnection};

use super::{statements::Statements, table::Table};
use crate::storage::SqliteSessionStore;

/// The SQL of every statement, in whichever field it is.
fn all() -> Vec<String> {
    let table = Table::new(None, "plans".to_owned()).expect("the name is valid");
    let shown = format!("{:?}", Statements::new::<Sqlite>(&table, true, None));
    let texts = shown.split("sql: \"").skip(1);
    let texts = texts.filter_map(|text| Some(text.split_once("\", params:")?.0));
    texts
        .map(|text| text.replace("\\\"", "\"").replace("\\'", "'"))
        .collect()
}

#[actix_web::test]
async fn no_statement_scans_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("file").display());
    let builder = SqliteSessionStore::builder(&url).table("plans");
    let _store = builder.build().await.unwrap();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let all = all();
    assert!(all.len() > 25, "{}", all.len());
    for sql in all {
        assert!(!sql.contains('\\'), "{sql}");
        let explain = format!("EXPLAIN QUERY PLAN {sql}");
        let plan = sqlx::query(&explain).fetch_all(&mut connection).await;
        for step in plan.unwrap_or_else(|error| panic!("{sql}: {error}")) {
            let step: String = step.get("detail");
            // Whoever is logged in has an index, which holds nobody else: an operator counts its entries. The
            // look at the start goes to the first mark.
            let is_known = step == "SCAN CONSTANT ROW"
                || step.contains("USING COVERING INDEX plans_by_principal")
                || sql.contains("WHERE id = '' AND EXISTS");
            assert!(!step.contains("SCAN") || is_known, "{step}: {sql}");
        }
    }
}
