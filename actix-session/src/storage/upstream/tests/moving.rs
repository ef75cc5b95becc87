//! A session that is logged in again moves to the front of its list, perhaps while somebody goes through
//! that.

use std::sync::{Arc, Mutex};

use super::*;
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

/// A store in which somebody logs in again once the first page of a list has been read.
#[derive(Clone)]
struct Busy {
    store: MemorySessionStore,
    next: Arc<Mutex<Option<SessionKey>>>,
}

impl Backend for Busy {
    const REMOTE: bool = false;

    async fn run(&self, step: &Step, terms: &Terms) -> anyhow::Result<Reply> {
        self.store.run(step, terms).await
    }

    async fn look(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        self.store.look(at, terms).await
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> anyhow::Result<()> {
        self.store.set_ttl(at, ttl).await
    }

    fn name(&self, key: &SessionKey) -> Name {
        self.store.name(key)
    }

    fn clock(&self) -> &SharedClock {
        Backend::clock(&self.store)
    }
}

impl Upkeep for Busy {
    async fn forget(&self, principal: &str, mark: &NotBefore, terms: &Terms) -> anyhow::Result<()> {
        self.store.forget(principal, mark, terms).await
    }
}

impl Index for Busy {
    async fn sessions(
        &self,
        principal: &str,
        page: Page,
        terms: &Terms,
    ) -> anyhow::Result<Vec<Listed>> {
        let listed = self.store.sessions(principal, page, terms).await?;
        // A look at one alone is for the latest login.
        let is_first = page.after.is_none() && page.limit > 1;
        let next = lock(&self.next).take_if(|_| is_first);
        if let Some(key) = next {
            let Stored::Record(base) = self.store.look(key.as_ref(), terms).await? else {
                anyhow::bail!("it lives");
            };
            let again = login(None);
            let rotated = backend::rotate(&self.store, &key, Some(&base), &again, terms).await;
            let is_in = matches!(rotated, Ok(Rotated::Rotated(..)));
            anyhow::ensure!(is_in, "it is logged in again");
        }
        Ok(listed)
    }

    async fn mark(
        &self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        terms: &Terms,
    ) -> anyhow::Result<bool> {
        self.store.mark(principal, mark, by, terms).await
    }

    async fn end_marked(
        &self,
        principal: &str,
        mark: &NotBefore,
        terms: &Terms,
    ) -> anyhow::Result<u64> {
        self.store.end_marked(principal, mark, terms).await
    }
}

/// A user with many sessions, of which the oldest is about to be logged in again; and its id.
async fn crowd() -> (Busy, Terms, u128) {
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
    let next = Arc::new(Mutex::new(Some(key)));
    (Busy { store, next }, terms, id)
}

#[actix_web::test]
async fn whoever_is_logged_in_again_meanwhile_ends_too() {
    let (store, terms, _) = crowd().await;
    let noticed = end(&store, &notice(100, true, None), &terms).await;
    assert_eq!(noticed.unwrap().ended, CROWD.unsigned_abs());
    assert!(lock(&store.next).is_none());
    let left = live(&Slow(store.store), &terms).await;
    assert!(left.is_empty(), "{left:?}");
}

#[actix_web::test]
async fn whoever_is_logged_in_again_meanwhile_is_found() {
    let (store, terms, id) = crowd().await;
    let next = Arc::clone(&store.next);
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
