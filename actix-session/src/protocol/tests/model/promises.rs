//! The contract, as properties of states.

use super::{
    kind::{COUNT, Kind, NAMES, OLD, OLD_VALUE, Want, counted, demand, epoch, own_ttl, value},
    request::{Answer, Request, Seen, new_name},
    world::World,
    writes::{TTL, bit},
};
use crate::{protocol::Flag, record::Record};

/// One sentence of the contract.
pub(super) struct Promise {
    pub(super) name: &'static str,
    pub(super) is_kept: fn(&World) -> bool,
}

/// All promises. The broken variants break the first ones.
pub(super) static PROMISES: [Promise; 15] = [
    Promise {
        name: "an acknowledged change stands until another request changes it",
        is_kept: |world| world.requests.iter().all(|r| is_kept(world, r)),
    },
    Promise {
        name: "what a purge has ended is under no key",
        is_kept: |world| world.requests.iter().all(|r| has_ended(world, r)),
    },
    Promise {
        name: "no step does anything forbidden",
        is_kept: |world| world.fault.is_none(),
    },
    Promise {
        name: "no request is counted twice",
        is_kept: |world| {
            world
                .records()
                .all(|(_, record)| nobody_counts_twice(record))
        },
    },
    Promise {
        name: "after a clear nobody is logged in",
        is_kept: |world| world.requests.iter().all(|r| has_logged_out(world, r)),
    },
    Promise {
        name: "what a clear has seen is gone",
        is_kept: |world| world.requests.iter().all(|r| has_cleared(world, r)),
    },
    Promise {
        name: "a session keeps the TTL that it was given",
        is_kept: |world| world.requests.iter().all(|r| has_its_ttl(world, r)),
    },
    Promise {
        name: "a demand holds until somebody answers it",
        is_kept: |world| world.requests.iter().all(|r| holds_its_demand(world, r)),
    },
    Promise {
        name: "what a session holds was written to it",
        is_kept: |world| {
            let mut records = world.records();
            records.all(|(session, record)| is_from_here(world, session, record))
        },
    },
    Promise {
        name: "a session is one record",
        is_kept: |world| {
            let mut sessions = 0..=world.requests.len();
            sessions.all(|session| world.store.live(session).count() <= 1)
        },
    },
    Promise {
        name: "a renewal is whole",
        is_kept: is_whole,
    },
    Promise {
        name: "what has no head logs nobody in and makes no session",
        is_kept: |world| {
            let mut without = world.requests.iter().filter(|r| r.kind.writes_nothing());
            without.all(|r| r.history.wrote == 0)
        },
    },
    Promise {
        name: "the last cookie opens a session unless one was ended",
        is_kept: jar_opens,
    },
    Promise {
        name: "who was logged in stays logged in unless a request says otherwise",
        is_kept: jar_is_somebodys,
    },
    Promise {
        name: "a request renews once",
        is_kept: |world| world.requests.iter().all(|r| r.history.renewed <= 1),
    },
];

/// The promise that a commit of whole states breaks.
pub(super) fn no_change_is_lost() -> &'static [Promise] {
    &PROMISES[..1]
}

/// The promise that a session breaks if it comes back.
pub(super) fn ended_stays_ended() -> &'static [Promise] {
    &PROMISES[1..2]
}

/// The promises that a state breaks.
pub(super) fn broken(world: &World) -> Vec<&'static str> {
    let broken = PROMISES.iter().filter(|promise| !(promise.is_kept)(world));
    broken.map(|promise| promise.name).collect()
}

impl World {
    fn records(&self) -> impl Iterator<Item = (usize, &Record)> {
        self.store.records()
    }

    fn live(&self, session: usize) -> Option<&Record> {
        self.store.live(session).next()
    }
}

/// Every entry that an acknowledged request changed, and that no other request has changed since, has
/// the value that this one wanted, in the record that it wrote to, unless another request has ended
/// or cleared that record since.
///
/// After a lost answer, and behind a redirect, others' changes from before stand too.
fn is_kept(world: &World, request: &Request) -> bool {
    if !request.acknowledged() {
        return true;
    }
    let Some((session, epoch)) = request.history.last else {
        return wrote_nothing_with_cause(world, request);
    };
    let Some(live) = world.live(session).filter(|live| live.epoch() == epoch) else {
        return true;
    };
    if session == request.session && renewed_what_was_cleared(request, epoch) {
        return true;
    }
    let alone = |name| {
        !world
            .requests
            .iter()
            .any(|other| other.who != request.who && other.kind.names(name))
    };
    let careful = request.answer() == Some(&Answer::Forwarded) || request.history.lost;
    let stands = |name| match careful {
        true => alone(name),
        false => request.history.overwritten & bit(name) == 0,
    };
    request.kind.wants().iter().all(|(name, want)| {
        let is = live.state().get(name);
        match want {
            Want::Set => !stands(name) || is == Some(value(request.who).to_string().into()),
            Want::Absent => !stands(name) || is.is_none(),
            Want::Counted => is.is_some_and(|count| counted(&count, request.who) == 1),
        }
    })
}

/// Whether a request's own changes came before a `clear` of the record that it has renewed.
fn renewed_what_was_cleared(request: &Request, epoch: u64) -> bool {
    let kind = request.kind;
    let may_count = kind.clears() || kind.logs_in() || kind.purges();
    !may_count && matches!(request.seen, Seen::Record(seen) if seen != epoch)
}

/// If an acknowledged request wrote nothing, it came before a `clear`, or others overwrote its
/// entries before it came through a redirect or was repeated.
fn wrote_nothing_with_cause(world: &World, request: &Request) -> bool {
    let cleared = world
        .live(request.session)
        .is_none_or(|live| request.seen != Seen::Record(live.epoch()));
    let careful = request.answer() == Some(&Answer::Forwarded) || request.history.lost;
    let dropped = request.kind.wants().iter().all(|(name, want)| {
        let others = world
            .requests
            .iter()
            .filter(|other| other.who != request.who);
        *want != Want::Counted && others.clone().any(|other| other.kind.names(name))
    });
    cleared || careful && dropped
}

fn nobody_counts_twice(record: &Record) -> bool {
    let count = record.state().get(COUNT);
    count.is_none_or(|count| (0..4).all(|who| counted(&count, who) <= 1))
}

/// Once a purge is answered, no record of its session is live, and no record holds anything of it.
fn has_ended(world: &World, request: &Request) -> bool {
    let mut records = world.records();
    !request.history.ended
        || records.all(|(session, record)| {
            session != request.session && is_from_here(world, session, record)
        })
}

/// Once a `clear` is answered, nobody is logged in, except by a later login.
///
/// A `clear` does not pass a redirect that says *ended*: the session behind it is another person's.
fn has_logged_out(world: &World, request: &Request) -> bool {
    let answered = matches!(
        request.answer(),
        Some(Answer::Saved | Answer::Forwarded | Answer::Gone | Answer::Renewed(_))
    );
    if !request.kind.clears() || !answered {
        return true;
    }
    let mut route = world.store.route_from(&request.at);
    if route
        .any(|redirect| redirect.flag == Flag::Ended && redirect.target != new_name(request.who))
    {
        return true;
    }
    match world.live(request.session).and_then(login_of) {
        None => true,
        Some(Login::First) => false,
        Some(Login::Of(who)) => request.history.logins_before & (1 << who) == 0,
    }
}

/// Once a `clear` is acknowledged, no entry is left as it has seen it.
fn has_cleared(world: &World, request: &Request) -> bool {
    if !request.kind.clears() || !request.acknowledged() {
        return true;
    }
    let Some((base, live)) = request.base.as_ref().zip(world.live(request.session)) else {
        return true;
    };
    let value = |record: &Record, name| record.state().get(name).map(std::borrow::Cow::into_owned);
    // A counter starts again from nothing, and may reach the same value.
    let mut values = NAMES.iter().filter(|name| **name != COUNT);
    values.all(|name| value(base, name).is_none() || value(base, name) != value(live, name))
}

fn has_its_ttl(world: &World, request: &Request) -> bool {
    let mut others = world.requests.iter();
    let ended = others.any(|r| r.kind.ends_a_ttl());
    let written = request.acknowledged() && request.has_written_to(request.session);
    if request.kind != Kind::SetTtl || !written || ended {
        return true;
    }
    let ttl = |live: &Record| live.metadata().and_then(|metadata| metadata.ttl);
    let history = &request.history;
    let last = !history.lost && history.overwritten & TTL == 0;
    world.live(request.session).is_none_or(|live| match last {
        true => ttl(live) == Some(own_ttl(request.who)),
        false => ttl(live).is_some(),
    })
}

/// Be the session renewed by whatever other request.
fn holds_its_demand(world: &World, request: &Request) -> bool {
    let answers = |r: &Request| {
        let proves = r.kind == Kind::Reauthenticate || r.kind.logs_in();
        proves || r.kind.clears() || r.kind.purges()
    };
    let gone = request.answer() == Some(&Answer::Gone);
    let told = gone || request.acknowledged();
    let demanded = request.kind.demands() && request.base_principal().is_some();
    if !demanded || !told || world.requests.iter().any(|r| answers(r)) {
        return true;
    }
    let live = world.live(request.session);
    live.is_none_or(|live| demand(live).is_some())
}

/// If nothing was ended, the cookie that came last is good, whatever came in what order.
///
/// (A cookie may be overtaken on its way to the browser. No server can close that.)
fn jar_opens(world: &World) -> bool {
    let mut requests = world.requests.iter();
    let excused = requests.any(|r| {
        let unknown = matches!(r.answer(), Some(Answer::OutcomeUnknown | Answer::Failed));
        unknown || r.kind.purges()
    });
    if excused || !world.is_at_rest() {
        return true;
    }
    let opens = |key: &String| world.store.record(key).is_some();
    world.jar.as_ref().is_some_and(opens)
}

/// Whoever was logged in at the start is so at the end, or somebody else is, if nobody logs out.
fn jar_is_somebodys(world: &World) -> bool {
    let mut requests = world.requests.iter();
    let excused = requests.any(|r| {
        let unknown = matches!(r.answer(), Some(Answer::OutcomeUnknown | Answer::Failed));
        // What comes long after a renewal makes a session of its own.
        let late = r.seen == Seen::Redirect && matches!(r.answer(), Some(Answer::Renewed(_)));
        unknown || late || r.kind.purges() || r.kind.clears()
    });
    if excused || !world.logged_in || !world.is_at_rest() {
        return true;
    }
    let record = world.jar.as_ref().and_then(|key| world.store.record(key));
    record.is_none_or(|record| record.principal().is_some())
}

enum Login {
    First,
    Of(usize),
}

/// The login by which somebody is logged in.
fn login_of(record: &Record) -> Option<Login> {
    let auth = record.metadata()?.auth.as_deref()?;
    Some(match &auth.device {
        None => Login::First,
        Some(device) => Login::Of(device.parse().expect("the device names the request")),
    })
}

/// Everything that a record holds was written to its session, by requests that came with one of its
/// keys or made it.
fn is_from_here(world: &World, session: usize, record: &Record) -> bool {
    let by = |who: usize, did: &dyn Fn(Kind) -> bool| {
        let request = &world.requests[who];
        let here = request.session == session || request.own_session() == session;
        here && request.has_written_to(session) && did(request.kind)
    };
    let entries = NAMES.iter().all(|name| match record.state().get(name) {
        None => true,
        Some(json) if *name == OLD => session == 0 && json == OLD_VALUE,
        Some(json) if *name == COUNT => (0..world.requests.len())
            .all(|who| counted(&json, who) == 0 || by(who, &|kind| kind.names(COUNT))),
        Some(json) => (0..world.requests.len())
            .any(|who| json == value(who).to_string() && by(who, &|kind| kind.names(name))),
    });
    let login = match login_of(record) {
        None => true,
        Some(Login::First) => session == 0,
        Some(Login::Of(who)) => by(who, &Kind::logs_in),
    };
    let cleared = record.epoch() == 0
        || (0..world.requests.len()).any(|who| epoch(who) == record.epoch() && by(who, &|_| true));
    entries && login && cleared
}

/// Every redirect leads on within its session, to a record or to what became of it.
fn is_whole(world: &World) -> bool {
    world.store.places().all(|(name, place)| {
        world.store.redirect(name).is_none_or(|redirect| {
            redirect.target != **name
                && world.store.session_of(&redirect.target) == Some(place.session)
        })
    })
}
