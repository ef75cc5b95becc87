//! What a session handle holds: the record as it was loaded, and the changes on top.

use std::{borrow::Cow, collections::HashMap};

use super::{SessionStatus, lifecycle::Purge};
use crate::{
    changes::{Changes, Effect, LoginChange, Modify, TtlChange},
    clock::{Millis, SharedClock},
    record::{RESERVED, Record},
};

#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) status: SessionStatus,
    base: Option<Record>,
    changes: Changes,
    /// The results of those effects in `changes` that are functions, for reading.
    computed: HashMap<String, Option<String>>,
    purged: bool,
    /// Effects that are over.
    discarded: Vec<Effect>,
    /// The application has asked for the session.
    pub(crate) asked: bool,
    /// The store failed to load the record, and the request is served without it.
    pub(crate) degraded: bool,
    /// The changes have been committed; later ones would be lost.
    finished: bool,
    clock: SharedClock,
    /// The absolute timeout.
    absolute: Option<Millis>,
    purge: Purge,
}

/// What the middleware takes once the handler has answered.
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

    /// Fails once it is too late to commit changes.
    pub(crate) fn writable(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.finished,
            "the response has been sent: a session must be changed before that, in the handler"
        );
        Ok(())
    }

    /// As [`writable`](Self::writable), for methods that cannot return an error.
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

    /// The absolute timeout of a login that may keep the times of the one before it.
    pub(crate) fn absolute(&self, keeps_times: bool) -> Option<Millis> {
        let kept = self.visible().filter(|_| keeps_times);
        let kept = kept.and_then(|record| record.metadata()?.own_span());
        kept.or(self.absolute)
    }

    pub(crate) fn purge_requests(&mut self) -> &mut Purge {
        &mut self.purge
    }

    /// The record under the changes, unless the session is purged or cleared.
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
        self.discarded.extend(self.changes.set_effect(name, effect));
    }

    /// Adds a closure. If this request alone determines the value that the closure gets, only the
    /// result is kept.
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
            _ => {
                self.discarded.push(Effect::Modify(vec![modify]));
                now.clone().map_or(Effect::Removed, Effect::Set)
            }
        };
        self.computed.insert(name.to_owned(), now);
        self.set(name, effect);
    }

    pub(crate) fn clear(&mut self, epoch: u64) {
        self.mark_changed();
        if self.purged {
            self.discard_changes();
        } else {
            self.discarded.extend(self.changes.clear(epoch));
        }
    }

    pub(crate) fn purge(&mut self) {
        self.status = SessionStatus::Purged;
        self.purged = true;
        self.discard_changes();
    }

    fn discard_changes(&mut self) {
        let effects = std::mem::take(&mut self.changes).effects;
        self.discarded
            .extend(effects.into_iter().map(|(_, effect)| effect));
    }

    /// What the application's code may be in, and what is therefore dropped without the lock.
    pub(super) fn take_discarded(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.discarded)
    }

    pub(crate) fn renew(&mut self) {
        if self.status != SessionStatus::Purged {
            self.status = SessionStatus::Renewed;
        }
        self.changes.renew = true;
    }

    pub(crate) fn set_ttl(&mut self, ttl: TtlChange) {
        self.mark_changed();
        self.changes.ttl = Some(ttl);
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        match &self.changes.login {
            Some(login) => Some(&login.principal),
            None => self.visible()?.principal(),
        }
    }

    /// When the user last authenticated.
    pub(crate) fn authenticated_at(&self) -> Option<Millis> {
        if let Some(login) = &self.changes.login {
            return Some(login.proven.unwrap_or(login.at));
        }
        let stored = self.visible()?.metadata()?.auth.as_ref()?.at;
        Some(
            self.changes
                .reauthenticated
                .map_or(stored, |at| at.max(stored)),
        )
    }

    /// `ttl` is the login's own. It may also be set before the login in the same request, but not
    /// for a login before it.
    pub(crate) fn login(&mut self, mut login: LoginChange, ttl: Option<TtlChange>, epoch: u64) {
        let known = self.principal();
        let another = known.is_some_and(|known| known != login.principal);
        let earlier = self.changes.login.take();
        let keeps = login.keep_times && !another;
        let set = self.changes.ttl.filter(|_| earlier.is_none() || keeps);
        if let Some(earlier) = earlier.filter(|_| keeps) {
            login.span = login.span.or(earlier.span);
            login.keep_times = earlier.keep_times;
        }
        if another {
            // A principal must not see the entries of another one.
            self.clear(epoch);
        }
        self.changes.ttl = ttl.or(set);
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

    /// Whether there is something to commit or to end.
    pub(crate) fn is_asked_for_anything(&self) -> bool {
        self.purged || !self.changes.is_empty()
    }

    /// Takes what must be committed. The handle can still be read, but no longer be changed.
    pub(crate) fn take_snapshot(&mut self) -> Snapshot {
        self.finish();
        let changes = self.changes.clone();
        self.keep_results();
        Snapshot {
            purged: self.purged,
            changes,
        }
    }

    /// Keeps what closures have come to, and no closure: one may have captured its session.
    fn keep_results(&mut self) {
        for (name, effect) in &mut self.changes.effects {
            if let Effect::Modify(_) = effect {
                let result = self.computed.remove(name).flatten();
                let result = result.map_or(Effect::Removed, Effect::Set);
                self.discarded.push(std::mem::replace(effect, result));
            }
        }
    }
}
