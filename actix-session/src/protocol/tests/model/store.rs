//! A store of atomic steps, as plain as it can be.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    protocol::{Redirect, Reply, Step, Stored},
    record::Record,
};

/// What is under each name that was ever used. Names are never forgotten, so nothing can come back
/// unseen.
#[derive(Clone)]
pub(super) struct Store(Arc<BTreeMap<String, Place>>);

#[derive(Clone)]
pub(super) struct Place {
    /// The session that the name belongs to. The renewals of one session share it.
    pub(super) session: usize,
    pub(super) content: Content,
}

#[derive(Clone)]
pub(super) enum Content {
    Record(Record),
    Redirect(Redirect),
    /// There was a record, and it was ended.
    Ended(Left),
}

/// What an ending leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Tombstone,
    Nothing,
}

/// What a step has written.
pub(super) struct Written {
    pub(super) before: Option<Record>,
    /// The name had belonged to a record that was ended.
    pub(super) revived: bool,
}

impl Store {
    pub(super) fn new(name: &str, record: Record) -> Self {
        let mut store = Self(Arc::default());
        store.put(name, 0, Content::Record(record));
        store
    }

    fn put(&mut self, name: &str, session: usize, content: Content) {
        Arc::make_mut(&mut self.0).insert(name.to_owned(), Place { session, content });
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (&String, &Place)> {
        self.0.iter()
    }

    pub(super) fn session_of(&self, name: &str) -> Option<usize> {
        self.0.get(name).map(|place| place.session)
    }

    pub(super) fn record(&self, name: &str) -> Option<&Record> {
        match self.0.get(name) {
            Some(Place {
                content: Content::Record(record),
                ..
            }) => Some(record),
            _ => None,
        }
    }

    pub(super) fn redirect(&self, name: &str) -> Option<&Redirect> {
        match self.0.get(name) {
            Some(Place {
                content: Content::Redirect(redirect),
                ..
            }) => Some(redirect),
            _ => None,
        }
    }

    /// The live records of a session: one, or none if it was ended.
    pub(super) fn live(&self, session: usize) -> impl Iterator<Item = &Record> {
        self.records()
            .filter(move |(of, _)| *of == session)
            .map(|(_, record)| record)
    }

    /// Every live record, and its session.
    pub(super) fn records(&self) -> impl Iterator<Item = (usize, &Record)> {
        self.0.values().filter_map(|place| match &place.content {
            Content::Record(record) => Some((place.session, record)),
            _ => None,
        })
    }

    /// The redirects that lead on from a name.
    pub(super) fn route_from<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Redirect> {
        std::iter::successors(self.redirect(name), |redirect| {
            self.redirect(&redirect.target)
        })
    }

    pub(super) fn found(&self, name: &str) -> Stored {
        match self.0.get(name).map(|place| &place.content) {
            Some(Content::Record(record)) => Stored::Record(record.clone()),
            Some(Content::Redirect(redirect)) => Stored::Redirect(redirect.clone()),
            Some(Content::Ended(_)) | None => Stored::Nothing,
        }
    }

    /// Whether a step can make no record under a name.
    fn is_taken(&self, name: &str) -> bool {
        let place = self.0.get(name);
        place.is_some_and(|place| !matches!(place.content, Content::Ended(Left::Nothing)))
    }

    pub(super) fn expects(&self, step: &Step) -> bool {
        let (Step::Cas { at, expect, .. } | Step::Rotate { at, expect, .. }) = step else {
            return false;
        };
        let text = self.record(at).and_then(Record::as_text);
        text.is_some_and(|text| expect.matches(text))
    }

    /// Carries out one step; `own` is the session that an insertion makes.
    pub(super) fn carry_out(&mut self, step: &Step, own: usize) -> (Reply, Option<Written>) {
        match step {
            Step::Read { at } => (Reply::Found(self.found(at)), None),
            Step::Cas { at, .. } | Step::Rotate { at, .. } if !self.expects(step) => {
                (Reply::Found(self.found(at)), None)
            }
            Step::Cas { at, new, .. } => self.replace(at, new),
            Step::Rotate { redirect, .. } if self.is_taken(&redirect.target) => {
                (Reply::Taken, None)
            }
            Step::Rotate {
                at, new, redirect, ..
            } => self.rotate(at, new, redirect),
            Step::Insert { at, .. } if self.is_taken(at) => (Reply::Taken, None),
            Step::Insert { at, new, .. } => {
                let revived = self.0.contains_key(at.as_str());
                self.put(at, own, Content::Record(new.clone()));
                let before = None;
                (Reply::Done, Some(Written { before, revived }))
            }
            Step::End { at, .. } => (self.end(at, Left::Tombstone), None),
            Step::EndIf { .. } => unreachable!("no request revokes here"),
        }
    }

    /// Writes the new record, whatever is there now.
    pub(super) fn replace(&mut self, at: &str, new: &Record) -> (Reply, Option<Written>) {
        let before = self.record(at).cloned();
        let session = self.session_of(at).expect("what is replaced is there");
        self.put(at, session, Content::Record(new.clone()));
        let revived = before.is_none();
        (Reply::Done, Some(Written { before, revived }))
    }

    fn rotate(&mut self, at: &str, new: &Record, redirect: &Redirect) -> (Reply, Option<Written>) {
        let before = self.record(at).cloned();
        let session = self.session_of(at).expect("what is renewed is there");
        let revived = self.0.contains_key(redirect.target.as_str());
        self.put(at, session, Content::Redirect(redirect.clone()));
        self.put(&redirect.target, session, Content::Record(new.clone()));
        (Reply::Done, Some(Written { before, revived }))
    }

    pub(super) fn end(&mut self, at: &str, left: Left) -> Reply {
        if self.record(at).is_some() {
            self.leave(at, left);
            return Reply::Done;
        }
        Reply::Found(self.found(at))
    }

    /// Leaves this under a name, and no redirect.
    pub(super) fn leave(&mut self, at: &str, left: Left) {
        if let Some(place) = Arc::make_mut(&mut self.0).get_mut(at) {
            place.content = Content::Ended(left);
        }
    }

    /// Whether a step whose answer was lost can still do something if it arrives late.
    pub(super) fn may_still_do(&self, step: &Step) -> bool {
        match step {
            Step::Read { .. } => false,
            // Ids are never used twice: a record that was replaced is never the expected one again.
            Step::Cas { .. } | Step::Rotate { .. } => self.expects(step),
            Step::Insert { at, .. } => !self.is_taken(at),
            Step::End { at, .. } | Step::EndIf { at, .. } => self.record(at).is_some(),
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Record(record) => record.as_text().unwrap_or_default().to_owned(),
            Self::Redirect(redirect) => redirect.encode(),
            Self::Ended(_) => "ended".to_owned(),
        })
    }
}
