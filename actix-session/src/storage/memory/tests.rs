//! What is the memory store's own: bounds, sweeping, and one map for all clones.

use std::time::Duration;

use super::{
    shard::{Entry, Shard},
    *,
};
use crate::{
    changes::{Changes, Effect, LoginChange},
    storage::SessionStore,
};

fn set(n: usize) -> Changes {
    let effect = Effect::Set(n.to_string());
    Changes {
        effects: vec![("n".into(), effect)],
        ..Changes::default()
    }
}

fn login() -> Changes {
    let login = LoginChange {
        principal: "alice".into(),
        at: Millis(0),
        device: None,
        proven: None,
        id: 1,
        span: None,
        keep_times: false,
    };
    Changes {
        login: Some(login),
        ..Changes::default()
    }
}

#[actix_web::test]
async fn it_never_holds_more_than_it_may_and_anonymous_sessions_go_first() {
    let store = MemorySessionStore::builder().max_sessions(640).build();
    let terms = Terms::default();
    let mut members = Vec::new();
    for _ in 0..64 {
        members.push(store.create(&login(), &terms).await.unwrap().0);
    }
    for n in 0..5_000 {
        store.create(&set(n), &terms).await.unwrap();
        assert!(store.len() <= 640);
    }
    for key in &members {
        assert!(store.load(key).await.unwrap().is_some());
    }
}

#[actix_web::test]
async fn the_soonest_to_end_goes_first() {
    let store = MemorySessionStore::builder().max_sessions(64).build();
    let long = Terms::default();
    let short = Terms::default().with_ttl(Duration::from_secs(60));
    let mut shard = Shard::default();
    for n in 0..20 {
        let terms = if n % 2 == 0 { &long } else { &short };
        let (key, end) = store.create(&set(n), terms).await.unwrap();
        let found = store
            .run(
                &Step::Read {
                    at: store.name(&key),
                },
                terms,
            )
            .await
            .unwrap();
        if let Reply::Found(Stored::Record(record)) = found {
            shard.put(&n.to_string(), Entry::record(&record, end.millis()));
        }
    }
    let before = shard.len();
    shard.make_room(before, long.now);
    let gone: Vec<usize> = (0..20)
        .filter(|n| !shard.is_taken(&n.to_string(), long.now))
        .collect();
    assert!(shard.len() < before);
    assert!(gone.iter().all(|n| n % 2 == 1 || before < 20), "{gone:?}");
}

#[actix_web::test]
async fn expired_sessions_and_redirects_are_swept_out() {
    let store = MemorySessionStore::new();
    let terms = Terms::default().with_ttl(Duration::from_secs(60));
    let (key, _) = store.create(&set(1), &terms).await.unwrap();
    let Ok(crate::storage::Opened::Live(base)) = store.open(&key, &terms).await else {
        panic!("a session that was just made is live");
    };
    let renewal = Changes {
        renew: true,
        ..Changes::default()
    };
    store
        .rotate(&key, Some(&base), &renewal, &terms)
        .await
        .unwrap();
    let map = &store.inner.map;
    assert_eq!(map.len(), 2, "the renewed record and the redirect");
    for (seconds, left) in [(59, 2), (61, 0)] {
        let now = terms.now + Millis::secs(seconds);
        map.sweep(now);
        assert_eq!(map.len(), left);
    }
}

#[actix_web::test]
async fn clones_share_one_map() {
    let store = MemorySessionStore::new();
    let (key, _) = store.create(&set(1), &Terms::default()).await.unwrap();
    let clone = store.clone();
    assert_eq!(clone.load(&key).await.unwrap().unwrap()["n"], "1");
    clone.delete(&key).await.unwrap();
    assert!(store.is_empty());
}
