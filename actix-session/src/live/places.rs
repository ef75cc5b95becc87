//! Which watches there are: by the record's name, by the session's id, and by when to look again.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use tokio::time::Instant;

use super::Watch;
use crate::{
    protocol::{Name, Owner},
    record::Record,
};

pub(super) type Token = u64;

/// A session that somebody waits for.
pub(super) struct Watched {
    pub(super) watch: Watch,
    pub(super) at: Name,
    /// Whose it is, as far as somebody has looked.
    pub(super) owner: Option<Owner>,
    /// When to look again; `None` while somebody looks.
    due: Option<Instant>,
    /// When to look again at the latest, since something was told while somebody looked.
    again: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Places {
    next: Token,
    all: HashMap<Token, Watched>,
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
        self.all.get(&token)
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
            owner: None,
            due: Some(due),
            again: None,
        };
        self.all.insert(token, watched);
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
            let owner = watched.owner.as_ref()?;
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
        if let (None, Some(id)) = (before, watched.watch.id) {
            self.ids.add(id, token);
        }
        watched.owner = Owner::of(record);
        true
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

    pub(super) fn first_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
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
struct Many<K>(HashMap<K, BTreeSet<Token>>);

impl<K> Default for Many<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Many<K> {
    fn add(&mut self, key: K, token: Token) {
        self.0.entry(key).or_default().insert(token);
    }

    fn remove(&mut self, key: &K, token: Token) {
        if let Some(tokens) = self.0.get_mut(key) {
            tokens.remove(&token);
            if tokens.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn of(&self, key: &K) -> Vec<Token> {
        let tokens = self.0.get(key);
        tokens
            .map(|it| it.iter().copied().collect())
            .unwrap_or_default()
    }
}
