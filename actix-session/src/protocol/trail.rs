//! The way along redirects, so that whoever follows them notices a circle.

use super::Name;

/// A name on the way along redirects.
///
/// Names are random and none is used twice, so a way that comes back to a name is one through damaged
/// data, and leads to no record. The way may be long, so one name alone is kept: another one each time
/// the way has doubled (Brent's algorithm).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trail {
    kept: Name,
    left: u32,
    span: u32,
}

impl Trail {
    /// Notes the next name, and says whether the way has come back. No name is empty: that target
    /// is a tombstone's.
    pub(crate) fn comes_back_to(&mut self, name: &Name) -> bool {
        if self.kept == *name && self.span > 0 {
            return true;
        }
        if self.left == 0 {
            self.span = self.span.saturating_mul(2).max(1);
            self.left = self.span;
            self.kept = name.clone();
        }
        self.left -= 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many steps are taken until a circle of so many names is noticed, after so many others.
    fn steps(before: usize, circle: usize) -> usize {
        let mut trail = Trail::default();
        let name = |step: usize| match step.checked_sub(before) {
            Some(round) => Name::from(format!("c{}", round % circle)),
            None => Name::from(format!("b{step}")),
        };
        (0..)
            .find(|step| trail.comes_back_to(&name(*step)))
            .expect("a circle is noticed")
    }

    #[test]
    fn a_circle_is_noticed_soon_and_a_long_way_is_none() {
        for before in [0, 1, 2, 7, 100] {
            for circle in [1, 2, 3, 5, 64] {
                let taken = steps(before, circle);
                assert!(taken >= before + circle, "{before} {circle}: {taken}");
                assert!(taken <= 4 * (before + circle), "{before} {circle}: {taken}");
            }
        }
        let mut trail = Trail::default();
        for step in 0..10_000 {
            assert!(!trail.comes_back_to(&Name::from(step.to_string())));
        }
    }
}
