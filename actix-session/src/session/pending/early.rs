//! A session that somebody asks for before a middleware serves the request.
//!
//! Only the middleware knows which entry names the principal, and whom that names when the request comes. So
//! what was done before is done again once that is known, and counts as in a handler.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{Noted, Pending, Served, Shown};
use crate::{
    Level, Session,
    changes::{Effect, LoginChange, Modify, TtlChange},
    clock::Millis,
    record::Lowered,
    session::lock::Running,
    sync::drop_panic,
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
        let own = match self {
            Self::Change(name, Effect::Set(json)) => name.len() + json.len(),
            Self::Change(name, _) => name.len(),
            Self::Login(..) => LOGIN,
            Self::Lower(lowered) => lowered.reason.len(),
            _ => 0,
        };
        size_of::<Self>() + own
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
/// No login says more: its principal and what it knows of the device are bounded.
const LOGIN: usize = 4 << 10;
/// How often other threads may add something while all is done again.
const MOST_ROUNDS: u32 = 1_000;

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

    fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn are_all(&self) -> bool {
        self.size <= MOST
    }
}

impl Pending {
    /// Behind a redirect, what shows as missing may be there.
    fn remove_unseen(&mut self, name: &str) {
        let is_left = self.changes.effects.get(name).is_none() && self.shows_stored(name);
        if self.moved && is_left {
            self.set(name, Effect::Removed);
        }
    }

    pub(super) fn acts(&mut self) -> Option<&mut Acts> {
        match self.noted.as_deref_mut() {
            Some(Noted::Early(acts)) => Some(acts),
            Some(Noted::Since(_)) | None => None,
        }
    }
}

impl Session {
    /// A middleware serves the session from now on, and has loaded this. Somebody has asked for it before.
    ///
    /// # Errors
    /// The operating system has no random numbers for a login, a closure fails that has not failed before,
    /// or more was done than anybody could note. Then nobody can change the session any more.
    #[cold]
    pub(crate) fn attach(&self, served: &Arc<Served>, shown: Shown) -> anyhow::Result<()> {
        let done = caught(|| self.take_over(served, shown));
        if done.is_err() {
            self.lock().finish();
        }
        done
    }

    /// The same under lazy loading. Answers `false` if the record has to be loaded first, and all repeated: only
    /// the record tells whom a changed entry named, and times that are not the middleware's must be taken anew.
    /// The commit of a change would load it as well.
    #[cold]
    pub(crate) fn attach_unloaded(&self, served: &Arc<Served>) -> bool {
        let mut pending = self.lock();
        let must_repeat = served.principal_entry.is_some() || !served.clock.is_systems();
        if must_repeat && pending.acts().is_some_and(|acts| !acts.is_empty()) {
            return false;
        }
        pending.attach(Arc::clone(served));
        pending.unloaded = true;
        true
    }

    /// All is done again where nobody sees it, and then shows at once.
    fn take_over(&self, served: &Arc<Served>, shown: Shown) -> anyhow::Result<()> {
        let must_again = served.principal_entry.is_some();
        let mut pending = self.lock();
        if !pending
            .acts()
            .is_some_and(|acts| must_again || acts.are_all())
        {
            pending.attach(Arc::clone(served));
            drop(pending);
            self.fill(shown);
            return Ok(());
        }
        drop(pending);
        let again = Self::of_request(Arc::clone(served), shown);
        for _ in 0..MOST_ROUNDS {
            let mut pending = self.lock();
            let acts = pending.acts().map(std::mem::take).unwrap_or_default();
            if acts.is_empty() {
                let before = pending.replace(std::mem::take(&mut *again.lock()));
                // Without the lock: closures are in it.
                drop(pending);
                drop(before);
                return Ok(());
            }
            drop(pending);
            anyhow::ensure!(
                acts.are_all(),
                "more than {MOST} bytes were set in a session before a SessionMiddleware served it"
            );
            for act in acts.all {
                let entry = match &act {
                    Act::Change(name, _) => Some(name.clone()),
                    _ => None,
                };
                again.do_again(self, act)?;
                if let Some(entry) = entry {
                    again.lock().remove_unseen(&entry);
                }
            }
        }
        anyhow::bail!("other threads changed a session while a SessionMiddleware took it over")
    }

    fn do_again(&self, early: &Self, act: Act) -> anyhow::Result<()> {
        match act {
            Act::Change(name, Effect::Set(json)) => return self.set(name, json),
            Act::Change(name, Effect::Removed) => drop(self.remove(&name)),
            Act::Change(name, Effect::Modify(closures)) => {
                // Nor may a closure change its entry under the handle that it knows.
                let _running = Running::new(early, &name);
                let mut closures = closures.into_iter();
                return closures.try_for_each(|closure| self.run_again(&name, closure));
            }
            Act::Login(login, ttl, epoch) => {
                let login = self.dated(*login);
                self.lock().login_and_name(login, ttl, epoch);
            }
            Act::Reauthenticate(at, level) => {
                let at = self.time_of(at);
                self.lock().reauthenticated(at, level);
            }
            Act::Lower(lowered) => {
                let at = self.time_of(lowered.at);
                self.lock().lower(Lowered { at, ..lowered });
            }
            Act::SetTtl(ttl) => self.lock().set_ttl(ttl),
            Act::Renew => self.lock().renew_named(),
            Act::Clear(epoch) => self.lock().clear(epoch),
            Act::Purge => self.lock().purge(),
        }
        Ok(())
    }

    /// If a closure fails on what is stored, so does the commit.
    fn run_again(&self, name: &str, closure: Modify) -> anyhow::Result<()> {
        let Err(error) = caught(|| self.run(name, closure.clone())) else {
            return Ok(());
        };
        let mut pending = self.lock();
        if pending.is_principal_entry(name) || !pending.shows_stored(name) {
            return Err(error);
        }
        pending.modify(name, closure, None);
        Ok(())
    }

    /// Until now, times were the system's.
    fn time_of(&self, at: Millis) -> Millis {
        let clock = self.lock().clock();
        if clock.is_systems() { at } else { clock.now() }
    }

    fn dated(&self, login: LoginChange) -> LoginChange {
        let clock = self.lock().clock();
        if clock.is_systems() {
            return login;
        }
        let time = clock.login_time(&login.principal);
        LoginChange {
            at: time.at,
            proven: time.proven(login.proven),
            ..login
        }
    }
}

fn caught(run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        drop_panic(panic);
        Err(anyhow::anyhow!(
            "a closure of `modify` panicked that had not panicked before"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(session.attach(&served(), Shown::default()).is_err());
        // What is purged has no past.
        let session = Session::new();
        session.lock().wait_for_middleware();
        session.insert("a", "x".repeat(MOST)).unwrap();
        session.purge();
        session.attach(&served(), Shown::default()).unwrap();
        assert!(session.lock().purged);
    }

    #[test]
    fn logins_count_with_all_that_they_say() {
        let session = Session::new();
        session.lock().wait_for_middleware();
        let principal = "x".repeat(1_024);
        for _ in 0..MOST / 1_024 {
            session.login(&*principal).unwrap();
        }
        match session.lock().noted.as_deref() {
            Some(Noted::Early(acts)) => assert!(acts.all.len() < MOST / 1_024),
            _ => panic!("nobody serves it yet"),
        }
    }
}
