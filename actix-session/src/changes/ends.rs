//! When a session ends that changes are committed to.

use super::{Changes, merge::metadata_after};
use crate::{clock::Millis, contract::Terms, record::Record};

impl Changes {
    /// When a session ends that they are committed to now, and when at the latest. Without a base,
    /// they make one.
    pub(crate) fn ends(&self, base: Option<&Record>, terms: &Terms) -> (Millis, Option<Millis>) {
        let nothing = Record::empty();
        let stored = base.unwrap_or(&nothing);
        let another = self.log_in_another(stored);
        let metadata = metadata_after(stored, self, another, terms.stamp(0, 0));
        (terms.end_of(&metadata), metadata.absolute_end)
    }
}
