//! A database of one's own that refuses, or loses answers, while a person is erased.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_session::{
    Login, SessionManager, SessionMiddleware,
    storage::{KeyValueDatabase, KeyValueOutcome, KeyValueSessionStore, KeyValueTransaction},
    testing::{ManualClock, TestSessions},
};
use actix_web::cookie::Key;

use crate::in_memory::InMemory;

const NOTHING: usize = 0;
const EVERYTHING: usize = usize::MAX;

/// Does so many transactions more. What it does with others is the test's to say.
#[derive(Clone)]
struct Limited {
    inner: InMemory,
    left: Arc<AtomicUsize>,
    otherwise: Otherwise,
}

#[derive(Clone, Copy)]
enum Otherwise {
    Refused,
    Lost,
}

impl Limited {
    fn new(otherwise: Otherwise) -> Self {
        Self {
            inner: InMemory::default(),
            left: Arc::new(AtomicUsize::new(EVERYTHING)),
            otherwise,
        }
    }

    fn does(&self, left: usize) {
        self.left.store(left, Ordering::Relaxed);
    }

    fn holds(&self, text: &str) -> bool {
        let values = self.inner.values();
        let mut values = values.values();
        values.any(|(value, _)| String::from_utf8_lossy(value).contains(text))
    }
}

impl KeyValueDatabase for Limited {
    async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        self.inner.get(names).await
    }

    async fn commit(&self, transaction: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
        let one_less = |left| match left {
            NOTHING => None,
            EVERYTHING => Some(EVERYTHING),
            left => Some(left - 1),
        };
        let order = Ordering::Relaxed;
        if self.left.fetch_update(order, order, one_less).is_ok() {
            return self.inner.commit(transaction).await;
        }
        match self.otherwise {
            Otherwise::Refused => Ok(KeyValueOutcome::Refused(anyhow::anyhow!("read-only"))),
            Otherwise::Lost => {
                // One alone: a repeat may find out.
                self.does(EVERYTHING);
                anyhow::bail!("the connection was lost")
            }
        }
    }

    async fn sweep(&self, now: u64, limit: usize) -> anyhow::Result<usize> {
        self.inner.sweep(now, limit).await
    }
}

struct Tested {
    database: Limited,
    clock: ManualClock,
    sessions: SessionManager,
}

/// One in which somebody has logged in so often.
async fn tested(otherwise: Otherwise, logins: usize) -> Tested {
    let (database, clock) = (Limited::new(otherwise), ManualClock::new());
    let store = KeyValueSessionStore::builder(database.clone());
    let store = store.clock(clock.clone()).build();
    let builder = SessionMiddleware::builder(store, Key::generate());
    let middleware = builder.clock(clock.clone()).build();
    let seeds = TestSessions::new(&middleware);
    for _ in 0..logins {
        let log_in = |s: &actix_session::Session| {
            s.insert("note", "left behind").unwrap();
            s.login_with(Login::new("ferris")).unwrap();
        };
        drop(seeds.cookie(log_in).await);
        clock.advance(Duration::from_millis(2));
    }
    let sessions = middleware.manager();
    assert_eq!(sessions.count("ferris").await.unwrap(), logins);
    Tested {
        database,
        clock,
        sessions,
    }
}

#[actix_web::test]
async fn a_failed_erasure_is_made_up_for_by_another() {
    for limit in NOTHING.. {
        let tested = tested(Otherwise::Refused, 3).await;
        tested.database.does(limit);
        let erased = tested.sessions.erase("ferris").await;
        tested.database.does(EVERYTHING);
        if erased.is_ok() {
            assert!(limit > 3, "the mark and three sessions were to be written");
            break;
        }
        // As a page with devices would.
        tested.sessions.list("ferris").await.unwrap();
        tested.sessions.erase("ferris").await.unwrap();
        assert!(!tested.database.holds("left behind"), "after {limit} steps");
    }
}

#[actix_web::test]
async fn a_lost_answer_leaves_nothing_of_whoever_was_erased() {
    for limit in 1..8 {
        let tested = tested(Otherwise::Lost, 3).await;
        tested.database.does(limit);
        assert_eq!(tested.sessions.erase("ferris").await.unwrap(), 3);
        assert!(!tested.database.holds("left behind"), "after {limit} steps");
    }
}

#[actix_web::test]
async fn a_list_needs_no_writes() {
    let tested = tested(Otherwise::Refused, 2).await;
    tested.clock.advance(Duration::from_secs(86_401));
    tested.database.does(NOTHING);
    assert_eq!(tested.sessions.count("ferris").await.unwrap(), 0);
    assert_eq!(tested.sessions.list("ferris").await.unwrap().len(), 0);
}
