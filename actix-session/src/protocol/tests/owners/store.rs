//! A store with an index, as plain as it can be. Before each of its steps it waits for its turn.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
};

use crate::key::SessionKey;
use crate::{
    clock::{Millis, SharedClock},
    contract::Terms,
    protocol::{
        Backend, Name, NotBefore, Owner, OwnerBefore, Redirect, Reply, RevokeMachine, Step, Stored,
        Until,
    },
    record::{Record, WireFormat},
    storage::{
        SessionIndex, StoreIndex,
        backend::shared_store,
        index::{Index, Listed, Page},
        upkeep::Upkeep,
    },
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
}

/// The store as one process asks it.
#[derive(Clone)]
pub(super) struct Asked {
    shared: Arc<Shared>,
    who: usize,
    clock: SharedClock,
}

/// For the judge, who need not wait.
pub(super) const ANYBODY: usize = usize::MAX;

pub(super) struct Shared {
    pub(super) mode: Mode,
    pub(super) fault: Option<Fault>,
    state: Mutex<State>,
}

/// What is stored, and whose turn it is.
#[derive(Default)]
pub(super) struct State {
    pub(super) turn: Option<usize>,
    places: BTreeMap<Name, (Content, Millis)>,
    /// By principal and id.
    pub(super) entries: BTreeMap<(String, u128), (Millis, Name)>,
    marks: BTreeMap<String, NotBefore>,
}

#[derive(Clone)]
pub(super) enum Content {
    Record(Record),
    Redirect(Redirect),
    Tombstone,
}

impl Shared {
    pub(super) fn new(mode: Mode, fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self {
            mode,
            fault,
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

    fn has(&self, fault: Fault) -> bool {
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

    fn record(&self, at: &str) -> Option<&Record> {
        match self.places.get(at) {
            Some((Content::Record(record), _)) => Some(record),
            _ => None,
        }
    }

    fn found(&self, at: &str) -> Stored {
        match self.places.get(at) {
            Some((Content::Record(record), end)) => {
                Stored::Record(record.clone().with_end(Some(*end)))
            }
            Some((Content::Redirect(redirect), _)) => Stored::Redirect(redirect.clone()),
            Some((Content::Tombstone, _)) | None => Stored::Nothing,
        }
    }

    fn put(&mut self, at: &Name, record: &Record, end: Millis) {
        let content = Content::Record(record.clone());
        self.places.insert(at.clone(), (content, end));
    }

    fn leave(&mut self, at: &Name, content: Content, terms: &Terms) {
        self.places
            .insert(at.clone(), (content, terms.now + terms.grace));
    }

    fn expects(&self, at: &str, step: &Step) -> bool {
        let (Step::Cas { expect, .. } | Step::Rotate { expect, .. } | Step::EndIf { expect, .. }) =
            step
        else {
            return false;
        };
        let text = self.record(at).and_then(Record::as_text);
        text.is_some_and(|text| expect.matches(text))
    }

    fn enter(&mut self, owner: &Owner, at: &Name) {
        let entry = (owner.login, at.clone());
        self.entries
            .insert((owner.principal.clone(), owner.id), entry);
    }

    fn exit(&mut self, before: &OwnerBefore, at: &Name) {
        let OwnerBefore::Other(Some(owner)) = before else {
            return;
        };
        let key = (owner.principal.clone(), owner.id);
        if self.entries.get(&key).is_some_and(|(_, known)| known == at) {
            self.entries.remove(&key);
        }
    }
}

impl Asked {
    /// Waits until it may take a step.
    async fn turn(&self) -> MutexGuard<'_, State> {
        if self.who != ANYBODY {
            poll_fn(|_| {
                let mut state = self.shared.state();
                match state.turn == Some(self.who) {
                    true => Poll::Ready(state.turn = None),
                    false => Poll::Pending,
                }
            })
            .await;
        }
        self.state()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state();
        state.tidied(self.clock.now());
        state
    }

    fn is_over(&self, state: &State, owner: &Owner) -> bool {
        let mark = state.marks.get(&owner.principal);
        mark.is_some_and(|mark| match self.shared.has(Fault::EqualIsLater) {
            true => owner.login < mark.at && !mark.spared.contains(&owner.id),
            false => mark.ends(owner.id, owner.login),
        })
    }

    /// Whether an entry for this owner is refused.
    fn is_refused(&self, state: &State, owner: &Owner) -> bool {
        !self.shared.has(Fault::NoCompare) && self.is_over(state, owner)
    }

    fn loaded(&self, state: &State, found: Stored) -> Stored {
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

    /// The steps that are one everywhere, or where a record and its entry are.
    fn at_once(&self, state: &mut State, step: &Step, terms: &Terms) -> Reply {
        let at: Name = step.at().into();
        let loaded = |state: &State| self.loaded(state, state.found(&at));
        match step {
            Step::Read { .. } => Reply::Found(loaded(state)),
            Step::Cas { .. } | Step::Rotate { .. } | Step::EndIf { .. }
                if !state.expects(&at, step) || matches!(loaded(state), Stored::Nothing) =>
            {
                if self.shared.has(Fault::EntryFirst)
                    && let Step::Rotate { new, redirect, .. } = step
                    && let Some(owner) = Owner::of(new)
                {
                    state.enter(&owner, &redirect.target);
                }
                Reply::Found(loaded(state))
            }
            Step::Cas {
                new,
                until,
                owner_before,
                ..
            } => {
                let end = state.places[&at].1;
                let end = match until {
                    Until::Same => end,
                    Until::At(until) => *until,
                    Until::AtMost(until) => end.min(*until),
                };
                let owner = Owner::of(new);
                if owner
                    .as_ref()
                    .is_some_and(|owner| self.is_refused(state, owner))
                {
                    return Reply::Ended;
                }
                state.exit(owner_before, &at);
                state.put(&at, new, end);
                if let Some(owner) = owner {
                    state.enter(&owner, &at);
                }
                Reply::Done
            }
            Step::Rotate {
                new,
                until,
                redirect,
                owner_before,
                ..
            } => {
                let new = self.renewed(new, owner_before);
                let owner = Owner::of(&new);
                if owner
                    .as_ref()
                    .is_some_and(|owner| self.is_refused(state, owner))
                {
                    return Reply::Ended;
                }
                state.exit(owner_before, &at);
                state.leave(&at, Content::Redirect(redirect.clone()), terms);
                state.put(&redirect.target, &new, *until);
                if let Some(owner) = owner {
                    state.enter(&owner, &redirect.target);
                }
                Reply::Done
            }
            Step::Insert { .. } if state.places.contains_key(&at) => Reply::Taken,
            Step::Insert { new, until, .. } => {
                let owner = Owner::of(new);
                if owner
                    .as_ref()
                    .is_some_and(|owner| self.is_refused(state, owner))
                {
                    return Reply::Ended;
                }
                state.put(&at, new, *until);
                if let Some(owner) = owner {
                    state.enter(&owner, &at);
                }
                Reply::Done
            }
            Step::End { .. } | Step::EndIf { .. } => match state.record(&at) {
                Some(_) => {
                    state.leave(&at, Content::Tombstone, terms);
                    Reply::Done
                }
                None => Reply::Found(state.found(&at)),
            },
        }
    }

    /// The record as a renewal writes it.
    fn renewed(&self, new: &Record, before: &OwnerBefore) -> Record {
        let is_renewal = *before == OwnerBefore::Same && Owner::of(new).is_some();
        if !(self.shared.has(Fault::AnotherId) && is_renewal) {
            return new.clone();
        }
        let mut metadata = new.metadata().cloned().unwrap();
        metadata.id ^= 1 << 100;
        let state = new.to_map();
        let entries: Vec<_> = state
            .iter()
            .map(|(name, json)| (name.as_str().into(), json.as_str().into()))
            .collect();
        Record::written(WireFormat::V1, new.commit_id(), metadata, &entries)
    }

    /// The end of a record that no index has yet.
    fn first(&self, until: Millis, terms: &Terms) -> Millis {
        match self.shared.has(Fault::WholeLife) {
            true => until,
            false => until.min(terms.now + terms.grace),
        }
    }

    /// A renewal between two slots.
    async fn across(&self, step: &Step, owner: &Owner, terms: &Terms) -> Reply {
        let Step::Rotate {
            at,
            new,
            until,
            redirect,
            ..
        } = step
        else {
            unreachable!("only renewals lead to another slot");
        };
        let target = &redirect.target;
        let first = self.first(*until, terms);
        self.turn().await.put(target, new, first);
        {
            let mut state = self.turn().await;
            if !state.expects(at, step) {
                let found = state.found(at);
                drop(state);
                let mut state = self.turn().await;
                if state
                    .record(target)
                    .is_some_and(|it| it.as_text() == new.as_text())
                {
                    state.places.remove(target);
                }
                return Reply::Found(found);
            }
            state.leave(at, Content::Redirect(redirect.clone()), terms);
        }
        self.enter(target, owner, *until).await
    }

    /// The last steps of what writes a record in a cluster.
    async fn enter(&self, at: &Name, owner: &Owner, until: Millis) -> Reply {
        let is_apart = self.shared.mode == Mode::Hidden;
        {
            let mut state = self.turn().await;
            if !is_apart && state.record(at).is_none() {
                return Reply::Ended;
            }
            if self.is_refused(&state, owner) {
                if is_apart {
                    drop(state);
                    state = self.turn().await;
                }
                state.places.remove(at);
                return Reply::Ended;
            }
            state.enter(owner, at);
        }
        let mut state = match is_apart {
            true => self.turn().await,
            false => self.state(),
        };
        match state.places.get_mut(at) {
            Some((Content::Record(_), end)) => {
                *end = until;
                Reply::Done
            }
            _ => Reply::Ended,
        }
    }
}

impl Backend for Asked {
    const REMOTE: bool = true;

    async fn run(&self, step: &Step, terms: &Terms) -> Result<Reply, anyhow::Error> {
        let owner = match step {
            Step::Rotate { new, .. } | Step::Insert { new, .. } => Owner::of(new),
            _ => None,
        };
        let (steps, hides) = match self.shared.mode {
            Mode::Sql | Mode::Redis => (false, false),
            Mode::Cluster => (true, false),
            Mode::Hidden => (true, true),
        };
        Ok(match (step, owner) {
            (Step::Rotate { .. }, Some(owner)) if steps => self.across(step, &owner, terms).await,
            (Step::Insert { at, new, until }, Some(owner)) if hides => {
                let first = self.first(*until, terms);
                self.turn().await.put(at, new, first);
                self.enter(at, &owner, *until).await
            }
            (step, _) => self.at_once(&mut *self.turn().await, step, terms),
        })
    }

    async fn look(&self, at: &str, _: &Terms) -> Result<Stored, anyhow::Error> {
        let state = self.turn().await;
        Ok(self.loaded(&state, state.found(at)))
    }

    async fn set_ttl(&self, _: &str, _: Millis) -> Result<(), anyhow::Error> {
        unreachable!("no process sets a TTL")
    }

    fn name(&self, key: &SessionKey) -> Name {
        key.as_ref().into()
    }

    fn clock(&self) -> &SharedClock {
        &self.clock
    }
}

impl Index for Asked {
    async fn sessions(
        &self,
        principal: &str,
        page: Page,
        _: &Terms,
    ) -> anyhow::Result<Vec<Listed>> {
        let mut listed = self.entries_of(principal).await;
        listed.retain(|it| page.includes((it.login, it.id)));
        listed.sort_unstable_by_key(|it| std::cmp::Reverse((it.login, it.id)));
        listed.truncate(page.limit);
        // The records are looked at after that.
        let state = self.turn().await;
        for it in &mut listed {
            it.found = self.loaded(&state, state.found(&it.at));
        }
        Ok(listed)
    }

    async fn heal(&self, principal: &str, listed: &Listed, _: &Terms) -> anyhow::Result<()> {
        let mut state = self.turn().await;
        let key = (principal.to_owned(), listed.id);
        if state
            .entries
            .get(&key)
            .is_some_and(|(login, at)| *login == listed.login && *at == listed.at)
        {
            state.entries.remove(&key);
        }
        Ok(())
    }

    async fn mark(
        &self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        _: &Terms,
    ) -> anyhow::Result<bool> {
        let mut state = self.turn().await;
        let earlier = state.marks.get(principal).cloned();
        if let (Some(earlier), Some((id, login))) = (&earlier, by)
            && earlier.ends(id, login)
        {
            return Ok(false);
        }
        let mut mark = mark.clone();
        if let (true, Some((_, login))) = (self.shared.has(Fault::SparesByTime), by) {
            mark = NotBefore {
                at: login - Millis(1),
                spared: Vec::new(),
            };
        }
        state
            .marks
            .insert(principal.to_owned(), mark.after(earlier.as_ref()));
        Ok(true)
    }

    async fn end_marked(
        &self,
        principal: &str,
        mark: &NotBefore,
        terms: &Terms,
    ) -> anyhow::Result<u64> {
        let known = self.state().marks.get(principal).cloned();
        let mark = match self.shared.has(Fault::SparesByTime) {
            true => known.unwrap_or_else(|| mark.clone()),
            false => mark.clone(),
        };
        let mut known = self.entries_of(principal).await;
        let equal_is_later = self.shared.has(Fault::EqualIsLater);
        known.retain(|it| mark.ends(it.id, it.login) && !(equal_is_later && it.login == mark.at));
        let mut ended = 0;
        for it in known {
            let mut machine = RevokeMachine::new(it.at.clone(), principal, it.id, terms);
            let is_ended = self.drive(&mut machine, terms).await;
            if is_ended.map_err(anyhow::Error::new)? {
                ended += 1;
                self.heal(principal, &it, terms).await?;
            }
        }
        Ok(ended)
    }
}

impl Asked {
    async fn entries_of(&self, principal: &str) -> Vec<Listed> {
        let state = self.turn().await;
        let own = state.entries.iter().filter(|((of, _), _)| of == principal);
        let listed = own.map(|((_, id), (login, at))| Listed {
            id: *id,
            login: *login,
            at: at.clone(),
            found: Stored::Nothing,
        });
        listed.collect()
    }
}

impl Upkeep for Asked {
    async fn forget(&self, _: &str, _: &NotBefore, _: &Terms) -> anyhow::Result<()> {
        unreachable!("nobody is erased")
    }
}

impl SessionIndex for Asked {
    fn index(&self) -> StoreIndex {
        StoreIndex::new(self.clone())
    }
}

shared_store!(local Asked);
