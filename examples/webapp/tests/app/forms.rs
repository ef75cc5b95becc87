//! Forms from other sites, headers, and requests that make no sense.

use reqwest::{Method, Response, StatusCode, header};

use crate::site::{PASSWORD, Site};

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

/// A login needs no cookie: another site could log a visitor in to an account of its own.
#[actix_web::test]
async fn a_login_from_another_site_is_refused() {
    let (site, _folder) = Site::start().await;
    site.visitor().register("eve").await;
    let visitor = site.visitor();
    for origin in ["https://evil.example", "null"] {
        let request = visitor
            .client
            .post(visitor.url.join("/login").unwrap())
            .header("origin", origin)
            .form(&[("name", "eve"), ("password", PASSWORD)]);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{origin}");
        assert!(response.text().await.unwrap().contains("another site"));
    }
    assert!(!visitor.is_logged_in().await);
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
    assert_explains(response, "shorten what you wrote").await;

    let json = visitor
        .client
        .post(visitor.url.join("/notes").unwrap())
        .header(header::CONTENT_TYPE, "application/json")
        .body("{\"text\": \"milk\"}");
    let response = json.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_explains(response, "application/x-www-form-urlencoded").await;
    site.stop().await;
}

/// The response is one of our pages, with a way back.
async fn assert_explains(response: Response, says: &str) {
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/html; charset=utf-8"
    );
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let page = response.text().await.unwrap();
    assert!(page.contains(says), "{page}");
    assert!(page.contains("Go to the start page"), "{page}");
}

#[actix_web::test]
async fn a_wrong_method_gets_a_page_and_the_right_ones() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    for (method, path, allowed) in [
        (Method::GET, "/logout", "POST"),
        (Method::HEAD, "/clicks", "POST"),
        (Method::PUT, "/notes", "GET, HEAD, POST"),
        (Method::DELETE, "/login", "GET, HEAD, POST"),
        (Method::POST, "/account", "GET, HEAD"),
        (Method::POST, "/static/style.css", "GET, HEAD"),
        (Method::OPTIONS, "/", "GET, HEAD"),
    ] {
        let url = visitor.url.join(path).unwrap();
        let request = visitor.client.request(method.clone(), url);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(response.headers()[header::ALLOW], allowed, "{path}");
        if method != Method::HEAD {
            assert_explains(response, "Open the page, and use its links and buttons.").await;
        }
    }
    site.stop().await;
}

#[actix_web::test]
async fn an_address_that_leads_nowhere_gets_a_page() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    for (method, path) in [
        (Method::GET, "/no-such-page"),
        (Method::POST, "/no-such-page"),
        (Method::GET, "/notes/"),
        (Method::GET, "//"),
        (Method::GET, "/%ff%00%zz"),
        (Method::GET, "/static/no-such-file"),
        (Method::POST, "/notes/x/remove"),
        (Method::POST, "/notes/%ff/remove"),
        (Method::POST, "/notes/99999999999999999999/remove"),
    ] {
        // `Url::join` would take `//` for a host.
        let url = format!("{}{path}", visitor.url.as_str().trim_end_matches('/'));
        let response = visitor.client.request(method, &url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_explains(response, "There is no such page").await;
    }
    site.stop().await;
}

#[actix_web::test]
async fn head_is_get_without_its_body() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    visitor.add_note("milk").await;
    for path in [
        "/notes",
        "/",
        "/login",
        "/register",
        "/account",
        "/static/style.css",
        "/no-such-page",
    ] {
        let head = visitor.head(path).await;
        let get = visitor.get(path).await;
        assert_eq!(head.status(), get.status(), "{path}");
        for name in [
            header::CONTENT_TYPE,
            header::CACHE_CONTROL,
            header::LOCATION,
        ] {
            assert_eq!(
                head.headers().get(&name),
                get.headers().get(&name),
                "{path}"
            );
        }
        let length = head.headers()[header::CONTENT_LENGTH].clone();
        assert_eq!(head.text().await.unwrap(), "", "{path}");
        let body = get.text().await.unwrap();
        assert_eq!(length, body.len().to_string().as_str(), "{path}");
        if path == "/notes" {
            assert!(body.contains("Note added."), "HEAD must not use it up");
        }
    }
    site.stop().await;
}
