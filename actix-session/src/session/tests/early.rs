//! Sessions that somebody asks for before their middleware serves.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::SystemTime,
};

use super::*;
use crate::{clock::Millis, record::PrincipalEntry};

const USER: &str = "user";

/// Of a middleware whose clock is not the system's.
fn served() -> Arc<Served> {
    struct Epoch;
    impl crate::Clock for Epoch {
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }
    }
    Arc::new(Served {
        principal_entry: Some(PrincipalEntry::from(USER)),
        clock: SharedClock::new(Epoch),
        times: Times::from(&Terms::default()),
        knows_ends: true,
    })
}

fn early() -> Session {
    let session = Session::new();
    session.lock().wait_for_middleware();
    session
}

/// A middleware has loaded this entry.
fn serve(session: &Session, json: &str) -> anyhow::Result<()> {
    let text = format!("{{\"v\":1,\"state\":{{{json}}}}}");
    let shown = Shown {
        record: Some(Record::decode(text).unwrap()),
        ..Shown::default()
    };
    session.attach(&served(), shown)
}

/// Runs something when a closure runs for the second time: while what was done is done again.
fn when_done_again(session: &Session, run: impl Fn(&Session) + Send + Sync + 'static) {
    let (runs, this) = (AtomicUsize::new(0), session.clone());
    let closure = move |n: Option<u8>| {
        if runs.fetch_add(1, Ordering::SeqCst) == 1 {
            run(&this);
        }
        n
    };
    session.modify("again", closure).unwrap();
}

#[test]
fn while_it_is_done_again_everybody_sees_what_was_done() {
    let session = early();
    let seen = Arc::new(AtomicUsize::new(0));
    let sees = Arc::clone(&seen);
    when_done_again(&session, move |session| {
        assert_eq!(session.get("a").unwrap(), Some(1));
        assert_eq!(session.principal().as_deref(), Some("ada"));
        sees.fetch_add(1, Ordering::SeqCst);
    });
    session.insert("a", 1).unwrap();
    session.login("ada").unwrap();
    serve(&session, r#""b":1"#).unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_eq!(session.entries().len(), 3);
}

#[test]
fn what_another_thread_does_while_it_is_done_again_is_kept() {
    let session = early();
    when_done_again(&session, |session| {
        let session = session.clone();
        let count = move || session.modify("n", |n: Option<u8>| n.map(|n| n + 1));
        thread::spawn(count).join().unwrap().unwrap();
    });
    session.insert("n", 5).unwrap();
    serve(&session, r#""n":1"#).unwrap();
    assert_eq!(session.get("n").unwrap(), Some(6));
    // Whoever has ended the session stays logged out.
    let session = early();
    when_done_again(&session, Session::purge);
    session.login("ada").unwrap();
    serve(&session, r#""n":1"#).unwrap();
    assert_eq!(session.principal(), None);
    assert_eq!(session.status(), SessionStatus::Purged);
}

/// It may have seen nobody, and whom it names logs in.
#[test]
fn a_closure_that_runs_while_a_middleware_takes_over_logs_in() {
    let session = early();
    let (runs, this) = (AtomicUsize::new(0), session.clone());
    let closure = move |named: Option<String>| {
        if runs.fetch_add(1, Ordering::SeqCst) == 0 {
            serve(&this, r#""n":1"#).unwrap();
        }
        named.or_else(|| Some("eve".to_owned()))
    };
    session.modify(USER, closure).unwrap();
    let changes = session.lock().take_snapshot().changes;
    assert!(changes.login.is_some_and(|login| login.principal == "eve"));
}

/// The commit says so, unless the handler decides otherwise.
#[test]
fn a_closure_that_fails_on_what_is_stored_fails_the_commit() {
    for fails in [|_: Option<u8>| None, |n: Option<u8>| n.or(Some(1))] {
        let session = early();
        session.modify("n", fails).unwrap();
        serve(&session, r#""n":"text""#).unwrap();
        let changes = session.lock().snapshot().changes;
        assert!(changes.has_modify());
        session.purge();
        assert!(!session.lock().snapshot().changes.has_modify());
    }
}

#[test]
fn if_it_cannot_be_done_again_nobody_waits_for_a_middleware() {
    let panics = |n: Option<u64>| n.inspect(|_| panic!("somebody is there"));
    for fails in [panics, |n| n] {
        let session = early();
        session.login("ada").unwrap();
        session.modify(USER, fails).unwrap();
        let done = std::panic::catch_unwind(|| serve(&session, r#""n":1"#));
        assert!(done.is_ok_and(|done| done.is_err()));
        assert!(session.insert("a", 1).is_err());
        assert!(session.lock().ask_for_save().is_none());
    }
}

#[test]
fn a_login_has_the_time_of_the_middleware() {
    let session = early();
    session.login("ada").unwrap();
    session.demand_reauth("because");
    serve(&session, r#""n":1"#).unwrap();
    let login = session.lock().identity().unwrap().login;
    assert_eq!(login, Millis(0));
    assert_eq!(session.authenticated_at(), Some(SystemTime::UNIX_EPOCH));
    // So under lazy loading, without an entry that names the principal.
    let served = Arc::new(Served {
        principal_entry: None,
        ..Arc::into_inner(served()).unwrap()
    });
    let session = early();
    session.login("ada").unwrap();
    assert!(!session.attach_unloaded(&served));
    session.attach(&served, Shown::default()).unwrap();
    assert_eq!(session.authenticated_at(), Some(SystemTime::UNIX_EPOCH));
    assert!(early().attach_unloaded(&served));
}

#[test]
fn what_a_closure_removes_behind_a_redirect_is_told() {
    for act in [(|s| drop(s.remove("a"))) as fn(&Session), |s| {
        s.modify(USER, |_: Option<String>| None).unwrap()
    }] {
        let session = early();
        act(&session);
        let moved = Shown {
            moved: true,
            ..Shown::default()
        };
        session.attach(&served(), moved).unwrap();
        let session = session.lock();
        assert!(!session.is_at_rest() && session.snapshot().changes_unseen());
    }
}
