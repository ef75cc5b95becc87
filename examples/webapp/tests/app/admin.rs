//! The page for administrators.

use reqwest::StatusCode;
use sqlx::{Connection as _, SqliteConnection};
use webapp::{Config, StoreUrl};

use crate::site::{Site, config};

/// A site that `ada` administers.
async fn site(folder: &std::path::Path, store: StoreUrl) -> Site {
    Site::start_from(&Config {
        admins: vec!["Ada".to_owned()],
        ..config(folder, store)
    })
    .await
}

/// The addresses that the page's buttons send forms to.
fn buttons(page: &str) -> Vec<String> {
    let forms = page.split("action=\"/admin/users/").skip(1);
    let ends = forms.map(|form| form.split('"').next().unwrap_or_default());
    ends.map(|end| format!("/admin/users/{end}")).collect()
}

#[actix_web::test]
async fn an_administrator_ends_all_sessions_of_a_user() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path(), StoreUrl::Memory).await;
    let [ada, bob, phone, eve] = [(); 4].map(|()| site.visitor());
    ada.register("ada").await;
    bob.register("bob").await;
    phone.log_in("bob").await;
    eve.register("eve").await;
    assert!(ada.page("/account").await.contains("href=\"/admin\""));
    let page = ada.page("/admin").await;
    assert!(page.contains("2 sessions"), "{page}");
    let ends = buttons(&page);
    assert_eq!(ends.len(), 3, "{page}");
    assert_eq!(ada.submit(&ends[1], &[]).await, "/admin");
    let page = ada.page("/admin").await;
    assert!(
        page.contains("bob is logged out everywhere: 2 sessions ended."),
        "{page}"
    );
    assert!(page.contains("no session"), "{page}");
    assert!(!bob.is_logged_in().await && !phone.is_logged_in().await);
    assert!(eve.is_logged_in().await);
    // A login that begins later passes.
    bob.log_in("bob").await;
    assert!(bob.is_logged_in().await);
    // The administrator's own.
    assert_eq!(ada.submit(&ends[0], &[]).await, "/");
    assert!(!ada.is_logged_in().await);
    site.stop().await;
}

#[actix_web::test]
async fn a_list_that_is_cut_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path(), StoreUrl::Memory).await;
    let ada = site.visitor();
    ada.register("ada").await;
    let file = folder.path().join("webapp.sqlite3");
    let file = format!("sqlite://{}", file.display());
    let mut users = SqliteConnection::connect(&file).await.unwrap();
    for number in 1..100 {
        let page = ada.page("/admin").await;
        assert!(!page.contains("users by name"), "{page}");
        let register = "INSERT INTO users (name, password_hash) VALUES (?, '')";
        let query = sqlx::query(register).bind(format!("user-{number}"));
        query.execute(&mut users).await.unwrap();
    }
    let page = ada.page("/admin").await;
    assert!(page.contains("The first 100 users by name"), "{page}");
    users.close().await.unwrap();
    site.stop().await;
}

#[actix_web::test]
async fn for_everybody_else_there_is_no_such_page() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path(), StoreUrl::Memory).await;
    let [ada, eve, guest] = [(); 3].map(|()| site.visitor());
    ada.register("ada").await;
    eve.register("eve").await;
    let ends = buttons(&ada.page("/admin").await);
    for visitor in [&eve, &guest] {
        assert_eq!(visitor.get("/admin").await.status(), StatusCode::NOT_FOUND);
        let response = visitor.post(&ends[0], &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
    assert!(!eve.page("/account").await.contains("/admin"));
    assert!(ada.is_logged_in().await);
    let nobody = ada.post("/admin/users/nobody/end", &[]).await;
    assert_eq!(nobody.status(), StatusCode::NOT_FOUND);
    site.stop().await;
}

#[actix_web::test]
async fn sessions_in_cookies_have_no_administration() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path(), StoreUrl::Cookie).await;
    let ada = site.visitor();
    ada.register("ada").await;
    assert_eq!(ada.get("/admin").await.status(), StatusCode::NOT_FOUND);
    site.stop().await;
}
