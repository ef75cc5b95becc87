//! Compares a history with what sessions promise.
//!
//! Everything is judged by what is certain: the order of two requests only if one had its answer
//! before the other began, the way from key to key only by the redirects in the store. If both
//! of two outcomes are right, neither is demanded.

use super::{anomalies::*, history::History, index::Index, script::Plan};

pub(crate) type Broken = Result<(), String>;

macro_rules! must {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}
pub(crate) use must;

/// Looks for one anomaly: an error describes the first that it finds.
type Search = fn(&Index<'_>, &mut Checked) -> Broken;

/// What no history may show.
pub(super) const ANOMALIES: [(&str, Search); 15] = [
    ("unexplained failure", unexplained_failure),
    ("refusal without a rival", refusal_without_a_rival),
    ("unasked renewal", unasked_renewal),
    ("value out of thin air", value_out_of_thin_air),
    ("read of the future", read_of_the_future),
    ("leak between sessions", leak_between_sessions),
    ("split session", split_session),
    ("resurrection", resurrection),
    ("stale renewal", stale_renewal),
    ("undone clear", undone_clear),
    ("phantom login", phantom_login),
    ("lost update", lost_update),
    ("lost modify", lost_modify),
    ("doubled modify", doubled_modify),
    ("aborted read", aborted_read),
];

pub(crate) fn check(plan: &Plan, history: &History) -> Result<Checked, String> {
    let index = Index::of(plan, history);
    let mut checked = Checked {
        rounds: 1,
        redirects: history.left.redirects.len(),
        ..Checked::default()
    };
    for (name, search) in ANOMALIES {
        search(&index, &mut checked).map_err(|found| format!("{name}: {found}"))?;
    }
    Ok(checked)
}

/// How much was checked: what is zero would prove nothing.
#[derive(Debug, Default, Clone)]
pub(crate) struct Checked {
    pub(super) rounds: usize,
    pub(super) acknowledged: usize,
    /// Answered with an error: whether it happened is not known.
    pub(crate) failed: usize,
    /// Changes that had to be found, and modifies that had to be counted.
    pub(super) found: usize,
    pub(super) counted: usize,
    /// Keys that had to be dead after a purge, and those among them behind a redirect.
    pub(super) dead: usize,
    pub(super) dead_behind_a_redirect: usize,
    /// Writes that a `clear` had to undo or keep out.
    pub(super) cleared: usize,
    /// Writes that came through a redirect to an entry that had been changed, and had to be dropped.
    pub(super) yielded: usize,
    pub(super) redirects: usize,
    /// Writes of requests that ran alone, which nothing may keep from succeeding.
    pub(super) alone: usize,
}

impl Checked {
    /// What has to come up in every run first, then what need not.
    fn fields(&mut self) -> [&mut usize; 11] {
        [
            &mut self.found,
            &mut self.counted,
            &mut self.dead,
            &mut self.dead_behind_a_redirect,
            &mut self.cleared,
            &mut self.yielded,
            &mut self.redirects,
            &mut self.alone,
            &mut self.rounds,
            &mut self.acknowledged,
            &mut self.failed,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        for (mine, other) in self.fields().into_iter().zip(other.fields()) {
            *mine += *other;
        }
    }

    pub(crate) fn assert_enough(&self) {
        let enough = self.clone().fields()[..8].iter().all(|much| **much > 0);
        assert!(enough, "too little to check: {self:?}");
    }
}
