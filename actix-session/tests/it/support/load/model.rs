//! What may be in a session, by all that its user has been told.

use std::collections::BTreeMap;

use super::acts::{Act, Seen};

/// One session.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) name: String,
    principal: Option<String>,
    /// How often counting was acknowledged, and how often its outcome is not known.
    counted: u32,
    uncertain: u32,
    entries: BTreeMap<String, Entry>,
    /// Something that ends or moves it was asked for, and its outcome is not known.
    pub(super) may_be_gone: bool,
    /// A login refuses what other requests have begun, so that not all that ran has counted.
    pub(super) has_logged_in: bool,
}

/// What may be found under a name.
#[derive(Debug, Clone)]
struct Entry {
    possible: Vec<Option<u32>>,
    /// Of requests that may still be on their way, since nobody waited for their end.
    in_flight: Vec<Option<u32>>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            possible: vec![None],
            in_flight: Vec::new(),
        }
    }
}

impl Model {
    pub(super) fn new(name: String, principal: Option<String>) -> Self {
        Self {
            name,
            principal,
            counted: 0,
            uncertain: 0,
            entries: BTreeMap::new(),
            may_be_gone: false,
            has_logged_in: false,
        }
    }

    pub(super) fn is_somebody(&self) -> bool {
        self.principal.is_some()
    }

    /// How often counting has had an effect, at the least and at the most.
    pub(super) fn range(&self) -> (u32, u32) {
        (self.counted, self.counted + self.uncertain)
    }

    /// It is about to be asked for.
    pub(super) fn begins(&mut self, act: &Act) {
        match act {
            Act::Count => self.uncertain += 1,
            Act::Set(name, value) => self.entry(name).possible.push(Some(*value)),
            Act::Remove(name) => self.entry(name).possible.push(None),
            _ => {}
        }
    }

    /// It was acknowledged.
    pub(super) fn done(&mut self, act: &Act) {
        match act {
            Act::Count => {
                self.uncertain -= 1;
                self.counted += 1;
            }
            Act::Set(name, value) => self.entry(name).possible = vec![Some(*value)],
            Act::Remove(name) => self.entry(name).possible = vec![None],
            Act::Login(somebody) => {
                self.principal = Some(somebody.clone());
                self.has_logged_in = true;
            }
            _ => {}
        }
    }

    /// The handler did nothing, since it met another session.
    pub(super) fn undone(&mut self, act: &Act) {
        match act {
            Act::Count => self.uncertain -= 1,
            Act::Set(name, value) => {
                let possible = &mut self.entry(name).possible;
                possible.retain(|found| *found != Some(*value));
            }
            _ => {}
        }
    }

    /// It was answered by an error: nobody knows, but nothing is on its way any more.
    pub(super) fn failed(&mut self, act: &Act) {
        self.may_be_gone |= act.leaves();
    }

    /// Nobody waited for its end.
    pub(super) fn left_alone(&mut self, act: &Act) {
        self.may_be_gone |= act.leaves();
        match act {
            Act::Set(name, value) => self.entry(name).in_flight.push(Some(*value)),
            Act::Remove(name) => self.entry(name).in_flight.push(None),
            Act::Login(_) => self.has_logged_in = true,
            _ => {}
        }
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        self.entries.entry(name.to_owned()).or_default()
    }

    fn allows(&self, name: &str, found: Option<u32>) -> bool {
        match self.entries.get(name) {
            None => found.is_none(),
            Some(entry) => entry.possible.contains(&found) || entry.in_flight.contains(&found),
        }
    }

    /// Says what is wrong with what a request found that was sent after `before`, together with all
    /// that `self` knows to have begun.
    pub(super) fn check(&self, before: &Self, seen: &Seen) -> Result<(), String> {
        let (least, most) = (before.counted, self.range().1);
        if !(least..=most).contains(&seen.count) {
            return Err(format!("{} is not in {least}..={most}", seen.count));
        }
        if seen.principal != before.principal {
            return Err(format!(
                "{:?} is not {:?}",
                seen.principal, before.principal
            ));
        }
        for name in self.entries.keys().chain(seen.entries.keys()) {
            let found = seen.entries.get(name).copied();
            if !self.allows(name, found) && !before.allows(name, found) {
                let expected = self.entries.get(name);
                return Err(format!("{name} is {found:?}, and may be {expected:?}"));
            }
        }
        Ok(())
    }
}
