//! A notice that comes again, since nobody has heard the first answer.

use std::sync::Mutex;

use super::*;
use crate::sync::lock;

/// A store that carries a step out and loses its answer, after so many other steps.
struct Loses {
    store: MemorySessionStore,
    after: Mutex<Option<u32>>,
}

impl Loses {
    /// Whether this is the one.
    fn loses(&self) -> bool {
        let mut after = lock(&self.after);
        match *after {
            Some(0) => after.take().is_some(),
            Some(n) => {
                *after = Some(n - 1);
                false
            }
            None => false,
        }
    }
}

impl Backend for Loses {
    const REMOTE: bool = false;

    async fn run(&self, step: &Step, terms: &Terms) -> anyhow::Result<Reply> {
        let reply = self.store.run(step, terms).await?;
        // A store asks again for what it only reads.
        let reads = matches!(step, Step::Read { .. });
        Ok(match !reads && self.loses() {
            true => Reply::Lost,
            false => reply,
        })
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

impl Upkeep for Loses {
    async fn forget(&self, principal: &str, mark: &NotBefore, terms: &Terms) -> anyhow::Result<()> {
        self.store.forget(principal, mark, terms).await
    }
}

impl Index for Loses {
    async fn sessions(
        &self,
        principal: &str,
        page: Page,
        terms: &Terms,
    ) -> anyhow::Result<Vec<Listed>> {
        self.store.sessions(principal, page, terms).await
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

/// Whichever answer of the store is lost, and if none is but the issuer's own.
#[actix_web::test]
async fn a_repeat_is_answered_as_the_first_was_whatever_is_lost() {
    for lost in 0.. {
        let store = MemorySessionStore::new();
        let terms = Terms::of_store(Backend::clock(&store).now());
        for _ in 0..2 {
            let changes = login(Some(at_upstream(50, Some("s1"))));
            backend::create(&store, &changes, &terms).await.unwrap();
        }
        let store = Loses {
            store,
            after: Mutex::new(Some(lost)),
        };
        let named = Notice {
            token: Some((7, terms.now)),
            ..notice(100, true, None)
        };
        let first = end(&store, &named, &terms).await.unwrap();
        assert!(!first.is_repeat && first.ended > 0, "{lost}: {first:?}");
        for _ in 0..2 {
            let again = end(&store, &named, &terms).await.unwrap();
            assert_eq!(again.ended, first.ended, "{lost}");
            assert!(again.is_repeat, "{lost}");
        }
        let left = live(&Slow(store.store), &terms).await;
        assert!(left.is_empty(), "{lost}: {left:?}");
        if lock(&store.after).is_some() {
            assert!(lost > 3, "a notice takes more steps");
            assert_eq!(first.ended, 2);
            return;
        }
    }
}
