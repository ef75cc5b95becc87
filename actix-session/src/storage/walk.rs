//! The way through all of a principal's sessions, page by page.

use std::collections::HashSet;

use super::index::{After, Page};

/// How many entries are read at once. Each page is larger than the one before, since some stores read
/// the whole list for each.
pub(crate) const BATCH: usize = 100;
const GROWTH: usize = 4;

/// How often a list is gone through at most.
const ROUNDS: u32 = 4;

/// Goes through all of a principal's sessions.
///
/// A session that is logged in again moves to the front of the list. If that happens between two pages, no
/// page has it. So this begins anew, until a single page has had the whole list, or no session was new.
pub(crate) struct Walk {
    page: Page,
    seen: HashSet<u128>,
    /// This round has shown sessions that none before has.
    finds: bool,
    rounds: u32,
}

impl Walk {
    /// Misses nobody who lives all the while, unless somebody logs in again during each round.
    pub(crate) fn to_the_end() -> Self {
        Self::in_rounds(ROUNDS)
    }

    /// For whoever may miss a session that is logged in again meanwhile.
    pub(crate) fn once() -> Self {
        Self::in_rounds(1)
    }

    fn in_rounds(rounds: u32) -> Self {
        Self {
            page: first_of(BATCH),
            seen: HashSet::new(),
            finds: false,
            rounds,
        }
    }

    /// Which page to read.
    pub(crate) fn page(&self) -> Page {
        self.page
    }

    /// Whether a session is seen for the first time.
    pub(crate) fn sees(&mut self, id: u128) -> bool {
        let is_new = self.seen.insert(id);
        self.finds |= is_new;
        is_new
    }

    /// Whether there is another page to read, after this one.
    pub(crate) fn goes_on(&mut self, next: Option<After>) -> bool {
        if next.is_some() {
            self.page = self.page.followed_by(next);
            return true;
        }
        let was_whole = self.page.after.is_none();
        self.rounds -= 1;
        if was_whole || !self.finds || self.rounds == 0 {
            return false;
        }
        self.finds = false;
        self.page = first_of(BATCH.max(2 * self.seen.len()));
        true
    }
}

impl Page {
    /// A larger page, after this one's last session.
    pub(crate) fn followed_by(self, last: Option<After>) -> Self {
        Self {
            after: last,
            limit: self.limit.saturating_mul(GROWTH),
        }
    }
}

fn first_of(limit: usize) -> Page {
    Page { after: None, limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;

    const NEXT: Option<After> = Some((Millis(1), 1));

    #[test]
    fn one_page_that_has_all_is_enough() {
        let mut walk = Walk::to_the_end();
        assert!(walk.sees(7) && !walk.sees(7));
        assert!(!walk.goes_on(None));
    }

    #[test]
    fn several_pages_are_followed_by_one_that_may_have_all() {
        let mut walk = Walk::to_the_end();
        let seen = |walk: &mut Walk, ids: std::ops::Range<u128>| {
            for id in ids {
                walk.sees(id);
            }
        };
        seen(&mut walk, 0..100);
        assert!(walk.goes_on(NEXT));
        assert_eq!((walk.page().after, walk.page().limit), (NEXT, 400));
        seen(&mut walk, 100..150);
        assert!(walk.goes_on(None));
        assert_eq!((walk.page().after, walk.page().limit), (None, 300));
        seen(&mut walk, 0..151);
        assert!(!walk.goes_on(None));
        // Whoever may miss some goes through the list once.
        let mut walk = Walk::once();
        seen(&mut walk, 0..150);
        assert!(walk.goes_on(NEXT) && !walk.goes_on(None));
    }

    #[test]
    fn it_ends_if_nobody_is_new_or_somebody_always_is() {
        let mut walk = Walk::to_the_end();
        walk.sees(1);
        assert!(walk.goes_on(NEXT) && walk.goes_on(None));
        walk.sees(1);
        assert!(walk.goes_on(NEXT) && !walk.goes_on(None));
        let mut walk = Walk::to_the_end();
        let mut rounds = 0;
        loop {
            rounds += 1;
            walk.sees(rounds);
            assert!(walk.goes_on(NEXT));
            if !walk.goes_on(None) {
                break;
            }
        }
        assert_eq!(rounds, 4);
    }
}
