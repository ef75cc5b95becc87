//! Carries a plan out.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use actix_session::{
    Session, SessionMiddleware,
    config::{BrowserSession, PersistentSession, SessionLifecycle, TtlExtensionPolicy},
    storage::{MemorySessionStore, RedisSessionStore, SessionStore},
    testing::ManualClock,
};
use actix_web::{
    App, HttpMessage as _, HttpRequest, HttpResponse,
    cookie::{Cookie, CookieJar, Key},
    dev::{Service, ServiceResponse},
    http::header::{COOKIE, SET_COOKIE},
    rt,
    test::{TestRequest, init_service},
    web,
};
use redis::aio::MultiplexedConnection;

use super::{
    history::{CookieSent, Entries, Event, History, Left, Order, Seen},
    proxy::Proxy,
    script::{Actor, Op, Plan, Step},
};

pub(crate) type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Where sessions are kept.
pub(crate) trait Place: Send + Sync {
    /// An application in this thread.
    fn site<'a>(&'a self, round: &'a Round) -> Local<'a, Site>;

    /// From now on what can get lost may get lost, or not any more.
    fn lose(&self, losses: u32);

    fn dump(&self) -> Local<'_, Left>;

    /// What the store calls the record of a session key.
    fn name_of(&self, key: &str) -> String {
        key.to_owned()
    }
}

pub(crate) struct Memory(MemorySessionStore);

pub(crate) struct Redis {
    /// The server itself.
    url: String,
    /// The way that the store takes.
    store_url: String,
    proxy: Option<Proxy>,
    prefix: String,
}

/// What all threads of a round share.
pub(crate) struct Round {
    plan: Plan,
    key: Key,
    clock: ManualClock,
    order: Order,
    /// The cookie values of the browsers.
    jars: Vec<Mutex<Option<String>>>,
    events: Mutex<Vec<Event>>,
}

impl Round {
    pub(crate) fn clock(&self) -> ManualClock {
        self.clock.clone()
    }
}

type Answered = Result<ServiceResponse, actix_web::Error>;
type Call = Rc<dyn Fn(actix_http::Request) -> Local<'static, Answered>>;

/// An application, and how its handlers pause.
#[derive(Clone)]
pub(crate) struct Site {
    call: Call,
    pause: Pause,
}

/// A pause lets others go on, for no certain time.
#[derive(Clone)]
pub(crate) enum Pause {
    Yields,
    /// For stores whose answers take a while: as long as about one of them.
    Naps,
    /// Round trips to Redis, past the proxy: in the time of one, another request can do a step.
    Trips(MultiplexedConnection),
}

impl Pause {
    async fn wait(&mut self, times: u32) {
        for _ in 0..times {
            match self {
                Self::Yields => tokio::task::yield_now().await,
                Self::Naps => rt::time::sleep(Duration::from_millis(1)).await,
                Self::Trips(connection) => {
                    let ping = redis::cmd("PING");
                    ping.query_async::<()>(connection).await.unwrap();
                }
            }
        }
    }
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self(MemorySessionStore::new())
    }
}

impl Place for Memory {
    fn site<'a>(&'a self, round: &'a Round) -> Local<'a, Site> {
        Box::pin(site(self.0.clone(), round, Pause::Yields))
    }

    fn lose(&self, _: u32) {}

    fn dump(&self) -> Local<'_, Left> {
        let mut left = Left::default();
        for (name, text) in self.0.dump() {
            left.add(&name, &text, str::to_owned);
        }
        Box::pin(std::future::ready(left))
    }
}

impl Redis {
    pub(crate) fn new(url: &str, seed: u64) -> Self {
        Self {
            url: url.to_owned(),
            store_url: url.to_owned(),
            proxy: None,
            prefix: format!("round-{seed}:"),
        }
    }

    pub(crate) fn through(url: &str, proxy: &Proxy, plan: &Plan) -> Self {
        Self {
            store_url: proxy.url(),
            proxy: Some(proxy.handle()),
            ..Self::new(url, plan.seed)
        }
    }

    async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    async fn store(&self) -> RedisSessionStore {
        for _ in 0..100 {
            let prefix = self.prefix.clone();
            let builder = RedisSessionStore::builder(&self.store_url)
                .cache_keygen(move |key| format!("{prefix}{key}"))
                // Nothing here is slow, except on a busy machine.
                .command_timeout(Duration::from_secs(20));
            match builder.build().await {
                Ok(store) => return store,
                Err(error) => assert!(self.proxy.is_some(), "{error}"),
            }
        }
        panic!("the proxy lets nobody through");
    }
}

impl Place for Redis {
    fn site<'a>(&'a self, round: &'a Round) -> Local<'a, Site> {
        Box::pin(async move {
            let pause = Pause::Trips(self.connect().await);
            site(self.store().await, round, pause).await
        })
    }

    fn lose(&self, losses: u32) {
        if let Some(proxy) = &self.proxy {
            proxy.lose(losses);
        }
    }

    fn dump(&self) -> Local<'_, Left> {
        Box::pin(async move {
            let mut connection = self.connect().await;
            let mut left = Left::default();
            let plain = |name: &str| name.replace(&self.prefix, "");
            let keys = redis::cmd("KEYS")
                .arg(format!("*{}*", self.prefix))
                .to_owned();
            let names: Vec<String> = keys.query_async(&mut connection).await.unwrap();
            for name in names {
                let get = redis::cmd("GET").arg(&name).to_owned();
                let text: String = get.query_async(&mut connection).await.unwrap();
                let key = plain(&name).replace(":moved", "").replace(['{', '}'], "");
                left.add(&key, &text, plain);
            }
            left
        })
    }
}

pub(crate) async fn site<S: SessionStore + 'static>(store: S, round: &Round, pause: Pause) -> Site {
    let every = TtlExtensionPolicy::OnEveryRequest;
    let lifecycle: SessionLifecycle = if round.plan.persistent {
        PersistentSession::default()
            .session_ttl_extension_policy(every)
            .into()
    } else {
        BrowserSession::default().into()
    };
    let middleware = SessionMiddleware::builder(store, round.key.clone())
        .session_lifecycle(lifecycle)
        .wire_format(round.plan.format)
        .clock(round.clock.clone())
        .commit_budget(Duration::from_secs(20))
        .build();
    let app = App::new().wrap(middleware).default_service(web::to(handle));
    let service = Rc::new(init_service(app).await);
    let call: Call = Rc::new(move |request| {
        let service = Rc::clone(&service);
        Box::pin(async move { service.call(request).await })
    });
    Site { call, pause }
}

/// What a request's handler is to do; it rides on the request.
#[derive(Clone)]
struct Task {
    step: Step,
    pause: Pause,
    seen: Rc<RefCell<Option<Seen>>>,
    round: Arc<Round>,
}

async fn handle(request: HttpRequest, session: Session) -> actix_web::Result<HttpResponse> {
    let task = request.extensions_mut().remove::<Task>();
    let mut task = task.expect("every request brings its task");
    drop(request);
    let loaded = task.round.order.next();
    let mut seen = Seen {
        loaded,
        entries: owned(&session.entries()),
        principal: session.principal(),
        left: 0,
    };
    *task.seen.borrow_mut() = Some(seen.clone());
    task.pause.wait(task.step.pauses[1]).await;
    for op in &task.step.ops {
        apply(&session, op)?;
    }
    task.pause.wait(task.step.pauses[2]).await;
    seen.left = task.round.order.next();
    *task.seen.borrow_mut() = Some(seen);
    Ok(HttpResponse::Ok().finish())
}

fn owned(entries: &HashMap<String, String>) -> Entries {
    let pairs = entries.iter();
    pairs
        .map(|(name, json)| (name.clone(), json.clone()))
        .collect()
}

fn apply(session: &Session, op: &Op) -> actix_web::Result<()> {
    match op {
        Op::Set(name, value) => session.insert(name, value)?,
        Op::Remove(name) => drop(session.remove(name)),
        Op::Modify(token) => {
            let token = token.clone();
            session.modify("log", move |log: Option<Vec<String>>| {
                let mut log = log.unwrap_or_default();
                log.push(token.clone());
                Some(log)
            })?;
        }
        Op::Clear => session.clear(),
        Op::Renew => session.renew(),
        Op::Login => session.login("ferris").expect("a principal of some length"),
        Op::Purge => session.purge(),
    }
    Ok(())
}

/// Runs all clients of a plan, and collects what there is to know.
pub(crate) fn round(plan: &Plan, place: &Arc<dyn Place>) -> History {
    let round = Arc::new(Round {
        plan: plan.clone(),
        key: Key::from(&[9; 64]),
        clock: ManualClock::new(),
        order: Order::default(),
        jars: (0..plan.jars).map(|_| Mutex::default()).collect(),
        events: Mutex::default(),
    });
    place.lose(0);
    let begin = async || {
        let site = place.site(&round).await;
        let set = |name: &str| Op::Set(name.to_owned(), format!("first {name}"));
        let step = Step {
            ops: ["anchor", "shared0", "own0a"].map(set).to_vec(),
            ..Step::default()
        };
        request(&round, &site, "the first one", 0, &step).await;
    };
    rt::System::new().block_on(begin());
    let cookie = round.jars[0].lock().unwrap().clone();
    assert!(cookie.is_some(), "a session was made");
    for jar in &round.jars {
        jar.lock().unwrap().clone_from(&cookie);
    }
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
    let left = rt::System::new().block_on(place.dump());
    let mut events = std::mem::take(&mut *round.events.lock().unwrap());
    events.sort_by_key(|event| event.start);
    for event in &mut events {
        event.sent = event.sent.take().map(|key| place.name_of(&key));
        if let CookieSent::Set(key) = &mut event.cookie {
            *key = place.name_of(key);
        }
    }
    History { events, left }
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
    let cookie = round.jars[jar].lock().unwrap().clone();
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
    let mut fields = response.headers().get_all(SET_COOKIE);
    let field = fields
        .next()
        .map(|field| field.to_str().unwrap().to_owned());
    assert!(fields.next().is_none(), "two cookies in one response");
    let cookie_sent = field.map_or(CookieSent::None, |field| {
        let set = Cookie::parse(field).unwrap();
        let removed = set.max_age().is_some_and(|age| age.is_zero());
        let value = (!removed).then(|| set.value().to_owned());
        let sent = value.as_deref().map_or(CookieSent::Removed, |value| {
            CookieSent::Set(opened(&round.key, value))
        });
        *round.jars[jar].lock().unwrap() = value;
        sent
    });
    let event = Event {
        who: who.to_owned(),
        ops: step.ops.clone(),
        sent: cookie.map(|value| opened(&round.key, &value)),
        start,
        end: round.order.next(),
        seen: seen.borrow_mut().take(),
        status: response.status().as_u16(),
        cookie: cookie_sent,
    };
    round.events.lock().unwrap().push(event);
}

/// The session key in a cookie's value.
fn opened(key: &Key, value: &str) -> String {
    let mut jar = CookieJar::new();
    jar.add_original(Cookie::new("id", value.to_owned()));
    let opened = jar.private(key).get("id").expect("a cookie of ours");
    opened.value().to_owned()
}
