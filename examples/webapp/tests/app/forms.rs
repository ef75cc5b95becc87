//! Forms from other sites, headers, and requests that make no sense.

use reqwest::{StatusCode, header};

use crate::site::Site;

#[actix_web::test]
async fn a_form_from_another_site_is_refused() {
    let (site, _folder) = Site::start().await;
    let ada = site.visitor();
    ada.register("ada").await;
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let request = ada
            .client
            .post(ada.url.join("/logout").unwrap())
            .header(name, value);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{name}: {value}");
        assert!(
            response
                .headers()
                .contains_key(header::CONTENT_SECURITY_POLICY)
        );
        assert!(response.text().await.unwrap().contains("another site"));
    }
    assert!(ada.is_logged_in().await);

    let own = ada.url.origin().ascii_serialization();
    let request = ada
        .client
        .post(ada.url.join("/logout").unwrap())
        .header("origin", own);
    assert_eq!(
        request.send().await.unwrap().status(),
        StatusCode::SEE_OTHER
    );
    assert!(!ada.is_logged_in().await);
    site.stop().await;
}

#[actix_web::test]
async fn every_response_has_the_security_headers() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    for path in [
        "/",
        "/static/style.css",
        "/no-such-page",
        "/logout",
        "/notes/x/remove",
    ] {
        let response = visitor.get(path).await;
        let headers = response.headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'self';"),
            "{path}: {policy}"
        );
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(headers[header::REFERRER_POLICY], "same-origin", "{path}");
    }
    site.stop().await;
}

#[actix_web::test]
async fn nonsense_gets_a_page_not_a_server_error() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    let response = visitor.get("/no-such-page").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(
        response
            .text()
            .await
            .unwrap()
            .contains("There is no such page")
    );

    let response = visitor.post("/login", &[("user", "ada")]).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(response.text().await.unwrap().contains("could not be read"));

    let response = visitor
        .post("/notes", &[("text", &"x".repeat(20_000))])
        .await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);

    assert_eq!(
        visitor.get("/logout").await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        visitor.post("/notes/x/remove", &[]).await.status(),
        StatusCode::NOT_FOUND
    );
    site.stop().await;
}
