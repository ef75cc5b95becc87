//! Each anomaly, in a history that shows it.

use super::{
    check::{ANOMALIES, check},
    history::{CookieSent, Entries, Event, History, Seen},
    script::{Op, Plan},
};

/// One session, under key `aaaaa`, made by the first request.
fn session() -> History {
    let mut history = History::default();
    history.events.push(Event {
        sent: None,
        cookie: CookieSent::Set("aaaaa".to_owned()),
        ..event("first", [0, 1, 2, 3], &[set("anchor", "v0")])
    });
    history.events[0].seen.as_mut().unwrap().entries.clear();
    record(&mut history, "aaaaa", &[]);
    history
}

/// A request to that session: when it starts, has loaded, is about to answer, and ends.
fn event(who: &str, at: [u64; 4], ops: &[Op]) -> Event {
    let [start, loaded, left, end] = at;
    Event {
        who: who.to_owned(),
        ops: ops.to_vec(),
        sent: Some("aaaaa".to_owned()),
        start,
        end,
        seen: Some(Seen {
            loaded,
            entries: entries(&[]),
            principal: None,
            left,
        }),
        status: 200,
        cookie: CookieSent::None,
    }
}

/// The entry of the first request, and these.
fn entries(more: &[(&str, &str)]) -> Entries {
    let all = [&[("anchor", r#""v0""#)], more].concat();
    let own = |(name, json): (&str, &str)| (name.to_owned(), json.to_owned());
    all.into_iter().map(own).collect()
}

fn record(history: &mut History, key: &str, more: &[(&str, &str)]) {
    let records = &mut history.left.records;
    records.insert(key.to_owned(), entries(more));
}

/// The record moves from `aaaaa` to `bbbbb`.
fn renew(history: &mut History) {
    let (old, new) = ("aaaaa".to_owned(), "bbbbb".to_owned());
    let moved = history.left.records.remove(&old);
    history.left.records.extend(moved.map(|m| (new.clone(), m)));
    history.left.redirects.insert(old, new);
}

fn set(name: &str, value: &str) -> Op {
    Op::Set(name.to_owned(), value.to_owned())
}

fn modify() -> Op {
    Op::Modify("t1".to_owned())
}

const EARLY: [u64; 4] = [10, 11, 18, 19];

type Plant = fn(&mut History);

/// What each anomaly adds to a sound history.
const PLANTED: [(&str, Plant); 15] = [
    ("unexplained failure", |history| {
        let refused = event("b", EARLY, &[]);
        history.events.push(Event {
            status: 404,
            ..refused
        });
    }),
    ("refusal without a rival", |history| {
        let refused = event("b", EARLY, &[set("x", "v1")]);
        history.events.push(Event {
            status: 500,
            ..refused
        });
    }),
    ("unasked renewal", |history| {
        let mut write = event("b", EARLY, &[set("x", "v1")]);
        write.cookie = CookieSent::Set("ccccc".to_owned());
        history.events.push(write);
    }),
    ("value out of thin air", |history| {
        record(history, "aaaaa", &[("x", r#""v1""#)]);
    }),
    ("read of the future", |history| {
        let later = event("c", [20, 21, 22, 23], &[set("x", "v1")]);
        let reader = reader(&[("x", r#""v1""#)]);
        history.events.extend([reader, later]);
        record(history, "aaaaa", &[("x", r#""v1""#)]);
    }),
    ("leak between sessions", |history| {
        let mut reader = reader(&[]);
        reader.sent = Some("ccccc".to_owned());
        history.events.push(reader);
    }),
    ("split session", |history| {
        renew(history);
        record(history, "aaaaa", &[]);
    }),
    ("resurrection", |history| {
        history.events.push(event("b", EARLY, &[Op::Purge]));
    }),
    ("stale renewal", |history| {
        renew(history);
        history.left.records.clear();
        let purge = event("c", [10, 11, 12, 13], &[Op::Purge]);
        let mut renewal = event("b", EARLY, &[Op::Renew]);
        renewal.cookie = CookieSent::Set("bbbbb".to_owned());
        history.events.extend([purge, renewal]);
    }),
    ("undone clear", |history| {
        history.events.push(event("b", EARLY, &[Op::Clear]));
    }),
    ("phantom login", |history| {
        let mut reader = reader(&[]);
        reader.seen.as_mut().unwrap().principal = Some("ferris".to_owned());
        history.events.push(reader);
    }),
    ("lost update", |history| {
        history.events.push(event("b", EARLY, &[set("x", "v1")]));
    }),
    ("lost modify", |history| {
        history.events.push(event("b", EARLY, &[modify()]));
    }),
    ("doubled modify", |history| {
        let write = event("c", [4, 5, 6, 7], &[modify()]);
        history
            .events
            .extend([write, reader(&[("log", r#"["t1","t1"]"#)])]);
        record(history, "aaaaa", &[("log", r#"["t1"]"#)]);
    }),
    ("aborted read", |history| {
        record(history, "aaaaa", &[("x", r#""late""#)]);
        renew(history);
        let mut renewal = event("c", [12, 13, 14, 15], &[Op::Renew, set("x", "v1")]);
        renewal.cookie = CookieSent::Set("bbbbb".to_owned());
        let late = event("b", EARLY, &[set("x", "late")]);
        history.events.extend([late, renewal]);
    }),
];

/// A request that sees this, and does nothing.
fn reader(more: &[(&str, &str)]) -> Event {
    let mut reader = event("b", EARLY, &[]);
    reader.seen.as_mut().unwrap().entries = entries(more);
    reader
}

fn found(history: &History) -> Result<(), String> {
    // Answers get lost, so that a failure alone is no anomaly.
    let plan = Plan::draw(0, 1);
    check(&plan, history).map(drop)
}

#[test]
fn every_anomaly_is_found_by_its_name() {
    assert_eq!(found(&session()), Ok(()));
    assert_eq!(
        PLANTED.map(|(name, _)| name),
        ANOMALIES.map(|(name, _)| name)
    );
    for (name, plant) in PLANTED {
        let mut history = session();
        plant(&mut history);
        let told = found(&history).expect_err(name);
        let (first, _) = told.split_once(':').unwrap();
        assert_eq!(first, name, "{told}\n{history}");
    }
}
