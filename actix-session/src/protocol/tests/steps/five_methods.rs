//! Stores of five methods: any other store, wrapped by somebody who knows of no more.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use actix_web::cookie::time::Duration;

use super::{Place, Steps, TTL, minutes, on_each_place, places::Memory};
use crate::{
    changes::{Changes, Effect, LoginChange},
    clock::Millis,
    contract::{Committed, Opened, Rotated, Terms},
    error::{Gone, LoadError, SaveError, UpdateError},
    key::SessionKey,
    record::Record,
    storage::{SessionStore, generate_session_key},
};

on_each_place! {
    what_is_made_is_opened,
    a_commit_keeps_what_others_wrote,
    a_commit_of_an_earlier_epoch_writes_nothing,
    what_has_ended_is_gone,
    a_renewal_leaves_nothing_under_the_old_key,
    a_renewal_that_cannot_delete_leaves_one_session,
    the_absolute_end_holds,
}

type State = HashMap<String, String>;

/// Five methods of another store, and a look at what it made.
struct Five<'a, S> {
    inner: &'a S,
    made: RefCell<Vec<SessionKey>>,
    /// What cannot be deleted.
    stuck: Cell<Option<String>>,
}

impl<'a, S> Five<'a, S> {
    fn of(inner: &'a S) -> Self {
        Self {
            inner,
            made: RefCell::default(),
            stuck: Cell::default(),
        }
    }

    /// The key of the session that it made last.
    fn last(&self) -> SessionKey {
        self.made.borrow().last().unwrap().duplicate()
    }
}

impl<S: SessionStore> SessionStore for Five<'_, S> {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        self.inner.load(key).await
    }

    async fn save(&self, state: State, ttl: &Duration) -> Result<SessionKey, SaveError> {
        let key = self.inner.save(state, ttl).await?;
        self.made.borrow_mut().push(key.duplicate());
        Ok(key)
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        self.inner.update(key, state, ttl).await
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        self.inner.update_ttl(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        let stuck = self.stuck.take();
        if stuck.as_deref() == Some(key.as_ref()) {
            anyhow::bail!("it cannot be deleted now");
        }
        self.stuck.set(stuck);
        self.inner.delete(key).await
    }
}

/// Five methods on a map.
#[derive(Default)]
struct Forever(RefCell<HashMap<String, State>>);

impl SessionStore for Forever {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        Ok(self.0.borrow().get(key.as_ref()).cloned())
    }

    async fn save(&self, state: State, _: &Duration) -> Result<SessionKey, SaveError> {
        let key = generate_session_key();
        let name = key.as_ref().to_owned();
        self.0.borrow_mut().insert(name, state);
        Ok(key)
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        _: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        match self.0.borrow_mut().get_mut(key.as_ref()) {
            Some(stored) => *stored = state,
            None => return Err(UpdateError::Other(Gone.into())),
        }
        Ok(key)
    }

    async fn update_ttl(&self, _: &SessionKey, _: &Duration) -> Result<(), anyhow::Error> {
        Ok(())
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.0.borrow_mut().remove(key.as_ref());
        Ok(())
    }
}

impl<P: Place> Steps<P> {
    fn five(&self) -> Five<'_, P::Store> {
        Five::of(self.store())
    }
}

fn set(name: &str, json: &str) -> Changes {
    Changes {
        effects: [(name.to_owned(), Effect::Set(json.to_owned()))].into(),
        ..Changes::default()
    }
}

fn cleared(epoch: u64) -> Changes {
    Changes {
        cleared: Some(epoch),
        ..Changes::default()
    }
}

fn renewed(changes: Changes) -> Changes {
    Changes {
        renew: true,
        ..changes
    }
}

async fn live<S: SessionStore>(store: &S, key: &SessionKey, terms: &Terms) -> Record {
    match store.open(key, terms).await.unwrap() {
        Opened::Live(record) => record,
        opened => panic!("{opened:?}"),
    }
}

async fn assert_no_session<S: SessionStore>(store: &S, key: &SessionKey, terms: &Terms) {
    let opened = store.open(key, terms).await.unwrap();
    assert!(matches!(opened, Opened::Nothing), "{opened:?}");
}

fn entries(entries: &[(&str, &str)]) -> State {
    let own = |(name, json): &(&str, &str)| ((*name).to_owned(), (*json).to_owned());
    entries.iter().map(own).collect()
}

async fn commit<S: SessionStore>(
    store: &S,
    key: &SessionKey,
    base: &Record,
    changes: &Changes,
    terms: &Terms,
) -> Committed {
    let committed = store.commit(key, Some(base), changes, terms).await;
    committed.unwrap()
}

#[track_caller]
fn assert_saved(committed: &Committed, end: Millis) {
    let saved = matches!(committed, Committed::Saved(found) if found.millis() == end);
    assert!(saved, "{committed:?}");
}

async fn what_is_made_is_opened<P: Place>(steps: Steps<P>) {
    let (store, terms) = (steps.five(), steps.terms());
    let (key, end) = store.create(&set("a", "1"), &terms).await.unwrap();
    assert_eq!(end.millis(), steps.now() + TTL);
    let opened = live(&store, &key, &terms).await;
    assert_eq!(opened.to_map(), entries(&[("a", "1")]));
    // Opening extends as the terms say, and not otherwise.
    steps.track(&key);
    steps.pass(minutes(50)).await;
    live(&store, &key, &steps.terms()).await;
    live(&store, &key, &steps.terms().with_extension(true)).await;
    steps.pass(minutes(50)).await;
    live(&store, &key, &steps.terms()).await;
    steps.pass(minutes(15)).await;
    assert_no_session(&store, &key, &steps.terms()).await;
}

async fn a_commit_keeps_what_others_wrote<P: Place>(steps: Steps<P>) {
    let (store, terms) = (steps.five(), steps.terms());
    let (key, _) = store.create(&set("a", "1"), &terms).await.unwrap();
    let base = live(&store, &key, &terms).await;
    for (name, json) in [("b", "2"), ("c", "3"), ("a", "4"), ("a", "5")] {
        let committed = commit(&store, &key, &base, &set(name, json), &terms).await;
        assert_saved(&committed, steps.now() + TTL);
    }
    let after = live(&store, &key, &terms).await;
    let all = entries(&[("a", "5"), ("b", "2"), ("c", "3")]);
    assert_eq!(after.to_map(), all);
    assert_eq!(after.id(), base.id());
    assert_eq!(store.made.borrow().len(), 1);
}

async fn a_commit_of_an_earlier_epoch_writes_nothing<P: Place>(steps: Steps<P>) {
    let (store, terms) = (steps.five(), steps.terms());
    let (key, _) = store.create(&set("a", "1"), &terms).await.unwrap();
    let base = live(&store, &key, &terms).await;
    let clear = commit(&store, &key, &base, &cleared(9), &terms).await;
    assert_saved(&clear, steps.now() + TTL);
    let late = commit(&store, &key, &base, &set("late", "1"), &terms).await;
    assert_saved(&late, steps.now() + TTL);
    let left = live(&store, &key, &terms).await;
    assert_eq!((left.to_map(), left.epoch()), (State::new(), 9));
}

async fn what_has_ended_is_gone<P: Place>(steps: Steps<P>) {
    let (store, terms) = (steps.five(), steps.terms());
    let (key, _) = store.create(&set("a", "1"), &terms).await.unwrap();
    let base = live(&store, &key, &terms).await;
    store.delete(&key).await.unwrap();
    assert_no_session(&store, &key, &terms).await;
    for changes in [set("a", "2"), cleared(9), Changes::default()] {
        let late = commit(&store, &key, &base, &changes, &terms).await;
        assert!(matches!(late, Committed::Gone), "{late:?}");
    }
    let renewal = renewed(Changes::default());
    let rotated = store.rotate(&key, Some(&base), &renewal, &terms).await;
    assert!(matches!(rotated, Ok(Rotated::Gone)), "{rotated:?}");
    assert_no_session(&store, &key, &terms).await;
    assert_eq!(store.made.borrow().len(), 1);
}

async fn a_renewal_leaves_nothing_under_the_old_key<P: Place>(steps: Steps<P>) {
    let (store, terms) = (steps.five(), steps.terms());
    let (key, _) = store.create(&set("a", "1"), &terms).await.unwrap();
    let base = live(&store, &key, &terms).await;
    let others = commit(&store, &key, &base, &set("b", "2"), &terms).await;
    assert_saved(&others, steps.now() + TTL);
    let renewal = renewed(set("c", "3"));
    let rotated = store.rotate(&key, Some(&base), &renewal, &terms).await;
    let new = match rotated.unwrap() {
        Rotated::Rotated(new, ..) => new,
        rotated => panic!("{rotated:?}"),
    };
    assert_eq!(new, store.last());
    assert_no_session(&store, &key, &terms).await;
    let moved = live(&store, &new, &terms).await;
    let all = entries(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(moved.to_map(), all);
    assert_eq!(moved.id(), base.id());
}

/// Two keys would open one session, and a logout would end one of them.
async fn a_renewal_that_cannot_delete_leaves_one_session<P: Place>(steps: Steps<P>) {
    let (store, terms) = (steps.five(), steps.terms());
    let (key, _) = store.create(&set("a", "1"), &terms).await.unwrap();
    let base = live(&store, &key, &terms).await;
    store.stuck.set(Some(key.as_ref().to_owned()));
    let renewal = renewed(Changes::default());
    let rotated = store.rotate(&key, Some(&base), &renewal, &terms).await;
    assert!(rotated.is_err(), "{rotated:?}");
    assert_ne!(store.last(), key);
    assert_no_session(&store, &store.last(), &terms).await;
    live(&store, &key, &terms).await;
}

async fn the_absolute_end_holds<P: Place>(steps: Steps<P>) {
    the_absolute_end_holds_in(&steps.five(), &steps).await;
}

/// A cache, say, that lets nothing expire: nobody else looks at the absolute end.
#[actix_web::test]
async fn the_absolute_end_holds_in_a_store_that_forgets_nothing() {
    let steps = Steps::<Memory>::start().await;
    the_absolute_end_holds_in(&Forever::default(), &steps).await;
}

async fn the_absolute_end_holds_in<S: SessionStore, P: Place>(store: &S, steps: &Steps<P>) {
    let terms = || Terms {
        absolute: Some(minutes(90)),
        ..steps.terms().with_extension(true)
    };
    let login = Changes {
        login: Some(Box::new(LoginChange {
            principal: "alice".to_owned(),
            at: steps.now(),
            proven: None,
            device: None,
            id: 7,
            span: None,
            keep_times: false,
            level: Default::default(),
            demand: String::new(),
            origin: None,
            by_entry: false,
        })),
        ..Changes::default()
    };
    let (key, _) = store.create(&login, &terms()).await.unwrap();
    steps.track(&key);
    let end = steps.now() + minutes(90);
    steps.pass(minutes(50)).await;
    let base = live(store, &key, &terms()).await;
    // Neither opening nor a commit reaches further.
    let committed = commit(store, &key, &base, &set("a", "1"), &terms()).await;
    assert_saved(&committed, end);
    let checked = commit(store, &key, &base, &Changes::default(), &terms()).await;
    assert_saved(&checked, end);
    // A long TTL of somebody who knows nothing of it changes nothing.
    store.update_ttl(&key, &Duration::hours(9)).await.unwrap();
    steps.pass(minutes(40)).await;
    assert_no_session(store, &key, &terms()).await;
    let late = commit(store, &key, &base, &set("b", "1"), &terms()).await;
    assert!(matches!(late, Committed::Gone), "{late:?}");
    let renewal = renewed(Changes::default());
    let rotated = store.rotate(&key, Some(&base), &renewal, &terms()).await;
    assert!(matches!(rotated, Ok(Rotated::Gone)), "{rotated:?}");
}
