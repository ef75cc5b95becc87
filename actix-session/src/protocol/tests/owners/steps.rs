//! The steps of the store: one for a record and its entry, or several.

use super::store::{Asked, Content, Fault, Mode, State};
use crate::{
    clock::{Millis, SharedClock},
    contract::Terms,
    key::SessionKey,
    protocol::{Backend, Name, Owner, OwnerBefore, Redirect, Reply, Step, Stored, Until},
    record::{Record, WireFormat},
};

impl Asked {
    /// Whether an entry for this owner is refused.
    fn is_refused(&self, state: &State, owner: &Owner) -> bool {
        !self.shared.has(Fault::NoCompare) && self.is_over(state, owner)
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
        let left = Self::leave(&mut *self.turn().await, step, redirect, terms);
        if let Some(found) = left {
            let mut state = self.turn().await;
            let own = state.record(target).and_then(Record::as_text);
            if own == new.as_text() {
                state.places.remove(target);
            }
            return Reply::Found(found);
        }
        self.enter(target, owner, *until).await
    }

    /// The second step, which decides; what is found there if it does nothing.
    fn leave(state: &mut State, step: &Step, redirect: &Redirect, terms: &Terms) -> Option<Stored> {
        let at: Name = step.at().into();
        if !state.expects(&at, step) {
            return Some(state.found(&at));
        }
        state.leave(&at, Content::Redirect(redirect.clone()), terms);
        None
    }

    fn entered(&self, state: &mut State, at: &Name, owner: &Owner) -> bool {
        let is_gone = self.shared.mode == Mode::Cluster && state.record(at).is_none();
        if is_gone || self.is_refused(state, owner) {
            return false;
        }
        state.enter(owner, at);
        true
    }

    /// The last steps of what writes a record in a cluster.
    async fn enter(&self, at: &Name, owner: &Owner, until: Millis) -> Reply {
        let is_apart = self.shared.mode == Mode::Hidden;
        let is_entered = self.entered(&mut *self.turn().await, at, owner);
        if !is_entered {
            let mut state = match is_apart {
                true => self.turn().await,
                false => self.state(),
            };
            state.places.remove(at);
            return Reply::Ended;
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
                if self.shared.loses && self.state().lost.insert(self.who) {
                    // It may have been carried out, as far as anybody knows.
                    let key = (owner.principal.clone(), owner.id);
                    self.turn().await.reserve(key, owner.login, at);
                    return Ok(Reply::Lost);
                }
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
