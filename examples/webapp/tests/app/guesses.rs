//! Whoever guesses passwords.

use reqwest::{Response, StatusCode, header};
use webapp::{Config, StoreUrl};

use crate::site::{PASSWORD, Site, Visitor, config};

const WRONG: &str = "wrong horse battery";

/// A login, through a proxy that has noted where it came from.
async fn log_in_from(visitor: &Visitor, address: &str, name: &str, password: &str) -> Response {
    let request = visitor
        .client
        .post(visitor.url.join("/login").unwrap())
        .header("x-forwarded-for", address)
        .form(&[("name", name), ("password", password)]);
    request.send().await.unwrap()
}

async fn start_behind_a_proxy(folder: &tempfile::TempDir) -> Site {
    let config = Config {
        trusted_proxies: vec![[127, 0, 0, 1].into()],
        ..config(folder.path(), StoreUrl::Memory)
    };
    Site::start_from(&config).await
}

async fn assert_must_wait(response: Response) {
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds = response.headers()[header::RETRY_AFTER].to_str().unwrap();
    let seconds: u64 = seconds.parse().unwrap();
    assert!((1..=15 * 60).contains(&seconds), "{seconds}");
    let page = response.text().await.unwrap();
    assert!(page.contains("Too many wrong passwords. Wait"), "{page}");
}

#[actix_web::test]
async fn the_sixth_wrong_password_for_a_name_must_wait_but_another_address_need_not() {
    let folder = tempfile::tempdir().unwrap();
    let site = start_behind_a_proxy(&folder).await;
    let visitor = site.visitor();
    site.visitor().register("ada").await;
    site.visitor().register("bob").await;
    for name in ["ada", "ADA", " ada", "ada", "ada"] {
        let response = log_in_from(&visitor, "192.0.2.1", name, WRONG).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    for password in [WRONG, PASSWORD] {
        assert_must_wait(log_in_from(&visitor, "192.0.2.1", "ada", password).await).await;
    }
    assert_eq!(visitor.cookies(), None);

    for (address, name) in [("192.0.2.1", "bob"), ("192.0.2.2", "ada")] {
        let response = log_in_from(&site.visitor(), address, name, PASSWORD).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{name}");
    }
    site.stop().await;
}

#[actix_web::test]
async fn the_thirtieth_wrong_password_from_an_address_must_wait_whatever_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let site = start_behind_a_proxy(&folder).await;
    let visitor = site.visitor();
    visitor.register("ada").await;
    for number in 0..29 {
        let name = format!("name{number}");
        let response = log_in_from(&visitor, "192.0.2.1", &name, WRONG).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    for (name, password) in [("name29", WRONG), ("ada", PASSWORD)] {
        assert_must_wait(log_in_from(&visitor, "192.0.2.1", name, password).await).await;
    }
    let response = log_in_from(&visitor, "192.0.2.2", "ada", PASSWORD).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    site.stop().await;
}

#[actix_web::test]
async fn right_passwords_do_not_count() {
    let (site, _folder) = Site::start().await;
    site.visitor().register("ada").await;
    for _ in 0..8 {
        site.visitor().log_in("ada").await;
    }
    site.stop().await;
}

#[actix_web::test]
async fn without_a_trusted_proxy_nobody_can_claim_another_address() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    for number in 0..5 {
        let response = log_in_from(&visitor, &format!("192.0.2.{number}"), "ada", WRONG).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_must_wait(log_in_from(&visitor, "192.0.2.6", "ada", WRONG).await).await;
    site.stop().await;
}
