//! A visit from the first page to the logout, on every store.

use std::env;

use futures_util::future::join_all;
use reqwest::StatusCode;
use webapp::{Config, StoreUrl};

use crate::site::Site;

/// On every store: anonymous notes survive the login, the page shows them escaped, and after the
/// logout nothing is left.
async fn journey(site: &Site) {
    let ada = site.visitor();
    ada.add_note("buy <b>milk</b> & bread").await;
    ada.register("ada").await;
    assert!(ada.page("/").await.contains("Your account is ready"));
    let notes = ada.page("/notes").await;
    assert!(
        notes.contains("buy &#60;b&#62;milk&#60;/b&#62; &#38; bread"),
        "{notes}"
    );

    ada.submit("/clicks", &[]).await;
    assert_eq!(ada.clicks().await, 1);
    ada.submit("/notes/0/remove", &[]).await;
    assert!(!ada.page("/notes").await.contains("milk"));

    ada.submit("/logout", &[]).await;
    assert!(ada.page("/").await.contains("Goodbye!"));
    assert!(!ada.is_logged_in().await);
    assert_eq!(ada.clicks().await, 0);

    ada.log_in("ada").await;
    assert!(ada.page("/").await.contains("You are logged in."));
    assert!(ada.is_logged_in().await);
}

/// On every store that servers share: all parallel clicks count, and the cookie from before the
/// logout opens nothing afterwards.
async fn shared_store_journey(site: &Site) {
    let bob = site.visitor();
    bob.register("bob").await;
    let clicks = (0..32).map(|_| bob.post("/clicks", &[]));
    for response in join_all(clicks).await {
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
    }
    assert_eq!(bob.clicks().await, 32);

    let cookie = bob.cookies().unwrap();
    bob.submit("/logout", &[]).await;
    let thief = site.visitor();
    thief.take_cookie(&cookie);
    assert!(!thief.is_logged_in().await);
    assert_eq!(thief.clicks().await, 0);
}

#[actix_web::test]
async fn sessions_in_memory() {
    let (site, _folder) = Site::start().await;
    journey(&site).await;
    shared_store_journey(&site).await;
    site.stop().await;
}

#[actix_web::test]
async fn sessions_in_the_cookie() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start_with(folder.path(), StoreUrl::Cookie).await;
    journey(&site).await;
    site.stop().await;
}

#[actix_web::test]
async fn sessions_in_redis() {
    let Some(url) = server_url("REDIS_URL") else {
        return;
    };
    over_a_restart(StoreUrl::At(url)).await;
}

#[actix_web::test]
async fn sessions_in_postgres() {
    let Some(url) = server_url("POSTGRES_URL") else {
        return;
    };
    over_a_restart(StoreUrl::At(url)).await;
}

#[actix_web::test]
async fn sessions_in_mariadb() {
    let Some(url) = server_url("MYSQL_URL") else {
        return;
    };
    over_a_restart(StoreUrl::At(url)).await;
}

#[actix_web::test]
async fn sessions_in_a_file_beside_the_users() {
    over_a_restart(StoreUrl::File).await;
}

async fn over_a_restart(store: StoreUrl) {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start_with(folder.path(), store.clone()).await;
    journey(&site).await;
    shared_store_journey(&site).await;

    let eve = site.visitor();
    eve.register("eve").await;
    site.stop().await;
    let site = Site::start_with(folder.path(), store).await;
    let eve_after_restart = site.visitor();
    eve_after_restart.take_cookie(&eve.cookies().unwrap());
    assert!(
        eve_after_restart.is_logged_in().await,
        "the store must keep sessions over a restart"
    );
    site.stop().await;
}

/// `cargo xtask test` always sets the variable, and CI runs nothing else.
fn server_url(variable: &str) -> Option<String> {
    let url = env::var(variable).ok().filter(|url| !url.is_empty());
    let ci = env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        url.is_some() || !ci,
        "{variable} is not set: run `cargo xtask test`, which starts the servers"
    );
    if url.is_none() {
        eprintln!("skipped: set {variable}, or run `cargo xtask test`, which starts the servers");
    }
    url
}

#[actix_web::test]
async fn a_redis_that_is_down_is_named_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder
        .path()
        .join("webapp.sqlite3")
        .to_string_lossy()
        .into_owned();
    let config = Config::from_lookup(|name| match name {
        "APP_SECRET_KEY" => Some("ab".repeat(64)),
        "BIND" => Some("127.0.0.1:0".to_owned()),
        "DATABASE_FILE" => Some(database.clone()),
        // Nobody listens on port 1: the connection is refused at once.
        "SESSION_STORE" => Some("redis://me:hunter2@127.0.0.1:1".to_owned()),
        _ => None,
    });
    let error = webapp::Application::start(&config.unwrap())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("redis://127.0.0.1:1") && error.contains("SESSION_STORE"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}
