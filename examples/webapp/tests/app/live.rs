//! The session behind the page, and what its script asks.

use std::path::Path;

use futures_util::future::{join, join_all};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use webapp::StoreUrl;

use crate::site::{Site, Visitor};

async fn json_of(response: Response) -> Value {
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

async fn clicks(visitor: &Visitor) -> Value {
    json_of(visitor.get("/session/clicks").await).await
}

/// What stands in a `code` element of the session's page.
fn code(page: &str, number: usize) -> String {
    let code = page.split("<code").nth(number + 1).unwrap();
    let (_, text) = code.split_once('>').unwrap();
    text.split('<').next().unwrap().to_owned()
}

#[actix_web::test]
async fn the_page_shows_what_a_renewal_changes() {
    let (site, _folder) = Site::start().await;
    let ada = site.visitor();
    assert!(
        ada.page("/session")
            .await
            .contains("There is no session yet")
    );
    assert_eq!(ada.submit("/session/renew", &[]).await, "/session");
    assert_eq!(ada.cookies(), None);

    ada.register("ada").await;
    let before = ada.page("/session").await;
    for shown in [
        "by password, from 127.0.0.0/24",
        "unless you come back",
        "in any case",
    ] {
        assert!(before.contains(shown), "{before}");
    }
    let old = ada.cookies().unwrap();
    ada.submit("/session/renew", &[]).await;
    let after = ada.page("/session").await;
    let [cookie, handle] = [0, 1].map(|n| code(&before, n));
    assert!(
        after.contains(&format!("The cookie before, {cookie}, opens nothing")),
        "{after}"
    );
    assert_ne!(code(&after, 0), cookie);
    assert_eq!(code(&after, 1), handle);
    for text in [
        old.to_str().unwrap(),
        ada.cookies().unwrap().to_str().unwrap(),
    ] {
        let (_, value) = text.split_once('=').unwrap();
        assert!(!after.contains(value), "{after}");
    }
    let thief = site.visitor();
    thief.take_cookie(&old);
    assert!(!thief.is_logged_in().await);
    site.stop().await;
}

#[actix_web::test]
async fn sessions_in_cookies_have_a_page_too() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start_with(folder.path(), StoreUrl::Cookie).await;
    let ada = site.visitor();
    ada.register("ada").await;
    let page = ada.page("/session").await;
    assert!(page.contains("most of the clicks are lost"), "{page}");
    site.stop().await;
}

#[actix_web::test]
async fn a_race_loses_no_click_and_a_logout_in_the_midst_is_final() {
    let (site, _folder) = Site::start().await;
    let ada = site.visitor();
    ada.register("ada").await;
    let tabs = [ada.clone(), ada.clone()];
    let race = tabs
        .iter()
        .flat_map(|tab| (0..20).map(|_| tab.post("/clicks", &[])));
    join_all(race).await;
    assert_eq!(
        clicks(&ada).await,
        json!({ "clicks": 40, "logged_in": true })
    );

    let cookie = ada.cookies().unwrap();
    // Whatever is still on its way has this cookie.
    let late = site.visitor();
    late.take_cookie(&cookie);
    let race = join_all((0..20).map(|_| late.post("/clicks", &[])));
    join(race, ada.submit("/logout", &[])).await;
    let thief = site.visitor();
    thief.take_cookie(&cookie);
    assert_eq!(
        clicks(&thief).await,
        json!({ "clicks": 0, "logged_in": false })
    );
    assert!(!ada.is_logged_in().await);
    site.stop().await;
}

/// When the only session ends, as the store has it.
async fn end(folder: &Path) -> i64 {
    let file = folder.join("sessions.sqlite3");
    let url = format!("sqlite://{}", file.display());
    let mut sessions = SqliteConnection::connect(&url).await.unwrap();
    let sql = "SELECT expires FROM actix_sessions WHERE moved_to IS NULL";
    sqlx::query_scalar(sql)
        .fetch_one(&mut sessions)
        .await
        .unwrap()
}

#[actix_web::test]
async fn a_page_that_is_left_open_does_not_keep_its_session_alive() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start_with(folder.path(), StoreUrl::File).await;
    let nobody = site.visitor().get("/session/remaining").await;
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    let none = json!({ "idle_seconds": null, "absolute_seconds": null });
    assert_eq!(json_of(nobody).await, none);

    let ada = site.visitor();
    ada.register("ada").await;
    let page = ada.page("/").await;
    assert!(page.contains("data-warn-seconds=\"120\""), "{page}");
    let before = end(folder.path()).await;
    for _ in 0..3 {
        let left = json_of(ada.get("/session/remaining").await).await;
        assert!((86_000..=86_400).contains(&left["idle_seconds"].as_i64().unwrap()));
    }
    assert_eq!(end(folder.path()).await, before);
    // "Stay logged in". Within one millisecond it may move nothing.
    while end(folder.path()).await == before {
        let stay = ada.post("/session/stay", &[]).await;
        assert_eq!(stay.status(), StatusCode::NO_CONTENT);
    }
    assert!(end(folder.path()).await > before);
    site.stop().await;
}

#[actix_web::test]
async fn the_only_script_is_a_file() {
    let (site, _folder) = Site::start().await;
    let ada = site.visitor();
    ada.register("ada").await;
    for path in ["/", "/notes", "/account", "/account/email", "/session"] {
        let response = ada.get(path).await;
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].clone();
        assert!(policy.to_str().unwrap().starts_with("default-src 'self';"));
        let page = response.text().await.unwrap();
        assert_eq!(
            page.matches("<script src=\"/static/live.js?v=").count(),
            1,
            "{page}"
        );
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        for inline in [" onclick=", " style=", "javascript:"] {
            assert!(!page.contains(inline), "{page}");
        }
    }
    let script = ada.get("/static/live.js").await;
    let kind = &script.headers()[header::CONTENT_TYPE];
    assert_eq!(kind, "text/javascript; charset=utf-8");
    site.stop().await;
}

#[actix_web::test]
async fn an_open_page_learns_that_its_session_has_ended() {
    let (site, _folder) = Site::start().await;
    let nobody = site.visitor().get("/session/events").await;
    assert_eq!(nobody.status(), StatusCode::NO_CONTENT);
    let ada = site.visitor();
    ada.register("ada").await;
    let mut stream = ada.get("/session/events").await;
    assert_eq!(stream.headers()[header::CONTENT_TYPE], "text/event-stream");
    let open = stream.chunk().await.unwrap().unwrap();
    assert_eq!(open, ": open\n\n");
    // A renewal goes on.
    ada.submit("/session/renew", &[]).await;
    ada.submit("/logout", &[]).await;
    let told = stream.chunk().await.unwrap().unwrap();
    assert_eq!(told, "event: ended\ndata: logged out\n\n");
    assert_eq!(stream.chunk().await.unwrap(), None, "it is closed");
    site.stop().await;
}
