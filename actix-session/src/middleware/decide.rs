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
    contract::{Committed, End, Older, Rotated},
    event::Why,
    key::SessionKey,
    record::Record,
    session::Snapshot,
};

/// For this long after a renewal, the new cookie may still be on its way to the browser.
const COOKIE_IN_FLIGHT: Duration = Duration::from_secs(10);

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
    /// Every request that loads a session extends it.
    pub(crate) extend: bool,
    /// Cookies have a `Max-Age`.
    pub(crate) persistent: bool,
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

impl Finished<'_> {
    pub(crate) fn decide(&self) -> Decision {
        let changes = &self.snapshot.changes;
        if self.incoming.degraded {
            let wants = self.snapshot.purged || !changes.is_empty();
            return if wants { Decision::Refuse } else { UNNEEDED };
        }
        if self.snapshot.purged {
            let then_create = self.exit == Exit::Response && changes.makes_session();
            return Decision::End { then_create };
        }
        match (self.exit, self.with_a_head()) {
            // Without a response, a new key reaches nobody, and a login would be half done.
            (Exit::NoHead, Decision::Rotate | Decision::Create) => {
                Decision::Leave(Silence::Dropped(Why::NoResponse))
            }
            (Exit::NoHead, Decision::Check) => UNNEEDED,
            (_, decision) => decision,
        }
    }

    fn with_a_head(&self) -> Decision {
        let changes = &self.snapshot.changes;
        match &self.incoming.loaded {
            Loaded::Live(..) if changes.renews() => Decision::Rotate,
            Loaded::Live(_, base) if !changes.leave_unchanged(base) => Decision::Commit,
            Loaded::Live(_, base) if changes.set_any() => touch(base),
            Loaded::Live(_, base) if self.needs_check(base) => Decision::Check,
            Loaded::Live(..) => UNNEEDED,
            Loaded::Moved(_, age) => moved(changes, *age),
            Loaded::None | Loaded::Lost(_) => create(changes),
        }
    }

    /// Whether a request without changes sends the cookie again, if its key is current.
    fn needs_check(&self, base: &Record) -> bool {
        let in_cookie = base.is_in_cookie();
        let untimed = in_cookie && base.end().is_none();
        let extends = self.policy.extend && !base.has_kept_end();
        let extended = extends && (self.is_persistent() || in_cookie);
        extended || untimed || self.incoming.stale
    }

    /// Whether the cookie has a `Max-Age`: by configuration, or because the session has a TTL of
    /// its own.
    fn is_persistent(&self) -> bool {
        let changes = &self.snapshot.changes;
        let keeps = !self.snapshot.purged && changes.keep_own_ttl();
        let own = |base: &Record| keeps && base.has_own_ttl();
        self.policy.persistent
            || changes.ttl.is_some()
            || self.incoming.loaded.record().is_some_and(own)
    }

    pub(crate) fn after_commit(&self, answer: Committed) -> CookieFate {
        match answer {
            Committed::Saved(end) if self.is_persistent() || self.incoming.stale => {
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

    /// A logout came before the renewal or the `clear` of a cookie-stored session, so the new
    /// cookie is not sent. The request's own changes may become a session, as with stores on the
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
            max_age: self.is_persistent().then(|| end.0 - self.now),
            older,
        })
    }
}

const UNNEEDED: Decision = Decision::Leave(Silence::Unneeded);

/// A state in a cookie is sealed again, as by a change.
fn touch(base: &Record) -> Decision {
    if base.is_in_cookie() {
        Decision::Commit
    } else {
        Decision::Touch
    }
}

fn create(changes: &Changes) -> Decision {
    if changes.makes_session() {
        Decision::Create
    } else {
        UNNEEDED
    }
}

fn moved(changes: &Changes, age: Duration) -> Decision {
    if changes.is_empty() {
        return UNNEEDED;
    }
    if changes.login.is_some() {
        return Decision::Create;
    }
    if changes.cleared.is_some() {
        // The logout travels; entries set after the clear do not.
        return Decision::Commit;
    }
    match (changes.renews(), changes.makes_session()) {
        (true, true) => Decision::Rotate,
        (_, false) => UNNEEDED,
        (false, true) if age < COOKIE_IN_FLIGHT => {
            Decision::Leave(Silence::Dropped(Why::JustRenewed))
        }
        (false, true) => Decision::Create,
    }
}

#[cfg(test)]
mod tests;
