//! The handle between threads, and closures that look at their own session.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use actix_session::{Clock, Session, SessionMiddleware, storage::MemorySessionStore};
use actix_web::{cookie::Key, rt};

use crate::support::{Browser, Site, within_patience};

fn increment(n: Option<u32>) -> Option<u32> {
    Some(n.unwrap_or(0) + 1)
}

#[actix_web::test]
async fn threads_of_one_request_lose_no_modify() {
    let browser = Browser::with(MemorySessionStore::new()).await;
    let flight = browser.begin().await;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let session = flight.handle();
            thread::spawn(move || {
                for _ in 0..300 {
                    session.modify("n", increment).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    flight.finish().await.assert_ok();
    assert_eq!(browser.number("n").await, Some(1_200));
}

#[test]
fn a_closure_that_changes_its_own_entry_is_an_error_and_others_may_be_changed() {
    let session = Session::new();
    let own = session.clone();
    let changed = session.modify("n", move |n: Option<u32>| {
        assert!(own.insert("n", 7).is_err());
        assert!(own.modify("n", increment).is_err());
        assert_eq!(own.remove("n"), None);
        own.insert("other", 1).unwrap();
        increment(n)
    });
    changed.unwrap();
    assert_eq!(session.get("n").unwrap(), Some(1));
    assert_eq!(session.get("other").unwrap(), Some(1));
}

/// As on its own thread. Otherwise it would run for ever.
#[test]
fn a_closure_that_changes_its_own_entry_on_another_thread_is_an_error() {
    within_patience(|| {
        let session = Session::new();
        let own = session.clone();
        let changed = session.modify("n", move |n: Option<u32>| {
            let own = own.clone();
            let other = thread::spawn(move || own.modify("n", increment).unwrap());
            other.join().unwrap();
            increment(n)
        });
        assert!(changed.unwrap_err().to_string().contains("another thread"));
        // The change of the other thread stands.
        session.modify("n", increment).unwrap();
        assert!(session.get::<u32>("n").unwrap() > Some(1));
    });
}

/// A value that looks at its session while it is read.
#[derive(Debug)]
struct Nosy;

thread_local! {
    static SEEN: RefCell<Option<Session>> = const { RefCell::new(None) };
}

impl<'de> serde::Deserialize<'de> for Nosy {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        SEEN.with_borrow(|session| assert!(session.as_ref().unwrap().contains_key("n")));
        u32::deserialize(from).map(|_| Self)
    }
}

impl serde::Serialize for Nosy {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(2)
    }
}

#[test]
fn reading_a_value_may_look_at_the_session() {
    let session = Session::new();
    session.insert("n", 1).unwrap();
    SEEN.set(Some(session.clone()));
    session.get::<Nosy>("n").unwrap();
    session.update("n", |nosy: Nosy| nosy).unwrap();
    session.update_or("n", Nosy, |nosy| nosy).unwrap();
    assert_eq!(session.get("n").unwrap(), Some(2));
    SEEN.set(None);
}

/// What a closure has captured looks at the session when it is dropped.
struct Farewell {
    session: Session,
    _alive: Arc<()>,
}

impl Farewell {
    fn new(session: Session, _alive: Arc<()>) -> Self {
        Self { session, _alive }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        assert!(!self.session.contains_key("no such entry"));
    }
}

#[test]
fn what_a_closure_has_captured_may_look_at_the_session_when_it_is_dropped() {
    let ends: [fn(&Session); 4] = [
        |s| s.insert("n", 1).unwrap(),
        |s| drop(s.remove("n")),
        Session::clear,
        Session::purge,
    ];
    for end in ends {
        let session = Session::new();
        let farewell = Farewell::new(session.clone(), Arc::default());
        let modify = move |n: Option<u32>| {
            let _ = &farewell;
            increment(n)
        };
        session.modify("n", modify).unwrap();
        end(&session);
    }
}

/// If only the result of a closure is kept, the closure goes at once.
#[test]
fn what_a_closure_over_a_known_value_has_captured_may_look_at_the_session_too() {
    let session = Session::new();
    session.insert("n", 1).unwrap();
    let farewell = Farewell::new(session.clone(), Arc::default());
    let modify = move |n: Option<u32>| {
        let _ = &farewell;
        increment(n)
    };
    session.modify("n", modify).unwrap();
    assert_eq!(session.get("n").unwrap(), Some(2));
}

#[actix_web::test]
async fn a_closure_that_has_captured_its_session_leaks_nothing() {
    let browser = Browser::with(MemorySessionStore::new()).await;
    let alive = Arc::new(());
    let watched = Arc::downgrade(&alive);
    let flight = browser.begin().await;
    let farewell = Farewell::new(flight.handle(), alive);
    let modify = move |n: Option<u32>| {
        let _ = &farewell;
        increment(n)
    };
    flight.modify("n", modify).unwrap();
    flight.finish().await.assert_ok();
    rt::task::yield_now().await;
    assert!(watched.upgrade().is_none());
}

/// Nobody commits it, so that nobody would ever let the closure go.
#[test]
fn a_closure_that_has_captured_a_session_without_a_middleware_leaks_nothing() {
    let alive = Arc::new(());
    let watched = Arc::downgrade(&alive);
    let session = Session::new();
    let farewell = Farewell::new(session.clone(), alive);
    let modify = move |n: Option<u32>| {
        let _ = &farewell;
        increment(n)
    };
    session.modify("n", modify).unwrap();
    assert_eq!(session.get("n").unwrap(), Some(1));
    drop(session);
    assert!(watched.upgrade().is_none());
}

/// A clock that looks at the session, once there is one.
#[derive(Clone, Default)]
struct NosyClock {
    session: Arc<Mutex<Option<Session>>>,
    looked: Arc<AtomicBool>,
}

impl Clock for NosyClock {
    fn now(&self) -> SystemTime {
        let session = self.session.lock().unwrap().clone();
        if let Some(session) = session {
            assert!(!session.contains_key("no such entry"));
            self.looked.store(true, Ordering::SeqCst);
        }
        SystemTime::now()
    }
}

#[test]
fn a_clock_may_look_at_the_session() {
    within_patience(|| {
        rt::System::new().block_on(async {
            let clock = NosyClock::default();
            let middleware = SessionMiddleware::builder(MemorySessionStore::new(), Key::generate())
                .clock(clock.clone());
            let browser = Browser::new(Site::new(middleware.build()).await);
            let acts: [fn(&Session); 3] = [
                |s| s.login("user-42").unwrap(),
                |s| s.reauthenticated().unwrap(),
                |s| {
                    let recent = s.require_recent_authentication(Duration::from_secs(60));
                    recent.unwrap();
                },
            ];
            for act in acts {
                let flight = browser.begin().await;
                *clock.session.lock().unwrap() = Some(flight.handle());
                clock.looked.store(false, Ordering::SeqCst);
                act(&flight);
                assert!(clock.looked.load(Ordering::SeqCst));
                flight.finish().await.assert_ok();
            }
        });
    });
}

#[actix_web::test]
async fn a_closure_that_panics_in_a_merge_fails_the_commit_alone() {
    let browser = Browser::with(MemorySessionStore::new()).await;
    let answer = browser.visit(|s| s.insert("n", 1).unwrap()).await;
    answer.assert_sets_cookie();
    let late = browser.begin().await;
    late.modify("n", |n: Option<u32>| {
        assert!(n != Some(2), "a closure panics because its test says so");
        increment(n)
    })
    .unwrap();
    let write = |s: &Session| s.insert("n", 2).unwrap();
    browser.visit(write).await.assert_ok();
    late.finish().await.assert_opaque();
    assert_eq!(browser.number("n").await, Some(2));
}
