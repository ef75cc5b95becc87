//! A notice that comes again, since nobody has heard the first answer.

use super::{disturbed::Disturbed, *};
use crate::sync::lock;

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
        let store = Disturbed::over(store);
        *lock(&store.loses_after) = Some(lost);
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
        if lock(&store.loses_after).is_some() {
            assert!(lost > 3, "a notice takes more steps");
            assert_eq!(first.ended, 2);
            return;
        }
    }
}
