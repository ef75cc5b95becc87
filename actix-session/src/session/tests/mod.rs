//! What a request with very many entries costs.

mod early;
mod hidden;
mod lazy;

use std::sync::Arc;

use super::*;
use crate::{
    changes::{Applied, forwarded_clear, overwrite, reduce, write_reduced},
    clock::SharedClock,
    contract::Terms,
    record::{Record, compared},
};

fn name(n: usize) -> String {
    format!("entry-{n}")
}

/// A record of `count` entries, as a store holds it.
fn record(count: usize) -> Record {
    let entries: Vec<String> = (0..count).map(|n| format!("\"{}\":{n}", name(n))).collect();
    let text = format!("{{\"v\":1,\"state\":{{{}}}}}", entries.join(","));
    Record::decode(text).unwrap()
}

/// Uses each entry, and sets as many new ones.
fn use_all(session: &Session, count: usize) {
    for n in 0..count {
        assert_eq!(session.get(&name(n)).unwrap(), Some(n));
        match n % 4 {
            0 => session.insert(name(n), n + 1).unwrap(),
            1 => session.update(name(n), |n: usize| n + 1).unwrap(),
            2 => session.modify(name(n), |n: Option<usize>| n).unwrap(),
            _ => drop(session.remove(&name(n))),
        }
        session.insert(name(count + n), n).unwrap();
    }
}

/// How many names a request compares that uses each of `count` entries, and its commit.
fn comparisons(count: usize) -> usize {
    compared();
    let (base, stored) = (record(count), record(count));
    let session = Session::of_request(
        Served::unnamed(SharedClock::default(), Times::from(&Terms::default()), true),
        Shown::default(),
    );
    session.lock().load(Shown {
        record: Some(base.clone()),
        ..Shown::default()
    });
    use_all(&session, count);
    assert_eq!(session.entries().len(), 2 * count - count / 4);
    let changes = session.lock().take_snapshot().changes;
    let terms = Terms::default();
    let stamp = terms.stamp(1, 1);
    assert!(!changes.leave_unchanged(&base));
    let merged = overwrite(&stored, &changes, stamp).unwrap();
    assert!(matches!(merged, Applied::Write(record) if record.len() == 2 * count - count / 4));
    let left = reduce(&changes, &stored, Some(&base));
    assert!(write_reduced(&stored, &left, stamp).is_ok());
    assert_eq!(forwarded_clear(&stored, Some(&base), 1, stamp).len(), 0);
    compared()
}

#[test]
fn eight_times_the_entries_take_no_square_of_that() {
    let (some, many) = (comparisons(100), comparisons(800));
    assert!(many < 16 * some, "{some} and {many} comparisons");
}

/// Each call adds to the list of closures, and copies none of them.
#[test]
fn a_closure_is_kept_once_however_often_its_entry_is_modified() {
    let session = Session::of_request(
        Served::unnamed(SharedClock::default(), Times::from(&Terms::default()), true),
        Shown::default(),
    );
    let captured = Arc::new(());
    for _ in 0..100 {
        let captured = Arc::clone(&captured);
        let add =
            move |n: Option<usize>| Some(n.unwrap_or(0) + Arc::strong_count(&captured).min(1));
        session.modify("n", add).unwrap();
    }
    assert_eq!(session.get("n").unwrap(), Some(100));
    assert_eq!(Arc::strong_count(&captured), 101);
}
