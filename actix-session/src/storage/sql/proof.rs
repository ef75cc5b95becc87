//! When a server has last shown that it takes writes.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::sync::lock;

/// How often it is asked while sessions are only read.
const AGAIN: Duration = Duration::from_secs(1);

/// How often if it cannot tell: the user may not write, say.
const SELDOM: Duration = Duration::from_secs(60);

/// After how many refusals in a row that is so. One alone may pass.
const REFUSALS: u32 = 3;

/// How long a read waits for that if nobody has asked for a while.
pub(super) const SOON: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Proof {
    asked: Mutex<Asked>,
}

#[derive(Debug)]
struct Asked {
    /// When it has last shown it, or was last asked.
    last: Instant,
    /// How often it has refused to answer since it last did.
    refused: u32,
}

/// How a read has it shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// While it reads.
    Beside,
    /// Before it reads: nobody has asked for a while.
    First,
}

impl Proof {
    /// Of a server that has just been found.
    pub(super) fn new() -> Self {
        Self {
            asked: Mutex::new(Asked {
                last: Instant::now(),
                refused: 0,
            }),
        }
    }

    /// Whether it is time to ask. Others do not ask meanwhile.
    pub(super) fn due(&self) -> Option<Due> {
        let now = Instant::now();
        let mut asked = lock(&self.asked);
        let ago = now.saturating_duration_since(asked.last);
        // What lies ahead is when it may be asked again.
        if ago < AGAIN {
            return None;
        }
        asked.last = now;
        Some(if ago < 3 * AGAIN {
            Due::Beside
        } else {
            Due::First
        })
    }

    /// It takes writes.
    pub(super) fn note(&self) {
        *lock(&self.asked) = Asked {
            last: Instant::now(),
            refused: 0,
        };
    }

    /// It refuses to answer.
    pub(super) fn note_refusal(&self) {
        let mut asked = lock(&self.asked);
        asked.refused = asked.refused.saturating_add(1);
        if asked.refused >= REFUSALS {
            asked.last = Instant::now() + SELDOM;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_read_asks_for_all() {
        let proof = Proof::new();
        assert_eq!(proof.due(), None);
        let before = |span: Duration| {
            lock(&proof.asked).last = Instant::now().checked_sub(span).unwrap();
        };
        before(AGAIN);
        assert_eq!(proof.due(), Some(Due::Beside));
        assert_eq!(proof.due(), None);
        before(3 * AGAIN);
        assert_eq!(proof.due(), Some(Due::First));
        before(AGAIN);
        proof.note();
        assert_eq!(proof.due(), None);
    }

    #[test]
    fn whoever_cannot_tell_is_asked_seldom() {
        let proof = Proof::new();
        let left = || {
            let last = lock(&proof.asked).last;
            last.saturating_duration_since(Instant::now())
        };
        for _ in 1..REFUSALS {
            proof.note_refusal();
            assert_eq!(left(), Duration::ZERO);
        }
        proof.note_refusal();
        assert_eq!(proof.due(), None);
        assert!(left() > SELDOM / 2);
        proof.note();
        proof.note_refusal();
        assert_eq!(left(), Duration::ZERO);
    }
}
