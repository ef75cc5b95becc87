//! Registration and login.

use reqwest::StatusCode;
use webapp::StoreUrl;

use crate::site::{PASSWORD, Site};

#[actix_web::test]
async fn a_wrong_password_and_an_unknown_name_get_the_same_response() {
    let (site, _folder) = Site::start().await;
    site.visitor().register("ada").await;

    let mut responses = Vec::new();
    for (name, password) in [
        ("ada", "wrong horse battery"),
        ("nobody", PASSWORD),
        ("ada", ""),
    ] {
        let visitor = site.visitor();
        let response = visitor
            .post("/login", &[("name", name), ("password", password)])
            .await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        responses.push(response.text().await.unwrap().replace(name, "NAME"));
        assert!(!visitor.is_logged_in().await);
    }
    assert!(responses[0].contains("The user name or password is wrong."));
    assert!(responses.iter().all(|page| *page == responses[0]));
    site.stop().await;
}

#[actix_web::test]
async fn a_refused_registration_is_explained_beside_the_field() {
    let (site, _folder) = Site::start().await;
    site.visitor().register("ada").await;
    for (name, password, says) in [
        ("ADA", PASSWORD, "This name is taken."),
        ("a", PASSWORD, "Use 3 to 32 characters"),
        ("<script>", PASSWORD, "Use 3 to 32 characters"),
        ("bob", "short", "Use at least 8 characters."),
        ("bob", &"x".repeat(129), "Use at most 128 characters."),
        ("bob", "password1", "Choose another one"),
    ] {
        let visitor = site.visitor();
        let response = visitor
            .post("/register", &[("name", name), ("password", password)])
            .await;
        assert_eq!(
            response.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{name} {password}"
        );
        let page = response.text().await.unwrap();
        assert!(page.contains(says), "{page}");
        assert!(
            !page.contains("<script>") && !page.contains(password),
            "{page}"
        );
        assert!(!visitor.is_logged_in().await);
    }
    site.stop().await;
}

#[actix_web::test]
async fn users_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start_with(folder.path(), StoreUrl::Memory).await;
    site.visitor().register("ada").await;
    site.stop().await;

    let site = Site::start_with(folder.path(), StoreUrl::Memory).await;
    let ada = site.visitor();
    ada.log_in("ada").await;
    assert!(ada.page("/account").await.contains("ada"));
    site.stop().await;
}

#[actix_web::test]
async fn a_session_does_not_open_the_account_of_another_database() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let site = Site::start_with(folders[0].path(), StoreUrl::Cookie).await;
    let ada = site.visitor();
    ada.register("ada").await;
    site.stop().await;

    let site = Site::start_with(folders[1].path(), StoreUrl::Cookie).await;
    site.visitor().register("bob").await;
    let stranger = site.visitor();
    stranger.take_cookie(&ada.cookies().unwrap());
    assert!(!stranger.is_logged_in().await);
    site.stop().await;
}
