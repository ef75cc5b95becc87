//! One user: asks, keeps what was answered, and compares.

use std::{collections::VecDeque, rc::Rc, time::Duration};

use actix_web::rt;
use futures_util::future::join_all;

use super::{
    Shared,
    acts::{Act, Wish},
    client::{Client, NewCookie, Outcome},
    model::Model,
};
use crate::support::Random;

/// How many of the last answers a failure shows.
const SHOWN: usize = 24;
const ENTRIES: usize = 5;

pub(super) struct User {
    number: u64,
    pub(super) shared: Rc<Shared>,
    pub(super) client: Client,
    random: Random,
    pub(super) cookie: Option<String>,
    pub(super) session: Option<Model>,
    begun: u32,
    values: u32,
    /// Cookies of sessions that were ended or renewed, which was acknowledged.
    pub(super) dead: Vec<Cookie>,
    /// Cookies of sessions whose end was asked for by a client that hung up.
    pub(super) doubtful: Vec<Cookie>,
    /// A client hung up, and nobody has looked since at what came of it.
    pub(super) is_in_doubt: bool,
    /// Waits for every answer.
    pub(super) is_patient: bool,
    /// How often counting had an effect, as the session said last.
    pub(super) found: Option<u32>,
    last: VecDeque<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Cookie {
    value: String,
    pub(super) session: String,
    act: Act,
}

impl User {
    pub(super) fn new(number: u64, shared: Rc<Shared>, client: Client) -> Self {
        Self {
            number,
            random: Random::new(shared.seed.wrapping_add(number)),
            shared,
            client,
            cookie: None,
            session: None,
            begun: 0,
            values: 0,
            dead: Vec::new(),
            doubtful: Vec::new(),
            is_in_doubt: false,
            is_patient: false,
            found: None,
            last: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self) -> Self {
        while !self.shared.stop.get() {
            self.turn().await;
            let pause = self.random.index(10) as u64;
            rt::time::sleep(Duration::from_millis(pause)).await;
        }
        self
    }

    async fn turn(&mut self) {
        if self.is_in_doubt && self.random.one_in(3) {
            return self.settle().await;
        }
        let Some(session) = &self.session else {
            return self.begin().await;
        };
        let (is_somebody, may_be_gone) = (session.is_somebody(), session.may_be_gone);
        match self.random.weighted(&[10, 6, 2, 2, 1, 1, 1, 1, 4, 2]) {
            _ if may_be_gone && self.random.one_in(8) => self.leave(),
            0 => self.ask(Act::Count).await,
            1 => {
                let act = self.change(0);
                self.ask(act).await;
            }
            2 => self.ask(Act::Look).await,
            3 => self.ask(Act::Renew).await,
            4 if !is_somebody => {
                let somebody = self.somebody();
                self.ask(Act::Login(somebody)).await;
            }
            4 | 5 => self.ask(Act::Purge).await,
            6 => self.ask(Act::PurgeNow).await,
            7 => self.ask(Act::Clear).await,
            8 => self.ask_at_once().await,
            _ => self.haunt().await,
        }
    }

    fn somebody(&self) -> String {
        format!("user-{}", self.number)
    }

    /// Sets or removes one of the entries that stand at this place or later.
    fn change(&mut self, first: usize) -> Act {
        let entry = format!("e{}", first + self.random.index(ENTRIES - first));
        if self.random.one_in(4) {
            return Act::Remove(entry);
        }
        self.values += 1;
        Act::Set(entry, self.values)
    }

    fn wish(&mut self, name: &str, act: Act) -> Wish {
        let pauses = self.random.one_in(8);
        let pause = if pauses { self.random.index(3_000) } else { 0 };
        Wish {
            name: name.to_owned(),
            act,
            pause: pause as u64,
        }
    }

    async fn begin(&mut self) {
        self.begun += 1;
        let name = format!("s{}.{}", self.number, self.begun);
        let somebody = self.random.one_in(3).then(|| self.somebody());
        let wish = self.wish(&name, Act::Begin(somebody.clone()));
        let outcome = self.client.ask(None, &wish, Some(&mut self.random)).await;
        self.remember(&wish.act, &outcome);
        match outcome {
            Outcome::Answered(_, NewCookie::Value(value)) => {
                self.cookie = Some(value);
                self.session = Some(Model::new(name, somebody));
            }
            Outcome::Answered(..) => self.tell("a session was begun without a cookie"),
            Outcome::Failed(_) | Outcome::HungUp => {}
        }
    }

    /// One request.
    pub(super) async fn ask(&mut self, act: Act) {
        self.ask_all(vec![act]).await;
    }

    /// Several at once, of which one may end or renew the session.
    async fn ask_at_once(&mut self) {
        self.values += 1;
        let first = Act::Set("e0".into(), self.values);
        let mut acts = vec![Act::Count, first, self.change(1)];
        match self.random.index(6) {
            0 => acts.push(Act::Purge),
            1 => acts.push(Act::PurgeNow),
            2 | 3 => acts.push(Act::Renew),
            _ => acts.push(Act::Count),
        }
        let place = self.random.index(acts.len());
        acts.rotate_left(place);
        self.ask_all(acts).await;
    }

    async fn ask_all(&mut self, acts: Vec<Act>) {
        let Some(before) = self.session.clone() else {
            return;
        };
        let mut after = before.clone();
        acts.iter().for_each(|act| after.begins(act));
        self.session = Some(after.clone());
        let wishes: Vec<Wish> = acts
            .into_iter()
            .map(|act| self.wish(&before.name, act))
            .collect();
        let was_stale = self.shared.stale.get();
        let outcomes = self.send(&wishes).await;
        let is_stale = was_stale || self.shared.stale.get();
        let races = wishes.len() > 1 && wishes.iter().any(|wish| wish.act.leaves());
        let mut is_over = false;
        for (wish, outcome) in wishes.iter().zip(&outcomes) {
            self.remember(&wish.act, outcome);
            let finding = self.judge((&before, &after), &wish.act, outcome, is_stale);
            is_over |= self.take_in(finding, before.may_be_gone, races);
        }
        let same = self.session.as_ref().is_some_and(|s| s.name == before.name);
        if is_over && same {
            self.leave();
        }
    }

    async fn send(&mut self, wishes: &[Wish]) -> Vec<Outcome> {
        let mut chances: Vec<Random> = wishes.iter().map(|_| self.random.split()).collect();
        let (client, cookie) = (&self.client, self.cookie.as_deref());
        let is_patient = self.is_patient;
        let asking = wishes.iter().zip(&mut chances).map(|(wish, random)| {
            let chance = Some(random).filter(|_| !is_patient);
            client.ask(cookie, wish, chance)
        });
        join_all(asking).await
    }

    fn old_cookie(&self, act: &Act) -> Option<Cookie> {
        Some(Cookie {
            value: self.cookie.clone()?,
            session: self.session.as_ref()?.name.clone(),
            act: act.clone(),
        })
    }

    pub(super) fn buried(&mut self, act: &Act) {
        self.dead.extend(self.old_cookie(act));
    }

    pub(super) fn doubt(&mut self, act: &Act) {
        if act.ends() {
            self.doubtful.extend(self.old_cookie(act));
        }
    }

    /// Starts again.
    pub(super) fn leave(&mut self) {
        (self.cookie, self.session) = (None, None);
    }

    /// Tries an old cookie.
    async fn haunt(&mut self) {
        if self.dead.is_empty() {
            return;
        }
        let cookie = self.dead[self.random.index(self.dead.len())].clone();
        // The key of a cleared session may be written to.
        let writes = cookie.act != Act::Clear && self.random.one_in(4);
        let act = if writes { Act::Haunt } else { Act::Look };
        let was_stale = self.shared.stale.get();
        if let Some(false) = self.is_nobody(&cookie, act).await {
            if was_stale || self.shared.stale.get() {
                self.shared.read_stale();
            } else {
                self.came_back(&cookie);
            }
        }
    }

    /// Whether a cookie opens nothing, if there was an answer.
    pub(super) async fn is_nobody(&mut self, cookie: &Cookie, act: Act) -> Option<bool> {
        let wish = self.wish("nobody", act);
        let value = Some(cookie.value.as_str());
        let chance = Some(&mut self.random).filter(|_| !self.is_patient);
        let outcome = self.client.ask(value, &wish, chance).await;
        self.remember(&wish.act, &outcome);
        match outcome {
            Outcome::Answered(seen, _) => Some(seen.is_nobody()),
            Outcome::Failed(_) | Outcome::HungUp => None,
        }
    }

    /// What was cleared was changed; what was ended or renewed was ended.
    pub(super) fn came_back(&self, cookie: &Cookie) {
        let story = self.story(&format!("{cookie:?} opens something"));
        let list = match cookie.act {
            Act::Clear => &self.shared.lost,
            _ => &self.shared.resurrected,
        };
        list.borrow_mut().push(story);
    }

    /// Counts an answer, and keeps it for a failure's story.
    fn remember(&mut self, act: &Act, outcome: &Outcome) {
        self.shared.count(outcome);
        let what = format!("{act:?}: {outcome:?}");
        // Whoever looks again and again is not to hide what was before.
        if self.last.back().is_some_and(|last| last.ends_with(&what)) {
            return;
        }
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        let at = self.shared.started.elapsed();
        self.last.push_back(format!("{at:?} {what}"));
    }

    /// Reports something that was acknowledged and does not hold.
    pub(super) fn tell(&self, what: &str) {
        self.shared.lost.borrow_mut().push(self.story(what));
    }

    fn story(&self, what: &str) -> String {
        let (at, seed) = (self.shared.started.elapsed(), self.shared.seed);
        let last: Vec<&str> = self.last.iter().map(String::as_str).collect();
        format!(
            "user {} after {at:?}, seed {seed}: {what}\nacknowledged: {:?}\nbefore that:\n  {}\n",
            self.number,
            self.session,
            last.join("\n  ")
        )
    }
}
