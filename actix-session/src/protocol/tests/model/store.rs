//! A store of atomic steps, as plain as it can be.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    protocol::{Mark, Name, Op, Reply, Slot},
    record::Record,
};

/// What lies under each name that was ever used. Names are never forgotten, so that nothing can
/// come back unseen.
#[derive(Clone)]
pub(super) struct Store(Arc<BTreeMap<Name, Place>>);

#[derive(Clone)]
pub(super) struct Place {
    /// Which session it is a name of: renewals of one session share this.
    pub(super) session: usize,
    pub(super) kept: Kept,
}

#[derive(Clone)]
pub(super) enum Kept {
    Record(Record),
    Mark(Mark),
    /// There was a record, and it was ended.
    Ended,
}

/// What a step has written.
pub(super) struct Written {
    pub(super) before: Option<Record>,
    /// The name was one of a record that had been ended.
    pub(super) revived: bool,
}

impl Store {
    pub(super) fn new(name: &str, record: Record) -> Self {
        let mut store = Self(Arc::default());
        store.put(name, 0, Kept::Record(record));
        store
    }

    fn put(&mut self, name: &str, session: usize, kept: Kept) {
        Arc::make_mut(&mut self.0).insert(name.to_owned(), Place { session, kept });
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (&Name, &Place)> {
        self.0.iter()
    }

    pub(super) fn session_of(&self, name: &str) -> Option<usize> {
        self.0.get(name).map(|place| place.session)
    }

    pub(super) fn record(&self, name: &str) -> Option<&Record> {
        match self.0.get(name) {
            Some(Place {
                kept: Kept::Record(record),
                ..
            }) => Some(record),
            _ => None,
        }
    }

    pub(super) fn mark(&self, name: &str) -> Option<&Mark> {
        match self.0.get(name) {
            Some(Place {
                kept: Kept::Mark(mark),
                ..
            }) => Some(mark),
            _ => None,
        }
    }

    /// The live records of a session: one, or none where it was ended.
    pub(super) fn live(&self, session: usize) -> impl Iterator<Item = &Record> {
        self.records()
            .filter(move |(of, _)| *of == session)
            .map(|(_, record)| record)
    }

    /// Every live record, and the session that it is of.
    pub(super) fn records(&self) -> impl Iterator<Item = (usize, &Record)> {
        self.0.values().filter_map(|place| match &place.kept {
            Kept::Record(record) => Some((place.session, record)),
            _ => None,
        })
    }

    /// The marks that lead on from a name.
    pub(super) fn way_from<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Mark> {
        std::iter::successors(self.mark(name), |mark| self.mark(&mark.target))
    }

    pub(super) fn slot(&self, name: &str) -> Slot {
        match self.0.get(name).map(|place| &place.kept) {
            Some(Kept::Record(record)) => Slot::Record(record.clone()),
            Some(Kept::Mark(mark)) => Slot::Mark(mark.clone()),
            Some(Kept::Ended) | None => Slot::Nothing,
        }
    }

    fn is_expected(&self, op: &Op) -> bool {
        let (Op::Cas { at, expect, .. } | Op::Rotate { at, expect, .. }) = op else {
            return false;
        };
        let text = self.record(at).and_then(Record::as_text);
        text.is_some_and(|text| expect.matches(text))
    }

    /// Carries out one step; `own` is the session that an insertion makes.
    pub(super) fn carry_out(&mut self, op: &Op, own: usize) -> (Reply, Option<Written>) {
        match op {
            Op::Read { at } => (Reply::Found(self.slot(at)), None),
            Op::Cas { at, .. } | Op::Rotate { at, .. } if !self.is_expected(op) => {
                (Reply::Found(self.slot(at)), None)
            }
            Op::Cas { at, new, .. } => self.replace(at, new),
            Op::Rotate { mark, .. } if !matches!(self.slot(&mark.target), Slot::Nothing) => {
                (Reply::Taken, None)
            }
            Op::Rotate { at, new, mark, .. } => self.rotate(at, new, mark),
            Op::Insert { at, .. } if !matches!(self.slot(at), Slot::Nothing) => {
                (Reply::Taken, None)
            }
            Op::Insert { at, new, .. } => {
                let revived = self.0.contains_key(at);
                self.put(at, own, Kept::Record(new.clone()));
                let before = None;
                (Reply::Done, Some(Written { before, revived }))
            }
            Op::End { at } => (self.end(at), None),
        }
    }

    /// Writes what is to be written, whatever is there now.
    pub(super) fn replace(&mut self, at: &str, new: &Record) -> (Reply, Option<Written>) {
        let before = self.record(at).cloned();
        let session = self.session_of(at).expect("what is replaced is there");
        self.put(at, session, Kept::Record(new.clone()));
        let revived = before.is_none();
        (Reply::Done, Some(Written { before, revived }))
    }

    fn rotate(&mut self, at: &str, new: &Record, mark: &Mark) -> (Reply, Option<Written>) {
        let before = self.record(at).cloned();
        let session = self.session_of(at).expect("what is renewed is there");
        let revived = self.0.contains_key(&mark.target);
        self.put(at, session, Kept::Mark(mark.clone()));
        self.put(&mark.target, session, Kept::Record(new.clone()));
        (Reply::Done, Some(Written { before, revived }))
    }

    fn end(&mut self, at: &str) -> Reply {
        if self.record(at).is_some() {
            self.forget(at);
            return Reply::Done;
        }
        Reply::Found(self.slot(at))
    }

    /// Leaves nothing at a name, not even a mark.
    pub(super) fn forget(&mut self, at: &str) {
        if let Some(place) = Arc::make_mut(&mut self.0).get_mut(at) {
            place.kept = Kept::Ended;
        }
    }

    /// Whether a step whose answer was lost may still do something when it arrives late.
    pub(super) fn may_still_do(&self, op: &Op) -> bool {
        match op {
            Op::Read { .. } => false,
            // Ids are never used twice: a record that was replaced is never the expected one again.
            Op::Cas { .. } | Op::Rotate { .. } => self.is_expected(op),
            Op::Insert { .. } => true,
            Op::End { at } => self.record(at).is_some(),
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Record(record) => record.as_text().unwrap_or_default().to_owned(),
            Self::Mark(mark) => mark.encode(),
            Self::Ended => "ended".to_owned(),
        })
    }
}
