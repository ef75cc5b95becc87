//! What authors of stores and of tests get.

use std::{collections::HashMap, sync::Mutex};

use actix_session::{
    SessionMiddleware,
    storage::{
        KeyValueDatabase, KeyValueOutcome, KeyValueSessionStore, KeyValueTransaction,
        MemorySessionStore, SessionStore as _,
    },
    testing::{
        Fault, FaultyStore, StoreCall, TestClient, TestSessions,
        conformance::{self, Kit},
    },
};
use actix_web::cookie::{Key, time::Duration};

use super::{Row, debug, error};
use crate::{attacks::capture, support::InMemory};

/// A database of one's own, and what it gets.
pub(super) async fn key_value(text: &str) -> Vec<Row> {
    let store = KeyValueSessionStore::new(Telling::default());
    let state = HashMap::from([("text".to_owned(), format!("\"{text}\""))]);
    store.save(state, &Duration::HOUR).await.unwrap();
    let mut rows = store.database().told.lock().unwrap().clone();
    rows.push(debug("KeyValueSessionStore", &store));
    let builder = KeyValueSessionStore::builder(InMemory::default());
    rows.push(debug("KeyValueSessionStoreBuilder", &builder));
    rows.push(debug("KeyValueOutcome", &KeyValueOutcome::Changed));
    rows
}

/// What tests get.
pub(super) async fn kit(text: &str) -> Vec<Row> {
    let faulty = FaultyStore::new(MemorySessionStore::new());
    faulty.next(StoreCall::Load, Fault::Hang);
    let key = Key::generate();
    capture::plant_key(&key);
    let middleware = SessionMiddleware::new(faulty.clone(), key);
    let sessions = TestSessions::new(&middleware);
    let client = TestClient::new(());
    client.set_cookie(sessions.cookie(|s| s.insert("text", text).unwrap()).await);
    let kit = Kit::new(async |_| faulty.clone()).await;
    faulty.always(StoreCall::Create, Fault::Fail);
    let broken = conformance::sessions_live_and_end(&kit).await.unwrap_err();
    vec![
        debug("FaultyStore", &faulty),
        debug("Fault", &Fault::Fail),
        debug("StoreCall", &StoreCall::Open),
        debug("TestSessions", &sessions),
        debug("TestClient", &client),
        debug("Kit", &kit),
        error("BrokenPromise", &broken),
    ]
}

/// Shows what a database is told.
#[derive(Default)]
struct Telling {
    inner: InMemory,
    told: Mutex<Vec<Row>>,
}

impl KeyValueDatabase for Telling {
    async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        self.inner.get(names).await
    }

    async fn commit(&self, transaction: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
        let rows = [
            debug("KeyValueTransaction", &transaction),
            debug("KeyValueWrite", &transaction.writes),
        ];
        self.told.lock().unwrap().extend(rows);
        self.inner.commit(transaction).await
    }

    async fn sweep(&self, now: u64, limit: usize) -> anyhow::Result<usize> {
        self.inner.sweep(now, limit).await
    }
}
