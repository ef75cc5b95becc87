//! A session that somebody asks for before a middleware serves the request.
//!
//! Only the middleware knows which entry names the principal. So what was done before is done again once
//! that is known, and counts as in a handler.

use std::sync::Arc;

use super::Served;
use crate::{
    Level, Session,
    changes::{Effect, LoginChange, Modify, TtlChange},
    clock::Millis,
    record::Lowered,
};

/// What a request does to its session.
pub(super) enum Act {
    /// To an entry.
    Change(String, Effect),
    Login(Box<LoginChange>, Option<TtlChange>, u64),
    Reauthenticate(Millis, Level),
    Lower(Lowered),
    SetTtl(TtlChange),
    Renew,
    Clear(u64),
    Purge,
}

impl Act {
    /// On another value, a closure comes to something else.
    pub(super) fn modify(name: &str, closure: &Modify) -> Self {
        Self::Change(name.to_owned(), Effect::Modify(vec![closure.clone()]))
    }

    /// How much memory it takes, nearly.
    fn size(&self) -> usize {
        let text = match self {
            Self::Change(name, Effect::Set(json)) => name.len() + json.len(),
            Self::Change(name, _) => name.len(),
            _ => 0,
        };
        size_of::<Self>() + text
    }
}

/// In the order in which they were done.
#[derive(Default)]
pub(super) struct Acts {
    all: Vec<Act>,
    size: usize,
}

/// Of a session that no middleware ever serves, no more is kept.
const MOST: usize = 16 << 20;

impl Acts {
    pub(super) fn push(&mut self, act: impl FnOnce() -> Act) {
        if self.are_all() {
            let act = act();
            self.size += act.size();
            self.all.push(act);
        }
    }

    pub(super) fn into_effects(self) -> impl Iterator<Item = Effect> {
        self.all.into_iter().filter_map(|act| match act {
            Act::Change(_, effect) => Some(effect),
            _ => None,
        })
    }

    fn are_all(&self) -> bool {
        self.size <= MOST
    }
}

impl Session {
    /// A middleware serves the session from now on. Somebody has asked for it before.
    ///
    /// # Errors
    /// The operating system has no random numbers for a login, a closure fails that has not failed before,
    /// or more was done than anybody could note.
    pub(crate) fn attach(&self, served: Arc<Served>) -> anyhow::Result<()> {
        let is_named = served.principal_entry.is_some();
        let mut pending = self.lock();
        let Some(acts) = pending.attach(served) else {
            return Ok(());
        };
        if is_named {
            pending.start_over();
        }
        // Without the lock: closures are among them.
        drop(pending);
        if !is_named {
            return Ok(());
        }
        anyhow::ensure!(
            acts.are_all(),
            "more than {MOST} bytes were set in a session before a SessionMiddleware served it"
        );
        acts.all.into_iter().try_for_each(|act| self.do_again(act))
    }

    fn do_again(&self, act: Act) -> anyhow::Result<()> {
        match act {
            Act::Change(name, Effect::Set(json)) => return self.set(name, json),
            Act::Change(name, Effect::Removed) => drop(self.remove(&name)),
            Act::Change(name, Effect::Modify(closures)) => {
                let mut closures = closures.into_iter();
                return closures.try_for_each(|closure| self.run(&name, closure));
            }
            Act::Login(login, ttl, epoch) => self.lock().login_and_name(*login, ttl, epoch),
            Act::Reauthenticate(at, level) => self.lock().reauthenticated(at, level),
            Act::Lower(lowered) => self.lock().lower(lowered),
            Act::SetTtl(ttl) => self.lock().set_ttl(ttl),
            Act::Renew => self.lock().renew_named(),
            Act::Clear(epoch) => self.lock().clear(epoch),
            Act::Purge => self.lock().purge(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Noted, *};
    use crate::{clock::SharedClock, contract::Terms, record::PrincipalEntry, session::Times};

    /// Perhaps no middleware ever serves it.
    #[test]
    fn what_is_done_too_often_before_a_middleware_serves_is_not_kept() {
        let session = Session::new();
        session.lock().wait_for_middleware();
        let long = "x".repeat(MOST / 8);
        for n in 0..20 {
            session.insert("a", format!("{n}{long}")).unwrap();
        }
        match session.lock().noted.as_deref() {
            Some(Noted::Early(acts)) => assert!(acts.all.len() < 10),
            _ => panic!("nobody serves it yet"),
        }
        let served = || {
            Arc::new(Served {
                principal_entry: Some(PrincipalEntry::from("user")),
                clock: SharedClock::default(),
                times: Times::from(&Terms::default()),
                knows_ends: true,
            })
        };
        assert!(session.attach(served()).is_err());
        // What is purged has no past.
        let session = Session::new();
        session.lock().wait_for_middleware();
        session.insert("a", "x".repeat(MOST)).unwrap();
        session.purge();
        session.attach(served()).unwrap();
        assert!(session.lock().purged);
    }
}
