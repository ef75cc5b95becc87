//! The session middlewares that a visit can name.

use std::sync::LazyLock;

use actix_session::{
    SessionMiddleware,
    config::{CookieContentSecurity, OldCookie, PersistentSession, SessionMiddlewareBuilder},
    storage::{CookieSessionStore, MemorySessionStore, SessionStore},
};
use actix_web::cookie::{Key, time::Duration};

use crate::combination::Combination;

/// All combinations; `c17` names number 17.
pub(crate) static COMBINATIONS: LazyLock<Vec<Combination>> = LazyLock::new(Combination::all);

/// All middlewares share these: cookies of one name on one host belong to one application.
#[derive(Clone)]
pub(crate) struct Stores {
    key: Key,
    memory: MemorySessionStore,
}

/// A builder with its settings.
pub(crate) enum Setup {
    Memory(SessionMiddlewareBuilder<MemorySessionStore>),
    Cookie(SessionMiddlewareBuilder<CookieSessionStore>),
}

/// The cookie `id` before and after it got another name.
enum Moved {
    Wide,
    Renamed,
    Narrowed,
}

impl Moved {
    fn of(settings: &str) -> Option<Self> {
        match settings {
            "wide" => Some(Self::Wide),
            "renamed" | "careless" => Some(Self::Renamed),
            "narrowed" => Some(Self::Narrowed),
            _ => None,
        }
    }

    fn set<S: SessionStore>(
        &self,
        builder: SessionMiddlewareBuilder<S>,
        domain: &str,
    ) -> SessionMiddlewareBuilder<S> {
        match self {
            Self::Wide => builder.cookie_domain(Some(domain.to_owned())),
            Self::Renamed => builder.strict().read_also("id"),
            Self::Narrowed => {
                let old = OldCookie::named("id").domain(domain);
                builder.strict().read_also(old)
            }
        }
    }
}

impl Stores {
    pub(crate) fn new() -> Self {
        Self {
            key: Key::generate(),
            memory: MemorySessionStore::new(),
        }
    }

    /// The settings of this name:
    /// - `cNUMBER`: that combination;
    /// - `memory`, `cookie`: the defaults;
    /// - `memory-renamed`, `cookie-renamed`: `strict()`, and the cookie `id` is read too;
    /// - `memory-wide`, `cookie-wide`: the defaults, for all hosts of the domain;
    /// - `memory-narrowed`, `cookie-narrowed`: as renamed, and `id` was for all hosts of the domain;
    /// - `memory-careless`, `cookie-careless`: the same, but the middleware is not told so;
    /// - `private-NAME`, `signed-NAME`: sessions in a cookie of that name;
    /// - `days-NUMBER`: persistent for that many days.
    pub(crate) fn setup(&self, name: &str, domain: &str) -> Setup {
        let number = name.strip_prefix('c').and_then(|n| n.parse::<usize>().ok());
        if let Some(number) = number {
            let combination = COMBINATIONS[number];
            return if combination.memory {
                Setup::Memory(combination.set(self.in_memory(), domain))
            } else {
                Setup::Cookie(combination.set(self.in_cookies(), domain))
            };
        }
        if let Some((store, settings)) = name.split_once('-')
            && let Some(moved) = Moved::of(settings)
        {
            return match store {
                "memory" => Setup::Memory(moved.set(self.in_memory(), domain)),
                _ => Setup::Cookie(moved.set(self.in_cookies(), domain)),
            };
        }
        match name.split_once('-') {
            None if name == "memory" => Setup::Memory(self.in_memory()),
            None if name == "cookie" => Setup::Cookie(self.in_cookies()),
            Some(("private", cookie)) => self.named(cookie, CookieContentSecurity::Private),
            Some(("signed", cookie)) => self.named(cookie, CookieContentSecurity::Signed),
            Some(("days", days)) => {
                let days = Duration::days(days.parse().unwrap());
                let lifecycle = PersistentSession::default().session_ttl(days);
                Setup::Memory(self.in_memory().session_lifecycle(lifecycle))
            }
            _ => panic!("no middleware is named {name}"),
        }
    }

    fn named(&self, cookie: &str, security: CookieContentSecurity) -> Setup {
        let builder = self.in_cookies().cookie_name(cookie.to_owned());
        Setup::Cookie(builder.cookie_content_security(security))
    }

    fn in_memory(&self) -> SessionMiddlewareBuilder<MemorySessionStore> {
        SessionMiddleware::builder(self.memory.clone(), self.key.clone())
    }

    fn in_cookies(&self) -> SessionMiddlewareBuilder<CookieSessionStore> {
        SessionMiddleware::builder(CookieSessionStore::default(), self.key.clone())
    }
}
