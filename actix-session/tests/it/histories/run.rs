//! Carries a plan out.

use std::{
    rc::Rc,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use actix_session::testing::ManualClock;
use actix_web::{
    HttpMessage as _, HttpResponse,
    cookie::{Cookie, Key},
    http::header::{COOKIE, SET_COOKIE},
    rt,
    test::TestRequest,
};

use super::{
    history::{CookieSent, Event, History, Order},
    places::Place,
    script::{Actor, Op, Plan, Step},
    site::{Site, Task},
};
use crate::support::opened;

/// What all threads of a round share.
pub(crate) struct Round {
    pub(crate) plan: Plan,
    pub(crate) key: Key,
    pub(crate) clock: ManualClock,
    pub(crate) order: Order,
    /// The cookie values of the browsers.
    jars: Vec<Mutex<Option<String>>>,
    events: Mutex<Vec<Event>>,
}

impl Round {
    fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            key: Key::from(&[9; 64]),
            clock: ManualClock::new(),
            order: Order::default(),
            jars: (0..plan.jars).map(|_| Mutex::default()).collect(),
            events: Mutex::default(),
        }
    }

    fn cookie(&self, jar: usize) -> Option<String> {
        self.jars[jar].lock().unwrap().clone()
    }

    fn keep_cookie(&self, jar: usize, value: Option<String>) {
        *self.jars[jar].lock().unwrap() = value;
    }

    /// The events in the order of their starts, by the names that the store has for session keys.
    fn events(&self, place: &dyn Place) -> Vec<Event> {
        let mut events = std::mem::take(&mut *self.events.lock().unwrap());
        events.sort_by_key(|event| event.start);
        for event in &mut events {
            event.sent = event.sent.take().map(|key| place.name_of(&key));
            if let CookieSent::Set(key) = &mut event.cookie {
                *key = place.name_of(key);
            }
        }
        events
    }

    /// Puts the cookie of a response into a jar.
    fn absorb(&self, jar: usize, response: &HttpResponse) -> CookieSent {
        let mut fields = response.headers().get_all(SET_COOKIE);
        let field = fields.next();
        assert!(fields.next().is_none(), "two cookies in one response");
        let Some(field) = field else {
            return CookieSent::None;
        };
        let set = Cookie::parse(field.to_str().unwrap()).unwrap();
        if set.max_age().is_some_and(|age| age.is_zero()) {
            self.keep_cookie(jar, None);
            return CookieSent::Removed;
        }
        self.keep_cookie(jar, Some(set.value().to_owned()));
        CookieSent::Set(key_in(&self.key, set.value()))
    }
}

/// Runs all clients of a plan, and collects what there is to know.
pub(crate) fn round(plan: &Plan, place: &Arc<dyn Place>) -> History {
    let round = Arc::new(Round::new(plan));
    place.lose(0);
    rt::System::new().block_on(begin(&round, &**place));
    place.lose(plan.losses);
    let threads: Vec<_> = (0..plan.threads)
        .map(|index| {
            let (round, place) = (Arc::clone(&round), Arc::clone(place));
            thread::spawn(move || rt::System::new().block_on(clients(round, place, index)))
        })
        .collect();
    let joined: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
    place.lose(0);
    for joined in joined {
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    History {
        events: round.events(&**place),
        left: rt::System::new().block_on(place.dump()),
    }
}

/// Makes the session that all clients have.
async fn begin(round: &Arc<Round>, place: &dyn Place) {
    let site = place.site(round).await;
    let set = |name: &str| Op::Set(name.to_owned(), format!("first {name}"));
    let step = Step {
        ops: ["anchor", "shared0", "own0a"].map(set).to_vec(),
        ..Step::default()
    };
    request(round, &site, "the first one", 0, &step).await;
    let cookie = round.cookie(0);
    assert!(cookie.is_some(), "a session was made");
    for jar in 0..round.jars.len() {
        round.keep_cookie(jar, cookie.clone());
    }
}

/// The clients of one thread, all at once.
async fn clients(round: Arc<Round>, place: Arc<dyn Place>, thread: usize) {
    let site = place.site(&round).await;
    let mine = |(index, _): &(usize, &Actor)| index % round.plan.threads == thread;
    let actors = round.plan.actors.iter().enumerate().filter(mine);
    let running: Vec<_> = actors
        .map(|(index, actor)| {
            let (round, mut site, actor) = (Arc::clone(&round), site.clone(), actor.clone());
            rt::spawn(async move {
                for (number, step) in actor.steps.iter().enumerate() {
                    site.pause.wait(step.pauses[0]).await;
                    if step.later {
                        round.clock.advance(Duration::from_secs(11));
                    }
                    let who = format!("{index}.{number}");
                    request(&round, &site, &who, actor.jar, step).await;
                }
            })
        })
        .collect();
    for client in running {
        client.await.unwrap();
    }
}

async fn request(round: &Arc<Round>, site: &Site, who: &str, jar: usize, step: &Step) {
    let seen = Rc::default();
    let task = Task {
        step: step.clone(),
        pause: site.pause.clone(),
        seen: Rc::clone(&seen),
        round: Arc::clone(round),
    };
    let start = round.order.next();
    let cookie = round.cookie(jar);
    let mut request = TestRequest::post();
    if let Some(cookie) = &cookie {
        request = request.insert_header((COOKIE, format!("id={cookie}")));
    }
    let request = request.to_request();
    request.extensions_mut().insert(task);
    let response = match (site.call)(request).await {
        Ok(response) => response.into_parts().1,
        Err(error) => error.error_response(),
    };
    let cookie_sent = round.absorb(jar, &response);
    let event = Event {
        who: who.to_owned(),
        ops: step.ops.clone(),
        sent: cookie.map(|value| key_in(&round.key, &value)),
        start,
        end: round.order.next(),
        seen: seen.borrow_mut().take(),
        status: response.status().as_u16(),
        cookie: cookie_sent,
    };
    round.events.lock().unwrap().push(event);
}

/// The session key in a cookie's value.
fn key_in(key: &Key, value: &str) -> String {
    opened(key, "id", value).expect("a cookie of ours")
}
