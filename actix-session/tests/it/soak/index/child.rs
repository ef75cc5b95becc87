//! A site that is killed: users log in, renew, log out and end each other's sessions, all at random.

use std::{
    cell::{Cell, RefCell},
    fs::{File, OpenOptions},
    future::{Future, poll_fn},
    io::Write as _,
    path::PathBuf,
    pin::pin,
    process,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use actix_session::{
    Clock, SessionMiddleware, SystemClock,
    config::OverLimit,
    storage::{SessionIndex, SessionStore},
};
use actix_web::{App, cookie::Key, http::header::COOKIE, rt, test, test::TestRequest, web};
use serde::{Deserialize, Serialize};

use super::acts::{ACT, Act, perform};
use crate::support::{Random, Site};

/// How many users there are. By the number's remainder of three they have no limit, or a limit beyond
/// which the oldest session ends, or a login is refused.
pub(super) const USERS: usize = 240;
const LIMIT: usize = 5;

/// How many do something at once.
const AT_ONCE: u64 = 4;
/// So that a site ends even if nobody kills it.
const MOST: usize = 2_000;
/// A lock whose holder was killed keeps nobody waiting for longer.
const BUDGET: Duration = Duration::from_millis(400);

/// What a site needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) kind: String,
    pub(super) urls: Vec<String>,
    /// The prefix of names, or the table.
    pub(super) name: String,
    pub(super) key: Vec<u8>,
    pub(super) journal: PathBuf,
    pub(super) seed: u64,
    pub(super) dies: Option<Death>,
}

/// The site dies in the middle of a login or a renewal.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Death {
    /// In the first one after so many acts.
    pub(super) after: usize,
    /// Once it has been polled so many times.
    pub(super) polls: usize,
    /// And what was sent has had so long to arrive, in microseconds.
    pub(super) pause: u64,
}

pub(super) fn user(number: usize) -> String {
    format!("user-{number}")
}

/// The sites of one store, by their limits.
pub(super) async fn sites<S>(store: S, key: &Key, clock: Arc<dyn Clock>) -> [Site; 3]
where
    S: SessionStore + SessionIndex + Clone + 'static,
{
    let limits = [None, Some(OverLimit::EvictOldest), Some(OverLimit::Refuse)];
    let [none, evicts, refuses] =
        limits.map(|over| site(store.clone(), key.clone(), Arc::clone(&clock), over));
    [none.await, evicts.await, refuses.await]
}

async fn site<S>(store: S, key: Key, clock: Arc<dyn Clock>, over: Option<OverLimit>) -> Site
where
    S: SessionStore + SessionIndex + Clone + 'static,
{
    let mut builder = SessionMiddleware::builder(store, key)
        .clock(clock)
        .commit_budget(BUDGET);
    if let Some(over) = over {
        builder = builder.max_sessions(LIMIT, over);
    }
    let middleware = builder.build();
    let sessions = web::Data::new(middleware.manager());
    let app = App::new()
        .app_data(sessions)
        .wrap(middleware)
        .default_service(web::to(perform));
    Site::of(test::init_service(app).await)
}

/// A request with a cookie, if there is one.
pub(super) fn request(act: &Act, cookie: Option<&str>) -> TestRequest {
    let request = TestRequest::get().insert_header((ACT, act.to_json()));
    match cookie {
        Some(value) => request.insert_header((COOKIE, format!("id={value}"))),
        None => request,
    }
}

struct Crowd {
    sites: [Site; 3],
    dies: Cell<Option<Death>>,
    acts: Cell<usize>,
    /// Whose cookies there are.
    known: RefCell<Vec<(usize, String)>>,
    journal: RefCell<File>,
    seed: u64,
}

/// Serves until it is killed, or has done enough.
pub(super) async fn serve<S>(store: S, order: Order)
where
    S: SessionStore + SessionIndex + Clone + 'static,
{
    let known = super::journal::cookies(&order.journal, 400);
    let mut journal = OpenOptions::new();
    let journal = journal.append(true).create(true).open(&order.journal);
    let crowd = Rc::new(Crowd {
        sites: sites(store, &Key::from(&order.key), Arc::new(SystemClock)).await,
        dies: Cell::new(order.dies),
        acts: Cell::new(0),
        known: RefCell::new(known),
        journal: RefCell::new(journal.unwrap()),
        seed: order.seed,
    });
    let mut random = Random::new(order.seed);
    let users = (0..AT_ONCE).map(|_| {
        let (crowd, random) = (Rc::clone(&crowd), random.split());
        rt::spawn(async move { crowd.go_on(random).await })
    });
    for user in users.collect::<Vec<_>>() {
        user.await.unwrap();
    }
}

impl Crowd {
    async fn go_on(&self, mut random: Random) {
        while self.acts.get() < MOST {
            self.acts.set(self.acts.get() + 1);
            self.act(&mut random).await;
        }
    }

    async fn act(&self, random: &mut Random) {
        let act = Act::draw(random, || format!("{:x}-{}", self.seed, self.acts.get()));
        let (user, cookie) = self.who(&act, random);
        let act = act.of(user);
        let asked = self.sites[user % 3].answer(request(&act, cookie.as_deref()));
        let death = self
            .dies
            .get()
            .filter(|death| self.acts.get() > death.after);
        let answer = match death.filter(|_| act.renews()) {
            None => asked.await,
            Some(death) => {
                self.dies.set(None);
                let answered = self.dies_in(asked, death, &act).await;
                // It was done before: another one is tried.
                self.dies.set(Some(death));
                answered
            }
        };
        if answer.status.is_server_error() {
            self.note(&format!("failed\t{}\t{act:?}", answer.status.as_u16()));
        }
        let set = answer.cookie().map(|cookie| cookie.value().to_owned());
        if let Some(value) = set.filter(|value| !value.is_empty()) {
            let what = if act.makes() { "made" } else { "kept" };
            self.note(&format!("{what}\t{user}\t{value}"));
            self.known.borrow_mut().push((user, value));
        }
    }

    /// Whose session it is, and the cookie of one. It may have ended.
    fn who(&self, act: &Act, random: &mut Random) -> (usize, Option<String>) {
        let known = self.known.borrow();
        let anybody = random.index(USERS);
        if known.is_empty() || (act.makes() && !random.one_in(4)) {
            return (anybody, None);
        }
        // The last ones are the likeliest to be alive.
        let back = random.index(known.len().min(100));
        let (user, cookie) = known[known.len() - 1 - back].clone();
        // Another one of the same limit logs in on somebody's device.
        let other = (anybody - anybody % 3 + user % 3) % USERS;
        let is_other = act.makes() && random.one_in(2);
        (if is_other { other } else { user }, Some(cookie))
    }

    /// Ends the process without a word, unless the answer comes before.
    async fn dies_in<F: Future>(&self, asked: F, death: Death, act: &Act) -> F::Output {
        let mut asked = pin!(asked);
        let mut left = death.polls;
        let answered = poll_fn(|cx| {
            let polled = asked.as_mut().poll(cx).map(Some);
            left = left.saturating_sub(1);
            match polled {
                Poll::Pending if left == 0 => Poll::Ready(None),
                polled => polled,
            }
        });
        if let Some(answer) = answered.await {
            return answer;
        }
        rt::time::sleep(Duration::from_micros(death.pause)).await;
        self.note(&format!("died\t{}\t{act:?}", death.polls));
        process::abort();
    }

    fn note(&self, line: &str) {
        let line = format!("{line}\n");
        self.journal
            .borrow_mut()
            .write_all(line.as_bytes())
            .unwrap();
    }
}
