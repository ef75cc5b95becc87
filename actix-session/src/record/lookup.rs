//! Finds one of many names without comparing all of them.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use super::names::{in_order, is_named};

/// Up to this many names, comparing each one is fast enough.
pub(super) const FEW: usize = 16;
/// After this many lookups, sorting the names pays.
const OFTEN: usize = 16;

/// The order of a record's names, made once they have been looked up often.
#[derive(Default)]
pub(crate) struct Lookup {
    lookups: AtomicUsize,
    sorted: OnceLock<Box<[u32]>>,
}

impl Lookup {
    /// The place of a name. `name_at` returns the name at a place below `count`; no two are equal.
    pub(super) fn find<'a>(
        &self,
        wanted: &str,
        count: usize,
        name_at: impl Fn(usize) -> &'a str,
    ) -> Option<usize> {
        if count <= FEW || self.lookups.fetch_add(1, Ordering::Relaxed) < OFTEN {
            return (0..count).find(|place| is_named(name_at(*place), wanted));
        }
        let name_at = |place: u32| name_at(place as usize);
        let sorted = self.sorted.get_or_init(|| {
            let mut sorted: Box<[u32]> = (0..).take(count).collect();
            sorted.sort_unstable_by(|one, other| in_order(name_at(*one), name_at(*other)));
            sorted
        });
        let found = sorted.binary_search_by(|place| in_order(name_at(*place), wanted));
        found.ok().map(|at| sorted[at] as usize)
    }
}
