//! What a single write and a single answer may do.

use std::sync::Arc;

use super::{
    kind::{self, COUNT, Kind, NAMES, Want, counted, epoch, own_ttl, value},
    request::{Answer, Request, Seen, new_name},
    store::{Store, Written},
};
use crate::{
    changes::{Changes, TtlChange},
    protocol::{Flag, Redirect, Step, Until},
    record::{Demand, Metadata, Record},
};

type Fault = Option<&'static str>;

fn fault_if(fault: bool, what: &'static str) -> Fault {
    fault.then_some(what)
}

/// What a write did although it must not.
pub(super) fn fault_of_write(
    store: &Store,
    request: &Request,
    step: &Step,
    written: &Written,
) -> Fault {
    if written.revived {
        return Some("what ended was made again");
    }
    match (step, &written.before) {
        (Step::Insert { at, new, .. }, _) => fault_of_creation(request, at, new),
        (Step::Cas { at, new, .. }, Some(before)) if *at == request.at => {
            fault_of_epoch(request, before).or_else(|| fault_of_merge(request, before, new))
        }
        (Step::Cas { at, new, until, .. }, Some(before)) => {
            let route = Route::from(store, &request.at, at);
            fault_of_forward(request, &route, before, new)
                .or_else(|| fault_of_epoch(request, before))
                .or_else(|| fault_of_end(request, *until))
        }
        (
            Step::Rotate {
                at, new, redirect, ..
            },
            Some(before),
        ) if *at == request.at => fault_of_renewal(request, before, new)
            .or_else(|| fault_of_redirect(request, before, new, redirect)),
        (Step::Rotate { .. }, Some(_)) => Some("a renewal renewed another key than its own"),
        _ => Some("a write made a record where none was"),
    }
}

/// A forward moves no end; a `clear` may bring it nearer.
fn fault_of_end(request: &Request, until: Until) -> Fault {
    let kept = match until {
        Until::Same => changes(request).cleared.is_none(),
        Until::AtMost(_) => changes(request).cleared.is_some(),
        Until::At(_) => false,
    };
    fault_if(!kept, "a forward moved the idle end")
}

/// The bit of a session's own TTL, after those of the entries.
pub(super) const TTL: u8 = 1 << NAMES.len();

/// The bit of an entry.
pub(super) fn bit(name: &str) -> u8 {
    let place = NAMES.iter().position(|known| *known == name);
    1 << place.expect("there are no other entries")
}

/// What a request wants to set or remove, as bits.
pub(super) fn wanted(request: &Request) -> u8 {
    let wants = request.kind.wants().iter();
    let names = wants.filter(|(_, want)| *want != Want::Counted);
    let ttl = if request.kind == Kind::SetTtl { TTL } else { 0 };
    names.fold(ttl, |bits, (name, _)| bits | bit(name))
}

/// What of this a record shows as done.
pub(super) fn done(request: &Request, new: &Record) -> u8 {
    let own = Some(value(request.who).to_string());
    let is_done = |name, want| match want {
        Want::Set => entry(new, name) == own,
        Want::Absent => entry(new, name).is_none(),
        Want::Counted => false,
    };
    let wants = request.kind.wants().iter();
    let names = wants.filter(|(name, want)| is_done(name, *want));
    let set = new.metadata().and_then(|metadata| metadata.ttl) == Some(own_ttl(request.who));
    let ttl = if set { wanted(request) & TTL } else { 0 };
    names.fold(ttl, |bits, (name, _)| bits | bit(name))
}

/// Whether a record is written under the id of another one that a request may still expect.
pub(super) fn fault_of_id(requests: &[Arc<Request>], step: &Step) -> Fault {
    let (Step::Cas { new, .. } | Step::Rotate { new, .. } | Step::Insert { new, .. }) = step else {
        return None;
    };
    let at_work = requests.iter().filter(|r| r.answer().is_none());
    let mut bases = at_work.filter_map(|r| r.base.as_ref());
    let same =
        bases.any(|base| base.commit_id() == new.commit_id() && base.as_text() != new.as_text());
    fault_if(same, "an id names two records")
}

/// Whether an entry is set again although others have changed it since.
///
/// If a request removes it, it may look as if it had never been set. This limit is known.
pub(super) fn fault_of_repeat(
    requests: &[Arc<Request>],
    request: &Request,
    step: &Step,
    written: &Written,
) -> Fault {
    let (Step::Cas { new, .. }, Some(before)) = (step, &written.before) else {
        return None;
    };
    if !request.has_written_to(request.session) {
        return None;
    }
    let own = Some(value(request.who).to_string());
    let removes = |r: &Request, name| r.kind.wants().contains(&(name, Want::Absent));
    let sets = request
        .kind
        .wants()
        .iter()
        .filter(|(_, want)| *want == Want::Set);
    let mut sets = sets.filter(|(name, _)| !requests.iter().any(|r| removes(r, name)));
    let again = sets.any(|(name, _)| entry(new, name) == own && entry(before, name) != own);
    fault_if(again, "a change happened twice")
}

/// If a request's base has another epoch, its changes are older than the `clear`.
fn fault_of_epoch(request: &Request, before: &Record) -> Fault {
    let cleared = changes(request).cleared.is_some();
    let same = request.seen == Seen::Record(before.epoch());
    fault_if(
        !cleared && !same,
        "what came before a clear was written after it",
    )
}

fn entry(record: &Record, name: &str) -> Option<String> {
    record.state().get(name).map(std::borrow::Cow::into_owned)
}

fn changes(request: &Request) -> &'static Changes {
    &request.snapshot().changes
}

fn want(request: &Request, name: &str) -> Option<Want> {
    // A handler that cannot do what it wants changes nothing.
    changes(request).effects.get(name)?;
    let wants = request.kind.wants().iter();
    wants
        .clone()
        .find(|(named, _)| *named == name)
        .map(|(_, want)| *want)
}

/// Whether a counter counts this request once more, and the others as before.
fn is_one_more(was: Option<&str>, is: Option<&str>, who: usize) -> bool {
    let count = |count: Option<&str>, who| count.map_or(0, |count| counted(count, who));
    (0..4).all(|other| count(is, other) == count(was, other) + u64::from(other == who))
}

/// A write on top of the record under the request's own key: it changes only what it names.
fn fault_of_merge(request: &Request, before: &Record, after: &Record) -> Fault {
    if request.base.is_none() {
        return Some("a request that loaded nothing wrote under the key that it came with");
    }
    let (changes, lost) = (changes(request), request.history.lost);
    for name in NAMES {
        let is = entry(after, name);
        let was = entry(before, name).filter(|_| changes.cleared.is_none());
        let own = value(request.who).to_string();
        let fine = match want(request, name) {
            None => is == was,
            Some(Want::Set | Want::Absent) if lost && is == was => true,
            Some(Want::Set) => is == Some(own),
            Some(Want::Absent) => is.is_none(),
            Some(Want::Counted) => is_one_more(was.as_deref(), is.as_deref(), request.who),
        };
        if !fine {
            return Some("a merge changed what it does not name, or not what it names");
        }
    }
    fault_if(
        !metadata_are(&expected_metadata(request, before, after), after),
        "a merge changed metadata that the request did not set",
    )
}

/// A renewal of a record that was cleared since renews what nobody was logged in to, and nothing more.
fn fault_of_renewal(request: &Request, before: &Record, after: &Record) -> Fault {
    if changes(request).login.is_some() || fault_of_epoch(request, before).is_none() {
        return fault_of_merge(request, before, after);
    }
    if request.base_principal().is_some() {
        return fault_of_epoch(request, before);
    }
    let same_entries = NAMES
        .iter()
        .all(|name| entry(after, name) == entry(before, name));
    fault_if(
        !same_entries || before.metadata() != after.metadata(),
        "what came before a clear was written by its renewal",
    )
}

fn metadata_are(expected: &Metadata, record: &Record) -> bool {
    record.metadata() == Some(expected)
}

/// The stored metadata, with what this request set.
fn expected_metadata(request: &Request, before: &Record, after: &Record) -> Metadata {
    let changes = changes(request);
    let mut metadata = before
        .metadata()
        .expect("all records have metadata")
        .clone();
    if changes.cleared.is_some() {
        log_out(&mut metadata, request, after);
    }
    if let Some(login) = &changes.login {
        if before
            .principal()
            .is_some_and(|before| before != login.principal)
        {
            // It is another person's session now: no time of the old one counts.
            metadata.id = login.id;
            metadata.created = login.at;
        }
        metadata.ttl = None;
        metadata.auth = Some(Box::new(crate::record::Auth {
            device: login.device.clone(),
            origin: login.origin.clone(),
            ..crate::record::Auth::new(&*login.principal, login.at)
        }));
    }
    metadata.ttl = changes.ttl.map_or(metadata.ttl, TtlChange::own);
    demand(&mut metadata, request);
    metadata
}

/// Time stands still: only a request that has seen a demand can answer it.
fn demand(metadata: &mut Metadata, request: &Request) {
    let Some(auth) = &mut metadata.auth else {
        return;
    };
    let seen = request
        .base
        .as_ref()
        .is_some_and(|it| kind::demand(it).is_some());
    if request.kind == Kind::Reauthenticate && seen {
        auth.proofs.demand = None;
    }
    if request.kind.demands() {
        auth.proofs.demand = Some(Demand {
            at: auth.at,
            reason: request.who.to_string(),
        });
    }
}

/// A logout leaves a session with another id, whichever that is.
fn log_out(metadata: &mut Metadata, request: &Request, after: &Record) {
    let another = after.id().filter(|id| *id != metadata.id);
    metadata.id = another.unwrap_or_default();
    metadata.epoch = epoch(request.who);
    metadata.auth = None;
    metadata.ttl = None;
}

fn fault_of_redirect(
    request: &Request,
    before: &Record,
    after: &Record,
    redirect: &Redirect,
) -> Fault {
    let replaced = before.principal().is_some() && before.principal() != after.principal();
    let expected = if changes(request).cleared.is_some() || replaced {
        Flag::Ended
    } else if changes(request).login.is_some() {
        Flag::Login
    } else {
        Flag::Plain
    };
    fault_if(redirect.flag != expected, "a redirect has the wrong flag").or_else(|| {
        fault_if(
            redirect.target != new_name(request.who),
            "an unexpected new key",
        )
    })
}

/// The redirects between a request's key and the record that it writes to.
struct Route {
    ended: bool,
    login: bool,
}

impl Route {
    fn from(store: &Store, from: &str, to: &str) -> Self {
        let mut route = Self {
            ended: true,
            login: false,
        };
        let mut ended = false;
        for redirect in store.route_from(from) {
            ended |= redirect.flag == Flag::Ended;
            route.login |= redirect.flag == Flag::Login;
            if redirect.target == *to {
                route.ended = ended;
                return route;
            }
        }
        route
    }
}

/// A write behind redirects: it changes only what is still as the request knew it.
fn fault_of_forward(request: &Request, route: &Route, before: &Record, after: &Record) -> Fault {
    if route.ended {
        return Some("a forward came through a redirect that says ended, or through no redirect");
    }
    let changes = changes(request);
    let cleared = changes.cleared.is_some();
    for name in NAMES {
        let (was, is) = (entry(before, name), entry(after, name));
        let known = request.base.as_ref().map(|base| entry(base, name));
        let untouched = known.as_ref() == Some(&was);
        let own = value(request.who).to_string();
        let fine = is == was
            || match want(request, name) {
                _ if cleared => is.is_none() && untouched,
                None => false,
                Some(Want::Set) => is == Some(own) && untouched,
                Some(Want::Absent) => is.is_none() && untouched,
                Some(Want::Counted) => {
                    is_one_more(was.as_deref(), is.as_deref(), request.who)
                        && (untouched || !route.login)
                }
            };
        if !fine {
            return Some("a forward changed what was not as the request knew it");
        }
    }
    let mut metadata = before
        .metadata()
        .expect("all records have metadata")
        .clone();
    if cleared {
        log_out(&mut metadata, request, after);
    }
    demand(&mut metadata, request);
    fault_if(
        !metadata_are(&metadata, after),
        "a forward changed metadata",
    )
}

/// A session of the request's own changes holds nothing else.
fn fault_of_creation(request: &Request, at: &str, new: &Record) -> Fault {
    for name in NAMES {
        let is = entry(new, name);
        let fine = match want(request, name) {
            None | Some(Want::Absent) => is.is_none(),
            Some(Want::Set) => is == Some(value(request.who).to_string()),
            Some(Want::Counted) => is_one_more(None, is.as_deref(), request.who),
        };
        if !fine {
            return Some("a session of own changes holds something else");
        }
    }
    let login = changes(request).login.as_ref();
    let principal = login.map(|login| login.principal.as_str());
    let left = login.is_none() && !request.kind.purges() && request.base_principal().is_some();
    fault_if(left, "a session that somebody was logged in to was left")
        .or_else(|| fault_if(new.principal() != principal, "a new session is somebody's"))
        .or_else(|| fault_if(*at != *new_name(request.who), "an unexpected new key"))
}

/// What an answer says although it is wrong.
pub(super) fn fault_of_answer(store: &Store, request: &Request) -> Fault {
    let current = store.record(&request.at).is_some();
    let moved = store.redirect(&request.at).is_some();
    match request.answer()? {
        Answer::Nothing | Answer::Ended => None,
        Answer::Saved | Answer::Current => fault_if(!current, "a key is called current"),
        Answer::Stale => fault_if(current, "a key is called stale"),
        Answer::Forwarded => fault_if(!moved, "a key is called moved"),
        Answer::Gone => fault_if(!gone_has_cause(store, request), "gone without cause"),
        Answer::Renewed(name) => fault_if(
            **name != *new_name(request.who) || store.record(name).is_none(),
            "an answer carries a key that its request did not make, or that opens nothing",
        ),
        Answer::OutcomeUnknown => fault_if(!request.history.lost, "no answer was lost"),
        Answer::Failed => Some("nothing failed"),
    }
}

/// Whether there is a reason to refuse a request.
fn gone_has_cause(store: &Store, request: &Request) -> bool {
    let changes = changes(request);
    let ended = store.live(request.session).next().is_none();
    let moved = store.redirect(&request.at).is_some();
    if changes.renews() && changes.cleared.is_none() || changes.login.is_some() {
        let own = request.history.renewed > 0 && ended;
        let refused = changes.login.is_none()
            && (request.base_principal().is_some()
                || !changes.makes_session()
                || request.seen == Seen::Redirect);
        let epoch = store.record(&request.at).map(Record::epoch);
        let cleared = epoch.is_some_and(|epoch| request.seen != Seen::Record(epoch));
        return own || refused && (ended || moved || cleared);
    }
    if changes.cleared.is_some() {
        return ended || moved;
    }
    let over = store
        .route_from(&request.at)
        .any(|redirect| redirect.flag == Flag::Ended);
    let login = store
        .route_from(&request.at)
        .any(|redirect| redirect.flag == Flag::Login);
    let known = request.base.as_ref().and_then(|base| entry(base, COUNT));
    let counted = store
        .live(request.session)
        .next()
        .and_then(|live| entry(live, COUNT));
    ended || over || login && want(request, COUNT).is_some() && counted != known
}
