//! Which watches there are: by the record's name, by the session's id, and by when to look again.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{EndReason, Watch, watch::Looking};
use crate::{
    protocol::{Name, Owner},
    record::Record,
};

pub(super) type Token = u64;

/// A session that somebody waits for.
pub(super) struct Watched {
    pub(super) watch: Watch,
    pub(super) at: Name,
    /// When to look again; `None` while somebody looks.
    due: Option<Instant>,
    /// When to look again at the latest, since something was told while somebody looked.
    again: Option<Instant>,
    /// A look has found nothing.
    pub(super) is_missing: bool,
    /// When it was last known to be there.
    pub(super) found_at: Option<Instant>,
    /// Why it has ended, if a look finds another session.
    doubt: Option<EndReason>,
}

/// Trees alone: they give back what goes. A hash table keeps the room of its fullest time, and grows
/// further while watches come and go.
#[derive(Default)]
pub(super) struct Places {
    next: Token,
    /// In boxes: a tree's nodes are half empty.
    all: BTreeMap<Token, Box<Watched>>,
    names: Many<Name>,
    ids: Many<u128>,
    due: BTreeSet<(Instant, Token)>,
}

impl Places {
    pub(super) fn draw(&mut self) -> Token {
        self.next += 1;
        self.next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Nothing is left anywhere.
    #[cfg(test)]
    pub(super) fn has_nothing(&self) -> bool {
        let maps = self.all.len() + self.names.0.len() + self.ids.0.len();
        maps + self.due.len() == 0
    }

    pub(super) fn get(&self, token: Token) -> Option<&Watched> {
        self.all.get(&token).map(AsRef::as_ref)
    }

    pub(super) fn insert(&mut self, token: Token, at: Name, watch: Watch, due: Instant) {
        self.names.add(at.clone(), token);
        if let Some(id) = watch.id {
            self.ids.add(id, token);
        }
        self.due.insert((due, token));
        let watched = Watched {
            watch,
            at,
            due: Some(due),
            again: None,
            is_missing: false,
            found_at: None,
            doubt: None,
        };
        self.all.insert(token, Box::new(watched));
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Watch> {
        let watched = self.all.remove(&token)?;
        self.names.remove(&watched.at, token);
        if let Some(id) = watched.watch.id {
            self.ids.remove(&id, token);
        }
        if let Some(due) = watched.due {
            self.due.remove(&(due, token));
        }
        Some(watched.watch)
    }

    pub(super) fn remove_all(&mut self, tokens: Vec<Token>) -> Vec<Watch> {
        tokens
            .into_iter()
            .filter_map(|token| self.remove(token))
            .collect()
    }

    pub(super) fn named(&self, at: &Name) -> Vec<Token> {
        self.names.of(at)
    }

    pub(super) fn with_id(&self, id: u128) -> Vec<Token> {
        self.ids.of(&id)
    }

    pub(super) fn tokens(&self) -> Vec<Token> {
        self.all.keys().copied().collect()
    }

    /// Those that are whose sessions.
    pub(super) fn owned(&self, is_meant: impl Fn(&Owner) -> bool) -> Vec<Token> {
        let owned = self.all.iter().filter_map(|(token, watched)| {
            let owner = watched.watch.owner.as_ref()?;
            is_meant(owner).then_some(*token)
        });
        owned.collect()
    }

    pub(super) fn move_to(&mut self, token: Token, at: &Name) {
        let Some(watched) = self.all.get_mut(&token) else {
            return;
        };
        if watched.at != *at {
            let before = std::mem::replace(&mut watched.at, at.clone());
            self.names.remove(&before, token);
            self.names.add(at.clone(), token);
        }
    }

    /// Notes what was found; `false` if it is another session.
    pub(super) fn found(&mut self, token: Token, record: &Record) -> bool {
        let Some(watched) = self.all.get_mut(&token) else {
            return true;
        };
        let before = watched.watch.id;
        if !watched.watch.is_same(record) {
            return false;
        }
        let now = watched.watch.id;
        if before != now {
            before
                .into_iter()
                .for_each(|id| self.ids.remove(&id, token));
            now.into_iter().for_each(|id| self.ids.add(id, token));
        }
        let owner = Owner::of(record);
        // What is the same stays where it lies: each look would leave gaps in the memory otherwise.
        if watched.watch.owner != owner {
            watched.watch.owner = owner;
        }
        watched.is_missing = false;
        watched.found_at = Some(Instant::now());
        watched.doubt = None;
        true
    }

    /// Another session has been written under the name, now or before this one.
    pub(super) fn doubt(&mut self, token: Token, reason: EndReason) {
        if let Some(watched) = self.all.get_mut(&token) {
            watched.doubt = Some(reason);
        }
    }

    pub(super) fn take_doubt(&mut self, token: Token) -> Option<EndReason> {
        self.all.get_mut(&token)?.doubt.take()
    }

    /// Notes that a look has found nothing, and returns whether one has before.
    pub(super) fn missing(&mut self, token: Token) -> bool {
        let watched = self.all.get_mut(&token);
        watched.is_none_or(|watched| std::mem::replace(&mut watched.is_missing, true))
    }

    pub(super) fn set_due(&mut self, token: Token, due: Instant) {
        if let Some(watched) = self.all.get_mut(&token) {
            let due = watched.again.take().map_or(due, |again| again.min(due));
            if let Some(before) = watched.due.replace(due) {
                self.due.remove(&(before, token));
            }
            self.due.insert((due, token));
        }
    }

    /// Looks no later than that. If somebody looks now, what is seen may be older.
    pub(super) fn hasten(&mut self, token: Token, due: Instant) {
        let Some(watched) = self.all.get_mut(&token) else {
            return;
        };
        match watched.due {
            Some(planned) if planned <= due => {}
            Some(_) => self.set_due(token, due),
            None => watched.again = Some(watched.again.map_or(due, |again| again.min(due))),
        }
    }

    #[cfg(test)]
    pub(super) fn due_of(&self, token: Token) -> Option<Instant> {
        self.get(token)?.due
    }

    /// Those that somebody looks at now are looked at again: what is seen may be older than this.
    pub(super) fn look_again(&mut self, now: Instant) {
        let looked_at = self.all.values_mut().filter(|it| it.due.is_none());
        looked_at.for_each(|it| it.again = Some(now));
    }

    /// When to look next, and how.
    pub(super) fn first_due(&self) -> Option<(Instant, &Looking)> {
        let (due, token) = self.due.first()?;
        Some((*due, &self.all.get(token)?.watch.looking))
    }

    /// Takes up to so many that are due.
    pub(super) fn take_due(&mut self, now: Instant, most: usize) -> Vec<Token> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(&(due, token)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            if let Some(watched) = self.all.get_mut(&token) {
                watched.due = None;
                taken.push(token);
            }
        }
        taken
    }
}

/// Several tokens for each key.
struct Many<K>(BTreeSet<(K, Token)>);

impl<K> Default for Many<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Ord + Clone> Many<K> {
    fn add(&mut self, key: K, token: Token) {
        self.0.insert((key, token));
    }

    fn remove(&mut self, key: &K, token: Token) {
        self.0.remove(&(key.clone(), token));
    }

    fn of(&self, key: &K) -> Vec<Token> {
        let tokens = (key.clone(), Token::MIN)..=(key.clone(), Token::MAX);
        self.0.range(tokens).map(|(_, token)| *token).collect()
    }
}
