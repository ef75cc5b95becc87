//! Every order, one after the other.

/// How many orders of one scenario are run at most: if there are more, then so many at random.
pub(super) const MOST: usize = 125;

/// The choices of one run, and which run comes next.
pub(super) enum Choices {
    /// Each choice so far, and how many there were.
    All(Vec<(usize, usize)>, usize),
    /// A seed.
    Random(u64),
}

impl Choices {
    pub(super) const fn all() -> Self {
        Self::All(Vec::new(), 0)
    }

    pub(super) const fn random(seed: u64) -> Self {
        Self::Random(seed)
    }

    /// One of so many.
    pub(super) fn choose(&mut self, among: usize) -> usize {
        match self {
            Self::All(made, at) => {
                // Ids are random, and break ties: a run may not be as the one before.
                if made.get(*at).is_none_or(|(_, known)| *known != among) {
                    made.truncate(*at);
                    made.push((0, among));
                }
                let (chosen, _) = made[*at];
                *at += 1;
                chosen
            }
            Self::Random(state) => {
                *state = state.wrapping_mul(6_364_136_223_846_793_005);
                *state = state.wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(*state >> 33).unwrap() % among
            }
        }
    }

    /// Goes on to the next run, if there is one.
    pub(super) fn next(&mut self) -> bool {
        let Self::All(made, at) = self else {
            return true;
        };
        *at = 0;
        while let Some((chosen, among)) = made.last_mut() {
            *chosen += 1;
            if *chosen < *among {
                return true;
            }
            made.pop();
        }
        false
    }
}

#[test]
fn every_order_comes_once() {
    let mut choices = Choices::all();
    let mut seen = Vec::new();
    loop {
        let first = choices.choose(2);
        // A choice may depend on those before it.
        let second = if first == 0 { choices.choose(3) } else { 9 };
        seen.push((first, second));
        if !choices.next() {
            break;
        }
    }
    assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 9)]);
}
