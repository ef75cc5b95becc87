//! A request is over: what the store is asked, and what its answer makes of the cookie.
//!
//! Everything about the fate of a response's cookie is here. Pure: nothing here touches a store or a
//! header.

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

/// For so long after a renewal, the newer cookie may still be on its way to the browser.
const COOKIE_IN_FLIGHT: Duration = Duration::from_secs(10);

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With a response, which can carry a cookie.
    Response,
    /// With an inner middleware's error, a panic, or a dropped future: there is no response head.
    NoHead,
}

/// The part of the configuration that matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Every request that loads extends the session.
    pub(crate) extend: bool,
    /// Cookies have a `Max-Age`.
    pub(crate) persistent: bool,
}

/// What the store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing, and the cookie stays as it is.
    Leave(Silence),
    /// Nothing: the store failed at the load, what the request wants cannot be done, and the client has
    /// to know.
    Refuse,
    /// Whether the key is current; its cookie is sent again if so.
    Check,
    Commit,
    Rotate,
    Create,
    /// To end every session that came, and then to make one of what was set after the purge.
    End {
        then_create: bool,
    },
}

/// Why a response says nothing of the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The browser has what it needs.
    Unneeded,
    /// The changes are lost.
    Dropped(Why),
    /// Another request renewed the key, and its response sets the cookie.
    Forwarded,
    /// The session ended. The cookie stays: a newer one may be in the browser already.
    Gone,
}

/// What the response says of the cookie, once the store has answered.
#[derive(Debug)]
pub(crate) enum CookieFate {
    Leave(Silence),
    Send(NewCookie),
    Remove,
}

/// A cookie that is sent if it fits.
#[derive(Debug)]
pub(crate) struct NewCookie {
    /// `None`: the key that came.
    pub(crate) key: Option<SessionKey>,
    pub(crate) origin: Origin,
    /// Without one the cookie ends with the browser's session.
    pub(crate) max_age: Option<Millis>,
    /// What is ended before the cookie leaves.
    pub(crate) older: Older,
}

/// Where a cookie that is sent comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The same session under the same key, or its newer value.
    Refreshed,
    Renewed,
    Created,
}

/// A finished request: all that a decision is made of.
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
            // A key that nobody is told of, or a login of half a request: neither.
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
            Loaded::Live(_, base) if self.needs_check(base) => Decision::Check,
            Loaded::Live(..) => UNNEEDED,
            Loaded::Moved(_, age) => moved(changes, *age),
            Loaded::None | Loaded::Lost(_) => create(changes),
        }
    }

    /// Whether a request that changes nothing sends the cookie again, if its key is current.
    fn needs_check(&self, base: &Record) -> bool {
        let in_cookie = base.is_in_cookie();
        let untimed = in_cookie && base.end().is_none();
        let extended = self.policy.extend && (self.is_persistent() || in_cookie);
        extended || untimed || self.incoming.stale
    }

    /// Whether the cookie has an age: that is configured, or the session has a TTL of its own.
    fn is_persistent(&self) -> bool {
        let own = |base: &Record| base.facts().is_some_and(|facts| facts.ttl.is_some());
        self.policy.persistent
            || self.snapshot.changes.ttl.is_some()
            || self.incoming.loaded.record().is_some_and(own)
    }

    pub(crate) fn after_commit(&self, answer: Committed) -> CookieFate {
        match answer {
            Committed::Saved(end) if self.is_persistent() || self.incoming.stale => {
                self.send(None, Origin::Refreshed, end, Older::none())
            }
            Committed::Saved(_) => CookieFate::Leave(Silence::Unneeded),
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

    /// A logout was faster than a renewal or a `clear` of a cookie-stored session, whose new cookie is
    /// not sent; what this request itself has done may be a session, as on the server.
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
