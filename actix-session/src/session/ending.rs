//! Endings that a handler waits for, before it has answered.

use std::{mem, task::Waker};

use tokio::sync::oneshot;

use super::{AskedToSave, Kept, Saved, Session, ended::Waiting};
use crate::live::Waits;

/// What came of an ending, for each that asked for it.
pub(crate) type Outcome = Result<(), Kept>;
pub(crate) type Asked = oneshot::Sender<Outcome>;
pub(super) type Answer = oneshot::Receiver<Outcome>;

/// What was asked of the middleware, which carries it out.
#[derive(Default)]
pub(crate) struct Endings {
    /// In a box, since few ask.
    rare: Option<Box<Rare>>,
    /// Wakes the middleware.
    waker: Option<Waker>,
    attached: bool,
    /// The store can tell when a session ends.
    knows_ends: bool,
    /// There is no request that would carry anything out.
    outside: bool,
}

/// Those who wait for an answer.
#[derive(Default)]
struct Rare {
    asked: Vec<Asked>,
    asked_to_save: Vec<AskedToSave>,
    waiting: Waiting,
}

impl Endings {
    /// For a session that a middleware serves.
    pub(super) fn attached(knows_ends: bool) -> Self {
        Self {
            attached: true,
            knows_ends,
            ..Self::default()
        }
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached
    }

    fn is_heard(&self) -> bool {
        self.attached && !self.outside
    }

    /// Whether dropping it runs nothing of the application's.
    pub(super) fn is_idle(&self) -> bool {
        self.waker.is_none() && self.rare.is_none()
    }

    /// Whether somebody waits for an ending or a commit, or for the end of what was loaded.
    pub(super) fn is_asked(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| {
            !rare.asked.is_empty() || !rare.asked_to_save.is_empty() || rare.waiting.is_asked()
        })
    }

    /// # Errors
    /// No middleware serves the session, or its store cannot tell.
    pub(super) fn check_ends_are_known(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.attached,
            "nobody tells when this session ends: `ended` must be called while a SessionMiddleware \
             serves the request"
        );
        anyhow::ensure!(
            self.knows_ends,
            "nobody tells when this session ends: if it lives in a cookie, give the store a list of \
             revocations by `with_revocation`, or keep sessions on the server; if a manager has \
             opened it, call `OpenedSession::ended`"
        );
        Ok(())
    }

    /// Keeps somebody who waits. Whoever asks wakes the middleware.
    pub(super) fn wait(&mut self, waits: Waits, is_present: bool) -> Option<Waker> {
        let rare = self.rare.get_or_insert_default();
        rare.waiting.add(waits, is_present);
        self.waker.take()
    }

    pub(super) fn waiting(&mut self, of: impl Fn(&mut Waiting) -> &mut Vec<Waits>) -> Vec<Waits> {
        self.take(|rare| of(&mut rare.waiting))
    }

    fn take<T>(&mut self, of: impl FnOnce(&mut Rare) -> &mut Vec<T>) -> Vec<T> {
        let rare = self.rare.as_mut();
        rare.map_or_else(Vec::new, |rare| mem::take(of(rare)))
    }

    /// A waker is the application's code: the caller uses it without the lock.
    pub(super) fn ask(&mut self) -> Option<(Answer, Option<Waker>)> {
        if !self.is_heard() {
            return None;
        }
        let (asked, answer) = oneshot::channel();
        self.rare.get_or_insert_default().asked.push(asked);
        Some((answer, self.waker.take()))
    }
}

pub(super) type SaveAnswer = oneshot::Receiver<Result<Saved, Kept>>;

impl Endings {
    /// The same for a commit.
    pub(super) fn ask_to_save(&mut self) -> Option<(SaveAnswer, Option<Waker>)> {
        if !self.is_heard() {
            return None;
        }
        let (asked, answer) = oneshot::channel();
        let rare = self.rare.get_or_insert_default();
        rare.asked_to_save.push(asked);
        Some((answer, self.waker.take()))
    }
}

impl Session {
    /// Whoever asks for an ending or a commit is refused, since no middleware would hear it.
    #[cfg(feature = "_backend")]
    pub(crate) fn outside_of_requests(self) -> Self {
        self.lock().endings().outside = true;
        self
    }

    pub(crate) fn take_asked_to_save(&self) -> Vec<AskedToSave> {
        self.lock().endings().take(|rare| &mut rare.asked_to_save)
    }

    /// Sets what wakes the middleware when a handler asks for an ending.
    pub(crate) fn wake_by(&self, waker: &Waker) {
        let known = self.lock().endings().waker.take();
        let waker = known
            .filter(|known| known.will_wake(waker))
            .unwrap_or_else(|| waker.clone());
        self.lock().endings().waker = Some(waker);
    }

    /// Whether somebody waits for what the middleware has to do before the handler has answered.
    pub(crate) fn is_asked(&self) -> bool {
        self.lock().endings().is_asked()
    }

    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        self.lock().endings().take(|rare| &mut rare.asked)
    }
}
