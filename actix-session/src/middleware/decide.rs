//! What is to be done when a request is over. Pure: nothing here touches a store or a header.

use std::time::Duration;

use super::open::{Incoming, Loaded};
use crate::{changes::Changes, event::Why, session::Snapshot};

/// For so long after a renewal, the newer cookie may still be on its way to the browser.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With a response, which can carry a cookie.
    Response,
    /// With an error of an inner middleware, a panic, or not at all.
    NoHead,
}

/// What of the configuration matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Every request that loads extends the session.
    pub(crate) extend: bool,
    /// Cookies have a `Max-Age`.
    pub(crate) persistent: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Nothing,
    /// The store failed at the load: what was asked cannot be done, and the client has to know.
    Refused,
    /// The changes are lost, and the log says why.
    Dropped(Why),
    /// Ask whether the key is current, and send its cookie again if so.
    Check,
    Commit,
    Rotate,
    Create,
    /// End every session that came; then make one of what was set after the purge.
    End {
        then_create: bool,
    },
}

pub(crate) fn decide(
    incoming: &Incoming,
    snapshot: &Snapshot,
    exit: Exit,
    policy: Policy,
) -> Outcome {
    let changes = &snapshot.changes;
    if incoming.degraded {
        let asked = snapshot.purged || !changes.is_empty();
        return if asked {
            Outcome::Refused
        } else {
            Outcome::Nothing
        };
    }
    if snapshot.purged {
        let then_create = exit == Exit::Response && changes.makes_session();
        return Outcome::End { then_create };
    }
    match (exit, outcome(incoming, changes, policy)) {
        // A key that nobody is told of, or a login of half a request: neither.
        (Exit::NoHead, Outcome::Rotate | Outcome::Create) => Outcome::Dropped(Why::NoResponse),
        (Exit::NoHead, Outcome::Check) => Outcome::Nothing,
        (_, outcome) => outcome,
    }
}

fn outcome(incoming: &Incoming, changes: &Changes, policy: Policy) -> Outcome {
    match &incoming.loaded {
        Loaded::Live(_, base) => {
            if changes.renews() {
                return Outcome::Rotate;
            }
            if !changes.leave_unchanged(base) {
                return Outcome::Commit;
            }
            let persistent = policy.persistent || base.facts().is_some_and(|f| f.ttl.is_some());
            let untimed = base.is_sealed() && base.end().is_none();
            let extended = policy.extend && (persistent || base.is_sealed());
            if extended || untimed || incoming.stale {
                Outcome::Check
            } else {
                Outcome::Nothing
            }
        }
        Loaded::Moved(_, age) => moved(changes, *age),
        Loaded::None | Loaded::Lost(_) => create(changes),
    }
}

fn create(changes: &Changes) -> Outcome {
    if changes.makes_session() {
        Outcome::Create
    } else {
        Outcome::Nothing
    }
}

fn moved(changes: &Changes, age: Duration) -> Outcome {
    if changes.is_empty() {
        return Outcome::Nothing;
    }
    if changes.login.is_some() {
        return Outcome::Create;
    }
    if changes.cleared.is_some() {
        // The logout travels; what was set after it is not for the session at the end of the way.
        return Outcome::Commit;
    }
    match (changes.renews(), changes.makes_session()) {
        (true, true) => Outcome::Rotate,
        (_, false) => Outcome::Nothing,
        (false, true) if age < ON_ITS_WAY => Outcome::Dropped(Why::JustRenewed),
        (false, true) => Outcome::Create,
    }
}

#[cfg(test)]
mod tests;
