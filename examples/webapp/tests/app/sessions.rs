//! What a session contains, and when there is none.

use reqwest::{Response, StatusCode, header};
use webapp::{Environment, StoreUrl};

use crate::site::{PASSWORD, Site};

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
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let page = visitor.get("/").await;
    assert_eq!(page.headers()[header::CACHE_CONTROL], "no-store");
    site.stop().await;
}

#[actix_web::test]
async fn a_login_outlives_the_browser_only_if_its_user_says_so() {
    let (site, _folder) = Site::start().await;
    site.visitor().register("ada").await;
    let mut form = vec![("name", "ada"), ("password", PASSWORD)];
    let response = site.visitor().post("/login", &form).await;
    assert_eq!(max_age(&response), None);

    form.push(("keep", "on"));
    let ada = site.visitor();
    let fortnight = 14 * 24 * 60 * 60;
    for response in [ada.post("/login", &form).await, ada.get("/notes").await] {
        let seconds = max_age(&response).unwrap();
        assert!((fortnight - 60..=fortnight).contains(&seconds), "{seconds}");
    }

    form.pop();
    let response = ada.post("/login", &form).await;
    assert_eq!(max_age(&response), None, "it was for the login before");
    assert_eq!(max_age(&ada.get("/notes").await), None);
    site.stop().await;
}

/// The session cookie's lifetime in seconds. Without one, it ends with the browser.
fn max_age(response: &Response) -> Option<u32> {
    let cookie = response
        .headers()
        .get(header::SET_COOKIE)?
        .to_str()
        .unwrap();
    let (_, rest) = cookie.split_once("Max-Age=")?;
    Some(rest.split(';').next().unwrap().parse().unwrap())
}

#[actix_web::test]
async fn the_login_page_offers_to_keep_the_login_and_remembers_the_choice() {
    let (site, _folder) = Site::start().await;
    let visitor = site.visitor();
    let page = visitor.page("/login").await;
    assert!(page.contains("name=\"keep\" type=\"checkbox\">"), "{page}");
    let form = [("name", "ada"), ("password", "wrong horse"), ("keep", "on")];
    let page = visitor.post("/login", &form).await.text().await.unwrap();
    assert!(
        page.contains("name=\"keep\" type=\"checkbox\" checked>"),
        "{page}"
    );
    site.stop().await;
}

#[actix_web::test]
async fn what_users_wrote_cannot_turn_the_text_around_it() {
    let (site, _folder) = Site::start().await;
    let ada = site.visitor();
    ada.register("ada").await;
    let note = "\u{202e}milk";
    ada.add_note(note).await;
    let notes = ada.page("/notes").await;
    assert!(notes.contains(&format!("<bdi>{note}</bdi>")), "{notes}");
    for path in ["/", "/notes", "/account"] {
        let page = ada.page(path).await;
        let (names, isolated) = (page.matches("ada<").count(), page.matches("<bdi>ada</bdi>"));
        assert!(names > 0 && names == isolated.count(), "{page}");
    }
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
        cookie.contains("Secure") && cookie.contains("Strict") && !cookie.contains("Domain"),
        "{cookie}"
    );
    site.stop().await;
}
