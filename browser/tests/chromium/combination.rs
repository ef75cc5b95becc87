//! Every combination of the builder's cookie settings.

use std::fmt;

use actix_session::{
    SessionMiddleware,
    config::{
        BrowserSession, ConfigError, CookieContentSecurity, PersistentSession,
        SessionMiddlewareBuilder,
    },
    storage::{CookieSessionStore, MemorySessionStore, SessionStore},
};
use actix_web::cookie::{Key, SameSite, time::Duration};

/// How long persistent cookies live here.
pub(crate) const WEEK: Duration = Duration::weeks(1);

/// The domain in a combination's name; the real one is the one above the host that is visited.
const SHOWN_DOMAIN: &str = "shop.test";

const NAMES: [&str; 6] = [
    "id",
    "__Secure-id",
    "__Host-id",
    // Browsers compare prefixes without regard to case.
    "__host-id",
    "__Http-id",
    "__Host-Http-id",
];

/// When `strict()` is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strict {
    No,
    /// Before all other settings, which then override it.
    First,
    /// After all other settings, which it then overrides.
    Last,
}

/// One combination of settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Combination {
    pub(crate) strict: Strict,
    pub(crate) name: &'static str,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: SameSite,
    pub(crate) path: &'static str,
    pub(crate) domain: bool,
    pub(crate) partitioned: bool,
    pub(crate) persistent: bool,
    pub(crate) private: bool,
    /// The store: in memory, or the cookie itself.
    pub(crate) memory: bool,
}

/// What the browser must show of a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) name: String,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: SameSite,
    pub(crate) path: &'static str,
    pub(crate) domain: bool,
    pub(crate) partitioned: bool,
    pub(crate) persistent: bool,
}

impl Combination {
    /// All combinations; the number of each is its index here.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for strict in [Strict::No, Strict::First, Strict::Last] {
            for name in NAMES {
                for same_site in [SameSite::Strict, SameSite::Lax, SameSite::None] {
                    all.extend((0..256_u32).map(|bits| {
                        let is = |bit: u32| bits >> bit & 1 == 1;
                        Self {
                            strict,
                            name,
                            same_site,
                            secure: is(7),
                            http_only: is(6),
                            path: if is(5) { "/" } else { "/app" },
                            domain: is(4),
                            partitioned: is(3),
                            persistent: is(2),
                            private: is(1),
                            memory: is(0),
                        }
                    }));
                }
            }
        }
        all
    }

    /// Whether this builds, asked of the builder itself.
    pub(crate) fn try_build(&self) -> Result<(), ConfigError> {
        let key = Key::from(&[1; 64]);
        if self.memory {
            let builder = SessionMiddleware::builder(MemorySessionStore::new(), key);
            self.set(builder, SHOWN_DOMAIN).try_build().map(drop)
        } else {
            let builder = SessionMiddleware::builder(CookieSessionStore::default(), key);
            self.set(builder, SHOWN_DOMAIN).try_build().map(drop)
        }
    }

    /// Applies the combination to a builder.
    pub(crate) fn set<S: SessionStore>(
        &self,
        mut builder: SessionMiddlewareBuilder<S>,
        domain: &str,
    ) -> SessionMiddlewareBuilder<S> {
        if self.strict == Strict::First {
            builder = builder.strict();
        }
        builder = builder
            .cookie_name(self.name.to_owned())
            .cookie_secure(self.secure)
            .cookie_http_only(self.http_only)
            .cookie_same_site(self.same_site)
            .cookie_path(self.path.to_owned())
            .cookie_domain(self.domain.then(|| domain.to_owned()))
            .cookie_partitioned(self.partitioned)
            .cookie_content_security(if self.private {
                CookieContentSecurity::Private
            } else {
                CookieContentSecurity::Signed
            });
        builder = if self.persistent {
            builder.session_lifecycle(PersistentSession::default().session_ttl(WEEK))
        } else {
            builder.session_lifecycle(BrowserSession::default())
        };
        if self.strict == Strict::Last {
            builder = builder.strict();
        }
        builder
    }

    /// What the builder's documentation promises about the cookie.
    pub(crate) fn attributes(&self) -> Attributes {
        let set = Attributes {
            name: self.name.to_owned(),
            secure: self.secure,
            http_only: self.http_only,
            same_site: self.same_site,
            path: self.path,
            domain: self.domain,
            partitioned: self.partitioned,
            persistent: self.persistent,
        };
        if self.strict != Strict::Last {
            return set;
        }
        let name = match set.name.as_str() {
            name if name.starts_with("__Host-") => name.to_owned(),
            name if name.starts_with("__Http-") => name.replacen("__Http-", "__Host-Http-", 1),
            name => format!("__Host-{}", name.trim_start_matches("__Secure-")),
        };
        Attributes {
            name,
            secure: true,
            http_only: true,
            same_site: SameSite::Strict,
            path: "/",
            domain: false,
            ..set
        }
    }

    /// Two combinations with the same text make the same middleware.
    pub(crate) fn outcome(&self) -> String {
        let strict = self.strict != Strict::No;
        let (private, memory) = (self.private, self.memory);
        format!("{:?} {strict} {private} {memory}", self.attributes())
    }
}

/// The combination as a program spells it.
impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = if self.memory { "Memory" } else { "Cookie" };
        write!(f, "builder({store}SessionStore)")?;
        if self.strict == Strict::First {
            f.write_str(".strict()")?;
        }
        let Self { name, path, .. } = self;
        write!(f, ".cookie_name({name:?}).cookie_secure({})", self.secure)?;
        write!(f, ".cookie_http_only({})", self.http_only)?;
        write!(f, ".cookie_same_site({:?})", self.same_site)?;
        write!(f, ".cookie_path({path:?})")?;
        let domain = self.domain.then_some(SHOWN_DOMAIN);
        write!(f, ".cookie_domain({domain:?})")?;
        write!(f, ".cookie_partitioned({})", self.partitioned)?;
        let security = if self.private { "Private" } else { "Signed" };
        write!(f, ".cookie_content_security({security})")?;
        let cookie = if self.persistent {
            "Persistent"
        } else {
            "Browser"
        };
        write!(f, ".session_lifecycle({cookie}Session)")?;
        if self.strict == Strict::Last {
            f.write_str(".strict()")?;
        }
        Ok(())
    }
}
