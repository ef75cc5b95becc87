//! The effects of a request, one for each entry.

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    sync::Arc,
};

use super::Effect;
use crate::record::is_named;

/// Up to this many names, comparing each one is faster than a map.
const FEW: usize = 16;

/// Effects with the names of their entries, in the order in which the entries were first changed.
///
/// Clones share them, until one of them changes: the handle keeps what the middleware commits.
#[derive(Clone, Default)]
pub(crate) struct Effects {
    all: Option<Arc<Vec<(String, Effect)>>>,
    /// Where each name is, once there are more than a few.
    #[allow(
        clippy::box_collection,
        reason = "few requests have it, and each moves the rest"
    )]
    places: Option<Box<HashMap<String, usize>>>,
}

impl Effects {
    pub(crate) const fn none() -> Self {
        Self {
            all: None,
            places: None,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Effect> {
        self.place(name).map(|place| &self[place].1)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Effect> {
        self.place(name).map(|place| &mut self.all_mut()[place].1)
    }

    fn all_mut(&mut self) -> &mut Vec<(String, Effect)> {
        Arc::make_mut(self.all.get_or_insert_default())
    }

    /// Returns the effect that this one replaces.
    pub(crate) fn set(
        &mut self,
        name: impl AsRef<str> + Into<String>,
        effect: Effect,
    ) -> Option<Effect> {
        if let Some(known) = self.get_mut(name.as_ref()) {
            return Some(std::mem::replace(known, effect));
        }
        let place = self.len();
        if let Some(places) = &mut self.places {
            places.insert(name.as_ref().to_owned(), place);
        }
        self.all_mut().push((name.into(), effect));
        if self.places.is_none() && self.len() > FEW {
            self.places = Some(places(self).into());
        }
        None
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Effect> {
        let place = self.place(name)?;
        let (_, effect) = self.all_mut().remove(place);
        self.places = (self.len() > FEW).then(|| places(self).into());
        Some(effect)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Effect)> {
        let all = self.all_mut().iter_mut();
        all.map(|(name, effect)| (name.as_str(), effect))
    }

    fn place(&self, name: &str) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(name).copied(),
            None => self.iter().position(|(known, _)| is_named(known, name)),
        }
    }
}

/// Which entries had effects at some time, and how many closures.
#[derive(Clone, Default)]
pub(crate) struct Before(HashMap<String, usize>);

impl Before {
    pub(crate) fn of(effects: &Effects) -> Self {
        let all = effects.iter();
        Self(
            all.map(|(name, effect)| (name.clone(), effect.closures()))
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// What was done since changes were taken for a commit.
#[derive(Debug, Default)]
pub(crate) struct Since {
    /// The entries that were set or removed.
    pub(crate) names: HashSet<String>,
    pub(crate) ttl: bool,
    pub(crate) lowered: bool,
    /// A `clear` or a purge: all that is there has come after it.
    pub(crate) all: bool,
}

fn places(all: &[(String, Effect)]) -> HashMap<String, usize> {
    let places = all.iter().enumerate();
    places
        .map(|(place, (name, _))| (name.clone(), place))
        .collect()
}

impl Deref for Effects {
    type Target = [(String, Effect)];

    fn deref(&self) -> &Self::Target {
        self.all.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl FromIterator<(String, Effect)> for Effects {
    fn from_iter<I: IntoIterator<Item = (String, Effect)>>(all: I) -> Self {
        let all: Vec<_> = all.into_iter().collect();
        let places = (all.len() > FEW).then(|| places(&all).into());
        let all = Some(Arc::new(all));
        Self { all, places }
    }
}

impl IntoIterator for Effects {
    type Item = (String, Effect);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.all
            .map(Arc::unwrap_or_clone)
            .unwrap_or_default()
            .into_iter()
    }
}

#[cfg(test)]
impl<const N: usize> From<[(String, Effect); N]> for Effects {
    fn from(all: [(String, Effect); N]) -> Self {
        all.into_iter().collect()
    }
}
