//! Up to three requests of some browsers at once, through the real middleware, compared with the model.
//!
//! `FUZZ_TRACE=1` prints the steps.
#![no_main]

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::{Duration, UNIX_EPOCH},
};

use actix_session::{
    Login, Session, SessionExt as _, SessionMiddleware,
    config::{
        BrowserSession, CookieContentSecurity, PersistentSession, SessionLifecycle,
        TtlExtensionPolicy,
    },
    fuzzing::{Seals, Told, WireFormat},
    storage::{MemorySessionStore, SessionKey, SessionStore as _},
    testing::ManualClock,
};
use actix_session_fuzz::{
    cursor::Cursor,
    model::{self, Cookie, Key, Model, Op, Policy, Request},
    records::{RESERVED, metadata_in},
};
use actix_web::{
    Error, HttpMessage as _, HttpResponse,
    cookie::time,
    dev::{Service as _, ServiceRequest, ServiceResponse, Transform as _, fn_service},
    error::ErrorUnauthorized,
    http::header::{COOKIE, SET_COOKIE},
    rt::{System, SystemRunner},
    test::TestRequest,
};
use futures_util::{
    FutureExt as _,
    future::{LocalBoxFuture, poll_immediate},
};
use tokio::sync::oneshot;

const START: i64 = 1_000_000_000_000;
const NAMES: [&str; 5] = ["a", "b", "c", "n", "__actix"];
const WHO: [&str; 3] = ["alice", "bob", "carol"];
const SPANS: [i64; 10] = [
    1, 1_000, 4_999, 5_001, 9_999, 10_000, 20_000, 59_999, 60_000, 3_600_000,
];

thread_local! {
    static SYSTEM: SystemRunner = System::new();
}

type Answer = Result<ServiceResponse, Error>;
type Call = LocalBoxFuture<'static, Answer>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Response,
    Error,
    Dropped,
}

/// Hands the session out, and waits until it is told how to answer.
struct Probe(Rc<RefCell<Option<Session>>>, oneshot::Receiver<Exit>);

struct Flight {
    request: Request,
    session: Session,
    call: Pin<Box<Call>>,
    go: oneshot::Sender<Exit>,
}

struct World {
    model: Model,
    clock: ManualClock,
    store: MemorySessionStore,
    service: Rc<dyn Fn(ServiceRequest) -> Call>,
    seals: Seals,
    name: &'static str,
    flights: Vec<Flight>,
    /// Each key, as its cookie and as itself.
    keys: Vec<(String, String)>,
    /// Keys that have opened nothing once.
    dead: HashSet<Key>,
    /// The id of each session.
    ids: BTreeMap<u32, u128>,
    format: WireFormat,
    /// Every record says when its session began.
    dated: bool,
}

fn trace(step: impl FnOnce() -> String) {
    if std::env::var_os("FUZZ_TRACE").is_some() {
        eprintln!("{}", step());
    }
}

async fn handle(req: ServiceRequest) -> Answer {
    let probe = req.extensions_mut().remove::<Probe>();
    let Probe(seen, end) = probe.expect("each request has one");
    *seen.borrow_mut() = Some(req.get_session());
    match end.await {
        Ok(Exit::Response) => Ok(req.into_response(HttpResponse::Ok().finish())),
        _ => Err(ErrorUnauthorized("an inner middleware")),
    }
}

fn lifecycle(policy: Policy) -> SessionLifecycle {
    let ttl = time::Duration::milliseconds(policy.ttl);
    let extension = match policy.extend {
        None => TtlExtensionPolicy::OnStateChanges,
        Some(0) => TtlExtensionPolicy::OnEveryRequest,
        Some(worth) => TtlExtensionPolicy::AtMostEvery(time::Duration::milliseconds(worth)),
    };
    if policy.persistent {
        let session = PersistentSession::default().session_ttl(ttl);
        return session.session_ttl_extension_policy(extension).into();
    }
    let session = BrowserSession::default().state_ttl(ttl);
    session.state_ttl_extension_policy(extension).into()
}

impl World {
    async fn new(cursor: &mut Cursor<'_>) -> Self {
        let policy = Policy {
            ttl: cursor.one_of(&[86_400_000, 20_000, 70_000]),
            absolute: cursor.one_of(&[None, Some(50_000), Some(4_000_000)]),
            extend: cursor.one_of(&[None, Some(0), Some(7_000)]),
            persistent: cursor.flag(),
            strict: cursor.below(4) == 3,
        };
        let format = cursor.one_of(&[WireFormat::V1, WireFormat::V0_11]);
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_millis(START.unsigned_abs()));
        let store = MemorySessionStore::builder().clock(clock.clone()).build();
        let key = actix_web::cookie::Key::from(&[5; 64]);
        let signed = CookieContentSecurity::Signed;
        let builder = SessionMiddleware::builder(store.clone(), key.clone())
            .session_lifecycle(lifecycle(policy))
            .cookie_content_security(signed)
            .wire_format(format)
            .mixed_fleet()
            .clock(clock.clone());
        let builder = match policy.absolute {
            Some(span) => builder.absolute_timeout(time::Duration::milliseconds(span)),
            None => builder,
        };
        let (builder, name) = match policy.strict {
            true => (builder.strict(), "__Host-id"),
            false => (builder, "id"),
        };
        let middleware = builder.try_build().expect("it can do what it says");
        let service = middleware.new_transform(fn_service(handle)).await;
        let service = Rc::new(service.expect("it cannot fail"));
        Self {
            dated: format == WireFormat::V1 || policy.absolute.is_some(),
            model: Model::new(policy, START),
            clock,
            store,
            service: Rc::new(move |req| service.call(req).boxed_local()),
            seals: Seals::new(&key, &[], CookieContentSecurity::Signed, name, format),
            name,
            flights: Vec::new(),
            keys: Vec::new(),
            dead: HashSet::new(),
            ids: BTreeMap::new(),
            format,
        }
    }

    async fn step(&mut self, cursor: &mut Cursor<'_>) {
        match cursor.below(8) {
            0 if self.flights.len() < 3 => self.begin(cursor).await,
            0 | 1 => self.finish(cursor).await,
            2 => self.advance(cursor.one_of(&SPANS)),
            _ if self.flights.is_empty() => self.begin(cursor).await,
            _ => self.act(cursor).await,
        }
        self.compare().await;
    }

    fn advance(&mut self, span: i64) {
        trace(|| format!("advance {span}"));
        self.model.now += span;
        self.clock
            .advance(Duration::from_millis(span.unsigned_abs()));
    }

    async fn begin(&mut self, cursor: &mut Cursor<'_>) {
        let choice = cursor.byte();
        let any = |cursor: &mut Cursor<'_>, keys: usize| cursor.below(keys);
        let cookies: Vec<Key> = match (choice % 8, self.keys.len()) {
            (_, 0) | (0, _) => Vec::new(),
            (1..=4, keys) => vec![keys - 1],
            (5 | 6, keys) => vec![any(cursor, keys)],
            (_, keys) => (0..usize::from(choice) / 8 % 8)
                .map(|_| any(cursor, keys))
                .collect(),
        };
        trace(|| format!("begin {cookies:?}"));
        let field: Vec<String> = cookies
            .iter()
            .map(|key| format!("{}={}", self.name, self.keys[*key].0))
            .collect();
        let mut request = TestRequest::default();
        if !field.is_empty() {
            request = request.insert_header((COOKIE, field.join("; ")));
        }
        let request = request.to_srv_request();
        let seen = Rc::default();
        let (go, end) = oneshot::channel();
        request
            .extensions_mut()
            .insert(Probe(Rc::clone(&seen), end));
        let mut call = Box::pin((self.service)(request));
        assert!(
            poll_immediate(&mut call).await.is_none(),
            "the handler waits"
        );
        let session = seen.take().expect("the handler runs");
        let request = self.model.load(&cookies);
        self.flights.push(Flight {
            request,
            session,
            call,
            go,
        });
        self.flights.last().expect("pushed a moment ago").compare();
    }

    async fn act(&mut self, cursor: &mut Cursor<'_>) {
        let index = cursor.below(self.flights.len());
        let flight = &mut self.flights[index];
        let (request, session) = (&mut flight.request, &flight.session);
        let (kind, number) = (cursor.below(16), cursor.below(NAMES.len()));
        let (name, entry) = (NAMES[number], u8::try_from(number).expect("they are few"));
        trace(|| format!("{index}: act {kind} on {name}"));
        match kind {
            0 | 1 => {
                let value = i64::from(cursor.byte() % 4);
                session.insert(name, value).expect("a number");
                request.insert(entry, value);
            }
            2 => {
                let before = request.value(entry).map(|value| value.to_string());
                assert_eq!(session.remove(name), before);
                request.remove(entry);
            }
            3 | 4 => modify(session, request, name, entry, Op::Add(1)),
            5 => modify(session, request, name, entry, Op::Double),
            6 => modify(session, request, name, entry, Op::Take),
            7 => {
                session.clear();
                self.model.clear(request);
            }
            8 => {
                session.renew();
                request.renew();
            }
            9 => {
                let who = cursor.below(WHO.len());
                trace(|| format!("   login {}", WHO[who]));
                session.login(WHO[who]).expect("a name");
                let login = model::Login {
                    who: u8::try_from(who).expect("they are few"),
                    idle: None,
                    absolute: None,
                    keep: false,
                };
                self.model.login(request, login);
            }
            10 => {
                let known = request.prove(self.model.now);
                assert_eq!(session.reauthenticated().is_ok(), known);
            }
            11 => {
                session.purge();
                request.purge();
            }
            12 => {
                let ttl = cursor.one_of(&SPANS);
                trace(|| format!("   ttl {ttl}"));
                session.set_ttl(time::Duration::milliseconds(ttl));
                request.set_ttl(ttl);
            }
            13 => {
                session.reset_ttl();
                request.reset_ttl();
            }
            14 => self.model.login(request, timed_login(session, cursor)),
            _ => {
                flight.purge_now().await;
                self.model.purge_now(&mut flight.request);
            }
        }
        flight.compare();
    }

    async fn finish(&mut self, cursor: &mut Cursor<'_>) {
        if self.flights.is_empty() {
            return;
        }
        let flight = self.flights.remove(cursor.below(self.flights.len()));
        let exit = match cursor.below(8) {
            0 => Exit::Error,
            1 => Exit::Dropped,
            _ => Exit::Response,
        };
        let keys = self.model.keys();
        let cookie = self.model.finish(&flight.request, exit == Exit::Response);
        trace(|| format!("finish {exit:?}: {cookie:?}"));
        let Flight { call, go, .. } = flight;
        if exit == Exit::Dropped {
            drop(call);
            // A task of its own does the rest.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            return;
        }
        assert!(go.send(exit).is_ok(), "the handler waits for this");
        match call.await {
            Ok(response) => self.answered(&response, &cookie, keys),
            Err(_) => assert_eq!(exit, Exit::Error),
        }
    }

    /// Compares the answer's cookie with the expected one, and learns a new key.
    fn answered(&mut self, response: &ServiceResponse, expected: &Cookie, keys: usize) {
        assert_eq!(response.status(), 200);
        let lines: Vec<&str> = response
            .headers()
            .get_all(SET_COOKIE)
            .map(|line| line.to_str().expect("it is ASCII"))
            .collect();
        let Cookie::Set(key, age) = expected else {
            let removed = |line: &&str| line.contains("; Max-Age=0;");
            assert_eq!(
                lines.len(),
                usize::from(*expected == Cookie::Remove),
                "{lines:?}"
            );
            assert!(lines.iter().all(removed), "{lines:?}");
            return;
        };
        let [line] = lines[..] else {
            panic!("expected one cookie: {lines:?}");
        };
        let mut parts = line.split("; ");
        let pair = parts.next().and_then(|pair| pair.split_once('='));
        let (name, sealed) = pair.expect("it begins with the pair");
        assert_eq!(name, self.name);
        let max_age = parts.find_map(|part| part.strip_prefix("Max-Age="));
        let seconds = age.map(|age| ((age + 500) / 1000).max(1).to_string());
        assert_eq!(max_age, seconds.as_deref());
        let plain = self.seals.open(sealed).expect("we have the key").value;
        if *key < keys {
            assert_eq!(self.keys[*key].1, plain, "the key stays");
        } else {
            assert!(
                self.keys.iter().all(|(_, known)| *known != plain),
                "a new key is new"
            );
            self.keys.push((sealed.to_owned(), plain));
        }
    }

    /// Compares everything stored with the model.
    async fn compare(&mut self) {
        assert_eq!(
            self.keys.len(),
            self.model.keys(),
            "every key went to a browser"
        );
        let mut living = HashSet::new();
        for key in 0..self.keys.len() {
            let text = self.keys[key].1.clone();
            let name = SessionKey::try_from(text).expect("a key of ours");
            let stored = self.store.load(&name).await.expect("memory does not fail");
            match (stored, self.model.live(key)) {
                (None, None) => {
                    self.dead.insert(key);
                }
                (Some(mut stored), Some(expected)) => {
                    assert!(
                        !self.dead.contains(&key),
                        "a key that opened nothing opens again"
                    );
                    let told = stored.remove(RESERVED).map(|json| told(&json));
                    let id = told.as_ref().map(|told| told.id);
                    assert!(
                        id.is_none_or(|id| living.insert(id)),
                        "two live records of one session"
                    );
                    let entries = expected.entries.iter();
                    let entries: HashMap<String, String> = entries
                        .map(|(name, value)| (NAMES[usize::from(*name)].into(), value.to_string()))
                        .collect();
                    assert_eq!(stored, entries);
                    match told {
                        Some(told) => self.compare_metadata(&told, &expected),
                        None => self.has_nothing_to_say(&expected),
                    }
                }
                (stored, expected) => panic!("key {key}: {stored:?} for {expected:?}"),
            }
        }
        for (name, _) in self.store.dump() {
            let known = self.keys.iter().any(|(_, known)| *known == name);
            assert!(known, "a record under a key that nobody has");
        }
    }

    /// Metadata that say no more than the defaults are no entry. For old servers there are none at
    /// all then: the session gets its id with the next thing to say.
    fn has_nothing_to_say(&mut self, expected: &actix_session_fuzz::model::Rec) {
        assert_eq!(
            (expected.auth, expected.cap, expected.ttl),
            (None, None, None)
        );
        if self.format == WireFormat::V0_11 {
            self.ids.remove(&expected.lineage);
        }
    }

    fn compare_metadata(&mut self, told: &Told, expected: &actix_session_fuzz::model::Rec) {
        let auth = told.auth.as_ref().map(|auth| (auth.who.as_str(), auth.at));
        let somebody = expected.auth.map(|(who, at)| (WHO[usize::from(who)], at));
        assert_eq!(auth, somebody);
        let logged_in = told.auth.as_ref().map(|auth| auth.login.unwrap_or(auth.at));
        assert_eq!(logged_in, expected.logged_in);
        assert!(told.created == expected.created || !self.dated);
        assert_eq!(told.absolute_end, expected.cap);
        assert_eq!(told.ttl, expected.ttl);
        assert_eq!(
            *self.ids.entry(expected.lineage).or_insert(told.id),
            told.id
        );
        let mut others = self.ids.iter().filter(|(of, _)| **of != expected.lineage);
        assert!(
            others.all(|(_, id)| *id != told.id),
            "an id is one person's"
        );
        let span = told.auth.as_ref().and_then(|auth| auth.span);
        assert_eq!(span, expected.span);
        assert!(expected.cap.is_none_or(|cap| self.model.now < cap));
    }
}

/// Logs somebody in, with times of their own.
fn timed_login(session: &Session, cursor: &mut Cursor<'_>) -> model::Login {
    let who = cursor.below(WHO.len());
    let mut span = || cursor.flag().then(|| cursor.one_of(&SPANS));
    let (idle, absolute) = (span(), span());
    let made = model::Login {
        who: u8::try_from(who).expect("they are few"),
        idle,
        absolute,
        keep: cursor.flag(),
    };
    trace(|| format!("   {made:?}"));
    let mut login = Login::new(WHO[who]);
    if let Some(idle) = idle {
        login = login.idle(time::Duration::milliseconds(idle));
    }
    if let Some(absolute) = absolute {
        login = login.absolute(time::Duration::milliseconds(absolute));
    }
    if made.keep {
        login = login.keep_times();
    }
    session.login_with(login).expect("a name");
    made
}

fn told(json: &str) -> Told {
    metadata_in(json).expect("the reserved entry is JSON, and holds metadata")
}

fn modify(session: &Session, request: &mut Request, name: &str, entry: u8, op: Op) {
    let modified = session.modify(name, move |value: Option<i64>| op.on(value));
    modified.expect("it is a number");
    request.modify(entry, op);
}

impl Flight {
    /// The handler's view.
    fn compare(&self) {
        let entries = self.request.entries();
        let expected: HashMap<String, String> = entries
            .iter()
            .map(|(name, value)| (NAMES[usize::from(*name)].into(), value.to_string()))
            .collect();
        assert_eq!(*self.session.entries(), expected);
        let who = self
            .request
            .principal()
            .map(|who| WHO[usize::from(who)].to_owned());
        assert_eq!(self.session.principal(), who);
    }

    async fn purge_now(&mut self) {
        let session = self.session.clone();
        let mut purge = Box::pin(async move { session.purge_now().await.is_ok() });
        for _ in 0..64 {
            if let Poll::Ready(done) = futures_util::poll!(&mut purge) {
                assert!(done, "memory does not fail");
                return;
            }
            assert!(
                poll_immediate(&mut self.call).await.is_none(),
                "the handler waits"
            );
        }
        panic!("a purge is carried out while the handler waits");
    }
}

async fn run(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let mut world = World::new(&mut cursor).await;
    for _ in 0..64 {
        if cursor.is_done() {
            break;
        }
        world.step(&mut cursor).await;
    }
    while !world.flights.is_empty() {
        world.finish(&mut Cursor::new(&[0, 7])).await;
        world.compare().await;
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    SYSTEM.with(|system| system.block_on(run(bytes)));
});
