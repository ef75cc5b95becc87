//! Visitors without a session, and what they leave in the store.

use std::path::Path;

use reqwest::{StatusCode, header};
use sqlx::{Connection as _, SqliteConnection};
use webapp::StoreUrl;

use crate::site::{PASSWORD, Site};

async fn stored_sessions(folder: &Path) -> i64 {
    let file = folder.join("sessions.sqlite3");
    let url = format!("sqlite://{}", file.display());
    let mut store = SqliteConnection::connect(&url).await.unwrap();
    let count = sqlx::query_scalar("SELECT count(*) FROM actix_sessions");
    count.fetch_one(&mut store).await.unwrap()
}

#[actix_web::test]
async fn a_visitor_who_is_only_turned_away_leaves_nothing_in_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start_with(folder.path(), StoreUrl::File).await;
    let long = "x".repeat(20_000);
    let guest = site.visitor();
    for path in ["/account", "/login?to=account", "/logout", "/no-such-page"] {
        guest.get(path).await;
        guest.head(path).await;
    }
    for (path, form) in [
        ("/account", &[][..]),
        ("/logout", &[]),
        ("/notes/0/remove", &[]),
        ("/notes/x/remove", &[]),
        ("/no-such-page", &[]),
        ("/notes", &[("text", " ")]),
        ("/notes", &[("text", &long)]),
        ("/notes", &[("wrong", "field")]),
        (
            "/login",
            &[("name", "nobody"), ("password", PASSWORD), ("keep", "on")],
        ),
        ("/register", &[("name", "a"), ("password", PASSWORD)]),
    ] {
        let response = guest.post(path, form).await;
        assert!(!response.status().is_server_error(), "{path}");
        assert!(
            !response.headers().contains_key(header::SET_COOKIE),
            "{path}"
        );
    }
    for _ in 0..6 {
        let form = [("name", "ada"), ("password", "wrong horse battery")];
        guest.post("/login", &form).await;
    }
    assert_eq!(guest.cookies(), None);
    assert_eq!(stored_sessions(folder.path()).await, 0);

    guest.submit("/clicks", &[]).await;
    assert_eq!(stored_sessions(folder.path()).await, 1);
    site.stop().await;
}

#[actix_web::test]
async fn whoever_wanted_the_account_page_gets_there_after_the_login() {
    let (site, _folder) = Site::start().await;
    site.visitor().register("ada").await;
    let ada = site.visitor();
    let response = ada.get("/account").await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let location = response.headers()[header::LOCATION].to_str().unwrap();
    let page = ada.page(location).await;
    assert!(page.contains("Log in to see your account."), "{page}");
    assert!(page.contains("name=\"to\" value=\"account\""), "{page}");

    let form = [("name", "ada"), ("password", PASSWORD), ("to", "account")];
    assert_eq!(ada.submit("/login", &form).await, "/account");
    let elsewhere = site.visitor();
    let form = [
        ("name", "ada"),
        ("password", PASSWORD),
        ("to", "//evil.example"),
    ];
    assert_eq!(elsewhere.submit("/login", &form).await, "/");
    site.stop().await;
}
