//! Users that count, renew and log out while something happens to their Redis, and remember the
//! answers.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use actix_session::{Session, SessionMiddleware, storage::RedisSessionStore};
use actix_web::{cookie::Key, rt};
use tokio::task::JoinHandle;

use crate::support::{Browser, Site};

const USERS: u64 = 8;

/// Requests that go on until [`stop`](Self::stop).
pub(crate) struct Load {
    shared: Rc<Shared>,
    users: Vec<JoinHandle<User>>,
}

#[derive(Default)]
struct Shared {
    stop: Cell<bool>,
    answers: Cell<u64>,
    failures: Cell<u64>,
    last_failure: Cell<Option<Instant>>,
    lost: RefCell<Vec<String>>,
}

/// What has been observed.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) answers: u64,
    pub(crate) failures: u64,
    pub(crate) panics: usize,
    /// Acknowledged entries that were not there any more.
    pub(crate) lost: Vec<String>,
    /// Ended or renewed keys that opened something.
    pub(crate) resurrected: usize,
    pub(crate) ended: usize,
}

struct User {
    shared: Rc<Shared>,
    browser: Browser,
    /// How often counting was acknowledged, and how often its outcome is not known.
    acknowledged: u32,
    unknown: u32,
    /// Cookies of sessions that were ended or renewed, which was acknowledged.
    dead: Vec<String>,
    dice: u64,
}

impl Load {
    pub(crate) async fn start(store: RedisSessionStore) -> Self {
        let middleware = SessionMiddleware::builder(store, Key::generate());
        let site = Site::new(middleware.build()).await;
        let shared = Rc::<Shared>::default();
        let user = |number| User {
            shared: Rc::clone(&shared),
            browser: Browser::new(site.clone()),
            acknowledged: 0,
            unknown: 0,
            dead: Vec::new(),
            dice: number + 1,
        };
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
        let before = self.shared.failures.get();
        let limit = Instant::now() + Duration::from_secs(60);
        while self.shared.failures.get() == before {
            assert!(Instant::now() < limit, "a request fails");
            rt::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How long after that time requests went on failing.
    pub(crate) fn failed_after(&self, since: Instant) -> Duration {
        let last = self.shared.last_failure.get();
        last.map_or(Duration::ZERO, |last| last.saturating_duration_since(since))
    }

    /// Ends the load and looks at everything that was said to be dead.
    pub(crate) async fn stop(self) -> Report {
        self.shared.stop.set(true);
        let mut report = Report {
            answers: 0,
            failures: 0,
            panics: 0,
            lost: Vec::new(),
            resurrected: 0,
            ended: 0,
        };
        for user in self.users {
            match user.await {
                Ok(user) => {
                    report.ended += user.dead.len();
                    report.resurrected += user.resurrected().await;
                }
                Err(_) => report.panics += 1,
            }
        }
        report.answers = self.shared.answers.get();
        report.failures = self.shared.failures.get();
        report.lost = self.shared.lost.take();
        report
    }
}

impl Report {
    /// Nothing that was acknowledged is lost, and nothing that was ended lives.
    #[track_caller]
    pub(crate) fn assert_whole(&self) {
        assert_eq!((self.panics, self.resurrected), (0, 0), "{self:?}");
        assert!(self.lost.is_empty(), "{self:?}");
        assert!(self.answers > 0 && self.ended > 0, "{self:?}");
    }
}

impl User {
    async fn run(mut self) -> Self {
        while !self.shared.stop.get() {
            match self.roll() % 20 {
                0..=11 => self.count().await,
                12..=16 => self.look().await,
                17..=18 => self.renew().await,
                _ => self.purge().await,
            }
            rt::time::sleep(Duration::from_millis(self.roll() % 10)).await;
        }
        // Whatever was in flight is over when the last look is taken.
        self.look().await;
        self
    }

    /// xorshift: what happens is the same in each run, when it happens is not.
    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }

    async fn count(&mut self) {
        let before = self.browser.value();
        let count = |s: &Session| {
            s.modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))
                .unwrap();
        };
        let answer = self.browser.visit(count).await;
        if !self.note(answer.status.is_success()) {
            self.unknown += u32::from(before.is_some());
        } else if before.is_none() {
            (self.acknowledged, self.unknown) = (1, 0);
        } else if self.browser.value() == before {
            self.acknowledged += 1;
        } else {
            self.lost("the session was gone when it was counted on");
            (self.acknowledged, self.unknown) = (1, 0);
        }
    }

    async fn look(&mut self) {
        if self.browser.value().is_none() {
            return;
        }
        let mut seen = None;
        let read = |s: &Session| seen = s.get::<u32>("n").unwrap();
        let answer = self.browser.visit(read).await;
        if !self.note(answer.status.is_success()) {
            return;
        }
        let (least, most) = (self.acknowledged, self.acknowledged + self.unknown);
        match seen {
            Some(n) if (least..=most).contains(&n) => {}
            seen => {
                self.lost(&format!("{seen:?} is not in {least}..={most}"));
                self.leave();
            }
        }
    }

    async fn renew(&mut self) {
        let Some(before) = self.browser.value() else {
            return;
        };
        let answer = self.browser.visit(Session::renew).await;
        if !self.note(answer.status.is_success()) {
            // Under one key or the other.
            self.leave();
        } else if self.browser.value().as_ref() != Some(&before) {
            self.dead.push(before);
        }
    }

    async fn purge(&mut self) {
        let Some(before) = self.browser.value() else {
            return;
        };
        let answer = self.browser.visit(Session::purge).await;
        if self.note(answer.status.is_success()) {
            self.dead.push(before);
        }
        self.leave();
    }

    /// Starts again.
    fn leave(&mut self) {
        self.browser.forget();
        (self.acknowledged, self.unknown) = (0, 0);
    }

    fn lost(&self, what: &str) {
        self.shared.lost.borrow_mut().push(what.to_owned());
    }

    fn note(&self, worked: bool) -> bool {
        let counter = if worked {
            &self.shared.answers
        } else {
            self.shared.last_failure.set(Some(Instant::now()));
            &self.shared.failures
        };
        counter.set(counter.get() + 1);
        worked
    }

    async fn resurrected(&self) -> usize {
        let mut found = 0;
        for value in &self.dead {
            self.browser.forget();
            self.browser.set_cookie("id", value);
            found += usize::from(!self.browser.is_nobody().await);
        }
        found
    }
}
