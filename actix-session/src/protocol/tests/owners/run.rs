//! One scenario, and one run of it.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::{cookie::Key, test::TestRequest};
use futures_util::{
    future::{FutureExt as _, LocalBoxFuture},
    task::noop_waker,
};

use super::{
    process::{Answer, Process, request},
    promises,
    schedule::{Choices, MOST},
    store::{ANYBODY, Fault, Mode, Shared},
};
use crate::{
    Clock, SessionManager, SessionMiddleware,
    clock::{Millis, SharedClock},
    config::{CookieContentSecurity, OverLimit},
};

/// Whose sessions these are.
pub(super) const USER: &str = "u";
/// Who logs in on somebody else's device.
pub(super) const ANOTHER: &str = "v";
/// Longer than the grace.
const MINUTE: Duration = Duration::from_secs(61);

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Login,
    /// The same user, on the session `a`.
    LoginOverA,
    /// Another user, on the session `a`.
    AnotherOverA,
    RenewA,
    RenewB,
    WriteA,
    ClearA,
    PurgeA,
    RevokeAll,
    /// All but `a`.
    RevokeOthersA,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) acts: &'static [Act],
    pub(super) mode: Mode,
    /// Beyond it the oldest session ends.
    pub(super) limit: Option<usize>,
    /// How many processes may die.
    pub(super) crashes: usize,
    /// How many ms pass with every step.
    pub(super) tick: u64,
    /// The first step of each new session is lost on its way.
    pub(super) loses: bool,
    pub(super) fault: Option<Fault>,
}

/// A request of a run.
pub(super) struct Actor {
    pub(super) act: Act,
    /// What names its login.
    pub(super) label: String,
    /// The steps of the run at which it came, its handler ran, and it was answered.
    began: Option<usize>,
    pub(super) called: Option<usize>,
    pub(super) ended: Option<usize>,
    pub(super) answer: Option<Answer>,
    is_dead: bool,
    asked: Option<LocalBoxFuture<'static, Answer>>,
}

impl Actor {
    pub(super) fn is_acknowledged(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.is_ok)
    }

    fn is_over(&self) -> bool {
        self.is_dead || self.answer.is_some()
    }
}

#[derive(Clone)]
struct Ticks(Arc<AtomicU64>);

impl Clock for Ticks {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// The processes, which all runs share.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) shared: Arc<Shared>,
    pub(super) sessions: SessionManager,
    ticks: Ticks,
    processes: Vec<Process>,
    judge: Process,
}

impl Scenario {
    /// Runs every order, and returns how many there were, and what a run has broken.
    pub(super) fn explore(self) -> (usize, Option<String>) {
        let exploring = async move {
            let world = World::new(self).await;
            let (mut choices, mut runs) = (Choices::all(), 0);
            loop {
                runs += 1;
                let broken = world.run(&mut choices).await;
                if broken.is_some() || runs == 2 * MOST || !choices.next() {
                    return (runs, broken);
                }
                if runs == MOST {
                    choices = Choices::random(1);
                }
            }
        };
        actix_web::rt::System::new().block_on(tokio::task::unconstrained(exploring))
    }
}

impl World {
    async fn new(scenario: Scenario) -> Self {
        let shared = Shared::new(scenario.mode, scenario.fault, scenario.loses);
        let ticks = Ticks(Arc::new(AtomicU64::new(1_000_000_000)));
        let key = Key::from(&[7; 64]);
        let middleware = |who| {
            let store = shared.asked_by(who, SharedClock::new(ticks.clone()));
            let builder = SessionMiddleware::builder(store, key.clone())
                .clock(ticks.clone())
                .cookie_content_security(CookieContentSecurity::Signed);
            match scenario.limit {
                Some(most) => builder.max_sessions(most, OverLimit::EvictOldest).build(),
                None => builder.build(),
            }
        };
        let mut processes = Vec::new();
        for who in (0..scenario.acts.len()).chain([ANYBODY]) {
            processes.push(Process::new(middleware(who)).await);
        }
        Self {
            sessions: middleware(ANYBODY).manager(),
            judge: processes.pop().unwrap(),
            processes,
            scenario,
            shared,
            ticks,
        }
    }

    pub(super) fn now(&self) -> Millis {
        self.ticks.now().into()
    }

    fn passes(&self, span: Duration) {
        let span = u64::try_from(span.as_millis()).unwrap();
        self.ticks.0.fetch_add(span, Ordering::SeqCst);
    }

    /// Goes on with a request until it waits for its next turn.
    fn polled(&self, actor: &mut Actor) -> Option<Answer> {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let asked = actor.asked.as_mut().expect("it goes on");
        for _ in 0..1_000 {
            if let Poll::Ready(answer) = asked.poll_unpin(&mut cx) {
                return Some(answer);
            }
            // It has taken its turn, and waits for the next.
            self.shared.state().turn?;
        }
        panic!("{:?} waits for something else than its turn", actor.act);
    }

    /// What a cookie opens, if anybody is logged in there.
    async fn look(&self, cookie: &str) -> Option<String> {
        let answer = (self.judge.ask)(request("/look", Some(cookie))).await;
        Some(answer.body).filter(|label| !label.is_empty())
    }

    async fn log_in(&self, label: &str) -> String {
        self.passes(Duration::from_millis(1));
        let answer = (self.judge.ask)(request(&format!("/login/{USER}/{label}"), None)).await;
        answer.cookie.expect("nothing else happens yet")
    }

    /// Makes a run, and returns what it has broken.
    async fn run(&self, choices: &mut Choices) -> Option<String> {
        // What other runs have ended at some time is long ago.
        self.passes(Duration::from_secs(86_400));
        *self.shared.state() = Default::default();
        let (a, b) = (self.log_in("a").await, self.log_in("b").await);
        self.passes(Duration::from_millis(1));
        let actors = self.scenario.acts.iter().enumerate();
        let actors = actors.map(|(who, act)| Actor {
            act: *act,
            label: format!("l{who}"),
            began: None,
            called: None,
            ended: None,
            answer: None,
            is_dead: false,
            asked: None,
        });
        let mut run = Run {
            world: self,
            actors: actors.collect(),
            cookies: [a, b],
            crashes: self.scenario.crashes,
            steps: 0,
        };
        let broken = run.go_on(choices);
        if broken.is_some() {
            return broken;
        }
        let mut opens = Vec::new();
        for cookie in run.cookies() {
            opens.extend(self.look(cookie).await);
        }
        let broken = promises::of_cookies(&run, &opens);
        if broken.is_some() {
            return broken;
        }
        self.passes(MINUTE);
        promises::of_the_index(self).await
    }
}

/// One run.
pub(super) struct Run<'a> {
    pub(super) world: &'a World,
    pub(super) actors: Vec<Actor>,
    cookies: [String; 2],
    crashes: usize,
    steps: usize,
}

impl Run<'_> {
    fn go_on(&mut self, choices: &mut Choices) -> Option<String> {
        loop {
            let at_work = |it: &(usize, &Actor)| !it.1.is_over();
            let goes_on: Vec<usize> = self
                .actors
                .iter()
                .enumerate()
                .filter(at_work)
                .map(|it| it.0)
                .collect();
            if goes_on.is_empty() {
                return None;
            }
            let may_die: Vec<usize> = goes_on
                .iter()
                .copied()
                .filter(|who| self.crashes > 0 && self.actors[*who].began.is_some())
                .collect();
            let chosen = choices.choose(goes_on.len() + may_die.len());
            self.steps += 1;
            match may_die.get(chosen.wrapping_sub(goes_on.len())) {
                Some(who) => self.dies(*who),
                None => self.step(goes_on[chosen]),
            }
            self.world
                .passes(Duration::from_millis(self.world.scenario.tick));
            let broken = promises::of_every_moment(self);
            if broken.is_some() {
                return broken;
            }
        }
    }

    /// What browsers have.
    pub(super) fn cookies(&self) -> impl Iterator<Item = &String> {
        let answers = self.actors.iter().filter_map(|it| it.answer.as_ref());
        let new = answers.filter_map(|answer| answer.cookie.as_ref());
        self.cookies.iter().chain(new)
    }

    /// Nothing of its process runs any more, no destructor either.
    fn dies(&mut self, who: usize) {
        self.crashes -= 1;
        let actor = &mut self.actors[who];
        actor.is_dead = true;
        mem::forget(actor.asked.take());
    }

    fn step(&mut self, who: usize) {
        let steps = self.steps;
        let process = &self.world.processes[who];
        if self.actors[who].began.is_none() {
            let asked = (process.ask)(self.request(who));
            let actor = &mut self.actors[who];
            actor.began = Some(steps);
            actor.asked = Some(asked);
        } else {
            self.world.shared.state().turn = Some(who);
        }
        let actor = &mut self.actors[who];
        actor.answer = self.world.polled(actor);
        self.world.shared.state().turn = None;
        if process.called.swap(false, Ordering::SeqCst) {
            actor.called = Some(steps);
        }
        if actor.answer.is_some() {
            actor.ended = Some(steps);
            actor.asked = None;
        }
    }

    fn request(&self, who: usize) -> TestRequest {
        let Actor { act, label, .. } = &self.actors[who];
        let [a, b] = &self.cookies;
        let (path, cookie) = match act {
            Act::Login => (format!("/login/{USER}/{label}"), None),
            Act::LoginOverA => (format!("/login/{USER}/{label}"), Some(a)),
            Act::AnotherOverA => (format!("/login/{ANOTHER}/{label}"), Some(a)),
            Act::RenewA => ("/renew".to_owned(), Some(a)),
            Act::RenewB => ("/renew".to_owned(), Some(b)),
            Act::WriteA => ("/write".to_owned(), Some(a)),
            Act::ClearA => ("/clear".to_owned(), Some(a)),
            Act::PurgeA => ("/purge".to_owned(), Some(a)),
            Act::RevokeAll => ("/revoke-all".to_owned(), None),
            Act::RevokeOthersA => ("/revoke-others".to_owned(), Some(a)),
        };
        request(&path, cookie.map(String::as_str))
    }
}
