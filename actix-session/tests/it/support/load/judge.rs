//! What an answer says, compared with what was acknowledged before.

use super::{
    acts::Act,
    client::{NewCookie, Outcome},
    model::Model,
    user::User,
};

/// What comes of comparing.
pub(super) enum Finding {
    Fine,
    /// The handler met another session, or none.
    Gone,
    /// As it was before, on a server that may show that for a while.
    Stale,
    Wrong(String),
}

impl User {
    /// Compares what a request found, and learns what it has done.
    pub(super) fn judge(
        &mut self,
        (before, after): (&Model, &Model),
        act: &Act,
        outcome: &Outcome,
        is_stale: bool,
    ) -> Finding {
        let Some(session) = &mut self.session else {
            return Finding::Fine;
        };
        let (seen, cookie) = match outcome {
            Outcome::Answered(seen, cookie) => (seen, cookie),
            Outcome::Failed(_) => {
                session.failed(act);
                return Finding::Fine;
            }
            Outcome::HungUp => {
                session.left_alone(act);
                self.is_in_doubt = true;
                self.doubt(act);
                return Finding::Fine;
            }
        };
        if !seen.is(&before.name) {
            session.undone(act);
            return if is_stale {
                Finding::Stale
            } else {
                Finding::Gone
            };
        }
        session.done(act);
        self.found = Some(seen.count);
        let checked = after.check(before, seen);
        let moved = self.follow(act, cookie);
        match checked.and(moved) {
            Ok(()) => Finding::Fine,
            Err(_) if is_stale => Finding::Stale,
            Err(what) => Finding::Wrong(what),
        }
    }

    /// Takes the cookie of an acknowledged answer.
    fn follow(&mut self, act: &Act, cookie: &NewCookie) -> Result<(), String> {
        if act.ends() {
            self.buried(act);
            self.leave();
            return Ok(());
        }
        match cookie {
            NewCookie::Value(value) if act.leaves() => {
                self.buried(act);
                self.cookie = Some(value.clone());
            }
            // It was renewed or ended by a request that nobody waited for.
            NewCookie::Unchanged if act.leaves() => {
                let session = self.session.as_mut();
                if !session.is_some_and(|session| session.may_be_gone) {
                    return Err(format!("{act:?} gave no cookie"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Reports what is wrong, and answers whether the session is over.
    pub(super) fn take_in(&self, finding: Finding, may_be_gone: bool, races: bool) -> bool {
        match finding {
            Finding::Fine => return false,
            Finding::Stale => {
                self.shared.read_stale();
                return false;
            }
            Finding::Gone if races => return false,
            Finding::Gone if may_be_gone => {}
            Finding::Gone => self.tell("an acknowledged session is not there"),
            Finding::Wrong(what) => self.tell(&what),
        }
        true
    }
}
