//! Users that log in, write, count, renew and log out while something happens to the back end or to
//! their connections, try old cookies, and remember the answers.

mod acts;
mod client;
mod judge;
mod model;
mod past;
mod user;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

use actix_session::{SessionMiddleware, storage::SessionStore};
use actix_web::{App, cookie::Key, rt, test::init_service};
use tokio::task::JoinHandle;

pub(crate) use self::{acts::Ran, client::Client};
use self::{client::Outcome, user::User};
use crate::support::Site;

const USERS: u64 = 8;

/// Requests that go on until [`stop`](Self::stop).
pub(crate) struct Load {
    shared: Rc<Shared>,
    users: Vec<JoinHandle<User>>,
}

struct Shared {
    seed: u64,
    started: Instant,
    ran: Ran,
    stop: Cell<bool>,
    /// A server that is left behind may answer reads.
    stale: Cell<bool>,
    stale_reads: Cell<u64>,
    answers: Cell<u64>,
    hung_up: Cell<u64>,
    failures: RefCell<BTreeMap<u16, u64>>,
    last_failure: Cell<Option<Instant>>,
    lost: RefCell<Vec<String>>,
    resurrected: RefCell<Vec<String>>,
}

/// What has been observed.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) answers: u64,
    /// How many requests had which error for an answer.
    pub(crate) failures: BTreeMap<u16, u64>,
    pub(crate) hung_up: u64,
    /// Old reads while the back end was allowed to give them.
    pub(crate) stale_reads: u64,
    pub(crate) panics: usize,
    /// Acknowledged changes that did not hold.
    pub(crate) lost: Vec<String>,
    /// Ended or renewed keys that opened something.
    pub(crate) resurrected: Vec<String>,
    pub(crate) ended: usize,
}

impl Load {
    /// Users of a site in this thread.
    pub(crate) async fn start<S: SessionStore + 'static>(store: S) -> Self {
        Self::start_with(store, 1).await
    }

    /// The same with another seed.
    pub(crate) async fn start_with<S: SessionStore + 'static>(store: S, seed: u64) -> Self {
        let middleware = SessionMiddleware::builder(store, Key::generate());
        let ran = Ran::default();
        let routes = ran.clone();
        let app = App::new()
            .wrap(middleware.build())
            .configure(|config| routes.serve(config));
        let site = Site::of(init_service(app).await);
        Self::of(&Client::Inside(site), ran, seed)
    }

    /// Users who reach a site like this one, whose handlers note what they do.
    pub(crate) fn of(client: &Client, ran: Ran, seed: u64) -> Self {
        let shared = Rc::new(Shared::new(seed, ran));
        let user = |number| User::new(number, Rc::clone(&shared), client.clone());
        let users = (0..USERS).map(user).map(|user| rt::spawn(user.run()));
        Self {
            users: users.collect(),
            shared: Rc::clone(&shared),
        }
    }

    /// Waits until this many more requests have worked. Nothing is measured, and the wait is bounded.
    pub(crate) async fn works_for(&self, answers: u64) {
        let until = self.shared.answers.get() + answers;
        let limit = Instant::now() + Duration::from_secs(60);
        while self.shared.answers.get() < until {
            assert!(
                Instant::now() < limit,
                "requests work again within a minute"
            );
            rt::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a request has failed.
    pub(crate) async fn fails(&self) {
        let before = self.shared.failed();
        let limit = Instant::now() + Duration::from_secs(60);
        while self.shared.failed() == before {
            assert!(Instant::now() < limit, "a request fails");
            rt::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How long after that time requests went on failing.
    pub(crate) fn failed_after(&self, since: Instant) -> Duration {
        let last = self.shared.last_failure.get();
        last.map_or(Duration::ZERO, |last| last.saturating_duration_since(since))
    }

    /// Whether reads may now be served by a server that was left behind.
    pub(crate) fn may_be_stale(&self, may: bool) {
        self.shared.stale.set(may);
    }

    /// Ends the load and looks at everything that was said to be dead.
    pub(crate) async fn stop(self) -> Report {
        self.shared.stop.set(true);
        let (mut panics, mut ended) = (0, 0);
        for user in self.users {
            match user.await {
                Ok(mut user) => {
                    user.look_back().await;
                    ended += user.dead.len();
                }
                Err(_) => panics += 1,
            }
        }
        Report {
            panics,
            ended,
            ..self.shared.report()
        }
    }
}

impl Shared {
    fn new(seed: u64, ran: Ran) -> Self {
        Self {
            seed,
            started: Instant::now(),
            ran,
            stop: Cell::default(),
            stale: Cell::default(),
            stale_reads: Cell::default(),
            answers: Cell::default(),
            hung_up: Cell::default(),
            failures: RefCell::default(),
            last_failure: Cell::default(),
            lost: RefCell::default(),
            resurrected: RefCell::default(),
        }
    }

    fn count(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Answered(..) => add_one(&self.answers),
            Outcome::HungUp => add_one(&self.hung_up),
            Outcome::Failed(status) => {
                self.last_failure.set(Some(Instant::now()));
                *self.failures.borrow_mut().entry(*status).or_default() += 1;
            }
        }
    }

    fn failed(&self) -> u64 {
        self.failures.borrow().values().sum()
    }

    fn read_stale(&self) {
        add_one(&self.stale_reads);
    }

    fn report(&self) -> Report {
        Report {
            seed: self.seed,
            answers: self.answers.get(),
            failures: self.failures.take(),
            hung_up: self.hung_up.get(),
            stale_reads: self.stale_reads.get(),
            panics: 0,
            lost: self.lost.take(),
            resurrected: self.resurrected.take(),
            ended: 0,
        }
    }
}

fn add_one(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl Report {
    /// Nothing that was acknowledged is lost, and nothing that was ended lives.
    #[track_caller]
    pub(crate) fn assert_whole(&self) {
        self.assert_ended();
        assert!(self.lost.is_empty(), "{self}");
    }

    /// Nothing that was ended lives.
    #[track_caller]
    pub(crate) fn assert_ended(&self) {
        assert_eq!(self.panics, 0, "{self}");
        assert!(self.resurrected.is_empty(), "{self}");
        assert!(self.answers > 0 && self.ended > 0, "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} answers, {} clients hung up, failures by status {:?}, {} old reads where \
             they may be, {} users panicked, {} ended keys, {} of them opened something, {} \
             acknowledged changes did not hold",
            self.seed,
            self.answers,
            self.hung_up,
            self.failures,
            self.stale_reads,
            self.panics,
            self.ended,
            self.resurrected.len(),
            self.lost.len()
        )?;
        for story in self.resurrected.iter().chain(&self.lost) {
            write!(f, "\n\n{story}")?;
        }
        Ok(())
    }
}
