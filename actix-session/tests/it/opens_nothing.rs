//! Nothing that the manager tells opens a session when it is sent as a cookie.

use std::collections::BTreeSet;

use actix_session::{
    Login, Session, SessionManager,
    config::CookieContentSecurity,
    storage::{SessionIndex, SessionKey, SessionStore as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::support::{Browser, Site, TestStore, on_each_index};

on_each_index! {
    what_the_manager_tells_opens_nothing,
}

const USER: &str = "user-42";

fn log_in(session: &Session) {
    let login = Login::new(USER).device("phone").method("passkey");
    session.login_with(login).unwrap();
    session.insert("diary", "secret").unwrap();
}

/// Each string in a JSON value.
fn strings(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(found.insert(text.clone())),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(values) => values.values().for_each(|value| strings(value, found)),
        _ => {}
    }
}

/// All that is told of a user's sessions: as texts, as their words, and as what they are put together of.
async fn told(sessions: &SessionManager, flight: &Session) -> BTreeSet<String> {
    let mut texts = Vec::new();
    for listed in sessions.list(USER).await.unwrap() {
        let handle = listed.handle();
        texts.extend([handle.as_str().to_owned(), handle.to_string()]);
        texts.extend([format!("{handle:?}"), format!("{listed:?}")]);
        texts.extend(
            handle
                .as_str()
                .split(['.', '-', '_', '~'])
                .map(str::to_owned),
        );
        let opened = sessions.open(USER, &handle).await.unwrap().unwrap();
        texts.push(format!("{opened:?}"));
    }
    for listed in sessions.operator().list(USER).await.unwrap() {
        texts.extend([listed.handle().to_string(), format!("{listed:?}")]);
    }
    texts.push(format!("{:?}", sessions.operator().stats().await.unwrap()));
    texts.push(format!("{flight:?} {:?}", sessions));
    let exported = sessions.export(USER).await.unwrap();
    let json = serde_json::to_value(&exported).unwrap();
    texts.extend([json.to_string(), format!("{exported:?}")]);
    let mut found = BTreeSet::new();
    strings(&json, &mut found);
    for text in texts {
        let words = text.split(|c: char| c.is_whitespace() || "\"',:;{}[]()".contains(c));
        found.extend(words.map(str::to_owned));
        found.insert(text);
    }
    found.retain(|text| !text.is_empty() && text.chars().all(|c| matches!(c, ' '..='~')));
    found
}

/// As it is, and in the place of what a genuine cookie seals.
fn disguised(text: &str, genuine: &str) -> Vec<String> {
    let head = |length: usize| genuine.get(..length).unwrap_or(genuine);
    let tail = |length: usize| &genuine[genuine.len().saturating_sub(length)..];
    let encoded = URL_SAFE_NO_PAD.encode(text);
    vec![
        text.to_owned(),
        encoded.clone(),
        format!("\"{text}\""),
        format!("id={text}"),
        // A MAC, and then a key.
        format!("{}{text}", head(44)),
        format!("{}id={text}", head(44)),
        format!(
            "{}{encoded}",
            head(genuine.len().saturating_sub(encoded.len()))
        ),
        format!("{text}{}", tail(genuine.len().saturating_sub(text.len()))),
        format!("{genuine}{text}"),
        format!("{text}{genuine}"),
    ]
}

async fn what_the_manager_tells_opens_nothing(tested: impl TestStore<Store: SessionIndex>) {
    for security in [
        CookieContentSecurity::Private,
        CookieContentSecurity::Signed,
    ] {
        let builder = || tested.middleware().cookie_content_security(security);
        let sessions = builder().build().manager();
        let browser = Browser::new(Site::new(builder().build()).await);
        browser.visit(log_in).await.assert_sets_cookie();
        let genuine = browser.value().unwrap();
        let flight = browser.begin().await;
        let told = told(&sessions, &flight).await;
        flight.finish().await.assert_ok();
        assert!(told.len() > 20, "{told:?}");
        for text in told {
            if let Ok(key) = SessionKey::try_from(text.clone()) {
                assert!(tested.store().load(&key).await.unwrap().is_none(), "{text}");
            }
            // A word of one letter may be the one that it takes the place of.
            let disguised = disguised(&text, &genuine).into_iter();
            for value in disguised.filter(|value| *value != genuine) {
                let mut is_nobody = false;
                let look = |s: &Session| is_nobody = s.is_empty() && s.principal().is_none();
                let answer = browser.visit_as(&[format!("id={value}")], look).await;
                answer.assert_ok();
                assert!(is_nobody, "{security:?}: {value}");
            }
        }
        assert_eq!(browser.principal().await.as_deref(), Some(USER));
        browser.visit(Session::purge).await.assert_ok();
    }
}
