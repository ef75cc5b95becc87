//! Three requests, one store and a network that loses answers: every interleaving.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use stateright::{Model, Property};

use super::{
    fingerprint::Fingerprint,
    kind::{COUNT, Kind, OLD, OLD_VALUE, SOMEBODY},
    mutant::Mutant,
    promises::{self, PROMISES, Promise},
    request::{Answer, Request, Stage, TERMS},
    store::Store,
    writes,
};
use crate::{
    protocol::{Reply, Step},
    record::{Auth, Metadata, Record, WireFormat},
};

/// The one property.
pub(super) const KEPT: &str = "every promise is kept";
/// The name of the key that the session has in the beginning.
pub(super) const FIRST: &str = "K0";

/// The runs to check.
pub(super) struct Runs {
    pub(super) sets: Vec<Set>,
    /// How many answers are lost in one run.
    pub(super) losses: u8,
    /// How old a redirect is when a load finds it.
    pub(super) age: Duration,
    pub(super) mutant: Option<Mutant>,
    /// What is checked.
    pub(super) promises: &'static [Promise],
}

/// The requests of one run, and whether somebody is logged in at the start.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) kinds: Vec<Kind>,
    pub(super) logged_in: bool,
}

impl Runs {
    pub(super) fn of(sets: Vec<Set>, losses: u8) -> Self {
        Self {
            sets,
            losses,
            age: Duration::ZERO,
            mutant: None,
            promises: &PROMISES,
        }
    }
}

/// One state.
#[derive(Clone)]
pub(super) struct World {
    pub(super) store: Store,
    /// Shared with the states before and after, except the one that takes a step.
    pub(super) requests: Vec<Arc<Request>>,
    /// Steps that count as lost, each with its sender. They may arrive at any moment.
    in_flight: Vec<Arc<(usize, Step)>>,
    losses: u8,
    /// The fault of the first step that did something forbidden.
    pub(super) fault: Option<&'static str>,
    /// The key in the browser's jar, if it takes the cookies in the order of the answers.
    pub(super) jar: Option<String>,
    /// Whether somebody was logged in at the start.
    pub(super) logged_in: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// A request comes with this key: its session is loaded, and its handler runs.
    Start(usize, String),
    /// The next step of a request's machine is done and answered.
    Step(usize),
    /// The step counts as lost: it may still be done at any later moment.
    Lose(usize),
    /// A step that counted as lost is done now.
    Arrive(usize),
}

impl World {
    fn new(set: &Set, losses: u8) -> Self {
        let requests = set.kinds.iter().enumerate();
        Self {
            store: Store::new(FIRST, first_record(set.logged_in)),
            requests: requests
                .map(|(who, kind)| Arc::new(Request::new(who, *kind)))
                .collect(),
            in_flight: Vec::new(),
            losses,
            fault: None,
            jar: Some(FIRST.to_owned()),
            logged_in: set.logged_in,
        }
    }

    /// Whether every request that came has its answer, and nothing is on its way.
    pub(super) fn is_at_rest(&self) -> bool {
        let mut requests = self.requests.iter();
        self.in_flight.is_empty() && requests.all(|r| !matches!(r.stage, Stage::Running(..)))
    }

    fn request(&mut self, who: usize) -> &mut Request {
        Arc::make_mut(&mut self.requests[who])
    }

    /// The keys that a browser, or a thief, may send.
    fn keys(&self) -> impl Iterator<Item = &str> {
        let renewed = self.requests.iter().filter_map(|r| match r.answer() {
            Some(Answer::Renewed(name)) => Some(name.as_str()),
            _ => None,
        });
        std::iter::once(FIRST).chain(renewed)
    }

    fn equal_waits_before(&self, who: usize) -> bool {
        let kind = self.requests[who].kind;
        let mut before = self.requests[..who].iter();
        before.any(|r| r.kind == kind && matches!(r.stage, Stage::Waiting))
    }

    fn start(&mut self, who: usize, at: &str, age: Duration) {
        let session = self
            .store
            .session_of(at)
            .expect("a key that was handed out");
        let found = self.store.found(at);
        self.request(who).start(at, session, found, age);
        if self.requests[who].kind.clears() {
            self.request(who).history.logins_before = self.logins(session);
        }
        self.judge(who);
    }

    /// The requests that have logged somebody in to a session.
    fn logins(&self, session: usize) -> u8 {
        let logins = self.requests.iter();
        let logins = logins.filter(|r| r.kind.logs_in() && r.has_written_to(session));
        logins.fold(0, |bits, r| bits | 1 << r.who)
    }

    /// Carries a step out, and checks what it did.
    fn carry_out(&mut self, who: usize, step: &Step, mutant: Option<Mutant>) -> Reply {
        let own = self.requests[who].own_session();
        let (reply, written) = match mutant {
            Some(mutant) => mutant.carry_out(&mut self.store, step, own),
            None => self.store.carry_out(step, own),
        };
        if let Some(written) = &written {
            let (requests, request) = (&self.requests, &self.requests[who]);
            let fault = writes::fault_of_write(&self.store, request, step, written)
                .or_else(|| writes::fault_of_id(requests, step))
                .or_else(|| writes::fault_of_repeat(requests, request, step, written));
            self.fault = self.fault.or(fault);
            self.note(who, step);
            self.note_overwritten(who, step);
        }
        if let (Step::End { .. }, Reply::Done, false) =
            (step, &reply, self.requests[who].kind.purges())
        {
            self.fault = self.fault.or(Some("only a purge ends"));
        }
        reply
    }

    /// Notes what a request has done in its history.
    fn note(&mut self, who: usize, step: &Step) {
        let (name, new, renewed) = match step {
            Step::Cas { at, new, .. } => (at, new, false),
            Step::Rotate { redirect, new, .. } => (&redirect.target, new, true),
            Step::Insert { at, new, .. } => (at, new, true),
            Step::Read { .. } | Step::End { .. } | Step::EndIf { .. } => return,
        };
        let session = self.store.session_of(name).expect("it has been written");
        let logins = self.logins(session);
        let request = self.request(who);
        request.history.wrote |= 1 << session;
        request.history.last = Some((session, new.epoch()));
        request.history.renewed += u8::from(renewed);
        if request.kind.clears() && session == request.session {
            request.history.logins_before = logins;
        }
    }

    /// Notes of the others that what they wrote has been changed.
    fn note_overwritten(&mut self, who: usize, step: &Step) {
        let (Step::Cas { new, .. } | Step::Rotate { new, .. } | Step::Insert { new, .. }) = step
        else {
            return;
        };
        let done = writes::done(&self.requests[who], new);
        let own = self.requests[who].history.last;
        for other in 0..self.requests.len() {
            let known = self.requests[other].history.overwritten;
            let here = self.requests[other].history.last.map(|last| last.0);
            let now = match other == who {
                true => known & !done,
                false if here == own.map(|last| last.0) => {
                    known | done & writes::wanted(&self.requests[other])
                }
                false => known,
            };
            if now != known {
                self.request(other).history.overwritten = now;
            }
        }
    }

    fn answer(&mut self, who: usize, reply: Reply) {
        self.request(who).on(reply);
        self.judge(who);
    }

    /// Checks a request's answer, if it has one now.
    fn judge(&mut self, who: usize) {
        let request = &self.requests[who];
        let fault = writes::fault_of_answer(&self.store, request);
        self.fault = self.fault.or(fault);
        match request.answer() {
            Some(answer) if request.kind.has_a_head() => match answer {
                Answer::Current | Answer::Saved => self.jar = Some(request.at.clone().into()),
                Answer::Renewed(key) => self.jar = Some(key.clone()),
                Answer::Ended => self.jar = None,
                _ => {}
            },
            _ => {}
        }
    }

    fn step(&mut self, who: usize, mutant: Option<Mutant>) {
        let Stage::Running(_, step) = &self.requests[who].stage else {
            panic!("only a request that runs takes a step");
        };
        let step = step.clone();
        let reply = self.carry_out(who, &step, mutant);
        self.answer(who, reply);
        if let Some(mutant) = mutant {
            mutant.after(self.request(who));
        }
    }

    fn lose(&mut self, who: usize) {
        let Stage::Running(_, step) = &self.requests[who].stage else {
            panic!("only a request that runs loses an answer");
        };
        let step = step.clone();
        // No step does something a second time: it compares before it writes.
        let repeated = self.requests[who].history.lost;
        let known = |known: &Arc<(usize, Step)>| known.0 == who && is_same(&known.1, &step);
        if !(repeated && self.in_flight.iter().any(known)) {
            self.in_flight.push(Arc::new((who, step)));
        }
        self.losses -= 1;
        self.request(who).history.lost = true;
        self.answer(who, Reply::Lost);
    }

    fn arrive(&mut self, index: usize) {
        let sent = self.in_flight.remove(index);
        self.carry_out(sent.0, &sent.1, None);
    }

    /// Drops steps in flight that can no longer do anything.
    fn tidy(&mut self, mutant: Option<Mutant>) {
        let store = &self.store;
        // Without tombstones a creation can do something again once its session has ended.
        let late = mutant == Some(Mutant::NoTombstone);
        let creates = |step: &Step| matches!(step, Step::Insert { .. });
        self.in_flight
            .retain(|sent| store.may_still_do(&sent.1) || late && creates(&sent.1));
    }

    fn digest(&self) -> [u64; 2] {
        let mut fingerprint = Fingerprint::default();
        fingerprint.store(&self.store);
        for request in &self.requests {
            let in_flight = || self.in_flight.iter().any(|sent| sent.0 == request.who);
            let at_work = request.answer().is_none() || request.kind.clears() || in_flight();
            fingerprint.record(request.base.as_ref().filter(|_| at_work));
            fingerprint.request(request);
        }
        for sent in &self.in_flight {
            fingerprint.count(sent.0);
            fingerprint.step(&sent.1);
        }
        fingerprint.text(self.jar.as_deref().unwrap_or_default());
        fingerprint.number(u64::from(self.losses));
        fingerprint.flag(self.fault.is_some());
        fingerprint.finish()
    }
}

/// Whether two steps of one request are the same step, sent twice.
fn is_same(one: &Step, two: &Step) -> bool {
    match (one, two) {
        (Step::Cas { new: one, .. }, Step::Cas { new: two, .. })
        | (Step::Rotate { new: one, .. }, Step::Rotate { new: two, .. })
        | (Step::Insert { new: one, .. }, Step::Insert { new: two, .. }) => {
            one.commit_id() == two.commit_id()
        }
        (Step::End { at: one, .. }, Step::End { at: two, .. }) => one == two,
        _ => false,
    }
}

fn first_record(logged_in: bool) -> Record {
    let mut metadata = Metadata::new(1, TERMS.now);
    metadata.auth = logged_in.then(|| Auth::new(SOMEBODY, TERMS.now).into());
    let entries = [(OLD.into(), OLD_VALUE.into()), (COUNT.into(), "0".into())];
    Record::written(WireFormat::V1, 1, metadata, &entries)
}

impl Model for Runs {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let sets = self.sets.iter();
        sets.map(|set| World::new(set, self.losses)).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for request in &world.requests {
            let who = request.who;
            match &request.stage {
                // Two equal requests need only one order.
                Stage::Waiting if world.equal_waits_before(who) => {}
                Stage::Waiting => {
                    let starts = world.keys().map(|key| Action::Start(who, key.to_owned()));
                    actions.extend(starts);
                }
                Stage::Running(_, step) => {
                    actions.push(Action::Step(who));
                    // To repeat a read is to read later.
                    if world.losses > 0 && !matches!(step, Step::Read { .. }) {
                        actions.push(Action::Lose(who));
                    }
                }
                Stage::Done(_) => {}
            }
        }
        actions.extend((0..world.in_flight.len()).map(Action::Arrive));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Start(who, key) => world.start(who, &key, self.age),
            Action::Step(who) => world.step(who, self.mutant),
            Action::Lose(who) => world.lose(who),
            Action::Arrive(index) => world.arrive(index),
        }
        world.tidy(self.mutant);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        // One property for all, since the checker is slow with several. The state says which
        // promise is broken.
        let kept = |runs: &Self, world: &World| runs.promises.iter().all(|p| (p.is_kept)(world));
        vec![Property::<Self>::always(KEPT, kept)]
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest().hash(state);
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken: {:?} {:?}", promises::broken(self), self.fault)?;
        for (name, place) in self.store.places() {
            writeln!(
                f,
                "  {name} of session {}: {:?}",
                place.session, place.content
            )?;
        }
        for request in &self.requests {
            writeln!(f, "  {request:?}")?;
        }
        for sent in &self.in_flight {
            writeln!(f, "  in flight from {}: {:?}", sent.0, sent.1)?;
        }
        Ok(())
    }
}
