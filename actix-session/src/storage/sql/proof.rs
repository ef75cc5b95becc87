//! When a server has last shown that it takes writes.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::sync::lock;

/// How often it is asked while sessions are only read.
const AGAIN: Duration = Duration::from_secs(1);

/// How often if it cannot tell: the user may not write, say.
const SELDOM: Duration = Duration::from_secs(60);

/// How long a read waits for that if nobody has asked for a while.
pub(super) const SOON: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Proof {
    /// When it has last shown it, or was last asked.
    last: Mutex<Instant>,
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
            last: Mutex::new(Instant::now()),
        }
    }

    /// Whether it is time to ask. Others do not ask meanwhile.
    pub(super) fn due(&self) -> Option<Due> {
        let now = Instant::now();
        let mut last = lock(&self.last);
        let ago = now.saturating_duration_since(*last);
        // What lies ahead is when it may be asked again.
        if ago < AGAIN {
            return None;
        }
        *last = now;
        Some(if ago < 3 * AGAIN {
            Due::Beside
        } else {
            Due::First
        })
    }

    /// It takes writes.
    pub(super) fn note(&self) {
        *lock(&self.last) = Instant::now();
    }

    /// It cannot tell.
    pub(super) fn do_without(&self) {
        *lock(&self.last) = Instant::now() + SELDOM;
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
            *lock(&proof.last) = Instant::now().checked_sub(span).unwrap();
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
        proof.do_without();
        assert_eq!(proof.due(), None);
        let left = lock(&proof.last).saturating_duration_since(Instant::now());
        assert!(left > SELDOM / 2);
    }
}
