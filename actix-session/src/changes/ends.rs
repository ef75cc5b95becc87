//! When a session ends that changes are committed to.

use super::{
    Changes, Effect,
    merge::{give_to, metadata_after},
};
use crate::{clock::Millis, contract::Terms, record::Record};

impl Changes {
    /// When a session ends that they are committed to now, and when at the latest. Without a base,
    /// they make one.
    pub(crate) fn ends(&self, base: Option<&Record>, terms: &Terms) -> (Millis, Option<Millis>) {
        let nothing = Record::empty();
        let stored = base.unwrap_or(&nothing);
        let another = self.log_in_another(stored);
        let stamp = terms.stamp(0, 0);
        let mut metadata = metadata_after(stored, self, another, stamp);
        let entry = stamp.principal_entry;
        let effect = entry.and_then(|entry| self.effects.get(entry));
        if metadata.principal().is_some() && effect.is_some_and(Effect::names_nobody) {
            give_to(&mut metadata, None, self.ttl, stamp);
        }
        (terms.end_of(&metadata), metadata.absolute_end)
    }
}
