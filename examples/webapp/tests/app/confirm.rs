//! Step-up: what is sensitive asks for the password again.

use std::path::Path;

use actix_session::{SessionMiddleware, storage::SqliteSessionStore};
use actix_web::cookie::Key;
use reqwest::StatusCode;
use sqlx::{Connection as _, SqliteConnection};
use webapp::StoreUrl;

use crate::site::{PASSWORD, Site, Visitor};

const EMAIL: &str = "/account/email";

/// What a job of the application's would do after a suspicious event, beside the running server. (The
/// other way to have to confirm is to wait for ten minutes.)
async fn demand_reauth(folder: &Path, name: &str) {
    let users = format!("sqlite://{}", folder.join("webapp.sqlite3").display());
    let mut users = SqliteConnection::connect(&users).await.unwrap();
    let query = sqlx::query_scalar("SELECT id FROM users WHERE name = ?").bind(name);
    let id: String = query.fetch_one(&mut users).await.unwrap();
    let sessions = format!("sqlite://{}", folder.join("sessions.sqlite3").display());
    let store = SqliteSessionStore::new(sessions).await.unwrap();
    let sessions = SessionMiddleware::new(store, Key::from(&[7; 64])).manager();
    for listed in sessions.list(&id).await.unwrap() {
        let opened = sessions.open(&id, &listed.handle()).await.unwrap().unwrap();
        opened
            .session()
            .demand_reauth("a login from another country");
        opened.commit().await.unwrap();
    }
}

async fn change(visitor: &Visitor, email: &str) -> String {
    visitor.submit(EMAIL, &[("email", email)]).await
}

async fn confirm(visitor: &Visitor, password: &str) -> reqwest::Response {
    let form = [("to", "email"), ("password", password)];
    visitor.post("/confirm", &form).await
}

#[actix_web::test]
async fn the_address_changes_after_the_password_alone() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start_with(folder.path(), StoreUrl::File).await;
    let ada = site.visitor();
    ada.register("ada").await;
    // The password was typed a moment ago.
    ada.page(EMAIL).await;
    assert_eq!(change(&ada, "ada@example.org").await, "/account");
    assert!(ada.page("/account").await.contains("ada@example.org"));

    demand_reauth(folder.path(), "ada").await;
    let response = ada.get(EMAIL).await;
    assert_eq!(response.headers()["location"], "/confirm?to=email");
    assert_eq!(change(&ada, "eve@example.org").await, "/confirm?to=email");
    let page = ada.page("/confirm?to=email").await;
    assert!(page.contains("Is it still you?"), "{page}");
    let wrong = confirm(&ada, "wrong horse battery").await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        wrong
            .text()
            .await
            .unwrap()
            .contains("The password is wrong.")
    );
    assert_eq!(change(&ada, "eve@example.org").await, "/confirm?to=email");

    let before = ada.cookies().unwrap();
    assert_eq!(confirm(&ada, PASSWORD).await.headers()["location"], EMAIL);
    let page = ada.page(EMAIL).await;
    assert!(page.contains("ada@example.org"), "{page}");
    assert_eq!(change(&ada, "ada@example.net").await, "/account");
    assert!(ada.page("/account").await.contains("ada@example.net"));
    // The key is another one.
    let thief = site.visitor();
    thief.take_cookie(&before);
    assert!(!thief.is_logged_in().await);
    site.stop().await;
}

#[actix_web::test]
async fn wrong_passwords_are_counted_here_too() {
    let (site, _folder) = Site::start().await;
    let ada = site.visitor();
    ada.register("ada").await;
    for _ in 0..5 {
        let wrong = confirm(&ada, "wrong horse battery").await;
        assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    let refused = confirm(&ada, PASSWORD).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    site.stop().await;
}

#[actix_web::test]
async fn an_address_is_checked_and_escaped() {
    let (site, _folder) = Site::start().await;
    let ada = site.visitor();
    ada.register("ada").await;
    for email in ["", "ada", "<b>@x", "a@b@c", "\"><script>@x"] {
        let response = ada.post(EMAIL, &[("email", email)]).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let page = response.text().await.unwrap();
        assert!(page.contains("Type one address"), "{page}");
        assert!(
            !page.contains("<b>") && !page.contains("<script>"),
            "{page}"
        );
    }
    change(&ada, "a&b'c@example.org").await;
    let page = ada.page("/account").await;
    assert!(page.contains("a&#38;b&#39;c@example.org"), "{page}");
    site.stop().await;
}

#[actix_web::test]
async fn nobody_confirms_without_a_login() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    for path in [EMAIL, "/confirm?to=email"] {
        let response = visitor.get(path).await;
        assert_eq!(response.headers()["location"], "/login?to=account");
    }
    for (path, form) in [
        (EMAIL, [("email", "a@b"), ("to", "email")]),
        ("/confirm", [("to", "admin"), ("password", PASSWORD)]),
    ] {
        assert_eq!(visitor.submit(path, &form).await, "/login?to=account");
    }
    let bad = visitor.get("/confirm?to=elsewhere").await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
    site.stop().await;
}
