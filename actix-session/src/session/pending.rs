//! What a session handle holds: the record as it was loaded, and the changes on top.

use std::{borrow::Cow, collections::HashMap};

use super::{SessionStatus, lifecycle::Purge};
use crate::{
    changes::{Changes, Effect, LoginFact, Modify},
    clock::{Millis, SharedClock},
    record::{RESERVED, Record},
};

#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) status: SessionStatus,
    base: Option<Record>,
    changes: Changes,
    /// What the effects in `changes` that are computed come to, for reading.
    computed: HashMap<String, Option<String>>,
    purged: bool,
    /// The application has asked for it.
    pub(crate) asked: bool,
    /// The store failed to load it, and the request goes on without.
    pub(crate) degraded: bool,
    /// The changes have been committed; later ones would be lost.
    finished: bool,
    clock: SharedClock,
    /// The policy's cap on a session's whole life.
    absolute: Option<Millis>,
    purge: Purge,
}

/// What the middleware takes when the handler has answered.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) purged: bool,
    pub(crate) changes: Changes,
}

impl Pending {
    pub(crate) fn of_request(clock: SharedClock, absolute: Option<Millis>) -> Self {
        Self {
            clock,
            absolute,
            purge: Purge {
                attached: true,
                ..Purge::default()
            },
            ..Self::default()
        }
    }

    pub(crate) fn load(&mut self, record: Record) {
        self.base = Some(record);
    }

    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.purge = Purge::default();
    }

    /// Whether changes still have somebody to commit them.
    pub(crate) fn writable(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.finished,
            "the response has been sent: a session is changed before, in the handler"
        );
        Ok(())
    }

    /// As [`writable`](Self::writable), for methods that have no room for an error.
    pub(crate) fn warn_if_finished(&self) {
        if self.finished {
            tracing::warn!(
                "a session was changed after its response had been sent: the change is lost"
            );
        }
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock.now()
    }

    pub(crate) fn absolute(&self) -> Option<Millis> {
        self.absolute
    }

    pub(crate) fn purge_requests(&mut self) -> &mut Purge {
        &mut self.purge
    }

    /// The record under the changes: nothing once the session is purged or cleared.
    fn visible(&self) -> Option<&Record> {
        if self.purged || self.changes.cleared.is_some() {
            None
        } else {
            self.base.as_ref()
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.changes.effect(name) {
            Some(Effect::Set(json)) => Some(Cow::Borrowed(json)),
            Some(Effect::Removed) => None,
            Some(Effect::Modify(_)) => self.computed.get(name)?.as_deref().map(Cow::Borrowed),
            None => self.visible()?.state().get(name),
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        match self.changes.effect(name) {
            Some(Effect::Set(_)) => true,
            Some(Effect::Removed) => false,
            Some(Effect::Modify(_)) => matches!(self.computed.get(name), Some(Some(_))),
            None => self
                .visible()
                .is_some_and(|base| base.state().contains(name)),
        }
    }

    pub(crate) fn entries(&self) -> HashMap<String, String> {
        let mut map = self.visible().map(Record::to_map).unwrap_or_default();
        for (name, _) in &self.changes.effects {
            match self.value(name) {
                Some(json) => drop(map.insert(name.clone(), json.into_owned())),
                None => drop(map.remove(name)),
            }
        }
        map
    }

    pub(crate) fn mark_changed(&mut self) {
        if self.status == SessionStatus::Unchanged {
            self.status = SessionStatus::Changed;
        }
    }

    pub(crate) fn set(&mut self, name: &str, effect: Effect) {
        if name == RESERVED {
            return;
        }
        self.mark_changed();
        self.changes.set_effect(name, effect);
    }

    /// Adds a closure; over an effect of this request that needs no closure it is run at once.
    pub(crate) fn modify(&mut self, name: &str, modify: Modify, now: Option<String>) {
        let known = self.changes.effect(name);
        let over_nothing = known.is_none() && (self.purged || self.changes.cleared.is_some());
        let effect = match known {
            Some(Effect::Modify(before)) => {
                let mut all = before.clone();
                all.push(modify);
                Effect::Modify(all)
            }
            None if !over_nothing => Effect::Modify(vec![modify]),
            _ => now.clone().map_or(Effect::Removed, Effect::Set),
        };
        self.computed.insert(name.to_owned(), now);
        self.set(name, effect);
    }

    pub(crate) fn clear(&mut self, epoch: u64) {
        self.mark_changed();
        if self.purged {
            self.changes = Changes::default();
        } else {
            self.changes.clear(epoch);
        }
    }

    pub(crate) fn purge(&mut self) {
        self.status = SessionStatus::Purged;
        self.purged = true;
        self.changes = Changes::default();
    }

    pub(crate) fn renew(&mut self) {
        if self.status != SessionStatus::Purged {
            self.status = SessionStatus::Renewed;
        }
        self.changes.renew = true;
    }

    pub(crate) fn set_ttl(&mut self, ttl: Millis) {
        self.mark_changed();
        self.changes.ttl = Some(ttl);
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        match &self.changes.login {
            Some(login) => Some(&login.principal),
            None => self.visible()?.principal(),
        }
    }

    /// When it was last proven who is logged in.
    pub(crate) fn authenticated_at(&self) -> Option<Millis> {
        if let Some(login) = &self.changes.login {
            return Some(login.proven.unwrap_or(login.at));
        }
        let stored = self.visible()?.facts()?.auth.as_ref()?.at;
        Some(
            self.changes
                .reauthenticated
                .map_or(stored, |at| at.max(stored)),
        )
    }

    pub(crate) fn login(&mut self, login: LoginFact, epoch: u64) {
        let known = self.principal();
        if known.is_some_and(|known| known != login.principal) {
            // What is another person's is not shown to this one.
            self.clear(epoch);
        }
        self.changes.login = Some(login);
        self.changes.reauthenticated = None;
        self.renew();
    }

    pub(crate) fn reauthenticated(&mut self, at: Millis) {
        if let Some(login) = &mut self.changes.login {
            login.at = at;
            login.proven = None;
        } else {
            self.changes.reauthenticated = Some(at);
        }
        self.renew();
    }

    /// What is to be committed. The handle stays readable; writing to it is over.
    pub(crate) fn take_snapshot(&mut self) -> Snapshot {
        self.finish();
        Snapshot {
            purged: self.purged,
            changes: self.changes.clone(),
        }
    }
}
