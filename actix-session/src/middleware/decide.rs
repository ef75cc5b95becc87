//! Decides what a finished request asks of the store, and what the store's answer means for the
//! cookie.
//!
//! Everything about the fate of a response's cookie is in this file. The file is pure: it touches
//! neither a store nor a header.

use std::time::Duration;

use super::load::{Incoming, Loaded};
use crate::{
    changes::Changes,
    clock::Millis,
    contract::{Committed, End, ExtendOnRead, Older, Rotated},
    event::Why,
    key::SessionKey,
    record::Record,
    session::Snapshot,
};

/// For this long after a renewal, the new cookie may still be on its way to the browser.
pub(crate) const COOKIE_IN_FLIGHT: Duration = Duration::from_secs(10);

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With a response, which can carry a cookie.
    Response,
    /// With an inner middleware's error, a panic, or a dropped future: there is no response head.
    NoHead,
}

/// The settings that matter here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Whether a request that loads a session extends it.
    pub(crate) extend: ExtendOnRead,
    /// Cookies have a `Max-Age`.
    pub(crate) persistent: bool,
    /// How long sessions may live in all.
    pub(crate) absolute: Option<Millis>,
}

/// What to ask of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing; the cookie stays as it is.
    Leave(Silence),
    /// Nothing: the store failed at the load, so the request's changes cannot be committed, and the
    /// client must know.
    Refuse,
    /// Whether the key is current; if so, its cookie is sent again.
    Check,
    /// To extend the record as a change would: entries were set to the values that they have.
    Touch,
    Commit,
    Rotate,
    Create,
    /// To carry the `clear` through the redirect, and then to create.
    CreateAfterClear,
    /// To end every session that came. `then_create`: also to create one from what was set after
    /// the purge.
    End {
        then_create: bool,
    },
}

/// Why a response does not touch the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The browser has what it needs.
    Unneeded,
    /// The changes are dropped.
    Dropped(Why),
    /// Another request renewed the key, and its response sets the cookie.
    Forwarded,
    /// The session has ended. The cookie stays: the browser may already have a newer one.
    Gone,
}

/// What happens to the cookie, once the store has answered.
#[derive(Debug)]
pub(crate) enum CookieFate {
    Leave(Silence),
    Send(NewCookie),
    Remove,
}

/// A cookie that is sent if it fits.
#[derive(Debug)]
pub(crate) struct NewCookie {
    /// `None` is the key that came.
    pub(crate) key: Option<SessionKey>,
    pub(crate) origin: Origin,
    /// Without one, the cookie ends with the browser's session.
    pub(crate) max_age: Option<Millis>,
    /// Ended before the cookie is sent.
    pub(crate) older: Older,
}

/// Where a cookie comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The same session under the same key, or its newer value.
    Refreshed,
    Renewed,
    Created,
}

/// A finished request: everything that a decision depends on.
pub(crate) struct Finished<'a> {
    pub(crate) incoming: &'a Incoming,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) exit: Exit,
    pub(crate) policy: Policy,
    pub(crate) now: Millis,
}

/// Whether a request that asks for nothing leaves all as it is. The time does not matter then.
pub(crate) fn is_left(incoming: &Incoming, exit: Exit, policy: Policy) -> bool {
    let request = Finished {
        incoming,
        snapshot: Snapshot::none(),
        exit,
        policy,
        now: Millis::ZERO,
    };
    request.decide() == UNNEEDED
}

impl Finished<'_> {
    pub(crate) fn decide(&self) -> Decision {
        let changes = &self.snapshot.changes;
        let has_head = self.exit == Exit::Response;
        // Nobody is told that a purge was refused if there is no response: so it is tried.
        if self.incoming.degraded && (has_head || !self.snapshot.purged) {
            let wants = self.snapshot.purged || !changes.is_empty();
            return if wants { Decision::Refuse } else { UNNEEDED };
        }
        let login_is_over = self.login_is_over();
        let ends = self.snapshot.purged || self.is_over_once_logged_out() || self.clears_unread();
        if ends || has_head && login_is_over {
            let then_create = has_head && !login_is_over && changes.makes_session();
            return Decision::End { then_create };
        }
        match (self.exit, self.with_a_head()) {
            // Without a response, a new key reaches nobody, and a login would be half done.
            (Exit::NoHead, Decision::Rotate | Decision::Create | Decision::CreateAfterClear) => {
                Decision::Leave(Silence::Dropped(Why::NoResponse))
            }
            (Exit::NoHead, Decision::Check) if !self.is_undated() => UNNEEDED,
            (_, decision) => decision,
        }
    }

    /// Whether a logout meets a record that cannot be read, say of a later version: whose it is, and what is
    /// to be kept of it, nobody knows. Without a response, what else is to be done with it would be half done.
    fn clears_unread(&self) -> bool {
        let (has_head, changes) = (self.exit == Exit::Response, &self.snapshot.changes);
        let is_unread = matches!(self.incoming.loaded, Loaded::Lost(_));
        let clears = is_unread && changes.cleared.is_some();
        clears && (has_head || !changes.renews() && !changes.makes_session())
    }

    /// The record that the changes were made on.
    pub(crate) fn base(&self) -> Option<&Record> {
        let record = self.incoming.loaded.record();
        record.filter(|_| !self.snapshot.purged)
    }

    /// Whether a logout leaves nothing of the session's time: without its login, the absolute timeout
    /// counts from the creation.
    fn is_over_once_logged_out(&self) -> bool {
        let changes = &self.snapshot.changes;
        let ends_login = changes.cleared.is_some() || self.logs_out_by_entry();
        if !ends_login || changes.login.is_some() {
            return false;
        }
        let record = self.incoming.loaded.record();
        let created = record.and_then(Record::metadata).map(|it| it.created);
        let end = created
            .zip(self.policy.absolute)
            .map(|(at, span)| at + span);
        end.is_some_and(|end| end <= self.now)
    }

    /// Whether the entry that names the principal logs out whoever was logged in.
    fn logs_out_by_entry(&self) -> bool {
        let base = self.base().and_then(Record::principal);
        self.snapshot.logs_out && base.is_some()
    }

    /// Whether a TTL of the session's own outlives the request.
    fn keeps_own_ttl(&self) -> bool {
        let changes = &self.snapshot.changes;
        changes.keep_own_ttl(self.incoming.loaded.record()) && !self.logs_out_by_entry()
    }

    /// Whether the session that a login makes is over already: the user authenticated too long ago,
    /// or the handler took too long.
    fn login_is_over(&self) -> bool {
        let changes = &self.snapshot.changes;
        let end = changes.end_of_login(self.base(), self.policy.absolute);
        end.is_some_and(|end| end <= self.now)
    }

    fn with_a_head(&self) -> Decision {
        let changes = &self.snapshot.changes;
        match &self.incoming.loaded {
            Loaded::Live(..) if changes.renews() => Decision::Rotate,
            Loaded::Live(_, base) if !changes.leave_unchanged(base) => Decision::Commit,
            Loaded::Live(_, base) if changes.set_any() && !self.incoming.quiet => self.touch(base),
            Loaded::Live(_, base) if self.needs_check(base) => Decision::Check,
            Loaded::Live(..) => UNNEEDED,
            Loaded::Moved(_, age) => moved(self.snapshot, *age),
            Loaded::None | Loaded::Lost(_) | Loaded::Vacant(_) => create(changes),
        }
    }

    /// Extends the record, unless it is too soon for that. A state in a cookie is sealed again, as
    /// by a change.
    fn touch(&self, base: &Record) -> Decision {
        let throttled = matches!(self.policy.extend, ExtendOnRead::AtMostEvery(_));
        // The terms of a touch are those of loads that extend, after which it would not be over.
        let not_extended = self.policy.extend == ExtendOnRead::Never;
        let idle_end = base
            .idle_end()
            .filter(|_| base.is_in_cookie() && not_extended);
        if idle_end.is_some_and(|end| end <= self.now) {
            Decision::Commit
        } else if base.is_in_cookie() || !throttled || self.incoming.extended {
            Decision::Touch
        } else if self.needs_check(base) {
            Decision::Check
        } else {
            UNNEEDED
        }
    }

    /// Whether a request without changes sends the cookie again, if its key is current, or has an
    /// end to write down.
    fn needs_check(&self, base: &Record) -> bool {
        if self.incoming.quiet {
            return self.incoming.owes_cookie || self.is_undated();
        }
        let in_cookie = base.is_in_cookie();
        let untimed = in_cookie && base.end().is_none();
        let aged = self.policy.persistent || self.had_own_ttl();
        let extended = self.incoming.extended && (aged || in_cookie);
        extended || untimed || self.incoming.stale || self.is_undated()
    }

    /// Whether the absolute timeout counts from now on, since the record does not say since when.
    fn is_undated(&self) -> bool {
        let undated = |record: &Record| record.is_undated() && !record.is_in_cookie();
        self.policy.absolute.is_some() && self.incoming.loaded.record().is_some_and(undated)
    }

    /// Whether the request itself says whether the cookie has an age.
    fn changes_age(&self) -> bool {
        let sets_ttl = self.snapshot.changes.ttl.is_some();
        sets_ttl || (self.had_own_ttl() && !self.keeps_own_ttl())
    }

    /// Whether the session had a TTL of its own when it was loaded.
    fn had_own_ttl(&self) -> bool {
        let record = self.incoming.loaded.record();
        record.is_some_and(Record::has_own_ttl)
    }

    /// Whether the cookie has a `Max-Age`: by configuration, or because the session has a TTL of
    /// its own, as the store says. For a store that does not say, this request knows best.
    fn is_persistent(&self, end: End) -> bool {
        let changes = &self.snapshot.changes;
        let kept = !self.snapshot.purged && self.keeps_own_ttl();
        let own = || match changes.ttl {
            Some(ttl) => ttl.own().is_some(),
            None => kept && self.had_own_ttl(),
        };
        self.policy.persistent || end.has_own_ttl().unwrap_or_else(own)
    }

    pub(crate) fn after_commit(&self, answer: Committed) -> CookieFate {
        match answer {
            Committed::Saved(end) if self.needs_cookie(end) => {
                self.send(None, Origin::Refreshed, end, Older::none())
            }
            Committed::Saved(_) | Committed::NotExtended => CookieFate::Leave(Silence::Unneeded),
            Committed::NewValue(value, end, older) => {
                self.send(Some(value), Origin::Refreshed, end, older)
            }
            Committed::Forwarded => CookieFate::Leave(Silence::Forwarded),
            Committed::Gone => CookieFate::Leave(Silence::Gone),
        }
    }

    /// Whether the cookie of a key that stays is sent: its age moves, or it has to lose it.
    fn needs_cookie(&self, end: End) -> bool {
        if self.incoming.quiet {
            return self.incoming.owes_cookie || self.changes_age();
        }
        self.is_persistent(end) || self.had_own_ttl() || self.incoming.stale
    }

    pub(crate) fn after_rotate(&self, answer: Rotated) -> CookieFate {
        match answer {
            Rotated::Rotated(key, end, older) => self.send(Some(key), Origin::Renewed, end, older),
            Rotated::Moved | Rotated::Gone => CookieFate::Leave(Silence::Gone),
        }
    }

    pub(crate) fn after_create(&self, (key, end): (SessionKey, End)) -> CookieFate {
        self.send(Some(key), Origin::Created, end, Older::none())
    }

    /// Every session that came has ended.
    pub(crate) fn after_end(&self) -> CookieFate {
        if self.incoming.cookie_came || !self.incoming.old_cookies.is_empty() {
            CookieFate::Remove
        } else {
            CookieFate::Leave(Silence::Unneeded)
        }
    }

    /// A logout came before the renewal or the logout of a cookie-stored session, so the new cookie
    /// is not sent. The request's own changes may become a session, as with stores on the
    /// server.
    pub(crate) fn after_overtaken(&self) -> Decision {
        let changes = &self.snapshot.changes;
        if changes.renews() && changes.may_live_alone(self.incoming.loaded.record()) {
            Decision::Create
        } else {
            Decision::Leave(Silence::Gone)
        }
    }

    fn send(&self, key: Option<SessionKey>, origin: Origin, end: End, older: Older) -> CookieFate {
        CookieFate::Send(NewCookie {
            key,
            origin,
            max_age: self.is_persistent(end).then(|| end.millis() - self.now),
            older,
        })
    }
}

const UNNEEDED: Decision = Decision::Leave(Silence::Unneeded);

fn create(changes: &Changes) -> Decision {
    if changes.makes_session() {
        Decision::Create
    } else {
        UNNEEDED
    }
}

/// A logout travels, and what follows it is decided as without it.
fn moved(snapshot: &Snapshot, age: Duration) -> Decision {
    let (changes, own) = (&snapshot.changes, own_session(snapshot, age));
    match (changes.cleared, own) {
        (None, own) => own,
        // The renewal takes it along.
        (Some(_), Decision::Rotate) => own,
        (Some(_), Decision::Create) if changes.login.is_some() => own,
        (Some(_), Decision::Create) => Decision::CreateAfterClear,
        (Some(_), _) => Decision::Commit,
    }
}

/// What a request asks for that met a redirect.
fn own_session(snapshot: &Snapshot, age: Duration) -> Decision {
    let changes = &snapshot.changes;
    if changes.login.is_some() {
        return Decision::Create;
    }
    let is_in_flight = age < COOKIE_IN_FLIGHT;
    match (changes.renews(), changes.makes_session()) {
        (_, false) if is_in_flight && snapshot.changes_unseen() => {
            Decision::Leave(Silence::Dropped(Why::JustRenewed))
        }
        (_, false) => UNNEEDED,
        // The store looks whether somebody's session has the newer key.
        (true, true) if is_in_flight => Decision::Rotate,
        (false, true) if is_in_flight => Decision::Leave(Silence::Dropped(Why::JustRenewed)),
        (_, true) => Decision::Create,
    }
}

#[cfg(test)]
mod tests;
