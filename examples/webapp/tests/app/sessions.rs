//! What a session contains, and when there is none.

use reqwest::{StatusCode, header};
use webapp::{Environment, StoreUrl};

use crate::site::Site;

#[actix_web::test]
async fn a_visitor_that_only_reads_gets_no_cookie() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    for path in ["/", "/notes", "/login", "/register", "/static/style.css"] {
        visitor.page(path).await;
    }
    visitor
        .post("/login", &[("name", "nobody"), ("password", "wrong horse")])
        .await;
    assert_eq!(visitor.cookies(), None);
    site.stop().await;
}

#[actix_web::test]
async fn a_login_changes_the_key_and_the_old_one_opens_nothing() {
    let (site, _folder) = Site::start().await;
    let ada = site.visitor();
    ada.add_note("mine").await;
    let planted = ada.cookies().unwrap();
    ada.register("ada").await;
    assert!(ada.page("/notes").await.contains("mine"));

    let attacker = site.visitor();
    attacker.take_cookie(&planted);
    assert!(!attacker.is_logged_in().await);
    assert!(!attacker.page("/notes").await.contains("mine"));
    site.stop().await;
}

#[actix_web::test]
async fn a_message_is_shown_once() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    visitor.add_note("milk").await;
    assert!(visitor.page("/notes").await.contains("Note added."));
    assert!(!visitor.page("/notes").await.contains("Note added."));
    site.stop().await;
}

#[actix_web::test]
async fn the_next_account_in_the_same_browser_sees_nothing_of_the_previous_one() {
    let (site, _folder) = Site::start().await;
    let browser = site.visitor();
    browser.register("ada").await;
    browser.add_note("secret plan").await;
    // From one account straight to the other, without a logout in between.
    browser.register("bob").await;
    assert!(browser.page("/account").await.contains("bob"));
    assert!(!browser.page("/notes").await.contains("secret plan"));
    site.stop().await;
}

#[actix_web::test]
async fn notes_are_bounded() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    for number in 0..10 {
        visitor.add_note(&format!("note {number}")).await;
    }
    for (text, says) in [
        ("one more", "Your notes are full."),
        ("   ", "Write something first."),
        (&"x".repeat(201), "Shorten it to 200 characters."),
    ] {
        let response = visitor.post("/notes", &[("text", text)]).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert!(response.text().await.unwrap().contains(says));
    }
    site.stop().await;
}

#[actix_web::test]
async fn full_notes_fit_into_a_cookie_whatever_they_contain() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start_with(folder.path(), StoreUrl::Cookie).await;
    let letters = ["x", "\"", "\\", "ä", "🦀", "\u{202e}"];
    for (number, letter) in letters.into_iter().enumerate() {
        let visitor = site.visitor();
        visitor.register(&format!("crab{number}")).await;
        let text = letter.repeat(200);
        let mut added = 0;
        while visitor.post("/notes", &[("text", &text)]).await.status() == StatusCode::SEE_OTHER {
            added += 1;
        }
        assert!((2..=10).contains(&added), "{added} times {letter}");
        assert_eq!(
            visitor
                .page("/notes")
                .await
                .matches("class=\"text\"")
                .count(),
            added
        );
        assert!(visitor.cookies().unwrap().len() <= 4096);
    }
    site.stop().await;
}

#[actix_web::test]
async fn the_cookie_is_for_this_site_only_and_no_page_is_cached() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    let response = visitor.post("/clicks", &[]).await;
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("webapp_session="), "{cookie}");
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let (_, max_age) = cookie.split_once("Max-Age=").unwrap();
    let seconds: u32 = max_age.split(';').next().unwrap().parse().unwrap();
    let fortnight = 14 * 24 * 60 * 60;
    assert!((fortnight - 60..=fortnight).contains(&seconds), "{cookie}");
    let page = visitor.get("/").await;
    assert_eq!(page.headers()[header::CACHE_CONTROL], "no-store");
    site.stop().await;
}

#[actix_web::test]
async fn in_production_the_cookie_is_sent_over_https_only() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start_as(Environment::Production, folder.path(), StoreUrl::Memory).await;
    let response = site.visitor().post("/clicks", &[]).await;
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-webapp_session="), "{cookie}");
    assert!(
        cookie.contains("Secure") && !cookie.contains("Domain"),
        "{cookie}"
    );
    site.stop().await;
}
