//! The index of the store: its entries and its marks.

use super::store::{Asked, Entry, Fault};
use crate::{
    clock::Millis,
    contract::Terms,
    protocol::{Backend as _, NotBefore, Owner, RevokeMachine, Stored},
    storage::{
        SessionIndex, StoreIndex,
        backend::shared_store,
        index::{Index, Listed, Page},
        upkeep::Upkeep,
    },
};

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
        let key = (principal.to_owned(), listed.id);
        let looked_at = Entry {
            login: listed.login,
            at: listed.at.clone(),
            reserved: listed.reserved,
        };
        self.forget_entry(&key, &looked_at).await;
        if listed.reserved && self.is_there(principal, listed).await {
            self.turn().await.reserve(key, listed.login, &listed.at);
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
            let mut machine = RevokeMachine::new(it.at.clone(), principal, it.id);
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
    /// Takes an entry away that says what was looked at.
    async fn forget_entry(&self, key: &(String, u128), looked_at: &Entry) {
        let any = self.shared.has(Fault::ReservesForGood);
        let is_same = |known: &Entry| known == looked_at || any && known.at == looked_at.at;
        let mut state = self.turn().await;
        if state.entries.get(key).is_some_and(is_same) {
            state.entries.remove(key);
        }
    }

    async fn is_there(&self, principal: &str, listed: &Listed) -> bool {
        let state = self.turn().await;
        let owner = state.record(&listed.at).and_then(Owner::of);
        owner.is_some_and(|owner| owner.is(principal, listed.id))
    }

    async fn entries_of(&self, principal: &str) -> Vec<Listed> {
        let state = self.turn().await;
        let own = state.entries.iter().filter(|((of, _), _)| of == principal);
        let listed = own.map(|((_, id), entry)| Listed {
            id: *id,
            login: entry.login,
            at: entry.at.clone(),
            reserved: entry.reserved,
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
