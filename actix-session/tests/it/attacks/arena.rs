//! The stores under attack. Every secret that comes up in a test is registered.

use std::cell::Cell;

use actix_session::{
    Session, SessionMiddleware,
    config::{PersistentSession, SessionMiddlewareBuilder, TtlExtensionPolicy},
    storage::{
        CookieSessionStore, MemorySessionStore, SessionKey, SessionStore, generate_session_key,
    },
    testing::ManualClock,
};
use actix_web::{
    App, Error, HttpResponse,
    body::MessageBody,
    cookie::{Cookie, CookieJar, Key, time::Duration},
    dev::{ServiceRequest, ServiceResponse},
    http::header::SET_COOKIE,
    middleware::{Next, from_fn},
    test::init_service,
    web,
};

use super::capture;
pub(crate) use crate::support::private;
use crate::support::{Browser, Dump, Site, TestStore, may_fail, opened, stop};
pub(crate) use crate::support::{KeyValue, Memory, MySql, Postgres, Redis, RedisActor, Sqlite};

/// A store, and what may be expected of it.
pub(crate) trait Arena: TestStore {
    /// There is a record on the server for each session.
    const SERVER: bool;
    /// How many requests of each kind make a flood: fewer if another store has shown it.
    const FLOOD: usize = 1_000;

    fn has_records(&self) -> bool {
        Self::SERVER
    }

    async fn visitor(&self) -> Browser {
        self.visitor_of(self.middleware()).await
    }

    async fn visitor_of<S: SessionStore + 'static>(
        &self,
        builder: SessionMiddlewareBuilder<S>,
    ) -> Browser {
        Browser::new(site(builder.build(), self.key()).await)
    }

    /// Every request extends the session and refreshes its cookie; an hour.
    fn rolling(&self) -> SessionMiddlewareBuilder<Self::Store> {
        let lifecycle = PersistentSession::default()
            .session_ttl(Duration::hours(1))
            .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
        self.middleware().session_lifecycle(lifecycle)
    }

    /// The store has this many sessions, if it keeps sessions at all.
    async fn assert_sessions(&self, count: usize) {
        if Self::SERVER {
            let dump = self.dump().await;
            assert_eq!(dump.records().len(), count, "{dump:?}");
        }
    }
}

thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// From here on this thread repeats attacks for their log: a thousand of anything is enough.
pub(crate) fn listen() {
    LISTENING.set(true);
}

/// This many, or fewer if the attack is repeated for its log.
pub(crate) fn many(full: usize) -> usize {
    if LISTENING.get() {
        full.min(1_000)
    } else {
        full
    }
}

/// Starts a store, with everything that is logged under watch.
pub(crate) async fn begin<A: Arena>() -> A {
    capture::install();
    let arena = A::start().await;
    capture::plant_key(arena.key());
    arena
}

/// An application around a middleware, with an eye on the secrets that pass.
pub(crate) async fn site<S: SessionStore + 'static>(
    middleware: SessionMiddleware<S>,
    key: &Key,
) -> Site {
    let app = App::new()
        .app_data(key.clone())
        .wrap(from_fn(may_fail))
        .wrap(middleware)
        .wrap(from_fn(watch))
        .route("/purge-500", web::get().to(purge_and_fail))
        .default_service(web::to(stop));
    Site::of(init_service(app).await)
}

async fn purge_and_fail(session: Session) -> HttpResponse {
    session.purge();
    HttpResponse::InternalServerError().finish()
}

async fn watch(
    req: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let key = req.app_data::<Key>().unwrap().clone();
    let response = next.call(req).await?;
    for field in response.headers().get_all(SET_COOKIE) {
        let cookie = Cookie::parse_encoded(field.to_str().unwrap()).unwrap();
        plant_cookie(&key, &cookie);
    }
    Ok(response)
}

/// The sealed value and what is in it.
fn plant_cookie(key: &Key, cookie: &Cookie<'_>) {
    let value = cookie.value();
    if value.len() < 44 {
        return;
    }
    capture::plant("a sealed value", value);
    match opened(key, cookie.name(), value) {
        Some(inside) => capture::plant("what a cookie seals", &inside),
        // Signed: the value follows the MAC.
        None if value.is_char_boundary(44) && value.len() > 60 => {
            capture::plant("what a cookie signs", &value[44..]);
        }
        None => {}
    }
}

pub(crate) async fn nobody(browser: &Browser, fields: &[impl AsRef<[u8]>]) -> bool {
    let mut nobody = false;
    let see = |s: &Session| nobody = s.is_empty() && s.principal().is_none();
    browser.visit_as(fields, see).await.assert_ok();
    nobody
}

/// The session key that a browser has.
pub(crate) fn key_of(arena: &impl TestStore, browser: &Browser) -> String {
    opened(arena.key(), "id", &browser.value().unwrap()).unwrap()
}

pub(crate) fn fingerprint(key: &str) -> String {
    SessionKey::try_from(key.to_owned()).unwrap().fingerprint()
}

/// A signed value as it was published: the MAC says nothing of the cookie's name.
pub(crate) fn signed(key: &Key, name: &str, text: &str) -> String {
    let mut jar = CookieJar::new();
    let cookie = Cookie::new(name.to_owned(), text.to_owned());
    jar.signed_mut(key).add(cookie);
    jar.get(name).unwrap().value().to_owned()
}

/// A text that nobody may log.
pub(crate) fn secret(kind: &'static str) -> String {
    let random: String = generate_session_key().into();
    let text = format!("{kind}-{}", &random[..32]);
    capture::plant(kind, &text);
    capture::plant(kind, &random[..32]);
    text
}

/// A principal. Logs must not say who is logged in either.
pub(crate) fn somebody() -> String {
    secret("principal")
}

impl Arena for KeyValue {
    const SERVER: bool = true;
}

impl Arena for Memory {
    const SERVER: bool = true;
    const FLOOD: usize = 25_000;
}

impl Arena for Redis {
    const SERVER: bool = true;
}

impl Arena for RedisActor {
    const SERVER: bool = true;
}

impl Arena for Sqlite {
    const SERVER: bool = true;
}

impl Arena for Postgres {
    const SERVER: bool = true;
}

impl Arena for MySql {
    const SERVER: bool = true;
}

/// Sessions inside of their cookie.
pub(crate) struct InCookie {
    store: CookieSessionStore,
    list: Option<MemorySessionStore>,
    clock: ManualClock,
    key: Key,
}

impl TestStore for InCookie {
    type Store = CookieSessionStore;

    async fn start() -> Self {
        let clock = ManualClock::new();
        Self {
            store: CookieSessionStore::default().clock(clock.clone()),
            list: None,
            clock,
            key: Key::generate(),
        }
    }

    fn store(&self) -> CookieSessionStore {
        self.store.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn key(&self) -> &Key {
        &self.key
    }

    async fn dump(&self) -> Dump {
        Dump::of(
            self.list
                .as_ref()
                .map_or_else(Vec::new, MemorySessionStore::dump),
        )
    }

    fn is_in_cookies(&self) -> bool {
        true
    }
}

impl Arena for InCookie {
    const SERVER: bool = false;
}

/// The same with a list of ended sessions on the server, which `dump` shows.
pub(crate) struct Revocable(InCookie);

impl TestStore for Revocable {
    type Store = CookieSessionStore;

    async fn start() -> Self {
        let mut cookies = InCookie::start().await;
        let list = MemorySessionStore::builder()
            .clock(cookies.clock.clone())
            .build();
        cookies.store = cookies.store.with_revocation(list.clone());
        cookies.list = Some(list);
        Self(cookies)
    }

    fn store(&self) -> CookieSessionStore {
        self.0.store()
    }

    fn clock(&self) -> &ManualClock {
        self.0.clock()
    }

    fn key(&self) -> &Key {
        self.0.key()
    }

    async fn dump(&self) -> Dump {
        self.0.dump().await
    }
}

impl Arena for Revocable {
    const SERVER: bool = false;
}
