//! Entries with a type, and messages for the next page.

use actix_session::{Flash, Session, SessionEntry};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::support::{TestStore, on_each_store};

on_each_store! {
    parallel_messages_are_all_shown_and_each_once,
    old_and_new_shapes_live_side_by_side,
}

const NOTICES: Flash<String> = Flash::new("notices");

async fn parallel_messages_are_all_shown_and_each_once(tested: impl TestStore) {
    let browser = tested.browser().await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    let (first, second) = (browser.begin().await, browser.begin().await);
    for (flight, text) in [(&first, "saved"), (&second, "sent")] {
        NOTICES.push(&flight.handle(), &text.to_owned()).unwrap();
    }
    first.finish().await.assert_ok();
    second.finish().await.assert_ok();

    let (page, other) = (browser.begin().await, browser.begin().await);
    let shown = NOTICES.take(&page.handle()).await.unwrap();
    let shown_again = NOTICES.take(&other.handle()).await.unwrap();
    assert_eq!(
        (shown, shown_again),
        (vec!["saved".into(), "sent".into()], Vec::new())
    );
    page.finish().await.assert_ok();
    other.finish().await.assert_ok();
    let next = browser.begin().await;
    assert!(NOTICES.take(&next.handle()).await.unwrap().is_empty());
    next.finish().await.assert_ok();

    let many = |s: &Session| {
        for n in 0..30 {
            NOTICES.push(s, &n.to_string()).unwrap();
        }
    };
    browser.visit(many).await.assert_ok();
    let page = browser.begin().await;
    let shown = NOTICES.take(&page.handle()).await.unwrap();
    assert_eq!(shown, (10..30).map(|n| n.to_string()).collect::<Vec<_>>());
    page.finish().await.assert_ok();
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    language: String,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct New {
    language: String,
    #[serde(default)]
    zoom: Option<u8>,
}

const OLD: SessionEntry<Old> = SessionEntry::new("preferences");
const NEW: SessionEntry<New> = SessionEntry::new("preferences");

/// One server has the next version already.
async fn old_and_new_shapes_live_side_by_side(tested: impl TestStore) {
    let browser = tested.browser().await;
    let unknown = Map::new();
    let language = "cy".to_owned();
    let old = Old { language, unknown };
    browser
        .visit(|s| OLD.insert(s, &old).unwrap())
        .await
        .assert_ok();
    let zoom = |new: Option<New>| {
        new.map(|new| New {
            zoom: Some(2),
            ..new
        })
    };
    browser
        .visit(|s| NEW.modify(s, zoom).unwrap())
        .await
        .assert_ok();
    let translate = |old: Option<Old>| {
        let language = "fo".to_owned();
        old.map(|old| Old { language, ..old })
    };
    browser
        .visit(|s| OLD.modify(s, translate).unwrap())
        .await
        .assert_ok();
    let read = |s: &Session| {
        let value: Option<Value> = s.get("preferences").unwrap();
        assert_eq!(value, Some(json!({ "language": "fo", "zoom": 2 })));
    };
    browser.visit(read).await.assert_ok();

    // What cannot be read stays, and harms no other entry.
    let broken = |s: &Session| {
        s.insert("preferences", 7).unwrap();
        s.insert("b", 2).unwrap();
    };
    browser.visit(broken).await.assert_ok();
    let fails = |s: &Session| {
        assert!(NEW.get(s).unwrap_err().is_of_another_type());
        assert!(NEW.modify(s, zoom).unwrap_err().is_of_another_type());
        s.insert("b", 3).unwrap();
    };
    browser.visit(fails).await.assert_ok();
    let kept = |s: &Session| {
        assert_eq!(s.get("preferences").unwrap(), Some(7));
        assert_eq!(s.get("b").unwrap(), Some(3));
        assert_eq!(NEW.remove(s), Some(Err("7".to_owned())));
    };
    browser.visit(kept).await.assert_ok();
}
