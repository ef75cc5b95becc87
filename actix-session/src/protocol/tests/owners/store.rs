//! A store with an index, as plain as it can be. Before each of its steps it waits for its turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
};

use crate::{
    clock::{Millis, SharedClock},
    contract::Terms,
    protocol::{Name, NotBefore, Owner, OwnerBefore, Redirect, Step, Stored},
    record::Record,
};

/// What a record and its entry take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// One step, and every load looks at the mark.
    Sql,
    /// One step, and no load looks at the mark.
    Redis,
    /// A renewal and a login over an old record take three.
    Cluster,
    /// The same where the index never lies beside its records: one step more, and new sessions too.
    Hidden,
}

/// A broken variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The mark ends what was logged in before it, and not what was logged in then.
    EqualIsLater,
    /// The entry is written before the record is compared.
    EntryFirst,
    /// A renewal gives the session another id.
    AnotherId,
    /// The first step in a cluster writes a record with its whole life.
    WholeLife,
    /// `revoke_others` spares who was logged in later, not who is named.
    SparesByTime,
    /// What writes an entry does not look at the mark.
    NoCompare,
    /// A reservation is no different from the entry that takes its place.
    ReservesForGood,
}

/// The store as one process asks it.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) shared: Arc<Shared>,
    pub(super) who: usize,
    pub(super) clock: SharedClock,
}

/// For the judge, who need not wait.
pub(super) const ANYBODY: usize = usize::MAX;

pub(super) struct Shared {
    pub(super) mode: Mode,
    pub(super) fault: Option<Fault>,
    /// The first step of each new session is lost on its way.
    pub(super) loses: bool,
    state: Mutex<State>,
}

/// What is stored, and whose turn it is.
#[derive(Default)]
pub(super) struct State {
    pub(super) turn: Option<usize>,
    pub(super) places: BTreeMap<Name, (Content, Millis)>,
    /// By principal and id.
    pub(super) entries: BTreeMap<(String, u128), Entry>,
    pub(super) marks: BTreeMap<String, NotBefore>,
    /// Who has lost an answer already.
    pub(super) lost: BTreeSet<usize>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) login: Millis,
    pub(super) at: Name,
    /// Its record may not be there yet.
    pub(super) reserved: bool,
}

#[derive(Clone)]
pub(super) enum Content {
    Record(Record),
    Redirect(Redirect),
    Tombstone,
}

impl Shared {
    pub(super) fn new(mode: Mode, fault: Option<Fault>, loses: bool) -> Arc<Self> {
        Arc::new(Self {
            mode,
            fault,
            loses,
            state: Mutex::default(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn asked_by(self: &Arc<Self>, who: usize, clock: SharedClock) -> Asked {
        let shared = Arc::clone(self);
        Asked { shared, who, clock }
    }

    /// Every record that lives at a time, as the contract says it.
    pub(super) fn alive(&self, now: Millis) -> Vec<(Name, Record)> {
        let mut state = self.state();
        state.tidied(now);
        let has_ended = |record: &Record| {
            let owner = Owner::of(record);
            let mark = owner.as_ref().and_then(|it| state.marks.get(&it.principal));
            owner
                .zip(mark)
                .is_some_and(|(it, mark)| mark.ends(it.id, it.login))
        };
        let records = state.records();
        let alive = records.filter(|(_, record)| self.mode != Mode::Sql || !has_ended(record));
        let alive = alive.map(|(name, record)| (name.clone(), record.clone()));
        alive.collect()
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

impl State {
    /// Forgets what has expired.
    fn tidied(&mut self, now: Millis) {
        self.places.retain(|_, (_, end)| *end > now);
    }

    fn records(&self) -> impl Iterator<Item = (&Name, &Record)> {
        self.places
            .iter()
            .filter_map(|(name, (content, _))| match content {
                Content::Record(record) => Some((name, record)),
                _ => None,
            })
    }

    pub(super) fn record(&self, at: &str) -> Option<&Record> {
        match self.places.get(at) {
            Some((Content::Record(record), _)) => Some(record),
            _ => None,
        }
    }

    pub(super) fn found(&self, at: &str) -> Stored {
        match self.places.get(at) {
            Some((Content::Record(record), end)) => {
                Stored::Record(record.clone().with_end(Some(*end)))
            }
            Some((Content::Redirect(redirect), _)) => Stored::Redirect(redirect.clone()),
            Some((Content::Tombstone, _)) | None => Stored::Nothing,
        }
    }

    pub(super) fn put(&mut self, at: &Name, record: &Record, end: Millis) {
        let content = Content::Record(record.clone());
        self.places.insert(at.clone(), (content, end));
    }

    pub(super) fn leave(&mut self, at: &Name, content: Content, terms: &Terms) {
        self.places
            .insert(at.clone(), (content, terms.now + terms.grace));
    }

    pub(super) fn expects(&self, at: &str, step: &Step) -> bool {
        let (Step::Cas { expect, .. } | Step::Rotate { expect, .. } | Step::EndIf { expect, .. }) =
            step
        else {
            return false;
        };
        let text = self.record(at).and_then(Record::as_text);
        text.is_some_and(|text| expect.matches(text))
    }

    pub(super) fn enter(&mut self, owner: &Owner, at: &Name) {
        let entry = Entry {
            login: owner.login,
            at: at.clone(),
            reserved: false,
        };
        self.entries
            .insert((owner.principal.clone(), owner.id), entry);
    }

    /// Takes no entry's place.
    pub(super) fn reserve(&mut self, owner: (String, u128), login: Millis, at: &Name) {
        self.entries.entry(owner).or_insert_with(|| Entry {
            login,
            at: at.clone(),
            reserved: true,
        });
    }

    pub(super) fn exit(&mut self, before: &OwnerBefore, at: &Name) {
        let OwnerBefore::Other(Some(owner)) = before else {
            return;
        };
        let key = (owner.principal.clone(), owner.id);
        if self.entries.get(&key).is_some_and(|known| known.at == *at) {
            self.entries.remove(&key);
        }
    }
}

impl Asked {
    /// Waits until it may take a step.
    pub(super) async fn turn(&self) -> MutexGuard<'_, State> {
        if self.who != ANYBODY {
            poll_fn(|_| {
                let mut state = self.shared.state();
                if state.turn != Some(self.who) {
                    return Poll::Pending;
                }
                state.turn = None;
                Poll::Ready(())
            })
            .await;
        }
        self.state()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state();
        state.tidied(self.clock.now());
        state
    }

    pub(super) fn is_over(&self, state: &State, owner: &Owner) -> bool {
        let mark = state.marks.get(&owner.principal);
        mark.is_some_and(|mark| match self.shared.has(Fault::EqualIsLater) {
            true => owner.login < mark.at && !mark.spared.contains(&owner.id),
            false => mark.ends(owner.id, owner.login),
        })
    }

    pub(super) fn loaded(&self, state: &State, found: Stored) -> Stored {
        match found {
            Stored::Record(record)
                if self.shared.mode == Mode::Sql
                    && Owner::of(&record).is_some_and(|owner| self.is_over(state, &owner)) =>
            {
                Stored::Nothing
            }
            found => found,
        }
    }
}
