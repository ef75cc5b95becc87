//! A session that is logged in again moves to the front of its list, perhaps while somebody goes through
//! that.

use std::sync::Arc;

use super::{disturbed::Disturbed, *};
use crate::{
    SessionHandle, SessionManager,
    config::ENDED_LEASE,
    live::Looking,
    observe::Observed,
    storage::{
        StoreIndex,
        index::{By, EndAll},
    },
    sync::lock,
};

const CROWD: i64 = 150;

/// A user with many sessions, of which the oldest is about to be logged in again; and its id.
async fn crowd() -> (Disturbed, Terms, u128) {
    let store = MemorySessionStore::new();
    let terms = Terms::of_store(Backend::clock(&store).now());
    let mut oldest = None;
    for n in 0..CROWD {
        let mut changes = login(Some(at_upstream(50, None)));
        let login = changes.login.as_mut().unwrap();
        login.at = terms.now - Millis(2 * CROWD - n);
        let id = login.id;
        let (key, _) = backend::create(&store, &changes, &terms).await.unwrap();
        oldest.get_or_insert((key, id));
    }
    let (key, id) = oldest.unwrap();
    let store = Disturbed::over(store);
    *lock(&store.moves) = Some(key);
    (store, terms, id)
}

#[actix_web::test]
async fn whoever_is_logged_in_again_meanwhile_ends_too() {
    let (store, terms, _) = crowd().await;
    let noticed = end(&store, &notice(100, true, None), &terms).await;
    assert_eq!(noticed.unwrap().ended, CROWD.unsigned_abs());
    assert!(lock(&store.moves).is_none());
    let left = live(&Slow(store.store), &terms).await;
    assert!(left.is_empty(), "{left:?}");
}

#[actix_web::test]
async fn whoever_is_logged_in_again_meanwhile_is_found() {
    let (store, terms, id) = crowd().await;
    let next = Arc::clone(&store.moves);
    let index = StoreIndex::new(store);
    let looking = Looking {
        terms: Arc::new(terms.clone()),
        clock: index.0.clock().clone(),
        lease: ENDED_LEASE,
    };
    let sessions = SessionManager::of_middleware(index, terms, looking, Observed::default());
    let handle = SessionHandle::of(PRINCIPAL, id);
    let opened = sessions.open(PRINCIPAL, &handle).await.unwrap();
    assert!(opened.is_some() && lock(&next).is_none());
}

#[actix_web::test]
async fn whoever_is_logged_in_again_meanwhile_can_end_the_others() {
    let (store, terms, id) = crowd().await;
    let end = EndAll {
        mark: NotBefore {
            at: terms.now,
            spared: vec![id],
        },
        by: Some(By {
            id,
            login: terms.now,
            is_stored: true,
        }),
        clock: Backend::clock(&store.store).clone(),
    };
    let ended = store.end_all(PRINCIPAL, end, &terms).await.unwrap();
    assert_eq!(ended, Some(CROWD.unsigned_abs() - 1));
}
